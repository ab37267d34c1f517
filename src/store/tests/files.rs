//! Bytes changed in the files themselves are found, or change no content.

use super::*;
use crate::ledger::store::{Pair, Space, StoreError};
use crate::store::{FjallStore, HeadFile};
use std::fs;
use std::path::{Path, PathBuf};

/// Changed bytes tried in each file.
const TRIES: usize = 40;

/// A data directory whose ledger lies in the journal, in tables, or in both.
fn data_directory(flushed: bool) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(FjallStore::create_or_open(dir.path()).unwrap());
    let head = Box::new(HeadFile::new(dir.path()));
    let mut ledger = open_on(store.clone(), head, 1_000).unwrap();
    fill(&mut ledger);
    if flushed {
        store.flush();
        // Some more, so that both tables and journal are needed.
        let next = [store_draft(SUITE, "press-1", 4, 4_000)];
        ledger
            .append(&next, sealed_puts(SUITE, &next), 4_000)
            .unwrap();
    }
    dir
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

type Contents = Vec<Vec<Pair>>;

/// What verification says, and the contents if it finds nothing.
fn look(dir: &Path) -> Result<Contents, String> {
    let head = HeadFile::new(dir).read().map_err(|e| e.to_string())?;
    let store = FjallStore::open(dir).map_err(|e| e.to_string())?;
    let report = verify_store_with(&store, &head, None, &mut |_| {}, &*signer());
    let report = report.map_err(|e| e.to_string())?;
    if let Some(finding) = report.findings.first() {
        return Err(finding.to_string());
    }
    let all = |space| store.scan(space, &[]).map(|e| e.unwrap()).collect();
    Ok(Space::ALL.into_iter().map(all).collect())
}

/// Tries `change` on a copy of every file, at places spread over it, and returns how often it was
/// found.
fn try_everywhere(original: &Path, change: impl Fn(&mut Vec<u8>, usize)) -> usize {
    let intact = look(original).unwrap();
    let mut found = 0;
    for file in files(original) {
        let inside = file.strip_prefix(original).unwrap();
        let bytes = fs::read(&file).unwrap();
        // Beyond what was written there are only zeros.
        let written = bytes.iter().rposition(|b| *b != 0).map_or(0, |p| p + 1);
        for step in 0..TRIES.min(written) {
            let at = step * written / TRIES.min(written);
            let copied = tempfile::tempdir().unwrap();
            copy(original, copied.path());
            let mut changed = bytes.clone();
            change(&mut changed, at);
            fs::write(copied.path().join(inside), changed).unwrap();
            match look(copied.path()) {
                Ok(contents) => {
                    let same = contents == intact;
                    assert!(same, "{} at {at}: changed and not found", inside.display());
                }
                Err(_) => found += 1,
            }
        }
    }
    found
}

#[test]
fn a_changed_byte_is_found_or_changes_no_content() {
    for flushed in [false, true] {
        let dir = data_directory(flushed);
        let found = try_everywhere(dir.path(), |bytes, at| {
            bytes[at] ^= [0x01, 0x55, 0x80, 0xff][at % 4]
        });
        assert!(found > TRIES, "{found} changes found");
    }
}

#[test]
fn a_truncated_file_is_found_or_changes_no_content() {
    let dir = data_directory(true);
    let found = try_everywhere(dir.path(), |bytes, at| bytes.truncate(at));
    assert!(found > TRIES, "{found} changes found");
}

#[test]
fn a_data_directory_without_its_store_is_named() {
    let dir = data_directory(true);
    fs::remove_dir_all(dir.path().join("store")).unwrap();
    assert!(matches!(
        FjallStore::open(dir.path()),
        Err(StoreError::Missing(_))
    ));
    // A hub that starts on it notices that it had a ledger.
    let store = Arc::new(FjallStore::create_or_open(dir.path()).unwrap());
    let refused = open_on(store, Box::new(HeadFile::new(dir.path())), 5_000);
    assert!(matches!(
        refused,
        Err(LedgerError::Behind { store: 0, head: 4 })
    ));
}
