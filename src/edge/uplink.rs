//! The way up: to the first hub of the list that answers, and to the next when it dies.
//!
//! A hub that was lost is tried again for a while before another one is asked, because a hub that is
//! only restarted goes on where it was, and another one needs a new epoch. After that, and at the
//! start, the list is gone through from its top. While a hub of the list answers, the edge stays with it,
//! also when one before it is back.

use super::UplinkStatus;
use super::acquaintance::Acquaintance;
use super::desk::Desk;
use super::lane::Lane;
use super::session::{Session, on_disk};
use super::stay::Stays;
use crate::crypto::pinned_tls::{self, ClientConfig};
use crate::model::{Nanos, now};
use crate::protocols::edge::Introduction;
use crate::protocols::edge::wire::{
    self, EDGE_PROTOCOL, FromEdge, Hello, MAX_FRAME, Welcome, WireError,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncWriteExt, BufReader, BufWriter, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use weighbridge_verifier::PublicKey;

/// For connecting, and for every answer that is due at once.
const ANSWER: Duration = Duration::from_secs(3);
/// The other side says something when asked every two seconds.
pub(super) const SILENCE: Duration = Duration::from_secs(8);
const TICK: Duration = Duration::from_millis(500);
const PING: Duration = Duration::from_secs(2);
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(4);
/// Uploads taken from a lane at once, so that lanes take turns.
const TURN: usize = 2;

/// A hub of the list.
pub(super) struct Target {
    pub(super) address: String,
    /// The key that the configuration names it by.
    pub(super) key: PublicKey,
    pub(super) sealing: PublicKey,
    /// The keys that it has by now.
    pub(super) known: Acquaintance,
}

/// The lanes of all devices; they change with the configuration.
pub(super) type Lanes = Arc<[Arc<Lane>]>;

pub(super) struct Uplink {
    pub(super) targets: Vec<Target>,
    pub(super) lanes: watch::Receiver<Lanes>,
    pub(super) more: Arc<Notify>,
    pub(super) patience: Duration,
    pub(super) status: watch::Sender<UplinkStatus>,
    /// When a hub was last heard; 0 for never.
    pub(super) heard: Arc<AtomicI64>,
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
                // The next of the list is asked at once.
                self.show_down(format!("{hub}: {reason}"), now());
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
            let retry_at = now() + pause.as_nanos() as Nanos;
            self.status.send_modify(|status| {
                if let UplinkStatus::Down { retry_at: at, .. } = status {
                    *at = retry_at;
                }
            });
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn show_down(&self, reason: String, retry_at: Nanos) {
        let heard = self.heard.load(Ordering::Relaxed);
        self.status.send_replace(UplinkStatus::Down {
            reason,
            last_success: (heard != 0).then_some(heard),
            retry_at,
        });
    }

    /// Talks with a hub until the connection breaks.
    async fn talk(&self, target: &Target) -> Ended {
        let (mut reader, mut writer) = match reach(target).await {
            Ok(stream) => {
                let (reader, writer) = split(stream);
                (
                    BufReader::new(reader),
                    BufWriter::with_capacity(64 << 10, writer),
                )
            }
            Err(reason) => return Ended::before(reason),
        };
        let lanes = self.lanes.borrow().clone();
        let (desk, outcomes) = Desk::new();
        let welcome = timeout(ANSWER, greet(&lanes, &mut reader, &mut writer));
        let welcome = match welcome.await {
            Ok(Ok(welcome)) => welcome,
            Ok(Err(error)) => return Ended::before(error),
            Err(_) => return Ended::before("it did not answer the greeting"),
        };
        self.heard.store(now(), Ordering::Relaxed);
        let session = Arc::new(Session {
            hub: welcome.hub.clone(),
            key: target.key,
            stays: Stays::new(&lanes),
            desk,
            heard: self.heard.clone(),
            more: self.more.clone(),
        });
        if let Err(reason) = session.enter(target, &lanes, &welcome).await {
            return Ended::before(reason);
        }
        // What is read no more must be let go of.
        drop(lanes);
        tracing::info!(hub = welcome.hub, address = target.address, "connected");
        self.status.send_replace(UplinkStatus::Up {
            hub: welcome.hub,
            address: target.address.clone(),
            since: now(),
        });
        let mut listening = tokio::spawn(session.clone().listen(reader));
        let reason = tokio::select! {
            reason = self.send(target, &session, outcomes, &mut writer) => reason,
            heard = &mut listening => heard.unwrap_or_else(|e| e.to_string()),
        };
        listening.abort();
        Ended {
            reason,
            worked: true,
        }
    }

    /// Sends what is there, and asks whether anybody is; returns why it cannot go on.
    async fn send(
        &self,
        target: &Target,
        session: &Session,
        mut outcomes: mpsc::Receiver<FromEdge>,
        writer: &mut Writer,
    ) -> String {
        let mut lanes = self.lanes.clone();
        // What it was when the hub was greeted was greeted; what came since comes now.
        lanes.mark_changed();
        let mut ticks = tokio::time::interval(TICK);
        let mut pinged = Instant::now();
        loop {
            if lanes.has_changed().unwrap_or(false) {
                session.stays.take_over(&lanes.borrow_and_update());
            }
            let mut words = session.stays.words(Instant::now());
            while let Ok(outcome) = outcomes.try_recv() {
                words.push(outcome);
            }
            if pinged.elapsed() >= PING {
                pinged = Instant::now();
                words.extend(session.stays.backlogs());
                words.push(session.desk.ping());
            }
            let sent = match send_turn(target, session, words, writer).await {
                Ok(sent) => sent,
                Err(reason) => return reason,
            };
            if sent > 0 {
                continue;
            }
            match timeout(SILENCE, writer.flush()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error.to_string(),
                Err(_) => return "it takes nothing any more".to_owned(),
            }
            tokio::select! {
                () = self.more.notified() => {}
                _ = ticks.tick() => {}
                changed = lanes.changed() => match changed {
                    Ok(()) => lanes.mark_changed(),
                    Err(_) => return "the edge node ends".to_owned(),
                },
                outcome = outcomes.recv() => {
                    if let Some(outcome) = outcome
                        && let Err(reason) = say(writer, &outcome).await
                    {
                        return reason;
                    }
                }
            }
        }
    }
}

pub(super) type Reader = BufReader<ReadHalf<Stream>>;
type Writer = BufWriter<WriteHalf<Stream>>;

async fn greet(
    lanes: &[Arc<Lane>],
    reader: &mut Reader,
    writer: &mut Writer,
) -> Result<Welcome, WireError> {
    let hello = Hello {
        version: EDGE_PROTOCOL,
        devices: lanes.iter().map(|lane| lane.hello()).collect(),
    };
    wire::write(writer, &hello).await?;
    writer.flush().await?;
    wire::read(reader, "welcome", MAX_FRAME).await
}

async fn say(writer: &mut Writer, word: &FromEdge) -> Result<(), String> {
    let written = timeout(SILENCE, wire::write(writer, word)).await;
    let written = written.map_err(|_| "it takes nothing any more".to_owned())?;
    written.map_err(|e| e.to_string())
}

/// Says the words, then sends one turn of all lanes; how many uploads were sent.
async fn send_turn(
    target: &Target,
    session: &Session,
    words: Vec<FromEdge>,
    writer: &mut Writer,
) -> Result<usize, String> {
    for word in words {
        say(writer, &word).await?;
    }
    let mut sent = 0;
    for lane in session.stays.open() {
        let sealing = target.sealing;
        let ready = on_disk(&lane, move |lane| lane.ready(&sealing, TURN)).await?;
        if let Some(reason) = ready.blocked {
            return Err(reason);
        }
        for upload in ready.uploads {
            say(writer, &FromEdge::Upload(Box::new(upload))).await?;
            sent += 1;
        }
    }
    Ok(sent)
}

/// Connects to the hub; to one that shows another key than it is known by once it has said by which records
/// it has that one.
async fn reach(target: &Target) -> Result<Stream, String> {
    let refused = match connect(&target.address, target.known.tls()).await {
        Ok(stream) => return Ok(stream),
        Err(error) => error,
    };
    if !pinned_tls::is_other_key(&refused) {
        return Err(refused.to_string());
    }
    let strange = |why: String| format!("it shows another key than it is known by: {why}");
    let asked = connect(&target.address, target.known.asking().map_err(strange)?);
    let mut asked = asked.await.map_err(|e| strange(e.to_string()))?;
    let said = timeout(ANSWER, Introduction::read(&mut asked)).await;
    let said = said.map_err(|_| strange("it does not say who it is".to_owned()))?;
    let said = said.map_err(|e| strange(e.to_string()))?;
    target.known.meet(&said).map_err(strange)?;
    let again = connect(&target.address, target.known.tls()).await;
    again.map_err(|e| e.to_string())
}

async fn connect(address: &str, tls: Arc<ClientConfig>) -> std::io::Result<Stream> {
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(tls);
        connector.connect(pinned_tls::any_name(), stream).await
    };
    match timeout(ANSWER, connecting).await {
        Ok(connected) => connected,
        Err(_) => {
            let silent = format!("it did not answer within {} s", ANSWER.as_secs());
            Err(std::io::Error::new(std::io::ErrorKind::TimedOut, silent))
        }
    }
}
