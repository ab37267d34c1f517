//! Every bit of every stored value matters, and verification says where it was changed.

use super::*;
use crate::ledger::head::Head;
use crate::ledger::key_wrap::KeyWrap;
use crate::ledger::keys::height_of;
use crate::ledger::report::{Progress, Where};
use crate::ledger::store::{Pair, Space};
use crate::ledger::testing::RememberingCheck;
use proptest::prelude::*;

fn small_ledger() -> (FaultyDisk, RememberingCheck) {
    let disk = FaultyDisk::new(1);
    fill(&mut open(&disk, 1_000).unwrap());
    let check = RememberingCheck::default();
    let report = verify_with(&disk, &check);
    assert_eq!(report.findings, []);
    assert_eq!((report.height, report.sealed, report.wraps), (3, 3, 1));
    (disk, check)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Whether a finding names the value under `key`.
fn names(place: &Where, space: Space, key: &[u8]) -> bool {
    match (space, place) {
        (Space::Blocks, Where::Block { height } | Where::Record { height, .. }) => {
            Some(*height) == height_of(key)
        }
        (Space::Sealed, Where::Sealed { key: named }) => *named == hex(key),
        (Space::Keys, Where::Keys { key: named }) => *named == hex(key),
        (Space::History, Where::History { key: named }) => *named == hex(key),
        _ => false,
    }
}

#[test]
fn every_flipped_bit_of_every_value_is_found_and_named() {
    let (disk, check) = small_ledger();
    for space in Space::ALL {
        for (key, value) in disk.contents(space) {
            for bit in 0..value.len() * 8 {
                let mut changed = value.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                disk.tamper(space, &key, Some(changed));
                let found = verify_with(&disk, &check).findings;
                let named = found.iter().any(|f| names(&f.place, space, &key));
                assert!(named, "bit {bit} of {space} {}: {found:?}", hex(&key));
            }
            disk.tamper(space, &key, Some(value));
        }
    }
    assert!(verify_with(&disk, &check).is_clean());
}

#[test]
fn every_flipped_bit_of_the_head_is_found() {
    let (disk, check) = small_ledger();
    let bytes = disk.head_bytes();
    for bit in 0..bytes.len() * 8 {
        // All of what is written, and a sample of the padding.
        let at = bit / 8 % 4096;
        if at > 300 && at < 4_050 && bit % 97 != 0 {
            continue;
        }
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        disk.tamper_head(&changed);
        let found = verify_with(&disk, &check).findings;
        let named = found.iter().any(|f| f.place == Where::Head);
        assert!(named, "bit {bit}: {found:?}");
    }
}

#[test]
fn a_missing_added_or_moved_value_is_found() {
    let (disk, check) = small_ledger();
    let all: Vec<(Space, Pair)> = Space::ALL
        .into_iter()
        .flat_map(|s| disk.contents(s).into_iter().map(move |pair| (s, pair)))
        .collect();
    for (space, (key, value)) in &all {
        disk.tamper(*space, key, None);
        let found = verify_with(&disk, &check);
        assert!(!found.is_clean(), "{space} {} removed", hex(key));
        let mut moved = key.clone();
        *moved.last_mut().unwrap() ^= 8;
        disk.tamper(*space, &moved, Some(value.clone()));
        let found = verify_with(&disk, &check);
        assert!(!found.is_clean(), "{space} {} moved", hex(key));
        disk.tamper(*space, key, Some(value.clone()));
        let found = verify_with(&disk, &check);
        assert!(!found.is_clean(), "{space} {} doubled", hex(key));
        disk.tamper(*space, &moved, None);
    }
    assert!(verify_with(&disk, &check).is_clean());
}

#[test]
fn an_older_but_valid_ledger_under_a_newer_head_is_found() {
    let (disk, _) = small_ledger();
    let newer = disk.head_bytes();
    let older = FaultyDisk::new(2);
    open(&older, 1_000).unwrap();
    older.tamper_head(&newer);
    let report = verify(&older);
    assert!(report.findings.iter().any(|f| f.place == Where::Head));
    let refused = open(&older, 5_000).err().unwrap();
    assert!(matches!(refused, LedgerError::Behind { store: 1, head: 3 }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever stands in a store, verification ends and says so.
    #[test]
    fn rubbish_values_are_found(
        space in prop::sample::select(Space::ALL.to_vec()),
        key in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40),
            // Like those that are kept somewhere: a letter, and what may follow it.
            (b'a'..=b'z', proptest::collection::vec(any::<u8>(), 0..20))
                .prop_map(|(kind, rest)| [vec![kind], rest].concat()),
            (0u64..6).prop_map(|h| h.to_be_bytes().to_vec()),
        ],
        value: Vec<u8>,
    ) {
        let (disk, check) = small_ledger();
        disk.tamper(space, &key, Some(value));
        prop_assert!(!verify_with(&disk, &check).is_clean());
        let _ = open(&disk, 9_000);
    }

    #[test]
    fn rubbish_is_no_head_and_no_wrap(bytes: Vec<u8>) {
        prop_assert!(Head::from_bytes(&bytes).is_err());
        prop_assert!(KeyWrap::from_bytes(&bytes).is_err());
    }
}

#[test]
fn heads_and_wraps_have_one_form() {
    let (disk, _) = small_ledger();
    let head = disk.head().read().unwrap().heads[0].clone();
    let wrap = disk.contents(Space::Keys)[0].1.clone();
    let flipped = |bytes: &[u8], bit: usize| {
        let mut changed = bytes.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        changed
    };
    for bit in 0..head.len() * 8 {
        let changed = flipped(&head, bit);
        if let Ok(read) = Head::from_bytes(&changed) {
            assert_eq!(read.to_bytes(), changed);
        }
    }
    for bit in 0..wrap.len() * 8 {
        let changed = flipped(&wrap, bit);
        if let Ok(read) = KeyWrap::from_bytes(&changed) {
            assert_eq!(read.to_bytes(), changed);
        }
    }
}

#[test]
fn progress_is_told_for_every_value() {
    let (disk, check) = small_ledger();
    let head = disk.head().read().unwrap();
    let mut told = Vec::new();
    let mut tell = |p: Progress| told.push((p.what, p.done, p.total));
    verify_store_with(&disk.store(), &head, None, &mut tell, &check).unwrap();
    let blocks = (0..3).map(|n| ("blocks", n, 3));
    let sealed = (0..3).map(|n| ("sealed bytes", n, 3));
    let keys = [("wrapped keys", 0, 1)];
    // One of the three sealed values is a document, which is found by other ways.
    let history = (0..2).map(|n| ("entries of the history", n, 2));
    let expected = blocks.chain(sealed).chain(keys).chain(history);
    assert_eq!(told, expected.collect::<Vec<_>>());
}
