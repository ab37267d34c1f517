//! Key generation centres, and identities whose keys are derived from theirs (GM/T 0130).
//!
//! A set of centres is recorded openly, version by version: each centre's public share, and that it knows
//! the share. A certificateless key is recorded with the point from which anyone computes it, so it can be
//! compared with the master key of that version; the computing itself is the hub's.

use crate::codec::encode;
use crate::hash::Hash;
use crate::record::IdentityContent;
use crate::signature::{PublicKey, Signature, SignatureCheck, SignatureError};
use crate::suite::Suite;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

const DERIVED_DOMAIN: &[u8] = b"weighbridge/derived/v1\0";

/// A centre of a set.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CentreShare {
    /// Its name.
    pub name: String,
    /// Its public share of the master key.
    pub public: PublicKey,
    /// Of the proof that it knows the share: the point that it committed to.
    pub commitment: PublicKey,
    /// And its response, a number of 32 bytes, the most significant first.
    pub response: Hash,
}

/// A version of the set of centres.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CentresContent {
    /// Which, from 1.
    pub version: u32,
    /// The centres, by name.
    pub members: Vec<CentreShare>,
}

/// An identity with a certificateless key.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DerivedContent {
    /// The identity, with its key.
    pub identity: IdentityContent,
    /// Version of the centres that helped to make it.
    pub version: u32,
    /// The declared point W, from which anyone computes the key.
    pub declared: PublicKey,
    /// The key that it had, where it takes the place of another.
    pub replaces: Option<PublicKey>,
    /// The key's own signature over [`derived_message`]: whoever has it is there.
    pub proof: Signature,
    /// The signature of the key that it had, if that is not lost.
    pub consent: Option<Signature>,
}

/// The name that a certificateless key is made for: of one identity of one chain.
pub fn derived_name(chain: &str, kind: &str, id: &str) -> String {
    format!("{chain}/{kind}:{id}")
}

/// What the keys sign.
pub fn derived_message(suite: Suite, chain: &str, derived: &DerivedContent) -> Hash {
    let what = (&derived.identity, derived.version, &derived.declared);
    let said = encode(&(chain, what, &derived.replaces));
    suite.hash(&[DERIVED_DOMAIN, &said])
}

impl DerivedContent {
    /// Checks the signatures by the keys.
    pub fn verify_with(
        &self,
        suite: Suite,
        chain: &str,
        check: &dyn SignatureCheck,
    ) -> Result<(), SignatureError> {
        let key = self.identity.key.ok_or(SignatureError::Key)?;
        key.check_suite(suite)?;
        let message = derived_message(suite, chain, self);
        check.check(&key, &message, &self.proof)?;
        match (&self.replaces, &self.consent) {
            (Some(before), Some(consent)) => check.check(before, &message, consent),
            (None, Some(_)) => Err(SignatureError::Mismatch),
            (_, None) => Ok(()),
        }
    }
}
