//! Proposers that lie: what they say is found out, and never decided on.

use super::hub::{Hub, act};
use super::world::World;
use super::{CHAIN, SUITE};
use crate::crypto::Signer;
use crate::ledger::assemble::sign_record;
use crate::ledger::shared::{Carried, Checked, PoolError, Wrong};
use crate::ledger::store::{Put, Space};
use crate::ledger::testing::{TestSigner, store_draft};
use crate::ledger::{ChainConfig, Ledger, LedgerError, State};
use std::sync::Arc;
use weighbridge_verifier::{Block, BlockValue, Faults, Hash, QuorumCertificate, Record};

/// Four hubs with some records of the first that all of them have heard of.
fn world() -> World {
    let mut world = World::new(7, 4, Faults::Byzantine);
    let drafts = [
        act(world.now, "device:press-1"),
        act(world.now, "device:press-1"),
    ];
    let now = world.now;
    world.hubs[0].write(&drafts, Vec::new(), now);
    for hub in 1..4 {
        let run = world.hubs[0].ledger().own_run(0, usize::MAX).unwrap();
        let taken = world.hubs[hub].ledger_mut().receive("hub-1", run);
        assert_eq!(taken, Ok(2));
    }
    world
}

/// What the first hub proposes.
fn honest(world: &mut World) -> BlockValue {
    let (height, now) = (world.height() + 1, world.now);
    let (hash, bytes) = world.hubs[0].ledger_mut().propose(height, now).unwrap();
    let said = world.hubs[1].ledger().check(height, &bytes, now);
    assert_eq!(said, Checked::Valid(hash));
    BlockValue::from_bytes(&bytes).unwrap()
}

/// What the second hub says of it.
fn said(world: &World, value: &BlockValue) -> Checked {
    let height = world.height() + 1;
    world.hubs[1]
        .ledger()
        .check(height, &value.to_bytes(), world.now)
}

/// The header that fits the records, by the state before them; the records need not hold.
fn made_to_fit(world: &World, value: &mut BlockValue) {
    let (state, _) = world.hubs[1].ledger().committed();
    let mut after: State = state.clone();
    for record in &value.records {
        let _ = after.apply_signed(&record.body, record.body.hash());
    }
    value.header.record_count = value.records.len() as u32;
    value.header.merkle_root = Block::merkle_root(SUITE, &value.records);
    value.header.state_hash = after.hash();
}

fn invalid(world: &World, value: &BlockValue, because: &str) {
    let hash = value.header.hash();
    match said(world, value) {
        Checked::Invalid(of, why) => {
            assert_eq!(of, hash);
            assert!(why.contains(because), "{why}");
        }
        other => panic!("{because}: {other:?}"),
    }
}

/// It is not taken, and nobody is a liar for it.
fn refused(world: &World, value: &BlockValue, because: &str) {
    match said(world, value) {
        Checked::Refused(_, why) => assert!(why.contains(because), "{why}"),
        other => panic!("{because}: {other:?}"),
    }
}

#[test]
fn a_value_that_does_not_hold_is_invalid() {
    let mut world = world();
    let value = honest(&mut world);
    type Lie = fn(&mut BlockValue);
    let lies: [(Lie, &str); 8] = [
        (|v| v.header.state_hash = Hash::ZERO, "state hash"),
        (|v| v.header.previous_hash = Hash::ZERO, "previous hash"),
        (|v| v.header.validators_hash = Hash::ZERO, "validator set"),
        (|v| v.header.proposer = "hub-9".to_owned(), "proposer"),
        (|v| v.header.chain = "hall".to_owned(), "chain"),
        (|v| v.header.height += 1, "height"),
        (|v| v.header.time = 0, "time"),
        (
            |v| v.header.version = SUITE.marked(1),
            "by a hub for itself",
        ),
    ];
    for (lie, because) in lies {
        let mut lied = value.clone();
        lie(&mut lied);
        invalid(&world, &lied, because);
    }
    // Another clock, or another version of the program.
    let mut ahead = value.clone();
    ahead.header.time += 2_000_000;
    refused(&world, &ahead, "future");
    let mut newer = value.clone();
    newer.header.version = SUITE.marked(9);
    refused(&world, &newer, "version");
    // Whoever hands a value on can have changed its records: the header names others.
    let changes: [Lie; 3] = [
        |v| v.header.merkle_root = Hash::ZERO,
        |v| v.header.record_count += 1,
        |v| v.records[1].body.subject.push('!'),
    ];
    for change in changes {
        let mut torn = value.clone();
        change(&mut torn);
        assert_eq!(said(&world, &torn), Checked::Unreadable);
    }
    let mut none = value.clone();
    none.records.clear();
    none.header.record_count = 0;
    invalid(&world, &none, "no record");
    // As far ahead as clocks may be apart.
    let mut early = value.clone();
    early.header.time = world.now + 1_000_000;
    assert!(matches!(said(&world, &early), Checked::Valid(_)));
    assert!(matches!(said(&world, &value), Checked::Valid(_)));
}

#[test]
fn a_record_that_does_not_hold_makes_its_block_invalid() {
    let mut world = world();
    let value = honest(&mut world);
    type Lie = fn(&mut Vec<Record>);
    let lies: [(Lie, &str); 5] = [
        (|r| r.swap(0, 1), "was due"),
        (|r| drop(r.remove(0)), "was due"),
        (|r| r.push(r[1].clone()), "was due"),
        (|r| r[1].signature.0[40] ^= 1, "signature"),
        (|r| r[1].body.subject.push('!'), "signature"),
    ];
    for (lie, because) in lies {
        let mut lied = value.clone();
        lie(&mut lied.records);
        made_to_fit(&world, &mut lied);
        invalid(&world, &lied, because);
    }
    // Signed by another key than its hub's.
    let liar = TestSigner::new(SUITE, "hub-1", 77);
    let mut forged = value.clone();
    forged.records[1].signature = liar.sign(&forged.records[1].body.hash());
    made_to_fit(&world, &mut forged);
    invalid(&world, &forged, "signature");
}

#[test]
fn bytes_that_are_no_value_are_unreadable() {
    let mut world = world();
    let bytes = honest(&mut world).to_bytes();
    let (height, now) = (world.height() + 1, world.now);
    let ledger = world.hubs[1].ledger();
    for length in 0..bytes.len() {
        let said = ledger.check(height, &bytes[..length], now);
        assert_eq!(said, Checked::Unreadable);
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(ledger.check(height, &longer, now), Checked::Unreadable);
    let said = ledger.check(height + 1, &bytes, now);
    assert!(matches!(said, Checked::Invalid(..)));
}

/// The next record of the first hub: a batch of which nobody has the sealed bytes.
fn without_bytes(world: &World) -> Record {
    let (state, _) = world.hubs[0].ledger().committed();
    let mut state = state.clone();
    for open in world.hubs[0].ledger().own_run(0, usize::MAX).unwrap() {
        state.apply(&open.record).unwrap();
    }
    let batch = store_draft(SUITE, "own-1", 1, world.now);
    sign_record(&batch, &state, &*world.hubs[0].signer, world.now).0
}

#[test]
fn nobody_votes_for_what_nobody_holds() {
    let mut world = world();
    let mut value = honest(&mut world);
    let record = without_bytes(&world);
    value.records.push(record.clone());
    made_to_fit(&world, &mut value);
    match said(&world, &value) {
        Checked::Missing(of, wants) => {
            assert_eq!(of, value.header.hash());
            assert_eq!(wants.len(), 1);
            assert_eq!(Some(wants[0].hash), record.body.sealed().map(|s| s.hash));
            assert_eq!(wants[0].object, "own-1");
        }
        other => panic!("{other:?}"),
    }
    // Nor does the pool take it without them, or with others.
    let hub = world.hubs[1].ledger_mut();
    let other = Put {
        space: Space::Sealed,
        key: record.body.sealed().unwrap().hash.0.to_vec(),
        value: b"something else".to_vec(),
    };
    for puts in [vec![], vec![other]] {
        let record = record.clone();
        let refused = hub.receive("hub-1", vec![Carried { record, puts }]);
        let Err(PoolError::Record { why, taken: 0, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert!(matches!(why, Wrong::Puts(_)), "{why}");
    }
}

#[test]
fn the_pool_takes_what_follows_and_is_signed() {
    let mut world = world();
    let run = world.hubs[0].ledger().own_run(0, usize::MAX).unwrap();
    let wanted = world.hubs[1].ledger().wanted("hub-1");
    let hub = world.hubs[2].ledger_mut();
    assert_eq!(hub.receive("hub-3", run.clone()), Err(PoolError::Own));
    let stranger = hub.receive("hub-9", run.clone());
    assert_eq!(stranger, Err(PoolError::Hub("hub-9".to_owned())));
    let why = |refused: Result<usize, PoolError>| match refused {
        Err(PoolError::Record { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    // Somebody else's record as one's own.
    let mut moved = run[0].clone();
    moved.record.body.sequence = hub.wanted("hub-2");
    assert_eq!(why(hub.receive("hub-2", vec![moved])), Wrong::Kind);
    let mut changed = run.clone();
    changed[1].record.body.object.push('!');
    assert!(matches!(
        why(hub.receive("hub-1", changed)),
        Wrong::Signature(_)
    ));
    let mut extra = run.clone();
    extra[1].puts.push(Put {
        space: Space::Blocks,
        key: vec![0; 8],
        value: vec![1],
    });
    assert!(matches!(why(hub.receive("hub-1", extra)), Wrong::Puts(_)));
    // What is known already is taken again, and nothing after a gap.
    assert_eq!(hub.receive("hub-1", run.clone()), Ok(2));
    assert_eq!(hub.wanted("hub-1"), wanted);
    let mut later = run[1].clone();
    later.record.body.sequence += 5;
    let gap = hub.receive("hub-1", vec![later]);
    assert!(matches!(gap, Err(PoolError::Gap { .. })), "{gap:?}");
}

#[test]
fn a_decision_needs_the_signatures_of_enough_hubs() {
    let mut world = world();
    let value = honest(&mut world);
    let (bytes, now) = (value.to_bytes(), world.now);
    let height = world.height() + 1;
    let hash = value.header.hash();
    let signed = |world: &World, voters: &[usize], of: Hash| -> QuorumCertificate {
        let (state, _) = world.hubs[1].ledger().committed();
        let set = state.validators().unwrap().clone();
        world.certificate(height, of, &set, voters)
    };
    let few = signed(&world, &[0, 1], hash);
    let other = signed(&world, &[0, 1, 2], Hash::ZERO);
    for certificate in [few, other] {
        let refused = world.hubs[1].ledger_mut().decide(&bytes, certificate, now);
        assert!(
            matches!(refused, Err(LedgerError::Follow { .. })),
            "{refused:?}"
        );
    }
    let before = *world.hubs[1].ledger().tip();
    assert_eq!(before.height + 1, height);
    // What enough hubs sign and does not hold stops a hub, and is not taken.
    let mut lied = value.clone();
    lied.header.state_hash = Hash::ZERO;
    let enough = signed(&world, &[0, 1, 2], lied.header.hash());
    let refused = world.hubs[1]
        .ledger_mut()
        .decide(&lied.to_bytes(), enough, now);
    assert!(
        matches!(refused, Err(LedgerError::Follow { .. })),
        "{refused:?}"
    );
    assert_eq!(*world.hubs[1].ledger().tip(), before);
    let enough = signed(&world, &[0, 1, 2], hash);
    let committed = world.hubs[1].ledger_mut().decide(&bytes, enough, now);
    let committed = committed.unwrap();
    assert_eq!((committed.own, committed.foreign), (0..0, vec![0, 1]));
    assert_eq!(world.hubs[1].ledger().tip().hash, hash);
    assert_eq!(CHAIN, committed.block.header.chain);
}

/// A hub alone does not go on with what several share, nor past its own open records.
#[test]
fn the_ledger_of_a_lone_hub_refuses_a_shared_chain() {
    let alone = |hub: &Hub| {
        let id = CHAIN.to_owned();
        let (store, head) = (Arc::new(hub.disk.store()), Box::new(hub.disk.head()));
        Ledger::open(store, head, ChainConfig { id }, hub.signer.clone(), 9).err()
    };
    let world = world();
    assert!(matches!(
        alone(&world.hubs[0]),
        Some(LedgerError::Shared(2))
    ));
    assert!(matches!(
        alone(&world.hubs[3]),
        Some(LedgerError::Shared(2))
    ));
    let mut world = World::new(8, 1, Faults::Byzantine);
    let now = world.now;
    world.hubs[0].write(&[act(now, "device:press-1")], Vec::new(), now);
    let hub = &world.hubs[0];
    assert!(matches!(alone(hub), Some(LedgerError::OpenRecords(2))));
    assert_eq!(hub.verify().open, 1);
    assert_eq!(hub.verify().findings, []);
}
