//! The formats of several hubs, bit by bit: see `golden`.

use super::SUITE;
use super::golden::golden;
use crate::ledger::history::succession::Succession;
use crate::ledger::keys::height_key;
use crate::ledger::proof::Exhibits;
use crate::ledger::store::{Put, Space, Store};
use crate::ledger::testing::Memory;
use crate::ledger::testing_hubs::Hubs;
use weighbridge_verifier::evidence::{Evidence, SHARED_FORMAT, Trust};
use weighbridge_verifier::{
    Block, BlockValue, Content, Faults, Validator, ValidatorSet, decode, encode,
};

/// Of every content one; three hubs, one of which lied and is gone.
fn hubs() -> Hubs {
    let mut hubs = Hubs::begin(SUITE, "a");
    let said = vec![hubs.vote("a", "+b", Faults::Byzantine)];
    hubs.decide(0, said);
    let said = vec![
        hubs.vote("a", "+c", Faults::Crash),
        hubs.lease("b", "press-1", 7),
        hubs.vote("b", "+c", Faults::Crash),
    ];
    hubs.decide(2, said);
    let said = vec![hubs.lie("a", "b"), hubs.read("c")];
    hubs.decide(258, said);
    let said = vec![hubs.read("c")];
    hubs.decide(0, said);
    hubs
}

#[test]
fn what_hubs_record_about_themselves() {
    let mut hubs = hubs();
    let contents = [
        ("hub_vote_v1", hubs.vote("a", "-c", Faults::Crash)),
        ("hub_standby_v1", hubs.vote("a", "~d", Faults::Byzantine)),
        ("lease_v1", hubs.lease("b", "press-1", 7)),
        ("equivocation_v1", hubs.lie("a", "b")),
    ];
    for (name, (_, _, _, content)) in contents {
        let stored = golden(name, &encode(&content));
        assert_eq!(decode::<Content>("content", &stored).unwrap(), content);
        assert_eq!(encode(&content), stored);
    }
}

#[test]
fn a_set_with_hubs_that_stand_by() {
    let mut hubs = hubs();
    let mut set = hubs.set().clone();
    for (id, name) in [("hub-e", "e"), ("hub-d", "d")] {
        let (id, key) = (id.to_owned(), hubs.key(name));
        set.standbys.push(Validator { id, key });
    }
    let stored = golden("validators_standbys_v1", &encode(&set));
    assert_eq!(decode::<ValidatorSet>("set", &stored).unwrap(), set);
    set.standbys.clear();
    let alone = encode(&set);
    // What is before the list is as without it, but for the bit that says that it follows.
    assert_eq!(stored[..alone.len() - 1], alone[..alone.len() - 1]);
    assert_eq!(stored[alone.len() - 1], 0x80);
}

#[test]
fn a_block_that_several_hubs_decided() {
    let hubs = hubs();
    let block = &hubs.blocks[3];
    let stored = golden("block_v2", &encode(block));
    let read = decode::<Block>("block", &stored).unwrap();
    assert_eq!(&read, block);
    assert_eq!(encode(&read), stored);
    assert_eq!(read.certificate.round(), Some(258));
    // A stored block begins with the bytes that were decided about.
    let value = read.value_bytes();
    assert_eq!(stored[..value.len()], value);
    let decided = BlockValue::from_bytes(&value).unwrap();
    assert_eq!(decided.to_bytes(), value);
    decided.verify_body().unwrap();
    assert_eq!(decided.certified(read.certificate.clone()), read);
    assert!(BlockValue::from_bytes(&stored).is_err());
}

#[test]
fn evidence_of_several_hubs() {
    let mut hubs = hubs();
    let store = Memory::default();
    for block in &hubs.blocks {
        let put = Put {
            space: Space::Blocks,
            key: height_key(block.header.height),
            value: encode(block),
        };
        store.commit(&[put]).unwrap();
    }
    let mut succession = Succession::over(&store).unwrap();
    let mut exhibits = Exhibits::new(succession.set().clone());
    exhibits.show_record(&hubs.blocks[0], 0).unwrap();
    exhibits.show_record(&hubs.blocks[2], 1).unwrap();
    exhibits.show_record(&hubs.blocks[4], 0).unwrap();
    for (block, index) in succession.until(5).unwrap() {
        exhibits.show_record(&block, index).unwrap();
    }
    let evidence = exhibits.into_evidence().unwrap();
    let stored = golden("evidence_v3", &evidence.to_bytes());
    let read = Evidence::from_bytes(&stored).unwrap();
    assert_eq!(read, evidence);
    assert_eq!(read.to_bytes(), stored);
    assert_eq!(read.format(), SHARED_FORMAT);
    assert_eq!(read.verify(&[hubs.key("a")]).unwrap(), Trust::Key);
}
