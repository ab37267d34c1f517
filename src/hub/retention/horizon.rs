//! How far the policy reaches now.

use crate::ledger::keys::height_of;
use crate::ledger::query::Explorer;
use crate::ledger::retention::RetentionError;
use crate::ledger::retention::plan::Horizons;
use crate::ledger::retention::retired::Retired;
use crate::ledger::store::{Space, Store};
use crate::model::Nanos;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use weighbridge_verifier::{Block, decode};

/// What is retired, when, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionSetup {
    /// Sealed batches and messages older than this go.
    pub batches: Option<Duration>,
    /// Bodies of blocks older than this go, and what they recorded.
    pub bodies: Option<Duration>,
    /// The oldest go when the data directory is larger, without the store's journal.
    pub max_bytes: Option<u64>,
    /// What goes is archived here first.
    pub archive: Option<PathBuf>,
    /// How often it is looked after.
    pub interval: Duration,
}

impl Default for RetentionSetup {
    fn default() -> Self {
        Self {
            batches: None,
            bodies: None,
            max_bytes: None,
            archive: None,
            interval: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// Heights up to which things may go at time `now`, of a chain with its newest block at `tip`, in a directory of
/// `used` bytes.
pub(super) fn horizons(
    store: &Arc<dyn Store>,
    setup: &RetentionSetup,
    (now, used): (Nanos, u64),
    tip: u64,
) -> Result<Horizons, RetentionError> {
    let explorer = Explorer::new(store.clone());
    let older_than = |age: Option<Duration>| -> Result<u64, RetentionError> {
        let Some(age) = age else { return Ok(0) };
        let age = Nanos::try_from(age.as_nanos()).unwrap_or(Nanos::MAX);
        let found = explorer.height_at(now.saturating_sub(age).saturating_sub(1));
        let found = found.map_err(|e| RetentionError::Damaged(e.to_string()))?;
        Ok(found.unwrap_or(0))
    };
    let mut horizons = Horizons {
        bodies: older_than(setup.bodies)?,
        batches: older_than(setup.batches)?,
    };
    // Down to three quarters, so that there is something to do only now and then.
    let over = setup.max_bytes.filter(|most| used > *most);
    if let Some(most) = over {
        let free = used.saturating_sub(most / 4 * 3);
        let height = height_that_frees(&**store, free, tip)?;
        horizons.bodies = horizons.bodies.max(height);
    }
    horizons.batches = horizons.batches.max(horizons.bodies);
    Ok(horizons)
}

/// Up to which height bodies and batches must go so that so many bytes are given back.
fn height_that_frees(store: &dyn Store, free: u64, tip: u64) -> Result<u64, RetentionError> {
    let retired = Retired::load(store)?;
    let (mut height, mut freed) = (retired.bodies(), 0u64);
    let from = (height + 1).to_be_bytes();
    for entry in store.scan(Space::Blocks, &from) {
        let (key, value) = entry?;
        let at = height_of(&key).unwrap_or(0);
        if freed >= free || at >= tip {
            break;
        }
        height = at;
        freed = freed.saturating_add(value.len() as u64);
        if height > retired.batches() {
            let block: Block = decode("block", &value)?;
            let sealed = block.records.iter().filter_map(|r| r.body.sealed());
            freed = freed.saturating_add(sealed.map(|s| s.length).sum());
        }
    }
    Ok(height)
}

/// Bytes that a directory takes on its disk, without the store's journal, which is of a size of its own.
pub(super) fn directory_bytes(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    let size = |entry: std::fs::DirEntry| {
        let path = entry.path();
        let Ok(metadata) = entry.metadata() else {
            return 0;
        };
        match (metadata.is_dir(), path.extension()) {
            (true, _) => directory_bytes(&path),
            (false, Some(extension)) if extension == "jnl" => 0,
            (false, _) => on_disk(&metadata),
        }
    };
    entries.filter_map(Result::ok).map(size).sum()
}

#[cfg(unix)]
fn on_disk(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(metadata).saturating_mul(512)
}

#[cfg(not(unix))]
fn on_disk(metadata: &std::fs::Metadata) -> u64 {
    metadata.len()
}
