//! `weighbridge reader keygen`: a reader's key pair.

use super::save;
use crate::cli::output::{self, Style};
use crate::cli::secret_input;
use crate::crypto::SealingKey;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use weighbridge_verifier::Suite;

#[derive(Debug, Args)]
pub(super) struct KeygenArgs {
    /// Makes NAME.key.pem, mode 0600, and NAME.pub.pem; neither may be there
    #[arg(value_name = "NAME")]
    name: PathBuf,
    /// Of the chain that is to be read: `nist` (P-256) or `guomi` (SM2)
    #[arg(long, value_name = "SUITE", default_value = "nist")]
    suite: Suite,
    /// Encrypt the private key under a passphrase, which is asked for
    #[arg(long)]
    passphrase: bool,
    /// The same, with the passphrase on the first line of a file
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &KeygenArgs) -> anyhow::Result<()> {
    let named = |end: &str| {
        let mut name = args.name.clone().into_os_string();
        name.push(end);
        PathBuf::from(name)
    };
    let (private, public) = (named(".key.pem"), named(".pub.pem"));
    let key = SealingKey::generate_of(args.suite);
    match args.passphrase || args.passphrase_file.is_some() {
        true => {
            let passphrase = secret_input::new_passphrase(args.passphrase_file.as_deref())?;
            key.save_encrypted(&private, &passphrase)?;
        }
        false => key.save(&private)?,
    }
    save(&public, key.public().to_pem().as_bytes())?;
    let printed = key.public().compressed();
    if args.json {
        return output::print_json(&json!({
            "private_key_file": private, "public_key_file": public, "public_key": printed,
        }));
    }
    output::print(&format!(
        "{} {}  opens what is wrapped to it; keep it secret, and a backup of it\n  {}  for the hub: \
         `weighbridge access reader user:NAME {}`\npublic key {printed}\n",
        Style::stdout().green("✓"),
        private.display(),
        public.display(),
        public.display(),
    ))
}
