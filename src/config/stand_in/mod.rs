mod client;
mod node;
mod security;
mod server;
pub use client::{OpcUaConfig, OpcUaPoint};
pub use server::ConfigError as OpcUaServerError;
pub use server::OpcUaServerConfig;
