//! How often a monitored item is told: once in the sampling interval on average, and a value that comes
//! somewhat early is not held back, for a clock is never exact.

use crate::model::Nanos;
use std::time::Duration;
use tokio::time::Instant;

/// The pace of one item: the generic cell rate algorithm (ITU-T I.371, Annex A) with a tolerance of one
/// interval, over the times of arrival and over the source times. A value may pass by either: a source
/// that gathers values and hands them over together loses none, and one whose clock stands still is
/// told apart by its arrivals.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    interval: Duration,
    /// When the next is expected, by arrival.
    arrival: Option<Instant>,
    /// When the next is expected, by source time.
    source: Option<Nanos>,
}

impl Pace {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            arrival: None,
            source: None,
        }
    }

    /// Whether a value that arrives `now` and is of `time` may pass; if not, when it may.
    pub(super) fn admits(&mut self, now: Instant, time: Option<Nanos>) -> Result<(), Instant> {
        if self.interval.is_zero() {
            return Ok(());
        }
        let interval = self.interval;
        let step = i64::try_from(interval.as_nanos()).unwrap_or(i64::MAX);
        let arrival = self.arrival.unwrap_or(now);
        let early = arrival.checked_sub(interval).is_some_and(|at| now < at);
        if early {
            let in_time = |(time, source): (Nanos, Nanos)| time >= source.saturating_sub(step);
            if !time.zip(self.source).is_some_and(in_time) {
                return Err(arrival - interval);
            }
        }
        self.arrival = Some(arrival.max(now).min(now + interval) + interval);
        if let Some(time) = time {
            let source = self.source.unwrap_or(time);
            let from = source.max(time).min(time.saturating_add(step));
            self.source = Some(from.saturating_add(step));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn values_as_often_as_was_asked_for_all_pass_however_unsteady_they_come() {
        let start = Instant::now();
        let mut pace = Pace::new(100 * MS);
        for i in 0..10_000u32 {
            let jitter = i.wrapping_mul(2_654_435_761) % 95;
            let at = start + 100 * i * MS + jitter * MS;
            assert_eq!(pace.admits(at, None), Ok(()), "{i}");
        }
    }

    #[test]
    fn values_that_were_gathered_pass_together_by_their_source_times() {
        let start = Instant::now();
        let mut pace = Pace::new(100 * MS);
        for second in 0..20 {
            let at = start + 1_000 * second * MS;
            for tenth in 0..10 {
                let time = i64::from(1_000 * second + 100 * tenth) * 1_000_000;
                assert_eq!(pace.admits(at, Some(time)), Ok(()), "{second}.{tenth}");
            }
        }
    }

    proptest! {
        /// Whatever comes, no more pass than the interval allows, by the one clock or the other, and
        /// who is refused may pass at the time that is given.
        #[test]
        fn no_more_pass_than_were_asked_for(gaps in proptest::collection::vec((0u32..300, 0u32..300), 1..200)) {
            let start = Instant::now();
            let mut pace = Pace::new(100 * MS);
            let (mut arrival, mut source, mut passed) = (0u32, 0u32, 0u32);
            for (waits, goes_on) in gaps {
                arrival += waits;
                source += goes_on;
                let time = i64::from(source) * 1_000_000;
                match pace.admits(start + arrival * MS, Some(time)) {
                    Ok(()) => passed += 1,
                    Err(until) => prop_assert!(pace.clone().admits(until, None).is_ok()),
                }
                prop_assert!(passed <= arrival / 100 + source / 100 + 4);
            }
        }
    }
}
