//! The state that a hub acts by, in the hands of everything that asks.

use super::decide::{
    Denied, Granted, Request, all_until, decide, decide_passage, reaches, somewhere,
};
use super::role::Right;
use super::state::AccessState;
use crate::model::{Nanos, Peer};
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Whether somebody may, asked of the state in force. Cheap to clone; all clones see every change at once.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    hub: String,
    state: RwLock<Arc<AccessState>>,
    version: AtomicU64,
    /// By device, who answered in its place.
    strangers: Mutex<BTreeMap<String, Peer>>,
}

/// What a user sees: see [`Gate::sight`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    version: u64,
    all_until: Option<Nanos>,
}

impl Sight {
    /// Whether everything may be seen, so that no single thing need be asked for.
    pub fn is_all(self) -> bool {
        self.all_until.is_some()
    }
}

impl Gate {
    /// The gate of a hub, which has the name `hub:ID` in the state.
    pub fn new(hub: &str, state: AccessState) -> Self {
        Self(Arc::new(Inner {
            hub: format!("hub:{hub}"),
            state: RwLock::new(Arc::new(state)),
            version: AtomicU64::new(0),
            strangers: Mutex::default(),
        }))
    }

    /// The name of the hub in the state.
    pub fn hub(&self) -> &str {
        &self.0.hub
    }

    /// The state in force.
    pub fn state(&self) -> Arc<AccessState> {
        self.0.state.read().clone()
    }

    /// Puts another state in force.
    pub fn set(&self, state: Arc<AccessState>) {
        *self.0.state.write() = state;
        self.0.version.fetch_add(1, Ordering::Release);
    }

    /// Counts the states that were in force.
    pub fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    /// Remembers who answers in the place of a device; `None` when it does itself.
    pub fn note_stranger(&self, device: &str, peer: Option<&Peer>) {
        let mut strangers = self.0.strangers.lock();
        match peer {
            Some(peer) => strangers.insert(device.to_owned(), peer.clone()),
            None => strangers.remove(device),
        };
    }

    /// By device, who answered last in its place.
    pub fn strangers(&self) -> BTreeMap<String, Peer> {
        let (state, mut strangers) = (self.state(), self.0.strangers.lock().clone());
        let there = |id: &str| state.subjects().get(id).is_some_and(|s| !s.revoked);
        strangers.retain(|device, _| there(device));
        strangers
    }

    /// Whether user `user` may use `right` on a machine's `object` by way of this hub.
    ///
    /// # Errors
    /// By which rule they may not: for the log and the record, not for them.
    pub fn passage(
        &self,
        user: &str,
        right: Right,
        object: &str,
        time: Nanos,
    ) -> Result<(), Denied> {
        self.passages(user, right, [object], time)
    }

    /// As [`passage`](Self::passage), for several objects: all of them or none.
    ///
    /// # Errors
    /// For the first that may not be.
    pub fn passages<'a>(
        &self,
        user: &str,
        right: Right,
        objects: impl IntoIterator<Item = &'a str>,
        time: Nanos,
    ) -> Result<(), Denied> {
        let (state, subject) = (self.state(), id(user));
        for object in objects {
            let request = Request {
                subject: &subject,
                right,
                object,
                time,
            };
            decide_passage(&state, &request, &self.0.hub)?;
        }
        Ok(())
    }

    /// Whether subject `subject` (`user:ann`, `device:press-1`) may use `right` on `object` itself.
    ///
    /// # Errors
    /// By which rule not.
    pub fn own(
        &self,
        subject: &str,
        right: Right,
        object: &str,
        time: Nanos,
    ) -> Result<Granted, Denied> {
        let request = Request {
            subject,
            right,
            object,
            time,
        };
        decide(&self.state(), &request)
    }

    /// Whether user `user` has `right` on anything at all. For what is shown, not for what is done.
    pub fn somewhere(&self, user: &str, right: Right, time: Nanos) -> bool {
        somewhere(&self.state(), (&id(user), right), time)
    }

    /// Whether user `user` has `right` to `object`, as far as roles go. For what is shown, not for what is done.
    pub fn reaches(&self, user: &str, right: Right, object: &str, time: Nanos) -> bool {
        reaches(&self.state(), (&id(user), right), object, time)
    }

    /// Whether user `user` was granted something that they open with a key of their own.
    pub fn reads(&self, user: &str) -> bool {
        let state = self.state();
        state
            .reader(&id(user))
            .is_some_and(|r| !r.grants.is_empty())
    }

    /// What user `user` may use `right` on: everything, or what is to be asked for one by one. `before` is
    /// returned as long as it holds, which costs nothing.
    pub fn sight(&self, before: Option<Sight>, user: &str, right: Right, time: Nanos) -> Sight {
        let version = self.version();
        if let Some(before) = before
            && before.version == version
            && before.all_until.is_some_and(|until| time < until)
        {
            return before;
        }
        Sight {
            version,
            all_until: all_until(&self.state(), (&id(user), right), &self.0.hub, time),
        }
    }

    /// The roles of user `user`.
    pub fn roles(&self, user: &str) -> Vec<String> {
        let state = self.state();
        let subject = state.subjects().get(&id(user));
        subject.map_or(Vec::new(), |s| s.roles.iter().cloned().collect())
    }
}

fn id(user: &str) -> String {
    format!("user:{user}")
}
