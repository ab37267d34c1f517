//! Refusals of those whom nobody knows yet, in sums: they are bounded by nothing, so a record each would
//! let strangers fill the disk.

use crate::model::{Nanos, rfc3339};
use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

/// How many were turned away since the last sum.
#[derive(Default)]
pub struct Sums(Mutex<Counted>);

#[derive(Default)]
struct Counted {
    since: Nanos,
    /// By face and reason, both of which are words of the program: no stranger makes another entry.
    counts: BTreeMap<(&'static str, &'static str), u64>,
}

impl Sums {
    /// One more, at `time`.
    pub fn count(&self, face: &'static str, why: &'static str, time: Nanos) {
        let mut counted = self.0.lock();
        if counted.counts.is_empty() {
            counted.since = time;
        }
        *counted.counts.entry((face, why)).or_default() += 1;
    }

    /// What is to be recorded at `time`, if anything; it counts from nothing again.
    pub fn take(&self, time: Nanos) -> Option<Json> {
        let Counted { since, counts } = std::mem::take(&mut *self.0.lock());
        if counts.is_empty() {
            return None;
        }
        let counts = counts.into_iter();
        let counts = counts
            .map(|((face, why), count)| json!({"face": face, "why": why, "count": count}))
            .collect::<Vec<_>>();
        Some(json!({"from": rfc3339(since), "to": rfc3339(time), "turned_away": counts}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_told_once() {
        let sums = Sums::default();
        assert_eq!(sums.take(5), None);
        for time in [7, 8, 9] {
            sums.count("http", "log-in", time);
        }
        sums.count("opc.tcp", "log-in", 9);
        let told = sums.take(1_000_000_000).unwrap();
        assert_eq!(told["from"], rfc3339(7));
        assert_eq!(
            told["turned_away"],
            json!([
                {"face": "http", "why": "log-in", "count": 3},
                {"face": "opc.tcp", "why": "log-in", "count": 1},
            ])
        );
        assert_eq!(sums.take(2_000_000_000), None);
    }
}
