//! What stays of retired blocks because a hub changed its key by it.
//!
//! Whoever knows one key of a hub is led to the next by a record, so the block of that record keeps its body: the
//! headers after it cannot be checked otherwise, nor can anybody who was given the key before find the one after.

use super::RetentionError;
use crate::ledger::history::PastError;
use crate::ledger::history::succession::Succession;
use crate::ledger::replay::rotations_in;
use crate::ledger::state::State;
use crate::ledger::store::Store;
use weighbridge_verifier::{Block, Record};

/// Whether the body of `block` stays when those around it go. Blocks of several hubs all do: votes say who signs
/// the ones after, wherever they are.
pub fn keeps_body(block: &Block) -> bool {
    block.header.is_shared() || rotations_in(block).next().is_some()
}

/// The records by which hubs changed their keys up to block `height`, after which the state is `state` and another
/// block follows.
pub(in crate::ledger) fn rotations(
    store: &dyn Store,
    height: u64,
    state: &State,
) -> Result<Vec<Record>, RetentionError> {
    if !state.has_changed_hubs_keys() {
        return Ok(Vec::new());
    }
    let mut succession = Succession::over(store)?;
    let changes = succession.until(height.saturating_add(1));
    let changes = changes.map_err(|error| match error {
        PastError::Succession(at) => RetentionError::Damaged(format!(
            "who signs block {at} does not follow from the records of changed keys that stay"
        )),
        error => error.into(),
    })?;
    let mut records = Vec::with_capacity(changes.len());
    for (block, index) in changes {
        let height = block.header.height;
        let whole = block.verify_body();
        whole.map_err(|why| RetentionError::Damaged(format!("block {height}: {why}")))?;
        records.extend(block.records.into_iter().nth(index));
    }
    match state.validators() == Some(succession.set()) {
        true => Ok(records),
        false => Err(RetentionError::Damaged(format!(
            "the state after block {height} has other keys than the records of changed keys lead to"
        ))),
    }
}
