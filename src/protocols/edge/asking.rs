//! What an edge node asks of its hub: how far a device is recorded. Looked up one at a time, because each
//! opens batches.

use super::wire::{FromHub, MAX_UNCOUNTED};
use crate::protocols::Recorded;
use std::sync::Arc;
use tokio::sync::{Mutex, Semaphore, mpsc};

/// Questions of one connection that are not answered yet, at most: one a device.
const MAX_QUESTIONS: usize = 4_096;

/// The questions of one connection.
pub(super) struct Questions {
    answers: mpsc::Sender<FromHub>,
    places: Arc<Semaphore>,
    turn: Arc<Mutex<()>>,
}

impl Questions {
    pub(super) fn new(answers: mpsc::Sender<FromHub>) -> Self {
        Self {
            answers,
            places: Arc::new(Semaphore::new(MAX_QUESTIONS)),
            turn: Arc::default(),
        }
    }

    /// What answers question `number` for `device`, whose past `recorded` knows; `None` when it asks for
    /// more than it may.
    pub(super) fn take(
        &self,
        (number, device): (u64, String),
        uncounted: Vec<u32>,
        recorded: Option<Arc<dyn Recorded>>,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        let place = self.places.clone().try_acquire_owned().ok()?;
        if uncounted.len() > MAX_UNCOUNTED {
            return None;
        }
        let (answers, turn) = (self.answers.clone(), self.turn.clone());
        Some(async move {
            let newest = match recorded {
                Some(recorded) => {
                    let _turn = turn.lock().await;
                    recorded.newest(&uncounted).await
                }
                None => Err("the hub does not take the device's batches now".to_owned()),
            };
            // Whoever asked may be gone.
            let _ = answers
                .send(FromHub::Recorded(number, device, newest))
                .await;
            drop(place);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Nanos;

    struct Fixed;

    #[async_trait::async_trait]
    impl Recorded for Fixed {
        async fn newest(&self, uncounted: &[u32]) -> Result<Vec<Option<Nanos>>, String> {
            Ok(uncounted.iter().map(|c| Some(i64::from(*c))).collect())
        }
    }

    #[tokio::test]
    async fn each_question_is_answered_under_its_number_and_too_many_are_not() {
        let (answers, mut answered) = mpsc::channel(4);
        let questions = Questions::new(answers);
        let device = || "press-1".to_owned();
        let known = questions.take((1, device()), vec![7], Some(Arc::new(Fixed)));
        known.unwrap().await;
        let unknown = questions.take((2, device()), Vec::new(), None);
        unknown.unwrap().await;
        let answer = answered.recv().await.unwrap();
        assert_eq!(answer, FromHub::Recorded(1, device(), Ok(vec![Some(7)])));
        let answer = answered.recv().await.unwrap();
        assert!(
            matches!(answer, FromHub::Recorded(2, _, Err(_))),
            "{answer:?}"
        );

        let much = vec![0; MAX_UNCOUNTED + 1];
        assert!(questions.take((3, device()), much, None).is_none());
        let waiting: Vec<_> = (0..MAX_QUESTIONS as u64)
            .map(|n| questions.take((n, device()), Vec::new(), None).unwrap())
            .collect();
        assert!(questions.take((4, device()), Vec::new(), None).is_none());
        drop(waiting);
        assert!(questions.take((5, device()), Vec::new(), None).is_some());
    }
}
