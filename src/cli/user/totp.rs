//! `weighbridge user totp`: one-time codes.

use super::Done;
use crate::access::{Totp, user_name};
use crate::cli::output::{self, Style};
use crate::cli::qr;
use crate::crypto::{TotpHash, TotpSecret};
use crate::model::now;
use crate::store::CredentialFiles;
use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;
use std::fs::OpenOptions;
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Codes that somebody may mistype while their app is set up.
const TRIES: usize = 3;

#[derive(Debug, Args)]
pub(super) struct TotpArgs {
    /// Whose
    pub(super) name: String,
    /// Ask for no codes any more
    #[arg(long, conflicts_with_all = ["sha256", "svg", "issuer"])]
    pub(super) remove: bool,
    /// Codes over SHA-256, for apps that are known to do it; several do not, and say nothing
    #[arg(long)]
    pub(super) sha256: bool,
    /// What the app shows beside the name
    #[arg(long, value_name = "TEXT", default_value = "weighbridge")]
    issuer: String,
    /// Write the QR code into a new file of mode 0600, too
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

impl TotpArgs {
    pub(super) fn run(
        &self,
        files: &CredentialFiles,
        json: bool,
        style: Style,
    ) -> anyhow::Result<Done> {
        let name = user_name(&self.name)?;
        if files.load(name)?.is_none() {
            bail!("there is no user {name}");
        }
        if self.remove {
            self.store(files, None)?;
            let text = format!("{name} is asked for no codes any more\n");
            return Ok(Done::new(name, "codes removed", text));
        }
        let hash = match self.sha256 {
            true => TotpHash::Sha256,
            false => TotpHash::Sha1,
        };
        let secret = TotpSecret::generate(hash);
        let uri = secret.uri(&self.issuer, name);
        if let Some(file) = &self.svg {
            write_private(file, &qr::svg(&uri)?)?;
        }
        let mut done = Done::new(name, "codes", String::new());
        let mut last_step = None;
        if json {
            done.json = json!({ "user": name, "done": "codes", "uri": *uri, "confirmed": false });
        } else {
            let base32 = secret.to_base32();
            output::print(&format!(
                "{}\nScan it with an authenticator app, or type {}\nWhoever sees it can make the codes: clear the screen afterwards.\n\n",
                qr::terminal(&uri, style)?,
                *base32,
            ))?;
            last_step = confirm(&secret)?;
            done.text = match last_step {
                Some(_) => format!("{name} is asked for a code from now on\n"),
                None => format!(
                    "{name} is asked for a code from now on; nobody has typed one yet to see that the app is right\n"
                ),
            };
        }
        self.store(files, Some(Totp { secret, last_step }))?;
        Ok(done)
    }

    fn store(&self, files: &CredentialFiles, totp: Option<Totp>) -> anyhow::Result<()> {
        files.change(&self.name, |credentials| {
            credentials.totp = totp;
            Ok(())
        })
    }
}

/// The step of a right code, so that an app which is set up wrong locks nobody out; `None` when
/// there is nobody to ask.
fn confirm(secret: &TotpSecret) -> anyhow::Result<Option<u64>> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Ok(None);
    }
    for _ in 0..TRIES {
        output::print("The code that the app shows now: ")?;
        let mut line = Zeroizing::new(String::new());
        input.lock().read_line(&mut line)?;
        if let Some(step) = secret.accept(line.trim(), now(), None) {
            return Ok(Some(step));
        }
        output::print("It is another one here. Is the clock right on both sides?\n")?;
    }
    bail!("no right code in {TRIES} tries; nothing was changed")
}

/// A new file that only its owner reads: the secret is in it.
fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options
        .open(path)
        .and_then(|mut f| f.write_all(text.as_bytes()));
    written.with_context(|| format!("{} cannot be written", path.display()))
}
