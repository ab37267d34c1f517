//! What sessions were begun by, certificates and passwords: a session is over when that is.

use super::callers::name_of;
use crate::protocols::log_in::LogInPort;
use chrono::Utc;
use opcua::crypto::X509;
use opcua::server::authenticator::UserToken;
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use weighbridge_verifier::Hash;

/// How long it may take from the log-in to the session that is begun by it.
const BEGINS_WITHIN: Duration = Duration::from_secs(60);

/// What somebody showed.
#[derive(Clone)]
pub(super) enum Shown {
    /// A certificate (DER) of one of the hub's users: the hub says whether it still holds.
    Hubs(Arc<dyn LogInPort>, Vec<u8>),
    /// One of this server's own.
    Own(Box<X509>),
    /// A password of one of the hub's users, by its mark.
    Password(Arc<dyn LogInPort>, Hash),
}

impl Shown {
    /// Whether `user` could log in by it now.
    async fn holds(&self, user: &str) -> bool {
        match self {
            Self::Hubs(desk, certificate) => desk.holds(user, certificate).await,
            Self::Own(certificate) => certificate.is_time_valid(&Utc::now()).is_ok(),
            Self::Password(desk, mark) => desk.has_password(user, mark).await,
        }
    }
}

/// What the users of open sessions showed, by the token that each of them got for it.
#[derive(Default)]
pub(super) struct ShownProofs(Mutex<HashMap<String, (Instant, Shown)>>);

impl ShownProofs {
    /// Somebody has shown it, and gets this token for it.
    pub(super) fn keep(&self, token: &UserToken, shown: Shown) {
        let kept = (Instant::now(), shown);
        self.0.lock().insert(token.0.clone(), kept);
    }

    /// The tokens among those in `open` that were given for what holds no more. What is neither open nor about
    /// to be is forgotten.
    pub(super) async fn over(&self, open: &BTreeSet<String>) -> BTreeSet<String> {
        let shown: Vec<_> = {
            let mut kept = self.0.lock();
            kept.retain(|token, (since, _)| {
                open.contains(token) || since.elapsed() < BEGINS_WITHIN
            });
            let shown = kept.iter().filter(|(token, _)| open.contains(*token));
            shown
                .map(|(t, (_, shown))| (t.clone(), shown.clone()))
                .collect()
        };
        let mut over = BTreeSet::new();
        for (token, shown) in shown {
            let token = UserToken(token);
            if !shown.holds(name_of(&token)).await {
                over.insert(token.0);
            }
        }
        over
    }
}
