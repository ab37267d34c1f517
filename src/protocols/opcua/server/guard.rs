//! The gate in front of the OPC UA stack.
//!
//! The stack believes the size in a chunk's header before anybody has said who they are, and has no
//! cap on connections, so one stranger could fill the hub's memory. The guard listens in its place,
//! forwards only whole chunks of an allowed size in an allowed order, and bounds connections in all
//! and for each address. The stack itself listens on a loopback port that nobody is told of.

use super::chunk::{
    ChunkError, ChunkHeader, ChunkKind, HEADER, MAX_CHUNK, add_missing_nonce, ends_answer,
    error_message, granted_by_acknowledge, is_aborted, is_discovery, lost_its_keys, message_type,
    opened_channel, policy_of_open,
};
use super::flow::{Inflow, Outflow};
use super::places::{Place, Places};
use super::turnstile::{Passenger, Turnstile};
use super::users::FACE;
use crate::protocols::opcua::security::Policy;
use crate::protocols::ports::SessionPort;
use parking_lot::Mutex;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// `Bad_TcpServerTooBusy`.
const TOO_BUSY: u32 = 0x807D_0000;
/// Time for Hello and OpenSecureChannel, and for the rest of a chunk whose header came.
const PATIENCE: Duration = Duration::from_secs(5);

/// Requests of one connection that may wait for their answers: the stack begins whatever it is given, and
/// keeps every answer until it is taken. More than the Publish requests that it keeps.
const MOST_WAITING: i64 = 32;
/// What the system holds of answers that a client does not take, before it is noticed.
const SEND_BUFFER: u32 = 256 * 1024;

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
    /// Connections closed because they asked for nothing, and others wanted their places.
    pub displaced: AtomicU64,
}

/// A running guard; dropping it closes its connections.
pub struct Guard {
    address: SocketAddr,
    stats: Arc<GuardStats>,
    places: Arc<Places>,
    inner: watch::Sender<SocketAddr>,
    stop: CancellationToken,
    task: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl Guard {
    /// Guards `listener`, forwarding to the stack at `inner`, and counts in `stats`. The stack's
    /// authenticator asks `turnstile` where somebody is, if it does, and `told` counts who is expelled.
    pub(crate) fn start(
        listener: TcpListener,
        inner: SocketAddr,
        rules: GuardRules,
        stats: Arc<GuardStats>,
        (turnstile, told): (Option<Arc<Turnstile>>, Option<Arc<dyn SessionPort>>),
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let inner = watch::Sender::new(inner);
        let places = Arc::<Places>::default();
        let gate = Gate {
            inner: inner.subscribe(),
            rules: Arc::new(rules),
            stats: stats.clone(),
            stop: stop.clone(),
            places: places.clone(),
            turnstile,
            told,
        };
        let task = AbortOnDropHandle::new(tokio::spawn(gate.run(listener)));
        Ok(Self {
            address,
            stats,
            places,
            inner,
            stop,
            task: Mutex::new(Some(task)),
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

    /// From now on the stack is elsewhere: drops all connections, and leads new ones there.
    pub fn lead_to(&self, inner: SocketAddr) {
        self.inner.send_replace(inner);
    }

    /// Ends the connection that secure channel `channel` is on.
    pub fn expel(&self, channel: u32) {
        self.places.expel(channel);
    }

    /// Stops listening and drops all connections.
    pub async fn stop(&self) {
        self.stop.cancel();
        let task = self.task.lock().take();
        if let Some(task) = task {
            let _ = task.await;
        }
    }
}

struct Gate {
    inner: watch::Receiver<SocketAddr>,
    rules: Arc<GuardRules>,
    stats: Arc<GuardStats>,
    stop: CancellationToken,
    places: Arc<Places>,
    turnstile: Option<Arc<Turnstile>>,
    /// Counts what is no message, for the record.
    told: Option<Arc<dyn SessionPort>>,
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
        let most = (self.rules.connections, self.rules.connections_per_address);
        let Some((place, displaced)) =
            Places::take(&self.places, peer.ip(), most, Instant::now().into_std())
        else {
            self.stats.turned_away.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%peer, "turned away from the OPC UA server: too many connections");
            let message = error_message(TOO_BUSY, "too many connections");
            // The socket's empty buffer takes so little at once; waiting for it would be a hold.
            let _ = stream.try_write(&message);
            return;
        };
        self.stats.accepted.fetch_add(1, Ordering::Relaxed);
        let displaced = u64::from(displaced);
        self.stats.displaced.fetch_add(displaced, Ordering::Relaxed);
        let (rules, stats) = (self.rules.clone(), self.stats.clone());
        let (turnstile, told) = (self.turnstile.clone(), self.told.clone());
        let mut moved = self.inner.clone();
        let inner = *moved.borrow_and_update();
        connections.spawn(async move {
            let ended = tokio::select! {
                ended = relay((stream, peer), inner, &rules, (&place, turnstile.as_deref())) => ended,
                () = place.lost() => Ok(()),
                _ = moved.changed() => Ok(()),
            };
            if let Err(error) = ended {
                stats.expelled.fetch_add(1, Ordering::Relaxed);
                if let Some(told) = told {
                    told.malformed(FACE, error.in_short(), None);
                }
                tracing::debug!(%peer, "expelled from the OPC UA server: {error}");
            }
        });
    }
}

/// What both directions know of a connection.
struct Shared<'a> {
    place: &'a Place,
    /// The channel is not encrypted, so its messages can be read.
    plain: AtomicBool,
    /// Largest chunk the client may send.
    agreed: AtomicUsize,
    /// The client does not take its answers.
    stalled: AtomicBool,
    /// It takes them again, or took one.
    resumed: Notify,
    /// Where it passes until the stack's task for it is known.
    turnstile: Option<(&'a Turnstile, Arc<Passenger>)>,
}

impl Shared<'_> {
    /// Waits until the client takes its answers, and the stack has few requests of it to answer: what
    /// was asked for more would pile up in the stack.
    async fn turn(&self) {
        while self.stalled.load(Ordering::Relaxed) || self.place.waiting() >= MOST_WAITING {
            self.resumed.notified().await;
        }
    }

    /// Sends a chunk that completes a request to the stack, in a turn of its own until the stack's task is known;
    /// `false` when the stack does not take it up.
    async fn pass(&self, chunk: &[u8], server: &mut Outflow) -> bool {
        let unknown = self.turnstile.as_ref().filter(|(_, own)| !own.is_known());
        let Some((turnstile, own)) = unknown else {
            return server.send(chunk).await;
        };
        let before = self.place.waiting();
        let _turn = turnstile.enter(own).await;
        if !server.send(chunk).await {
            return false;
        }
        let answered = async {
            // This request is counted already.
            while self.place.waiting() >= before {
                self.resumed.notified().await;
            }
        };
        let through = async {
            tokio::select! {
                () = own.is_through() => {}
                () = answered => {}
            }
        };
        tokio::time::timeout(PATIENCE, through).await.is_ok()
    }
}

/// Listens on an address, with little room for answers that are not taken.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // As `TcpListener::bind` has it: not on Windows, where it would share the port with anybody.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    // What is accepted has it too.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(1024)
}

/// Forwards both ways until one side ends; an error is the client's fault.
async fn relay(
    (client, peer): (TcpStream, SocketAddr),
    inner: SocketAddr,
    rules: &GuardRules,
    (place, turnstile): (&Place, Option<&Turnstile>),
) -> Result<(), ChunkError> {
    let Ok(server) = TcpStream::connect(inner).await else {
        return Ok(());
    };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (mut to_client, to_server) = (Outflow::new(to_client), Outflow::new(to_server));
    let shared = Shared {
        place,
        plain: AtomicBool::new(false),
        agreed: AtomicUsize::new(MAX_CHUNK),
        stalled: AtomicBool::new(false),
        resumed: Notify::new(),
        turnstile: turnstile.map(|turnstile| (turnstile, Passenger::new(peer.ip()))),
    };
    let verdict = tokio::select! {
        verdict = requests(from_client, to_server, rules, &shared) => verdict,
        () = responses(from_server, &mut to_client, &shared) => Ok(()),
    };
    if let Err(error) = verdict {
        let message = error_message(error.status(), &error.to_string());
        to_client.send_and_close(&message, PATIENCE).await;
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
    client: OwnedReadHalf,
    mut server: Outflow,
    rules: &GuardRules,
    shared: &Shared<'_>,
) -> Result<(), ChunkError> {
    let mut client = Inflow::new(client, PATIENCE);
    let mut stage = Stage::Hello;
    let mut policy: Option<Policy> = None;
    let mut unfinished = 0;
    loop {
        let wait = match stage {
            Stage::Messages => rules.idle,
            Stage::Hello | Stage::Open => PATIENCE,
        };
        let Some(header) = next_header(&mut client, wait, shared).await? else {
            return Ok(());
        };
        let chunk = client.first(header.size);
        stage = match (stage, header.kind) {
            (Stage::Hello, ChunkKind::Hello) => Stage::Open,
            (Stage::Open | Stage::Messages, ChunkKind::Open) => {
                let named = policy_of_open(chunk).and_then(|uri| offered(uri, rules));
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
            let asks = message_type(chunk).is_some_and(is_discovery);
            if discovery_only && !(asks && header.last) {
                return Err(ChunkError::Discovery);
            }
            unfinished += header.size;
            if unfinished > rules.message_bytes {
                return Err(ChunkError::MessageTooLarge);
            }
            if header.last {
                unfinished = 0;
                shared.turn().await;
                shared.place.asked(Instant::now().into_std());
            }
        }
        let chunk = client.first(header.size);
        // An aborted message is nothing that the stack takes up.
        let request = header.kind == ChunkKind::Message && header.last && !is_aborted(chunk);
        let sent = match request {
            true => shared.pass(chunk, &mut server).await,
            false => server.send(chunk).await,
        };
        if !sent {
            return Ok(());
        }
        client.consume(header.size);
    }
}

/// Reads until there is a whole chunk; `None` at the end of the stream, or after `wait` without one.
async fn next_header(
    client: &mut Inflow,
    wait: Duration,
    shared: &Shared<'_>,
) -> Result<Option<ChunkHeader>, ChunkError> {
    let (mut until, mut begun) = (Instant::now() + wait, false);
    loop {
        let mut wanted = HEADER;
        if let Some(head) = client.bytes().first_chunk() {
            let header = ChunkHeader::read(head, shared.agreed.load(Ordering::Relaxed))?;
            if client.bytes().len() >= header.size {
                return Ok(Some(header));
            }
            wanted = header.size;
        }
        if !begun && !client.bytes().is_empty() {
            // The rest of a chunk must come soon.
            begun = true;
            until = until.min(Instant::now() + PATIENCE);
        }
        if !client.read(wanted, until).await {
            return Ok(None);
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

async fn responses(server: OwnedReadHalf, client: &mut Outflow, shared: &Shared<'_>) {
    // The stack is ours: it is waited for as long as the client is.
    let never = Instant::now() + Duration::from_secs(86_400 * 365);
    let mut server = Inflow::new(server, Duration::from_secs(86_400));
    loop {
        let size = match server.bytes().first_chunk::<HEADER>() {
            Some([.., a, b, c, d]) => u32::from_le_bytes([*a, *b, *c, *d]) as usize,
            None => HEADER,
        };
        if !(HEADER..=MAX_CHUNK).contains(&size) {
            return;
        }
        if server.bytes().len() < size || size == HEADER {
            if !server.read(size.max(HEADER + 1), never).await {
                return;
            }
            continue;
        }
        let chunk = server.first(size);
        if let Some(channel) = opened_channel(chunk) {
            shared.place.opened(channel);
        }
        if let Some(granted) = granted_by_acknowledge(chunk) {
            shared.agreed.store(granted, Ordering::Relaxed);
        }
        if lost_its_keys(chunk) {
            // Not the client's fault, so it is not told of one: it would give up instead of coming back.
            return;
        }
        if ends_answer(chunk) {
            shared.place.answered();
            shared.resumed.notify_one();
        }
        let patched = match shared.plain.load(Ordering::Relaxed) {
            true => add_missing_nonce(chunk, || {
                let mut nonce = [0; 32];
                getrandom::fill(&mut nonce).ok().map(|()| nonce)
            }),
            false => None,
        };
        let bytes = patched.as_deref().unwrap_or(chunk);
        if !client.try_send(bytes) {
            shared.stalled.store(true, Ordering::Relaxed);
            let sent = client.finish(bytes).await;
            shared.stalled.store(false, Ordering::Relaxed);
            shared.resumed.notify_one();
            if !sent {
                return;
            }
        }
        server.consume(size);
    }
}
