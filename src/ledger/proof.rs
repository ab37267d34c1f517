//! From a stored batch to the portable evidence of one of its samples.

use super::inner_tree::{InnerTree, inner_root, position};
use crate::model::{Batch, Nanos};
use weighbridge_verifier::evidence::{Evidence, EvidenceError, ProvenSample};
use weighbridge_verifier::{
    Action, Block, Content, Hash, IdentityKind, Record, Salt, ValidatorSet, merkle,
};

/// Why a sample cannot be proven.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The block has no such record.
    #[error("block {height} has no record {index}")]
    NoRecord {
        /// Height of the block.
        height: u64,
        /// Which record, from 0.
        index: usize,
    },
    /// The record is about something else than the batch given.
    #[error("the record is not about batch {epoch}.{sequence} of `{device}`")]
    OtherBatch {
        /// Device of the batch given.
        device: String,
        /// Its fencing epoch.
        epoch: u64,
        /// Its sequence number.
        sequence: u64,
    },
    /// The batch has no such sample.
    #[error("the batch has no sample {index} in column {column}")]
    NoSample {
        /// The column, from 0.
        column: usize,
        /// The sample in it, from 0.
        index: usize,
    },
    /// Samples and salts do not give the record's inner root.
    #[error(
        "the samples and salts do not give the record's inner root: batch or key are not its own"
    )]
    InnerRoot,
    /// The evidence does not hold.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
}

/// Which sample of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleAt {
    /// Its column, from 0.
    pub column: usize,
    /// Its place in the column, from 0.
    pub index: usize,
}

/// The newest sample of tag `tag` at or before `time`.
pub fn last_sample(batch: &Batch, tag: &str, time: Nanos) -> Option<SampleAt> {
    let column = batch.tags.iter().position(|t| *t.name == *tag)?;
    let times = batch.times(batch.columns.get(column)?);
    let until = times.iter().enumerate().filter(|(_, t)| **t <= time);
    // Of equal times the later one is the newer.
    let (index, _) = until.max_by_key(|(_, t)| **t)?;
    Some(SampleAt { column, index })
}

/// The hub that a chain's first block enrols, as the set that signs its blocks.
pub fn genesis_validators(genesis: &Block) -> Option<ValidatorSet> {
    let body = &genesis.records.first()?.body;
    match &body.content {
        Content::Identity(hub) if body.action == Action::Enrol && hub.kind == IdentityKind::Hub => {
            Some(ValidatorSet::solo(&hub.id, hub.key?))
        }
        _ => None,
    }
}

/// Evidence of one sample of `batch`, whose record is the one at `record_index` of `block`.
///
/// `salt` gives the salt of each position, as it did when the batch was sealed; `validators` is the
/// set that signed the block. The evidence is verified before it is handed out.
pub fn prove(
    block: &Block,
    record_index: usize,
    validators: &ValidatorSet,
    batch: &Batch,
    sample: SampleAt,
    mut salt: impl FnMut(u64) -> Salt,
) -> Result<Evidence, ProofError> {
    let height = block.header.height;
    let record = block
        .records
        .get(record_index)
        .ok_or(ProofError::NoRecord {
            height,
            index: record_index,
        })?;
    let SampleAt { column, index } = sample;
    let no_sample = || ProofError::NoSample { column, index };
    let at = position(batch, column, index).ok_or_else(no_sample)?;
    let leaves = inner_leaves(record, batch, &mut salt)?;
    let of_column = batch.columns.get(column).ok_or_else(no_sample)?;
    let tag = batch.tags.get(column).ok_or_else(no_sample)?;
    let time = batch.times(of_column).get(index).ok_or_else(no_sample)?;
    let proven = ProvenSample {
        tag: tag.name.to_string(),
        index: u32::try_from(index).map_err(|_| no_sample())?,
        time: *time,
        value: of_column.values.get(index).ok_or_else(no_sample)?,
        quality: of_column.quality.get(index),
        salt: salt(at),
        position: u32::try_from(at).map_err(|_| no_sample())?,
        path: merkle::inclusion_path(&leaves, at as usize).ok_or_else(no_sample)?,
    };
    let records: Vec<Hash> = block.records.iter().map(Record::leaf).collect();
    let no_record = || ProofError::NoRecord {
        height,
        index: record_index,
    };
    let evidence = Evidence {
        sample: proven,
        record: record.clone(),
        position: u32::try_from(record_index).map_err(|_| no_record())?,
        path: merkle::inclusion_path(&records, record_index).ok_or_else(no_record)?,
        header: block.header.clone(),
        certificate: block.certificate.clone(),
        validators: validators.clone(),
    };
    evidence.verify(None)?;
    Ok(evidence)
}

/// The leaves of `batch`, if they are those that `record` answers for.
fn inner_leaves(
    record: &Record,
    batch: &Batch,
    salt: &mut impl FnMut(u64) -> Salt,
) -> Result<Vec<Hash>, ProofError> {
    let same = record.body.batch().filter(|content| {
        let number = (content.epoch, content.sequence) == (batch.epoch, batch.sequence);
        *content.device == *batch.device && number
    });
    let content = same.ok_or_else(|| ProofError::OtherBatch {
        device: batch.device.to_string(),
        epoch: batch.epoch,
        sequence: batch.sequence,
    })?;
    let leaves = InnerTree::of(batch).leaves(batch, salt);
    let leaves = leaves.map_err(|_| ProofError::InnerRoot)?;
    if leaves.len() as u64 != u64::from(content.samples)
        || inner_root(leaves.clone()) != content.inner_root
    {
        return Err(ProofError::InnerRoot);
    }
    Ok(leaves)
}

#[cfg(test)]
mod tests;
