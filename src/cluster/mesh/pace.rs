//! How long, how much and how many: the bounds of the links, and how long to wait before one is tried again.

use std::time::Duration;

/// The bounds of the links. Tests have shorter ones.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// For connecting, for a handshake and for a hello, each.
    pub handshake: Duration,
    /// Each side says something so often.
    pub beat: Duration,
    /// Who says nothing for so long is gone.
    pub silence: Duration,
    /// For the answer to a question.
    pub answer: Duration,
    /// Before a link that was lost is tried again: at first, and at most.
    pub again: (Duration, Duration),
    /// Before a hub that lied is talked to again.
    pub liar: Duration,
    /// Before records that could not be taken are offered again, if nothing has changed.
    pub offer: Duration,
    /// Before sealed bytes that nobody had are asked for again: at first, and at most.
    pub search: (Duration, Duration),
    /// For the other hubs to say where they stand, before this one believes that it is level with them.
    pub settle: Duration,
    /// Bytes of a hub's records that are on their way to this one.
    pub window: u32,
    /// Bytes of records in one frame.
    pub run: usize,
    /// Bytes of blocks in one frame.
    pub blocks: usize,
    /// Connections that have not yet shown a key: from addresses where no hub is known to be, and in all from one.
    pub strangers: (usize, usize),
    /// How often a hub may say that its records were signed anew, in ten seconds.
    pub rebases: u64,
    /// How many small words a hub may say in ten seconds.
    pub words: u64,
}

impl Default for Pace {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            handshake: seconds(5),
            beat: seconds(3),
            silence: seconds(10),
            answer: seconds(30),
            again: (Duration::from_millis(250), seconds(8)),
            liar: seconds(60),
            offer: seconds(5),
            search: (seconds(1), seconds(30)),
            settle: seconds(5),
            window: 8 << 20,
            run: 1 << 20,
            blocks: 4 << 20,
            strangers: (32, 8),
            rebases: 300,
            words: 10_000,
        }
    }
}

/// How long to wait: twice as long each time, up to a bound, and never all at the same moment.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new((first, longest): (Duration, Duration)) -> Self {
        Self {
            first,
            longest,
            next: first,
        }
    }

    /// Begins again with the first.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }

    /// The next wait: between half of its length and the whole, by a random number.
    pub(super) fn pause(&mut self, random: u64) -> Duration {
        let whole = self.next.min(self.longest);
        self.next = (whole * 2).min(self.longest);
        spread(whole, random)
    }
}

/// Between half of `whole` and the whole, by a random number.
pub(super) fn spread(whole: Duration, random: u64) -> Duration {
    let half = whole / 2;
    half + half.mul_f64((random >> 11) as f64 / (1u64 << 53) as f64)
}

/// A random number; without randomness everybody waits the same.
pub(super) fn random() -> u64 {
    getrandom::u64().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound_and_are_spread_over_their_upper_half() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new((ms(100), ms(1_000)));
        for whole in [100, 200, 400, 800, 1_000, 1_000] {
            assert_eq!(backoff.clone().pause(0), ms(whole) / 2);
            let longest = backoff.pause(u64::MAX);
            assert!(longest <= ms(whole) && longest > ms(whole) * 9 / 10);
        }
        backoff.reset();
        assert_eq!(backoff.pause(0), ms(50));
    }
}
