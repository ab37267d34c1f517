//! Slows down those who guess.
//!
//! An attempt counts as failed when it begins, and is taken back when it succeeds: so a thousand
//! attempts at the same moment are not one. After a few free failures each further one doubles the
//! time until the next attempt, up to a cap. Failures are counted for the address, whoever it tries to
//! be, and for the user, wherever it is tried. A user who logged in from an address before is not slowed
//! there by what strangers fail elsewhere; anywhere else at most by the cap. A success takes back
//! what this user failed at this address, not what others did: else whoever has an account could guess
//! between two log-ins of their own.

use crate::model::{Nanos, network};
use std::collections::BTreeMap;
use std::net::IpAddr;

const SECOND: Nanos = 1_000_000_000;
/// Longest part of a name that is told apart.
const MAX_NAME: usize = 128;

/// How much is slowed down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardLimits {
    /// Failures that cost nothing: people mistype.
    pub free: u32,
    /// Time after the first failure that costs; doubled with each further one.
    pub first: Nanos,
    /// Longest time.
    pub cap: Nanos,
    /// Failures are forgotten so long after the last.
    pub forget: Nanos,
    /// Most users, addresses, and pairs of them that are remembered, each.
    pub remembered: usize,
}

impl Default for GuardLimits {
    fn default() -> Self {
        Self {
            free: 3,
            first: SECOND,
            cap: 60 * SECOND,
            forget: 3_600 * SECOND,
            remembered: 4_096,
        }
    }
}

/// Too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many wrong log-ins; wait and try again")]
pub struct TooEarly {
    /// From then on the next attempt is taken.
    pub until: Nanos,
}

/// Failures of somebody.
#[derive(Clone, Copy, Debug, Default)]
struct Failures {
    count: u32,
    last: Nanos,
    /// Whether it succeeded here before; of pairs only.
    known: bool,
}

/// The table of failures.
#[derive(Debug)]
pub struct LoginGuard {
    limits: GuardLimits,
    users: BTreeMap<String, Failures>,
    addresses: BTreeMap<IpAddr, Failures>,
    pairs: BTreeMap<(String, IpAddr), Failures>,
}

impl LoginGuard {
    /// An empty one.
    pub fn new(limits: GuardLimits) -> Self {
        Self {
            limits,
            users: BTreeMap::new(),
            addresses: BTreeMap::new(),
            pairs: BTreeMap::new(),
        }
    }

    /// Lets an attempt of `user` from `address` begin, or says when. One that is let begin and of which
    /// [`LoginGuard::succeeded`] is not told has failed. One that is not let begin counts for nothing.
    pub fn begin(&mut self, user: &str, address: IpAddr, now: Nanos) -> Result<(), TooEarly> {
        let (user, address) = (short(user), network(address));
        let pair = (user.clone(), address);
        let pair_failures = now_counting(self.pairs.get(&pair), now, &self.limits);
        let own = match pair_failures.known {
            true => pair_failures,
            false => now_counting(self.users.get(&user), now, &self.limits),
        };
        let there = now_counting(self.addresses.get(&address), now, &self.limits);
        let until = own.wait(&self.limits).max(there.wait(&self.limits));
        if now < until {
            return Err(TooEarly { until });
        }
        let limits = &self.limits;
        count(&mut self.users, user, now, limits);
        count(&mut self.addresses, address, now, limits);
        count(&mut self.pairs, pair, now, limits);
        Ok(())
    }

    /// The attempt that began was right: what this user failed here is forgotten.
    pub fn succeeded(&mut self, user: &str, address: IpAddr, now: Nanos) {
        let (user, address) = (short(user), network(address));
        let pair = (user.clone(), address);
        // At least the attempt itself, also when the table forgot it meanwhile.
        let failed = now_counting(self.pairs.get(&pair), now, &self.limits);
        let failed = failed.count.max(1);
        take_back(&mut self.users, &user, failed);
        take_back(&mut self.addresses, &address, failed);
        if let Some(failures) = self.pairs.get_mut(&pair) {
            *failures = Failures {
                count: 0,
                last: now,
                known: true,
            };
        }
    }

    /// Users, addresses and pairs that are remembered now.
    pub fn remembered(&self) -> [usize; 3] {
        [self.users.len(), self.addresses.len(), self.pairs.len()]
    }
}

impl Failures {
    /// From when on another attempt is taken.
    fn wait(self, limits: &GuardLimits) -> Nanos {
        let costly = match self.count.checked_sub(limits.free) {
            None | Some(0) => return Nanos::MIN,
            Some(costly) => costly,
        };
        let doubled = 1_i64.checked_shl(costly - 1).filter(|d| *d > 0);
        let delay = doubled.map_or(limits.cap, |d| limits.first.saturating_mul(d));
        self.last.saturating_add(delay.min(limits.cap))
    }
}

/// What still counts: nothing when it is long ago, and nothing that lies in the future, as after a
/// clock was put back.
fn now_counting(found: Option<&Failures>, now: Nanos, limits: &GuardLimits) -> Failures {
    let Some(found) = found else {
        return Failures::default();
    };
    let old = now.saturating_sub(found.last);
    match (0..limits.forget).contains(&old) {
        true => *found,
        false => Failures {
            count: 0,
            last: now,
            known: found.known,
        },
    }
}

fn count<K: Ord + Clone>(
    table: &mut BTreeMap<K, Failures>,
    key: K,
    now: Nanos,
    limits: &GuardLimits,
) {
    let before = now_counting(table.get(&key), now, limits);
    if !table.contains_key(&key) && table.len() >= limits.remembered {
        // Who failed least goes first, then who failed longest ago: a flood of new names pushes out
        // itself, and not those who are being guessed at.
        let weight = |f: &Failures| (now_counting(Some(f), now, limits).count, f.known, f.last);
        let least = table.iter().min_by_key(|(_, f)| weight(f));
        if let Some(least) = least.map(|(key, _)| key.clone()) {
            table.remove(&least);
        }
    }
    let failures = Failures {
        count: before.count.saturating_add(1),
        last: now,
        known: before.known,
    };
    table.insert(key, failures);
}

fn take_back<K: Ord>(table: &mut BTreeMap<K, Failures>, key: &K, failed: u32) {
    if let Some(failures) = table.get_mut(key) {
        failures.count = failures.count.saturating_sub(failed);
        if failures.count == 0 {
            table.remove(key);
        }
    }
}

/// Names of any length come from outside.
fn short(name: &str) -> String {
    let mut end = name.len().min(MAX_NAME);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv6Addr;

    fn guard() -> LoginGuard {
        LoginGuard::new(GuardLimits::default())
    }

    fn at(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// Seconds until the next attempt is taken.
    fn wait(guard: &mut LoginGuard, user: &str, address: IpAddr, now: Nanos) -> i64 {
        match guard.begin(user, address, now) {
            Ok(()) => 0,
            Err(early) => (early.until - now) / SECOND,
        }
    }

    #[test]
    fn the_wait_doubles_up_to_the_cap_and_is_forgotten() {
        let mut guard = guard();
        let mut now = 0;
        for wanted in [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60] {
            let mut waited = 0;
            if wanted > 0 {
                waited = wait(&mut guard, "ann", at(1), now);
                // An attempt that is too early changes nothing.
                assert_eq!(wait(&mut guard, "ann", at(1), now), waited);
                now += waited * SECOND;
            }
            assert_eq!(waited, wanted);
            assert_eq!(guard.begin("ann", at(1), now), Ok(()));
        }
        now += 3_600 * SECOND;
        for _ in 0..3 {
            assert_eq!(wait(&mut guard, "ann", at(1), now), 0);
        }
        assert_eq!(
            wait(&mut guard, "ann", at(1), now),
            0,
            "the fourth is the first that costs"
        );
        assert_eq!(wait(&mut guard, "ann", at(1), now), 1);
    }

    fn fail(guard: &mut LoginGuard, user: &str, address: IpAddr, times: u32, now: &mut Nanos) {
        for _ in 0..times {
            *now += wait(guard, user, address, *now) * SECOND;
            let _ = guard.begin(user, address, *now);
        }
    }

    #[test]
    fn a_stranger_slows_a_user_at_most_by_the_cap_and_not_where_they_are_known() {
        let mut guard = guard();
        let mut now = 0;
        guard.begin("ann", at(1), now).unwrap();
        guard.succeeded("ann", at(1), now);
        fail(&mut guard, "ann", at(66), 50, &mut now);
        assert_eq!(wait(&mut guard, "ann", at(1), now), 0, "at home");
        let abroad = wait(&mut guard, "ann", at(2), now);
        assert!((1..=60).contains(&abroad), "{abroad}");
        assert_eq!(wait(&mut guard, "bob", at(2), now), 0);
    }

    #[test]
    fn an_address_is_slowed_whoever_it_tries_to_be() {
        let mut guard = guard();
        for user in 0..4 {
            assert_eq!(wait(&mut guard, &format!("u{user}"), at(66), 0), 0);
        }
        assert_eq!(wait(&mut guard, "new", at(66), 0), 1);
        assert_eq!(wait(&mut guard, "new", at(1), 0), 0);
    }

    #[test]
    fn a_success_takes_back_ones_own_failures_only() {
        let mut guard = guard();
        let mut now = 0;
        fail(&mut guard, "ann", at(1), 6, &mut now);
        now += 60 * SECOND;
        guard.begin("ann", at(1), now).unwrap();
        guard.succeeded("ann", at(1), now);
        for _ in 0..4 {
            assert_eq!(
                wait(&mut guard, "ann", at(1), now),
                0,
                "as if nothing had been"
            );
        }

        // Mallory logs in between two guesses at Ann's password, and is slowed all the same.
        let mut guard = self::guard();
        let (mut now, mut waited) = (0, 0);
        for _ in 0..12 {
            let wait = wait(&mut guard, "ann", at(66), now);
            (now, waited) = (now + wait * SECOND, waited.max(wait));
            let _ = guard.begin("ann", at(66), now);
            now += wait_for_address(&mut guard, &mut now);
            guard.succeeded("mallory", at(66), now);
        }
        assert_eq!(waited, 60);
    }

    fn wait_for_address(guard: &mut LoginGuard, now: &mut Nanos) -> Nanos {
        match guard.begin("mallory", at(66), *now) {
            Ok(()) => 0,
            Err(early) => {
                let wait = early.until - *now;
                guard.begin("mallory", at(66), early.until).unwrap();
                wait
            }
        }
    }

    #[test]
    fn a_thousand_attempts_at_once_are_not_one() {
        let mut guard = guard();
        let begun = (0..1_000).filter(|_| guard.begin("ann", at(1), 0).is_ok());
        assert_eq!(begun.count(), 4);
    }

    #[test]
    fn an_ipv6_host_is_its_network_and_a_mapped_address_is_itself() {
        let mut guard = guard();
        for host in 0..4_u16 {
            let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 7, host, 1, 2, 3);
            assert_eq!(wait(&mut guard, &format!("u{host}"), address.into(), 0), 0);
        }
        let same = Ipv6Addr::new(0x2001, 0xdb8, 0, 7, 9, 9, 9, 9);
        assert_eq!(wait(&mut guard, "x", same.into(), 0), 1);
        let other = Ipv6Addr::new(0x2001, 0xdb8, 0, 8, 9, 9, 9, 9);
        assert_eq!(wait(&mut guard, "x", other.into(), 0), 0);
        assert_eq!(network("::ffff:192.0.2.1".parse().unwrap()), at(1));
    }

    #[test]
    fn a_flood_of_names_does_not_push_out_who_is_guessed_at() {
        let limits = GuardLimits {
            remembered: 64,
            ..GuardLimits::default()
        };
        let mut guard = LoginGuard::new(limits);
        let mut now = 0;
        fail(&mut guard, "ann", at(66), 8, &mut now);
        for i in 0..1_000_u32 {
            let address = IpAddr::from([10, 0, (i / 256) as u8, (i % 256) as u8]);
            guard.begin(&format!("name-{i}"), address, now).unwrap();
        }
        assert_eq!(guard.remembered(), [64; 3]);
        assert!(wait(&mut guard, "ann", at(67), now) > 1);
        // Endless names do not take endless room either.
        let _ = guard.begin(&"ä".repeat(1 << 20), at(5), now);
        assert!(guard.users.keys().all(|name| name.len() <= MAX_NAME));
    }

    #[test]
    fn a_clock_that_is_put_back_locks_nobody_out() {
        let mut guard = guard();
        let mut now = 1_000_000 * SECOND;
        fail(&mut guard, "ann", at(1), 20, &mut now);
        assert_eq!(wait(&mut guard, "ann", at(1), 0), 0);
    }

    proptest! {
        /// Whatever strangers do, in whatever order, nobody waits longer than the cap.
        #[test]
        fn nobody_waits_longer_than_the_cap(
            moves in proptest::collection::vec((0..3_u8, 0..3_u8, 0..100_i64, any::<bool>()), 1..300),
        ) {
            let limits = GuardLimits { remembered: 4, ..GuardLimits::default() };
            let mut guard = LoginGuard::new(limits);
            let mut now = 0;
            for (user, address, later, right) in moves {
                now += later * SECOND / 10;
                let name = format!("u{user}");
                match guard.begin(&name, at(address), now) {
                    Ok(()) if right => guard.succeeded(&name, at(address), now),
                    Ok(()) => {}
                    Err(early) => {
                        prop_assert!(now < early.until && early.until <= now + limits.cap);
                        // Then, at the latest, it is taken.
                        prop_assert!(guard.begin(&name, at(address), now + limits.cap).is_ok());
                        now += limits.cap;
                    }
                }
                prop_assert!(guard.remembered().into_iter().all(|n| n <= 4));
            }
        }
    }
}
