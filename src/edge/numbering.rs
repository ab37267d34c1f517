//! Which number a batch has: a pure rule, and the small file that remembers it.
//!
//! A lane's spool numbers its records for ever. What a hub's ledger demands is (epoch, sequence): the
//! next in an epoch, or the first of a later one. A *series* maps one to the other: record `base + n`
//! is batch `n + 1` of `epoch`. Each hub gets a series of its own, because two hubs that sign for
//! themselves know nothing of each other; a later series always has a greater epoch. Others may number
//! batches of the device in the same ledger: the hub, when it reads the device itself, goes on in the
//! epoch that it finds. So only what the ledger has *of this edge node* says what is durable of a series.

use crate::protocols::edge::wire::Standing;
use borsh::{BorshDeserialize, BorshSerialize};
use std::cmp::Ordering::{Equal, Greater, Less};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use weighbridge_verifier::{PublicKey, decode, encode};

const FILE: &str = "numbering";
const VERSION: u8 = 1;

/// A run of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Series {
    /// Its epoch.
    pub epoch: u64,
    /// The record that is number 1 in it.
    pub base: u64,
}

impl Series {
    /// Epoch and sequence of record `index`, which is not before the series' first.
    pub fn number(&self, index: u64) -> (u64, u64) {
        (self.epoch, index.saturating_sub(self.base) + 1)
    }

    /// The record after batch `sequence`.
    pub fn after(&self, sequence: u64) -> u64 {
        self.base.saturating_add(sequence)
    }
}

/// The series that were given, to which hub.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Numbering {
    hubs: BTreeMap<PublicKey, Series>,
    newest: Option<Series>,
}

/// What is to be done after a hub has said what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meeting {
    /// Records before this one are in the hub's ledger, or in that of another.
    pub acknowledged: u64,
    /// Numbers for what follows.
    pub series: Series,
    /// Whether the numbers are new, and must be remembered before they are used.
    pub new: bool,
    /// Whether the newest of what is acknowledged of the spool is in this hub's ledger, and not in that
    /// of another hub.
    pub has_newest: bool,
}

impl Numbering {
    /// The newest series; before any hub was met, the one that the first hub will most likely get.
    pub fn newest(&self) -> Series {
        self.newest.unwrap_or(Series { epoch: 1, base: 0 })
    }

    /// What follows when the ledger of `hub` has what `standing` says, and the spool holds the records
    /// from `head` to `end`.
    pub fn meet(&mut self, hub: PublicKey, standing: Standing, head: u64, end: u64) -> Meeting {
        let Standing { newest, own } = standing;
        // Where the newest series begins everything before was acknowledged, also if a power failure
        // has made the spool forget that.
        let begun = self.newest.map(|s| s.base).filter(|base| *base <= end);
        let head = begun.map_or(head, |base| head.max(base));
        let has_newest = match self.newest {
            Some(series) if self.hubs.len() > 1 => {
                self.hubs.get(&hub) == Some(&series) && own.0 == series.epoch
            }
            _ => self.hubs.keys().all(|known| *known == hub),
        };
        let mut acknowledged = head;
        if let Some(known) = self.hubs.get(&hub).copied() {
            let durable = match own.0.cmp(&known.epoch) {
                // Nothing of it is durable, but something may be on its way: the same numbers may only
                // ever mean the same batches.
                Less => Some(known.base).filter(|base| *base == head),
                // Less than `head`: another hub has taken what is between. More than `end`: this
                // spool is not the one that the numbers were given from.
                Equal => Some(known.after(own.1)).filter(|at| (head..=end).contains(at)),
                Greater => None,
            };
            // Somebody else may have gone on in this epoch, or begun a later one: what is durable of the
            // series is, but there is no number left in it for what follows.
            let goes_on = own == newest || newest.0 < known.epoch;
            acknowledged = durable.unwrap_or(head);
            if durable.is_some() && goes_on {
                return Meeting {
                    acknowledged,
                    series: known,
                    new: false,
                    has_newest,
                };
            }
        }
        let before = self.newest.map_or(0, |s| s.epoch);
        let series = Series {
            epoch: before.max(newest.0) + 1,
            base: acknowledged,
        };
        self.hubs.insert(hub, series);
        self.newest = Some(series);
        Meeting {
            acknowledged,
            series,
            new: true,
            has_newest,
        }
    }

    /// Reads what is remembered in `dir`.
    pub fn load(dir: &Path) -> io::Result<Self> {
        let bytes = match fs::read(path(dir)) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(e),
        };
        let wrong = |e: String| io::Error::new(io::ErrorKind::InvalidData, e);
        let (version, numbering) =
            decode::<(u8, Self)>("numbering", &bytes).map_err(|e| wrong(e.to_string()))?;
        if version == VERSION {
            return Ok(numbering);
        }
        Err(wrong(format!(
            "the format version {version} of the numbering is not known here"
        )))
    }

    /// Remembers it in `dir`: as a whole or not at all, and durably.
    pub fn save(&self, dir: &Path) -> io::Result<()> {
        let path = path(dir);
        let temporary = path.with_extension("tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(&encode(&(VERSION, self)))?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        #[cfg(unix)]
        File::open(dir)?.sync_all()?;
        Ok(())
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: PublicKey = PublicKey([2; 33]);
    const B: PublicKey = PublicKey([3; 33]);

    /// A ledger that has nothing of anybody else.
    fn own(newest: (u64, u64)) -> Standing {
        let own = newest;
        Standing { newest, own }
    }

    fn standing(newest: (u64, u64), own: (u64, u64)) -> Standing {
        Standing { newest, own }
    }

    #[test]
    fn a_hub_that_comes_back_goes_on_where_it_was() {
        let mut numbering = Numbering::default();
        let first = numbering.meet(A, own((0, 0)), 0, 5);
        assert_eq!(first.series, Series { epoch: 1, base: 0 });
        assert_eq!(first.series, Numbering::default().newest());
        assert_eq!(first.series.number(4), (1, 5));
        // Three are durable, two acknowledgements were lost.
        let again = numbering.meet(A, own((1, 3)), 1, 9);
        assert_eq!((again.acknowledged, again.new), (3, false));
        assert_eq!(again.series.number(3), (1, 4));
    }

    #[test]
    fn another_hub_gets_a_later_epoch_from_one() {
        let mut numbering = Numbering::default();
        numbering.meet(A, own((0, 0)), 0, 5);
        let other = numbering.meet(B, own((0, 0)), 3, 9);
        assert_eq!(other.series, Series { epoch: 2, base: 3 });
        assert_eq!(other.series.number(3), (2, 1));
        // B took nothing: A goes on, and what it had got after all is not sent twice.
        let back = numbering.meet(A, own((1, 5)), 3, 9);
        assert_eq!((back.acknowledged, back.new), (5, false));
        // B took some: A gets numbers that it never saw.
        let back = numbering.meet(A, own((1, 5)), 7, 9);
        assert_eq!(back.series, Series { epoch: 3, base: 7 });
        // Nothing of that arrived for sure; what is on its way must mean the same.
        let again = numbering.meet(A, own((1, 5)), 7, 12);
        assert_eq!((again.series, again.new), (back.series, false));
        let again = numbering.meet(A, own((1, 5)), 8, 12);
        assert_eq!(again.series, Series { epoch: 4, base: 8 });
    }

    #[test]
    fn a_hub_that_knows_more_than_this_spool_is_believed_nothing() {
        let mut numbering = Numbering::default();
        assert_eq!(numbering.meet(A, own((7, 3)), 0, 2).series.epoch, 8);
        let more = numbering.meet(A, own((8, 3)), 0, 2);
        assert_eq!((more.acknowledged, more.series.epoch), (0, 9));
        let less = numbering.meet(A, own((9, 0)), 0, 2);
        assert_eq!((less.acknowledged, less.new), (0, false));
    }

    #[test]
    fn what_was_acknowledged_before_a_series_began_is_not_sent_again() {
        let mut numbering = Numbering::default();
        numbering.meet(A, own((0, 0)), 0, 5);
        let other = numbering.meet(B, own((0, 0)), 4, 9);
        // The spool remembers an older place after a power failure.
        let again = numbering.meet(B, own((0, 0)), 2, 9);
        assert_eq!((again.acknowledged, again.series), (4, other.series));
        // What the hub has is in the place of what the spool was: another one, and believed nothing.
        assert_eq!(numbering.meet(B, own((0, 0)), 0, 3).acknowledged, 0);
    }

    #[test]
    fn only_the_hub_that_took_the_newest_can_say_what_that_is() {
        let mut numbering = Numbering::default();
        let mut meet = |hub, at, head| numbering.meet(hub, own(at), head, 20);
        assert!(meet(A, (0, 0), 0).has_newest, "nobody has anything");
        assert!(meet(A, (1, 5), 5).has_newest);
        assert!(!meet(B, (0, 0), 5).has_newest);
        assert!(!meet(B, (0, 0), 5).has_newest, "it took nothing yet");
        assert!(meet(B, (2, 1), 5).has_newest);
        assert!(!meet(A, (1, 5), 6).has_newest);
        assert!(!meet(A, (1, 5), 6).has_newest);
        assert!(meet(A, (3, 2), 6).has_newest);
    }

    #[test]
    fn it_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Numbering::load(dir.path()).unwrap(), Numbering::default());
        let mut numbering = Numbering::default();
        numbering.meet(A, own((0, 0)), 0, 5);
        numbering.meet(B, own((0, 0)), 3, 9);
        numbering.save(dir.path()).unwrap();
        assert_eq!(Numbering::load(dir.path()).unwrap(), numbering);
        fs::write(path(dir.path()), [9, 0]).unwrap();
        assert!(Numbering::load(dir.path()).is_err());
    }

    #[test]
    fn what_somebody_else_numbered_acknowledges_nothing() {
        let mut numbering = Numbering::default();
        numbering.meet(A, own((0, 0)), 0, 5);
        // Five are durable, one acknowledgement was lost; then the hub read five batches itself.
        let (newest, of_edge) = ((1, 10), (1, 5));
        let back = numbering.meet(A, standing(newest, of_edge), 4, 20);
        assert_eq!((back.acknowledged, back.new), (5, true));
        assert_eq!(back.series, Series { epoch: 2, base: 5 });
        // Before anything of that is durable the hub reads on, in the old epoch and in the new one.
        let again = numbering.meet(A, standing((1, 12), of_edge), 5, 20);
        assert_eq!((again.acknowledged, again.series), (5, back.series));
        let again = numbering.meet(A, standing((2, 3), of_edge), 5, 20);
        assert_eq!(again.series, Series { epoch: 3, base: 5 });
        // Another edge node read on in a later epoch, after three of these were durable.
        let again = numbering.meet(A, standing((7, 2), (3, 3)), 6, 20);
        assert_eq!((again.acknowledged, again.series.epoch), (8, 8));
        assert_eq!(again.series.base, 8);
    }

    /// A hub as far as numbers go: a ledger, and batches that are on their way to it.
    #[derive(Clone, Default)]
    struct Hub {
        standing: Standing,
        newest: (u64, u64),
        under_way: Vec<((u64, u64), u64)>,
        ledger: Vec<u64>,
    }

    impl Hub {
        fn offer(&mut self, number: (u64, u64), record: u64) {
            if number <= self.newest {
                // Known: it must be the same batch.
                let known = self.under_way.iter().find(|(n, _)| *n == number);
                assert!(known.is_none_or(|(_, r)| *r == record));
                return;
            }
            let next = number.0 == self.newest.0 && number.1 == self.newest.1 + 1;
            assert!(next || number.1 == 1, "{number:?} after {:?}", self.newest);
            self.newest = number;
            self.under_way.push((number, record));
        }

        fn commit(&mut self, batches: usize) {
            for (number, record) in self.under_way.drain(..batches.min(self.under_way.len())) {
                self.standing = own(number);
                self.ledger.push(record);
            }
        }

        /// What was not durable is gone.
        fn restart(&mut self) {
            self.under_way.clear();
            self.newest = self.standing.newest;
        }

        /// Somebody else reads so many batches: the hub itself in the epoch that it finds, or an edge
        /// node in an epoch of its own. What was under way is durable before.
        fn read_otherwise(&mut self, later_epoch: u64, batches: u64) {
            self.commit(usize::MAX);
            let (epoch, sequence) = self.standing.newest;
            self.newest = match later_epoch {
                0 => (epoch.max(1), sequence + batches),
                later => (epoch + later, batches),
            };
            self.standing.newest = self.newest;
        }
    }

    proptest! {
        /// Whatever order hubs are met, die and commit in, and whoever else reads the device in
        /// between: nothing is acknowledged that is in no ledger, and no ledger has anything twice or
        /// out of order.
        #[test]
        fn nothing_is_lost_and_no_ledger_has_anything_twice(
            steps in proptest::collection::vec(
                (0..2_usize, 0..6_u64, 0..6_usize, 0..6_u8, 0..8_usize),
                1..60,
            )
        ) {
            let keys = [A, B];
            let mut hubs = [Hub::default(), Hub::default()];
            let mut numbering = Numbering::default();
            let (mut head, mut end) = (0, 0);
            for (at, grow, send, fate, commit) in steps {
                end += grow;
                let hub = &mut hubs[at];
                // A hub says where it stands when nothing is under way to it, or lets nobody in.
                if !hub.under_way.is_empty() && send == 0 {
                    continue;
                }
                hub.commit(usize::MAX);
                let meeting = numbering.meet(keys[at], hub.standing, head, end);
                prop_assert!((head..=end).contains(&meeting.acknowledged));
                head = meeting.acknowledged;
                for record in (head..end).take(send) {
                    hub.offer(meeting.series.number(record), record);
                }
                hub.commit(commit);
                if fate > 0 && hub.standing.own.0 == meeting.series.epoch {
                    head = head.max(meeting.series.after(hub.standing.own.1));
                }
                if fate == 2 {
                    hub.restart();
                }
                if fate == 3 {
                    hubs[1 - at].commit(2);
                }
                if fate > 3 {
                    let later_epoch = u64::from(fate - 4) * (1 + grow / 2);
                    hubs[(at + send) % 2].read_otherwise(later_epoch, 1 + commit as u64);
                }
                for hub in &hubs {
                    prop_assert!(hub.ledger.windows(2).all(|w| w[0] < w[1]), "{:?}", hub.ledger);
                }
                for record in 0..head {
                    prop_assert!(hubs.iter().any(|h| h.ledger.contains(&record)), "{record} is lost");
                }
            }
        }
    }
}
