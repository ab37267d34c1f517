//! Which hub reads a device: a pure decision, made again whenever something is heard and at the latest when it says.
//!
//! A device has an ordered list of hubs, and a lease in the ledger that says which of them reads it. Whoever holds it
//! goes on, also alone. Another one takes over when the holder was silent for long, only while it hears enough hubs
//! for a block, and by a record: of two that do so at once the order of the chain decides, and the other is refused.

use std::collections::BTreeMap;
use std::time::Duration;

/// After so long without a word a hub counts as gone.
pub const SILENCE: Duration = Duration::from_secs(2);
/// Each further hub in the list waits so much longer, so that two seldom want the same lease.
pub const STAGGER: Duration = Duration::from_millis(700);
/// A hub acts upon machines only if it has heard enough others so lately. Shorter than [`SILENCE`]: it has stopped before
/// anybody takes over.
pub const TRUST: Duration = Duration::from_millis(1_500);
/// A hub that comes back with a lease first asks the others whether it still has it, for so long at most.
pub const CATCH_UP: Duration = Duration::from_secs(4);
/// How long until it is looked again where nothing says when something changes.
const AGAIN: Duration = Duration::from_millis(500);
/// A hub is level with the others if so many blocks at most are missing: they are under way all the time.
const UNDER_WAY: u64 = 3;

/// What a hub knows of the hubs. Times are since some moment that stays the same.
#[derive(Clone, Debug, Default)]
pub struct Horizon {
    /// Its own id.
    pub own: String,
    /// The hubs that decide, itself among them.
    pub members: Vec<String>,
    /// How many of them a block needs.
    pub threshold: usize,
    /// When each of the others was last heard of, and the height that it said it has.
    pub heard: BTreeMap<String, (Duration, u64)>,
    /// Height of the newest block here.
    pub height: u64,
    /// Since when it listens.
    pub begun: Duration,
}

/// What a hub knows of a device.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// The hubs that may read it, the first choice first.
    pub order: &'a [String],
    /// Who holds the lease that the chain has, under which fencing epoch.
    pub lease: Option<(&'a str, u64)>,
    /// The newest fencing epoch of it that this hub knows of, decided or not.
    pub newest: u64,
}

/// What a hub does about a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read it, under this fencing epoch.
    Read(u64),
    /// Leave it alone, whatever happens to others.
    Rest,
    /// Leave it alone, and look again at this time.
    Look(Duration),
    /// Ask for the lease of this fencing epoch.
    Take(u64),
}

impl Horizon {
    fn is_member(&self, hub: &str) -> bool {
        self.members.iter().any(|member| member == hub)
    }

    /// When `hub` was last heard of; whoever was never heard of may still come.
    fn last(&self, hub: &str) -> Duration {
        self.heard.get(hub).map_or(self.begun, |(at, _)| *at)
    }

    fn is_alive(&self, hub: &str, now: Duration) -> bool {
        self.is_member(hub) && (hub == self.own || now < self.last(hub) + SILENCE)
    }

    /// When the last of the hubs was heard whom a block needs beside this one; `None` if there never were enough. Now
    /// where it needs none.
    fn quorum_at(&self, now: Duration) -> Option<Duration> {
        let others = self.threshold.saturating_sub(1);
        let members = self.members.iter().filter(|hub| **hub != self.own);
        let mut heard: Vec<Duration> = members
            .filter_map(|hub| self.heard.get(hub).map(|(at, _)| *at))
            .collect();
        heard.sort_unstable_by(|a, b| b.cmp(a));
        match others.checked_sub(1) {
            _ if !self.is_member(&self.own) => None,
            None => Some(now),
            Some(last) => heard.get(last).copied(),
        }
    }

    /// Whether so many hubs are heard as a block needs.
    pub fn has_quorum(&self, now: Duration) -> bool {
        self.quorum_at(now).is_some_and(|at| now < at + SILENCE)
    }

    /// Until when this hub may act upon machines, if nobody is heard any more.
    pub fn trusted_until(&self, now: Duration) -> Option<Duration> {
        self.quorum_at(now).map(|at| at + TRUST)
    }

    /// Whether this hub has the blocks that the others have. So many as may lie, in a set that a block of this threshold
    /// is safe in, are not believed.
    fn is_level(&self, now: Duration) -> bool {
        let said = self.heard.iter();
        let said = said.filter(|(hub, _)| self.is_alive(hub, now));
        let mut heights: Vec<u64> = said.map(|(_, (_, height))| *height).collect();
        heights.sort_unstable_by(|a, b| b.cmp(a));
        let liars = self.members.len().saturating_sub(self.threshold);
        let highest = heights.get(liars).copied().unwrap_or(0);
        self.height + UNDER_WAY >= highest
    }
}

/// What a hub remembers of a device from one decision to the next.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch {
    /// Since when nobody has the lease who could read.
    vacant: Option<Duration>,
    /// It has made sure since it began that it knows the newest lease.
    sure: bool,
}

impl Watch {
    /// What to do about a device now.
    pub fn decide(&mut self, horizon: &Horizon, sight: Sight<'_>, now: Duration) -> Step {
        let own = &horizon.own;
        let may = |hub: &str| horizon.is_member(hub) && sight.order.iter().any(|one| one == hub);
        if !may(own) {
            return Step::Rest;
        }
        let level = horizon.has_quorum(now) && horizon.is_level(now);
        let known_by = horizon.begun + CATCH_UP;
        self.sure |= level || now >= known_by;
        let since = match sight.lease {
            Some((hub, epoch)) if hub == own => {
                self.vacant = None;
                return match self.sure {
                    true => Step::Read(epoch),
                    false => Step::Look(known_by.min(now + AGAIN)),
                };
            }
            Some((hub, _)) if may(hub) => {
                self.vacant = None;
                horizon.last(hub) + SILENCE
            }
            // Nobody was given it, or whoever was is dismissed.
            _ => *self.vacant.get_or_insert(now),
        };
        if now < since {
            return Step::Look(since);
        }
        if !level {
            return Step::Look(now + AGAIN);
        }
        let holder = sight.lease.map(|(hub, _)| hub);
        let before = sight.order.iter().take_while(|hub| *hub != own);
        let before =
            before.filter(|hub| Some(hub.as_str()) != holder && horizon.is_alive(hub, now));
        let place = u32::try_from(before.count()).unwrap_or(u32::MAX);
        let due = since.saturating_add(STAGGER.saturating_mul(place));
        match sight.newest.checked_add(1) {
            _ if now < due => Step::Look(due),
            Some(epoch) => Step::Take(epoch),
            None => Step::Rest,
        }
    }
}

#[cfg(test)]
mod tests;
