//! The store's files are taken away while it is open.

use crate::ledger::store::{Put, Space, Store, StoreError};
use crate::store::FjallStore;
use std::fs;

fn put(n: u64) -> Put {
    Put {
        space: Space::Sealed,
        key: n.to_be_bytes().to_vec(),
        value: vec![1; 100],
    }
}

#[test]
#[cfg(unix)]
fn a_store_whose_files_vanish_is_damaged_and_never_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let store = FjallStore::create_or_open(dir.path()).unwrap();
    store.commit(&[put(0)]).unwrap();
    fs::remove_dir_all(dir.path().join("store")).unwrap();
    // The open files would take more, but nobody would ever find it again.
    for n in 1..4 {
        let refused = store.commit(&[put(n)]);
        assert!(
            matches!(refused, Err(StoreError::Damaged(_))),
            "{refused:?}"
        );
    }
    assert!(!dir.path().join("store").exists());
}
