//! How the set of hubs that sign becomes another one: a record in a block that the old set signed.
//!
//! The first block is signed by the hub that its first record enrols. From then on a `membership`
//! record about a hub of the set, with another key, puts that key in place of the hub's old one: for
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
    let Content::Identity(identity) = &body.content else {
        return None;
    };
    let said = body.action == Action::Membership && body.response == Response::Accepted;
    if !said || identity.kind != IdentityKind::Hub {
        return None;
    }
    let known = set.get(&identity.id)?;
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
