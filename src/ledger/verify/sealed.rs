//! Sealed values: each must hash to what a record names, and what a record names must be there, unless it was
//! erased or retired on record.

use super::erasures::Erasures;
use super::open::place;
use super::{Verification, hex};
use crate::ledger::key_wrap::sealing_key;
use crate::ledger::report::{Progress, Where};
use crate::ledger::store::{Space, StoreError};
use weighbridge_verifier::{Block, Hash, Suite};

/// What a record says of a sealed value.
pub(super) struct Named {
    pub(super) length: u64,
    pub(super) height: u64,
    pub(super) index: usize,
    pub(super) seen: bool,
    /// Of a batch, how many entries the history's index has for it, and should; of anything else nothing.
    pub(super) indexed: Option<(u8, u8)>,
    /// Which erasure took it, or its key.
    pub(super) erased: Option<u32>,
    /// Whether it was retired on record.
    pub(super) retired: bool,
}

impl Named {
    /// Whether an erasure that was recorded after it took it.
    pub(super) fn is_erased(&self, erasures: &Erasures) -> bool {
        let place = Some((self.height, self.index));
        self.erased.is_some_and(|at| erasures.holds(at, place))
    }

    /// Whether it is erased, and that is done.
    fn is_gone(&self, erasures: &Erasures) -> bool {
        self.is_erased(erasures) && self.erased.is_some_and(|at| erasures.is_done(at))
    }
}

impl Verification<'_> {
    pub(super) fn name_sealed(&mut self, height: u64, block: &Block) {
        for (index, record) in block.records.iter().enumerate() {
            let Some(sealed) = record.body.sealed() else {
                continue;
            };
            let key = sealing_key(record);
            let batch = record.body.batch();
            let erased = key.as_ref().and_then(|(owner, key_epoch)| match batch {
                Some(batch) => {
                    let which = (batch.epoch, batch.sequence);
                    self.erasures.of_batch(owner, *key_epoch, which)
                }
                None => self.erasures.of_key(owner, *key_epoch),
            });
            let named = Named {
                length: sealed.length,
                height,
                index,
                seen: false,
                indexed: batch.map(|_| (0, 1)),
                erased,
                retired: self.retirement.takes_value(height, &sealed.hash),
            };
            let retired = named.retired;
            self.sealed.insert(sealed.hash, named);
            if let Some((device, epoch)) = key.filter(|_| !retired) {
                let key = (device.into_owned(), epoch);
                self.wraps.entry(key).or_insert((height, index));
            }
        }
    }

    pub(super) fn sealed(&mut self) -> Result<(), StoreError> {
        let (what, total) = ("sealed bytes", self.sealed.len() as u64);
        let store = self.store;
        for (done, entry) in (0u64..).zip(store.scan(Space::Sealed, &[])) {
            (self.progress)(Progress { what, done, total });
            match entry {
                Ok((key, value)) => self.sealed_value(&key, &value),
                // Others may follow, where each value lies by itself.
                Err(e) => self.unreadable_space(Space::Sealed, e)?,
            }
        }
        let lost = |n: &Named| !n.seen && !n.retired && !n.is_erased(&self.erasures);
        let missing = self.sealed.iter().filter(|(_, n)| lost(n));
        let (known, mut missing): (Vec<_>, Vec<_>) =
            missing.partition(|(hash, _)| self.open.lacking.contains(*hash));
        self.report.lacking = known.len() as u64;
        missing.sort_unstable_by_key(|(_, n)| (n.height, n.index));
        for (hash, named) in missing {
            let at = place(named.height, named.index);
            let what = format!("its sealed bytes {hash} are missing");
            self.report.find(at, what);
        }
        Ok(())
    }

    fn sealed_value(&mut self, key: &[u8], value: &[u8]) {
        self.report.sealed += 1;
        self.report.sealed_bytes += value.len() as u64;
        let own = Where::Sealed { key: hex(key) };
        let follower = self.follower.as_ref();
        let suite = follower.map_or(Suite::Nist, |f| f.state().suite());
        let named = key.try_into().ok().map(Hash);
        let Some(named) = named.and_then(|h| self.sealed.get_mut(&h)) else {
            // What an unreadable block names is not known, and what is on its way out is nobody's any more.
            let leaves = self.open.dropped.contains(&(Space::Sealed, key.to_vec()));
            if !self.unreadable && !leaves {
                self.report.find(own, "no record names these bytes");
            }
            return;
        };
        named.seen = true;
        // What is no batch may stay: nobody can open it.
        if named.indexed.is_some() && named.is_gone(&self.erasures) {
            let what =
                "these bytes are there although their erasure is recorded: they were put back";
            self.report.find(own.clone(), what);
        }
        if named.retired && self.retirement.is_done() {
            let what =
                "these bytes are there although their retirement is recorded: they were put back";
            self.report.find(own.clone(), what);
        }
        let of = format!("of {}", place(named.height, named.index));
        let length = value.len() as u64;
        if suite.hash(&[value]).0 != key {
            let what = format!("the sealed bytes {of} are changed: their hash is another");
            self.report.find(own, what);
        } else if length != named.length {
            let what = format!(
                "the sealed bytes {of} are {length} bytes long, not {}",
                named.length
            );
            self.report.find(own, what);
        }
    }
}
