//! Adapters: one folder a protocol. They know bytes and sockets; they know no actor.

pub mod control;
pub mod edge;
#[cfg(test)]
pub(crate) mod fake_alarms;
mod fixed_access;
pub mod modbus;
pub mod neighbour;
pub mod opcua;
pub mod ports;
pub mod preprocess;
pub mod source;

pub use fixed_access::FixedAccess;
pub use source::{Mode, Recorded, Sent, Source, SourceError};
