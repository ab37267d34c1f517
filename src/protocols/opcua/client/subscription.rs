//! A device's subscription: its monitored items, in as many subscriptions on the server as they need.
//!
//! Servers limit the items of a subscription (`MaxMonitoredItemsPerSubscription`, OPC 10000-5, 6.3.2);
//! small controllers to a few hundred. What does not fit into one goes into the next. A tag is in one
//! of them only, so the order of its samples is that of one sequence of messages.

use super::handles::Handles;
use super::line::{Line, Pace};
use super::part::{Asked, Part};
use crate::model::Quality;
use opcua::client::UARequest;
use opcua::client::services::DeleteSubscriptions;
use opcua::types::{DateTime, Error, NodeId, StatusCode};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Subscriptions on the server that one device has at most.
const MOST_PARTS: usize = 256;
/// How long a server that has no room is not asked for another subscription.
const NO_ROOM: Duration = Duration::from_secs(30);

/// A device's subscription. It outlives the connection, when the server lets it.
pub(super) struct Subscription {
    /// When the server started that it is on.
    started: Option<DateTime>,
    /// How its items are told from others.
    pub(super) handles: Handles,
    parts: RwLock<Vec<Arc<Part>>>,
    /// Items that fit into one of the parts, as far as the server has shown.
    room: AtomicUsize,
    /// When the server had no room for another part, or in it.
    full: Mutex<Option<Instant>>,
    /// Monitored items by column: the part and the item.
    items: Mutex<HashMap<usize, (u32, u32)>>,
    /// Columns without one.
    missing: Mutex<BTreeSet<usize>>,
    /// Columns whose node the server said to be gone.
    pub(super) gone: Mutex<BTreeSet<usize>>,
    /// Messages were lost for good.
    pub(super) gap: AtomicBool,
    /// Wakes when `gone` or `gap` changed.
    pub(super) news: Notify,
}

impl Subscription {
    /// Makes a subscription without items.
    pub(super) async fn create(line: &Line) -> Result<Arc<Self>, Error> {
        let first = Part::create(line).await?;
        Ok(Arc::new(Self {
            started: line.started,
            handles: Handles::random(line.wanted.points.len()),
            parts: RwLock::new(vec![first]),
            room: AtomicUsize::new(usize::MAX),
            full: Mutex::default(),
            items: Mutex::default(),
            missing: Mutex::default(),
            gone: Mutex::default(),
            gap: AtomicBool::new(false),
            news: Notify::new(),
        }))
    }

    /// Whether it can still be there: after a restart its numbers may be another client's, whose
    /// values would be taken for ours.
    pub(super) fn may_be_on(&self, line: &Line) -> bool {
        self.started.is_some() && self.started == line.started
    }

    /// Ends it on the server, as far as that still can be told.
    pub(super) async fn delete(&self, line: &Line) {
        let ids = self.parts().iter().map(|part| part.id).collect();
        delete(line, ids).await;
    }

    /// The subscriptions on the server.
    pub(super) fn parts(&self) -> Vec<Arc<Part>> {
        self.parts.read().clone()
    }

    /// One of them.
    pub(super) fn part(&self, id: u32) -> Option<Arc<Part>> {
        self.parts.read().iter().find(|p| p.id == id).cloned()
    }

    /// Columns without an item.
    pub(super) fn missing(&self) -> Vec<usize> {
        self.missing.lock().iter().copied().collect()
    }

    /// Columns with an item.
    pub(super) fn present(&self) -> Vec<usize> {
        self.items.lock().keys().copied().collect()
    }

    /// Notes that a node is gone.
    pub(super) fn lose(&self, column: usize) {
        self.gone.lock().insert(column);
        self.news.notify_one();
    }

    /// Notes that messages are lost.
    pub(super) fn note_gap(&self) {
        self.gap.store(true, Ordering::SeqCst);
        self.news.notify_one();
    }

    /// Subscribes the variables of `columns`; returns those that cannot be, and why.
    pub(super) async fn subscribe(
        &self,
        line: &Line,
        columns: &[usize],
    ) -> Result<Vec<(usize, Quality)>, Error> {
        let mut refused = Vec::new();
        let mut found = Vec::new();
        for column in columns {
            match line.node(*column) {
                Some(id) => found.push((*column, id)),
                None => refused.push((*column, StatusCode::BadNodeIdUnknown)),
            }
        }
        let without = self.create_items(line, &found, true).await?;
        // Simple servers know no filter: better every value they report than none.
        let (filter, others): (Vec<_>, Vec<_>) = without.into_iter().partition(|(_, status)| {
            matches!(
                *status,
                StatusCode::BadMonitoredItemFilterUnsupported
                    | StatusCode::BadMonitoredItemFilterInvalid
                    | StatusCode::BadFilterNotAllowed
                    | StatusCode::BadDeadbandFilterInvalid
            )
        });
        refused.extend(others);
        if !filter.is_empty() {
            let filter: BTreeSet<_> = filter.into_iter().map(|(column, _)| column).collect();
            found.retain(|(column, _)| filter.contains(column));
            refused.extend(self.create_items(line, &found, false).await?);
        }
        for (column, status) in &refused {
            line.wanted.report(*column, *status);
        }
        let quality = |(column, status): (usize, StatusCode)| (column, Quality(status.bits()));
        let refused: Vec<_> = refused.into_iter().map(quality).collect();
        let mut missing = self.missing.lock();
        for column in columns {
            missing.remove(column);
        }
        missing.extend(refused.iter().map(|(column, _)| *column));
        for column in columns.iter().filter(|c| !missing.contains(c)) {
            line.wanted.found(*column);
        }
        Ok(refused)
    }

    async fn create_items(
        &self,
        line: &Line,
        found: &[(usize, NodeId)],
        filtered: bool,
    ) -> Result<Vec<(usize, StatusCode)>, Error> {
        let mut refused = Vec::new();
        let mut rest = found.to_vec();
        let mut pace = Pace(line.limits.items);
        while !rest.is_empty() {
            let Some(part) = self.part_with_room(line).await? else {
                let why = StatusCode::BadTooManyMonitoredItems;
                refused.extend(rest.iter().map(|(column, _)| (*column, why)));
                break;
            };
            let fit = self
                .room
                .load(Ordering::Relaxed)
                .saturating_sub(part.count());
            let chunk: Vec<_> = rest
                .iter()
                .take(pace.0.clamp(1, fit.max(1)))
                .cloned()
                .collect();
            match part
                .create_items(line, self.handles, (&chunk, filtered))
                .await
            {
                Ok(Asked::Answered(answers)) => {
                    rest.drain(..chunk.len());
                    let mut again = self.note_answers(part.id, chunk, answers, &mut refused);
                    if !again.is_empty() {
                        again.append(&mut rest);
                        rest = again;
                        self.note_full(line, &part).await;
                    }
                }
                // Fewer may fit.
                Ok(Asked::NoRoom) if chunk.len() > 1 => pace = Pace(chunk.len() / 2),
                Ok(Asked::NoRoom) => {
                    self.note_full(line, &part).await;
                    pace = Pace(line.limits.items);
                }
                Err(error) => pace.slower(error, chunk.len())?,
            }
        }
        Ok(refused)
    }

    /// Takes what came of a request; those that found no room.
    fn note_answers(
        &self,
        part: u32,
        chunk: Vec<(usize, NodeId)>,
        answers: Vec<Result<u32, StatusCode>>,
        refused: &mut Vec<(usize, StatusCode)>,
    ) -> Vec<(usize, NodeId)> {
        let mut again = Vec::new();
        let mut items = self.items.lock();
        for (one, answer) in chunk.into_iter().zip(answers) {
            match answer {
                Ok(item) => drop(items.insert(one.0, (part, item))),
                Err(StatusCode::BadTooManyMonitoredItems) => again.push(one),
                Err(status) => refused.push((one.0, status)),
            }
        }
        again
    }

    /// A part that has room, made if need be; `None` when the server gives no more.
    async fn part_with_room(&self, line: &Line) -> Result<Option<Arc<Part>>, Error> {
        let parts = self.parts();
        let room = self.room.load(Ordering::Relaxed);
        if let Some(part) = parts.iter().find(|part| part.count() < room) {
            return Ok(Some(part.clone()));
        }
        let is_full = |at: Instant| at.elapsed() < NO_ROOM;
        if parts.len() >= MOST_PARTS || self.full.lock().is_some_and(is_full) {
            return Ok(None);
        }
        match Part::create(line).await {
            Ok(part) => {
                self.parts.write().push(part.clone());
                Ok(Some(part))
            }
            Err(error) if is_no_room(error.status()) => {
                *self.full.lock() = Some(Instant::now());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Notes that not one item more fits into a part.
    async fn note_full(&self, line: &Line, part: &Arc<Part>) {
        let count = part.count();
        if count > 0 {
            self.room.fetch_min(count, Ordering::Relaxed);
            return;
        }
        // Not even the first fits into a new one: it is the session, or the server, that is full.
        *self.full.lock() = Some(Instant::now());
        self.parts.write().retain(|p| p.id != part.id);
        delete(line, vec![part.id]).await;
    }

    /// Gives up the items of nodes that are gone; they are looked for again.
    pub(super) async fn forget(&self, line: &Line, columns: &BTreeSet<usize>) {
        let mut of_part = BTreeMap::<u32, Vec<u32>>::new();
        {
            let mut items = self.items.lock();
            for (part, item) in columns.iter().filter_map(|c| items.remove(c)) {
                of_part.entry(part).or_default().push(item);
            }
        }
        self.missing.lock().extend(columns);
        for (part, items) in of_part {
            if let Some(part) = self.part(part) {
                part.delete_items(line, &items).await;
            }
        }
    }
}

/// Ends subscriptions, in one request: a server that is silent is waited for once.
async fn delete(line: &Line, ids: Vec<u32>) {
    let delete = DeleteSubscriptions::new(&line.session);
    let delete = ids
        .into_iter()
        .fold(delete, DeleteSubscriptions::subscription);
    let _ = delete.send(line.session.channel()).await;
}

/// Whether a server said that it has no subscription to give.
fn is_no_room(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BadTooManySubscriptions
            | StatusCode::BadTooManyOperations
            | StatusCode::BadResourceUnavailable
            | StatusCode::BadOutOfMemory
    )
}
