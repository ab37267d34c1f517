//! A ledger over fjall goes on where it was, once.

use super::*;
use crate::ledger::store::StoreError;
use crate::store::{FjallStore, HeadFile};
use std::path::Path;

fn open_dir(dir: &Path) -> Result<Ledger, LedgerError> {
    let store = Arc::new(FjallStore::create_or_open(dir)?);
    open_on(store, Box::new(HeadFile::new(dir)), 1_000)
}

#[test]
fn a_reopened_ledger_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open_dir(dir.path()).unwrap();
    assert_eq!(ledger.tip().height, 1);
    fill(&mut ledger);
    let before = (*ledger.tip(), ledger.state().hash());
    drop(ledger);
    let mut ledger = open_dir(dir.path()).unwrap();
    assert_eq!((*ledger.tip(), ledger.state().hash()), before);
    assert_eq!(ledger.state().device("press-1").sequence, 3);
    let again = [store_draft(SUITE, "press-1", 3, 4_000)];
    let twice = ledger.append(&again, sealed_puts(SUITE, &again), 4_000);
    assert!(matches!(twice, Err(LedgerError::Assemble(_))));
    let next = [store_draft(SUITE, "press-1", 4, 4_000)];
    ledger
        .append(&next, sealed_puts(SUITE, &next), 4_000)
        .unwrap();
    drop(ledger);
    let head = HeadFile::new(dir.path()).read().unwrap();
    let store = FjallStore::open(dir.path()).unwrap();
    let report = verify_store(&store, &head, None, &mut |_| {}).unwrap();
    assert_eq!(report.findings, []);
    assert_eq!((report.height, report.totals.batches()), (4, 4));
}

#[test]
fn a_data_directory_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open_dir(dir.path()).unwrap();
    for second in [
        FjallStore::create_or_open(dir.path()),
        FjallStore::open(dir.path()),
    ] {
        assert!(matches!(second, Err(StoreError::InUse(_))));
    }
    drop(ledger);
    open_dir(dir.path()).unwrap();
}

#[test]
fn a_directory_without_a_store_is_not_made_one_by_looking() {
    let dir = tempfile::tempdir().unwrap();
    let missing = FjallStore::open(dir.path());
    assert!(matches!(missing, Err(StoreError::Missing(_))));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn another_key_may_not_go_on() {
    let disk = FaultyDisk::new(1);
    open(&disk, 1_000).unwrap();
    let chain = ChainConfig {
        id: CHAIN.to_owned(),
    };
    let stranger = Arc::new(TestSigner::new(SUITE, "hub-1", 2));
    let store = Arc::new(disk.store());
    let refused = Ledger::open(store, Box::new(disk.head()), chain, stranger, 2_000);
    assert!(matches!(refused, Err(LedgerError::HeadSignature(_))));
}

#[test]
fn sealed_bytes_must_come_with_their_record() {
    let disk = FaultyDisk::new(1);
    let mut ledger = open(&disk, 1_000).unwrap();
    let drafts = [store_draft(SUITE, "press-1", 1, 1_500)];
    let refused = ledger.append(&drafts, Vec::new(), 2_000);
    let first = LedgerError::SealedMissing {
        index: 0,
        hash: batch_content(SUITE, "press-1", 1, 1).sealed.unwrap().hash,
    };
    assert_eq!(refused.unwrap_err().to_string(), first.to_string());
    assert_eq!(ledger.pending(), None);
    ledger
        .append(&drafts, sealed_puts(SUITE, &drafts), 2_000)
        .unwrap();
}

#[test]
fn trust_is_a_matter_of_the_key() {
    let disk = FaultyDisk::new(1);
    fill(&mut open(&disk, 1_000).unwrap());
    let head = disk.head().read().unwrap();
    let check = |key| verify_store(&disk.store(), &head, key, &mut |_| {}).unwrap();
    use crate::crypto::Signer;
    use crate::ledger::report::LedgerTrust;
    assert_eq!(check(None).trust, LedgerTrust::SelfConsistentOnly);
    let key = signer().public_key();
    let own = check(Some(&key));
    assert_eq!((own.trust, own.is_clean()), (LedgerTrust::Key, true));
    let stranger = TestSigner::new(SUITE, "hub-1", 2).public_key();
    assert!(!check(Some(&stranger)).is_clean());
}
