//! `config/cell.toml` describes the simulated cell as it is: its machines, tags and addresses.

use super::*;
use crate::model::TagSpec;
use crate::protocols::modbus::ModbusPoint;
use crate::protocols::opcua::OpcUaPoint;
use crate::sim::cell::{CellOptions, GROUP_A, GROUP_B};
use crate::sim::device::SimDevice;
use crate::sim::{modbus_server, opcua_robot};
use std::fmt::Write;

const PORT_BASE: u16 = 15020;

/// The devices as the simulation's own modules have them.
fn devices() -> String {
    let options = CellOptions {
        port_base: Some(PORT_BASE),
        ..CellOptions::default()
    };
    let mut text = String::new();
    for (index, id) in (0..).zip(["plc-1", "robot-1", "robot-2", "robot-3", "robot-4"]) {
        let device = if index == 0 {
            SimDevice::plc(id, 1)
        } else {
            SimDevice::robot(id, 1)
        };
        let address = options.bind(index).unwrap();
        let group = if index < 3 { GROUP_A } else { GROUP_B };
        writeln!(text, "\n[[device]]\nid = \"{id}\"\ngroup = \"{group}\"").unwrap();
        let tags = if index < 3 {
            let period = 100;
            writeln!(
                text,
                "modbus = {{ address = \"{address}\", period_ms = {period} }}"
            )
            .unwrap();
            let points = modbus_server::points(device.signals()).unwrap();
            points.iter().map(|(t, p)| modbus(t, p)).collect::<String>()
        } else {
            writeln!(text, "opcua = {{ url = \"opc.tcp://{address}/\" }}").unwrap();
            let points = opcua_robot::points(id, device.signals());
            points.iter().map(|(t, p)| opcua(t, p)).collect()
        };
        text.push_str(&tags);
    }
    text
}

fn modbus(tag: &TagSpec, point: &ModbusPoint) -> String {
    format!("{}modbus = {}\n", head(tag), inline(point))
}

fn opcua(tag: &TagSpec, point: &OpcUaPoint) -> String {
    format!("{}opcua = {}\n", head(tag), inline(point))
}

fn head(tag: &TagSpec) -> String {
    let mut text = format!("\n[[device.tag]]\nname = {:?}\n", tag.name);
    if !tag.unit.is_empty() {
        writeln!(text, "unit = {:?}", tag.unit).unwrap();
    }
    if !tag.description.is_empty() {
        writeln!(text, "description = {:?}", tag.description).unwrap();
    }
    if let Some((low, high)) = tag.range {
        writeln!(text, "range = [{low:?}, {high:?}]").unwrap();
    }
    text
}

fn inline(value: &impl serde::Serialize) -> String {
    toml::Value::try_from(value).unwrap().to_string()
}

#[test]
fn the_cells_configuration_is_the_cell() {
    let (hub, written) = CELL.split_once(CELL_MARKER).unwrap();
    let devices = devices();
    if std::env::var_os("WEIGHBRIDGE_BLESS").is_some() && written != devices {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/cell.toml");
        std::fs::write(path, format!("{hub}{CELL_MARKER}{devices}")).unwrap();
        return;
    }
    assert_eq!(written, devices);
    let loaded = parse(CELL, "config/cell.toml").unwrap_or_else(|found| {
        panic!(
            "{}",
            found.iter().map(ToString::to_string).collect::<String>()
        )
    });
    assert_eq!(loaded.warnings, vec![]);
    assert_eq!(loaded.config.devices.len(), 5);
}
