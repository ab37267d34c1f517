//! The way up: to the first hub of the list that answers, and to the next when it dies.
//!
//! A hub that was lost is tried again for a while before another one is asked, because a hub that is
//! only restarted goes on where it was, and another one needs a new epoch. After that, and at the
//! start, the list is gone through from its top. While a hub of the list answers, the edge stays with it,
//! also when one before it is back.

use super::lane::Lane;
use super::{EdgeError, UplinkStatus};
use crate::crypto::pinned_tls::{self, ClientConfig};
use crate::live_view::Link;
use crate::protocols::edge::wire::{
    self, DeviceLink, DeviceWelcome, EDGE_PROTOCOL, FromEdge, FromHub, Hello, MAX_FRAME, Welcome,
    WireError,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, BufReader, BufWriter, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use weighbridge_verifier::PublicKey;

/// For connecting, and for every answer that is due at once.
const ANSWER: Duration = Duration::from_secs(3);
/// The other side says something when asked every two seconds.
const SILENCE: Duration = Duration::from_secs(8);
const TICK: Duration = Duration::from_millis(500);
const PING_TICKS: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(4);
/// Uploads taken from a lane at once, so that lanes take turns.
const TURN: usize = 2;

/// A hub of the list.
pub(super) struct Target {
    pub(super) address: String,
    pub(super) key: PublicKey,
    pub(super) sealing: PublicKey,
    pub(super) tls: Arc<ClientConfig>,
}

pub(super) struct Uplink {
    pub(super) targets: Vec<Target>,
    pub(super) lanes: Arc<[Arc<Lane>]>,
    pub(super) more: Arc<Notify>,
    pub(super) patience: Duration,
    pub(super) status: watch::Sender<UplinkStatus>,
    pub(super) stop: CancellationToken,
}

/// Why a connection ended.
struct Ended {
    reason: String,
    /// Whether the hub had taken anything of us.
    worked: bool,
}

impl Ended {
    fn before(reason: impl ToString) -> Self {
        Self {
            reason: reason.to_string(),
            worked: false,
        }
    }
}

type Stream = TlsStream<TcpStream>;

impl Uplink {
    /// Keeps a connection until stopped.
    pub(super) async fn run(self) {
        let mut lost: Option<(usize, Instant)> = None;
        let mut wait = FIRST_WAIT;
        loop {
            let began = Instant::now();
            let again = lost.filter(|(_, since)| since.elapsed() < self.patience);
            let candidates: Vec<usize> = match again {
                Some((at, _)) => vec![at],
                None => (0..self.targets.len()).collect(),
            };
            let mut worked = None;
            for at in candidates {
                let Some(target) = self.targets.get(at) else {
                    continue;
                };
                let ended = tokio::select! {
                    () = self.stop.cancelled() => return,
                    ended = self.talk(target) => ended,
                };
                let (hub, reason) = (&target.address, &ended.reason);
                tracing::warn!(hub, reason, "no connection to the hub");
                self.status.send_replace(UplinkStatus::Down {
                    reason: format!("{hub}: {reason}"),
                });
                if ended.worked {
                    worked = Some(at);
                    break;
                }
            }
            if let Some(at) = worked {
                lost = Some((at, Instant::now()));
                wait = FIRST_WAIT;
            }
            let pause = wait.saturating_sub(began.elapsed());
            wait = (wait * 2).min(LONGEST_WAIT);
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Talks with a hub until the connection breaks.
    async fn talk(&self, target: &Target) -> Ended {
        let (mut reader, mut writer) = match connect(target).await {
            Ok(stream) => {
                let (reader, writer) = split(stream);
                (
                    BufReader::new(reader),
                    BufWriter::with_capacity(64 << 10, writer),
                )
            }
            Err(reason) => return Ended::before(reason),
        };
        let welcome = timeout(ANSWER, self.greet(&mut reader, &mut writer));
        let welcome = match welcome.await {
            Ok(Ok(welcome)) => welcome,
            Ok(Err(error)) => return Ended::before(error),
            Err(_) => return Ended::before("it did not answer the greeting"),
        };
        let open = match self.enter(target, &welcome).await {
            Ok(open) => open,
            Err(reason) => return Ended::before(reason),
        };
        tracing::info!(hub = welcome.hub, address = target.address, "connected");
        self.status.send_replace(UplinkStatus::Up {
            hub: welcome.hub.clone(),
            address: target.address.clone(),
        });
        let by_device = open.iter().map(|l| (l.live.id.to_string(), l.clone()));
        let mut listening = tokio::spawn(listen(reader, by_device.collect()));
        let reason = tokio::select! {
            reason = self.send(target, &open, &mut writer) => reason,
            heard = &mut listening => heard.unwrap_or_else(|e| e.to_string()),
        };
        listening.abort();
        Ended {
            reason,
            worked: true,
        }
    }

    async fn greet(
        &self,
        reader: &mut BufReader<ReadHalf<Stream>>,
        writer: &mut BufWriter<WriteHalf<Stream>>,
    ) -> Result<Welcome, WireError> {
        let hello = Hello {
            version: EDGE_PROTOCOL,
            devices: self.lanes.iter().map(|lane| lane.hello()).collect(),
        };
        wire::write(writer, &hello).await?;
        writer.flush().await?;
        wire::read(reader, "welcome", MAX_FRAME).await
    }

    /// The lanes that the hub takes batches of, with the numbers it expects.
    async fn enter(&self, target: &Target, welcome: &Welcome) -> Result<Vec<Arc<Lane>>, String> {
        if welcome.sealing != target.sealing {
            return Err(format!(
                "its sealing key is {}, not the one configured: batches sealed to that could not be opened",
                welcome.sealing
            ));
        }
        let mut open = Vec::new();
        let mut refused = None;
        for (lane, answer) in self.lanes.iter().zip(&welcome.devices) {
            match answer {
                DeviceWelcome::Standing(epoch, sequence) => {
                    let (hub, standing) = (target.key, (*epoch, *sequence));
                    on_disk(lane, move |lane| lane.meet(hub, standing)).await?;
                    open.push(lane.clone());
                }
                DeviceWelcome::Refused(reason) => {
                    let device = &lane.live.id;
                    tracing::error!(%device, hub = welcome.hub, reason, "the hub does not take its batches");
                    refused.get_or_insert(format!("it does not take `{device}`: {reason}"));
                }
            }
        }
        match refused {
            Some(reason) if open.is_empty() => Err(reason),
            _ => Ok(open),
        }
    }

    /// Sends what is there, and asks whether anybody is; returns why it cannot go on.
    async fn send(
        &self,
        target: &Target,
        lanes: &[Arc<Lane>],
        writer: &mut BufWriter<WriteHalf<Stream>>,
    ) -> String {
        let mut links = vec![Link::Starting; lanes.len()];
        let mut ticks = tokio::time::interval(TICK);
        let mut ticked: u32 = 0;
        loop {
            let sent = match self.send_turn(target, lanes, &mut links, writer).await {
                Ok(sent) => sent,
                Err(reason) => return reason,
            };
            if sent > 0 {
                continue;
            }
            if let Err(error) = writer.flush().await {
                return error.to_string();
            }
            tokio::select! {
                () = self.more.notified() => {}
                _ = ticks.tick() => {
                    ticked += 1;
                    if ticked.is_multiple_of(PING_TICKS)
                        && let Err(error) = wire::write(writer, &FromEdge::Ping).await
                    {
                        return error.to_string();
                    }
                }
            }
        }
    }

    /// One turn of all lanes; how many uploads were sent.
    async fn send_turn(
        &self,
        target: &Target,
        lanes: &[Arc<Lane>],
        links: &mut [Link],
        writer: &mut BufWriter<WriteHalf<Stream>>,
    ) -> Result<usize, String> {
        let mut sent = 0;
        for (lane, shown) in lanes.iter().zip(links) {
            let link = lane.live.link();
            if link != *shown
                && let Some(told) = tell(&link)
            {
                let told = FromEdge::Link(lane.live.id.to_string(), told);
                wire::write(writer, &told)
                    .await
                    .map_err(|e| e.to_string())?;
            }
            *shown = link;
            let sealing = target.sealing;
            let ready = on_disk(lane, move |lane| lane.ready(&sealing, TURN)).await?;
            if let Some(reason) = ready.blocked {
                return Err(reason);
            }
            for upload in ready.uploads {
                let upload = FromEdge::Upload(Box::new(upload));
                let written = timeout(SILENCE, wire::write(writer, &upload)).await;
                written
                    .map_err(|_| "it takes nothing any more".to_owned())?
                    .map_err(|e| e.to_string())?;
                sent += 1;
            }
        }
        Ok(sent)
    }
}

fn tell(link: &Link) -> Option<DeviceLink> {
    match link {
        Link::Starting => None,
        Link::Up => Some(DeviceLink::Up),
        Link::Down(trouble) => Some(DeviceLink::Down(trouble.in_short())),
    }
}

async fn connect(target: &Target) -> Result<Stream, String> {
    let connecting = async {
        let stream = TcpStream::connect(&target.address).await?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(target.tls.clone());
        connector.connect(pinned_tls::any_name(), stream).await
    };
    match timeout(ANSWER, connecting).await {
        Ok(connected) => connected.map_err(|e| e.to_string()),
        Err(_) => Err(format!("it did not answer within {} s", ANSWER.as_secs())),
    }
}

/// Takes the hub's answers until there are none any more; why.
async fn listen(
    mut reader: BufReader<ReadHalf<Stream>>,
    lanes: BTreeMap<String, Arc<Lane>>,
) -> String {
    loop {
        let answer = timeout(SILENCE, wire::read(&mut reader, "answer", MAX_FRAME));
        let answer = match answer.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return format!("nothing was heard for {} s", SILENCE.as_secs()),
        };
        match answer {
            FromHub::Durable(device, epoch, sequence) => {
                let Some(lane) = lanes.get(&device) else {
                    return format!("it speaks of `{device}`, which nobody asked it about");
                };
                let durable = move |lane: &Lane| lane.durable((epoch, sequence));
                if let Err(reason) = on_disk(lane, durable).await {
                    return reason;
                }
            }
            FromHub::Pong => {}
            FromHub::Goodbye(reason) => return format!("it ended the connection: {reason}"),
        }
    }
}

/// Does what touches the disk where it may take its time.
async fn on_disk<T: Send + 'static>(
    lane: &Arc<Lane>,
    work: impl FnOnce(&Lane) -> Result<T, EdgeError> + Send + 'static,
) -> Result<T, String> {
    let lane = lane.clone();
    let done: JoinHandle<_> = tokio::task::spawn_blocking(move || work(&lane));
    match done.await {
        Ok(done) => done.map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
