//! `weighbridge bench commit`: how long it takes from a request to the block that has it, durable with the
//! certificate of the hubs at the hub that was asked.
//!
//! The hubs are processes of this program, as `demo --hubs` starts them. What is submitted goes the way of a user: reads
//! of history over HTTP, each of which is a record of its own; votes, whose answer waits for the certificate; and
//! batches of simulated machines, one record for many values.

mod chain;
mod load;
mod report;

use crate::cli::hubs;
use crate::cli::temporary::given_or_temporary;
use crate::crypto::{Identity, Signer};
use crate::model::{Nanos, now};
use crate::sim::bench_server::BenchServers;
use anyhow::{Context, ensure};
use chain::{Seen, Submitted};
use clap::Args;
use hubs::{HubProcess, Place, Wishes, device_tables, make};
use indicatif::ProgressBar;
pub(super) use report::print_table;
use report::{Commit, Phase, Times};
use serde_json::json;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Registers of each machine: as many values has every scan.
const REGISTERS: u16 = 50;
/// How long hubs may take to agree on what is left, and to end.
const ENDING: Duration = Duration::from_secs(60);

/// What `weighbridge bench commit` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge bench commit
  weighbridge bench commit --hubs 4 --clients 16 --seconds 20 --json

Each phase is measured at hub 1: votes one after the other; reads of history by all clients, each as soon as the one
before is answered; and reads at half of that rate, whether the ones before are answered or not. A read's time ends
when hub 1 prints its block. Batches go from their record's own time to their block.")]
pub(super) struct CommitArgs {
    /// Hubs that share the chain
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(2..=7))]
    hubs: u8,
    /// Clients that keep a connection to hub 1 open
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=200))]
    clients: u16,
    /// Machines that hub 1 reads ten times a second meanwhile
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=100))]
    devices: u16,
    /// How long each phase is
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Where the hubs are; a temporary directory by default
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// One phase, before it is known what became of it.
struct Ran {
    name: &'static str,
    path: &'static str,
    from: Nanos,
    until: Nanos,
    submitted: Vec<Submitted>,
}

pub(super) fn run(args: &CommitArgs) -> anyhow::Result<Commit> {
    let (dir, _temporary) = given_or_temporary(args.dir.as_deref(), "commit")?;
    let machines = BenchServers::start(args.devices.into(), REGISTERS)?;
    let ports = machines.ports().to_vec();
    let places = site(&dir, args, &ports)?;
    let first = places.first().context("there is no hub")?;
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(200));
    bar.set_message("the hubs start");
    let (seen, heard) = Seen::new();
    let began = Instant::now();
    let mut processes = Vec::with_capacity(places.len());
    for (hub, place) in places.iter().enumerate() {
        processes.push(HubProcess::start((hub, place), 1, seen.channel())?);
    }
    let listening = seen.listen(heard);
    hubs::let_in(&places, |place| {
        bar.set_message(format!("{} is in", place.id))
    })?;
    let start_seconds = began.elapsed().as_secs_f64();

    let ran = measure(args, first, &bar)?;
    bar.set_message("the hubs end");
    agreed(first)?;
    for process in &mut processes {
        process.ask_to_end()?;
    }
    let until = Instant::now() + ENDING;
    for process in processes {
        process.ended(until)?;
    }
    drop(seen);
    let lines = listening.join().ok().context("nobody listened")?;
    bar.finish_and_clear();
    let chain = chain::read(first)?;
    let phases = ran.into_iter().map(|phase| evaluate(phase, &chain, &lines));
    Ok(Commit {
        hubs: args.hubs,
        clients: args.clients,
        devices: args.devices,
        build: if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        },
        start_seconds,
        phases: phases.collect(),
        blocks: chain.blocks,
        signatures_mean: chain.signatures as f64 / chain.shared.max(1) as f64,
        largest_block_bytes: chain.largest,
    })
}

/// The hubs' directories; the first reads all machines.
fn site(dir: &Path, args: &CommitArgs, ports: &[u16]) -> anyhow::Result<Vec<Place>> {
    let mut wishes = vec![Wishes::default(); args.hubs.into()];
    let mut text = String::new();
    for (index, port) in ports.iter().enumerate() {
        text += &format!(
            "[[device]]\nid = \"press-{index}\"\nbatch = {{ milliseconds = 250 }}\n\
             modbus = {{ address = \"127.0.0.1:{port}\", period_ms = 100 }}\n"
        );
        for register in 0..REGISTERS {
            text += &format!(
                "[[device.tag]]\nname = \"r{register}\"\n\
                 modbus = {{ holding_register = {register}, type = \"u16\" }}\n"
            );
        }
    }
    for wish in &mut wishes {
        // The load is the measurement, not an attack.
        wish.access = vec![("flood_requests", 0), ("requests_per_second", 1_000_000)];
    }
    if let Some(first) = wishes.first_mut() {
        first.devices = device_tables(&text)?;
    }
    make(dir, &wishes)
}

/// All phases, one after the other.
fn measure(args: &CommitArgs, first: &Place, bar: &ProgressBar) -> anyhow::Result<Vec<Ran>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let at = first.url.to_string();
    let at = at.trim_start_matches("http://").trim_end_matches('/');
    let at: SocketAddr = at.parse()?;
    let time = Duration::from_secs(args.seconds);
    let clients = usize::from(args.clients);
    let guest = Identity::generate("guest").public_key();
    let vote = json!({"hub": "guest", "key": guest, "change": "admit", "faults": "byzantine"});
    let read = "reads of history over HTTP, a record each";
    let phase = |name, path, doing: &mut dyn FnMut() -> anyhow::Result<Vec<Submitted>>| {
        bar.set_message(name);
        let from = now();
        let submitted = doing()?;
        let until = now();
        anyhow::Ok(Ran {
            name,
            path,
            from,
            until,
            submitted,
        })
    };
    let votes = "a vote over HTTP, a record each; the answer waits for the certificate";
    let one = phase("one after the other", votes, &mut || {
        runtime.block_on(load::votes(at, &vote.to_string(), time))
    })?;
    let closed = phase("closed loop", read, &mut || {
        runtime.block_on(load::closed(at, clients, time))
    })?;
    let seconds = (closed.until - closed.from) as f64 / 1e9;
    let rate = (closed.submitted.len() as f64 / seconds / 2.0).max(1.0);
    agreed(first)?;
    let half = phase("open loop, half load", read, &mut || {
        runtime.block_on(load::open(at, (clients, rate), time))
    })?;
    Ok(vec![one, closed, half])
}

/// Waits until the others have agreed to everything that the hub recorded for requests until now, but what its machines
/// bring all the time.
fn agreed(hub: &Place) -> anyhow::Result<()> {
    let until = Instant::now() + ENDING;
    let few = 4;
    loop {
        let status = crate::cli::http_get::get_json(&hub.url, hubs::CLUSTER, &[])?;
        if status["open"].as_u64().is_some_and(|open| open <= few) {
            return Ok(());
        }
        ensure!(
            Instant::now() < until,
            "the hubs do not agree: {status}; see {}",
            hub.dir.join("hub.log").display()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn evaluate(ran: Ran, chain: &chain::Chain, lines: &chain::Lines) -> Phase {
    let seconds = (ran.until - ran.from) as f64 / 1e9;
    let inside = |time: Nanos| (ran.from..ran.until).contains(&time);
    let (mut commit, mut answer) = (Vec::new(), Vec::new());
    let (mut put_off, mut lost) = (0, 0);
    for one in &ran.submitted {
        let Some(answered) = one.answered.filter(|_| one.taken) else {
            put_off += 1;
            continue;
        };
        answer.push(answered - one.sent);
        // A vote is answered when its block is there.
        let block = match one.waited {
            true => Some(answered),
            false => chain
                .of_request(one.number)
                .and_then(|height| lines.at(height)),
        };
        match block {
            Some(block) => commit.push(block - one.sent),
            None => lost += 1,
        }
    }
    let batches = chain.batches.iter().filter(|(time, _)| inside(*time));
    let batches = batches.filter_map(|(time, height)| Some(lines.at(*height)? - time));
    let blocks = lines.times().filter(|time| inside(*time)).count();
    let records: u64 = chain
        .records
        .iter()
        .filter(|(height, _)| lines.at(**height).is_some_and(inside))
        .map(|(_, records)| *records)
        .sum();
    Phase {
        name: ran.name,
        path: ran.path,
        seconds,
        sent: ran.submitted.len(),
        put_off,
        answered_without_block: lost,
        commit: Times::of(commit),
        answer: Times::of(answer),
        batches: Times::of(batches.collect()),
        records_per_second: records as f64 / seconds,
        blocks_per_second: blocks as f64 / seconds,
    }
}
