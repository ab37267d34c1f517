//! Which sealing key a hub has by now, for edge nodes and other hubs that know it by keys that it had before.
//!
//! The hub's signing key vouches for it, and the records by which the hub has that one come along. So an edge node
//! checks it against the one key that its configuration names, now and at every start.

use super::identity::Identity;
use super::introduction::{Introduction, IntroductionError};
use super::signer::Signer;
use borsh::{BorshDeserialize, BorshSerialize};
use weighbridge_verifier::{Hash, PublicKey, Record, Signature, SignatureCheck, decode, encode};

const SEALING_DOMAIN: &[u8] = b"weighbridge/sealing/v1\0";

/// A hub's word for its sealing key.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SealingWord {
    /// Who the hub is by now.
    pub introduction: Introduction,
    /// What uploads are to be sealed to.
    pub sealing: PublicKey,
    /// Its newest key's signature over that one.
    pub vouch: Signature,
}

fn sealing_message(own: &PublicKey, sealing: &PublicKey) -> Hash {
    own.suite()
        .hash(&[SEALING_DOMAIN, &encode(&(own, sealing))])
}

impl SealingWord {
    /// Of the hub with this key, which has it by the `records` that are its own.
    pub fn of(identity: &Identity, records: &[Record], sealing: PublicKey) -> Self {
        Self {
            introduction: Introduction::of(identity, records),
            sealing,
            vouch: identity.sign(&sealing_message(&identity.public_key(), &sealing)),
        }
    }

    /// The sealing key of the hub that was known by `trusted`.
    pub fn verify(
        &self,
        trusted: PublicKey,
        check: &dyn SignatureCheck,
    ) -> Result<PublicKey, IntroductionError> {
        let own = self.introduction.verify(trusted, check)?.own;
        let message = sealing_message(&own, &self.sealing);
        let vouched = check.check(&own, &message, &self.vouch);
        vouched.map_err(IntroductionError::Link)?;
        if self.sealing.suite() != own.suite() {
            let why = "its sealing key is of another suite than its signing key";
            return Err(IntroductionError::Read(why.to_owned()));
        }
        Ok(self.sealing)
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, IntroductionError> {
        decode("sealing key of a hub", bytes).map_err(|e| IntroductionError::Read(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SealingKey;
    use weighbridge_verifier::{KeyCache, Suite};

    #[test]
    fn only_the_hub_that_is_known_says_what_its_sealing_key_is() {
        for suite in Suite::ALL {
            let hub = Identity::from_byte_of(suite, "hub-1", 1);
            let stranger = Identity::from_byte_of(suite, "hub-1", 2);
            let sealing = SealingKey::generate_of(suite).public().compressed();
            let other = SealingKey::generate_of(suite).public().compressed();
            let word = SealingWord::of(&hub, &[], sealing);
            let check = KeyCache::default();
            let read = SealingWord::from_bytes(&word.to_bytes()).unwrap();
            assert_eq!(read, word);
            assert_eq!(read.verify(hub.public_key(), &check).unwrap(), sealing);
            assert!(read.verify(stranger.public_key(), &check).is_err());
            let mut changed = word.clone();
            changed.sealing = other;
            assert!(changed.verify(hub.public_key(), &check).is_err());
            // A signature over a key for TLS is none over one to seal to.
            let mut moved = word.clone();
            moved.sealing = word.introduction.link;
            moved.vouch = word.introduction.vouch;
            assert!(moved.verify(hub.public_key(), &check).is_err());
            let foreign = Suite::ALL
                .into_iter()
                .find(|other| *other != suite)
                .unwrap();
            let foreign = SealingKey::generate_of(foreign).public().compressed();
            let word = SealingWord::of(&hub, &[], foreign);
            assert!(word.verify(hub.public_key(), &check).is_err());
        }
    }
}
