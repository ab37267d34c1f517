//! What a subscriber has of a publisher's records and has not yet taken.

use parking_lot::Mutex;
use std::collections::VecDeque;
use tokio::sync::Notify;

/// The frames of a link that wait for the rest of the hub. They stay as they came until their turn: records that are
/// read take several times the room.
pub(super) struct Inbox {
    most: usize,
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Default)]
struct Waiting {
    /// What comes must answer this.
    turn: u32,
    frames: VecDeque<Vec<u8>>,
    /// Of them, and of the one that is being taken.
    bytes: usize,
    again: Option<Again>,
}

impl Waiting {
    fn void(&mut self) {
        let void: usize = self.frames.iter().map(Vec::len).sum();
        self.bytes -= void;
        self.frames.clear();
    }
}

/// Records were signed anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Again {
    pub(super) from: u64,
    pub(super) generation: u64,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// All that came before is void.
    Again(Again),
    /// A frame with records.
    Run(Vec<u8>),
}

impl Inbox {
    /// For at most so many bytes.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            waiting: Mutex::default(),
            more: Notify::new(),
        }
    }

    /// Something else is asked for from now on: what waits is void, and what is still on its way for earlier turns.
    pub(super) fn begin(&self, turn: u32) {
        let mut waiting = self.waiting.lock();
        waiting.void();
        waiting.turn = turn;
        waiting.again = None;
    }

    /// A frame has come that answers `turn`; whether it was allowed to.
    pub(super) fn run(&self, turn: Option<u32>, frame: Vec<u8>) -> bool {
        let mut waiting = self.waiting.lock();
        match turn {
            Some(turn) if turn == waiting.turn => {}
            Some(turn) => return turn < waiting.turn,
            None => return false,
        }
        // After `Again` nothing comes before it was answered.
        let fits = waiting.bytes == 0 || waiting.bytes.saturating_add(frame.len()) <= self.most;
        if !fits || waiting.again.is_some() {
            return false;
        }
        waiting.bytes += frame.len();
        waiting.frames.push_back(frame);
        drop(waiting);
        self.more.notify_one();
        true
    }

    /// Records were signed anew: what waits is void.
    pub(super) fn again(&self, turn: u32, again: Again) -> bool {
        let mut waiting = self.waiting.lock();
        if turn != waiting.turn {
            return turn < waiting.turn;
        }
        waiting.void();
        waiting.again = Some(again);
        drop(waiting);
        self.more.notify_one();
        true
    }

    /// Whether what is being taken is void.
    pub(super) fn is_void(&self) -> bool {
        self.waiting.lock().again.is_some()
    }

    /// What comes next, as soon as it is there.
    pub(super) async fn next(&self) -> Next {
        loop {
            if let Some(next) = self.now() {
                return next;
            }
            self.more.notified().await;
        }
    }

    fn now(&self) -> Option<Next> {
        let mut waiting = self.waiting.lock();
        if let Some(again) = waiting.again.take() {
            return Some(Next::Again(again));
        }
        waiting.frames.pop_front().map(Next::Run)
    }

    /// A frame of so many bytes waits no more.
    pub(super) fn done(&self, bytes: usize) {
        let mut waiting = self.waiting.lock();
        waiting.bytes = waiting.bytes.saturating_sub(bytes);
    }

    /// Wakes when something has come.
    pub(super) async fn news(&self) {
        self.more.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_wait_within_the_window_and_are_void_when_records_are_signed_anew() {
        let inbox = Inbox::new(10);
        inbox.begin(1);
        let came = |turn: u32, byte: u8, bytes: usize| inbox.run(Some(turn), vec![byte; bytes]);
        assert!(came(1, 1, 100), "longer than the window, alone");
        assert!(!came(1, 1, 1));
        assert_eq!(inbox.next().await, Next::Run(vec![1; 100]));
        assert!(!came(1, 1, 1), "it is being taken");
        inbox.done(100);
        assert!(came(1, 2, 6) && came(1, 3, 4));
        assert!(!came(1, 4, 1));
        assert_eq!(inbox.next().await, Next::Run(vec![2; 6]));
        let again = Again {
            from: 3,
            generation: 2,
        };
        assert!(inbox.again(1, again));
        assert!(inbox.is_void());
        assert!(!came(1, 5, 1), "it was not asked for yet");
        assert_eq!(inbox.next().await, Next::Again(again));
        inbox.done(6);
        inbox.begin(2);
        assert!(!inbox.is_void() && came(2, 6, 10));
        assert!(came(1, 7, 100), "it was on its way");
        assert!(inbox.again(1, again) && !inbox.is_void(), "so was that");
        assert!(!came(3, 8, 1) && !inbox.again(3, again) && !inbox.run(None, Vec::new()));
        assert_eq!(inbox.next().await, Next::Run(vec![6; 10]));
    }
}
