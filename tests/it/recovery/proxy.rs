//! A TCP proxy between a hub and a machine that does to the connection what cables, switches and
//! firewalls do, and counts the sessions that are asked for.

use crate::support::Random;
use parking_lot::Mutex;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// What the connection is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Bytes go through.
    Clear,
    /// Connections break, and new ones at once.
    Cut,
    /// Bytes vanish and nobody hears of it. Connections of this time stay so: half open.
    Hole,
    /// What the machine says arrives as other bytes.
    Garbage,
    /// What the hub says arrives as other bytes.
    Babble,
    /// What the hub says arrives when this is over.
    Stall,
}

struct Shared {
    target: Mutex<SocketAddr>,
    sessions: Mutex<Vec<Instant>>,
    weather: watch::Sender<Weather>,
    random: Mutex<Random>,
}

/// The proxy; it ends when dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _accepting: AbortOnDropHandle<()>,
}

impl Proxy {
    /// A proxy in front of `target`.
    pub async fn start(target: SocketAddr, random: Random) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            sessions: Mutex::default(),
            weather: watch::Sender::new(Weather::Clear),
            random: Mutex::new(random),
        });
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        Ok(Self {
            address,
            shared,
            _accepting: AbortOnDropHandle::new(accepting),
        })
    }

    /// Where the hub connects.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where new connections go.
    pub fn set_target(&self, target: SocketAddr) {
        *self.shared.target.lock() = target;
    }

    /// Changes the weather for all connections.
    pub fn set(&self, weather: Weather) {
        self.shared.weather.send_replace(weather);
    }

    /// When each CreateSession request went through.
    pub fn sessions(&self) -> Vec<Instant> {
        self.shared.sessions.lock().clone()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((client, _)) = accepted {
                connections.spawn(carry(client, shared.clone()));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn carry(client: TcpStream, shared: Arc<Shared>) {
    // A new connection in bad weather is answered by a reset, as a machine without a listener would.
    let _ = client.set_zero_linger();
    if *shared.weather.borrow() == Weather::Cut {
        return;
    }
    let target = *shared.target.lock();
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let up = pump(from_client, to_server, shared.clone(), true);
    let down = pump(from_server, to_client, shared.clone(), false);
    // When one direction ends, so does the other; dropping closes both sockets.
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

/// Carries one direction until it ends or the weather cuts it.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: Arc<Shared>,
    from_hub: bool,
) {
    let mut weather = shared.weather.subscribe();
    let mut bytes = vec![0; 65_536];
    let mut frames = Frames::default();
    let mut lost = *weather.borrow_and_update() == Weather::Hole;
    loop {
        let read = tokio::select! {
            changed = weather.changed() => {
                let now = *weather.borrow_and_update();
                lost |= now == Weather::Hole;
                if changed.is_err() || now == Weather::Cut {
                    return;
                }
                continue;
            }
            read = from.read(&mut bytes) => match read {
                // The other side of a lost connection does not hear that this one ended.
                Ok(0) | Err(_) if lost => std::future::pending().await,
                Ok(0) | Err(_) => return,
                Ok(read) => &mut bytes[..read],
            },
        };
        while from_hub && *weather.borrow_and_update() == Weather::Stall {
            if weather.changed().await.is_err() {
                return;
            }
        }
        match *weather.borrow() {
            Weather::Cut => return,
            Weather::Hole => lost = true,
            Weather::Garbage if !from_hub => {
                let mut random = shared.random.lock();
                read.fill_with(|| random.below(256) as u8);
            }
            Weather::Babble if from_hub => {
                let mut random = shared.random.lock();
                read.fill_with(|| random.below(256) as u8);
            }
            _ => {}
        }
        if lost {
            continue;
        }
        if from_hub {
            let asked = frames.feed(read);
            let mut sessions = shared.sessions.lock();
            sessions.extend((0..asked).map(|_| Instant::now()));
        }
        if to.write_all(read).await.is_err() {
            return;
        }
    }
}

/// Finds CreateSession requests in a stream of unencrypted OPC UA messages (OPC 10000-6, 6.7.2 and
/// 7.1.2): the node id of the request's encoding follows 24 bytes of headers.
#[derive(Default)]
struct Frames {
    head: Vec<u8>,
    skip: usize,
}

const HEAD: usize = 28;
/// `i=461`, CreateSessionRequest_Encoding_DefaultBinary, as a four-byte node id.
const CREATE_SESSION: [u8; 4] = [1, 0, 0xcd, 0x01];

impl Frames {
    fn feed(&mut self, mut bytes: &[u8]) -> usize {
        let mut asked = 0;
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if self.skip > 0 || bytes.is_empty() {
                break;
            }
            // Eight bytes tell how long it is; short ones (Hello, Acknowledge) end before HEAD.
            let size =
                |head: &[u8]| u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
            let wanted = match self.head.len() {
                0..8 => 8,
                _ => size(&self.head).clamp(8, HEAD),
            };
            let taken = (wanted - self.head.len()).min(bytes.len());
            self.head.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if self.head.len() < 8 {
                continue;
            }
            let size = size(&self.head);
            if self.head.len() == size.clamp(8, HEAD) {
                let is_message = self.head.starts_with(b"MSG");
                asked += usize::from(is_message && self.head[24..] == CREATE_SESSION);
                self.skip = size.saturating_sub(self.head.len());
                self.head.clear();
            }
        }
        asked
    }
}

#[test]
fn sessions_are_counted_however_the_bytes_come() {
    let mut stream = b"HELF\x20\0\0\0".to_vec();
    stream.extend([7; 24]);
    for code in [0xcd, 0xce, 0xcd] {
        stream.extend(b"MSGF\x40\0\0\0");
        stream.extend([0; 16]);
        stream.extend([1, 0, code, 1]);
        stream.extend([9; 36]);
    }
    for step in [1, 3, 64, 1000] {
        let mut frames = Frames::default();
        let counted: usize = stream.chunks(step).map(|part| frames.feed(part)).sum();
        assert_eq!(counted, 2, "in steps of {step}");
    }
}
