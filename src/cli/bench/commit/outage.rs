//! Hubs are killed under load, and started again.

use super::load::Inside;
use super::report::Outage;
use super::{ENDING, Measuring, Ran, SMALL, agreed};
use crate::api::ClusterPort;
use crate::cli::hubs::{HubProcess, News, Place, Said};
use anyhow::{Context, ensure};
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long no hub may decide, with two of four down.
const ALONE: Duration = Duration::from_secs(5);
/// How often the links are looked at.
const LOOK: Duration = Duration::from_millis(5);

type Processes = BTreeMap<usize, HubProcess>;

/// Kills the last hub, has it come back `--behind` blocks later, kills the last two, and starts one of them again.
pub(super) fn run(
    m: &Measuring<'_>,
    places: &[Place],
    processes: &mut Processes,
    (news, heard): (SyncSender<News>, Receiver<News>),
) -> anyhow::Result<(Vec<Ran>, Outage)> {
    let last = places.len() - 1;
    let start = |hub: usize, life| {
        let place = places.get(hub).context("there is no such hub")?;
        HubProcess::start((hub, place), life, news.clone())
    };
    let kill = |processes: &mut Processes, hub: usize| {
        let process = processes.remove(&hub).context("there is no such hub")?;
        process.kill()
    };
    let mut first = 0;
    let mut phase = |name| {
        first += 1 << 24;
        let load = Inside::new(&m.hub.hub, SMALL, first);
        let load = load.open(f64::from(m.args.rate), m.args.time());
        m.phase(
            name,
            "records submitted in hub 1's process, open loop",
            load,
        )
    };
    let lines = &m.hub.lines;
    let mut ran = vec![phase("all hubs there")?];

    let from = lines.newest();
    kill(processes, last)?;
    ran.push(phase("one hub killed")?);
    m.bar.set_message("the others go on");
    let until = Instant::now() + ENDING + Duration::from_secs(m.args.behind / 5);
    while lines.newest() < from + m.args.behind {
        ensure!(Instant::now() < until, "the others do not go on");
        phase("meanwhile")?;
    }
    let target = lines.newest();
    let mut outage = Outage {
        behind: target - from,
        ..Outage::default()
    };
    let back = listen(heard, (last, 2), target);
    processes.insert(last, start(last, 2)?);
    ran.push(phase("it comes back")?);
    while !back.is_finished() {
        phase("meanwhile")?;
    }
    let seen = back.join().ok().context("nobody listened")?;
    (outage.up_seconds, outage.level_seconds) = seen?;

    m.bar.set_message("two hubs are killed");
    agreed(m.place)?;
    kill(processes, last)?;
    kill(processes, last - 1)?;
    // What was on its way may still be decided.
    std::thread::sleep(Duration::from_secs(1));
    let from = lines.newest();
    let load = Inside::new(&m.hub.hub, SMALL, 1 << 30);
    let recorded = m
        .runtime
        .block_on(load.open(f64::from(m.args.rate), ALONE))?;
    outage.recorded_alone = recorded.iter().filter(|one| one.taken).count();
    outage.blocks_alone = lines.newest() - from;
    let before = crate::model::now();
    let began = Instant::now();
    processes.insert(last, start(last, 3)?);
    let cluster = m.hub.hub.cluster().context("the hub is alone")?;
    let mut linked = None;
    let newest = lines.newest();
    while lines.newest() == newest {
        let two = cluster.status().linked >= 2;
        if two && linked.is_none() {
            linked = Some(Instant::now());
        }
        ensure!(began.elapsed() < ENDING, "nothing is decided any more");
        std::thread::sleep(LOOK);
    }
    outage.first_block_after_start_seconds = began.elapsed().as_secs_f64();
    outage.first_block_after_link_seconds =
        linked.map_or(0.0, |linked| linked.elapsed().as_secs_f64());
    processes.insert(last - 1, start(last - 1, 2)?);
    agreed(m.place)?;
    ran.push(Ran {
        name: "two hubs down, and one back",
        path: "records submitted in hub 1's process: until the others were back",
        from: before,
        until: crate::model::now(),
        submitted: recorded,
    });
    Ok((ran, outage))
}

/// How long a hub takes in this life until it is up, and until it has the block of height `target`; hears everything
/// else as well, until all hubs have ended.
fn listen(
    heard: Receiver<News>,
    (hub, life): (usize, u32),
    target: u64,
) -> JoinHandle<anyhow::Result<(f64, f64)>> {
    let began = Instant::now();
    std::thread::spawn(move || {
        let (mut up, mut level) = (None, None);
        for news in heard
            .iter()
            .filter(|news| (news.hub, news.life) == (hub, life))
        {
            let at = news.at.duration_since(began).as_secs_f64();
            match news.said {
                Said::Up => up = Some(at),
                Said::Block(block) if block["height"].as_u64() >= Some(target) => level = Some(at),
                Said::Block(_) => {}
                Said::Gone => break,
            }
            if let (Some(up), Some(level)) = (up, level) {
                // Whoever says something later must not wait for it to be heard.
                std::thread::spawn(move || heard.iter().for_each(drop));
                return Ok((up, level));
            }
        }
        anyhow::bail!("the hub did not come back")
    })
}
