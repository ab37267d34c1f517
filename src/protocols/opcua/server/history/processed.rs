//! ReadProcessed (OPC 10000-11, 6.5.4): an aggregate for every interval of a range.

use super::aggregates::{Aggregate, Interval, Said};
use super::at_time::REACH;
use super::bounds::Rules;
use super::{History, MAX_VALUES, TICK, data_value, may_go_on, nanos, status_of};
use crate::access::Caller;
use crate::model::{Nanos, Value};
use crate::protocols::ports::{Cursor, Direction, HistoryError, PastSample, PastTag};
use opcua::server::ContinuationPoint;
use opcua::server::node_manager::HistoryNode;
use opcua::types::{
    AggregateConfiguration, DataValue, HistoryData, NodeId, ReadProcessedDetails, StatusCode,
};
use std::sync::Arc;

/// Samples read at a time.
const PAGE: usize = 20_000;
/// Most samples of one interval.
const MAX_SAMPLES: usize = 2_000_000;
/// Most samples read for one answer; the rest comes after a continuation point.
const MAX_READ: usize = 4_000_000;

/// The intervals of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Where they begin.
    pub(super) start: Nanos,
    /// Where they end.
    pub(super) end: Nanos,
    /// Length of one, ns.
    pub(super) length: Nanos,
}

/// One interval: from, to, the time it is given, whether it is cut short.
type Ends = (Nanos, Nanos, Nanos, bool);

impl Plan {
    pub(super) fn of(details: &ReadProcessedDetails) -> Result<Self, StatusCode> {
        let start = nanos(&details.start_time).ok_or(StatusCode::BadInvalidTimestampArgument)?;
        let end = nanos(&details.end_time).ok_or(StatusCode::BadInvalidTimestampArgument)?;
        if start == end {
            return Err(StatusCode::BadInvalidArgument);
        }
        let whole = i64::try_from(start.abs_diff(end)).unwrap_or(i64::MAX);
        let milliseconds = details.processing_interval;
        let length = match milliseconds {
            0.0 => whole,
            ms if ms.is_finite() && ms > 0.0 => {
                // Longer than all of time is all of it; a part of a tick is a tick.
                ((ms * 1e6).min(whole as f64) as i64).max(TICK)
            }
            _ => return Err(StatusCode::BadInvalidArgument),
        };
        Ok(Self { start, end, length })
    }

    /// What is read of the tag: low and high.
    pub(super) fn range(&self) -> (Nanos, Nanos) {
        match self.start < self.end {
            true => (self.start, self.end),
            // Backwards the start is included and the end is not.
            false => (
                self.end.saturating_add(TICK),
                self.start.saturating_add(TICK),
            ),
        }
    }

    /// Interval `index`; `None` after the last one.
    pub(super) fn interval(&self, index: usize) -> Option<Ends> {
        let offset = i128::from(self.length) * index as i128;
        let (start, end) = (i128::from(self.start), i128::from(self.end));
        let length = i128::from(self.length);
        let nanos = |time: i128| Nanos::try_from(time).unwrap_or(Nanos::MAX);
        if start < end {
            let from = start + offset;
            let to = (from + length).min(end);
            let cut = to - from < length;
            return (from < end).then(|| (nanos(from), nanos(to), nanos(from), cut));
        }
        let from = start - offset;
        let to = (from - length).max(end);
        let cut = from - to < length;
        let tick = i128::from(TICK);
        (from > end).then(|| (nanos(to + tick), nanos(from + tick), nanos(from), cut))
    }

    fn forward(&self) -> bool {
        self.start < self.end
    }
}

/// A read that is under way.
struct Processing {
    tag: Arc<dyn PastTag>,
    plan: Plan,
    aggregate: Aggregate,
    rules: Rules,
    /// The next interval.
    index: usize,
    /// Where its samples begin, among those read on.
    after: Option<Cursor>,
}

pub(super) async fn read(
    history: &History,
    caller: &Caller,
    details: &ReadProcessedDetails,
    nodes: &mut [&mut &mut HistoryNode],
) -> Result<(), StatusCode> {
    let plan = Plan::of(details)?;
    let rules = rules(&details.aggregate_configuration)?;
    let opened = history.open(caller, nodes, plan.range(), "processed").await;
    let share = (MAX_VALUES / nodes.len().max(1)).max(1);
    let functions = details.aggregate_type.as_deref().unwrap_or_default();
    for (at, node) in nodes.iter_mut().enumerate() {
        let going = node.continuation_point().map(|p| p.get::<Processing>());
        let mut processing = match (opened.get(&at), going) {
            (Some(tag), _) => {
                // Other managers' nodes are not among these: a list of one fits all of them.
                let function = match functions {
                    [one] => Some(one),
                    list => list.get(at),
                };
                let aggregate = function.ok_or(StatusCode::BadAggregateListMismatch);
                let aggregate = aggregate
                    .and_then(|f| aggregate_of(f).ok_or(StatusCode::BadAggregateNotSupported));
                match aggregate {
                    Ok(aggregate) => Processing {
                        tag: tag.clone(),
                        plan,
                        aggregate,
                        rules,
                        index: 0,
                        after: None,
                    },
                    Err(status) => {
                        node.set_status(status);
                        continue;
                    }
                }
            }
            (None, Some(Some(going))) => {
                if let Err(status) = may_go_on(&history.gate, caller) {
                    node.set_status(status);
                    continue;
                }
                Processing {
                    tag: going.tag.clone(),
                    ..*going
                }
            }
            (None, Some(None)) => {
                node.set_status(StatusCode::BadContinuationPointInvalid);
                continue;
            }
            // It was told why already.
            (None, None) => continue,
        };
        match processing.next(share).await {
            Ok(values) => {
                node.set_result(HistoryData {
                    data_values: Some(values),
                });
                let more = processing.plan.interval(processing.index).is_some();
                let next = more.then(|| ContinuationPoint::new(Box::new(processing)));
                node.set_next_continuation_point(next);
                node.set_status(StatusCode::Good);
            }
            Err(status) => node.set_status(status),
        }
    }
    Ok(())
}

fn aggregate_of(function: &NodeId) -> Option<Aggregate> {
    let known = Aggregate::ALL.iter();
    let mut known = known.filter(|(_, id)| *function == *id);
    known.next().map(|(aggregate, _)| *aggregate)
}

fn rules(asked: &AggregateConfiguration) -> Result<Rules, StatusCode> {
    if asked.use_server_capabilities_defaults {
        return Ok(Rules::DEFAULT);
    }
    let (good, bad) = (asked.percent_data_good, asked.percent_data_bad);
    // OPC 10000-13, 4.2.1.2.
    if good > 100 || bad > 100 || u16::from(good) + u16::from(bad) < 100 {
        return Err(StatusCode::BadAggregateConfigurationRejected);
    }
    Ok(Rules {
        treat_uncertain_as_bad: asked.treat_uncertain_as_bad,
        percent_bad: bad,
        percent_good: good,
        sloped_extrapolation: asked.use_sloped_extrapolation,
    })
}

fn unreadable(error: HistoryError) -> StatusCode {
    status_of(&error)
}

impl Processing {
    /// The aggregates of up to `most` intervals; moves on to the next one.
    async fn next(&mut self, most: usize) -> Result<Vec<DataValue>, StatusCode> {
        let direction = match self.plan.forward() {
            true => Direction::Forward,
            false => Direction::Backward,
        };
        let mut values = Vec::new();
        let mut stream = Stream::new(self.tag.clone(), direction, self.after);
        let mut read = 0;
        while values.len() < most && read < MAX_READ {
            let Some((from, to, stamp, cut)) = self.plan.interval(self.index) else {
                break;
            };
            let mut within = stream.within((from, to)).await?;
            read += within.len();
            if direction == Direction::Backward {
                within.reverse();
            }
            let (before, after) = self.neighbours((from, to)).await?;
            if self.aggregate.needs_numbers() && within.iter().any(is_text) {
                return Err(StatusCode::BadAggregateInvalidInputs);
            }
            let interval = Interval {
                from,
                to,
                stamp,
                within: &within,
                before: &before,
                after: &after,
                cut,
            };
            let Said {
                time,
                value,
                status,
            } = interval.say(self.aggregate, self.rules);
            values.push(data_value(time, value, status));
            self.index += 1;
        }
        self.after = stream.cursor();
        Ok(values)
    }

    /// Samples before and after an interval, as far as its bounds need them.
    async fn neighbours(
        &self,
        (from, to): (Nanos, Nanos),
    ) -> Result<(Vec<PastSample>, Vec<PastSample>), StatusCode> {
        let counting = |samples: &[PastSample]| {
            let counts = |s: &&PastSample| !self.rules.is_bad(s.quality);
            samples.iter().filter(counts).count()
        };
        let slope = usize::from(self.rules.sloped_extrapolation);
        let mut before = self.near(from, Direction::Backward, 1 + slope).await?;
        if counting(&before) < 1 + slope && !before.is_empty() {
            before = self.near(from, Direction::Backward, REACH).await?;
        }
        let mut after = self.near(to, Direction::Forward, 1).await?;
        if counting(&after) < 1 && !after.is_empty() {
            after = self.near(to, Direction::Forward, REACH).await?;
        }
        Ok((before, after))
    }

    async fn near(
        &self,
        time: Nanos,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<PastSample>, StatusCode> {
        let near = self.tag.near(time, direction, limit).await;
        near.map_err(unreadable)
    }
}

fn is_text(sample: &PastSample) -> bool {
    matches!(sample.value, Value::Text(_) | Value::Bytes(_))
}

/// A tag's samples in the order of reading, page by page.
struct Stream {
    tag: Arc<dyn PastTag>,
    direction: Direction,
    /// Samples that were read and not yet taken, the next one last.
    held: Vec<PastSample>,
    /// Where the next page begins; `None` at the very beginning.
    next: Option<Cursor>,
    ended: bool,
    /// The last sample that was taken, and how many of its time.
    taken: Option<Cursor>,
}

impl Stream {
    fn new(tag: Arc<dyn PastTag>, direction: Direction, after: Option<Cursor>) -> Self {
        Self {
            tag,
            direction,
            held: Vec::new(),
            next: after,
            ended: false,
            taken: after,
        }
    }

    /// Where whoever goes on later begins.
    fn cursor(&self) -> Option<Cursor> {
        self.taken
    }

    /// Takes the samples within `low` and `high`, which lie ahead.
    async fn within(&mut self, (low, high): (Nanos, Nanos)) -> Result<Vec<PastSample>, StatusCode> {
        let mut taken = Vec::new();
        loop {
            while let Some(sample) = self.held.pop() {
                let beyond = match self.direction {
                    Direction::Forward => sample.time >= high,
                    Direction::Backward => sample.time < low,
                };
                if beyond {
                    self.held.push(sample);
                    return Ok(taken);
                }
                self.taken = Some(match self.taken {
                    Some(last) if last.time == sample.time => Cursor {
                        given: last.given + 1,
                        ..last
                    },
                    _ => Cursor {
                        time: sample.time,
                        given: 1,
                    },
                });
                if taken.len() == MAX_SAMPLES {
                    return Err(StatusCode::BadTooManyOperations);
                }
                taken.push(sample);
            }
            if self.ended {
                return Ok(taken);
            }
            let page = self.tag.page(self.direction, self.next, PAGE).await;
            let page = page.map_err(unreadable)?;
            self.held = page.samples;
            self.held.reverse();
            self.ended = page.next.is_none();
            self.next = page.next;
        }
    }
}
