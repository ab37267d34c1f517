//! `weighbridge bench requests`: many users ask a hub that is killed again and again; at the end it is
//! looked up whether every answer has its record, and every record its request.
//!
//! Clients and machines are in this process, the hub in one of its own. Each request has a number, which is
//! in the sealed details of its record: as what the client calls it (`X-Request-Id`), or as the value that
//! was to be written.

mod check;
mod drive;
mod hub;

use super::hub_process::HubProcess;
use crate::cli::temporary::given_or_temporary;
use crate::sim::bench_server::{BenchServers, Writes};
use anyhow::Context;
use check::{Answers, Wrong};
use clap::Args;
use drive::{Random, Shared, over_http, over_opcua};
use hub::{Address, Plant};
use indicatif::ProgressBar;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Registers of a press: a set point of two, and a pressure.
const REGISTERS: u16 = 3;
/// How exactly a kill hits its moment.
const LOOK: Duration = Duration::from_millis(1);

/// What `weighbridge bench requests` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge bench requests
  weighbridge bench requests --requests 1000000 --kills 100 --seed 7 --json

Reads of history, writes to machines, words to alarms, requests of who may not, and log-ins, over HTTP and
OPC UA. The hub dies by SIGKILL at moments that the seed says, and at the end. Exit code 0 when
nothing is wrong, else 1.")]
pub(super) struct RequestsArgs {
    /// How many requests
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    requests: u32,
    /// How often the hub is killed on the way
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    kills: u32,
    /// Clients that keep a connection open over HTTP
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=200))]
    clients: u16,
    /// Clients that write over OPC UA
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(0..=20))]
    opcua_clients: u16,
    /// Machines that are written to
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=100))]
    devices: u16,
    /// What decides who asks what, and when the hub dies
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the ledger is written; a temporary directory by default
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What comes out.
#[derive(Debug, Serialize)]
struct Requests {
    requests: u32,
    #[serde(flatten)]
    answers: Answers,
    kills: u32,
    seed: u64,
    seconds: f64,
    per_second: f64,
    records: u64,
    blocks: u64,
    /// What the machines saw.
    machine_writes: usize,
    check_seconds: f64,
    wrong: Wrong,
}

/// Runs it.
pub(super) fn run(args: &RequestsArgs) -> anyhow::Result<ExitCode> {
    let (dir, _temporary) = given_or_temporary(args.dir.as_deref(), "requests")?;
    let result = measure(args, &dir)?;
    match args.json {
        true => println!("{}", serde_json::to_string(&result)?),
        false => print_table(&result),
    }
    Ok(match result.wrong.sum() {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn print_table(r: &Requests) {
    let a = &r.answers;
    println!(
        "requests          {:>10} in {:.1} s, {:.0}/s, over {} kills (seed {})",
        r.requests, r.seconds, r.per_second, r.kills, r.seed
    );
    println!(
        "answered          {:>10}, put off {}, unanswered {}",
        a.answered, a.put_off, a.unanswered
    );
    println!("records           {:>10} in {} blocks", r.records, r.blocks);
    println!("writes done       {:>10}", r.machine_writes);
    let w = &r.wrong;
    for (what, count) in [
        ("answered without a record", w.answered_without_record),
        ("answered without a result", w.answered_without_result),
        ("recorded twice", w.recorded_twice),
        ("recorded but never sent", w.recorded_but_never_sent),
        ("recorded at another time", w.recorded_at_another_time),
        ("result without a request", w.result_without_request),
        ("recorded but not done", w.recorded_but_not_done),
        ("done but not recorded", w.done_but_not_recorded),
        ("done twice", w.done_twice),
        ("found by verify", w.ledger_findings),
    ] {
        println!("  {what:<26}{count:>10}");
    }
}

fn measure(args: &RequestsArgs, dir: &Path) -> anyhow::Result<Requests> {
    let writes = Writes::kept();
    let devices = usize::from(args.devices);
    let machines = BenchServers::watched(devices, REGISTERS, &writes)?;
    let plant = Plant::make(dir, machines.addresses())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let began = Instant::now();
    let journal = runtime.block_on(drive_all(args, &plant))?;
    let seconds = began.elapsed().as_secs_f64();
    let seen = writes.seen();
    let data = plant.data();
    let began = Instant::now();
    let ledger = check::read(&data, plant.sealing)?;
    let (answers, wrong) = check::compare(&journal, &seen, &ledger);
    Ok(Requests {
        requests: args.requests,
        answers,
        kills: args.kills,
        seed: args.seed,
        seconds,
        per_second: f64::from(args.requests) / seconds,
        records: ledger.records,
        blocks: ledger.blocks,
        machine_writes: seen.len(),
        check_seconds: began.elapsed().as_secs_f64(),
        wrong,
    })
}

/// Has everything asked, kills the hub meanwhile and at the end, and returns what the clients remember.
async fn drive_all(args: &RequestsArgs, plant: &Plant) -> anyhow::Result<Vec<drive::Entry>> {
    let mut random = Random(args.seed);
    let (publish, hub) = watch::channel(None);
    let shared = Arc::new(Shared {
        next: AtomicU32::new(1),
        last: args.requests,
        presses: usize::from(args.devices),
        hub,
    });
    let seeds: Vec<_> = (0..args.clients)
        .map(|_| Random(random.below(u64::MAX)))
        .collect();
    let http = seeds.into_iter();
    let http = http.map(|random| tokio::spawn(over_http(shared.clone(), random)));
    let mut clients: Vec<_> = http.collect();
    let opcua = 0..usize::from(args.opcua_clients);
    clients.extend(opcua.map(|index| tokio::spawn(over_opcua(shared.clone(), index))));

    let bar = ProgressBar::new(args.requests.into());
    let mut running = start(plant, &publish).await?;
    let share = args.requests / (args.kills + 1);
    for kill in 0..args.kills {
        // Anywhere in its share of the requests, and anywhere in what the hub does for one of them.
        let at = kill * share + random.below(u64::from(share.max(1))) as u32;
        while shared.next.load(Ordering::Relaxed) < at {
            bar.set_position(shared.next.load(Ordering::Relaxed).into());
            tokio::time::sleep(LOOK).await;
        }
        tokio::time::sleep(Duration::from_micros(random.below(10_000))).await;
        publish.send_replace(None);
        running.kill()?;
        running = start(plant, &publish).await?;
    }
    let mut journal = Vec::with_capacity(args.requests as usize);
    for client in clients {
        journal.extend(client.await.context("a client failed")?);
    }
    bar.finish_and_clear();
    running.kill()?;
    Ok(journal)
}

async fn start(
    plant: &Plant,
    publish: &watch::Sender<Option<Arc<Address>>>,
) -> anyhow::Result<HubProcess> {
    let hub = plant.start()?;
    publish.send_replace(Some(Arc::new(Address::of(&hub).await?)));
    Ok(hub)
}
