//! How much one user uses, over all faces together: sessions at once, and requests a second.

use crate::model::Nanos;
use std::collections::{BTreeMap, HashMap};

const SECOND: Nanos = 1_000_000_000;
/// Users whose requests are counted at a time; of others, those who rested longest are forgotten, and begin anew.
const MAX_USERS: usize = 4_096;

/// What one user may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageLimits {
    /// Sessions at once.
    pub sessions: usize,
    /// Requests a second, on average; twice as many at a time.
    pub requests_per_second: u32,
}

/// A token bucket, by the time at which it will be full again: one number is all its state (the generic cell
/// rate algorithm of ITU-T I.371, as a virtual schedule).
type FullAt = Nanos;

/// What all users use.
#[derive(Debug)]
pub struct Usage {
    limits: UsageLimits,
    sessions: HashMap<String, String>,
    counts: HashMap<String, usize>,
    requests: BTreeMap<String, FullAt>,
}

impl Usage {
    /// Nothing yet.
    pub fn new(limits: UsageLimits) -> Self {
        Self {
            limits,
            sessions: HashMap::new(),
            counts: HashMap::new(),
            requests: BTreeMap::new(),
        }
    }

    /// `session` is one of `user`.
    pub fn began(&mut self, session: &str, user: &str) {
        if self.sessions.contains_key(session) {
            return;
        }
        self.sessions.insert(session.to_owned(), user.to_owned());
        *self.counts.entry(user.to_owned()).or_default() += 1;
    }

    /// `session` is over.
    pub fn ended(&mut self, session: &str) {
        let Some(user) = self.sessions.remove(session) else {
            return;
        };
        if let Some(count) = self.counts.get_mut(&user) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&user);
            }
        }
    }

    /// Whether `user` may begin one more.
    pub fn admits(&self, user: &str) -> bool {
        self.counts.get(user).copied().unwrap_or_default() < self.limits.sessions
    }

    /// `user` asks for something `now`; an error is how long to wait. What has to wait costs nothing.
    pub fn spend(&mut self, user: &str, now: Nanos) -> Result<(), Nanos> {
        let each = SECOND / Nanos::from(self.limits.requests_per_second.max(1));
        let most = 2 * SECOND;
        let full_at = self.requests.get(user).copied().unwrap_or(now);
        // Later than any can be, it is from before the clock was put back.
        let full_at = match full_at > now.saturating_add(most) {
            true => now,
            false => full_at.max(now),
        };
        let next = full_at.saturating_add(each);
        let wait = next.saturating_sub(now.saturating_add(most));
        if wait > 0 {
            return Err(wait);
        }
        if self.requests.len() >= MAX_USERS && !self.requests.contains_key(user) {
            self.forget(now);
        }
        self.requests.insert(user.to_owned(), next);
        Ok(())
    }

    fn forget(&mut self, now: Nanos) {
        self.requests.retain(|_, full_at| *full_at > now);
        if self.requests.len() >= MAX_USERS {
            let least = self.requests.iter().min_by_key(|(_, full_at)| **full_at);
            if let Some(least) = least.map(|(user, _)| user.clone()) {
                self.requests.remove(&least);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn usage(sessions: usize, requests_per_second: u32) -> Usage {
        Usage::new(UsageLimits {
            sessions,
            requests_per_second,
        })
    }

    #[test]
    fn sessions_are_counted_over_all_faces() {
        let mut usage = usage(2, 1);
        for session in ["http 1", "http 1", "opc.tcp 1"] {
            assert!(usage.admits("ann"));
            usage.began(session, "ann");
        }
        assert!(!usage.admits("ann") && usage.admits("bob"));
        usage.ended("mqtt 1");
        assert!(!usage.admits("ann"));
        usage.ended("http 1");
        usage.ended("http 1");
        assert!(usage.admits("ann"));
        usage.ended("opc.tcp 1");
        assert!(usage.counts.is_empty() && usage.sessions.is_empty());
    }

    #[test]
    fn two_seconds_worth_at_a_time_and_then_so_many_a_second() {
        let mut usage = usage(1, 10);
        for _ in 0..20 {
            assert_eq!(usage.spend("ann", 0), Ok(()));
        }
        assert_eq!(usage.spend("ann", 0), Err(SECOND / 10));
        assert_eq!(
            usage.spend("ann", SECOND / 20),
            Err(SECOND / 20),
            "it cost nothing"
        );
        assert_eq!(usage.spend("bob", 0), Ok(()), "others are not held up");
        assert_eq!(usage.spend("ann", SECOND / 10), Ok(()));
        assert_eq!(usage.spend("ann", SECOND / 10), Err(SECOND / 10));
        // Put back by a year, it begins anew.
        assert_eq!(usage.spend("ann", -31_536_000 * SECOND), Ok(()));
    }

    #[test]
    fn who_is_remembered_is_bounded_and_who_waits_is_not_forgotten() {
        let mut usage = usage(1, 1);
        assert_eq!(usage.spend("ann", 0), Ok(()));
        assert_eq!(usage.spend("ann", 0), Ok(()));
        for i in 0..2 * MAX_USERS {
            assert_eq!(usage.spend(&format!("user {i}"), 0), Ok(()));
        }
        assert_eq!(usage.requests.len(), MAX_USERS);
        assert!(usage.spend("ann", 0).is_err());
    }

    proptest! {
        #[test]
        fn nobody_gets_more_than_their_share(
            rate in 1_u32..50,
            steps in proptest::collection::vec(0_i64..SECOND / 4, 1..400),
        ) {
            let mut usage = usage(1, rate);
            let (mut now, mut taken) = (0, 0_i64);
            for step in steps {
                now += step;
                taken += i64::from(usage.spend("ann", now).is_ok());
                let share = i64::from(rate) * (now + 2 * SECOND) / SECOND + 1;
                prop_assert!(taken <= share, "{taken} of {share} at {now}");
            }
        }
    }
}
