//! The signed head: the newest block's height and hash, kept outside the store.
//!
//! A store can lose its tail without an error (a journal that ends early opens as if it had always
//! ended there). The head says how far the ledger had come when it was last acknowledged, so that a
//! store that is behind it is noticed.

use super::store::StoreError;
use crate::crypto::Signer;
use borsh::{BorshDeserialize, BorshSerialize};
use weighbridge_verifier::{
    DecodeError, Hash, PublicKey, Signature, SignatureCheck, SignatureError, Suite, decode, encode,
};

/// Version of the head format this code writes; a head carries it with its suite's mark.
pub const HEAD_VERSION: u8 = 1;

/// Longest chain or hub id, in bytes: a head has to fit its slot.
pub const MAX_ID: usize = 64;

/// Longest encoded head, in bytes.
pub const MAX_HEAD: usize = 512;

const HEAD_DOMAIN: &[u8] = b"weighbridge/head/v1\0";

/// How far a chain has come, signed by the hub that keeps it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Head {
    /// [`HEAD_VERSION`], with the mark of its suite ([`Suite::marked`]).
    pub version: u8,
    /// Id of the chain.
    pub chain: String,
    /// Height of the newest block.
    pub height: u64,
    /// Its hash.
    pub block_hash: Hash,
    /// Id of the hub that signed.
    pub hub: String,
    /// Its signature over everything above.
    pub signature: Signature,
}

impl Head {
    /// A head signed by `signer`.
    pub fn sign(chain: &str, height: u64, block_hash: Hash, signer: &dyn Signer) -> Self {
        let mut head = Self {
            version: signer.suite().marked(HEAD_VERSION),
            chain: chain.to_owned(),
            height,
            block_hash,
            hub: signer.id().to_owned(),
            signature: Signature([0; 64]),
        };
        head.signature = signer.sign(&head.message());
        head
    }

    /// The suite of its chain.
    pub fn suite(&self) -> Suite {
        Suite::of_marked(self.version).0
    }

    fn message(&self) -> Hash {
        let what = (self.version, &self.chain, self.height, self.block_hash);
        self.suite()
            .hash(&[HEAD_DOMAIN, &encode(&(what, &self.hub))])
    }

    /// Checks the signature.
    pub fn verify(
        &self,
        key: &PublicKey,
        check: &dyn SignatureCheck,
    ) -> Result<(), SignatureError> {
        check.check(key, &self.message(), &self.signature)
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a head.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let head: Self = decode("head", bytes)?;
        if head.version == head.suite().marked(HEAD_VERSION) {
            return Ok(head);
        }
        Err(DecodeError {
            what: "head",
            reason: format!("the format version {} is not known here", head.version),
        })
    }
}

/// What was found where the head is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeadReading {
    /// The readable heads, encoded, newest first. There are up to two: a new head never overwrites
    /// the newest one.
    pub heads: Vec<Vec<u8>>,
    /// Slots that are neither empty nor readable, in plain words: torn by a power loss, or changed.
    pub damaged: Vec<String>,
}

/// Where the head is kept. Blocking: never call it from an async thread.
pub trait HeadSlot: Send {
    /// What is there.
    fn read(&mut self) -> Result<HeadReading, StoreError>;

    /// Replaces the older head by `head` (at most [`MAX_HEAD`] bytes) and returns once it is durable.
    /// If that is cut short, the newest head before is still readable.
    fn write(&mut self, head: &[u8]) -> Result<(), StoreError>;
}
