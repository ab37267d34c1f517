//! What the batches of an edge node are sealed to: the sealing key that each hub of its list has by now.

use super::EdgeError;
use super::acquaintance::Acquaintance;
use crate::crypto::SealingPublicKey;
use crate::protocols::edge::{Packer, SealingWord};
use std::sync::Arc;
use tokio::sync::watch;
use weighbridge_verifier::PublicKey;

/// The hubs of the list, and how often one of them has changed its key.
pub(super) struct Seals {
    hubs: Vec<Arc<Acquaintance>>,
    changes: watch::Sender<u64>,
    /// Number of this process' keys.
    number: u64,
}

impl Seals {
    pub(super) fn new(hubs: Vec<Arc<Acquaintance>>, number: u64) -> Self {
        Self {
            hubs,
            changes: watch::Sender::new(0),
            number,
        }
    }

    /// Told of every change.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn recipients(&self) -> Vec<PublicKey> {
        self.hubs.iter().map(|hub| hub.sealing()).collect()
    }

    /// Whether what `packer` packs is for the hubs as they are.
    pub(super) fn is_current(&self, packer: &Packer) -> bool {
        packer.recipients().eq(&self.recipients())
    }

    /// A packer for a device of this grade.
    pub(super) fn packer(&self, grade: u8) -> Result<Packer, EdgeError> {
        let hubs = self.recipients();
        let hubs = hubs.iter().map(SealingPublicKey::from_compressed);
        let hubs: Vec<_> = hubs.collect::<Result<_, _>>().map_err(|source| {
            EdgeError::Upload(crate::protocols::edge::UploadError::Wrap(source))
        })?;
        Ok(Packer::new(grade, self.number, &hubs)?)
    }

    /// Takes the word of one of the hubs. Blocking where it is news.
    pub(super) fn told(&self, hub: &Acquaintance, word: &SealingWord) -> Result<(), String> {
        if hub.seals_by(word)? {
            self.changes.send_modify(|changes| *changes += 1);
        }
        Ok(())
    }
}
