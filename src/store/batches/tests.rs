//! The order of durability, what a crash leaves, and what does not come back as it was.

use super::{FaultyBatches, Lost, SplitStore, with_batches, with_described_batches};
use crate::ledger::store::{Pair, Put, Space, Store, StoreError};
use crate::store::FaultyDisk;
use proptest::prelude::*;
use std::sync::Arc;
use weighbridge_verifier::Suite;

fn open(disk: &FaultyDisk, batches: &FaultyBatches) -> SplitStore {
    SplitStore::open(Arc::new(disk.store()), |_| Ok(Box::new(batches.clone()))).unwrap()
}

/// Sealed bytes, and a block that refers to them.
fn block(number: u8, suite: Suite) -> (Vec<u8>, [Put; 2]) {
    let value = vec![number; 100];
    let hash = suite.hash(&[&value]).0.to_vec();
    let sealed = Put {
        space: Space::Sealed,
        key: hash.clone(),
        value,
    };
    let block = Put {
        space: Space::Blocks,
        key: u64::from(number).to_be_bytes().to_vec(),
        value: hash.clone(),
    };
    (hash, [sealed, block])
}

fn sealed(store: &dyn Store) -> Vec<Pair> {
    store.scan(Space::Sealed, &[]).map(Result::unwrap).collect()
}

#[test]
fn sealed_bytes_are_outside_and_everything_else_is_not() {
    let (disk, batches) = (FaultyDisk::new(1), FaultyBatches::default());
    for suite in [Suite::Nist, Suite::Guomi] {
        let store = open(&disk, &batches);
        let before = batches.rows();
        let blocks: Vec<_> = (1..=9).map(|number| block(number, suite)).collect();
        for (_, puts) in &blocks {
            store.commit(puts).unwrap();
        }
        assert_eq!(batches.rows(), before + 9);
        // The mark alone.
        assert_eq!(disk.contents(Space::Sealed).len(), 1);
        assert_eq!(disk.contents(Space::Blocks).len(), 9);
        let store = open(&disk, &batches);
        for (hash, puts) in &blocks {
            let found = store.get(Space::Sealed, hash).unwrap();
            assert_eq!(found.as_ref(), Some(&puts[0].value));
        }
        assert_eq!(store.get(Space::Sealed, &[7; 32]).unwrap(), None);
        let all = sealed(&store);
        assert!(all.is_sorted());
        assert_eq!(all.len(), batches.rows());
        assert_eq!(store.last(Space::Sealed).unwrap().as_ref(), all.last());
        let from: Vec<Pair> = store
            .scan(Space::Sealed, &all[4].0)
            .map(Result::unwrap)
            .collect();
        assert_eq!(from, all[4..]);
        let gone = [blocks[0].0.clone(), vec![9; 32]];
        store.remove(Space::Sealed, &gone).unwrap();
        assert_eq!(store.get(Space::Sealed, &gone[0]).unwrap(), None);
        assert_eq!(batches.rows(), before + 8);
    }
}

#[test]
fn what_was_in_the_data_directory_stays_readable_there() {
    let (disk, batches) = (FaultyDisk::new(2), FaultyBatches::default());
    let (old, puts) = block(1, Suite::Nist);
    disk.store().commit(&puts).unwrap();
    let store = open(&disk, &batches);
    let (new, puts) = block(2, Suite::Nist);
    store.commit(&puts).unwrap();
    assert_eq!((batches.rows(), sealed(&store).len()), (1, 2));
    // Also while the database is away.
    batches.lose(Lost::All);
    assert!(store.get(Space::Sealed, &old).unwrap().is_some());
    assert!(store.get(Space::Sealed, &new).is_err());
    batches.lose(Lost::No);
    store.remove(Space::Sealed, &[old.clone(), new]).unwrap();
    assert_eq!(store.get(Space::Sealed, &old).unwrap(), None);
    assert_eq!(sealed(&store), []);
}

#[test]
fn while_the_database_is_away_nothing_is_committed_and_then_it_goes_on() {
    for lost in [Lost::All, Lost::Answers] {
        let (disk, batches) = (FaultyDisk::new(3), FaultyBatches::default());
        let store = open(&disk, &batches);
        batches.lose(lost);
        let (_, puts) = block(1, Suite::Nist);
        for _ in 0..3 {
            let error = store.commit(&puts).unwrap_err();
            assert!(error.to_string().contains("does not answer"), "{error}");
            assert_eq!(disk.contents(Space::Blocks), []);
        }
        // What has no sealed bytes needs no database.
        store.commit(&puts[1..]).unwrap();
        batches.lose(Lost::No);
        store.commit(&puts).unwrap();
        assert_eq!(sealed(&store).len(), 1);
        assert_eq!(batches.rows(), 1);
    }
}

#[test]
fn a_row_that_is_changed_is_named_and_never_served() {
    let (disk, batches) = (FaultyDisk::new(4), FaultyBatches::default());
    let store = open(&disk, &batches);
    let blocks: Vec<_> = (1..=5).map(|number| block(number, Suite::Nist)).collect();
    for (_, puts) in &blocks {
        store.commit(puts).unwrap();
    }
    let (hash, puts) = &blocks[2];
    batches.change(hash);
    let row: String = hash.iter().map(|b| format!("{b:02x}")).collect();
    let names_it = |error: &StoreError| matches!(error, StoreError::Damaged(why) if why.contains(&row) && why.contains("is changed"));
    assert!(names_it(&store.get(Space::Sealed, hash).unwrap_err()));
    // The others are there.
    let (well, wrong): (Vec<_>, Vec<_>) = store.scan(Space::Sealed, &[]).partition(Result::is_ok);
    assert_eq!((well.len(), wrong.len()), (4, 1));
    assert!(names_it(wrong[0].as_ref().unwrap_err()));
    // Who commits the same again makes it good.
    store.commit(puts).unwrap();
    assert!(store.get(Space::Sealed, hash).unwrap().is_some());
}

#[test]
fn what_a_directory_from_a_backup_does_not_know_is_never_shown() {
    let (disk, batches) = (FaultyDisk::new(7), FaultyBatches::default());
    let store = open(&disk, &batches);
    for number in 1..=5 {
        store.commit(&block(number, Suite::Nist).1).unwrap();
    }
    disk.lose_tail(3);
    let store = open(&disk, &batches);
    assert_eq!((batches.rows(), sealed(&store).len()), (5, 2));
    for number in 11..=15 {
        store.commit(&block(number, Suite::Nist).1).unwrap();
        let named = disk.contents(Space::Blocks).len();
        assert_eq!(sealed(&store).len(), named);
    }
    assert_eq!(batches.rows(), 7);
}

#[test]
fn a_slow_database_keeps_nobody_from_reading_and_nothing_comes_before_it() {
    let (disk, batches) = (FaultyDisk::new(5), FaultyBatches::default());
    let store = open(&disk, &batches);
    let (hash, puts) = block(1, Suite::Nist);
    store.commit(&puts).unwrap();
    batches.hold(true);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| store.commit(&block(2, Suite::Nist).1));
        batches.wait_for_a_writer();
        assert!(store.get(Space::Sealed, &hash).unwrap().is_some());
        assert_eq!(disk.contents(Space::Blocks).len(), 1);
        batches.hold(false);
        writer.join().unwrap().unwrap();
    });
    assert_eq!(disk.contents(Space::Blocks).len(), 2);
}

#[test]
fn a_ledger_whose_batches_are_elsewhere_is_not_opened_without_them() {
    let (disk, batches) = (FaultyDisk::new(6), FaultyBatches::default());
    let dir = tempfile::tempdir().unwrap();
    let base = || Arc::new(disk.store()) as Arc<dyn Store>;
    assert!(with_batches(dir.path(), base(), None).is_ok());
    assert!(with_described_batches(dir.path(), base()).is_ok());
    open(&disk, &batches);
    let error = with_batches(dir.path(), base(), None).err().unwrap();
    assert!(
        error.to_string().contains("[ledger.postgres] is missing"),
        "{error}"
    );
    let missing = with_described_batches(dir.path(), base()).err().unwrap();
    assert!(
        missing
            .to_string()
            .contains("batches.toml does not say where"),
        "{missing}"
    );
    // Nobody listens there, and that is said as well.
    let socket = dir.path().display();
    std::fs::write(
        dir.path().join("batches.toml"),
        format!("address = \"{socket}\"\n"),
    )
    .unwrap();
    let away = with_described_batches(dir.path(), base()).err().unwrap();
    assert!(
        away.to_string().contains("database `weighbridge` at"),
        "{away}"
    );
    std::fs::write(
        dir.path().join("batches.toml"),
        "address = \"192.0.2.1:5432\"\n",
    )
    .unwrap();
    let plain = with_described_batches(dir.path(), base()).err().unwrap();
    assert!(plain.to_string().contains("by TLS only"), "{plain}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whenever the power fails and the connection is lost: what a durable block names is there, and what is there is
    /// named by one, or was to be by one that is tried again.
    #[test]
    fn over_any_crashes_a_durable_block_has_its_bytes_and_nothing_else_is_shown(
        seed in any::<u64>(),
        steps in prop::collection::vec((any::<bool>(), 0_u64..6, 0_u8..4), 1..40),
    ) {
        let (disk, batches) = (FaultyDisk::new(seed), FaultyBatches::default());
        let mut store = open(&disk, &batches);
        for (number, (cut, power, lost)) in (1_u8..).zip(steps) {
            batches.lose(match lost {
                0 => Lost::All,
                1 => Lost::Answers,
                _ => Lost::No,
            });
            if cut {
                disk.cut_power_in(power);
            }
            let _ = store.commit(&block(number, Suite::Nist).1);
            batches.lose(Lost::No);
            if !disk.powered() {
                disk.restart();
                store = open(&disk, &batches);
                // A restarted hub shows nothing that no block names.
                let named: Vec<_> = disk.contents(Space::Blocks).into_iter().map(|(_, hash)| hash).collect();
                for (hash, _) in sealed(&store) {
                    prop_assert!(named.contains(&hash));
                }
            }
            for (_, hash) in disk.contents(Space::Blocks) {
                prop_assert!(store.get(Space::Sealed, &hash).unwrap().is_some());
            }
        }
    }
}
