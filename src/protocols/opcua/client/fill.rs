//! Fills the gap of an outage from the server's history (OPC 10000-11): raw values, in order, each
//! once, with their own source times.

use super::convert::{date_time, sample};
use super::inbox::Arrival;
use super::line::Line;
use crate::model::{Nanos, now};
use opcua::client::HistoryReadAction;
use opcua::types::{
    AttributeId, ByteString, Error, ExtensionObject, HistoryData, HistoryReadResult,
    HistoryReadValueId, NodeId, ReadRawModifiedDetails, StatusCode, TimestampsToReturn, Variant,
};
use std::sync::Arc;
use std::time::Duration;

/// Values of a variable in one answer.
const PAGE: u32 = 1_000;
/// The last samples before an outage may be on their way or in the server's queue.
const BEFORE: Nanos = 5_000_000_000;
/// The server's clock may be ahead of ours.
const AHEAD: Nanos = 3_600_000_000_000;
/// `HistoryRead` among the bits of an access level (OPC 10000-3, 8.57).
const HISTORY_READ: u8 = 0x04;

/// How long to wait for changes before the history is read; slow variables have few to miss.
const FLOWING: Duration = Duration::from_millis(500);
/// Answers in a row without anything new after which a server is not believed to have more.
const IDLE_PAGES: usize = 3;

impl Line {
    /// Holds back the tags whose gap will be filled; call before anything new can come.
    pub(super) fn hold(&self) {
        if self.config.fill_gaps {
            self.inbox.hold(self.to_fill());
        }
    }

    /// Columns with a history that have been heard.
    fn to_fill(&self) -> Vec<usize> {
        let last = self.wanted.last.lock();
        let heard = |column: &usize| last.get(*column).is_some_and(|last| last.is_some());
        let with_history = self.wanted.with_history.lock();
        let columns = with_history.iter().flatten().copied();
        columns.filter(heard).collect()
    }

    /// Finds out which variables have a history.
    pub(super) async fn find_history(&self, columns: Vec<usize>) -> Result<(), Error> {
        let found: Vec<_> = columns
            .into_iter()
            .filter_map(|column| Some((column, self.node(column)?)))
            .collect();
        let nodes: Vec<_> = found.iter().map(|(_, node)| node.clone()).collect();
        let levels = self.read(&nodes, AttributeId::UserAccessLevel).await?;
        let readable = |value: &opcua::types::DataValue| match value.value {
            Some(Variant::Byte(level)) => level & HISTORY_READ != 0,
            _ => false,
        };
        let columns = found.iter().zip(&levels);
        let columns = columns.filter(|(_, level)| readable(level));
        *self.wanted.with_history.lock() = Some(columns.map(|((c, _), _)| *c).collect());
        Ok(())
    }
}

/// Fills the gaps of the columns that are held back, and lets them go on.
pub(super) async fn fill(line: Arc<Line>) {
    let columns = line.to_fill();
    let began = std::time::Instant::now();
    if !columns.is_empty() {
        line.inbox.flowing(FLOWING).await;
    }
    let mut filled = 0;
    let found: Vec<_> = columns
        .into_iter()
        .filter_map(|column| Some((column, line.node(column)?)))
        .collect();
    let from = start(&line);
    for chunk in found.chunks(line.limits.history.max(1)) {
        match fill_some(&line, chunk, from).await {
            Ok(samples) => filled += samples,
            Err(error) => tracing::warn!(
                device = %line.wanted.device,
                "the gap cannot be filled from the server's history ({error})"
            ),
        }
        for (column, _) in chunk {
            line.inbox.release(*column);
        }
    }
    line.inbox.release_all();
    if filled > 0 {
        let seconds = began.elapsed().as_secs_f64();
        tracing::info!(device = %line.wanted.device, samples = filled, seconds, "filled the gap");
    }
}

/// Where the gap begins: at the newest sample of all, less what may have been on its way. A tag that
/// did not change for hours has no gap of hours.
fn start(line: &Line) -> Nanos {
    let last = line.wanted.last.lock();
    let newest = last.iter().flatten().max().copied().unwrap_or(0);
    let longest = i64::from(line.config.fill_gaps_s).saturating_mul(1_000_000_000);
    let begin = newest.saturating_sub(BEFORE);
    let bound = now().saturating_sub(longest);
    if begin < bound {
        tracing::warn!(
            device = %line.wanted.device,
            seconds = line.config.fill_gaps_s,
            "the outage was longer than fill_gaps_s; what is older stays missing"
        );
    }
    begin.max(bound)
}

/// A variable whose history is being read.
struct Reading {
    column: usize,
    node: NodeId,
    point: ByteString,
    idle: usize,
}

async fn fill_some(line: &Line, chunk: &[(usize, NodeId)], from: Nanos) -> Result<usize, Error> {
    let details = ReadRawModifiedDetails {
        is_read_modified: false,
        start_time: date_time(from),
        end_time: date_time(now().saturating_add(AHEAD)),
        num_values_per_node: PAGE,
        return_bounds: false,
    };
    let mut reading: Vec<_> = chunk
        .iter()
        .map(|(column, node)| Reading {
            column: *column,
            node: node.clone(),
            point: ByteString::null(),
            idle: 0,
        })
        .collect();
    let mut filled = 0;
    while !reading.is_empty() {
        line.inbox.roomy().await;
        let asked: Vec<_> = reading
            .iter()
            .map(|r| HistoryReadValueId {
                node_id: r.node.clone(),
                continuation_point: r.point.clone(),
                ..Default::default()
            })
            .collect();
        let action = HistoryReadAction::ReadRawModifiedDetails(details.clone());
        let results = line
            .session
            .history_read(action, TimestampsToReturn::Source, false, &asked)
            .await?;
        let mut more = Vec::new();
        for (mut one, result) in reading.into_iter().zip(results) {
            let point = result.continuation_point.clone();
            let new = take(line, one.column, result);
            filled += new;
            one.idle = if new > 0 { 0 } else { one.idle + 1 };
            if !point.is_null_or_empty() && one.idle < IDLE_PAGES {
                one.point = point;
                more.push(one);
            }
        }
        reading = more;
    }
    Ok(filled)
}

/// Puts the values of an answer in; how many were new.
fn take(line: &Line, column: usize, result: HistoryReadResult) -> usize {
    let status = result.status_code;
    if status.is_bad() {
        if status != StatusCode::BadNoData {
            let tag = line.wanted.tags.get(column).map(|t| t.name.clone());
            tracing::debug!(device = %line.wanted.device, ?tag, "no history ({status})");
        }
        return 0;
    }
    let Some(kind) = line.wanted.tags.get(column).map(|t| t.kind) else {
        return 0;
    };
    let data: ExtensionObject = result.history_data;
    let values = data.into_inner_as::<HistoryData>();
    let values = values.and_then(|d| d.data_values).unwrap_or_default();
    let now = now();
    line.inbox.put_past(values.into_iter().map(|value| {
        let (time, value, quality) = sample(value, kind, now);
        Arrival {
            column,
            time,
            value,
            quality,
        }
    }))
}
