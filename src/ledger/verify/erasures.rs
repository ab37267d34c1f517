//! The part of erasures in the verification of a ledger: what was erased is not lost, and what is there
//! although it was erased was put back.

use super::Verification;
use crate::ledger::erasure::notice::{Kept, Notice, of_record};
use crate::ledger::report::{ErasureFound, MAX_FINDINGS, Where};
use crate::ledger::store::{Space, StoreError};
use std::collections::BTreeMap;
use weighbridge_verifier::{Block, Hash};

/// The notices of a store, and the records that name them.
#[derive(Default)]
pub(super) struct Erasures {
    all: Vec<Erasure>,
    by_hash: BTreeMap<Hash, u32>,
    by_device: BTreeMap<String, Vec<u32>>,
}

/// One erasure.
struct Erasure {
    notice: Notice,
    key: Vec<u8>,
    /// Place of the record that names it, and who asked.
    record: Option<((u64, usize), String)>,
    /// Whether its work is not done.
    pending: bool,
}

impl Erasures {
    /// Which erasure takes the key, if one does.
    pub(super) fn of_key(&self, device: &str, key_epoch: u64) -> Option<u32> {
        self.first(device, |notice| notice.takes_key(key_epoch))
    }

    /// Which erasure takes the batch, if one does.
    pub(super) fn of_batch(&self, device: &str, key_epoch: u64, batch: (u64, u64)) -> Option<u32> {
        self.first(device, |notice| notice.takes_batch(key_epoch, batch))
    }

    fn first(&self, device: &str, takes: impl Fn(&Notice) -> bool) -> Option<u32> {
        let of_device = self.by_device.get(device)?;
        let takes = |at: &&u32| self.get(**at).is_some_and(|e| takes(&e.notice));
        of_device.iter().find(takes).copied()
    }

    fn get(&self, at: u32) -> Option<&Erasure> {
        self.all.get(usize::try_from(at).ok()?)
    }

    /// Whether it is recorded, after `place` where there is one.
    pub(super) fn holds(&self, at: u32, place: Option<(u64, usize)>) -> bool {
        let recorded = self.get(at).and_then(|e| e.record.as_ref());
        recorded.is_some_and(|(record, _)| place.is_none_or(|place| place < *record))
    }

    /// Whether its work is done.
    pub(super) fn is_done(&self, at: u32) -> bool {
        self.get(at).is_some_and(|e| !e.pending)
    }

    /// Whether an erasure that is recorded takes the key.
    pub(super) fn takes_key(&self, device: &str, key_epoch: u64) -> Option<u32> {
        self.of_key(device, key_epoch)
            .filter(|at| self.holds(*at, None))
    }
}

impl Verification<'_> {
    /// Reads the notices; before the blocks, so that they say at once what is missing.
    pub(super) fn notices(&mut self) -> Result<(), StoreError> {
        let store = self.store;
        let mut pending = Vec::new();
        for entry in store.scan(Space::Erasures, &[]) {
            let (key, value) = match entry {
                Ok(pair) => pair,
                Err(e) => return self.unreadable_space(Space::Erasures, e),
            };
            let place = || Where::Erasures {
                key: super::hex(&key),
            };
            match Kept::of(&key) {
                Some(Kept::Notice(hash)) => match Notice::from_bytes(&value) {
                    Ok(notice) if notice.hash() == hash => self.notice(hash, key, notice),
                    Ok(_) => self
                        .report
                        .find(place(), "the notice is changed: its hash is another"),
                    Err(e) => self.report.find(place(), e),
                },
                Some(Kept::Pending(hash)) if value.is_empty() => pending.push((hash, key)),
                _ => self
                    .report
                    .find(place(), "nothing is kept under such a key"),
            }
        }
        for (hash, key) in pending {
            let at = self.erasures.by_hash.get(&hash).copied();
            let at = at.and_then(|at| usize::try_from(at).ok());
            match at.and_then(|at| self.erasures.all.get_mut(at)) {
                Some(erasure) => erasure.pending = true,
                None => {
                    let place = Where::Erasures {
                        key: super::hex(&key),
                    };
                    self.report
                        .find(place, "it names a notice that is not there");
                }
            }
        }
        Ok(())
    }

    fn notice(&mut self, hash: Hash, key: Vec<u8>, notice: Notice) {
        let Ok(at) = u32::try_from(self.erasures.all.len()) else {
            return;
        };
        let of_device = self.erasures.by_device.entry(notice.device.clone());
        of_device.or_default().push(at);
        self.erasures.by_hash.insert(hash, at);
        self.erasures.all.push(Erasure {
            notice,
            key,
            record: None,
            pending: false,
        });
    }

    /// Notes the records of erasures in a block.
    pub(super) fn name_erasures(&mut self, height: u64, block: &Block) {
        for (index, record) in block.records.iter().enumerate() {
            let Some((hash, device)) = of_record(&record.body) else {
                continue;
            };
            self.name_erasure((hash, device), (height, index), &record.body.subject);
        }
    }

    /// Notes the record of an erasure, at this place.
    pub(super) fn name_erasure(
        &mut self,
        (hash, device): (Hash, &str),
        (height, index): (u64, usize),
        by: &str,
    ) {
        let at = self.erasures.by_hash.get(&hash).copied();
        let at = at.and_then(|at| usize::try_from(at).ok());
        let found = at.and_then(|at| self.erasures.all.get_mut(at));
        match found.filter(|e| e.notice.device == device) {
            Some(erasure) => erasure.record = Some(((height, index), by.to_owned())),
            None => {
                let what = "the notice of what it erased is missing or changed";
                self.report.find(Where::Record { height, index }, what);
            }
        }
    }

    /// Names what is wrong with the erasures, and lists those that hold; after the blocks.
    pub(super) fn list_erasures(&mut self) {
        for erasure in &self.erasures.all {
            let Some(((height, index), by)) = &erasure.record else {
                // What an unreadable block names is not known.
                if !self.unreadable {
                    let place = Where::Erasures {
                        key: super::hex(&erasure.key),
                    };
                    self.report.find(place, "no record names this notice");
                }
                continue;
            };
            let (height, index) = (*height, *index);
            if erasure.pending {
                let what = "this erasure was interrupted; the hub finishes it when it starts";
                self.report.find(Where::Record { height, index }, what);
            }
            let notice = &erasure.notice;
            let report = &mut self.report;
            report.erased_batches = report.erased_batches.saturating_add(notice.batches);
            report.erasure_count += 1;
            if report.erasures.len() < MAX_FINDINGS {
                report.erasures.push(ErasureFound {
                    device: notice.device.clone(),
                    until: notice.until,
                    time: notice.time,
                    by: by.clone(),
                    height,
                    index,
                    batches: notice.batches,
                    bytes: notice.bytes,
                });
            }
        }
    }
}
