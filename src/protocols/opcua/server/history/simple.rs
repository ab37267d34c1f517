//! Aggregates over simple bounding values (OPC 10000-13, 3.1.9): what a tag's value was at the ends of an
//! interval is told by the two samples next to it, whatever they are worth, and a Bad one is a stretch
//! of time without a value. The "2" family and the durations are made of them. Pure functions; the
//! standard's examples (its Annex A) are tested.

use super::aggregates::{CALCULATED, INTERPOLATED, Interval, MULTIPLE, PARTIAL, Said};
use super::bounds::{NO_DATA, Rules, SUB_NORMAL, is_good, is_stepped, line};
use crate::model::{Nanos, Quality, Value};
use crate::protocols::ports::PastSample;

/// The shortest time of the standard's examples: how long the last sample of all stands for itself, and
/// how far before the end of an interval its effective end is (3.1.3).
const SHORTEST: Nanos = 1_000_000;

/// What a value or a stretch of time is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worth {
    Good,
    Uncertain,
    Bad,
}

/// Where a knot comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Sample,
    /// The interval's start, where there is no sample.
    Start,
    /// The interval's end; whether there is a sample.
    End(bool),
    /// Where the data end.
    Last,
}

/// A value within an interval or at its ends.
#[derive(Clone, Debug)]
struct Knot {
    time: Nanos,
    /// `None` when it is Bad.
    value: Option<Value>,
    worth: Worth,
    from: From,
}

/// The time between two knots.
struct Stretch {
    /// Its length, ns.
    length: f64,
    /// What it is worth: Good when both ends are.
    worth: Worth,
    /// What its beginning is worth.
    begins: Worth,
    /// Its mean, when it has values that are numbers.
    mean: Option<f64>,
}

fn worth(quality: Quality, rules: Rules) -> Worth {
    match quality {
        bad if rules.is_bad(bad) => Worth::Bad,
        good if is_good(good) => Worth::Good,
        _ => Worth::Uncertain,
    }
}

fn of_sample(sample: &PastSample, from: From, rules: Rules) -> Knot {
    let worth = worth(sample.quality, rules);
    Knot {
        time: sample.time,
        value: (worth != Worth::Bad).then(|| sample.value.clone()),
        worth,
        from,
    }
}

/// The simple bounding value at `time`, between the samples next to it.
fn bound(time: Nanos, before: &PastSample, after: &PastSample, from: From, rules: Rules) -> Knot {
    let (first, second) = (worth(before.quality, rules), worth(after.quality, rules));
    let value = match (first, second) {
        (Worth::Bad, _) => None,
        (_, Worth::Bad) => Some(before.value.clone()),
        _ if is_stepped(&before.value) => Some(before.value.clone()),
        _ => Some(line(time, before, after)),
    };
    let stepped = is_stepped(&before.value);
    let worth = match (first, second) {
        (Worth::Bad, _) => Worth::Bad,
        (Worth::Good, Worth::Good) => Worth::Good,
        (Worth::Good, _) if stepped => Worth::Good,
        _ => Worth::Uncertain,
    };
    Knot {
        time,
        value,
        worth,
        from,
    }
}

/// The knots of an interval, oldest first; none when the data begin after it or end before it.
fn knots(interval: &Interval<'_>, rules: Rules) -> Vec<Knot> {
    let (from, to) = (interval.from, interval.to);
    let mut knots = Vec::with_capacity(interval.within.len() + 2);
    let (first, last) = (interval.within.first(), interval.within.last());
    let (before, after) = (interval.before.first(), interval.after.first());
    if first.is_none_or(|first| first.time > from)
        && let (Some(before), Some(next)) = (before, first.or(after))
    {
        knots.push(bound(from, before, next, From::Start, rules));
    }
    let samples = interval.within.iter();
    knots.extend(samples.map(|sample| of_sample(sample, From::Sample, rules)));
    match (last.or(before), after) {
        (_, Some(at)) if at.time == to => knots.push(of_sample(at, From::End(true), rules)),
        (Some(before), Some(after)) => {
            knots.push(bound(to, before, after, From::End(false), rules));
        }
        _ => {
            if let Some(last) = last {
                let mut end = of_sample(last, From::Last, rules);
                end.time = last.time.saturating_add(SHORTEST).min(to);
                knots.push(end);
            }
        }
    }
    // An end alone says nothing of the time before it.
    let reaches = knots.iter().any(|k| !matches!(k.from, From::End(_)));
    if reaches { knots } else { Vec::new() }
}

fn length(from: Nanos, to: Nanos) -> f64 {
    (i128::from(to) - i128::from(from)) as f64
}

/// The interval in stretches, those without data included.
fn stretches(interval: &Interval<'_>, knots: &[Knot]) -> Vec<Stretch> {
    let nothing = |from: Nanos, to: Nanos| Stretch {
        length: length(from, to),
        worth: Worth::Bad,
        begins: Worth::Bad,
        mean: None,
    };
    let between = |a: &Knot, b: &Knot| {
        let start = a.value.as_ref().and_then(Value::as_f64);
        let held = b.worth == Worth::Bad || a.value.as_ref().is_some_and(is_stepped);
        let end = b.value.as_ref().and_then(Value::as_f64).filter(|_| !held);
        let worth = match (a.worth, b.worth) {
            (Worth::Bad, _) => Worth::Bad,
            (Worth::Good, Worth::Good) => Worth::Good,
            (Worth::Good, _) if a.value.as_ref().is_some_and(is_stepped) => Worth::Good,
            _ => Worth::Uncertain,
        };
        Stretch {
            length: length(a.time, b.time),
            worth,
            begins: a.worth,
            mean: start.map(|start| (start + end.unwrap_or(start)) / 2.0),
        }
    };
    let (Some(first), Some(last)) = (knots.first(), knots.last()) else {
        return Vec::new();
    };
    let mut all = vec![nothing(interval.from, first.time)];
    all.extend(knots.windows(2).filter_map(|pair| match pair {
        [a, b] => Some(between(a, b)),
        _ => None,
    }));
    all.push(nothing(last.time, interval.to));
    all
}

/// OPC 10000-13, 5.4.3.2.1, by time.
fn percent_time(stretches: &[Stretch], rules: Rules) -> Quality {
    let of = |worth: Worth| {
        let those = stretches.iter().filter(|s| s.worth == worth);
        those.fold(0.0, |sum, s| sum + s.length)
    };
    let (bad, uncertain) = (of(Worth::Bad), of(Worth::Uncertain));
    if bad == 0.0 {
        return if uncertain > 0.0 {
            SUB_NORMAL
        } else {
            Quality::GOOD
        };
    }
    // What is only doubtful for its neighbour's sake is never Bad.
    let good = of(Worth::Good)
        + if rules.treat_uncertain_as_bad {
            0.0
        } else {
            uncertain
        };
    let whole: f64 = stretches.iter().map(|s| s.length).sum();
    let enough = |part: f64, percent: u8| part * 100.0 >= whole * f64::from(percent);
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

impl Interval<'_> {
    /// 5.4.3.7 and 5.4.3.9: the mean of the time that has values; `of` takes it and that time in seconds.
    pub(super) fn time_average_2(&self, rules: Rules, of: impl Fn(f64, f64) -> f64) -> Said {
        let stretches = stretches(self, &knots(self, rules));
        let with = |s: &&Stretch| s.worth != Worth::Bad;
        let whole: f64 = stretches.iter().filter(with).map(|s| s.length).sum();
        let areas = stretches.iter().filter(with);
        let areas = areas.map(|s| Some(s.mean? * s.length));
        let Some(area) = areas.sum::<Option<f64>>().filter(|_| whole > 0.0) else {
            return self.nothing();
        };
        let quality = percent_time(&stretches, rules);
        let bits = CALCULATED | self.partial();
        self.number(of(area / whole, whole / 1e9), quality, bits)
    }

    /// 5.4.3.15 to 5.4.3.18.
    pub(super) fn extreme_2(
        &self,
        rules: Rules,
        beats: impl Fn(f64, f64) -> bool,
        own_time: bool,
    ) -> Said {
        let knots = knots(self, rules);
        let candidates = || {
            let real = knots.iter().filter(|k| k.from != From::Last);
            real.filter_map(|k| Some((k, k.value.as_ref()?, k.value.as_ref()?.as_f64()?)))
        };
        let best = candidates().reduce(|best, next| match beats(next.2, best.2) {
            true => next,
            false => best,
        });
        let Some((knot, value, number)) = best else {
            return self.nothing();
        };
        let mut bits = self.partial();
        bits |= match knot.from {
            From::Start | From::End(false) => INTERPOLATED,
            From::End(true) if own_time => INTERPOLATED,
            From::Sample if own_time || knot.time == self.from => 0,
            From::Sample | From::End(true) | From::Last => CALCULATED,
        };
        if candidates().filter(|(_, _, n)| *n == number).count() > 1 {
            bits |= MULTIPLE;
        }
        let quality = percent_time(&stretches(self, &knots), rules);
        let mut said = self.said(Some(value.clone()), quality, bits);
        if own_time {
            said.time = match knot.from {
                From::End(_) => self.to.saturating_sub(SHORTEST).max(self.from),
                _ => knot.time,
            };
        }
        said
    }

    /// 5.4.3.19.
    pub(super) fn range_2(&self, rules: Rules) -> Said {
        let low = self.extreme_2(rules, |a, b| a < b, false);
        let high = self.extreme_2(rules, |a, b| a > b, false);
        let number = |said: &Said| said.value.as_ref().and_then(Value::as_f64);
        let (Some(low_value), Some(high_value)) = (number(&low), number(&high)) else {
            return self.nothing();
        };
        let good = |said: &Said| is_good(Quality(said.status));
        let quality = match good(&low) && good(&high) {
            true => Quality::GOOD,
            false => SUB_NORMAL,
        };
        let bits = CALCULATED | self.partial();
        self.number(high_value - low_value, quality, bits)
    }

    /// 5.4.3.31 to 5.4.3.34: for how long the data are Good, or Bad, in ms, or in percent of the interval.
    pub(super) fn duration(&self, rules: Rules, bad: bool, percent: bool) -> Said {
        let stretches = stretches(self, &knots(self, rules));
        if stretches.is_empty() {
            return self.said(None, NO_DATA, PARTIAL);
        }
        let wanted = if bad { Worth::Bad } else { Worth::Good };
        let those = stretches.iter().filter(|s| s.begins == wanted);
        // A sum of nothing would be -0.
        let time = those.fold(0.0, |sum, s| sum + s.length);
        let value = match percent {
            true => time / length(self.from, self.to) * 100.0,
            false => time / 1e6,
        };
        self.number(value, Quality::GOOD, CALCULATED | self.partial())
    }
}

#[cfg(test)]
#[path = "simple_tests.rs"]
mod tests;
