//! Interpolated bounding values (OPC 10000-13, 3.1.8): what a tag's value was at a time for which none
//! was recorded.

use crate::model::{Nanos, Quality, Value};
use crate::protocols::ports::PastSample;

/// `Uncertain_DataSubNormal`.
pub(super) const SUB_NORMAL: Quality = Quality(0x40A4_0000);
/// `Bad_NoData`.
pub(super) const NO_DATA: Quality = Quality(0x809B_0000);

/// How samples are taken into account (OPC 10000-13, 4.2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// Whether Uncertain samples are left out like Bad ones.
    pub(super) treat_uncertain_as_bad: bool,
    /// From this share of Bad samples on, percent, a result is Bad.
    pub(super) percent_bad: u8,
    /// From this share of Good samples on, percent, a result is Good.
    pub(super) percent_good: u8,
    /// Beyond the last sample: go on as the last two went, instead of holding the last.
    pub(super) sloped_extrapolation: bool,
}

impl Rules {
    /// The defaults of OPC 10000-13, 4.2.1.2.
    pub(super) const DEFAULT: Self = Self {
        treat_uncertain_as_bad: true,
        percent_bad: 100,
        percent_good: 100,
        sloped_extrapolation: false,
    };

    /// Whether a sample is left out.
    pub(super) fn is_bad(&self, quality: Quality) -> bool {
        quality.is_bad() || self.treat_uncertain_as_bad && !is_good(quality)
    }
}

pub(super) fn is_good(quality: Quality) -> bool {
    quality.severity() == "Good"
}

/// How a value came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was recorded so.
    Raw,
    /// It lies between two that were, or beyond the last.
    Interpolated,
}

/// A value at a time.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bound {
    /// The value; `None` when there is none.
    pub(super) value: Option<Value>,
    /// Its quality.
    pub(super) quality: Quality,
    /// How it came about.
    pub(super) origin: Origin,
}

impl Bound {
    /// There is no value.
    pub(super) const NONE: Self = Self {
        value: None,
        quality: NO_DATA,
        origin: Origin::Raw,
    };
}

/// Whether values of this kind are held, rather than drawn as a line: OPC 10000-13, A.1.4 says so of
/// Booleans, and there is no line between texts.
pub(super) fn is_stepped(value: &Value) -> bool {
    matches!(value, Value::Bool(_) | Value::Text(_) | Value::Bytes(_))
}

/// The value at `time`. `earlier` are samples before it, newest first, and `later` those from it on,
/// oldest first, each as far as to the first that counts, or all there are; for sloped extrapolation
/// `earlier` reaches to the second that counts.
pub(super) fn bound(
    time: Nanos,
    earlier: &[PastSample],
    later: &[PastSample],
    rules: Rules,
) -> Bound {
    let counts = |sample: &&PastSample| !rules.is_bad(sample.quality);
    if let Some(at) = later.iter().take_while(|s| s.time == time).find(counts) {
        return Bound {
            value: Some(at.value.clone()),
            quality: at.quality,
            origin: Origin::Raw,
        };
    }
    let skipped = |samples: &[PastSample]| samples.first().is_some_and(|s| !counts(&s));
    let Some(before) = earlier.iter().find(counts) else {
        return Bound::NONE;
    };
    let interpolated = |value: Value, good: bool| Bound {
        value: Some(value),
        quality: if good { Quality::GOOD } else { SUB_NORMAL },
        origin: Origin::Interpolated,
    };
    if is_stepped(&before.value) {
        // A sample at the very time that is left out lies between as well.
        let left_out = later.first().is_some_and(|s| s.time == time && !counts(&s));
        let good = is_good(before.quality) && !skipped(earlier) && !left_out && !later.is_empty();
        return interpolated(before.value.clone(), good);
    }
    let Some(after) = later.iter().find(counts) else {
        let value = extrapolate(time, before, earlier, rules);
        return interpolated(value, false);
    };
    let good =
        is_good(before.quality) && is_good(after.quality) && !skipped(earlier) && !skipped(later);
    interpolated(line(time, before, after), good)
}

fn extrapolate(time: Nanos, before: &PastSample, earlier: &[PastSample], rules: Rules) -> Value {
    let mut counting = earlier.iter().filter(|s| !rules.is_bad(s.quality));
    match counting.find(|s| s.time < before.time) {
        Some(first) if rules.sloped_extrapolation => line(time, first, before),
        _ => before.value.clone(),
    }
}

/// The value at `time` on the line through two samples, in the type of the first.
pub(super) fn line(time: Nanos, first: &PastSample, second: &PastSample) -> Value {
    let (Some(from), Some(to)) = (first.value.as_f64(), second.value.as_f64()) else {
        return first.value.clone();
    };
    let whole = (i128::from(second.time) - i128::from(first.time)) as f64;
    let part = (i128::from(time) - i128::from(first.time)) as f64;
    if whole == 0.0 {
        return first.value.clone();
    }
    let value = from + (to - from) * (part / whole);
    match first.value {
        Value::I64(_) => Value::I64(value.round() as i64),
        Value::U64(_) => Value::U64(value.round() as u64),
        _ => Value::F64(value),
    }
}
