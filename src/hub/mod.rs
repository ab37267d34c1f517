//! A whole hub, wired: the data flow on one screen, and the handle that an embedding program holds.
//!
//! ```text
//! source ─▶ DeviceActor ─▶ ValidatorActor ─▶ SealerActor ─▶ LedgerActor ─▶ store, head ─▶ settled
//! ```

mod access;
mod apply;
mod checkpoints;
mod control;
mod device;
mod edges;
mod erasure;
mod error;
mod faces;
mod history;
mod keys;
mod plan;
mod readers;
mod recorded;
mod retention;
mod setup;
mod threads;

pub use apply::{Change, NotApplied};
pub use checkpoints::Checkpoints;
pub(crate) use control::check_value;
pub use device::DeviceSetup;
pub(crate) use device::check as check_devices;
pub use edges::EdgesSetup;
pub use erasure::{Eraser, StoppedErasure};
pub use error::HubError;
pub use faces::{Faces, LogInFiles, OpenFaces, device_info};
pub use history::HubHistory;
pub use keys::KeyDesk;
pub use readers::{NotSettled, Readers};
pub use retention::{Retainer, RetentionSetup};

use crate::access::{AccessConfig, Gate};
use crate::actors::access::AccessDesk;
use crate::actors::alarms::{AlarmDesk, recorded_alarm};
use crate::actors::control::ControlDoors;
use crate::actors::hub::{DevicePlan, HubActor, Shutdown};
use crate::actors::journal::{Journal, MakeActSealer};
use crate::actors::ledger::{
    BlockCommitted, BlockLimits, LedgerActor, LedgerHealth, LedgerStatus, keys_of,
};
use crate::actors::session::{Book, SessionDoor, SessionRegistry};
use crate::actors::work::Workers;
use crate::alarms::{Alarm, AlarmConfig};
use crate::crypto::{HubKey, Identity, SealingKey, SealingPublicKey, Signer};
use crate::ledger::act::ActSealer;
use crate::ledger::facts::Word;
use crate::ledger::head::HeadSlot;
use crate::ledger::history::reader::Archive;
use crate::ledger::history::rebuild::is_complete;
use crate::ledger::key_wrap::hub_object;
use crate::ledger::opening::Opener;
use crate::ledger::query::Explorer;
use crate::ledger::store::Store;
use crate::ledger::{ChainConfig, Ledger};
use crate::live_view::LiveView;
use crate::model::{DeviceId, Nanos, now};
use crate::protocols::edge::{EdgeListener, NodeStatus};
use crate::stats::Stats;
use crate::store::spool::SpoolLimits;
use crate::store::{BufferStatus, BufferedStore, FjallStore, HeadFile};
use crate::validation::ChartHistory;
use actix::prelude::*;
use edges::{Admission, Edges, gates, strangers};
use parking_lot::Mutex;
use plan::{Planner, plan};
use readers::KeyMaker;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use threads::Threads;
use tokio::sync::{broadcast, oneshot, watch};
use weighbridge_verifier::{IdentityContent, IdentityKind, Suite};

/// How long a shutdown waits for batches under way, unless told otherwise.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(10);

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
    /// The file of the key of checkpoints in a directory of keys; it is made when first needed.
    pub const CHECKPOINT: &str = "checkpoint.key";

    /// New keys of suite `nist`.
    pub fn generate(hub: &str) -> Self {
        Self::generate_of(Suite::Nist, hub)
    }

    /// New keys of `suite`: they make the hub's chain one of it.
    pub fn generate_of(suite: Suite, hub: &str) -> Self {
        Self {
            signing: Identity::generate_of(suite, hub),
            sealing: SealingKey::generate_of(suite),
        }
    }

    fn check(&self) -> Result<(), HubError> {
        let (signing, sealing) = (self.signing.suite(), self.sealing.suite());
        match signing == sealing {
            true => Ok(()),
            false => Err(HubError::TwoSuites { signing, sealing }),
        }
    }
}

/// Puts a hub together.
pub struct HubBuilder {
    keys: HubKeys,
    storage: Storage,
    chain: ChainConfig,
    blocks: BlockLimits,
    alarms: AlarmConfig,
    access: AccessConfig,
    devices: Vec<DeviceSetup>,
    edges: Option<EdgesSetup>,
    buffer: Option<(PathBuf, SpoolLimits)>,
    checkpoint_key: Option<PathBuf>,
    retention: Option<RetentionSetup>,
    escrow: Option<SealingPublicKey>,
    signing_file: Option<PathBuf>,
    shutdown_wait: Duration,
}

/// Where the ledger is kept.
enum Storage {
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
            buffer: None,
            checkpoint_key: None,
            retention: None,
            escrow: None,
            signing_file: None,
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

    /// Lets these edge nodes in.
    pub fn edges(mut self, edges: EdgesSetup) -> Self {
        self.edges = Some(edges);
        self
    }

    /// While the disk of the ledger takes nothing, blocks are made durable in `dir`, up to these limits.
    pub fn buffer(mut self, dir: impl Into<PathBuf>, limits: SpoolLimits) -> Self {
        self.buffer = Some((dir.into(), limits));
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

    /// How long [`Hub::shutdown`] waits until what was read is durable, before it gives that up.
    pub fn shutdown_wait(mut self, wait: Duration) -> Self {
        self.shutdown_wait = wait;
        self
    }

    /// Opens the ledger and starts everything. Blocking; call it from no async thread.
    pub fn start(self) -> Result<Hub, HubError> {
        device::check(&self.devices)?;
        self.keys.check()?;
        let threads = Threads::start()?;
        let workers = Workers::new(threads.io.handle().clone(), threads.work.handle().clone());
        let data = match &self.storage {
            Storage::Given(..) => None,
            Storage::Directory(data) => Some(data.clone()),
        };
        let (store, head): (Arc<dyn Store>, Box<dyn HeadSlot>) = match self.storage {
            Storage::Given(store, head) => (store, head),
            Storage::Directory(data) => (
                Arc::new(FjallStore::create_or_open(&data)?),
                Box::new(HeadFile::new(&data)),
            ),
        };
        let buffer = match self.buffer {
            Some((dir, limits)) => {
                Some(Arc::new(BufferedStore::open(store.clone(), &dir, limits)?))
            }
            None => None,
        };
        let store: Arc<dyn Store> = match &buffer {
            Some(buffered) => buffered.clone(),
            None => store,
        };
        let sealing = Arc::new(self.keys.sealing);
        let signing = Arc::new(match self.signing_file {
            Some(file) => HubKey::in_file(self.keys.signing, &file)?,
            None => HubKey::new(self.keys.signing),
        });
        let signer: Arc<dyn Signer> = signing.clone();
        let mut ledger = Ledger::open(store.clone(), head, self.chain, signer.clone(), now())?;
        // A change of the key that was cut short is on record by now, or came to nothing.
        signing.settle()?;
        signing.abandon()?;
        erasure::resume(&*store);
        retention::resume(&*store);
        let edges = Edges::listen(self.edges.as_ref(), &signing, &sealing, threads.io.handle())?;
        edges.know(&keys_of(&ledger));
        let admission = edges.admission(self.edges.map(|e| e.nodes).unwrap_or_default())?;
        enrol(&mut ledger, &admission, &self.devices)?;
        let rotations = ledger.rotations().to_vec();
        let explorer = Explorer::new(store.clone());
        let checkpoints = self.checkpoint_key.map(|file| {
            let (store, signer) = (store.clone(), signer.clone());
            Arc::new(Checkpoints::new(store, signer, file))
        });
        let live = LiveView::default();
        let stats = Arc::new(Stats::default());
        let history = Arc::new(ChartHistory::default());
        let opener = Opener::new(store.clone(), sealing.clone(), signer.id());
        let totals = ledger.state().totals();
        let stored = totals.accepted + totals.out_of_control;
        let indexed = Arc::new(AtomicBool::new(is_complete(&*store, stored)?));
        let mut access = access::recorded_access(&ledger, &opener)?;
        let escrow = access::escrow(&access, self.escrow.as_ref(), signer.suite())?;
        let gate = Gate::new(signer.id(), access::with(&access, &escrow)?);
        let chain = ledger.state().chain().to_owned();
        let own = sealing.public().clone();
        let planner = Planner {
            keys: KeyMaker::new(&chain, own, signer.clone(), gate.clone()),
            archive: Archive::new(store.clone(), opener.clone()),
            indexed: indexed.clone(),
            chain,
            opener: opener.clone(),
            signer: signer.clone(),
            live: live.clone(),
            history: history.clone(),
        };
        let ids: BTreeSet<DeviceId> = self.devices.iter().map(|d| d.id.clone()).collect();
        let mut plans = Vec::with_capacity(self.devices.len());
        for device in self.devices {
            let intake = edges.intake(&device, &admission)?;
            let recorded = ledger.state().device_settings(&device.id);
            plans.push(plan(device, recorded, intake, &planner)?);
        }
        let gates = gates(plans.iter().map(|plan| &plan.intake));
        let acts = act_sealers(&planner)?;
        let machines = access::machines(&gate, ids.iter().map(|id| &**id), admission.ids());
        let declared = (gate.hub(), &machines, escrow);
        access::declare(&mut ledger, &acts.1.1, &mut access, declared)?;
        gate.set(Arc::new(access));
        let alarms = (self.alarms, recorded_alarms(&ledger, &planner.opener));
        let recorded = (ledger.tip().height, indexed.clone());
        let runtime = threads.io.handle();
        let actors = Actors::start(
            (ledger, self.blocks, plans),
            (acts, signer.id(), runtime),
            alarms,
            (&stats, &history, &workers),
            (gate.clone(), &self.access),
        )?;
        actors.alarms.forget_all_but(|device| ids.contains(device));
        let past = HubHistory::start(
            store.clone(),
            opener,
            recorded,
            (gate.clone(), actors.doors.journal().clone()),
            workers,
        );
        edges.kept_by(&actors.access);
        edges.admit(admission);
        edges.introduce(&rotations)?;
        edges.set_gates(&[], &gates);
        let (past, planner) = (Arc::new(past), Arc::new(planner));
        let edges = Arc::new(edges);
        let changing = Arc::new(tokio::sync::Mutex::new(()));
        let kept = store.clone();
        let readers = Readers::new(
            (store.clone(), runtime.clone(), changing.clone()),
            (actors.hub.clone(), actors.ledger.clone()),
            (
                planner.clone(),
                gate.clone(),
                actors.doors.journal().clone(),
            ),
        );
        readers.follow(actors.access.changes());
        let keys = KeyDesk::new(
            (signing, planner.chain.clone()),
            (actors.ledger.clone(), actors.status.clone()),
            (edges.clone(), changing.clone(), runtime.clone()),
            (gate.clone(), actors.doors.journal().clone()),
        );
        let eraser = Eraser::new(
            (store, runtime.clone(), changing.clone()),
            (actors.hub.clone(), actors.ledger.clone()),
            (past.clone(), planner.clone()),
            (gate, actors.doors.journal().clone()),
        );
        let retainer = self.retention.map(|setup| {
            Retainer::start(
                setup,
                (kept, data),
                (
                    signer.id(),
                    actors.ledger.clone(),
                    actors.doors.journal().clone(),
                ),
                (eraser.turn(), indexed),
                (actors.committed.subscribe(), stats.clone()),
                runtime,
            )
        });
        Ok(Hub {
            retainer,
            buffer,
            edges,
            changing,
            eraser: Arc::new(eraser),
            readers,
            keys: Arc::new(keys),
            past,
            id: signer.id().to_owned(),
            started: now(),
            live,
            stats,
            history,
            explorer,
            checkpoints,
            actors,
            planner,
            threads: Some(threads),
            shutdown_wait: self.shutdown_wait,
        })
    }
}

/// Makes the sealers of what users do, from the first key epoch on that was never used.
fn act_sealers(planner: &Planner) -> Result<(MakeActSealer, (u64, ActSealer)), HubError> {
    let object = hub_object(planner.signer.id());
    let epoch = planner.opener.next_key_epoch(&object);
    let epoch = epoch.map_err(|source| HubError::Settings {
        device: object.clone(),
        source,
    })?;
    let keys = planner.keys.clone();
    let make: MakeActSealer = Arc::new(move |epoch| {
        let (key, wraps) = keys.make((&object, epoch))?;
        Ok(ActSealer::new(key, wraps))
    });
    let first = make(epoch).map_err(HubError::Journal)?;
    Ok((make, (epoch, first)))
}

/// The alarms that were not at rest when the hub ended, as they were last recorded. One that cannot be
/// read is left out: the verdicts to come say anew what is wrong.
fn recorded_alarms(ledger: &Ledger, opener: &Opener) -> Vec<Alarm> {
    let open = |(object, word): (&String, &Word)| {
        let details = opener.open_act(&word.hub, &word.message);
        let alarm = match &details {
            Ok(details) => recorded_alarm(details),
            Err(error) => {
                tracing::error!(object, %error, "a recorded alarm cannot be read");
                None
            }
        };
        if alarm.is_none() && details.is_ok() {
            tracing::error!(object, "a recorded alarm was written by another version");
        }
        alarm
    };
    ledger.state().alarms().iter().filter_map(open).collect()
}

/// Enrols the edge nodes, and the keys of devices that have one, as far as the ledger does not know them
/// yet.
fn enrol(
    ledger: &mut Ledger,
    admission: &Admission,
    devices: &[DeviceSetup],
) -> Result<(), HubError> {
    let known = ledger.state().identities().iter();
    let known = known.map(|(id, k)| (id.clone(), (k.kind, k.key, k.revoked)));
    let attesters = devices.iter().filter_map(attester_identity);
    let wanted = admission.identities().chain(attesters);
    let new = strangers(wanted, &known.collect())?;
    if !new.is_empty() {
        let drafts: Vec<_> = new.into_iter().map(apply::enrolment).collect();
        ledger.append(&drafts, Vec::new(), now())?;
    }
    Ok(())
}

/// Who signs for a device that has a key of its own.
fn attester_identity(device: &DeviceSetup) -> Option<IdentityContent> {
    let attester = device.attester.as_ref()?;
    Some(IdentityContent {
        id: attester.id().to_owned(),
        kind: IdentityKind::Device,
        key: Some(attester.public_key()),
    })
}

/// The thread of the actors.
struct Actors {
    thread: Option<JoinHandle<()>>,
    hub: Addr<HubActor>,
    ledger: Addr<LedgerActor>,
    stop: Option<oneshot::Sender<()>>,
    status: watch::Receiver<LedgerStatus>,
    committed: broadcast::Sender<Arc<BlockCommitted>>,
    /// Listens since before the first device was read.
    from_the_start: Mutex<Option<broadcast::Receiver<Arc<BlockCommitted>>>>,
    sessions: Arc<SessionDoor>,
    doors: ControlDoors,
    alarms: AlarmDesk,
    access: AccessDesk,
}

impl Actors {
    fn start(
        (ledger, blocks, plans): (Ledger, BlockLimits, Vec<DevicePlan>),
        ((make_act_sealer, first_act_sealer), id, runtime): (
            (MakeActSealer, (u64, ActSealer)),
            &str,
            &tokio::runtime::Handle,
        ),
        (config, alarms): (AlarmConfig, Vec<Alarm>),
        (stats, history, workers): (&Arc<Stats>, &Arc<ChartHistory>, &Workers),
        (gate, access): (Gate, &AccessConfig),
    ) -> Result<Self, HubError> {
        let (config_of_access, suite) = (access.clone(), ledger.state().suite());
        let (started, wait) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let (stats, history, workers) = (stats.clone(), history.clone(), workers.clone());
        let (id, runtime) = (id.to_owned(), runtime.clone());
        let run = move || {
            System::new().block_on(async move {
                let ledger = LedgerActor::new(ledger, blocks, stats, workers.clone());
                let committed = ledger.committed();
                let first = committed.subscribe();
                let status = ledger.status();
                let ledger = ledger.start();
                let journal = Journal::new(ledger.clone(), make_act_sealer, first_act_sealer);
                let usage = config_of_access.usage();
                let access =
                    AccessDesk::new(gate.clone(), journal.clone(), config_of_access, suite);
                let book = Book::new(journal.clone(), access.clone());
                let sessions = SessionRegistry::open(&id, Some(book), usage);
                let seen = (status, (committed, first), sessions);
                let asked = (gate, journal.clone());
                let alarms = AlarmDesk::open(&id, config, alarms, asked, &runtime);
                let doors = ControlDoors::new(journal, workers.clone());
                let both = (history, alarms.clone());
                let at_the_door = (doors.clone(), access.clone());
                let hub = HubActor::new(ledger.clone(), both, workers, at_the_door, plans).start();
                let _ = started.send((hub, ledger, seen, doors, (alarms, access)));
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
        let (hub, ledger, (status, (committed, first), sessions), doors, (alarms, access)) =
            wait.recv().map_err(|_| HubError::Gone)?;
        Ok(Self {
            thread: Some(thread),
            hub,
            ledger,
            stop: Some(stop),
            status,
            committed,
            from_the_start: Mutex::new(Some(first)),
            sessions,
            doors,
            alarms,
            access,
        })
    }
}

/// A running hub. Dropping it stops it in good order too, but without a word on what went wrong.
pub struct Hub {
    retainer: Option<Retainer>,
    buffer: Option<Arc<BufferedStore>>,
    edges: Arc<Edges>,
    /// Held while devices and edge nodes change.
    changing: Arc<tokio::sync::Mutex<()>>,
    eraser: Arc<Eraser>,
    readers: Readers,
    keys: Arc<KeyDesk>,
    id: String,
    started: Nanos,
    live: LiveView,
    stats: Arc<Stats>,
    history: Arc<ChartHistory>,
    explorer: Explorer,
    checkpoints: Option<Arc<Checkpoints>>,
    past: Arc<HubHistory>,
    actors: Actors,
    planner: Arc<Planner>,
    threads: Option<Threads>,
    shutdown_wait: Duration,
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

    /// What waits for the disk of the ledger; `None` when the hub has no buffer.
    pub fn buffer(&self) -> Option<BufferStatus> {
        self.buffer.as_ref().map(|buffer| buffer.status())
    }

    /// Where edge nodes connect; `None` when the hub has none.
    pub fn edge_address(&self) -> Option<SocketAddr> {
        self.edges.listener().map(EdgeListener::address)
    }

    /// How its edge nodes are.
    pub fn edge_nodes(&self) -> Vec<NodeStatus> {
        self.edges.status()
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

    /// Makes checkpoints of the ledger; `None` when it was given no file for their key.
    pub fn checkpoints(&self) -> Option<Arc<Checkpoints>> {
        self.checkpoints.clone()
    }

    /// Retires what is older than its policy; `None` when the hub has none.
    pub fn retainer(&self) -> Option<&Retainer> {
        self.retainer.as_ref()
    }

    /// Erases what was recorded, for those who may.
    pub fn eraser(&self) -> &Arc<Eraser> {
        &self.eraser
    }

    /// Those who open what was recorded by themselves.
    pub fn readers(&self) -> &Readers {
        &self.readers
    }

    /// Replaces keys, for those who may.
    pub fn keys(&self) -> &Arc<KeyDesk> {
        &self.keys
    }

    /// Blocks and records.
    pub fn explorer(&self) -> &Explorer {
        &self.explorer
    }

    /// What was recorded, decrypted for who may see it.
    pub fn past(&self) -> &Arc<HubHistory> {
        &self.past
    }

    /// The ledger's state, to be watched.
    pub fn ledger_status(&self) -> watch::Receiver<LedgerStatus> {
        self.actors.status.clone()
    }

    /// Every block that becomes durable from now on; for the first who asks, from the hub's start on.
    pub fn committed(&self) -> broadcast::Receiver<Arc<BlockCommitted>> {
        let first = self.actors.from_the_start.lock().take();
        first.unwrap_or_else(|| self.actors.committed.subscribe())
    }

    /// Where faces tell of their users' sessions.
    pub fn sessions(&self) -> &Arc<SessionDoor> {
        &self.actors.sessions
    }

    /// Records what users do: durable before it is answered.
    pub fn journal(&self) -> &Journal {
        self.actors.doors.journal()
    }

    /// The alarms.
    pub fn alarms(&self) -> &AlarmDesk {
        &self.actors.alarms
    }

    /// The runtime that servers may run on.
    pub fn runtime(&self) -> tokio::runtime::Handle {
        match &self.threads {
            Some(threads) => threads.io.handle().clone(),
            None => unreachable!("the runtime lives as long as the hub"),
        }
    }

    /// Stops reading, waits until all that was read is durable, and ends. Blocking; call it from no
    /// async thread.
    ///
    /// # Errors
    /// When the ledger broke while the hub ran, or when something that was read is lost because it
    /// could not be made durable in time.
    pub fn shutdown(mut self) -> Result<(), HubError> {
        self.stop()
    }

    fn stop(&mut self) -> Result<(), HubError> {
        let (Some(stop), Some(threads)) = (self.actors.stop.take(), self.threads.take()) else {
            return Ok(());
        };
        self.past.end();
        if let Some(retainer) = &mut self.retainer {
            retainer.end(&threads);
        }
        threads.io.block_on(self.actors.sessions.sum_up());
        threads.io.block_on(self.edges.stop());
        let dropped_before = self.dropped();
        let ledger_died = self.actors.status.has_changed().is_err();
        let shutdown = self.actors.hub.send(Shutdown(self.shutdown_wait));
        // A hub whose actors died has none to ask.
        let durable = threads.io.block_on(shutdown).unwrap_or(false);
        let _ = stop.send(());
        let joined = self.actors.thread.take().map(JoinHandle::join);
        threads.end();
        let lost = match durable {
            true => 0,
            false => self.dropped() - dropped_before,
        };
        match &self.actors.status.borrow().health {
            LedgerHealth::Broken(reason) => Err(HubError::Broken(reason.clone())),
            _ if ledger_died || matches!(joined, Some(Err(_))) => Err(HubError::Gone),
            LedgerHealth::Waiting(reason) if lost > 0 => Err(HubError::Lost {
                samples: lost,
                reason: reason.clone(),
            }),
            LedgerHealth::Up if lost > 0 => Err(HubError::Lost {
                samples: lost,
                reason: "there was not enough time to write it".to_owned(),
            }),
            LedgerHealth::Up | LedgerHealth::Waiting(_) => Ok(()),
        }
    }

    /// Samples that were read and will never be recorded.
    fn dropped(&self) -> u64 {
        let devices = self.live.devices();
        let dropped = devices.iter().map(|d| d.dropped.load(Ordering::Relaxed));
        dropped.sum()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::error!(%error, "the hub did not end in good order");
        }
    }
}
