//! What validation says of a batch: a class, and findings that name chart, rule, sample and limit.

use super::bits::{read_f64, write_f64};
use crate::model::{Nanos, Quality, VerdictClass, rfc3339};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::Serialize;
use std::fmt;

/// Findings a verdict lists; what is beyond them is counted.
pub const FINDINGS_LISTED: usize = 64;

/// What signalled.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, BorshSerialize, BorshDeserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Chart {
    /// The checks for what sensors do wrong.
    Sensor,
    /// Individuals chart.
    Individuals,
    /// Moving range chart.
    MovingRange,
    /// X̄-S chart.
    XbarS,
    /// EWMA chart.
    Ewma,
    /// CUSUM chart.
    Cusum,
    /// Western Electric rules.
    WesternElectric,
    /// Nelson rules.
    Nelson,
}

impl Chart {
    /// The name used in records and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sensor => "sensor",
            Self::Individuals => "individuals",
            Self::MovingRange => "moving_range",
            Self::XbarS => "xbar_s",
            Self::Ewma => "ewma",
            Self::Cusum => "cusum",
            Self::WesternElectric => "western_electric",
            Self::Nelson => "nelson",
        }
    }
}

/// The rule that was broken.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, BorshSerialize, BorshDeserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The batch's shape is not the device's.
    Malformed,
    /// A source time is before the one ahead of it.
    ClockBack,
    /// NaN or infinity with a quality that vouches for it.
    NotFinite,
    /// Outside the physical range of the sensor.
    OutOfRange,
    /// Too fast a change.
    RateOfChange,
    /// The same value too often in a row.
    Stuck,
    /// Too many samples without a value.
    Missing,
    /// A chart's statistic is beyond its limit.
    BeyondLimit,
    /// The mean of a subgroup is beyond its limit.
    MeanBeyondLimit,
    /// The standard deviation of a subgroup is beyond its limit.
    SpreadBeyondLimit,
    /// Western Electric rule of this number.
    WesternElectric(u8),
    /// Nelson rule of this number.
    Nelson(u8),
}

impl Rule {
    /// The name used in records and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::ClockBack => "clock_back",
            Self::NotFinite => "not_finite",
            Self::OutOfRange => "out_of_range",
            Self::RateOfChange => "rate_of_change",
            Self::Stuck => "stuck",
            Self::Missing => "missing",
            Self::BeyondLimit => "beyond_limit",
            Self::MeanBeyondLimit => "mean_beyond_limit",
            Self::SpreadBeyondLimit => "spread_beyond_limit",
            Self::WesternElectric(1) => "1_beyond_3_sigma",
            Self::WesternElectric(2) => "2_of_3_beyond_2_sigma",
            Self::WesternElectric(3) => "4_of_5_beyond_1_sigma",
            Self::WesternElectric(_) => "8_on_one_side",
            Self::Nelson(1) => "rule_1",
            Self::Nelson(2) => "rule_2",
            Self::Nelson(3) => "rule_3",
            Self::Nelson(4) => "rule_4",
            Self::Nelson(5) => "rule_5",
            Self::Nelson(6) => "rule_6",
            Self::Nelson(7) => "rule_7",
            Self::Nelson(_) => "rule_8",
        }
    }

    /// What happened, to go into a sentence after the sample.
    fn says(self) -> &'static str {
        match self {
            Self::Malformed => "does not fit the device's tags",
            Self::ClockBack => "is earlier than the sample before it",
            Self::NotFinite => "is not a finite number",
            Self::OutOfRange => "is outside the physical range",
            Self::RateOfChange => "changed faster than is possible",
            Self::Stuck => "is the same value too often in a row",
            Self::Missing => "is missing too often",
            Self::BeyondLimit => "is beyond the control limit",
            Self::MeanBeyondLimit => "ends a subgroup whose mean is beyond the control limit",
            Self::SpreadBeyondLimit => {
                "ends a subgroup whose standard deviation is beyond the control limit"
            }
            Self::WesternElectric(1) | Self::Nelson(1) => "is beyond three sigma",
            Self::WesternElectric(2) | Self::Nelson(5) => {
                "is the second of three beyond two sigma on one side"
            }
            Self::WesternElectric(3) | Self::Nelson(6) => {
                "is the fourth of five beyond one sigma on one side"
            }
            Self::WesternElectric(_) => "is the eighth in a row on one side of the centre line",
            Self::Nelson(2) => "is the ninth in a row on one side of the centre line",
            Self::Nelson(3) => "is the sixth in a row that rises, or falls",
            Self::Nelson(4) => "is the fourteenth in a row that turns back",
            Self::Nelson(7) => "is the fifteenth in a row within one sigma",
            Self::Nelson(_) => "is the eighth in a row beyond one sigma on either side",
        }
    }
}

/// One thing that is wrong with one tag in a batch.
#[derive(Clone, Debug, PartialEq, Serialize, BorshSerialize, BorshDeserialize)]
pub struct Finding {
    /// Index of the tag in its device.
    pub tag: u32,
    /// Its name.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// What signalled.
    pub chart: Chart,
    /// Which rule.
    pub rule: Rule,
    /// What it makes of the batch.
    pub class: VerdictClass,
    /// Index within the tag's samples of this batch, from 0, of the first sample that broke the rule.
    pub sample: u32,
    /// Index of the last one.
    pub last: u32,
    /// How many did.
    pub count: u32,
    /// Source time of the first.
    pub time: Nanos,
    /// Its value.
    #[borsh(serialize_with = "write_f64", deserialize_with = "read_f64")]
    pub value: f64,
    /// The chart's statistic at that sample.
    #[borsh(serialize_with = "write_f64", deserialize_with = "read_f64")]
    pub statistic: f64,
    /// The limit that was passed, or the lower one of two.
    #[borsh(serialize_with = "write_f64", deserialize_with = "read_f64")]
    pub limit: f64,
}

impl Finding {
    /// One sentence that names chart, rule, sample and limit; `place` says which sample it is.
    pub fn sentence(&self, place: &str) -> String {
        let unit = match self.unit.as_str() {
            "" => String::new(),
            unit => format!(" {unit}"),
        };
        let (statistic, limit) = (Short(self.statistic), Short(self.limit));
        let value = Short(self.value);
        let detail = match self.rule {
            Rule::Malformed => self.rule.says().to_string(),
            Rule::ClockBack => {
                // As an `f64` it is a quarter of a microsecond off: not to be cut off, but rounded.
                let milliseconds = (self.limit / 1e6).round() as Nanos;
                let before = rfc3339(milliseconds.saturating_mul(1_000_000));
                format!("{}, which was at {before}", self.rule.says())
            }
            Rule::Missing => format!(
                "{}: {} % of its samples in this batch, against a limit of {} %",
                self.rule.says(),
                Short(100.0 * self.statistic),
                Short(100.0 * self.limit)
            ),
            Rule::Stuck => format!(
                "({value}{unit}) {}: {statistic} times, against a limit of {limit}",
                self.rule.says()
            ),
            Rule::NotFinite => format!("({}) {}", self.value, self.rule.says()),
            _ => format!(
                "({value}{unit}) {}: {statistic} against a limit of {limit}",
                self.rule.says()
            ),
        };
        let more = match self.count {
            0 | 1 => String::new(),
            _ if self.rule == Rule::Missing => String::new(),
            2 => " (and 1 more sample of this batch)".to_string(),
            n => format!(" (and {} more samples of this batch)", n - 1),
        };
        let (chart, rule) = (self.chart.name(), self.rule.name());
        format!("{chart} {rule}: {place} {detail}{more}")
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = rfc3339(self.time);
        let place = format!("sample {} of {} at {time}", self.sample, self.name);
        f.write_str(&self.sentence(&place))
    }
}

/// A number in about six digits, for people.
struct Short(f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.0.abs();
        if size != 0.0 && !(1e-4..1e9).contains(&size) {
            return write!(
                f,
                "{:e}",
                (format!("{:.5e}", self.0)).parse::<f64>().unwrap_or(self.0)
            );
        }
        let decimals = match size {
            s if s >= 1e5 => 0,
            s if s >= 1e3 => 2,
            s if s >= 1.0 => 4,
            _ => 6,
        };
        let text = format!("{:.decimals$}", self.0);
        let text = match text.contains('.') {
            true => text.trim_end_matches('0').trim_end_matches('.'),
            false => &text,
        };
        f.write_str(text)
    }
}

/// What validation says of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, BorshSerialize, BorshDeserialize)]
pub struct Verdict {
    /// The worst class of its findings; accepted when there is none.
    pub class: VerdictClass,
    /// Findings, worst class first, then by tag; at most [`FINDINGS_LISTED`].
    pub findings: Vec<Finding>,
    /// Findings that are not listed.
    pub unlisted: u32,
}

impl Verdict {
    /// A batch without findings.
    pub fn accepted() -> Self {
        Self {
            class: VerdictClass::Accepted,
            findings: Vec::new(),
            unlisted: 0,
        }
    }

    /// What is said of a batch over which validation itself failed: it is refused.
    pub fn failed() -> Self {
        Self {
            class: VerdictClass::Invalid,
            ..Self::accepted()
        }
    }

    /// Chart of the first finding, as a record names it; empty when there is none.
    pub fn chart_name(&self) -> &'static str {
        self.findings.first().map_or("", |f| f.chart.name())
    }

    /// Rule of the first finding, as a record names it; empty when there is none.
    pub fn rule_name(&self) -> &'static str {
        self.findings.first().map_or("", |f| f.rule.name())
    }

    /// One sentence for people.
    pub fn summary(&self) -> String {
        let Some(first) = self.findings.first() else {
            return match self.class {
                VerdictClass::Accepted => "in control".to_string(),
                _ => "the hub failed to judge it".to_string(),
            };
        };
        let others = self.findings.len() - 1 + self.unlisted as usize;
        match others {
            0 => first.to_string(),
            1 => format!("{first}; and 1 more finding"),
            n => format!("{first}; and {n} more findings"),
        }
    }

    /// What it says of each of a device's `tags` tags: the quality that the tag's samples are worsened
    /// to. Tags that it names are worse off than their neighbours.
    pub fn qualities(&self, tags: usize) -> Vec<Quality> {
        let (whole, named) = match self.class {
            VerdictClass::Accepted => (Quality::GOOD, Quality::GOOD),
            // Samples that are missing are Bad themselves; that says nothing of their neighbours.
            VerdictClass::OutOfControl if self.only_missing() => (Quality::GOOD, Quality::GOOD),
            VerdictClass::OutOfControl => (
                Quality::UNCERTAIN,
                Quality::UNCERTAIN_ENGINEERING_UNITS_EXCEEDED,
            ),
            VerdictClass::Invalid => (Quality::BAD, Quality::BAD_OUT_OF_RANGE),
        };
        let mut judged = vec![whole; tags];
        for finding in &self.findings {
            if let Some(tag) = judged.get_mut(finding.tag as usize) {
                *tag = named;
            }
        }
        judged
    }

    fn only_missing(&self) -> bool {
        let missing = |finding: &Finding| finding.rule == Rule::Missing;
        self.unlisted == 0 && self.findings.iter().all(missing)
    }

    /// Canonical bytes, for the sealed batch.
    pub fn encode(&self) -> Vec<u8> {
        weighbridge_verifier::encode(self)
    }
}

/// Findings of a batch while it is judged.
#[derive(Debug, Default)]
pub(super) struct Findings {
    refused: Vec<Finding>,
    flagged: Vec<Finding>,
    unlisted: u32,
}

impl Findings {
    pub fn push(&mut self, finding: Finding) {
        let list = match finding.class {
            VerdictClass::Invalid => &mut self.refused,
            _ => &mut self.flagged,
        };
        if list.len() < FINDINGS_LISTED {
            list.push(finding);
        } else {
            self.unlisted = self.unlisted.saturating_add(1);
        }
    }

    pub fn refused(&self) -> bool {
        !self.refused.is_empty()
    }

    pub fn verdict(self) -> Verdict {
        let class = if !self.refused.is_empty() {
            VerdictClass::Invalid
        } else if !self.flagged.is_empty() {
            VerdictClass::OutOfControl
        } else {
            VerdictClass::Accepted
        };
        let mut findings = self.refused;
        findings.extend(self.flagged);
        let beyond = findings.len().saturating_sub(FINDINGS_LISTED) as u32;
        findings.truncate(FINDINGS_LISTED);
        Verdict {
            class,
            findings,
            unlisted: self.unlisted.saturating_add(beyond),
        }
    }
}
