//! The desk where alarms are kept: verdicts come in, changes of state go out, and users act.
//!
//! Not an actor, so that nothing waits for it: a validator shows it a verdict and goes on, which costs
//! a look unless an alarm changes. One task beside it looks at the connections, ends what was shelved
//! for a time, and records what changed. Every change becomes a record; what a user does is durable
//! before it shows and before it is answered. What changes faster than it can be recorded is recorded
//! as it is then, so a stalled disk costs no memory.

mod shared;

pub use shared::{ToldAlarm, told_alarm};

use super::access::log_denied;
use super::journal::Journal;
use crate::access::{Caller, Denied, Gate, Right};
use crate::alarms::{Alarm, AlarmAction, AlarmConfig, AlarmError, Board, DeviceWatch, Edge};
use crate::ledger::act::{Act, name};
use crate::ledger::words::{ALARM, ALARM_OBJECT, ALARM_OVER};
use crate::live_view::{DeviceLive, Link};
use crate::model::{DeviceId, now};
use crate::protocols::ports::AlarmPort;
use crate::validation::Verdict;
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, broadcast};
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::task::AbortOnDropHandle;
use weighbridge_verifier::{Action, Response};

/// Changes that a slow listener may be behind before it misses some, and is told how many.
const LISTENER_LAG: usize = 1_024;
/// How often connections and times are looked at. A connection that is back at the next look but one
/// is no alarm.
const LOOK: Duration = Duration::from_secs(1);
/// How long changes are gathered before they are recorded.
const GATHER: Duration = Duration::from_millis(100);
/// How long a user waits for another one's act on the same alarm.
const TURN: Duration = Duration::from_secs(5);

/// The alarms of a hub. Cheap to clone.
#[derive(Clone)]
pub struct AlarmDesk {
    inner: Arc<Inner>,
    _work: Arc<AbortOnDropHandle<()>>,
}

struct Inner {
    hub: String,
    state: Mutex<State>,
    changes: broadcast::Sender<Alarm>,
    /// Something must be recorded.
    dirtied: Notify,
    /// An alarm is no longer in somebody's hands.
    freed: Notify,
    gate: Gate,
    journal: Journal,
}

struct State {
    board: Board,
    devices: BTreeMap<DeviceId, Watched>,
    /// Alarms whose state is not recorded yet.
    dirty: BTreeSet<String>,
    /// Alarms of which something is being recorded.
    in_hand: BTreeSet<String>,
}

struct Watched {
    live: Arc<DeviceLive>,
    watch: DeviceWatch,
    /// Whether the connection was down at the last look.
    was_down: bool,
}

impl AlarmDesk {
    /// A desk for hub `hub` that goes on from `alarms`, asks `gate` and records with `journal`; its work is done on
    /// `runtime`.
    pub fn open(
        hub: &str,
        config: AlarmConfig,
        alarms: Vec<Alarm>,
        (gate, journal): (Gate, Journal),
        runtime: &Handle,
    ) -> Self {
        let inner = Arc::new(Inner {
            hub: hub.to_owned(),
            state: Mutex::new(State {
                board: Board::new(config, alarms, now()),
                devices: BTreeMap::new(),
                dirty: BTreeSet::new(),
                in_hand: BTreeSet::new(),
            }),
            changes: broadcast::Sender::new(LISTENER_LAG),
            dirtied: Notify::new(),
            freed: Notify::new(),
            gate,
            journal,
        });
        let of_work = inner.clone();
        let work = async move { tokio::join!(of_work.look(), of_work.record()) };
        let work = runtime.spawn(async move {
            work.await;
        });
        Self {
            inner,
            _work: Arc::new(AbortOnDropHandle::new(work)),
        }
    }

    /// Watches a device from now on. Its alarms go on where they were.
    pub fn watch(&self, live: &Arc<DeviceLive>) {
        let mut state = self.inner.state.lock();
        let known = state.devices.get(&live.id);
        if known.is_some_and(|watched| Arc::ptr_eq(&watched.live, live)) {
            return;
        }
        // A tag that the device had and has no more.
        let tags = &live.tags;
        let gone = |alarm: &Alarm| {
            let tag = alarm.tag.as_ref();
            tag.is_some_and(|tag| tags.iter().all(|there| there.name != *tag))
        };
        let retired = state.board.retire(&live.id, gone, now());
        for alarm in retired {
            self.inner.changed(&mut state, alarm);
        }
        let of_device = |alarm: &&Alarm| alarm.device == live.id;
        let alarms: Vec<Alarm> = state.board.alarms().filter(of_device).cloned().collect();
        let tags = live.tags.iter().map(|tag| tag.name.clone()).collect();
        let watched = Watched {
            live: live.clone(),
            watch: DeviceWatch::new(state.board.config(), tags, &alarms),
            was_down: false,
        };
        state.devices.insert(live.id.clone(), watched);
        state.board.set_elsewhere(&live.id, false);
    }

    /// Watches a device no more; its alarms are over.
    pub fn forget(&self, device: &str) {
        let mut state = self.inner.state.lock();
        state.devices.remove(device);
        let retired = state.board.retire(device, |_| true, now());
        for alarm in retired {
            tracing::info!(
                alarm = alarm.id,
                "its device was taken out, the alarm is over"
            );
            self.inner.changed(&mut state, alarm);
        }
    }

    /// Ends the alarms of devices that `there` does not hold of: they were recorded before the devices
    /// were taken out of the configuration. Those that another hub reads are its own matter.
    pub fn forget_all_but(&self, there: impl Fn(&str) -> bool) {
        let gone: BTreeSet<DeviceId> = {
            let state = self.inner.state.lock();
            let alarms = state.board.alarms();
            let own = alarms.filter(|alarm| !state.board.is_elsewhere(&alarm.device));
            let gone = own.filter(|alarm| !there(&alarm.device));
            gone.map(|alarm| alarm.device.clone()).collect()
        };
        gone.iter().for_each(|device| self.forget(device));
    }

    /// Shows the desk what validation said of a device's batch.
    pub fn judged(&self, device: &DeviceId, verdict: &Verdict) {
        let mut state = self.inner.state.lock();
        let Some(watched) = state.devices.get_mut(device) else {
            return;
        };
        let edges = watched.watch.judged(verdict);
        self.inner.take(&mut state, device, edges);
    }
}

impl AlarmDesk {
    /// Says that another machine answers in the place of a device.
    pub fn stranger(&self, device: &DeviceId, message: String) {
        let mut state = self.inner.state.lock();
        let Some(watched) = state.devices.get_mut(device) else {
            return;
        };
        let edges = watched.watch.stranger(message);
        self.inner.take(&mut state, device, edges);
    }
}

impl Inner {
    fn take(&self, state: &mut State, device: &DeviceId, edges: Vec<Edge>) {
        for edge in edges {
            if let Some(alarm) = state.board.edge(device, edge, now()) {
                tracing::info!(
                    alarm = alarm.id,
                    active = alarm.active,
                    severity = alarm.severity,
                    alarm.message,
                    "an alarm changed"
                );
                self.changed(state, alarm);
            }
        }
    }

    /// Tells everybody, and has it recorded. Under the lock, so that all hear the same order.
    fn changed(&self, state: &mut State, alarm: Alarm) {
        state.dirty.insert(alarm.id.clone());
        self.dirtied.notify_one();
        if !alarm.enabled {
            // It is recorded, and told when it is enabled again.
            return;
        }
        // Nobody listening is fine.
        let _ = self.changes.send(alarm);
    }

    /// Looks at the connections and the times, for ever.
    async fn look(&self) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let mut state = self.state.lock();
            let state = &mut *state;
            let mut edges = Vec::new();
            for (device, watched) in &mut state.devices {
                let down = match watched.live.link() {
                    Link::Down(trouble) => Some(trouble.in_short()),
                    Link::Starting | Link::Up => None,
                };
                let twice = down.as_deref().filter(|_| watched.was_down);
                edges.push((device.clone(), watched.watch.link(twice)));
                watched.was_down = down.is_some();
            }
            for (device, edges) in edges {
                self.take(state, &device, edges);
            }
            for alarm in state.board.expire(now()) {
                self.changed(state, alarm);
            }
        }
    }

    /// Records what changed, for ever: the newest state of each alarm.
    async fn record(&self) {
        loop {
            self.dirtied.notified().await;
            tokio::time::sleep(GATHER).await;
            while let Some(alarm) = self.next_dirty() {
                if let Err(error) = self.note(&alarm).await {
                    tracing::error!(alarm = alarm.id, %error, "an alarm cannot be recorded, trying again");
                    self.state.lock().dirty.insert(alarm.id.clone());
                    self.dirtied.notify_one();
                    self.put_down(&alarm.id);
                    tokio::time::sleep(LOOK).await;
                    break;
                }
                self.put_down(&alarm.id);
            }
        }
    }

    fn next_dirty(&self) -> Option<Alarm> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let free = |id: &&String| !state.in_hand.contains(*id);
        let id = state.dirty.iter().find(free)?.clone();
        state.dirty.remove(&id);
        // One that is gone since was at rest, and made way for another.
        let alarm = state.board.get(&id)?.clone();
        state.in_hand.insert(id);
        Some(alarm)
    }

    async fn note(&self, alarm: &Alarm) -> Result<(), super::journal::JournalError> {
        let details = json!({ "alarm": alarm });
        let act = Act {
            time: alarm.time,
            subject: &name("hub", &self.hub),
            action: Action::Alarm,
            object: &object(&alarm.id),
            kind: kind(alarm),
            details: &details,
            response: Response::Accepted,
        };
        self.journal.note(&act).await
    }

    /// Waits until nobody else has the alarm in hand, and takes it.
    async fn pick_up(&self, id: &str) -> Result<InHand<'_>, AlarmError> {
        let turn = async {
            loop {
                let freed = self.freed.notified();
                tokio::pin!(freed);
                // From here on a wake-up is not missed.
                freed.as_mut().enable();
                if self.state.lock().in_hand.insert(id.to_owned()) {
                    return;
                }
                freed.await;
            }
        };
        timeout(TURN, turn).await.map_err(|_| AlarmError::Busy)?;
        let id = id.to_owned();
        Ok(InHand { desk: self, id })
    }

    fn put_down(&self, id: &str) {
        let mut state = self.state.lock();
        state.in_hand.remove(id);
        if state.dirty.contains(id) {
            self.dirtied.notify_one();
        }
        drop(state);
        self.freed.notify_waiters();
    }

    async fn refuse(
        &self,
        (caller, id, action, comment): (&Caller, &str, AlarmAction, &str),
        denied: Option<&Denied>,
        why: AlarmError,
    ) -> AlarmError {
        let mut details = json!({
            "asked": action.name(),
            "comment": comment,
            "why": why.to_string(),
        });
        if let Some(denied) = denied {
            details["rule"] = denied.rule().into();
            details["denied"] = denied.to_string().into();
        }
        caller.tell(&mut details);
        let act = Act {
            time: now(),
            subject: &name("user", &caller.user),
            action: Action::Acknowledge,
            object: &object(id),
            kind: "alarm-refused",
            details: &details,
            response: Response::Refused,
        };
        match self.journal.record(&act).await {
            Ok(_) => why,
            Err(error) => AlarmError::NotRecorded(error.to_string()),
        }
    }
}

/// An alarm that somebody has in hand; put down when dropped.
struct InHand<'a> {
    desk: &'a Inner,
    id: String,
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.desk.put_down(&self.id);
    }
}

#[async_trait]
impl AlarmPort for AlarmDesk {
    fn alarms(&self) -> Vec<Alarm> {
        let state = self.inner.state.lock();
        let shown = state.board.alarms().filter(|alarm| !alarm.at_rest());
        shown.cloned().collect()
    }

    fn beyond(&self) -> u64 {
        self.inner.state.lock().board.beyond()
    }

    fn max_shelved(&self) -> Duration {
        self.inner.state.lock().board.config().max_shelved()
    }

    fn changes(&self) -> broadcast::Receiver<Alarm> {
        self.inner.changes.subscribe()
    }

    async fn act(
        &self,
        caller: &Caller,
        id: &str,
        event: Option<u64>,
        action: AlarmAction,
        comment: &str,
    ) -> Result<Alarm, AlarmError> {
        let desk = &*self.inner;
        let asked = (caller, id, action, comment);
        let about = desk.state.lock().board.get(id).map(thing);
        let Some(about) = about else {
            let unknown = AlarmError::Unknown(id.to_owned());
            return Err(desk.refuse(asked, None, unknown).await);
        };
        let right = right_for(action);
        if let Err(denied) = desk.gate.passage(&caller.user, right, &about, now()) {
            log_denied(caller, right, &about, &denied);
            let (user, asked_for) = (&caller.user, action.name());
            let why = AlarmError::Denied(format!("{user} may not {asked_for} this alarm"));
            return Err(desk.refuse(asked, Some(&denied), why).await);
        }
        let _in_hand = desk.pick_up(id).await?;
        let by = (caller.user.as_str(), comment);
        let time = now();
        let planned = desk.state.lock().board.plan(id, event, action, by, time);
        let planned = match planned {
            Ok(planned) => planned,
            // Not in the state that the alarm is in: a refusal as well.
            Err(why) => return Err(desk.refuse(asked, None, why).await),
        };
        let recorded = desk
            .journal
            .record(&Act {
                time,
                subject: &name("user", &caller.user),
                action: Action::Acknowledge,
                object: &object(id),
                kind: kind(&planned),
                details: &details(action, comment, event, caller, &planned),
                response: Response::Accepted,
            })
            .await;
        let mut state = desk.state.lock();
        if let Err(error) = recorded {
            // It may become durable yet: then the state as it is must come after it.
            state.dirty.insert(id.to_owned());
            return Err(AlarmError::NotRecorded(error.to_string()));
        }
        let done = state.board.act(id, event, action, by, time);
        let differs = done.as_ref() != Ok(&planned);
        if differs {
            state.dirty.insert(id.to_owned());
        }
        let done = done?;
        let _ = desk.changes.send(done.clone());
        Ok(done)
    }
}

fn details(
    action: AlarmAction,
    comment: &str,
    event: Option<u64>,
    caller: &Caller,
    after: &Alarm,
) -> serde_json::Value {
    let mut details = json!({
        "did": action.name(),
        "comment": comment,
        "event": event,
        "alarm": after,
    });
    caller.tell(&mut details);
    if let AlarmAction::Shelve(Some(time)) = action {
        details["seconds"] = json!(time.as_secs_f64());
    }
    details
}

fn kind(alarm: &Alarm) -> &'static str {
    match alarm.at_rest() {
        true => ALARM_OVER,
        false => ALARM,
    }
}

fn object(id: &str) -> String {
    name(ALARM_OBJECT.trim_end_matches(':'), id)
}

fn right_for(action: AlarmAction) -> Right {
    match action {
        AlarmAction::Acknowledge | AlarmAction::Confirm | AlarmAction::Comment => {
            Right::Acknowledge
        }
        AlarmAction::Shelve(_)
        | AlarmAction::Unshelve
        | AlarmAction::Enable
        | AlarmAction::Disable => Right::Shelve,
    }
}

/// What an alarm is about, in the words of access.
fn thing(alarm: &Alarm) -> String {
    match &alarm.tag {
        Some(tag) => format!("device:{}/{tag}", alarm.device),
        None => format!("device:{}", alarm.device),
    }
}

/// The alarm that a record's details tell of; `None` when a later version wrote them.
pub fn recorded_alarm(details: &serde_json::Value) -> Option<Alarm> {
    serde_json::from_value(details.get("alarm")?.clone()).ok()
}
