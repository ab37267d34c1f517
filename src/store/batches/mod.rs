//! Sealed bytes outside of the data directory: in a store that the site already runs.
//!
//! By default they are in the same fjall as the blocks, in the same commit. A [`BatchStore`] takes them
//! elsewhere; [`SplitStore`] puts both together again, so that nobody above needs to know (ADR 43).

mod faulty;
mod postgres;
mod split;

#[cfg(test)]
mod tests;

pub use faulty::{FaultyBatches, Lost};
pub use postgres::{PostgresAddress, PostgresBatches, PostgresConfig};
pub use split::SplitStore;

use super::small_file;
use crate::ledger::store::{Pair, Store, StoreError};
use std::path::Path;
use std::sync::Arc;

/// Where sealed bytes are kept, each under its hash. It belongs to one ledger, and one process. Blocking.
///
/// Every call either did all that it says, or is an error after which that is not known; all of them can be made
/// again. What comes back is checked by whoever asked.
pub trait BatchStore: Send + Sync {
    /// The name of the row under `hash`, for whoever has to look at it.
    fn row(&self, hash: &[u8]) -> String;

    /// Writes `batches` under their hashes, as part of commit `number`, and returns once they are durable. One that
    /// is there keeps the number that it has.
    fn put(&self, number: u64, batches: &[(&[u8], &[u8])]) -> Result<(), StoreError>;

    /// What is under `hash`.
    fn get(&self, hash: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// The next few of commits up to number `up_to`, ascending from hash `from` on; none: there are no more.
    fn page(&self, from: &[u8], up_to: u64) -> Result<Vec<Pair>, StoreError>;

    /// Removes what is under `hashes`; what is not there is no error.
    fn remove(&self, hashes: &[Vec<u8>]) -> Result<(), StoreError>;

    /// The number of the newest commit that anything is of; 0 where nothing is there.
    fn newest(&self) -> Result<u64, StoreError>;

    /// Removes what is of commit `number`; returns how many that were.
    fn sweep(&self, number: u64) -> Result<u64, StoreError>;
}

/// In a data directory, where its sealed bytes are; for commands that have no configuration.
const DESCRIPTION: &str = "batches.toml";
/// No description is longer.
const LONGEST: usize = 1 << 14;

/// The store of a hub with data directory `dir`: `base`, and for sealed bytes the database that its configuration
/// names, if it names one.
pub fn with_batches(
    dir: &Path,
    base: Arc<dyn Store>,
    config: Option<&PostgresConfig>,
) -> Result<Arc<dyn Store>, StoreError> {
    let Some(config) = config else {
        return match SplitStore::is_split(&*base)? {
            false => Ok(base),
            true => Err(StoreError::Io(
                "the sealed batches of this ledger are in a database: [ledger.postgres] is missing from the \
                 configuration"
                    .to_owned(),
            )),
        };
    };
    let config = config.absolute();
    let split = SplitStore::open(base, |ledger| {
        Ok(Box::new(PostgresBatches::open(&config, ledger)?))
    })?;
    let text = toml::to_string(&config).map_err(|e| StoreError::Io(e.to_string()))?;
    let text =
        format!("# Where the sealed batches of this ledger are; written by the hub.\n{text}");
    let path = dir.join(DESCRIPTION);
    if std::fs::read(&path).is_ok_and(|known| known == text.as_bytes()) {
        return Ok(Arc::new(split));
    }
    small_file::replace(&path, text.as_bytes(), 0o600)
        .map_err(|e| StoreError::Io(format!("{} cannot be written: {e}", path.display())))?;
    Ok(Arc::new(split))
}

/// The same for a stopped hub: its data directory says where its sealed bytes are.
pub fn with_described_batches(
    dir: &Path,
    base: Arc<dyn Store>,
) -> Result<Arc<dyn Store>, StoreError> {
    if !SplitStore::is_split(&*base)? {
        return Ok(base);
    }
    let path = dir.join(DESCRIPTION);
    let unusable = |why: String| {
        StoreError::Io(format!(
            "the sealed batches of this ledger are in a database, and {} does not say where: {why}; it holds the \
             keys of [ledger.postgres], a line each",
            path.display()
        ))
    };
    let mut bytes = Vec::new();
    match small_file::read_bounded(&path, LONGEST, &mut bytes) {
        Ok(true) => {}
        Ok(false) => return Err(unusable("it is too long".to_owned())),
        Err(e) => return Err(unusable(e.to_string())),
    }
    let text = String::from_utf8_lossy(&bytes);
    let config: PostgresConfig = toml::from_str(&text).map_err(|e| unusable(e.to_string()))?;
    if let Some((key, why)) = config.fault() {
        return Err(unusable(format!("`{key}`: {why}")));
    }
    let split = SplitStore::open(base, |ledger| {
        Ok(Box::new(PostgresBatches::open(&config, ledger)?))
    })?;
    Ok(Arc::new(split))
}
