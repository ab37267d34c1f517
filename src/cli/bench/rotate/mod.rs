//! `weighbridge bench rotate`: keys of every kind are replaced while everything goes on.
//!
//! A hub and an edge node run in processes of their own, the machines in this one. Clients read, write and
//! subscribe all the time; a request that is refused, or waits, is counted. At the end everything is stopped,
//! and what was handed out before is checked against the key that the hub began with.

mod after;
mod load;
mod second;
mod site;
mod turns;

use super::super::temporary::given_or_temporary;
use crate::sim::bench_server::BenchServers;
use after::Proofs;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use load::Door;
use serde::Serialize;
use site::{ADMIN, ANNA, MACHINES, Site, machine};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use turns::{Kind, Phase, Turns};

/// Registers of a machine.
const REGISTERS: u16 = 4;
/// A longer wait is marked.
const LONG_MS: f64 = 1_000.0;

/// What `weighbridge bench rotate` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge bench rotate                   five keys of each kind
  weighbridge bench rotate --rotations 20 --json

Keys are replaced by the commands that people use: keys, user, certs, access. A device's own key and key
generation centres are those of a second hub, of suite guomi, in this process. Longer waits than a second are
marked by `!`. Exit codes: 0 nothing was refused and everything verifies, 1 otherwise.")]
pub(super) struct RotateArgs {
    /// How many times each kind of key is replaced
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rotations: u32,
    /// Where everything is made; a temporary directory by default
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What comes out.
#[derive(Debug, Serialize)]
struct Rotate {
    phases: Vec<Phase>,
    refused: u64,
    /// What was refused, in words: the first ones.
    refusals: Vec<String>,
    proofs: Proofs,
}

/// Runs it.
pub(super) fn run(args: &RotateArgs) -> anyhow::Result<ExitCode> {
    let (dir, _temporary) = given_or_temporary(args.dir.as_deref(), "rotate")?;
    let result = measure(args.rotations, &dir)?;
    match args.json {
        true => println!("{}", serde_json::to_string(&result)?),
        false => print_table(&result),
    }
    Ok(match (result.refused, result.proofs.failed.is_empty()) {
        (0, true) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn progress(steps: u32, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(steps.into()).with_message(what);
    let style = ProgressStyle::with_template("{msg:<28} {bar:30} {pos}/{len}");
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn measure(rotations: u32, dir: &Path) -> anyhow::Result<Rotate> {
    let machines = BenchServers::start(2 * MACHINES, REGISTERS)?;
    let mut site = Site::make(dir, machines.addresses().collect())?;
    // Evidence is made of a stopped hub: of one that has its first key.
    let hub = site.start_hub()?;
    hub.records(&machine(false, 0))?;
    hub.end()?;
    let evidence = site.text("before.evidence.json");
    let (device, plant) = (machine(false, 0), site.text("plant"));
    site.tool(&["evidence", &device, "--dir", &plant, "-o", &evidence])?;

    let hub = site.start_hub()?;
    let edge = site.start_edge()?;
    hub.records(&machine(true, 1))?;
    for user in [ADMIN, ANNA] {
        let file = site.text(&format!("{user}.txt"));
        site.log_in(user, &["--user", user, "--password-file", &file])?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let clients = runtime.block_on(async {
        let admin = Door::of(&site, ADMIN, &site.password(ADMIN, 0)?).await?;
        let anna = Door::of(&site, ANNA, &site.password(ANNA, 0)?).await?;
        load::start(&hub.opcua()?, [admin, anna]).await
    })?;
    let mut turns = Turns::begin(&site, (&hub, &edge))?;
    let mut phases = Vec::new();
    for kind in Kind::FIRST {
        let bar = progress(rotations, kind.name());
        phases.push(turns.phase(kind, rotations, (&clients.meter, &bar))?);
        bar.finish_and_clear();
    }
    runtime.block_on(clients.end());
    let (held, reader_key) = (std::mem::take(&mut turns.held), turns.reader_key.clone());
    edge.end()?;
    hub.end()?;
    let bar = progress(held.len() as u32 * 2 + 5, "what was proven before");
    let proofs = Proofs::of(&site, (&evidence, &held, &reader_key), &bar);
    bar.finish_and_clear();
    after::sample_gaps(&site, &mut phases)?;
    let mut refusals = clients.meter.words();
    let (more, words) = second::phases(&site, rotations, &runtime)?;
    phases.extend(more);
    refusals.extend(words);
    Ok(Rotate {
        refused: phases.iter().map(|phase| phase.load.refused).sum(),
        phases,
        refusals,
        proofs,
    })
}

fn print_table(r: &Rotate) {
    println!(
        "{:<28}{:>6}{:>10}{:>9}{:>14}{:>14}{:>14}",
        "replaced", "times", "requests", "refused", "answers, ms", "blocks, ms", "samples, ms"
    );
    for phase in &r.phases {
        let most = |gaps: &std::collections::BTreeMap<String, f64>| {
            gaps.values().copied().fold(0.0, f64::max)
        };
        let marked = |gap: f64| format!("{gap:.0}{}", if gap > LONG_MS { "!" } else { "" });
        println!(
            "{:<28}{:>6}{:>10}{:>9}{:>14}{:>14}{:>14}",
            phase.kind.name(),
            phase.rotations,
            phase.load.requests,
            phase.load.refused,
            marked(most(&phase.load.gap_ms)),
            marked(phase.block_gap_ms),
            marked(most(&phase.sample_gap_ms)),
        );
    }
    println!(
        "the longest time between two answers to a client, two durable blocks, two samples of a tag"
    );
    let failed = r.proofs.failed.len();
    println!(
        "verified afterwards: {}, not held: {failed}",
        r.proofs.checked
    );
    for line in r.refusals.iter().chain(&r.proofs.failed) {
        println!("  {line}");
    }
}
