//! The X̄-S chart: mean and standard deviation of subgroups of consecutive samples (Montgomery,
//! section 6.3).

use super::constants::ChartConstants;
use super::individuals::ControlLimits;
use super::moments::Moments;

/// A finished subgroup.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SubgroupStatistics {
    /// X̄.
    pub mean: f64,
    /// S, with n − 1.
    pub standard_deviation: f64,
}

/// An X̄-S chart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct XBarSChart {
    /// Samples in a subgroup.
    pub subgroup: u32,
    /// Limits of the subgroup mean.
    pub mean: ControlLimits,
    /// Limits of the subgroup standard deviation.
    pub spread: ControlLimits,
}

impl XBarSChart {
    /// From what Phase I found: mean of means, and mean of standard deviations. `None` when the
    /// subgroup size has no constants (2 to 25 have).
    pub fn learned(subgroup: u32, grand_mean: f64, mean_spread: f64) -> Option<Self> {
        let c = ChartConstants::of(subgroup)?;
        Some(Self {
            subgroup,
            mean: ControlLimits::around(grand_mean, c.a3 * mean_spread),
            spread: ControlLimits {
                lcl: c.b3 * mean_spread,
                center: mean_spread,
                ucl: c.b4 * mean_spread,
            },
        })
    }

    /// From a given centre and standard deviation of single samples.
    pub fn given(subgroup: u32, center: f64, sigma: f64) -> Option<Self> {
        let c = ChartConstants::of(subgroup)?;
        Some(Self {
            subgroup,
            mean: ControlLimits::around(center, c.a * sigma),
            spread: ControlLimits {
                lcl: c.b5 * sigma,
                center: c.c4 * sigma,
                ucl: c.b6 * sigma,
            },
        })
    }

    /// Adds a sample to the running subgroup; what it was when this one completed it.
    #[inline]
    pub fn add(&self, running: &mut Moments, x: f64) -> Option<SubgroupStatistics> {
        close_subgroup(running, self.subgroup, x)
    }
}

/// Adds a sample to a subgroup of `size`; its statistics, and an empty subgroup, when it is full.
pub(super) fn close_subgroup(
    running: &mut Moments,
    size: u32,
    x: f64,
) -> Option<SubgroupStatistics> {
    running.add(x);
    (running.count >= size).then(|| {
        let done = std::mem::take(running);
        SubgroupStatistics {
            mean: done.mean,
            standard_deviation: done.standard_deviation(),
        }
    })
}
