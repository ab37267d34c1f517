//! What a user is known by: a password, one-time codes, keys, certificates. One JSON text a user.
//! What they may do is not here but in the [`super::AccessState`].

use crate::crypto::{PasswordHash, TotpHash, TotpSecret};
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeSet;
use std::fmt;
use weighbridge_verifier::Hash;
use zeroize::Zeroizing;

/// The version of the text that is written.
const VERSION: u8 = 1;
/// Longest text.
pub const MAX_TEXT: usize = 16 * 1024;
/// Longest name of a user.
pub const MAX_USER_NAME: usize = 64;
/// Most keys, and most certificates, of a user.
pub const MAX_KEYS: usize = 16;
/// Shortest password, in characters. NIST SP 800-63B asks for length, and for no rules on which characters to use.
pub const MIN_PASSWORD: usize = 10;

/// Why credentials cannot be read or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// The text.
    #[error("the credentials cannot be read: {0}")]
    Form(String),
    /// A text of a version to come.
    #[error("the credentials are of version {0}; this program reads version {VERSION}")]
    Version(u8),
    /// The name.
    #[error(
        "{0:?} cannot be the name of a user: 1 to {MAX_USER_NAME} of lower-case letters, digits, `-`, `_`, `.` and `@`, a letter or digit first"
    )]
    Name(String),
    /// Credentials of another.
    #[error("these are the credentials of {0:?}")]
    Other(String),
    /// Too many.
    #[error("a user has at most {MAX_KEYS} keys and {MAX_KEYS} certificates")]
    Full,
    /// A password that is guessed at once.
    #[error("a password has at least {MIN_PASSWORD} characters, and is not the name")]
    Weak,
}

/// One-time codes of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totp {
    /// What the app knows, too.
    pub secret: TotpSecret,
    /// The step of the code that was accepted last; codes up to it are refused.
    pub last_step: Option<u64>,
}

/// What a user is known by. Printed for debugging, it shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name, without `user:`.
    name: String,
    /// The hash of their password.
    pub password: Option<PasswordHash>,
    /// One-time codes, asked for beside the password.
    pub totp: Option<Totp>,
    keys: BTreeSet<Hash>,
    certificates: BTreeSet<Hash>,
}

impl Credentials {
    /// Those of somebody who cannot log in yet.
    pub fn new(name: &str) -> Result<Self, CredentialsError> {
        Ok(Self {
            name: user_name(name)?.to_owned(),
            password: None,
            totp: None,
            keys: BTreeSet::new(),
            certificates: BTreeSet::new(),
        })
    }

    /// The user's name, without `user:`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The subject in the state of access.
    pub fn subject(&self) -> String {
        format!("user:{}", self.name)
    }

    /// SHA-256 of the public keys (SubjectPublicKeyInfo) whose owner they are: in certificates by an authority,
    /// or in answers to challenges.
    pub fn keys(&self) -> &BTreeSet<Hash> {
        &self.keys
    }

    /// SHA-256 of the certificates that are trusted whoever issued them.
    pub fn certificates(&self) -> &BTreeSet<Hash> {
        &self.certificates
    }

    /// Makes a key one of theirs.
    pub fn add_key(&mut self, key: Hash) -> Result<(), CredentialsError> {
        add(&mut self.keys, key)
    }

    /// Trusts a certificate, whoever issued it.
    pub fn pin(&mut self, certificate: Hash) -> Result<(), CredentialsError> {
        add(&mut self.certificates, certificate)
    }

    /// Forgets a key or a certificate; `false` when it was not there.
    pub fn forget(&mut self, hash: &Hash) -> bool {
        self.keys.remove(hash) | self.certificates.remove(hash)
    }

    /// Whether `password` is long enough, and not the user's name.
    pub fn check_new_password(&self, password: &str) -> Result<(), CredentialsError> {
        let long = password.chars().count() >= MIN_PASSWORD;
        match long && !password.eq_ignore_ascii_case(&self.name) {
            true => Ok(()),
            false => Err(CredentialsError::Weak),
        }
    }

    /// Reads the text of the user `name`.
    pub fn from_json(name: &str, text: &str) -> Result<Self, CredentialsError> {
        let form = |e: &dyn fmt::Display| CredentialsError::Form(e.to_string());
        if text.len() > MAX_TEXT {
            return Err(form(&format!("more than {MAX_TEXT} bytes")));
        }
        // The version alone first, so that a later form is not called malformed.
        let Version { version } = serde_json::from_str(text).map_err(|e| plain(&e))?;
        if version != VERSION {
            return Err(CredentialsError::Version(version));
        }
        let text: Text<'_> = serde_json::from_str(text).map_err(|e| plain(&e))?;
        if text.name != user_name(name)? {
            return Err(CredentialsError::Other(text.name));
        }
        if text.keys.len() > MAX_KEYS || text.certificates.len() > MAX_KEYS {
            return Err(CredentialsError::Full);
        }
        let password = text.password.map(|phc| PasswordHash::parse(&phc));
        let totp = text.totp.map(|totp| {
            let secret = TotpSecret::from_base32(totp.secret.0, totp.hash)?;
            let last_step = totp.last_step;
            Ok(Totp { secret, last_step })
        });
        Ok(Self {
            name: text.name,
            password: password.transpose().map_err(|e| form(&e))?,
            totp: totp
                .transpose()
                .map_err(|e: crate::crypto::TotpError| form(&e))?,
            keys: text.keys,
            certificates: text.certificates,
        })
    }

    /// The text; wiped from memory when dropped.
    pub fn to_json(&self) -> Zeroizing<String> {
        let secret = self.totp.as_ref().map(|totp| totp.secret.to_base32());
        let totp = self.totp.as_ref().zip(secret.as_ref());
        let text = Text {
            version: VERSION,
            name: self.name.clone(),
            password: self.password.as_ref().map(PasswordHash::to_phc),
            totp: totp.map(|(totp, secret)| TotpText {
                secret: Letters(secret),
                hash: totp.secret.hash(),
                last_step: totp.last_step,
            }),
            keys: self.keys.clone(),
            certificates: self.certificates.clone(),
        };
        // As long as it ever gets, so that it is not copied while it grows.
        let mut out = Zeroizing::new(Vec::with_capacity(MAX_TEXT));
        match serde_json::to_writer_pretty(&mut *out, &text) {
            Ok(()) => out.push(b'\n'),
            Err(error) => unreachable!("credentials have a form in JSON: {error}"),
        }
        match String::from_utf8(std::mem::take(&mut *out)) {
            Ok(text) => Zeroizing::new(text),
            Err(error) => unreachable!("JSON is UTF-8: {error}"),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("name", &self.name)
            .field("password", &self.password.is_some())
            .field("totp", &self.totp.is_some())
            .field("keys", &self.keys)
            .field("certificates", &self.certificates)
            .finish()
    }
}

/// `name` if it can be a user's: it is part of the name of a file, of a record, and of a line that is signed.
pub fn user_name(name: &str) -> Result<&str, CredentialsError> {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let good = name.len() <= MAX_USER_NAME
        && name.starts_with(letter)
        && name
            .chars()
            .all(|c| letter(c) || matches!(c, '-' | '_' | '.' | '@'));
    match good {
        true => Ok(name),
        false => Err(CredentialsError::Name(name.to_owned())),
    }
}

fn add(hashes: &mut BTreeSet<Hash>, hash: Hash) -> Result<(), CredentialsError> {
    if hashes.len() >= MAX_KEYS && !hashes.contains(&hash) {
        return Err(CredentialsError::Full);
    }
    hashes.insert(hash);
    Ok(())
}

/// Where the text is wrong, without what stands there.
fn plain(error: &serde_json::Error) -> CredentialsError {
    CredentialsError::Form(format!(
        "line {}, column {} is not as it should be",
        error.line(),
        error.column()
    ))
}

#[derive(Deserialize)]
struct Version {
    version: u8,
}

/// As it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text<'a> {
    version: u8,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    totp: Option<TotpText<'a>>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    keys: BTreeSet<Hash>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    certificates: BTreeSet<Hash>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TotpText<'a> {
    #[serde(borrow)]
    secret: Letters<'a>,
    hash: TotpHash,
    last_step: Option<u64>,
}

/// A secret, which is borrowed so that no copies of it are left behind.
#[derive(Deserialize)]
struct Letters<'a>(&'a str);

impl Serialize for Letters<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weighbridge_verifier::sha256;

    fn ann() -> Credentials {
        let secret = TotpSecret::from_bytes(b"12345678901234567890", TotpHash::Sha1).unwrap();
        let mut ann = Credentials::new("ann").unwrap();
        ann.password = Some(PasswordHash::with_salt(b"open sesame", &[7; 16]).unwrap());
        ann.totp = Some(Totp {
            secret,
            last_step: Some(58_999_999),
        });
        ann.add_key(sha256(&[b"key"])).unwrap();
        ann.pin(sha256(&[b"certificate"])).unwrap();
        ann
    }

    #[test]
    fn what_is_written_is_read() {
        for credentials in [ann(), Credentials::new("b.o-b_1@x").unwrap()] {
            let text = credentials.to_json();
            let again = Credentials::from_json(credentials.name(), &text).unwrap();
            assert_eq!(again, credentials);
        }
    }

    /// What version 1 looks like: old files stay readable.
    #[test]
    fn the_text_of_version_1() {
        let text = include_str!("../../tests/golden/formats/credentials_v1.json");
        assert_eq!(ann().to_json().as_str(), text);
        assert_eq!(Credentials::from_json("ann", text).unwrap(), ann());
    }

    #[test]
    fn nothing_secret_is_printed() {
        let printed = format!("{:?} {:#?}", ann(), ann());
        for secret in ["argon2", "GEZDG", "12345", "sesame"] {
            assert!(!printed.contains(secret), "{printed}");
        }
    }

    #[test]
    fn the_longest_fits() {
        let mut ann = ann();
        let name = "a".repeat(MAX_USER_NAME);
        ann.name = name.clone();
        for i in 0..MAX_KEYS as u8 {
            let _ = ann.add_key(sha256(&[&[i]]));
            let _ = ann.pin(sha256(&[&[i]]));
        }
        assert_eq!(ann.add_key(sha256(&[b"more"])), Err(CredentialsError::Full));
        assert_eq!(ann.pin(sha256(&[b"more"])), Err(CredentialsError::Full));
        let text = ann.to_json();
        assert!(text.len() < MAX_TEXT / 2, "{}", text.len());
        Credentials::from_json(&name, &text).unwrap();
        let key = *ann.keys().first().unwrap();
        assert!(ann.forget(&key));
        assert!(!ann.keys().contains(&key));
        assert!(!ann.forget(&sha256(&[b"more"])));
    }

    #[test]
    fn what_cannot_be_read_is_said_without_what_it_is() {
        let good = ann().to_json();
        let read = |text: &str| Credentials::from_json("ann", text).unwrap_err();
        let spoiled = good.replace("GEZDGNBV", "GEZDGNB1");
        assert!(matches!(read(&spoiled), CredentialsError::Form(_)));
        let other = good.replace("\"ann\"", "\"bob\"");
        assert_eq!(read(&other), CredentialsError::Other("bob".into()));
        let later = good.replace("\"version\": 1", "\"version\": 2, \"more\": []");
        assert!(matches!(read(&later), CredentialsError::Version(_)));
        for text in [
            "",
            "[]",
            "{\"version\": 1, \"password\": \"hunter2",
            &"x".repeat(MAX_TEXT + 1),
        ] {
            let error = read(text);
            assert!(matches!(error, CredentialsError::Form(_)), "{error}");
            assert!(!error.to_string().contains("hunter2"));
        }
        let unknown = good.replace("\"version\"", "\"roles\": [], \"version\"");
        assert!(matches!(read(&unknown), CredentialsError::Form(_)));
    }

    #[test]
    fn names_that_no_file_or_line_breaks_at() {
        for name in ["a", "ann.smith", "0-1_2@site", &"a".repeat(64)] {
            assert_eq!(user_name(name), Ok(name));
        }
        for name in [
            "",
            ".",
            "..",
            ".ann",
            "-a",
            "Ann",
            "a/b",
            "a\\b",
            "a\nb",
            "ä",
            "a:b",
            "a b",
            &"a".repeat(65),
        ] {
            assert!(user_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn passwords_that_are_too_short() {
        let check =
            |name: &str, password| Credentials::new(name).unwrap().check_new_password(password);
        assert_eq!(check("ann", "open sesame"), Ok(()));
        assert_eq!(check("ann", "ööööööööö"), Err(CredentialsError::Weak));
        assert_eq!(
            check("ann-of-works", "Ann-of-Works"),
            Err(CredentialsError::Weak)
        );
    }
}
