//! Who asks, in the words of the house: the user of a session.

use crate::access::{Caller, Right, Role};
use crate::model::now;
use crate::protocols::ports::AccessPort;
use opcua::server::authenticator::UserToken;
use opcua::server::node_manager::RequestContext;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a token of a user with a certificate begins with, before the common name: so that a name in a
/// certificate is never taken for that of a user with a password.
const CERTIFICATE: &str = "certificate:";

/// What stands in a token between a name and what was shown for it: no name has it.
const BY: char = '\u{1f}';

/// The token of a user who logged in by certificate.
pub(super) fn certificate_token(common_name: &str) -> UserToken {
    UserToken(format!("{CERTIFICATE}{common_name}"))
}

/// The token of the same user by this certificate or password: sessions that were begun by others have other tokens.
pub(super) fn token_by(user: UserToken, shown: &str) -> UserToken {
    UserToken(format!("{}{BY}{shown}", user.0))
}

/// A token without what was shown for it.
pub(super) fn name_of(token: &UserToken) -> &str {
    let name = token.0.split_once(BY).map(|(name, _)| name);
    name.unwrap_or(&token.0)
}

/// The user of anonymous sessions.
pub(super) const ANONYMOUS: &str = "anonymous";

/// Who the users are.
pub(super) struct Callers {
    /// Of users who log in by certificate: the names that the configuration knows.
    certified: BTreeSet<String>,
    access: Arc<dyn AccessPort>,
}

impl Callers {
    /// Callers of whom those named in `certified` log in by certificate.
    pub(super) fn new(certified: BTreeSet<String>, access: Arc<dyn AccessPort>) -> Self {
        Self { certified, access }
    }

    /// What decides, and lets in.
    pub(super) fn access(&self) -> &Arc<dyn AccessPort> {
        &self.access
    }

    /// The caller of a request.
    pub(super) fn of(&self, context: &RequestContext) -> Caller {
        Caller::new(
            self.user(context.user_token()).into_owned(),
            session_name(context.session_id()),
        )
    }

    /// The user of a token. Somebody whose certificate the configuration does not name keeps what tells
    /// them from a user with a password.
    pub(super) fn user<'a>(&self, token: &'a UserToken) -> Cow<'a, str> {
        if token.is_anonymous() {
            return ANONYMOUS.into();
        }
        let named = name_of(token);
        match named.strip_prefix(CERTIFICATE) {
            Some(name) if self.certified.contains(name) => name.into(),
            _ => named.into(),
        }
    }

    /// Whether a user has a right on anything at all.
    pub(super) fn may(&self, token: &UserToken, right: Right) -> bool {
        self.access
            .gate()
            .somewhere(&self.user(token), right, now())
    }

    /// Those of a user's roles that every site has.
    pub(super) fn roles(&self, token: &UserToken) -> Vec<Role> {
        let named = self.access.gate().roles(&self.user(token));
        let has = |role: &Role| named.iter().any(|name| name == role.name());
        Role::ALL.into_iter().filter(has).collect()
    }
}

/// A session's name, unique among all faces.
pub(super) fn session_name(id: u32) -> String {
    format!("opc.tcp {id}")
}
