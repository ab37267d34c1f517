//! People and programs log in: by a password and a code, by a certificate, or by signing a challenge.
//!
//! Who somebody is, the hub's log-in desk says ([`LogInPort`]); whoever proved it is let in durably in the record,
//! and gets a token of which the hub keeps the hash.

mod routes;
mod sessions;
mod shown;
mod token;

#[cfg(test)]
mod tests;

pub(super) use routes::{Body, acts, from, is_open, log_in, not_in, read, routes};
pub(super) use sessions::{Session, SessionLimits};
pub(super) use shown::keep_shown;

use super::caller::FACE;
use super::problem::Problem;
use crate::access::{Challenge, Proved};
use crate::model::{Nanos, now};
use crate::protocols::log_in::{LogInPort, NotIn, Proof};
use crate::protocols::ports::SessionPort;
use actix_web::http::header::HeaderMap;
use parking_lot::Mutex;
use sessions::Sessions;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weighbridge_verifier::Hash;
use zeroize::Zeroizing;

/// Who is logged in, and how others are.
pub(super) struct LogIn {
    desk: Arc<dyn LogInPort>,
    tls: bool,
    sessions: Mutex<Sessions>,
    port: Arc<dyn SessionPort>,
}

impl LogIn {
    /// Nobody yet; by TLS or not.
    pub(super) fn new(
        desk: Arc<dyn LogInPort>,
        tls: bool,
        limits: SessionLimits,
        port: Arc<dyn SessionPort>,
    ) -> Self {
        Self {
            desk,
            tls,
            sessions: Mutex::new(Sessions::new(limits)),
            port,
        }
    }

    /// A challenge to user `user`, whether there is one or not.
    fn challenge(&self, user: &str, from: IpAddr) -> Result<Challenge, Problem> {
        let opened = self.desk.challenge(user, from);
        opened.map_err(|e| Problem::body(e.to_string()))
    }

    /// Who `proof` shows somebody at `from` to be.
    pub(super) async fn prove(
        &self,
        user: Option<&str>,
        proof: Proof,
        from: IpAddr,
    ) -> Result<Proved, NotIn> {
        self.desk.log_in(FACE, user, proof, from).await
    }

    /// Opens a session for who was proven and let in; its token, which is nowhere else. That it began is
    /// still to be recorded.
    fn open(&self, proved: &Proved) -> Result<(Zeroizing<String>, Session), Problem> {
        let random = |e| Problem::internal(format!("there is no randomness: {e}"));
        let (token, public) = (
            token::make().map_err(random)?,
            token::make().map_err(random)?,
        );
        let began = Instant::now();
        let session = Session {
            name: format!("http {}", public.get(..16).unwrap_or_default()),
            user: proved.user.clone(),
            method: proved.method.name(),
            since: now(),
            began,
            life: self.life(proved),
            asked: began,
        };
        let mut ended = Vec::new();
        // With those at other faces, which this one cannot end.
        if !self.port.admits(&proved.user) {
            let rested = self.sessions.lock().make_room(&proved.user);
            let Some(rested) = rested else {
                let detail =
                    "the user has too many sessions, at other faces of this hub: end one there";
                return Err(Problem::too_early(detail, 60));
            };
            self.port.ended(&rested.name);
        }
        let hash = token::hash(&token);
        let opened = self.sessions.lock().open(hash, session.clone(), &mut ended);
        for ended in ended {
            self.port.ended(&ended.name);
        }
        if !opened {
            let detail = "too many users are logged in: one of them has to log out";
            return Err(Problem::busy(detail));
        }
        Ok((token, session))
    }

    /// The hash of the token that a request shows, if it does.
    pub(super) fn shown(&self, headers: &HeaderMap) -> Option<Hash> {
        token::shown(headers, self.tls)
    }

    /// Something is asked by the token of this hash: its session.
    pub(super) fn asked(&self, token: &Hash) -> Option<Session> {
        self.sessions.lock().asked(token, Instant::now())
    }

    /// What records call the session of this token; that is not asking.
    pub(super) fn name(&self, token: &Hash) -> Option<String> {
        self.sessions.lock().name(token, Instant::now())
    }

    /// Whether the token of this hash still has a session.
    pub(super) fn holds(&self, token: &Hash) -> bool {
        self.sessions.lock().holds(token, Instant::now())
    }

    /// Ends the session of this token.
    pub(super) fn end(&self, token: &Hash) -> Option<Session> {
        let session = self.sessions.lock().end(token)?;
        self.port.ended(&session.name);
        Some(session)
    }

    /// Ends the sessions of a user, but that of the token `keep`.
    pub(super) fn end_all(&self, user: &str, keep: Option<&Hash>) {
        let ended = self.sessions.lock().end_all(user, keep);
        for session in ended {
            self.port.ended(&session.name);
        }
    }

    /// How long a session lives: no longer than what was shown for it.
    fn life(&self, proved: &Proved) -> Duration {
        let life = self.sessions.lock().limits().life;
        let shown = proved.until.map(|until| until.saturating_sub(now()).max(0));
        let shown = shown.and_then(|left| u64::try_from(left).ok());
        shown.map_or(life, |left| life.min(Duration::from_nanos(left)))
    }

    /// When a session ends at the latest.
    fn until(&self, session: &Session) -> Nanos {
        let life = Nanos::try_from(session.life.as_nanos()).unwrap_or(Nanos::MAX);
        session.since.saturating_add(life)
    }
}
