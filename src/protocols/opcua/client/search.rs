//! Subscribing variables, and looking again for those that are not there.

use super::config::{OpcUaConfig, OpcUaPoint, Report};
use super::node::NodeAddress;
use crate::model::{DeviceId, Quality, TagSpec};
use opcua::client::Session;
use opcua::types::{
    DataChangeFilter, DataChangeTrigger, DeadbandType, Error, ExtensionObject,
    MonitoredItemCreateRequest, MonitoringMode, MonitoringParameters, NodeId, ReadValueId,
    StatusCode, TimestampsToReturn,
};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// How often a variable that was missing is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Monitored items in one request.
const ITEMS_A_REQUEST: usize = 500;

/// The tags of a device and where their values are, by column.
pub(super) struct Wanted {
    pub(super) device: DeviceId,
    pub(super) tags: Arc<[TagSpec]>,
    pub(super) points: Vec<OpcUaPoint>,
    reported: Mutex<HashSet<usize>>,
}

impl Wanted {
    pub(super) fn new(device: DeviceId, tags: Vec<TagSpec>, points: Vec<OpcUaPoint>) -> Self {
        Self {
            device,
            tags: tags.into(),
            points,
            reported: Mutex::default(),
        }
    }

    fn node(&self, column: usize) -> Option<&NodeAddress> {
        self.points.get(column).map(|p| &p.node)
    }

    /// Logs a missing variable once, however often the device reconnects.
    pub(super) fn report(&self, column: usize, status: StatusCode) {
        let (Some(tag), Some(node)) = (self.tags.get(column), self.node(column)) else {
            return;
        };
        if self.reported.lock().insert(column) {
            tracing::warn!(
                device = %self.device,
                tag = %tag.name,
                %node,
                "the server gives no such variable; the tag is Bad until it does ({status})"
            );
        }
    }
}

/// Subscribes a session's variables.
pub(super) struct Search {
    pub(super) wanted: Arc<Wanted>,
    pub(super) config: OpcUaConfig,
    pub(super) session: Arc<Session>,
    pub(super) subscription: u32,
}

impl Search {
    /// Looks for the variables of `missing` until all are found.
    pub(super) async fn go_on(self, mut missing: Vec<usize>) {
        while !missing.is_empty() {
            tokio::time::sleep(LOOK_AGAIN).await;
            // A failure of the connection is seen and told by its driver.
            let Ok(still) = self.subscribe(missing.clone()).await else {
                return;
            };
            missing = still.into_iter().map(|(column, _)| column).collect();
        }
    }

    /// Subscribes the variables of `columns`; returns those that cannot be, and why.
    pub(super) async fn subscribe(
        &self,
        columns: Vec<usize>,
    ) -> Result<Vec<(usize, Quality)>, Error> {
        let by_uri = |c: &usize| {
            let node = self.wanted.node(*c);
            node.is_some_and(|n| n.namespace_uri().is_some())
        };
        if columns.iter().any(by_uri) {
            self.session.read_namespace_array().await?;
        }
        let mut missing = Vec::new();
        let mut found = Vec::new();
        for column in columns {
            let index = |uri: &str| self.session.get_namespace_index_from_cache(uri);
            match self
                .wanted
                .node(column)
                .and_then(|node| node.resolve(index))
            {
                Some(id) => found.push((column, id)),
                None => missing.push((column, StatusCode::BadNodeIdUnknown)),
            }
        }
        for chunk in found.chunks(ITEMS_A_REQUEST) {
            missing.extend(self.create_items(chunk).await?);
        }
        for (column, status) in &missing {
            self.wanted.report(*column, *status);
        }
        Ok(missing
            .into_iter()
            .map(|(column, status)| (column, Quality(status.bits())))
            .collect())
    }

    async fn create_items(
        &self,
        found: &[(usize, NodeId)],
    ) -> Result<Vec<(usize, StatusCode)>, Error> {
        let requests = found.iter().map(|(c, id)| self.request(*c, id, true));
        let refused = self.send(found, requests.collect()).await?;
        // Simple servers know no filter: better every value they report than none.
        let (filter, others): (Vec<_>, Vec<_>) = refused.into_iter().partition(|(_, status)| {
            matches!(
                *status,
                StatusCode::BadMonitoredItemFilterUnsupported
                    | StatusCode::BadMonitoredItemFilterInvalid
                    | StatusCode::BadFilterNotAllowed
                    | StatusCode::BadDeadbandFilterInvalid
            )
        });
        let again: Vec<_> = found
            .iter()
            .filter(|(column, _)| filter.iter().any(|(c, _)| c == column))
            .cloned()
            .collect();
        let mut missing = others;
        if !again.is_empty() {
            let requests = again.iter().map(|(c, id)| self.request(*c, id, false));
            missing.extend(self.send(&again, requests.collect()).await?);
        }
        Ok(missing)
    }

    async fn send(
        &self,
        found: &[(usize, NodeId)],
        requests: Vec<MonitoredItemCreateRequest>,
    ) -> Result<Vec<(usize, StatusCode)>, Error> {
        let results = self
            .session
            .create_monitored_items(self.subscription, TimestampsToReturn::Both, requests)
            .await?;
        let statuses = found.iter().zip(&results);
        Ok(statuses
            .map(|((column, _), created)| (*column, created.result.status_code))
            .filter(|(_, status)| status.is_bad())
            .collect())
    }

    fn request(&self, column: usize, id: &NodeId, filtered: bool) -> MonitoredItemCreateRequest {
        let deadband = self.wanted.points.get(column).and_then(|p| p.deadband);
        let filter = DataChangeFilter {
            trigger: match self.config.report {
                // A new timestamp would report what the deadband is to hold back.
                Report::EverySample if deadband.is_none() => {
                    DataChangeTrigger::StatusValueTimestamp
                }
                _ => DataChangeTrigger::StatusValue,
            },
            deadband_type: match deadband {
                Some(_) => DeadbandType::Absolute as u32,
                None => DeadbandType::None as u32,
            },
            deadband_value: deadband.unwrap_or(0.0),
        };
        MonitoredItemCreateRequest {
            item_to_monitor: ReadValueId::from(id.clone()),
            monitoring_mode: MonitoringMode::Reporting,
            requested_parameters: MonitoringParameters {
                client_handle: column as u32 + 1,
                sampling_interval: self.config.sampling_interval_ms.into(),
                filter: if filtered {
                    ExtensionObject::from_message(filter)
                } else {
                    ExtensionObject::null()
                },
                queue_size: self.config.queue_size.max(1),
                discard_oldest: true,
            },
        }
    }
}
