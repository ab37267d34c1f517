//! Acting upon machines: one actor a device, beside the ones that read it.
//!
//! Receives [`Act`], a request that was checked already. Handles one at a time, in the order in which
//! they came: records the request and waits until it is durable, has the source's [`Control`] touch the
//! machine, records what came of it, and answers when that is durable, too. Its mailbox is the device's queue, and is
//! bounded. The machine's side runs as a task of its own on the sources' runtime: a slow device delays
//! nobody else, and a panic in a `Control` ends that task and nothing more. When the device's pipeline
//! is built anew, so is this actor; requests that waited for the old one are answered by its end.

use super::journal::Journal;
use super::work::Workers;
use crate::access::Caller;
use crate::ledger::act::{Act as Entry, name};
use crate::live_view::{DeviceLive, Link};
use crate::model::{DeviceId, TagSpec, Value, now};
use crate::protocols::control::{Control, MethodCall, TagWrite, WriteFault, Written};
use crate::protocols::ports::ControlError;
use crate::stats::Histogram;
use actix::prelude::*;
use parking_lot::RwLock;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::time::timeout;
use weighbridge_verifier::{Action, Response};

/// Requests that may wait for one device.
pub const QUEUE: usize = 32;
/// How long a request may wait for its turn: a machine must not move long after somebody asked.
const TURN: Duration = Duration::from_secs(5);
/// How long the machine may take.
const TOUCH: Duration = Duration::from_secs(10);

/// What is asked of a device; checked by whoever sends it.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Write these tags.
    Write(Vec<TagWrite>),
    /// Call this method.
    Call(MethodCall),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Of each write, in order.
    Written(Written),
    /// The method's results.
    Called(Result<Vec<Value>, WriteFault>),
}

/// Do something with the device.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Act {
    /// For whom.
    pub caller: Caller,
    /// What.
    pub request: Request,
    /// Since when it waits.
    pub asked: Instant,
    /// Who waits for the answer.
    pub done: oneshot::Sender<Result<Outcome, ControlError>>,
}

/// How long the phases of the requests took.
#[derive(Default)]
pub struct ControlTimes {
    /// Waiting for its turn.
    pub queued: Histogram,
    /// From its turn until its record was durable.
    pub recorded: Histogram,
    /// Writing to the machine and reading back.
    pub touched: Histogram,
    /// All of it.
    pub whole: Histogram,
}

/// The ways to the devices' actors, and what those need. Cheap to clone.
#[derive(Clone)]
pub struct ControlDoors {
    journal: Journal,
    workers: Workers,
    times: Arc<ControlTimes>,
    doors: Arc<RwLock<BTreeMap<DeviceId, Addr<ControlActor>>>>,
    fence: Arc<OnceLock<Fence>>,
}

/// Says why nothing may be done with a device now, if so.
pub type Fence = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

impl ControlDoors {
    /// No doors yet.
    pub fn new(journal: Journal, workers: Workers) -> Self {
        Self {
            journal,
            workers,
            times: Arc::default(),
            doors: Arc::default(),
            fence: Arc::default(),
        }
    }

    /// From now on nothing is done that `fence` does not let through; where several hubs may act upon a machine.
    pub fn fence(&self, fence: Fence) {
        // A hub has one, for good.
        let _ = self.fence.set(fence);
    }

    /// Whether something may be done with a device now.
    pub fn passes(&self, device: &str) -> Result<(), ControlError> {
        passes(&self.fence, device)
    }

    /// Starts the actor of a device whose source acts by `control`, in place of an older one.
    pub fn open(&self, live: &Arc<DeviceLive>, control: Option<Arc<dyn Control>>) {
        let actor = ControlActor {
            live: live.clone(),
            control,
            journal: self.journal.clone(),
            workers: self.workers.clone(),
            times: self.times.clone(),
            fence: self.fence.clone(),
        };
        self.doors.write().insert(live.id.clone(), actor.start());
    }

    /// Forgets a device that was taken out; what waits for it is still done.
    pub fn close(&self, device: &str) {
        self.doors.write().remove(device);
    }

    /// Sends `act` to the actor of `device`, or drops it and says why.
    pub fn send(&self, device: &str, act: Act) -> Result<(), ControlError> {
        let doors = self.doors.read();
        let starting = || {
            let why = format!("`{device}` is being started, so nothing was done");
            ControlError::Unreachable(why)
        };
        // Every clone of an address has a place in the mailbox of its own: only through this one is the
        // mailbox bounded.
        let door = doors.get(device).ok_or_else(starting)?;
        door.try_send(act).map_err(|error| match error {
            SendError::Full(_) => ControlError::Busy,
            SendError::Closed(_) => starting(),
        })
    }

    /// What requests are recorded with.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// How long requests took.
    pub fn times(&self) -> &Arc<ControlTimes> {
        &self.times
    }
}

/// Acts upon one device.
pub struct ControlActor {
    live: Arc<DeviceLive>,
    control: Option<Arc<dyn Control>>,
    journal: Journal,
    workers: Workers,
    times: Arc<ControlTimes>,
    fence: Arc<OnceLock<Fence>>,
}

impl Actor for ControlActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(QUEUE);
    }
}

impl Handler<Act> for ControlActor {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, act: Act, _: &mut Self::Context) -> Self::Result {
        let turn = Turn {
            live: self.live.clone(),
            control: self.control.clone(),
            journal: self.journal.clone(),
            workers: self.workers.clone(),
            times: self.times.clone(),
            fence: self.fence.clone(),
        };
        AtomicResponse::new(Box::pin(turn.take(act).into_actor(self)))
    }
}

fn passes(fence: &OnceLock<Fence>, device: &str) -> Result<(), ControlError> {
    let fenced = fence.get().map_or(Ok(()), |fence| fence(device));
    fenced.map_err(ControlError::Unreachable)
}

/// One request's turn.
struct Turn {
    live: Arc<DeviceLive>,
    control: Option<Arc<dyn Control>>,
    journal: Journal,
    workers: Workers,
    times: Arc<ControlTimes>,
    fence: Arc<OnceLock<Fence>>,
}

impl Turn {
    async fn take(self, act: Act) {
        let Act {
            caller,
            request,
            asked,
            done,
        } = act;
        // Nobody waits any more, or has waited too long: the machine must not be touched now.
        if done.is_closed() {
            return;
        }
        let queued = asked.elapsed();
        observe(&self.times.queued, queued);
        if queued > TURN {
            let _ = done.send(Err(ControlError::Busy));
            return;
        }
        let details = details(&self.live.tags, &caller, &request);
        let control = match self.way() {
            Ok(control) => control,
            Err(error) => {
                let recorded = refuse(&self.journal, &caller, &self.live.id, &details, &error);
                // Whoever asked may have stopped waiting.
                let _ = done.send(Err(recorded.await));
                return;
            }
        };
        let began = Instant::now();
        let height = match self.request(&caller, &details).await {
            Ok(height) => height,
            Err(error) => {
                let _ = done.send(Err(error));
                return;
            }
        };
        observe(&self.times.recorded, began.elapsed());
        let began = Instant::now();
        // Time has passed since it was looked whether it may be done.
        let outcome = match passes(&self.fence, &self.live.id) {
            Ok(()) => self.touch(control, request).await,
            Err(error) => Err(error),
        };
        observe(&self.times.touched, began.elapsed());
        let came = came_of(&details, height, &outcome);
        let outcome = self.result(&caller, &came).await.and(outcome);
        observe(&self.times.whole, asked.elapsed());
        let _ = done.send(outcome);
    }

    /// Makes durable what came of a request: nobody hears of it before.
    async fn result(&self, caller: &Caller, came: &Json) -> Result<(), ControlError> {
        let (subject, object) = names(caller, &self.live.id);
        let entry = entry((&subject, &object), "control-result", came);
        let Err(error) = self.journal.record(&entry).await else {
            return Ok(());
        };
        if !error.may_follow() {
            // The ledger did not take it, so that nobody waits; it must have it all the same.
            self.note(caller, came).await;
        }
        Err(ControlError::Unreachable(format!(
            "`{}` was asked, but what came of it could not be recorded yet, so it is not told: {error}",
            self.live.id
        )))
    }

    /// The way to the machine, or why there is none.
    fn way(&self) -> Result<Arc<dyn Control>, ControlError> {
        let device = &self.live.id;
        passes(&self.fence, device)?;
        let Some(control) = &self.control else {
            return Err(ControlError::Unknown(format!(
                "`{device}` can only be read: its protocol or its configuration has no way to write"
            )));
        };
        match self.live.link() {
            Link::Up => Ok(control.clone()),
            Link::Starting => Err(ControlError::Unreachable(format!(
                "`{device}` is not connected yet, so nothing was done"
            ))),
            Link::Down(trouble) => Err(ControlError::Unreachable(format!(
                "`{device}` is down, so nothing was done: {trouble}"
            ))),
        }
    }

    /// Makes the request durable.
    async fn request(&self, caller: &Caller, details: &Json) -> Result<u64, ControlError> {
        let (subject, object) = names(caller, &self.live.id);
        let entry = entry((&subject, &object), "control", details);
        let recorded = self.journal.record(&entry);
        let error = match recorded.await {
            Ok(height) => return Ok(height),
            Err(error) => error,
        };
        if error.may_follow() {
            let nothing = json!({"request": details, "done": false, "why": error.to_string()});
            self.note(caller, &nothing).await;
        }
        Err(ControlError::NotRecorded(error.to_string()))
    }

    /// Has the machine touched, on the sources' runtime.
    async fn touch(
        &self,
        control: Arc<dyn Control>,
        request: Request,
    ) -> Result<Outcome, ControlError> {
        let acting = async move {
            match request {
                Request::Write(writes) => control.write(&writes).await.map(Outcome::Written),
                Request::Call(call) => control.call(&call).await.map(Outcome::Called),
            }
        };
        let acting = self.workers.runtime().spawn(timeout(TOUCH, acting));
        let device = &self.live.id;
        let unknown = |why: String| {
            let last = self.live.heard().map(crate::model::rfc3339);
            let last = last.map_or(String::new(), |last| format!("; last read {last}"));
            let error = format!("`{device}` {why}; what it has done is not known{last}");
            Err(ControlError::Unreachable(error))
        };
        match acting.await {
            Ok(Ok(Ok(outcome))) => Ok(outcome),
            Ok(Ok(Err(error))) => unknown(format!(
                "did not answer the request: {} ({})",
                error.plain(),
                error.exact()
            )),
            Ok(Err(_)) => unknown(format!("did not answer within {} s", TOUCH.as_secs())),
            Err(failed) => {
                tracing::error!(%device, error = %failed, "acting upon the device failed");
                unknown("could not be acted upon, because the hub failed over it".to_owned())
            }
        }
    }

    /// Hands what came of a request to the ledger, and waits for nothing.
    async fn note(&self, caller: &Caller, came: &Json) {
        let (subject, object) = names(caller, &self.live.id);
        let entry = entry((&subject, &object), "control-result", came);
        let noted = self.journal.note(&entry);
        if let Err(error) = noted.await {
            tracing::error!(device = %self.live.id, %error, "what came of a request is not recorded");
        }
    }
}

fn observe(times: &Histogram, took: Duration) {
    times.observe(i64::try_from(took.as_nanos()).unwrap_or(i64::MAX), 1);
}

/// Subject and object of a request's records.
fn names(caller: &Caller, device: &str) -> (String, String) {
    (name("user", &caller.user), name("device", device))
}

fn entry<'a>((subject, object): (&'a str, &'a str), kind: &'a str, details: &'a Json) -> Entry<'a> {
    Entry {
        time: now(),
        subject,
        action: Action::Control,
        object,
        kind,
        details,
        response: Response::Accepted,
    }
}

/// Records that a request was refused, and returns what to answer: the reason, or that the refusal
/// could not be recorded.
pub async fn refuse(
    journal: &Journal,
    caller: &Caller,
    device: &str,
    details: &Json,
    error: &ControlError,
) -> ControlError {
    let (subject, object) = names(caller, device);
    let refused = json!({"request": details, "why": error.to_string()});
    let entry = Entry {
        response: Response::Refused,
        ..entry((&subject, &object), "control", &refused)
    };
    match journal.record(&entry).await {
        Ok(_) => error.clone(),
        Err(unrecorded) => ControlError::NotRecorded(unrecorded.to_string()),
    }
}

/// A request as its record tells it.
fn details(tags: &[TagSpec], caller: &Caller, request: &Request) -> Json {
    match request {
        Request::Write(writes) => {
            let tag = |write: &TagWrite| tags.get(write.tag).map_or("", |tag| &*tag.name);
            let writes = writes.iter().map(|write| (tag(write), &write.value));
            write_details(caller, writes)
        }
        Request::Call(call) => call_details(caller, call),
    }
}

/// A write as its record tells it: who, in which session, and every tag with its value.
pub fn write_details<'a>(
    caller: &Caller,
    writes: impl Iterator<Item = (&'a str, &'a Value)>,
) -> Json {
    let writes: Vec<Json> = writes
        .map(|(tag, value)| json!({"tag": tag, "value": exact(value)}))
        .collect();
    let mut details = json!({"user": caller.user, "writes": writes});
    caller.tell(&mut details);
    details
}

/// A call as its record tells it.
pub fn call_details(caller: &Caller, call: &MethodCall) -> Json {
    let mut details = write_details(caller, std::iter::empty());
    let arguments: Vec<Json> = call.arguments.iter().map(exact).collect();
    details["call"] = json!({"object": call.object, "method": call.method, "arguments": arguments});
    details
}

/// What came of a request, for its second record. The request is the one of the same device in block
/// `height`.
fn came_of(request: &Json, height: u64, outcome: &Result<Outcome, ControlError>) -> Json {
    let one = |result: &Result<Value, WriteFault>| match result {
        Ok(value) => json!({"read_back": exact(value)}),
        Err(fault) => json!({"fault": fault.to_string()}),
    };
    let mut came = json!({"request_block": height, "request": request});
    match outcome {
        Ok(Outcome::Written(written)) => {
            came["results"] = written.iter().map(one).collect();
        }
        Ok(Outcome::Called(Ok(values))) => {
            came["results"] = values.iter().map(exact).collect();
        }
        Ok(Outcome::Called(Err(fault))) => came["fault"] = json!(fault.to_string()),
        Err(error) => came["fault"] = json!(error.to_string()),
    }
    came
}

/// A value as JSON, exactly: what is no JSON number becomes a text.
fn exact(value: &Value) -> Json {
    match value {
        Value::Bool(v) => json!(v),
        Value::I64(v) => json!(v),
        Value::U64(v) => json!(v),
        Value::F64(v) if v.is_finite() => json!(v),
        Value::Text(v) => json!(v),
        Value::F64(_) | Value::Bytes(_) => json!(value.to_string()),
    }
}
