//! `weighbridge bench chains`: several chains in one process, as `run` has them when it is given several files.
//!
//! Each chain has a hub, keys, a ledger, machines and threads of its own. What is measured of each is the way of a
//! request: sealed, signed, and durable in a block of its chain that is certified by its hub.

use super::device::BenchDevice;
use crate::cli::temporary::given_or_temporary;
use crate::hub::{Hub, HubBuilder, HubKeys};
use crate::ledger::ChainConfig;
use crate::ledger::act::Act;
use crate::model::now;
use crate::sim::bench_server::BenchServers;
use anyhow::{Context, bail};
use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use weighbridge_verifier::{Action, Response};

/// Registers of each machine: as many values has every scan.
const REGISTERS: u16 = 50;
/// Milliseconds from one poll of a machine to the next.
const PERIOD_MS: u32 = 100;
/// How long the machines may take until every chain has something of them.
const READY: Duration = Duration::from_secs(60);
/// Chains, mean and maximum latency in milliseconds, of Yang et al. 2024.
const PAPER: [(u8, f64, Option<f64>); 3] = [
    (1, 39.0, None),
    (2, 57.0, Some(102.0)),
    (4, 47.0, Some(62.0)),
];

/// What `weighbridge bench chains` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge bench chains
  weighbridge bench chains --chains 1,2,4,8 --clients 32 --seconds 20 --json

Each number of chains is measured twice: one client a chain, which asks as soon as it was answered, and then many. Every
request is a record of its own, and is answered when its block is durable with its certificate. Beside them stand the
figures of Yang et al. 2024, on their machines and with their load.")]
pub(super) struct ChainsArgs {
    /// Numbers of chains, one measurement each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4], value_parser = clap::value_parser!(u8).range(1..=16))]
    chains: Vec<u8>,
    /// Clients of each chain while it is loaded
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=200))]
    clients: u16,
    /// Machines that each chain reads ten times a second meanwhile
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    devices: u16,
    /// How long each phase is
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Where the ledgers are written; a temporary directory by default
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What comes out.
#[derive(Debug, Serialize)]
struct Report {
    build: &'static str,
    clients: u16,
    devices: u16,
    rows: Vec<Row>,
}

/// One number of chains.
#[derive(Debug, Serialize)]
struct Row {
    chains: u8,
    /// One client a chain.
    alone: Load,
    /// Many.
    loaded: Load,
    paper_mean_ms: Option<f64>,
    paper_max_ms: Option<f64>,
}

/// What a load came to, over all chains.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Load {
    requests: usize,
    mean_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    /// Of all chains.
    per_second: f64,
    /// Of the slowest chain.
    least_per_second: f64,
}

impl Load {
    /// Of the times that each chain's requests took.
    fn of(mut chains: Vec<Vec<Duration>>, took: Duration) -> Self {
        let rate = |requests: usize| requests as f64 / took.as_secs_f64();
        let least = chains.iter().map(Vec::len).min().unwrap_or(0);
        let mut all: Vec<f64> = chains
            .drain(..)
            .flatten()
            .map(|time| time.as_secs_f64() * 1e3)
            .collect();
        all.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let index = (share * all.len() as f64).ceil() as usize;
            all.get(index.saturating_sub(1))
                .copied()
                .unwrap_or(f64::NAN)
        };
        Self {
            requests: all.len(),
            mean_ms: all.iter().sum::<f64>() / all.len() as f64,
            p99_ms: at(0.99),
            max_ms: at(1.0),
            per_second: rate(all.len()),
            least_per_second: rate(least),
        }
    }
}

/// Runs it.
pub(super) fn run(args: &ChainsArgs) -> anyhow::Result<ExitCode> {
    let (dir, _temporary) = given_or_temporary(args.dir.as_deref(), "chains")?;
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(200));
    let mut rows = Vec::with_capacity(args.chains.len());
    for (index, chains) in args.chains.iter().enumerate() {
        bar.set_message(format!("{chains} chains"));
        rows.push(row(args, *chains, &dir.join(index.to_string()))?);
    }
    bar.finish_and_clear();
    let debug = cfg!(debug_assertions);
    let report = Report {
        build: if debug { "debug" } else { "release" },
        clients: args.clients,
        devices: args.devices,
        rows,
    };
    match args.json {
        true => println!("{}", serde_json::to_string(&report)?),
        false => print_table(&report),
    }
    Ok(ExitCode::SUCCESS)
}

fn print_table(report: &Report) {
    println!(
        "chains of one process, {} machines each, {} build; milliseconds from a request to its certified block",
        report.devices, report.build
    );
    println!(
        "chains |  one client each: mean    p99    max  requests/s | {:>3} clients each: mean    p99    max  requests/s \
         | paper: mean  max",
        report.clients
    );
    let shown = |ms: Option<f64>| ms.map_or("-".to_owned(), |ms| format!("{ms:.0}"));
    for row in &report.rows {
        let (alone, loaded) = (&row.alone, &row.loaded);
        println!(
            "{:>6} |{:>24.1} {:>6.1} {:>6.1} {:>11.0} |{:>23.1} {:>6.1} {:>6.1} {:>11.0} |{:>12} {:>4}",
            row.chains,
            alone.mean_ms,
            alone.p99_ms,
            alone.max_ms,
            alone.per_second,
            loaded.mean_ms,
            loaded.p99_ms,
            loaded.max_ms,
            loaded.per_second,
            shown(row.paper_mean_ms),
            shown(row.paper_max_ms),
        );
    }
}

fn row(args: &ChainsArgs, chains: u8, dir: &Path) -> anyhow::Result<Row> {
    let each = usize::from(args.devices);
    let machines = BenchServers::start(each * usize::from(chains), REGISTERS)?;
    let mut hubs = Vec::with_capacity(chains.into());
    for (number, ports) in (1..).zip(machines.ports().chunks(each)) {
        hubs.push(chain(number, ports, dir)?);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let time = Duration::from_secs(args.seconds);
    let measured = hubs.iter().try_for_each(ready).and_then(|()| {
        let alone = load(&runtime, &hubs, 1, time)?;
        let loaded = load(&runtime, &hubs, args.clients, time)?;
        anyhow::Ok((alone, loaded))
    });
    for hub in hubs {
        hub.shutdown()?;
    }
    let (alone, loaded) = measured?;
    let paper = PAPER.iter().find(|(of, ..)| *of == chains);
    Ok(Row {
        chains,
        alone,
        loaded,
        paper_mean_ms: paper.map(|(_, mean, _)| *mean),
        paper_max_ms: paper.and_then(|(.., max)| *max),
    })
}

/// A chain of its own: hub, keys, ledger, machines.
fn chain(number: usize, ports: &[u16], dir: &Path) -> anyhow::Result<Hub> {
    let (hub, id) = (format!("hub-{number}"), format!("chain-{number}"));
    let data = dir.join(&id);
    std::fs::create_dir_all(&data)?;
    let mut builder = HubBuilder::new(HubKeys::generate(&hub), data).chain(ChainConfig { id });
    for (machine, port) in ports.iter().enumerate() {
        let device = BenchDevice::new(format!("press-{machine}"), *port, REGISTERS, 0, PERIOD_MS)?;
        builder = builder.device(device.setup()?);
    }
    Ok(builder.start()?)
}

/// Waits until a chain has blocks of its machines.
fn ready(hub: &Hub) -> anyhow::Result<()> {
    let start = Instant::now();
    while hub.stats().batches() < 2 {
        if start.elapsed() > READY {
            bail!("{} recorded nothing within {} s", hub.id(), READY.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// So many clients of each chain, each of which asks as soon as it was answered.
fn load(runtime: &Runtime, hubs: &[Hub], clients: u16, time: Duration) -> anyhow::Result<Load> {
    let start = Instant::now();
    let mut tasks = Vec::new();
    for hub in hubs {
        let of_chain = (0..clients).map(|client| {
            let journal = hub.journal().clone();
            runtime.spawn(async move {
                let subject = format!("user:client-{client}");
                let details = json!({"asked": "bench"});
                let mut took = Vec::new();
                while start.elapsed() < time {
                    let asked = Instant::now();
                    let act = Act {
                        time: now(),
                        subject: &subject,
                        action: Action::Read,
                        object: "device:press-0",
                        kind: "history-read",
                        details: &details,
                        response: Response::Accepted,
                    };
                    journal.record_in_company(&act).await?;
                    took.push(asked.elapsed());
                }
                anyhow::Ok(took)
            })
        });
        tasks.push(of_chain.collect::<Vec<_>>());
    }
    let mut chains = Vec::with_capacity(tasks.len());
    for of_chain in tasks {
        let mut took = Vec::new();
        for task in of_chain {
            let client = runtime.block_on(task).context("a client died")?;
            took.extend(client?);
        }
        chains.push(took);
    }
    Ok(Load::of(chains, start.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_summed_over_all_chains() {
        let ms = |times: &[u64]| times.iter().map(|ms| Duration::from_millis(*ms)).collect();
        let load = Load::of(vec![ms(&[4, 1, 1]), ms(&[2])], Duration::from_secs(2));
        let wanted = Load {
            requests: 4,
            mean_ms: 2.0,
            p99_ms: 4.0,
            max_ms: 4.0,
            per_second: 2.0,
            least_per_second: 0.5,
        };
        assert_eq!(load, wanted);
    }
}
