//! `weighbridge bench write`: how long a write takes from the face's call to the value read back, while
//! the hub reads, judges, seals and records a load.

use super::device::BenchDevice;
use super::{start_servers, stop_servers};
use crate::access::Role;
use crate::cli::temporary::given_or_temporary;
use crate::hub::{Hub, HubBuilder, HubKeys};
use crate::live_view::Link;
use crate::model::Value;
use crate::stats::Histogram;
use anyhow::{Context, bail};
use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Milliseconds from one poll of a device to the next.
const PERIOD_MS: u32 = 40;
/// Most registers that are written in one request (Modbus Application Protocol V1.1b3, 6.12).
const MAX_POINTS: i64 = 123;
/// How long it may take until all devices are up and the load flows.
const READY: Duration = Duration::from_secs(30);

/// What `weighbridge bench write` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge bench write
  weighbridge bench write --writes 2000 --points 100 --load 100000
  weighbridge bench write --devices 4 --load 10000 --json

The servers run in a process of their own. One write after the other goes to one device after the
other; each is recorded and durable before the device is touched, and is over when all its values
were read back.")]
pub(super) struct WriteArgs {
    /// Modbus devices, each with a connection of its own
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=200))]
    devices: u16,
    /// Registers of each write
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=MAX_POINTS))]
    points: u16,
    /// Points a second that are read meanwhile, over all devices
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1_000..=1_000_000))]
    load: u32,
    /// How many writes
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    writes: u32,
    /// Where the ledger is written; a temporary directory by default
    #[arg(long)]
    dir: Option<std::path::PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// One phase of the writes.
#[derive(Debug, Serialize)]
struct Phase {
    name: &'static str,
    p50_ms: f64,
    p99_ms: f64,
    /// Of the whole time, 0 to 1.
    share: f64,
}

/// What comes out.
#[derive(Debug, Serialize)]
pub(super) struct Writes {
    writes: usize,
    points: u16,
    p50_ms: f64,
    p99_ms: f64,
    worst_ms: f64,
    load_points_per_second: f64,
    commit_ms_p50: f64,
    commit_ms_p99: f64,
    phases: Vec<Phase>,
}

pub(super) fn print_table(r: &Writes) {
    let points = r.points;
    println!("writes             {:>8} of {points} points each", r.writes);
    println!(
        "load               {:>8.0} points/s",
        r.load_points_per_second
    );
    println!(
        "to read-back       {:>8.1} ms p50, {:.1} ms p99, {:.1} ms at most",
        r.p50_ms, r.p99_ms, r.worst_ms
    );
    for phase in &r.phases {
        println!(
            "  {:<16} {:>8.1} ms p50, {:.1} ms p99, {:.0} % of the time",
            phase.name,
            phase.p50_ms,
            phase.p99_ms,
            phase.share * 100.0
        );
    }
    println!(
        "block's commit     {:>8.1} ms p50, {:.1} ms p99",
        r.commit_ms_p50, r.commit_ms_p99
    );
}

pub(super) fn writes(args: &WriteArgs) -> anyhow::Result<Writes> {
    let rate = f64::from(args.load) / f64::from(args.devices);
    let registers = (rate * f64::from(PERIOD_MS) / 1000.0).ceil();
    // What is written is read in every scan, too.
    let registers = (registers as u16).clamp(args.points, 10_000);
    let seconds = 120 + u64::from(args.writes) / 10;
    let (servers, ports) = start_servers(args.devices, registers, seconds)?;
    let measured = measure(args, registers, &ports);
    stop_servers(servers)?;
    measured
}

fn measure(args: &WriteArgs, registers: u16, ports: &[u16]) -> anyhow::Result<Writes> {
    let (dir, _temporary) = given_or_temporary(args.dir.as_deref(), "bench")?;
    let mut builder = HubBuilder::new(HubKeys::generate("bench"), dir);
    for (index, port) in ports.iter().enumerate() {
        let id = format!("bench-{index:03}");
        let device = BenchDevice::new(id, *port, registers, args.points, PERIOD_MS)?;
        builder = builder.device(device.setup()?);
    }
    let hub = builder.start()?;
    ready(&hub)?;
    let bar = ProgressBar::new(args.writes.into());
    let (start, before) = (Instant::now(), hub.stats().points.load(Ordering::Relaxed));
    let mut took = hub.runtime().block_on(write_all(&hub, args, &bar))?;
    let points = hub.stats().points.load(Ordering::Relaxed) - before;
    let load = points as f64 / start.elapsed().as_secs_f64();
    bar.finish_and_clear();
    took.sort_unstable();
    let at = |q: f64| {
        let index = (q * took.len() as f64).ceil() as usize;
        took.get(index.saturating_sub(1)).map_or(f64::NAN, ms)
    };
    let whole: Duration = took.iter().sum();
    let times = hub.control_times();
    let phase = |name, times: &Histogram| Phase {
        name,
        p50_ms: times.quantile_ms(0.5).unwrap_or(f64::NAN),
        p99_ms: times.quantile_ms(0.99).unwrap_or(f64::NAN),
        share: times.sum_ms() / ms(&whole),
    };
    let commit = &hub.stats().commit;
    let result = Writes {
        writes: took.len(),
        points: args.points,
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        worst_ms: at(1.0),
        load_points_per_second: load,
        commit_ms_p50: commit.quantile_ms(0.5).unwrap_or(f64::NAN),
        commit_ms_p99: commit.quantile_ms(0.99).unwrap_or(f64::NAN),
        phases: vec![
            phase("queue", &times.queued),
            phase("record", &times.recorded),
            phase("device", &times.touched),
        ],
    };
    hub.shutdown()?;
    Ok(result)
}

fn ms(time: &Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Waits until every device is up and its batches are recorded.
fn ready(hub: &Hub) -> anyhow::Result<()> {
    let start = Instant::now();
    let flows = || {
        let devices = hub.live().devices();
        let recorded = hub.stats().batches() >= 2 * devices.len() as u64;
        recorded && devices.iter().all(|device| device.link() == Link::Up)
    };
    while !flows() {
        if start.elapsed() > READY {
            bail!("the load did not flow within {} s", READY.as_secs());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Writes one device after the other, and checks what was read back.
async fn write_all(
    hub: &Hub,
    args: &WriteArgs,
    bar: &ProgressBar,
) -> anyhow::Result<Vec<Duration>> {
    let caller = hub.enter("bench", &[Role::Engineer]).await?;
    let control = hub.control();
    let mut took = Vec::with_capacity(args.writes as usize);
    for number in 0..args.writes {
        let device = format!("bench-{:03}", number % u32::from(args.devices));
        let value = |register: u16| Value::U64(u64::from((number as u16).wrapping_add(register)));
        let writes = (0..args.points).map(|r| (format!("r{r}"), value(r)));
        let start = Instant::now();
        let written = control.write(&caller, &device, writes.collect()).await?;
        took.push(start.elapsed());
        for (register, result) in (0..).zip(written) {
            let back = result.with_context(|| format!("{device}/r{register}"))?;
            if back != value(register) {
                bail!("{device}/r{register} reads back {back}");
            }
        }
        bar.inc(1);
    }
    Ok(took)
}
