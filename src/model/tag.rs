//! Devices and their tags.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Id of a device, unique in a hub: lower-case letters, digits, `-`, `_` and `.`.
pub type DeviceId = Arc<str>;

/// The type of a tag's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueKind {
    /// A switch, coil or flag.
    Bool,
    /// A signed integer.
    I64,
    /// An unsigned integer.
    U64,
    /// A number with a fraction.
    F64,
    /// Text.
    Text,
    /// Uninterpreted bytes.
    Bytes,
}

/// What the hub knows of a tag whatever protocol it came by.
#[derive(Clone, Debug, PartialEq)]
pub struct TagSpec {
    /// Its name, unique in its device.
    pub name: Arc<str>,
    /// Type of its values.
    pub kind: ValueKind,
    /// Engineering unit as people write it ("°C"); empty when it has none.
    pub unit: String,
    /// What it is, for people; may be empty.
    pub description: String,
    /// Physical range of the sensor, low and high: what lies outside is impossible, not unusual.
    pub range: Option<(f64, f64)>,
    /// Whether users with the right to do so may write it.
    pub writable: bool,
}
