//! Devices and edge nodes come and go while the hub runs; what is not named is not touched.

use super::edges::{Known, gates, strangers};
use super::plan::plan;
use super::start::attester_identity;
use super::{DeviceSetup, Hub, HubError, device};
use crate::actors::hub::{Adopt, Retire};
use crate::actors::ledger::{Append, KnownIdentities, RecordedKeys, RecordedSettings};
use crate::crypto::PeerKey;
use crate::ledger::Draft;
use crate::model::{DeviceId, now};
use weighbridge_verifier::{IdentityContent, IdentityKind};

/// What changes at a hub.
#[derive(Default)]
pub struct Change {
    /// Devices that leave.
    pub remove: Vec<DeviceId>,
    /// Devices that come, or come in place of those of the same id.
    pub put: Vec<DeviceSetup>,
    /// All edge nodes that are let in from now on, id and keys; `None` leaves them as they are.
    pub edges: Option<Vec<(String, PeerKey)>>,
}

/// A device that was to be put in, and could not be: it is not read.
#[derive(Debug)]
pub struct NotApplied {
    /// Which.
    pub device: DeviceId,
    /// Why.
    pub error: HubError,
}

impl Hub {
    /// Makes a change. A device that is there under the same id as one that comes is replaced, and the new
    /// one goes on numbering and judging from what the ledger holds of it. All other devices keep their
    /// connections and are read on as if nothing happened, and so do edge nodes. Edge nodes and devices
    /// with keys of their own that the ledger does not know are enrolled. What a leaving device has read
    /// becomes durable first, so this takes as long as the disk does.
    ///
    /// # Errors
    /// When a device or an edge node cannot be used; then nothing was changed. Devices whose recorded
    /// state cannot be read are returned: they are not there.
    pub async fn apply(&self, change: Change) -> Result<Vec<NotApplied>, HubError> {
        let _one_at_a_time = self.changing.lock().await;
        let Change { remove, put, edges } = change;
        device::check(&put)?;
        for setup in &put {
            setup.validator(None)?;
        }
        let letting_in = edges.is_some();
        if letting_in {
            let known = self.actors.ledger.send(RecordedKeys).await;
            self.edges.know(&known.map_err(|_| HubError::Gone)?);
        }
        let admission = match edges {
            Some(nodes) => self.edges.admission(nodes)?,
            None => self.edges.unchanged()?,
        };
        let mut comes = Vec::with_capacity(put.len());
        for setup in put {
            let intake = self.edges.intake(&setup, &admission)?;
            comes.push((setup, intake));
        }
        let attesters = comes.iter().filter_map(|(s, _)| attester_identity(s));
        let wanted: Vec<_> = admission.identities().chain(attesters).collect();
        let strangers = self.strangers(wanted).await?;
        let come: Vec<&str> = comes.iter().map(|(setup, _)| &*setup.id).collect();
        let edges: Vec<String> = admission.ids().map(str::to_owned).collect();
        self.name_machines(&[], &come, &edges).await?;
        // From here on nothing can be refused as a whole.
        self.enrol(strangers).await?;
        if letting_in {
            self.edges.admit(admission);
        }
        let leaving = remove
            .iter()
            .chain(comes.iter().map(|(setup, _)| &setup.id));
        let leaving: Vec<DeviceId> = leaving.cloned().collect();
        let gone = |_| HubError::Gone;
        let retire = Retire(leaving.clone());
        self.actors.hub.send(retire).await.map_err(gone)?;
        if let Some(leases) = &self.leases {
            leaving.iter().for_each(|device| leases.remove(device));
        }
        // Not before: what was read of them would have been refused.
        let left: Vec<&str> = remove.iter().map(|device| &**device).collect();
        let come: Vec<&str> = comes.iter().map(|(setup, _)| &*setup.id).collect();
        if let Err(error) = self.name_machines(&left, &come, &edges).await {
            tracing::error!(%error, "devices that left are withdrawn when the hub starts again");
        }
        // Charts of other tags than the device has from now on would be misleading.
        leaving
            .iter()
            .for_each(|device| self.planner.history.remove(device));
        remove.iter().for_each(|device| {
            self.planner.live.remove(device);
            self.planner.attesters.lock().remove(device);
        });
        let stays = |device: &&DeviceId| comes.iter().any(|(setup, _)| setup.id == **device);
        for device in remove.iter().filter(|device| !stays(device)) {
            self.actors.alarms.forget(device);
        }
        let gates = gates(comes.iter().map(|(_, intake)| intake));
        let (mut plans, mut failed) = (Vec::with_capacity(comes.len()), Vec::new());
        for (setup, intake) in comes {
            if let Some(leases) = self.leases.as_ref().filter(|_| !setup.hubs.is_empty()) {
                // Read when this hub has its lease.
                leases.put(setup);
                continue;
            }
            let device = setup.id.clone();
            let asked = self.actors.ledger.send(RecordedSettings(device.clone()));
            let recorded = asked.await.map_err(gone)?;
            let planner = self.planner.clone();
            // It reads the disk.
            let planned = move || plan(setup, recorded.as_ref(), intake, &planner);
            match tokio::task::spawn_blocking(planned).await {
                Ok(Ok(plan)) => plans.push(plan),
                Ok(Err(error)) => {
                    self.planner.live.remove(&device);
                    failed.push(NotApplied { device, error });
                }
                Err(_) => return Err(HubError::Gone),
            }
        }
        self.actors.hub.send(Adopt(plans)).await.map_err(gone)?;
        // Edge nodes are asked for them now; each waits at its gate until its pipeline is built.
        let there = |gate: &std::sync::Arc<_>| {
            let gate: &crate::protocols::edge::Gate = gate;
            failed.iter().all(|not| not.device != gate.device)
        };
        let open: Vec<_> = gates.into_iter().filter(there).collect();
        self.edges.set_gates(&leaving, &open);
        Ok(failed)
    }

    /// Those of `wanted` that the ledger does not know.
    async fn strangers(
        &self,
        wanted: Vec<IdentityContent>,
    ) -> Result<Vec<IdentityContent>, HubError> {
        let ids = wanted.iter().map(|w| w.id.clone()).collect();
        let known = self.actors.ledger.send(KnownIdentities(ids)).await;
        let known = known.map_err(|_| HubError::Gone)?;
        let known: Known = known
            .into_iter()
            .map(|(id, known)| (id, (known.kind, known.key, known.revoked)))
            .collect();
        strangers(wanted, &known)
    }

    /// Has the ledger enrol them, before anything that they sign.
    async fn enrol(&self, strangers: Vec<IdentityContent>) -> Result<(), HubError> {
        if strangers.is_empty() {
            return Ok(());
        }
        let drafts = strangers.into_iter().map(enrolment).collect();
        let append = Append {
            drafts,
            puts: Vec::new(),
            settle: None,
        };
        let sent = self.actors.ledger.send(append).await;
        sent.map_err(|_| HubError::Gone)
    }
}

/// The record that enrols somebody.
pub(super) fn enrolment(identity: IdentityContent) -> Draft {
    let kind = match identity.kind {
        IdentityKind::Edge => "edge",
        _ => "device",
    };
    let subject = format!("{kind}:{}", identity.id);
    Draft::enrol(now(), &subject, identity)
}
