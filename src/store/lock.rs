//! One process at a time: a lock on a file in the data directory.

use crate::ledger::store::StoreError;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

/// Name of the lock file.
const LOCK_FILE: &str = "weighbridge.lock";

/// Held as long as the data directory is in use; the operating system lets go of it when the process
/// ends, however it ends.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Takes the lock of directory `dir`, or says that another process has it.
    pub fn take(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(LOCK_FILE);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|e| StoreError::Io(format!("{} cannot be opened: {e}", path.display())))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse(dir.to_owned())),
            Err(TryLockError::Error(e)) => Err(StoreError::Io(format!(
                "{} cannot be locked: {e}",
                path.display()
            ))),
        }
    }
}
