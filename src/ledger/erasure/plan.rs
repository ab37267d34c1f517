//! What an erasure may take, and how far it reaches.
//!
//! A key is destroyed when all batches under it are wholly before the time; keys live a day at most, by
//! source time too, so up to a midnight (UTC) there is little else. A batch that is wholly before the time
//! under a key that later ones need is removed, and its key stays. A batch with samples on both sides stays:
//! its record answers for all of it.

use super::ErasureError;
use super::notice::{MAX_PIECES, Notice};
use crate::ledger::history::index::{Span, of_device};
use crate::ledger::key_wrap::keys_of;
use crate::ledger::retention::retired::reaches;
use crate::ledger::store::Store;
use crate::model::Nanos;
use std::collections::{BTreeMap, BTreeSet};
use weighbridge_verifier::Suite;

/// What would be erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The notice.
    pub notice: Notice,
    /// Keys that would be destroyed.
    pub keys: u64,
    /// Batches that would be removed though their keys stay.
    pub without_key: u64,
    /// Batches that stay, with samples on both sides of the time.
    pub across: u64,
    /// From this source time on something can still be opened by whoever kept a copy of the ciphertext: at most
    /// the time that was asked for.
    pub reached: Nanos,
}

/// A batch whose source times lie in several intervals.
#[derive(Clone, Copy)]
struct Scattered {
    first: Nanos,
    last: Nanos,
}

type Batch = (u64, u64);

/// What may be erased of `device` up to `until`, in a chain of `suite`. Keys from epoch `current` on are in use.
pub fn plan(
    store: &dyn Store,
    (suite, device): (Suite, &str),
    (until, time): (Nanos, Nanos),
    current: u64,
) -> Result<Plan, ErasureError> {
    // Who overlaps nothing after the time: the newest time under each key.
    let mut newest = retired(store, device)?;
    let mut scattered: BTreeMap<Batch, Scattered> = BTreeMap::new();
    of_device(store, device, |span| {
        let newest = newest.entry(span.sealed.key_epoch).or_insert(span.last);
        *newest = (*newest).max(span.last);
        if span.parts > 1 {
            let whole = scattered.entry(of(&span)).or_insert(Scattered {
                first: span.first,
                last: span.last,
            });
            whole.first = whole.first.min(span.first);
            whole.last = whole.last.max(span.last);
        }
    })?;
    let goes = |epoch: &u64| newest.get(epoch).is_some_and(|last| *last < until);
    let known: BTreeSet<u64> = keys_of(store, device)?
        .into_iter()
        .filter(|key| !key.destroyed && key.epoch < current)
        .map(|key| key.epoch)
        .collect();
    // A key without batches was made before those after it: documents, and starts without a sample.
    let last = known.iter().copied().filter(goes).max();
    let empty = |epoch: &u64| !newest.contains_key(epoch) && last.is_some_and(|last| *epoch < last);
    let taken: BTreeSet<u64> = known
        .into_iter()
        .filter(|epoch| goes(epoch) || empty(epoch))
        .collect();
    let mut plan = Plan {
        notice: Notice::new(suite, device, until, time),
        keys: taken.len() as u64,
        without_key: 0,
        across: 0,
        reached: until,
    };
    plan.notice.keys = pieces(taken.iter().map(|epoch| (0, *epoch)))
        .map(|(_, first, last)| (first, last))
        .collect();
    let mut bodies: Vec<Batch> = Vec::new();
    let mut too_many = false;
    of_device(store, device, |span| {
        // Every batch once.
        if span.part > 0 {
            return;
        }
        let whole = scattered.get(&of(&span)).copied().unwrap_or(Scattered {
            first: span.first,
            last: span.last,
        });
        let removed = taken.contains(&span.sealed.key_epoch);
        if removed || whole.last < until {
            plan.notice.batches += 1;
            plan.notice.bytes = plan.notice.bytes.saturating_add(span.sealed.length);
            if !removed {
                plan.reached = plan.reached.min(whole.first);
                plan.without_key += 1;
                too_many |= bodies.len() > MAX_BODIES;
                if !too_many {
                    bodies.push(of(&span));
                }
            }
            return;
        }
        plan.across += u64::from(whole.first < until);
        plan.reached = plan.reached.min(whole.first);
    })?;
    bodies.sort_unstable();
    plan.notice.bodies = pieces(bodies.into_iter()).collect();
    if too_many || plan.notice.bodies.len() > MAX_PIECES || plan.notice.keys.len() > MAX_PIECES {
        return Err(ErasureError::Pieces(MAX_PIECES));
    }
    Ok(plan)
}

/// What was retired and lies in archives can be opened as long as its keys are there.
fn retired(store: &dyn Store, device: &str) -> Result<BTreeMap<u64, Nanos>, ErasureError> {
    reaches(store, device).map_err(|error| ErasureError::Retired(error.to_string()))
}

/// Batches without their keys that are looked over for pieces, at most: they fit into memory.
const MAX_BODIES: usize = 4_000_000;

fn of(span: &Span) -> Batch {
    (span.epoch, span.sequence)
}

/// Runs of numbers that follow each other: of what, first and last.
fn pieces(numbers: impl Iterator<Item = (u64, u64)>) -> impl Iterator<Item = (u64, u64, u64)> {
    let mut numbers = numbers.peekable();
    std::iter::from_fn(move || {
        let (of, first) = numbers.next()?;
        let mut last = first;
        while let Some((_, next)) =
            numbers.next_if(|(o, n)| *o == of && last.checked_add(1) == Some(*n))
        {
            last = next;
        }
        Some((of, first, last))
    })
}
