//! The hubs of the demo: their processes, and what is known of each.

use super::Event;
use super::keys::Key;
use super::view::View;
use super::watch::Polled;
use crate::cli::hubs::{HubProcess, News, Place, Said};
use anyhow::bail;
use serde_json::{Value as Json, json};
use std::collections::VecDeque;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// How long hubs may take to end in good order.
const ENDING: Duration = Duration::from_secs(30);
/// Blocks that are shown.
const BLOCKS: usize = 8;

/// How a hub is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It waits to be let in, or reads what it missed.
    Starting,
    Up,
    Frozen,
    Killed,
    /// It ended by itself.
    Ended,
}

/// A hub, and what is known of it.
pub(super) struct Actor {
    pub(super) place: Place,
    process: Option<HubProcess>,
    life: u32,
    pub(super) state: State,
    pub(super) height: u64,
    /// What it answered last.
    pub(super) cluster: Json,
    /// It was started again, and is not level with the others yet.
    behind: bool,
}

/// A block, as it is shown.
pub(super) struct Shown {
    pub(super) height: u64,
    pub(super) proposer: String,
    pub(super) signed_by: Vec<String>,
}

/// All of them.
pub(super) struct Stage {
    pub(super) actors: Vec<Actor>,
    events: SyncSender<Event>,
    began: Instant,
    /// Newest last.
    pub(super) blocks: VecDeque<Shown>,
    /// The most signatures that a block had, and when the first with those of more than half of the hubs was seen.
    most_signed: usize,
    first_shared: Option<Duration>,
}

impl Stage {
    pub(super) fn new(places: &[Place], began: Instant, events: SyncSender<Event>) -> Self {
        let actor = |place: &Place| Actor {
            place: place.clone(),
            process: None,
            life: 0,
            state: State::Killed,
            height: 0,
            cluster: Json::Null,
            behind: false,
        };
        Self {
            actors: places.iter().map(actor).collect(),
            events,
            began,
            blocks: VecDeque::new(),
            most_signed: 0,
            first_shared: None,
        }
    }

    fn actor(&mut self, hub: usize) -> anyhow::Result<&mut Actor> {
        let hubs = self.actors.len();
        match self.actors.get_mut(hub) {
            Some(actor) => Ok(actor),
            None => bail!("there is no hub {}: they are 1 to {hubs}", hub + 1),
        }
    }

    /// Starts the process of a hub.
    pub(super) fn start(&mut self, hub: usize) -> anyhow::Result<()> {
        let events = self.events.clone();
        let actor = self.actor(hub)?;
        if actor.process.is_some() {
            bail!("{} runs already", actor.place.id);
        }
        actor.life += 1;
        let (news, heard) = sync_channel(1);
        actor.process = Some(HubProcess::start((hub, &actor.place), actor.life, news)?);
        actor.state = State::Starting;
        std::thread::spawn(move || {
            // To the end, so that a hub never waits for somebody to listen.
            for news in heard {
                let _ = events.send(Event::Hub(news));
            }
        });
        Ok(())
    }

    /// A hub was let in.
    pub(super) fn is_in(&mut self, hub: usize, view: &mut View) {
        if let Some(actor) = self.actors.get(hub) {
            view.say(&format!("{} decides with the others", actor.place.id));
        }
    }

    /// A hub said something.
    pub(super) fn heard(&mut self, news: &News, view: &mut View) {
        let highest = self.actors.iter().map(|actor| actor.height).max();
        let Some(actor) = self.actors.get_mut(news.hub) else {
            return;
        };
        if news.life != actor.life {
            return;
        }
        match &news.said {
            Said::Up => {
                actor.state = State::Up;
                let (id, url) = (&actor.place.id, &actor.place.url);
                let pid = actor.process.as_ref().map_or(0, HubProcess::id);
                view.say(&format!("{id} is up: {url}, process {pid}"));
            }
            Said::Block(block) => {
                let height = block["height"].as_u64().unwrap_or_default();
                actor.height = actor.height.max(height);
                if actor.behind && Some(actor.height) >= highest {
                    actor.behind = false;
                    view.say(&format!(
                        "{} is level again, at block {height}",
                        actor.place.id
                    ));
                }
            }
            Said::Gone => {
                actor.process = None;
                actor.state = State::Ended;
                let (id, log) = (&actor.place.id, actor.place.dir.join("hub.log"));
                view.say(&format!("{id} ended by itself: see {}", log.display()));
            }
        }
    }

    /// A hub answered, or did not.
    pub(super) fn polled(&mut self, polled: Polled, view: &mut View) {
        let Some(actor) = self.actors.get_mut(polled.hub) else {
            return;
        };
        let Some(cluster) = polled.cluster else {
            return;
        };
        let height = cluster["height"].as_u64().unwrap_or_default();
        actor.height = actor.height.max(height);
        actor.cluster = cluster;
        for block in polled.blocks.iter().rev() {
            self.shown(block, view);
        }
    }

    fn shown(&mut self, block: &Json, view: &mut View) {
        let height = block["height"].as_u64().unwrap_or_default();
        if self.blocks.back().is_some_and(|last| last.height >= height) {
            return;
        }
        let signed_by = block["signed_by"].as_array().into_iter().flatten();
        let signed_by = signed_by.filter_map(Json::as_str).map(str::to_owned);
        let shown = Shown {
            height,
            proposer: block["proposer"].as_str().unwrap_or_default().to_owned(),
            signed_by: signed_by.collect(),
        };
        let signatures = shown.signed_by.len();
        if signatures > self.most_signed {
            self.most_signed = signatures;
            view.say(&format!(
                "block {height}, proposed by {}, has {signatures} signatures: {}",
                shown.proposer,
                shown.signed_by.join(" ")
            ));
        }
        if signatures * 2 > self.actors.len() {
            self.first_shared.get_or_insert(self.began.elapsed());
        }
        if self.blocks.len() >= BLOCKS {
            self.blocks.pop_front();
        }
        self.blocks.push_back(shown);
    }

    /// Does what was asked for.
    pub(super) fn pressed(&mut self, key: Key, view: &mut View) -> anyhow::Result<()> {
        match key {
            Key::Quit => {}
            Key::Start(hub) => {
                self.start(hub)?;
                let actor = self.actor(hub)?;
                actor.behind = true;
                view.say(&format!("{} is started again", actor.place.id));
            }
            Key::Kill(hub) => {
                let actor = self.actor(hub)?;
                let Some(process) = actor.process.take() else {
                    bail!("{} does not run", actor.place.id);
                };
                let id = process.id();
                // What it still says is of a life that is over.
                actor.life += 1;
                actor.state = State::Killed;
                process.kill()?;
                view.say(&format!(
                    "{} is killed (SIGKILL to process {id})",
                    actor.place.id
                ));
            }
            Key::Freeze(hub) => self.freeze(hub, true, view)?,
            Key::Thaw(hub) => self.freeze(hub, false, view)?,
        }
        Ok(())
    }

    fn freeze(&mut self, hub: usize, frozen: bool, view: &mut View) -> anyhow::Result<()> {
        let actor = self.actor(hub)?;
        let Some(process) = &mut actor.process else {
            bail!("{} does not run", actor.place.id);
        };
        if process.is_frozen() == frozen {
            bail!("{} is so already", actor.place.id);
        }
        process.freeze(frozen)?;
        let said = match frozen {
            true => {
                "is frozen: it stands still, its connections stay open (SIGSTOP; no cut of the network)"
            }
            false => "goes on",
        };
        actor.state = if frozen { State::Frozen } else { State::Up };
        actor.behind = !frozen;
        view.say(&format!("{} {said}", actor.place.id));
        Ok(())
    }

    /// Ends every hub that runs, and waits for all of them.
    pub(super) fn end(&mut self) -> anyhow::Result<()> {
        let actors = self.actors.iter_mut();
        let mut processes: Vec<_> = actors.filter_map(|actor| actor.process.take()).collect();
        let mut outcome = Ok(());
        for process in &mut processes {
            outcome = outcome.and(process.ask_to_end());
        }
        let until = Instant::now() + ENDING;
        for process in processes {
            outcome = outcome.and(process.ended(until));
        }
        outcome
    }

    /// Milliseconds to the first block that more than half of the hubs signed.
    pub(super) fn first_shared_ms(&self) -> Option<u64> {
        let first = self.first_shared?;
        u64::try_from(first.as_millis()).ok()
    }

    /// What is known of each hub at the end.
    pub(super) fn summaries(&self) -> Vec<Json> {
        let one = |actor: &Actor| {
            json!({
                "id": actor.place.id, "dir": actor.place.dir, "height": actor.height,
                "http_url": actor.place.url.to_string(), "devices": actor.place.devices,
            })
        };
        self.actors.iter().map(one).collect()
    }
}
