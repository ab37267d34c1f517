//! What a file names and the disk has otherwise: looked at by `check`, and by nobody who starts, because starting
//! opens the files itself.

use super::HubConfig;
use super::diagnostic::{Diagnostic, Severity};
use super::source::Sources;
use super::tree::{self, Node};
use crate::crypto::{KeyFileError, SealingPublicKey};
use std::path::Path;
use toml::de::DeTable;
use weighbridge_verifier::Suite;

/// What is wrong with the files that `config` names, which was read from `path`. What is not there may be on the
/// machine that will run the hub, and is a warning.
pub fn files(path: &Path, config: &HubConfig) -> Vec<Diagnostic> {
    let Some(file) = config
        .ledger
        .escrow
        .as_ref()
        .filter(|_| config.edge.is_none())
    else {
        return Vec::new();
    };
    let Some((severity, message, label, help)) = escrow(file, config.ledger.suite) else {
        return Vec::new();
    };
    let name = path.display().to_string();
    let text = super::read_text(path).unwrap_or_default();
    let (root, _) = DeTable::parse_recoverable(&text);
    let spot = tree::find(&Node::file(root), &["ledger", "escrow"]);
    let mut diagnostic = match spot {
        Some(spot) => Sources::new(&name, &text).diagnostic(severity, &spot.value, message, label),
        None => Diagnostic::new(severity, &name, message),
    };
    diagnostic.help.push(help);
    vec![diagnostic]
}

/// Severity, message, label and what to do.
type Fault = (Severity, String, &'static str, String);

fn escrow(file: &Path, suite: Suite) -> Option<Fault> {
    let shown = file.display();
    let make = "the owner makes both halves with `weighbridge reader keygen`, and gives away the public one";
    let error = match SealingPublicKey::load(file) {
        Ok(key) if key.suite() == suite => return None,
        Ok(key) => {
            let message = format!(
                "the key in {shown} is of suite `{}`, and the ledger is of suite `{suite}`",
                key.suite()
            );
            let help = format!("{make}: here with `--suite {suite}`");
            return Some((
                Severity::Error,
                message,
                "no key can be wrapped to this",
                help,
            ));
        }
        Err(error) => error,
    };
    let (severity, label) = match &error {
        KeyFileError::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            let message = format!("the key file {shown} is not there");
            let label = "the hub does not start without it";
            return Some((Severity::Warning, message, label, make.to_owned()));
        }
        KeyFileError::Read { .. } => (Severity::Warning, "the hub does not start without it"),
        KeyFileError::Private { .. } => (Severity::Error, "this opens what is recorded"),
        _ => (Severity::Error, "a public key belongs here"),
    };
    let help = match &error {
        KeyFileError::Private { .. } => {
            "take it off this machine: only its public half belongs here (`weighbridge reader keygen` wrote it \
             beside it)"
                .to_owned()
        }
        _ => make.to_owned(),
    };
    Some((severity, error.to_string(), label, help))
}
