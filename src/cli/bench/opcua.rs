//! `weighbridge bench opcua`: the OPC UA server, measured by clients.

use crate::api::process;
use crate::cli::temporary::TemporaryDir;
use crate::sim::opcua_bench::{BenchServer, Clients, Kind, Load, Told, Wish};
use anyhow::Context;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What `weighbridge bench opcua` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge bench opcua                                      1,000 items, 10 changes/s each
  weighbridge bench opcua --sessions 100 --period-ms 1000
  taskset -c 0 weighbridge bench opcua --reads                 100-node reads, beside the bare stack

The server runs in a process of its own and rewrites all its values in every period, counting
upwards, so that a client sees what it was not told. Latency is from the change to the client's
hands, the publishing interval included. With --reads a client reads 100 nodes at a time as fast as it
can, in turn from the hub's server and from one of the same stack without anything around it.")]
pub(super) struct OpcuaArgs {
    /// Sessions, each with one subscription
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=500))]
    sessions: u16,
    /// Values of the server, all of them monitored in every session
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    items: u16,
    /// How often every value changes
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    period_ms: u64,
    /// All values in the same moment, instead of a hundred at a time, as devices do that know nothing
    /// of each other
    #[arg(long)]
    at_once: bool,
    /// Publishing interval
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    publishing_ms: u64,
    /// Sampling interval
    #[arg(long, default_value_t = 0.0)]
    sampling_ms: f64,
    /// Queue of each item
    #[arg(long, default_value_t = 20)]
    queue: u32,
    /// How long each phase is measured
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Measure the bare stack instead of the hub's server
    #[arg(long)]
    bare: bool,
    /// Measure reads
    #[arg(long)]
    reads: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Only serve: print the URL, and end with standard input
    #[arg(long, hide = true)]
    serve: Option<Serve>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Serve {
    Hub,
    Bare,
}

/// Notifications: what comes out.
#[derive(Debug, Serialize)]
struct Notifications {
    delivered: u64,
    expected: u64,
    missing: u64,
    disorder: u64,
    per_second: f64,
    latency_ms_p50: f64,
    latency_ms_p99: f64,
    latency_ms_max: f64,
    server_cpu: f64,
    client_cpu: f64,
    server_rss_mb: f64,
    seconds: f64,
}

/// Reads: what comes out. Medians of the rounds.
#[derive(Debug, Serialize)]
struct Reads {
    values_per_second: f64,
    bare_values_per_second: f64,
    ratio: f64,
}

/// The line that the server's process prints.
#[derive(Debug, Serialize, Deserialize)]
struct Serving {
    url: String,
}

/// Rounds of reads, hub and bare in turn.
const ROUNDS: u32 = 5;
/// Nodes of one read.
const BATCH: usize = 100;

pub(super) fn run(args: &OpcuaArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    match (args.serve, args.reads) {
        (Some(serve), _) => runtime.block_on(serve_until_told(args, serve))?,
        (None, true) => {
            let reads = runtime.block_on(reads(args))?;
            match args.json {
                true => println!("{}", serde_json::to_string(&reads)?),
                false => print_reads(&reads),
            }
        }
        (None, false) => {
            let notifications = runtime.block_on(notifications(args))?;
            match args.json {
                true => println!("{}", serde_json::to_string(&notifications)?),
                false => print_notifications(&notifications),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_reads(r: &Reads) {
    println!("hub's server      {:>12.0} values/s", r.values_per_second);
    println!(
        "bare stack        {:>12.0} values/s",
        r.bare_values_per_second
    );
    println!("ratio             {:>12.3}", r.ratio);
}

fn print_notifications(n: &Notifications) {
    println!(
        "notifications     {:>12} of {} ({:.0}/s), {} left out, {} out of order",
        n.delivered, n.expected, n.per_second, n.missing, n.disorder
    );
    println!(
        "latency p50, p99  {:>8.1} ms, {:.1} ms, at most {:.1} ms (change to client)",
        n.latency_ms_p50, n.latency_ms_p99, n.latency_ms_max
    );
    println!(
        "processor         {:>8.2} of a core for the server, {:.2} for the clients",
        n.server_cpu, n.client_cpu
    );
    println!("server's memory   {:>8.1} MB resident", n.server_rss_mb);
}

async fn serve_until_told(args: &OpcuaArgs, serve: Serve) -> anyhow::Result<()> {
    let dir = TemporaryDir::new("bench-opcua")?;
    let kind = match serve {
        Serve::Hub => Kind::Hub,
        Serve::Bare => Kind::Bare,
    };
    let load = Load {
        items: args.items.into(),
        period: Duration::from_millis(args.period_ms),
        at_once: args.at_once,
    };
    let server = BenchServer::start(kind, load, dir.path()).await?;
    let url = server.url().to_owned();
    println!("{}", serde_json::to_string(&Serving { url })?);
    // A thread of its own: it waits for the end, and must not keep the runtime from ending.
    let (closed, input) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let mut ignored = [0; 256];
        while matches!(std::io::stdin().read(&mut ignored), Ok(read) if read > 0) {}
        drop(closed);
    });
    let longest = Duration::from_secs(args.seconds * 20 + 600);
    let _ = tokio::time::timeout(longest, input).await;
    Ok(())
}

/// A server in a process of its own, which ends when this is dropped.
struct Server {
    process: Child,
    url: String,
}

impl Server {
    fn start(args: &OpcuaArgs, serve: &str) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program's own path is not known")?;
        let mut process = Command::new(program)
            .args(["bench", "opcua", "--serve", serve])
            .args(["--items", &args.items.to_string()])
            .args(["--period-ms", &args.period_ms.to_string()])
            .args(["--seconds", &args.seconds.to_string()])
            .args(args.at_once.then_some("--at-once"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the server's process cannot be started")?;
        let mut line = String::new();
        if let Some(out) = process.stdout.take() {
            BufReader::new(out).read_line(&mut line)?;
        }
        let Serving { url } = serde_json::from_str(&line)
            .with_context(|| format!("the server's process said {line:?} instead of its URL"))?;
        Ok(Self { process, url })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

async fn notifications(args: &OpcuaArgs) -> anyhow::Result<Notifications> {
    let (kind, name) = match args.bare {
        true => (Kind::Bare, "bare"),
        false => (Kind::Hub, "hub"),
    };
    let server = Server::start(args, name)?;
    let clients = Clients::open(&server.url, args.sessions.into()).await?;
    let told = Arc::new(Told::default());
    let wish = Wish {
        sessions: args.sessions.into(),
        items: args.items.into(),
        publishing: Duration::from_millis(args.publishing_ms),
        sampling: args.sampling_ms,
        queue: args.queue,
    };
    clients.subscribe(kind, &wish, &told).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let id = server.process.id();
    let used = || (process::cpu_seconds_of(id), process::cpu_seconds());
    let ((server_before, own_before), start) = (used(), Instant::now());
    told.counting.store(true, Ordering::Relaxed);
    let mut rss = 0;
    while start.elapsed() < Duration::from_secs(args.seconds) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        rss = rss.max(process::resident_bytes_of(id).unwrap_or(0));
    }
    told.counting.store(false, Ordering::Relaxed);
    let seconds = start.elapsed().as_secs_f64();
    let (server_after, own_after) = used();
    let share = |after: Option<f64>, before: Option<f64>| {
        (after.unwrap_or(f64::NAN) - before.unwrap_or(f64::NAN)) / seconds
    };
    let delivered = told.notifications.load(Ordering::Relaxed);
    let missing = told.missing.load(Ordering::Relaxed);
    let quantile = |q| told.latency.quantile_ms(q).unwrap_or(f64::NAN);
    Ok(Notifications {
        delivered,
        expected: delivered + missing,
        missing,
        disorder: told.disorder.load(Ordering::Relaxed),
        per_second: delivered as f64 / seconds,
        latency_ms_p50: quantile(0.5),
        latency_ms_p99: quantile(0.99),
        latency_ms_max: quantile(1.0),
        server_cpu: share(server_after, server_before),
        client_cpu: share(own_after, own_before),
        server_rss_mb: rss as f64 / 1e6,
        seconds,
    })
}

async fn reads(args: &OpcuaArgs) -> anyhow::Result<Reads> {
    let time = Duration::from_secs(args.seconds) / ROUNDS;
    let items = args.items.into();
    let hub = Server::start(args, "hub")?;
    let bare = Server::start(args, "bare")?;
    let of_hub = Clients::open(&hub.url, 1).await?;
    let of_bare = Clients::open(&bare.url, 1).await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(of_hub.read(Kind::Hub, items, BATCH, time).await?);
        theirs.push(of_bare.read(Kind::Bare, items, BATCH, time).await?);
    }
    let (ours, theirs) = (median(ours), median(theirs));
    Ok(Reads {
        values_per_second: ours,
        bare_values_per_second: theirs,
        ratio: ours / theirs,
    })
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or(f64::NAN)
}
