//! Key generation centres and the keys that come of them: what must be shown before they count.

use super::super::facts::Derivation;
use super::super::shape::ApplyError;
use super::State;
use crate::crypto::guomi::centre::Centres;
use crate::crypto::guomi::recorded;
use std::collections::BTreeMap;
use weighbridge_verifier::{
    CentreShare, CentresContent, DerivedContent, IdentityKind, PublicKey, Suite,
};

impl State {
    /// All versions of the set of key generation centres.
    pub fn centres(&self) -> &BTreeMap<u32, Vec<CentreShare>> {
        &self.centres
    }

    /// From which point and version of the centres an identity's key is computed.
    pub fn derivations(&self) -> &BTreeMap<String, Derivation> {
        &self.derivations
    }

    fn set_of(&self, version: u32) -> Result<Centres, ApplyError> {
        let none = || ApplyError::Centres(format!("there is no version {version} of them"));
        let members = self.centres.get(&version).ok_or_else(none)?;
        recorded::centres(version, members).map_err(|e| ApplyError::Centres(e.to_string()))
    }

    pub(super) fn check_centres(&self, content: &CentresContent) -> Result<(), ApplyError> {
        let wrong = |why: String| Err(ApplyError::Centres(why));
        if self.suite != Suite::Guomi {
            return wrong(
                "certificateless keys are SM2 keys: the chain is not of suite `guomi`".into(),
            );
        }
        let newest = self.centres.last_key_value().map_or(0, |(v, _)| *v);
        let wanted = newest.checked_add(1).ok_or(ApplyError::Exhausted)?;
        if content.version != wanted {
            return wrong(format!(
                "version {} of the set came where version {wanted} was due",
                content.version
            ));
        }
        match recorded::centres(content.version, &content.members) {
            Ok(_) => Ok(()),
            Err(error) => wrong(error.to_string()),
        }
    }

    pub(super) fn check_derived(&self, derived: &DerivedContent) -> Result<(), ApplyError> {
        let identity = &derived.identity;
        let id = || identity.id.clone();
        let kind = match identity.kind {
            IdentityKind::Edge => "edge",
            IdentityKind::Device => "device",
            _ => return Err(ApplyError::Derived(id())),
        };
        let known = self.identities.get(&identity.id);
        match (known, derived.replaces) {
            (None, None) => {}
            (Some(_), None) => return Err(ApplyError::IdentityTaken(id())),
            (known, Some(replaces)) => {
                let known = known.filter(|k| !k.revoked && k.kind == identity.kind);
                let known = known.ok_or_else(|| ApplyError::UnknownIdentity(id()))?;
                if known.key != Some(replaces) {
                    return Err(ApplyError::Replaced(id()));
                }
            }
        }
        let key = identity.key.ok_or_else(|| ApplyError::Derived(id()))?;
        if let Some(owner) = self.owner(&key) {
            return Err(ApplyError::KeyTaken(id(), owner.to_owned()));
        }
        let set = self.set_of(derived.version)?;
        let computed = recorded::derive((&self.chain, kind, &identity.id), &set, &derived.declared);
        match computed == Some(key) {
            true => Ok(()),
            false => Err(ApplyError::Derived(id())),
        }
    }

    pub(super) fn enter_centres(&mut self, content: &CentresContent) {
        let centres = self.centres.change();
        centres.insert(content.version, content.members.clone());
    }

    pub(super) fn enter_derived(&mut self, derived: &DerivedContent) {
        let identity = &derived.identity;
        let entry = super::Identity {
            kind: identity.kind,
            key: identity.key,
            revoked: false,
        };
        self.identities.change().insert(identity.id.clone(), entry);
        let derivation = Derivation {
            version: derived.version,
            declared: derived.declared,
        };
        let derivations = self.derivations.change();
        derivations.insert(identity.id.clone(), derivation);
        if let (Some(old), Some(new)) = (derived.replaces, identity.key) {
            self.replace_key(&identity.id, old, new);
        }
    }

    /// The key of an identity is another one: the old one is remembered, and what it attested goes on.
    pub(super) fn replace_key(&mut self, id: &str, old: PublicKey, new: PublicKey) {
        let former = self.former_keys.change();
        former.entry(id.to_owned()).or_default().push(old);
        if self.attested.values().any(|of| of.contains_key(&old)) {
            for of in self.attested.change().values_mut() {
                if let Some(tip) = of.get(&old).copied() {
                    of.insert(new, tip);
                }
            }
        }
    }
}
