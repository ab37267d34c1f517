//! How fast four hubs on one machine agree: values of 100 KB, each on the disk of every hub before it
//! counts. Prints decisions a second, and how long one takes from there being data to all four having it.
//!
//! `cargo bench -p weighbridge-consensus` (with a number of seconds after `--`, 10 otherwise).

#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../tests/it/ledger.rs"]
mod ledger;
#[allow(dead_code)]
#[path = "../tests/it/site.rs"]
mod site;

use ledger::{Ledger, Pool};
use site::{Site, validators};
use std::sync::Arc;
use std::time::{Duration, Instant};
use weighbridge_consensus::Faults;

const HUBS: usize = 4;
const LENGTH: usize = 100 << 10;

fn percentile(sorted: &[Duration], of_hundred: usize) -> Duration {
    let index = (sorted.len() * of_hundred / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or_default()
}

fn main() {
    let seconds = std::env::args().find_map(|argument| argument.parse().ok());
    let limit = Duration::from_secs(seconds.unwrap_or(10));
    let pool = Arc::new(Pool::default());
    let on_disk = |_| {
        let disk = tempfile::tempfile().unwrap();
        Ledger::new(pool.clone(), validators(0..HUBS)).on(disk)
    };
    let ledgers = (0..HUBS).map(on_disk).collect();
    let site = Site::with(ledgers, pool.clone(), Faults::Byzantine);
    site.record("first");
    site.wait_tip(1);

    let started = Instant::now();
    let mut took = Vec::new();
    while started.elapsed() < limit {
        let number = took.len() as u64 + 2;
        let mut payload = vec![7; LENGTH];
        payload[..8].copy_from_slice(&number.to_le_bytes());
        let recorded = Instant::now();
        site.record(payload);
        site.wait_tip(number);
        took.push(recorded.elapsed());
    }
    let per_second = took.len() as f64 / started.elapsed().as_secs_f64();
    took.sort();
    println!(
        "{HUBS} hubs, {} KB values, durable: {} decisions, {per_second:.1}/s; data to all four: p50 {:?}, p99 {:?}, longest {:?}",
        LENGTH >> 10,
        took.len(),
        percentile(&took, 50),
        percentile(&took, 99),
        percentile(&took, 100),
    );
}
