//! From a configuration to an edge node.

use super::{EdgeBuilder, HubEntry, SetupError, WhenFull};
use crate::config::{BufferConfig, HubConfig, WhenFullConfig};
use crate::crypto::Identity;
use crate::hub::DeviceSetup;
use std::time::Duration;

impl EdgeBuilder {
    /// An edge node as `config` says, with its key read from its file.
    pub fn from_config(config: &HubConfig) -> Result<Self, SetupError> {
        let edge = config.edge.as_ref().ok_or(SetupError::NotAnEdge)?;
        let buffer = config.buffer.clone().unwrap_or_default();
        let identity = Identity::load(&edge.signing_key, &edge.id)?;
        let mut builder = Self::new(identity, &buffer.dir)
            .bound(buffer.bytes(), when_full(&buffer))
            .patience(Duration::from_millis(edge.patience_ms));
        for hub in &edge.hubs {
            builder = builder.hub(HubEntry {
                address: hub.address.clone(),
                key: hub.keys(),
                sealing: hub.sealing_key,
            });
        }
        for device in &config.devices {
            builder = builder.device(DeviceSetup::from_config(device)?);
        }
        Ok(builder)
    }
}

fn when_full(buffer: &BufferConfig) -> WhenFull {
    match buffer.when_full {
        WhenFullConfig::Stop => WhenFull::Stop,
        WhenFullConfig::DropOldest => WhenFull::DropOldest,
    }
}
