//! One portable file that proves one sample offline.
//!
//! It holds the sample with its salt, the path to the inner root in the batch's record, the path of
//! that record to the outer root in the block's header, the hubs' certificate over the header and
//! the validator set. Whoever trusts a key of that set needs nothing else.

use crate::block::{BLOCK_VERSION, BlockError, BlockHeader, CommitCertificate, ValidatorSet};
use crate::codec::{DecodeError, decode, encode};
use crate::hash::Hash;
use crate::merkle;
use crate::record::{Action, BatchContent, RECORD_VERSION, Record, Response, VerdictClass};
use crate::sample::{Quality, Salt, TagDigest, Value};
use crate::signature::{PublicKey, SignatureError};
use borsh::{BorshDeserialize, BorshSerialize};

/// First bytes of an evidence file: magic and format version.
pub const MAGIC: &[u8; 5] = b"WBEV\x01";

/// A sample with everything that its leaf is made of.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize)]
pub struct ProvenSample {
    /// Name of the tag.
    pub tag: String,
    /// Which sample of this tag in its batch, from 0.
    pub index: u32,
    /// Source time, ns since 1970.
    pub time: i64,
    /// The value.
    pub value: Value,
    /// The quality the source gave it.
    pub quality: Quality,
    /// The salt of its leaf.
    pub salt: Salt,
    /// Position of its leaf in the inner tree.
    pub position: u32,
    /// Siblings up to the inner root.
    pub path: Vec<Hash>,
}

/// Proof of one sample.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize)]
pub struct Evidence {
    /// The sample.
    pub sample: ProvenSample,
    /// The record of its batch.
    pub record: Record,
    /// Position of the record in its block.
    pub position: u32,
    /// Siblings up to the outer root.
    pub path: Vec<Hash>,
    /// The block's header.
    pub header: BlockHeader,
    /// The hubs' signatures.
    pub certificate: CommitCertificate,
    /// The hubs that may sign.
    pub validators: ValidatorSet,
}

/// Why evidence does not hold.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// The file does not begin like an evidence file.
    #[error("this is not an evidence file (it does not begin with WBEV 1)")]
    Magic,
    /// The file is not the canonical form of an evidence.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Record or header are of a version that this code does not know.
    #[error("the format version {0} is not known here")]
    Version(u8),
    /// The record is not about a batch.
    #[error("the record is not about a batch")]
    NotABatch,
    /// The batch was refused: its samples never entered the record.
    #[error("the batch was refused, so its samples are not part of the ledger")]
    Refused,
    /// Record and block do not belong together.
    #[error("the record does not belong to this block: {0}")]
    Mismatch(&'static str),
    /// The sample is not in the batch.
    #[error("the sample is not under the batch's inner Merkle root")]
    Sample,
    /// The record is not in the block.
    #[error("the record is not under the block's Merkle root")]
    Record,
    /// The record's hub is not of the set.
    #[error("the record's hub `{0}` is not in the validator set")]
    Hub(String),
    /// A record signature is wrong.
    #[error("the record's signature does not hold: {0}")]
    RecordSignature(#[from] SignatureError),
    /// The header or its certificate is wrong.
    #[error("the block header does not hold: {0}")]
    Header(#[from] BlockError),
    /// It all fits, but nobody trusted signed it.
    #[error("the evidence is self-consistent, but the trusted key is not in its validator set")]
    Untrusted,
}

/// How far a verified evidence can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Signed under the key that was given.
    Key,
    /// It fits together, but no key to trust was given.
    SelfConsistentOnly,
}

impl Evidence {
    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(encode(self));
        out
    }

    /// Reads a file.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EvidenceError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(EvidenceError::Magic)?;
        Ok(decode("evidence", rest)?)
    }

    /// Checks every step from the sample to the certificate; with `trust`, also that this key is one
    /// of those that must sign.
    pub fn verify(&self, trust: Option<&PublicKey>) -> Result<Trust, EvidenceError> {
        let body = &self.record.body;
        let batch = body.batch().ok_or(EvidenceError::NotABatch)?;
        self.verify_kind(batch)?;
        let s = &self.sample;
        let leaf = TagDigest::new(&batch.device, &s.tag)
            .leaf(&s.salt, s.index, s.time, s.quality, &s.value);
        let inner = merkle::root_from_path(
            leaf,
            u64::from(s.position),
            u64::from(batch.samples),
            &s.path,
        );
        if inner != Some(batch.inner_root) {
            return Err(EvidenceError::Sample);
        }
        let outer = merkle::root_from_path(
            self.record.leaf(),
            u64::from(self.position),
            u64::from(self.header.record_count),
            &self.path,
        );
        if outer != Some(self.header.merkle_root) {
            return Err(EvidenceError::Record);
        }
        let hub = &body.hub;
        let hub = self
            .validators
            .get(hub)
            .ok_or_else(|| EvidenceError::Hub(hub.clone()))?;
        self.record.verify(&hub.key)?;
        self.certificate.verify(&self.header, &self.validators)?;
        let Some(trust) = trust else {
            return Ok(Trust::SelfConsistentOnly);
        };
        // With one of several needed signatures trusted the others could still be strangers; the set
        // is trusted only if it is the trusted key's own, or will be listed by a checkpoint.
        let trusted = self.validators.threshold == 1
            && self.validators.validators.len() == 1
            && self.validators.validators.iter().any(|v| v.key == *trust);
        trusted
            .then_some(Trust::Key)
            .ok_or(EvidenceError::Untrusted)
    }

    /// What must hold of record and header before any hash is worth computing.
    fn verify_kind(&self, batch: &BatchContent) -> Result<(), EvidenceError> {
        let (body, header) = (&self.record.body, &self.header);
        if body.version != RECORD_VERSION {
            return Err(EvidenceError::Version(body.version));
        }
        if header.version != BLOCK_VERSION {
            return Err(EvidenceError::Version(header.version));
        }
        let stored = body.action == Action::Store && body.response == Response::Accepted;
        if !stored || batch.sealed.is_none() || batch.verdict.class == VerdictClass::Invalid {
            return Err(EvidenceError::Refused);
        }
        if body.chain != header.chain {
            return Err(EvidenceError::Mismatch("it was made for another chain"));
        }
        if body.time > header.time {
            return Err(EvidenceError::Mismatch("it is younger than the block"));
        }
        Ok(())
    }
}
