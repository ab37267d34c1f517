//! Reading the ledger while it is written: newest first, in bounded steps.

use super::assemble::Tip;
use super::keys::{height_key, height_of};
use super::retention::RetentionError;
use super::retention::retired::Retired;
use super::store::{Space, Store, StoreError};
use std::sync::Arc;
use weighbridge_verifier::{Action, BatchContent, Block, BlockHeader, DecodeError, Record, decode};

/// Most entries in one answer.
pub const MAX_PAGE: usize = 1_000;

/// Most blocks read for one answer: a filter that finds little must not read the whole ledger.
pub const MAX_BLOCKS_READ: usize = 1_000;

/// Why the ledger cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stored block cannot be read.
    #[error("the ledger is damaged: block {height}: {why}")]
    Damaged {
        /// Its height.
        height: u64,
        /// Why.
        why: DecodeError,
    },
}

/// Place of a record: height of its block, and which record of the block, from 0.
pub type Place = (u64, u32);

/// Which records are asked for; what is `None` is not asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordFilter {
    /// Records about batches of this device.
    pub device: Option<String>,
    /// Records of this action.
    pub action: Option<Action>,
}

impl RecordFilter {
    fn takes(&self, record: &Record) -> bool {
        let device = |wanted: &String| {
            let body = &record.body;
            body.batch().is_some_and(|b| b.device == *wanted)
                || body
                    .object
                    .split_once(':')
                    .is_some_and(|(_, d)| d == wanted)
        };
        self.device.as_ref().is_none_or(device)
            && self.action.is_none_or(|a| a == record.body.action)
    }
}

/// A part of a long list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The entries, newest first.
    pub items: Vec<T>,
    /// Ask for what is before this place to go on; `None` when there is no more. There may be more
    /// even if `items` is short: only so many blocks are read for one answer.
    pub next: Option<Place>,
}

/// A record with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedRecord {
    /// Where it is.
    pub place: Place,
    /// The record.
    pub record: Record,
}

/// Reads a ledger's store.
#[derive(Clone)]
pub struct Explorer {
    store: Arc<dyn Store>,
}

impl Explorer {
    /// Reads `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// The newest block's header.
    pub fn tip(&self) -> Result<Option<BlockHeader>, QueryError> {
        Ok(self.newest()?.map(|b| b.header))
    }

    /// Height, hash and time of the newest block; zeros when there is none.
    pub fn tip_summary(&self) -> Result<Tip, QueryError> {
        Ok(self.tip()?.map_or(Tip::NONE, |h| Tip::of(&h)))
    }

    /// The first block.
    pub fn genesis(&self) -> Result<Option<Block>, QueryError> {
        self.block(1)
    }

    /// The block at `height`.
    pub fn block(&self, height: u64) -> Result<Option<Block>, QueryError> {
        block_at(&*self.store, height)
    }

    /// What is read.
    pub(in crate::ledger) fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Up to `limit` blocks below height `before` (or from the newest), newest first.
    pub fn blocks(&self, before: Option<u64>, limit: usize) -> Result<Vec<Block>, QueryError> {
        let mut height = self.below(before)?;
        let mut blocks = Vec::new();
        while height > 0 && blocks.len() < limit.min(MAX_PAGE) {
            let Some(block) = self.block(height)? else {
                break;
            };
            blocks.push(block);
            height -= 1;
        }
        Ok(blocks)
    }

    /// Up to `limit` records that `filter` takes, before place `before` (or from the newest), newest
    /// first.
    pub fn records(
        &self,
        before: Option<Place>,
        limit: usize,
        filter: &RecordFilter,
    ) -> Result<Page<PlacedRecord>, QueryError> {
        self.select(before, limit, |place, record| {
            filter
                .takes(&record)
                .then_some(PlacedRecord { place, record })
        })
    }

    /// The same for any condition.
    pub fn records_where(
        &self,
        before: Option<Place>,
        limit: usize,
        wanted: impl Fn(&Record) -> bool,
    ) -> Result<Page<PlacedRecord>, QueryError> {
        self.select(before, limit, |place, record| {
            wanted(&record).then_some(PlacedRecord { place, record })
        })
    }

    /// The same for batches: place, record time and content.
    pub fn batches(
        &self,
        before: Option<Place>,
        limit: usize,
        device: Option<&str>,
    ) -> Result<Page<(Place, i64, BatchContent)>, QueryError> {
        self.select(before, limit, |place, record| {
            let time = record.body.time;
            let batch = record.body.batch()?;
            let wanted = device.is_none_or(|d| batch.device == d);
            wanted.then(|| (place, time, batch.clone()))
        })
    }

    /// Height of the newest block whose time is at or before `time`: blocks are in order of time.
    pub fn height_at(&self, time: i64) -> Result<Option<u64>, QueryError> {
        let (mut low, mut high) = (0, self.below(None)?);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            match self.block(middle)? {
                Some(block) if block.header.time <= time => low = middle,
                _ => high = middle - 1,
            }
        }
        Ok((low > 0).then_some(low))
    }

    /// What became of what the block at `height` recorded, in plain words, where that was retired.
    pub fn fate(&self, height: u64) -> Result<Option<String>, RetentionError> {
        Ok(Retired::load(&*self.store)?.fate(height))
    }

    /// The value under a hash among the sealed ones.
    pub fn sealed(&self, hash: &weighbridge_verifier::Hash) -> Result<Option<Vec<u8>>, QueryError> {
        Ok(self.store.get(Space::Sealed, &hash.0)?)
    }

    fn select<T>(
        &self,
        before: Option<Place>,
        limit: usize,
        mut take: impl FnMut(Place, Record) -> Option<T>,
    ) -> Result<Page<T>, QueryError> {
        let limit = limit.clamp(1, MAX_PAGE);
        let mut items = Vec::new();
        let newest = self.below(None)?;
        // The block of the cursor may have records before it.
        let (mut height, mut end) = match before {
            Some((height, index)) if height <= newest => (height, Some(index)),
            _ => (newest, None),
        };
        for _ in 0..MAX_BLOCKS_READ {
            if height == 0 {
                return Ok(Page { items, next: None });
            }
            let Some(block) = self.block(height)? else {
                return Ok(Page { items, next: None });
            };
            let numbered = (0u32..).zip(block.records);
            let wanted: Vec<_> = numbered
                .filter(|(i, _)| end.is_none_or(|e| *i < e))
                .collect();
            for (index, record) in wanted.into_iter().rev() {
                items.extend(take((height, index), record));
                if items.len() == limit {
                    let next = Some((height, index)).filter(|p| *p != (1, 0));
                    return Ok(Page { items, next });
                }
            }
            height -= 1;
            end = None;
        }
        // All of the next block is still to come.
        let next = (height > 0).then_some((height, u32::MAX));
        Ok(Page { items, next })
    }

    fn newest(&self) -> Result<Option<Block>, QueryError> {
        let Some((key, value)) = self.store.last(Space::Blocks)? else {
            return Ok(None);
        };
        Ok(Some(read(height_of(&key).unwrap_or(0), &value)?))
    }

    /// The greatest height below `before`.
    fn below(&self, before: Option<u64>) -> Result<u64, QueryError> {
        let newest = match self.store.last(Space::Blocks)? {
            Some((key, _)) => height_of(&key).unwrap_or(0),
            None => 0,
        };
        Ok(before.map_or(newest, |b| b.saturating_sub(1).min(newest)))
    }
}

/// The block at `height` of the chain in `store`.
pub(in crate::ledger) fn block_at(
    store: &dyn Store,
    height: u64,
) -> Result<Option<Block>, QueryError> {
    let value = store.get(Space::Blocks, &height_key(height))?;
    value.map(|v| read(height, &v)).transpose()
}

fn read(height: u64, value: &[u8]) -> Result<Block, QueryError> {
    decode("block", value).map_err(|why| QueryError::Damaged { height, why })
}
