//! What happens in the demo: how the machines are read and judged, and when which sensor fails.

use crate::actors::reading::BatchLimits;
use crate::api::DeviceInfo;
use crate::hub::DeviceSetup;
use crate::model::TagSpec;
use crate::protocols::Source;
use crate::protocols::modbus::{Bounded, ModbusConfig, ModbusPoint, ModbusSource};
use crate::protocols::opcua::server::{
    Machine, MachineKind, MachineryConfig, MotionDeviceCategory,
};
use crate::protocols::opcua::{OpcUaConfig, OpcUaPoint, OpcUaSource};
use crate::sim::cell::Cell;
use crate::sim::fault::Fault;
use crate::sim::panel::FaultPanel;
use crate::validation::TagValidation;
use crate::validation::config::ChartKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The PLC's values are stationary: four seconds of them teach its limits.
const PLC_PHASE1: u32 = 200;
/// A robot repeats its cycle every few seconds: its limits want two whole cycles.
const ROBOT_PHASE1: u32 = 400;

/// The sensor that drifts, from when to when.
const DRIFT: (&str, &str, u64, u64) = ("plc-1", "pressure", 6, 11);
/// The sensor that fails, from when to when.
const FAILURE: (&str, &str, u64, u64) = ("plc-1", "flow", 13, 15);
/// Then it all begins again.
const ROUND: u64 = 40;

pub(super) fn devices(cell: &Cell) -> Vec<DeviceSetup> {
    let mut devices = Vec::new();
    for machine in &cell.modbus {
        let mut config = ModbusConfig::new(machine.address.into());
        config.period_ms = Bounded::try_from(20).unwrap_or_default();
        let (id, points): (Arc<str>, _) = (machine.id.as_str().into(), machine.points.clone());
        let phase1 = if machine.id.starts_with("plc") {
            PLC_PHASE1
        } else {
            ROBOT_PHASE1
        };
        devices.push(setup(&machine.id, &machine.points, phase1, move || {
            modbus(&id, &config, &points)
        }));
    }
    for machine in &cell.opcua {
        let mut config = OpcUaConfig::new(&machine.url);
        config.publishing_interval_ms = 50;
        config.sampling_interval_ms = 50;
        let (id, points): (Arc<str>, _) = (machine.id.as_str().into(), machine.points.clone());
        devices.push(setup(
            &machine.id,
            &machine.points,
            ROBOT_PHASE1 / 2,
            move || opcua(&id, &config, &points),
        ));
    }
    devices
}

fn modbus(
    id: &Arc<str>,
    config: &ModbusConfig,
    points: &[(TagSpec, ModbusPoint)],
) -> Box<dyn Source> {
    match ModbusSource::new(id.clone(), config.clone(), points.to_vec()) {
        Ok(source) => Box::new(source),
        Err(error) => unreachable!("the cell's own register map is right: {error}"),
    }
}

fn opcua(id: &Arc<str>, config: &OpcUaConfig, points: &[(TagSpec, OpcUaPoint)]) -> Box<dyn Source> {
    match OpcUaSource::new(id.clone(), config.clone(), points.to_vec()) {
        Ok(source) => Box::new(source),
        Err(error) => unreachable!("the cell's own nodes are right: {error}"),
    }
}

fn setup<P>(
    id: &str,
    points: &[(TagSpec, P)],
    phase1: u32,
    make: impl Fn() -> Box<dyn Source> + Send + Sync + 'static,
) -> DeviceSetup {
    let tags: Arc<[TagSpec]> = points.iter().map(|(tag, _)| tag.clone()).collect();
    let mut setup = DeviceSetup::new(id.into(), tags, make);
    setup.batch = BatchLimits {
        samples: 4096,
        age: Duration::from_millis(250),
    };
    setup.validation.phase1_samples = phase1;
    setup.tag_validation = points.iter().map(|(tag, _)| judging(tag)).collect();
    setup
}

/// What moves with the robot's cycle is neither steady nor independent from sample to sample: only its
/// extremes are charted, the steps between samples are not.
fn judging(tag: &TagSpec) -> TagValidation {
    let moves = ["_position", "_current", "_speed"];
    let mut judging = TagValidation::default();
    if tag.name.starts_with("joint") && moves.iter().any(|end| tag.name.ends_with(end)) {
        judging.charts = Some(vec![ChartKind::Individuals]);
    }
    judging
}

/// A simulated robot, for SCADA that knows OPC UA for Robotics.
fn robot() -> Machine {
    let mut machine = Machine {
        machinery: MachineryConfig {
            kind: MachineKind::Robot,
            manufacturer: Some("Weighbridge".to_owned()),
            model: Some("simulated six-axis robot".to_owned()),
            motion_device_category: Some(MotionDeviceCategory::ArticulatedRobot),
            ..Default::default()
        },
        ..Default::default()
    };
    for joint in 1..=6 {
        let roles = [
            (
                format!("joint{joint}_position"),
                format!("robotics:axis/{joint}/ActualPosition"),
            ),
            (
                format!("joint{joint}_temperature"),
                format!("robotics:motor/{joint}/MotorTemperature"),
            ),
        ];
        for (tag, role) in roles {
            machine
                .roles
                .extend(role.parse().ok().map(|role| (tag, role)));
        }
    }
    machine
}

pub(super) fn device_infos(cell: &Cell) -> Vec<DeviceInfo> {
    let info = |id: &str, group: &str, protocol: &str, address: String| DeviceInfo {
        id: id.into(),
        group: Some(group.to_owned()),
        protocol: protocol.to_owned(),
        address,
        machine: if id.starts_with("robot") {
            robot()
        } else {
            Machine::default()
        },
    };
    let modbus = cell.modbus.iter();
    let modbus = modbus.map(|m| info(&m.id, m.group, "Modbus TCP", m.address.to_string()));
    let opcua = cell.opcua.iter();
    let opcua = opcua.map(|m| info(&m.id, m.group, "OPC UA", m.url.clone()));
    modbus.chain(opcua).collect()
}

/// Turns the faults on and off, round after round.
pub(super) async fn faults(panel: FaultPanel, began: Instant) {
    let at = |second| tokio::time::sleep_until((began + Duration::from_secs(second)).into());
    for round in 0u64.. {
        let start = round * ROUND;
        let events = [
            (DRIFT, Fault::Drift { per_second: 0.02 }),
            (FAILURE, Fault::NotANumber),
        ];
        for ((device, signal, on, off), fault) in events {
            let Some(switch) = panel.switch(device) else {
                continue;
            };
            at(start + on).await;
            switch.set(fault, Some(signal));
            at(start + off).await;
            switch.clear();
        }
        at(start + ROUND).await;
    }
}

/// What the live view says about the faults.
pub(super) fn fault_line(began: Instant) -> String {
    let second = began.elapsed().as_secs() % ROUND;
    for ((device, signal, on, off), what) in [(DRIFT, "drifts"), (FAILURE, "reads not-a-number")] {
        if (on..off).contains(&second) {
            return format!(
                "fault on: {device}/{signal} {what}, for {} s more",
                off - second
            );
        }
        if second < on {
            return format!("in {} s {device}/{signal} {what}", on - second);
        }
    }
    format!(
        "faults are over, the next round begins in {} s",
        ROUND - second
    )
}
