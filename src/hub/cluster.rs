//! The hubs that this one shares its chain with: links to them, its part in consensus, and votes on who is one of
//! them.

use super::edges::Edges;
use super::fellows::Fellows;
use super::following::{name_fellows, sealing_keys};
use super::joining::until_read;
use super::last::record_last;
use super::lease_table::LeaseTable;
use super::{Hub, HubError};
use crate::access::{Caller, Gate, Right};
use crate::actors::access::log_denied;
use crate::actors::journal::Journal;
use crate::actors::ledger::{LedgerActor, RecordFault};
use crate::api::{ClusterHub, ClusterPort, ClusterStatus, KeyFault, OpenVote};
use crate::cluster::mesh::{Mesh, MeshHub, MeshSetup, MeshStatus, Pace, SyncProgress};
use crate::cluster::{Consensus, ConsensusPeer, ConsensusSetup, SharedBook, Timing, drafts};
use crate::crypto::{HubKey, NetworkSeed, QuickCheck, SealingRing, Signer};
use crate::ledger::LedgerError;
use crate::ledger::act::{Act, name};
use crate::ledger::head::HeadSlot;
use crate::ledger::opening::Opener;
use crate::ledger::shared::{SharedConfig, SharedLedger};
use crate::ledger::signers::Signers;
use crate::ledger::store::Store;
use crate::model::now;
use actix::Addr;
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;
use weighbridge_verifier::{Action, HubVoteContent, PublicKey, Response};

/// How long whoever votes waits for the disk, and for the other hubs.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a hub that waits to be let in says so.
const REMIND: Duration = Duration::from_secs(10);
/// Hubs say something so often: who reads a device depends on who was silent for how long.
const BEAT: Duration = Duration::from_millis(500);

/// How a hub shares its chain.
pub struct ClusterSetup {
    /// Where consensus listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the others fetch this hub's records.
    pub mesh: SocketAddr,
    /// What this hub is known by to consensus.
    pub network: NetworkSeed,
    /// The directory of the log of consensus. It must never come from a backup: it keeps the hub from saying two
    /// things.
    pub directory: PathBuf,
    /// Who began the chain, and with which key; `None` at that hub itself.
    pub genesis: Option<(String, PublicKey)>,
    /// The other hubs.
    pub hubs: Vec<ClusterPeer>,
    /// How long consensus lets things take.
    pub timing: Timing,
    /// How long a start waits for what other hubs recorded of access and cannot be read here yet. What is not there by
    /// then is refused, and goes on to be looked for.
    pub reading: Duration,
}

impl ClusterSetup {
    /// How long a start usually waits for what it cannot read yet.
    pub const READING: Duration = Duration::from_secs(30);
}

/// Another hub that shares the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterPeer {
    /// Its id.
    pub id: String,
    /// Its signing key.
    pub key: PublicKey,
    /// Its sealing key.
    pub sealing: PublicKey,
    /// What it is known by to consensus.
    pub network: String,
    /// Where its consensus listens.
    pub consensus: SocketAddr,
    /// Where its records are fetched.
    pub mesh: SocketAddr,
}

impl ClusterPeer {
    fn to_consensus(&self) -> ConsensusPeer {
        ConsensusPeer {
            address: self.consensus,
            network: self.network.clone(),
        }
    }
}

fn for_mesh(hubs: &[ClusterPeer]) -> Vec<MeshHub> {
    let hub = |peer: &ClusterPeer| MeshHub {
        id: peer.id.clone(),
        keys: vec![peer.key],
        address: peer.mesh.to_string(),
    };
    hubs.iter().map(hub).collect()
}

/// A hub that knows the chain and is one of those that share it, before it takes part.
pub(super) struct Joined {
    pub(super) book: Arc<SharedBook>,
    mesh: Mesh,
    setup: ClusterSetup,
    ring: SealingRing,
}

impl Joined {
    /// Opens the ledger, begins to talk to the others, and waits until this hub is one of those that decide. Blocking.
    pub(super) fn open(
        (store, head): (Arc<dyn Store>, Box<dyn HeadSlot>),
        (chain, setup): (&str, ClusterSetup),
        (signing, ring): (&Arc<HubKey>, &SealingRing),
        edges: &Edges,
        runtime: &Handle,
    ) -> Result<Self, HubError> {
        let signer: Arc<dyn Signer> = signing.clone();
        let config = SharedConfig::new(chain, setup.genesis.clone());
        let check = Arc::new(QuickCheck::default());
        let (kept, by) = (store.clone(), signer.clone());
        let ledger = SharedLedger::open_with(kept, head, config, by, now(), check)?;
        let book = SharedBook::new(signer.id(), ledger);
        let signers = book.look(|state, _, _| Signers::of(state));
        book.open_by(ring.clone(), signers.clone())
            .map_err(LedgerError::from)?;
        edges.tell_sealing();
        let mesh = runtime.block_on(Mesh::start(
            MeshSetup {
                bind: setup.mesh,
                chain: chain.to_owned(),
                hub: signer.id().to_owned(),
                word: edges.sealing_word(),
                pace: Pace {
                    beat: BEAT,
                    ..Pace::default()
                },
            },
            signing.current(),
            &for_mesh(&setup.hubs),
            book.clone(),
        ));
        let mesh = mesh.map_err(|error| HubError::Cluster(error.to_string()))?;
        runtime.block_on(until_let_in(&book, &mesh, &*signer));
        let opener = Opener::new(store, ring.clone(), signer.id()).judging(signers.clone());
        runtime.block_on(until_read(
            (&book, &mesh),
            (&opener, &signers),
            setup.reading,
        ));
        let ring = ring.clone();
        Ok(Self {
            book,
            mesh,
            setup,
            ring,
        })
    }

    /// The sealing keys that the configuration names.
    pub(super) fn sealing(&self) -> BTreeMap<String, PublicKey> {
        sealing_keys(&self.setup.hubs)
    }

    /// The hubs that this one records for, too.
    pub(super) fn fellows(&self) -> Fellows {
        let fellows = Fellows::shared();
        let words = self.book.sealing_words().borrow().clone();
        name_fellows(&fellows, &self.book, &self.sealing(), &words);
        fellows
    }

    /// Takes part in consensus from now on. Blocking.
    pub(super) fn take_part(
        self,
        signing: &Arc<HubKey>,
        (ledger, gate, journal): (Addr<LedgerActor>, Gate, Journal),
        leases: Arc<LeaseTable>,
        runtime: &Handle,
    ) -> Result<ClusterDesk, HubError> {
        let Self {
            book,
            mesh,
            setup,
            ring,
        } = self;
        let signer: Arc<dyn Signer> = signing.clone();
        let consensus = Consensus::open(
            ConsensusSetup {
                listen: setup.listen,
                directory: setup.directory,
                network: setup.network,
                peers: setup.hubs.iter().map(ClusterPeer::to_consensus).collect(),
                timing: setup.timing,
            },
            &book,
            &signer,
            runtime,
        );
        let consensus = consensus.map_err(|error| HubError::Cluster(error.to_string()))?;
        Ok(ClusterDesk {
            book,
            mesh,
            consensus,
            peers: Mutex::new(setup.hubs),
            ledger,
            gate,
            journal,
            leases,
            ring,
        })
    }
}

/// Reads the chain from the others, for ever.
pub(super) async fn read_blocks(book: &Arc<SharedBook>, mesh: &Mesh) {
    let progress = watch::Sender::new(SyncProgress::default());
    let mut heard = book.heard_of();
    loop {
        mesh.sync_blocks(&progress).await;
        // Level with the others: until there is more to read.
        if heard.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Reads the chain from the others until this hub is one of those that decide.
async fn until_let_in(book: &Arc<SharedBook>, mesh: &Mesh, own: &dyn Signer) {
    let mut tip = book.tip();
    let reminding = async {
        let (id, key) = (own.id(), own.public_key());
        loop {
            tokio::time::sleep(REMIND).await;
            if book
                .standing()
                .standbys
                .iter()
                .any(|(standby, _)| standby == id)
            {
                let height = book.standing().height;
                tracing::info!(height, "{id} stands by, and begins when a hub is dismissed");
                continue;
            }
            tracing::warn!(
                "{id} waits to be let in: `weighbridge cluster admit --id {id} --key {key}` at hubs that share the chain"
            );
        }
    };
    let let_in = async {
        loop {
            tip.mark_unchanged();
            let asked = book.clone();
            let member = tokio::task::spawn_blocking(move || asked.is_member()).await;
            if member.unwrap_or(false) || tip.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = read_blocks(book, mesh) => {}
        () = reminding => {}
        () = let_in => {}
    }
}

/// This hub among those that it shares its chain with.
pub struct ClusterDesk {
    book: Arc<SharedBook>,
    mesh: Mesh,
    consensus: Consensus,
    peers: Mutex<Vec<ClusterPeer>>,
    ledger: Addr<LedgerActor>,
    gate: Gate,
    journal: Journal,
    leases: Arc<LeaseTable>,
    ring: SealingRing,
}

impl ClusterDesk {
    /// Where its consensus and its links listen.
    pub fn addresses(&self) -> (SocketAddr, SocketAddr) {
        (self.consensus.address(), self.mesh.address())
    }

    /// The ledger that it shares.
    pub fn book(&self) -> &Arc<SharedBook> {
        &self.book
    }

    /// How the links are.
    pub(super) fn links(&self) -> MeshStatus {
        self.mesh.status()
    }

    /// What a user logs in by, sealed for this hub, of the first hub by its id after `after` that has it; and which that
    /// is.
    pub(super) async fn credentials(
        &self,
        user: &str,
        after: Option<&str>,
    ) -> Option<(String, Vec<u8>)> {
        self.mesh.credentials(user, after).await
    }

    /// The keys that what is for this hub is sealed to.
    pub(super) fn ring(&self) -> &SealingRing {
        &self.ring
    }

    /// Wakes when a link came or went.
    pub(super) fn link_changes(&self) -> watch::Receiver<u64> {
        self.mesh.links()
    }

    /// Talks to this hub as well from now on, or at another place than before. Who decides is for votes to say.
    ///
    /// # Errors
    /// When its key is none.
    pub fn add_hub(&self, hub: ClusterPeer) -> Result<(), HubError> {
        let wrong = |error: String| HubError::Cluster(error);
        let mut peers = self.peers.lock();
        let before = peers.iter().position(|known| known.id == hub.id);
        let before = before.map(|at| peers.remove(at));
        peers.push(hub.clone());
        let named = self.mesh.set_hubs(&for_mesh(&peers));
        named.map_err(|error| wrong(error.to_string()))?;
        let now = hub.to_consensus();
        if let Some(before) = before.map(|before| before.to_consensus()) {
            // Who is taken out is disconnected.
            if before == now {
                return Ok(());
            }
            let gone = self.consensus.remove_peer(&before);
            gone.map_err(|error| wrong(error.to_string()))?;
        }
        let added = self.consensus.add_peer(&now);
        added.map_err(|error| wrong(error.to_string()))
    }

    /// Gives this hub's vote on who decides, because `subject` (for example `user:ann`) says so; the height of the
    /// block that has it.
    ///
    /// # Errors
    /// When it may not be recorded, or the other hubs do not agree to a block in time.
    pub async fn vote_as(&self, subject: &str, vote: HubVoteContent) -> Result<u64, RecordFault> {
        record_last(&self.ledger, || drafts::vote(now(), subject, vote.clone())).await
    }

    /// Leaves: first nothing is decided any more, then nobody is talked to. Blocking.
    pub(super) fn stop(&self, runtime: &Handle) {
        self.consensus.stop();
        runtime.block_on(self.mesh.stop());
    }

    /// Records a refusal, and returns what to answer.
    async fn refuse(&self, caller: &Caller, object: &str, denied: String) -> KeyFault {
        let details = json!({"session": caller.session, "denied": denied});
        let act = Act {
            time: now(),
            subject: &name("user", &caller.user),
            action: Action::Grant,
            object,
            kind: "hub-vote",
            details: &details,
            response: Response::Refused,
        };
        if let Err(error) = self.journal.record(&act).await {
            return KeyFault::Busy(format!("the refusal could not be recorded: {error}"));
        }
        KeyFault::Denied(format!("`{}` may not vote on `{object}`", caller.user))
    }
}

#[async_trait]
impl ClusterPort for ClusterDesk {
    fn status(&self) -> ClusterStatus {
        let standing = self.book.standing();
        let progress = self.consensus.progress().borrow().clone();
        let links = self.mesh.status();
        let named = self.peers.lock().clone();
        let own = self.book.hub();
        let known = standing.members.iter().chain(&standing.standbys);
        let mut ids: Vec<&str> = known.map(|(id, _)| &**id).collect();
        ids.extend(named.iter().map(|peer| &*peer.id));
        ids.sort_unstable();
        ids.dedup();
        let hub = |id: &str| {
            let member = standing.members.iter().find(|(member, _)| member == id);
            let standby = standing
                .standbys
                .iter()
                .position(|(standby, _)| standby == id);
            let known = named.iter().find(|peer| peer.id == id);
            let link = links.hubs.iter().find(|link| link.id == id);
            ClusterHub {
                id: id.to_owned(),
                key: member
                    .or(standby.and_then(|at| standing.standbys.get(at)))
                    .map(|(_, key)| *key)
                    .or(known.map(|peer| peer.key)),
                member: member.is_some(),
                standby: standby.map(|at| at + 1),
                own: id == own,
                connected: link.is_some_and(|link| link.reading.connected.is_some()),
                height: match id == own {
                    true => Some(standing.height),
                    false => link.and_then(|link| link.tip).map(|(height, _)| height),
                },
            }
        };
        let vote = |(hub, change, by): &(String, _, Vec<String>)| OpenVote {
            hub: hub.clone(),
            change: *change,
            by: by.clone(),
        };
        ClusterStatus {
            hubs: ids.into_iter().map(hub).collect(),
            threshold: standing.threshold,
            height: standing.height,
            deciding: progress.deciding,
            parked: progress.parked,
            linked: progress.peers,
            halted: progress.halted,
            open: standing.open,
            missing: standing.missing,
            unread: standing.unread,
            votes: standing.votes.iter().map(vote).collect(),
            leases: self.leases.shown(),
            alarms: standing.alarms.into_iter().collect(),
        }
    }

    async fn vote(&self, caller: &Caller, vote: HubVoteContent) -> Result<u64, KeyFault> {
        let object = name("hub", &vote.hub);
        let allowed = self
            .gate
            .passages(&caller.user, Right::Enrol, [&*object], now());
        if let Err(denied) = allowed {
            log_denied(caller, Right::Enrol, &object, &denied);
            return Err(self.refuse(caller, &object, denied.to_string()).await);
        }
        let given = timeout(PATIENCE, self.vote_as(&name("user", &caller.user), vote)).await;
        let silent = |_| KeyFault::Failed("the ledger does not answer: it may still follow".into());
        given.map_err(silent)?.map_err(|fault| match fault {
            RecordFault::Refused(why) => KeyFault::Wrong(why),
            RecordFault::Pending(_) | RecordFault::NotAgreed => {
                KeyFault::Failed(format!("{fault}: it may still follow"))
            }
            RecordFault::Stopped => KeyFault::Failed(fault.to_string()),
            fault => KeyFault::Busy(fault.to_string()),
        })
    }
}

impl Hub {
    /// The hubs that this one shares its chain with; `None` where it decides alone.
    pub fn cluster(&self) -> Option<&Arc<ClusterDesk>> {
        self.cluster.as_ref()
    }
}
