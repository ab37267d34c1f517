//! `weighbridge bench`: what this machine does, measured on the whole path.

mod chains;
mod commit;
mod device;
mod http;
mod hub_process;
mod idle;
mod opcua;
mod outage;
mod proof;
mod release;
mod requests;
mod rotate;
mod write;

use super::temporary::given_or_temporary;
use crate::api::process;
use crate::hub::{HubBuilder, HubKeys};
use crate::model::BatchBuilder;
use crate::protocols::Source;
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use device::BenchDevice;
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What `weighbridge bench` is told.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Modbus TCP in, durable ledger out: the whole path, beside a bare read loop over the same
    /// servers
    Ingest(IngestArgs),
    /// A hub that is away for an hour: what is lost, what is there twice, and the memory it takes
    Outage(outage::OutageArgs),
    /// The proof of one sample in a ledger of many records: its bytes, and the time to verify it
    Proof(proof::ProofArgs),
    /// Writes to devices under load: from the call to the value read back
    Write(write::WriteArgs),
    /// What it costs that everything is recorded before it is released
    Release(release::ReleaseArgs),
    /// Requests of many users at a hub that is killed again and again: whether each answer has its record
    Requests(requests::RequestsArgs),
    /// Hubs that share a chain: from a request to its block, durable with the hubs' certificate
    Commit(commit::CommitArgs),
    /// Hubs that share a chain while there is nothing to do: blocks, writes to disk, processor time
    Idle(idle::IdleArgs),
    /// Several chains in one process: throughput and latency of each, and of all together
    Chains(chains::ChainsArgs),
    /// Keys of every kind are replaced under load: what is refused meanwhile, and how long the gaps are
    Rotate(rotate::RotateArgs),
    /// The OPC UA server: notifications to many clients, or reads beside the bare stack
    Opcua(opcua::OpcuaArgs),
}

/// What `weighbridge bench ingest` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge bench ingest --devices 20 --registers 1000 --seconds 10
  weighbridge bench ingest --devices 4 --registers 100 --json

The servers run in a process of their own. A point is one decoded value of one tag. Both phases read
as fast as they can: first a bare loop that only decodes, then a hub that judges, signs, encrypts
and makes durable what it read.")]
struct IngestArgs {
    /// Modbus devices, each with a connection of its own
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=200))]
    devices: u16,
    /// Holding registers of each, all of them read in every scan
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    registers: u16,
    /// How long each of the two phases is measured
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Where the ledger is written; a temporary directory by default
    #[arg(long)]
    dir: Option<std::path::PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What comes out.
#[derive(Debug, Serialize)]
struct Ingest {
    points_per_second: f64,
    bare_points_per_second: f64,
    ratio: f64,
    latency_ms_p50: f64,
    latency_ms_p99: f64,
    hub_cpu_seconds: f64,
    hub_rss_mb: f64,
    seconds: f64,
    batches: u64,
    blocks: u64,
    commit_ms_p50: f64,
    commit_ms_p99: f64,
    stored_mb: f64,
}

/// The first line that the servers' process prints.
#[derive(Debug, Deserialize)]
struct Servers {
    ports: Vec<u16>,
}

/// Runs the benchmark.
pub fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Opcua(args) => return opcua::run(&args),
        What::Release(args) => return release::run(&args),
        What::Requests(args) => return requests::run(&args),
        What::Rotate(args) => return rotate::run(&args),
        What::Chains(args) => return chains::run(&args),
        What::Ingest(args) => {
            let result = ingest(&args)?;
            match args.json {
                true => println!("{}", serde_json::to_string(&result)?),
                false => print_table(&result),
            }
        }
        What::Write(args) => {
            let result = write::writes(&args)?;
            match args.json {
                true => println!("{}", serde_json::to_string(&result)?),
                false => write::print_table(&result),
            }
        }
        What::Commit(args) => {
            let result = commit::run(&args)?;
            match args.json {
                true => println!("{}", serde_json::to_string(&result)?),
                false => commit::print_table(&result),
            }
        }
        What::Idle(args) => {
            let result = idle::run(&args)?;
            match args.json {
                true => println!("{}", serde_json::to_string(&result)?),
                false => idle::print_table(&result),
            }
        }
        What::Proof(args) => {
            let result = proof::run(&args)?;
            match args.json {
                true => println!("{}", serde_json::to_string(&result)?),
                false => proof::print_table(&result),
            }
        }
        What::Outage(args) => {
            let result = outage::run(&args)?;
            match args.json {
                true => println!("{}", serde_json::to_string(&result)?),
                false => outage::print_table(&result),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_table(r: &Ingest) {
    println!("whole path        {:>12.0} points/s", r.points_per_second);
    println!(
        "bare read loop    {:>12.0} points/s",
        r.bare_points_per_second
    );
    println!("ratio             {:>12.3}", r.ratio);
    println!(
        "latency p50, p99  {:>8.1} ms, {:.1} ms (source time to durable)",
        r.latency_ms_p50, r.latency_ms_p99
    );
    println!(
        "hub's processor   {:>12.2} s in {:.1} s",
        r.hub_cpu_seconds, r.seconds
    );
    println!(
        "hub's memory      {:>12.1} MB resident at most",
        r.hub_rss_mb
    );
    println!(
        "block's commit    {:>8.1} ms, {:.1} ms (p50, p99: signed, written and synced, with its head)",
        r.commit_ms_p50, r.commit_ms_p99
    );
    println!(
        "written           {:>12.1} MB in {} blocks, {} batches",
        r.stored_mb, r.blocks, r.batches
    );
}

fn ingest(args: &IngestArgs) -> anyhow::Result<Ingest> {
    let (servers, ports) = start_servers(args.devices, args.registers, args.seconds * 3 + 60)?;
    let measured = (|| {
        // Says what goes on while nothing else does; hidden where standard error is no terminal.
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(200));
        bar.set_message(format!("the whole path, {} s", args.seconds));
        // The hub goes first into fresh memory, so that its figure is its own.
        let hub = whole_path(args, &ports)?;
        bar.set_message(format!("the bare read loop, {} s", args.seconds));
        let bare = bare_loop(args, &ports)?;
        bar.finish_and_clear();
        anyhow::Ok((bare, hub))
    })();
    stop_servers(servers)?;
    let (bare, mut hub) = measured?;
    hub.bare_points_per_second = bare;
    hub.ratio = hub.points_per_second / bare;
    Ok(hub)
}

fn start_servers(devices: u16, registers: u16, seconds: u64) -> anyhow::Result<(Child, Vec<u16>)> {
    let program = std::env::current_exe().context("this program's own path is not known")?;
    let mut servers = Command::new(program)
        .arg("sim")
        .args(["--bench-devices", &devices.to_string()])
        .args(["--bench-registers", &registers.to_string()])
        .args(["--for", &seconds.to_string(), "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("the servers' process cannot be started")?;
    let mut line = String::new();
    if let Some(out) = servers.stdout.take() {
        BufReader::new(out).read_line(&mut line)?;
    }
    let Servers { ports } = serde_json::from_str(&line)
        .with_context(|| format!("the servers' process said {line:?} instead of its ports"))?;
    if ports.len() != usize::from(devices) {
        bail!("{devices} servers were asked for, {} came up", ports.len());
    }
    Ok((servers, ports))
}

fn stop_servers(mut servers: Child) -> anyhow::Result<()> {
    // Closing its input ends the servers' process.
    drop(servers.stdin.take());
    servers.wait().context("the servers' process did not end")?;
    Ok(())
}

fn devices(args: &IngestArgs, ports: &[u16]) -> anyhow::Result<Vec<BenchDevice>> {
    let device = |(index, port): (usize, &u16)| {
        // As fast as it can.
        BenchDevice::new(format!("bench-{index:03}"), *port, args.registers, 0, 0)
    };
    ports.iter().enumerate().map(device).collect()
}

/// Samples of one batch: large enough to make its fixed costs small, small enough for a low latency.
const BATCH_SAMPLES: usize = 8_192;

fn whole_path(args: &IngestArgs, ports: &[u16]) -> anyhow::Result<Ingest> {
    let (dir, _temporary) = given_or_temporary(args.dir.as_deref(), "bench")?;
    let mut builder = HubBuilder::new(HubKeys::generate("bench"), dir);
    for device in devices(args, ports)? {
        let mut setup = device.setup()?;
        setup.batch.samples = BATCH_SAMPLES;
        builder = builder.device(setup);
    }
    let hub = builder.start()?;
    let stats = hub.stats();
    wait_for_points(&hub)?;
    let (cpu, points, batches, blocks, bytes, start) = (
        process::cpu_seconds(),
        stats.points.load(Ordering::Relaxed),
        stats.batches(),
        stats.blocks.load(Ordering::Relaxed),
        stats.sealed_bytes.load(Ordering::Relaxed),
        Instant::now(),
    );
    let mut rss = 0;
    while start.elapsed() < Duration::from_secs(args.seconds) {
        std::thread::sleep(Duration::from_millis(100));
        rss = rss.max(process::resident_bytes().unwrap_or(0));
    }
    let seconds = start.elapsed().as_secs_f64();
    let points = stats.points.load(Ordering::Relaxed) - points;
    let result = Ingest {
        points_per_second: points as f64 / seconds,
        bare_points_per_second: 0.0,
        ratio: 0.0,
        latency_ms_p50: stats.latency.quantile_ms(0.5).unwrap_or(f64::NAN),
        latency_ms_p99: stats.latency.quantile_ms(0.99).unwrap_or(f64::NAN),
        hub_cpu_seconds: process::cpu_seconds().unwrap_or(f64::NAN) - cpu.unwrap_or(f64::NAN),
        hub_rss_mb: rss as f64 / 1e6,
        seconds,
        batches: stats.batches() - batches,
        blocks: stats.blocks.load(Ordering::Relaxed) - blocks,
        commit_ms_p50: stats.commit.quantile_ms(0.5).unwrap_or(f64::NAN),
        commit_ms_p99: stats.commit.quantile_ms(0.99).unwrap_or(f64::NAN),
        stored_mb: (stats.sealed_bytes.load(Ordering::Relaxed) - bytes) as f64 / 1e6,
    };
    hub.shutdown()?;
    Ok(result)
}

fn wait_for_points(hub: &crate::hub::Hub) -> anyhow::Result<()> {
    let start = Instant::now();
    let stats = hub.stats();
    while stats.blocks.load(Ordering::Relaxed) < 3 {
        if start.elapsed() > Duration::from_secs(30) {
            bail!("no block was written within 30 s");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn bare_loop(args: &IngestArgs, ports: &[u16]) -> anyhow::Result<f64> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let points = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for device in devices(args, ports)? {
        let (id, mut source) = (device.id.clone(), device.source()?);
        let (points, stop) = (points.clone(), stop.clone());
        tasks.push(runtime.spawn(async move {
            let mut builder = BatchBuilder::scanning(id, source.tags());
            source.connect().await?;
            while !stop.load(Ordering::Relaxed) {
                source.read(&mut builder).await?;
                if builder.samples() >= BATCH_SAMPLES
                    && let Some(batch) = builder.take(1, 1)
                {
                    points.fetch_add(batch.samples() as u64, Ordering::Relaxed);
                }
            }
            anyhow::Ok(())
        }));
    }
    std::thread::sleep(Duration::from_millis(500));
    let (start, before) = (Instant::now(), points.load(Ordering::Relaxed));
    std::thread::sleep(Duration::from_secs(args.seconds));
    let read = points.load(Ordering::Relaxed) - before;
    let rate = read as f64 / start.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        runtime.block_on(task)??;
    }
    Ok(rate)
}
