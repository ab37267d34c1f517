//! Values without a value where samples were retired or erased, so that an answer that is short says so.
//!
//! OPC 10000-11 (6.2.2) has Bad_DataUnavailable for what is off-line and can come back, and Bad_DataLost for what
//! is not there any more. A read that finds nothing else ends with one of them. One that finds some has a value of
//! that status in its place, at the end of what is gone: the read itself stays Good, because clients throw away
//! what comes with any other status.

use super::data_value;
use super::raw::Domain;
use super::{TICK, raw_value};
use crate::model::Nanos;
use crate::protocols::ports::{Cursor, Direction, Gone, PastSample, Why};
use opcua::types::{DataValue, StatusCode};

/// Those of one answer, in the order of time.
pub(super) struct Marks(Vec<(Nanos, StatusCode)>);

impl Marks {
    /// Those for what is `gone` of `domain` that belong to the page between two cursors.
    pub(super) fn of(
        gone: &[Gone],
        domain: Domain,
        after: Option<Cursor>,
        next: Option<Cursor>,
    ) -> Self {
        let Domain {
            low,
            high,
            direction,
            ..
        } = domain;
        let place = |gone: &Gone| {
            let last = gone.before.saturating_sub(TICK).min(high - TICK);
            (last.max(low), status_of(gone))
        };
        let gone = gone.iter().filter(|gone| gone.concerns(low));
        let mut marks: Vec<_> = gone.map(place).collect();
        let of_page = |time: Nanos| match direction {
            Direction::Forward => {
                after.is_none_or(|c| time >= c.time) && next.is_none_or(|c| time < c.time)
            }
            Direction::Backward => {
                after.is_none_or(|c| time < c.time) && next.is_none_or(|c| time >= c.time)
            }
        };
        marks.retain(|(time, _)| of_page(*time));
        marks.sort_by_key(|(time, _)| *time);
        Self(marks)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// How a read ends that found nothing; what can come back is said before what cannot.
    pub(super) fn status(&self) -> Option<StatusCode> {
        let mut codes = self.0.iter().map(|(_, code)| *code);
        let first = codes.next()?;
        Some(codes.fold(first, |first, code| match code {
            StatusCode::BadDataUnavailable => code,
            _ => first,
        }))
    }

    /// Samples and marks, in the order of the samples. A mark at whose time there is a sample is left out.
    pub(super) fn among(
        self,
        samples: Vec<PastSample>,
        direction: Direction,
    ) -> impl Iterator<Item = DataValue> {
        let mut all: Vec<(Nanos, DataValue)> = samples
            .into_iter()
            .map(|sample| (sample.time, raw_value(sample)))
            .collect();
        for (time, code) in self.0 {
            // There is something in its place.
            let same = |of: Nanos| of.div_euclid(TICK) == time.div_euclid(TICK);
            if all.iter().any(|(of, _)| same(*of)) {
                continue;
            }
            let at = all.partition_point(|(of, _)| match direction {
                Direction::Forward => *of <= time,
                Direction::Backward => *of > time,
            });
            all.insert(at, (time, data_value(time, None, code.bits())));
        }
        all.into_iter().map(|(_, value)| value)
    }
}

fn status_of(gone: &Gone) -> StatusCode {
    match &gone.why {
        Why::Retired { archive: Some(_) } => StatusCode::BadDataUnavailable,
        Why::Retired { archive: None } | Why::Erased => StatusCode::BadDataLost,
    }
}
