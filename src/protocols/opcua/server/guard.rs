//! The gate in front of the OPC UA stack.
//!
//! The stack believes the size in a chunk's header before anybody has said who they are, and has no
//! cap on connections, so one stranger could fill the hub's memory. The guard listens in its place,
//! forwards only whole chunks of an allowed size in an allowed order, and bounds connections in all
//! and for each address. The stack itself listens on a loopback port that nobody is told of.

use super::chunk::{
    ChunkError, ChunkHeader, ChunkKind, HEADER, MAX_CHUNK, add_missing_nonce, error_message,
    granted_by_acknowledge, is_discovery, message_type, policy_of_open,
};
use crate::protocols::opcua::security::Policy;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// `Bad_TcpServerTooBusy`.
const TOO_BUSY: u32 = 0x807D_0000;
/// Time for Hello and OpenSecureChannel, and for the rest of a chunk whose header came.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time for a client or the stack to take a chunk off our hands.
const STALLED: Duration = Duration::from_secs(30);

/// What the guard lets through.
#[derive(Clone, Debug)]
pub struct GuardRules {
    /// Connections at a time.
    pub connections: usize,
    /// Connections at a time from one address (for IPv6: from one /64).
    pub connections_per_address: usize,
    /// Bytes of a request, over all its chunks.
    pub message_bytes: usize,
    /// Time without a request after which a connection is closed. Subscribers publish and clients
    /// keep alive far more often.
    pub idle: Duration,
    /// The security policies of the endpoints.
    pub policies: Vec<Policy>,
}

/// Counters of the guard.
#[derive(Debug, Default)]
pub struct GuardStats {
    /// Connections accepted since the start.
    pub accepted: AtomicU64,
    /// Connections turned away because there were too many.
    pub turned_away: AtomicU64,
    /// Connections closed because of what they sent.
    pub expelled: AtomicU64,
}

/// A running guard; dropping it closes its connections.
pub struct Guard {
    address: SocketAddr,
    stats: Arc<GuardStats>,
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl Guard {
    /// Guards `listener`, forwarding to the stack at `inner`.
    pub fn start(listener: TcpListener, inner: SocketAddr, rules: GuardRules) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let stats = Arc::new(GuardStats::default());
        let stop = CancellationToken::new();
        let gate = Gate {
            inner,
            rules: Arc::new(rules),
            stats: stats.clone(),
            stop: stop.clone(),
            places: Arc::default(),
        };
        let task = AbortOnDropHandle::new(tokio::spawn(gate.run(listener)));
        Ok(Self {
            address,
            stats,
            stop,
            task,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its counters.
    pub fn stats(&self) -> &Arc<GuardStats> {
        &self.stats
    }

    /// Stops listening and drops all connections.
    pub async fn stop(self) {
        self.stop.cancel();
        let _ = self.task.await;
    }
}

struct Gate {
    inner: SocketAddr,
    rules: Arc<GuardRules>,
    stats: Arc<GuardStats>,
    stop: CancellationToken,
    places: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Gate {
    async fn run(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer, &mut connections),
                Err(error) => {
                    // Out of file descriptors, as a rule; accepting again at once would spin.
                    tracing::warn!("no connection to the OPC UA server can be accepted: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr, connections: &mut JoinSet<()>) {
        let address = grouped(peer.ip());
        let here = self.places.lock().get(&address).copied().unwrap_or(0);
        let full = connections.len() >= self.rules.connections
            || here >= self.rules.connections_per_address;
        if full {
            self.stats.turned_away.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%peer, "turned away from the OPC UA server: too many connections");
            let message = error_message(TOO_BUSY, "too many connections");
            // The socket's empty buffer takes so little at once; waiting for it would be a hold.
            let _ = stream.try_write(&message);
            return;
        }
        self.stats.accepted.fetch_add(1, Ordering::Relaxed);
        let place = Place::take(self.places.clone(), address);
        let (inner, rules, stats) = (self.inner, self.rules.clone(), self.stats.clone());
        connections.spawn(async move {
            let _place = place;
            if let Err(error) = relay(stream, inner, &rules).await {
                stats.expelled.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%peer, "expelled from the OPC UA server: {error}");
            }
        });
    }
}

/// One connection's place in the count of its address.
struct Place {
    places: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
}

impl Place {
    fn take(places: Arc<Mutex<HashMap<IpAddr, usize>>>, address: IpAddr) -> Self {
        *places.lock().entry(address).or_default() += 1;
        Self { places, address }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.places.lock();
        if let Some(count) = places.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                places.remove(&self.address);
            }
        }
    }
}

/// An IPv6 host chooses its address in its /64 freely.
fn grouped(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let mut segments = v6.segments();
            segments[4..].fill(0);
            IpAddr::V6(Ipv6Addr::from(segments))
        }
        v4 => v4,
    }
}

/// What both directions know of a connection.
struct Shared {
    /// The channel is not encrypted, so its messages can be read.
    plain: AtomicBool,
    /// Largest chunk the client may send.
    agreed: AtomicUsize,
}

/// Forwards both ways until one side ends; an error is the client's fault.
async fn relay(client: TcpStream, inner: SocketAddr, rules: &GuardRules) -> Result<(), ChunkError> {
    let Ok(server) = TcpStream::connect(inner).await else {
        return Ok(());
    };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (from_client, mut to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let shared = Shared {
        plain: AtomicBool::new(false),
        agreed: AtomicUsize::new(MAX_CHUNK),
    };
    let verdict = tokio::select! {
        verdict = requests(from_client, to_server, rules, &shared) => verdict,
        () = responses(from_server, &mut to_client, &shared) => Ok(()),
    };
    if let Err(error) = verdict {
        let message = error_message(error.status(), &error.to_string());
        let _ = timeout(PATIENCE, to_client.write_all(&message)).await;
        let _ = to_client.shutdown().await;
    }
    verdict
}

/// The order in which a client's messages must come.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Hello,
    Open,
    Messages,
}

async fn requests(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    rules: &GuardRules,
    shared: &Shared,
) -> Result<(), ChunkError> {
    let mut stage = Stage::Hello;
    let mut policy: Option<Policy> = None;
    let mut unfinished = 0;
    let mut chunk = Vec::new();
    loop {
        let wait = match stage {
            Stage::Messages => rules.idle,
            Stage::Hello | Stage::Open => PATIENCE,
        };
        let agreed = shared.agreed.load(Ordering::Relaxed);
        let Some(header) = read_chunk(&mut client, &mut chunk, wait, agreed).await? else {
            return Ok(());
        };
        stage = match (stage, header.kind) {
            (Stage::Hello, ChunkKind::Hello) => Stage::Open,
            (Stage::Open | Stage::Messages, ChunkKind::Open) => {
                let named = policy_of_open(&chunk).and_then(|uri| offered(uri, rules));
                let named = named.ok_or(ChunkError::Policy)?;
                // A channel keeps its policy when it is renewed.
                if *policy.get_or_insert(named) != named {
                    return Err(ChunkError::Policy);
                }
                shared.plain.store(named == Policy::None, Ordering::Relaxed);
                Stage::Messages
            }
            (Stage::Messages, ChunkKind::Message | ChunkKind::Close) => Stage::Messages,
            _ => return Err(ChunkError::Order),
        };
        if header.kind == ChunkKind::Message {
            let discovery_only =
                policy == Some(Policy::None) && !rules.policies.contains(&Policy::None);
            let asks = message_type(&chunk).is_some_and(is_discovery);
            if discovery_only && !(asks && header.last) {
                return Err(ChunkError::Discovery);
            }
            unfinished += header.size;
            if unfinished > rules.message_bytes {
                return Err(ChunkError::MessageTooLarge);
            }
            if header.last {
                unfinished = 0;
            }
        }
        if !matches!(timeout(STALLED, server.write_all(&chunk)).await, Ok(Ok(()))) {
            return Ok(());
        }
    }
}

/// The policy of this URI, if it may be used; that without security always may, to ask for the
/// endpoints.
fn offered(uri: &str, rules: &GuardRules) -> Option<Policy> {
    let all = Policy::SECURE.into_iter().chain([Policy::None]);
    all.into_iter()
        .find(|p| p.uri() == uri)
        .filter(|p| *p == Policy::None || rules.policies.contains(p))
}

/// Reads a whole chunk into `chunk`; `None` at the end of the stream, or after `wait` without one.
async fn read_chunk(
    client: &mut OwnedReadHalf,
    chunk: &mut Vec<u8>,
    wait: Duration,
    agreed: usize,
) -> Result<Option<ChunkHeader>, ChunkError> {
    let mut head = [0; HEADER];
    // A header of which only a part comes is as good as none.
    match timeout(wait, client.read_exact(&mut head)).await {
        Ok(Ok(_)) => {}
        Ok(Err(_)) | Err(_) => return Ok(None),
    }
    let header = ChunkHeader::read(&head, agreed)?;
    chunk.clear();
    chunk.extend_from_slice(&head);
    let mut rest = client.take((header.size - HEADER) as u64);
    match timeout(PATIENCE, rest.read_to_end(chunk)).await {
        Ok(Ok(_)) if chunk.len() == header.size => Ok(Some(header)),
        _ => Ok(None),
    }
}

async fn responses(mut server: OwnedReadHalf, client: &mut OwnedWriteHalf, shared: &Shared) {
    let mut chunk = Vec::new();
    loop {
        let mut head = [0; HEADER];
        if server.read_exact(&mut head).await.is_err() {
            return;
        }
        let [.., a, b, c, d] = head;
        let size = u32::from_le_bytes([a, b, c, d]) as usize;
        chunk.clear();
        chunk.extend_from_slice(&head);
        let mut rest = (&mut server).take(size.saturating_sub(HEADER) as u64);
        if rest.read_to_end(&mut chunk).await.is_err() || chunk.len() != size {
            return;
        }
        if let Some(granted) = granted_by_acknowledge(&chunk) {
            shared.agreed.store(granted, Ordering::Relaxed);
        }
        if shared.plain.load(Ordering::Relaxed) {
            add_missing_nonce(&mut chunk, || {
                let mut nonce = [0; 32];
                getrandom::fill(&mut nonce).ok().map(|()| nonce)
            });
        }
        if !matches!(timeout(STALLED, client.write_all(&chunk)).await, Ok(Ok(()))) {
            return;
        }
    }
}
