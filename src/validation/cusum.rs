//! The two-sided tabular CUSUM (Page 1954; Montgomery, section 9.1): C⁺ ← max(0, C⁺ + z − k) and
//! C⁻ ← max(0, C⁻ − z − k) of standardised samples z.

use super::config::AfterSignal;

/// A sample counts for no more standard deviations than this: sums stay finite whatever arrives.
const CLIP_SIGMAS: f64 = 1000.0;

/// Both sums, in standard deviations.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CusumState {
    /// C⁺.
    pub upper: f64,
    /// C⁻.
    pub lower: f64,
}

/// A CUSUM chart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CusumChart {
    /// Target.
    pub center: f64,
    /// Standard deviation of single samples.
    pub sigma: f64,
    /// Reference value, in standard deviations.
    pub k: f64,
    /// Decision interval, in standard deviations.
    pub h: f64,
    /// What happens after a signal.
    pub after_signal: AfterSignal,
}

impl CusumChart {
    /// Adds sample `x`. Returns the sum that passed the decision interval, if one did: positive for
    /// a shift upwards, negative for one downwards.
    #[inline]
    pub fn add(&self, state: &mut CusumState, x: f64) -> Option<f64> {
        let z = ((x - self.center) / self.sigma).clamp(-CLIP_SIGMAS, CLIP_SIGMAS);
        let upper = positive_part(state.upper + z - self.k);
        let lower = positive_part(state.lower - z - self.k);
        let signal = if upper > self.h {
            Some(upper)
        } else if lower > self.h {
            Some(-lower)
        } else {
            None
        };
        *state = if signal.is_some() && self.after_signal == AfterSignal::Restart {
            CusumState::default()
        } else {
            CusumState { upper, lower }
        };
        signal
    }
}

/// max(0, x). `f64::max` may return either zero of 0 and −0, and the state must be the same bits
/// everywhere.
#[inline]
fn positive_part(x: f64) -> f64 {
    if x > 0.0 { x } else { 0.0 }
}
