//! Acting upon a machine that an edge node reads: the hub's half of it.
//!
//! An order is sent once, over the connection there is. Whoever gave it waits for its outcome, for the
//! end of the connection, or for the time its caller gives it: in the last two cases nobody knows what
//! the machine has done, and that is the answer (ADR 17).

use super::gate::{Contact, Gate};
use super::order::{Order, Outcome, What};
use super::wire::{FromHub, MAX_ANSWER};
use crate::protocols::SourceError;
use crate::protocols::control::{Control, MethodCall, TagWrite, WriteFault, Written};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};
use weighbridge_verifier::encode;

/// Orders of one connection that wait for their outcome: one a device, and each waits for seconds.
const WAITING: usize = 4096;

/// How long an order waits for an edge node that is connecting again.
const CONNECTS_AGAIN: Duration = Duration::from_secs(2);

/// The orders of one connection.
pub(super) struct Orders {
    answers: mpsc::Sender<FromHub>,
    waiting: Mutex<Option<BTreeMap<u64, oneshot::Sender<Outcome>>>>,
    /// Another connection of the edge node is about to take its place: nothing more is sent.
    leaving: AtomicBool,
    /// One waits less.
    fewer: Notify,
    next: AtomicU64,
    /// The newest ping of the edge node.
    heard: AtomicU64,
}

/// Why an order has no outcome.
enum NoOutcome {
    /// It was not sent.
    NotSent(String),
    /// It was, and the connection ended before the outcome came.
    Lost,
}

impl Orders {
    /// Orders that leave by `answers`.
    pub(super) fn new(answers: mpsc::Sender<FromHub>) -> Self {
        Self {
            answers,
            waiting: Mutex::new(Some(BTreeMap::new())),
            leaving: AtomicBool::new(false),
            fewer: Notify::new(),
            next: AtomicU64::new(1),
            heard: AtomicU64::new(0),
        }
    }

    /// The edge node's ping `number` has come.
    pub(super) fn heard(&self, number: u64) {
        self.heard.store(number, Ordering::Relaxed);
    }

    /// What came of order `id` has come. One that nobody waits for any more is of no use: its record says
    /// that it is not known, and was written.
    pub(super) fn acted(&self, id: u64, outcome: Outcome) {
        let waiting = self.waiting.lock().as_mut().and_then(|w| w.remove(&id));
        self.fewer.notify_one();
        match waiting {
            Some(waiting) => drop(waiting.send(outcome)),
            None => tracing::warn!(id, ?outcome, "the outcome of an order comes too late"),
        }
    }

    /// The connection is over: who waits hears of it, and nothing more is sent.
    pub(super) fn end(&self) {
        self.waiting.lock().take();
    }

    /// Sends nothing more, and waits until what was sent has its outcomes, or `longest` has passed.
    pub(super) async fn finish(&self, longest: Duration) {
        self.leaving.store(true, Ordering::Relaxed);
        let finished = async {
            while self.waiting.lock().as_ref().is_some_and(|w| !w.is_empty()) {
                self.fewer.notified().await;
            }
        };
        let _ = tokio::time::timeout(longest, finished).await;
    }

    /// Whether another connection is about to take its place.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    async fn give(&self, device: &str, what: What) -> Result<Outcome, NoOutcome> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let order = FromHub::Act(Order {
            id,
            device: device.to_owned(),
            heard: self.heard.load(Ordering::Relaxed),
            what,
        });
        let not = |why: &str| NoOutcome::NotSent(why.to_owned());
        if encode(&order).len() > MAX_ANSWER {
            return Err(not("the request is too long for one message"));
        }
        let (done, outcome) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock();
            let Some(waiting) = waiting.as_mut() else {
                return Err(not("the edge node has disconnected"));
            };
            if self.is_leaving() {
                return Err(not("the edge node is connecting again"));
            }
            if waiting.len() >= WAITING {
                return Err(not("too many requests wait for the edge node"));
            }
            waiting.insert(id, done);
        }
        // Dropped when whoever asked has waited long enough.
        let _forget = Forget { orders: self, id };
        // It leaves at once or never: nobody may find it in a queue later.
        if self.answers.try_send(order).is_err() {
            return Err(not("the connection to the edge node takes nothing now"));
        }
        outcome.await.map_err(|_| NoOutcome::Lost)
    }
}

struct Forget<'a> {
    orders: &'a Orders,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.orders.waiting.lock().as_mut() {
            waiting.remove(&self.id);
        }
        self.orders.fewer.notify_one();
    }
}

/// Acts upon a device through the edge node that reads it.
pub struct EdgeControl(pub Arc<Gate>);

impl EdgeControl {
    /// What came of it; the error within says that nothing was done.
    async fn give(&self, what: What) -> Result<Result<Outcome, String>, SourceError> {
        let gate = &self.0;
        let edge = &gate.edge;
        let unknown = |reason: String| SourceError::Unreachable {
            address: format!("`{}` by way of the edge node `{edge}`", gate.device),
            reason,
        };
        // One that connects again is still here: nothing was sent, so it can be sent over the new connection.
        let again = |orders: Option<&Orders>| {
            let leaving = orders.is_none_or(Orders::is_leaving);
            leaving && matches!(&*gate.contact().borrow(), Contact::Here(_))
        };
        let mut orders = gate.orders();
        if again(orders.as_deref()) {
            let _ = tokio::time::timeout(CONNECTS_AGAIN, gate.way()).await;
            orders = gate.orders();
        }
        let Some(orders) = orders else {
            return Ok(Err(format!(
                "nothing was done, because the edge node `{edge}` is not connected"
            )));
        };
        let mut given = orders.give(&gate.device, what.clone()).await;
        if matches!(given, Err(NoOutcome::NotSent(_))) && again(Some(&orders)) {
            let _ = tokio::time::timeout(CONNECTS_AGAIN, gate.way()).await;
            if let Some(orders) = gate.orders() {
                given = orders.give(&gate.device, what).await;
            }
        }
        match given {
            Ok(Outcome::Nothing(why)) => Ok(Err(format!("nothing was done: {why}"))),
            Ok(Outcome::Unknown(why)) => Err(unknown(why)),
            Ok(outcome) => Ok(Ok(outcome)),
            Err(NoOutcome::NotSent(why)) => Ok(Err(format!("nothing was done: {why}"))),
            Err(NoOutcome::Lost) => Err(unknown(
                "the edge node was lost before it said what came of the request".to_owned(),
            )),
        }
    }

    fn nonsense(&self) -> SourceError {
        SourceError::Protocol {
            address: format!("the edge node `{}`", self.0.edge),
            reason: "its outcome is not one of this request".to_owned(),
        }
    }
}

#[async_trait]
impl Control for EdgeControl {
    async fn write(&self, writes: &[TagWrite]) -> Result<Written, SourceError> {
        let name = |write: &TagWrite| {
            let tag = self.0.tags.get(write.tag)?;
            Some((tag.name.to_string(), write.value.clone().into()))
        };
        let Some(named) = writes.iter().map(name).collect() else {
            return Err(self.nonsense());
        };
        match self.give(What::Write(named)).await? {
            Err(why) => Ok(vec![Err(WriteFault::Refused(why)); writes.len()]),
            Ok(Outcome::Written(written)) if written.len() == writes.len() => {
                let written = written.into_iter();
                Ok(written
                    .map(|r| r.map(Into::into).map_err(Into::into))
                    .collect())
            }
            Ok(_) => Err(self.nonsense()),
        }
    }

    async fn call(
        &self,
        call: &MethodCall,
    ) -> Result<Result<Vec<crate::model::Value>, WriteFault>, SourceError> {
        let what = What::Call {
            object: call.object.clone(),
            method: call.method.clone(),
            arguments: call.arguments.iter().cloned().map(Into::into).collect(),
        };
        match self.give(what).await? {
            Err(why) => Ok(Err(WriteFault::Refused(why))),
            Ok(Outcome::Called(called)) => Ok(called
                .map(|values| values.into_iter().map(Into::into).collect())
                .map_err(Into::into)),
            Ok(_) => Err(self.nonsense()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_that_leaves_finishes_what_was_sent_and_sends_nothing_more() {
        let (answers, mut sent) = mpsc::channel(4);
        let orders = Arc::new(Orders::new(answers));
        let write = || What::Write(Vec::new());
        let (first, giving) = (orders.clone(), write());
        let first = tokio::spawn(async move { first.give("press-1", giving).await });
        let Some(FromHub::Act(order)) = sent.recv().await else {
            panic!("it is sent")
        };
        let leaving = orders.clone();
        let finished = tokio::spawn(async move { leaving.finish(Duration::from_secs(60)).await });
        while !orders.is_leaving() {
            tokio::task::yield_now().await;
        }
        let late = orders.give("press-1", write()).await;
        assert!(matches!(late, Err(NoOutcome::NotSent(_))));
        assert!(!finished.is_finished() && sent.try_recv().is_err());
        orders.acted(order.id, Outcome::Nothing("so".to_owned()));
        finished.await.unwrap();
        let outcome = first.await.unwrap();
        assert!(matches!(outcome, Ok(Outcome::Nothing(why)) if why == "so"));
        // Whoever gives up is not waited for, either.
        orders.finish(Duration::from_secs(60)).await;
    }
}
