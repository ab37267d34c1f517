//! Who asks, in the words of the house: the user of a session, with the roles that the configuration
//! gives them.

use super::config::OpcUaServerConfig;
use crate::access::{Caller, Role};
use opcua::server::ANONYMOUS_USER_TOKEN_ID;
use opcua::server::node_manager::RequestContext;
use std::collections::BTreeMap;

/// The roles of the users.
pub(super) struct Callers {
    anonymous: Vec<Role>,
    users: BTreeMap<String, Vec<Role>>,
}

impl Callers {
    pub(super) fn new(config: &OpcUaServerConfig) -> Self {
        let users = config.users.iter();
        Self {
            anonymous: config.anonymous_roles.clone(),
            users: users.map(|u| (u.name.clone(), u.roles.clone())).collect(),
        }
    }

    /// The caller of a request.
    pub(super) fn of(&self, context: &RequestContext) -> Caller {
        let user = &context.user_token().0;
        let anonymous = user == ANONYMOUS_USER_TOKEN_ID;
        let roles = match self.users.get(user) {
            Some(roles) => roles.clone(),
            None if anonymous => self.anonymous.clone(),
            // Logged in by certificate and named nowhere else.
            None => vec![Role::Observer],
        };
        Caller {
            user: match anonymous {
                true => "anonymous".to_owned(),
                false => user.clone(),
            },
            session: format!("opc.tcp {}", context.session_id()),
            roles,
        }
    }
}
