//! The EWMA chart: z ← λ·x + (1−λ)·z (Roberts 1959; Lucas and Saccucci 1990).

use super::individuals::ControlLimits;

/// A sample is taken for no further from the centre than so many standard deviations. Without it
/// one absurd but finite value would keep the average beyond its limits for hours.
const CLIP_SIGMAS: f64 = 1000.0;

/// An EWMA chart with fixed limits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EwmaChart {
    lambda: f64,
    keep: f64,
    clip_low: f64,
    clip_high: f64,
    /// Limits of the statistic.
    pub limits: ControlLimits,
}

impl EwmaChart {
    /// A chart with weight `lambda` of the newest sample. `sigma` is that of single samples.
    pub fn new(lambda: f64, sigma: f64, limits: ControlLimits) -> Self {
        Self {
            lambda,
            keep: 1.0 - lambda,
            clip_low: limits.center - CLIP_SIGMAS * sigma,
            clip_high: limits.center + CLIP_SIGMAS * sigma,
            limits,
        }
    }

    /// Standard deviation of the statistic in the long run, for independent samples.
    pub fn statistic_sigma(lambda: f64, sigma: f64) -> f64 {
        sigma * (lambda / (2.0 - lambda)).sqrt()
    }

    /// The next value of the statistic after `z`, when the sample is `x`.
    #[inline]
    pub fn next(&self, z: f64, x: f64) -> f64 {
        let x = if x < self.clip_low {
            self.clip_low
        } else if x > self.clip_high {
            self.clip_high
        } else {
            x
        };
        self.next_unclipped(z, x)
    }

    /// The same for a sample that is known to be within [`clip`](Self::clip).
    #[inline]
    pub(super) fn next_unclipped(&self, z: f64, x: f64) -> f64 {
        self.lambda * x + self.keep * z
    }

    /// What samples are clipped to.
    pub(super) fn clip(&self) -> (f64, f64) {
        (self.clip_low, self.clip_high)
    }
}
