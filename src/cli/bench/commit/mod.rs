//! `weighbridge bench commit`: how long it takes from a request to the block that has it, durable with the
//! certificate of the hubs at the hub that was asked.
//!
//! The hubs are processes of this program, as `demo --hubs` starts them, but for the first, which is in this one, as in
//! a program that embeds a hub. What is submitted goes the way of a user: reads of history over HTTP, each of which is a
//! record of its own; votes, whose answer waits for the certificate; batches of simulated machines, one record for many
//! values; and records that are submitted in the process itself, small ones and ones with 100 KB.

mod chain;
mod etcd;
mod first;
mod load;
mod outage;
mod report;

use crate::cli::hubs;
use crate::cli::temporary::given_or_temporary;
use crate::crypto::{Identity, Signer};
use crate::model::{Nanos, now};
use crate::sim::bench_server::BenchServers;
use anyhow::{Context, ensure};
use chain::{Lines, Submitted};
use clap::Args;
use first::First;
use hubs::{HubProcess, Place, Wishes, device_tables, make};
use indicatif::ProgressBar;
use load::Inside;
pub(super) use report::print_table;
use report::{Commit, Phase, Times};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

/// How long hubs may take to agree on what is left, and to end.
const ENDING: Duration = Duration::from_secs(60);
/// What the hubs said and nobody has heard yet.
const NEWS: usize = 4096;
/// Bytes that each small record seals.
const SMALL: usize = 100;

/// What `weighbridge bench commit` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge bench commit
  weighbridge bench commit --hubs 4 --clients 16 --seconds 20 --json
  weighbridge bench commit --devices 8 --registers 1000 --only inside    many values under one signature
  weighbridge bench commit --etcd /usr/bin/etcd        three nodes of etcd, in the same run
  weighbridge bench commit --outage --behind 1000      one hub killed and back; two of four killed

Each phase is measured at hub 1: votes one after the other; reads of history by all clients, each as soon as the one
before is answered; and reads at half of that rate, whether the ones before are answered or not. Then records that are
submitted in the hub's own process in the same two ways, small ones and ones of --bytes. Times end when the block is
durable at hub 1 with its certificate; those of an open loop begin when the record was due. Batches go from their
record's own time to their block.")]
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
    /// Registers of each machine: as many values has every scan
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    registers: u16,
    /// Bytes that each large record seals
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=250_000))]
    bytes: u32,
    /// Phases to be measured, all by default
    #[arg(long, value_delimiter = ',')]
    only: Vec<Which>,
    /// Records that are submitted at once by the small and by the large closed loop in the hub's process
    #[arg(long, default_values_t = [512u16, 4], value_delimiter = ',', num_args = 2)]
    at_once: Vec<u16>,
    /// The program of etcd; by default the one that is found, and none where there is none
    #[arg(long, value_name = "PATH")]
    etcd: Option<PathBuf>,
    /// Kill hubs and start them again, instead
    #[arg(long)]
    outage: bool,
    /// Blocks that the hub is away for, with --outage
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    behind: u64,
    /// Records a second while hubs are killed, with --outage
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    rate: u16,
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

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    /// Votes and reads over HTTP
    Http,
    /// Small records, submitted in the hub's process
    Inside,
    /// Large records, submitted in the hub's process
    Large,
    /// The same of etcd
    Etcd,
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
    let machines = BenchServers::start(args.devices.into(), args.registers)?;
    let ports = machines.ports().to_vec();
    let places = site(&dir, args, &ports)?;
    let place = places.first().context("there is no hub")?;
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(200));
    bar.set_message("the hubs start");
    // What the others print is heard of when one of them comes back.
    let (news, heard) = sync_channel(NEWS);
    let began = Instant::now();
    let mut processes = BTreeMap::new();
    for (hub, place) in places.iter().enumerate().skip(1) {
        processes.insert(hub, HubProcess::start((hub, place), 1, news.clone())?);
    }
    let hub = First::start(place)?;
    hubs::let_in(&places, |place| {
        bar.set_message(format!("{} is in", place.id))
    })?;
    let start_seconds = began.elapsed().as_secs_f64();
    let measuring = Measuring {
        args,
        place,
        hub: &hub,
        bar: &bar,
        runtime: tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?,
    };
    let (ran, outage) = match args.outage {
        true => {
            let (ran, outage) = outage::run(&measuring, &places, &mut processes, (news, heard))?;
            (ran, Some(outage))
        }
        false => {
            std::thread::spawn(move || heard.iter().for_each(drop));
            drop(news);
            (measuring.all()?, None)
        }
    };
    bar.set_message("the hubs end");
    agreed(place)?;
    for process in processes.values_mut() {
        process.ask_to_end()?;
    }
    let lines = hub.lines.clone();
    let points_a_batch = hub.points_a_batch();
    hub.end()?;
    let until = Instant::now() + ENDING;
    for (_, process) in processes {
        process.ended(until)?;
    }
    let etcd = match args.wants(Which::Etcd) && !args.outage {
        true => etcd::run(args, &bar)?,
        false => None,
    };
    bar.finish_and_clear();
    let chain = chain::read(place)?;
    let phases = ran
        .into_iter()
        .map(|phase| evaluate(phase, &chain, &lines, points_a_batch));
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
        outage,
        etcd,
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
        for register in 0..args.registers {
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

impl CommitArgs {
    fn wants(&self, which: Which) -> bool {
        self.only.is_empty() || self.only.contains(&which)
    }

    fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// What phases need.
struct Measuring<'a> {
    args: &'a CommitArgs,
    place: &'a Place,
    hub: &'a First,
    bar: &'a ProgressBar,
    runtime: tokio::runtime::Runtime,
}

impl Measuring<'_> {
    fn phase(
        &self,
        name: &'static str,
        path: &'static str,
        doing: impl Future<Output = anyhow::Result<Vec<Submitted>>>,
    ) -> anyhow::Result<Ran> {
        self.bar.set_message(name);
        agreed(self.place)?;
        let from = now();
        let submitted = self.runtime.block_on(doing)?;
        let until = now();
        Ok(Ran {
            name,
            path,
            from,
            until,
            submitted,
        })
    }

    /// All phases, one after the other.
    fn all(&self) -> anyhow::Result<Vec<Ran>> {
        let mut ran = Vec::new();
        if self.args.wants(Which::Http) {
            ran.extend(self.http()?);
        }
        if self.args.wants(Which::Inside) {
            let small = ["small, closed loop", "small, open loop, half load"];
            ran.extend(self.inside(small, (SMALL, 0), 1 << 28)?);
        }
        if self.args.wants(Which::Large) {
            let large = ["large, closed loop", "large, open loop, half load"];
            ran.extend(self.inside(large, (self.args.bytes as usize, 1), 1 << 29)?);
        }
        Ok(ran)
    }

    fn http(&self) -> anyhow::Result<[Ran; 3]> {
        let at = self.place.url.to_string();
        let at = at.trim_start_matches("http://").trim_end_matches('/');
        let at: SocketAddr = at.parse()?;
        let (time, clients) = (self.args.time(), usize::from(self.args.clients));
        let guest = Identity::generate("guest").public_key();
        let vote = json!({"hub": "guest", "key": guest, "change": "admit", "faults": "byzantine"})
            .to_string();
        let votes = "a vote over HTTP, a record each; the answer waits for the certificate";
        let read = "reads of history over HTTP, a record each";
        let one = self.phase("one after the other", votes, load::votes(at, &vote, time))?;
        let closed = self.phase("closed loop", read, load::closed(at, clients, time))?;
        let rate = (closed.rate() / 2.0).max(1.0);
        let open = load::open(at, (clients, rate), time);
        let half = self.phase("open loop, half load", read, open)?;
        Ok([one, closed, half])
    }

    /// Records of so many bytes that are submitted in the hub's process.
    fn inside(
        &self,
        [name, half]: [&'static str; 2],
        (bytes, which): (usize, usize),
        first: u32,
    ) -> anyhow::Result<[Ran; 2]> {
        let path = match which {
            0 => "records submitted in the hub's process, a signature each",
            _ => "records with --bytes sealed bytes each, submitted in the hub's process",
        };
        let at_once = self.args.at_once.get(which).copied().unwrap_or(1);
        let load = Inside::new(&self.hub.hub, bytes, first);
        let lines = (usize::from(at_once), self.hub.lines.clone());
        let closed = self.phase(name, path, load.closed(lines, self.args.time()))?;
        let rate = (closed.rate() / 2.0).max(1.0);
        let load = Inside::new(&self.hub.hub, bytes, first + (1 << 27));
        let open = self.phase(half, path, load.open(rate, self.args.time()))?;
        Ok([closed, open])
    }
}

impl Ran {
    /// What was submitted in a second.
    fn rate(&self) -> f64 {
        self.submitted.len() as f64 / ((self.until - self.from) as f64 / 1e9)
    }
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

fn evaluate(ran: Ran, chain: &chain::Chain, lines: &Lines, points_a_batch: f64) -> Phase {
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
    let batches = Times::of(batches.collect());
    let blocks = lines
        .times()
        .into_iter()
        .filter(|time| inside(*time))
        .count();
    let bytes = chain.bytes.iter();
    let bytes = bytes.filter(|(height, _)| lines.at(**height).is_some_and(inside));
    let bytes: u64 = bytes.map(|(_, bytes)| *bytes).sum();
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
        values_per_second: batches.count as f64 * points_a_batch / seconds,
        batches,
        block_bytes_mean: bytes as f64 / blocks.max(1) as f64,
        records_per_second: records as f64 / seconds,
        blocks_per_second: blocks as f64 / seconds,
    }
}
