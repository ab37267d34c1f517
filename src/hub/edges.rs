//! The edge nodes of a hub: who they are, and which devices they read.

use super::device::Feed;
use super::{DeviceSetup, HubError};
use crate::access::Side;
use crate::actors::access::AccessDesk;
use crate::actors::edge_intake::EdgeFeed;
use crate::actors::hub::Intake;
use crate::actors::ledger::Keys;
use crate::actors::session::SessionDoor;
use crate::crypto::pinned_tls::{self, ServerConfig};
use crate::crypto::{HubKey, PeerKey, SealingRing, Signer};
use crate::model::{DeviceId, now};
use crate::protocols::edge::{
    EdgeKeys, EdgeListener, Gate, HubCard, Introduction, Keeper, NodeStatus, SealingWord,
};
use crate::protocols::ports::{AccessPort, SessionPort};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use weighbridge_verifier::{IdentityContent, IdentityKind, PublicKey, Record};

/// How often it is looked whether an edge node's time has come.
const LOOK: Duration = Duration::from_secs(1);

/// Where a hub listens for edge nodes, and for which.
#[derive(Clone, Debug)]
pub struct EdgesSetup {
    /// Where.
    pub bind: SocketAddr,
    /// Id and keys of each.
    pub nodes: Vec<(String, PeerKey)>,
}

/// The edge nodes of a hub.
pub(super) struct Edges {
    signing: Arc<HubKey>,
    sealing: SealingRing,
    nodes: Mutex<Vec<(String, PeerKey)>>,
    /// What signs for each, by id; whoever takes its batches looks here.
    keys: Mutex<BTreeMap<String, EdgeKeys>>,
    /// Keys that edge nodes had, by id, as the ledger knows them.
    former: Mutex<BTreeMap<String, Vec<PublicKey>>>,
    /// By which records the hub has the signing key that it was introduced by.
    records: Mutex<Vec<Record>>,
    /// The hub's word for its sealing key.
    word: watch::Sender<Option<Arc<SealingWord>>>,
    /// None for a hub that has no edge nodes.
    listener: Option<EdgeListener>,
}

/// Edge nodes that are about to be let in: all that could be wrong with them was looked at.
pub(super) struct Admission {
    nodes: Vec<(String, PeerKey)>,
    tls: Arc<ServerConfig>,
}

impl Edges {
    /// Begins to listen, for nobody yet.
    pub(super) fn listen(
        setup: Option<&EdgesSetup>,
        signing: &Arc<HubKey>,
        sealing: &SealingRing,
        runtime: &Handle,
    ) -> Result<Self, HubError> {
        let word = watch::Sender::new(None);
        let card = HubCard {
            id: signing.id().to_owned(),
            sealing: sealing.clone(),
            word: word.subscribe(),
        };
        let listener = match setup {
            Some(setup) => {
                let nobody = pinned_tls::server(&signing.current(), &[])?;
                Some(runtime.block_on(EdgeListener::start(setup.bind, nobody, card))?)
            }
            None => None,
        };
        Ok(Self {
            signing: signing.clone(),
            sealing: sealing.clone(),
            nodes: Mutex::default(),
            keys: Mutex::default(),
            former: Mutex::default(),
            records: Mutex::default(),
            word,
            listener,
        })
    }

    /// From now on `desk` says which edge nodes may be there.
    pub(super) fn kept_by(&self, desk: &AccessDesk, sessions: &Arc<SessionDoor>) {
        if let Some(listener) = &self.listener {
            listener.kept_by(Arc::new(AccessKeeper(desk.clone(), sessions.clone())));
        }
    }

    pub(super) fn listener(&self) -> Option<&EdgeListener> {
        self.listener.as_ref()
    }

    /// The edge nodes as they are.
    pub(super) fn status(&self) -> Vec<NodeStatus> {
        self.listener.iter().flat_map(EdgeListener::nodes).collect()
    }

    /// Takes in which keys edge nodes had.
    pub(super) fn know(&self, keys: &Keys) {
        let edges = keys.identities.iter();
        let edges = edges.filter(|(_, (identity, _))| identity.kind == IdentityKind::Edge);
        let former = edges.map(|(id, (_, former))| (id.clone(), former.clone()));
        *self.former.lock() = former.collect();
        for (id, key) in self.nodes.lock().iter() {
            self.keys_of(id, key.own);
        }
    }

    /// What signs for the edge node `id`, which, if it is a new one, has the key `own`.
    fn signs_for(&self, id: &str, own: PublicKey) -> EdgeKeys {
        let known = self.keys.lock().get(id).cloned();
        known.unwrap_or_else(|| self.keys_of(id, own))
    }

    /// From now on the edge node `id` has the key `own`.
    fn keys_of(&self, id: &str, own: PublicKey) -> EdgeKeys {
        let former = self.former.lock().get(id).cloned().unwrap_or_default();
        let mut keys = self.keys.lock();
        match keys.get(id) {
            Some(known) => {
                known.set(own, former);
                known.clone()
            }
            None => {
                let new = EdgeKeys::new(own, former);
                keys.insert(id.to_owned(), new.clone());
                new
            }
        }
    }

    /// Looks whether these edge nodes can be let in; nothing changes yet.
    pub(super) fn admission(&self, nodes: Vec<(String, PeerKey)>) -> Result<Admission, HubError> {
        let mut ids = BTreeSet::new();
        let twice = nodes.iter().find(|(id, _)| !ids.insert(id));
        let wrong = |edge: &str, reason: &str| HubError::Edge {
            edge: edge.to_owned(),
            reason: reason.to_owned(),
        };
        if let Some((id, _)) = twice {
            return Err(wrong(id, "two edge nodes have this id"));
        }
        if let (None, Some((id, _))) = (&self.listener, nodes.first()) {
            let reason = "the hub listens for no edge nodes: restart it with `[edges]`";
            return Err(wrong(id, reason));
        }
        let suite = self.signing.suite();
        if let Some((id, key)) = nodes.iter().find(|(_, key)| key.own.suite() != suite) {
            let of = key.own.suite();
            let reason = format!("its key is of suite `{of}`, and the ledger of suite `{suite}`");
            return Err(wrong(id, &reason));
        }
        let keys = self.listener.as_ref().map(|l| l.links(&nodes));
        let tls = pinned_tls::server(&self.signing.current(), &keys.unwrap_or_default())?;
        Ok(Admission { nodes, tls })
    }

    /// Those who have not said that all they have is sealed to the hub's sealing key in use, by id.
    pub(super) fn behind(&self) -> Vec<String> {
        let current = Some(self.sealing.public().compressed());
        let behind = self.status().into_iter();
        let behind = behind.filter(|node| node.seals_to != current);
        behind.map(|node| node.id).collect()
    }

    /// The edge nodes as they are, as an admission.
    pub(super) fn unchanged(&self) -> Result<Admission, HubError> {
        self.admission(self.nodes.lock().clone())
    }

    /// Shows the key that the hub has by now, and says to those who know one before it by which `records`
    /// it came. Connections stay.
    pub(super) fn introduce(&self, records: &[Record]) -> Result<(), HubError> {
        self.admit(self.unchanged()?);
        if let Some(listener) = &self.listener {
            listener.introduce(Introduction::of(&self.signing.current(), records));
        }
        *self.records.lock() = records.to_vec();
        self.tell_sealing();
        Ok(())
    }

    /// The hub's word for its sealing key, to be watched.
    pub(super) fn sealing_word(&self) -> watch::Receiver<Option<Arc<SealingWord>>> {
        self.word.subscribe()
    }

    /// Gives the hub's word for the sealing key that it has by now, to those who are connected and those who come.
    pub(super) fn tell_sealing(&self) {
        let records = self.records.lock();
        let sealing = self.sealing.public().compressed();
        let word = SealingWord::of(&self.signing.current(), &records, sealing);
        self.word.send_replace(Some(Arc::new(word)));
    }

    /// Lets them in, and sends the others away.
    pub(super) fn admit(&self, admission: Admission) {
        *self.nodes.lock() = admission.nodes.clone();
        for (id, key) in &admission.nodes {
            self.keys_of(id, key.own);
        }
        if let Some(listener) = &self.listener {
            listener.admit(admission.tls, &admission.nodes);
        }
    }

    /// From now on these devices come in through `gates`, and those of `remove` no more.
    pub(super) fn set_gates(&self, remove: &[DeviceId], gates: &[Arc<Gate>]) {
        if let Some(listener) = &self.listener {
            listener.set_gates(remove, gates);
        }
    }

    /// Ends all connections.
    pub(super) async fn stop(&self) {
        if let Some(listener) = &self.listener {
            listener.stop().await;
        }
    }

    /// The gate of a device that an edge node reads.
    pub(super) fn gate(&self, device: &str) -> Option<Arc<Gate>> {
        self.listener.as_ref()?.gate(device)
    }

    /// Where the batches of `device` come from, once `admission` is in force.
    pub(super) fn intake(
        &self,
        device: &DeviceSetup,
        admission: &Admission,
    ) -> Result<Intake, HubError> {
        let edge = match &device.feed {
            Feed::Source(make) => return Ok(Intake::Source(make.clone())),
            Feed::Edge(edge) => edge,
        };
        let Some((_, key)) = admission.nodes.iter().find(|(id, _)| id == edge) else {
            return Err(HubError::Device {
                device: device.id.to_string(),
                reason: format!("the edge node `{edge}` that reads it is not known"),
            });
        };
        let (id, tags) = (device.id.clone(), device.tags.clone());
        Ok(Intake::Edge(EdgeFeed {
            gate: Arc::new(Gate::new(id, edge, tags, device.grade)),
            keys: self.signs_for(edge, key.own),
            sealing: self.sealing.clone(),
            samples_per_second: device.samples_per_second,
        }))
    }
}

impl Admission {
    /// Their names.
    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(|(id, _)| id.as_str())
    }

    /// Those whom the ledger must know.
    pub(super) fn identities(&self) -> impl Iterator<Item = IdentityContent> {
        self.nodes.iter().map(|(id, key)| IdentityContent {
            id: id.clone(),
            kind: IdentityKind::Edge,
            key: Some(key.own),
        })
    }
}

/// Known identities by id: kind, key, and whether it was revoked.
pub(super) type Known = BTreeMap<String, (IdentityKind, Option<PublicKey>, bool)>;

/// Those of `wanted` that are to be enrolled; an error when one of them is known as somebody else.
pub(super) fn strangers(
    wanted: impl IntoIterator<Item = IdentityContent>,
    known: &Known,
) -> Result<Vec<IdentityContent>, HubError> {
    let mut new = Vec::new();
    for identity in wanted {
        match known.get(&identity.id) {
            None => new.push(identity),
            Some((kind, key, revoked)) => {
                if *key == identity.key && *kind == identity.kind && !revoked {
                    continue;
                }
                let id = identity.id;
                let reason = "the ledger knows this id with another key; a new key needs a new id"
                    .to_owned();
                return Err(match identity.kind {
                    IdentityKind::Edge => HubError::Edge { edge: id, reason },
                    _ => HubError::Device { device: id, reason },
                });
            }
        }
    }
    Ok(new)
}

/// The gates among `intakes`.
pub(super) fn gates<'a>(intakes: impl Iterator<Item = &'a Intake>) -> Vec<Arc<Gate>> {
    let gate = |intake: &Intake| match intake {
        Intake::Edge(feed) => Some(feed.gate.clone()),
        Intake::Source(_) => None,
    };
    intakes.filter_map(gate).collect()
}

/// The hub's access, as the door of the edge nodes asks it.
struct AccessKeeper(AccessDesk, Arc<SessionDoor>);

#[async_trait]
impl Keeper for AccessKeeper {
    fn bar(&self, edge: &str) -> Option<String> {
        let state = self.0.gate().state();
        let barred = state.admits(&format!("edge:{edge}"), now()).err();
        barred.map(|denied| denied.to_string())
    }

    async fn put_out(&self, edge: &str) -> String {
        let mut changes = self.0.changes();
        loop {
            changes.mark_unchanged();
            if let Some(why) = self.bar(edge) {
                return why;
            }
            // What expires does so by itself.
            let look = tokio::time::timeout(LOOK, changes.changed());
            if let Ok(Err(_)) = look.await {
                return "the hub is ending".to_owned();
            }
        }
    }

    fn most_words(&self, devices: usize) -> Option<(u64, u32)> {
        let config = self.0.config();
        let per_second = devices as f64 + 1.0;
        let most = config.flood_of_data(per_second, 0)?;
        Some((most, config.flood_seconds))
    }

    fn turned_away(&self, face: &'static str, why: &'static str) {
        self.1.turned_away(face, why);
    }

    async fn flooded(&self, edge: &str, why: &str) {
        let edge = format!("edge:{edge}");
        self.0.cut_off(Side::Intranet, &edge, why).await;
    }
}
