//! The hub's side: lets known edge nodes in, and passes their batches through the devices' gates.
//!
//! One connection an edge node: a new one ends the one before, which may be half open. What a
//! connection brings goes no further than the gates; what they say is durable goes back. Who is let in
//! and which devices they read may change meanwhile: connections that it does not concern stay.

use super::gate::{Contact, Gate};
use super::keeper::Keeper;
use super::node::Node;
use super::strangers::Strangers;
use super::talk::Talk;
use crate::crypto::pinned_tls::{self, ServerConfig};
use crate::crypto::{Introduction, PeerKey, SealingRing, SealingWord};
use crate::model::Nanos;
use parking_lot::RwLock;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weighbridge_verifier::PublicKey;

/// How long a stranger may take to show a key.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// What records call this face.
pub(super) const FACE: &str = "edge";
/// Connections that have not yet shown a key.
const STRANGERS: usize = 32;

/// Who the hub is.
#[derive(Clone)]
pub struct HubCard {
    /// Its id.
    pub id: String,
    /// Its sealing keys: uploads must be sealed to the one in use.
    pub sealing: SealingRing,
    /// Its word for that one, once it was introduced.
    pub word: watch::Receiver<Option<Arc<SealingWord>>>,
}

/// Why edge nodes cannot be listened for.
#[derive(Debug, thiserror::Error)]
#[error("edge nodes cannot be listened for at {bind}: {source}")]
pub struct ListenError {
    /// Where.
    pub bind: SocketAddr,
    /// Why.
    pub source: std::io::Error,
}

/// How an edge node is, seen by a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its id.
    pub id: String,
    /// Since when it is connected; `None` when it is not.
    pub connected: Option<Nanos>,
    /// Why it is not, or why it was not before.
    pub reason: String,
    /// When it was last heard.
    pub heard: Option<Nanos>,
    /// Devices that it reads for this hub.
    pub devices: usize,
    /// The key that all it has for this hub is sealed to; `None` before it said so.
    pub seals_to: Option<PublicKey>,
}

/// Listens for edge nodes.
pub struct EdgeListener {
    address: SocketAddr,
    door: Arc<Door>,
}

impl EdgeListener {
    /// Begins to listen at `bind`, for nobody yet.
    pub async fn start(
        bind: SocketAddr,
        tls: Arc<ServerConfig>,
        hub: HubCard,
    ) -> Result<Self, ListenError> {
        let failed = |source| ListenError { bind, source };
        let listener = TcpListener::bind(bind).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let door = Arc::new(Door {
            roster: RwLock::new(Roster {
                tls: TlsAcceptor::from(tls),
                nodes: Arc::new([]),
            }),
            hub,
            keeper: OnceLock::new(),
            introduction: RwLock::default(),
            strangers: Strangers::new(STRANGERS),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        door.tasks.spawn(door.clone().listen(listener));
        Ok(Self { address, door })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on this decides who may be there; nobody comes in before.
    pub fn kept_by(&self, keeper: Arc<dyn Keeper>) {
        // The first one stays.
        let _ = self.door.keeper.set(keeper);
    }

    /// The keys that TLS must take for `nodes` to be let in: theirs, and the one before of each that has not
    /// shown its new one yet.
    pub fn links(&self, nodes: &[(String, PeerKey)]) -> Vec<PublicKey> {
        let known = self.door.roster.read().nodes.clone();
        let before = known
            .iter()
            .filter(|known| nodes.iter().any(|(id, _)| *id == known.id));
        let mut links: Vec<_> = nodes.iter().map(|(_, key)| key.link).collect();
        links.extend(before.flat_map(|known| known.links()));
        links
    }

    /// From now on the owners of these keys are let in, by a TLS that takes [`Self::links`]; who is connected
    /// and known no more is sent away. Who has another key than before is let in with the one before, too,
    /// until the new one was shown.
    pub fn admit(&self, tls: Arc<ServerConfig>, nodes: &[(String, PeerKey)]) {
        let mut roster = self.door.roster.write();
        let old = roster.nodes.clone();
        let known = |(id, key): &(String, PeerKey)| match old.iter().find(|n| n.id == *id) {
            Some(same) => {
                same.has(*key);
                same.clone()
            }
            None => Arc::new(Node::new(id, *key)),
        };
        let new: Arc<[Arc<Node>]> = nodes.iter().map(known).collect();
        for gone in old
            .iter()
            .filter(|o| !new.iter().any(|n| Arc::ptr_eq(n, o)))
        {
            gone.dismiss();
        }
        *roster = Roster {
            tls: TlsAcceptor::from(tls),
            nodes: new,
        };
    }

    /// From now on who asks is told this of the hub.
    pub fn introduce(&self, introduction: Introduction) {
        *self.door.introduction.write() = Some(introduction.to_bytes().into());
    }

    /// Takes the gates of `remove` away, and puts `put` in, each to the edge node it names and in place
    /// of the one of the same device. Edge nodes that are connected are asked for them.
    pub fn set_gates(&self, remove: &[crate::model::DeviceId], put: &[Arc<Gate>]) {
        let nodes = self.door.roster.read().nodes.clone();
        for node in nodes.iter() {
            node.set_gates(remove, put);
        }
    }

    /// How the edge nodes are, in the order in which they were let in.
    pub fn nodes(&self) -> Vec<NodeStatus> {
        let nodes = self.door.roster.read().nodes.clone();
        nodes.iter().map(|node| node.status()).collect()
    }

    /// The gate of a device.
    pub fn gate(&self, device: &str) -> Option<Arc<Gate>> {
        let nodes = self.door.roster.read().nodes.clone();
        nodes.iter().find_map(|node| node.gate(device))
    }

    /// Ends all connections and waits until they are.
    pub async fn stop(&self) {
        self.door.stop.cancel();
        self.door.tasks.close();
        self.door.tasks.wait().await;
    }
}

/// Who is let in.
struct Roster {
    tls: TlsAcceptor,
    nodes: Arc<[Arc<Node>]>,
}

struct Door {
    roster: RwLock<Roster>,
    hub: HubCard,
    keeper: OnceLock<Arc<dyn Keeper>>,
    /// Who the hub is by now, for those who ask.
    introduction: RwLock<Option<Arc<[u8]>>>,
    strangers: Strangers,
    stop: CancellationToken,
    tasks: TaskTracker,
}

pub(super) type Stream = TlsStream<TcpStream>;

impl Door {
    async fn listen(self: Arc<Self>, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "an edge node's connection cannot be taken");
                    // Out of files, most likely: trying again at once would only burn time.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (stranger, displaced) = self.strangers.admit(from.ip());
            if displaced {
                tracing::warn!(
                    "too many connections that have not shown a key, the oldest is closed"
                );
                self.turn_away("too many connections");
            }
            let door = self.clone();
            self.tasks.spawn(async move {
                let tls = door.roster.read().tls.clone();
                // An order of a user is small, and should not wait for a second one.
                let _ = stream.set_nodelay(true);
                let shaken = timeout(HANDSHAKE, tls.accept(stream));
                let stream = tokio::select! {
                    () = door.stop.cancelled() => return,
                    () = stranger.lost() => return,
                    shaken = shaken => match shaken {
                        Ok(Ok(stream)) => stream,
                        Ok(Err(error)) => {
                            tracing::warn!(%from, %error, "a connection without a known key is refused");
                            door.turn_away("no known key");
                            return;
                        }
                        Err(_) => {
                            door.turn_away("no handshake in time");
                            return;
                        }
                    }
                };
                if pinned_tls::only_asks(stream.get_ref().1) {
                    // What it takes long for, it does not get.
                    let answered = timeout(HANDSHAKE, door.answer(stream));
                    tokio::select! {
                        () = stranger.lost() => {}
                        _ = answered => {}
                    }
                    return;
                }
                drop(stranger);
                door.serve(stream, from).await;
            });
        }
    }

    /// Counts who was sent away before the hub knew them, for the record.
    fn turn_away(&self, why: &'static str) {
        if let Some(keeper) = self.keeper.get() {
            keeper.turned_away(FACE, why);
        }
    }

    /// Says who the hub is.
    async fn answer(&self, mut stream: Stream) -> std::io::Result<()> {
        let introduction = self.introduction.read().clone();
        stream.write_all(&introduction.unwrap_or_default()).await?;
        stream.shutdown().await
    }

    async fn serve(&self, stream: Stream, from: SocketAddr) {
        // Who was let in when the handshake began may be no more when it ends.
        let nodes = self.roster.read().nodes.clone();
        let keys: Vec<_> = nodes.iter().flat_map(|n| n.links()).collect();
        let key = pinned_tls::shown(stream.get_ref().1, &keys);
        let shows = |key: PublicKey| nodes.iter().find(|n| n.shows(&key));
        let Some(node) = key.and_then(shows) else {
            self.turn_away("no known key");
            return;
        };
        node.gives_way().await;
        let own = node.begin();
        // The one before brings nothing more from here on.
        let _turn = node.turn.lock().await;
        if own.is_cancelled() {
            return;
        }
        let Some(keeper) = self.keeper.get() else {
            return;
        };
        let id = &node.id;
        if let Some(why) = keeper.bar(id) {
            tracing::warn!(edge = id, %from, why, "the edge node is not let in");
            self.turn_away("not admitted");
            node.ended(&own, &format!("the hub takes nothing of it: {why}"));
            return;
        }
        tracing::info!(edge = id, %from, "edge node connected");
        let over = self.stop.child_token();
        let talk = Talk::new(
            node.clone(),
            (self.hub.clone(), keeper.clone()),
            own.clone(),
        );
        let talking = talk.run(stream, &over);
        tokio::pin!(talking);
        let reason = tokio::select! {
            reason = &mut talking => reason,
            why = keeper.put_out(id) => {
                over.cancel();
                talking.await;
                format!("the hub takes nothing of it: {why}")
            }
        };
        tracing::warn!(edge = id, reason, "edge node disconnected");
        node.ended(&own, &reason);
    }
}

/// What is said of a device whose edge node is not there.
pub(super) fn away(node: &str, reason: &str) -> Contact {
    Contact::Away(format!("the edge node `{node}` is not connected: {reason}"))
}
