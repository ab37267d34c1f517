//! A look at fjall's manifests before fjall reads them.
//!
//! Each keyspace has a folder with a file `current`: the number of the manifest in force (u64) and
//! that file's XXH3 checksum (u128), little-endian, and a zero. fjall writes the checksum but does
//! not compare it: a changed byte in a manifest can make it ask for gigabytes of memory, or delete
//! what it takes for leftovers. Its tables and blob files end with a table of contents and a trailer
//! (`SFA!`, version, kind, the contents' XXH3 checksum (u128), their position (u64), their length
//! (u64)); that checksum is compared only after their count was believed. So both are compared here,
//! and what does not fit is not opened.

use crate::ledger::store::StoreError;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use xxhash_rust::xxh3::xxh3_128;

/// No manifest comes near this size: it names the files of one keyspace.
const MAX_MANIFEST: u64 = 64 << 20;

/// Bytes of a trailer.
const TRAILER: usize = 38;

/// Checks the manifests of all keyspaces of the database in `folder`, if there is one; with `moving`, of
/// one that may have given up a keyspace in part.
pub(super) fn check_manifests(folder: &Path, moving: bool) -> Result<(), StoreError> {
    let keyspaces = folder.join("keyspaces");
    if !keyspaces.is_dir() {
        // A new database, or one whose folder was lost; the signed head tells the two apart.
        return Ok(());
    }
    let entries = fs::read_dir(&keyspaces).map_err(|e| failed(&keyspaces, &e))?;
    for entry in entries {
        let path = entry.map_err(|e| failed(&keyspaces, &e))?.path();
        let given_up = moving && !path.join("current").exists();
        if path.is_dir() && !given_up {
            check_keyspace(&path)?;
        }
    }
    Ok(())
}

fn check_keyspace(folder: &Path) -> Result<(), StoreError> {
    let current = folder.join("current");
    let bytes = match fs::read(&current) {
        Ok(bytes) => bytes,
        // Not yet initialized when the power failed; with tables in it, it was.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !has_tables(folder) => return Ok(()),
        Err(e) => return Err(failed(&current, &e)),
    };
    let damaged = || StoreError::Damaged(format!("{} is malformed", current.display()));
    let (number, rest) = bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
    let (checksum, kind) = rest.split_first_chunk::<16>().ok_or_else(damaged)?;
    if kind != [0] {
        return Err(damaged());
    }
    let manifest = folder.join(format!("v{}", u64::from_le_bytes(*number)));
    let length = fs::metadata(&manifest)
        .map_err(|e| failed(&manifest, &e))?
        .len();
    let content = match length {
        0..=MAX_MANIFEST => fs::read(&manifest).map_err(|e| failed(&manifest, &e))?,
        _ => Vec::new(),
    };
    if xxh3_128(&content) != u128::from_le_bytes(*checksum) {
        return Err(mismatch(&manifest));
    }
    for inner in [
        folder.to_owned(),
        folder.join("tables"),
        folder.join("blobs"),
    ] {
        check_archives(&inner)?;
    }
    Ok(())
}

/// Checks the tables of contents of all files in `folder` that have one.
fn check_archives(folder: &Path) -> Result<(), StoreError> {
    if !folder.is_dir() {
        return Ok(());
    }
    let entries = fs::read_dir(folder).map_err(|e| failed(folder, &e))?;
    for entry in entries {
        let path = entry.map_err(|e| failed(folder, &e))?.path();
        if path.is_file() && !archive_holds(&path).map_err(|e| failed(&path, &e))? {
            return Err(mismatch(&path));
        }
    }
    Ok(())
}

/// Whether the table of contents of a file has the checksum that its trailer says. A file without a
/// trailer was not finished; fjall refuses it itself if it is needed.
fn archive_holds(path: &Path) -> std::io::Result<bool> {
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    let Some(end) = length.checked_sub(TRAILER as u64) else {
        return Ok(true);
    };
    let mut trailer = [0; TRAILER];
    file.seek(SeekFrom::Start(end))?;
    file.read_exact(&mut trailer)?;
    let fields = trailer.split_first_chunk::<6>().and_then(|(head, rest)| {
        let (checksum, rest) = rest.split_first_chunk::<16>()?;
        let position = rest.first_chunk::<8>()?;
        let known = *head == *b"SFA!\x01\x00";
        let numbers = (
            u128::from_le_bytes(*checksum),
            u64::from_le_bytes(*position),
        );
        known.then_some(numbers)
    });
    let Some((checksum, position)) = fields else {
        return Ok(true);
    };
    let Some(size) = end.checked_sub(position).filter(|s| *s <= MAX_MANIFEST) else {
        return Ok(false);
    };
    let mut contents = Vec::new();
    file.seek(SeekFrom::Start(position))?;
    file.take(size).read_to_end(&mut contents)?;
    Ok(xxh3_128(&contents) == checksum)
}

fn mismatch(path: &Path) -> StoreError {
    StoreError::Damaged(format!("{} does not have its checksum", path.display()))
}

fn has_tables(folder: &Path) -> bool {
    let tables = fs::read_dir(folder.join("tables"));
    tables.is_ok_and(|mut entries| entries.next().is_some())
}

fn failed(path: &Path, error: &std::io::Error) -> StoreError {
    let what = format!("{}: {error}", path.display());
    match error.kind() {
        std::io::ErrorKind::NotFound => StoreError::Damaged(what),
        _ => StoreError::Io(what),
    }
}
