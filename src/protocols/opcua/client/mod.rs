//! The client: subscribes to the variables of one OPC UA server.

mod config;
mod convert;
mod endpoint;
mod inbox;
mod node;
mod notifications;
mod search;
mod session;
mod source;

pub use config::{OpcUaConfig, OpcUaPoint, Report};
pub use node::{NodeAddress, NodeAddressError};
pub use source::{OpcUaError, OpcUaSource};
