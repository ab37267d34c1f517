//! `weighbridge demo --hubs N`: the cell's machines divided among several hubs that share a chain, each hub a process
//! of its own. They can be killed, frozen and started again by keys.

mod keys;
mod stage;
mod view;
mod watch;

use super::{DemoArgs, plan};
use crate::cli::ending::asked_to_end;
use crate::cli::hubs::{self, Place, Wishes, device_tables};
use crate::cli::output::{self, Style};
use crate::cli::temporary::given_or_temporary;
use crate::config;
use crate::sim::cell::{Cell, CellOptions};
use anyhow::Context;
use keys::{Key, Keys};
use serde_json::json;
use stage::Stage;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};
use toml_edit::value;
use view::View;

/// Most hubs: as many as a machine of two cores bears.
pub(super) const MOST: u8 = 7;
/// How often the view is drawn, or a line is printed.
const DRAW: Duration = Duration::from_millis(250);
/// How often the heights are printed where there is no terminal.
const PRINT: Duration = Duration::from_secs(1);
/// News that may wait to be looked at; then hubs wait.
const NEWS: usize = 1024;

/// What the demo waits for.
enum Event {
    Hub(hubs::News),
    Polled(watch::Polled),
    Key(Key),
    LetIn(usize),
    NotLetIn(String),
    End,
}

pub(super) fn run(args: &DemoArgs, hubs: u8) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let (dir, _temporary) = given_or_temporary(args.dir.as_deref(), "demo")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("factory-cell")
        .enable_all()
        .build()
        .context("the cell's threads cannot be started")?;
    // From here on Ctrl-C lets the demo end everything that it started, however far it has come.
    let end = asked_to_end(runtime.handle());
    let cell = runtime.block_on(Cell::start(&CellOptions::default()))?;
    let places = hubs::make(&dir, &divide(&cell, hubs.into())?)?;
    let faults = runtime.spawn(plan::faults(cell.panel.clone(), began));
    let live = std::io::stdout().is_terminal() && !args.headless && !args.json;

    let (events, happened) = sync_channel(NEWS);
    let ended = events.clone();
    runtime.spawn(async move {
        end.await;
        let _ = tokio::task::spawn_blocking(move || ended.send(Event::End)).await;
    });
    let mut stage = Stage::new(&places, began, events.clone());
    for hub in 0..places.len() {
        stage.start(hub)?;
        watch::poll((hub, &places), events.clone());
    }
    letting_in(&places, events.clone());
    let keys = Keys::read(events);
    let mut view = View::new(Style::stdout(), live, began, &dir);
    view.say(&format!("{hubs} hubs start, in {}", dir.display()));
    let over = args
        .seconds
        .map(|seconds| began + Duration::from_secs(seconds));
    let (mut next_draw, mut next_line) = (began, began);
    let outcome = loop {
        let now = Instant::now();
        if over.is_some_and(|over| now >= over) {
            break Ok(());
        }
        if live && now >= next_draw {
            view.draw(&stage, &plan::fault_line(began));
            next_draw = now + DRAW;
        }
        if !live && !args.json && now >= next_line {
            view.line(&stage);
            next_line = now + PRINT;
        }
        let event = match happened.recv_timeout(DRAW) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => break Ok(()),
        };
        match event {
            Event::End | Event::Key(Key::Quit) => break Ok(()),
            Event::NotLetIn(why) => break Err(anyhow::anyhow!(why)),
            Event::LetIn(hub) => stage.is_in(hub, &mut view),
            Event::Hub(news) => stage.heard(&news, &mut view),
            Event::Polled(polled) => stage.polled(polled, &mut view),
            Event::Key(key) => {
                if let Err(error) = stage.pressed(key, &mut view) {
                    view.say(&format!("{error:#}"));
                }
            }
        }
    };
    faults.abort();
    drop(keys);
    view.say("the hubs end");
    // What is still to be said is of no use any more, and must not hold a hub up.
    drop(happened);
    let left = stage.end();
    outcome?;
    left?;
    say_what_there_is(args, &places, &stage)?;
    Ok(ExitCode::SUCCESS)
}

/// The devices of the cell, one hub after the other.
fn divide(cell: &Cell, hubs: usize) -> anyhow::Result<Vec<Wishes>> {
    let mut wishes = vec![Wishes::default(); hubs];
    let mut next = (0..hubs).cycle();
    for mut device in device_tables(config::cell_devices())? {
        let id = device
            .get("id")
            .and_then(|id| id.as_str())
            .unwrap_or_default();
        let modbus = cell.modbus.iter().find(|machine| machine.id == id);
        let opcua = cell.opcua.iter().find(|machine| machine.id == id);
        let at = match (modbus, opcua) {
            (Some(machine), _) => ("modbus", "address", machine.address.to_string()),
            (_, Some(machine)) => ("opcua", "url", machine.url.clone()),
            (None, None) => continue,
        };
        let (protocol, key, address) = at;
        let reached = device.get_mut(protocol).and_then(|p| p.as_table_like_mut());
        let reached = reached.with_context(|| format!("the cell's device has no {protocol}"))?;
        reached.insert(key, value(address));
        let hub = next.next().and_then(|hub| wishes.get_mut(hub));
        if let Some(hub) = hub {
            hub.devices.push(device);
        }
    }
    Ok(wishes)
}

/// Lets the hubs in, on a thread of its own, as long as the demo runs.
fn letting_in(places: &[Place], events: std::sync::mpsc::SyncSender<Event>) {
    let places = places.to_vec();
    std::thread::spawn(move || {
        let told = |place: &Place| {
            let hub = places.iter().position(|known| known.id == place.id);
            let _ = events.send(Event::LetIn(hub.unwrap_or_default()));
        };
        if let Err(error) = hubs::let_in(&places, told) {
            let _ = events.send(Event::NotLetIn(format!("{error:#}")));
        }
    });
}

/// What is in the directories, and how it is checked.
fn say_what_there_is(args: &DemoArgs, places: &[Place], stage: &Stage) -> anyhow::Result<()> {
    let genesis = places.first().map(|place| place.key.to_string());
    let genesis = genesis.unwrap_or_default();
    if args.json {
        return output::print_json(&json!({
            "genesis_key": genesis,
            "first_shared_ms": stage.first_shared_ms(),
            "hubs": stage.summaries(),
        }));
    }
    let mut text = String::new();
    match args.dir {
        None => text += "with --dir DIR it would have been kept, to be verified\n",
        Some(_) => {
            text += "check what each has, from the key of the hub that began the chain:\n";
            for place in places {
                text += &format!("  {}\n", verify_command(&place.dir, &genesis));
            }
        }
    }
    output::print(&text)
}

fn verify_command(dir: &Path, genesis: &str) -> String {
    format!("weighbridge verify {} --trust {genesis}", dir.display())
}
