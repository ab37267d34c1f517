//! User sessions: one actor each, and the registry that holds them.
//!
//! A face tells of every request through [`SessionPort`]; the registry starts a [`SessionActor`] for a
//! session it has not seen, and passes on that something was asked. A session ends when its face says
//! so, or when it has asked for nothing for a while. However it ends, the log says who it was, over
//! which face, for how long and how many requests.

use crate::model::{Nanos, now};
use crate::protocols::ports::SessionPort;
use actix::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// A session that asks for nothing ends after this time.
const IDLE: Duration = Duration::from_secs(30 * 60);
/// Sessions held at most; the faces have lower bounds of their own.
const MOST_SESSIONS: usize = 1024;
/// Requests told of that may wait for the registry.
const MAILBOX: usize = 4096;

/// Something was asked in a session.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
struct Asked {
    session: String,
    user: String,
    times: u64,
}

/// A session is over.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
struct Ended(String);

/// So many requests of the session.
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "()")]
struct Touch(u64);

/// The session ends now.
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "()")]
struct End;

/// One user session.
struct SessionActor {
    session: String,
    user: String,
    since: Nanos,
    requests: u64,
    idle: Option<SpawnHandle>,
    registry: Addr<SessionRegistry>,
}

impl SessionActor {
    fn wait_for_idleness(&mut self, ctx: &mut Context<Self>) {
        if let Some(idle) = self.idle.take() {
            ctx.cancel_future(idle);
        }
        self.idle = Some(ctx.run_later(IDLE, |actor, ctx| {
            // A full mailbox keeps the session for another while.
            if actor
                .registry
                .try_send(Ended(actor.session.clone()))
                .is_err()
            {
                actor.wait_for_idleness(ctx);
            }
        }));
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        tracing::info!(session = self.session, user = self.user, "session began");
        self.wait_for_idleness(ctx);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        let seconds = (now() - self.since) / 1_000_000_000;
        let (session, user, requests) = (&self.session, &self.user, self.requests);
        tracing::info!(session, user, requests, seconds, "session ended");
    }
}

impl Handler<Touch> for SessionActor {
    type Result = ();

    fn handle(&mut self, Touch(times): Touch, ctx: &mut Self::Context) {
        self.requests += times;
        self.wait_for_idleness(ctx);
    }
}

impl Handler<End> for SessionActor {
    type Result = ();

    fn handle(&mut self, _: End, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

/// Holds the sessions of all faces.
#[derive(Default)]
pub struct SessionRegistry {
    sessions: HashMap<String, Addr<SessionActor>>,
    open: Arc<AtomicUsize>,
}

impl Actor for SessionRegistry {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl SessionRegistry {
    /// Starts the registry; what it returns is given to the faces.
    pub fn open() -> Arc<SessionDoor> {
        let registry = Self::default();
        let open = registry.open.clone();
        Arc::new(SessionDoor {
            registry: registry.start(),
            open,
            untold: AtomicU64::new(0),
        })
    }
}

impl Handler<Asked> for SessionRegistry {
    type Result = ();

    fn handle(&mut self, asked: Asked, ctx: &mut Self::Context) {
        let Asked {
            session,
            user,
            times,
        } = asked;
        if !self.sessions.contains_key(&session) {
            if self.sessions.len() >= MOST_SESSIONS {
                tracing::warn!(session, user, "too many sessions, this one is not followed");
                return;
            }
            let actor = SessionActor {
                session: session.clone(),
                user,
                since: now(),
                requests: 0,
                idle: None,
                registry: ctx.address(),
            };
            self.sessions.insert(session.clone(), actor.start());
            self.open.store(self.sessions.len(), Ordering::Relaxed);
        }
        if let Some(actor) = self.sessions.get(&session) {
            // A session whose mailbox is full is anything but idle; only its count suffers.
            let _ = actor.try_send(Touch(times));
        }
    }
}

impl Handler<Ended> for SessionRegistry {
    type Result = ();

    fn handle(&mut self, Ended(session): Ended, _: &mut Self::Context) {
        if let Some(actor) = self.sessions.remove(&session) {
            actor.do_send(End);
        }
        self.open.store(self.sessions.len(), Ordering::Relaxed);
    }
}

/// The faces' way to the registry.
pub struct SessionDoor {
    registry: Addr<SessionRegistry>,
    open: Arc<AtomicUsize>,
    untold: AtomicU64,
}

impl SessionPort for SessionDoor {
    fn asked(&self, session: &str, user: &str) {
        self.asked_times(session, user, 1);
    }

    fn asked_times(&self, session: &str, user: &str, times: u64) {
        let asked = Asked {
            session: session.to_owned(),
            user: user.to_owned(),
            times,
        };
        if self.registry.try_send(asked).is_err() {
            self.untold.fetch_add(times, Ordering::Relaxed);
        }
    }

    fn ended(&self, session: &str) {
        // Sessions end rarely, and each once: the bound of the mailbox need not hold for them.
        self.registry.do_send(Ended(session.to_owned()));
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix::test]
    async fn a_session_is_there_from_its_first_request_to_its_end() {
        let door = SessionRegistry::open();
        door.asked("opc.tcp 1", "anna");
        door.asked("opc.tcp 1", "anna");
        door.asked("http 1", "local");
        // The registry answers in order, so a question behind the others waits for them.
        let settle = || async {
            door.registry.send(Ended("none".to_owned())).await.unwrap();
        };
        settle().await;
        assert_eq!(door.open(), 2);
        door.ended("opc.tcp 1");
        settle().await;
        assert_eq!(door.open(), 1);
    }
}
