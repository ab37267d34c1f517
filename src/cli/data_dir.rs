//! Which directory a person means by "the ledger's directory".

use crate::ledger::store::{Store, StoreError};
use crate::store::FjallStore;
use crate::store::batches::with_described_batches;
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// `dir` itself if a ledger is in it, else its `data`, as `init` and `demo` lay it out.
pub(super) fn data_dir(dir: &Path) -> PathBuf {
    let below = dir.join("data");
    if !FjallStore::is_in(dir) && FjallStore::is_in(&below) {
        below
    } else {
        dir.to_owned()
    }
}

/// Opens a stopped hub's store, with its sealed batches where they are; says what to do when it is in use or not
/// there.
pub(super) fn open_store(dir: &Path) -> anyhow::Result<Arc<dyn Store>> {
    let opened = FjallStore::open(dir);
    let opened = opened.and_then(|store| with_described_batches(dir, Arc::new(store)));
    opened.map_err(|error| match error {
        StoreError::InUse(_) => anyhow::Error::from(error).context(
            "a hub is running on it: stop the hub first, or ask it with `--url` where a command offers it",
        ),
        other => other.into(),
    })
    .with_context(|| format!("the ledger in {} cannot be opened", dir.display()))
}
