//! What is done with a device's samples before they become a batch, as a configuration says it.

use serde::{Deserialize, Serialize};

/// `process` of a tag. The steps are taken in this order.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessConfig {
    /// Into another unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub convert: Option<Convert>,
    /// One of so many samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decimate: Option<Decimate>,
    /// Only what differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadband: Option<Deadband>,
}

/// Into another unit: by name, or by hand.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Convert {
    /// The unit that the device speaks, of a pair that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The unit that is wanted.
    pub to: String,
    /// Without `from`: the value is multiplied by this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// And then this is added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<f64>,
}

/// One of so many samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Decimate {
    /// How many become one, at least 2.
    pub every: u32,
    /// Which one.
    #[serde(default)]
    pub keep: Keep,
}

/// What stands for several samples. It has the time of the last of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// The last.
    #[default]
    Last,
    /// Their mean.
    Mean,
    /// The least.
    Min,
    /// The greatest.
    Max,
}

/// Only what differs by more than this from what was last passed on (OPC 10000-4 §7.22.2, OPC 10000-8
/// §6.2). The first sample after a connection always passes, and so does a changed quality.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Deadband {
    /// In the tag's unit, after conversion. Exactly one of the two is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absolute: Option<f64>,
    /// In percent of the width of the tag's `range`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
}

/// `cycle` of a device: where a machine's cycle ends, its batch does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct CycleConfig {
    /// A cycle begins when this tag goes from false, 0 or an empty text to anything else. Exactly one of the two is
    /// given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rising_edge: Option<String>,
    /// A cycle begins when this tag has another value than before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counter: Option<String>,
}
