//! What was retired so far.

use super::notice::{Entry, Notice, notice_key, pending_key, reach_key, snapshot_key};
use super::segment::SegmentRef;
use super::snapshot::Snapshot;
use super::{RetentionError, is_stripped};
use crate::ledger::assemble::Tip;
use crate::ledger::key_wrap::{read_wrap_key, wrap_prefix};
use crate::ledger::keys::height_key;
use crate::ledger::state::State;
use crate::ledger::store::{Space, Store};
use crate::model::{Nanos, rfc3339};
use std::collections::BTreeMap;
use weighbridge_verifier::{Block, decode};

/// All notices of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    /// In order.
    notices: Vec<Notice>,
    pending: bool,
}

impl Retired {
    /// Reads those of `store`, which must be a chain of their own.
    pub fn load(store: &dyn Store) -> Result<Self, RetentionError> {
        let mut retired = Self::default();
        for entry in store.scan(Space::Retention, &notice_key(0)) {
            let (key, value) = entry?;
            let Some(Entry::Notice(number)) = Entry::of(&key) else {
                break;
            };
            let notice = Notice::from_bytes(&value)?;
            let (due, previous) = retired.due();
            if (number, notice.number, notice.previous) != (due, due, previous) {
                let why = format!("notice {number} does not follow from the one before");
                return Err(RetentionError::Damaged(why));
            }
            retired.notices.push(notice);
        }
        if let Some(newest) = retired.notices.last() {
            let mark = store.get(Space::Retention, &pending_key(newest.number))?;
            retired.pending = mark.is_some();
        }
        Ok(retired)
    }

    /// Number of the next notice, and what it must name as the one before.
    fn due(&self) -> (u64, weighbridge_verifier::Hash) {
        let next = Notice::after(Default::default(), self.notices.last(), 0);
        (next.number, next.previous)
    }

    /// The newest notice.
    pub fn newest(&self) -> Option<&Notice> {
        self.notices.last()
    }

    /// The notice before the newest.
    pub fn before_newest(&self) -> Option<&Notice> {
        self.notices.iter().rev().nth(1)
    }

    /// All of them, the oldest first.
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// Whether the work of the newest is not done.
    pub fn is_pending(&self) -> bool {
        self.pending
    }

    /// The bodies of blocks after the first up to this height are gone.
    pub fn bodies(&self) -> u64 {
        self.newest().map_or(0, |n| n.bodies)
    }

    /// What records up to this height name is gone, but for what is kept.
    pub fn batches(&self) -> u64 {
        self.newest().map_or(0, |n| n.batches)
    }

    /// Batches that are gone and were not erased.
    pub fn gone(&self) -> u64 {
        self.newest().map_or(0, |n| n.gone)
    }

    /// The file that the block at `height` is archived in, and where that is.
    pub fn segment_of(&self, height: u64) -> Option<(&str, &SegmentRef)> {
        let of = |notice: &'_ Notice| -> Option<usize> {
            let covers = |s: &SegmentRef| (s.first..=s.last).contains(&height);
            notice.segments.iter().position(covers)
        };
        self.notices.iter().find_map(|notice| {
            let segment = notice.segments.get(of(notice)?)?;
            Some((notice.archive.as_str(), segment))
        })
    }

    /// All heights that are archived.
    pub(super) fn archived(&self) -> Heights {
        let segments = self.notices.iter().flat_map(|n| &n.segments);
        let mut ranges: Vec<_> = segments.map(|s| (s.first, s.last)).collect();
        ranges.sort_unstable();
        Heights(ranges)
    }

    /// What became of what the block at `height` recorded, in plain words; `None` when it is here.
    pub fn fate(&self, height: u64) -> Option<String> {
        let takes = |n: &&Notice| n.takes_body(height) || height <= n.batches;
        let notice = self.notices.iter().find(takes)?;
        let when = rfc3339(notice.time);
        Some(match self.segment_of(height) {
            Some((archive, segment)) => format!(
                "what block {height} recorded was retired on {when}, and is archived in {} in {archive}: \
                 read it with `--archive {archive}`",
                segment.file()
            ),
            None => {
                format!("what block {height} recorded was retired on {when}, and was not archived")
            }
        })
    }

    /// State and place from which a start follows the blocks; `None`: from the first block on.
    pub fn start(&self, store: &dyn Store) -> Result<Option<(State, Tip)>, RetentionError> {
        let Some((notice, hash)) = self.newest().and_then(|n| Some((n, n.snapshot?))) else {
            return Ok(None);
        };
        let height = notice.bodies;
        let bytes = store.get(Space::Retention, &snapshot_key(height))?;
        let damaged = |what: String| RetentionError::Damaged(what);
        let lost = || damaged(format!("the snapshot at block {height} is missing"));
        let snapshot = Snapshot::from_bytes(&bytes.ok_or_else(lost)?)?;
        if snapshot.hash() != hash {
            let what = format!("the snapshot at block {height} is not the one its notice names");
            return Err(damaged(what));
        }
        let block = block_at(store, height)?;
        let state = snapshot.state(&block.header)?;
        Ok(Some((state, Tip::of(&block.header))))
    }
}

/// The newest notice of `store`, found without reading those before: their numbers have no gaps.
pub fn newest_notice(store: &dyn Store) -> Result<Option<Notice>, RetentionError> {
    let read = |number: u64| store.get(Space::Retention, &notice_key(number));
    // Its number is from `low` on, and below `high`.
    let (mut low, mut high) = (0, 1);
    let mut newest = None;
    while let Some(value) = read(high)? {
        newest = Some(value);
        low = high;
        high = high.saturating_mul(2);
        if low == high {
            break;
        }
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        match read(middle)? {
            Some(value) => (low, newest) = (middle, Some(value)),
            None => high = middle,
        }
    }
    let notice = newest.map(|value| Notice::from_bytes(&value));
    Ok(notice.transpose()?)
}

/// Ranges of heights in order, which do not overlap.
pub(super) struct Heights(Vec<(u64, u64)>);

impl Heights {
    /// Whether `height` is in one of them.
    pub(super) fn contains(&self, height: u64) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < height);
        self.0.get(at).is_some_and(|(first, _)| *first <= height)
    }
}

/// The newest source times of what is gone of `device`, by the epochs of the keys that it is sealed under.
pub fn reaches(store: &dyn Store, device: &str) -> Result<BTreeMap<u64, Nanos>, RetentionError> {
    let mut found = BTreeMap::new();
    for entry in store.scan(Space::Retention, &reach_key(&wrap_prefix(device, 0))) {
        let (key, value) = entry?;
        let Some(Entry::Reach(prefix)) = Entry::of(&key) else {
            break;
        };
        match (read_wrap_key(&prefix), value.try_into()) {
            (Some((of, epoch, _)), Ok(last)) if of == device => {
                found.insert(epoch, Nanos::from_be_bytes(last));
            }
            _ => break,
        }
    }
    Ok(found)
}

/// The block at `height`, with or without its body.
pub(super) fn block_at(store: &dyn Store, height: u64) -> Result<Block, RetentionError> {
    let value = store.get(Space::Blocks, &height_key(height))?;
    let value = value.ok_or(RetentionError::Missing(height))?;
    Ok(decode("block", &value)?)
}

/// The block at `height`, which must have its body.
pub(super) fn whole_block_at(store: &dyn Store, height: u64) -> Result<Block, RetentionError> {
    let block = block_at(store, height)?;
    match is_stripped(&block) {
        true => Err(RetentionError::Missing(height)),
        false => Ok(block),
    }
}
