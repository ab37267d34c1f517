//! Reading a tag's samples by source time, in pages, forwards and backwards.

use super::PastError;
use super::gone::{Gone, gone};
use super::index::{Span, overlapping};
use crate::crypto::EpochKey;
use crate::ledger::opening::Opener;
use crate::ledger::store::Store;
use crate::model::{Batch, Nanos, Quality, Value};
use crate::validation::Verdict;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use weighbridge_verifier::{DecodeError, decode};

/// Most samples of one page.
pub const MAX_PAGE: usize = 100_000;

/// Batches opened for the first step through time, and at most for a later one: who wants little should
/// not have much opened.
const FIRST_BATCHES: usize = 4;
const MOST_BATCHES: usize = 64;
/// How far the first step goes, ns; it then doubles or halves as needed.
const FIRST_STEP: i128 = 1_000_000_000;
/// Batches whose samples of the tag are kept from one step to the next.
const KEPT: usize = 16;
/// Epoch keys that are kept.
const KEYS: usize = 64;

/// One recorded sample.
#[derive(Clone, Debug, PartialEq)]
pub struct PastSample {
    /// Source time.
    pub time: Nanos,
    /// The value.
    pub value: Value,
    /// Quality, worsened by the verdict of the batch it was in.
    pub quality: Quality,
}

/// Which way to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Oldest first.
    Forward,
    /// Newest first.
    Backward,
}

/// Where a page goes on: at this time, leaving out as many samples of exactly that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The time of the last sample that was given.
    pub time: Nanos,
    /// Samples of that time that were given.
    pub given: usize,
}

impl Cursor {
    /// Where to go on after `given`, which were read from `before` on; `None` when there are none.
    pub fn after(given: &[PastSample], before: Option<Self>) -> Option<Self> {
        let time = given.last()?.time;
        let same = given.iter().rev().take_while(|s| s.time == time).count();
        let earlier = before.filter(|b| b.time == time && same == given.len());
        Some(Self {
            time,
            given: same + earlier.map_or(0, |b| b.given),
        })
    }
}

/// A part of a tag's history.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PastPage {
    /// The samples, in the direction asked for. Samples of one time are in the order in which they were
    /// recorded, or in reverse.
    pub samples: Vec<PastSample>,
    /// Where to go on; `None` when there is no more.
    pub next: Option<Cursor>,
}

/// Where a sample is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundSample {
    /// Its batch.
    pub span: Span,
    /// Its column.
    pub column: usize,
    /// Its place in the column.
    pub index: usize,
    /// Its source time.
    pub time: Nanos,
}

/// Keys that were unwrapped lately, each with its object and epoch.
type RecentKeys = VecDeque<((String, u64), Arc<EpochKey>)>;

/// Opens what was recorded. Cheap to clone.
#[derive(Clone)]
pub struct Archive {
    store: Arc<dyn Store>,
    opener: Opener,
    keys: Arc<Mutex<RecentKeys>>,
}

impl Archive {
    /// What is in `store`, for who holds the key of `opener`.
    pub fn new(store: Arc<dyn Store>, opener: Opener) -> Self {
        Self {
            store,
            opener,
            keys: Arc::default(),
        }
    }

    /// Forgets the keys of `device`.
    pub fn forget_keys(&self, device: &str) {
        self.keys.lock().retain(|((of, _), _)| of != device);
    }

    /// What was taken away of the samples of `device`.
    pub fn gone(&self, device: &str) -> Result<Vec<Gone>, PastError> {
        gone(&*self.store, device)
    }

    pub(super) fn store(&self) -> &dyn Store {
        &*self.store
    }

    pub(super) fn opener(&self) -> &Opener {
        &self.opener
    }

    /// The samples of one tag.
    pub fn tag(&self, device: &str, tag: &str) -> TagArchive {
        TagArchive {
            archive: self.clone(),
            device: device.to_owned(),
            tag: tag.to_owned(),
            kept: Mutex::default(),
        }
    }

    /// A whole batch.
    pub(super) fn batch(&self, device: &str, span: &Span) -> Result<Batch, PastError> {
        let key = self.key(device, span.sealed.key_epoch)?;
        Ok(self.opener.open_content(&key, &span.sealed)?.batch)
    }

    /// Unwrapping a key takes as long as opening a batch, and many batches have the same.
    fn key(&self, device: &str, epoch: u64) -> Result<Arc<EpochKey>, PastError> {
        let mut keys = self.keys.lock();
        let known = keys.iter().find(|((d, e), _)| *e == epoch && d == device);
        if let Some((_, key)) = known {
            return Ok(key.clone());
        }
        let key = Arc::new(self.opener.epoch_key(device, epoch)?);
        if keys.len() == KEYS {
            keys.pop_front();
        }
        keys.push_back(((device.to_owned(), epoch), key.clone()));
        Ok(key)
    }
}

/// The samples of one tag in one batch, in the order of its column.
type OfBatch = Arc<Vec<(usize, PastSample)>>;

/// The samples of one tag. Blocking: never call it from an async thread.
pub struct TagArchive {
    archive: Archive,
    device: String,
    tag: String,
    kept: Mutex<VecDeque<((u64, u64), OfBatch)>>,
}

/// A sample in its place among those of equal times: by batch, then as in its column.
struct Placed {
    time: Nanos,
    span: Span,
    index: usize,
    sample: PastSample,
}

impl TagArchive {
    /// At most `limit` samples (never more than [`MAX_PAGE`]) with source times from `low` (included) to
    /// `high` (not included), from where `after` says on.
    pub fn page(
        &self,
        (mut low, mut high): (Nanos, Nanos),
        direction: Direction,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<PastPage, PastError> {
        let limit = limit.clamp(1, MAX_PAGE);
        let mut skip = 0;
        if let Some(after) = after {
            skip = after.given;
            match direction {
                Direction::Forward => low = low.max(after.time),
                Direction::Backward => high = high.min(after.time.saturating_add(1)),
            }
        }
        let wanted = skip.saturating_add(limit).saturating_add(1);
        let mut samples = self.gather((low, high), direction, wanted)?;
        let more = samples.len() == wanted;
        if more {
            samples.pop();
        }
        let samples = samples.split_off(skip.min(samples.len()));
        let next = Cursor::after(&samples, after).filter(|_| more);
        Ok(PastPage { samples, next })
    }

    /// The newest sample before `high`.
    pub fn newest_before(&self, high: Nanos) -> Result<Option<PastSample>, PastError> {
        let whole = (Nanos::MIN, high);
        Ok(self.gather(whole, Direction::Backward, 1)?.pop())
    }

    /// Where the newest sample before `high` is.
    pub(super) fn find_before(&self, high: Nanos) -> Result<Option<FoundSample>, PastError> {
        let whole = (Nanos::MIN, high);
        let placed = self
            .steps(whole, Direction::Backward, 1)?
            .into_iter()
            .next();
        let Some(placed) = placed else {
            return Ok(None);
        };
        let opened = self.open(&placed.span)?;
        let column = opened.get(placed.index).map(|(column, _)| *column);
        Ok(column.map(|column| FoundSample {
            span: placed.span,
            column,
            index: placed.index,
            time: placed.time,
        }))
    }

    /// The first `wanted` samples of the range, or all if there are fewer.
    fn gather(
        &self,
        range: (Nanos, Nanos),
        direction: Direction,
        wanted: usize,
    ) -> Result<Vec<PastSample>, PastError> {
        let mut placed = self.steps(range, direction, wanted)?;
        placed.truncate(wanted);
        Ok(placed.into_iter().map(|p| p.sample).collect())
    }

    /// Goes through the range in steps that touch a bounded number of batches each, until there are
    /// `wanted` samples.
    fn steps(
        &self,
        (low, high): (Nanos, Nanos),
        direction: Direction,
        wanted: usize,
    ) -> Result<Vec<Placed>, PastError> {
        let (mut low, mut high) = (i128::from(low), i128::from(high));
        let (mut width, mut batches) = (FIRST_STEP, FIRST_BATCHES);
        let mut found = Vec::new();
        while low < high && found.len() < wanted {
            let step = match direction {
                Direction::Forward => (low, high.min(low + width)),
                Direction::Backward => (low.max(high - width), high),
            };
            let times = (nanos(step.0), nanos(step.1));
            // One instant must be taken as a whole, however many batches have it.
            let most = if width > 1 { batches } else { usize::MAX };
            let Some(spans) = overlapping(self.archive.store(), &self.device, times, most)? else {
                width /= 2;
                continue;
            };
            if spans.len() <= batches / 2 {
                width = width.saturating_mul(2).min(1 << 64);
            }
            if !spans.is_empty() {
                batches = batches.saturating_mul(2).min(MOST_BATCHES);
            }
            let mut of_step = self.within(&spans, times)?;
            match direction {
                Direction::Forward => low = step.1,
                Direction::Backward => {
                    high = step.0;
                    of_step.reverse();
                }
            }
            found.append(&mut of_step);
        }
        Ok(found)
    }

    /// The samples of these batches within `low` and `high`, in order.
    fn within(
        &self,
        spans: &[Span],
        (low, high): (Nanos, Nanos),
    ) -> Result<Vec<Placed>, PastError> {
        let mut found = Vec::new();
        let mut batches: Vec<&Span> = spans.iter().collect();
        batches.sort_unstable_by_key(|s| (s.epoch, s.sequence));
        batches.dedup_by_key(|s| (s.epoch, s.sequence));
        for span in batches {
            let opened = self.open(span)?;
            let inside = opened
                .iter()
                .enumerate()
                .filter(|(_, (_, sample))| (low..high).contains(&sample.time));
            found.extend(inside.map(|(index, (_, sample))| Placed {
                time: sample.time,
                span: *span,
                index,
                sample: sample.clone(),
            }));
        }
        found.sort_by_key(|p| (p.time, p.span.epoch, p.span.sequence, p.index));
        Ok(found)
    }

    /// The tag's samples in a batch, with its column.
    fn open(&self, span: &Span) -> Result<OfBatch, PastError> {
        let number = (span.epoch, span.sequence);
        let mut kept = self.kept.lock();
        if let Some((_, samples)) = kept.iter().find(|(n, _)| *n == number) {
            return Ok(samples.clone());
        }
        let key = self.archive.key(&self.device, span.sealed.key_epoch)?;
        let content = self.archive.opener.open_content(&key, &span.sealed)?;
        let samples = samples_of(&content.batch, &content.verdict, &self.tag)
            .map_err(crate::ledger::opening::OpeningError::from)?;
        let samples = Arc::new(samples);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((number, samples.clone()));
        Ok(samples)
    }
}

/// The samples of a tag in a batch, each with its column; their quality is worsened by the batch's verdict, as it
/// was encoded.
pub fn samples_of(
    batch: &Batch,
    verdict: &[u8],
    tag: &str,
) -> Result<Vec<(usize, PastSample)>, DecodeError> {
    let verdict: Verdict = decode("verdict", verdict)?;
    let judged = verdict.qualities(batch.tags.len());
    let column = batch.tags.iter().position(|t| *t.name == *tag);
    let mut samples = Vec::new();
    if let Some(at) = column
        && let Some(column) = batch.columns.get(at)
    {
        let judged = judged.get(at).copied().unwrap_or(Quality::GOOD);
        let times = batch.times(column).iter().enumerate();
        samples.extend(times.filter_map(|(index, time)| {
            let sample = PastSample {
                time: *time,
                value: column.values.get(index)?,
                quality: column.quality.get(index).worse(judged),
            };
            Some((at, sample))
        }));
    }
    Ok(samples)
}

/// As a time; what is beyond all times is the last one.
fn nanos(time: i128) -> Nanos {
    let inside = time.clamp(i128::from(Nanos::MIN), i128::from(Nanos::MAX));
    // It was just made to fit.
    inside as Nanos
}
