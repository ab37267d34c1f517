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
