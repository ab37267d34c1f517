//! When somebody sends so much more than they should that it is a flood: counted in windows of time.

use crate::model::Nanos;
use std::fmt;

/// What comes from somebody, counted from window to window.
#[derive(Clone, Copy, Debug)]
pub struct FloodGauge {
    window: Nanos,
    since: Nanos,
    count: u64,
}

/// More than may come in a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flood {
    /// How much came.
    pub count: u64,
    /// In so many seconds.
    pub seconds: f64,
    /// How much may come in a whole window.
    pub most: u64,
    /// Seconds of a window.
    pub window: f64,
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            count,
            seconds,
            most,
            window,
        } = self;
        write!(
            f,
            "{count} in {seconds:.1} s, where {most} in {window:.0} s are the most"
        )
    }
}

impl FloodGauge {
    /// Counts in windows of this length, the first from `now` on.
    pub fn new(window: Nanos, now: Nanos) -> Self {
        Self {
            window: window.max(1),
            since: now,
            count: 0,
        }
    }

    /// So much came; a flood when it is more than `most` in this window. After one it counts anew.
    pub fn count(&mut self, came: u64, most: u64, now: Nanos) -> Option<Flood> {
        let age = now.saturating_sub(self.since);
        // A clock that was put back begins a window, too.
        if !(0..self.window).contains(&age) {
            (self.since, self.count) = (now, 0);
        }
        self.count = self.count.saturating_add(came);
        if self.count <= most {
            return None;
        }
        let seconds = |nanos: Nanos| nanos as f64 / 1e9;
        let flood = Flood {
            count: self.count,
            seconds: seconds(now.saturating_sub(self.since)),
            most,
            window: seconds(self.window),
        };
        (self.since, self.count) = (now, 0);
        Some(flood)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Nanos = 1_000_000_000;

    #[test]
    fn more_than_the_most_in_a_window_is_a_flood_and_the_same_in_two_is_none() {
        let mut gauge = FloodGauge::new(10 * S, 100 * S);
        assert_eq!(gauge.count(60, 100, 101 * S), None);
        assert_eq!(gauge.count(40, 100, 109 * S), None, "just the most");
        assert_eq!(gauge.count(100, 100, 110 * S), None, "another window");
        let flood = gauge.count(1, 100, 112 * S).unwrap();
        assert_eq!((flood.count, flood.seconds), (101, 2.0));
        let said = "101 in 2.0 s, where 100 in 10 s are the most";
        assert_eq!(flood.to_string(), said);
        assert_eq!(gauge.count(100, 100, 113 * S), None, "counted anew");
        assert_eq!(
            gauge.count(100, 100, 50 * S),
            None,
            "the clock was put back"
        );
    }
}
