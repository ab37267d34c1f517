//! Who a hub is by now, for those who know it by a key that it had before.
//!
//! An edge node that meets another key than it knows asks for this, over a connection on which it says
//! nothing else. It goes from the key that it knows by the records of the ledger in which each key gives
//! the hub the next one, and the last of them vouches for the key that the hub shows in TLS. Without them
//! a new key would be a stranger's, and is taken for one.

use super::identity::{Identity, PeerKey};
use super::signer::Signer;
use borsh::{BorshDeserialize, BorshSerialize};
use weighbridge_verifier::rotation::{self, RotationError};
use weighbridge_verifier::{
    Hash, PublicKey, Record, Signature, SignatureCheck, SignatureError, decode, encode,
};

const LINK_DOMAIN: &[u8] = b"weighbridge/link/v1\0";

/// By which records a hub has the key that it has.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Introduction {
    /// The rotations of its key, in order.
    pub records: Vec<Record>,
    /// The key that it shows in TLS.
    pub link: PublicKey,
    /// Its newest key's signature over that one.
    pub vouch: Signature,
}

/// Why an introduction is not believed.
#[derive(Debug, thiserror::Error)]
pub enum IntroductionError {
    /// It cannot be read.
    #[error("who it is cannot be read: {0}")]
    Read(String),
    /// Its records do not lead from the key that is known.
    #[error(transparent)]
    Rotation(#[from] RotationError),
    /// Its newest key does not vouch for the one that it shows.
    #[error("its key does not vouch for the one that it shows: {0}")]
    Link(SignatureError),
}

fn link_message(own: &PublicKey, link: &PublicKey) -> Hash {
    own.suite().hash(&[LINK_DOMAIN, &encode(&(own, link))])
}

impl Introduction {
    /// Of the hub with this key, which has it by the `records` that are its own.
    pub fn of(identity: &Identity, records: &[Record]) -> Self {
        let link = identity.peer_key().link;
        let own = |record: &&Record| record.body.hub == identity.id();
        Self {
            records: records.iter().filter(own).cloned().collect(),
            link,
            vouch: identity.sign(&link_message(&identity.public_key(), &link)),
        }
    }

    /// The keys of the hub that was known by `trusted`.
    pub fn verify(
        &self,
        trusted: PublicKey,
        check: &dyn SignatureCheck,
    ) -> Result<PeerKey, IntroductionError> {
        let own = rotation::follow(trusted, &self.records, check)?;
        let message = link_message(&own, &self.link);
        let vouched = check.check(&own, &message, &self.vouch);
        vouched.map_err(IntroductionError::Link)?;
        let link = self.link;
        Ok(PeerKey { own, link })
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, IntroductionError> {
        decode("introduction", bytes).map_err(|e| IntroductionError::Read(e.to_string()))
    }
}
