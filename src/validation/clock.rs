//! The clock of a device: source times never go back.
//!
//! A batch with a time before the one ahead of it, or before the last accepted time of its
//! timeline, has a clock that went back. A clock may have been set back for good (a battery was
//! changed, summer time ended), and such a device must not be refused for ever: after
//! `clock_recovery` refused batches in a row whose times run evenly among themselves, the next one
//! is accepted and its times are the ones that count. A clock that was briefly ahead is accepted at
//! once when it has caught up.

use super::ValidationError;
use super::bits::{Reader, put_count, put_u64};
use crate::model::{Batch, Nanos};

/// What is remembered of one timeline.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct TimelineClock {
    /// The last accepted time.
    pub last: Option<Nanos>,
    /// Refused batches in a row that were before it, but ran evenly.
    pub behind: u32,
    /// The last time in these.
    pub behind_last: Nanos,
}

/// What a batch's times say of one timeline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Run {
    /// No samples.
    Empty,
    /// Forward; the longest step in ns, counted from the last accepted time.
    Forward { longest_step: i64 },
    /// Accepted although it is behind: the clock was set back for good.
    Reset { longest_step: i64 },
    /// It went back at sample `index`, from `before`.
    Back { index: usize, before: Nanos },
}

impl TimelineClock {
    /// Judges the times of a batch without remembering them.
    pub fn judge(&self, times: &[Nanos], recovery: u32) -> Run {
        let (Some(first), Some(last)) = (times.first(), times.last()) else {
            return Run::Empty;
        };
        // One pass without branches: the common case is a clock that runs.
        let mut longest_step = 0i64;
        let mut shortest_step = i64::MAX;
        for pair in times.windows(2) {
            if let [a, b] = pair {
                let step = b.saturating_sub(*a);
                longest_step = longest_step.max(step);
                shortest_step = shortest_step.min(step);
            }
        }
        if shortest_step < 0 {
            let at = times.windows(2).position(|w| matches!(w, [a, b] if b < a));
            let index = at.map_or(0, |i| i + 1);
            let before = times.get(index.saturating_sub(1)).copied().unwrap_or(*last);
            return Run::Back { index, before };
        }
        match self.last {
            Some(before) if *first < before => {
                let even = self.behind >= recovery && *first >= self.behind_last;
                if even {
                    Run::Reset { longest_step }
                } else {
                    Run::Back { index: 0, before }
                }
            }
            Some(before) => Run::Forward {
                longest_step: longest_step.max(first.saturating_sub(before)),
            },
            None => Run::Forward { longest_step },
        }
    }

    /// Remembers a batch that was accepted.
    pub fn accept(&mut self, times: &[Nanos]) {
        if let Some(last) = times.last() {
            *self = Self {
                last: Some(*last),
                behind: 0,
                behind_last: 0,
            };
        }
    }

    /// Remembers a batch that was refused because this clock went back.
    pub fn refuse(&mut self, times: &[Nanos], run: Run) {
        let (Some(first), Some(last), Run::Back { index, .. }) = (times.first(), times.last(), run)
        else {
            return;
        };
        let goes_on = self.behind > 0 && *first >= self.behind_last;
        self.behind = match (index, goes_on) {
            (0, true) => self.behind.saturating_add(1),
            (0, false) => 1,
            // Uneven in itself: nothing to go on from.
            _ => 0,
        };
        self.behind_last = if self.behind > 0 { *last } else { 0 };
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.last.is_some()) | if self.behind > 0 { 2 } else { 0 });
        if let Some(last) = self.last {
            put_u64(out, last as u64);
        }
        if self.behind > 0 {
            put_count(out, self.behind);
            put_u64(out, self.behind_last as u64);
        }
    }

    pub fn read(from: &mut Reader<'_>) -> Result<Self, ValidationError> {
        let flags = from.u8()?;
        let mut clock = Self::default();
        if flags & 1 != 0 {
            clock.last = Some(from.u64()? as Nanos);
        }
        if flags & 2 != 0 {
            clock.behind = from.count()?;
            clock.behind_last = from.u64()? as Nanos;
        }
        Ok(clock)
    }
}

/// Name of the first tag on timeline `timeline`, to tell people which clock it is.
pub(super) fn first_column(batch: &Batch, timeline: usize) -> usize {
    let at = batch.columns.iter().position(|c| c.timeline == timeline);
    at.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(clock: &mut TimelineClock, times: &[Nanos]) -> bool {
        let run = clock.judge(times, 3);
        match run {
            Run::Back { .. } => {
                clock.refuse(times, run);
                false
            }
            _ => {
                clock.accept(times);
                true
            }
        }
    }

    #[test]
    fn a_clock_that_was_set_back_for_good_is_believed_after_three_even_batches() {
        let mut clock = TimelineClock::default();
        assert!(accepted(&mut clock, &[100, 110, 110]));
        assert!(!accepted(&mut clock, &[10, 20]));
        assert!(!accepted(&mut clock, &[30, 40]));
        assert!(!accepted(&mut clock, &[50]));
        assert!(accepted(&mut clock, &[60]));
        assert!(accepted(&mut clock, &[61]));
        assert!(!accepted(&mut clock, &[59]));
    }

    #[test]
    fn a_clock_that_jumps_about_is_refused_until_it_has_caught_up() {
        let mut clock = TimelineClock::default();
        assert!(accepted(&mut clock, &[100]));
        for times in [[10, 20], [5, 6], [3, 4], [9, 8], [1, 2], [7, 8], [5, 9]] {
            assert!(!accepted(&mut clock, &times), "{times:?}");
        }
        assert!(accepted(&mut clock, &[100, 101]));
    }

    #[test]
    fn a_clock_survives_its_bytes() {
        let clock = TimelineClock {
            last: Some(-7),
            behind: 300,
            behind_last: i64::MIN,
        };
        let mut bytes = Vec::new();
        clock.write(&mut bytes);
        assert_eq!(TimelineClock::read(&mut Reader(&bytes)), Ok(clock));
    }
}
