//! The way up: to the first hub of the list that answers, and to the next when it dies.
//!
//! A hub that was lost is tried again for a while before another one is asked, because a hub that is
//! only restarted goes on where it was, and another one needs a new epoch. After that, and at the
//! start, the list is gone through from its top. While a hub of the list answers, the edge stays with it,
//! also when one before it is back.

use super::UplinkStatus;
use super::acquaintance::Acquaintance;
use super::desk::Desk;
use super::entry::Entry;
use super::key::EdgeKey;
use super::lane::Lane;
use super::session::{Session, on_disk};
use super::stay::Stays;
use crate::model::{Nanos, now};
use crate::protocols::edge::wire::{self, FromEdge};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncWriteExt, BufReader, BufWriter, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use weighbridge_verifier::PublicKey;

/// For connecting, and for every answer that is due at once.
pub(super) const ANSWER: Duration = Duration::from_secs(3);
/// The other side says something when asked every two seconds.
pub(super) const SILENCE: Duration = Duration::from_secs(8);
const TICK: Duration = Duration::from_millis(500);
const PING: Duration = Duration::from_secs(2);
pub(super) const FIRST_WAIT: Duration = Duration::from_millis(250);
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(4);
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
    pub(super) key: Arc<EdgeKey>,
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

pub(super) type Stream = TlsStream<TcpStream>;

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

    /// Talks with a hub until the connection breaks; over another one when it lets in the next key.
    async fn talk(&self, target: &Target) -> Ended {
        let mut entry = match self.enter(target).await {
            Ok(entry) => entry,
            Err(reason) => return Ended::before(reason),
        };
        let mut worked = false;
        loop {
            match self.stay(target, entry, &mut worked).await {
                Ok(next) => entry = next,
                Err(reason) => return Ended { reason, worked },
            }
        }
    }

    /// Talks until the connection breaks, which is an error, or there is one under the next key.
    async fn stay(
        &self,
        target: &Target,
        entry: Entry,
        worked: &mut bool,
    ) -> Result<Entry, String> {
        let Entry {
            reader,
            mut writer,
            lanes,
            welcome,
        } = entry;
        let (desk, outcomes) = Desk::new();
        let session = Arc::new(Session {
            hub: welcome.hub.clone(),
            key: target.key,
            stays: Stays::new(&lanes),
            desk,
            heard: self.heard.clone(),
            more: self.more.clone(),
        });
        session.enter(target, &lanes, &welcome).await?;
        *worked = true;
        // What is read no more must be let go of.
        drop(lanes);
        tracing::info!(hub = welcome.hub, address = target.address, "connected");
        self.status.send_replace(UplinkStatus::Up {
            hub: welcome.hub,
            address: target.address.clone(),
            since: now(),
        });
        let mut listening = tokio::spawn(session.clone().listen(reader));
        let (leave, trying) = (CancellationToken::new(), AtomicBool::new(false));
        let sending = self.send(target, &session, (outcomes, &leave), &mut writer);
        let going_over = self.go_over(target, &trying);
        tokio::pin!(sending, going_over);
        let (ended, over) = tokio::select! {
            over = &mut going_over => (None, Some(over)),
            reason = &mut sending => (Some(reason), None),
            heard = &mut listening => (Some(heard.unwrap_or_else(|e| e.to_string())), None),
        };
        let over = match over {
            None if trying.load(Ordering::Relaxed) => timeout(ANSWER, going_over).await.ok(),
            over => over,
        };
        listening.abort();
        let Some((next, entry)) = over else {
            return Err(ended.unwrap_or_default());
        };
        if ended.is_none() {
            // What it has taken from the buffers must not be taken again while it is at it.
            leave.cancel();
            let _ = timeout(ANSWER, sending).await;
        }
        self.goes_by(&next);
        Ok(entry)
    }

    /// Sends what is there, and asks whether anybody is; returns why it cannot go on.
    async fn send(
        &self,
        target: &Target,
        session: &Session,
        (mut outcomes, leave): (mpsc::Receiver<FromEdge>, &CancellationToken),
        writer: &mut Writer,
    ) -> String {
        let mut lanes = self.lanes.clone();
        // What it was when the hub was greeted was greeted; what came since comes now.
        lanes.mark_changed();
        let mut ticks = tokio::time::interval(TICK);
        let mut pinged = Instant::now();
        while !leave.is_cancelled() {
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
                () = leave.cancelled() => {}
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
        String::new()
    }
}

pub(super) type Reader = BufReader<ReadHalf<Stream>>;
pub(super) type Writer = BufWriter<WriteHalf<Stream>>;

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
