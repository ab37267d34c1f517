//! Historical access (OPC 10000-11): what was recorded, raw and processed, for who may see it.
//!
//! One request is one record a device, however many of its tags it names, and it is durable before the
//! first sample is decrypted. A request that has more to give ends with a continuation point; what
//! goes on from it was recorded with its beginning. Continuation points belong to their session, which
//! holds a bounded number of them.

mod aggregates;
mod at_time;
mod bounds;
pub(super) mod capabilities;
mod marks;
mod processed;
mod raw;
mod simple;

use super::nodes::Tags;
use super::origin::{UNIX_EPOCH_TICKS, date_time, variant};
use super::parts::Past;
use crate::access::{Caller, Gate, Right};
use crate::model::{DeviceId, Nanos, Value, now};
use crate::protocols::ports::{HistoryError, HistoryPort, PastRequest, PastSample, PastTag};
use async_trait::async_trait;
use futures_util::future::join_all;
use opcua::server::node_manager::HistoryNode;
use opcua::types::{
    DataValue, DateTime, NumericRange, ReadAtTimeDetails, ReadProcessedDetails,
    ReadRawModifiedDetails, StatusCode, TimestampsToReturn,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most values of all nodes together in one answer; there are continuation points for the rest. Some
/// clients take answers of 320 KiB at most.
pub(super) const MAX_VALUES: usize = 8_000;
/// Most bytes of their texts.
const MAX_TEXT: usize = 128 << 10;
/// Continuation points that a session may hold.
pub(super) const MAX_CONTINUATIONS: usize = 100;
/// Nanoseconds of a tick, OPC UA's unit of time.
const TICK: Nanos = 100;

/// Answers reads of history through the hub's port.
pub(super) struct History {
    port: Arc<dyn HistoryPort>,
    tags: Tags,
    gate: Gate,
}

/// A node's place in a request, and its tag.
type Opened = BTreeMap<usize, Arc<dyn PastTag>>;

impl History {
    pub(super) fn new(port: Arc<dyn HistoryPort>, tags: Tags, gate: Gate) -> Self {
        Self { port, tags, gate }
    }

    /// Opens the nodes that have no continuation point, device by device; a node that cannot be read
    /// is told so.
    async fn open(
        &self,
        caller: &Caller,
        nodes: &mut [&mut &mut HistoryNode],
        (from, to): (Nanos, Nanos),
        purpose: &'static str,
    ) -> Opened {
        let mut devices: BTreeMap<DeviceId, Vec<(usize, String)>> = BTreeMap::new();
        for (at, node) in nodes.iter_mut().enumerate() {
            if node.continuation_point().is_some() {
                continue;
            }
            match self.tag_of(node) {
                Ok((device, tag)) => devices.entry(device).or_default().push((at, tag)),
                Err(status) => node.set_status(status),
            }
        }
        let asked = devices.into_iter().map(|(device, of_device)| async move {
            let request = PastRequest {
                device: device.to_string(),
                tags: of_device.iter().map(|(_, tag)| tag.clone()).collect(),
                from,
                to,
                purpose,
            };
            let opened = self.port.open(caller, request).await;
            (of_device, opened)
        });
        let mut all = Opened::new();
        for (of_device, opened) in join_all(asked).await {
            match opened {
                Ok(tags) => {
                    let places = of_device.into_iter().map(|(at, _)| at);
                    all.extend(places.zip(tags));
                }
                Err(error) => {
                    let status = status_of(&error);
                    for (at, _) in of_device {
                        if let Some(node) = nodes.get_mut(at) {
                            node.set_status(status);
                        }
                    }
                }
            }
        }
        all
    }

    fn tag_of(&self, node: &HistoryNode) -> Result<(DeviceId, String), StatusCode> {
        if !matches!(node.index_range(), NumericRange::None) {
            return Err(StatusCode::BadIndexRangeInvalid);
        }
        if !node.data_encoding().is_null() {
            return Err(StatusCode::BadDataEncodingUnsupported);
        }
        let tag = self.tags.shown_by(node.node_id());
        let (device, tag) = tag.ok_or(StatusCode::BadHistoryOperationUnsupported)?;
        Ok((device, tag.to_string()))
    }
}

/// What a client is told.
fn status_of(error: &HistoryError) -> StatusCode {
    tracing::debug!(%error, "history was not given");
    match error {
        HistoryError::Denied(_) => StatusCode::BadUserAccessDenied,
        HistoryError::Unknown(_) => StatusCode::BadNoData,
        HistoryError::Unreadable(_) | HistoryError::NotRecorded(_) => {
            StatusCode::BadResourceUnavailable
        }
    }
}

/// Roles may have changed since a read began.
fn may_go_on(gate: &Gate, caller: &Caller) -> Result<(), StatusCode> {
    match gate.somewhere(&caller.user, Right::History, now()) {
        true => Ok(()),
        false => Err(StatusCode::BadUserAccessDenied),
    }
}

/// Checks which times are asked for: samples have those of their source and no others.
fn check_timestamps(timestamps: TimestampsToReturn) -> Result<(), StatusCode> {
    match timestamps {
        TimestampsToReturn::Source | TimestampsToReturn::Both => Ok(()),
        TimestampsToReturn::Server => Err(StatusCode::BadTimestampNotSupported),
        _ => Err(StatusCode::BadTimestampsToReturnInvalid),
    }
}

/// As the hub counts; `None` where none was given. Times beyond what it can count are its ends.
fn nanos(time: &DateTime) -> Option<Nanos> {
    if time.is_null() {
        return None;
    }
    let ticks = time.ticks().saturating_sub(UNIX_EPOCH_TICKS);
    Some(ticks.saturating_mul(TICK))
}

/// How many of `samples` fit, if their texts may have `most` bytes; one always does.
fn fitting(samples: &[PastSample], most: usize) -> usize {
    let bytes = |sample: &PastSample| match &sample.value {
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        _ => 0,
    };
    let mut left = most;
    let over = samples.iter().position(|sample| {
        let fits = bytes(sample) <= left;
        left = left.saturating_sub(bytes(sample));
        !fits
    });
    over.unwrap_or(samples.len()).max(1).min(samples.len())
}

fn data_value(time: Nanos, value: Option<Value>, status: u32) -> DataValue {
    DataValue {
        value: value.map(variant),
        status: Some(StatusCode::from(status)),
        source_timestamp: Some(date_time(time)),
        source_picoseconds: None,
        server_timestamp: None,
        server_picoseconds: None,
    }
}

/// A sample as it was recorded; the value of a Bad one means nothing.
fn raw_value(sample: PastSample) -> DataValue {
    let PastSample {
        time,
        value,
        quality,
    } = sample;
    let value = (!quality.is_bad()).then_some(value);
    data_value(time, value, quality.0)
}

#[async_trait]
impl Past for History {
    async fn raw(
        &self,
        caller: &Caller,
        details: &ReadRawModifiedDetails,
        nodes: &mut [&mut &mut HistoryNode],
        timestamps: TimestampsToReturn,
    ) -> Result<(), StatusCode> {
        check_timestamps(timestamps)?;
        raw::read(self, caller, details, nodes).await
    }

    async fn processed(
        &self,
        caller: &Caller,
        details: &ReadProcessedDetails,
        nodes: &mut [&mut &mut HistoryNode],
        timestamps: TimestampsToReturn,
    ) -> Result<(), StatusCode> {
        check_timestamps(timestamps)?;
        processed::read(self, caller, details, nodes).await
    }

    async fn at_time(
        &self,
        caller: &Caller,
        details: &ReadAtTimeDetails,
        nodes: &mut [&mut &mut HistoryNode],
        timestamps: TimestampsToReturn,
    ) -> Result<(), StatusCode> {
        check_timestamps(timestamps)?;
        at_time::read(self, caller, details, nodes).await
    }
}
