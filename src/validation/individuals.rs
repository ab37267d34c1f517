//! Limits, and the charts that compare one number with them: individuals and moving range
//! (Shewhart 1931; Montgomery, section 6.4).

use super::constants::{d2_of_two, upper_range_of_two};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::Serialize;

/// Control limits of a chart, in the unit of its statistic. A side without a limit is infinite.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, BorshSerialize, BorshDeserialize)]
pub struct ControlLimits {
    /// Lower control limit.
    pub lcl: f64,
    /// Centre line.
    pub center: f64,
    /// Upper control limit.
    pub ucl: f64,
}

impl ControlLimits {
    /// Nothing is beyond these.
    pub const NONE: Self = Self {
        lcl: f64::NEG_INFINITY,
        center: 0.0,
        ucl: f64::INFINITY,
    };

    /// `center` ± `half_width`.
    pub fn around(center: f64, half_width: f64) -> Self {
        Self {
            lcl: center - half_width,
            center,
            ucl: center + half_width,
        }
    }

    /// Whether `statistic` is beyond them. On the limit is not beyond it.
    pub fn exceeded(&self, statistic: f64) -> bool {
        !(statistic >= self.lcl && statistic <= self.ucl)
    }

    /// The wider of both on each side, with this centre.
    pub fn widened(self, low: f64, high: f64) -> Self {
        Self {
            lcl: if low < self.lcl { low } else { self.lcl },
            center: self.center,
            ucl: if high > self.ucl { high } else { self.ucl },
        }
    }
}

/// Standard deviation that a mean moving range stands for.
pub fn sigma_of_moving_range(mean_range: f64) -> f64 {
    mean_range / d2_of_two()
}

/// Limits of the moving range chart: 0 to D4 times its mean.
pub fn moving_range_limits(mean_range: f64) -> ControlLimits {
    ControlLimits {
        lcl: 0.0,
        center: mean_range,
        ucl: upper_range_of_two() * mean_range,
    }
}
