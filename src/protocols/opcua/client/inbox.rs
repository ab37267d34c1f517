//! Where notifications wait for the device's actor: bounded, and what does not fit is counted.
//!
//! After an outage the tags with a history are held back until their gap is filled, so that every
//! tag's samples come in order, each once.

use crate::model::{Nanos, Quality, Value};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Bytes of text and byte strings that wait at most.
const MAX_BYTES: usize = 16 << 20;

/// How often it is looked whether changes come.
const POLL: Duration = Duration::from_millis(20);

/// How long after a gap was filled the server may still bring what was in it.
const STRAGGLING: Duration = Duration::from_secs(30);

/// A sample on its way.
#[derive(Clone, Debug, PartialEq)]
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

/// The source time of the newest sample of each column that came; it outlives connections.
pub(super) type LastTimes = Arc<Mutex<Vec<Option<Nanos>>>>;

/// The samples of one connection that have not been read yet.
pub(super) struct Inbox {
    capacity: usize,
    dropped: Arc<AtomicU64>,
    last: LastTimes,
    /// Samples that the server sent by itself since somebody asked.
    sent: AtomicU64,
    state: Mutex<State>,
    ready: Notify,
    taken: Notify,
}

impl State {
    /// Whether the history brought a sample already. The same time with another quality is news.
    fn is_known(&mut self, arrival: &Arrival) -> bool {
        let Some((until, since)) = self.filled.get(&arrival.column) else {
            return false;
        };
        if since.elapsed() > STRAGGLING {
            // Whatever comes now is new, however the machine's clock was set.
            self.filled.remove(&arrival.column);
            return false;
        }
        let known = arrival.time < *until || (arrival.time == *until && !arrival.quality.is_bad());
        if arrival.time > *until {
            self.filled.remove(&arrival.column);
        }
        known
    }
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Arrival>,
    bytes: usize,
    held: HashMap<usize, Vec<Arrival>>,
    /// Samples in `held`.
    held_back: usize,
    /// What only repeats a sample that came before the outage.
    repeated: Vec<Arrival>,
    /// Nothing was heard by this process yet: what repeats a sample of a variable that stands still
    /// is the first that is known of it here.
    at_start: bool,
    /// Columns with samples that passed since columns were held.
    moved: HashSet<usize>,
    /// Until which time the gap of a column was filled, and when: the server may still bring what was in it.
    filled: HashMap<usize, (Nanos, Instant)>,
    /// Samples in `held` that made way for newer ones.
    spared: u64,
    /// Samples that passed since columns were held.
    passed: u64,
    /// Whether changes came since columns were held.
    flows: bool,
    closed: Option<String>,
}

impl Inbox {
    /// Room for `capacity` samples; what does not fit is counted in `dropped`.
    pub(super) fn new(capacity: usize, dropped: Arc<AtomicU64>, last: LastTimes) -> Self {
        Self {
            capacity,
            dropped,
            last,
            sent: AtomicU64::new(0),
            state: Mutex::default(),
            ready: Notify::new(),
            taken: Notify::new(),
        }
    }

    /// Puts in what the server says. The newest are dropped when it is full, so that what is kept
    /// has no holes.
    pub(super) fn put(&self, arrivals: impl IntoIterator<Item = Arrival>) {
        let (mut lost, mut sent) = (0, 0);
        {
            let mut state = self.state.lock();
            let mut last = self.last.lock();
            for arrival in arrivals {
                sent += 1;
                if state.is_known(&arrival) {
                    continue;
                }
                let full = state.waiting.len() + state.held_back >= self.capacity;
                match state.held.get_mut(&arrival.column) {
                    // The history that is read of it has the oldest too: they make way.
                    Some(held) if full && !held.is_empty() => {
                        held.remove(0);
                        held.push(arrival);
                        state.spared += 1;
                    }
                    Some(_) if full => lost += 1,
                    Some(held) => {
                        held.push(arrival);
                        // Two: the value that was there when it was subscribed, and a change.
                        let flows = held.len() > 1;
                        state.held_back += 1;
                        state.flows |= flows;
                    }
                    None => lost += u64::from(!self.admit(&mut state, &mut last, arrival)),
                }
            }
        }
        self.sent.fetch_add(sent, Ordering::Relaxed);
        self.lose(lost);
        self.ready.notify_one();
    }

    /// Samples that the server sent by itself since the last call, whatever became of them.
    pub(super) fn sent(&self) -> u64 {
        self.sent.swap(0, Ordering::Relaxed)
    }

    /// Puts in what we know ourselves: a variable that cannot be had.
    pub(super) fn put_missing(
        &self,
        columns: impl IntoIterator<Item = (usize, Quality)>,
        now: Nanos,
    ) {
        let mut state = self.state.lock();
        for (column, quality) in columns {
            // Its times are ours, so they say nothing of the server's samples.
            let mut nowhere = Vec::new();
            let arrival = Arrival {
                column,
                time: now,
                value: None,
                quality,
            };
            if !self.admit(&mut state, &mut nowhere, arrival) {
                self.lose(1);
            }
        }
        drop(state);
        self.ready.notify_one();
    }

    fn admit(&self, state: &mut State, last: &mut [Option<Nanos>], arrival: Arrival) -> bool {
        let bytes = arrival.bytes();
        if state.waiting.len() >= self.capacity || state.bytes + bytes > MAX_BYTES {
            return false;
        }
        if let Some(last) = last.get_mut(arrival.column) {
            *last = (*last).max(Some(arrival.time));
        }
        if state.at_start {
            state.moved.insert(arrival.column);
        }
        state.bytes += bytes;
        state.passed += 1;
        state.waiting.push_back(arrival);
        true
    }

    /// Says that the samples before were another process's.
    pub(super) fn start_anew(&self) {
        self.state.lock().at_start = true;
    }

    /// Holds back what comes of these columns, until they are released.
    pub(super) fn hold(&self, columns: impl IntoIterator<Item = usize>) {
        let mut state = self.state.lock();
        state.passed = 0;
        state.spared = 0;
        state.flows = false;
        for column in columns {
            state.held.entry(column).or_default();
        }
        state.filled.clear();
    }

    /// Puts in samples of the past, oldest first; those that came before are left out. How many
    /// were new. Held columns take them.
    pub(super) fn put_past(&self, arrivals: impl IntoIterator<Item = Arrival>) -> usize {
        let mut new = 0;
        let mut lost = 0;
        {
            let mut state = self.state.lock();
            let mut last = self.last.lock();
            for arrival in arrivals {
                let known = last.get(arrival.column).copied().flatten();
                if known.is_some_and(|known| arrival.time <= known) {
                    continue;
                }
                match self.admit(&mut state, &mut last, arrival) {
                    true => new += 1,
                    false => lost += 1,
                }
            }
        }
        self.lose(lost);
        self.ready.notify_one();
        new
    }

    /// Lets a column go on, with what was held back and is newer than what came.
    pub(super) fn release(&self, column: usize) {
        let mut lost = 0;
        {
            // In one go, so that nothing newer slips in before.
            let mut state = self.state.lock();
            let mut last = self.last.lock();
            let held = state.held.remove(&column).unwrap_or_default();
            state.held_back -= held.len();
            let known = last.get(column).copied().flatten();
            let mut repeated = None;
            for arrival in held {
                if known.is_some_and(|known| arrival.time <= known) {
                    repeated = Some(arrival);
                } else if !self.admit(&mut state, &mut last, arrival) {
                    lost += 1;
                }
            }
            state.repeated.extend(repeated);
            state
                .filled
                .extend(known.map(|known| (column, (known, Instant::now()))));
        }
        self.lose(lost);
        self.ready.notify_one();
    }

    /// Waits until changes come, or for a while. A history that is read after that reaches up to
    /// what is held back.
    pub(super) async fn flowing(&self, at_most: Duration) {
        let flowing = async {
            while !self.state.lock().flows {
                tokio::time::sleep(POLL).await;
            }
        };
        let _ = tokio::time::timeout(at_most, flowing).await;
    }

    /// Ends the holding. A machine that stood still during the outage says again what it said
    /// before; that shows that it is there, so then it counts. After the hub's start each variable that
    /// stood still does: its live value is not known otherwise.
    pub(super) fn release_all(&self) {
        let held: Vec<_> = self.state.lock().held.keys().copied().collect();
        for column in held {
            self.release(column);
        }
        let repeated = {
            let mut state = self.state.lock();
            let mut repeated = std::mem::take(&mut state.repeated);
            let moved = std::mem::take(&mut state.moved);
            if std::mem::take(&mut state.at_start) {
                repeated.retain(|arrival| !moved.contains(&arrival.column));
                for arrival in &repeated {
                    state.filled.remove(&arrival.column);
                }
                repeated
            } else if state.passed == 0 {
                // Nothing was filled that these could repeat.
                state.filled.clear();
                repeated
            } else {
                Vec::new()
            }
        };
        self.put(repeated);
    }

    /// The history was not read: what was held back and made way for newer samples is lost.
    pub(super) fn lose_spared(&self) {
        let spared = std::mem::take(&mut self.state.lock().spared);
        self.lose(spared);
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
        self.taken.notify_one();
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

    /// Waits until half of the room is free, so that samples of the past are not dropped.
    pub(super) async fn roomy(&self) {
        loop {
            let taken = self.taken.notified();
            {
                let state = self.state.lock();
                let used = state.waiting.len() + state.held_back;
                if state.waiting.is_empty() || used * 2 <= self.capacity || state.closed.is_some() {
                    return;
                }
            }
            taken.await;
        }
    }

    /// Takes up to `most` samples, oldest first.
    pub(super) fn take(&self, most: usize) -> Vec<Arrival> {
        let mut state = self.state.lock();
        let count = state.waiting.len().min(most);
        let taken: Vec<_> = state.waiting.drain(..count).collect();
        state.bytes -= taken.iter().map(Arrival::bytes).sum::<usize>();
        self.taken.notify_one();
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

    fn small(column: usize, time: Nanos) -> Arrival {
        Arrival {
            column,
            time,
            value: Some(Value::F64(0.0)),
            quality: Quality::GOOD,
        }
    }

    fn inbox(capacity: usize) -> (Inbox, Arc<AtomicU64>) {
        let dropped = Arc::new(AtomicU64::new(0));
        let last = Arc::new(Mutex::new(vec![None; 3]));
        (Inbox::new(capacity, dropped.clone(), last), dropped)
    }

    fn times(taken: Vec<Arrival>) -> Vec<Nanos> {
        taken.iter().map(|a| a.time).collect()
    }

    #[tokio::test]
    async fn what_does_not_fit_is_counted_and_what_fits_is_in_order() {
        let (inbox, dropped) = inbox(3);
        inbox.put((0..5).map(arrival));
        inbox.filled().await.unwrap();
        assert_eq!(times(inbox.take(2)), [0, 1]);
        assert_eq!(times(inbox.take(9)), [2]);
        assert_eq!(dropped.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn long_texts_are_bounded_by_their_bytes() {
        let (inbox, dropped) = inbox(1000);
        inbox.put((0..40).map(arrival));
        assert_eq!(
            (inbox.sent(), inbox.sent()),
            (40, 0),
            "whatever became of them"
        );
        assert_eq!(inbox.take(1000).len(), 16);
        assert_eq!(dropped.load(Ordering::Relaxed), 24);
        inbox.put([arrival(1)]);
        assert_eq!(inbox.take(1).len(), 1);
    }

    #[tokio::test]
    async fn closing_wakes_and_is_heard_after_the_last_sample() {
        let inbox = Arc::new(inbox(10).0);
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

    #[test]
    fn the_past_comes_before_what_came_meanwhile_and_each_sample_once() {
        let (inbox, dropped) = inbox(100);
        inbox.put([small(0, 1), small(0, 2), small(1, 2)]);
        inbox.take(9);
        inbox.hold([0]);
        inbox.put([small(0, 5), small(1, 5), small(0, 6), small(0, 7)]);
        assert_eq!(times(inbox.take(9)), [5], "the other column does not wait");
        let past = (1..=6).map(|time| small(0, time));
        assert_eq!(inbox.put_past(past), 4);
        inbox.release(0);
        inbox.put([small(0, 8)]);
        inbox.release_all();
        assert_eq!(times(inbox.take(9)), [3, 4, 5, 6, 7, 8]);
        assert_eq!(dropped.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_comes_late_and_was_in_the_gap_is_known() {
        let (inbox, _) = inbox(100);
        inbox.put([small(0, 1)]);
        inbox.hold([0]);
        inbox.put_past((2..6).map(|time| small(0, time)));
        inbox.release_all();
        inbox.put([small(0, 3), small(0, 5)]);
        let bad = Arrival {
            quality: Quality::BAD_NO_DATA,
            ..small(0, 5)
        };
        inbox.put([bad.clone()]);
        inbox.put([small(0, 6), small(0, 7)]);
        assert_eq!(times(inbox.take(9)), [1, 2, 3, 4, 5, 5, 6, 7]);
    }

    #[test]
    fn a_machine_that_stood_still_is_heard_again() {
        let (inbox, _) = inbox(100);
        inbox.put([small(0, 1), small(1, 1)]);
        inbox.take(9);
        inbox.hold([0, 1]);
        inbox.put([small(0, 1), small(1, 1)]);
        inbox.release_all();
        assert_eq!(times(inbox.take(9)), [1, 1]);
        // One that moved is not told twice what it said before.
        inbox.hold([0, 1]);
        inbox.put([small(0, 1), small(1, 2)]);
        inbox.release_all();
        assert_eq!(times(inbox.take(9)), [2]);
    }

    #[test]
    fn a_clock_that_was_set_back_over_an_outage_is_believed_after_a_while() {
        let (inbox, _) = inbox(100);
        *inbox.last.lock() = vec![Some(100), None, None];
        inbox.hold([0]);
        inbox.put([small(0, 40)]);
        inbox.put_past([small(0, 101)]);
        inbox.release_all();
        inbox.put([small(0, 41)]);
        assert_eq!(times(inbox.take(9)), [101]);
        let mut state = inbox.state.lock();
        let filled = state.filled.values_mut();
        filled.for_each(|(_, since)| *since -= STRAGGLING * 2);
        drop(state);
        inbox.put([small(0, 42), small(0, 43)]);
        assert_eq!(times(inbox.take(9)), [42, 43]);
    }

    #[test]
    fn after_the_start_a_variable_that_stands_still_is_heard_and_one_that_moved_not_twice() {
        let (inbox, _) = inbox(100);
        *inbox.last.lock() = vec![Some(5), Some(5), Some(5)];
        inbox.start_anew();
        inbox.hold([0, 1, 2]);
        inbox.put([small(0, 5), small(1, 5), small(2, 9)]);
        inbox.put_past([small(0, 4), small(0, 5), small(0, 6)]);
        inbox.release_all();
        let mut all: Vec<_> = inbox.take(9).iter().map(|a| (a.column, a.time)).collect();
        all.sort_unstable();
        assert_eq!(all, [(0, 6), (1, 5), (2, 9)]);
    }

    #[test]
    fn what_is_held_back_too_long_is_taken_from_the_history_or_counted() {
        let (inbox, dropped) = inbox(10);
        inbox.put([small(0, 1)]);
        inbox.take(1);
        inbox.hold([0]);
        inbox.put((2..30).map(|time| small(0, time)));
        inbox.put_past((2..8).map(|time| small(0, time)));
        assert_eq!(times(inbox.take(9)), [2, 3, 4, 5, 6, 7]);
        for page in [8..18, 18..25] {
            assert_eq!(
                inbox.put_past(page.clone().map(|time| small(0, time))),
                page.count()
            );
            inbox.take(99);
        }
        inbox.release_all();
        assert_eq!(times(inbox.take(99)), [25, 26, 27, 28, 29]);
        assert_eq!(dropped.load(Ordering::Relaxed), 0);
        inbox.hold([0]);
        inbox.put((30..45).map(|time| small(0, time)));
        inbox.lose_spared();
        inbox.release_all();
        assert_eq!(times(inbox.take(99)).len(), 10);
        assert_eq!(dropped.load(Ordering::Relaxed), 5);
    }

    #[test]
    fn an_interrupted_fill_begins_again_where_it_was() {
        let (inbox, _) = inbox(100);
        inbox.put([small(0, 1)]);
        inbox.hold([0]);
        inbox.put([small(0, 9)]);
        // Held and then lost with the connection: it is still in the gap.
        assert_eq!(inbox.last.lock()[0], Some(1));
        inbox.put_past([small(0, 2), small(0, 3)]);
        assert_eq!(inbox.last.lock()[0], Some(3));
    }
}
