//! One subscription on the server, and the items that it monitors (OPC 10000-4, 5.13 and 5.14).

use super::config::Report;
use super::handles::Handles;
use super::line::{Line, incomplete};
use super::session::silence;
use opcua::client::UARequest;
use opcua::client::services::{CreateMonitoredItems, CreateSubscription, DeleteMonitoredItems};
use opcua::types::{
    DataChangeFilter, DataChangeTrigger, DeadbandType, Error, ExtensionObject,
    MonitoredItemCreateRequest, MonitoringMode, MonitoringParameters, NodeId, ReadValueId,
    StatusCode, TimestampsToReturn,
};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Longest time between two signs of life of a subscription.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Subscribing is more work than answering: so many times the silence that is taken for an end.
const PATIENCE: u32 = 4;
/// How long the server keeps a subscription that nobody asks about.
const LIFETIME: Duration = Duration::from_secs(60);

/// A subscription with some of a device's items.
pub(super) struct Part {
    pub(super) id: u32,
    /// Between two signs of life, as the server granted it.
    pub(super) keep_alive: Duration,
    /// Sequence number of the message that comes next; `None` before the first.
    pub(super) expected: Mutex<Option<u32>>,
    /// How many items it has.
    count: AtomicUsize,
}

/// What came of asking for items.
pub(super) enum Asked {
    /// The answer for each, in order: the item's id, or why there is none.
    Answered(Vec<Result<u32, StatusCode>>),
    /// They do not fit in; fewer may.
    NoRoom,
}

impl Part {
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
            keep_alive: Duration::from_secs_f64(keep_alive.clamp(0.0, 3_600.0)),
            expected: Mutex::default(),
            count: AtomicUsize::new(0),
        }))
    }

    /// How many items it has.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Asks for items in one request; an error when the server takes no request of this length, or
    /// the connection broke.
    pub(super) async fn create_items(
        &self,
        line: &Line,
        handles: Handles,
        (chunk, filtered): (&[(usize, NodeId)], bool),
    ) -> Result<Asked, Error> {
        let items = chunk
            .iter()
            .map(|(c, id)| request(line, handles.of(*c), (*c, id), filtered));
        let create = CreateMonitoredItems::new(self.id, &line.session)
            .timeout(silence(&line.config) * PATIENCE)
            .timestamps_to_return(TimestampsToReturn::Both)
            .items_to_create(items.collect());
        let results = match create.send(line.session.channel()).await {
            Ok(created) if created.results.len() == chunk.len() => created.results,
            Ok(_) => return Err(incomplete()),
            Err(error) if error.status() == StatusCode::BadTooManyMonitoredItems => {
                return Ok(Asked::NoRoom);
            }
            Err(error) => return Err(error),
        };
        let one = |created: &opcua::types::MonitoredItemCreateResult| match created.status_code {
            status if status.is_bad() => Err(status),
            _ => Ok(created.monitored_item_id),
        };
        let answers: Vec<_> = results.iter().map(|created| one(&created.result)).collect();
        let made = answers.iter().filter(|answer| answer.is_ok()).count();
        self.count.fetch_add(made, Ordering::Relaxed);
        Ok(Asked::Answered(answers))
    }

    /// Gives up items. Many servers have given them up already when their node went.
    pub(super) async fn delete_items(&self, line: &Line, items: &[u32]) {
        self.count
            .fetch_sub(items.len().min(self.count()), Ordering::Relaxed);
        for chunk in items.chunks(line.limits.items.max(1)) {
            let delete =
                DeleteMonitoredItems::new(self.id, &line.session).items_to_delete(chunk.to_vec());
            let _ = delete.send(line.session.channel()).await;
        }
    }
}

fn request(
    line: &Line,
    client_handle: u32,
    (column, id): (usize, &NodeId),
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
