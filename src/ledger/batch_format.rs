//! The plaintext of a sealed batch: the samples, the charts' state before them, and the verdict.
//!
//! Numbers of one type are packed as one stream by `pco`, whatever column they stand in, because a
//! stream has a fixed cost. Every bit of a number survives, NaN payloads and the sign of zero too.
//! Reading checks every declared length against what can be there, so bytes from outside cost at most
//! memory in the order of [`MAX_SAMPLES`] numbers.

use super::number_stream::{pack_bits, pack_numbers, unpack_bits, unpack_numbers};
use crate::crypto::SaltSeed;
use crate::model::{Batch, Column, Nanos, Quality, QualityColumn, TagSpec, ValueKind, Values};
use borsh::{BorshDeserialize, BorshSerialize};
use weighbridge_verifier::{DecodeError, decode, encode};

/// Version of the format this code writes.
pub const BATCH_VERSION: u8 = 1;

/// Version of a batch whose salts somebody else drew: this byte, the salts' secret (32 bytes), and the
/// batch as [`BATCH_VERSION`] has it.
pub const SALTED_VERSION: u8 = 2;

/// The most samples in one batch.
pub const MAX_SAMPLES: usize = 1 << 22;

/// Why a batch cannot be packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// It holds more than [`MAX_SAMPLES`] samples or as many times.
    #[error("the batch holds more than {MAX_SAMPLES} samples")]
    TooLarge,
    /// Tags, columns, timelines and qualities do not fit each other.
    #[error("column {column} of the batch is malformed: {why}")]
    Column {
        /// Which column, from 0.
        column: usize,
        /// What does not fit.
        why: &'static str,
    },
}

/// What a sealed batch held.
#[derive(Clone, Debug, PartialEq)]
pub struct UnpackedBatch {
    /// The samples.
    pub batch: Batch,
    /// The charts' state before the batch, as the validator encoded it.
    pub state_before: Vec<u8>,
    /// The verdict with its findings, as the validator encoded it.
    pub verdict: Vec<u8>,
    /// Where the salts of its leaves come from, when that is not the key it was sealed under.
    pub salts: Option<SaltSeed>,
}

#[derive(BorshSerialize, BorshDeserialize)]
struct Packed {
    version: u8,
    device: String,
    epoch: u64,
    sequence: u64,
    tags: Vec<PackedTag>,
    /// Lengths of the timelines.
    timelines: Vec<u32>,
    columns: Vec<PackedColumn>,
    state_before: Vec<u8>,
    verdict: Vec<u8>,
    /// All timelines, one after the other.
    times: Vec<u8>,
    /// All columns of each type, one after the other.
    bools: Vec<u8>,
    i64s: Vec<u8>,
    u64s: Vec<u8>,
    f64s: Vec<u8>,
    texts: Vec<String>,
    bytes: Vec<Vec<u8>>,
}

#[derive(BorshSerialize, BorshDeserialize)]
struct PackedTag {
    name: String,
    kind: u8,
    unit: String,
    description: String,
    /// Bits of the range's ends.
    range: Option<(u64, u64)>,
}

#[derive(BorshSerialize, BorshDeserialize)]
struct PackedColumn {
    timeline: u32,
    /// Runs of equal qualities that are not plainly Good: first index, length, status code.
    qualities: Vec<(u32, u32, u32)>,
}

/// The plaintext of a batch.
pub fn pack(batch: &Batch, state_before: &[u8], verdict: &[u8]) -> Result<Vec<u8>, PackError> {
    check(batch)?;
    let times: Vec<Nanos> = batch.timelines.concat();
    let mut columns = Streams::default();
    for column in &batch.columns {
        columns.push(&column.values);
    }
    let packed = Packed {
        version: BATCH_VERSION,
        device: batch.device.to_string(),
        epoch: batch.epoch,
        sequence: batch.sequence,
        tags: batch.tags.iter().map(pack_tag).collect(),
        timelines: batch.timelines.iter().map(|t| t.len() as u32).collect(),
        columns: batch.columns.iter().map(pack_column).collect(),
        state_before: state_before.to_vec(),
        verdict: verdict.to_vec(),
        times: pack_numbers(&times),
        bools: pack_bits(&columns.bools),
        i64s: pack_numbers(&columns.i64s),
        u64s: pack_numbers(&columns.u64s),
        f64s: pack_numbers(&columns.f64s),
        texts: columns.texts,
        bytes: columns.bytes,
    };
    Ok(encode(&packed))
}

/// The plaintext of a batch whose salts come from `salts`.
pub fn pack_salted(
    batch: &Batch,
    state_before: &[u8],
    verdict: &[u8],
    salts: &SaltSeed,
) -> Result<Vec<u8>, PackError> {
    let mut bytes = vec![SALTED_VERSION];
    bytes.extend(salts.as_bytes());
    bytes.extend(pack(batch, state_before, verdict)?);
    Ok(bytes)
}

/// Reads the plaintext of a batch.
pub fn unpack(bytes: &[u8]) -> Result<UnpackedBatch, DecodeError> {
    let Some((&SALTED_VERSION, rest)) = bytes.split_first() else {
        return unpack_plain(bytes);
    };
    let Some((seed, rest)) = rest.split_first_chunk() else {
        return wrong("the secret of its salts is cut short".to_owned());
    };
    let mut unpacked = unpack_plain(rest)?;
    unpacked.salts = Some(SaltSeed::from_bytes(*seed));
    Ok(unpacked)
}

fn unpack_plain(bytes: &[u8]) -> Result<UnpackedBatch, DecodeError> {
    // The version stands first, so that a later one is named instead of called rubbish.
    match bytes.first() {
        Some(&BATCH_VERSION) => {}
        Some(other) => return wrong(format!("the format version {other} is not known here")),
        None => return wrong("there are no bytes".to_owned()),
    }
    let packed: Packed = decode("batch", bytes)?;
    if packed.tags.len() != packed.columns.len() {
        return wrong("it has not one column a tag".to_owned());
    }
    let timelines = unpack_timelines(&packed)?;
    let tags: Vec<TagSpec> = packed
        .tags
        .into_iter()
        .map(unpack_tag)
        .collect::<Result<_, _>>()?;
    let mut lengths = Vec::with_capacity(tags.len());
    for column in &packed.columns {
        let at = usize::try_from(column.timeline).ok();
        let Some(timeline) = at.and_then(|at| timelines.get(at)) else {
            return wrong(format!("there is no timeline {}", column.timeline));
        };
        lengths.push(timeline.len());
    }
    let total = |kind: Option<ValueKind>| -> usize {
        let of_kind = |t: &TagSpec| kind.is_none_or(|k| k == t.kind);
        let pairs = tags.iter().zip(&lengths);
        pairs.filter(|(t, _)| of_kind(t)).map(|(_, n)| n).sum()
    };
    if total(None) > MAX_SAMPLES {
        return wrong(format!("it holds more than {MAX_SAMPLES} samples"));
    }
    let mut streams = Streams {
        bools: unpack_bits(&packed.bools, total(Some(ValueKind::Bool)))?,
        i64s: unpack_numbers(&packed.i64s, total(Some(ValueKind::I64)))?,
        u64s: unpack_numbers(&packed.u64s, total(Some(ValueKind::U64)))?,
        f64s: unpack_numbers(&packed.f64s, total(Some(ValueKind::F64)))?,
        texts: packed.texts,
        bytes: packed.bytes,
    };
    if streams.texts.len() != total(Some(ValueKind::Text))
        || streams.bytes.len() != total(Some(ValueKind::Bytes))
    {
        return wrong("it has other texts or bytes than its timelines ask for".to_owned());
    }
    let mut columns = Vec::with_capacity(tags.len());
    // From the last column on, because values are taken from the streams' ends.
    let heads = packed.columns.iter().zip(&tags).zip(&lengths);
    for ((head, tag), length) in heads.rev() {
        columns.push(Column {
            timeline: head.timeline as usize,
            values: streams.take_last(tag.kind, *length),
            quality: unpack_qualities(&head.qualities, *length)?,
        });
    }
    columns.reverse();
    Ok(UnpackedBatch {
        batch: Batch {
            device: packed.device.into(),
            epoch: packed.epoch,
            sequence: packed.sequence,
            tags: tags.into(),
            timelines,
            columns,
        },
        state_before: packed.state_before,
        verdict: packed.verdict,
        salts: None,
    })
}

/// The values of all columns, by type.
#[derive(Default)]
struct Streams {
    bools: Vec<bool>,
    i64s: Vec<i64>,
    u64s: Vec<u64>,
    f64s: Vec<f64>,
    texts: Vec<String>,
    bytes: Vec<Vec<u8>>,
}

impl Streams {
    fn push(&mut self, values: &Values) {
        match values {
            Values::Bool(v) => self.bools.extend_from_slice(v),
            Values::I64(v) => self.i64s.extend_from_slice(v),
            Values::U64(v) => self.u64s.extend_from_slice(v),
            Values::F64(v) => self.f64s.extend_from_slice(v),
            Values::Text(v) => self.texts.extend_from_slice(v),
            Values::Bytes(v) => self.bytes.extend_from_slice(v),
        }
    }

    fn take_last(&mut self, kind: ValueKind, length: usize) -> Values {
        fn last<T>(from: &mut Vec<T>, length: usize) -> Vec<T> {
            from.split_off(from.len().saturating_sub(length))
        }
        match kind {
            ValueKind::Bool => Values::Bool(last(&mut self.bools, length)),
            ValueKind::I64 => Values::I64(last(&mut self.i64s, length)),
            ValueKind::U64 => Values::U64(last(&mut self.u64s, length)),
            ValueKind::F64 => Values::F64(last(&mut self.f64s, length)),
            ValueKind::Text => Values::Text(last(&mut self.texts, length)),
            ValueKind::Bytes => Values::Bytes(last(&mut self.bytes, length)),
        }
    }
}

/// Whether a batch can be packed so that it is read back as it is.
fn check(batch: &Batch) -> Result<(), PackError> {
    let times: usize = batch.timelines.iter().map(Vec::len).sum();
    if batch.samples() > MAX_SAMPLES || times > MAX_SAMPLES {
        return Err(PackError::TooLarge);
    }
    let columns = batch.columns.len();
    if columns != batch.tags.len() {
        let why = "there is not one column a tag";
        return Err(PackError::Column {
            column: columns,
            why,
        });
    }
    for (at, (column, tag)) in batch.columns.iter().zip(&*batch.tags).enumerate() {
        check_column(batch, column, tag).map_err(|why| PackError::Column { column: at, why })?;
    }
    Ok(())
}

fn check_column(batch: &Batch, column: &Column, tag: &TagSpec) -> Result<(), &'static str> {
    let timeline = batch.timelines.get(column.timeline);
    let timeline = timeline.ok_or("it has no timeline")?;
    if timeline.len() != column.values.len() {
        return Err("it has not one value a time");
    }
    if column.values.kind() != tag.kind {
        return Err("its values are of another type than its tag");
    }
    let exceptions = &column.quality.exceptions;
    let ascending = exceptions.windows(2).all(|w| w[0].0 < w[1].0);
    let last = exceptions.last().map_or(0, |e| e.0 as usize + 1);
    if !ascending || last > timeline.len() {
        return Err("its qualities are out of order or beyond its end");
    }
    Ok(())
}

fn unpack_timelines(packed: &Packed) -> Result<Vec<Vec<Nanos>>, DecodeError> {
    let total: u64 = packed.timelines.iter().map(|n| u64::from(*n)).sum();
    let total = usize::try_from(total).unwrap_or(usize::MAX);
    if total > MAX_SAMPLES {
        return wrong(format!("it holds more than {MAX_SAMPLES} times"));
    }
    let mut times = unpack_numbers(&packed.times, total)?;
    let lengths = packed.timelines.iter().rev();
    let cut = lengths.map(|n| times.split_off(times.len().saturating_sub(*n as usize)));
    let mut timelines: Vec<Vec<Nanos>> = cut.collect();
    timelines.reverse();
    Ok(timelines)
}

const KINDS: [ValueKind; 6] = [
    ValueKind::Bool,
    ValueKind::I64,
    ValueKind::U64,
    ValueKind::F64,
    ValueKind::Text,
    ValueKind::Bytes,
];

fn pack_tag(tag: &TagSpec) -> PackedTag {
    PackedTag {
        name: tag.name.to_string(),
        // Every kind is among them.
        kind: KINDS.iter().position(|k| *k == tag.kind).unwrap_or(0) as u8,
        unit: tag.unit.clone(),
        description: tag.description.clone(),
        range: tag.range.map(|(low, high)| (low.to_bits(), high.to_bits())),
    }
}

fn unpack_tag(tag: PackedTag) -> Result<TagSpec, DecodeError> {
    let Some(kind) = KINDS.get(usize::from(tag.kind)) else {
        return wrong(format!("unknown value type {}", tag.kind));
    };
    Ok(TagSpec {
        name: tag.name.into(),
        kind: *kind,
        unit: tag.unit,
        description: tag.description,
        range: tag
            .range
            .map(|(low, high)| (f64::from_bits(low), f64::from_bits(high))),
        writable: false,
    })
}

fn pack_column(column: &Column) -> PackedColumn {
    let mut qualities: Vec<(u32, u32, u32)> = Vec::new();
    for (index, quality) in &column.quality.exceptions {
        match qualities.last_mut() {
            Some((first, length, code)) if *first + *length == *index && *code == quality.0 => {
                *length += 1;
            }
            _ => qualities.push((*index, 1, quality.0)),
        }
    }
    PackedColumn {
        timeline: column.timeline as u32,
        qualities,
    }
}

fn unpack_qualities(runs: &[(u32, u32, u32)], values: usize) -> Result<QualityColumn, DecodeError> {
    let mut exceptions = Vec::new();
    let mut end = 0;
    for (first, length, code) in runs {
        let last = first.checked_add(*length).filter(|l| *l as usize <= values);
        let (Some(last), true) = (last, *first >= end) else {
            return wrong("its qualities are out of order or beyond its end".to_owned());
        };
        end = last;
        exceptions.extend((*first..last).map(|index| (index, Quality(*code))));
    }
    Ok(QualityColumn { exceptions })
}

fn wrong<T>(reason: String) -> Result<T, DecodeError> {
    Err(DecodeError {
        what: "batch",
        reason,
    })
}

#[cfg(test)]
mod tests;
