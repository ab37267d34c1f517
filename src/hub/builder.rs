//! What a hub is put together from.

use super::{ClusterSetup, DeviceSetup, EdgesSetup, Fellows, HubKeys, RetentionSetup};
use crate::access::AccessConfig;
use crate::actors::ledger::BlockLimits;
use crate::alarms::AlarmConfig;
use crate::crypto::SealingPublicKey;
use crate::ledger::ChainConfig;
use crate::ledger::head::HeadSlot;
use crate::ledger::store::Store;
use crate::store::batches::PostgresConfig;
use crate::store::spool::SpoolLimits;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long a shutdown waits for batches under way, unless told otherwise.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(10);

/// Puts a hub together.
pub struct HubBuilder {
    pub(super) keys: HubKeys,
    pub(super) storage: Storage,
    pub(super) chain: ChainConfig,
    pub(super) blocks: BlockLimits,
    pub(super) alarms: AlarmConfig,
    pub(super) access: AccessConfig,
    pub(super) devices: Vec<DeviceSetup>,
    pub(super) edges: Option<EdgesSetup>,
    pub(super) cluster: Option<ClusterSetup>,
    pub(super) buffer: Option<(PathBuf, SpoolLimits)>,
    pub(super) postgres: Option<PostgresConfig>,
    pub(super) checkpoint_key: Option<PathBuf>,
    pub(super) retention: Option<RetentionSetup>,
    pub(super) escrow: Option<SealingPublicKey>,
    pub(super) fellows: Fellows,
    pub(super) signing_file: Option<PathBuf>,
    pub(super) sealing_file: Option<PathBuf>,
    pub(super) shutdown_wait: Duration,
}

/// Where the ledger is kept.
pub(super) enum Storage {
    Directory(PathBuf),
    Given(Arc<dyn Store>, Box<dyn HeadSlot>),
}

impl HubBuilder {
    /// A hub with these keys that keeps its ledger in `data`.
    pub fn new(keys: HubKeys, data: impl Into<PathBuf>) -> Self {
        Self::with(keys, Storage::Directory(data.into()))
    }

    /// A hub with these keys that keeps its ledger in `store`, and its signed head in `head`.
    pub fn on_storage(keys: HubKeys, store: Arc<dyn Store>, head: Box<dyn HeadSlot>) -> Self {
        Self::with(keys, Storage::Given(store, head))
    }

    fn with(keys: HubKeys, storage: Storage) -> Self {
        Self {
            keys,
            storage,
            chain: ChainConfig {
                id: "main".to_owned(),
            },
            blocks: BlockLimits::default(),
            alarms: AlarmConfig::default(),
            access: AccessConfig::default(),
            devices: Vec::new(),
            edges: None,
            cluster: None,
            buffer: None,
            postgres: None,
            checkpoint_key: None,
            retention: None,
            escrow: None,
            fellows: Fellows::default(),
            signing_file: None,
            sealing_file: None,
            shutdown_wait: SHUTDOWN_WAIT,
        }
    }

    /// The chain it writes.
    pub fn chain(mut self, chain: ChainConfig) -> Self {
        self.chain = chain;
        self
    }

    /// When its blocks close.
    pub fn blocks(mut self, blocks: BlockLimits) -> Self {
        self.blocks = blocks;
        self
    }

    /// When its alarms end, and how many there may be.
    pub fn alarms(mut self, alarms: AlarmConfig) -> Self {
        self.alarms = alarms;
        self
    }

    /// How long permits hold, and when devices are cut off.
    pub fn access(mut self, config: AccessConfig) -> Self {
        self.access = config;
        self
    }

    /// One more device.
    pub fn device(mut self, device: DeviceSetup) -> Self {
        self.devices.push(device);
        self
    }

    /// The other hubs of its chain, which open whatever it records.
    pub fn fellows(mut self, fellows: Fellows) -> Self {
        self.fellows = fellows;
        self
    }

    /// Lets these edge nodes in.
    pub fn edges(mut self, edges: EdgesSetup) -> Self {
        self.edges = Some(edges);
        self
    }

    /// Shares the chain with other hubs.
    pub fn cluster(mut self, cluster: ClusterSetup) -> Self {
        self.cluster = Some(cluster);
        self
    }

    /// While the disk of the ledger takes nothing, blocks are made durable in `dir`, up to these limits.
    pub fn buffer(mut self, dir: impl Into<PathBuf>, limits: SpoolLimits) -> Self {
        self.buffer = Some((dir.into(), limits));
        self
    }

    /// Keeps sealed batches in this database, where the ledger is in a directory.
    pub fn postgres(mut self, config: PostgresConfig) -> Self {
        self.postgres = Some(config);
        self
    }

    /// Signs checkpoints with the key in this file, which is made when it is first needed.
    pub fn checkpoint_key(mut self, file: impl Into<PathBuf>) -> Self {
        self.checkpoint_key = Some(file.into());
        self
    }

    /// Retires what is older than this says.
    pub fn retention(mut self, setup: RetentionSetup) -> Self {
        self.retention = Some(setup);
        self
    }

    /// Wraps the key of every epoch to this key as well, from now on and on record: whoever holds it can open
    /// what is recorded.
    pub fn escrow(mut self, key: SealingPublicKey) -> Self {
        self.escrow = Some(key);
        self
    }

    /// The file that the signing key was read from: a key that takes its place goes there. Without it the
    /// key cannot be replaced while the hub runs.
    pub fn signing_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.signing_file = Some(file.into());
        self
    }

    /// The file that the sealing key was read from, as [`Self::signing_file`].
    pub fn sealing_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.sealing_file = Some(file.into());
        self
    }

    /// How long [`Hub::shutdown`](super::Hub::shutdown) waits until what was read is durable, before it gives that up.
    pub fn shutdown_wait(mut self, wait: Duration) -> Self {
        self.shutdown_wait = wait;
        self
    }
}
