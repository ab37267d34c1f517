//! How far a device is recorded, for a source whose device remembers its past and that goes on from there.
//!
//! What this edge node has written it cannot read, and the device may have been read by others since. So
//! the hub is asked, whose ledger has all of it: once nothing waits in the buffer any more, and only the
//! hub that was met last. Whoever waits longer than a moment goes on without.

use super::lane::Lane;
use crate::model::Nanos;
use crate::protocols::Recorded;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long a source waits for the answer. What happens meanwhile is filled with the rest.
const WAIT: Duration = Duration::from_secs(5);

/// For each tag the time up to which it is recorded, or why that cannot be told.
pub(super) type Answer = Result<Vec<Option<Nanos>>, String>;

/// What a lane's source wants to know.
#[derive(Default)]
pub(super) struct Past(Mutex<Option<Question>>);

struct Question {
    /// Tells it from those of other lanes of the device.
    number: u64,
    uncounted: Vec<u32>,
    answer: oneshot::Sender<Answer>,
}

impl Past {
    fn ask(&self, uncounted: &[u32]) -> oneshot::Receiver<Answer> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let (answer, answered) = oneshot::channel();
        *self.0.lock() = Some(Question {
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            uncounted: uncounted.to_vec(),
            answer,
        });
        answered
    }

    /// The question that waits for an answer: its number, and the qualities that do not count.
    pub(super) fn question(&self) -> Option<(u64, Vec<u32>)> {
        let question = self.0.lock();
        let question = question.as_ref();
        question.map(|q| (q.number, q.uncounted.clone()))
    }

    /// Answers the question of this number, if somebody still waits for it.
    pub(super) fn answer(&self, number: u64, answer: Answer) {
        let mut question = self.0.lock();
        if let Some(asked) = question.take_if(|q| q.number == number) {
            // Whoever asked may have ended.
            let _ = asked.answer.send(answer);
        }
    }

    fn forget(&self) {
        *self.0.lock() = None;
    }
}

/// What is recorded of the device of a lane.
pub(super) struct LaneRecorded(pub(super) Arc<Lane>);

#[async_trait]
impl Recorded for LaneRecorded {
    async fn newest(&self, uncounted: &[u32]) -> Answer {
        let answered = self.0.past.ask(uncounted);
        self.0.wake_uplink();
        let answer = timeout(WAIT, answered).await;
        self.0.past.forget();
        match answer {
            Ok(Ok(answer)) => answer,
            _ => Err(format!(
                "no hub had everything and said so within {} s",
                WAIT.as_secs()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_question_that_waits_is_answered() {
        let past = Past::default();
        let _given_up = past.ask(&[]);
        let (old, _) = past.question().unwrap();
        let answered = past.ask(&[7]);
        let (number, uncounted) = past.question().unwrap();
        assert_eq!(uncounted, [7]);
        past.answer(old, Ok(vec![Some(1)]));
        past.answer(number, Ok(vec![Some(2)]));
        past.answer(number, Ok(vec![Some(3)]));
        assert_eq!(answered.await.unwrap(), Ok(vec![Some(2)]));
        assert!(past.question().is_none());
    }
}
