//! The task that reads one device: connects, backs off, fills batches and hands them to its actor.
//!
//! It runs on the runtime of the sources, because actors must never wait for a socket. It takes a
//! credit before it begins a batch: without credit it does not read.

use super::admission::Admission;
use super::binding::{Acquaintance, NotMet};
use super::credit::{Credit, Credits};
use super::device::BatchRead;
use crate::ledger::seal::Origin;
use crate::live_view::{DeviceLive, Link, LiveSample};
use crate::model::{Batch, BatchBuilder, Peer, now, rfc3339};
use crate::protocols::{Mode, Source, SourceError};
use actix::Recipient;
use async_trait::async_trait;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// When a batch closes, whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// After this many samples.
    pub samples: usize,
    /// This long after its first sample.
    pub age: Duration,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self {
            samples: 8192,
            age: Duration::from_millis(250),
        }
    }
}

/// Live values are refreshed at most this often where nobody listens to each of them: people see no
/// more, and at full speed copying every value of every scan would cost as much as judging it.
const LIVE_EVERY: Duration = Duration::from_millis(50);

/// How far apart attempts to connect are: twice as far after every failure.
struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_millis(250);
    /// A device that is back is read within five seconds, the attempt included.
    const LONGEST: Duration = Duration::from_secs(3);

    /// How long to wait after an attempt that began `ago` and failed, or broke.
    fn wait(&mut self, ago: Duration) -> Duration {
        let apart = self.0;
        self.0 = (apart * 2).min(Self::LONGEST);
        apart.saturating_sub(ago)
    }
}

/// How often a source that waits for a credit is asked what it lost.
const LOST_EVERY: Duration = Duration::from_secs(1);

/// What to do about a device that may not come in.
pub(super) const CUT_OFF: &str = "`weighbridge access` shows the lists, and lets it in again";

/// Where a reading task's batches go.
#[async_trait]
pub trait BatchSink: Send {
    /// Takes a batch; false when there is nobody to take any more.
    async fn take(&mut self, batch: BatchRead) -> bool;
}

#[async_trait]
impl BatchSink for Recipient<BatchRead> {
    async fn take(&mut self, batch: BatchRead) -> bool {
        self.send(batch).await.is_ok()
    }
}

/// One device's reader.
pub struct Reading {
    source: Box<dyn Source>,
    limits: BatchLimits,
    batches: Box<dyn BatchSink>,
    live: Arc<DeviceLive>,
    credits: Credits,
    stop: CancellationToken,
    contact: Contact,
    admission: Option<Admission>,
    acquaintance: Option<Box<dyn Acquaintance>>,
    /// Who answers on the connection that there is.
    peer: Option<Peer>,
}

/// What of the batch in the making was shown.
struct Shown {
    at: Instant,
    /// Samples that each column had then.
    counts: Vec<usize>,
}

/// Whether the device is heard.
enum Contact {
    Never,
    There,
    Lost,
}

enum Ended {
    Stopped,
    /// The device may not come in any more.
    Barred,
    /// Another one answers.
    NotMet(NotMet),
    Broken(SourceError),
}

/// What was read and not yet handed over. If it is never, because the source panicked, it counts as
/// dropped.
struct Gathered {
    builder: BatchBuilder,
    live: Arc<DeviceLive>,
}

impl Drop for Gathered {
    fn drop(&mut self) {
        let samples = self.builder.samples() as u64;
        self.live.dropped.fetch_add(samples, Ordering::Relaxed);
    }
}

impl Reading {
    /// A reader of `source` that hands `batches` over within `limits` and `credits`, until `stop`; then
    /// what was gathered is still handed over.
    pub fn new(
        (source, limits): (Box<dyn Source>, BatchLimits),
        batches: Box<dyn BatchSink>,
        live: Arc<DeviceLive>,
        credits: Credits,
        stop: CancellationToken,
    ) -> Self {
        Self {
            source,
            limits,
            batches,
            live,
            credits,
            stop,
            contact: Contact::Never,
            admission: None,
            acquaintance: None,
            peer: None,
        }
    }

    /// Does not read while the device may not come in.
    pub fn admitted_by(mut self, admission: Admission) -> Self {
        self.admission = Some(admission);
        self
    }

    /// Reads nobody but the device: `acquaintance` tells it from others.
    pub fn known_by(mut self, acquaintance: Box<dyn Acquaintance>) -> Self {
        self.acquaintance = Some(acquaintance);
        self
    }

    /// Whether the device is who answers, as far as that can be told.
    async fn meet(&mut self) -> Result<(), NotMet> {
        match (&mut self.acquaintance, &self.peer) {
            (Some(acquaintance), Some(peer)) => acquaintance.meet(peer).await,
            _ => Ok(()),
        }
    }

    /// The same on a new connection.
    async fn meet_anew(&mut self) -> Result<(), NotMet> {
        self.peer = self.source.peer();
        self.meet().await
    }

    /// Waits before the device is tried again; false when it is to stop. A stranger may be let in by what
    /// somebody changes of access.
    async fn pause(&mut self, wait: Duration, stranger: bool) -> bool {
        let changed = async {
            match self.admission.as_mut().filter(|_| stranger) {
                Some(admission) => admission.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = changed => true,
            () = tokio::time::sleep(wait) => true,
        }
    }

    /// Waits until the device may come in, and says meanwhile why it may not; false when it is to stop.
    async fn admitted(&mut self) -> bool {
        let Some(admission) = &mut self.admission else {
            return true;
        };
        while let Some(denied) = admission.bar() {
            let plain = format!("the hub takes nothing of it: {denied}");
            if !matches!(self.live.link(), Link::Down(trouble) if trouble.plain == plain) {
                tracing::error!(device = %self.live.id, %denied, "the device is cut off");
                self.live.set_down(plain, CUT_OFF, now());
            }
            if matches!(self.contact, Contact::There) {
                self.contact = Contact::Lost;
            }
            tokio::select! {
                () = self.stop.cancelled() => return false,
                () = admission.changed() => {}
                // What expired by itself changes by itself.
                () = tokio::time::sleep(LOST_EVERY) => {}
            }
        }
        true
    }

    /// Reads until stopped.
    pub async fn run(mut self) {
        let tags = self.source.tags();
        let device = self.live.id.clone();
        let mut gathered = Gathered {
            builder: match self.source.mode() {
                Mode::Scanning => BatchBuilder::scanning(device.clone(), tags),
                Mode::Subscribing => BatchBuilder::subscribing(device.clone(), tags),
            },
            live: self.live.clone(),
        };
        let mut backoff = Backoff(Backoff::FIRST);
        loop {
            if !self.admitted().await {
                break;
            }
            let tried = Instant::now();
            let connected = tokio::select! {
                () = self.stop.cancelled() => break,
                connected = self.source.connect() => connected,
            };
            let ended = match connected {
                Ok(()) => match self.meet_anew().await {
                    Ok(()) => {
                        tracing::info!(%device, "connected");
                        self.live.set_about(self.source.about());
                        let before = self.live.points.load(Ordering::Relaxed);
                        let ended = self.read_until_broken(&mut gathered.builder).await;
                        if self.live.points.load(Ordering::Relaxed) > before {
                            backoff = Backoff(Backoff::FIRST);
                        }
                        ended
                    }
                    Err(not) => Ended::NotMet(not),
                },
                Err(error) => Ended::Broken(error),
            };
            let stranger = matches!(ended, Ended::NotMet(_));
            let trouble = match ended {
                Ended::Stopped => break,
                Ended::Barred => {
                    self.source.close().await;
                    continue;
                }
                Ended::NotMet(not) => {
                    self.source.turn_away().await;
                    not
                }
                Ended::Broken(error) => NotMet {
                    plain: error.plain(),
                    exact: error.exact(),
                },
            };
            if matches!(self.contact, Contact::There) {
                self.contact = Contact::Lost;
            }
            let wait = backoff.wait(tried.elapsed());
            let retry_at = now() + wait.as_nanos() as i64;
            let NotMet { plain, exact } = trouble;
            let last = self.live.heard().map(rfc3339).unwrap_or_default();
            let retry_ms = wait.as_millis() as u64;
            tracing::warn!(%device, plain, exact, last_success = last, retry_ms, "not connected");
            self.live.set_down(plain, exact, retry_at);
            if !self.pause(wait, stranger).await {
                break;
            }
        }
        self.source.close().await;
    }

    async fn read_until_broken(&mut self, builder: &mut BatchBuilder) -> Ended {
        loop {
            let Some(credit) = self.credit().await else {
                return Ended::Stopped;
            };
            if self.admission.as_ref().is_some_and(|a| a.bar().is_some()) {
                return Ended::Barred;
            }
            // What the device is known by may have changed.
            if let Err(not) = self.meet().await {
                return Ended::NotMet(not);
            }
            let ended = self.fill(builder).await;
            // What was read before the connection broke is real, and goes on.
            if let Some(batch) = builder.take(0, 0)
                && !self.hand_over(batch, credit).await
            {
                return Ended::Stopped;
            }
            if let Some(ended) = ended {
                return ended;
            }
        }
    }

    /// Waits for a credit; `None` when there will be none. A source that is not read meanwhile may
    /// lose what comes, and that shows while it happens.
    async fn credit(&mut self) -> Option<Credit> {
        let (credits, stop) = (self.credits.clone(), self.stop.clone());
        let credit = credits.take();
        tokio::pin!(credit);
        loop {
            tokio::select! {
                () = stop.cancelled() => return None,
                credit = &mut credit => return credit,
                () = tokio::time::sleep(LOST_EVERY) => self.count_lost(),
            }
        }
    }

    /// A device that sends far more than it was asked for is cut off.
    async fn count_sent(&mut self) {
        if let (Some(sent), Some(admission)) = (self.source.sent(), &mut self.admission) {
            admission.sent(sent).await;
        }
    }

    fn count_lost(&mut self) {
        let lost = self.source.lost();
        self.live.dropped.fetch_add(lost, Ordering::Relaxed);
    }

    /// Fills one batch; `Some` when reading cannot go on after it.
    async fn fill(&mut self, builder: &mut BatchBuilder) -> Option<Ended> {
        let mut deadline = None;
        let mut shown = Shown {
            at: Instant::now() - LIVE_EVERY,
            counts: Vec::new(),
        };
        loop {
            let before = builder.samples();
            // An empty batch has no deadline: there is nothing to hand over.
            let until = deadline.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            let read = tokio::select! {
                () = self.stop.cancelled() => return Some(Ended::Stopped),
                read = timeout_at(until, self.source.read(builder)) => read,
            };
            let gathered = builder.samples() - before;
            self.live.count_points(gathered as u64);
            self.count_lost();
            self.count_sent().await;
            if gathered > 0 {
                self.heard();
            }
            let now = Instant::now();
            if gathered > 0 && (self.live.has_listeners() || now - shown.at >= LIVE_EVERY) {
                self.show(builder, &mut shown);
            }
            if let Ok(Err(error)) = read {
                self.show(builder, &mut shown);
                return Some(Ended::Broken(error));
            }
            if deadline.is_none() && builder.samples() > 0 {
                deadline = Some(now + self.limits.age);
            }
            let due = deadline.is_some_and(|deadline| now >= deadline);
            let ended = self.source.batch_ended() && builder.samples() > 0;
            if due || ended || builder.samples() >= self.limits.samples {
                self.show(builder, &mut shown);
                return None;
            }
        }
    }

    /// Only a sample shows that a device is there: something that takes connections and never answers
    /// must not let old values look new.
    fn heard(&mut self) {
        self.live.set_heard(now());
        if matches!(self.contact, Contact::There) {
            return;
        }
        if matches!(self.contact, Contact::Lost) {
            self.live.reconnects.fetch_add(1, Ordering::Relaxed);
        }
        self.contact = Contact::There;
        self.live.set_link(Link::Up);
    }

    fn show(&self, builder: &BatchBuilder, shown: &mut Shown) {
        let sample = |(column, time, quality, value)| {
            let sample = LiveSample {
                time,
                value,
                quality,
            };
            (column, sample)
        };
        shown.at = Instant::now();
        if self.live.has_listeners() {
            self.live.update(builder.since(&shown.counts).map(sample));
        } else {
            self.live.update(builder.newest().map(sample));
        }
        shown.counts = builder.counts();
    }

    /// False when the device's actor is gone.
    async fn hand_over(&mut self, batch: Batch, mut credit: Credit) -> bool {
        let samples = batch.samples() as u64;
        credit.carry(self.live.clone(), samples);
        let origin = Origin::Read;
        let taken = self.batches.take(BatchRead {
            batch,
            origin,
            credit,
        });
        let taken = taken.await;
        if !taken {
            tracing::error!(device = %self.live.id, samples, "nobody takes its batches, samples dropped");
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_get_rarer_but_never_rarer_than_every_three_seconds() {
        let mut backoff = Backoff(Backoff::FIRST);
        let ms = Duration::from_millis;
        for apart in [250, 500, 1000, 2000, 3000, 3000] {
            assert_eq!(backoff.wait(ms(0)), ms(apart));
        }
        // An attempt that itself took its time is followed sooner, at once if it took long enough.
        assert_eq!(backoff.wait(ms(1500)), ms(1500));
        assert_eq!(backoff.wait(ms(60_000)), ms(0));
    }
}
