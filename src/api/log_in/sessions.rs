//! The sessions of users who logged in: a bounded table, which knows of a token only its hash.

use crate::model::Nanos;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use weighbridge_verifier::Hash;

/// How long a session lives, and how many there are.
#[derive(Clone, Copy, Debug)]
pub(in crate::api) struct SessionLimits {
    /// Whatever is done in it, it ends after this time.
    pub(in crate::api) life: Duration,
    /// It ends when for so long nothing was asked.
    pub(in crate::api) idle: Duration,
    /// Most of one user; the one that rested longest makes room for another.
    pub(in crate::api) each: usize,
    /// Most of all users.
    pub(in crate::api) all: usize,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            life: Duration::from_secs(12 * 3600),
            idle: Duration::from_secs(30 * 60),
            each: 16,
            all: 512,
        }
    }
}

/// Somebody who logged in.
#[derive(Clone, Debug)]
pub(in crate::api) struct Session {
    /// What records call it; says nothing of its token.
    pub(in crate::api) name: String,
    /// Who.
    pub(in crate::api) user: String,
    /// How they proved it.
    pub(in crate::api) method: &'static str,
    /// When, for people.
    pub(in crate::api) since: Nanos,
    /// When, on a clock that nobody sets.
    pub(in crate::api) began: Instant,
    /// Whatever is done in it, it ends after this time: that of all sessions, or sooner with the certificate.
    pub(in crate::api) life: Duration,
    /// When something was asked last.
    pub(in crate::api) asked: Instant,
}

/// The table.
#[derive(Debug)]
pub(super) struct Sessions {
    limits: SessionLimits,
    open: BTreeMap<Hash, Session>,
}

impl Sessions {
    pub(super) fn new(limits: SessionLimits) -> Self {
        Self {
            limits,
            open: BTreeMap::new(),
        }
    }

    pub(super) fn limits(&self) -> &SessionLimits {
        &self.limits
    }

    fn is_over(&self, session: &Session, now: Instant) -> bool {
        let since = |then| now.saturating_duration_since(then);
        since(session.began) >= session.life || since(session.asked) >= self.limits.idle
    }

    /// Opens `session` by the token of this hash; `false` when there is no room. `ended` is told of those
    /// that are over or make room.
    pub(super) fn open(&mut self, token: Hash, session: Session, ended: &mut Vec<Session>) -> bool {
        let now = session.began;
        let over = |(token, s): (&Hash, &Session)| self.is_over(s, now).then_some(*token);
        let over: Vec<_> = self.open.iter().filter_map(over).collect();
        ended.extend(over.iter().filter_map(|token| self.open.remove(token)));
        let own = self.open.iter().filter(|(_, s)| s.user == session.user);
        let own: Vec<_> = own.map(|(token, s)| (s.asked, *token)).collect();
        if own.len() >= self.limits.each {
            let oldest = own.into_iter().min().map(|(_, token)| token);
            ended.extend(oldest.and_then(|token| self.open.remove(&token)));
        }
        if self.open.len() >= self.limits.all {
            return false;
        }
        self.open.insert(token, session);
        true
    }

    /// Ends the session of `user` that rested longest; it, if there was one.
    pub(super) fn make_room(&mut self, user: &str) -> Option<Session> {
        let own = self.open.iter().filter(|(_, s)| s.user == user);
        let oldest = own.min_by_key(|(_, s)| s.asked).map(|(token, _)| *token);
        self.open.remove(&oldest?)
    }

    /// Something is asked by the token of this hash: its session, if it has one that is not over.
    pub(super) fn asked(&mut self, token: &Hash, now: Instant) -> Option<Session> {
        if !self.holds(token, now) {
            return None;
        }
        let session = self.open.get_mut(token)?;
        session.asked = now;
        Some(session.clone())
    }

    /// Whether the token of this hash has a session that is not over; that is not asking.
    pub(super) fn holds(&self, token: &Hash, now: Instant) -> bool {
        let session = self.open.get(token);
        session.is_some_and(|session| !self.is_over(session, now))
    }

    /// The name of the session of this token, if it is not over.
    pub(super) fn name(&self, token: &Hash, now: Instant) -> Option<String> {
        let session = self.open.get(token).filter(|s| !self.is_over(s, now));
        session.map(|session| session.name.clone())
    }

    /// Ends a session.
    pub(super) fn end(&mut self, token: &Hash) -> Option<Session> {
        self.open.remove(token)
    }

    /// Ends the sessions of `user`, but that of the token `keep`; them.
    pub(super) fn end_all(&mut self, user: &str, keep: Option<&Hash>) -> Vec<Session> {
        let of = |(token, s): (&Hash, &Session)| s.user == user && Some(token) != keep;
        let ended: Vec<_> = self
            .open
            .extract_if(.., |token, s| of((token, s)))
            .collect();
        ended.into_iter().map(|(_, session)| session).collect()
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: SessionLimits = SessionLimits {
        life: Duration::from_secs(100),
        idle: Duration::from_secs(10),
        each: 2,
        all: 3,
    };

    fn session(user: &str, now: Instant) -> Session {
        Session {
            name: format!("http {user}"),
            user: user.into(),
            method: "password",
            since: 0,
            began: now,
            life: LIMITS.life,
            asked: now,
        }
    }

    #[test]
    fn a_session_ends_by_rest_by_age_and_by_log_out() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut sessions = Sessions::new(LIMITS);
        let mut ended = Vec::new();
        let token = Hash([1; 32]);
        assert!(sessions.open(token, session("ann", start), &mut ended));
        assert!(sessions.asked(&token, at(9)).is_some());
        assert!(sessions.asked(&token, at(18)).is_some());
        assert!(sessions.holds(&token, at(27)));
        assert!(
            sessions.asked(&token, at(28)).is_none(),
            "looking is not asking"
        );
        for second in (18..100).step_by(9) {
            assert!(sessions.asked(&token, at(second)).is_some(), "{second}");
        }
        assert!(sessions.asked(&token, at(100)).is_none());
        assert!(sessions.asked(&Hash([2; 32]), start).is_none());
        let other = Hash([3; 32]);
        assert!(sessions.open(other, session("ann", at(100)), &mut ended));
        assert_eq!((ended.len(), sessions.count()), (1, 1));
        assert_eq!(sessions.end(&other).unwrap().user, "ann");
        assert!(sessions.asked(&other, at(100)).is_none());
        // One by a certificate that ends sooner.
        let short = Session {
            life: Duration::from_secs(5),
            ..session("kim", at(100))
        };
        assert!(sessions.open(other, short, &mut ended));
        assert!(sessions.holds(&other, at(104)) && !sessions.holds(&other, at(105)));
    }

    #[test]
    fn a_user_has_so_many_and_all_have_so_many() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut sessions = Sessions::new(LIMITS);
        let mut ended = Vec::new();
        let token = |n| Hash([n; 32]);
        assert!(sessions.open(token(1), session("ann", at(0)), &mut ended));
        assert!(sessions.open(token(2), session("ann", at(1)), &mut ended));
        assert!(sessions.asked(&token(1), at(2)).is_some());
        assert!(sessions.open(token(3), session("ann", at(3)), &mut ended));
        assert_eq!(ended.len(), 1);
        assert!(sessions.holds(&token(1), at(3)) && !sessions.holds(&token(2), at(3)));
        assert!(sessions.open(token(4), session("bob", at(3)), &mut ended));
        assert!(!sessions.open(token(5), session("eve", at(3)), &mut ended));
        assert_eq!((ended.len(), sessions.count()), (1, 3));
    }
}
