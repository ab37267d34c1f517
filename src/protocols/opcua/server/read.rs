//! One request to read many variables. Most of them are neighbours of one device and of one moment:
//! its live state is locked once for a run of them, and a time is made into OPC UA's once.

use super::origin::{Origin, Reading, date_time, variant};
use super::points::Group;
use crate::live_view::{DeviceLive, Shown};
use crate::model::Nanos;
use opcua::types::{DataValue, DateTime, NodeId, StatusCode, TimestampsToReturn};
use std::sync::Arc;

/// Variables that are read under one lock: who puts samples in waits for no more.
const RUN: usize = 256;

/// The variables of one request.
pub(super) struct Reader<'a> {
    now: DateTime,
    source: bool,
    server: bool,
    held: Option<Held<'a>>,
    /// The variable that was read last.
    last: Option<(&'a Arc<Group>, usize)>,
    /// The time that was made last.
    made: Option<(Nanos, DateTime)>,
}

/// A device's live state, under lock.
struct Held<'a> {
    device: &'a Arc<DeviceLive>,
    shown: Shown<'a>,
    left: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(timestamps: TimestampsToReturn) -> Self {
        use TimestampsToReturn::{Both, Server, Source};
        Self {
            now: DateTime::now(),
            source: matches!(timestamps, Source | Both),
            server: matches!(timestamps, Server | Both),
            held: None,
            last: None,
            made: None,
        }
    }

    /// The variable after the one that was read last, if it is `node`: who reads a device reads its
    /// variables in their order, as a rule, and to compare is quicker than to look up.
    pub(super) fn next_is(&self, node: &NodeId) -> Option<(&'a Arc<Group>, usize)> {
        let (group, last) = self.last?;
        let next = last + 1;
        (group.nodes.get(next)? == node).then_some((group, next))
    }

    /// What variable `index` of a group says now, with the times that were asked for.
    pub(super) fn read(&mut self, group: &'a Arc<Group>, index: usize) -> DataValue {
        self.last = Some((group, index));
        let mut data = match &group.origin {
            Origin::Device(device) => self.read_tag(device, index),
            other => {
                // It takes locks of its own, which may be this one.
                self.release();
                other.read(index).data_value_at(self.now)
            }
        };
        data.source_timestamp = data.source_timestamp.filter(|_| self.source);
        data.server_timestamp = data.server_timestamp.filter(|_| self.server);
        // Good is said by saying nothing (OPC 10000-6, 5.2.2.17), which is less to send.
        data.status = data.status.filter(|status| *status != StatusCode::Good);
        data
    }

    fn read_tag(&mut self, device: &'a Arc<DeviceLive>, index: usize) -> DataValue {
        let same = |held: &&mut Held<'_>| held.left > 0 && Arc::ptr_eq(held.device, device);
        if let Some(held) = self.held.as_mut().filter(same) {
            held.left -= 1;
        } else {
            // Given up first: it may be the same device's.
            self.held = None;
            self.held = Some(Held {
                device,
                shown: device.shown(),
                left: RUN - 1,
            });
        }
        let sample = self.held.as_ref().and_then(|h| h.shown.sample(index));
        let Some((sample, quality)) = sample else {
            return Reading::waiting().data_value_at(self.now);
        };
        let time = match self.made {
            Some((nanos, time)) if nanos == sample.time => time,
            _ => date_time(sample.time),
        };
        self.made = Some((sample.time, time));
        DataValue {
            // A Bad sample's value means nothing, so none is given.
            value: (!quality.is_bad()).then(|| variant(sample.value.clone())),
            status: Some(StatusCode::from(quality.0)),
            source_timestamp: Some(time),
            source_picoseconds: None,
            server_timestamp: Some(self.now),
            server_picoseconds: None,
        }
    }

    /// Gives up the lock: what comes next may take it itself.
    fn release(&mut self) {
        self.held = None;
    }
}
