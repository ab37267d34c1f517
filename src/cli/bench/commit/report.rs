//! What the benchmark found, for people and programs.

use crate::model::Nanos;
use serde::Serialize;

/// Times, in milliseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Times {
    pub(super) count: usize,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
}

/// What was measured in one phase.
#[derive(Debug, Serialize)]
pub(super) struct Phase {
    pub(super) name: &'static str,
    pub(super) path: &'static str,
    pub(super) seconds: f64,
    pub(super) sent: usize,
    /// Not taken: the hub was busy, or the others did not agree in time.
    pub(super) put_off: usize,
    /// Answered, and in no block: must be 0.
    pub(super) answered_without_block: usize,
    /// From sent to durable with its certificate.
    pub(super) commit: Times,
    /// From sent to answered.
    pub(super) answer: Times,
    /// Of machines' batches, from the record's time to durable with its certificate.
    pub(super) batches: Times,
    /// In batches that were agreed to, each under one signature.
    pub(super) values_per_second: f64,
    pub(super) records_per_second: f64,
    /// With the sealed bytes that its records name.
    pub(super) block_bytes_mean: f64,
    pub(super) blocks_per_second: f64,
}

/// What comes out.
#[derive(Debug, Serialize)]
pub(in crate::cli::bench) struct Commit {
    pub(super) hubs: u8,
    pub(super) clients: u16,
    pub(super) devices: u16,
    pub(super) build: &'static str,
    pub(super) start_seconds: f64,
    pub(super) phases: Vec<Phase>,
    pub(super) blocks: u64,
    pub(super) signatures_mean: f64,
    pub(super) largest_block_bytes: usize,
    pub(super) outage: Option<Outage>,
    pub(super) etcd: Option<Vec<Puts>>,
}

/// What etcd took to put a value.
#[derive(Debug, Serialize)]
pub(super) struct Puts {
    pub(super) name: &'static str,
    pub(super) puts_per_second: f64,
    pub(super) times: Times,
}

/// What came of hubs that were killed. Times are in seconds.
#[derive(Debug, Default, Serialize)]
pub(super) struct Outage {
    /// How many blocks the killed hub was behind when it was started again.
    pub(super) behind: u64,
    /// From its start to being one of those that decide, and to having what hub 1 had then.
    pub(super) up_seconds: f64,
    pub(super) level_seconds: f64,
    /// With two of four down: what was recorded, and whether anything was agreed to.
    pub(super) recorded_alone: usize,
    pub(super) blocks_alone: u64,
    /// To the first block after it: from the start of one of the two, from when it was linked to two others.
    pub(super) first_block_after_start_seconds: f64,
    pub(super) first_block_after_link_seconds: f64,
}

impl Times {
    /// Of these, in nanoseconds.
    pub(super) fn of(mut took: Vec<Nanos>) -> Self {
        took.sort_unstable();
        let at = |share: f64| {
            let index = (share * took.len() as f64).ceil() as usize;
            let time = took.get(index.saturating_sub(1));
            time.map_or(f64::NAN, |time| *time as f64 / 1e6)
        };
        Self {
            count: took.len(),
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            max_ms: at(1.0),
        }
    }
}

pub(in crate::cli::bench) fn print_table(r: &Commit) {
    println!(
        "{} hubs, {} clients, {} machines, {} build; up after {:.1} s; {} blocks, {:.2} signatures each, the largest \
         {} bytes",
        r.hubs,
        r.clients,
        r.devices,
        r.build,
        r.start_seconds,
        r.blocks,
        r.signatures_mean,
        r.largest_block_bytes
    );
    for phase in &r.phases {
        println!("\n{}: {}", phase.name, phase.path);
        println!(
            "  {} sent in {:.1} s, put off {}, answered without a block {}",
            phase.sent, phase.seconds, phase.put_off, phase.answered_without_block
        );
        for (what, times) in [
            ("with certificate", &phase.commit),
            ("answered", &phase.answer),
            ("batches", &phase.batches),
        ] {
            println!(
                "  {what:<17}{:>8.1} ms p50 {:>8.1} ms p99 {:>8.1} ms max, {} of them",
                times.p50_ms, times.p99_ms, times.max_ms, times.count
            );
        }
        println!(
            "  {:.0} records/s, {:.1} blocks/s of {:.0} bytes with what they name, {:.0} values/s in batches",
            phase.records_per_second,
            phase.blocks_per_second,
            phase.block_bytes_mean,
            phase.values_per_second
        );
    }
    if let Some(outage) = &r.outage {
        println!(
            "\nthe hub that was killed: started again {} blocks behind, up after {:.1} s, level after {:.1} s",
            outage.behind, outage.up_seconds, outage.level_seconds
        );
        println!(
            "two of four down: {} recorded meanwhile, {} blocks; one is started: first block after {:.1} s, {:.2} s after \
             it was linked",
            outage.recorded_alone,
            outage.blocks_alone,
            outage.first_block_after_start_seconds,
            outage.first_block_after_link_seconds
        );
    }
    for puts in r.etcd.iter().flatten() {
        let times = &puts.times;
        println!(
            "\netcd, three nodes: {}\n  {:>8.1} ms p50 {:>8.1} ms p99 {:>8.1} ms max, {} of them, {:.0}/s",
            puts.name, times.p50_ms, times.p99_ms, times.max_ms, times.count, puts.puts_per_second
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_was_measured() {
        let times = Times::of((1..=200).rev().map(|ms| ms * 1_000_000).collect());
        assert_eq!((times.count, times.p50_ms), (200, 100.0));
        assert_eq!((times.p99_ms, times.max_ms), (198.0, 200.0));
    }
}
