//! The part of `weighbridge verify` that is about checkpoints: whether a ledger extends one, and
//! whether one extends another.

use super::checkpoint::timestamp;
use super::output::{self, Style};
use crate::crypto::ed25519_holds;
use crate::crypto::timestamp::Timestamp;
use crate::ledger::checkpoint::{LedgerTree, hub_key};
use crate::ledger::query::Explorer;
use crate::ledger::store::Store;
use crate::model::{Nanos, rfc3339};
use anyhow::Context;
use serde_json::json;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use weighbridge_verifier::checkpoint::{Checkpoint, Submission};
use weighbridge_verifier::note::{MAX_NOTE, Note, NoteError, NoteKey};
use weighbridge_verifier::tree::is_consistent;
use weighbridge_verifier::{Hash, PublicKey};

/// What a ledger must hold, noted earlier.
#[derive(Clone, Debug)]
pub(super) enum Earlier {
    /// A block.
    Block(u64, Hash),
    /// A checkpoint, in a file.
    Note(PathBuf),
}

impl std::str::FromStr for Earlier {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let block = text.split_once(':').and_then(|(height, hash)| {
            let (height, hash) = (height.parse().ok()?, hash.parse().ok()?);
            Some(Self::Block(height, hash))
        });
        let file = || Path::new(text).is_file().then(|| Self::Note(text.into()));
        block.or_else(file).ok_or_else(|| {
            "write it as HEIGHT:HASH, as in 102:5d0c… with all 64 digits, or name the file of a \
             checkpoint"
                .to_owned()
        })
    }
}

/// Reads the checkpoint in a file.
pub(super) fn read_note(path: &Path) -> anyhow::Result<(Note, Checkpoint)> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_NOTE as u64 + 1).read_to_end(&mut bytes))
        .with_context(|| format!("{} cannot be read", path.display()))?;
    let read = || {
        let note = Note::parse(&bytes)?;
        let checkpoint = Checkpoint::parse(&note.text)?;
        anyhow::Ok((note, checkpoint))
    };
    read().with_context(|| format!("{} is no checkpoint", path.display()))
}

/// Whose signatures count.
pub(super) struct Trusted<'a> {
    pub(super) hub: Option<&'a PublicKey>,
    pub(super) witnesses: &'a [NoteKey],
    /// A time stamp that must hold, and the authorities that may have made it.
    pub(super) timestamp: Option<(&'a Path, &'a Path)>,
}

/// Who signed a note: name, and of a witness when, in seconds since 1970.
type Signers = Vec<(String, Option<u64>)>;

impl Trusted<'_> {
    /// Who of the trusted signed. Every witness must have; a hub's line may be missing, as in copies
    /// that witnesses publish, but must not be wrong.
    fn signers(&self, note: &Note, checkpoint: &Checkpoint) -> Result<Signers, NoteError> {
        let mut signers = Vec::new();
        if let Some(hub) = self.hub {
            match note.verify(&hub_key(&checkpoint.origin, *hub), ed25519_holds) {
                Ok(stamp) => signers.push(("the hub".to_owned(), stamp.0)),
                Err(NoteError::Unsigned(_)) => {}
                Err(error) => return Err(error),
            }
        }
        for key in self.witnesses {
            let stamp = note.verify(key, ed25519_holds)?;
            signers.push((key.name.clone(), stamp.0));
        }
        Ok(signers)
    }

    /// What the time stamp says, if one was given. It says when the note was there, not whose it is: so
    /// it is no signature.
    fn stamp(&self, note: &Note) -> anyhow::Result<Option<Timestamp>> {
        let stamp = self
            .timestamp
            .map(|(file, trusted)| timestamp::check(&note.text, file, trusted));
        stamp.transpose()
    }
}

/// Why the ledger in `store` does not go on from `earlier`; `None` when it does. What a time stamp says
/// goes to `stamped`.
pub(super) fn missed(
    store: Arc<dyn Store>,
    earlier: &Earlier,
    trusted: &Trusted<'_>,
    stamped: &mut Option<Timestamp>,
) -> anyhow::Result<Option<String>> {
    let file = match earlier {
        Earlier::Block(height, hash) => {
            anyhow::ensure!(
                trusted.timestamp.is_none(),
                "a time stamp is one of a checkpoint, not of a block: name the note with --checkpoint"
            );
            let block = Explorer::new(store).block(*height)?;
            let there = block.is_some_and(|block| block.header.hash() == *hash);
            return Ok(
                (!there).then(|| format!("block {height} with hash {hash} is not in the ledger"))
            );
        }
        Earlier::Note(file) => file,
    };
    let (note, checkpoint) = read_note(file)?;
    let mut tree = match LedgerTree::open(store) {
        Ok(tree) => tree,
        Err(error) => return Ok(Some(error.to_string())),
    };
    let hub = tree.hub();
    let trusted = Trusted {
        hub: trusted.hub.or(Some(&hub)),
        witnesses: trusted.witnesses,
        timestamp: trusted.timestamp,
    };
    if let Err(error) = trusted.signers(&note, &checkpoint) {
        return Ok(Some(format!("the checkpoint {}: {error}", file.display())));
    }
    match trusted.stamp(&note) {
        Err(error) => return Ok(Some(format!("{error:#}"))),
        Ok(stamp) => *stamped = stamp,
    }
    if checkpoint.origin != tree.origin() {
        return Ok(Some(format!(
            "the checkpoint is of {}, and this ledger is {}: it was begun anew, or is another one",
            checkpoint.origin,
            tree.origin()
        )));
    }
    Ok(match tree.at_size(checkpoint.size) {
        Err(error) => Some(error.to_string()),
        Ok(now) if now.root != checkpoint.root => Some(format!(
            "the first {} blocks are not those of the checkpoint: history was rewritten",
            checkpoint.size
        )),
        Ok(_) => None,
    })
}

/// Whether bytes look like a checkpoint, or like one with a proof before it.
pub(super) fn looks_like(bytes: &[u8]) -> bool {
    let dash = "\n\n\u{2014} ".as_bytes();
    bytes.starts_with(b"old ") || bytes.windows(dash.len()).any(|w| w == dash)
}

/// Verifies a checkpoint, or that one extends an earlier one, without any ledger.
pub(super) fn run(
    bytes: &[u8],
    earlier: Option<&Earlier>,
    trusted: &Trusted<'_>,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    match check(bytes, earlier, trusted) {
        Err(error) if as_json => {
            output::print_json(&json!({"clean": false, "reason": format!("{error:#}")}))?;
            Ok(ExitCode::FAILURE)
        }
        Err(error) => Err(error.context("the checkpoint does not hold")),
        Ok(checked) => {
            checked.show(as_json)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

struct Checked {
    checkpoint: Checkpoint,
    /// Size of the tree that it was shown to extend.
    since: Option<u64>,
    signers: Signers,
    stamp: Option<Timestamp>,
}

fn check(
    bytes: &[u8],
    earlier: Option<&Earlier>,
    trusted: &Trusted<'_>,
) -> anyhow::Result<Checked> {
    let (old, proof, note) = if bytes.starts_with(b"old ") {
        let submission = Submission::parse(bytes)?;
        (Some(submission.old), submission.proof, submission.note)
    } else {
        (None, Vec::new(), Note::parse(bytes)?)
    };
    let checkpoint = Checkpoint::parse(&note.text)?;
    let signers = trusted.signers(&note, &checkpoint)?;
    anyhow::ensure!(
        !signers.is_empty() || trusted.hub.is_none(),
        "it is not signed by the trusted key"
    );
    let stamp = trusted.stamp(&note)?;
    let since = match earlier {
        None => None,
        Some(Earlier::Block(..)) => anyhow::bail!(
            "that a block is below a checkpoint can only be seen in the ledger: verify its directory"
        ),
        Some(Earlier::Note(file)) => {
            let (note, before) = read_note(file)?;
            let cannot = || format!("the earlier checkpoint {}", file.display());
            // It is the hub's word that is compared here; witnesses may have come later.
            let hub = Trusted {
                hub: trusted.hub,
                witnesses: &[],
                timestamp: None,
            };
            hub.signers(&note, &before).with_context(cannot)?;
            anyhow::ensure!(
                before.origin == checkpoint.origin,
                "the earlier one is of {}, and this one of {}",
                before.origin,
                checkpoint.origin
            );
            let same = before.size == checkpoint.size;
            anyhow::ensure!(
                same || old == Some(before.size),
                "it comes without the proof from {} blocks on: make it with `weighbridge checkpoint --since {}`",
                before.size,
                file.display()
            );
            let proof = if same { &[][..] } else { &proof };
            let (was, is) = (
                (before.size, &before.root),
                (checkpoint.size, &checkpoint.root),
            );
            anyhow::ensure!(
                is_consistent(was, is, proof),
                "it does not extend the earlier one: history was rewritten, or the proof is wrong"
            );
            Some(before.size)
        }
    };
    Ok(Checked {
        checkpoint,
        since,
        signers,
        stamp,
    })
}

impl Checked {
    fn show(&self, as_json: bool) -> anyhow::Result<()> {
        let Checkpoint {
            origin, size, root, ..
        } = &self.checkpoint;
        let time = |at: &Option<u64>| {
            let at = at.and_then(|s| Nanos::try_from(s).ok()?.checked_mul(1_000_000_000));
            at.map(rfc3339)
        };
        if as_json {
            let signers = self.signers.iter();
            let signers = signers.map(|(name, at)| json!({"name": name, "time": time(at)}));
            let trust = if self.signers.is_empty() {
                "self_consistent_only"
            } else {
                "key"
            };
            return output::print_json(&json!({
                "clean": true,
                "trust": trust,
                "origin": origin,
                "size": size,
                "root": root,
                "extends": self.since,
                "signed": signers.collect::<Vec<_>>(),
                "timestamp": self.stamp.as_ref().map(timestamp::as_json),
            }));
        }
        let style = Style::stdout();
        let mut text = format!("{origin}\n  {size} blocks, root {root}\n");
        if let Some(since) = self.since {
            text += &format!("  extends the checkpoint of {since} blocks\n");
        }
        for (name, at) in &self.signers {
            let at = time(at).map_or(String::new(), |at| format!(" at {at}"));
            text += &format!("  signed by {name}{at}\n");
        }
        text += &self
            .stamp
            .as_ref()
            .map_or_else(String::new, timestamp::as_text);
        text += &if self.signers.is_empty() {
            style.yellow("self-consistent only: name keys with --trust or --witness-key")
        } else {
            style.green("holds, under the trusted keys")
        };
        output::print(&(text + "\n"))
    }
}
