//! Modbus TCP: polling PLCs and robots that speak it. The only place that knows `tokio_modbus`,
//! besides the simulated machines of `sim/`.
//!
//! `config` and `point` are what a user writes; `plan` packs points into requests; `polls` walks the
//! requests of a scan and isolates what a device refuses; `decode` turns registers into columns;
//! `wire` and `link` are the connection; `source` puts them together.

mod config;
mod decode;
#[cfg(test)]
mod interop;
mod link;
mod plan;
mod point;
mod polls;
mod source;
#[cfg(test)]
mod tests;
mod wire;

pub use config::{Bounded, Endpoint, MAX_COILS, MAX_REGISTERS, ModbusConfig};
pub use point::{DataType, ModbusPoint, PointError, Table, WordOrder};
pub use source::{ModbusConfigError, ModbusSource};
