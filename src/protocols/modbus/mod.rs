//! Modbus: polling and writing PLCs, meters and robots that speak it, over TCP, TLS and serial lines.
//! The only place that knows `tokio_modbus`, besides the simulated machines of `sim/`.
//!
//! `config`, `transport`, `limits` and `point` are what a user writes; `plan` packs points into
//! requests; `polls` walks the requests of a scan and isolates what a device refuses; `decode` turns
//! registers into columns; `encode` and `writes` go the other way; `wire`, `serial`, `link` and `bus`
//! are the connection and the turns on it; `source` and `control` put them together; `identify` asks
//! a device who it is; `survey`, `explore` and `guess` look at one that nobody has described yet.

mod bus;
mod config;
mod control;
mod decode;
mod encode;
mod explore;
mod guess;
mod identify;
#[cfg(test)]
mod interop;
mod limits;
mod link;
mod plan;
mod point;
mod polls;
mod serial;
mod source;
mod survey;
#[cfg(test)]
mod tests;
mod transport;
mod wire;
mod writes;

pub use config::{
    BitWrite, Bounded, MAX_COILS, MAX_REGISTERS, MAX_WRITE_COILS, MAX_WRITE_REGISTERS, ModbusConfig,
};
pub use guess::{Guess, guesses};
pub use identify::Identification;
pub use limits::{AddressRange, NoRead};
pub use point::{DataType, MAX_ELEMENTS, ModbusPoint, PointError, Table, WordOrder};
pub use source::{ModbusConfigError, ModbusSource};
pub use survey::{ReadableRanges, Survey};
pub use transport::{Endpoint, Parity, SerialLine, TlsSide, Transport, TransportError};
