//! How much of what strangers can cause gets records of its own: a flood must not fill the disk.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// Records in [`WINDOW`]. What is beyond goes without, and the next record says how much that was.
const MOST: u32 = 200;
const WINDOW: Duration = Duration::from_secs(10);

/// How many records there were of late, and how many were left out.
pub struct Allowance(Mutex<Counted>);

struct Counted {
    since: Instant,
    recorded: u32,
    unrecorded: u64,
}

impl Allowance {
    /// None yet.
    pub fn new(now: Instant) -> Self {
        Self(Mutex::new(Counted {
            since: now,
            recorded: 0,
            unrecorded: 0,
        }))
    }

    /// Something goes without a record whatever there was of late.
    pub fn leave_out(&self) {
        self.0.lock().unrecorded += 1;
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
        let allowance = Allowance::new(start);
        let taken = (0..MOST + 50).filter(|_| allowance.take(start) == Some(0));
        assert_eq!(taken.count(), MOST as usize);
        assert_eq!(allowance.take(start + WINDOW), Some(50));
        assert_eq!(allowance.take(start + WINDOW), Some(0));
    }
}
