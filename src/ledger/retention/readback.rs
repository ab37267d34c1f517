//! A store with its archive laid over it: what was retired is read as if it were there.

use super::is_stripped;
use super::segment::{Part, What};
use crate::ledger::history::PastError;
use crate::ledger::history::index::Span;
use crate::ledger::keys::{height_key, sealed_key};
use crate::ledger::opening::{Opener, OpeningError};
use crate::ledger::store::{Entry, Pair, Put, Space, Store, StoreError};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use weighbridge_verifier::{Block, decode};

/// Reads parts of the files of an archive.
pub trait SegmentFiles: Send + Sync {
    /// `length` bytes from `at` on of file `file`.
    fn read(&self, file: usize, at: u64, length: u32) -> Result<Vec<u8>, StoreError>;
}

/// Where a value is: file, place and length.
type Place = (usize, u64, u32);

/// A store, and an archive. Nothing is written, but for entries of the history, which stay in memory.
pub struct ReadBack {
    base: Arc<dyn Store>,
    files: Box<dyn SegmentFiles>,
    places: BTreeMap<(Space, Vec<u8>), Place>,
    history: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl ReadBack {
    /// `base` with what is in `files`: the parts of each, in the order of their numbers.
    pub fn new(
        base: Arc<dyn Store>,
        files: Box<dyn SegmentFiles>,
        parts: impl IntoIterator<Item = (usize, Part)>,
    ) -> Self {
        let place = |(file, part): (usize, Part)| {
            let key = match part.what {
                What::Block(block) => (Space::Blocks, height_key(block.header.height)),
                What::Value(hash) => (Space::Sealed, sealed_key(&hash)),
            };
            (key, (file, part.at, part.length))
        };
        Self {
            base,
            files,
            places: parts.into_iter().map(place).collect(),
            history: Mutex::default(),
        }
    }

    /// Makes up entries of the history for what is archived of `device`; returns how many batches cannot be
    /// opened, because their keys were erased.
    pub fn index(&self, opener: &Opener, device: &str) -> Result<u64, PastError> {
        let mut closed = 0;
        let blocks = self.places.iter().filter(|((s, _), _)| *s == Space::Blocks);
        for (_, place) in blocks {
            let block = self.read(*place)?;
            let block: Block = decode("block", &block).map_err(|e| damaged(&e))?;
            for record in &block.records {
                let Some(batch) = record.body.batch().filter(|b| b.device == device) else {
                    continue;
                };
                let Some(sealed) = batch.sealed else { continue };
                match opener.open_batch(device, &sealed) {
                    Ok(opened) => {
                        let spans = Span::of(&opened.content.batch, record.body.time, sealed);
                        let mut history = self.history.lock();
                        for put in spans.iter().map(|span| span.put(device)) {
                            history.insert(put.key, put.value);
                        }
                    }
                    Err(OpeningError::NoKey { .. } | OpeningError::Missing(_)) => closed += 1,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(closed)
    }

    fn read(&self, (file, at, length): Place) -> Result<Vec<u8>, StoreError> {
        self.files.read(file, at, length)
    }

    fn archived(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let place = self.places.get(&(space, key.to_vec()));
        place.map(|place| self.read(*place)).transpose()
    }

    /// The block that is here, or the whole one from the archive.
    fn whole(&self, key: &[u8], here: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        let block: Block = decode("block", &here).map_err(|e| damaged(&e))?;
        if !is_stripped(&block) {
            return Ok(here);
        }
        let Some(archived) = self.archived(Space::Blocks, key)? else {
            return Ok(here);
        };
        let whole: Block = decode("block", &archived).map_err(|e| damaged(&e))?;
        match whole.header == block.header {
            true => Ok(archived),
            false => Err(StoreError::Damaged(format!(
                "block {} of the archive is not the one of this ledger",
                block.header.height
            ))),
        }
    }
}

fn damaged(error: &weighbridge_verifier::DecodeError) -> StoreError {
    StoreError::Damaged(error.to_string())
}

impl Store for ReadBack {
    fn commit(&self, puts: &[Put]) -> Result<(), StoreError> {
        if puts.iter().any(|put| put.space != Space::History) {
            let why = "it was opened with its archive, to be read only";
            return Err(StoreError::Io(why.to_owned()));
        }
        let entries = puts.iter().map(|put| (put.key.clone(), put.value.clone()));
        self.history.lock().extend(entries);
        Ok(())
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if space == Space::History
            && let Some(value) = self.history.lock().get(key)
        {
            return Ok(Some(value.clone()));
        }
        match (space, self.base.get(space, key)?) {
            (Space::Blocks, Some(here)) => self.whole(key, here).map(Some),
            (Space::Sealed, None) => self.archived(space, key),
            (_, found) => Ok(found),
        }
    }

    fn last(&self, space: Space) -> Result<Option<Pair>, StoreError> {
        self.base.last(space)
    }

    fn scan<'a>(&'a self, space: Space, from: &[u8]) -> Box<dyn Iterator<Item = Entry> + 'a> {
        let base = self.base.scan(space, from);
        match space {
            Space::Blocks => Box::new(base.map(|entry| {
                let (key, here) = entry?;
                let whole = self.whole(&key, here)?;
                Ok((key, whole))
            })),
            Space::History => {
                let added = self.history.lock();
                let added = added.range(from.to_vec()..);
                let added: Vec<Pair> = added.map(|(k, v)| (k.clone(), v.clone())).collect();
                merged(base, added)
            }
            _ => base,
        }
    }

    fn remove(&self, _: Space, _: &[Vec<u8>]) -> Result<(), StoreError> {
        let why = "it was opened with its archive, to be read only";
        Err(StoreError::Io(why.to_owned()))
    }

    fn reclaim(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Both in order; where a key is in both, once.
fn merged<'a>(
    base: Box<dyn Iterator<Item = Entry> + 'a>,
    added: Vec<Pair>,
) -> Box<dyn Iterator<Item = Entry> + 'a> {
    let mut base = base.peekable();
    let mut added = added.into_iter().peekable();
    Box::new(std::iter::from_fn(move || {
        match (base.peek(), added.peek()) {
            (_, None) | (Some(Err(_)), _) => base.next(),
            (Some(Ok((here, _))), Some((key, _))) if here < key => base.next(),
            (Some(Ok((here, _))), Some((key, _))) => {
                if here == key {
                    base.next();
                }
                added.next().map(Ok)
            }
            (None, Some(_)) => added.next().map(Ok),
        }
    }))
}
