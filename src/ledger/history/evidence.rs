//! The evidence of one recorded sample.

use super::PastError;
use super::index::Span;
use super::reader::Archive;
use crate::ledger::proof::{self, SampleAt};
use crate::ledger::query::Explorer;
use crate::model::Nanos;
use weighbridge_verifier::evidence::Evidence;
use weighbridge_verifier::{Block, Salt};

/// Blocks looked through for a record, from the first that may hold it on: a record waits for its block
/// for seconds at most, or until a full disk has room.
const BLOCKS: u64 = 100_000;

/// The evidence of the newest sample of a tag at or before `time`; `None` when there is no such sample.
pub fn evidence(
    archive: &Archive,
    explorer: &Explorer,
    (device, tag): (&str, &str),
    time: Nanos,
) -> Result<Option<Evidence>, PastError> {
    let found = archive.tag(device, tag);
    let Some(found) = found.find_before(time.saturating_add(1))? else {
        return Ok(None);
    };
    let genesis = explorer.genesis()?.ok_or(PastError::Genesis)?;
    let validators = proof::genesis_validators(&genesis).ok_or(PastError::Genesis)?;
    let (block, index) = record_of(explorer, device, &found.span)?;
    let opened = archive.opener().open_batch(device, &found.span.sealed)?;
    let at = SampleAt {
        column: found.column,
        index: found.index,
    };
    let salt = |position: u64| -> Salt {
        let salt = usize::try_from(position).ok();
        let salt = salt.and_then(|p| opened.salts.get(p));
        salt.copied().unwrap_or_default()
    };
    let batch = &opened.content.batch;
    Ok(Some(proof::prove(
        &block,
        index,
        &validators,
        batch,
        at,
        salt,
    )?))
}

/// The block with the record of a batch, and which record it is.
fn record_of(explorer: &Explorer, device: &str, span: &Span) -> Result<(Block, usize), PastError> {
    // Blocks are in the order of their times, and a block is not older than its records.
    let from = explorer.height_at(span.recorded)?.unwrap_or(1).max(1);
    for height in from..from.saturating_add(BLOCKS) {
        let Some(block) = explorer.block(height)? else {
            break;
        };
        let records = block.records.iter();
        let at = records.map(|r| r.body.batch()).position(|batch| {
            batch.is_some_and(|b| b.device == device && b.sealed == Some(span.sealed))
        });
        if let Some(at) = at {
            return Ok((block, at));
        }
    }
    Err(PastError::NoRecord {
        device: device.to_owned(),
        epoch: span.epoch,
        sequence: span.sequence,
    })
}
