//! Acting upon a machine for a user of a hub: the edge node's half of it (ADR 17).
//!
//! The hub has checked and recorded the request; the edge node checks what it knows itself: that the
//! order is no old one, that its own configuration lets the tag be written, that the value fits. An order
//! is followed once or not at all, and whatever comes of it is answered.

use super::lane::Lane;
use crate::hub::check_value;
use crate::live_view::Link;
use crate::model::Value;
use crate::protocols::SourceError;
use crate::protocols::control::{Control, MethodCall, TagWrite, WriteFault};
use crate::protocols::edge::order::{Order, Outcome, What, WireFault, WireValue};
use crate::protocols::edge::wire::FromEdge;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};

/// An order that names a ping older than this was too long on its way. Pings are two seconds apart.
const FRESH: Duration = Duration::from_secs(6);
/// Pings that are remembered.
const PINGS: usize = 16;
/// How long a machine may take; less than the hub waits.
const TOUCH: Duration = Duration::from_secs(8);
/// Orders under way at a time, all devices together.
const ORDERS: usize = 64;

/// The newest pings of a connection, and when each was sent.
struct Pings(VecDeque<(u64, Instant)>);

impl Pings {
    /// The greeting counts as the first.
    fn new(now: Instant) -> Self {
        Self(VecDeque::from([(0, now)]))
    }

    fn next(&mut self, now: Instant) -> u64 {
        let number = self.0.back().map_or(0, |(number, _)| number + 1);
        self.0.push_back((number, now));
        if self.0.len() > PINGS {
            self.0.pop_front();
        }
        number
    }

    /// Whether an order that names this one was not long on its way.
    fn is_fresh(&self, heard: u64, now: Instant) -> bool {
        let sent = self.0.iter().find(|(number, _)| *number == heard);
        sent.is_some_and(|(_, at)| now.duration_since(*at) < FRESH)
    }
}

/// Takes the orders of one connection.
pub(super) struct Desk {
    pings: Mutex<Pings>,
    answers: mpsc::Sender<FromEdge>,
    places: Arc<Semaphore>,
}

impl Desk {
    /// A desk whose outcomes leave by what is returned with it.
    pub(super) fn new() -> (Self, mpsc::Receiver<FromEdge>) {
        let (answers, outcomes) = mpsc::channel(ORDERS);
        let desk = Self {
            pings: Mutex::new(Pings::new(Instant::now())),
            answers,
            places: Arc::new(Semaphore::new(ORDERS)),
        };
        (desk, outcomes)
    }

    /// The next ping; it is sent now.
    pub(super) fn ping(&self) -> FromEdge {
        FromEdge::Ping(self.pings.lock().next(Instant::now()))
    }

    /// Follows an order on a task of its own. Called inside a runtime.
    pub(super) fn follow(&self, order: Order, lane: Option<Arc<Lane>>) {
        let fresh = self.pings.lock().is_fresh(order.heard, Instant::now());
        let place = self.places.clone().try_acquire_owned().ok();
        let answers = self.answers.clone();
        tokio::spawn(async move {
            let (id, device) = (order.id, order.device);
            let outcome = match (lane, place.is_some(), fresh) {
                (Some(lane), true, true) => act(&lane, order.what).await,
                (None, ..) => Outcome::Nothing(format!(
                    "the edge node has no device `{device}` that the hub has, too"
                )),
                (_, false, _) => Outcome::Nothing("the edge node has too much to do".to_owned()),
                (.., false) => Outcome::Nothing("it came too late to the edge node".to_owned()),
            };
            tracing::info!(device, ?outcome, "an order of the hub");
            // A hub that is gone by now records that it does not know.
            if answers.send(FromEdge::Acted(id, outcome)).await.is_err() {
                tracing::warn!(device, "the hub cannot be told what came of its order");
            }
        });
    }
}

async fn act(lane: &Arc<Lane>, what: What) -> Outcome {
    let nothing = |why: &str| Outcome::Nothing(why.to_owned());
    let Ok(_turn) = lane.acting.try_lock() else {
        return nothing("the machine is still busy with the request before");
    };
    let Some(control) = lane.control() else {
        return nothing("its protocol has no way to write");
    };
    if let Link::Down(trouble) = lane.live.link() {
        return Outcome::Nothing(format!("the edge node does not reach it: {trouble}"));
    }
    match what {
        What::Write(writes) => match checked(lane, writes) {
            Ok(writes) => touch(async move { write(&*control, &writes).await }).await,
            Err(outcome) => outcome,
        },
        What::Call {
            object,
            method,
            arguments,
        } => {
            let call = MethodCall {
                object,
                method,
                arguments: arguments.into_iter().map(Into::into).collect(),
            };
            touch(async move { self::call(&*control, &call).await }).await
        }
    }
}

async fn write(control: &dyn Control, writes: &[TagWrite]) -> Result<Outcome, SourceError> {
    let written = control.write(writes).await?.into_iter();
    let written = written.map(|r| r.map(WireValue::from).map_err(WireFault::from));
    Ok(Outcome::Written(written.collect()))
}

async fn call(control: &dyn Control, call: &MethodCall) -> Result<Outcome, SourceError> {
    let called = control.call(call).await?;
    let values = |values: Vec<Value>| values.into_iter().map(WireValue::from).collect();
    Ok(Outcome::Called(called.map(values).map_err(WireFault::from)))
}

/// The writes by their places, if this edge node's configuration allows all of them.
fn checked(lane: &Lane, writes: Vec<(String, WireValue)>) -> Result<Vec<TagWrite>, Outcome> {
    let mut checked = Vec::with_capacity(writes.len());
    let mut faults = Vec::with_capacity(writes.len());
    for (name, value) in writes {
        let value = Value::from(value);
        let tags = lane.live.tags.iter().enumerate();
        let found = tags.clone().find(|(_, tag)| *tag.name == *name);
        let fault = match found {
            Some((_, tag)) => check_value(tag, &value).err(),
            None => Some(WriteFault::ReadOnly(
                "the edge node has no such tag".to_owned(),
            )),
        };
        faults.push(fault.map(|fault| match fault {
            WriteFault::ReadOnly(why) => WriteFault::ReadOnly(format!("at the edge node, {why}")),
            other => other,
        }));
        let tag = found.map_or(0, |(tag, _)| tag);
        checked.push(TagWrite { tag, value });
    }
    if faults.iter().all(Option::is_none) {
        return Ok(checked);
    }
    let faults = faults.into_iter();
    let faults = faults.map(|fault| Err(fault.unwrap_or(WriteFault::Withheld).into()));
    Err(Outcome::Written(faults.collect()))
}

/// Has the machine touched, for a bounded time; a panic on the way stays here.
async fn touch(
    acting: impl Future<Output = Result<Outcome, SourceError>> + Send + 'static,
) -> Outcome {
    match tokio::spawn(timeout(TOUCH, acting)).await {
        Ok(Ok(Ok(outcome))) => outcome,
        Ok(Ok(Err(error))) => Outcome::Unknown(error.to_string()),
        Ok(Err(_)) => Outcome::Unknown(format!(
            "the machine did not answer the edge node within {} s",
            TOUCH.as_secs()
        )),
        Err(failed) => {
            tracing::error!(error = %failed, "acting upon the machine failed");
            Outcome::Unknown("the edge node failed over it".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_fresh_when_it_names_a_young_ping() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut pings = Pings::new(begin);
        assert!(pings.is_fresh(0, at(5)) && !pings.is_fresh(0, at(6)));
        assert!(!pings.is_fresh(1, at(0)), "nobody sent it");
        assert_eq!(pings.next(at(4)), 1);
        assert!(pings.is_fresh(1, at(9)) && !pings.is_fresh(1, at(10)));
        for _ in 0..100 {
            pings.next(at(4));
        }
        assert!(!pings.is_fresh(1, at(4)), "only so many are remembered");
        assert!(pings.is_fresh(101, at(4)));
    }

    #[tokio::test]
    async fn an_order_that_is_old_or_for_nobody_is_answered_and_not_followed() {
        let (desk, mut outcomes) = Desk::new();
        for heard in [0, 7] {
            let order = Order {
                id: heard,
                device: "press-1".to_owned(),
                heard,
                what: What::Write(Vec::new()),
            };
            desk.follow(order, None);
            let answer = outcomes.recv().await;
            assert!(
                matches!(answer, Some(FromEdge::Acted(id, Outcome::Nothing(_))) if id == heard),
                "{answer:?}"
            );
        }
    }
}
