//! What the HTTP face is given by the hub.

use super::about::Standing;
use super::cluster::ClusterPort;
use super::feeds::FeedReader;
use super::loaded::ConfigStatus;
use super::ports::{ChartReader, CheckpointPort, ErasePort, KeyPort, LedgerReader, ReadersPort};
use super::problem::Problem;
use crate::live_view::{DeviceLive, LiveView};
use crate::model::{DeviceId, Nanos};
use crate::protocols::log_in::LogInPort;
use crate::protocols::opcua::server::Machine;
use crate::protocols::ports::{AccessPort, AlarmPort, ControlPort, HistoryPort, SessionPort};
use crate::protocols::users::UsersPort;
use crate::stats::Stats;
use parking_lot::RwLock;
use std::collections::BTreeMap;
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
    /// What machine it is.
    pub machine: Machine,
}

/// What is configured about the devices, in the order in which they are shown; it may change while
/// the hub runs.
#[derive(Clone, Default)]
pub struct DeviceList(Arc<RwLock<Arc<[DeviceInfo]>>>);

impl DeviceList {
    /// A list that holds `devices`.
    pub fn new(devices: impl Into<Arc<[DeviceInfo]>>) -> Self {
        Self(Arc::new(RwLock::new(devices.into())))
    }

    /// Puts others in their place.
    pub fn set(&self, devices: impl Into<Arc<[DeviceInfo]>>) {
        *self.0.write() = devices.into();
    }

    fn get(&self) -> Arc<[DeviceInfo]> {
        self.0.read().clone()
    }
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
    pub devices: DeviceList,
    /// The counters.
    pub stats: Arc<Stats>,
    /// The ledger.
    pub ledger: Arc<dyn LedgerReader>,
    /// The control charts.
    pub charts: Arc<dyn ChartReader>,
    /// The alarms.
    pub alarms: Arc<dyn AlarmPort>,
    /// Says what users may.
    pub access: Arc<dyn AccessPort>,
    /// Says who somebody is; without it nobody logs in.
    pub log_in: Option<Arc<dyn LogInPort>>,
    /// Who is told of the people at the dashboard.
    pub sessions: Arc<dyn SessionPort>,
    /// What was recorded; without it there is no history.
    pub history: Option<Arc<dyn HistoryPort>>,
    /// Makes checkpoints; without it there are none.
    pub checkpoints: Option<Arc<dyn CheckpointPort>>,
    /// Erases what was recorded; without it nothing can be erased.
    pub eraser: Option<Arc<dyn ErasePort>>,
    /// Hands out what readers open themselves; without it nothing is.
    pub readers: Option<Arc<dyn ReadersPort>>,
    /// The hubs that share the chain; `None` where this one decides alone.
    pub cluster: Option<Arc<dyn ClusterPort>>,
    /// Replaces keys; without it none is replaced.
    pub keys: Option<Arc<dyn KeyPort>>,
    /// Keeps the users' credentials; without it nobody is made a user here.
    pub users: Option<Arc<dyn UsersPort>>,
    /// Acts upon the machines; without it nothing can be written.
    pub control: Option<Arc<dyn ControlPort>>,
    /// The edge nodes; without it there are none.
    pub edges: Option<Arc<dyn FeedReader>>,
    /// How the configuration is.
    pub config: ConfigStatus,
    /// Where the hub's OPC UA server can be reached.
    pub opcua_url: Option<String>,
    /// The certificates that it stands on.
    pub certificates: Option<Arc<Standing>>,
}

impl ApiContext {
    /// The devices in the order in which they are shown, each with what is configured about it.
    pub(super) fn ordered_devices(&self) -> Vec<(Arc<DeviceLive>, Option<DeviceInfo>)> {
        let listed = self.devices.get();
        let live = self.live.devices();
        let mut rest: BTreeMap<_, _> = live.into_iter().map(|d| (d.id.clone(), d)).collect();
        let mut all = Vec::with_capacity(rest.len());
        for info in listed.iter() {
            all.extend(rest.remove(&info.id).map(|live| (live, Some(info.clone()))));
        }
        all.extend(rest.into_values().map(|live| (live, None)));
        all
    }

    /// What is configured about device `id`.
    pub(super) fn info(&self, id: &str) -> Option<DeviceInfo> {
        let listed = self.devices.get();
        listed.iter().find(|info| &*info.id == id).cloned()
    }

    /// Device `id`, or the answer that there is none.
    pub(super) fn device(&self, id: &str) -> Result<Arc<DeviceLive>, Problem> {
        self.live.device(id).ok_or_else(|| no_device(id))
    }
}

/// The answer that there is no device `id`; also when there is one that whoever asks may not see.
pub(super) fn no_device(id: &str) -> Problem {
    let id = super::query::shortened(id);
    Problem::not_found(format!(
        "there is no device `{id}`: /api/v1/devices lists those there are"
    ))
}
