//! The sessions that are open: who is in them, what the registry of sessions is told, and their end.
//!
//! The stack tells nobody when a session ends, so it is looked for; and a message for each of ten
//! thousand reads a second would cost more than the reads, so requests are counted and told together.

use super::callers::Callers;
use crate::access::Caller;
use crate::protocols::ports::SessionPort;
use opcua::server::authenticator::UserToken;
use opcua::server::node_manager::RequestContext;
use opcua::sync::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often ends are looked for, and requests are told.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The stack's session; its type has no name outside of the stack.
type Alive = Arc<dyn Fn() -> Option<Instant> + Send + Sync>;

/// The open sessions of this server.
pub(super) struct Sessions {
    port: Arc<dyn SessionPort>,
    callers: Arc<Callers>,
    open: RwLock<HashMap<u32, Open>>,
}

struct Open {
    token: UserToken,
    caller: Arc<Caller>,
    /// Until when it lives without a request; `None` when it is closed.
    alive: Alive,
    /// What that said last.
    until: Option<Instant>,
    /// Requests that were not told yet.
    asked: AtomicU64,
}

impl Sessions {
    pub(super) fn new(port: Arc<dyn SessionPort>, callers: Arc<Callers>) -> Self {
        Self {
            port,
            callers,
            open: RwLock::default(),
        }
    }

    /// Who asks. The first request of a session is told at once.
    pub(super) fn asked(&self, context: &RequestContext) -> Arc<Caller> {
        let (id, token) = (context.session_id(), context.user_token());
        if let Some(open) = self.open.read().get(&id)
            && open.token == *token
        {
            open.asked.fetch_add(1, Ordering::Relaxed);
            return open.caller.clone();
        }
        let caller = Arc::new(self.callers.of(context));
        let session = context.session.clone();
        let alive = move || {
            let session = session.read();
            session.is_activated().then(|| session.deadline())
        };
        let open = Open {
            token: token.clone(),
            caller: caller.clone(),
            until: alive(),
            alive: Arc::new(alive),
            asked: AtomicU64::new(0),
        };
        self.open.write().insert(id, open);
        self.port.asked(&caller.session, &caller.user);
        caller
    }

    /// Tells of requests and ends, again and again.
    pub(super) async fn watch(self: Arc<Self>) {
        let mut interval = tokio::time::interval(LOOK_EVERY);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            self.look();
        }
    }

    fn look(&self) {
        self.open.write().retain(|_, open| {
            let until = (open.alive)();
            let asked = open.asked.swap(0, Ordering::Relaxed);
            // Requests that only the stack sees, such as Publish, count as one.
            let asked = asked.max(u64::from(until != open.until));
            open.until = until;
            let (session, user) = (&open.caller.session, &open.caller.user);
            if asked > 0 {
                self.port.asked_times(session, user, asked);
            }
            if until.is_none() {
                self.port.ended(session);
            }
            until.is_some()
        });
    }

    /// Tells that all are over.
    pub(super) fn end_all(&self) {
        for (_, open) in self.open.write().drain() {
            self.port.ended(&open.caller.session);
        }
    }
}
