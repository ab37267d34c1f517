//! How the set of hubs that sign becomes another one: a record in a block that the old set signed.
//!
//! The first block is signed by the hub that its first record enrols. From then on a rotation
//! that a hub of the set records of itself puts another key in place of the one it had: for
//! the records after it, and for the blocks after its own. So whoever trusts the first set can follow
//! the chain of records to any later one.

use crate::block::ValidatorSet;
use crate::record::{Action, Content, IdentityKind, RecordBody, Response};
use crate::signature::PublicKey;

/// A hub of the set has another key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// Its id.
    pub hub: String,
    /// The key it had.
    pub old: PublicKey,
    /// The key it has from now on.
    pub new: PublicKey,
}

/// What the record changes about `set`, the set in force before it.
pub fn key_change(set: &ValidatorSet, body: &RecordBody) -> Option<KeyChange> {
    let Content::Rotation(rotation) = &body.content else {
        return None;
    };
    let identity = &rotation.identity;
    let own = identity.kind == IdentityKind::Hub && identity.id == body.hub;
    let said = body.action == Action::Membership && body.response == Response::Accepted;
    if !own || !said {
        return None;
    }
    let known = set
        .get(&identity.id)
        .filter(|v| v.key == rotation.replaces)?;
    let new = identity.key.filter(|key| *key != known.key)?;
    Some(KeyChange {
        hub: identity.id.clone(),
        old: known.key,
        new,
    })
}

impl ValidatorSet {
    /// Makes a change.
    pub fn change(&mut self, change: &KeyChange) {
        let hub = self.validators.iter_mut().find(|v| v.id == change.hub);
        if let Some(hub) = hub {
            hub.key = change.new;
        }
    }
}
