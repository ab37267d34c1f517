//! `weighbridge keys make`: another key for an edge node or device, and what it shows of it.

use super::output;
use crate::crypto::{Identity, Signer};
use crate::store::replace_file;
use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};
use weighbridge_verifier::rotation::rotation_message;
use weighbridge_verifier::{IdentityContent, IdentityKind, PublicKey, RotationContent};

#[derive(Debug, Args)]
pub(super) struct MakeArgs {
    /// edge:ID or device:ID
    whose: String,
    /// A new file for the new key; what is shown to the hub goes beside it, with `.enrol.json`
    file: PathBuf,
    /// Id of the chain
    #[arg(long)]
    chain: String,
    /// The file of the key that it has: it says yes to the new one
    #[arg(long, value_name = "FILE", required_unless_present = "lost")]
    replaces: Option<PathBuf>,
    /// The public key that it has, where the private one is lost: then it is the hub's word alone
    #[arg(long, value_name = "KEY", conflicts_with = "replaces")]
    lost: Option<PublicKey>,
}

impl MakeArgs {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let (kind, id) = match self.whose.split_once(':') {
            Some(("edge", id)) => (IdentityKind::Edge, id),
            Some(("device", id)) => (IdentityKind::Device, id),
            _ => bail!("`{}` is neither edge:ID nor device:ID", self.whose),
        };
        let before = match &self.replaces {
            Some(file) => Some(Identity::load(file, id)?),
            None => None,
        };
        let replaces = before.as_ref().map(Signer::public_key).or(self.lost);
        let replaces = replaces.context("which key does it replace?")?;
        let new = Identity::generate_of(replaces.suite(), id);
        let identity = IdentityContent {
            id: id.to_owned(),
            kind,
            key: Some(new.public_key()),
        };
        let message = rotation_message(replaces.suite(), &self.chain, &identity, &replaces);
        let rotation = RotationContent {
            proof: new.sign(&message),
            consent: before.map(|before| before.sign(&message)),
            identity,
            replaces,
        };
        new.save(&self.file)?;
        let shown = beside(&self.file);
        let text = serde_json::to_string_pretty(&json!({ "rotation": rotation }))? + "\n";
        let written = replace_file(&shown, text.as_bytes(), 0o644);
        written.with_context(|| format!("{} cannot be written", shown.display()))?;
        output::print(&format!(
            "{}: the new key; {}: show it to the hub with `weighbridge keys enrol`\n",
            self.file.display(),
            shown.display()
        ))
    }
}

fn beside(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".enrol.json");
    file.with_file_name(name)
}
