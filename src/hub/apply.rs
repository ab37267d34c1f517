//! Devices come and go while the hub runs; what is not named is not touched.

use super::device::Feed;
use super::plan::plan;
use super::{DeviceSetup, Hub, HubError, device};
use crate::actors::hub::{Adopt, Intake, Retire};
use crate::actors::ledger::RecordedSettings;
use crate::model::DeviceId;

/// A device that was to be put in, and could not be: it is not read.
#[derive(Debug)]
pub struct NotApplied {
    /// Which.
    pub device: DeviceId,
    /// Why.
    pub error: HubError,
}

impl Hub {
    /// Takes the devices `remove` out and puts `put` in; one that is there under the same id is
    /// replaced, and goes on numbering and judging from what the ledger holds of it. All other devices
    /// keep their connections and are read on as if nothing happened. What a leaving device has read
    /// becomes durable first, so this takes as long as the disk does.
    ///
    /// # Errors
    /// When a device cannot be used; then nothing was changed. Devices whose recorded state cannot be
    /// read are returned: they are not there.
    pub async fn apply(
        &self,
        remove: Vec<DeviceId>,
        put: Vec<DeviceSetup>,
    ) -> Result<Vec<NotApplied>, HubError> {
        device::check(&put)?;
        for setup in &put {
            setup.validator(None)?;
            if setup.attester.is_some() {
                return Err(HubError::Device {
                    device: setup.id.to_string(),
                    reason: "its own key is enrolled when the hub starts: restart the hub".into(),
                });
            }
        }
        let mut sources = Vec::with_capacity(put.len());
        for setup in put {
            let Feed::Source(make) = &setup.feed else {
                return Err(HubError::Device {
                    device: setup.id.to_string(),
                    reason: "edge nodes are let in when the hub starts: restart the hub".into(),
                });
            };
            let make = make.clone();
            sources.push((setup, Intake::Source(make)));
        }
        let put = sources;
        let gone = |_| HubError::Gone;
        let leaving = remove.iter().chain(put.iter().map(|(setup, _)| &setup.id));
        let leaving: Vec<DeviceId> = leaving.cloned().collect();
        let retire = Retire(leaving.clone());
        self.actors.hub.send(retire).await.map_err(gone)?;
        // Charts of other tags than the device has from now on would be misleading.
        leaving
            .iter()
            .for_each(|device| self.planner.history.remove(device));
        remove
            .iter()
            .for_each(|device| self.planner.live.remove(device));
        let stays = |device: &&DeviceId| put.iter().any(|(setup, _)| setup.id == **device);
        for device in remove.iter().filter(|device| !stays(device)) {
            self.actors.alarms.forget(device);
        }
        let (mut plans, mut failed) = (Vec::with_capacity(put.len()), Vec::new());
        for (setup, intake) in put {
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
        Ok(failed)
    }
}
