//! One portable file that proves records and samples offline.
//!
//! It holds blocks' headers with the hubs' certificates over them, the records that are shown with their
//! paths to the outer root, and of batches the samples that are shown, with their salts and their paths
//! to the inner root. Whoever trusts the keys that signed needs nothing else, and learns nothing of what
//! is not shown.
//!
//! The file names the suite of its chain where that is not `nist`, so that files from before there were
//! two are as they were.
//!
//! The file is JSON in one form only ([`Evidence::to_bytes`]): fields in a fixed order, no white space
//! but the line end, 64-bit integers as decimal strings, hashes, keys, salts and the bits of an `f64` in
//! lower-case hexadecimal. `docs/evidence.schema.json` describes it; any other form is refused, so that
//! two files that differ never say the same and two readers never differ.

mod form;
mod judged;
mod v1;
mod verify;

use crate::block::{BlockError, BlockHeader, ValidatorSet};
use crate::certificate::Certificate;
use crate::codec::DecodeError;
use crate::hash::Hash;
use crate::record::Record;
use crate::sample::{Quality, Salt, Value};
use crate::signature::SignatureError;
use crate::succession::{SetChange, Succession};
use crate::suite::Suite;
use serde::{Deserialize, Serialize};

pub use judged::Judge;
pub use verify::genesis_set;

/// What the file calls itself when every block in it was signed by a hub for itself.
pub const FORMAT: &str = "weighbridge-evidence/2";

/// What it calls itself when several hubs decided a block in it: certificates have a round, and records can
/// be votes. A file that needs none of that is as it was before there was such a thing.
pub const SHARED_FORMAT: &str = "weighbridge-evidence/3";

/// The longest file that is written or read, in bytes.
pub const MAX_BYTES: usize = 16 << 20;

/// A sample with everything that its leaf is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvenSample {
    /// Position of its leaf in the inner tree.
    pub position: u32,
    /// Name of the tag.
    pub tag: String,
    /// Which sample of this tag in its batch, from 0.
    pub index: u32,
    /// Source time, ns since 1970.
    #[serde(with = "form::decimal")]
    pub time: i64,
    /// The value.
    #[serde(with = "form::ValueForm")]
    pub value: Value,
    /// The quality the source gave it.
    pub quality: Quality,
    /// The salt of its leaf.
    #[serde(with = "form::hex_array")]
    pub salt: Salt,
}

/// A sealed document or message that is shown in the clear.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opened {
    /// The salt of its commitment.
    #[serde(with = "form::hex_array")]
    pub salt: Salt,
    /// Its bytes.
    #[serde(with = "form::hex_bytes")]
    pub content: Vec<u8>,
}

/// A record, its place in its block, and what is shown of what it is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvenRecord {
    /// Position of the record in its block.
    pub position: u32,
    /// The record.
    #[serde(with = "form::RecordForm")]
    pub record: Record,
    /// The samples shown of a batch, by ascending position.
    pub samples: Vec<ProvenSample>,
    /// Siblings from the samples up to the inner root, as [`crate::merkle::multi_path`] gives them.
    pub path: Vec<Hash>,
    /// What a document or message says.
    pub opened: Option<Opened>,
}

/// A block's header with some of its records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvenBlock {
    /// The header.
    #[serde(with = "form::HeaderForm")]
    pub header: BlockHeader,
    /// The hubs' signatures.
    pub certificate: Certificate,
    /// The records shown, by ascending position.
    pub records: Vec<ProvenRecord>,
    /// Siblings from the records up to the outer root.
    pub path: Vec<Hash>,
}

/// Proof of records and samples of one chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// The hubs that sign the first of the blocks. Who signs the later ones follows from it and from the
    /// records shown that change it ([`crate::succession`]).
    pub validators: ValidatorSet,
    /// The blocks, by ascending height. The first record of that of height 1 proves which hub began the
    /// chain.
    pub blocks: Vec<ProvenBlock>,
}

/// Why evidence does not hold.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// Longer than [`MAX_BYTES`].
    #[error("the file is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// Not JSON, or not with these fields.
    #[error("this is not an evidence file: {0}")]
    Json(#[from] serde_json::Error),
    /// Another kind or version of file.
    #[error("this is not an evidence file of a known form: it calls itself `{0}`")]
    Format(String),
    /// It says what an evidence file says, but not in the one form.
    #[error("the file is not in the one form of an evidence file: something is written otherwise")]
    Form,
    /// A file of version 1 is not the canonical form of an evidence.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Record or header are of a version that this code does not know.
    #[error("the format version {0} is not known here")]
    Version(u8),
    /// It shows nothing.
    #[error("the evidence shows nothing")]
    Empty,
    /// Blocks that cannot be of one chain in this order.
    #[error("block {0} does not follow the block before it")]
    Order(u64),
    /// The first block does not begin the chain with these hubs.
    #[error("the chain's first block does not enrol the hub that signs")]
    Genesis,
    /// Samples of a record that is not about a batch.
    #[error("the record is not about a batch")]
    NotABatch,
    /// The batch was refused: its samples never entered the record.
    #[error("the batch was refused, so its samples are not part of the ledger")]
    Refused,
    /// Record and block do not belong together.
    #[error("the record does not belong to this block: {0}")]
    Mismatch(&'static str),
    /// The samples are not in the batch.
    #[error("the samples are not under the batch's inner Merkle root")]
    Sample,
    /// What is shown in the clear is not what the record commits to.
    #[error("what is shown in the clear is not what the record commits to")]
    Opened,
    /// The document that is said to have judged a batch is shown, and is of something else or later.
    #[error("the document that judged the batch is not one of its device from before it")]
    Judge,
    /// The records are not in the block.
    #[error("the records are not under the block's Merkle root")]
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
    #[error("the evidence is self-consistent, but too few of the trusted keys signed it")]
    Untrusted,
}

/// How far a verified evidence can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Signed under the keys that were given.
    Key,
    /// It fits together, but no key to trust was given.
    SelfConsistentOnly,
}

#[derive(Serialize)]
struct Written<'a> {
    format: &'static str,
    #[serde(skip_serializing_if = "Suite::is_nist")]
    suite: Suite,
    validators: &'a ValidatorSet,
    blocks: &'a [ProvenBlock],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    format: String,
    /// Compared with the blocks when the file's form is.
    #[serde(default, rename = "suite")]
    _suite: Suite,
    validators: ValidatorSet,
    blocks: Vec<ProvenBlock>,
}

impl Evidence {
    /// The suite of its chain: that of the first block, which every other one must share.
    pub fn suite(&self) -> Suite {
        let first = self.blocks.first();
        first.map_or(Suite::Nist, |block| block.header.suite())
    }

    /// What its file calls itself.
    pub fn format(&self) -> &'static str {
        match self.blocks.iter().any(|block| block.header.is_shared()) {
            true => SHARED_FORMAT,
            false => FORMAT,
        }
    }

    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let written = Written {
            format: self.format(),
            suite: self.suite(),
            validators: &self.validators,
            blocks: &self.blocks,
        };
        match serde_json::to_vec(&written) {
            Ok(mut bytes) => {
                bytes.push(b'\n');
                bytes
            }
            // Writing to memory cannot fail, and no map here has a key that is no string.
            Err(e) => unreachable!("writing evidence into memory failed: {e}"),
        }
    }

    /// Reads a file of this version or of version 1, which held one sample.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EvidenceError> {
        if bytes.len() > MAX_BYTES {
            return Err(EvidenceError::TooLong);
        }
        if let Some(rest) = bytes.strip_prefix(v1::MAGIC) {
            return Ok(crate::decode::<v1::Evidence>("evidence", rest)?.into());
        }
        let read: Read = serde_json::from_slice(bytes)?;
        if ![FORMAT, SHARED_FORMAT].contains(&&*read.format) {
            return Err(EvidenceError::Format(read.format));
        }
        let evidence = Self {
            validators: read.validators,
            blocks: read.blocks,
        };
        // The file says of itself what its blocks need, too.
        // A reader that took another form as well would have to agree with every other reader on it.
        if evidence.to_bytes() != bytes {
            return Err(EvidenceError::Form);
        }
        Ok(evidence)
    }

    /// What the records that are shown change about the set of hubs, with the heights of their blocks.
    pub fn set_changes(&self) -> Vec<(u64, SetChange)> {
        let mut succession = Succession::new(self.validators.clone());
        let mut changes = Vec::new();
        for (block, shown) in self.records() {
            let change = succession.apply(&shown.record.body);
            changes.extend(change.map(|change| (block.header.height, change)));
        }
        changes
    }

    /// Every sample that is shown, with its block and record.
    pub fn samples(&self) -> impl Iterator<Item = (&ProvenBlock, &ProvenRecord, &ProvenSample)> {
        let records = self.records();
        records.flat_map(|(block, record)| record.samples.iter().map(move |s| (block, record, s)))
    }
}
