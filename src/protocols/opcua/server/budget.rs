//! What each user may have the stack keep: monitored items, and what deleted ones leave behind.
//!
//! The stack finds the items of a node in a table. When a whole subscription is deleted or expires, its
//! items stay in that table for good. They cannot be taken out from here, but they can be counted: so a
//! user may leave so many an hour, and when there are too many in all the stack is replaced by a new
//! one, which drops the table.

use super::callers::name_of;
use super::config::ServerLimits;
use opcua::server::MonitoredItemHandle;
use opcua::server::authenticator::UserToken;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;
use tokio::sync::Notify;

const HOUR: f64 = 3_600.0;

/// The monitored items of one server, through all its stacks.
pub(super) struct Budget {
    /// Items in all, and of one user.
    most: (usize, usize),
    /// Items that a user may leave behind in an hour, and all together until the stack is replaced.
    most_left: (f64, usize),
    inner: Mutex<Inner>,
    /// Left behind in the stack that runs now.
    left: AtomicUsize,
    refused: AtomicU64,
    worn: Notify,
}

#[derive(Default)]
struct Inner {
    items: HashMap<MonitoredItemHandle, Arc<str>>,
    /// By the stack's token; there are as many as can log in.
    users: HashMap<Arc<str>, User>,
}

/// What a user has.
struct User {
    items: usize,
    /// Left behind, less what the time since has made up for.
    left: f64,
    at: Instant,
}

impl Budget {
    pub(super) fn new(limits: &ServerLimits) -> Self {
        Self {
            most: (limits.monitored_items, limits.monitored_items_per_user),
            most_left: (
                limits.abandoned_items_per_hour as f64,
                limits.abandoned_items,
            ),
            inner: Mutex::default(),
            left: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            worn: Notify::new(),
        }
    }

    /// Whether a user may have another item `now`; it is theirs then.
    pub(super) fn admits(
        &self,
        token: &UserToken,
        handle: MonitoredItemHandle,
        now: Instant,
    ) -> bool {
        let mut inner = self.inner.lock();
        let Inner { items, users } = &mut *inner;
        let name = name_of(token);
        let name: Arc<str> = match users.get_key_value(name) {
            Some((name, _)) => name.clone(),
            None => name.into(),
        };
        let user = users.entry(name.clone()).or_insert_with(|| User::new(now));
        let (all, each) = self.most;
        let fits = items.len() < all && user.items < each;
        if !fits || user.left_at(now, self.most_left.0) + 1.0 > self.most_left.0 {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        if items.insert(handle, name).is_none() {
            user.items += 1;
        }
        true
    }

    /// An item is there no more, and the stack keeps something of it where it was `left_behind`.
    pub(super) fn gone(&self, handle: MonitoredItemHandle, left_behind: bool, now: Instant) {
        let mut inner = self.inner.lock();
        let Some(name) = inner.items.remove(&handle) else {
            return;
        };
        let Some(user) = inner.users.get_mut(&name) else {
            return;
        };
        user.items = user.items.saturating_sub(1);
        if !left_behind {
            return;
        }
        let before = user.left_at(now, self.most_left.0);
        user.left += 1.0;
        if before + 1.0 <= self.most_left.0 && user.left + 1.0 > self.most_left.0 {
            tracing::warn!(
                user = &*name,
                "too many monitored items were left behind with their subscriptions in an hour; the user gets no more for a while"
            );
        }
        if self.left.fetch_add(1, Ordering::Relaxed) + 1 == self.most_left.1 {
            self.worn.notify_one();
        }
    }

    /// Waits until the stack should be replaced.
    pub(super) async fn worn(&self) {
        self.worn.notified().await;
    }

    /// The stack could not be replaced, and should be.
    pub(super) fn still_worn(&self) {
        self.worn.notify_one();
    }

    /// The stack was replaced: it has no items.
    pub(super) fn renewed(&self) {
        let mut inner = self.inner.lock();
        inner.items = HashMap::new();
        for user in inner.users.values_mut() {
            user.items = 0;
        }
        self.left.store(0, Ordering::Relaxed);
    }

    /// Items that were refused, and those that were left behind.
    pub(super) fn counts(&self) -> (u64, u64) {
        let left = self.left.load(Ordering::Relaxed);
        (self.refused.load(Ordering::Relaxed), left as u64)
    }
}

impl User {
    fn new(at: Instant) -> Self {
        Self {
            items: 0,
            left: 0.0,
            at,
        }
    }

    /// What counts as left behind `now`, where `an_hour` makes up for so many.
    fn left_at(&mut self, now: Instant, an_hour: f64) -> f64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left - passed / HOUR * an_hour).max(0.0);
        self.at = self.at.max(now);
        self.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn budget() -> Budget {
        Budget::new(&ServerLimits {
            monitored_items: 5,
            monitored_items_per_user: 3,
            abandoned_items: 6,
            abandoned_items_per_hour: 4,
            ..ServerLimits::default()
        })
    }

    fn item(monitored_item_id: u32) -> MonitoredItemHandle {
        MonitoredItemHandle {
            subscription_id: 1,
            monitored_item_id,
        }
    }

    #[test]
    fn items_are_bounded_for_each_and_for_all() {
        let (budget, now) = (budget(), Instant::now());
        let (a, b) = (UserToken("a".into()), UserToken("b".into()));
        for id in 0..3 {
            assert!(budget.admits(&a, item(id), now));
        }
        assert!(!budget.admits(&a, item(3), now), "three are enough for one");
        assert!(budget.admits(&b, item(4), now));
        assert!(budget.admits(&b, item(5), now));
        assert!(!budget.admits(&b, item(6), now), "five for all");
        budget.gone(item(0), false, now);
        budget.gone(item(0), false, now);
        assert!(budget.admits(&a, item(7), now));
        assert!(!budget.admits(&a, item(8), now));
        assert_eq!(budget.counts(), (3, 0));
    }

    #[tokio::test]
    async fn what_is_left_behind_is_bounded_an_hour_and_wears_the_stack_out() {
        let (budget, now) = (budget(), Instant::now());
        let (a, b) = (UserToken("a".into()), UserToken("b".into()));
        for id in 0..4 {
            assert!(budget.admits(&a, item(id), now));
            budget.gone(item(id), true, now);
        }
        assert!(!budget.admits(&a, item(4), now));
        assert!(budget.admits(&b, item(5), now), "it is not theirs");
        budget.gone(item(5), true, now);
        let later = now + Duration::from_secs(900);
        assert!(
            budget.admits(&a, item(6), later),
            "a quarter is made up for"
        );
        budget.gone(item(6), true, later);
        budget.worn().await;
        budget.renewed();
        assert_eq!(budget.counts(), (1, 0));
        assert!(!budget.admits(&a, item(7), later), "the hour goes on");
    }
}
