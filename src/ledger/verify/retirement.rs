//! The part of retired blocks in the verification of a ledger: what was retired on record is not lost, and what
//! is there although it was retired was put back.

use super::{Named, Verification};
use crate::ledger::key_wrap::read_wrap_key;
use crate::ledger::report::{MAX_FINDINGS, RetirementFound, Where};
use crate::ledger::retention::keys::keeps_body;
use crate::ledger::retention::notice::{Entry, Kept, of_record, snapshot_key};
use crate::ledger::retention::retired::Retired;
use crate::ledger::retention::snapshot::Snapshot;
use crate::ledger::retention::{RetentionError, is_stripped};
use crate::ledger::store::{Space, StoreError};
use crate::model::Nanos;
use weighbridge_verifier::{Block, BlockHeader, Hash};

/// What was retired, and whether a record vouches for it.
#[derive(Default)]
pub(super) struct Retirement {
    retired: Retired,
    /// Hash of the newest notice, until a record names it.
    unnamed: Option<Hash>,
}

impl Retirement {
    /// Whether the value of this hash, which a record of the block at `height` names, is gone.
    pub(super) fn takes_value(&self, height: u64, hash: &Hash) -> bool {
        let newest = self.retired.newest();
        newest.is_some_and(|n| height <= n.batches && !n.keeps(hash))
    }

    /// Whether the body of the block at `height` is gone.
    pub(super) fn takes_body(&self, height: u64) -> bool {
        self.retired.newest().is_some_and(|n| n.takes_body(height))
    }

    /// Whether it is all done.
    pub(super) fn is_done(&self) -> bool {
        !self.retired.is_pending()
    }
}

impl Verification<'_> {
    /// Reads the notices; before the blocks.
    pub(super) fn retirements(&mut self) -> Result<(), StoreError> {
        let name = Space::Retention.name();
        let retired = match Retired::load(self.store) {
            Ok(retired) => retired,
            Err(RetentionError::Store(error)) => {
                return self.unreadable_space(Space::Retention, error);
            }
            Err(error) => {
                self.report.find(Where::Store { name }, error);
                return Ok(());
            }
        };
        for entry in self.store.scan(Space::Retention, &[]) {
            let (key, value) = match entry {
                Ok(pair) => pair,
                Err(error) => return self.unreadable_space(Space::Retention, error),
            };
            let newest = retired.newest();
            let known = match Entry::of(&key) {
                Some(Entry::Notice(_)) => true,
                Some(Entry::Reach(of)) => {
                    let named = read_wrap_key(&of).is_some_and(|(_, _, name)| name.is_empty());
                    newest.is_some() && named && value.len() == size_of::<Nanos>()
                }
                Some(Entry::Pending(number)) => newest.is_some_and(|n| n.number == number),
                Some(Entry::Snapshot(height)) => {
                    let before = retired.before_newest().map_or(0, |n| n.bodies);
                    let this = newest.map_or(0, |n| n.bodies);
                    height == this || retired.is_pending() && height == before
                }
                None => false,
            };
            if !known {
                let what = format!("nothing is kept under the key {}", super::hex(&key));
                self.report.find(Where::Store { name }, what);
            }
        }
        if let Some(newest) = retired.newest() {
            self.retirement.unnamed = Some(newest.hash());
            for record in &newest.erasures {
                let place = (record.height, record.index as usize);
                let found = (record.notice, record.device.as_str());
                self.name_erasure(found, place, &record.subject);
            }
        }
        let kept = retired.newest().map_or(&[][..], |n| &n.kept).to_vec();
        let released = match retired.is_pending() {
            true => retired
                .before_newest()
                .map_or(&[][..], |n| &n.kept)
                .to_vec(),
            false => Vec::new(),
        };
        self.retirement.retired = retired;
        released.into_iter().for_each(|kept| self.name_kept(kept));
        kept.into_iter().for_each(|kept| self.name_kept(kept));
        Ok(())
    }

    /// A value whose record is gone, or will be.
    fn name_kept(&mut self, kept: Kept) {
        let retired = self.retirement.takes_value(0, &kept.sealed.hash);
        let key_epoch = kept.sealed.key_epoch;
        let erased = match kept.batch {
            Some(which) => self.erasures.of_batch(&kept.owner, key_epoch, which),
            None => self.erasures.of_key(&kept.owner, key_epoch),
        };
        let place = (kept.height, kept.index as usize);
        let named = Named {
            length: kept.sealed.length,
            height: kept.height,
            index: place.1,
            seen: false,
            indexed: kept.batch.map(|_| (0, 1)),
            erased,
            retired,
        };
        self.sealed.insert(kept.sealed.hash, named);
        if !retired {
            let key = (kept.owner, key_epoch);
            self.wraps.entry(key).or_insert(place);
        }
    }

    /// A block whose body is gone on record.
    pub(super) fn retired_block(&mut self, height: u64, block: &Block) {
        let place = Where::Block { height };
        if !is_stripped(block) {
            if self.retirement.is_done() && !keeps_body(block) {
                let what = "its body is there although its retirement is recorded: it was put back";
                self.report.find(place.clone(), what);
            }
            if let Err(error) = block.verify_body() {
                self.report.find(place.clone(), error);
            }
        }
        if self.broken {
            self.judge_header(height, block);
            return;
        }
        // The first block is never retired, so there is a follower.
        let passed = self
            .follower
            .as_mut()
            .map(|f| f.pass(block, Some(self.check)));
        if let Some(Err(error)) = passed {
            self.broken = true;
            self.report.find(place, error);
            return;
        }
        self.note_keys(height, block);
        if self.retirement.retired.bodies() == height
            && let Err(error) = self.adopt(&block.header)
        {
            self.broken = true;
            self.report.find(place, error);
        }
    }

    /// Goes on from the snapshot.
    fn adopt(&mut self, header: &BlockHeader) -> Result<(), RetentionError> {
        let wanted = self.retirement.retired.newest().and_then(|n| n.snapshot);
        let key = snapshot_key(header.height);
        let lost = || RetentionError::Damaged("the state after it is missing".to_owned());
        let bytes = self.store.get(Space::Retention, &key)?.ok_or_else(lost)?;
        let snapshot = Snapshot::from_bytes(&bytes)?;
        if Some(snapshot.hash()) != wanted {
            let what = "the state after it is not the one that its notice names";
            return Err(RetentionError::Damaged(what.to_owned()));
        }
        let state = snapshot.state(header)?;
        let adopted = self.follower.as_mut().map(|f| f.adopt(state));
        match adopted {
            Some(false) => {
                let what =
                    "the state after it has other keys than the records of changed keys lead to";
                Err(RetentionError::Damaged(what.to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Notes the records of retirements in a block.
    pub(super) fn name_retirements(&mut self, height: u64, block: &Block) {
        for (index, record) in block.records.iter().enumerate() {
            let Some(hash) = of_record(&record.body) else {
                continue;
            };
            let notices = self.retirement.retired.notices();
            if !notices.iter().any(|n| n.hash() == hash) {
                let what = "the notice of what it retired is missing or changed";
                self.report.find(Where::Record { height, index }, what);
            }
            if self.retirement.unnamed == Some(hash) {
                self.retirement.unnamed = None;
            }
        }
    }

    /// Lists what was retired; after the blocks.
    pub(super) fn list_retirements(&mut self) {
        let name = Space::Retention.name();
        // What an unreadable block names is not known.
        if self.retirement.unnamed.is_some() && !self.unreadable {
            let what = "no record names the newest notice of a retirement";
            self.report.find(Where::Store { name }, what);
        }
        let retired = &self.retirement.retired;
        self.report.retirement_count = retired.notices().len() as u64;
        let newest_first = retired.notices().iter().rev();
        let list = newest_first
            .take(MAX_FINDINGS)
            .map(|notice| RetirementFound {
                time: notice.time,
                bodies: notice.bodies,
                batches: notice.batches,
                records: notice.records,
                values: notice.values,
                bytes: notice.bytes,
                archive: notice.archive.clone(),
                segments: notice.segments.clone(),
                pending: retired.is_pending()
                    && retired.newest().is_some_and(|n| n.number == notice.number),
            });
        self.report.retirements = list.collect();
    }
}
