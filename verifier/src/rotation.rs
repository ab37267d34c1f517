//! Another key for an identity that has one.
//!
//! The new key signs that it takes the place of the old one, for this identity of this chain; the old one
//! signs the same, or, where it is the hub's own, the record. So the records of a hub's rotations lead
//! whoever trusts one of its keys to the next, without anything else of the chain.

use crate::codec::encode;
use crate::hash::Hash;
use crate::record::{Action, Content, IdentityContent, IdentityKind, Record, Response};
use crate::signature::{PublicKey, Signature, SignatureCheck, SignatureError};
use crate::suite::Suite;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

const ROTATION_DOMAIN: &[u8] = b"weighbridge/rotation/v1\0";

/// Most rotations that are followed at once.
pub const MAX_ROTATIONS: usize = 4_096;

/// An identity's next key.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotationContent {
    /// The identity, with its new key.
    pub identity: IdentityContent,
    /// The key that it had.
    pub replaces: PublicKey,
    /// The new key's signature over [`rotation_message`]: whoever has it is there.
    pub proof: Signature,
    /// The old key's signature over the same. `None` of a hub, whose old key signs the record, and where
    /// the old key is lost and the hub says who has the new one.
    pub consent: Option<Signature>,
}

/// What both keys sign.
pub fn rotation_message(
    suite: Suite,
    chain: &str,
    identity: &IdentityContent,
    replaces: &PublicKey,
) -> Hash {
    suite.hash(&[ROTATION_DOMAIN, &encode(&(chain, identity, replaces))])
}

impl RotationContent {
    /// Checks the signatures by both keys, as far as they are there.
    pub fn verify_with(
        &self,
        suite: Suite,
        chain: &str,
        check: &dyn SignatureCheck,
    ) -> Result<(), SignatureError> {
        let key = self.identity.key.ok_or(SignatureError::Key)?;
        key.check_suite(suite)?;
        self.replaces.check_suite(suite)?;
        let message = rotation_message(suite, chain, &self.identity, &self.replaces);
        check.check(&key, &message, &self.proof)?;
        match &self.consent {
            Some(consent) => check.check(&self.replaces, &message, consent),
            None => Ok(()),
        }
    }
}

/// The rotation of a hub's own key that `record` is, with the key that it brings.
pub fn of_hub(record: &Record) -> Option<(&RotationContent, PublicKey)> {
    let body = &record.body;
    let Content::Rotation(rotation) = &body.content else {
        return None;
    };
    let identity = &rotation.identity;
    let own = identity.kind == IdentityKind::Hub && identity.id == body.hub;
    let said = body.action == Action::Membership && body.response == Response::Accepted;
    let key = identity.key.filter(|_| own && said)?;
    Some((rotation, key))
}

/// Why rotations do not lead on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RotationError {
    /// One of the records is none of a hub's rotation.
    #[error("record {0} is no rotation of a hub's key")]
    Other(usize),
    /// They are not of one hub of one chain.
    #[error("record {0} is of another hub or chain")]
    Hub(usize),
    /// A signature is wrong.
    #[error("record {index} does not hold: {why}")]
    Signature {
        /// Which, from 0.
        index: usize,
        /// Why.
        why: SignatureError,
    },
    /// None of them begins at the key that is trusted.
    #[error("none of them takes the place of the key {0}")]
    Unknown(PublicKey),
    /// There are too many.
    #[error("there are more than {MAX_ROTATIONS} of them")]
    TooMany,
}

/// The key that has taken the place of `trusted`, by `records` of the rotations of one hub in their order;
/// `trusted` itself when there is none. Those before `trusted` came are left out.
pub fn follow(
    trusted: PublicKey,
    records: &[Record],
    check: &dyn SignatureCheck,
) -> Result<PublicKey, RotationError> {
    if records.len() > MAX_ROTATIONS {
        return Err(RotationError::TooMany);
    }
    let mut key = trusted;
    let mut of: Option<(&str, &str)> = None;
    for (index, record) in records.iter().enumerate() {
        let (rotation, next) = of_hub(record).ok_or(RotationError::Other(index))?;
        let body = &record.body;
        let place = (&*body.chain, &*body.hub);
        if *of.get_or_insert(place) != place {
            return Err(RotationError::Hub(index));
        }
        if rotation.replaces != key {
            continue;
        }
        let wrong = |why| RotationError::Signature { index, why };
        record.verify_with(&key, check).map_err(wrong)?;
        key = next;
    }
    match key == trusted && !records.is_empty() {
        true => Err(RotationError::Unknown(trusted)),
        false => Ok(key),
    }
}
