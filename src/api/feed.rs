//! What the stream of events is made from: four times a second the changes since the last look are
//! put into words once, for all clients together.
//!
//! Architecture invariant: the work does not grow with the speed of the devices. A tag that changed
//! a hundred times between two looks is sent once, with its newest value; a client that does not
//! keep up is given a fresh picture of everything instead of what it missed.

use super::caller::Viewer;
use super::context::ApiContext;
use super::devices::{DeviceView, tag_views};
use super::ledger::ask;
use super::ports::Tip;
use super::status::StatusView;
use super::views::{BlockView, LinkView, RefusalView, SampleView, VerdictView};
use crate::live_view::{DeviceLive, LiveSample};
use crate::model::{DeviceId, VerdictClass};
use crate::stats::Refusal;
use bytes::Bytes;
use parking_lot::RwLock;
use serde::Serialize;
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{broadcast, oneshot};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// How often is looked for changes.
const PERIOD: Duration = Duration::from_millis(250);

/// Looks between two `status` events, which also show a client that the hub is alive.
const STATUS_EVERY: u64 = 4;

/// Looks over which the rate of points is averaged: five seconds.
const RATE_LOOKS: usize = 20;

/// Tags of one device that are streamed; the others are read at `/api/v1/tags`.
pub(super) const STREAMED_TAGS: usize = 32;

/// Newest blocks in the first picture, and at most in one `blocks` event.
const BLOCKS_KEPT: usize = 16;

/// Events that wait for a slow client before it is given a fresh picture instead.
const QUEUED_EVENTS: usize = 32;

/// Clients that may listen at the same time.
pub(super) const MAX_CLIENTS: usize = 32;

/// The changes of one device since the last look.
#[derive(Serialize)]
struct Change {
    id: String,
    link: LinkView,
    points: u64,
    dropped: u64,
    reconnects: u64,
    verdict: Option<VerdictView>,
    /// The tags with a newer sample, by name.
    samples: BTreeMap<Arc<str>, SampleView>,
}

/// What was last seen of a device.
struct Seen {
    live: Arc<DeviceLive>,
    version: tokio::sync::watch::Receiver<u64>,
    samples: Vec<Option<LiveSample>>,
    verdict: Option<(VerdictClass, i64, String)>,
}

impl Seen {
    fn new(live: Arc<DeviceLive>) -> Self {
        let mut version = live.changes();
        version.mark_changed();
        let samples = vec![None; live.tags.len().min(STREAMED_TAGS)];
        Self {
            live,
            version,
            samples,
            verdict: None,
        }
    }
}

/// The stream's source; one for each running HTTP face.
pub(super) struct Feed {
    events: broadcast::Sender<Bytes>,
    clients: AtomicUsize,
    rate: RwLock<VecDeque<(Instant, u64)>>,
    blocks: RwLock<VecDeque<BlockView>>,
    stopping: CancellationToken,
}

/// The place of one client among those that may listen.
pub(super) struct Place(Arc<Feed>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Feed {
    pub(super) fn new(stopping: CancellationToken) -> Self {
        Self {
            events: broadcast::Sender::new(QUEUED_EVENTS),
            clients: AtomicUsize::new(0),
            rate: RwLock::default(),
            blocks: RwLock::default(),
            stopping,
        }
    }

    /// Takes a place among the clients; `None` when all are taken.
    pub(super) fn place(self: &Arc<Self>) -> Option<Place> {
        let take = |taken: usize| (taken < MAX_CLIENTS).then_some(taken + 1);
        self.clients
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .ok()
            .map(|_| Place(self.clone()))
    }

    /// The events from now on.
    pub(super) fn subscribe(&self) -> broadcast::Receiver<Bytes> {
        self.events.subscribe()
    }

    /// Ends when the hub stops.
    pub(super) fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Points read a second, over the last seconds.
    pub(super) fn points_per_second(&self) -> f64 {
        let rate = self.rate.read();
        let (Some((from, before)), Some((to, after))) = (rate.front(), rate.back()) else {
            return 0.0;
        };
        let seconds = to.duration_since(*from).as_secs_f64();
        if seconds > 0.0 {
            after.saturating_sub(*before) as f64 / seconds
        } else {
            0.0
        }
    }

    /// The first event of every client: the whole picture, as far as `viewer` sees it.
    pub(super) fn picture(&self, context: &ApiContext, viewer: &Viewer) -> Bytes {
        let devices: Vec<_> = context
            .ordered_devices()
            .into_iter()
            .filter(|(live, _)| viewer.sees_device(&live.id))
            .map(|(live, info)| {
                json!({
                    "device": DeviceView::new(&live, info.as_ref()),
                    "tags": tag_views(&live, 0, STREAMED_TAGS, viewer),
                })
            })
            .collect();
        let refusals = context.stats.refusals();
        let refusals = refusals.iter().filter(|r| viewer.sees_device(&r.device));
        let refusals: Vec<_> = refusals.map(RefusalView::from).collect();
        let blocks = self.blocks.read();
        let picture = json!({
            "status": StatusView::now(context, self),
            "devices": devices,
            "blocks": &*blocks,
            "refusals": refusals,
        });
        event("picture", &picture)
    }

    /// Looks for changes until the hub stops.
    pub(super) async fn run(
        self: Arc<Self>,
        context: ApiContext,
        mut server_ended: oneshot::Receiver<()>,
    ) {
        let mut look = Look::default();
        let mut clock = tokio::time::interval(PERIOD);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = self.stopping.cancelled() => return,
                _ = &mut server_ended => return,
                _ = clock.tick() => look.once(&self, &context).await,
            }
        }
    }

    /// Tells all clients.
    pub(super) fn send(&self, name: &str, data: &impl Serialize) {
        // Nobody listening is no error.
        let _ = self.events.send(event(name, data));
    }

    fn note_points(&self, context: &ApiContext) {
        let points = context.live.devices();
        let points = points.iter().map(|d| d.points.load(Ordering::Relaxed));
        let mut rate = self.rate.write();
        rate.push_back((Instant::now(), points.sum()));
        if rate.len() > RATE_LOOKS + 1 {
            rate.pop_front();
        }
    }
}

/// What is remembered from one look to the next.
#[derive(Default)]
struct Look {
    number: u64,
    tip: Option<Tip>,
    devices: BTreeMap<DeviceId, Seen>,
    refusal: Option<Refusal>,
    ledger_failed: bool,
}

impl Look {
    async fn once(&mut self, feed: &Feed, context: &ApiContext) {
        feed.note_points(context);
        self.blocks(feed, context).await;
        let number = self.number;
        self.number += 1;
        if feed.events.receiver_count() == 0 {
            return;
        }
        self.live(feed, context);
        self.refusals(feed, context);
        if number.is_multiple_of(STATUS_EVERY) {
            feed.send("status", &StatusView::now(context, feed));
        }
    }

    /// Keeps the newest blocks, and tells of those that are new.
    async fn blocks(&mut self, feed: &Feed, context: &ApiContext) {
        let tip = context.ledger.tip();
        if tip == self.tip {
            return;
        }
        let height = |tip: Option<Tip>| tip.map_or(0, |t| t.height);
        let new = height(tip).saturating_sub(height(self.tip));
        let new = usize::try_from(new).unwrap_or(BLOCKS_KEPT);
        let before = height(tip).checked_add(1);
        let found = ask(&context.ledger, move |ledger| {
            let blocks = ledger.blocks(before, new.clamp(1, BLOCKS_KEPT))?;
            Ok(blocks.iter().map(BlockView::from).collect::<Vec<_>>())
        });
        match found.await {
            Ok(found) => {
                feed.send("blocks", &json!({ "blocks": found }));
                let mut kept = feed.blocks.write();
                for block in found.into_iter().rev() {
                    kept.push_front(block);
                }
                kept.truncate(BLOCKS_KEPT);
                self.tip = tip;
                self.ledger_failed = false;
            }
            Err(problem) if !self.ledger_failed => {
                tracing::warn!(%problem, "the newest blocks cannot be shown");
                self.ledger_failed = true;
            }
            Err(_) => {}
        }
    }

    /// Tells of devices that changed.
    fn live(&mut self, feed: &Feed, context: &ApiContext) {
        let devices = context.live.devices();
        self.devices
            .retain(|id, _| devices.iter().any(|live| live.id == *id));
        let mut changes = Vec::new();
        for live in devices {
            let seen = self
                .devices
                .entry(live.id.clone())
                .or_insert_with(|| Seen::new(live.clone()));
            if !Arc::ptr_eq(&seen.live, &live) {
                *seen = Seen::new(live);
            }
            // The sender lives in `seen.live`, so the answer is never an error.
            if seen.version.has_changed().unwrap_or(true) {
                changes.push(seen.change(feed));
            }
        }
        if !changes.is_empty() {
            feed.send("live", &json!({ "devices": changes }));
        }
    }

    /// Tells of new refusals, oldest first.
    fn refusals(&mut self, feed: &Feed, context: &ApiContext) {
        let kept = context.stats.refusals();
        let new: Vec<_> = kept
            .iter()
            .take_while(|refusal| Some(*refusal) != self.refusal.as_ref())
            .map(RefusalView::from)
            .collect();
        if !new.is_empty() {
            feed.send("refusals", &json!({ "refusals": new }));
            self.refusal = kept.into_iter().next();
        }
    }
}

impl Seen {
    /// What changed since the last look; a verdict that needs somebody is told of on its own, too.
    fn change(&mut self, feed: &Feed) -> Change {
        self.version.mark_unchanged();
        let live = &self.live;
        let verdict = live.verdict();
        if verdict != self.verdict {
            if let Some(alarm) = verdict.as_ref().filter(|v| v.0 != VerdictClass::Accepted) {
                let view = VerdictView::from(alarm);
                feed.send("verdict", &json!({ "device": &*live.id, "verdict": view }));
            }
            self.verdict = verdict;
        }
        let mut samples = BTreeMap::new();
        for ((index, seen), tag) in self.samples.iter_mut().enumerate().zip(live.tags.iter()) {
            let newest = live.sample(index);
            if newest != *seen {
                if let Some(sample) = &newest {
                    samples.insert(tag.name.clone(), SampleView::from(sample));
                }
                *seen = newest;
            }
        }
        Change {
            id: live.id.to_string(),
            link: LinkView::from(&live.link()),
            points: live.points.load(Ordering::Relaxed),
            dropped: live.dropped.load(Ordering::Relaxed),
            reconnects: live.reconnects.load(Ordering::Relaxed),
            verdict: self.verdict.as_ref().map(VerdictView::from),
            samples,
        }
    }
}

/// An event as it goes over the wire (WHATWG HTML §9.2, server-sent events).
fn event(name: &str, data: &impl Serialize) -> Bytes {
    match serde_json::to_string(data) {
        // JSON as serde writes it has no line break, so one `data:` line carries it.
        Ok(json) => format!("event: {name}\ndata: {json}\n\n").into(),
        Err(error) => {
            tracing::error!(%error, name, "an event cannot be put into JSON");
            Bytes::from_static(b": lost\n\n")
        }
    }
}
