//! What the HTTP face is given by the hub.

use super::ports::{ChartReader, LedgerReader};
use super::problem::Problem;
use crate::access::Role;
use crate::live_view::{DeviceLive, LiveView};
use crate::model::{DeviceId, Nanos};
use crate::protocols::ports::{ControlPort, SessionPort};
use crate::stats::Stats;
use std::sync::Arc;

/// What is configured about a device, and worth showing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its id.
    pub id: DeviceId,
    /// The group it belongs to, for example a production cell.
    pub group: Option<String>,
    /// The protocol it speaks, for example "Modbus TCP".
    pub protocol: String,
    /// Where it is, for example "127.0.0.1:5020 unit 1".
    pub address: String,
}

/// Everything the HTTP face reads from a running hub.
#[derive(Clone)]
pub struct ApiContext {
    /// Id of the hub.
    pub hub_id: String,
    /// When it started.
    pub started: Nanos,
    /// The newest samples.
    pub live: LiveView,
    /// What is configured about the devices, in the order in which they are shown. A device of
    /// `live` that is not listed is shown last, without group and address.
    pub devices: Arc<[DeviceInfo]>,
    /// The counters.
    pub stats: Arc<Stats>,
    /// The ledger.
    pub ledger: Arc<dyn LedgerReader>,
    /// The control charts.
    pub charts: Arc<dyn ChartReader>,
    /// Who is told of the people at the dashboard.
    pub sessions: Arc<dyn SessionPort>,
    /// Acts upon the machines; without it nothing can be written.
    pub control: Option<Arc<dyn ControlPort>>,
    /// What the user at this machine is: there is no log-in.
    pub local_roles: Arc<[Role]>,
    /// Where the hub's OPC UA server can be reached.
    pub opcua_url: Option<String>,
}

impl ApiContext {
    /// The devices in the order in which they are shown, each with what is configured about it.
    pub(super) fn ordered_devices(&self) -> Vec<(Arc<DeviceLive>, Option<&DeviceInfo>)> {
        let listed = self.devices.iter();
        let mut all: Vec<_> = listed
            .filter_map(|info| Some((self.live.device(&info.id)?, Some(info))))
            .collect();
        for device in self.live.devices() {
            if !self.devices.iter().any(|info| info.id == device.id) {
                all.push((device, None));
            }
        }
        all
    }

    /// What is configured about device `id`.
    pub(super) fn info(&self, id: &str) -> Option<&DeviceInfo> {
        self.devices.iter().find(|info| &*info.id == id)
    }

    /// Device `id`, or the answer that there is none.
    pub(super) fn device(&self, id: &str) -> Result<Arc<DeviceLive>, Problem> {
        self.live.device(id).ok_or_else(|| {
            let id = super::query::shortened(id);
            Problem::not_found(format!(
                "there is no device `{id}`: /api/v1/devices lists those there are"
            ))
        })
    }
}
