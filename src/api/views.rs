//! The shapes of the answers. Field names are part of the API.
//!
//! Times are RFC 3339 in UTC; where the exact instant matters a `…_ns` text beside it has the
//! nanoseconds since 1970. Hashes and bytes are lower-case hexadecimal.

use super::ports::RecordAt;
use crate::ledger::block::Block;
use crate::ledger::record::{BatchContent, Content, Record, Response};
use crate::live_view::{Link, LiveSample};
use crate::model::{Nanos, Quality, TagSpec, Value, VerdictClass, rfc3339};
use crate::protocols::ports::{Gone, PastSample, Why};
use crate::stats::Refusal;
use crate::validation::{ChartPoint, TagChart};
use serde::Serialize;
use serde_json::{Value as Json, json};
use weighbridge_verifier::{Action, Hash};

/// Integers beyond this do not survive a reader that keeps numbers as f64, as JavaScript does.
const EXACT: u64 = 1 << 53;

/// A value as JSON. What a JSON number cannot hold exactly becomes a text: "NaN", "Infinity",
/// "-Infinity", and integers beyond ±2⁵³. Bytes become hexadecimal.
pub(crate) fn value(value: &Value) -> Json {
    match value {
        Value::Bool(b) => json!(b),
        Value::I64(i) if i.unsigned_abs() > EXACT => json!(i.to_string()),
        Value::I64(i) => json!(i),
        Value::U64(u) if *u > EXACT => json!(u.to_string()),
        Value::U64(u) => json!(u),
        Value::F64(f) => number(*f),
        Value::Text(t) => json!(t),
        Value::Bytes(_) => json!(value.to_string()),
    }
}

/// A float as JSON, also if it is none of the numbers JSON knows.
pub(super) fn number(number: f64) -> Json {
    if number.is_finite() {
        json!(number)
    } else if number.is_nan() {
        json!("NaN")
    } else if number > 0.0 {
        json!("Infinity")
    } else {
        json!("-Infinity")
    }
}

/// The OPC UA name of a status code, for those that occur here; else its severity.
fn status_name(quality: Quality) -> &'static str {
    match quality {
        Quality::BAD_NO_COMMUNICATION => "BadNoCommunication",
        Quality::BAD_OUT_OF_RANGE => "BadOutOfRange",
        Quality::BAD_NO_DATA => "BadNoData",
        Quality::UNCERTAIN_ENGINEERING_UNITS_EXCEEDED => "UncertainEngineeringUnitsExceeded",
        other => other.severity(),
    }
}

/// A sample, live or recorded.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct SampleView {
    pub(super) value: Json,
    pub(super) time: String,
    pub(super) time_ns: String,
    /// "Good", "Uncertain" or "Bad".
    pub(super) quality: &'static str,
    /// The OPC UA name of the status code where it is a known one.
    pub(super) status: &'static str,
    /// The OPC UA status code.
    pub(super) status_code: u32,
}

impl SampleView {
    fn new(worth: &Value, time: Nanos, quality: Quality) -> Self {
        Self {
            value: value(worth),
            time: rfc3339(time),
            time_ns: time.to_string(),
            quality: quality.severity(),
            status: status_name(quality),
            status_code: quality.0,
        }
    }
}

impl From<&LiveSample> for SampleView {
    fn from(sample: &LiveSample) -> Self {
        Self::new(&sample.value, sample.time, sample.quality)
    }
}

impl From<&PastSample> for SampleView {
    fn from(sample: &PastSample) -> Self {
        Self::new(&sample.value, sample.time, sample.quality)
    }
}

/// What was taken away of a device's samples.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct GoneView {
    /// "retired" or "erased".
    pub(crate) why: &'static str,
    /// Samples from before this source time may be gone; those from it on are not.
    pub(crate) before: String,
    pub(crate) before_ns: String,
    /// When that was decided.
    pub(crate) recorded: String,
    /// Hash of the notice of it, which a record names.
    pub(crate) notice: String,
    /// Where it was archived.
    pub(crate) archive: Option<String>,
    /// The same in plain words.
    pub(crate) detail: String,
}

impl GoneView {
    pub(crate) fn new(device: &str, gone: &Gone) -> Self {
        let (why, archive) = match &gone.why {
            Why::Retired { archive } => ("retired", archive.clone()),
            Why::Erased => ("erased", None),
        };
        Self {
            why,
            before: rfc3339(gone.before),
            before_ns: gone.before.to_string(),
            recorded: rfc3339(gone.recorded),
            notice: gone.notice.to_string(),
            archive,
            detail: gone.words(device),
        }
    }
}

/// A tag with its newest sample.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct TagView {
    pub(super) device: String,
    pub(super) tag: String,
    pub(super) kind: crate::model::ValueKind,
    pub(super) unit: String,
    pub(super) description: String,
    pub(super) range: Option<[Json; 2]>,
    /// Whether users with the right to do so may write it.
    pub(super) writable: bool,
    pub(super) sample: Option<SampleView>,
}

impl TagView {
    pub(super) fn new(device: &str, tag: &TagSpec, sample: Option<&LiveSample>) -> Self {
        Self {
            device: device.to_owned(),
            tag: tag.name.to_string(),
            kind: tag.kind,
            unit: tag.unit.clone(),
            description: tag.description.clone(),
            range: tag.range.map(|(low, high)| [number(low), number(high)]),
            writable: tag.writable,
            sample: sample.map(SampleView::from),
        }
    }
}

/// How a device's connection is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct LinkView {
    /// "starting", "up" or "down".
    pub(super) state: &'static str,
    /// Why it is down, in plain words.
    pub(super) reason: Option<String>,
    /// The exact error.
    pub(super) error: Option<String>,
    /// When a value was last read before it went down.
    pub(super) last_success: Option<String>,
    /// When the next attempt is due.
    pub(super) retry_at: Option<String>,
}

impl From<&Link> for LinkView {
    fn from(link: &Link) -> Self {
        let (state, trouble) = match link {
            Link::Starting => ("starting", None),
            Link::Up => ("up", None),
            Link::Down(trouble) => ("down", Some(trouble)),
        };
        Self {
            state,
            reason: trouble.map(|t| t.plain.clone()),
            error: trouble.map(|t| t.exact.clone()),
            last_success: trouble.and_then(|t| t.last_success).map(rfc3339),
            retry_at: trouble.map(|t| rfc3339(t.retry_at)),
        }
    }
}

/// What validation said of the newest batch of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct VerdictView {
    pub(super) class: &'static str,
    pub(super) time: String,
    pub(super) reason: String,
}

impl From<&(VerdictClass, Nanos, String)> for VerdictView {
    fn from((class, time, reason): &(VerdictClass, Nanos, String)) -> Self {
        Self {
            class: class.name(),
            time: rfc3339(*time),
            reason: reason.clone(),
        }
    }
}

/// A refused batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct RefusalView {
    pub(super) time: String,
    pub(super) time_ns: String,
    pub(super) device: String,
    pub(super) sequence: u64,
    pub(super) reason: String,
}

impl From<&Refusal> for RefusalView {
    fn from(refusal: &Refusal) -> Self {
        Self {
            time: rfc3339(refusal.time),
            time_ns: refusal.time.to_string(),
            device: refusal.device.to_string(),
            sequence: refusal.sequence,
            reason: refusal.reason.clone(),
        }
    }
}

/// A block's header.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct BlockView {
    pub(super) height: u64,
    pub(super) hash: Hash,
    pub(super) previous_hash: Hash,
    pub(super) chain: String,
    pub(super) time: String,
    pub(super) time_ns: String,
    pub(super) record_count: u32,
    pub(super) merkle_root: Hash,
    pub(super) state_hash: Hash,
    pub(super) validators_hash: Hash,
    pub(super) proposer: String,
    /// Ids of the hubs that signed.
    pub(super) signed_by: Vec<String>,
}

impl From<&Block> for BlockView {
    fn from(block: &Block) -> Self {
        let header = &block.header;
        let signatures = block.certificate.signatures();
        Self {
            height: header.height,
            hash: header.hash(),
            previous_hash: header.previous_hash,
            chain: header.chain.clone(),
            time: rfc3339(header.time),
            time_ns: header.time.to_string(),
            record_count: header.record_count,
            merkle_root: header.merkle_root,
            state_hash: header.state_hash,
            validators_hash: header.validators_hash,
            proposer: header.proposer.clone(),
            signed_by: signatures.iter().map(|s| s.validator.clone()).collect(),
        }
    }
}

/// A record, and where it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct RecordView {
    pub(super) height: u64,
    pub(super) position: u32,
    pub(super) hash: Hash,
    pub(super) chain: String,
    pub(super) hub: String,
    /// Number in the hub's own chain of records.
    pub(super) sequence: u64,
    pub(super) previous: Hash,
    pub(super) time: String,
    pub(super) time_ns: String,
    pub(super) subject: String,
    pub(super) action: Action,
    pub(super) object: String,
    pub(super) permit: Option<Hash>,
    pub(super) response: Response,
    pub(super) content: Content,
    pub(super) signature: String,
}

impl RecordView {
    pub(crate) fn new(at: RecordAt, record: &Record) -> Self {
        let body = &record.body;
        Self {
            height: at.height,
            position: at.position,
            hash: body.hash(),
            chain: body.chain.clone(),
            hub: body.hub.clone(),
            sequence: body.sequence,
            previous: body.previous,
            time: rfc3339(body.time),
            time_ns: body.time.to_string(),
            subject: body.subject.clone(),
            action: body.action,
            object: body.object.clone(),
            permit: body.permit,
            response: body.response,
            content: body.content.clone(),
            signature: record.signature.to_string(),
        }
    }
}

/// A batch, and where its record is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct BatchView {
    pub(super) height: u64,
    pub(super) position: u32,
    pub(super) record: Hash,
    pub(super) time: String,
    pub(super) time_ns: String,
    pub(super) response: Response,
    #[serde(flatten)]
    pub(super) batch: BatchContent,
}

impl BatchView {
    /// `None` for a record that is not about a batch.
    pub(super) fn new(at: RecordAt, record: &Record) -> Option<Self> {
        let body = &record.body;
        Some(Self {
            height: at.height,
            position: at.position,
            record: body.hash(),
            time: rfc3339(body.time),
            time_ns: body.time.to_string(),
            response: body.response,
            batch: body.batch()?.clone(),
        })
    }
}

/// A point of a control chart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct PointView {
    pub(super) time: String,
    pub(super) value: Json,
    /// The value means nothing, because its quality is Bad.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) bad: bool,
    /// Chart and rule that fired here, for example "nelson rule_2".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signalled: Option<String>,
}

impl From<&ChartPoint> for PointView {
    fn from(point: &ChartPoint) -> Self {
        Self {
            time: rfc3339(point.time),
            value: number(point.value),
            bad: point.bad,
            signalled: point.signalled.clone(),
        }
    }
}

/// The control chart of a tag.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct ChartView {
    pub(super) device: String,
    pub(super) tag: String,
    pub(super) unit: String,
    pub(super) center: Option<Json>,
    pub(super) lcl: Option<Json>,
    pub(super) ucl: Option<Json>,
    /// Where the limits come from, in words; `null` when the tag has no chart.
    pub(super) basis: Option<String>,
    /// Oldest first.
    pub(super) points: Vec<PointView>,
}

impl ChartView {
    pub(super) fn new(device: &str, tag: &TagSpec, chart: Option<&TagChart>) -> Self {
        let points = chart.map_or(&[][..], |c| &c.points);
        Self {
            device: device.to_owned(),
            tag: tag.name.to_string(),
            unit: tag.unit.clone(),
            center: chart.and_then(|c| c.center).map(number),
            lcl: chart.and_then(|c| c.lcl).map(number),
            ucl: chart.and_then(|c| c.ucl).map(number),
            basis: chart.map(|c| c.basis.clone()),
            points: points.iter().map(PointView::from).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_json_cannot_hold_become_texts() {
        assert_eq!(value(&Value::F64(f64::NAN)), json!("NaN"));
        assert_eq!(value(&Value::F64(f64::NEG_INFINITY)), json!("-Infinity"));
        assert_eq!(value(&Value::F64(1.5)), json!(1.5));
        assert_eq!(value(&Value::U64(u64::MAX)), json!("18446744073709551615"));
        assert_eq!(value(&Value::I64(i64::MIN)), json!("-9223372036854775808"));
        assert_eq!(value(&Value::I64(-7)), json!(-7));
        assert_eq!(value(&Value::U64(1 << 53)), json!(1u64 << 53));
        assert_eq!(value(&Value::Bytes(vec![0, 255])), json!("00ff"));
    }
}
