//! A data directory whose wrapped keys are still among fjall's tables.

use super::*;
use crate::ledger::key_wrap::keys_of;
use crate::ledger::store::Space;
use crate::store::{FjallStore, HeadFile};
use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use std::fs;
use std::path::Path;

/// Puts the wraps of a new directory back where an earlier version had them: some in tables, some in the
/// journal, some that were overwritten there.
fn as_it_was(dir: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let store = Arc::new(FjallStore::create_or_open(dir).unwrap());
    fill(&mut open_on(store.clone(), Box::new(HeadFile::new(dir)), 1_000).unwrap());
    let mut wraps: Vec<_> = store.scan(Space::Keys, &[]).map(|e| e.unwrap()).collect();
    assert_eq!(wraps.len(), 1);
    for device in ["lathe-3", "robot-2"] {
        let put = wrap_put(CHAIN, device, &signer());
        wraps.push((put.key, put.value));
    }
    drop(store);
    fs::remove_file(dir.join("wraps")).unwrap();
    let database = Database::builder(dir.join("store")).open().unwrap();
    let keys = database
        .keyspace("keys", KeyspaceCreateOptions::default)
        .unwrap();
    for (n, (key, value)) in wraps.iter().enumerate() {
        keys.insert(key.clone(), b"an older wrap of this key")
            .unwrap();
        keys.insert(key.clone(), value.clone()).unwrap();
        if n == 1 {
            keys.rotate_memtable_and_wait().unwrap();
        }
    }
    database.persist(PersistMode::SyncAll).unwrap();
    wraps.sort();
    wraps
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

/// In which files these bytes are.
fn holding(dir: &Path, what: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files(dir) {
        let bytes = fs::read(&file).unwrap();
        if bytes.windows(what.len()).any(|w| w == what) {
            found.push(file.strip_prefix(dir).unwrap().display().to_string());
        }
    }
    found
}

fn moved(dir: &Path, wraps: &[(Vec<u8>, Vec<u8>)]) {
    let store = FjallStore::open(dir).unwrap();
    let now: Vec<_> = store.scan(Space::Keys, &[]).map(|e| e.unwrap()).collect();
    assert_eq!(now, wraps);
    for (_, wrap) in wraps {
        // The middle of it: no table or journal has a part of it either.
        assert_eq!(holding(dir, &wrap[100..160]), ["wraps"]);
    }
    assert!(holding(dir, b"an older wrap").is_empty());
    assert!(!dir.join("scrub").exists());
    let head = HeadFile::new(dir).read().unwrap();
    let report = verify_store_with(&store, &head, None, &mut |_| {}, &*signer()).unwrap();
    // Two of the wraps are there for nothing; nothing else is to be said.
    assert_eq!((report.findings, report.height), (vec![], 3));
}

#[test]
fn wraps_move_into_slots_and_nothing_is_left_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let wraps = as_it_was(dir.path());
    let before = holding(dir.path(), &wraps[0].1[100..160]);
    assert!(
        !before.is_empty() && !before.contains(&"wraps".to_owned()),
        "{before:?}"
    );
    moved(dir.path(), &wraps);
    // Once and for all; what is destroyed does not come back.
    let store = FjallStore::open(dir.path()).unwrap();
    let all: Vec<_> = wraps.iter().map(|(key, _)| key.clone()).collect();
    store.remove(Space::Keys, &all).unwrap();
    drop(store);
    let store = FjallStore::open(dir.path()).unwrap();
    assert_eq!(store.get(Space::Keys, &wraps[0].0).unwrap(), Some(vec![]));
    assert!(holding(dir.path(), &wraps[0].1[100..160]).is_empty());
    assert!(keys_of(&store, "press-1").unwrap().len() <= 1);
}

/// What an interrupted attempt leaves: links to tables that are in use, a slot or two, files to be overwritten.
#[test]
fn an_interrupted_move_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let wraps = as_it_was(dir.path());
    let scrub = dir.path().join("scrub");
    fs::create_dir(&scrub).unwrap();
    for (n, file) in files(&dir.path().join("store")).into_iter().enumerate() {
        if file.parent().is_some_and(|p| p.ends_with("tables")) {
            fs::hard_link(&file, scrub.join(n.to_string())).unwrap();
        }
    }
    moved(dir.path(), &wraps);
    fs::create_dir(&scrub).unwrap();
    fs::write(scrub.join("7.jnl"), &wraps[0].1).unwrap();
    moved(dir.path(), &wraps);
}
