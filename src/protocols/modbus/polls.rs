//! The requests of a scan, and what becomes of those that a device refuses. Pure: the connection asks
//! for the next request and brings its answer.
//!
//! A device that refuses a request says neither which of its cells it meant nor whether it will
//! change its mind. So a refused request is cut in two, again and again, until the bad points stand
//! alone; the pieces stay cut, the bad points are left out, and are tried again more and more rarely.
//! Extra requests are rationed, so that a device whose every register is bad is not flooded.

use super::config::ModbusConfig;
use super::decode::{Decoder, Reply};
use super::limits::Limits;
use super::plan::{ReadRequest, Span, plan};
use super::point::ModbusPoint;
use crate::model::{BatchBuilder, Quality};
use std::sync::Arc;
use std::time::Duration;

/// How long a refused point is left alone at first; twice as long after every further refusal …
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(30);
/// … up to this.
const LONGEST_RETRY: Duration = Duration::from_secs(480);
/// How long, while the device refuses everything: it is stopped or starting, and will be back.
const RETRY_AFTER_NOTHING: Duration = Duration::from_secs(2);
/// Most requests that a scan makes beyond its plan, to find bad points or to try them again.
const EXTRA_REQUESTS: usize = 32;

/// `Bad_ConfigurationError`: the device says that there is no such register.
const BAD_CONFIGURATION: Quality = Quality(0x8089_0000);
/// `Bad_DeviceFailure`.
const BAD_DEVICE_FAILURE: Quality = Quality(0x808B_0000);
/// `Bad_ResourceUnavailable`: the device is busy with something else.
const BAD_RESOURCE_UNAVAILABLE: Quality = Quality(0x8004_0000);

/// What a refusal says of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Some of its cells do not exist or cannot be read.
    Cells,
    /// The device cannot read this table at all.
    Function,
    /// It failed inside; that may be a matter of a single register.
    Failure,
    /// Not now.
    Busy,
}

impl Refusal {
    fn quality(self) -> Quality {
        match self {
            Self::Cells | Self::Function => BAD_CONFIGURATION,
            Self::Failure => BAD_DEVICE_FAILURE,
            Self::Busy => BAD_RESOURCE_UNAVAILABLE,
        }
    }
}

/// A request of the running plan.
#[derive(Clone, Debug)]
struct Poll {
    request: ReadRequest,
    decoder: Decoder,
    /// Refused, and left out for now.
    suspended: Option<Suspended>,
    /// What the running scan brought; `Err` for points that get no value.
    outcome: Result<Reply, Quality>,
}

/// A refused request that is left alone for a while.
#[derive(Clone, Copy, Debug)]
struct Suspended {
    quality: Quality,
    /// When it was refused last.
    since: Duration,
    /// How long it is left alone from then on.
    wait: Duration,
}

/// The requests of a scan.
#[derive(Clone, Debug)]
pub(super) struct Polls {
    points: Arc<[ModbusPoint]>,
    config: Arc<ModbusConfig>,
    polls: Vec<Poll>,
    at: usize,
    extra: usize,
    now: Duration,
    /// Whether anything was answered in the scan before, and in this one.
    answered: (bool, bool),
    recovered: bool,
    refused: Vec<Span>,
}

impl Polls {
    /// The fewest requests that read `points`.
    pub(super) fn new(points: Arc<[ModbusPoint]>, config: Arc<ModbusConfig>) -> Self {
        let spans = points.iter().enumerate().map(|(i, p)| Span::new(i, p));
        let requests = plan(spans.collect(), config.limits());
        let polls = requests.into_iter().map(|r| poll(r, &points)).collect();
        Self {
            polls,
            points,
            config,
            at: 0,
            extra: 0,
            now: Duration::ZERO,
            answered: (true, true),
            recovered: false,
            refused: Vec::new(),
        }
    }

    /// Begins a scan at `now`, counted from any fixed moment.
    pub(super) fn begin(&mut self, now: Duration) {
        if std::mem::take(&mut self.recovered) {
            self.join();
        }
        self.at = 0;
        self.extra = EXTRA_REQUESTS;
        self.now = now;
        self.answered = (self.answered.1, false);
        self.refused.clear();
    }

    /// The request that is to be made next; `None` when the scan is complete.
    pub(super) fn next(&mut self) -> Option<&ReadRequest> {
        while let Some(poll) = self.polls.get_mut(self.at) {
            match poll.suspended {
                Some(suspended)
                    if self.extra == 0 || !suspended.is_due(self.now, self.answered.0) =>
                {
                    poll.outcome = Err(suspended.quality);
                    self.at += 1;
                }
                suspended => {
                    self.extra -= usize::from(suspended.is_some());
                    break;
                }
            }
        }
        self.polls.get(self.at).map(|poll| &poll.request)
    }

    /// The answer to the request that [`next`](Self::next) gave.
    pub(super) fn answer(&mut self, answer: Result<Reply, Refusal>) {
        let Some(poll) = self.polls.get_mut(self.at) else {
            return;
        };
        match answer {
            Ok(reply) => {
                self.recovered |= poll.suspended.take().is_some();
                self.answered.1 = true;
                poll.outcome = Ok(reply);
                self.at += 1;
            }
            Err(refusal @ (Refusal::Cells | Refusal::Failure)) => match poll.request.split() {
                Some((left, right)) if self.extra > 0 => {
                    // Two requests in place of one that was made already.
                    self.extra = self.extra.saturating_sub(2);
                    let halves = [left, right].map(|half| self::poll(half, &self.points));
                    self.polls.splice(self.at..=self.at, halves);
                }
                Some(_) => self.skip(refusal),
                None => self.suspend(refusal),
            },
            Err(Refusal::Function) => self.suspend(Refusal::Function),
            Err(Refusal::Busy) => self.skip(Refusal::Busy),
        }
    }

    /// No values in this scan; asked for again in the next.
    fn skip(&mut self, refusal: Refusal) {
        if let Some(poll) = self.polls.get_mut(self.at) {
            poll.outcome = Err(refusal.quality());
            self.at += 1;
        }
    }

    fn suspend(&mut self, refusal: Refusal) {
        if let Some(poll) = self.polls.get_mut(self.at) {
            let wait = match poll.suspended {
                Some(before) => (before.wait * 2).min(LONGEST_RETRY),
                None => {
                    self.refused.extend(&poll.request.spans);
                    RETRY_AFTER
                }
            };
            poll.suspended = Some(Suspended {
                quality: refusal.quality(),
                since: self.now,
                wait,
            });
        }
        self.skip(refusal);
    }

    /// The points that the newest scan found to be bad, and that were not bad before.
    pub(super) fn newly_refused(&self) -> impl Iterator<Item = usize> + '_ {
        self.refused.iter().map(|span| span.point)
    }

    /// Gives the running scan of `out` what the scan brought: one sample a point.
    pub(super) fn write(&self, out: &mut BatchBuilder) {
        for poll in &self.polls {
            match &poll.outcome {
                Ok(reply) => poll.decoder.decode(reply, out),
                Err(quality) => poll.decoder.missing(*quality, out),
            }
        }
    }

    /// Packs the points that answer into requests again, after one of them came back. Gaps stay
    /// unread from now on: one of them may be what was refused.
    fn join(&mut self) {
        let (mut kept, answering): (Vec<Poll>, Vec<Poll>) = std::mem::take(&mut self.polls)
            .into_iter()
            .partition(|poll| poll.suspended.is_some());
        let spans = answering.into_iter().flat_map(|poll| poll.request.spans);
        let limits = Limits {
            gap: 0,
            ..self.config.limits()
        };
        let requests = plan(spans.collect(), limits);
        kept.extend(requests.into_iter().map(|r| poll(r, &self.points)));
        self.polls = kept;
    }
}

impl Suspended {
    fn is_due(&self, now: Duration, anything_answers: bool) -> bool {
        let wait = match anything_answers {
            true => self.wait,
            false => RETRY_AFTER_NOTHING,
        };
        now >= self.since + wait
    }
}

fn poll(request: ReadRequest, points: &[ModbusPoint]) -> Poll {
    Poll {
        decoder: Decoder::new(&request, points),
        request,
        suspended: None,
        outcome: Err(Quality::BAD_NO_DATA),
    }
}

#[cfg(test)]
mod tests {
    use super::super::point::{DataType, Table};
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn config() -> Arc<ModbusConfig> {
        Arc::new(toml::from_str("address = 'plc:502'\nmax_gap = 3").unwrap())
    }

    fn points(addresses: impl IntoIterator<Item = u16>) -> Arc<[ModbusPoint]> {
        let point = |a| ModbusPoint::new(Table::HoldingRegister, a, DataType::U16).unwrap();
        addresses.into_iter().map(point).collect()
    }

    /// Runs one scan against a device without the registers `missing`; requests made, and addresses
    /// that got a value.
    fn scan(polls: &mut Polls, now: u64, missing: &BTreeSet<u16>) -> (usize, BTreeSet<u16>) {
        polls.begin(Duration::from_secs(now));
        let mut requests = 0;
        while let Some(request) = polls.next() {
            requests += 1;
            let cells = request.address..=request.address + (request.count - 1);
            let answer = match missing.range(cells.clone()).next() {
                Some(_) => Err(Refusal::Cells),
                None => Ok(Reply::Words(cells.collect())),
            };
            polls.answer(answer);
        }
        let good = polls.polls.iter().filter(|p| p.outcome.is_ok());
        let addresses = good.flat_map(|p| p.request.spans.iter().map(|s| s.address));
        (requests, addresses.collect())
    }

    #[test]
    fn one_bad_register_does_not_stop_the_others() {
        let mut polls = Polls::new(points(0..125), config());
        let bad = BTreeSet::from([77]);
        let (requests, good) = scan(&mut polls, 0, &bad);
        assert_eq!(good, (0..125).filter(|a| *a != 77).collect());
        assert!(requests <= 15, "{requests} requests to find it");
        assert_eq!(polls.newly_refused().collect::<Vec<_>>(), [77]);
        // From now on it is left alone, and the split is remembered.
        let (requests, good) = scan(&mut polls, 1, &bad);
        assert_eq!(good.len(), 124);
        assert!(requests <= 7, "{requests} requests once it is known");
        assert_eq!(polls.newly_refused().count(), 0);
        // It comes back, and all is one request again.
        let (_, good) = scan(&mut polls, 31, &BTreeSet::new());
        assert_eq!(good.len(), 125);
        let (requests, good) = scan(&mut polls, 32, &BTreeSet::new());
        assert_eq!((requests, good.len()), (1, 125));
    }

    #[test]
    fn a_gap_that_the_device_does_not_have_is_cut_out() {
        let mut polls = Polls::new(points([0, 1, 2, 5, 6, 7]), config());
        assert_eq!(polls.polls.len(), 1);
        let (requests, good) = scan(&mut polls, 0, &BTreeSet::from([3, 4]));
        assert_eq!((requests, good.len()), (3, 6));
        assert_eq!(scan(&mut polls, 1, &BTreeSet::from([3, 4])).0, 2);
    }

    #[test]
    fn a_busy_device_is_asked_again_and_nothing_is_cut() {
        let mut polls = Polls::new(points(0..10), config());
        polls.begin(Duration::ZERO);
        assert!(polls.next().is_some());
        polls.answer(Err(Refusal::Busy));
        assert!(polls.next().is_none());
        assert_eq!(scan(&mut polls, 1, &BTreeSet::new()).0, 1);
    }

    #[test]
    fn what_stays_bad_is_asked_for_more_and_more_rarely() {
        let mut polls = Polls::new(points([0, 10]), config());
        let bad = BTreeSet::from([10]);
        let mut asked = Vec::new();
        for second in 0..2000 {
            if scan(&mut polls, second, &bad).0 == 2 {
                asked.push(second);
            }
        }
        assert_eq!(asked, [0, 30, 90, 210, 450, 930, 1410, 1890]);
    }

    #[test]
    fn a_device_that_refuses_everything_is_asked_every_two_seconds() {
        let mut polls = Polls::new(points(0..10), config());
        let mut ask = |now| {
            polls.begin(Duration::from_secs(now));
            let asked = polls.next().is_some();
            if asked {
                polls.answer(Err(Refusal::Function));
            }
            asked
        };
        assert_eq!(
            [0, 1, 2, 3, 4, 5].map(&mut ask),
            [true, false, true, false, true, false]
        );
        // It is back: everything has a value at the next attempt.
        let good = scan(&mut polls, 6, &BTreeSet::new()).1;
        assert_eq!(good.len(), 10);
    }

    proptest! {
        /// Whatever registers are missing: within a few scans exactly the others have values, no
        /// scan makes more than its ration of extra requests, and when the device is whole again,
        /// everything has a value.
        #[test]
        fn exactly_the_bad_points_are_isolated(
            addresses in prop::collection::btree_set(0u16..400, 1..200),
            missing in prop::collection::btree_set(0u16..400, 0..60),
        ) {
            let mut polls = Polls::new(points(addresses.iter().copied()), config());
            let mut good = BTreeSet::new();
            for second in 0..25 {
                let planned = polls.polls.len();
                let (requests, found) = scan(&mut polls, second, &missing);
                prop_assert!(requests <= planned + EXTRA_REQUESTS + 2);
                good = found;
            }
            prop_assert_eq!(&good, &addresses.difference(&missing).copied().collect());
            for second in 0..12 {
                good = scan(&mut polls, 1000 + second, &BTreeSet::new()).1;
            }
            prop_assert_eq!(good, addresses);
        }
    }
}
