//! Aggregates (OPC 10000-13, 5.4.3): what is said of a tag over an interval. Pure functions of the
//! samples; that the standard's examples (its Annex A) come out is tested.

use super::bounds::{Bound, NO_DATA, Origin, Rules, SUB_NORMAL, bound, is_good};
use crate::model::{Nanos, Quality, Value};
use crate::protocols::ports::PastSample;
use opcua::types::ObjectId;

/// Information bits of a status code: of a data value (OPC 10000-4, 7.39.1).
const DATA_VALUE: u32 = 0x0400;
/// Historian bits (OPC 10000-4, Table 174): the value was computed.
pub(super) const CALCULATED: u32 = 0x01;
/// It was interpolated.
pub(super) const INTERPOLATED: u32 = 0x02;
/// The interval was not complete.
pub(super) const PARTIAL: u32 = 0x04;
/// Several samples have the value.
pub(super) const MULTIPLE: u32 = 0x10;

/// A status code with historian bits.
pub(super) fn with_bits(quality: Quality, bits: u32) -> u32 {
    match bits {
        0 => quality.0,
        _ => quality.0 | DATA_VALUE | bits,
    }
}

/// An aggregate that there is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aggregate {
    Interpolative,
    Average,
    TimeAverage,
    Total,
    Minimum,
    Maximum,
    MinimumActualTime,
    MaximumActualTime,
    Range,
    Count,
    Start,
    End,
    Delta,
    StandardDeviationSample,
    StandardDeviationPopulation,
    VarianceSample,
    VariancePopulation,
    TimeAverage2,
    Total2,
    Minimum2,
    Maximum2,
    MinimumActualTime2,
    MaximumActualTime2,
    Range2,
    DurationGood,
    DurationBad,
    PercentGood,
    PercentBad,
}

impl Aggregate {
    /// All of them, with the ids of their functions.
    pub(super) const ALL: [(Self, ObjectId); 28] = [
        (
            Self::Interpolative,
            ObjectId::AggregateFunction_Interpolative,
        ),
        (Self::Average, ObjectId::AggregateFunction_Average),
        (Self::TimeAverage, ObjectId::AggregateFunction_TimeAverage),
        (Self::Total, ObjectId::AggregateFunction_Total),
        (Self::Minimum, ObjectId::AggregateFunction_Minimum),
        (Self::Maximum, ObjectId::AggregateFunction_Maximum),
        (
            Self::MinimumActualTime,
            ObjectId::AggregateFunction_MinimumActualTime,
        ),
        (
            Self::MaximumActualTime,
            ObjectId::AggregateFunction_MaximumActualTime,
        ),
        (Self::Range, ObjectId::AggregateFunction_Range),
        (Self::Count, ObjectId::AggregateFunction_Count),
        (Self::Start, ObjectId::AggregateFunction_Start),
        (Self::End, ObjectId::AggregateFunction_End),
        (Self::Delta, ObjectId::AggregateFunction_Delta),
        (
            Self::StandardDeviationSample,
            ObjectId::AggregateFunction_StandardDeviationSample,
        ),
        (
            Self::StandardDeviationPopulation,
            ObjectId::AggregateFunction_StandardDeviationPopulation,
        ),
        (
            Self::VarianceSample,
            ObjectId::AggregateFunction_VarianceSample,
        ),
        (
            Self::VariancePopulation,
            ObjectId::AggregateFunction_VariancePopulation,
        ),
        (Self::TimeAverage2, ObjectId::AggregateFunction_TimeAverage2),
        (Self::Total2, ObjectId::AggregateFunction_Total2),
        (Self::Minimum2, ObjectId::AggregateFunction_Minimum2),
        (Self::Maximum2, ObjectId::AggregateFunction_Maximum2),
        (
            Self::MinimumActualTime2,
            ObjectId::AggregateFunction_MinimumActualTime2,
        ),
        (
            Self::MaximumActualTime2,
            ObjectId::AggregateFunction_MaximumActualTime2,
        ),
        (Self::Range2, ObjectId::AggregateFunction_Range2),
        (Self::DurationGood, ObjectId::AggregateFunction_DurationGood),
        (Self::DurationBad, ObjectId::AggregateFunction_DurationBad),
        (Self::PercentGood, ObjectId::AggregateFunction_PercentGood),
        (Self::PercentBad, ObjectId::AggregateFunction_PercentBad),
    ];

    /// What it is, for people.
    pub(super) fn description(self) -> &'static str {
        match self {
            Self::Interpolative => "The value at the beginning of the interval, interpolated.",
            Self::Average => "The mean of the Good samples.",
            Self::TimeAverage => "The mean over time.",
            Self::Total => "The integral over time, in seconds.",
            Self::Minimum => "The least Good sample.",
            Self::Maximum => "The greatest Good sample.",
            Self::MinimumActualTime => "The least Good sample, with its own time.",
            Self::MaximumActualTime => "The greatest Good sample, with its own time.",
            Self::Range => "The greatest Good sample less the least.",
            Self::Count => "How many samples are Good.",
            Self::Start => "The first sample.",
            Self::End => "The last sample.",
            Self::Delta => "The last Good sample less the first.",
            Self::StandardDeviationSample => {
                "The standard deviation of the Good samples, over n - 1."
            }
            Self::StandardDeviationPopulation => {
                "The standard deviation of the Good samples, over n."
            }
            Self::VarianceSample => "The variance of the Good samples, over n - 1.",
            Self::VariancePopulation => "The variance of the Good samples, over n.",
            Self::TimeAverage2 => "The mean over the time that has values.",
            Self::Total2 => "The integral over the time that has values, in seconds.",
            Self::Minimum2 => "The least sample, or value at the ends.",
            Self::Maximum2 => "The greatest sample, or value at the ends.",
            Self::MinimumActualTime2 => {
                "The least sample, or value at the ends, with its own time."
            }
            Self::MaximumActualTime2 => {
                "The greatest sample, or value at the ends, with its own time."
            }
            Self::Range2 => "The greatest sample or value at the ends less the least.",
            Self::DurationGood => "For how long the data are Good, in milliseconds.",
            Self::DurationBad => "For how long the data are Bad, in milliseconds.",
            Self::PercentGood => "For how much of the interval the data are Good, in percent.",
            Self::PercentBad => "For how much of the interval the data are Bad, in percent.",
        }
    }

    /// Whether it needs numbers.
    pub(super) fn needs_numbers(self) -> bool {
        !matches!(
            self,
            Self::Interpolative
                | Self::Count
                | Self::Start
                | Self::End
                | Self::DurationGood
                | Self::DurationBad
                | Self::PercentGood
                | Self::PercentBad
        )
    }
}

/// The samples of an interval and those next to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interval<'a> {
    /// From here on.
    pub(super) from: Nanos,
    /// Up to here, not included.
    pub(super) to: Nanos,
    /// The time that the result is given: one of the ends.
    pub(super) stamp: Nanos,
    /// Samples within, oldest first.
    pub(super) within: &'a [PastSample],
    /// Samples before, newest first, as far as [`bound`] needs them.
    pub(super) before: &'a [PastSample],
    /// Samples after, oldest first, as far as [`bound`] needs them.
    pub(super) after: &'a [PastSample],
    /// Whether it was cut short by the end of what was asked for.
    pub(super) cut: bool,
}

/// What is said of an interval.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Said {
    /// The time it is said of.
    pub(super) time: Nanos,
    /// The value; `None` when there is none.
    pub(super) value: Option<Value>,
    /// Status code with historian bits.
    pub(super) status: u32,
}

impl Interval<'_> {
    pub(super) fn said(&self, value: Option<Value>, quality: Quality, bits: u32) -> Said {
        let value = value.filter(|_| !quality.is_bad());
        // Where there is no value, nothing was calculated either.
        let bits = if value.is_some() { bits } else { 0 };
        Said {
            time: self.stamp,
            value,
            status: with_bits(quality, bits),
        }
    }

    pub(super) fn nothing(&self) -> Said {
        self.said(None, NO_DATA, 0)
    }

    pub(super) fn number(&self, value: f64, quality: Quality, bits: u32) -> Said {
        self.said(Some(Value::F64(value)), quality, bits)
    }

    /// The Partial bit: data begin after the interval does, or end before it does.
    pub(super) fn partial(&self) -> u32 {
        let begins =
            self.before.is_empty() && self.within.first().is_some_and(|s| s.time > self.from);
        let ends = self.after.is_empty();
        if begins || ends || self.cut {
            PARTIAL
        } else {
            0
        }
    }

    fn good(&self) -> impl Iterator<Item = &PastSample> + Clone {
        self.within.iter().filter(|s| is_good(s.quality))
    }

    fn good_numbers(&self) -> impl Iterator<Item = f64> + Clone + '_ {
        self.good().filter_map(|s| s.value.as_f64())
    }

    /// OPC 10000-13, 5.4.3.2.1, by counting samples.
    fn percent_values(&self, rules: Rules) -> Quality {
        let bad = self
            .within
            .iter()
            .filter(|s| rules.is_bad(s.quality))
            .count();
        let good = self.within.len() - bad;
        let uncertain = self.within.iter().any(|s| !is_good(s.quality));
        if bad == 0 {
            return if uncertain { SUB_NORMAL } else { Quality::GOOD };
        }
        let enough =
            |part: usize, percent: u8| part * 100 >= self.within.len() * usize::from(percent);
        // Where both limits are the same, the good one decides (4.2.1.2).
        let same = u16::from(rules.percent_good) + u16::from(rules.percent_bad) == 100;
        match (
            enough(bad, rules.percent_bad),
            enough(good, rules.percent_good),
        ) {
            (_, true) if same => Quality::GOOD,
            (true, _) => Quality::BAD,
            (_, true) => Quality::GOOD,
            _ => SUB_NORMAL,
        }
    }

    /// What `aggregate` says of it.
    pub(super) fn say(&self, aggregate: Aggregate, rules: Rules) -> Said {
        use Aggregate as A;
        match aggregate {
            A::Interpolative => self.interpolative(rules),
            A::Average => self.average(rules),
            A::TimeAverage => self.time_average(rules, |average| average),
            A::Total => {
                let seconds = (i128::from(self.to) - i128::from(self.from)) as f64 / 1e9;
                self.time_average(rules, |average| average * seconds)
            }
            A::Minimum => self.extreme(rules, |a, b| a < b, false),
            A::Maximum => self.extreme(rules, |a, b| a > b, false),
            A::MinimumActualTime => self.extreme(rules, |a, b| a < b, true),
            A::MaximumActualTime => self.extreme(rules, |a, b| a > b, true),
            A::Range => self.range(rules),
            A::Count => self.count(rules),
            A::Start => self.raw(self.within.first()),
            A::End => self.raw(self.within.last()),
            A::Delta => self.delta(),
            A::VarianceSample => self.variance(rules, 1, |v| v),
            A::VariancePopulation => self.variance(rules, 0, |v| v),
            A::StandardDeviationSample => self.variance(rules, 1, f64::sqrt),
            A::StandardDeviationPopulation => self.variance(rules, 0, f64::sqrt),
            A::TimeAverage2 => self.time_average_2(rules, |mean, _| mean),
            A::Total2 => self.time_average_2(rules, |mean, seconds| mean * seconds),
            A::Minimum2 => self.extreme_2(rules, |a, b| a < b, false),
            A::Maximum2 => self.extreme_2(rules, |a, b| a > b, false),
            A::MinimumActualTime2 => self.extreme_2(rules, |a, b| a < b, true),
            A::MaximumActualTime2 => self.extreme_2(rules, |a, b| a > b, true),
            A::Range2 => self.range_2(rules),
            A::DurationGood => self.duration(rules, false, false),
            A::DurationBad => self.duration(rules, true, false),
            A::PercentGood => self.duration(rules, false, true),
            A::PercentBad => self.duration(rules, true, true),
        }
    }

    /// The value at one of the interval's ends.
    fn bound_at(&self, time: Nanos, rules: Rules) -> Bound {
        let at = self.within.partition_point(|s| s.time < time);
        let (inside, rest) = self.within.split_at(at);
        let earlier: Vec<_> = inside.iter().rev().chain(self.before).cloned().collect();
        let later: Vec<_> = rest.iter().chain(self.after).cloned().collect();
        bound(time, &earlier, &later, rules)
    }

    /// 5.4.3.4.
    fn interpolative(&self, rules: Rules) -> Said {
        let Bound {
            value,
            quality,
            origin,
        } = self.bound_at(self.stamp, rules);
        let bits = match origin {
            Origin::Raw => 0,
            Origin::Interpolated => INTERPOLATED,
        };
        self.said(value, quality, bits)
    }

    /// 5.4.3.5.
    fn average(&self, rules: Rules) -> Said {
        let count = self.good_numbers().count();
        if count == 0 {
            return self.nothing();
        }
        let sum: f64 = self.good_numbers().sum();
        self.number(sum / count as f64, self.percent_values(rules), CALCULATED)
    }

    /// 5.4.3.6 and 5.4.3.8: the mean of the line through the samples that count.
    fn time_average(&self, rules: Rules, of: impl Fn(f64) -> f64) -> Said {
        let (start, end) = (
            self.bound_at(self.from, rules),
            self.bound_at(self.to, rules),
        );
        let mut good = true;
        let mut knots: Vec<(Nanos, f64)> = Vec::new();
        let mut bits = CALCULATED;
        match start.value.as_ref().and_then(Value::as_f64) {
            Some(value) => {
                good &= is_good(start.quality);
                knots.push((self.from, value));
            }
            // Data begin later: so does the mean.
            None => {
                good = false;
                bits |= PARTIAL;
            }
        }
        for sample in self.within.iter().filter(|s| s.time > self.from) {
            good &= is_good(sample.quality);
            if !rules.is_bad(sample.quality)
                && let Some(value) = sample.value.as_f64()
            {
                knots.push((sample.time, value));
            }
        }
        if let Some(value) = end.value.as_ref().and_then(Value::as_f64) {
            good &= is_good(end.quality);
            knots.push((self.to, value));
        }
        if self.cut {
            bits |= PARTIAL;
        }
        let (Some(first), Some(last)) = (knots.first(), knots.last()) else {
            return self.nothing();
        };
        let length = |from: Nanos, to: Nanos| (i128::from(to) - i128::from(from)) as f64;
        let whole = length(first.0, last.0);
        if whole == 0.0 {
            return self.nothing();
        }
        let areas = knots.windows(2).map(|pair| match pair {
            [a, b] => (a.1 + b.1) / 2.0 * length(a.0, b.0),
            _ => 0.0,
        });
        let mean = areas.sum::<f64>() / whole;
        let quality = if good { Quality::GOOD } else { SUB_NORMAL };
        self.number(of(mean), quality, bits)
    }

    /// 5.4.3.10 to 5.4.3.13.
    fn extreme(&self, rules: Rules, beats: impl Fn(f64, f64) -> bool, own_time: bool) -> Said {
        let number = |s: &PastSample| s.value.as_f64();
        let best = self.good().filter_map(|s| Some((s, number(s)?)));
        let Some((sample, value)) =
            best.reduce(|best, next| if beats(next.1, best.1) { next } else { best })
        else {
            return self.nothing();
        };
        let doubtful = self.within.iter().any(|s| {
            let beaten = !is_good(s.quality) && number(s).is_some_and(|n| beats(n, value));
            rules.is_bad(s.quality) || beaten && !s.quality.is_bad()
        });
        let mut bits = self.partial();
        if self.good_numbers().filter(|n| *n == value).count() > 1 {
            bits |= MULTIPLE;
        }
        let raw = sample.time == self.stamp && !doubtful;
        if !own_time && !raw {
            bits |= CALCULATED;
        }
        let quality = if doubtful { SUB_NORMAL } else { Quality::GOOD };
        let mut said = self.said(Some(sample.value.clone()), quality, bits);
        if own_time {
            said.time = sample.time;
        }
        said
    }

    /// 5.4.3.14.
    fn range(&self, rules: Rules) -> Said {
        let low = self.good_numbers().reduce(f64::min);
        let high = self.good_numbers().reduce(f64::max);
        let (Some(low), Some(high)) = (low, high) else {
            return self.nothing();
        };
        let skipped = self.within.iter().any(|s| rules.is_bad(s.quality));
        let quality = if skipped { SUB_NORMAL } else { Quality::GOOD };
        self.number(high - low, quality, CALCULATED | self.partial())
    }

    /// 5.4.3.21. Before the first sample of all and after the last there is nothing to count.
    fn count(&self, rules: Rules) -> Said {
        if self.within.is_empty() && (self.before.is_empty() || self.after.is_empty()) {
            return self.nothing();
        }
        let count = i64::try_from(self.good().count()).unwrap_or(i64::MAX);
        let quality = self.percent_values(rules);
        self.said(
            Some(Value::I64(count)),
            quality,
            CALCULATED | self.partial(),
        )
    }

    /// 5.4.3.25 and 5.4.3.26.
    fn raw(&self, sample: Option<&PastSample>) -> Said {
        let Some(sample) = sample else {
            return self.nothing();
        };
        let value = (!sample.quality.is_bad()).then(|| sample.value.clone());
        Said {
            time: sample.time,
            value,
            status: with_bits(sample.quality, self.partial()),
        }
    }

    /// 5.4.3.27.
    fn delta(&self) -> Said {
        let (first, last) = (self.good_numbers().next(), self.good_numbers().last());
        let (Some(first), Some(last)) = (first, last) else {
            return self.nothing();
        };
        let skipped = |sample: Option<&PastSample>| sample.is_some_and(|s| !is_good(s.quality));
        let quality = match skipped(self.within.first()) || skipped(self.within.last()) {
            true => SUB_NORMAL,
            false => Quality::GOOD,
        };
        self.number(last - first, quality, CALCULATED | self.partial())
    }

    /// 5.4.3.37 to 5.4.3.40, over *n* − `less`; a single sample varies by nothing.
    fn variance(&self, rules: Rules, less: usize, of: impl Fn(f64) -> f64) -> Said {
        let count = self.good_numbers().count();
        if count == 0 {
            return self.nothing();
        }
        let mean = self.good_numbers().sum::<f64>() / count as f64;
        let squares: f64 = self.good_numbers().map(|n| (n - mean) * (n - mean)).sum();
        let variance = match count {
            1 => 0.0,
            _ => squares / (count - less) as f64,
        };
        let bits = CALCULATED | self.partial();
        self.number(of(variance), self.percent_values(rules), bits)
    }
}

#[cfg(test)]
#[path = "aggregates_tests.rs"]
pub(super) mod tests;
