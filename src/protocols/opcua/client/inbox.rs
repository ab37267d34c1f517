//! Where notifications wait for the device's actor: bounded, and what does not fit is counted.

use crate::model::{Nanos, Quality, Value};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

/// Bytes of text and byte strings that wait at most.
const MAX_BYTES: usize = 16 << 20;

/// A sample on its way.
#[derive(Debug, PartialEq)]
pub(super) struct Arrival {
    pub(super) column: usize,
    pub(super) time: Nanos,
    pub(super) value: Option<Value>,
    pub(super) quality: Quality,
}

impl Arrival {
    fn bytes(&self) -> usize {
        match &self.value {
            Some(Value::Text(text)) => text.len(),
            Some(Value::Bytes(bytes)) => bytes.len(),
            _ => 0,
        }
    }
}

/// The samples of one connection that have not been read yet.
pub(super) struct Inbox {
    capacity: usize,
    dropped: Arc<AtomicU64>,
    state: Mutex<State>,
    ready: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Arrival>,
    bytes: usize,
    closed: Option<String>,
}

impl Inbox {
    /// Room for `capacity` samples; what does not fit is counted in `dropped`.
    pub(super) fn new(capacity: usize, dropped: Arc<AtomicU64>) -> Self {
        Self {
            capacity,
            dropped,
            state: Mutex::default(),
            ready: Notify::new(),
        }
    }

    /// Puts samples in. The newest are dropped when it is full, so that what is kept has no holes.
    pub(super) fn put(&self, arrivals: impl IntoIterator<Item = Arrival>) {
        let mut lost = 0;
        {
            let mut state = self.state.lock();
            for arrival in arrivals {
                let bytes = arrival.bytes();
                if state.waiting.len() >= self.capacity || state.bytes + bytes > MAX_BYTES {
                    lost += 1;
                } else {
                    state.bytes += bytes;
                    state.waiting.push_back(arrival);
                }
            }
        }
        self.lose(lost);
        self.ready.notify_one();
    }

    /// Counts samples that were lost elsewhere.
    pub(super) fn lose(&self, samples: u64) {
        if samples > 0 {
            self.dropped.fetch_add(samples, Ordering::Relaxed);
        }
    }

    /// Says that nothing more will come, and why. The first reason counts.
    pub(super) fn close(&self, reason: String) {
        self.state.lock().closed.get_or_insert(reason);
        self.ready.notify_one();
    }

    /// Waits until there is something to take. An error is the reason for which the inbox was
    /// closed; it comes when everything has been taken. Cancel-safe.
    pub(super) async fn filled(&self) -> Result<(), String> {
        loop {
            // Registered before looking: what is put in between is not missed.
            let ready = self.ready.notified();
            {
                let state = self.state.lock();
                if !state.waiting.is_empty() {
                    return Ok(());
                }
                if let Some(reason) = &state.closed {
                    return Err(reason.clone());
                }
            }
            ready.await;
        }
    }

    /// Takes up to `most` samples, oldest first.
    pub(super) fn take(&self, most: usize) -> Vec<Arrival> {
        let mut state = self.state.lock();
        let count = state.waiting.len().min(most);
        let taken: Vec<_> = state.waiting.drain(..count).collect();
        state.bytes -= taken.iter().map(Arrival::bytes).sum::<usize>();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(time: Nanos) -> Arrival {
        Arrival {
            column: 0,
            time,
            value: Some(Value::Text("x".repeat(1 << 20))),
            quality: Quality::GOOD,
        }
    }

    #[tokio::test]
    async fn what_does_not_fit_is_counted_and_what_fits_is_in_order() {
        let dropped = Arc::new(AtomicU64::new(0));
        let inbox = Inbox::new(3, dropped.clone());
        inbox.put((0..5).map(arrival));
        inbox.filled().await.unwrap();
        let times = |taken: Vec<Arrival>| taken.iter().map(|a| a.time).collect::<Vec<_>>();
        assert_eq!(times(inbox.take(2)), [0, 1]);
        assert_eq!(times(inbox.take(9)), [2]);
        assert_eq!(dropped.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn long_texts_are_bounded_by_their_bytes() {
        let dropped = Arc::new(AtomicU64::new(0));
        let inbox = Inbox::new(1000, dropped.clone());
        inbox.put((0..40).map(arrival));
        assert_eq!(inbox.take(1000).len(), 16);
        assert_eq!(dropped.load(Ordering::Relaxed), 24);
        inbox.put([arrival(1)]);
        assert_eq!(inbox.take(1).len(), 1);
    }

    #[tokio::test]
    async fn closing_wakes_and_is_heard_after_the_last_sample() {
        let inbox = Arc::new(Inbox::new(10, Arc::default()));
        let waiting = tokio::spawn({
            let inbox = inbox.clone();
            async move { inbox.filled().await }
        });
        inbox.put([arrival(1)]);
        waiting.await.unwrap().unwrap();
        inbox.close("gone".into());
        inbox.close("later".into());
        assert_eq!(inbox.filled().await, Ok(()));
        inbox.take(1);
        assert_eq!(inbox.filled().await, Err("gone".into()));
    }
}
