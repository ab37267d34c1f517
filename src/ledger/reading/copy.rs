//! The copy of some samples that a hub makes for a user: plain JSON, so that any program reads it.

use super::ReadingError;
use crate::ledger::history::PastError;
use crate::ledger::history::index::overlapping;
use crate::ledger::history::reader::{PastSample, samples_of};
use crate::ledger::opening::{Opener, OpeningError};
use crate::ledger::store::Store;
use crate::model::{Nanos, Value};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

/// Samples of one copy at most.
pub const MAX_SAMPLES: usize = 100_000;
/// Batches of one copy at most.
const MAX_BATCHES: usize = 10_000;
/// Integers beyond this are no exact numbers in JSON, and are written as text.
const EXACT: u64 = 1 << 53;

/// Samples of a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copied {
    /// The device.
    pub device: String,
    /// From this source time on, ns since 1970.
    pub from_ns: String,
    /// Up to this source time, not included.
    pub to_ns: String,
    /// Its tags.
    pub tags: Vec<CopiedTag>,
}

/// Samples of a tag.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopiedTag {
    /// Its name.
    pub tag: String,
    /// Its unit.
    pub unit: String,
    /// The samples, in the order of their times.
    pub samples: Vec<CopiedSample>,
}

/// A sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopiedSample {
    /// Source time, ns since 1970.
    pub time_ns: String,
    /// The value; what is no number of JSON is text.
    pub value: Json,
    /// `Good`, `Uncertain` or `Bad`.
    pub quality: String,
    /// The OPC UA status code.
    pub status_code: u32,
}

impl From<&PastSample> for CopiedSample {
    fn from(sample: &PastSample) -> Self {
        Self {
            time_ns: sample.time.to_string(),
            value: value(&sample.value),
            quality: sample.quality.severity().to_owned(),
            status_code: sample.quality.0,
        }
    }
}

fn value(value: &Value) -> Json {
    match value {
        Value::Bool(b) => json!(b),
        Value::I64(i) if i.unsigned_abs() <= EXACT => json!(i),
        Value::U64(u) if *u <= EXACT => json!(u),
        Value::F64(f) if f.is_finite() => json!(f),
        Value::Text(text) => json!(text),
        other => json!(other.to_string()),
    }
}

impl Copied {
    /// How many samples there are.
    pub fn samples(&self) -> usize {
        self.tags.iter().map(|tag| tag.samples.len()).sum()
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        super::written(self)
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, ReadingError> {
        serde_json::from_slice(bytes).map_err(super::form)
    }
}

/// Copies the samples of `tags` of a device (of all tags that `sees` shows where none is named) with source times
/// in `range`.
pub fn copy(
    (store, opener): (&dyn Store, &Opener),
    (device, tags): (&str, &[String]),
    range: (Nanos, Nanos),
    sees: impl Fn(&str) -> bool,
) -> Result<Copied, PastError> {
    let too_much = |what: String| PastError::TooMuch(format!("there are over {what} in that time"));
    let spans = overlapping(store, device, range, MAX_BATCHES)?;
    let mut spans = spans.ok_or_else(|| too_much(format!("{MAX_BATCHES} batches")))?;
    spans.sort_unstable_by_key(|s| (s.epoch, s.sequence));
    spans.dedup_by_key(|s| (s.epoch, s.sequence));
    let mut found: BTreeMap<String, (String, Vec<PastSample>)> = BTreeMap::new();
    let mut count = 0;
    for span in spans {
        let opened = opener.open_batch(device, &span.sealed)?.content;
        for tag in opened.batch.tags.iter() {
            let name: &str = &tag.name;
            let wanted = tags.is_empty() || tags.iter().any(|wanted| wanted == name);
            if !wanted || !sees(name) {
                continue;
            }
            let samples = samples_of(&opened.batch, &opened.verdict, name);
            let samples = samples.map_err(OpeningError::from)?;
            let inside = samples.into_iter().map(|(_, sample)| sample);
            let inside = inside.filter(|s| (range.0..range.1).contains(&s.time));
            let entry = found.entry(name.to_owned());
            let (_, of_tag) = entry.or_insert_with(|| (tag.unit.clone(), Vec::new()));
            let before = of_tag.len();
            of_tag.extend(inside);
            count += of_tag.len() - before;
            if count > MAX_SAMPLES {
                return Err(too_much(format!("{MAX_SAMPLES} samples")));
            }
        }
    }
    let tags = found.into_iter().map(|(tag, (unit, mut samples))| {
        samples.sort_by_key(|sample| sample.time);
        CopiedTag {
            tag,
            unit,
            samples: samples.iter().map(CopiedSample::from).collect(),
        }
    });
    Ok(Copied {
        device: device.to_owned(),
        from_ns: range.0.to_string(),
        to_ns: range.1.to_string(),
        tags: tags.collect(),
    })
}
