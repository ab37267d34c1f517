//! Moving wrapped keys out of a store that an earlier version wrote.
//!
//! That version kept them among fjall's tables. They go into slots, and then what is left of them is
//! destroyed: their tables and the journals that they were in are overwritten before they are given up.
//! Whatever was interrupted is done again, from the top, when the store is opened next.

use super::fjall_store::{Inner, guarded, io};
use super::key_slots::KeySlots;
use crate::ledger::store::StoreError;
use fjall::{Keyspace, KeyspaceCreateOptions};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Name of the keyspace that held them.
const KEYSPACE: &str = "keys";
/// Folder inside the data directory of what is to be overwritten.
const SCRUB: &str = "scrub";
/// Wraps moved at a time.
const TOGETHER: usize = 256;

/// Where the files wait that are to be overwritten, in data directory `dir`.
pub(super) fn scrub_folder(dir: &Path) -> PathBuf {
    dir.join(SCRUB)
}

/// Moves the wraps of the store in `folder` into `slots`, where it has any, and finishes what was begun
/// before. `flush` writes everything that is in the journal into tables.
pub(super) fn move_out(
    (dir, folder): (&Path, &Path),
    inner: Inner,
    slots: &mut KeySlots,
) -> Result<Inner, StoreError> {
    let scrub = scrub_folder(dir);
    if !inner.database.keyspace_exists(KEYSPACE) {
        overwrite(&scrub, false)?;
        return Ok(inner);
    }
    tracing::info!("the wrapped keys move to where they can be overwritten");
    let keys = guarded(|| {
        let options = KeyspaceCreateOptions::default;
        inner.database.keyspace(KEYSPACE, options)
    })?;
    copy(&keys, slots)?;
    // What is there from an earlier attempt is still in use, but for the journals.
    overwrite(&scrub, true)?;
    make(&scrub)?;
    inner.flush()?;
    guarded(|| keys.rotate_memtable_and_wait())?;
    link(&keys.path().join("tables"), &scrub)?;
    guarded(|| inner.database.delete_keyspace(keys.clone()))?;
    drop((keys, inner));
    // Everything is in tables now.
    for path in files(folder)? {
        if path.extension().is_some_and(|e| e == "jnl") {
            let to = scrub.join(path.file_name().unwrap_or_default());
            fs::rename(&path, to).map_err(|e| failed(&path, &e))?;
        }
    }
    let inner = Inner::open(folder, true)?;
    overwrite(&scrub, false)?;
    Ok(inner)
}

fn copy(keys: &Keyspace, slots: &mut KeySlots) -> Result<(), StoreError> {
    let mut pairs = Vec::new();
    let mut entries = guarded(|| Ok(keys.iter()))?;
    loop {
        let entry = guarded(|| entries.next().map(fjall::Guard::into_inner).transpose())?;
        let ended = entry.is_none();
        pairs.extend(entry.map(|(key, value)| (key.to_vec(), value.to_vec())));
        if pairs.len() < TOGETHER && !ended {
            continue;
        }
        let mut new = Vec::new();
        for (key, value) in &pairs {
            // What is in a slot is newer, or was destroyed.
            if slots.get(key)?.is_none() {
                new.push((key.as_slice(), value.as_slice()));
            }
        }
        slots.put(&new)?;
        pairs.clear();
        if ended {
            return Ok(());
        }
    }
}

/// Keeps hold of the files in `from`, so that they can be overwritten when the store has given them up.
fn link(from: &Path, scrub: &Path) -> Result<(), StoreError> {
    for path in files(from)? {
        let to = scrub.join(path.file_name().unwrap_or_default());
        fs::hard_link(&path, to).map_err(|e| failed(&path, &e))?;
    }
    Ok(())
}

/// Overwrites and removes all in `scrub`; of what is `in_use` it removes the links.
fn overwrite(scrub: &Path, in_use: bool) -> Result<(), StoreError> {
    if !scrub.is_dir() {
        return Ok(());
    }
    for path in files(scrub)? {
        let journal = path.extension().is_some_and(|e| e == "jnl");
        if journal || !in_use {
            zeros(&path).map_err(|e| failed(&path, &e))?;
        }
        fs::remove_file(&path).map_err(|e| failed(&path, &e))?;
    }
    fs::remove_dir(scrub).map_err(|e| failed(scrub, &e))
}

fn zeros(path: &Path) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    let mut left = file.metadata()?.len();
    let zeros = vec![0; 1 << 16];
    while left > 0 {
        let some = usize::try_from(left).unwrap_or(usize::MAX).min(zeros.len());
        file.write_all(zeros.get(..some).unwrap_or_default())?;
        left -= some as u64;
    }
    file.sync_all()
}

fn make(scrub: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(scrub).map_err(|e| failed(scrub, &e))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let listed = || -> std::io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_file() {
                found.push(path);
            }
        }
        Ok(found)
    };
    listed().map_err(|e| failed(folder, &e))
}

fn failed(path: &Path, error: &std::io::Error) -> StoreError {
    io(&path.display().to_string(), error)
}
