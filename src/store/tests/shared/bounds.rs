//! What is bounded, and what happens at the bound.

use super::hub::{act, id, signer};
use super::world::World;
use super::{CHAIN, FaultyDisk, SUITE};
use crate::crypto::Signer;
use crate::ledger::LedgerError;
use crate::ledger::shared::{Checked, PoolError, PoolLimits, SharedConfig, SharedLedger};
use crate::ledger::store::{Put, Space, Store};
use crate::ledger::testing::{sealed_puts, store_draft};
use std::sync::Arc;
use weighbridge_verifier::{BlockValue, Faults};

/// A hub that shares a chain with nobody yet.
fn alone(change: impl FnOnce(&mut SharedConfig)) -> (FaultyDisk, SharedLedger) {
    let disk = FaultyDisk::new(1);
    let mut config = SharedConfig::new(CHAIN, None);
    change(&mut config);
    let (store, head) = (Arc::new(disk.store()), Box::new(disk.head()));
    let ledger = SharedLedger::open(store, head, config, signer(1), 1_000).unwrap();
    (disk, ledger)
}

#[test]
fn a_block_has_no_more_than_it_may() {
    let (_, mut ledger) = alone(|config| config.limits.block_records = 3);
    let drafts = vec![act(1_000, "device:press-1"); 5];
    ledger.append(&drafts, Vec::new(), 1_000).unwrap();
    let (_, bytes) = ledger.propose(2, 2_000).unwrap();
    assert_eq!(BlockValue::from_bytes(&bytes).unwrap().records.len(), 3);
    // Somebody with other bounds.
    let (_, mut other) = alone(|_| {});
    other.append(&drafts, Vec::new(), 1_000).unwrap();
    let (_, bytes) = other.propose(2, 2_000).unwrap();
    assert_eq!(BlockValue::from_bytes(&bytes).unwrap().records.len(), 5);
    let said = ledger.check(2, &bytes, 2_000);
    assert!(matches!(said, Checked::Refused(..)), "{said:?}");
    // A record that is larger than a block goes alone.
    let (_, mut small) = alone(|config| config.limits.block_bytes = 1);
    small.append(&drafts, Vec::new(), 1_000).unwrap();
    let (_, bytes) = small.propose(2, 2_000).unwrap();
    assert_eq!(BlockValue::from_bytes(&bytes).unwrap().records.len(), 1);
}

#[test]
fn own_records_are_kept_up_to_a_bound() {
    let (_, mut ledger) = alone(|config| config.limits.open = 2);
    let draft = [act(1_000, "device:press-1")];
    for _ in 0..2 {
        ledger.append(&draft, Vec::new(), 1_000).unwrap();
    }
    let full = ledger.append(&draft, Vec::new(), 1_000);
    assert!(matches!(full, Err(LedgerError::TooManyOpen(2))), "{full:?}");
    assert!(!ledger.is_pending());
    assert_eq!(ledger.own_open().1, 3);
}

#[test]
fn what_is_not_shared_is_refused() {
    let (_, mut ledger) = alone(|_| {});
    let draft = [act(1_000, "device:press-1")];
    let notice = Put {
        space: Space::Erasures,
        key: vec![1],
        value: vec![1],
    };
    let refused = ledger.append(&draft, vec![notice], 1_000);
    assert!(matches!(
        refused,
        Err(LedgerError::NotShared(Space::Erasures))
    ));
    let without = [store_draft(SUITE, "press-1", 1, 1_000)];
    let refused = ledger.append(&without, Vec::new(), 1_000);
    assert!(matches!(refused, Err(LedgerError::SealedMissing { .. })));
    ledger
        .append(&without, sealed_puts(SUITE, &without), 1_000)
        .unwrap();
}

#[test]
fn a_record_from_the_future_waits() {
    let (_, mut ledger) = alone(|config| config.limits.ahead = 1_000);
    let draft = [act(9_000, "device:press-1")];
    ledger.append(&draft, Vec::new(), 9_000).unwrap();
    assert!(ledger.has_data());
    // The clock was set back since.
    assert_eq!(ledger.propose(2, 5_000), None);
    assert!(!ledger.has_data());
    let (hash, bytes) = ledger.propose(2, 8_500).unwrap();
    let value = BlockValue::from_bytes(&bytes).unwrap();
    assert_eq!(value.header.time, 9_000);
    assert!(matches!(ledger.check(2, &bytes, 8_000), Checked::Valid(of) if of == hash));
    assert!(matches!(
        ledger.check(2, &bytes, 7_999),
        Checked::Refused(..)
    ));
}

#[test]
fn what_is_kept_of_another_hub_is_bounded() {
    let mut world = World::new(5, 2, Faults::Byzantine);
    let now = world.now;
    for _ in 0..6 {
        world.hubs[0].write(&[act(now, "device:press-1")], Vec::new(), now);
    }
    let run = world.hubs[0].ledger().own_run(0, usize::MAX).unwrap();
    let open = |pool: PoolLimits| {
        let genesis = Some((id(1), signer(1).public_key()));
        let mut config = SharedConfig::new(CHAIN, genesis);
        config.limits.pool = pool;
        let disk = &world.hubs[1].disk;
        let (store, head) = (Arc::new(disk.store()), Box::new(disk.head()));
        SharedLedger::open(store, head, config, signer(2), now).unwrap()
    };
    let usual = PoolLimits::default();
    let size = run[0].size();
    for (limits, room) in [
        (
            PoolLimits {
                records: 4,
                ..usual
            },
            4,
        ),
        (
            PoolLimits {
                bytes: size * 3,
                ..usual
            },
            3,
        ),
        // One is always taken, or nothing would ever go on.
        (PoolLimits { bytes: 1, ..usual }, 1),
    ] {
        let mut ledger = open(limits);
        let wanted = ledger.wanted("hub-1");
        let taken = ledger.receive("hub-1", run.clone());
        assert_eq!(taken, Err(PoolError::Full { taken: room }));
        assert_eq!(ledger.wanted("hub-1"), wanted + room as u64);
    }
}

#[test]
fn a_store_of_another_chain_is_not_joined() {
    let world = World::new(6, 2, Faults::Byzantine);
    let disk = &world.hubs[1].disk;
    let open = |hub: &str, key: u64| {
        let genesis = Some((hub.to_owned(), signer(key).public_key()));
        let config = SharedConfig::new(CHAIN, genesis);
        let (store, head) = (Arc::new(disk.store()), Box::new(disk.head()));
        SharedLedger::open(store, head, config, signer(2), 9_000_000).err()
    };
    assert!(open("hub-1", 1).is_none());
    for (hub, key) in [("hub-1", 3), ("hub-2", 1)] {
        let refused = open(hub, key);
        assert!(matches!(refused, Some(LedgerError::Genesis { .. })));
    }
    // Nor is a first block taken that somebody else signed.
    let empty = FaultyDisk::new(2);
    let genesis = Some((id(1), signer(3).public_key()));
    let config = SharedConfig::new(CHAIN, genesis);
    let (store, head) = (Arc::new(empty.store()), Box::new(empty.head()));
    let mut ledger = SharedLedger::open(store, head, config, signer(2), 1_000).unwrap();
    assert_eq!(ledger.tip().height, 0);
    assert!(!ledger.has_data());
    let first = world.hubs[0].ledger().block(1).unwrap().unwrap();
    let refused = ledger.follow(first, 2_000);
    assert!(matches!(refused, Err(LedgerError::Genesis { .. })));
    let draft = [act(1_000, "device:press-1")];
    assert!(ledger.append(&draft, Vec::new(), 1_000).is_err());
    // A hub whose key the chain has otherwise.
    let config = SharedConfig::new(CHAIN, None);
    let (store, head) = (Arc::new(disk.store()), Box::new(disk.head()));
    let liar = crate::ledger::testing::TestSigner::new(SUITE, "hub-2", 99);
    let refused = SharedLedger::open(store, head, config, Arc::new(liar), 9_000_000);
    assert!(refused.is_err());
    assert!(disk.store().last(Space::Blocks).unwrap().is_some());
}
