//! People and programs log in: by a password and a code, or by signing a challenge.
//!
//! Every attempt goes through [`LoginGuard`] before anything is computed; those outside learn from a refusal
//! nothing but that it is one. Whoever proved who they are is let in durably in the record, and gets a
//! token of which the hub keeps the hash.

mod routes;
mod sessions;
mod token;

#[cfg(test)]
mod tests;

pub(super) use routes::{acts, is_open, routes};
pub(super) use sessions::{Session, SessionLimits};

use super::problem::Problem;
use crate::access::{
    Attempt, Challenge, Challenges, GuardLimits, LoginGuard, Nonce, Proved, Refused, TooEarly,
    verify_login,
};
use crate::model::{Nanos, now};
use crate::protocols::ports::SessionPort;
use crate::store::CredentialFiles;
use actix_web::http::header::HeaderMap;
use parking_lot::Mutex;
use sessions::Sessions;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use weighbridge_verifier::{Hash, PublicKey};
use zeroize::Zeroizing;

/// Hashes of passwords that are computed at a time: each takes 19 MiB, and anybody may ask for one.
const HASHES_AT_A_TIME: usize = 2;
/// How long somebody waits for their turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// What somebody shows; owned, because it is looked at on another thread.
pub(super) enum Shown {
    /// A password, and a code.
    Password(Zeroizing<String>, Option<String>),
    /// A signature: over which challenge, by which key.
    Signature(Nonce, PublicKey, Vec<u8>),
}

/// Why somebody has no session.
#[derive(Debug)]
pub(super) enum NotIn {
    /// They have to wait.
    TooEarly(TooEarly),
    /// They did not prove who they are.
    Refused,
    /// Too much is going on.
    Busy,
}

/// Who is logged in, and how others are.
pub(super) struct LogIn {
    files: CredentialFiles,
    tls: bool,
    turns: Arc<Semaphore>,
    sessions: Mutex<Sessions>,
    guard: Mutex<LoginGuard>,
    challenges: Mutex<Challenges>,
    port: Arc<dyn SessionPort>,
}

impl LogIn {
    /// Nobody yet, at `hub`; by TLS or not.
    pub(super) fn new(
        files: CredentialFiles,
        hub: &str,
        tls: bool,
        limits: SessionLimits,
        port: Arc<dyn SessionPort>,
    ) -> Self {
        Self {
            files,
            tls,
            turns: Arc::new(Semaphore::new(HASHES_AT_A_TIME)),
            sessions: Mutex::new(Sessions::new(limits)),
            guard: Mutex::new(LoginGuard::new(GuardLimits::default())),
            challenges: Mutex::new(Challenges::new(hub)),
            port,
        }
    }

    /// A challenge to user `user`, whether there is one or not.
    fn challenge(&self, user: &str, from: IpAddr) -> Result<Challenge, Problem> {
        let mut nonce = [0; 32];
        let random = getrandom::fill(&mut nonce);
        random.map_err(|e| Problem::internal(format!("there is no randomness: {e}")))?;
        let mut challenges = self.challenges.lock();
        let opened = challenges.open(&format!("user:{user}"), from, nonce, now());
        opened.map_err(|e| Problem::body(e.to_string()))
    }

    /// Whether `shown` proves that somebody at `from` is `user`.
    async fn prove(&self, user: &str, shown: Shown, from: IpAddr) -> Result<Proved, NotIn> {
        let begun = self.guard.lock().begin(user, from, now());
        if let Err(early) = begun {
            // Not logged: whoever floods the hub would flood the log.
            return Err(NotIn::TooEarly(early));
        }
        // Taken whatever comes of it, so that one challenge is one attempt.
        let challenge = match &shown {
            Shown::Signature(nonce, ..) => self.challenges.lock().take(nonce, now()),
            Shown::Password(..) => None,
        };
        let turn = self.turns.clone().acquire_owned();
        let turn = tokio::time::timeout(PATIENCE, turn).await;
        let Ok(Ok(turn)) = turn else {
            return Err(NotIn::Busy);
        };
        let (files, name) = (self.files.clone(), user.to_owned());
        let look = move || {
            // Held here, so that whoever hangs up does not make room for one more.
            let _turn = turn;
            verify(&files, &name, &shown, challenge.as_ref(), now())
        };
        match tokio::task::spawn_blocking(look).await {
            Ok(Ok(proved)) => {
                self.guard.lock().succeeded(user, from, now());
                Ok(proved)
            }
            Ok(Err(why)) => {
                let user = super::query::shortened(user);
                tracing::warn!(user, %from, %why, "wrong log-in at the HTTP face");
                Err(NotIn::Refused)
            }
            Err(_) => Err(NotIn::Busy),
        }
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
            asked: began,
        };
        let mut ended = Vec::new();
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

    /// When a session ends at the latest.
    fn until(&self, session: &Session) -> Nanos {
        let life = self.sessions.lock().limits().life.as_nanos();
        let life = Nanos::try_from(life).unwrap_or(Nanos::MAX);
        session.since.saturating_add(life)
    }
}

/// Reads the user's credentials, compares, and remembers a code as used. Blocking.
fn verify(
    files: &CredentialFiles,
    user: &str,
    shown: &Shown,
    challenge: Option<&Challenge>,
    now: Nanos,
) -> Result<Proved, Refused> {
    let credentials = files.load(user).unwrap_or_else(|error| {
        tracing::error!(%error, "a user's credentials cannot be read");
        None
    });
    let attempt = match (shown, challenge) {
        (Shown::Password(password, code), _) => Attempt::Password {
            password: password.as_bytes(),
            code: code.as_deref(),
        },
        (Shown::Signature(_, key, signature), Some(challenge)) => Attempt::Signature {
            challenge,
            key,
            signature,
        },
        (Shown::Signature(..), None) => return Err(Refused::Challenge),
    };
    let proved = verify_login(credentials.as_ref(), &attempt, now)?;
    if let Some(step) = proved.step {
        let new = files.use_step(user, step).unwrap_or_else(|error| {
            tracing::error!(%error, "that a code was used cannot be written, so nobody is let in");
            false
        });
        if !new {
            return Err(Refused::Code);
        }
    }
    Ok(proved)
}
