//! `[[device]]` and `[[device.tag]]`.

use super::value::{self, PhysicalRange};
use crate::access::DeclaredBinding;
use crate::model::{DeviceId, ValueKind};
use crate::protocols::modbus::{ModbusConfig, ModbusPoint};
use crate::protocols::opcua::server::{MachineryConfig, TagRole};
use crate::protocols::opcua::{OpcUaConfig, OpcUaPoint};
use crate::protocols::preprocess::{CycleConfig, ProcessConfig};
use crate::validation::{TagValidation, ValidationConfig};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::Path;
use weighbridge_verifier::settings::Origin;

/// One machine: how it is reached, and what is read from it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceConfig {
    /// Its id, unique in the hub.
    #[serde(deserialize_with = "value::device_id")]
    pub id: DeviceId,
    /// The profile that it was made from, for people: what it said stands in the other keys.
    #[serde(default, skip_serializing)]
    pub profile: Option<String>,
    /// The files of that profile and of those that it extends.
    #[serde(skip)]
    pub origins: Origins,
    /// The group it belongs to, for people.
    #[serde(
        default,
        deserialize_with = "value::optional_id",
        skip_serializing_if = "Option::is_none"
    )]
    pub group: Option<String>,
    /// The hubs that may read it, the first choice first; without it this one alone. Only with `[cluster]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hubs: Vec<String>,
    /// Privacy grade of its data, part of every record about it.
    #[serde(default)]
    pub grade: u8,
    /// What it is known by; what is not said here is learned when it first answers.
    #[serde(default, skip_serializing_if = "DeclaredBinding::is_empty")]
    pub binding: DeclaredBinding,
    /// When its batches close.
    #[serde(default)]
    pub batch: BatchConfig,
    /// How its batches are judged.
    #[serde(default)]
    pub validation: ValidationConfig,
    /// How it is reached over Modbus TCP. Exactly one of `modbus`, `opcua` and `edge` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modbus: Option<ModbusConfig>,
    /// How it is reached over OPC UA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opcua: Option<OpcUaConfig>,
    /// Id of the edge node that reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge: Option<String>,
    /// Samples a second that it should send, all tags together, where an edge node reads it; many times more is a flood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples_per_second: Option<f64>,
    /// Where its cycles end its batches do too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cycle: Option<CycleConfig>,
    /// What it is, for the companion specifications' view of it.
    #[serde(default)]
    pub machinery: MachineryConfig,
    /// What is read from it.
    #[serde(default, rename = "tag")]
    pub tags: Vec<TagConfig>,
}

/// The files that a device was made from, as they were when they were read.
///
/// They do not count when two configurations are compared: devices that mean the same are the same,
/// and no connection is dropped for a comment in a profile.
#[derive(Clone, Debug, Default)]
pub struct Origins(pub Vec<Origin>);

impl PartialEq for Origins {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl DeviceConfig {
    /// Environment variable with the path of this device's password file.
    pub fn password_file_variable(&self) -> String {
        let id = self.id.to_uppercase().replace(['-', '.'], "_");
        format!("WEIGHBRIDGE_PASSWORD_FILE_{id}")
    }

    /// The same device with every element of its arrays as a tag of its own: `name[0]`, `name[1]` …
    pub fn expanded(&self) -> Self {
        let mut device = self.clone();
        device.tags = self.tags.iter().flat_map(TagConfig::expanded).collect();
        device
    }

    /// Paths begin at `base`; what is learned of the device is kept in `learned`.
    pub(super) fn resolve(&mut self, base: &Path, learned: &Path) {
        if let Some(modbus) = &mut self.modbus {
            modbus.resolve(base);
        }
        if let Some(opcua) = &mut self.opcua {
            opcua.learned = Some(learned.join(format!("{}.json", self.id)));
            opcua.pki_dir = base.join(&opcua.pki_dir);
            let files = [
                &mut opcua.password_file,
                &mut opcua.user_certificate,
                &mut opcua.user_key,
            ];
            for path in files.into_iter().flatten() {
                *path = base.join(&*path);
            }
        }
    }

    pub(super) fn override_paths(&mut self, variable: impl Fn(&str) -> Option<OsString>) {
        let path = variable(&self.password_file_variable());
        if let (Some(path), Some(opcua)) = (path, &mut self.opcua) {
            opcua.password_file = Some(path.into());
        }
    }
}

/// When a device's batch closes, whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct BatchConfig {
    /// With this many samples, of all tags together.
    #[serde(deserialize_with = "value::count::<1, 1048576, _>")]
    pub samples: usize,
    /// This many milliseconds after its first sample.
    #[serde(deserialize_with = "value::within::<1, 3600000, _>")]
    pub milliseconds: u64,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self {
            samples: 4096,
            milliseconds: 500,
        }
    }
}

/// One variable of a device.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TagConfig {
    /// Its name, unique in the device.
    #[serde(deserialize_with = "value::tag_name")]
    pub name: String,
    /// Engineering unit as people write it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// What it is, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Physical range of the sensor: what lies outside is impossible, and makes a batch invalid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<PhysicalRange>,
    /// Whether users with the right to do so may write it; without this it can only be read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub writable: bool,
    /// What it means in the companion specifications: `robotics:axis/1/ActualPosition`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<TagRole>,
    /// How this tag is judged, where it differs from its device.
    #[serde(default)]
    pub validation: TagValidation,
    /// What is done with its samples before they become a batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessConfig>,
    /// Type of its values, in a device that an edge node reads; `f64` when it is not given.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<ValueKind>,
    /// Where it is in a Modbus device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modbus: Option<ModbusPoint>,
    /// Where it is in an OPC UA server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opcua: Option<OpcUaPoint>,
}

impl TagConfig {
    /// Its elements, where it is an array; else itself.
    fn expanded(&self) -> Vec<Self> {
        let array = self.modbus.as_ref().filter(|p| p.elements.is_some());
        let Some(point) = array else {
            return vec![self.clone()];
        };
        let element = |(index, point)| Self {
            name: format!("{}[{index}]", self.name),
            modbus: Some(point),
            ..self.clone()
        };
        point.expanded().enumerate().map(element).collect()
    }
}
