//! What was erased so far.

use super::ErasureError;
use super::notice::{Kept, Notice};
use crate::ledger::store::{Space, Store};
use std::collections::BTreeMap;
use weighbridge_verifier::Hash;

/// All notices of a store.
#[derive(Clone, Debug, Default)]
pub struct Erased {
    of_device: BTreeMap<String, Vec<Notice>>,
    pending: Vec<Hash>,
}

impl Erased {
    /// Reads those of `store`.
    pub fn load(store: &dyn Store) -> Result<Self, ErasureError> {
        let mut erased = Self::default();
        for entry in store.scan(Space::Erasures, &[]) {
            let (key, value) = entry?;
            match Kept::of(&key) {
                Some(Kept::Notice(_)) => erased.add(Notice::from_bytes(&value)?),
                Some(Kept::Pending(hash)) => erased.pending.push(hash),
                // `verify` names it.
                None => {}
            }
        }
        Ok(erased)
    }

    /// One more.
    pub fn add(&mut self, notice: Notice) {
        let of_device = self.of_device.entry(notice.device.clone());
        of_device.or_default().push(notice);
    }

    /// Batches that were erased.
    pub fn batches(&self) -> u64 {
        let all = self.of_device.values().flatten();
        all.fold(0, |sum, notice| sum.saturating_add(notice.batches))
    }

    /// Whether what is sealed under this key of `device` is erased.
    pub fn takes_key(&self, device: &str, key_epoch: u64) -> bool {
        self.of(device).iter().any(|n| n.takes_key(key_epoch))
    }

    /// Whether this batch of `device`, sealed under the key of `key_epoch`, is erased.
    pub fn takes_batch(&self, device: &str, key_epoch: u64, batch: (u64, u64)) -> bool {
        let notices = self.of(device);
        notices.iter().any(|n| n.takes_batch(key_epoch, batch))
    }

    /// Notices whose work is not done.
    pub fn pending(&self) -> impl Iterator<Item = &Notice> {
        let all = self.of_device.values().flatten();
        all.filter(|notice| self.pending.contains(&notice.hash()))
    }

    /// The erasure of `device` that reaches furthest.
    pub fn furthest(&self, device: &str) -> Option<&Notice> {
        let of_device = self.of(device).iter();
        of_device.max_by_key(|notice| (notice.until.min(notice.time), notice.time))
    }

    fn of(&self, device: &str) -> &[Notice] {
        self.of_device.get(device).map_or(&[], Vec::as_slice)
    }
}
