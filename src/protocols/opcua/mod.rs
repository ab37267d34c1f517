//! OPC UA: the client that reads robots and controllers, and the server that SCADA connects to.
//!
//! Architecture invariant: nobody outside this folder (and the simulated robots) knows the crate
//! that speaks the protocol.

pub mod client;
pub(crate) mod core;
pub mod pki;
pub mod security;
pub mod server;

pub use client::{
    FoundVariable, NodeAddress, OpcUaConfig, OpcUaPoint, OpcUaSource, Scan, ScanBounds, scan,
};
pub use security::{Mode, Policy, Trust};
pub use server::{OpcUaServerConfig, ScadaError, ScadaPorts, ScadaServer};
