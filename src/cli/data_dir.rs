//! Which directory a person means by "the ledger's directory".

use crate::ledger::store::StoreError;
use crate::store::FjallStore;
use anyhow::Context;
use std::path::{Path, PathBuf};

/// `dir` itself if a ledger is in it, else its `data`, as `init` and `demo` lay it out.
pub(super) fn data_dir(dir: &Path) -> PathBuf {
    let below = dir.join("data");
    if !FjallStore::is_in(dir) && FjallStore::is_in(&below) {
        below
    } else {
        dir.to_owned()
    }
}

/// Opens a stopped hub's store; says what to do when it is in use or not there.
pub(super) fn open_store(dir: &Path) -> anyhow::Result<FjallStore> {
    FjallStore::open(dir).map_err(|error| match error {
        StoreError::InUse(_) => anyhow::Error::from(error).context(
            "a hub is running on it: stop the hub first, or ask it with `--url` where a command offers it",
        ),
        other => other.into(),
    })
    .with_context(|| format!("the ledger in {} cannot be opened", dir.display()))
}
