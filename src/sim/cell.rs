//! The factory cell: four six-axis robots in two groups, and a PLC. The PLC and robots 1 and 2 speak
//! Modbus TCP, robots 3 and 4 OPC UA.
//!
//! This file starts the Modbus half. [`Cell::opcua_robots`] gives the machines of the other half, for
//! the OPC UA server to take; their fault switches are on the cell's panel already.

use super::device::SimDevice;
use super::fault::FaultSwitch;
use super::modbus_server::{ModbusServer, points};
use super::opcua_robot::RobotServer;
use super::panel::FaultPanel;
use crate::model::TagSpec;
use crate::protocols::modbus::{ModbusPoint, PointError};
use crate::protocols::opcua::OpcUaPoint;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Group of the PLC and of robots 1 and 2.
pub const GROUP_A: &str = "group-a";
/// Group of robots 3 and 4.
pub const GROUP_B: &str = "group-b";

/// Where and how the cell runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellOptions {
    /// The interface it listens on.
    pub host: IpAddr,
    /// Port of the PLC; robots 1 to 4 follow. `None` takes free ports.
    pub port_base: Option<u16>,
    /// Seed of all noise: the same machines for the same seed.
    pub seed: u64,
}

impl Default for CellOptions {
    fn default() -> Self {
        Self {
            host: Ipv4Addr::LOCALHOST.into(),
            port_base: None,
            seed: 1,
        }
    }
}

impl CellOptions {
    /// Where machine `index` listens: 0 is the PLC, 1 to 4 are the robots.
    pub fn bind(&self, index: u16) -> Result<SocketAddr, CellError> {
        let port = match self.port_base {
            None => 0,
            Some(base) => base.checked_add(index).ok_or(CellError::Ports { base })?,
        };
        Ok(SocketAddr::new(self.host, port))
    }
}

/// Why the cell cannot run.
#[derive(Debug, thiserror::Error)]
pub enum CellError {
    /// A port is taken, or may not be taken.
    #[error("{device} cannot listen on {address} ({source}); choose other ports")]
    Listen {
        /// The machine.
        device: String,
        /// Where it should listen.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// No room for five ports.
    #[error("five ports are needed from {base} on, and there are not as many")]
    Ports {
        /// Where they should begin.
        base: u16,
    },
    /// The register map has no room for a machine's signals.
    #[error("the register map does not hold the machine's signals: {0}")]
    Map(#[from] PointError),
}

/// A machine that speaks Modbus TCP, and runs until this is dropped.
pub struct ModbusMachine {
    /// Its id.
    pub id: String,
    /// Its group.
    pub group: &'static str,
    /// Where it listens. It answers every unit id.
    pub address: SocketAddr,
    /// Its tags and where they are in its registers.
    pub points: Vec<(TagSpec, ModbusPoint)>,
    /// Turns its faults on and off.
    pub faults: FaultSwitch,
    _server: ModbusServer,
}

/// A machine that speaks OPC UA, and runs until this is dropped.
pub struct OpcUaMachine {
    /// Its id.
    pub id: String,
    /// Its group.
    pub group: &'static str,
    /// Its endpoint.
    pub url: String,
    /// Its tags and the nodes they are.
    pub points: Vec<(TagSpec, OpcUaPoint)>,
    _server: RobotServer,
}

/// How often the OPC UA robots have new values.
const ROBOT_PERIOD: Duration = Duration::from_millis(50);

/// The running cell.
pub struct Cell {
    /// The PLC and robots 1 and 2.
    pub modbus: Vec<ModbusMachine>,
    /// Robots 3 and 4.
    pub opcua: Vec<OpcUaMachine>,
    /// The fault switches of all five machines.
    pub panel: FaultPanel,
    /// When its time began: what the models call second 0.
    pub started: Instant,
}

impl Cell {
    /// Starts the cell.
    pub async fn start(options: &CellOptions) -> Result<Self, CellError> {
        let started = Instant::now();
        let seed = options.seed;
        let robot = |number: u64| {
            let seed = seed.wrapping_mul(31).wrapping_add(number);
            SimDevice::robot(&format!("robot-{number}"), seed)
        };
        let devices = [SimDevice::plc("plc-1", seed), robot(1), robot(2)];
        let robots = [robot(3), robot(4)];
        let mut panel = FaultPanel::default();
        for device in devices.iter().chain(&robots) {
            panel.add(device);
        }
        let mut modbus = Vec::new();
        for (index, device) in (0..).zip(devices) {
            let address = options.bind(index)?;
            let (id, faults) = (device.id().to_string(), device.faults());
            let points = points(device.signals())?;
            let server = ModbusServer::start(device, address, started).await;
            let server = server.map_err(|source| CellError::Listen {
                device: id.clone(),
                address,
                source,
            })?;
            modbus.push(ModbusMachine {
                id,
                group: GROUP_A,
                address: server.address(),
                points,
                faults,
                _server: server,
            });
        }
        let mut opcua = Vec::new();
        for (index, robot) in (3..).zip(robots) {
            let address = options.bind(index)?;
            let id = robot.id().to_owned();
            let server = RobotServer::start(robot, address, ROBOT_PERIOD, started).await;
            let server = server.map_err(|source| CellError::Listen {
                device: id.clone(),
                address,
                source,
            })?;
            opcua.push(OpcUaMachine {
                id,
                group: GROUP_B,
                url: server.url(),
                points: server.points(),
                _server: server,
            });
        }
        Ok(Self {
            modbus,
            opcua,
            panel,
            started,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn five_machines_are_there_and_ports_are_theirs() {
        let cell = Cell::start(&CellOptions::default()).await.unwrap();
        let ids: Vec<&str> = cell.modbus.iter().map(|m| m.id.as_str()).collect();
        assert_eq!(ids, ["plc-1", "robot-1", "robot-2"]);
        let others: Vec<&str> = cell.opcua.iter().map(|m| m.id.as_str()).collect();
        assert_eq!(others, ["robot-3", "robot-4"]);
        assert!(cell.panel.switch("robot-4").is_some());
        let taken = cell.modbus[1].address.port();
        let error = Cell::start(&CellOptions {
            port_base: Some(taken),
            ..CellOptions::default()
        })
        .await
        .err()
        .unwrap();
        assert!(error.to_string().contains("choose other ports"), "{error}");
        let last = CellOptions {
            port_base: Some(65533),
            ..CellOptions::default()
        };
        assert!(last.bind(2).is_ok() && last.bind(3).is_err());
    }
}
