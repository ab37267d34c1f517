//! ReadRawModified (OPC 10000-11, 6.5.3): samples as they were recorded.

use super::marks::Marks;
use super::{
    History, MAX_TEXT, MAX_VALUES, TICK, data_value, fitting, may_go_on, nanos, raw_value,
    status_of,
};
use crate::access::Caller;
use crate::model::{Nanos, Quality};
use crate::protocols::ports::{Cursor, Direction, HistoryError, PastTag};
use opcua::server::ContinuationPoint;
use opcua::server::node_manager::HistoryNode;
use opcua::types::{DataValue, HistoryData, ReadRawModifiedDetails, StatusCode};
use std::sync::Arc;

/// `Bad_BoundNotFound`.
const BOUND_NOT_FOUND: Quality = Quality(0x80D7_0000);

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Domain {
    /// From this time on.
    pub(super) low: Nanos,
    /// Up to this time, not included.
    pub(super) high: Nanos,
    /// Which end comes first.
    pub(super) direction: Direction,
    /// The number of values ends it: there is no more after them.
    pub(super) open: bool,
    /// Bounding values are wanted.
    pub(super) bounds: bool,
    /// Values of one answer; 0 for as many as there are.
    pub(super) limit: usize,
}

impl Domain {
    /// As `details` say: two of the start, the end and the number of values. Without bounds, the time
    /// asked for last is not included; a client's times are in ticks, a sample's in nanoseconds.
    pub(super) fn of(details: &ReadRawModifiedDetails) -> Result<Self, StatusCode> {
        if details.is_read_modified {
            return Err(StatusCode::BadHistoryOperationUnsupported);
        }
        let limit = details.num_values_per_node as usize;
        let bounds = details.return_bounds;
        let times = (nanos(&details.start_time), nanos(&details.end_time));
        let (low, high, direction, open) = match times {
            (Some(start), Some(end)) if start == end => {
                (start, start.saturating_add(TICK), Direction::Forward, false)
            }
            (Some(start), Some(end)) if start < end => {
                // With bounds the sample at the end itself is the bound.
                let end = if bounds {
                    end.saturating_add(TICK)
                } else {
                    end
                };
                (start, end, Direction::Forward, false)
            }
            (Some(start), Some(end)) => {
                let low = if bounds {
                    end
                } else {
                    end.saturating_add(TICK)
                };
                (low, start.saturating_add(TICK), Direction::Backward, false)
            }
            (Some(start), None) if limit > 0 => (start, Nanos::MAX, Direction::Forward, true),
            (None, Some(end)) if limit > 0 => (
                Nanos::MIN,
                end.saturating_add(TICK),
                Direction::Backward,
                true,
            ),
            _ => return Err(StatusCode::BadHistoryOperationInvalid),
        };
        Ok(Self {
            low,
            high,
            direction,
            open,
            bounds,
            limit,
        })
    }
}

/// A read that is under way.
struct Reading {
    tag: Arc<dyn PastTag>,
    domain: Domain,
    after: Option<Cursor>,
}

pub(super) async fn read(
    history: &History,
    caller: &Caller,
    details: &ReadRawModifiedDetails,
    nodes: &mut [&mut &mut HistoryNode],
) -> Result<(), StatusCode> {
    let domain = Domain::of(details)?;
    let range = (domain.low, domain.high);
    let opened = history.open(caller, nodes, range, "raw").await;
    let share = (MAX_VALUES / nodes.len().max(1)).max(1);
    for (at, node) in nodes.iter_mut().enumerate() {
        let going = node.continuation_point().map(|p| p.get::<Reading>());
        let reading = match (opened.get(&at), going) {
            (Some(tag), _) => Reading {
                tag: tag.clone(),
                domain,
                after: None,
            },
            (None, Some(Some(reading))) => {
                if let Err(status) = may_go_on(&history.gate, caller) {
                    node.set_status(status);
                    continue;
                }
                Reading {
                    tag: reading.tag.clone(),
                    ..*reading
                }
            }
            (None, Some(None)) => {
                node.set_status(StatusCode::BadContinuationPointInvalid);
                continue;
            }
            // It was told why already.
            (None, None) => continue,
        };
        match reading.next(share).await {
            Ok((values, next, status)) => {
                node.set_result(HistoryData {
                    data_values: Some(values),
                });
                let next = next.map(|next| ContinuationPoint::new(Box::new(next)));
                node.set_next_continuation_point(next);
                node.set_status(status);
            }
            Err(error) => node.set_status(status_of(&error)),
        }
    }
    Ok(())
}

impl Reading {
    /// The next values, what is left to read, and how it went.
    async fn next(
        &self,
        share: usize,
    ) -> Result<(Vec<DataValue>, Option<Self>, StatusCode), HistoryError> {
        let Domain {
            low,
            high,
            direction,
            open,
            bounds,
            limit,
        } = self.domain;
        let most = match limit {
            0 => share,
            limit => limit.min(share),
        };
        let first = self.after.is_none();
        let mut page = self.tag.page(direction, self.after, most).await?;
        let fitting = fitting(&page.samples, MAX_TEXT * share / MAX_VALUES);
        if fitting < page.samples.len() {
            page.samples.truncate(fitting);
            page.next = Cursor::after(&page.samples, self.after);
        }
        let mut marks = Marks::of(self.tag.gone(), self.domain, self.after, page.next);
        // They count as values do, where there is more than one.
        if !marks.is_empty() && most > marks.len() && page.samples.len() + marks.len() > most {
            page.samples.truncate(most - marks.len());
            page.next = Cursor::after(&page.samples, self.after);
            marks = Marks::of(self.tag.gone(), self.domain, self.after, page.next);
        }
        let mut values = Vec::with_capacity(page.samples.len() + 2 + marks.len());
        // The ends in the order of reading, as the client named them.
        let (begin, end) = match direction {
            Direction::Forward => (low, high - TICK),
            Direction::Backward => (high - TICK, low),
        };
        let (other_way, start_edge, end_edge) = match direction {
            Direction::Forward => (Direction::Backward, low, high),
            Direction::Backward => (Direction::Forward, high, low),
        };
        let at = |time: Nanos, wanted: Nanos| time.div_euclid(TICK) == wanted.div_euclid(TICK);
        if bounds && first && !page.samples.first().is_some_and(|s| at(s.time, begin)) {
            let found = self
                .tag
                .near(start_edge, other_way, 1)
                .await?
                .into_iter()
                .next();
            values.push(found.map_or(data_value(begin, None, BOUND_NOT_FOUND.0), raw_value));
        }
        let ends_at_end = page.samples.last().is_some_and(|s| at(s.time, end));
        let nothing = first && page.next.is_none() && page.samples.is_empty();
        let status = match (nothing && !bounds, marks.status()) {
            (true, Some(gone)) => gone,
            (true, None) => StatusCode::GoodNoData,
            (false, _) => {
                values.extend(marks.among(page.samples, direction));
                StatusCode::Good
            }
        };
        let enough = limit > 0 && values.len() >= limit;
        // What the client asked for is complete when an open domain has its number of values.
        let given = values.len();
        let next = page.next.filter(|_| !(open && enough)).map(|after| Self {
            tag: self.tag.clone(),
            domain: Domain {
                limit: if open {
                    limit.saturating_sub(given)
                } else {
                    limit
                },
                ..self.domain
            },
            after: Some(after),
        });
        if bounds && next.is_none() && !open && !ends_at_end {
            let found = self
                .tag
                .near(end_edge, direction, 1)
                .await?
                .into_iter()
                .next();
            values.push(found.map_or(data_value(end, None, BOUND_NOT_FOUND.0), raw_value));
        }
        Ok((values, next, status))
    }
}
