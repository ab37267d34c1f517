//! One column of a batch against the charts of its tag, sample by sample, and the fast path for the
//! common case that nothing is wrong.

use super::armed::{Armed, FastLimits};
use super::phase1::{Neighbour, Phase1};
use super::settings::TagSettings;
use super::state::TagState;
use super::verdict::{Chart, Rule};
use crate::model::{Nanos, QualityColumn};

/// The samples of one tag.
pub(super) struct Samples<'a> {
    pub numbers: &'a [f64],
    pub times: &'a [Nanos],
    pub quality: &'a QualityColumn,
    /// Time of the sample before them, if it was accepted and the clock ran on from it.
    pub before: Option<Nanos>,
    /// The longest time between two of them, in ns, counted from `before`.
    pub longest_step: i64,
}

/// A rule that was broken: first, last and how many samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Hit {
    pub chart: Chart,
    pub rule: Rule,
    pub first: u32,
    pub last: u32,
    pub count: u32,
    pub value: f64,
    pub statistic: f64,
    pub limit: f64,
}

/// Broken rules of one column.
#[derive(Debug, Default)]
pub(super) struct Hits(pub Vec<Hit>);

impl Hits {
    fn add(&mut self, chart: Chart, rule: Rule, at: Sample, statistic: f64, limit: f64) {
        match self
            .0
            .iter_mut()
            .find(|h| h.chart == chart && h.rule == rule)
        {
            Some(hit) => {
                hit.last = at.index;
                hit.count += 1;
            }
            None => self.0.push(Hit {
                chart,
                rule,
                first: at.index,
                last: at.index,
                count: 1,
                value: at.value,
                statistic,
                limit,
            }),
        }
    }
}

#[derive(Clone, Copy)]
struct Sample {
    index: u32,
    value: f64,
}

/// What came of a column.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Outcome {
    /// Samples without a value.
    pub missing: u32,
    /// The first of them.
    pub first_missing: u32,
    /// Index after the sample that ended Phase I.
    pub phase1_ended_before: Option<usize>,
}

/// Judges a column whose samples are all good, if nothing can be wrong with it: then the state is
/// what [`judge`] would have made of it, and true is returned. Else nothing is changed.
pub(super) fn judge_fast(limits: &FastLimits, state: &mut TagState, samples: &Samples<'_>) -> bool {
    let (Some(before), true, Some(_)) = (state.last, state.linked, samples.before) else {
        return false;
    };
    if !samples.quality.exceptions.is_empty() || samples.longest_step > limits.longest_step {
        return false;
    }
    let (mut z, mut last, mut run) = (state.ewma, before, state.run);
    let (mut inside, mut longest_run) = (true, 0);
    for &x in samples.numbers {
        // NaN is inside nothing.
        inside &= x >= limits.low && x <= limits.high;
        inside &= (x - last).abs() <= limits.range;
        z = limits.ewma.next_unclipped(z, x);
        inside &= z >= limits.ewma.limits.lcl && z <= limits.ewma.limits.ucl;
        run = if x == last { run.saturating_add(1) } else { 1 };
        longest_run = if run > longest_run { run } else { longest_run };
        last = x;
    }
    if !inside || longest_run >= limits.stuck_after {
        return false;
    }
    state.ewma = z;
    state.last = Some(last);
    state.run = run;
    true
}

/// Judges a column sample by sample.
///
/// With `phase1` the samples are learned from until it ends; the outcome then says where, and the
/// caller goes on from there with the charts that follow from it.
pub(super) fn judge(
    settings: &TagSettings,
    armed: &Armed,
    mut phase1: Option<&mut Phase1>,
    state: &mut TagState,
    samples: &Samples<'_>,
    start: usize,
    hits: &mut Hits,
) -> Outcome {
    let mut outcome = Outcome::default();
    let exceptions = &samples.quality.exceptions;
    let from = exceptions.partition_point(|e| (e.0 as usize) < start);
    let mut exceptions = exceptions.iter().skip(from).peekable();
    let mut before = match start {
        0 => samples.before,
        _ => samples.times.get(start - 1).copied(),
    };
    for (i, (&value, &time)) in samples
        .numbers
        .iter()
        .zip(samples.times)
        .enumerate()
        .skip(start)
    {
        let at = Sample {
            index: i as u32,
            value,
        };
        let exception = exceptions.next_if(|e| e.0 as usize == i);
        if exception.is_some_and(|e| e.1.is_bad()) {
            if outcome.missing == 0 {
                outcome.first_missing = at.index;
            }
            outcome.missing += 1;
            state.linked = false;
            continue;
        }
        if !is_possible(settings, at, hits) {
            state.linked = false;
            continue;
        }
        let neighbour = match (state.linked, state.last, before) {
            (true, Some(value), Some(before)) => Some(Neighbour {
                value,
                step: time.saturating_sub(before),
            }),
            _ => None,
        };
        if let (Some(neighbour), Some(fastest)) = (neighbour, settings.max_rate) {
            check_rate(at, neighbour, fastest, hits);
        }
        state.run = match state.last {
            Some(last) if last == value => state.run.saturating_add(1),
            _ => 1,
        };
        if armed.stuck_after > 0 && state.run >= armed.stuck_after {
            let (run, limit) = (f64::from(state.run), f64::from(armed.stuck_after));
            hits.add(Chart::Sensor, Rule::Stuck, at, run, limit);
        }
        (state.last, state.linked, before) = (Some(value), true, Some(time));
        match &mut phase1 {
            Some(phase1) => {
                if phase1.add(value, neighbour, state.run) {
                    outcome.phase1_ended_before = Some(i + 1);
                    return outcome;
                }
            }
            None => chart(armed, state, at, neighbour, hits),
        }
    }
    outcome
}

/// Whether a value is finite and within the physical range; what is not is kept from the charts.
fn is_possible(settings: &TagSettings, at: Sample, hits: &mut Hits) -> bool {
    let x = at.value;
    if !x.is_finite() {
        hits.add(Chart::Sensor, Rule::NotFinite, at, x, 0.0);
        return false;
    }
    let Some((low, high)) = settings.range.filter(|(low, high)| x < *low || x > *high) else {
        return true;
    };
    let limit = passed(x, low, high);
    hits.add(Chart::Sensor, Rule::OutOfRange, at, x, limit);
    false
}

fn check_rate(at: Sample, before: Neighbour, fastest: f64, hits: &mut Hits) {
    if before.step <= 0 {
        return;
    }
    let rate = (at.value - before.value).abs() * 1e9 / before.step as f64;
    if rate > fastest {
        hits.add(Chart::Sensor, Rule::RateOfChange, at, rate, fastest);
    }
}

/// Shows one good sample to every chart that is on.
fn chart(
    armed: &Armed,
    state: &mut TagState,
    at: Sample,
    before: Option<Neighbour>,
    hits: &mut Hits,
) {
    let x = at.value;
    if let Some(limits) = &armed.individuals
        && limits.exceeded(x)
    {
        let limit = passed(x, limits.lcl, limits.ucl);
        hits.add(Chart::Individuals, Rule::BeyondLimit, at, x, limit);
    }
    if let (Some((limits, longest)), Some(before)) = (&armed.moving_range, before) {
        let range = (x - before.value).abs();
        if (0..=*longest).contains(&before.step) && range > limits.ucl {
            hits.add(Chart::MovingRange, Rule::BeyondLimit, at, range, limits.ucl);
        }
    }
    if let Some(ewma) = &armed.ewma {
        state.ewma = ewma.next(state.ewma, x);
        if ewma.limits.exceeded(state.ewma) {
            let limit = passed(state.ewma, ewma.limits.lcl, ewma.limits.ucl);
            hits.add(Chart::Ewma, Rule::BeyondLimit, at, state.ewma, limit);
        }
    }
    if let Some(cusum) = &armed.cusum
        && let Some(sum) = cusum.add(&mut state.cusum, x)
    {
        let limit = if sum < 0.0 { -cusum.h } else { cusum.h };
        hits.add(Chart::Cusum, Rule::BeyondLimit, at, sum, limit);
    }
    if let Some(xbar_s) = &armed.xbar_s
        && let Some(done) = xbar_s.add(&mut state.subgroup, x)
    {
        let (mean, spread) = (done.mean, done.standard_deviation);
        if xbar_s.mean.exceeded(mean) {
            let limit = passed(mean, xbar_s.mean.lcl, xbar_s.mean.ucl);
            hits.add(Chart::XbarS, Rule::MeanBeyondLimit, at, mean, limit);
        }
        if xbar_s.spread.exceeded(spread) {
            let limit = passed(spread, xbar_s.spread.lcl, xbar_s.spread.ucl);
            hits.add(Chart::XbarS, Rule::SpreadBeyondLimit, at, spread, limit);
        }
    }
    if let Some(rules) = &armed.rules {
        let hit = rules.add(&mut state.rules, x);
        let zone = |width: f64| {
            if x < rules.center {
                rules.center - width * rules.sigma
            } else {
                rules.center + width * rules.sigma
            }
        };
        for rule in set_bits(hit.western_electric) {
            let limit = zone([3.0, 2.0, 1.0, 0.0][usize::from(rule - 1) & 3]);
            hits.add(
                Chart::WesternElectric,
                Rule::WesternElectric(rule),
                at,
                x,
                limit,
            );
        }
        for rule in set_bits(hit.nelson) {
            let width = [3.0, 0.0, 0.0, 0.0, 2.0, 1.0, 1.0, 1.0][usize::from(rule - 1) & 7];
            hits.add(Chart::Nelson, Rule::Nelson(rule), at, x, zone(width));
        }
    }
}

fn passed(statistic: f64, lcl: f64, ucl: f64) -> f64 {
    if statistic < lcl { lcl } else { ucl }
}

fn set_bits(bits: u8) -> impl Iterator<Item = u8> {
    (1..=8).filter(move |rule| bits & (1 << (rule - 1)) != 0)
}
