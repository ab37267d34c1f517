mod security; mod node; mod client; mod server;
pub use client::{OpcUaConfig, OpcUaPoint};
pub use server::OpcUaServerConfig;
