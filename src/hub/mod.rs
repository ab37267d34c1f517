//! A whole hub, wired: the data flow on one screen, and the handle that an embedding program holds.
//!
//! ```text
//! source ─▶ DeviceActor ─▶ ValidatorActor ─▶ SealerActor ─▶ LedgerActor ─▶ store, head ─▶ settled
//! ```

mod faces;
mod setup;

pub use faces::{Faces, OpenFaces, device_info};

use crate::actors::hub::{DevicePlan, HubActor, Shutdown};
use crate::actors::ledger::{BlockCommitted, BlockLimits, LedgerActor, LedgerHealth, LedgerStatus};
use crate::actors::reading::BatchLimits;
use crate::actors::work::Workers;
use crate::crypto::{EpochKey, Identity, KeyFileError, SealingKey, SealingPublicKey, Signer};
use crate::ledger::key_wrap::KeyWrap;
use crate::ledger::opening::{Opener, OpeningError};
use crate::ledger::query::Explorer;
use crate::ledger::seal::{BatchSealer, InForce};
use crate::ledger::store::{Put, Space, Store, StoreError};
use crate::ledger::{ChainConfig, Ledger, LedgerError};
use crate::live_view::LiveView;
use crate::model::{DeviceId, Nanos, TagSpec, now};
use crate::protocols::Source;
use crate::stats::Stats;
use crate::store::{FjallStore, HeadFile};
use crate::validation::{
    ChartHistory, DeviceValidator, Limits, TagValidation, ValidationConfig, ValidationError,
};
use actix::prelude::*;
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::{broadcast, oneshot, watch};

/// Why a hub cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// A key file.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A sealed document of the ledger.
    #[error("the validation settings of `{device}` cannot be read from the ledger: {source}")]
    Settings {
        /// Whose.
        device: String,
        /// Why.
        source: OpeningError,
    },
    /// A device's validation settings.
    #[error("the validation settings of `{device}` cannot be used: {source}")]
    Validation {
        /// Whose.
        device: String,
        /// Why.
        source: ValidationError,
    },
    /// A device's protocol settings.
    #[error("the device `{device}` cannot be used: {reason}")]
    Device {
        /// Which.
        device: String,
        /// Why.
        reason: String,
    },
    /// The HTTP face.
    #[error(transparent)]
    Http(#[from] crate::api::ApiError),
    /// The OPC UA server.
    #[error(transparent)]
    OpcUa(#[from] crate::protocols::opcua::ScadaError),
    /// Threads and files.
    #[error("{what}: {source}")]
    Io {
        /// What failed.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The hub's threads ended.
    #[error("the hub's actors ended early, see the log")]
    Gone,
    /// An invariant of the ledger broke while the hub ran.
    #[error("the ledger is broken: {0}")]
    Broken(String),
}

type MakeSource = Arc<dyn Fn() -> Box<dyn Source> + Send + Sync>;

/// One device, as the hub needs it.
pub struct DeviceSetup {
    /// Its id.
    pub id: DeviceId,
    /// Its tags, in the order of its source.
    pub tags: Arc<[TagSpec]>,
    /// When its batches close.
    pub batch: BatchLimits,
    /// Validation of the device as a whole.
    pub validation: ValidationConfig,
    /// Validation of each tag, in the order of the tags; what is missing is as the device's.
    pub tag_validation: Vec<TagValidation>,
    /// Privacy grade of its data (Yang et al. 2024, "Egrade").
    pub grade: u8,
    make_source: MakeSource,
}

impl DeviceSetup {
    /// A device with default settings, read through what `make_source` makes; it is called again when
    /// the device's pipeline has to be built anew.
    pub fn new(
        id: DeviceId,
        tags: Arc<[TagSpec]>,
        make_source: impl Fn() -> Box<dyn Source> + Send + Sync + 'static,
    ) -> Self {
        Self {
            id,
            tags,
            batch: BatchLimits::default(),
            validation: ValidationConfig::default(),
            tag_validation: Vec::new(),
            grade: 0,
            make_source: Arc::new(make_source),
        }
    }

    fn validator(&self, limits: Option<Limits>) -> Result<DeviceValidator, HubError> {
        DeviceValidator::new(
            self.tags.clone(),
            &self.validation,
            &self.tag_validation,
            limits,
        )
        .map_err(|source| HubError::Validation {
            device: self.id.to_string(),
            source,
        })
    }
}

/// The hub's two keys.
pub struct HubKeys {
    /// Signs records and blocks.
    pub signing: Identity,
    /// Opens the wraps of epoch keys.
    pub sealing: SealingKey,
}

impl HubKeys {
    /// The file of the signing key in a directory of keys.
    pub const SIGNING: &str = "hub.key";
    /// The file of the sealing key in a directory of keys.
    pub const SEALING: &str = "sealing.key";

    /// New keys.
    pub fn generate(hub: &str) -> Self {
        Self {
            signing: Identity::generate(hub),
            sealing: SealingKey::generate(),
        }
    }
}

/// Puts a hub together.
pub struct HubBuilder {
    keys: HubKeys,
    data: PathBuf,
    chain: ChainConfig,
    blocks: BlockLimits,
    devices: Vec<DeviceSetup>,
}

impl HubBuilder {
    /// A hub with these keys that keeps its ledger in `data`.
    pub fn new(keys: HubKeys, data: impl Into<PathBuf>) -> Self {
        Self {
            keys,
            data: data.into(),
            chain: ChainConfig {
                id: "main".to_owned(),
            },
            blocks: BlockLimits::default(),
            devices: Vec::new(),
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

    /// One more device.
    pub fn device(mut self, device: DeviceSetup) -> Self {
        self.devices.push(device);
        self
    }

    /// Opens the ledger and starts everything. Blocking; call it from no async thread.
    pub fn start(self) -> Result<Hub, HubError> {
        let runtime = runtime()?;
        let workers = Workers::new(runtime.handle().clone());
        let store: Arc<dyn Store> = Arc::new(FjallStore::create_or_open(&self.data)?);
        let head = HeadFile::new(&self.data);
        let signer: Arc<dyn Signer> = Arc::new(self.keys.signing);
        let ledger = Ledger::open(
            store.clone(),
            Box::new(head),
            self.chain,
            signer.clone(),
            now(),
        )?;
        let explorer = Explorer::new(store.clone());
        let live = LiveView::default();
        let stats = Arc::new(Stats::default());
        let history = Arc::new(ChartHistory::default());
        let sealing = Arc::new(self.keys.sealing);
        let opener = Opener::new(store, sealing.clone(), signer.id());
        let reader = sealing.public().clone();
        let mut plans = Vec::with_capacity(self.devices.len());
        for device in self.devices {
            plans.push(plan(
                device,
                &ledger,
                &opener,
                (&signer, &reader),
                &live,
                &history,
            )?);
        }
        let actors = Actors::start(ledger, self.blocks, plans, &stats, &history, &workers)?;
        Ok(Hub {
            id: signer.id().to_owned(),
            started: now(),
            live,
            stats,
            history,
            explorer,
            actors,
            runtime: Some(runtime),
        })
    }
}

/// Sources, servers and workers run here; actors have a thread of their own.
fn runtime() -> Result<Runtime, HubError> {
    let cores = std::thread::available_parallelism().map_or(2, |n| n.get());
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores)
        // One writes the ledger while the others judge and seal.
        .max_blocking_threads(cores + 2)
        .thread_name("weighbridge-io")
        .enable_all()
        .build()
        .map_err(|source| HubError::Io {
            what: "the runtime's threads cannot be started",
            source,
        })
}

/// How one device goes on from what the ledger holds.
fn plan(
    device: DeviceSetup,
    ledger: &Ledger,
    opener: &Opener,
    (signer, reader): (&Arc<dyn Signer>, &SealingPublicKey),
    live: &LiveView,
    history: &ChartHistory,
) -> Result<DevicePlan, HubError> {
    let id = device.id.clone();
    let wrong = |source| HubError::Settings {
        device: id.to_string(),
        source,
    };
    let recorded = ledger
        .state()
        .document(&format!("device:{id}"), "validation");
    let (document, in_force) = match recorded {
        Some(recorded) => {
            let document = opener.open_document(&id, &recorded.sealed).map_err(wrong)?;
            let in_force = InForce {
                commitment: recorded.commitment,
                version: recorded.version,
            };
            (Some(document), in_force)
        }
        None => (None, InForce::default()),
    };
    let limits = document
        .as_deref()
        .and_then(|d| DeviceValidator::limits_of_document(d).ok());
    let validator = device.validator(limits.clone())?;
    let settings = validator.settings_document();
    let changed = document.as_deref() != Some(&settings);
    let key_epoch = opener.next_key_epoch(&id).map_err(wrong)?;
    history.register(id.clone());
    let in_force = Arc::new(Mutex::new(in_force));
    let (grade, signer) = (device.grade, signer.clone());
    let (reader, chain) = (reader.clone(), ledger.state().chain().to_owned());
    let make_sealer = {
        let id = id.clone();
        move |epoch| {
            let key = EpochKey::generate(&id, epoch).map_err(|e| e.to_string())?;
            let wrapped = reader.wrap(&key).map_err(|e| e.to_string())?;
            let wrapped = (wrapped.enc, wrapped.ciphertext);
            // The hub is the reader: it judges again what it has sealed.
            let wrap = KeyWrap::sign(&chain, &id, epoch, signer.id(), wrapped, signer.as_ref());
            let wrap = Put {
                space: Space::Keys,
                key: wrap.key(),
                value: wrap.to_bytes(),
            };
            Ok(BatchSealer::new(
                &id,
                grade,
                key,
                vec![wrap],
                in_force.clone(),
            ))
        }
    };
    let device = Arc::new(device);
    Ok(DevicePlan {
        live: live.register(id, device.tags.clone()),
        make_source: device.make_source.clone(),
        batch: device.batch,
        make_validator: Arc::new(move |limits| match device.validator(limits) {
            Ok(validator) => validator,
            // The settings were accepted when the hub started; learned limits always fit them.
            Err(error) => unreachable!("{error}"),
        }),
        limits: Arc::new(Mutex::new(limits)),
        make_sealer: Arc::new(make_sealer),
        key_epoch,
        settings: changed.then_some(settings),
    })
}

/// The thread of the actors.
struct Actors {
    thread: Option<JoinHandle<()>>,
    hub: Addr<HubActor>,
    stop: Option<oneshot::Sender<()>>,
    status: watch::Receiver<LedgerStatus>,
    committed: broadcast::Sender<Arc<BlockCommitted>>,
}

impl Actors {
    fn start(
        ledger: Ledger,
        blocks: BlockLimits,
        plans: Vec<DevicePlan>,
        stats: &Arc<Stats>,
        history: &Arc<ChartHistory>,
        workers: &Workers,
    ) -> Result<Self, HubError> {
        let (started, wait) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let (stats, history, workers) = (stats.clone(), history.clone(), workers.clone());
        let run = move || {
            System::new().block_on(async move {
                let ledger = LedgerActor::new(ledger, blocks, stats, workers.clone());
                let seen = (ledger.status(), ledger.committed());
                let hub = HubActor::new(ledger.start(), history, workers, plans).start();
                let _ = started.send((hub, seen));
                let _ = stopped.await;
            });
        };
        let thread = std::thread::Builder::new()
            .name("weighbridge-actors".to_owned())
            .spawn(run)
            .map_err(|source| HubError::Io {
                what: "the actors' thread cannot be started",
                source,
            })?;
        let (hub, (status, committed)) = wait.recv().map_err(|_| HubError::Gone)?;
        Ok(Self {
            thread: Some(thread),
            hub,
            stop: Some(stop),
            status,
            committed,
        })
    }
}

/// A running hub. Dropping it stops it in good order too, but without a word on what went wrong.
pub struct Hub {
    id: String,
    started: Nanos,
    live: LiveView,
    stats: Arc<Stats>,
    history: Arc<ChartHistory>,
    explorer: Explorer,
    actors: Actors,
    runtime: Option<Runtime>,
}

impl Hub {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// When it started.
    pub fn started(&self) -> Nanos {
        self.started
    }

    /// The newest sample of every tag.
    pub fn live(&self) -> &LiveView {
        &self.live
    }

    /// Its counters.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// The control charts.
    pub fn charts(&self) -> &Arc<ChartHistory> {
        &self.history
    }

    /// Blocks and records.
    pub fn explorer(&self) -> &Explorer {
        &self.explorer
    }

    /// The ledger's state, to be watched.
    pub fn ledger_status(&self) -> watch::Receiver<LedgerStatus> {
        self.actors.status.clone()
    }

    /// Every block that becomes durable from now on.
    pub fn committed(&self) -> broadcast::Receiver<Arc<BlockCommitted>> {
        self.actors.committed.subscribe()
    }

    /// The runtime that servers may run on.
    pub fn runtime(&self) -> tokio::runtime::Handle {
        match &self.runtime {
            Some(runtime) => runtime.handle().clone(),
            None => unreachable!("the runtime lives as long as the hub"),
        }
    }

    /// Stops reading, waits until all that was read is durable, and ends. Blocking.
    pub fn shutdown(mut self) -> Result<(), HubError> {
        self.stop()
    }

    fn stop(&mut self) -> Result<(), HubError> {
        let Some(stop) = self.actors.stop.take() else {
            return Ok(());
        };
        if let Some(runtime) = &self.runtime {
            // A hub whose ledger broke has no actors to ask.
            let _ = runtime.block_on(self.actors.hub.send(Shutdown));
        }
        let _ = stop.send(());
        if let Some(thread) = self.actors.thread.take() {
            thread.join().map_err(|_| HubError::Gone)?;
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
        match &self.actors.status.borrow().health {
            LedgerHealth::Broken(reason) => Err(HubError::Broken(reason.clone())),
            LedgerHealth::Up | LedgerHealth::Waiting(_) => Ok(()),
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::error!(%error, "the hub did not end in good order");
        }
    }
}
