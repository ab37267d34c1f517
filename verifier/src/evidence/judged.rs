//! Which of the documents that are shown judged which of the batches.

use super::{Evidence, EvidenceError, ProvenBlock, ProvenRecord};
use crate::hash::Hash;
use crate::record::{Content, Record};
use std::collections::HashMap;

/// A document that is shown: its record, and what it says if that is shown too.
#[derive(Clone, Copy, Debug)]
pub struct Judge<'a> {
    /// The block that it was recorded in.
    pub block: &'a ProvenBlock,
    /// Its record.
    pub shown: &'a ProvenRecord,
}

impl Evidence {
    /// The documents that are shown, by their commitments: that of a batch is under its `judged_by`.
    pub fn judges(&self) -> HashMap<Hash, Judge<'_>> {
        let mut judges = HashMap::new();
        for (block, shown) in self.records() {
            if let Content::Document(document) = &shown.record.body.content {
                let judge = Judge { block, shown };
                judges.entry(document.commitment).or_insert(judge);
            }
        }
        judges
    }

    /// A batch is judged by a document about its own device that was recorded before it. Where the
    /// document is not shown, nothing is said about it.
    pub(super) fn verify_judges(&self) -> Result<(), EvidenceError> {
        let judges = self.judges();
        for (block, shown) in self.records() {
            let Some(batch) = shown.record.body.batch() else {
                continue;
            };
            let Some(judge) = judges.get(&batch.judged_by) else {
                continue;
            };
            let place = |block: &ProvenBlock, r: &ProvenRecord| (block.header.height, r.position);
            let before = place(judge.block, judge.shown) < place(block, shown);
            if !before || !is_about(&judge.shown.record, &batch.device) {
                return Err(EvidenceError::Judge);
            }
        }
        Ok(())
    }

    /// Every record that is shown, with its block.
    pub fn records(&self) -> impl Iterator<Item = (&ProvenBlock, &ProvenRecord)> {
        let blocks = self.blocks.iter();
        blocks.flat_map(|block| block.records.iter().map(move |record| (block, record)))
    }
}

fn is_about(record: &Record, device: &str) -> bool {
    let object = record.body.object.strip_prefix("device:");
    object == Some(device)
}
