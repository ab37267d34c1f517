//! The limits in force: the document that Phase I ends with, and that a `configure` record commits to.

use super::ValidationError;
use super::individuals::ControlLimits;
use super::phase1::{Baseline, Behaviour};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::Serialize;

/// Version of the limits document this code writes.
pub const LIMITS_VERSION: u8 = 1;

/// The limits of one tag, as its charts use them.
#[derive(Clone, Debug, PartialEq, Serialize, BorshSerialize, BorshDeserialize)]
pub struct TagLimits {
    /// Name of the tag.
    pub tag: String,
    /// What Phase I found; `None` when the limits were set.
    pub baseline: Option<Baseline>,
    /// How the tag behaved in Phase I; `None` when the limits were set.
    pub behaviour: Option<Behaviour>,
    /// Standard deviation in use.
    pub sigma: Option<f64>,
    /// Individuals chart, when it is armed.
    pub individuals: Option<ControlLimits>,
    /// Moving range chart.
    pub moving_range: Option<ControlLimits>,
    /// EWMA chart.
    pub ewma: Option<ControlLimits>,
    /// CUSUM chart: decision interval of the sums, in standard deviations.
    pub cusum: Option<f64>,
    /// X̄ of the X̄-S chart.
    pub xbar: Option<ControlLimits>,
    /// S of the X̄-S chart.
    pub spread: Option<ControlLimits>,
    /// Equal values in a row that mean a stuck sensor.
    pub stuck_after: Option<u32>,
}

/// The limits of a device. Tags that are still in Phase I are not in it.
#[derive(Clone, Debug, PartialEq, Serialize, BorshSerialize, BorshDeserialize)]
pub struct Limits {
    /// [`LIMITS_VERSION`].
    pub version: u8,
    /// The tags that have limits, in the device's tag order.
    pub tags: Vec<TagLimits>,
}

impl Limits {
    /// Canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        weighbridge_verifier::encode(self)
    }

    /// Reads [`encode`](Self::encode)'s bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, ValidationError> {
        let limits: Self = weighbridge_verifier::decode("limits document", bytes)
            .map_err(|e| ValidationError::Limits(e.to_string()))?;
        if limits.version != LIMITS_VERSION {
            return Err(ValidationError::Limits(format!(
                "version {} is not known here, only {LIMITS_VERSION}; update this program",
                limits.version
            )));
        }
        Ok(limits)
    }

    /// Limits of tag `name`.
    pub fn tag(&self, name: &str) -> Option<&TagLimits> {
        self.tags.iter().find(|t| t.tag == name)
    }
}
