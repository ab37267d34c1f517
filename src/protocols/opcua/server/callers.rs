//! Who asks, in the words of the house: the user of a session, with the roles that the configuration
//! gives them.

use super::config::{OpcUaServerConfig, UserConfig};
use crate::access::{Caller, Right, Role};
use opcua::server::authenticator::UserToken;
use opcua::server::node_manager::RequestContext;
use std::collections::BTreeMap;

/// What a token of a user with a certificate begins with, before the common name: so that a name in a
/// certificate is never taken for that of a user with a password.
const CERTIFICATE: &str = "certificate:";

/// The token of a user who logged in by certificate.
pub(super) fn certificate_token(common_name: &str) -> UserToken {
    UserToken(format!("{CERTIFICATE}{common_name}"))
}

/// The roles of the users.
pub(super) struct Callers {
    anonymous: Vec<Role>,
    /// By the stack's token.
    users: BTreeMap<String, Vec<Role>>,
}

impl Callers {
    pub(super) fn new(config: &OpcUaServerConfig) -> Self {
        let token = |user: &UserConfig| match user.certificate {
            true => certificate_token(&user.name).0,
            false => user.name.clone(),
        };
        let users = config.users.iter();
        Self {
            anonymous: config.anonymous_roles.clone(),
            users: users.map(|u| (token(u), u.roles.clone())).collect(),
        }
    }

    /// The caller of a request.
    pub(super) fn of(&self, context: &RequestContext) -> Caller {
        let token = context.user_token();
        let user = match token.is_anonymous() {
            true => "anonymous",
            false => token.0.strip_prefix(CERTIFICATE).unwrap_or(&token.0),
        };
        Caller {
            user: user.to_owned(),
            session: session_name(context.session_id()),
            roles: self.roles(token).to_vec(),
        }
    }

    /// Whether a user has a right.
    pub(super) fn may(&self, token: &UserToken, right: Right) -> bool {
        self.roles(token).iter().any(|role| role.carries(right))
    }

    /// What a user is.
    pub(super) fn roles(&self, token: &UserToken) -> &[Role] {
        match self.users.get(&token.0) {
            Some(roles) => roles,
            None if token.is_anonymous() => &self.anonymous,
            // Logged in by certificate and named nowhere else.
            None => &[Role::Observer],
        }
    }
}

/// A session's name, unique among all faces.
pub(super) fn session_name(id: u32) -> String {
    format!("opc.tcp {id}")
}
