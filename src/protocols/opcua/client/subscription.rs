//! A subscription on the server and its monitored items.

use super::config::Report;
use super::line::{Line, Pace, incomplete};
use super::session::silence;
use crate::model::Quality;
use opcua::client::UARequest;
use opcua::client::services::{
    CreateMonitoredItems, CreateSubscription, DeleteMonitoredItems, DeleteSubscriptions,
};
use opcua::types::{
    DataChangeFilter, DataChangeTrigger, DateTime, DeadbandType, Error, ExtensionObject,
    MonitoredItemCreateRequest, MonitoringMode, MonitoringParameters, NodeId, ReadValueId,
    StatusCode, TimestampsToReturn,
};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Longest time between two signs of life of a subscription.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Subscribing is more work than answering: so many times the silence that is taken for an end.
const PATIENCE: u32 = 4;
/// How long the server keeps a subscription that nobody asks about.
const LIFETIME: Duration = Duration::from_secs(60);

/// A subscription. It outlives the connection, when the server lets it.
pub(super) struct Subscription {
    pub(super) id: u32,
    /// When the server started that it is on.
    started: Option<DateTime>,
    /// How its items are told from others.
    pub(super) handles: Handles,
    /// Between two signs of life, as the server granted it.
    pub(super) keep_alive: Duration,
    /// Sequence number of the message that comes next; `None` before the first.
    pub(super) expected: Mutex<Option<u32>>,
    /// Monitored items by column.
    items: Mutex<HashMap<usize, u32>>,
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
        let interval = Duration::from_millis(line.config.publishing_interval_ms.max(1).into());
        let counts = |time: Duration| {
            let count = time.as_millis().div_ceil(interval.as_millis().max(1));
            u32::try_from(count).unwrap_or(u32::MAX).max(1)
        };
        let keep_alives = counts(KEEP_ALIVE);
        let created = CreateSubscription::new(&line.session)
            .timeout(silence(&line.config) * PATIENCE)
            .publishing_interval(interval)
            .max_keep_alive_count(keep_alives)
            .max_lifetime_count(counts(LIFETIME).max(keep_alives.saturating_mul(3)))
            .publishing_enabled(true)
            .send(line.session.channel())
            .await?;
        let granted = created.revised_publishing_interval.clamp(0.0, 3.6e6) / 1_000.0;
        let keep_alive = granted * f64::from(created.revised_max_keep_alive_count);
        Ok(Arc::new(Self {
            id: created.subscription_id,
            started: line.started,
            handles: Handles::random(line.wanted.points.len()),
            keep_alive: Duration::from_secs_f64(keep_alive.clamp(0.0, 3_600.0)),
            expected: Mutex::default(),
            items: Mutex::default(),
            missing: Mutex::default(),
            gone: Mutex::default(),
            gap: AtomicBool::new(false),
            news: Notify::new(),
        }))
    }

    /// Whether it can still be there: after a restart its number may be another client's, whose
    /// values would be taken for ours.
    pub(super) fn may_be_on(&self, line: &Line) -> bool {
        self.started.is_some() && self.started == line.started
    }

    /// Ends it on the server, as far as that still can be told.
    pub(super) async fn delete(&self, line: &Line) {
        let delete = DeleteSubscriptions::new(&line.session).subscription(self.id);
        let _ = delete.send(line.session.channel()).await;
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
        let mut pace = Pace(line.limits.items);
        let mut done = 0;
        while let Some(chunk) = pace.next(found, done) {
            let handles = self.handles;
            let items = chunk
                .iter()
                .map(|(c, id)| request(line, handles.of(*c), *c, id, filtered));
            let create = CreateMonitoredItems::new(self.id, &line.session)
                .timeout(silence(&line.config) * PATIENCE)
                .timestamps_to_return(TimestampsToReturn::Both)
                .items_to_create(items.collect());
            let results = match create.send(line.session.channel()).await {
                Ok(created) if created.results.len() == chunk.len() => created.results,
                Ok(_) => return Err(incomplete()),
                // Fewer may fit; when not even one does, it has no room for the others either.
                Err(error) if error.status() == StatusCode::BadTooManyMonitoredItems => {
                    if chunk.len() > 1 {
                        pace = Pace(chunk.len() / 2);
                        continue;
                    }
                    let rest = found.get(done..).unwrap_or_default();
                    refused.extend(rest.iter().map(|(column, _)| (*column, error.status())));
                    return Ok(refused);
                }
                Err(error) => {
                    pace.slower(error, chunk.len())?;
                    continue;
                }
            };
            let mut items = self.items.lock();
            for ((column, _), created) in chunk.iter().zip(results) {
                let status = created.result.status_code;
                if status.is_bad() {
                    refused.push((*column, status));
                } else {
                    items.insert(*column, created.result.monitored_item_id);
                }
            }
            done += chunk.len();
        }
        Ok(refused)
    }

    /// Gives up the items of nodes that are gone; they are looked for again.
    pub(super) async fn forget(&self, line: &Line, columns: &BTreeSet<usize>) {
        let items: Vec<_> = {
            let mut items = self.items.lock();
            columns.iter().filter_map(|c| items.remove(c)).collect()
        };
        self.missing.lock().extend(columns);
        for chunk in items.chunks(line.limits.items.max(1)) {
            // Many servers have given them up already.
            let delete =
                DeleteMonitoredItems::new(self.id, &line.session).items_to_delete(chunk.to_vec());
            let _ = delete.send(line.session.channel()).await;
        }
    }
}

fn request(
    line: &Line,
    client_handle: u32,
    column: usize,
    id: &NodeId,
    filtered: bool,
) -> MonitoredItemCreateRequest {
    let config = &line.config;
    let point = line.wanted.points.get(column);
    let absolute = point.and_then(|p| p.deadband);
    let percent = point.and_then(|p| p.deadband_percent);
    let (kind, width) = match (absolute, percent) {
        (Some(width), _) => (DeadbandType::Absolute, width),
        (None, Some(width)) => (DeadbandType::Percent, width),
        (None, None) => (DeadbandType::None, 0.0),
    };
    let filter = DataChangeFilter {
        trigger: match config.report {
            // A new timestamp would report what the deadband is to hold back.
            Report::EverySample if kind == DeadbandType::None => {
                DataChangeTrigger::StatusValueTimestamp
            }
            _ => DataChangeTrigger::StatusValue,
        },
        deadband_type: kind as u32,
        deadband_value: width,
    };
    let sampling = point.and_then(|p| p.sampling_interval_ms);
    let queue = point.and_then(|p| p.queue_size);
    MonitoredItemCreateRequest {
        item_to_monitor: ReadValueId::from(id.clone()),
        monitoring_mode: MonitoringMode::Reporting,
        requested_parameters: MonitoringParameters {
            client_handle,
            sampling_interval: sampling.unwrap_or(config.sampling_interval_ms).into(),
            filter: if filtered {
                ExtensionObject::from_message(filter)
            } else {
                ExtensionObject::null()
            },
            queue_size: queue.unwrap_or(config.queue_size).max(1),
            discard_oldest: true,
        },
    }
}

/// The client handles of a subscription: a range that begins at random, so that values of another
/// one, which a server mistakes for ours, are not taken for ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handles {
    first: u32,
    count: u32,
}

impl Handles {
    fn random(count: usize) -> Self {
        Self::from(getrandom::u32().unwrap_or_default(), count)
    }

    /// The range that `random` chooses. It leaves out 0: the stack gives that a meaning of its own.
    fn from(random: u32, count: usize) -> Self {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let first = 1 + random % (u32::MAX - count).max(1);
        Self { first, count }
    }

    /// The client handle of a column.
    fn of(self, column: usize) -> u32 {
        let column = u32::try_from(column).unwrap_or(u32::MAX);
        self.first.saturating_add(column)
    }

    /// The column of a client handle; `None` of one that is not ours.
    pub(super) fn column(self, handle: u32) -> Option<usize> {
        let column = handle.checked_sub(self.first)?;
        (column < self.count).then_some(column as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_of_one_column_or_not_ours() {
        for random in [0, 1, 7, u32::MAX / 2, u32::MAX - 1, u32::MAX] {
            let handles = Handles::from(random, 1_000);
            for column in [0, 1, 999] {
                let handle = handles.of(column);
                assert_ne!(handle, 0);
                assert_eq!(handles.column(handle), Some(column), "{random}");
            }
            assert_eq!(handles.column(handles.of(0) - 1), None);
            assert_eq!(handles.column(handles.of(999).wrapping_add(1)), None);
        }
    }
}
