//! `weighbridge bench idle`: what hubs that share a chain do while there is nothing to do: blocks, writes to disk,
//! processor time. From what Linux says of their processes (proc(5)).

use crate::cli::hubs::{HubProcess, News, Said, Wishes, let_in, make};
use crate::cli::temporary::given_or_temporary;
use anyhow::Context;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

/// What `weighbridge bench idle` is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weighbridge bench idle
  weighbridge bench idle --hubs 4 --seconds 600 --json

The hubs have no devices, and nobody asks them anything. After a while for what starting leaves, their blocks, what they
gave the disk to write and their processor time are counted. Only on Linux. Whoever let the hubs in was somebody's session:
what was asked in it is recorded in sum ten minutes later, which a longer --settle leaves out.")]
pub(super) struct IdleArgs {
    /// Hubs that share the chain
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=7))]
    hubs: u8,
    /// How long after they are up the count begins
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(0..=3600))]
    settle: u64,
    /// How long it is
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Where the hubs are; a temporary directory by default
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// What comes out.
#[derive(Debug, Serialize)]
pub(super) struct Idle {
    hubs: Vec<IdleHub>,
    seconds: f64,
    build: &'static str,
}

#[derive(Debug, Serialize)]
struct IdleHub {
    id: String,
    blocks: u64,
    /// Given to the disk.
    write_bytes: u64,
    /// Calls of `write` and its kin, to sockets and pipes too.
    write_calls: u64,
    /// Of one core.
    cpu_percent: f64,
    /// It gave up the processor to wait, or was sent away.
    switches_per_second: f64,
}

/// What Linux counts of a process.
#[derive(Clone, Copy)]
struct Counts {
    write_bytes: u64,
    write_calls: u64,
    cpu_ticks: u64,
    switches: u64,
}

/// Ticks of processor time in a second; on Linux `USER_HZ` is 100 for programs, whatever the kernel has.
const TICKS: f64 = 100.0;

impl Counts {
    fn of(process: u32) -> anyhow::Result<Self> {
        let read = |name: &str| {
            let path = format!("/proc/{process}/{name}");
            std::fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))
        };
        let (io, stat) = (read("io")?, read("stat")?);
        let after = stat
            .rsplit_once(") ")
            .context("the process has no state")?
            .1;
        let field = |at: usize| -> anyhow::Result<u64> {
            let field = after.split(' ').nth(at).context("a field is missing")?;
            Ok(field.parse()?)
        };
        let mut switches = 0;
        for task in std::fs::read_dir(format!("/proc/{process}/task"))? {
            let status = std::fs::read_to_string(task?.path().join("status")).unwrap_or_default();
            switches += named(&status, "voluntary_ctxt_switches")?
                + named(&status, "nonvoluntary_ctxt_switches")?;
        }
        Ok(Self {
            write_bytes: named(&io, "write_bytes")?,
            write_calls: named(&io, "syscw")?,
            // utime and stime, the 14th and 15th; the state is the third.
            cpu_ticks: field(11)? + field(12)?,
            switches,
        })
    }
}

/// The number on the line of `text` with this name.
fn named(text: &str, name: &str) -> anyhow::Result<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(of, _)| *of == name);
    let (_, number) = found.with_context(|| format!("Linux says nothing of {name}"))?;
    Ok(number.trim().parse()?)
}

pub(super) fn run(args: &IdleArgs) -> anyhow::Result<Idle> {
    let (dir, _temporary) = given_or_temporary(args.dir.as_deref(), "idle")?;
    let places = make(&dir, &vec![Wishes::default(); args.hubs.into()])?;
    let (news, heard) = sync_channel::<News>(4_096);
    let mut processes = Vec::with_capacity(places.len());
    for (hub, place) in places.iter().enumerate() {
        processes.push(HubProcess::start((hub, place), 1, news.clone())?);
    }
    let_in(&places, |_| {})?;
    std::thread::sleep(Duration::from_secs(args.settle));
    blocks(&heard, places.len());
    let count = || -> anyhow::Result<Vec<Counts>> {
        processes.iter().map(|p| Counts::of(p.id())).collect()
    };
    let (began, before) = (Instant::now(), count()?);
    std::thread::sleep(Duration::from_secs(args.seconds));
    let (seconds, after) = (began.elapsed().as_secs_f64(), count()?);
    let blocks = blocks(&heard, places.len());
    for process in &mut processes {
        process.ask_to_end()?;
    }
    let until = Instant::now() + Duration::from_secs(60);
    for process in processes {
        process.ended(until)?;
    }
    let hubs = places.iter().zip(before.iter().zip(&after)).zip(blocks);
    let hubs = hubs.map(|((place, (before, after)), blocks)| IdleHub {
        id: place.id.clone(),
        blocks,
        write_bytes: after.write_bytes.saturating_sub(before.write_bytes),
        write_calls: after.write_calls.saturating_sub(before.write_calls),
        cpu_percent: after.cpu_ticks.saturating_sub(before.cpu_ticks) as f64 / TICKS / seconds
            * 100.0,
        switches_per_second: after.switches.saturating_sub(before.switches) as f64 / seconds,
    });
    Ok(Idle {
        hubs: hubs.collect(),
        seconds,
        build: match cfg!(debug_assertions) {
            true => "debug",
            false => "release",
        },
    })
}

/// How many blocks each hub has told of since the last time.
fn blocks(heard: &Receiver<News>, hubs: usize) -> Vec<u64> {
    let mut blocks = vec![0; hubs];
    for news in heard.try_iter() {
        if let (Said::Block(_), Some(count)) = (&news.said, blocks.get_mut(news.hub)) {
            *count += 1;
        }
    }
    blocks
}

pub(super) fn print_table(r: &Idle) {
    println!(
        "{} hubs without devices, {:.0} s, {} build",
        r.hubs.len(),
        r.seconds,
        r.build
    );
    for hub in &r.hubs {
        println!(
            "  {:<10} {:>4} blocks {:>10} bytes to disk {:>7} calls of write {:>6.2} % of a core {:>7.1} switches/s",
            hub.id,
            hub.blocks,
            hub.write_bytes,
            hub.write_calls,
            hub.cpu_percent,
            hub.switches_per_second
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_linux_says_is_read() {
        let io = "rchar: 5\nsyscw: 7\nwrite_bytes: 4096\n";
        assert_eq!(named(io, "write_bytes").unwrap(), 4096);
        assert!(named(io, "bytes").is_err());
        if cfg!(target_os = "linux") {
            let counts = Counts::of(std::process::id()).unwrap();
            assert!(counts.switches > 0);
        }
    }
}
