//! The Modbus devices that a benchmark reads: holding registers of 16 bits, a tag each.

use crate::hub::DeviceSetup;
use crate::model::{DeviceId, TagSpec};
use crate::protocols::Source;
use crate::protocols::modbus::{
    Bounded, DataType, ModbusConfig, ModbusConfigError, ModbusPoint, ModbusSource, Table,
};
use std::net::{Ipv4Addr, SocketAddr};

/// One of them: the tags are `r0`, `r1` and so on, all of them read in every scan.
pub(super) struct BenchDevice {
    pub(super) id: DeviceId,
    points: Vec<(TagSpec, ModbusPoint)>,
    config: ModbusConfig,
}

impl BenchDevice {
    /// The device at `port` on loopback, with so many registers, the first of them writable; scanned every
    /// `period_ms`, or with 0 as fast as it can be.
    pub(super) fn new(
        id: String,
        port: u16,
        registers: u16,
        writable: u16,
        period_ms: u32,
    ) -> anyhow::Result<Self> {
        let points = (0..registers).map(|register| {
            let point = ModbusPoint::new(Table::HoldingRegister, register, DataType::U16)?;
            let tag = TagSpec {
                name: format!("r{register}").into(),
                kind: point.value_kind(),
                unit: String::new(),
                description: String::new(),
                range: None,
                writable: register < writable,
            };
            anyhow::Ok((tag, point))
        });
        let points = points.collect::<Result<_, _>>()?;
        let mut config = ModbusConfig::new(SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into());
        config.period_ms = Bounded::try_from(i64::from(period_ms)).map_err(anyhow::Error::msg)?;
        Ok(Self {
            id: id.into(),
            points,
            config,
        })
    }

    /// What reads it.
    pub(super) fn source(&self) -> Result<ModbusSource, ModbusConfigError> {
        ModbusSource::new(self.id.clone(), self.config.clone(), self.points.clone())
    }

    /// How a hub reads it.
    pub(super) fn setup(self) -> anyhow::Result<DeviceSetup> {
        let (id, tags) = (self.id.clone(), self.source()?.tags());
        let make = move || -> Box<dyn Source> {
            match self.source() {
                Ok(source) => Box::new(source),
                Err(error) => unreachable!("the same arguments were accepted before: {error}"),
            }
        };
        Ok(DeviceSetup::new(id, tags, make))
    }
}
