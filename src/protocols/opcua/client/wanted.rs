//! What is read from a server, and what is remembered of it over its connections.

use super::config::OpcUaPoint;
use super::inbox::LastTimes;
use super::names::FirstNames;
use crate::model::{DeviceId, TagSpec};
use opcua::types::StatusCode;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;

/// The tags of a device and where their values are, by column.
pub(super) struct Wanted {
    pub(super) device: DeviceId,
    pub(super) tags: Arc<[TagSpec]>,
    pub(super) points: Vec<OpcUaPoint>,
    pub(super) names: FirstNames,
    pub(super) last: LastTimes,
    /// Columns whose history the server keeps; `None` before it was asked.
    pub(super) with_history: Mutex<Option<Vec<usize>>>,
    reported: Mutex<HashSet<usize>>,
}

impl Wanted {
    pub(super) fn new(
        device: DeviceId,
        (tags, points): (Vec<TagSpec>, Vec<OpcUaPoint>),
        names: FirstNames,
    ) -> Self {
        let last = vec![None; points.len()];
        Self {
            device,
            tags: tags.into(),
            points,
            names,
            last: Arc::new(Mutex::new(last)),
            with_history: Mutex::default(),
            reported: Mutex::default(),
        }
    }

    /// Logs a missing variable once, however often the device reconnects, until it is found.
    pub(super) fn report(&self, column: usize, status: StatusCode) {
        let (Some(tag), Some(point)) = (self.tags.get(column), self.points.get(column)) else {
            return;
        };
        if self.reported.lock().insert(column) {
            tracing::warn!(
                device = %self.device,
                tag = %tag.name,
                node = %point.node,
                "the server gives no such variable; the tag is Bad until it does ({status})"
            );
        }
    }

    /// Logs that a missing variable is there.
    pub(super) fn found(&self, column: usize) {
        if let Some(tag) = self.tags.get(column)
            && self.reported.lock().remove(&column)
        {
            tracing::info!(device = %self.device, tag = %tag.name, "the variable is there again");
        }
    }
}
