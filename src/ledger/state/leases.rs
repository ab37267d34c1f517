//! Who reads a device: leases, each under a fencing epoch of its own.
//!
//! A device without a lease is read by whoever reads it, as in a chain of one hub. With one, batches of an epoch
//! come from the hub that has it and nobody else. What a hub read under an older lease before it heard of a newer
//! one, and made durable, may still come: the newest few are remembered.

use super::super::facts::{DeviceTip, Lease};
use super::super::shape::ApplyError;
use super::State;
use weighbridge_verifier::{BatchContent, LeaseContent, RecordBody};

/// Leases of a device that are remembered.
pub const MAX_LEASES: usize = 16;

impl State {
    /// The newest leases of `device`, the oldest first.
    pub fn leases(&self, device: &str) -> &[Lease] {
        self.leases.get(device).map_or(&[], Vec::as_slice)
    }

    /// The devices that have leases, with them.
    pub fn leased(&self) -> impl Iterator<Item = (&str, &[Lease])> {
        self.leases.iter().map(|(device, all)| (&**device, &**all))
    }

    /// Who reads `device` now; `None` where that was never said.
    pub fn holder(&self, device: &str) -> Option<&Lease> {
        self.leases(device).last()
    }

    /// The newest fencing epoch of `device` that any batch or lease has.
    pub fn newest_epoch(&self, device: &str) -> u64 {
        let leased = self.holder(device).map_or(0, |lease| lease.epoch);
        leased.max(self.device(device).epoch)
    }

    pub(super) fn check_lease(
        &self,
        body: &RecordBody,
        lease: &LeaseContent,
    ) -> Result<(), ApplyError> {
        for hub in [&body.hub, &lease.hub] {
            if !self.is_member(hub) {
                return Err(ApplyError::UnknownHub(hub.clone()));
            }
        }
        let newest = self.newest_epoch(&lease.device);
        match lease.epoch > newest {
            true => Ok(()),
            false => Err(ApplyError::LeaseEpoch {
                device: lease.device.clone(),
                newest,
                got: lease.epoch,
            }),
        }
    }

    pub(super) fn enter_lease(&mut self, lease: &LeaseContent) {
        let leases = self.leases.change();
        let of_device = leases.entry(lease.device.clone()).or_default();
        of_device.push(Lease {
            epoch: lease.epoch,
            hub: lease.hub.clone(),
            sequence: 0,
        });
        let over = of_device.len().saturating_sub(MAX_LEASES);
        of_device.drain(..over);
    }

    /// Whether it is the turn of this batch, which `hub` records.
    pub(super) fn check_turn(&self, hub: &str, batch: &BatchContent) -> Result<(), ApplyError> {
        let leases = self.leases(&batch.device);
        let tip = match leases.iter().find(|lease| lease.epoch == batch.epoch) {
            None if leases.is_empty() => self.device(&batch.device),
            Some(lease) if lease.hub == hub => DeviceTip {
                epoch: lease.epoch,
                sequence: lease.sequence,
            },
            _ => {
                return Err(ApplyError::NotLeased {
                    device: batch.device.clone(),
                    epoch: batch.epoch,
                    hub: hub.to_owned(),
                });
            }
        };
        let next = tip.sequence.checked_add(1).ok_or(ApplyError::Exhausted)?;
        let goes_on = batch.epoch == tip.epoch && batch.sequence == next;
        let begins = batch.epoch > tip.epoch && batch.sequence == 1;
        if goes_on || begins {
            return Ok(());
        }
        Err(ApplyError::BatchSequence {
            device: batch.device.clone(),
            tip,
            epoch: batch.epoch,
            sequence: batch.sequence,
        })
    }

    /// Enters where the batches of a device stand now. A late one of an older epoch does not lead them back.
    pub(super) fn enter_turn(&mut self, batch: &BatchContent, tip: DeviceTip) {
        if self.device(&batch.device).epoch <= tip.epoch {
            match self.devices.change().get_mut(&batch.device) {
                Some(known) => *known = tip,
                None => {
                    self.devices.change().insert(batch.device.clone(), tip);
                }
            }
        }
        if self.leases(&batch.device).is_empty() {
            return;
        }
        let leases = self.leases.change().get_mut(&batch.device);
        let lease = leases.and_then(|all| all.iter_mut().find(|l| l.epoch == batch.epoch));
        if let Some(lease) = lease {
            lease.sequence = batch.sequence;
        }
    }
}
