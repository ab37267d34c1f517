//! By whom the batches of devices were signed.

use super::State;
use crate::model::DeviceId;
use std::collections::{BTreeMap, BTreeSet};
use weighbridge_verifier::{PublicKey, Record};

/// Of devices the newest batch of every attester: epoch and sequence.
pub type AttestedBy = Vec<(DeviceId, BTreeMap<PublicKey, (u64, u64)>)>;

impl State {
    /// What it has of the devices whose batches are among `records`.
    pub fn attested_by(&self, records: &[Record]) -> AttestedBy {
        let devices = records.iter().filter_map(|record| record.body.batch());
        let devices: BTreeSet<&str> = devices.map(|batch| &*batch.device).collect();
        let of = devices.into_iter().filter_map(|device| {
            let attested = self.attested().get(device)?.iter();
            let attested = attested.map(|(key, at)| (*key, (at.epoch, at.sequence)));
            Some((device.into(), attested.collect()))
        });
        of.collect()
    }
}
