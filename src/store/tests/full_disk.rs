//! A real file system without room.

use super::*;
use crate::ledger::store::{Space, StoreError};
use crate::store::{FjallStore, HeadFile};
use std::fs;
use std::path::PathBuf;
use weighbridge_verifier::{BatchContent, Content as RecordContent};

/// A batch with a megabyte of ciphertext.
fn large_batch(sequence: u64) -> (Vec<Draft>, Vec<Put>) {
    let noise = |i: u64| SUITE.hash(&[&sequence.to_le_bytes(), &i.to_le_bytes()]).0;
    let value: Vec<u8> = (0..32 * 1024).flat_map(noise).collect();
    let hash = SUITE.hash(&[&value]);
    let mut draft = store_draft(SUITE, "press-1", sequence, 1_000);
    if let RecordContent::Batch(BatchContent {
        sealed: Some(sealed),
        ..
    }) = &mut draft.content
    {
        sealed.hash = hash;
        sealed.length = value.len() as u64;
    }
    let put = Put {
        space: Space::Sealed,
        key: hash.0.to_vec(),
        value,
    };
    let wrap = wrap_put(CHAIN, "press-1", &signer());
    (vec![draft], vec![put, wrap])
}

/// Needs a small file system of its own, for example:
/// `mount -t tmpfs -o size=64m none /mnt/small; SMALL_DISK=/mnt/small cargo test -- --ignored full`
#[test]
#[ignore = "needs a small file system in $SMALL_DISK"]
fn a_full_disk_stops_nothing_for_good() {
    let disk = PathBuf::from(std::env::var("SMALL_DISK").unwrap());
    let (dir, ballast) = (disk.join("data"), disk.join("ballast"));
    fs::write(&ballast, vec![1; 40 << 20]).unwrap();
    let open = || {
        let store = Arc::new(FjallStore::create_or_open(&dir)?);
        open_on(store, Box::new(HeadFile::new(&dir)), 1_000)
    };
    let mut ledger = open().unwrap();
    let mut full = None;
    for sequence in 1..200 {
        let (drafts, puts) = large_batch(sequence);
        let before = (*ledger.tip(), ledger.state().hash());
        if ledger.append(&drafts, puts, 2_000).is_err() {
            assert_eq!((*ledger.tip(), ledger.state().hash()), before);
            // What was half written is given back, so that it may fit now.
            if let Err(e) = ledger.retry() {
                full = Some((sequence, e));
                break;
            }
        }
    }
    let (sequence, error) = full.unwrap();
    let said = matches!(error, LedgerError::Store(StoreError::Full));
    assert!(said, "{error}");
    assert_eq!(ledger.state().device("press-1").sequence, sequence - 1);
    // Somebody makes room; the same hub goes on.
    fs::remove_file(&ballast).unwrap();
    let block = ledger.retry().unwrap();
    assert_eq!(block.header.height, sequence + 1);
    for more in 1..5 {
        let (drafts, puts) = large_batch(sequence + more);
        ledger.append(&drafts, puts, 3_000).unwrap();
    }
    drop(ledger);
    let ledger = open().unwrap();
    assert_eq!(ledger.state().device("press-1").sequence, sequence + 4);
    drop(ledger);
    let store = FjallStore::open(&dir).unwrap();
    let head = HeadFile::new(&dir).read().unwrap();
    let report = verify_store(&store, &head, None, &mut |_| {}).unwrap();
    assert_eq!(report.findings, []);
    drop(store);
    fs::remove_dir_all(&dir).unwrap();
}
