//! What a configuration says of a machine besides how it is read: who made it, and which of its tags
//! mean what the companion specifications have names for.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// `[device.machinery]`: the machine's nameplate (OPC 40001-1, MachineIdentificationType).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MachineryConfig {
    /// What it is; a robot is also shown as OPC 40010-1 has it.
    pub kind: MachineKind,
    /// Who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<String>,
    /// A URI of who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manufacturer_uri: Option<String>,
    /// The model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The maker's code of the product.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product_code: Option<String>,
    /// Its serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial_number: Option<String>,
    /// A URI that is this machine's alone in all the world; by default one with the device's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product_instance_uri: Option<String>,
    /// Revision of its hardware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardware_revision: Option<String>,
    /// Revision of its software.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub software_revision: Option<String>,
    /// What kind of machine it is, for people: "press", "palletizer".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_class: Option<String>,
    /// The owner's number for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asset_id: Option<String>,
    /// The owner's name for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component_name: Option<String>,
    /// Where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Year in which it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub year_of_construction: Option<u16>,
    /// What a robot is like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub motion_device_category: Option<MotionDeviceCategory>,
    /// Numbers of a robot's axes that are linear; the others turn.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub linear_axes: Vec<u8>,
}

/// What a machine is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineKind {
    /// Any machine.
    #[default]
    Machine,
    /// A robot with its controller: a motion device system.
    Robot,
}

/// MotionDeviceCategoryEnumeration of OPC 40010-1, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MotionDeviceCategory {
    /// None of the others.
    Other,
    /// Rotary joints.
    ArticulatedRobot,
    /// Two parallel rotary joints.
    ScaraRobot,
    /// Three prismatic joints.
    CartesianRobot,
    /// Two rotary joints and a prismatic one.
    SphericalRobot,
    /// Arms side by side.
    ParallelRobot,
    /// A rotary and a prismatic joint.
    CylindricalRobot,
}

/// Which part of a robot a tag belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Part {
    /// The machine as a whole.
    Machine,
    /// The motion device as a whole.
    Motion,
    /// An axis, from 1.
    Axis(u8),
    /// The motor of an axis's power train, from 1.
    Motor(u8),
    /// The safety state.
    Safety,
    /// The controller.
    Controller,
    /// The task control.
    Task,
}

/// What a tag means: `robotics:axis/1/ActualPosition`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TagRole {
    text: String,
    part: Part,
}

/// Greatest number of an axis.
const MAX_AXES: u8 = 64;

const PARTS: [(&str, Part, &[&str]); 7] = [
    ("machinery:", Part::Machine, &["Executing"]),
    (
        "robotics:motion/",
        Part::Motion,
        &["OnPath", "InControl", "SpeedOverride"],
    ),
    (
        "robotics:axis/",
        Part::Axis(0),
        &["ActualPosition", "ActualSpeed", "ActualAcceleration"],
    ),
    (
        "robotics:motor/",
        Part::Motor(0),
        &["MotorTemperature", "BrakeReleased", "EffectiveLoadRate"],
    ),
    (
        "robotics:safety/",
        Part::Safety,
        &["OperationalMode", "EmergencyStop", "ProtectiveStop"],
    ),
    (
        "robotics:controller/",
        Part::Controller,
        &[
            "Temperature",
            "TotalEnergyConsumption",
            "CabinetFanSpeed",
            "CPUFanSpeed",
            "InputVoltage",
            "UpsState",
        ],
    ),
    (
        "robotics:task/",
        Part::Task,
        &["TaskProgramName", "TaskProgramLoaded", "ExecutionMode"],
    ),
];

impl TagRole {
    pub(super) fn part(&self) -> Part {
        self.part
    }

    /// The variable's browse name.
    pub(super) fn name(&self) -> &str {
        self.text.rsplit(['/', ':']).next().unwrap_or_default()
    }
}

impl FromStr for TagRole {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = PARTS
            .iter()
            .find_map(|(prefix, part, names)| Some((text.strip_prefix(prefix)?, *part, names)));
        let Some((rest, part, names)) = known else {
            let starts: Vec<_> = PARTS.iter().map(|(prefix, ..)| *prefix).collect();
            return Err(format!(
                "`{text}` is no role: one begins with {}",
                starts.join(", ")
            ));
        };
        let (part, name) = match part {
            Part::Axis(_) | Part::Motor(_) => {
                let (number, name) = rest.split_once('/').unwrap_or((rest, ""));
                let number = number.parse().ok().filter(|n| (1..=MAX_AXES).contains(n));
                let number = number.ok_or_else(|| {
                    format!("`{text}` needs the number of an axis, from 1 to {MAX_AXES}")
                })?;
                match part {
                    Part::Axis(_) => (Part::Axis(number), name),
                    _ => (Part::Motor(number), name),
                }
            }
            part => (part, rest),
        };
        if !names.contains(&name) {
            return Err(format!(
                "`{text}` is no role: it may end with {}",
                names.join(", ")
            ));
        }
        Ok(Self {
            text: text.to_owned(),
            part,
        })
    }
}

impl fmt::Display for TagRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for TagRole {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<TagRole> for String {
    fn from(role: TagRole) -> Self {
        role.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_and_written_back() {
        let axis: TagRole = "robotics:axis/3/ActualSpeed".parse().unwrap();
        assert_eq!((axis.part(), axis.name()), (Part::Axis(3), "ActualSpeed"));
        assert_eq!(String::from(axis), "robotics:axis/3/ActualSpeed");
        let executing: TagRole = "machinery:Executing".parse().unwrap();
        assert_eq!(executing.name(), "Executing");
        for (part, of, names) in PARTS {
            for name in names {
                let number = match of {
                    Part::Axis(_) | Part::Motor(_) => "1/",
                    _ => "",
                };
                let text = format!("{part}{number}{name}");
                assert_eq!(text.parse::<TagRole>().unwrap().name(), *name);
            }
        }
    }

    #[test]
    fn what_is_no_role_is_told_what_one_is() {
        for (text, said) in [
            ("axis/1/ActualPosition", "begins with machinery:, robotics:"),
            ("robotics:axis/0/ActualPosition", "from 1 to 64"),
            ("robotics:axis/ActualPosition", "from 1 to 64"),
            ("robotics:axis/1/Position", "ActualPosition, ActualSpeed"),
            ("robotics:safety/Stop", "EmergencyStop"),
        ] {
            let error = text.parse::<TagRole>().unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
