//! The charts of one tag, ready to judge: settings and Phase I turned into plain numbers.

use super::config::{LimitPolicy, SigmaFrom};
use super::constants::c4;
use super::cusum::CusumChart;
use super::ewma::EwmaChart;
use super::individuals::{ControlLimits, moving_range_limits, sigma_of_moving_range};
use super::limits::TagLimits;
use super::phase1::{Baseline, Behaviour};
use super::rules::RunRules;
use super::settings::{SetLimits, TagSettings};
use super::xbar_s::XBarSChart;

/// A tag is not called stuck before so many equal values, whatever Phase I saw.
const STUCK_AT_LEAST: u32 = 20;
/// ... and not before so many times the longest run of Phase I: a run's length is roughly geometric,
/// so five times the longest of n runs is as rare as n⁻⁴.
const STUCK_TIMES: u32 = 5;
/// From so many samples on a standard deviation is better known than to a factor of two.
const FEW_SAMPLES: f64 = 20.0;

/// The charts that judge one tag. Those that are off are `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Armed {
    pub individuals: Option<ControlLimits>,
    /// Limits, and the longest time between neighbours (ns) for which they hold.
    pub moving_range: Option<(ControlLimits, i64)>,
    pub ewma: Option<EwmaChart>,
    pub cusum: Option<CusumChart>,
    pub xbar_s: Option<XBarSChart>,
    pub rules: Option<RunRules>,
    /// 0 is off.
    pub stuck_after: u32,
    pub fast: Option<FastLimits>,
}

/// The numbers of the fast path: while every sample stays within them, no chart has a finding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct FastLimits {
    pub low: f64,
    pub high: f64,
    pub range: f64,
    pub longest_step: i64,
    pub ewma: EwmaChart,
    pub stuck_after: u32,
}

impl Armed {
    /// The charts of a tag with set limits, with limits learned from `baseline`, or without either.
    pub fn new(settings: &TagSettings, baseline: Option<&Baseline>) -> Self {
        let mut armed = match (&settings.set, baseline) {
            _ if !settings.chartable => Self::default(),
            (Some(set), _) => Self::given(settings, set),
            (None, Some(baseline)) => Self::learned(settings, baseline),
            (None, None) => Self::default(),
        };
        if let Some(after) = settings.stuck_after {
            armed.stuck_after = after;
        }
        armed.fast = armed.fast_limits(settings);
        armed
    }

    fn given(settings: &TagSettings, set: &SetLimits) -> Self {
        let on = settings.charts;
        let mut armed = Self::default();
        if let Some((center, sigma)) = set.center_sigma {
            armed.arm_by_sigma(settings, center, sigma);
            armed.individuals = Some(ControlLimits::around(center, settings.sigmas * sigma));
            armed.xbar_s = XBarSChart::given(settings.subgroup, center, sigma);
            let range = moving_range_limits(sigma * super::constants::d2_of_two());
            armed.moving_range = Some((range, i64::MAX));
        }
        if set.lcl.is_some() || set.ucl.is_some() {
            let limits = armed.individuals.unwrap_or(ControlLimits::NONE);
            armed.individuals = Some(ControlLimits {
                lcl: set.lcl.unwrap_or(limits.lcl),
                ucl: set.ucl.unwrap_or(limits.ucl),
                center: limits.center,
            });
        }
        armed.individuals = armed.individuals.filter(|_| on.individuals);
        armed.moving_range = armed.moving_range.filter(|_| on.moving_range);
        armed.xbar_s = armed.xbar_s.filter(|_| on.xbar_s);
        armed
    }

    fn learned(settings: &TagSettings, b: &Baseline) -> Self {
        let behaviour = b.behaviour();
        let envelope = settings.limits == LimitPolicy::Envelope;
        let (level, steps) = match behaviour {
            Behaviour::Steady => (true, true),
            Behaviour::Drifting => (!envelope, true),
            Behaviour::Monotone => (!envelope, !envelope),
            Behaviour::Constant | Behaviour::Unknown => (false, false),
        };
        let on = settings.charts;
        let mut armed = Self::default();
        if level {
            let sigma = sigma(settings, b);
            armed.arm_by_sigma(settings, b.mean, sigma);
            armed.individuals = on.individuals.then(|| individuals(settings, b, sigma));
            armed.ewma = on.ewma.then(|| ewma(settings, b, sigma));
            armed.xbar_s = on.xbar_s.then(|| xbar_s(settings, b, sigma)).flatten();
        }
        if steps && on.moving_range {
            armed.moving_range = Some((moving_range(settings, b), longest_step(b)));
        }
        if matches!(behaviour, Behaviour::Steady | Behaviour::Drifting) {
            armed.stuck_after = b
                .longest_run
                .saturating_mul(STUCK_TIMES)
                .max(STUCK_AT_LEAST);
        }
        armed
    }

    fn arm_by_sigma(&mut self, settings: &TagSettings, center: f64, sigma: f64) {
        let half = settings.ewma_l * EwmaChart::statistic_sigma(settings.lambda, sigma);
        let limits = ControlLimits::around(center, half);
        self.ewma = settings
            .charts
            .ewma
            .then(|| EwmaChart::new(settings.lambda, sigma, limits));
        self.cusum = settings.charts.cusum.then_some(CusumChart {
            center,
            sigma,
            k: settings.cusum_k,
            h: settings.cusum_h,
            after_signal: settings.after_signal,
        });
        let any_rule = settings.western_electric | settings.nelson != 0;
        self.rules = any_rule.then_some(RunRules {
            center,
            sigma,
            western_electric: settings.western_electric,
            nelson: settings.nelson,
        });
    }

    /// The fast path's numbers; `None` when a chart is on that it does not know.
    fn fast_limits(&self, settings: &TagSettings) -> Option<FastLimits> {
        let unknown = self.cusum.is_some() || self.xbar_s.is_some() || self.rules.is_some();
        if unknown || settings.max_rate.is_some() {
            return None;
        }
        // A limit that is off is one that no finite number passes; infinity and NaN always do.
        let mut low = -f64::MAX;
        let mut high = f64::MAX;
        let mut tighten = |l: f64, h: f64| {
            low = if l > low { l } else { low };
            high = if h < high { h } else { high };
        };
        if let Some((l, h)) = settings.range {
            tighten(l, h);
        }
        if let Some(limits) = &self.individuals {
            tighten(limits.lcl, limits.ucl);
        }
        if let Some(ewma) = &self.ewma {
            let (l, h) = ewma.clip();
            tighten(l, h);
        }
        let (range, longest_step) = self
            .moving_range
            .map_or((f64::INFINITY, i64::MAX), |(limits, step)| {
                (limits.ucl, step)
            });
        Some(FastLimits {
            low,
            high,
            range,
            longest_step,
            // Weight 0 leaves the statistic where it is.
            ewma: self
                .ewma
                .unwrap_or_else(|| EwmaChart::new(0.0, 0.0, ControlLimits::NONE)),
            stuck_after: if self.stuck_after == 0 {
                u32::MAX
            } else {
                self.stuck_after
            },
        })
    }

    /// What goes into the limits document; `None` while there are no limits.
    pub fn document(
        &self,
        settings: &TagSettings,
        baseline: Option<&Baseline>,
    ) -> Option<TagLimits> {
        if settings.set.is_none() && baseline.is_none() {
            return None;
        }
        let given = settings
            .set
            .and_then(|s| s.center_sigma)
            .map(|(_, sigma)| sigma);
        let known =
            baseline.filter(|b| !matches!(b.behaviour(), Behaviour::Constant | Behaviour::Unknown));
        Some(TagLimits {
            tag: settings.name.clone(),
            baseline: baseline.cloned(),
            behaviour: baseline.map(Baseline::behaviour),
            sigma: given.or_else(|| known.map(|b| sigma(settings, b))),
            individuals: self.individuals,
            moving_range: self.moving_range.map(|(limits, _)| limits),
            ewma: self.ewma.map(|e| e.limits),
            cusum: self.cusum.map(|c| c.h),
            xbar: self.xbar_s.map(|x| x.mean),
            spread: self.xbar_s.map(|x| x.spread),
            stuck_after: (self.stuck_after > 0).then_some(self.stuck_after),
        })
    }
}

fn sigma(settings: &TagSettings, b: &Baseline) -> f64 {
    let by_range = sigma_of_moving_range(b.mean_range);
    match settings.sigma_from {
        SigmaFrom::MovingRange if by_range > 0.0 => by_range,
        _ => b.standard_deviation / c4(b.samples),
    }
}

fn individuals(settings: &TagSettings, b: &Baseline, sigma: f64) -> ControlLimits {
    match settings.limits {
        LimitPolicy::Sigma => ControlLimits::around(b.mean, settings.sigmas * sigma),
        LimitPolicy::Envelope => {
            let room = settings.margin * (b.max - b.min);
            ControlLimits::around(
                b.mean,
                settings.sigmas * caution(f64::from(b.samples)) * b.standard_deviation,
            )
            .widened(b.min - room, b.max + room)
        }
    }
}

fn moving_range(settings: &TagSettings, b: &Baseline) -> ControlLimits {
    match settings.limits {
        LimitPolicy::Sigma => moving_range_limits(b.mean_range),
        // Steps lie between −max and +max; the margin is of that whole range, on its upper side.
        LimitPolicy::Envelope => moving_range_limits(b.mean_range * caution(f64::from(b.samples)))
            .widened(0.0, b.max_range + settings.margin * 2.0 * b.max_range),
    }
}

/// How much wider limits are for few samples, whose range says little of what is to come: twice as
/// wide for 20, a fifth wider for 100.
fn caution(samples: f64) -> f64 {
    1.0 + FEW_SAMPLES / samples
}

/// Neighbours much further apart in time than in Phase I say nothing by their difference.
fn longest_step(b: &Baseline) -> i64 {
    b.longest_step.saturating_add(b.longest_step / 2)
}

fn ewma(settings: &TagSettings, b: &Baseline, sigma: f64) -> EwmaChart {
    let half = |sigma| settings.ewma_l * EwmaChart::statistic_sigma(settings.lambda, sigma);
    match settings.limits {
        LimitPolicy::Sigma => {
            let limits = ControlLimits::around(b.mean, half(sigma));
            EwmaChart::new(settings.lambda, sigma, limits)
        }
        LimitPolicy::Envelope => {
            // Neighbours share most of an average: (2 − λ)/λ samples say as much as one alone.
            let alone = f64::from(b.samples) * settings.lambda / (2.0 - settings.lambda);
            let limits = ControlLimits::around(b.mean, half(caution(alone) * b.standard_deviation));
            let watched = b.lambda == settings.lambda && b.ewma_min < b.ewma_max;
            let (low, high) = if watched {
                (b.ewma_min, b.ewma_max)
            } else {
                // Watched with another weight, or not for long enough: an average never leaves the
                // range of what it averages.
                (b.min, b.max)
            };
            let room = settings.margin * (high - low);
            let limits = limits.widened(low - room, high + room);
            EwmaChart::new(settings.lambda, b.standard_deviation, limits)
        }
    }
}

fn xbar_s(settings: &TagSettings, b: &Baseline, sigma: f64) -> Option<XBarSChart> {
    if b.subgroup == settings.subgroup && b.subgroups > 0 && b.mean_spread > 0.0 {
        XBarSChart::learned(settings.subgroup, b.grand_mean, b.mean_spread)
    } else {
        XBarSChart::given(settings.subgroup, b.mean, sigma)
    }
}
