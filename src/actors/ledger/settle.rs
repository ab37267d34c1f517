//! What is due once records are durable: batches are counted and acknowledged, whoever watches is told.

use super::LedgerActor;
use super::book::Written;
use super::messages::{BlockCommitted, LedgerHealth, LedgerTip, Settle};
use crate::actors::device::BatchSettled;
use crate::ledger::State;
use crate::ledger::state::AttestedBy;
use crate::model::{DeviceId, now};
use crate::protocols::edge::wire::Standing;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::watch;
use weighbridge_verifier::{PublicKey, Record};

/// Epoch and sequence of every device's newest batch.
pub(super) fn newest(state: &State) -> BTreeMap<DeviceId, (u64, u64)> {
    let newest = state.devices().iter();
    newest
        .map(|(device, at)| (device.as_str().into(), (at.epoch, at.sequence)))
        .collect()
}

/// What is shown of every device, by whom its batches were signed.
pub(super) type Watched = BTreeMap<DeviceId, BTreeMap<PublicKey, watch::Sender<Standing>>>;

/// What there is to be watched at the start.
pub(super) fn standing(state: &State, newest: &BTreeMap<DeviceId, (u64, u64)>) -> Watched {
    let standing = state.attested().iter();
    let standing = standing.map(|(device, attested)| {
        let newest = newest.get(device.as_str()).copied().unwrap_or_default();
        let of_key = attested.iter().map(|(key, at)| {
            let own = (at.epoch, at.sequence);
            (*key, watch::Sender::new(Standing { newest, own }))
        });
        (device.as_str().into(), of_key.collect())
    });
    standing.collect()
}

impl LedgerActor {
    /// Settles the batches of a write, which the hub's own chain of records has now; of a hub that decides alone a
    /// block has it, too.
    pub(super) fn settle(&mut self, written: Written, settles: Vec<Settle>) {
        let height = match &written.block {
            Some(tip) => {
                let records = self.tip.records + written.records.len() as u64;
                self.tip = LedgerTip::of(tip, records);
                self.count(&written.records);
                tip.height
            }
            None => self.next_height(),
        };
        let batches = written.records.iter().filter_map(|r| r.body.batch());
        let there: BTreeSet<_> = batches
            .map(|batch| (&*batch.device, batch.epoch, batch.sequence))
            .collect();
        let mut batches = Vec::with_capacity(settles.len());
        for settle in settles {
            let batch = (&*settle.device, settle.epoch, settle.sequence);
            if !there.contains(&batch) {
                // Its credit comes back as that of a batch that is lost, and it is counted as such.
                tracing::error!(?batch, "a batch found no place in the chain and is lost");
                continue;
            }
            batches.push((
                settle.device.clone(),
                settle.epoch,
                settle.sequence,
                settle.class,
            ));
            self.settle_one(settle, height);
        }
        self.show_standing(batches.iter().map(|(device, ..)| device), &written.attested);
        if written.block.is_some() {
            let committed = BlockCommitted {
                tip: self.tip,
                batches,
                foreign: Vec::new(),
                decided: None,
            };
            // Nobody listening is fine.
            let _ = self.committed.send(Arc::new(committed));
        }
        self.show(LedgerHealth::Up);
    }

    /// The block that what is durable now will be in, at the earliest.
    pub(super) fn next_height(&self) -> u64 {
        self.tip.height.saturating_add(1)
    }

    /// Counts what a block has.
    pub(super) fn count(&self, records: &[Record]) {
        let sealed = records.iter().filter_map(|r| r.body.sealed());
        let stored = sealed.map(|sealed| sealed.length).sum();
        self.stats.count_block(records.len() as u64, stored);
    }

    fn settle_one(&mut self, settle: Settle, height: u64) {
        let durable = now();
        self.stats.count_batch(settle.class, settle.points);
        self.newest
            .insert(settle.device, (settle.epoch, settle.sequence));
        for (time, samples) in settle.times.0 {
            self.stats
                .latency
                .observe(durable.saturating_sub(time), u64::from(samples));
        }
        if let Some(refusal) = settle.refusal {
            self.stats.refused(refusal);
        }
        if let Some(device) = settle.settled {
            let settled = BatchSettled {
                sequence: settle.sequence,
                class: settle.class,
                height,
            };
            // At most BATCHES_UNDER_WAY of them wait in a device's mailbox; when the device is
            // being rebuilt nobody needs to know.
            let _ = device.try_send(settled);
        }
        settle.credit.settled();
    }

    /// Tells those who watch what the ledger has of the devices of these batches.
    pub(super) fn show_standing<'a>(
        &self,
        devices: impl Iterator<Item = &'a DeviceId>,
        attested: &AttestedBy,
    ) {
        for device in devices {
            let Some(watched) = self.standing.get(device) else {
                continue;
            };
            let newest = self.newest.get(device).copied().unwrap_or_default();
            let of = attested.iter().find(|(of, _)| of == device);
            for (key, standing) in watched {
                let own = of.and_then(|(_, of)| of.get(key)).copied();
                let own = own.unwrap_or_default();
                standing.send_replace(Standing { newest, own });
            }
        }
    }
}
