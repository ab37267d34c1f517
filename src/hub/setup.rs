//! From a configuration to a hub's parts.

use super::{
    ClusterPeer, ClusterSetup, DeviceSetup, EdgesSetup, HubBuilder, HubError, HubKeys,
    RetentionSetup,
};
use crate::actors::ledger::BlockLimits;
use crate::actors::reading::BatchLimits;
use crate::cluster::Timing;
use crate::config::{ClusterHubConfig, DeviceConfig, HubConfig, TagConfig};
use crate::crypto::{Identity, NetworkSeed, SealingKey, SealingPublicKey, Signer};
use crate::ledger::ChainConfig;
use crate::model::{TagSpec, ValueKind};
use crate::protocols::Source;
use crate::protocols::modbus::ModbusSource;
use crate::protocols::opcua::OpcUaSource;
use crate::protocols::preprocess::{Preprocessed, Processing};
use crate::store::spool::SpoolLimits;
use std::sync::Arc;
use std::time::Duration;

impl HubBuilder {
    /// A hub as `config` says, with its keys read from their files.
    pub fn from_config(config: &HubConfig) -> Result<Self, HubError> {
        let hub = &config.hub;
        let keys = HubKeys {
            signing: Identity::load(&hub.signing_key, &hub.id)?,
            sealing: SealingKey::load(&hub.sealing_key)?,
        };
        let of_keys = [
            (&hub.signing_key, keys.signing.suite()),
            (&hub.sealing_key, keys.sealing.suite()),
        ];
        let wanted = config.ledger.suite;
        if let Some((path, suite)) = of_keys.into_iter().find(|(_, suite)| *suite != wanted) {
            return Err(HubError::KeySuite {
                path: path.clone(),
                suite,
                wanted,
            });
        }
        // Beside the signing key, so that what may write there is the same as before.
        let checkpoint_key = hub.signing_key.with_file_name(HubKeys::CHECKPOINT);
        let mut builder = Self::new(keys, &hub.data)
            .checkpoint_key(checkpoint_key)
            .signing_file(&hub.signing_key)
            .sealing_file(&hub.sealing_key)
            .chain(ChainConfig {
                id: config.ledger.chain.clone(),
            })
            .blocks(BlockLimits {
                records: config.ledger.max_records,
                age: Duration::from_millis(config.ledger.max_delay_ms),
                ..BlockLimits::default()
            });
        if let Some(file) = &config.ledger.escrow {
            builder = builder.escrow(SealingPublicKey::load(file)?);
        }
        if let Some(cluster) = &config.cluster {
            let peer = |hub: &ClusterHubConfig| ClusterPeer {
                id: hub.id.clone(),
                key: hub.key,
                sealing: hub.sealing,
                network: hub.network.clone(),
                consensus: hub.consensus,
                mesh: hub.mesh,
            };
            let genesis = cluster.genesis.as_ref();
            builder = builder.cluster(ClusterSetup {
                listen: cluster.listen,
                mesh: cluster.mesh,
                network: NetworkSeed::load_or_make(&cluster.network_key)?,
                // With the ledger: neither is of any use without the other.
                directory: hub.data.join("consensus"),
                genesis: genesis.map(|genesis| (genesis.hub.clone(), genesis.key)),
                hubs: cluster.hubs.iter().map(peer).collect(),
                timing: Timing::default(),
                reading: ClusterSetup::READING,
            });
        }
        if let Some(buffer) = &config.buffer {
            builder = builder.buffer(&buffer.dir, SpoolLimits::of(buffer.bytes()));
        }
        if let Some(postgres) = &config.ledger.postgres {
            builder = builder.postgres(postgres.clone());
        }
        if let Some(edges) = &config.edges {
            let nodes = edges.nodes.iter().map(|n| (n.id.clone(), n.keys()));
            builder = builder.edges(EdgesSetup {
                bind: edges.bind,
                nodes: nodes.collect(),
            });
        }
        let retention = &config.ledger.retention;
        if retention.retires() {
            builder = builder.retention(RetentionSetup {
                batches: retention.batches.map(|age| age.0),
                bodies: retention.bodies.map(|age| age.0),
                max_bytes: retention.max_mb.map(|mb| mb.saturating_mul(1_000_000)),
                // As notices have it, for whoever reads them elsewhere.
                archive: retention
                    .archive
                    .as_ref()
                    .map(|dir| std::path::absolute(dir).unwrap_or_else(|_| dir.clone())),
                interval: retention.interval.0.0,
            });
        }
        builder = builder.alarms(config.alarms.clone());
        builder = builder.access(config.access.clone());
        for device in &config.devices {
            builder = builder.device(DeviceSetup::from_config(device)?);
        }
        Ok(builder)
    }
}

impl DeviceSetup {
    /// A device as its section says.
    pub fn from_config(device: &DeviceConfig) -> Result<Self, HubError> {
        let device = &device.expanded();
        let wrong = |reason: String| HubError::Device {
            device: device.id.to_string(),
            reason,
        };
        let mut setup = match &device.edge {
            Some(edge) => {
                let kind = |tag: &TagConfig| Some((tag.kind.unwrap_or(ValueKind::F64), ()));
                let tags = points(device, "edge", kind).map_err(wrong)?;
                let tags = tags.into_iter().map(|(tag, ())| tag).collect();
                Self::at_edge(device.id.clone(), tags, edge)
            }
            None => {
                let make = processed(device, make_source(device).map_err(wrong)?).map_err(wrong)?;
                let tags = make().tags();
                Self::new(device.id.clone(), tags, make)
            }
        };
        setup.batch = BatchLimits {
            samples: device.batch.samples,
            age: Duration::from_millis(device.batch.milliseconds),
        };
        setup.grade = device.grade;
        setup.hubs = device.hubs.clone();
        setup.samples_per_second = device.samples_per_second;
        setup.binding = device.binding.clone();
        setup.origins = device.origins.0.clone();
        setup.validation = device.validation.clone();
        setup.tag_validation = device.tags.iter().map(|t| t.validation.clone()).collect();
        Ok(setup)
    }
}

/// A device's source with its samples processed, where that is asked for.
fn processed(device: &DeviceConfig, make: MakeSource) -> Result<MakeSource, String> {
    if device.cycle.is_none() && device.tags.iter().all(|tag| tag.process.is_none()) {
        return Ok(make);
    }
    let of = device.tags.iter().map(|tag| tag.process.clone());
    let of: Vec<_> = of.map(Option::unwrap_or_default).collect();
    let processing = Processing::new(&make().tags(), &of, device.cycle.as_ref());
    let processing = processing.map_err(|e| e.to_string())?;
    let id = device.id.clone();
    Ok(Box::new(move || {
        let inner = make();
        Box::new(Preprocessed::new(id.clone(), inner, processing.clone()))
    }))
}

type MakeSource = Box<dyn Fn() -> Box<dyn Source> + Send + Sync>;

/// Checks a device's protocol settings once, so that its source can be made again whenever needed.
fn make_source(device: &DeviceConfig) -> Result<MakeSource, String> {
    let id = device.id.clone();
    if let Some(config) = device.modbus.clone() {
        let points = points(device, "modbus", |tag| {
            let point = tag.modbus.clone()?;
            Some((point.value_kind(), point))
        })?;
        let make = move || ModbusSource::new(id.clone(), config.clone(), points.clone());
        make().map_err(|e| e.to_string())?;
        return Ok(Box::new(move || match make() {
            Ok(source) => Box::new(source),
            Err(error) => unreachable!("the same settings were accepted before: {error}"),
        }));
    }
    let config = device.opcua.clone().ok_or("it has no protocol")?;
    let points = points(device, "opcua", |tag| {
        let point = tag.opcua.clone()?;
        Some((point.kind, point))
    })?;
    let make = move || OpcUaSource::new(id.clone(), config.clone(), points.clone());
    make().map_err(|e| e.to_string())?;
    Ok(Box::new(move || match make() {
        Ok(source) => Box::new(source),
        Err(error) => unreachable!("the same settings were accepted before: {error}"),
    }))
}

fn points<P>(
    device: &DeviceConfig,
    protocol: &str,
    point: impl Fn(&TagConfig) -> Option<(ValueKind, P)>,
) -> Result<Vec<(TagSpec, P)>, String> {
    let spec = |tag: &TagConfig| {
        let (kind, point) =
            point(tag).ok_or_else(|| format!("tag `{}` has no `{protocol}` address", tag.name))?;
        let spec = TagSpec {
            name: Arc::from(tag.name.as_str()),
            kind,
            unit: tag.unit.clone(),
            description: tag.description.clone(),
            range: tag.range.map(|range| range.bounds()),
            writable: tag.writable,
        };
        Ok((spec, point))
    };
    device.tags.iter().map(spec).collect()
}
