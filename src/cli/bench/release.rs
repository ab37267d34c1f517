//! `weighbridge bench release`: what it costs that everything is recorded before it is released.
//!
//! The same clients ask the same hub the same things, in turns: for a while each history read waits until
//! its record is durable, then for a while nothing is recorded and nobody waits. The switch is within this
//! program alone; no configuration and no face has it.

use super::device::BenchDevice;
use super::http::Connection;
use crate::access::{AccessConfig, Role};
use crate::api::process;
use crate::cli::temporary::given_or_temporary;
use crate::hub::{Faces, Hub, HubBuilder, HubKeys};
use crate::sim::bench_server::BenchServers;
use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use serde::Serialize;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Machines, and tags of each.
const DEVICES: usize = 4;
const TAGS: u16 = 20;
/// Milliseconds from one poll of a machine to the next.
const PERIOD_MS: u32 = 100;
/// How long it may take until there is something to be read.
const READY: Duration = Duration::from_secs(60);
/// After a switch: what was asked before it is answered by then.
const SETTLE: Duration = Duration::from_millis(200);

/// What `weighbridge bench release` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge bench release
  weighbridge bench release --what history --rounds 10 --json

The ratio is the throughput with recording over that without, as the median over all rounds.")]
pub(super) struct ReleaseArgs {
    /// Clients, each of which keeps one connection and asks as fast as it is answered
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=200))]
    clients: u16,
    /// What they read
    #[arg(long, value_enum, default_value_t = What::Mixed)]
    what: What,
    /// Turns with recording, each beside one without
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Milliseconds of a turn
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    turn_ms: u64,
    /// Where the ledger is written; a temporary directory by default
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum What {
    /// History, live values and records, a third each
    Mixed,
    /// History alone: each answer has a record of its own
    History,
    /// Live values alone: a session has records, an answer has none
    Live,
}

/// What comes out.
#[derive(Debug, Serialize)]
struct Release {
    what: What,
    clients: u16,
    rounds: u16,
    recorded_per_second: f64,
    unrecorded_per_second: f64,
    /// Median of the rounds.
    ratio: f64,
    least_ratio: f64,
    most_ratio: f64,
    /// Processor time of an answer in microseconds, clients and machines included: what is left of a ratio where
    /// other programs take turns on the machine.
    recorded_cpu_us: f64,
    unrecorded_cpu_us: f64,
    /// Records a block of the acts, on average.
    records_a_block: f64,
    commit_ms_p50: f64,
    commit_ms_p99: f64,
}

/// Runs it.
pub(super) fn run(args: &ReleaseArgs) -> anyhow::Result<ExitCode> {
    let r = measure(args)?;
    if args.json {
        println!("{}", serde_json::to_string(&r)?);
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "recorded          {:>10.0} answers/s",
        r.recorded_per_second
    );
    println!(
        "not recorded      {:>10.0} answers/s",
        r.unrecorded_per_second
    );
    println!(
        "ratio             {:>10.3}, from {:.3} to {:.3} in {} rounds",
        r.ratio, r.least_ratio, r.most_ratio, r.rounds
    );
    println!(
        "processor         {:>10.0} us an answer, {:.0} us without recording",
        r.recorded_cpu_us, r.unrecorded_cpu_us
    );
    println!(
        "blocks            {:>10.1} records each, {:.1} ms p50, {:.1} ms p99 to commit",
        r.records_a_block, r.commit_ms_p50, r.commit_ms_p99
    );
    Ok(ExitCode::SUCCESS)
}

fn measure(args: &ReleaseArgs) -> anyhow::Result<Release> {
    let (dir, _temporary) = given_or_temporary(args.dir.as_deref(), "release")?;
    let machines = BenchServers::start(DEVICES, TAGS)?;
    // What is measured here is a flood.
    let access = AccessConfig {
        flood_requests: 0,
        ..AccessConfig::default()
    };
    let mut builder = HubBuilder::new(HubKeys::generate("bench"), dir).access(access);
    for (index, port) in machines.ports().iter().enumerate() {
        let device = BenchDevice::new(format!("bench-{index}"), *port, TAGS, 0, PERIOD_MS)?;
        builder = builder.device(device.setup()?);
    }
    let hub = builder.start()?;
    let faces = hub.open_faces(&Faces {
        http: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        http_roles: vec![Role::Supervisor],
        ..Faces::default()
    })?;
    let url = faces.http_url().context("there is no HTTP face")?;
    let http: SocketAddr = url
        .trim_start_matches("http://")
        .trim_end_matches('/')
        .parse()?;
    ready(&hub)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let measured = runtime.block_on(rounds(args, &hub, http));
    faces.close(&hub.runtime());
    hub.shutdown()?;
    measured
}

/// Waits until every device has something that can be read back.
fn ready(hub: &Hub) -> anyhow::Result<()> {
    let start = Instant::now();
    while hub.stats().batches() < 4 * DEVICES as u64 {
        if start.elapsed() > READY {
            bail!("nothing was recorded within {} s", READY.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// What the clients share.
struct Shared {
    what: What,
    answered: AtomicU64,
    /// Answers that were not what was asked for.
    failed: AtomicU64,
    stop: AtomicBool,
}

/// What came of a turn, or of several.
#[derive(Default)]
struct Turn {
    per_second: f64,
    answered: f64,
    /// Seconds.
    cpu: f64,
}

impl Turn {
    fn add(&mut self, other: &Self) {
        self.per_second += other.per_second;
        self.answered += other.answered;
        self.cpu += other.cpu;
    }
}

async fn rounds(args: &ReleaseArgs, hub: &Hub, http: SocketAddr) -> anyhow::Result<Release> {
    let shared = Arc::new(Shared {
        what: args.what,
        answered: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    });
    let clients = (0..usize::from(args.clients))
        .map(|index| tokio::spawn(client(shared.clone(), http, index)));
    let clients: Vec<_> = clients.collect();
    let turn = Duration::from_millis(args.turn_ms);
    let rate = async |recorded: bool| {
        hub.journal().mute(!recorded);
        tokio::time::sleep(SETTLE).await;
        let (began, before) = (Instant::now(), shared.answered.load(Ordering::Relaxed));
        let cpu = process::cpu_seconds().unwrap_or(f64::NAN);
        tokio::time::sleep(turn).await;
        let answered = (shared.answered.load(Ordering::Relaxed) - before) as f64;
        Turn {
            per_second: answered / began.elapsed().as_secs_f64(),
            answered,
            cpu: process::cpu_seconds().unwrap_or(f64::NAN) - cpu,
        }
    };
    // Connections, caches and the store's tables.
    rate(true).await;
    rate(false).await;
    let stats = hub.stats();
    let count = || {
        let records = stats.records.load(Ordering::Relaxed);
        (records, stats.blocks.load(Ordering::Relaxed))
    };
    let bar = ProgressBar::new(args.rounds.into());
    let (mut with, mut without, mut ratios) = (Turn::default(), Turn::default(), Vec::new());
    let (mut records, mut blocks) = (0, 0);
    for round in 0..args.rounds {
        let before = count();
        // Whatever drifts meets both alike.
        let (recorded, unrecorded) = match round % 2 {
            0 => (rate(true).await, rate(false).await),
            _ => {
                let unrecorded = rate(false).await;
                (rate(true).await, unrecorded)
            }
        };
        let after = count();
        records += after.0 - before.0;
        blocks += after.1 - before.1;
        ratios.push(recorded.per_second / unrecorded.per_second);
        with.add(&recorded);
        without.add(&unrecorded);
        bar.inc(1);
    }
    bar.finish_and_clear();
    shared.stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await??;
    }
    let failed = shared.failed.load(Ordering::Relaxed);
    ensure!(failed == 0, "{failed} answers were not what was asked for");
    ratios.sort_unstable_by(f64::total_cmp);
    let at = |index: usize| ratios.get(index).copied().unwrap_or(f64::NAN);
    let rounds = f64::from(args.rounds);
    Ok(Release {
        what: args.what,
        clients: args.clients,
        rounds: args.rounds,
        recorded_per_second: with.per_second / rounds,
        unrecorded_per_second: without.per_second / rounds,
        recorded_cpu_us: with.cpu / with.answered * 1e6,
        unrecorded_cpu_us: without.cpu / without.answered * 1e6,
        ratio: (at((ratios.len() - 1) / 2) + at(ratios.len() / 2)) / 2.0,
        least_ratio: at(0),
        most_ratio: at(ratios.len() - 1),
        records_a_block: records as f64 / blocks as f64,
        commit_ms_p50: stats.commit.quantile_ms(0.5).unwrap_or(f64::NAN),
        commit_ms_p99: stats.commit.quantile_ms(0.99).unwrap_or(f64::NAN),
    })
}

/// Asks one thing after the other.
async fn client(shared: Arc<Shared>, http: SocketAddr, index: usize) -> anyhow::Result<()> {
    let mut connection = Connection::open(http).await?;
    let mut number = index;
    while !shared.stop.load(Ordering::Relaxed) {
        let (device, tag) = (number % DEVICES, number % usize::from(TAGS));
        let what = match (shared.what, number % 3) {
            (What::History, _) | (What::Mixed, 0) => {
                format!("/api/v1/devices/bench-{device}/tags/r{tag}/history?limit=10")
            }
            (What::Live, _) | (What::Mixed, 1) => format!("/api/v1/tags?device=bench-{device}"),
            (What::Mixed, _) => "/api/v1/records?limit=20".to_owned(),
        };
        let named = format!("X-Request-Id: {number}\r\n");
        let reply = connection.ask(("GET", &what), &named, "").await?;
        match reply.status {
            200 => shared.answered.fetch_add(1, Ordering::Relaxed),
            _ => shared.failed.fetch_add(1, Ordering::Relaxed),
        };
        number += 1;
    }
    Ok(())
}
