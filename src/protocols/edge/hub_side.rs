//! The hub's side: lets known edge nodes in, and passes their batches through the devices' gates.
//!
//! One connection an edge node: a new one ends the one before, which may be half open. What a
//! connection brings goes no further than the gates; what they say is durable goes back.

use super::gate::{Contact, Entrance, Gate};
use super::wire::{
    self, DeviceHello, DeviceLink, DeviceWelcome, EDGE_PROTOCOL, FromEdge, FromHub, Hello,
    MAX_FRAME, Welcome,
};
use crate::crypto::pinned_tls::{self, ServerConfig};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, BufReader, BufWriter, ReadHalf, WriteHalf, split};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weighbridge_verifier::PublicKey;

/// How long a stranger may take to show a key and say what he wants.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long an edge node that was here before waits until what it sent is in the ledger. Less than it
/// waits for an answer.
const SETTLING: Duration = Duration::from_secs(2);
/// An edge node says something every two seconds.
const SILENCE: Duration = Duration::from_secs(10);
/// Longest greeting, in bytes.
const MAX_HELLO: usize = 16 << 20;
/// Connections that have not yet shown a key.
const STRANGERS: usize = 32;
/// Answers that wait for a slow connection.
const ANSWERS: usize = 64;

/// An edge node that is let in.
pub struct EdgeEntry {
    /// Its id.
    pub id: String,
    /// Its key.
    pub key: PublicKey,
    /// The devices that it reads.
    pub gates: Vec<Arc<Gate>>,
}

/// Who the hub is.
#[derive(Clone, Debug)]
pub struct HubCard {
    /// Its id.
    pub id: String,
    /// The key that uploads must be sealed to.
    pub sealing: PublicKey,
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

/// Listens for edge nodes.
pub struct EdgeListener {
    address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl EdgeListener {
    /// Begins to listen at `bind`.
    pub async fn start(
        bind: SocketAddr,
        tls: Arc<ServerConfig>,
        hub: HubCard,
        edges: Vec<EdgeEntry>,
    ) -> Result<Self, ListenError> {
        let failed = |source| ListenError { bind, source };
        let listener = TcpListener::bind(bind).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let door = Arc::new(Door {
            tls: TlsAcceptor::from(tls),
            hub,
            keys: edges.iter().map(|e| e.key).collect(),
            edges: edges.into_iter().map(Edge::new).collect(),
            strangers: Arc::new(Semaphore::new(STRANGERS)),
            stop: stop.clone(),
            tasks: tasks.clone(),
        });
        tasks.spawn(door.listen(listener));
        Ok(Self {
            address,
            stop,
            tasks,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections and waits until they are.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

struct Edge {
    entry: EdgeEntry,
    /// Ends the connection that there is.
    current: Mutex<CancellationToken>,
    /// Held by the connection that may bring batches.
    turn: tokio::sync::Mutex<()>,
}

impl Edge {
    fn new(entry: EdgeEntry) -> Self {
        Self {
            entry,
            current: Mutex::new(CancellationToken::new()),
            turn: tokio::sync::Mutex::new(()),
        }
    }
}

struct Door {
    tls: TlsAcceptor,
    hub: HubCard,
    keys: Vec<PublicKey>,
    edges: Vec<Edge>,
    strangers: Arc<Semaphore>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

type Stream = TlsStream<TcpStream>;

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
            let Ok(stranger) = self.strangers.clone().try_acquire_owned() else {
                tracing::warn!(%from, "too many connections that have not shown a key, this one is closed");
                continue;
            };
            let door = self.clone();
            self.tasks.spawn(async move {
                let shaken = timeout(HANDSHAKE, door.tls.accept(stream));
                let stream = tokio::select! {
                    () = door.stop.cancelled() => return,
                    shaken = shaken => match shaken {
                        Ok(Ok(stream)) => stream,
                        Ok(Err(error)) => {
                            tracing::warn!(%from, %error, "a connection without a known key is refused");
                            return;
                        }
                        Err(_) => return,
                    }
                };
                drop(stranger);
                door.serve(stream, from).await;
            });
        }
    }

    async fn serve(&self, stream: Stream, from: SocketAddr) {
        let key = pinned_tls::client_of(stream.get_ref().1, &self.keys);
        let Some(edge) = self.edges.iter().find(|e| Some(e.entry.key) == key) else {
            return;
        };
        let id = &edge.entry.id;
        let own = CancellationToken::new();
        std::mem::replace(&mut *edge.current.lock(), own.clone()).cancel();
        // The one before brings nothing more from here on.
        let _turn = edge.turn.lock().await;
        tracing::info!(edge = id, %from, "edge node connected");
        let reason = self.talk(edge, stream, &own).await;
        tracing::warn!(edge = id, reason, "edge node disconnected");
    }

    /// Talks with an edge node until one of the two ends it; why it ended.
    async fn talk(&self, edge: &Edge, stream: Stream, own: &CancellationToken) -> String {
        let (reader, writer) = split(stream);
        let (mut reader, mut writer) = (BufReader::new(reader), BufWriter::new(writer));
        let hello = timeout(HANDSHAKE, wire::read(&mut reader, "greeting", MAX_HELLO));
        let hello: Hello = match hello.await {
            Ok(Ok(hello)) => hello,
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return "it did not say what it wants".to_owned(),
        };
        let (welcome, lanes) = self.welcome(edge, &hello).await;
        if let Err(error) = wire::write(&mut writer, &welcome).await {
            return error.to_string();
        }
        let (answers, queue) = mpsc::channel(ANSWERS);
        let mut sending = tokio::spawn(send(queue, writer));
        let mut reports = JoinSet::new();
        for (device, lane) in &lanes {
            let (device, entrance) = (device.clone(), lane.entrance.clone());
            reports.spawn(report(device, entrance, answers.clone()));
        }
        let reason = tokio::select! {
            reason = receive(&mut reader, &lanes, &answers) => reason,
            Some(_) = reports.join_next() => "the hub starts one of its devices again".to_owned(),
            _ = &mut sending => "it takes no answers".to_owned(),
            () = self.stop.cancelled() => "the hub is ending".to_owned(),
            () = own.cancelled() => "it has connected again".to_owned(),
        };
        reports.shutdown().await;
        // If there is no room for it, or nobody reads it, the connection ends without a word.
        let _ = answers.try_send(FromHub::Goodbye(reason.clone()));
        drop(answers);
        if !sending.is_finished() {
            let _ = timeout(Duration::from_millis(500), sending).await;
        }
        // Another connection of the same edge node knows better.
        if !own.is_cancelled() {
            for lane in lanes.values() {
                let id = &edge.entry.id;
                let away = format!("the edge node `{id}` is not connected: {reason}");
                lane.gate.set_contact(Contact::Away(away));
            }
        }
        reason
    }

    async fn welcome(&self, edge: &Edge, hello: &Hello) -> (Welcome, BTreeMap<String, Lane>) {
        let mut lanes = BTreeMap::new();
        let mut devices = Vec::with_capacity(hello.devices.len());
        let until = Instant::now() + SETTLING;
        for device in &hello.devices {
            devices.push(match enter(edge, hello.version, device, until).await {
                Ok((lane, (epoch, sequence))) => {
                    lanes.insert(device.id.clone(), lane);
                    DeviceWelcome::Standing(epoch, sequence)
                }
                Err(reason) => DeviceWelcome::Refused(reason),
            });
        }
        for gate in &edge.entry.gates {
            let answers = hello.devices.iter().zip(&devices);
            let own = answers.filter(|(asked, _)| *gate.device == *asked.id);
            let reason = match own.map(|(_, answer)| answer).next() {
                Some(DeviceWelcome::Standing(..)) => continue,
                Some(DeviceWelcome::Refused(reason)) => reason.clone(),
                None => format!("the edge node `{}` has no such device", gate.edge),
            };
            gate.set_contact(Contact::Away(reason));
        }
        let welcome = Welcome {
            hub: self.hub.id.clone(),
            sealing: self.hub.sealing,
            devices,
        };
        (welcome, lanes)
    }
}

/// A device of the connection, and where its ledger stands.
async fn enter(
    edge: &Edge,
    version: u16,
    device: &DeviceHello,
    until: Instant,
) -> Result<(Lane, (u64, u64)), String> {
    let gate = admit(edge, version, device)?.clone();
    let entrance = gate.entrance();
    let entrance = entrance.ok_or("the hub starts this device just now")?;
    let settled = timeout_at(until, entrance.settled()).await;
    let standing = settled.map_err(|_| "the hub still writes what came before")?;
    let waiting = "the edge node has not reached it yet".to_owned();
    gate.set_contact(Contact::Here(DeviceLink::Down(waiting)));
    Ok((Lane { gate, entrance }, standing))
}

/// The gate of a device, if the edge node reads it as the hub is told it would.
fn admit<'a>(edge: &'a Edge, version: u16, device: &DeviceHello) -> Result<&'a Arc<Gate>, String> {
    if version != EDGE_PROTOCOL {
        return Err(format!(
            "the edge speaks version {version} of the protocol, the hub {EDGE_PROTOCOL}"
        ));
    }
    let gate = edge.entry.gates.iter().find(|g| *g.device == *device.id);
    let gate = gate.ok_or_else(|| {
        format!(
            "the hub has no device `{}` with `edge = \"{}\"`",
            device.id, edge.entry.id
        )
    })?;
    if gate.grade != device.grade {
        let (here, there) = (gate.grade, device.grade);
        return Err(format!(
            "its grade is {here} at the hub and {there} at the edge"
        ));
    }
    let here: Vec<_> = gate.tags.iter().map(super::tag_card).collect();
    if here == device.tags {
        return Ok(gate);
    }
    let first = here.iter().zip(&device.tags).find(|(a, b)| a != b);
    Err(match first {
        Some((here, there)) => format!(
            "the hub expects the tag `{}` ({}) where the edge has `{}` ({})",
            here.0, here.1, there.0, there.1
        ),
        None => format!(
            "the hub expects {} tags, the edge has {}",
            here.len(),
            device.tags.len()
        ),
    })
}

/// A device of a connection.
struct Lane {
    gate: Arc<Gate>,
    entrance: Entrance,
}

/// Says what is durable, whenever more is; returns when the device's pipeline is gone.
async fn report(device: String, mut entrance: Entrance, answers: mpsc::Sender<FromHub>) {
    loop {
        let (epoch, sequence) = *entrance.standing.borrow_and_update();
        let durable = FromHub::Durable(device.clone(), epoch, sequence);
        if answers.send(durable).await.is_err() {
            return;
        }
        let mut standing = entrance.standing.clone();
        tokio::select! {
            changed = standing.changed() => if changed.is_err() { return },
            () = entrance.closed() => return,
        }
        entrance.standing = standing;
    }
}

async fn send(mut queue: mpsc::Receiver<FromHub>, mut writer: BufWriter<WriteHalf<Stream>>) {
    // The welcome is in the buffer.
    if writer.flush().await.is_err() {
        return;
    }
    while let Some(answer) = queue.recv().await {
        let written = async {
            wire::write(&mut writer, &answer).await?;
            while let Ok(more) = queue.try_recv() {
                wire::write(&mut writer, &more).await?;
            }
            Ok::<_, wire::WireError>(writer.flush().await?)
        };
        if !matches!(timeout(SILENCE, written).await, Ok(Ok(()))) {
            return;
        }
    }
    let _ = writer.shutdown().await;
}

/// Takes what the edge node sends, until it is not what it should be; why it ended.
async fn receive(
    reader: &mut BufReader<ReadHalf<Stream>>,
    lanes: &BTreeMap<String, Lane>,
    answers: &mpsc::Sender<FromHub>,
) -> String {
    loop {
        let frame = timeout(SILENCE, wire::read(reader, "message", MAX_FRAME));
        let frame = match frame.await {
            Ok(Ok(frame)) => frame,
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return format!("nothing was heard for {} s", SILENCE.as_secs()),
        };
        match frame {
            FromEdge::Upload(upload) => {
                let Some(lane) = lanes.get(&upload.device) else {
                    return format!("it sends batches of `{}` unasked", upload.device);
                };
                if let Err(error) = lane.entrance.offer(*upload) {
                    return format!("{}: {error}", lane.gate.device);
                }
            }
            FromEdge::Link(device, link) => {
                if let Some(lane) = lanes.get(&device) {
                    lane.gate.set_contact(Contact::Here(link));
                }
            }
            FromEdge::Ping => {
                if answers.send(FromHub::Pong).await.is_err() {
                    return "it takes no answers".to_owned();
                }
            }
        }
    }
}
