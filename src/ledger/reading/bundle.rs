//! The file of sealed batches: JSON, with what is binary in base64.

use super::{MAX_BYTES, ReadingError};
use crate::ledger::key_wrap::KeyWrap;
use crate::model::Nanos;
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use weighbridge_verifier::evidence::Evidence;

/// What the file calls itself.
const FORMAT: &str = "weighbridge-sealed/1";

/// Sealed batches of a device, for one reader.
#[derive(Clone, Debug, PartialEq)]
pub struct SealedBundle {
    /// The device.
    pub device: String,
    /// For whom the keys are wrapped: the reader's id and the beginning of their key's digits.
    pub recipient: String,
    /// From this source time on, up to this one, not included. Batches with samples on both sides are whole.
    pub range: (Nanos, Nanos),
    /// The records of the batches, and the first of the chain.
    pub evidence: Evidence,
    /// The keys that the batches are sealed under, as far as they are wrapped to the reader.
    pub wraps: Vec<KeyWrap>,
    /// The sealed batches, in the order of their records.
    pub sealed: Vec<Vec<u8>>,
    /// The batch after which to go on; `None` when there is no more.
    pub next: Option<(u64, u64)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    format: String,
    device: String,
    recipient: String,
    from_ns: String,
    to_ns: String,
    evidence: String,
    wraps: Vec<String>,
    sealed: Vec<String>,
    next: Option<String>,
}

impl SealedBundle {
    /// Whether bytes call themselves such a file.
    pub fn is_one(bytes: &[u8]) -> bool {
        super::calls_itself(bytes, FORMAT)
    }

    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let form = Form {
            format: FORMAT.to_owned(),
            device: self.device.clone(),
            recipient: self.recipient.clone(),
            from_ns: self.range.0.to_string(),
            to_ns: self.range.1.to_string(),
            evidence: BASE64.encode(&self.evidence.to_bytes()),
            wraps: self
                .wraps
                .iter()
                .map(|w| BASE64.encode(&w.to_bytes()))
                .collect(),
            sealed: self.sealed.iter().map(|s| BASE64.encode(s)).collect(),
            next: self
                .next
                .map(|(epoch, sequence)| format!("{epoch}.{sequence}")),
        };
        super::written(&form)
    }

    /// Reads the file. What it says is not believed before it is [opened](Self::open).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ReadingError> {
        let form: Form = super::read(bytes, FORMAT)?;
        let time = |text: &str| text.parse::<Nanos>().map_err(super::form);
        let bytes = |text: &String| BASE64.decode(text.as_bytes()).map_err(super::form);
        let wraps = form.wraps.iter().map(|wrap| {
            let wrap = KeyWrap::from_bytes(&bytes(wrap)?);
            wrap.map_err(ReadingError::from)
        });
        Ok(Self {
            wraps: wraps.collect::<Result<_, _>>()?,
            sealed: form.sealed.iter().map(bytes).collect::<Result<_, _>>()?,
            evidence: Evidence::from_bytes(&bytes(&form.evidence)?)?,
            range: (time(&form.from_ns)?, time(&form.to_ns)?),
            next: form.next.as_deref().map(batch).transpose()?,
            device: form.device,
            recipient: form.recipient,
        })
    }
}

/// Reads the number of a batch, `EPOCH.SEQUENCE`.
fn batch(text: &str) -> Result<(u64, u64), ReadingError> {
    let parts = text
        .split_once('.')
        .and_then(|(epoch, sequence)| Some((epoch.parse().ok()?, sequence.parse().ok()?)));
    parts.ok_or_else(|| super::form("`next` is no number of a batch"))
}

const _: () = assert!(MAX_BYTES > 4 * super::gather::PAGE_BYTES);
