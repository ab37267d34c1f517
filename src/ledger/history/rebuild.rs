//! Making up the index from the blocks: for a ledger that an earlier version wrote, and for one whose
//! index was lost.

use super::PastError;
use super::index::{Span, survey, void};
use crate::ledger::erasure::ErasureError;
use crate::ledger::erasure::erased::Erased;
use crate::ledger::opening::Opener;
use crate::ledger::query::Explorer;
use crate::ledger::retention::retired::Retired;
use crate::ledger::store::{Put, Store};

/// Entries written at a time.
const TOGETHER: usize = 256;

/// Whether every one of the `stored` batches that was not erased has its entry, and none is damaged.
pub fn is_complete(store: &dyn Store, stored: u64) -> Result<bool, PastError> {
    let survey = survey(store)?;
    let there = survey.batches.saturating_add(erased(store)?.batches());
    let there = there.saturating_add(retired(store)?.gone());
    Ok(survey.damaged.is_empty() && there >= stored)
}

fn erased(store: &dyn Store) -> Result<Erased, PastError> {
    Erased::load(store).map_err(|error| match error {
        ErasureError::Store(error) => error.into(),
        other => PastError::Erasures(other.to_string()),
    })
}

fn retired(store: &dyn Store) -> Result<Retired, PastError> {
    Retired::load(store).map_err(|error| PastError::Retired(error.to_string()))
}

/// How many batches the blocks of `store` up to height `tip` store, with those whose bodies are gone.
pub fn stored(store: &dyn Store, explorer: &Explorer, tip: u64) -> Result<u64, PastError> {
    let retired = retired(store)?;
    let mut stored = retired.newest().map_or(0, |n| n.stored);
    for height in retired.bodies() + 1..=tip {
        let block = explorer.block(height)?;
        let records = block.iter().flat_map(|b| &b.records);
        let batches = records.filter_map(|r| r.body.batch());
        stored += batches.filter(|b| b.sealed.is_some()).count() as u64;
    }
    Ok(stored)
}

/// Writes the entries of all batches up to height `tip`; returns how many. Those that are there are
/// written as they are. `progress` is told of every block's height, and ends it by answering `false`.
pub fn rebuild(
    store: &dyn Store,
    explorer: &Explorer,
    opener: &Opener,
    tip: u64,
    mut progress: impl FnMut(u64) -> bool,
) -> Result<u64, PastError> {
    // What is damaged says nothing any more; what it should have said follows.
    let damaged: Vec<Put> = survey(store)?.damaged.into_iter().map(void).collect();
    for some in damaged.chunks(TOGETHER) {
        store.commit(some)?;
    }
    let erased = erased(store)?;
    let mut puts: Vec<Put> = Vec::new();
    let mut written = 0;
    let mut write = |puts: &mut Vec<Put>| -> Result<(), PastError> {
        store.commit(puts)?;
        written += puts.len() as u64;
        puts.clear();
        Ok(())
    };
    let retired = retired(store)?;
    for kept in retired.newest().map_or(&[][..], |n| &n.kept) {
        let which = kept
            .batch
            .filter(|which| !erased.takes_batch(&kept.owner, kept.sealed.key_epoch, *which));
        if which.is_some() {
            let opened = opener.open_batch(&kept.owner, &kept.sealed)?;
            let spans = Span::of(&opened.content.batch, kept.recorded, kept.sealed);
            puts.extend(spans.iter().map(|span| span.put(&kept.owner)));
        }
    }
    for height in retired.batches() + 1..=tip {
        if !progress(height) {
            break;
        }
        let Some(block) = explorer.block(height)? else {
            continue;
        };
        for record in &block.records {
            let Some(batch) = record.body.batch() else {
                continue;
            };
            let Some(sealed) = batch.sealed else { continue };
            let which = (batch.epoch, batch.sequence);
            if erased.takes_batch(&batch.device, sealed.key_epoch, which) {
                continue;
            }
            let opened = opener.open_batch(&batch.device, &sealed)?;
            let spans = Span::of(&opened.content.batch, record.body.time, sealed);
            puts.extend(spans.iter().map(|span| span.put(&batch.device)));
        }
        if puts.len() >= TOGETHER {
            write(&mut puts)?;
        }
    }
    if !puts.is_empty() {
        write(&mut puts)?;
    }
    Ok(written)
}
