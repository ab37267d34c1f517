//! What people type and nobody shall see.

use crate::access::Credentials;
use crate::crypto::PasswordHash;
use anyhow::{Context, bail, ensure};
use std::fs;
use std::path::Path;
use zeroize::Zeroizing;

/// Fewest characters of a passphrase: whoever has the file can guess as fast as they like.
const MIN_PASSPHRASE: usize = 8;

/// The hash of a new password for this user: the first line of a file, or typed twice.
pub(super) fn new_password(
    credentials: &Credentials,
    file: Option<&Path>,
) -> anyhow::Result<PasswordHash> {
    let password = match file {
        Some(file) => first_line(file)?,
        None => typed_twice(credentials.name())?,
    };
    credentials.check_new_password(&password)?;
    Ok(PasswordHash::new(password.as_bytes())?)
}

/// A new passphrase: the first line of a file, or typed twice.
pub(super) fn new_passphrase(file: Option<&Path>) -> anyhow::Result<Zeroizing<String>> {
    let passphrase = match file {
        Some(file) => first_line(file)?,
        None => typed_twice("the key file")?,
    };
    ensure!(
        passphrase.chars().count() >= MIN_PASSPHRASE,
        "a passphrase has at least {MIN_PASSPHRASE} characters"
    );
    Ok(passphrase)
}

/// The passphrase of a key file: the first line of a file, or typed.
pub(super) fn passphrase(file: Option<&Path>) -> anyhow::Result<Zeroizing<String>> {
    match file {
        Some(file) => first_line(file),
        None => typed("Passphrase of the key file: "),
    }
}

/// The first line of a file, as secret stores mount them.
pub(super) fn first_line(file: &Path) -> anyhow::Result<Zeroizing<String>> {
    let text = fs::read_to_string(file)
        .with_context(|| format!("the secret in {} cannot be read", file.display()))?;
    let text = Zeroizing::new(text);
    let line = text.lines().next().unwrap_or_default();
    Ok(Zeroizing::new(line.to_owned()))
}

pub(super) fn typed_twice(name: &str) -> anyhow::Result<Zeroizing<String>> {
    let first = typed(&format!("New password of {name}: "))?;
    let again = typed("Again: ")?;
    match *first == *again {
        true => Ok(first),
        false => bail!("the two are not the same; nothing was changed"),
    }
}

pub(super) fn typed(prompt: &str) -> anyhow::Result<Zeroizing<String>> {
    let typed = rpassword::prompt_password(prompt);
    let typed = typed
        .context("there is no terminal to ask at; give --password-file or --passphrase-file FILE");
    Ok(Zeroizing::new(typed?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_file_is_the_password() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        let ann = Credentials::new("ann").unwrap();
        fs::write(&file, "open sesame\r\nsecond line\n").unwrap();
        let hash = new_password(&ann, Some(&file)).unwrap();
        assert!(hash.matches(b"open sesame"));
        fs::write(&file, "short\n").unwrap();
        let error = new_password(&ann, Some(&file)).unwrap_err().to_string();
        assert!(
            error.contains("at least") && !error.contains("short"),
            "{error}"
        );
        assert!(new_password(&ann, Some(&dir.path().join("none"))).is_err());
    }
}
