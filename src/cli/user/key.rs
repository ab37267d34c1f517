//! `weighbridge user key`: keys by which a user logs in.

use super::Done;
use crate::crypto::{Certificate, possession};
use crate::store::{CredentialFiles, site_certificates};
use anyhow::{Context, bail};
use clap::Args;
use std::path::{Path, PathBuf};
use weighbridge_verifier::PublicKey;

#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = false)]
pub(super) struct What {
    /// The key in a certificate (PEM or DER), or a P-256 public key of 66 hexadecimal digits. The certificate itself
    /// must be by an authority that the hub trusts
    #[arg(long, value_name = "FILE|KEY")]
    pub(super) add: Option<String>,
    /// A certificate that is trusted whoever issued it, until it expires
    #[arg(long, value_name = "FILE")]
    pub(super) pin: Option<PathBuf>,
    /// Take one away: the first digits of its hash, as `weighbridge user list --json` shows it
    #[arg(long, value_name = "HASH")]
    pub(super) forget: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct KeyArgs {
    /// Whose
    pub(super) name: String,
    #[command(flatten)]
    pub(super) what: What,
}

impl KeyArgs {
    pub(super) fn run(&self, files: &CredentialFiles) -> anyhow::Result<Done> {
        let name = &self.name;
        let (what, hash) = files.change(name, |credentials| -> anyhow::Result<_> {
            if let Some(key) = &self.what.add {
                let hash = match key.parse::<PublicKey>() {
                    Ok(key) => possession::key_hash(&key).context("it is not a P-256 public key")?,
                    Err(_) => shown(files, Path::new(key))?.key_hash(),
                };
                credentials.add_key(hash)?;
                return Ok(("key added", hash));
            }
            if let Some(file) = &self.what.pin {
                let hash = shown(files, file)?.fingerprint();
                credentials.pin(hash)?;
                return Ok(("certificate pinned", hash));
            }
            let wanted = self.what.forget.as_deref().unwrap_or_default();
            let wanted = wanted.to_ascii_lowercase();
            let known = credentials.keys().union(credentials.certificates());
            let fitting: Vec<_> = known.filter(|h| h.to_string().starts_with(&wanted)).collect();
            match fitting[..] {
                [hash] if wanted.len() >= 4 => {
                    let hash = *hash;
                    credentials.forget(&hash);
                    Ok(("key forgotten", hash))
                }
                [_] | [] => bail!("no key or certificate of {name} has a hash that begins with {wanted:?} (at least four digits)"),
                _ => bail!("{wanted} begins several; give more digits"),
            }
        })?;
        Ok(Done::new(name, what, format!("{name}: {what}: {hash}\n")))
    }
}

/// The first certificate in a file, which is kept: OPC UA shows no more of it than a hash.
fn shown(files: &CredentialFiles, file: &Path) -> anyhow::Result<Certificate> {
    let found = site_certificates::read(file)?;
    let first = found.into_iter().next();
    let first = first.context("there is no certificate in it")?;
    files.keep_certificate(&first)?;
    Ok(first)
}
