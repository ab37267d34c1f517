//! Phase I: what the first good samples of a tag say of it, gathered in one pass.

use super::moments::Moments;
use super::xbar_s::close_subgroup;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::Serialize;

/// What Phase I found. Limits follow from it and the settings alone.
#[derive(Clone, Debug, PartialEq, Serialize, BorshSerialize, BorshDeserialize)]
pub struct Baseline {
    /// Good samples it is made of.
    pub samples: u32,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation.
    pub standard_deviation: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// Mean step between neighbours, without sign.
    pub mean_range: f64,
    /// The largest step between neighbours.
    pub max_range: f64,
    /// Steps up.
    pub rises: u32,
    /// Steps down.
    pub falls: u32,
    /// By how many standard deviations (those within the halves) the second half's mean is away
    /// from the first half's.
    pub half_shift: f64,
    /// The weight the EWMA was watched with.
    pub lambda: f64,
    /// The smallest EWMA once its start was forgotten; above `ewma_max` when there was none.
    pub ewma_min: f64,
    /// The largest.
    pub ewma_max: f64,
    /// Size of the subgroups.
    pub subgroup: u32,
    /// Full subgroups.
    pub subgroups: u32,
    /// Mean of their means.
    pub grand_mean: f64,
    /// Mean of their standard deviations.
    pub mean_spread: f64,
    /// The longest run of equal values.
    pub longest_run: u32,
    /// The longest time between neighbours, in ns.
    pub longest_step: i64,
}

/// How a tag behaved in Phase I.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, BorshSerialize, BorshDeserialize)]
#[serde(rename_all = "snake_case")]
pub enum Behaviour {
    /// It moves about a level: all charts apply.
    Steady,
    /// Its level was still on its way somewhere (a motor that warms up): only its steps are charted.
    Drifting,
    /// It only ever rises, or only ever falls (a counter).
    Monotone,
    /// It did not move (a setpoint).
    Constant,
    /// Too few samples, or too large for 64-bit numbers.
    Unknown,
}

/// Halves that are further apart than this, in standard deviations within them, are a drift. A
/// straight line has 3.5, one and a half periods of a sine 0.6, a hundred independent samples stay
/// below 0.6.
const DRIFT: f64 = 1.0;

impl Baseline {
    /// How the tag behaved.
    pub fn behaviour(&self) -> Behaviour {
        if self.samples < 2 {
            Behaviour::Unknown
        } else if self.min == self.max {
            Behaviour::Constant
        } else if self.standard_deviation <= 0.0 {
            Behaviour::Unknown
        } else if self.rises == 0 || self.falls == 0 {
            Behaviour::Monotone
        } else if self.half_shift > DRIFT {
            Behaviour::Drifting
        } else {
            Behaviour::Steady
        }
    }

    /// A baseline that nothing is charted by, of `samples` samples.
    fn unknown(samples: u32) -> Self {
        Self {
            samples: samples.min(1),
            mean: 0.0,
            standard_deviation: 0.0,
            min: 0.0,
            max: 0.0,
            mean_range: 0.0,
            max_range: 0.0,
            rises: 0,
            falls: 0,
            half_shift: 0.0,
            lambda: 1.0,
            ewma_min: 0.0,
            ewma_max: 0.0,
            subgroup: 2,
            subgroups: 0,
            grand_mean: 0.0,
            mean_spread: 0.0,
            longest_run: 0,
            longest_step: 0,
        }
    }

    /// Whether limits can follow from it.
    pub(super) fn is_finite(&self) -> bool {
        [
            self.min,
            self.max,
            self.lambda,
            self.mean,
            self.standard_deviation,
            self.mean_range,
            self.max_range,
            self.half_shift,
            self.ewma_min,
            self.ewma_max,
            self.grand_mean,
            self.mean_spread,
        ]
        .iter()
        .all(|x| x.is_finite())
    }
}

/// Phase I while it runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Phase1 {
    lambda: f64,
    subgroup: u32,
    target: u32,
    all: Moments,
    first_half: Moments,
    second_half: Moments,
    min: f64,
    max: f64,
    steps: u32,
    range_sum: f64,
    max_range: f64,
    rises: u32,
    falls: u32,
    z: f64,
    ewma_min: f64,
    ewma_max: f64,
    running: Moments,
    subgroups: u32,
    mean_sum: f64,
    spread_sum: f64,
    longest_run: u32,
    longest_step: i64,
}

/// The sample before, when there was no gap between.
#[derive(Clone, Copy, Debug)]
pub(super) struct Neighbour {
    pub value: f64,
    /// ns from it to the sample.
    pub step: i64,
}

/// 64-bit words of [`Phase1`] in a state document, without what the settings say.
pub(super) const PHASE1_WORDS: usize = 23;

impl Phase1 {
    pub fn new(target: u32, lambda: f64, subgroup: u32) -> Self {
        Self {
            lambda,
            subgroup,
            target,
            all: Moments::default(),
            first_half: Moments::default(),
            second_half: Moments::default(),
            min: 0.0,
            max: 0.0,
            steps: 0,
            range_sum: 0.0,
            max_range: 0.0,
            rises: 0,
            falls: 0,
            z: 0.0,
            ewma_min: 0.0,
            ewma_max: 0.0,
            running: Moments::default(),
            subgroups: 0,
            mean_sum: 0.0,
            spread_sum: 0.0,
            longest_run: 0,
            longest_step: 0,
        }
    }

    /// Takes one good sample in; `run` is how many equal ones end with it. True when it was the last.
    pub fn add(&mut self, x: f64, before: Option<Neighbour>, run: u32) -> bool {
        if self.all.count == 0 {
            (self.min, self.max, self.z) = (x, x, x);
        }
        self.min = if x < self.min { x } else { self.min };
        self.max = if x > self.max { x } else { self.max };
        self.all.add(x);
        if self.all.count <= self.target / 2 {
            self.first_half.add(x);
        } else {
            self.second_half.add(x);
        }
        if let Some(before) = before {
            self.add_step(x, before);
        }
        self.add_ewma(x);
        if let Some(done) = close_subgroup(&mut self.running, self.subgroup, x) {
            self.subgroups = self.subgroups.saturating_add(1);
            self.mean_sum += done.mean;
            self.spread_sum += done.standard_deviation;
        }
        self.longest_run = self.longest_run.max(run);
        self.all.count >= self.target
    }

    fn add_step(&mut self, x: f64, before: Neighbour) {
        let range = (x - before.value).abs();
        self.steps = self.steps.saturating_add(1);
        self.range_sum += range;
        self.max_range = if range > self.max_range {
            range
        } else {
            self.max_range
        };
        self.rises = self.rises.saturating_add(u32::from(x > before.value));
        self.falls = self.falls.saturating_add(u32::from(x < before.value));
        self.longest_step = self.longest_step.max(before.step);
    }

    fn add_ewma(&mut self, x: f64) {
        self.z = self.lambda * x + (1.0 - self.lambda) * self.z;
        // After 4/λ samples less than 2 % of the start is left in it.
        if f64::from(self.all.count) * self.lambda <= 4.0 {
            (self.ewma_min, self.ewma_max) = (self.z, self.z);
        }
        self.ewma_min = if self.z < self.ewma_min {
            self.z
        } else {
            self.ewma_min
        };
        self.ewma_max = if self.z > self.ewma_max {
            self.z
        } else {
            self.ewma_max
        };
    }

    /// What it found so far.
    pub fn finish(&self) -> Baseline {
        let mean_of = |sum: f64, count: u32| {
            if count == 0 {
                0.0
            } else {
                sum / f64::from(count)
            }
        };
        let found = Baseline {
            samples: self.all.count,
            mean: self.all.mean,
            standard_deviation: self.all.standard_deviation(),
            min: self.min,
            max: self.max,
            mean_range: mean_of(self.range_sum, self.steps),
            max_range: self.max_range,
            rises: self.rises,
            falls: self.falls,
            half_shift: self.half_shift(),
            lambda: self.lambda,
            ewma_min: self.ewma_min,
            ewma_max: self.ewma_max,
            subgroup: self.subgroup,
            subgroups: self.subgroups,
            grand_mean: mean_of(self.mean_sum, self.subgroups),
            mean_spread: mean_of(self.spread_sum, self.subgroups),
            longest_run: self.longest_run,
            longest_step: self.longest_step,
        };
        if found.is_finite() {
            found
        } else {
            Baseline::unknown(self.all.count)
        }
    }

    fn half_shift(&self) -> f64 {
        let (a, b) = (&self.first_half, &self.second_half);
        if a.count < 2 || b.count < 2 {
            return 0.0;
        }
        let shift = (b.mean - a.mean).abs();
        let within = ((a.m2 + b.m2) / (f64::from(a.count) + f64::from(b.count) - 2.0)).sqrt();
        if shift == 0.0 {
            0.0
        } else if within > 0.0 && shift / within < f64::MAX {
            shift / within
        } else {
            f64::MAX
        }
    }

    /// Everything that is not in the settings, as words of a state document.
    pub fn words(&self) -> [u64; PHASE1_WORDS] {
        let pair = |a: u32, b: u32| u64::from(a) << 32 | u64::from(b);
        let m = |m: &Moments| (m.mean.to_bits(), m.m2.to_bits());
        let (all, first, second, running) = (
            m(&self.all),
            m(&self.first_half),
            m(&self.second_half),
            m(&self.running),
        );
        [
            pair(self.all.count, self.steps),
            pair(self.first_half.count, self.second_half.count),
            pair(self.rises, self.falls),
            pair(self.running.count, self.subgroups),
            u64::from(self.longest_run),
            self.longest_step as u64,
            all.0,
            all.1,
            first.0,
            first.1,
            second.0,
            second.1,
            running.0,
            running.1,
            self.min.to_bits(),
            self.max.to_bits(),
            self.range_sum.to_bits(),
            self.max_range.to_bits(),
            self.z.to_bits(),
            self.ewma_min.to_bits(),
            self.ewma_max.to_bits(),
            self.mean_sum.to_bits(),
            self.spread_sum.to_bits(),
        ]
    }

    /// The reverse of [`words`](Self::words), under the same settings.
    pub fn from_words(target: u32, lambda: f64, subgroup: u32, w: &[u64; PHASE1_WORDS]) -> Self {
        let high = |i: usize| (w[i] >> 32) as u32;
        let low = |i: usize| w[i] as u32;
        let f = |i: usize| f64::from_bits(w[i]);
        let moments = |count: u32, at: usize| Moments {
            count,
            mean: f(at),
            m2: f(at + 1),
        };
        Self {
            lambda,
            subgroup,
            target,
            all: moments(high(0), 6),
            first_half: moments(high(1), 8),
            second_half: moments(low(1), 10),
            running: moments(high(3), 12),
            steps: low(0),
            rises: high(2),
            falls: low(2),
            subgroups: low(3),
            longest_run: low(4),
            longest_step: w[5] as i64,
            min: f(14),
            max: f(15),
            range_sum: f(16),
            max_range: f(17),
            z: f(18),
            ewma_min: f(19),
            ewma_max: f(20),
            mean_sum: f(21),
            spread_sum: f(22),
        }
    }
}
