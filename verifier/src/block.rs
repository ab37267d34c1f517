//! Blocks: a header that commits to a body of records, and the hubs' signatures over the header.
//!
//! A block of version 1 is signed by a hub for itself ([`CommitCertificate`]); a block of version 2 was
//! decided by the hubs of a set
//! ([`QuorumCertificate`](crate::quorum::QuorumCertificate)). The header's version says which of the two ends it.

use crate::certificate::Certificate;
use crate::codec::{DecodeError, decode, encode};
use crate::hash::Hash;
use crate::merkle;
use crate::record::Record;
use crate::signature::{DirectCheck, Signature, SignatureCheck};
use crate::suite::Suite;
use crate::tree::LOG;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use std::io;

pub use crate::validators::{Validator, ValidatorSet};

/// Version of a block that a hub signs for itself; a header carries it with its suite's mark.
pub const BLOCK_VERSION: u8 = 1;

/// Version of a block that the hubs of a set decided.
pub const SHARED_BLOCK_VERSION: u8 = 2;

const HEADER_DOMAIN: &[u8] = b"weighbridge/header/v1\0";
const COMMIT_DOMAIN: &[u8] = b"weighbridge/commit/v1\0";

/// A block's header; its hash is the block's hash.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct BlockHeader {
    /// [`BLOCK_VERSION`] or [`SHARED_BLOCK_VERSION`], with the mark of its suite ([`Suite::marked`]).
    pub version: u8,
    /// Id of the chain.
    pub chain: String,
    /// Height, from 1.
    pub height: u64,
    /// Hash of the block before; [`Hash::ZERO`] at height 1.
    pub previous_hash: Hash,
    /// When it was made, ns since 1970; strictly increasing along the chain.
    pub time: i64,
    /// Number of records in the body, that is, of leaves of the outer tree.
    pub record_count: u32,
    /// Root of the outer tree over the records.
    pub merkle_root: Hash,
    /// Hash of the state after applying the records.
    pub state_hash: Hash,
    /// Hash of the validator set that signs this block.
    pub validators_hash: Hash,
    /// Id of the hub that made the block.
    pub proposer: String,
}

impl BlockHeader {
    /// The suite of the block and its records.
    pub fn suite(&self) -> Suite {
        Suite::of_marked(self.version).0
    }

    /// The block's hash.
    pub fn hash(&self) -> Hash {
        self.suite().hash(&[HEADER_DOMAIN, &encode(self)])
    }

    /// Whether it is of a version that this code knows.
    pub fn check_version(&self) -> Result<(), BlockError> {
        match Suite::of_marked(self.version).1 {
            BLOCK_VERSION | SHARED_BLOCK_VERSION => Ok(()),
            _ => Err(BlockError::Version(self.version)),
        }
    }

    /// Whether it is of a block that the hubs of a set decided, and so ends in a
    /// [`QuorumCertificate`](crate::quorum::QuorumCertificate).
    pub fn is_shared(&self) -> bool {
        Suite::of_marked(self.version).1 == SHARED_BLOCK_VERSION
    }

    /// Its leaf in the tree over the whole chain, at index `height - 1`: the leaf's data are the 32
    /// bytes of the block's hash (see [`crate::tree`]).
    pub fn leaf(&self) -> Hash {
        merkle::leaf_hash(LOG, &self.hash().0)
    }
}

/// One hub's signature over a header.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommitSignature {
    /// Id of the hub.
    pub validator: String,
    /// Its signature over [`commit_message`].
    pub signature: Signature,
}

/// The hubs' signatures over a header.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommitCertificate {
    /// The signatures, each by another hub.
    pub signatures: Vec<CommitSignature>,
}

/// What a hub signs to commit a block.
pub fn commit_message(header: &BlockHeader) -> Hash {
    header.suite().hash(&[&commit_preimage(header)])
}

/// What [`commit_message`] is the hash of.
pub fn commit_preimage(header: &BlockHeader) -> Vec<u8> {
    [COMMIT_DOMAIN, &header.hash().0].concat()
}

/// Why a block or certificate does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// The header was written by a version of the format this code does not know.
    #[error("the format version {0} is not known here")]
    Version(u8),
    /// A hub's own signature under a block of several, or the other way round.
    #[error("the certificate is of another kind than the header's version asks for")]
    CertificateKind,
    /// A block that a hub signed for itself holds what only several decide.
    #[error("record {0} is of a kind that only blocks of several hubs hold")]
    OfSeveral(usize),
    /// The header counts other records than the body holds.
    #[error("the header counts {header} records, the body holds {body}")]
    RecordCount {
        /// Count in the header.
        header: u32,
        /// Records in the body.
        body: usize,
    },
    /// The body's root is not the header's.
    #[error("the records do not give the header's Merkle root")]
    MerkleRoot,
    /// A block without a record has no reason to be.
    #[error("the block holds no record")]
    Empty,
    /// The set could not decide: out of order, a key twice or of another suite, or an impossible
    /// threshold.
    #[error("the validator set is malformed")]
    MalformedSet,
    /// The certificate's set is not the header's.
    #[error("the validator set is not the one the header names")]
    ValidatorSet,
    /// Someone signed who may not, or twice.
    #[error("`{0}` signed without being entitled, or twice")]
    Signer(String),
    /// A signature is wrong.
    #[error("the signature of `{0}` does not hold")]
    Signature(String),
    /// Too few signed.
    #[error("{got} of {needed} needed signatures")]
    Threshold {
        /// Signatures present.
        got: usize,
        /// Signatures needed.
        needed: u32,
    },
}

impl CommitCertificate {
    /// Checks that enough hubs of `set` signed `header`, each once, and that `set` is the header's.
    pub fn verify(&self, header: &BlockHeader, set: &ValidatorSet) -> Result<(), BlockError> {
        self.verify_with(header, set, &DirectCheck)
    }

    /// The same, with the caller's way of checking signatures.
    pub fn verify_with(
        &self,
        header: &BlockHeader,
        set: &ValidatorSet,
        check: &dyn SignatureCheck,
    ) -> Result<(), BlockError> {
        let message = commit_message(header);
        set.check_signatures(header, &self.signatures, |key, signature| {
            check.check(key, &message, signature)
        })
    }
}

/// A block as it is stored: header, body, certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Block {
    /// The header.
    pub header: BlockHeader,
    /// The body.
    pub records: Vec<Record>,
    /// The hubs' signatures.
    pub certificate: Certificate,
}

// By hand, because the header says of which kind the certificate is; no byte of its own does.
impl BorshSerialize for Block {
    fn serialize<W: io::Write>(&self, writer: &mut W) -> io::Result<()> {
        BorshSerialize::serialize(&self.header, writer)?;
        BorshSerialize::serialize(&self.records, writer)?;
        self.certificate.write(writer)
    }
}

impl BorshDeserialize for Block {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Self> {
        let header = BlockHeader::deserialize_reader(reader)?;
        let records = Vec::deserialize_reader(reader)?;
        let certificate = Certificate::read(&header, reader)?;
        Ok(Self {
            header,
            records,
            certificate,
        })
    }
}

/// A block without its certificate: what the hubs of a set decide about. Its bytes are what a stored block
/// begins with.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct BlockValue {
    /// The header; its hash is the value's id.
    pub header: BlockHeader,
    /// The body.
    pub records: Vec<Record>,
}

impl BlockValue {
    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads those bytes and no others.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode("block value", bytes)
    }

    /// Version, record count and Merkle root: what needs no signature.
    pub fn verify_body(&self) -> Result<(), BlockError> {
        verify_body(&self.header, &self.records)
    }

    /// The block that it is with `certificate`.
    pub fn certified(self, certificate: impl Into<Certificate>) -> Block {
        Block {
            header: self.header,
            records: self.records,
            certificate: certificate.into(),
        }
    }
}

impl Block {
    /// Root of the outer tree over `records`, which are of this suite.
    pub fn merkle_root(suite: Suite, records: &[Record]) -> Hash {
        merkle::root_of(suite, records.iter().map(Record::leaf).collect())
    }

    /// The bytes of the [`BlockValue`] that it is without its certificate.
    pub fn value_bytes(&self) -> Vec<u8> {
        encode(&(&self.header, &self.records))
    }

    /// Checks version, record count, Merkle root and certificate: everything that can be said of a
    /// block on its own.
    pub fn verify(&self, set: &ValidatorSet) -> Result<(), BlockError> {
        self.verify_body()?;
        self.certificate.verify(&self.header, set)
    }

    /// Version, record count and Merkle root: what needs no signature.
    pub fn verify_body(&self) -> Result<(), BlockError> {
        verify_body(&self.header, &self.records)
    }
}

/// Whether a block can have this header and this body: version, record count and Merkle root.
pub fn verify_body(header: &BlockHeader, records: &[Record]) -> Result<(), BlockError> {
    header.check_version()?;
    if records.is_empty() {
        return Err(BlockError::Empty);
    }
    if usize::try_from(header.record_count) != Ok(records.len()) {
        return Err(BlockError::RecordCount {
            header: header.record_count,
            body: records.len(),
        });
    }
    let of_several = |record: &Record| record.body.content.is_of_several();
    if let Some(index) = records.iter().position(of_several)
        && !header.is_shared()
    {
        return Err(BlockError::OfSeveral(index));
    }
    if Block::merkle_root(header.suite(), records) != header.merkle_root {
        return Err(BlockError::MerkleRoot);
    }
    Ok(())
}
