//! How many refusals get records of their own: a flood must not fill the disk.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// Records of refusals in [`WINDOW`]. More are answered as busy, and the next record says how many
/// there were.
const MOST: u32 = 200;
const WINDOW: Duration = Duration::from_secs(10);

/// How many refusals were recorded of late, and how many were not.
pub struct Refusals(Mutex<Counted>);

struct Counted {
    since: Instant,
    recorded: u32,
    unrecorded: u64,
}

impl Refusals {
    /// None yet.
    pub fn new(now: Instant) -> Self {
        Self(Mutex::new(Counted {
            since: now,
            recorded: 0,
            unrecorded: 0,
        }))
    }

    /// Leave to record one more, with how many went without a record before it.
    pub fn take(&self, now: Instant) -> Option<u64> {
        let mut counted = self.0.lock();
        if now.duration_since(counted.since) >= WINDOW {
            (counted.since, counted.recorded) = (now, 0);
        }
        if counted.recorded >= MOST {
            counted.unrecorded += 1;
            return None;
        }
        counted.recorded += 1;
        Some(std::mem::take(&mut counted.unrecorded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_recorded_in_part_and_the_rest_is_counted() {
        let start = Instant::now();
        let refusals = Refusals::new(start);
        let taken = (0..MOST + 50).filter(|_| refusals.take(start) == Some(0));
        assert_eq!(taken.count(), MOST as usize);
        assert_eq!(refusals.take(start + WINDOW), Some(50));
        assert_eq!(refusals.take(start + WINDOW), Some(0));
    }
}
