//! ReadAtTime (OPC 10000-11, 6.5.5): values at given times, interpolated where none was recorded.

use super::aggregates::{INTERPOLATED, with_bits};
use super::bounds::{Origin, Rules, bound};
use super::{History, MAX_VALUES, TICK, data_value, nanos, status_of};
use crate::access::Caller;
use crate::model::Nanos;
use crate::protocols::ports::{Direction, HistoryError, PastSample, PastTag};
use opcua::server::node_manager::HistoryNode;
use opcua::types::{DataValue, HistoryData, ReadAtTimeDetails, StatusCode};

/// Most times of one request, of all nodes together: each is looked up on its own.
const MAX_TIMES: usize = 2_000;
/// Samples looked through for one that counts, on either side of a time.
pub(super) const REACH: usize = 64;

pub(super) async fn read(
    history: &History,
    caller: &Caller,
    details: &ReadAtTimeDetails,
    nodes: &mut [&mut &mut HistoryNode],
) -> Result<(), StatusCode> {
    let asked = details.req_times.as_deref().unwrap_or_default();
    let times: Option<Vec<Nanos>> = asked.iter().map(nanos).collect();
    let times = times.ok_or(StatusCode::BadInvalidTimestampArgument)?;
    if times.len().saturating_mul(nodes.len()) > MAX_TIMES.min(MAX_VALUES) {
        return Err(StatusCode::BadTooManyOperations);
    }
    let (Some(first), Some(last)) = (times.iter().min(), times.iter().max()) else {
        return Err(StatusCode::BadNothingToDo);
    };
    let range = (*first, last.saturating_add(TICK));
    let opened = history.open(caller, nodes, range, "at-time").await;
    for (at, node) in nodes.iter_mut().enumerate() {
        if node.continuation_point().is_some() {
            // Nothing here ever leaves a continuation point.
            node.set_status(StatusCode::BadContinuationPointInvalid);
            continue;
        }
        let Some(tag) = opened.get(&at) else { continue };
        match values(tag.as_ref(), &times).await {
            Ok(values) => {
                node.set_result(HistoryData {
                    data_values: Some(values),
                });
                node.set_status(StatusCode::Good);
            }
            Err(error) => node.set_status(status_of(&error)),
        }
    }
    Ok(())
}

async fn values(tag: &dyn PastTag, times: &[Nanos]) -> Result<Vec<DataValue>, HistoryError> {
    let mut values = Vec::with_capacity(times.len());
    for time in times {
        values.push(value(tag, *time).await?);
    }
    Ok(values)
}

async fn value(tag: &dyn PastTag, time: Nanos) -> Result<DataValue, HistoryError> {
    // A sample of the same tick is one of the same time.
    let same = |s: &PastSample| s.time.div_euclid(TICK) == time.div_euclid(TICK);
    let mut later = tag.near(time, Direction::Forward, 1).await?;
    let (exact, rules) = (later.first().is_some_and(same), Rules::DEFAULT);
    if exact || later.iter().any(|s| rules.is_bad(s.quality)) {
        later = tag.near(time, Direction::Forward, REACH).await?;
    }
    for sample in later.iter_mut().take_while(|s| same(s)) {
        sample.time = time;
    }
    // What was recorded at the time is the answer, also when it is not Good.
    if let Some(raw) = later.iter().find(|s| s.time == time) {
        let value = (!raw.quality.is_bad()).then(|| raw.value.clone());
        return Ok(data_value(time, value, raw.quality.0));
    }
    let mut earlier = tag.near(time, Direction::Backward, 1).await?;
    if earlier.iter().any(|s| rules.is_bad(s.quality)) {
        earlier = tag.near(time, Direction::Backward, REACH).await?;
    }
    let bound = bound(time, &earlier, &later, rules);
    let bits = match bound.origin {
        Origin::Interpolated => INTERPOLATED,
        Origin::Raw => 0,
    };
    Ok(data_value(
        time,
        bound.value,
        with_bits(bound.quality, bits),
    ))
}
