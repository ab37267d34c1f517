//! The ledger as the links between hubs see it.

use super::book::SharedBook;
use super::keys::{keys_in, keys_of};
use super::ports::{Fault, LentWraps, MeshBook, OwnRun};
use crate::crypto::SealingWord;
use crate::ledger::LedgerError;
use crate::ledger::shared::{Carried, Known, PoolError, SharedLedger, Want, Wrong};
use crate::ledger::store::Put;
use crate::model::now;
use std::sync::atomic::Ordering;
use tokio::sync::watch;
use weighbridge_verifier::{Block, Hash, decode, encode};

/// Most sealed values that are counted as missing.
const COUNTED: usize = 10_000;
/// Most blocks that are handed out at once.
const BLOCKS: u64 = 256;

impl SharedBook {
    /// Counts what is missing.
    pub(super) fn count_missing(&self, ledger: &SharedLedger) {
        match ledger.missing(COUNTED) {
            Ok(missing) => self.standing.lock().missing = missing.len(),
            Err(error) => tracing::error!(%error, "what is missing cannot be counted"),
        }
    }

    /// Id of the chain.
    pub(super) fn chain(&self) -> String {
        self.lock().state().chain().to_owned()
    }
}

impl MeshBook for SharedBook {
    fn wanted(&self, hub: &str) -> u64 {
        self.lock().wanted(hub)
    }

    fn own(&self, from: u64, max_bytes: usize) -> Result<OwnRun, Fault> {
        let ledger = self.lock();
        let (first, _, generation) = ledger.own_open();
        let run = ledger.own_run(from.max(first), max_bytes);
        let run = run.map_err(Fault::failed)?;
        Ok(OwnRun { generation, run })
    }

    fn own_changed(&self) -> watch::Receiver<(u64, u64)> {
        self.own.subscribe()
    }

    fn take(&self, hub: &str, run: Vec<Carried>) -> Result<usize, Fault> {
        // Most of what it takes: nobody waits for it.
        let known = Known::of(&run, self.key_of(hub), &*self.check);
        let mut ledger = self.lock();
        let (height, wanted) = (ledger.committed().1.height, ledger.wanted(hub));
        let taken = ledger.receive_checked(hub, run, &known);
        tracing::debug!(hub, height, wanted, ?taken, "records of another hub");
        self.changed(&ledger);
        drop(ledger);
        self.came.notify_all();
        match taken {
            Ok(taken) | Err(PoolError::Full { taken }) => Ok(taken),
            // Blocks that let it in, or with records before these, may not be here yet.
            Err(PoolError::Hub(_) | PoolError::Gap { .. }) => Ok(0),
            Err(PoolError::Record {
                why: Wrong::Previous,
                taken,
                ..
            }) => Ok(taken),
            Err(error) => Err(Fault::lie(error)),
        }
    }

    fn tip(&self) -> watch::Receiver<(u64, Hash)> {
        self.tip.subscribe()
    }

    fn heard(&self, hub: &str, tip: (u64, Hash)) {
        let mut standing = self.standing.lock();
        let before = standing.heard.insert(hub.to_owned(), tip.0);
        drop(standing);
        if before != Some(tip.0) {
            self.heard.send_modify(|times| *times += 1);
        }
    }

    fn blocks(&self, from: u64, max_bytes: usize) -> Result<Vec<Vec<u8>>, Fault> {
        let (mut blocks, mut bytes) = (Vec::new(), 0);
        for height in from..from.saturating_add(BLOCKS) {
            let block = self.lock().block(height);
            let Some(block) = block.map_err(Fault::failed)? else {
                break;
            };
            let block = encode(&block);
            bytes += block.len();
            if bytes > max_bytes && !blocks.is_empty() {
                break;
            }
            blocks.push(block);
        }
        Ok(blocks)
    }

    fn take_blocks(&self, blocks: Vec<Vec<u8>>) -> Result<(), Fault> {
        for bytes in blocks {
            if self.deciding.load(Ordering::Acquire) {
                // Consensus has them from the others itself.
                return Ok(());
            }
            let block: Block = decode("block", &bytes).map_err(Fault::lie)?;
            let (mut ledger, _writing) = self.lock_to_write();
            if block.header.height <= ledger.committed().1.height {
                continue;
            }
            let keys = keys_of(&block.records);
            let followed = ledger.follow(block, now());
            self.changed(&ledger);
            if followed.is_ok() {
                self.note_keys(&ledger, keys);
            }
            followed.map(drop).map_err(|error| match error {
                LedgerError::Store(error) => Fault::failed(error),
                error => Fault::lie(error),
            })?;
        }
        self.count_missing(&self.lock());
        Ok(())
    }

    fn missing(&self, limit: usize) -> Vec<Want> {
        let missing = self.lock().missing(limit);
        missing.unwrap_or_else(|error| {
            tracing::error!(%error, "what is missing cannot be read");
            Vec::new()
        })
    }

    fn lend(&self, want: &Want) -> Result<Vec<Put>, Fault> {
        self.lock().lend(want).map_err(Fault::failed)
    }

    fn bring(&self, puts: Vec<Put>) -> Result<(), Fault> {
        let (mut ledger, _writing) = self.lock_to_write();
        let wraps = keys_in(&puts);
        let brought = ledger.bring(puts);
        self.count_missing(&ledger);
        if matches!(brought, Ok(1..)) {
            self.came_with(&ledger, wraps);
        }
        brought.map(drop).map_err(|error| match error {
            LedgerError::Store(error) => Fault::failed(error),
            error => Fault::lie(error),
        })
    }

    fn lacks_wraps(&self) -> Result<bool, Fault> {
        self.lacking()
    }

    fn wraps_wanted(&self) -> watch::Receiver<u64> {
        self.reasons()
    }

    fn lend_wraps(&self, hub: &str, from: &[u8]) -> Result<LentWraps, Fault> {
        self.lent_to(hub, from)
    }

    fn bring_wraps(&self, puts: Vec<Put>) -> Result<usize, Fault> {
        self.take_wraps(puts)
    }

    fn lend_credentials(&self, hub: &str, user: &str) -> Result<Option<Vec<u8>>, Fault> {
        self.parcel_for(hub, user)
    }

    fn sealing(&self, hub: &str, word: SealingWord) {
        self.words
            .send_modify(|words| drop(words.insert(hub.to_owned(), word)));
    }
}
