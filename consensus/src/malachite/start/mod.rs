//! Starting a chain: the engine's actors, ours among them, and what is checked before.

mod links;
mod running;
mod settings;

#[cfg(test)]
pub use settings::{multiaddr, network_config};

use super::actors::{Ears, Heard, Hearing, Host};
use super::chain::{Fixed, Inputs, Task, allowed};
use super::codec::Forms;
use super::context::{Context, Height, core_types};
use super::log;
use super::signing::Signing;
use super::values::Values;
use crate::application::{Application, Tip};
use crate::engine::{EngineError, Progress, Setup};
use arc_malachitebft_app::config::ConsensusConfig;
use arc_malachitebft_app::consensus::ValuePayload;
use arc_malachitebft_app::engine::consensus::{Consensus, ConsensusParams};
use arc_malachitebft_app::engine::network::{Network, NetworkMsg, NetworkRef};
use arc_malachitebft_app::engine::node::NodeRef;
use arc_malachitebft_app::engine::sync::{Msg as SyncMsg, Params as SyncParams, Sync as Syncing};
use arc_malachitebft_app::engine::util::events::TxEvent;
use arc_malachitebft_app::engine::util::output_port::{OutputPort, OutputPortSubscriberTrait};
use arc_malachitebft_app::metrics::{Metrics, Registry, SharedRegistry};
use arc_malachitebft_app::net::Multiaddr;
use arc_malachitebft_app::spawn::spawn_node_actor;
use arc_malachitebft_app::types::Keypair;
use arc_malachitebft_app::types::codec::Codec;
use arc_malachitebft_app::wal::Log;
use arc_malachitebft_network::{Config as NetworkConfig, NetworkIdentity};
use arc_malachitebft_signing::Signer;
use arc_malachitebft_sync as sync;
use core_types::SigningScheme;
use links::Links;
use ractor::{Actor, ActorCell};
use running::{Running, Watching, stop};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

const LOG: &str = "consensus.wal";
/// Proposals that wait to be looked at.
const CLAIMS: usize = 64;
/// How long a log that another chain of this process has just left may stay locked.
const LOG_LOCKED: Duration = Duration::from_secs(5);

fn engine_error(reason: impl ToString) -> EngineError {
    EngineError::Engine(reason.to_string())
}

/// What of the log matters before the engine has it: its height, and whether anything is in it.
fn look_at_log(path: &Path) -> Result<(u64, bool), EngineError> {
    let failed = |reason: String| EngineError::Log {
        path: path.to_owned(),
        reason,
    };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(|e| failed(e.to_string()))?;
    }
    let started = std::time::Instant::now();
    loop {
        match Log::open(path) {
            Ok(log) => return Ok((log.sequence(), log.is_empty())),
            // The thread of a chain that was stopped a moment ago lets go of its file by itself.
            Err(_) if started.elapsed() < LOG_LOCKED => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(e) => return Err(failed(e.to_string())),
        }
    }
}

/// Whether the store and the log are of one history, and whether the log says that the next height was
/// begun.
async fn begun(path: PathBuf, tip: u64) -> Result<bool, EngineError> {
    let looked = tokio::task::spawn_blocking(move || look_at_log(&path)).await;
    let (log, empty) = looked.map_err(engine_error)??;
    match log > tip.saturating_add(1) {
        true => Err(EngineError::StoreBehind { tip, log }),
        false => Ok(log > tip && !empty),
    }
}

/// Opens a chain.
pub async fn open(
    runtime: Handle,
    setup: Setup,
    application: Arc<dyn Application>,
) -> Result<Running, EngineError> {
    settings::check_timing(&setup.timing)?;
    let peers = setup
        .peers
        .iter()
        .map(settings::multiaddr)
        .collect::<Result<Vec<_>, _>>()?;
    let asked = application.clone();
    let tip = tokio::task::spawn_blocking(move || asked.tip()).await;
    let tip = tip.map_err(engine_error)??;
    allowed(setup.faults, &tip.validators).map_err(|e| EngineError::Setup(e.to_owned()))?;
    let path = setup.directory.join(LOG);
    let unfinished = begun(path.clone(), tip.height).await?;

    let registry = SharedRegistry::new(Registry::default(), Some(setup.chain.clone()));
    let metrics = Metrics::register(&registry);
    let (node, stopped) = spawn_node_actor(metrics.clone())
        .await
        .map_err(engine_error)?;
    let mut actors = Actors {
        node: node.get_cell(),
        cells: Vec::new(),
    };
    let opened = assemble(
        Parts {
            runtime,
            setup,
            application,
            peers,
            path,
            registry,
            metrics,
            node,
            stopped,
        },
        tip,
        unfinished,
        &mut actors,
    );
    let opened = opened.await;
    if opened.is_err() {
        stop(actors.take()).await;
    }
    opened
}

/// The network of a chain, on which this hub says who it is, and what it is known by there.
pub(super) async fn opened_network(
    setup: &Setup,
    config: NetworkConfig,
    forms: Forms,
    registry: SharedRegistry,
) -> Result<(NetworkRef<Context>, String), EngineError> {
    let signing = Signing::new(&setup.chain, setup.signer.clone());
    let address = signing.address();
    let keypair = Keypair::ed25519_from_bytes(setup.network_key.0).map_err(engine_error)?;
    let peer_id = keypair.public().to_peer_id();
    let key = super::context::P256::encode_public_key(&address.0);
    let proof = signing.sign_validator_proof(key, peer_id.to_bytes()).await;
    let proof = forms.encode(&proof.map_err(engine_error)?);
    let proof = proof.map_err(engine_error)?;
    let name = setup.chain.clone();
    let identity = NetworkIdentity::new_validator(name, keypair, address.to_string(), proof);
    let span = tracing::error_span!("consensus", chain = %setup.chain);
    let network = Network::spawn(identity, config, registry, forms, span);
    Ok((network.await.map_err(engine_error)?, peer_id.to_string()))
}

/// What a chain is made of.
struct Parts {
    runtime: Handle,
    setup: Setup,
    application: Arc<dyn Application>,
    peers: Vec<Multiaddr>,
    path: PathBuf,
    registry: SharedRegistry,
    metrics: Metrics,
    node: NodeRef,
    stopped: JoinHandle<()>,
}

/// The actors that run so far.
struct Actors {
    node: ActorCell,
    cells: Vec<ActorCell>,
}

impl Actors {
    fn add(&mut self, actor: ActorCell) {
        actor.link(self.node.clone());
        self.cells.push(actor);
    }

    /// All of them, in the order in which they are stopped. One that has seen its log damaged does not
    /// stop by itself when the others do.
    fn take(&mut self) -> Vec<ActorCell> {
        let mut cells = std::mem::take(&mut self.cells);
        cells.push(self.node.clone());
        cells
    }
}

async fn assemble(
    parts: Parts,
    tip: Tip,
    unfinished: bool,
    actors: &mut Actors,
) -> Result<Running, EngineError> {
    let Parts {
        runtime,
        setup,
        application,
        peers,
        path,
        registry,
        metrics,
        node,
        stopped,
    } = parts;
    let values = Arc::new(Values::default());
    let forms = Forms::new(values.clone(), setup.max_value);
    let signing = Signing::new(&setup.chain, setup.signer.clone());
    let address = signing.address();
    let span = tracing::error_span!("consensus", chain = %setup.chain);

    let ids = setup.peers.iter().map(|peer| peer.id.clone());
    let known = ids.zip(peers.iter().cloned()).collect();
    let config = settings::network_config(&setup, peers)?;
    let opened = opened_network(&setup, config, forms.clone(), registry.clone());
    let (network, network_id) = opened.await?;
    actors.add(network.get_cell());
    let (heard, listening) = watch::channel(Heard::default());
    let (claims, claimed) = mpsc::channel(CLAIMS);
    let hearing = Hearing { heard, claims };
    let (ears, _) = Actor::spawn(None, Ears, hearing)
        .await
        .map_err(engine_error)?;
    actors.add(ears.get_cell());
    let subscribe = NetworkMsg::Subscribe(Box::new(ears));
    network.cast(subscribe).map_err(engine_error)?;

    let wal = log::open(&path, forms.clone(), node.clone()).await;
    let wal = wal.map_err(engine_error)?;
    actors.add(wal.get_cell());
    let (questions, asked) = mpsc::channel(128);
    let (host, _) = Actor::spawn(None, Host, questions)
        .await
        .map_err(engine_error)?;
    actors.add(host.get_cell());

    let events = TxEvent::new();
    let (progress, watched) = watch::channel(Progress {
        tip: tip.height,
        ..Progress::default()
    });
    let leaving = Arc::new(AtomicBool::new(false));
    let watching = Watching {
        leaving: leaving.clone(),
        progress: progress.clone(),
        application: application.clone(),
    };
    let log = tokio::spawn(watching.clone().log(events.subscribe()));
    let death = tokio::spawn(watching.death(stopped));
    let port = Arc::new(OutputPort::new());
    let consensus = Consensus::spawn(
        Context,
        ConsensusParams {
            address,
            threshold_params: settings::thresholds(setup.faults),
            value_payload: ValuePayload::ProposalAndParts,
            enabled: true,
        },
        ConsensusConfig::default(),
        Box::new(signing.clone()),
        Some(Box::new(signing.clone())),
        network.clone(),
        host.clone(),
        wal,
        port.clone(),
        metrics,
        events,
        node,
        span.clone(),
    );
    let consensus = consensus.await.map_err(engine_error)?;
    actors.add(consensus.get_cell());
    let status = setup.timing.status;
    let syncing = Syncing::spawn(
        Context,
        network.clone(),
        host,
        consensus.clone(),
        SyncParams {
            status_update_interval: status,
            request_timeout: setup.timing.request,
        },
        forms,
        settings::sync_config(&setup),
        sync::Metrics::register(&registry, status),
        span,
    );
    let syncing = syncing.await.map_err(engine_error)?;
    actors.add(syncing.get_cell());
    syncing.subscribe_to_port(&port);
    // It is told of what is decided while the engine runs, and of what was before when a height is begun. A hub that
    // rests begins none, and others may have to be brought level by it.
    let decided = SyncMsg::Decided(Height(tip.height));
    syncing.cast(decided).map_err(engine_error)?;

    let wake = Arc::new(Notify::new());
    let fixed = Fixed {
        name: setup.chain.as_str().into(),
        address,
        signing,
        application,
        faults: setup.faults,
        timing: setup.timing,
        max_value: setup.max_value,
        network: network.clone(),
        consensus,
        values,
        progress,
    };
    let inputs = Inputs {
        host: asked,
        heard: listening.clone(),
        claims: claimed,
        wake: wake.clone(),
    };
    let task = Task::new(fixed, tip.height, tip.validators, unfinished);
    let task = tokio::spawn(task.run(inputs));

    let address = listens(listening.clone()).await?;
    let links = Links::new(network, known);
    let kept = tokio::spawn(links.clone().keep(listening));
    Ok(Running {
        runtime,
        progress: watched,
        wake,
        links,
        address,
        network_id,
        leaving,
        actors: actors.take(),
        tasks: vec![task, log, death, kept],
    })
}

/// Where the engine listens, once it does.
async fn listens(mut heard: watch::Receiver<Heard>) -> Result<SocketAddr, EngineError> {
    let listening = heard.wait_for(|heard| heard.listening.is_some());
    let heard = listening.await.map_err(engine_error)?.listening;
    heard.ok_or_else(|| engine_error("it does not listen"))
}
