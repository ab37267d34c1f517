//! A thousand lives of a hub on a disk that loses power, tears writes and runs full.

use super::*;
use crate::ledger::store::StoreError;
use std::collections::BTreeMap;
use weighbridge_verifier::Block;

/// What a device sends next, and what its hub was told is durable.
struct Plant {
    random: u64,
    clock: i64,
    acknowledged: BTreeMap<u64, Block>,
}

impl Plant {
    fn new(seed: u64) -> Self {
        Self {
            random: seed.wrapping_mul(0xD134_2543_DE82_EF95) | 1,
            clock: 1_000,
            acknowledged: BTreeMap::new(),
        }
    }

    fn pick(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % below
    }

    /// The next batches of some devices, after what the ledger has.
    fn drafts(&mut self, ledger: &Ledger) -> Vec<Draft> {
        let mut next = BTreeMap::new();
        let count = 1 + self.pick(3);
        let mut drafts = Vec::new();
        for _ in 0..count {
            let device = ["press-1", "robot-2"][self.pick(2) as usize];
            let known = ledger.state().device(device).sequence;
            let sequence = next.entry(device).or_insert(known);
            *sequence += 1;
            // A clock that sometimes goes back.
            self.clock += self.pick(2_000) as i64 - 300;
            drafts.push(match self.pick(4) {
                0 => refuse_draft(SUITE, device, *sequence, self.clock),
                _ => store_draft(SUITE, device, *sequence, self.clock),
            });
        }
        drafts
    }

    fn puts(&self, drafts: &[Draft]) -> Vec<Put> {
        let mut puts = sealed_puts(SUITE, drafts);
        for device in ["press-1", "robot-2"] {
            puts.push(wrap_put(CHAIN, device, &signer()));
        }
        puts
    }

    fn acknowledge(&mut self, block: Block) {
        let height = block.header.height;
        let twice = self.acknowledged.insert(height, block);
        assert!(twice.is_none(), "block {height} was acknowledged twice");
    }

    /// Appends until the power fails or a few blocks are made.
    fn live(&mut self, disk: &FaultyDisk, ledger: &mut Ledger) {
        for _ in 0..self.pick(6) {
            let before = (*ledger.tip(), ledger.state().hash());
            let drafts = self.drafts(ledger);
            let puts = self.puts(&drafts);
            disk.set_full(self.pick(5) == 0);
            match ledger.append(&drafts, puts, self.clock) {
                Ok(block) => self.acknowledge(block),
                Err(LedgerError::Store(StoreError::Full)) => {
                    assert_eq!((*ledger.tip(), ledger.state().hash()), before);
                    let other = [store_draft(SUITE, "lathe-3", 1, self.clock)];
                    let pending = ledger.append(&other, sealed_puts(SUITE, &other), self.clock);
                    assert!(matches!(pending, Err(LedgerError::Pending(_))));
                    assert!(ledger.retry().is_err() || !disk.powered());
                    disk.set_full(false);
                    match ledger.retry() {
                        Ok(block) => self.acknowledge(block),
                        Err(_) => assert!(!disk.powered()),
                    }
                }
                Err(_) => assert!(!disk.powered()),
            }
            if !disk.powered() {
                return;
            }
        }
    }

    /// Everything acknowledged is in the store as it was acknowledged.
    fn check(&self, ledger: &Ledger) {
        let explorer = crate::ledger::query::Explorer::new(ledger.store().clone());
        for (height, block) in &self.acknowledged {
            assert_eq!(explorer.block(*height).unwrap().as_ref(), Some(block));
        }
    }
}

fn run(seed: u64) {
    let disk = FaultyDisk::new(seed);
    let mut plant = Plant::new(seed);
    for _ in 0..4 {
        let cut = plant.pick(12);
        disk.cut_power_in(cut);
        if let Ok(mut ledger) = open(&disk, plant.clock) {
            plant.check(&ledger);
            plant.live(&disk, &mut ledger);
        } else {
            assert!(!disk.powered(), "a disk that keeps its promises opens");
        }
        disk.restart();
        disk.set_full(false);
    }
    // Opening repairs a head that is behind or torn.
    let ledger = open(&disk, plant.clock).unwrap();
    plant.check(&ledger);
    let acknowledged = plant.acknowledged.last_key_value().map_or(1, |(h, _)| *h);
    let ahead = ledger.tip().height - acknowledged;
    assert!(
        ahead <= 4,
        "no more blocks than lives were left unacknowledged"
    );
    let report = verify_with(&disk, &*signer());
    assert_eq!(report.height, ledger.tip().height);
    assert_eq!(report.findings, []);
}

#[test]
fn nothing_acknowledged_is_missing_and_nothing_is_there_twice() {
    for seed in 0..1_000 {
        let outcome = std::panic::catch_unwind(|| run(seed));
        assert!(
            outcome.is_ok(),
            "seed {seed} fails: replay it with run({seed})"
        );
    }
}

#[test]
fn a_lost_tail_is_noticed() {
    for seed in 0..50 {
        let disk = FaultyDisk::new(seed);
        let mut plant = Plant::new(seed);
        let mut ledger = open(&disk, plant.clock).unwrap();
        for _ in 0..3 {
            let drafts = plant.drafts(&ledger);
            let puts = plant.puts(&drafts);
            ledger.append(&drafts, puts, plant.clock).unwrap();
        }
        drop(ledger);
        let lost = 1 + plant.pick(4);
        disk.lose_tail(lost as usize);
        let refused = open(&disk, plant.clock).err();
        let noticed = matches!(
            refused,
            Some(LedgerError::Behind { store, head: 4 }) if store == 4 - lost
        );
        assert!(noticed, "seed {seed}: {refused:?}");
        let report = verify_with(&disk, &*signer());
        assert!(!report.is_clean(), "seed {seed}");
    }
}
