//! Adapters: one folder a protocol. They know bytes and sockets; they know no actor.

pub mod control;
pub mod edge;
#[cfg(test)]
pub(crate) mod fake_alarms;
mod fixed_access;
mod fixed_log_in;
pub mod log_in;
pub mod modbus;
pub mod neighbour;
pub mod opcua;
pub mod ports;
pub mod preprocess;
pub mod source;
pub mod users;

pub use fixed_access::FixedAccess;
pub use fixed_log_in::FixedLogIn;
pub use source::{Mode, Recorded, Sent, Source, SourceError};
