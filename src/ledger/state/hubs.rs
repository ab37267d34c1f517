//! Who is in the set of hubs: votes, and proof that one of them lied.
//!
//! They are counted by [`Succession`], which an auditor counts by, too. What is decided here beside it is
//! whose ids and keys hubs come with, and what becomes of their identities.

use super::super::shape::ApplyError;
use super::{Identity, State};
use weighbridge_verifier::succession::{SetChange, Succession, Votes};
use weighbridge_verifier::{
    Content, HubChange, HubVoteContent, IdentityKind, PublicKey, RecordBody, Validator,
};

impl State {
    /// Votes that have not changed the set yet: by the hub that is voted on, then by the hub that votes.
    pub fn votes(&self) -> &Votes {
        &self.votes
    }

    /// Whether this hub is in the set.
    pub fn is_member(&self, hub: &str) -> bool {
        self.validators().is_some_and(|set| set.get(hub).is_some())
    }

    fn succession(&self) -> Option<Succession> {
        let set = self.validators()?.clone();
        Some(Succession::from_parts(set, self.votes().clone()))
    }

    pub(super) fn check_membership(&self, body: &RecordBody) -> Result<(), ApplyError> {
        let unknown = || ApplyError::UnknownHub(body.hub.clone());
        self.succession().ok_or_else(unknown)?.check(body)?;
        match &body.content {
            Content::HubVote(vote) if vote.change != HubChange::Dismiss => self.check_comer(vote),
            _ => Ok(()),
        }
    }

    /// Who comes has an id and a key that nobody has or had; or it was enrolled as a hub with this very key. One
    /// that was dismissed comes back with another key.
    fn check_comer(&self, vote: &HubVoteContent) -> Result<(), ApplyError> {
        let id = || vote.hub.clone();
        if vote.key.suite() != self.suite {
            return Err(ApplyError::KeySuite(id(), self.suite));
        }
        let known = self.identities.get(&vote.hub);
        match known {
            Some(known) if known.kind != IdentityKind::Hub => Err(ApplyError::IdentityTaken(id())),
            Some(known) if !known.revoked => match known.key == Some(vote.key) {
                true => Ok(()),
                false => Err(ApplyError::Replaced(id())),
            },
            _ => match self.owner(&vote.key) {
                Some(owner) => Err(ApplyError::KeyTaken(id(), owner.to_owned())),
                None => Ok(()),
            },
        }
    }

    /// Counts a record that concerns the set, and enters what it changes.
    pub(super) fn enter_membership(&mut self, body: &RecordBody) {
        let Some(mut succession) = self.succession() else {
            return;
        };
        let change = succession.apply(body);
        let (set, votes) = succession.into_parts();
        if votes != *self.votes {
            *self.votes.change() = votes;
        }
        match change {
            // Who stands by has its identity already: nobody else may take its id or key meanwhile.
            Some(SetChange::Admitted(hub) | SetChange::StandsBy(hub)) => {
                *self.validators.change() = Some(set);
                self.enter_hub(&hub);
            }
            Some(
                SetChange::Dismissed(hub)
                | SetChange::Unlisted(hub)
                | SetChange::Replaced { gone: hub, .. },
            ) => {
                *self.validators.change() = Some(set);
                // Its records stand; it makes no more of them.
                if let Some(identity) = self.identities.change().get_mut(&hub.id) {
                    identity.revoked = true;
                }
            }
            Some(SetChange::Key(_)) | None => {}
        }
    }

    fn enter_hub(&mut self, hub: &Validator) {
        let before = self.identities.get(&hub.id).and_then(|known| known.key);
        let entry = Identity {
            kind: IdentityKind::Hub,
            key: Some(hub.key),
            revoked: false,
        };
        self.identities.change().insert(hub.id.clone(), entry);
        if let Some(old) = before.filter(|old: &PublicKey| *old != hub.key) {
            self.replace_key(&hub.id, old, hub.key);
        }
    }
}
