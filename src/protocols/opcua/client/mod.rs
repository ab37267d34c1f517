//! The client: subscribes to the variables of one OPC UA server, writes them, and calls its methods.

mod about;
mod answering;
mod config;
mod control;
mod convert;
mod endpoint;
mod fill;
mod handles;
mod inbox;
mod keeper;
mod line;
mod names;
mod node;
mod part;
mod path;
mod publish;
mod refusal;
mod scan;
mod session;
mod source;
mod subscription;
mod translate;
mod wanted;

pub use config::{OpcUaConfig, OpcUaPoint, Report};
pub use node::{NodeAddress, NodeAddressError};
pub use scan::{FoundVariable, Scan, ScanBounds, scan};
pub use source::{OpcUaError, OpcUaSource, ensure_certificate, subject};
