//! One user session.
//!
//! Receives [`Touch`] for every request of the session and [`End`]; ends by itself when it has been idle
//! for too long. Holds who the user is, over which face, and what was asked. When it ends, however it
//! ends, it says so in the log with its totals.

use crate::model::{Nanos, now};
use actix::prelude::*;
use std::time::Duration;

/// A session that asks for nothing ends after this time.
const IDLE: Duration = Duration::from_secs(30 * 60);

/// Over which face a session came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// The OPC UA server.
    OpcUa,
    /// The HTTP interface.
    Http,
}

/// A request of the session was answered.
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "()")]
pub struct Touch;

/// The session is over.
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "()")]
pub struct End;

/// One user session.
pub struct SessionActor {
    user: String,
    face: Face,
    since: Nanos,
    requests: u64,
    idle: Option<SpawnHandle>,
}

impl SessionActor {
    /// A session of `user`.
    pub fn new(user: String, face: Face) -> Self {
        Self {
            user,
            face,
            since: now(),
            requests: 0,
            idle: None,
        }
    }

    fn wait_for_idleness(&mut self, ctx: &mut Context<Self>) {
        if let Some(idle) = self.idle.take() {
            ctx.cancel_future(idle);
        }
        self.idle = Some(ctx.run_later(IDLE, |_, ctx| ctx.stop()));
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        tracing::info!(user = self.user, face = ?self.face, "session began");
        self.wait_for_idleness(ctx);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        let seconds = (now() - self.since) / 1_000_000_000;
        tracing::info!(user = self.user, face = ?self.face, requests = self.requests, seconds, "session ended");
    }
}

impl Handler<Touch> for SessionActor {
    type Result = ();

    fn handle(&mut self, _: Touch, ctx: &mut Self::Context) {
        self.requests += 1;
        self.wait_for_idleness(ctx);
    }
}

impl Handler<End> for SessionActor {
    type Result = ();

    fn handle(&mut self, _: End, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
