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
/// Answers in a row that come no further after which a server is not believed to have more.
const IDLE_PAGES: usize = 3;

impl Line {
    /// Holds back the tags whose gap will be filled; call before anything new can come.
    pub(super) fn hold(&self) {
        if self.config.fill_gaps {
            self.inbox.hold(self.to_fill());
        }
    }

    /// Before anything is subscribed after the start: finds out what can be filled.
    pub(super) async fn prepare_first_fill(&self) {
        self.inbox.start_anew();
        if self.wanted.with_history.lock().is_some() {
            return;
        }
        let all = (0..self.wanted.points.len()).collect();
        if let Err(error) = self.find_history(all).await {
            let device = &self.wanted.device;
            tracing::warn!(%device, "the gap before the start is not filled ({error})");
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
    let (newest, found) = gaps(&line, columns);
    let longest = i64::from(line.config.fill_gaps_s).saturating_mul(1_000_000_000);
    let bound = now().saturating_sub(longest);
    if newest.is_some_and(|newest| newest < bound) {
        tracing::warn!(
            device = %line.wanted.device,
            seconds = line.config.fill_gaps_s,
            "the outage was longer than fill_gaps_s; what is older stays missing"
        );
    }
    for (from, chunk) in alike(&found, newest.unwrap_or(0), line.limits.history.max(1)) {
        match fill_some(&line, &chunk, from.max(bound)).await {
            Ok(samples) => filled += samples,
            Err(error) => {
                line.inbox.lose_spared();
                tracing::warn!(
                    device = %line.wanted.device,
                    "the gap cannot be filled from the server's history ({error})"
                );
            }
        }
        for (column, _) in chunk {
            line.inbox.release(column);
        }
    }
    line.inbox.release_all();
    if filled > 0 {
        let seconds = began.elapsed().as_secs_f64();
        tracing::info!(device = %line.wanted.device, samples = filled, seconds, "filled the gap");
    }
}

/// A variable, where it is, and the time of its newest sample.
type Gap = (usize, NodeId, Nanos);

/// The newest sample of all, and the gap of each of these columns that the server has, the newest
/// first.
fn gaps(line: &Line, columns: Vec<usize>) -> (Option<Nanos>, Vec<Gap>) {
    let last = line.wanted.last.lock().clone();
    let gap = |column: usize| Some((column, line.node(column)?, (*last.get(column)?)?));
    let mut found: Vec<_> = columns.into_iter().filter_map(gap).collect();
    found.sort_by_key(|(column, _, last)| (std::cmp::Reverse(*last), *column));
    (last.into_iter().flatten().max(), found)
}

/// What is read together, and from when on: variables whose newest samples are of about the same age,
/// so that little is read again. One that was quiet for hours has little history in them.
fn alike(gaps: &[Gap], newest: Nanos, most: usize) -> Vec<(Nanos, Vec<(usize, NodeId)>)> {
    const MINUTE: Nanos = 60_000_000_000;
    let class = |gap: &Gap| match newest.saturating_sub(gap.2) / MINUTE {
        0 => 0,
        1..10 => 1,
        10..100 => 2,
        _ => 3,
    };
    let chunks = gaps.chunk_by(|a, b| class(a) == class(b));
    let chunks = chunks.flat_map(|same| same.chunks(most));
    let read = chunks.map(|chunk| {
        let oldest = chunk.iter().map(|gap| gap.2).min().unwrap_or(newest);
        let nodes = chunk
            .iter()
            .map(|(column, node, _)| (*column, node.clone()));
        (oldest.saturating_sub(BEFORE), nodes.collect())
    });
    read.collect()
}

/// A variable whose history is being read.
struct Reading {
    column: usize,
    node: NodeId,
    point: ByteString,
    /// The newest time that was read.
    reached: Nanos,
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
            reached: Nanos::MIN,
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
            let (new, newest) = take(line, one.column, result);
            filled += new;
            // What is known already may be long; a server that goes round in circles is not.
            one.idle = if newest > Some(one.reached) {
                0
            } else {
                one.idle + 1
            };
            one.reached = one.reached.max(newest.unwrap_or(Nanos::MIN));
            if !point.is_null_or_empty() && one.idle < IDLE_PAGES {
                one.point = point;
                more.push(one);
            }
        }
        reading = more;
    }
    Ok(filled)
}

/// Puts the values of an answer in; how many were new, and the time of the newest of all.
fn take(line: &Line, column: usize, result: HistoryReadResult) -> (usize, Option<Nanos>) {
    let status = result.status_code;
    if status.is_bad() {
        if status != StatusCode::BadNoData {
            let tag = line.wanted.tags.get(column).map(|t| t.name.clone());
            tracing::debug!(device = %line.wanted.device, ?tag, "no history ({status})");
        }
        return (0, None);
    }
    let Some(kind) = line.wanted.tags.get(column).map(|t| t.kind) else {
        return (0, None);
    };
    let data: ExtensionObject = result.history_data;
    let values = data.into_inner_as::<HistoryData>();
    let values = values.and_then(|d| d.data_values).unwrap_or_default();
    let now = now();
    let mut newest = None;
    let new = line.inbox.put_past(values.into_iter().map(|value| {
        let (time, value, quality) = sample(value, kind, now);
        newest = newest.max(Some(time));
        Arrival {
            column,
            time,
            value,
            quality,
        }
    }));
    (new, newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_about_the_same_age_are_read_together() {
        const S: Nanos = 1_000_000_000;
        let newest = 100_000 * S;
        let gap =
            |column: usize, ago: i64| (column, NodeId::new(2, column as u32), newest - ago * S);
        let gaps = [gap(0, 0), gap(1, 3), gap(2, 4), gap(3, 70), gap(4, 80_000)];
        let read = alike(&gaps, newest, 2);
        let columns = |at: usize| read[at].1.iter().map(|(c, _)| *c).collect::<Vec<_>>();
        assert_eq!((columns(0), columns(1)), (vec![0, 1], vec![2]));
        assert_eq!((columns(2), columns(3)), (vec![3], vec![4]));
        let from = |at: usize| (newest - read[at].0) / S;
        assert_eq!([from(0), from(1), from(2), from(3)], [8, 9, 75, 80_005]);
    }
}
