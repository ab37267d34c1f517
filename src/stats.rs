//! Counters of a running hub, for the status line, `/metrics` and the demo's summary.

use crate::model::{DeviceId, Nanos, VerdictClass};
use parking_lot::RwLock;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many refusals are kept for the status page; older ones are in the ledger.
pub const REFUSALS_KEPT: usize = 64;

/// A refused batch, as the status page shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// When it was refused.
    pub time: Nanos,
    /// The device it came from.
    pub device: DeviceId,
    /// Its sequence number.
    pub sequence: u64,
    /// Why, in one sentence.
    pub reason: String,
}

/// Counters since the hub started. Batches are counted when their block is durable.
#[derive(Default)]
pub struct Stats {
    /// Points in durable batches.
    pub points: AtomicU64,
    /// Accepted batches.
    pub accepted: AtomicU64,
    /// Batches out of control.
    pub out_of_control: AtomicU64,
    /// Invalid batches, which were refused.
    pub invalid: AtomicU64,
    /// Blocks made since the start.
    pub blocks: AtomicU64,
    /// Records in them.
    pub records: AtomicU64,
    /// Bytes of ciphertext stored.
    pub sealed_bytes: AtomicU64,
    /// Source time to durable, a point each.
    pub latency: Histogram,
    /// Signing, writing and syncing a block and the head, a block each.
    pub commit: Histogram,
    refusals: RwLock<VecDeque<Refusal>>,
}

impl Stats {
    /// Counts a batch whose record is durable.
    pub fn count_batch(&self, class: VerdictClass, points: u64) {
        let counter = match class {
            VerdictClass::Accepted => &self.accepted,
            VerdictClass::OutOfControl => &self.out_of_control,
            VerdictClass::Invalid => &self.invalid,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.points.fetch_add(points, Ordering::Relaxed);
    }

    /// Counts a durable block.
    pub fn count_block(&self, records: u64, sealed_bytes: u64) {
        self.blocks.fetch_add(1, Ordering::Relaxed);
        self.records.fetch_add(records, Ordering::Relaxed);
        self.sealed_bytes.fetch_add(sealed_bytes, Ordering::Relaxed);
    }

    /// Keeps a refusal for the status page.
    pub fn refused(&self, refusal: Refusal) {
        let mut refusals = self.refusals.write();
        if refusals.len() == REFUSALS_KEPT {
            refusals.pop_front();
        }
        refusals.push_back(refusal);
    }

    /// The newest refusals, newest first.
    pub fn refusals(&self) -> Vec<Refusal> {
        self.refusals.read().iter().rev().cloned().collect()
    }

    /// All batches counted.
    pub fn batches(&self) -> u64 {
        let read = |c: &AtomicU64| c.load(Ordering::Relaxed);
        read(&self.accepted) + read(&self.out_of_control) + read(&self.invalid)
    }
}

/// A histogram of durations with 16 steps an octave, from 1 µs to about 70 minutes: quantiles are off
/// by less than 7 %.
pub struct Histogram(Vec<AtomicU64>);

const STEPS: u64 = 16;
const OCTAVES: u64 = 32;

impl Default for Histogram {
    fn default() -> Self {
        Self((0..STEPS * OCTAVES).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Histogram {
    /// Counts `weight` observations of `nanos`; a negative duration (clocks differ) counts as zero.
    pub fn observe(&self, nanos: i64, weight: u64) {
        if let Some(bucket) = self.0.get(bucket(nanos)) {
            bucket.fetch_add(weight, Ordering::Relaxed);
        }
    }

    /// The duration in milliseconds below which the fraction `q` (0 to 1) lies; `None` while empty.
    pub fn quantile_ms(&self, q: f64) -> Option<f64> {
        let counts: Vec<u64> = self.0.iter().map(|c| c.load(Ordering::Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return None;
        }
        let wanted = (q * total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        let at = counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(upper_bound_us(at) / 1000.0)
    }
}

impl Histogram {
    /// The sum of all durations in milliseconds, as exact as the steps are.
    pub fn sum_ms(&self) -> f64 {
        let counts = self.0.iter().enumerate();
        let sums = counts.map(|(at, count)| {
            let below = at.checked_sub(1).map_or(0.0, upper_bound_us);
            count.load(Ordering::Relaxed) as f64 * (below + upper_bound_us(at)) / 2.0
        });
        sums.sum::<f64>() / 1000.0
    }
}

fn bucket(nanos: i64) -> usize {
    let us = u64::try_from(nanos / 1000).unwrap_or(0).max(1);
    let octave = u64::from(us.ilog2());
    let step = (us << 4 >> octave) - STEPS;
    (octave * STEPS + step).min(STEPS * OCTAVES - 1) as usize
}

fn upper_bound_us(bucket: usize) -> f64 {
    let (octave, step) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
    (1u64 << octave) as f64 * (STEPS + step + 1) as f64 / STEPS as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_close_to_the_truth() {
        let histogram = Histogram::default();
        assert_eq!(histogram.quantile_ms(0.5), None);
        for ms in 1..=1000 {
            histogram.observe(ms * 1_000_000, 1);
        }
        for (q, truth) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let got = histogram.quantile_ms(q).unwrap();
            assert!((got / truth - 1.0).abs() < 0.07, "{q}: {got}");
        }
        let sum = histogram.sum_ms();
        assert!((sum / 500_500.0 - 1.0).abs() < 0.07, "{sum}");
        histogram.observe(-5, 1);
        histogram.observe(i64::MAX, 1);
    }
}
