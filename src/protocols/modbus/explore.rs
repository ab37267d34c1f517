//! Which cells of a table can be read, found out with few requests. Pure: the caller asks for the next
//! request and brings what became of it.
//!
//! A device does not say what it has; it refuses every request that touches what it has not. So single
//! cells are tried where devices usually have something, and from each one that answers the range is
//! grown in both directions, by as much as a request may read, and by halves where that is refused.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

/// Where vendors like to begin: small numbers, round ones, and multiples of 4096.
const USUAL: [u16; 24] = [
    0, 1, 2, 3, 5, 10, 20, 30, 40, 50, 100, 150, 200, 256, 300, 400, 500, 512, 1000, 1024, 2000,
    2048, 40_000, 40_001,
];
/// After the end of a range so many more cells are tried: maps have small holes.
const HOLE: u32 = 3;
/// No range is followed further than this from where it was found: some devices answer everywhere.
const LONGEST: u32 = 2000;
const END: u32 = 0x1_0000;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Its cells can be read.
    Readable,
    /// One of its cells cannot.
    Refused,
    /// The device cannot read this table at all.
    NoTable,
}

/// What is being asked.
#[derive(Clone, Debug)]
enum Step {
    /// Nothing at the moment.
    Idle,
    /// One cell.
    Try(u32),
    /// Cells after the range; the first refused one is before `bound`, where that is known.
    Up { bound: Option<u32> },
    /// Cells before the range; the last refused one is at `bound` or after it.
    Down { bound: Option<u32> },
}

/// The search through one table.
#[derive(Clone, Debug)]
pub(super) struct Explorer {
    limit: u32,
    budget: usize,
    tries: VecDeque<u32>,
    refused: BTreeSet<u32>,
    ranges: Vec<Range<u32>>,
    range: Range<u32>,
    origin: u32,
    asking: Range<u32>,
    step: Step,
    no_table: bool,
    followed_to_the_end: bool,
}

impl Explorer {
    /// Searches with at most `budget` requests of at most `limit` cells; thoroughly among the cells
    /// `within`, or where devices usually have something.
    pub(super) fn new(limit: u32, budget: usize, within: Option<Range<u32>>) -> Self {
        let tries = match within {
            Some(range) => range.collect(),
            None => {
                let thousands = (3..66).map(|k| k * 1000);
                let blocks = (1..16).map(|k| k * 4096);
                let usual = USUAL.iter().map(|a| u32::from(*a));
                usual.chain(thousands).chain(blocks).collect()
            }
        };
        Self {
            limit: limit.max(1),
            budget,
            tries,
            refused: BTreeSet::new(),
            ranges: Vec::new(),
            range: 0..0,
            origin: 0,
            asking: 0..0,
            step: Step::Idle,
            no_table: false,
            followed_to_the_end: true,
        }
    }

    /// The cells that are to be asked for next: first address and count. `None` when the search is
    /// over.
    pub(super) fn next(&mut self) -> Option<(u16, u16)> {
        if self.no_table || self.budget == 0 {
            self.keep();
            return None;
        }
        loop {
            let cells = match self.step.clone() {
                Step::Idle => match self.tries.pop_front() {
                    None => return None,
                    Some(cell) if cell >= END || self.known(cell) => continue,
                    Some(cell) => {
                        self.step = Step::Try(cell);
                        cell..cell + 1
                    }
                },
                Step::Try(cell) => cell..cell + 1,
                Step::Up { bound } => match self.above(bound) {
                    Some(cells) => cells,
                    None => {
                        self.step = Step::Down { bound: None };
                        continue;
                    }
                },
                Step::Down { bound } => match self.below(bound) {
                    Some(cells) => cells,
                    None => {
                        self.keep();
                        continue;
                    }
                },
            };
            self.budget -= 1;
            let count = cells.len() as u16;
            let first = u16::try_from(cells.start).ok()?;
            self.asking = cells;
            return Some((first, count));
        }
    }

    /// What became of the request that [`next`](Self::next) gave.
    pub(super) fn answer(&mut self, found: Found) {
        let cells = self.asking.clone();
        match (found, &mut self.step) {
            (Found::NoTable, _) => self.no_table = true,
            (Found::Readable, Step::Try(cell)) => {
                self.origin = *cell;
                self.range = cells;
                self.step = Step::Up { bound: None };
            }
            (Found::Refused, Step::Try(cell)) => {
                self.refused.insert(*cell);
                self.step = Step::Idle;
            }
            (Found::Readable, Step::Up { .. }) => self.range.end = cells.end,
            (Found::Readable, Step::Down { .. }) => self.range.start = cells.start,
            (Found::Refused, Step::Up { bound }) => *bound = Some(cells.end),
            (Found::Refused, Step::Down { bound }) => *bound = Some(cells.start),
            (_, Step::Idle) => {}
        }
    }

    /// The readable ranges, in order, and whether the search came to its own end.
    pub(super) fn found(mut self) -> (Vec<Range<u32>>, bool) {
        let complete = self.followed_to_the_end && self.budget > 0;
        self.keep();
        self.ranges.sort_by_key(|r| r.start);
        let mut joined: Vec<Range<u32>> = Vec::new();
        for range in self.ranges {
            match joined.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => joined.push(range),
            }
        }
        (joined, complete)
    }

    /// Whether the device has no such table.
    pub(super) fn has_no_table(&self) -> bool {
        self.no_table
    }

    fn known(&self, cell: u32) -> bool {
        self.refused.contains(&cell) || self.ranges.iter().any(|r| r.contains(&cell))
    }

    /// Cells after the range, of which it is not known whether they can be read.
    fn above(&mut self, bound: Option<u32>) -> Option<Range<u32>> {
        let from = self.range.end;
        if from >= END || self.known(from) {
            return None;
        }
        if from - self.origin >= LONGEST {
            self.followed_to_the_end = false;
            return None;
        }
        let count = match bound {
            // The first of them is the one that is refused.
            Some(bound) if bound - from <= 1 => {
                self.refused.insert(from);
                (1..=HOLE)
                    .rev()
                    .for_each(|i| self.tries.push_front(from + i));
                return None;
            }
            Some(bound) => (bound - from) / 2,
            None => self.limit.min(END - from),
        };
        Some(from..from + count)
    }

    fn below(&mut self, bound: Option<u32>) -> Option<Range<u32>> {
        let to = self.range.start;
        if to == 0 || self.known(to - 1) || self.origin - to >= LONGEST {
            return None;
        }
        let count = match bound {
            Some(bound) if to - bound <= 1 => {
                self.refused.insert(to - 1);
                return None;
            }
            Some(bound) => (to - bound) / 2,
            None => self.limit.min(to),
        };
        Some(to - count..to)
    }

    fn keep(&mut self) {
        if !self.range.is_empty() {
            self.ranges.push(std::mem::take(&mut self.range));
        }
        self.step = Step::Idle;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Searches a device that has these ranges; what was found, and the requests made.
    fn search(
        has: &[Range<u32>],
        budget: usize,
        within: Option<Range<u32>>,
    ) -> (Vec<Range<u32>>, bool, usize) {
        let mut explorer = Explorer::new(125, budget, within);
        let mut requests = 0;
        while let Some((first, count)) = explorer.next() {
            requests += 1;
            let cells = u32::from(first)..u32::from(first) + u32::from(count);
            let whole = has
                .iter()
                .any(|r| r.start <= cells.start && cells.end <= r.end);
            explorer.answer(if whole {
                Found::Readable
            } else {
                Found::Refused
            });
        }
        let (found, complete) = explorer.found();
        (found, complete, requests)
    }

    #[test]
    fn what_devices_usually_have_is_found_in_few_requests() {
        let has = [0..47, 100..312, 4096..4100, 30_000..30_020];
        let (found, complete, requests) = search(&has, 400, None);
        assert_eq!((found, complete), (has.to_vec(), true));
        assert!(requests < 200, "{requests}");
    }

    #[test]
    fn small_holes_are_jumped_over() {
        let has = [0..20, 22..30, 33..40];
        assert_eq!(search(&has, 300, None).0, has.to_vec());
    }

    #[test]
    fn a_device_that_answers_everywhere_does_not_use_up_the_budget_at_once() {
        let everywhere = std::iter::once(0..END).collect::<Vec<_>>();
        let (found, complete, requests) = search(&everywhere, 300, None);
        assert!(found[0].len() as u32 >= LONGEST && !complete);
        assert!(requests <= 300);
    }

    #[test]
    fn a_table_that_is_not_there_is_asked_for_once() {
        let mut explorer = Explorer::new(125, 100, None);
        assert!(explorer.next().is_some());
        explorer.answer(Found::NoTable);
        assert!(explorer.has_no_table());
        assert_eq!(explorer.next(), None);
    }

    proptest! {
        /// Within a given range everything is found, and nothing that is not there; the budget holds.
        #[test]
        fn a_thorough_search_finds_exactly_what_is_there(
            lengths in prop::collection::vec((1u32..60, 1u32..20), 1..12),
            budget in 1usize..3000,
        ) {
            let (mut at, mut has) = (0, Vec::new());
            for (gap, length) in lengths {
                has.push(at + gap..at + gap + length);
                at += gap + length;
            }
            let (found, complete, requests) = search(&has, budget, Some(0..at));
            prop_assert!(requests <= budget);
            if complete {
                prop_assert_eq!(found, has);
            } else {
                let there = |f: &Range<u32>| has.iter().any(|h| h.start <= f.start && f.end <= h.end);
                prop_assert!(found.iter().all(there));
            }
        }
    }
}
