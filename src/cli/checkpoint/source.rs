//! Where checkpoints come from: a running hub, or the directory of a stopped one.

use super::super::data_dir::data_dir;
use super::super::http_get::{HubUrl, get_text};
use super::super::verify::open_whole;
use crate::crypto::{CheckpointKey, Identity, Signer};
use crate::hub::HubKeys;
use crate::ledger::checkpoint::{LedgerTree, hub_key, submission_of};
use anyhow::{Context, ensure};
use std::path::{Path, PathBuf};
use weighbridge_verifier::checkpoint::Submission;
use weighbridge_verifier::note::NoteKey;

/// Makes checkpoints of one ledger.
pub(super) enum Source {
    Hub(HubUrl),
    Stopped(Box<Stopped>),
}

/// A stopped hub's ledger, and its keys.
pub(super) struct Stopped {
    data: PathBuf,
    tree: LedgerTree,
    key: CheckpointKey,
    hub: Identity,
}

impl Source {
    pub(super) fn open(
        url: &HubUrl,
        dir: Option<&Path>,
        buffer: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let Some(dir) = dir else {
            return Ok(Self::Hub(url.clone()));
        };
        let data = data_dir(dir);
        let tree = LedgerTree::open(open_whole(&data, buffer)?)?;
        let keys = dir.join("keys");
        // The id is not part of a note.
        let hub = Identity::load(&keys.join(HubKeys::SIGNING), "hub")?;
        ensure!(
            tree.signs_by(&hub.public_key())?,
            "{} is not the key that this ledger is signed by",
            keys.join(HubKeys::SIGNING).display()
        );
        let key = CheckpointKey::load_or_make(&keys.join(HubKeys::CHECKPOINT))?;
        Ok(Self::Stopped(Box::new(Stopped {
            data,
            tree,
            key,
            hub,
        })))
    }

    /// Where notes are kept, unless told otherwise.
    pub(super) fn notes(&self) -> Option<PathBuf> {
        match self {
            Self::Hub(_) => None,
            Self::Stopped(stopped) => Some(stopped.data.join("checkpoints")),
        }
    }

    /// The checkpoint of `size` blocks (of all when `None`) with the proof from `old` blocks on.
    pub(super) fn submission(&mut self, old: u64, size: Option<u64>) -> anyhow::Result<Submission> {
        match self {
            Self::Hub(url) => {
                let mut query = vec![("old", old.to_string())];
                query.extend(size.map(|size| ("size", size.to_string())));
                let text = get_text(url, "/api/v1/checkpoint", &query)?;
                let made = Submission::parse(text.as_bytes());
                made.with_context(|| format!("the answer of {url} cannot be read"))
            }
            Self::Stopped(s) => Ok(submission_of(&mut s.tree, (old, size), &s.key, &s.hub)?),
        }
    }

    /// The checkpoint key and the hub's own.
    pub(super) fn keys(&self) -> anyhow::Result<Vec<NoteKey>> {
        match self {
            Self::Hub(url) => {
                let text = get_text(url, "/api/v1/checkpoint/keys", &[])?;
                let keys = text.lines().map(str::parse);
                let keys: Result<_, _> = keys.collect();
                keys.with_context(|| format!("the answer of {url} cannot be read"))
            }
            Self::Stopped(s) => Ok(vec![
                s.key.note_key(s.tree.origin()),
                hub_key(s.tree.origin(), s.hub.public_key()),
            ]),
        }
    }
}
