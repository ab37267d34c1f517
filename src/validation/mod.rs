//! Validation: statistical process control, as the paper's proof of work.
//!
//! Pure and streaming: a [`DeviceValidator`] is told settings and limits, is shown one batch after
//! the other, and says of each whether it is in control, out of control or invalid, naming chart,
//! rule, sample and limit. No clock, no randomness, no I/O; the only arithmetic that judges is plus,
//! minus, times, divided by and square root on `f64`, never fused and never from a library, so that
//! another hub that judges again finds the same bits.

mod armed;
mod bits;
mod chart_history;
mod clock;
mod column;
pub mod config;
pub mod constants;
pub mod cusum;
mod device;
mod error;
pub mod ewma;
pub mod individuals;
mod limits;
pub mod moments;
mod numbers;
mod phase1;
pub mod rules;
mod settings;
mod state;
mod verdict;
pub mod xbar_s;

#[cfg(test)]
mod tests;

pub use chart_history::{ChartHistory, ChartPoint, TagChart};
pub use config::{TagValidation, ValidationConfig};
pub use device::{DeviceValidator, Judgement};
pub use error::ValidationError;
pub use limits::{Limits, TagLimits};
pub use numbers::{
    Finite, Lambda, NelsonRule, NotNegative, Positive, RecoveryBatches, Share, SubgroupSize,
    WesternElectricRule,
};
pub use phase1::{Baseline, Behaviour};
pub use verdict::{Chart, FINDINGS_LISTED, Finding, Rule, Verdict};
