//! Who signs, on chains whose hubs vote.

use super::*;
use crate::ledger::keys::height_key;
use crate::ledger::proof::Exhibits;
use crate::ledger::store::{Put, Space};
use crate::ledger::testing::Memory;
use crate::ledger::testing_hubs::{Hubs, Said};
use std::sync::Arc;
use weighbridge_verifier::evidence::{Evidence, SHARED_FORMAT, Trust};
use weighbridge_verifier::succession::SetChange;
use weighbridge_verifier::{Faults, PublicKey, Suite, encode};

const SUITE: Suite = Suite::Nist;

fn stored(hubs: &Hubs) -> Explorer {
    let store = Memory::default();
    for block in &hubs.blocks {
        let put = Put {
            space: Space::Blocks,
            key: height_key(block.header.height),
            value: encode(block),
        };
        store.commit(&[put]).unwrap();
    }
    Explorer::new(Arc::new(store))
}

/// The evidence of the last records of these blocks, and of who signed them.
fn shown(explorer: &Explorer, heights: &[u64]) -> Evidence {
    let mut succession = Succession::begin(explorer).unwrap();
    let mut exhibits = Exhibits::new(succession.set().clone());
    let genesis = explorer.genesis().unwrap().unwrap();
    exhibits.show_record(&genesis, 0).unwrap();
    for height in heights {
        let block = explorer.block(*height).unwrap().unwrap();
        exhibits
            .show_record(&block, block.records.len() - 1)
            .unwrap();
        for (block, index) in succession.through(*height).unwrap() {
            exhibits.show_record(&block, index).unwrap();
        }
    }
    exhibits.into_evidence().unwrap()
}

/// Every block is proven from the first hub's key on, alone and with others; and in no other way than by
/// that key.
fn every_block_is_proven(hubs: &mut Hubs) -> Explorer {
    let explorer = stored(hubs);
    let first = hubs.key("a");
    let tip = hubs.blocks.len() as u64;
    for height in 2..=tip {
        let mut succession = Succession::begin(&explorer).unwrap();
        succession.until(height).unwrap();
        let signed_by = succession.set().hash(SUITE);
        let header = &hubs.blocks[height as usize - 1].header;
        assert_eq!(signed_by, header.validators_hash, "block {height}");
        for heights in [vec![height], vec![2, height], (2..=height).collect()] {
            let evidence = shown(&explorer, &heights);
            assert_eq!(evidence.verify(&[first]).unwrap(), Trust::Key, "{height}");
            let stranger = PublicKey([2; 33]);
            assert!(evidence.verify(&[stranger]).is_err());
            let bytes = evidence.to_bytes();
            assert!(String::from_utf8_lossy(&bytes).contains(SHARED_FORMAT));
            assert_eq!(Evidence::from_bytes(&bytes).unwrap(), evidence);
        }
    }
    let mut succession = Succession::begin(&explorer).unwrap();
    succession.to_the_end(tip).unwrap();
    assert_eq!(succession.set(), hubs.set());
    explorer
}

/// One block a record.
fn each(hubs: &mut Hubs, said: Vec<Said>) {
    for one in said {
        hubs.decide(0, vec![one]);
    }
}

fn idle(hubs: &mut Hubs, hub: &str, blocks: usize) {
    for _ in 0..blocks {
        let read = hubs.read(hub);
        hubs.decide(1, vec![read]);
    }
}

fn votes(hubs: &mut Hubs, all: &[(&str, &str)]) -> Vec<Said> {
    let vote = |(hub, what): &(&str, &str)| hubs.vote(hub, what, Faults::Byzantine);
    all.iter().map(vote).collect()
}

#[test]
fn blocks_of_a_set_that_grows_and_shrinks_are_proven() {
    let mut hubs = Hubs::begin(SUITE, "a");
    idle(&mut hubs, "a", 3);
    let said = votes(&mut hubs, &[("a", "+b")]);
    each(&mut hubs, said);
    idle(&mut hubs, "b", 2);
    // The votes are blocks apart, and one more is about somebody else.
    let said = votes(&mut hubs, &[("a", "+c"), ("a", "+e")]);
    each(&mut hubs, said);
    idle(&mut hubs, "b", 9);
    let said = votes(&mut hubs, &[("b", "+c")]);
    each(&mut hubs, said);
    // All in one block, and a record of who came in the same.
    let mut said = votes(&mut hubs, &[("c", "+d"), ("b", "+d"), ("a", "+d")]);
    said.push(hubs.read("d"));
    hubs.decide(3, said);
    idle(&mut hubs, "d", 2);
    let said = [hubs.lease("d", "press-1", 1), hubs.lie("c", "d")];
    each(&mut hubs, said.into());
    let said = [hubs.turn("b", "B"), hubs.read("b")];
    hubs.decide(0, said.into());
    // Two vote on the one that left as if it were there, and then as it was.
    let said = votes(&mut hubs, &[("a", "-c"), ("b", "-c"), ("c", "-c")]);
    each(&mut hubs, said);
    idle(&mut hubs, "a", 4);
    assert_eq!(hubs.set().validators.len(), 2);
    let explorer = every_block_is_proven(&mut hubs);

    let whole = shown(&explorer, &[hubs.blocks.len() as u64]);
    let changes = whole.set_changes();
    let admitted = |(_, change): &&(u64, SetChange)| matches!(change, SetChange::Admitted(_));
    assert_eq!(changes.iter().filter(admitted).count(), 3);
    assert_eq!(changes.len(), 6);
    // Each of the blocks between the first and the one that was asked for is needed.
    for at in 1..whole.blocks.len() - 1 {
        let mut less = whole.clone();
        less.blocks.remove(at);
        let key = hubs.key("a");
        assert!(less.verify(&[key]).is_err(), "without block {at}");
    }
}

#[test]
fn who_stood_by_long_before_is_proven() {
    let mut hubs = Hubs::begin(SUITE, "a");
    let said = votes(&mut hubs, &[("a", "+b"), ("a", "+c"), ("b", "+c")]);
    each(&mut hubs, said);
    let said = votes(&mut hubs, &[("a", "~e"), ("b", "~e"), ("a", "~d")]);
    each(&mut hubs, said);
    idle(&mut hubs, "a", 9);
    let said = votes(&mut hubs, &[("c", "~e"), ("b", "~d"), ("c", "~d")]);
    each(&mut hubs, said);
    idle(&mut hubs, "b", 30);
    // By proof, and by votes; the first that stands by comes first.
    let lie = hubs.lie("a", "b");
    each(&mut hubs, vec![lie]);
    idle(&mut hubs, "e", 2);
    let said = votes(&mut hubs, &[("a", "-c"), ("e", "-c"), ("c", "-c")]);
    each(&mut hubs, said);
    idle(&mut hubs, "d", 2);
    let ids: Vec<_> = hubs.set().validators.iter().map(|v| &*v.id).collect();
    assert_eq!(ids, ["hub-a", "hub-d", "hub-e"]);
    assert!(hubs.set().standbys.is_empty());
    let explorer = every_block_is_proven(&mut hubs);
    let whole = shown(&explorer, &[hubs.blocks.len() as u64]);
    let replaced = |(_, change): &&(u64, SetChange)| matches!(change, SetChange::Replaced { .. });
    assert_eq!(whole.set_changes().iter().filter(replaced).count(), 2);
    // Without any one block in between nothing is proven: also of the votes for who stands by.
    for at in 1..whole.blocks.len() - 1 {
        let mut less = whole.clone();
        less.blocks.remove(at);
        assert!(less.verify(&[hubs.key("a")]).is_err(), "without block {at}");
    }
}

#[test]
fn votes_from_before_a_hub_was_tried_out_still_count() {
    let mut hubs = Hubs::begin(SUITE, "a");
    let said = votes(&mut hubs, &[("a", "+b"), ("a", "+c")]);
    each(&mut hubs, said);
    // Another hub comes and goes: the set is what it was.
    let said = votes(&mut hubs, &[("a", "+d"), ("b", "+d")]);
    each(&mut hubs, said);
    idle(&mut hubs, "d", 2);
    // This vote is of the time when it was there.
    let said = votes(
        &mut hubs,
        &[("a", "+c"), ("a", "-d"), ("b", "-d"), ("d", "-d")],
    );
    each(&mut hubs, said);
    idle(&mut hubs, "b", 40);
    let said = votes(&mut hubs, &[("b", "+c")]);
    each(&mut hubs, said);
    idle(&mut hubs, "c", 2);
    assert_eq!(hubs.set().validators.len(), 3);
    every_block_is_proven(&mut hubs);
}

#[test]
fn what_the_newest_block_changed_is_found() {
    let mut hubs = Hubs::begin(SUITE, "a");
    let said = votes(&mut hubs, &[("a", "+b"), ("a", "+c")]);
    each(&mut hubs, said);
    idle(&mut hubs, "a", 5);
    let said = votes(&mut hubs, &[("b", "+c")]);
    each(&mut hubs, said);
    let explorer = every_block_is_proven(&mut hubs);
    let mut succession = Succession::begin(&explorer).unwrap();
    let changes = succession.to_the_end(hubs.blocks.len() as u64).unwrap();
    let heights: Vec<_> = changes.iter().map(|(b, _)| b.header.height).collect();
    assert_eq!(heights, [2, 3, 9]);
}

#[test]
fn votes_are_found_without_reading_every_block() {
    let mut hubs = Hubs::begin(SUITE, "a");
    idle(&mut hubs, "a", 400);
    let said = votes(&mut hubs, &[("a", "+b"), ("a", "+c"), ("b", "+c")]);
    each(&mut hubs, said);
    idle(&mut hubs, "b", 400);
    let store = Arc::new(Memory::default());
    for block in &hubs.blocks {
        let put = Put {
            space: Space::Blocks,
            key: height_key(block.header.height),
            value: encode(block),
        };
        store.commit(&[put]).unwrap();
    }
    let mut succession = Succession::over(&*store).unwrap();
    assert_eq!(succession.until(804).unwrap().len(), 3);
    assert_eq!(succession.set(), hubs.set());
    let reads = store.reads.load(std::sync::atomic::Ordering::Relaxed);
    assert!(reads < 60, "{reads} reads");
}
