//! Checkpoints of a running hub: made when somebody asks, and never before.

use crate::api::{CheckpointPort, NoCheckpoint};
use crate::crypto::{CheckpointKey, Signer};
use crate::ledger::checkpoint::{CheckpointError, LedgerTree, hub_key, submission_of};
use crate::ledger::store::Store;
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long one question waits for another. The first one reads the headers of the whole chain.
const WAIT: Duration = Duration::from_secs(10);

/// Makes the checkpoints of one ledger.
pub struct Checkpoints {
    store: Arc<dyn Store>,
    signer: Arc<dyn Signer>,
    key_file: PathBuf,
    /// What the first question read.
    open: Mutex<Option<(LedgerTree, CheckpointKey)>>,
}

impl Checkpoints {
    /// Of the ledger in `store`, which `signer` signs; the key of checkpoints is in `key_file`, or
    /// will be made there.
    pub(super) fn new(store: Arc<dyn Store>, signer: Arc<dyn Signer>, key_file: PathBuf) -> Self {
        let open = Mutex::default();
        Self {
            store,
            signer,
            key_file,
            open,
        }
    }

    /// Asks the tree and the key, which the first question opens.
    fn with(
        &self,
        ask: impl FnOnce(&mut LedgerTree, &CheckpointKey) -> Result<String, CheckpointError>,
    ) -> Result<String, NoCheckpoint> {
        let mut open = self.open.try_lock_for(WAIT).ok_or(NoCheckpoint::Busy)?;
        let (tree, key) = match &mut *open {
            Some(parts) => parts,
            none => {
                let key = CheckpointKey::load_or_make(&self.key_file);
                let key = key.map_err(|e| NoCheckpoint::Failed(e.to_string()))?;
                let tree = LedgerTree::open(self.store.clone());
                let tree = tree.map_err(|e| NoCheckpoint::Failed(e.to_string()))?;
                none.insert((tree, key))
            }
        };
        ask(tree, key).map_err(|error| match error {
            CheckpointError::Short { .. } => NoCheckpoint::Short(error.to_string()),
            other => NoCheckpoint::Failed(other.to_string()),
        })
    }
}

impl CheckpointPort for Checkpoints {
    fn checkpoint(&self, old: Option<u64>, size: Option<u64>) -> Result<String, NoCheckpoint> {
        self.with(|tree, key| {
            let from = (old.unwrap_or(0), size);
            let made = submission_of(tree, from, key, &*self.signer)?;
            Ok(match old {
                Some(_) => made.to_string(),
                None => made.note.to_string(),
            })
        })
    }

    fn keys(&self) -> Result<String, NoCheckpoint> {
        self.with(|tree, key| {
            let key = key.note_key(tree.origin());
            // The one by which it signs now, which may not be the one that it began by.
            let own = hub_key(tree.origin(), self.signer.public_key());
            Ok(format!("{key}\n{own}\n"))
        })
    }
}
