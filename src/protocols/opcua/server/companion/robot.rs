//! OPC UA for Robotics (OPC 40010-1): a motion device system with its motion device, axes, power trains,
//! controller and safety state.
//!
//! A device that the hub reads is one robot with one controller and one task control.

use super::Machine;
use super::config::{MotionDeviceCategory, Part};
use super::instance::{Builder, Name, Supply};
use super::machine::plate;
use super::types::Short;
use crate::live_view::DeviceLive;
use opcua::types::{LocalizedText, NodeId, ReferenceTypeId, Variant};
use std::collections::BTreeSet;

/// MotionDeviceSystemType.
pub(super) const SYSTEM: Short = Short("R:1002");
const MOTION_DEVICE: Short = Short("R:1004");
const AXIS: Short = Short("R:16601");
const POWER_TRAIN: Short = Short("R:16794");
const MOTOR: Short = Short("R:1019");
const CONTROLLER: Short = Short("R:1003");
const TASK_CONTROL: Short = Short("R:1011");
const SAFETY_STATE: Short = Short("R:1013");

/// AxisMotionProfileEnumeration.
const ROTARY: i32 = 1;
const LINEAR: i32 = 3;

const CONTROLS: Short = Short("R:4002");
const MOVES: Short = Short("R:18178");
const REQUIRES: Short = Short("R:18179");
const HAS_SAFETY_STATES: Short = Short("R:18182");

/// The tag of a role, and its unit.
pub(super) fn tag_of(
    live: &DeviceLive,
    machine: &Machine,
    part: Part,
    name: &str,
) -> Option<(usize, String)> {
    let role = machine.roles.iter();
    let mut role = role.filter(|(_, role)| role.part() == part && role.name() == name);
    let (tag, _) = role.next()?;
    let at = live.tags.iter().position(|t| *t.name == **tag)?;
    Some((at, live.tags.get(at)?.unit.clone()))
}

/// The variables of a part's parameter set.
fn parameters<'a>(
    live: &'a DeviceLive,
    machine: &'a Machine,
    part: Part,
) -> impl Fn(&str) -> Option<Supply> + 'a {
    move |below| {
        let name = below.strip_prefix("ParameterSet/")?;
        let (tag, unit) = tag_of(live, machine, part, name)?;
        Some(Supply::Tag(tag, unit))
    }
}

fn numbers(machine: &Machine, number: impl Fn(Part) -> Option<u8>) -> BTreeSet<u8> {
    let roles = machine.roles.values();
    roles.filter_map(|role| number(role.part())).collect()
}

/// Adds what is in the motion device system at `path`.
pub(super) fn add(
    builder: &mut Builder<'_>,
    (path, system): (&str, &NodeId),
    live: &DeviceLive,
    machine: &Machine,
) {
    let component = ReferenceTypeId::HasComponent;
    let folder = |builder: &Builder<'_>, below: &str| builder.id(&format!("{path}/{below}"));
    let safety = {
        let parent = folder(builder, "SafetyStates");
        let supply = parameters(live, machine, Part::Safety);
        let path = format!("{path}/SafetyStates/SafetyState_1");
        let name = Name::Own("SafetyState_1");
        builder.object(&path, name, SAFETY_STATE, (&parent, component), &supply)
    };
    let robot_path = format!("{path}/MotionDevices/MotionDevice_1");
    let robot = {
        let parent = folder(builder, "MotionDevices");
        let set = parameters(live, machine, Part::Motion);
        let category = machine.machinery.motion_device_category;
        let category = category.unwrap_or(MotionDeviceCategory::Other) as i32;
        let supply = |below: &str| match below {
            "MotionDeviceCategory" => Some(Supply::Fixed(Variant::Int32(category))),
            "ComponentName" => None,
            other => set(other).or_else(|| plate(machine, live, other)),
        };
        let name = Name::Own("MotionDevice_1");
        builder.object(
            &robot_path,
            name,
            MOTION_DEVICE,
            (&parent, component),
            &supply,
        )
    };
    axes(builder, &robot_path, live, machine);
    let controller = controller(builder, path, live, machine);
    for (from, reference, to) in [
        (&controller, CONTROLS, &robot),
        (&controller, HAS_SAFETY_STATES, &safety),
    ] {
        let reference = builder.spaces.id(reference);
        builder.space.insert_reference(from, to, reference);
    }
    // Nobody else refers to the system from here; it holds its folders by its type.
    let _ = system;
}

fn axes(builder: &mut Builder<'_>, robot: &str, live: &DeviceLive, machine: &Machine) {
    let component = ReferenceTypeId::HasComponent;
    let turning = numbers(machine, |part| match part {
        Part::Axis(n) | Part::Motor(n) => Some(n),
        _ => None,
    });
    let driven = numbers(machine, |part| match part {
        Part::Motor(n) => Some(n),
        _ => None,
    });
    for number in turning {
        let parent = builder.id(&format!("{robot}/Axes"));
        let set = parameters(live, machine, Part::Axis(number));
        let linear = machine.machinery.linear_axes.contains(&number);
        let profile = if linear { LINEAR } else { ROTARY };
        let supply = |below: &str| match below {
            "MotionProfile" => Some(Supply::Fixed(Variant::Int32(profile))),
            other => set(other),
        };
        let path = format!("{robot}/Axes/Axis_{number}");
        let name = format!("Axis_{number}");
        let axis = builder.object(&path, Name::Own(&name), AXIS, (&parent, component), &supply);
        if !driven.contains(&number) {
            continue;
        }
        let parent = builder.id(&format!("{robot}/PowerTrains"));
        let path = format!("{robot}/PowerTrains/PowerTrain_{number}");
        let name = format!("PowerTrain_{number}");
        let nothing = |_: &str| None;
        let train = builder.object(
            &path,
            Name::Own(&name),
            POWER_TRAIN,
            (&parent, component),
            &nothing,
        );
        let supply = parameters(live, machine, Part::Motor(number));
        let (path, name) = (format!("{path}/Motor_1"), Name::Own("Motor_1"));
        builder.object(&path, name, MOTOR, (&train, component), &supply);
        for (from, reference, to) in [(&train, MOVES, &axis), (&axis, REQUIRES, &train)] {
            let reference = builder.spaces.id(reference);
            builder.space.insert_reference(from, to, reference);
        }
    }
}

fn controller(
    builder: &mut Builder<'_>,
    path: &str,
    live: &DeviceLive,
    machine: &Machine,
) -> NodeId {
    let component = ReferenceTypeId::HasComponent;
    let parent = builder.id(&format!("{path}/Controllers"));
    let path = format!("{path}/Controllers/Controller_1");
    let supply = parameters(live, machine, Part::Controller);
    let name = Name::Own("Controller_1");
    let controller = builder.object(&path, name, CONTROLLER, (&parent, component), &supply);
    let parent = builder.id(&format!("{path}/TaskControls"));
    let set = parameters(live, machine, Part::Task);
    let supply = |below: &str| match below {
        "ComponentName" => {
            let name = LocalizedText::from("TaskControl_1");
            Some(Supply::Fixed(Variant::from(name)))
        }
        other => set(other),
    };
    let path = format!("{path}/TaskControls/TaskControl_1");
    let name = Name::Own("TaskControl_1");
    builder.object(&path, name, TASK_CONTROL, (&parent, component), &supply);
    controller
}
