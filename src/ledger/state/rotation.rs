//! When an identity has another key: whose word that takes, and what follows from it.

use super::super::shape::ApplyError;
use super::State;
use weighbridge_verifier::{IdentityKind, PublicKey, RecordBody, RotationContent};

impl State {
    /// Keys that identities had before the ones they have, oldest first, by id.
    pub fn former_keys(&self, id: &str) -> &[PublicKey] {
        self.former_keys.get(id).map_or(&[], Vec::as_slice)
    }

    /// Whether a hub has another key than it began with.
    pub fn has_changed_hubs_keys(&self) -> bool {
        let mut changed = self.former_keys.keys();
        changed.any(|id| {
            let known = self.identities.get(id);
            known.is_some_and(|identity| identity.kind == IdentityKind::Hub)
        })
    }

    /// Whose key `key` was before it was replaced.
    pub(super) fn former_owner(&self, key: &PublicKey) -> Option<&str> {
        let mut owners = self.former_keys.iter();
        let owner = owners.find(|(_, keys)| keys.contains(key));
        owner.map(|(id, _)| id.as_str())
    }

    pub(super) fn owner(&self, key: &PublicKey) -> Option<&str> {
        let mut owners = self.identities.iter();
        let now = owners.find(|(_, identity)| identity.key.as_ref() == Some(key));
        now.map(|(id, _)| id.as_str())
            .or_else(|| self.former_owner(key))
    }

    /// All keys that the owner of `key` has, or had.
    pub(super) fn keys_with(&self, key: PublicKey) -> Vec<PublicKey> {
        let of_owner = |(id, former): (&String, &Vec<PublicKey>)| {
            let current = self.identities.get(id).and_then(|identity| identity.key);
            let all = former.iter().copied().chain(current);
            let all: Vec<_> = all.collect();
            all.contains(&key).then_some(all)
        };
        let all = self.former_keys.iter().find_map(of_owner);
        all.unwrap_or_else(|| vec![key])
    }

    pub(super) fn check_rotation(
        &self,
        body: &RecordBody,
        rotation: &RotationContent,
    ) -> Result<(), ApplyError> {
        let identity = &rotation.identity;
        let id = || identity.id.clone();
        let key = identity.key.ok_or_else(|| ApplyError::Replaced(id()))?;
        if key.suite() != self.suite {
            return Err(ApplyError::KeySuite(id(), self.suite));
        }
        let known = self.identities.get(&identity.id);
        let known = known.filter(|known| !known.revoked && known.kind == identity.kind);
        let known = known.ok_or_else(|| ApplyError::UnknownIdentity(id()))?;
        if known.key != Some(rotation.replaces) {
            return Err(ApplyError::Replaced(id()));
        }
        if let Some(owner) = self.owner(&key) {
            return Err(ApplyError::KeyTaken(id(), owner.to_owned()));
        }
        // The record is signed by the key that goes: nobody else may say so, and nothing more is needed.
        let hub = identity.kind == IdentityKind::Hub;
        if hub && (body.hub != identity.id || rotation.consent.is_some()) {
            return Err(ApplyError::Rotates(id()));
        }
        Ok(())
    }

    /// From the next record on the new key counts, and from the next block on in the validator set. What
    /// an attester had attested stays its own.
    pub(super) fn enter_rotation(&mut self, rotation: &RotationContent) {
        let (id, old) = (&rotation.identity.id, rotation.replaces);
        let Some(new) = rotation.identity.key else {
            return;
        };
        if let Some(identity) = self.identities.change().get_mut(id) {
            identity.key = Some(new);
        }
        self.replace_key(id, old, new);
        // It is computed from nothing any more.
        if self.derivations.contains_key(id) {
            self.derivations.change().remove(id);
        }
        let signs = self.validators().is_some_and(|set| set.get(id).is_some());
        if let Some(set) = self.validators.change().as_mut().filter(|_| signs) {
            let hubs = set.validators.iter_mut();
            hubs.filter(|v| v.id == *id).for_each(|v| v.key = new);
        }
    }
}
