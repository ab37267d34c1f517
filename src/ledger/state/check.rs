//! What may come next in a chain.

use super::super::facts::{HubTip, Identity};
use super::super::shape::{ApplyError, check_shape};
use super::State;
use weighbridge_verifier::{
    Action, BatchContent, Content, DocumentContent, IdentityContent, IdentityKind, PublicKey,
    RecordBody,
};

impl State {
    /// Whether `body` may come next.
    pub(super) fn check(&self, body: &RecordBody) -> Result<(), ApplyError> {
        check_shape(self.suite, body)?;
        if body.chain != **self.chain {
            return Err(ApplyError::Chain(body.chain.clone()));
        }
        if self.identities.is_empty() {
            genesis_key(body)?;
        }
        self.check_hub_chain(body)?;
        self.check_purpose(&body.content)?;
        match &body.content {
            Content::Batch(batch) => self.check_batch(&body.hub, batch),
            Content::Document(document) => self.check_document(&body.object, document),
            Content::Identity(identity) => self.check_identity(body.action, identity),
            Content::Rotation(rotation) => self.check_rotation(body, rotation),
            Content::Centres(centres) => self.check_centres(centres),
            Content::Derived(derived) => self.check_derived(derived),
            Content::HubVote(_) | Content::Equivocation(_) => self.check_membership(body),
            Content::Lease(lease) => self.check_lease(body, lease),
            Content::Anchor(anchor) => self.check_anchor(anchor),
            Content::Exchange(said) => self.check_exchange(said),
            Content::Commitment(_) | Content::Message(_) => Ok(()),
        }
    }

    fn check_hub_chain(&self, body: &RecordBody) -> Result<(), ApplyError> {
        if self.validators().is_some() && !self.is_member(&body.hub) {
            return Err(ApplyError::UnknownHub(body.hub.clone()));
        }
        let tip = self.hubs.get(&body.hub).unwrap_or(&HubTip::NONE);
        let wanted = tip.sequence.checked_add(1).ok_or(ApplyError::Exhausted)?;
        if body.sequence != wanted {
            return Err(ApplyError::Sequence {
                hub: body.hub.clone(),
                wanted,
                got: body.sequence,
            });
        }
        if body.previous != tip.hash {
            return Err(ApplyError::Previous(body.hub.clone()));
        }
        if body.time < tip.time {
            return Err(ApplyError::Time(body.hub.clone()));
        }
        Ok(())
    }

    pub(super) fn check_batch(&self, hub: &str, batch: &BatchContent) -> Result<(), ApplyError> {
        self.check_turn(hub, batch)?;
        let Some(attester) = &batch.attester else {
            return Ok(());
        };
        let entitled = |(id, identity): (&String, &Identity)| {
            let itself = identity.kind == IdentityKind::Device && *id == batch.device;
            let edge = identity.kind == IdentityKind::Edge;
            // What was signed before a key was replaced may come after.
            let own =
                identity.key == Some(attester.key) || self.former_keys(id).contains(&attester.key);
            !identity.revoked && own && (itself || edge)
        };
        if self.identities.iter().any(entitled) {
            return Ok(());
        }
        Err(ApplyError::Attester(batch.device.clone()))
    }

    fn check_document(&self, object: &str, document: &DocumentContent) -> Result<(), ApplyError> {
        let version = self
            .document(object, &document.kind)
            .map_or(0, |d| d.version);
        let wanted = version.checked_add(1).ok_or(ApplyError::Exhausted)?;
        if document.version == wanted {
            return Ok(());
        }
        Err(ApplyError::DocumentVersion {
            object: object.to_owned(),
            kind: document.kind.clone(),
            wanted,
            got: document.version,
        })
    }

    fn check_identity(&self, action: Action, identity: &IdentityContent) -> Result<(), ApplyError> {
        let other_suite = |key: &PublicKey| key.suite() != self.suite;
        if identity.key.as_ref().is_some_and(other_suite) {
            return Err(ApplyError::KeySuite(identity.id.clone(), self.suite));
        }
        let known = self.identities.get(&identity.id);
        let id = || identity.id.clone();
        match (action, known) {
            (Action::Revoke, None) => Err(ApplyError::UnknownIdentity(id())),
            (Action::Revoke, Some(known)) => {
                let same = known.kind == identity.kind && known.key == identity.key;
                let validator = self
                    .validators()
                    .is_some_and(|v| v.all().any(|hub| hub.id == identity.id));
                if known.revoked || !same {
                    return Err(ApplyError::UnknownIdentity(id()));
                }
                // A hub that signs blocks leaves by a vote, or nobody could sign the next block.
                if validator {
                    return Err(ApplyError::RevokesValidator(id()));
                }
                Ok(())
            }
            (_, Some(_)) => Err(ApplyError::IdentityTaken(id())),
            (_, None) => match identity.key.and_then(|key| self.former_owner(&key)) {
                Some(owner) => Err(ApplyError::KeyTaken(id(), owner.to_owned())),
                None => Ok(()),
            },
        }
    }
}

/// The key of the hub that the first record enrols: itself.
pub(super) fn genesis_key(body: &RecordBody) -> Result<PublicKey, ApplyError> {
    match &body.content {
        Content::Identity(identity)
            if body.action == Action::Enrol
                && identity.kind == IdentityKind::Hub
                && identity.id == body.hub =>
        {
            identity.key.ok_or(ApplyError::Genesis)
        }
        _ => Err(ApplyError::Genesis),
    }
}
