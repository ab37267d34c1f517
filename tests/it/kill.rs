//! `kill -9` at any moment: nothing acknowledged is lost, nothing is there twice.

use crate::support::{self, Plant};
use std::collections::BTreeMap;
use weighbridge_verifier::Action;

const KILLS: u64 = 30;

#[test]
fn nothing_acknowledged_is_lost_or_doubled_over_thirty_kills() {
    let plant = Plant::start();
    let mut random = support::Random::from_env();
    let mut acknowledged = BTreeMap::new();
    let mut highest = (0, String::new());
    for round in 0..KILLS {
        let mut hub = plant.run_hub();
        // Die somewhere between the first blocks and their successors: the parent reads lines as they
        // come, so the kill falls anywhere into the writing of the block after the last one read.
        let blocks = 1 + random.below(12);
        for _ in 0..blocks {
            let block = hub.next_block();
            assert!(
                block.height > highest.0,
                "round {round}: height {} was acknowledged twice (seed {})",
                block.height,
                random.seed
            );
            highest = (block.height, block.hash);
            for (device, epoch, sequence) in block.batches {
                let before = acknowledged.insert((device.clone(), epoch, sequence), block.height);
                assert_eq!(before, None, "{device} {sequence} was acknowledged twice");
            }
        }
        hub.kill();
    }
    assert!(acknowledged.len() > 30, "too few batches to mean anything");

    plant.verify_is_clean();
    let ledger = plant.open_ledger();
    let mut recorded = BTreeMap::new();
    let tip = ledger.tip().unwrap().expect("there are blocks");
    for height in 1..=tip.height {
        let block = ledger.block(height).unwrap().expect("no height is missing");
        if block.header.height == highest.0 {
            assert_eq!(block.header.hash().to_string(), highest.1);
        }
        for record in &block.records {
            if let Some(batch) = record.body.batch() {
                assert!(matches!(record.body.action, Action::Store | Action::Refuse));
                let key = (batch.device.clone(), batch.epoch, batch.sequence);
                let before = recorded.insert(key.clone(), height);
                assert_eq!(before, None, "{key:?} is recorded twice");
            }
        }
    }
    for (key, height) in acknowledged {
        let found = recorded.get(&key);
        assert_eq!(found, Some(&height), "{key:?} (seed {})", random.seed);
    }
}
