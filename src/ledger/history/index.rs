//! The index: which sealed batches have samples in a range of source times.
//!
//! An entry is an interval of source times in a batch. A batch has one, or a few where its times lie far
//! apart: a subscription begins with values that a tag may have had for days. Intervals are kept by
//! their newest time within classes of like length: class *c* holds those no longer than 2^*c* ns. Whoever
//! overlaps a range in class *c* ends less than 2^*c* ns after it, so a search reads about as many
//! entries as it finds, wherever in time it looks, however late or out of order batches came.

use super::PastError;
use crate::ledger::store::{Put, Space, Store};
use crate::model::{Batch, Nanos};
use borsh::{BorshDeserialize, BorshSerialize};
use weighbridge_verifier::{SealedRef, decode, encode, sha256};

/// Version of the format this code writes.
const VERSION: u8 = 1;
/// Intervals up to 2^20 ns, about a millisecond, are one class.
const SHORTEST: u8 = 20;
/// The whole of time.
const LONGEST: u8 = 64;
/// Bytes of the checksum at the end of an entry.
const CHECK: usize = 8;
/// Value of an entry that says nothing, before its checksum.
const VOID: &[u8] = &[0];
/// Times further apart than this, ns, are in intervals of their own.
const GAP: u64 = 60_000_000_000;
/// Most intervals of one batch.
const MOST_PARTS: usize = 8;

/// A sealed batch, by an interval of its source times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Oldest source time of the interval.
    pub first: Nanos,
    /// Newest source time of the interval.
    pub last: Nanos,
    /// Which of the batch's intervals it is, from 0.
    pub part: u8,
    /// How many the batch has.
    pub parts: u8,
    /// Fencing epoch of the batch.
    pub epoch: u64,
    /// Its sequence number.
    pub sequence: u64,
    /// When it was recorded, at the latest.
    pub recorded: Nanos,
    /// The sealed batch.
    pub sealed: SealedRef,
}

#[derive(BorshSerialize, BorshDeserialize)]
struct Entry {
    version: u8,
    first: i64,
    part: u8,
    parts: u8,
    recorded: i64,
    sealed: Sealed,
}

#[derive(BorshSerialize, BorshDeserialize)]
struct Sealed {
    hash: [u8; 32],
    length: u64,
    key_epoch: u64,
}

impl Span {
    /// The intervals of `batch`, recorded at `recorded` as `sealed`.
    pub fn of(batch: &Batch, recorded: Nanos, sealed: SealedRef) -> Vec<Self> {
        let mut intervals = intervals(&batch.timelines);
        if intervals.is_empty() {
            intervals.push((recorded, recorded));
        }
        let parts = intervals.len() as u8;
        let span = |(part, (first, last)): (u8, (Nanos, Nanos))| Self {
            first,
            last,
            part,
            parts,
            epoch: batch.epoch,
            sequence: batch.sequence,
            recorded,
            sealed,
        };
        (0u8..).zip(intervals).map(span).collect()
    }

    /// The entry for it.
    pub fn put(&self, device: &str) -> Put {
        let class = class(self.first, self.last);
        let mut key = from_key(device, class, self.last);
        key.extend(self.epoch.to_be_bytes());
        key.extend(self.sequence.to_be_bytes());
        let entry = Entry {
            version: VERSION,
            first: self.first,
            part: self.part,
            parts: self.parts,
            recorded: self.recorded,
            sealed: Sealed {
                hash: self.sealed.hash.0,
                length: self.sealed.length,
                key_epoch: self.sealed.key_epoch,
            },
        };
        let mut value = encode(&entry);
        value.extend(checksum(&key, &value));
        Put {
            space: Space::History,
            key,
            value,
        }
    }
}

/// The intervals in which there are times, in order.
fn intervals(timelines: &[Vec<Nanos>]) -> Vec<(Nanos, Nanos)> {
    let apart = |a: Nanos, b: Nanos| a.abs_diff(b) > GAP;
    let mut found: Vec<(Nanos, Nanos)> = Vec::new();
    for times in timelines {
        for run in times.chunk_by(|a, b| !apart(*a, *b)) {
            let ends = (run.iter().min(), run.iter().max());
            if let (Some(first), Some(last)) = ends {
                found.push((*first, *last));
            }
        }
    }
    found.sort_unstable();
    let mut merged: Vec<(Nanos, Nanos)> = Vec::new();
    for (first, last) in found {
        match merged.last_mut() {
            Some(before) if first <= before.1 || !apart(before.1, first) => {
                before.1 = before.1.max(last);
            }
            _ => merged.push((first, last)),
        }
    }
    while merged.len() > MOST_PARTS {
        let gap = |pair: &[(Nanos, Nanos)]| match pair {
            [a, b] => a.1.abs_diff(b.0),
            _ => u64::MAX,
        };
        let closest = merged
            .windows(2)
            .map(gap)
            .enumerate()
            .min_by_key(|(_, gap)| *gap);
        let Some((at, _)) = closest else { break };
        let (_, last) = merged.remove(at + 1);
        if let Some(before) = merged.get_mut(at) {
            before.1 = last;
        }
    }
    merged
}

/// The class of an interval.
fn class(first: Nanos, last: Nanos) -> u8 {
    // Its end is not before its beginning, so this is its length even where that is no i64.
    let length = last.wrapping_sub(first) as u64;
    let bits = u64::BITS - length.leading_zeros();
    u8::try_from(bits).unwrap_or(LONGEST).max(SHORTEST)
}

/// Bytes that are in the order of times.
fn ordered(time: Nanos) -> [u8; 8] {
    ((time as u64) ^ (1 << 63)).to_be_bytes()
}

fn time_of(ordered: [u8; 8]) -> Nanos {
    (u64::from_be_bytes(ordered) ^ (1 << 63)) as Nanos
}

/// The device's length (u32, big-endian) and id.
fn device_prefix(device: &str) -> Vec<u8> {
    let mut key = (device.len() as u32).to_be_bytes().to_vec();
    key.extend(device.as_bytes());
    key
}

/// Device, class, newest time.
fn from_key(device: &str, class: u8, last: Nanos) -> Vec<u8> {
    let mut key = device_prefix(device);
    key.push(class);
    key.extend(ordered(last));
    key
}

fn checksum(key: &[u8], value: &[u8]) -> [u8; CHECK] {
    let hash = sha256(&[b"weighbridge/history/v1\0", key, value]);
    let mut check = [0; CHECK];
    check.copy_from_slice(&hash.0[..CHECK]);
    check
}

/// Reads an entry: its device, class and interval; `None` when it is not one that was written here.
pub fn read(key: &[u8], value: &[u8]) -> Option<(String, u8, Span)> {
    let (length, rest) = key.split_first_chunk::<4>()?;
    let (device, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    let (class, rest) = rest.split_first()?;
    let (last, rest) = rest.split_first_chunk()?;
    let (epoch, rest) = rest.split_first_chunk()?;
    let sequence = u64::from_be_bytes(rest.try_into().ok()?);
    let (value, check) = value.split_at_checked(value.len().checked_sub(CHECK)?)?;
    if checksum(key, value) != check {
        return None;
    }
    let entry: Entry = decode("entry of the history", value).ok()?;
    let span = Span {
        first: entry.first,
        last: time_of(*last),
        part: entry.part,
        parts: entry.parts,
        epoch: u64::from_be_bytes(*epoch),
        sequence,
        recorded: entry.recorded,
        sealed: SealedRef {
            hash: weighbridge_verifier::Hash(entry.sealed.hash),
            length: entry.sealed.length,
            key_epoch: entry.sealed.key_epoch,
        },
    };
    (entry.version == VERSION).then_some(())?;
    let device = String::from_utf8(device.to_vec()).ok()?;
    Some((device, *class, span))
}

/// The intervals of batches of `device` that overlap the times from `low` (included) to `high`
/// (not included); `None` when there are more than `most`.
pub fn overlapping(
    store: &dyn Store,
    device: &str,
    (low, high): (Nanos, Nanos),
    most: usize,
) -> Result<Option<Vec<Span>>, PastError> {
    let prefix = device_prefix(device);
    let mut found = Vec::new();
    let mut class = SHORTEST;
    'classes: while class <= LONGEST {
        // Whoever ends later began after the range.
        let end = i128::from(high) + (1i128 << class);
        for entry in store.scan(Space::History, &from_key(device, class, low)) {
            let (key, value) = entry?;
            if !key.starts_with(&prefix) {
                break 'classes;
            }
            if is_void(&key, &value) {
                continue;
            }
            let damaged = || PastError::Index(hex(&key));
            let (_, of, span) = read(&key, &value).ok_or_else(damaged)?;
            if of > class {
                // Nothing more of this class; the next one that there is.
                class = of;
                continue 'classes;
            }
            if i128::from(span.last) >= end {
                class += 1;
                continue 'classes;
            }
            if span.first < high {
                if found.len() == most {
                    return Ok(None);
                }
                found.push(span);
            }
        }
        break;
    }
    Ok(Some(found))
}

/// What the keys of a device's entries begin with.
pub fn from_device(device: &str) -> Vec<u8> {
    device_prefix(device)
}

/// Reads an entry that was found from [`from_device`] on: its interval, or nothing where it was damaged once;
/// `None` when it is another device's.
pub fn span_of_device(
    device: &str,
    key: &[u8],
    value: &[u8],
) -> Result<Option<Option<Span>>, PastError> {
    if !key.starts_with(&device_prefix(device)) {
        return Ok(None);
    }
    if is_void(key, value) {
        return Ok(Some(None));
    }
    let (_, _, span) = read(key, value).ok_or_else(|| PastError::Index(hex(key)))?;
    Ok(Some(Some(span)))
}

/// Shows all intervals of a device's batches to `see`.
pub fn of_device(
    store: &dyn Store,
    device: &str,
    mut see: impl FnMut(Span),
) -> Result<(), PastError> {
    for entry in store.scan(Space::History, &from_device(device)) {
        let (key, value) = entry?;
        match span_of_device(device, &key, &value)? {
            Some(Some(span)) => see(span),
            Some(None) => {}
            None => break,
        }
    }
    Ok(())
}

/// The whole index, looked over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Batches that have entries.
    pub batches: u64,
    /// Keys of entries that are not what was written.
    pub damaged: Vec<Vec<u8>>,
}

/// Looks the index over.
pub fn survey(store: &dyn Store) -> Result<Survey, PastError> {
    let mut survey = Survey::default();
    for entry in store.scan(Space::History, &[]) {
        let (key, value) = entry?;
        match read(&key, &value) {
            Some((_, _, span)) => survey.batches += u64::from(span.part == 0),
            None if is_void(&key, &value) => {}
            None => survey.damaged.push(key),
        }
    }
    Ok(survey)
}

/// What takes the place of a damaged entry: keys are only ever written.
pub(super) fn void(key: Vec<u8>) -> Put {
    let mut value = VOID.to_vec();
    value.extend(checksum(&key, VOID));
    Put {
        space: Space::History,
        key,
        value,
    }
}

/// Whether this entry was damaged once, and says nothing.
pub fn is_void(key: &[u8], value: &[u8]) -> bool {
    value.strip_prefix(VOID) == Some(&checksum(key, VOID))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
