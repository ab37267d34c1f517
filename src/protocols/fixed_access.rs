//! Access for a face without a hub behind it: users are what they are said to be, and nothing is recorded.

use super::ports::{AccessError, AccessPort};
use crate::access::{AccessState, Caller, Change, Declared, Gate, Mode, Permit, Role, reconcile};
use crate::model::{Nanos, now};
use async_trait::async_trait;
use std::sync::Arc;
use weighbridge_verifier::IdentityKind;

/// Whom a face knows, when that never changes.
pub struct FixedAccess(Gate);

impl FixedAccess {
    /// These users with their roles, and permits without an end.
    ///
    /// # Errors
    /// When a user's name is empty or too long.
    pub fn new(users: &[(String, Vec<Role>)]) -> Result<Arc<Self>, AccessError> {
        let gate = Gate::new("alone", AccessState::default());
        let mut declared: Declared = users
            .iter()
            .map(|(user, roles)| {
                let roles = roles.iter().map(|role| role.name().to_owned()).collect();
                (format!("user:{user}"), (IdentityKind::User, roles))
            })
            .collect();
        declared.insert(gate.hub().to_owned(), (IdentityKind::Hub, [].into()));
        let mut state = AccessState::default();
        let mut changes = reconcile(&state, &[], &declared);
        let permit = Permit {
            from: 0,
            until: Nanos::MAX,
        };
        for id in declared.into_keys() {
            let permit = |mode| Change::Permit(id.clone(), mode, Some(permit));
            changes.extend(Mode::ALL.map(permit));
        }
        for change in changes {
            let made = state.apply(change);
            made.map_err(|error| AccessError::Impossible(error.to_string()))?;
        }
        gate.set(Arc::new(state));
        Ok(Arc::new(Self(gate)))
    }
}

#[async_trait]
impl AccessPort for FixedAccess {
    fn gate(&self) -> &Gate {
        &self.0
    }

    async fn admit(&self, user: &str, face: &str) -> Result<(), AccessError> {
        let state = self.0.state();
        let admitted = state.admits(&format!("user:{user}"), now());
        admitted.map(|_| ()).map_err(|denied| {
            tracing::warn!(user, face, %denied, "a user was not let in");
            AccessError::Denied("the user may not come in".to_owned())
        })
    }

    async fn change(&self, _: &Caller, _: Vec<Change>) -> Result<(), AccessError> {
        let why = "who may what is fixed here".to_owned();
        Err(AccessError::Impossible(why))
    }
}
