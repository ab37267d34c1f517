//! A release (Wan et al. 2019, Algorithm 2): a copy at the user's level, encrypted to the user's public key.
//!
//! Each copy has a content key of its own, made as a key of an epoch is, for the object `release:` and a random
//! number; it is wrapped to the user by HPKE or SM2 and forgotten. What the record of the hub names is a hash
//! over all of the envelope.

use super::copy::Copied;
use super::{ReadingError, calls_itself, form};
use crate::crypto::{EpochKey, OpenError, SealingKey, SealingPublicKey, WrappedKey};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use weighbridge_verifier::evidence::{Evidence, Trust};
use weighbridge_verifier::{Content, Hash, PublicKey, Suite, encode};

/// What the file calls itself.
const FORMAT: &str = "weighbridge-release/1";
/// Kind of the hub's record of a release.
pub const RELEASE: &str = "release";
const DOMAIN: &[u8] = b"weighbridge/release/v1\0";
/// A content key seals one message.
const EPOCH: u64 = 1;

/// A copy that only one user opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedCopy {
    /// What the content key belongs to: `release:` and a number.
    pub object: String,
    /// The content key, wrapped to the user.
    pub wrapped: WrappedKey,
    /// The copy, sealed under it.
    pub sealed: Vec<u8>,
}

impl SealedCopy {
    /// Seals `copied` for the owner of `to`; `number` is random.
    pub fn seal(
        to: &SealingPublicKey,
        number: [u8; 16],
        copied: &Copied,
    ) -> Result<Self, Releasing> {
        let object = format!("release:{}", data_encoding::HEXLOWER.encode(&number));
        let key = EpochKey::generate(to.suite(), &object, EPOCH).map_err(Releasing::Random)?;
        let wrapped = to.wrap(&key).map_err(Releasing::Key)?;
        let sealed = key.seal(key.next_message(), &copied.to_bytes());
        Ok(Self {
            object,
            wrapped,
            sealed,
        })
    }

    /// What the record names.
    pub fn hash(&self, suite: Suite) -> Hash {
        let Self {
            object,
            wrapped,
            sealed,
        } = self;
        suite.hash(&[
            DOMAIN,
            &encode(&(object, &wrapped.enc, &wrapped.ciphertext, sealed)),
        ])
    }
}

/// Why a copy cannot be sealed.
#[derive(Debug, thiserror::Error)]
pub enum Releasing {
    /// There is no randomness.
    #[error("there is no randomness: {0}")]
    Random(getrandom::Error),
    /// The user's key is no key of the chain's suite.
    #[error("the user's key cannot be wrapped to: {0}")]
    Key(OpenError),
}

/// A release, as the user gets it.
#[derive(Clone, Debug, PartialEq)]
pub struct Release {
    /// The copy.
    pub copy: SealedCopy,
    /// The user's request and the hub's release, each record shown with what it says; and the first of the
    /// chain.
    pub evidence: Evidence,
}

/// What the hub's record says of a release.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Told {
    /// To whom, for example `user:anna`.
    pub to: String,
    /// The hash of the envelope.
    pub ciphertext: Hash,
}

/// What a user has opened.
pub struct Released {
    /// How far it can be trusted.
    pub trust: Trust,
    /// Height of the block with the hub's record.
    pub height: u64,
    /// The hub, with its key.
    pub hub: Option<(String, PublicKey)>,
    /// What the record says.
    pub told: Told,
    /// The samples.
    pub copied: Copied,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    format: String,
    object: String,
    enc: String,
    wrapped_key: String,
    sealed: String,
    evidence: String,
}

impl Release {
    /// Whether bytes call themselves such a file.
    pub fn is_one(bytes: &[u8]) -> bool {
        calls_itself(bytes, FORMAT)
    }

    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        super::written(&Form {
            format: FORMAT.to_owned(),
            object: self.copy.object.clone(),
            enc: BASE64.encode(&self.copy.wrapped.enc),
            wrapped_key: BASE64.encode(&self.copy.wrapped.ciphertext),
            sealed: BASE64.encode(&self.copy.sealed),
            evidence: BASE64.encode(&self.evidence.to_bytes()),
        })
    }

    /// Reads the file. What it says is not believed before it is [opened](Self::open).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ReadingError> {
        let read: Form = super::read(bytes, FORMAT)?;
        let bytes = |text: &str| BASE64.decode(text.as_bytes()).map_err(form);
        Ok(Self {
            copy: SealedCopy {
                object: read.object,
                wrapped: WrappedKey {
                    enc: bytes(&read.enc)?,
                    ciphertext: bytes(&read.wrapped_key)?,
                },
                sealed: bytes(&read.sealed)?,
            },
            evidence: Evidence::from_bytes(&bytes(&read.evidence)?)?,
        })
    }

    /// Checks that a record of the chain tells of exactly this envelope, and opens it. With `trusted` keys the
    /// blocks must be signed under them.
    ///
    /// # Errors
    /// At the first thing that does not hold.
    pub fn open(&self, key: &SealingKey, trusted: &[PublicKey]) -> Result<Released, ReadingError> {
        let trust = self.evidence.verify(trusted)?;
        let hash = self.copy.hash(self.evidence.suite());
        let blocks = self.evidence.blocks.iter();
        let records = blocks.flat_map(|b| b.records.iter().map(move |r| (b, r)));
        let told = records.filter_map(|(block, shown)| {
            let Content::Message(message) = &shown.record.body.content else {
                return None;
            };
            let opened = shown.opened.as_ref().filter(|_| message.kind == RELEASE)?;
            let told: Told = serde_json::from_slice(&opened.content).ok()?;
            Some((block.header.height, told))
        });
        let mut told = told.filter(|(_, told)| told.ciphertext == hash);
        let (height, told) = told.next().ok_or(ReadingError::Untold)?;
        let content = key
            .unwrap(&self.copy.object, EPOCH, &self.copy.wrapped)
            .map_err(|_| ReadingError::OtherKey)?;
        let (_, plain) = content.open(&self.copy.sealed)?;
        let hub = self.evidence.validators.validators.first();
        Ok(Released {
            trust,
            height,
            hub: hub.map(|hub| (hub.id.clone(), hub.key)),
            told,
            copied: Copied::from_bytes(&plain)?,
        })
    }
}
