//! From stored blocks and batches to the portable evidence of records and samples.

use super::inner_tree::{InnerTree, inner_root, position};
use crate::model::{Batch, Nanos};
use std::collections::BTreeMap;
use weighbridge_verifier::evidence::{
    self, Evidence, EvidenceError, Opened, ProvenBlock, ProvenRecord, ProvenSample,
};
use weighbridge_verifier::{
    Block, BlockHeader, Certificate, Hash, Record, Salt, ValidatorSet, merkle,
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

/// The hub that a chain's first block enrols, as the set that signs that block.
pub fn genesis_validators(genesis: &Block) -> Option<ValidatorSet> {
    evidence::genesis_set(genesis.records.first()?)
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
    salt: impl FnMut(u64) -> Salt,
) -> Result<Evidence, ProofError> {
    let mut exhibits = Exhibits::new(validators.clone());
    exhibits.show_samples(block, record_index, batch, &[sample], salt)?;
    exhibits.into_evidence()
}

/// Gathers what an evidence is to show.
pub struct Exhibits {
    validators: ValidatorSet,
    blocks: BTreeMap<u64, Exhibit>,
}

/// A block of which something is shown.
struct Exhibit {
    header: BlockHeader,
    certificate: Certificate,
    leaves: Vec<Hash>,
    records: BTreeMap<usize, ProvenRecord>,
}

impl Exhibits {
    /// Nothing yet; `validators` sign the first of the blocks to come.
    pub fn new(validators: ValidatorSet) -> Self {
        Self {
            validators,
            blocks: BTreeMap::new(),
        }
    }

    /// Heights of the blocks of which something is shown, ascending.
    pub fn heights(&self) -> Vec<u64> {
        self.blocks.keys().copied().collect()
    }

    /// Shows the record at `index` of `block`.
    pub fn show_record(
        &mut self,
        block: &Block,
        index: usize,
    ) -> Result<&mut ProvenRecord, ProofError> {
        let height = block.header.height;
        let missing = || ProofError::NoRecord { height, index };
        let record = block.records.get(index).ok_or_else(missing)?;
        let position = u32::try_from(index).map_err(|_| missing())?;
        let exhibit = self.blocks.entry(height).or_insert_with(|| Exhibit {
            header: block.header.clone(),
            certificate: block.certificate.clone(),
            leaves: block.records.iter().map(Record::leaf).collect(),
            records: BTreeMap::new(),
        });
        let shown = || ProvenRecord {
            position,
            record: record.clone(),
            samples: Vec::new(),
            path: Vec::new(),
            opened: None,
        };
        Ok(exhibit.records.entry(index).or_insert_with(shown))
    }

    /// Shows the record at `index` of `block`, and what is in the document or message it is about.
    pub fn show_opened(
        &mut self,
        block: &Block,
        index: usize,
        opened: Opened,
    ) -> Result<(), ProofError> {
        self.show_record(block, index)?.opened = Some(opened);
        Ok(())
    }

    /// Shows samples of `batch`, whose record is the one at `index` of `block`; `salt` gives the salt of
    /// each position, as it did when the batch was sealed.
    pub fn show_samples(
        &mut self,
        block: &Block,
        index: usize,
        batch: &Batch,
        samples: &[SampleAt],
        mut salt: impl FnMut(u64) -> Salt,
    ) -> Result<(), ProofError> {
        let shown = self.show_record(block, index)?;
        let leaves = inner_leaves(&shown.record, batch, &mut salt)?;
        let proven = samples.iter().map(|at| proven(batch, *at, &mut salt));
        let mut proven = proven.collect::<Result<Vec<_>, _>>()?;
        proven.sort_unstable_by_key(|s| s.position);
        let positions: Vec<usize> = proven.iter().map(|s| s.position as usize).collect();
        let path = merkle::multi_path(block.header.suite(), &leaves, &positions);
        shown.path = path.ok_or_else(|| no_sample(samples.first()))?;
        shown.samples = proven;
        Ok(())
    }

    /// The evidence of all that is shown. It is verified before it is handed out.
    pub fn into_evidence(self) -> Result<Evidence, ProofError> {
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for (height, exhibit) in self.blocks {
            let positions: Vec<usize> = exhibit.records.keys().copied().collect();
            let path = merkle::multi_path(exhibit.header.suite(), &exhibit.leaves, &positions);
            let index = positions.first().copied().unwrap_or(0);
            blocks.push(ProvenBlock {
                header: exhibit.header,
                certificate: exhibit.certificate,
                records: exhibit.records.into_values().collect(),
                path: path.ok_or(ProofError::NoRecord { height, index })?,
            });
        }
        let evidence = Evidence {
            validators: self.validators,
            blocks,
        };
        evidence.verify(&[])?;
        Ok(evidence)
    }
}

fn no_sample(at: Option<&SampleAt>) -> ProofError {
    let (column, index) = at.map_or((0, 0), |at| (at.column, at.index));
    ProofError::NoSample { column, index }
}

fn proven(
    batch: &Batch,
    at: SampleAt,
    salt: &mut impl FnMut(u64) -> Salt,
) -> Result<ProvenSample, ProofError> {
    let SampleAt { column, index } = at;
    let missing = || no_sample(Some(&at));
    let position = position(batch, column, index).ok_or_else(missing)?;
    let of_column = batch.columns.get(column).ok_or_else(missing)?;
    let tag = batch.tags.get(column).ok_or_else(missing)?;
    let time = batch.times(of_column).get(index).ok_or_else(missing)?;
    Ok(ProvenSample {
        position: u32::try_from(position).map_err(|_| missing())?,
        tag: tag.name.to_string(),
        index: u32::try_from(index).map_err(|_| missing())?,
        time: *time,
        value: of_column.values.get(index).ok_or_else(missing)?,
        quality: of_column.quality.get(index),
        salt: salt(position),
    })
}

/// The leaves of `batch`, if they are those that `record` answers for.
pub(super) fn inner_leaves(
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
    let suite = record.body.suite();
    let leaves = InnerTree::of(suite, batch).leaves(batch, salt);
    let leaves = leaves.map_err(|_| ProofError::InnerRoot)?;
    if leaves.len() as u64 != u64::from(content.samples)
        || inner_root(suite, leaves.clone()) != content.inner_root
    {
        return Err(ProofError::InnerRoot);
    }
    Ok(leaves)
}

// The same tests, once for each suite.
#[cfg(test)]
#[path = "proof"]
mod nist {
    use super::*;
    const SUITE: weighbridge_verifier::Suite = weighbridge_verifier::Suite::Nist;
    #[path = "tests.rs"]
    mod tests;
}
#[cfg(test)]
#[allow(clippy::duplicate_mod)]
#[path = "proof"]
mod guomi {
    use super::*;
    const SUITE: weighbridge_verifier::Suite = weighbridge_verifier::Suite::Guomi;
    #[path = "tests.rs"]
    mod tests;
}
