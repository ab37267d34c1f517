//! What a publisher has sent of its records and the other hub has not yet taken.

use std::collections::VecDeque;

/// The records on their way over one link.
#[derive(Debug, Default)]
pub(super) struct Window {
    most: usize,
    bytes: usize,
    /// The last record of each frame, and the frame's bytes.
    frames: VecDeque<(u64, usize)>,
    taken: u64,
    sent: u64,
}

impl Window {
    /// Nothing is on its way, and at most so many bytes may be.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            ..Self::default()
        }
    }

    /// Bytes on their way.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether so many bytes may leave now. What is longer than the whole window goes by itself.
    pub(super) fn fits(&self, bytes: usize) -> bool {
        self.bytes == 0 || self.bytes.saturating_add(bytes) <= self.most
    }

    /// Bytes that may leave now; 0 while it is not worth reading for what is free.
    pub(super) fn room(&self, worth: usize) -> usize {
        let free = self.most.saturating_sub(self.bytes);
        match self.bytes == 0 || free >= worth {
            true => free,
            false => 0,
        }
    }

    /// A frame has left, `last` is its last record.
    pub(super) fn sent(&mut self, last: u64, bytes: usize) {
        self.bytes += bytes;
        self.frames.push_back((last, bytes));
        self.sent = last;
    }

    /// The other hub has taken all records up to `sequence`; whether that can be.
    pub(super) fn took(&mut self, sequence: u64) -> bool {
        if sequence < self.taken || sequence > self.sent {
            return false;
        }
        self.taken = sequence;
        while let Some((last, bytes)) = self.frames.front().copied()
            && last <= sequence
        {
            self.bytes -= bytes;
            self.frames.pop_front();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_window_is_on_its_way_but_for_what_is_longer_than_it() {
        let mut window = Window::new(100);
        assert!(window.fits(1_000), "it would never fit");
        window.sent(5, 60);
        assert!(window.fits(40) && !window.fits(41));
        assert_eq!((window.room(40), window.room(41)), (40, 0));
        window.sent(9, 40);
        assert_eq!((window.bytes(), window.room(0)), (100, 0));
        assert!(window.took(4), "a part of a frame");
        assert_eq!(window.bytes(), 100);
        assert!(window.took(9));
        assert_eq!((window.bytes(), window.room(1_000)), (0, 100));
    }

    #[test]
    fn what_was_not_sent_cannot_be_taken_and_nothing_is_given_back() {
        let mut window = Window::new(100);
        assert!(!window.took(1));
        window.sent(5, 60);
        assert!(!window.took(6));
        assert!(window.took(5) && window.took(5));
        assert!(!window.took(4));
    }
}
