//! What a hub shows to the outside: HTTP and the OPC UA server, each reading through narrow ports.

use super::credentials;
use super::edges::Edges;
use super::retention::{Retainer, RetentionView};
use super::served::keep_served;
use super::{Hub, HubError};
use crate::access::{Caller, Role};
use crate::actors::ledger::{LedgerHealth, LedgerStatus, LedgerTip};
use crate::actors::log_in::LogInDesk;
use crate::actors::users::UserDesk;
use crate::api::{
    self, ApiContext, ConfigStatus, DeviceInfo, DeviceList, Feed, FeedReader, Front,
    LedgerReadError, LedgerReader, RecordAt, RecordFilter, RecordPage, RetentionStatus, Standing,
    Tip,
};
use crate::config::{DeviceConfig, HttpConfig, HubConfig};
use crate::crypto::{ChangedFiles, ServedCertificate, TlsPair};
use crate::ledger::block::Block;
use crate::ledger::query::{Explorer, QueryError};
use crate::ledger::record::Record;
use crate::model::DeviceId;
use crate::protocols::edge::NodeStatus;
use crate::protocols::log_in::LogInPort;
use crate::protocols::opcua::server::{Machine, Machines};
use crate::protocols::opcua::{OpcUaServerConfig, ScadaPorts, ScadaServer};
use crate::protocols::ports::{AccessError, AccessPort, LedgerPort, SessionPort};
use crate::store::{BufferedStore, CredentialFiles};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use weighbridge_verifier::Hash;

/// The files in which users are.
#[derive(Clone, Debug)]
pub struct LogInFiles {
    /// The directory of their credentials, as `weighbridge user` keeps it.
    pub credentials: PathBuf,
    /// The authorities that may issue certificates for them; PEM.
    pub authority: Option<PathBuf>,
}

/// Which faces a hub opens.
#[derive(Clone, Debug, Default)]
pub struct Faces {
    /// Where HTTP listens; nowhere when `None`.
    pub http: Option<SocketAddr>,
    /// What the users of HTTP are, all of them, while nobody logs in.
    pub http_roles: Vec<Role>,
    /// The users of whom the configuration says the roles, where they log in.
    pub http_users: Vec<(String, Vec<Role>)>,
    /// Whether users log in at HTTP.
    pub http_log_in: bool,
    /// Where it is looked up who somebody is, for all faces.
    pub log_in: Option<LogInFiles>,
    /// The files of HTTP's TLS; plain when `None`.
    pub http_tls: Option<TlsPair>,
    /// Whether HTTP asks those who connect by TLS for a certificate.
    pub http_client_certificates: bool,
    /// Names that HTTP is asked for by, besides loopback and its own address.
    pub http_hosts: Vec<String>,
    /// The OPC UA server; none when `None`.
    pub opcua: Option<OpcUaServerConfig>,
    /// What is known of the devices besides their tags.
    pub devices: Vec<DeviceInfo>,
}

impl Faces {
    /// What `config` asks for.
    pub fn from_config(config: &HubConfig) -> Self {
        Self {
            http: Some(config.http.bind),
            http_roles: config.http.roles.clone(),
            http_users: users_of(&config.http),
            http_log_in: config.http.log_in,
            log_in: Some(LogInFiles {
                credentials: config.http.credentials.clone(),
                authority: Some(config.http.authority.clone()),
            }),
            http_tls: config.http.tls_pair(),
            http_client_certificates: config.http.client_certificates,
            http_hosts: config.http.hosts.clone(),
            opcua: Some(config.opcua_server.clone()),
            devices: config.devices.iter().map(device_info).collect(),
        }
    }

    /// Their users, with their roles.
    fn users(&self) -> Result<Vec<(String, Vec<Role>)>, HubError> {
        let mut users = match &self.opcua {
            Some(config) => ScadaServer::users(config)?,
            None => Vec::new(),
        };
        if self.http.is_some() && !self.http_log_in {
            users.push((api::LOCAL.to_owned(), self.http_roles.clone()));
        }
        if self.http.is_some() && self.http_log_in || self.hubs_users_at_opcua() {
            users.extend(self.http_users.iter().cloned());
        }
        // Whoever is named at two faces is one user, with the roles of both.
        let mut merged: BTreeMap<String, Vec<Role>> = BTreeMap::new();
        for (user, roles) in users {
            merged.entry(user).or_default().extend(roles);
        }
        Ok(merged.into_iter().collect())
    }

    fn hubs_users_at_opcua(&self) -> bool {
        self.opcua.as_ref().is_some_and(|config| config.log_in)
    }

    /// Where users log in at hub `hub`, whichever face they come to; what is otherwise than on record is recorded by
    /// `users`.
    fn desk(&self, hub: &str, users: Option<&UserDesk>) -> Arc<dyn LogInPort> {
        Arc::new(match (&self.log_in, users) {
            (Some(files), Some(users)) => {
                let credentials = CredentialFiles::new(&files.credentials);
                let desk = LogInDesk::new(hub, credentials, files.authority.clone());
                desk.recorded_by(users.clone())
            }
            _ => LogInDesk::without_users(hub),
        })
    }

    /// How HTTP is reached, and the certificate that it shows, with its files. Reads them.
    fn front(&self) -> Result<(Front, Option<Served>), HubError> {
        let mut front = Front {
            hosts: self.http_hosts.clone(),
            tls: None,
        };
        let Some(pair) = self.http_tls.clone() else {
            return Ok((front, None));
        };
        let authority = self.log_in.as_ref().and_then(|l| l.authority.as_deref());
        // Before they are read: what is replaced meanwhile is read again.
        let files = ChangedFiles::new(pair.files());
        let served = ServedCertificate::load(pair).map_err(HubError::HttpTls)?;
        let tls = match self.http_client_certificates {
            true => served.server_asking(authority),
            false => served.server(),
        };
        front.tls = Some(tls.map_err(HubError::HttpTls)?);
        Ok((front, Some((served, files))))
    }
}

/// What HTTP shows by TLS, and the files that it is from.
type Served = (Arc<ServedCertificate>, ChangedFiles);

fn users_of(config: &HttpConfig) -> Vec<(String, Vec<Role>)> {
    let users = config.users.iter();
    users.map(|u| (u.name.clone(), u.roles.clone())).collect()
}

/// What is shown of a device besides its tags.
pub fn device_info(device: &DeviceConfig) -> DeviceInfo {
    let (protocol, address) = match (&device.modbus, &device.opcua) {
        (Some(modbus), _) => {
            let address = format!("{} unit {}", modbus.transport, modbus.unit_id);
            (modbus.transport.name(), address)
        }
        (None, Some(opcua)) => ("OPC UA", opcua.url.to_string()),
        (None, None) => match &device.edge {
            Some(edge) => ("edge node", edge.clone()),
            None => ("", String::new()),
        },
    };
    DeviceInfo {
        id: device.id.clone(),
        group: device.group.clone(),
        protocol: protocol.to_owned(),
        address,
        machine: Machine {
            machinery: device.machinery.clone(),
            roles: device
                .tags
                .iter()
                .filter_map(|tag| Some((tag.name.clone(), tag.role.clone()?)))
                .collect(),
        },
    }
}

/// The certificates that the OPC UA server stands on.
fn standing(config: &OpcUaServerConfig) -> Arc<Standing> {
    Arc::new(Standing::new(config.pki_dir.clone()))
}

/// What machines the devices are.
fn machines_of(devices: &[DeviceInfo]) -> BTreeMap<DeviceId, Machine> {
    let machine = |info: &DeviceInfo| (info.id.clone(), info.machine.clone());
    devices.iter().map(machine).collect()
}

/// Open faces; they close when they are dropped.
pub struct OpenFaces {
    _served: Option<AbortOnDropHandle<()>>,
    http: Option<api::Running>,
    opcua: Option<ScadaServer>,
    devices: DeviceList,
    machines: Machines,
    config: ConfigStatus,
    users: Option<UserDesk>,
    /// Ends with the faces.
    _credentials: Option<AbortOnDropHandle<()>>,
}

impl OpenFaces {
    /// Where the dashboard is.
    pub fn http_url(&self) -> Option<String> {
        self.http.as_ref().map(api::Running::url)
    }

    /// Where SCADA connects.
    pub fn opcua_url(&self) -> Option<String> {
        self.opcua.as_ref().map(|server| server.url().to_owned())
    }

    /// Where the state of the configuration is shown.
    pub fn config_status(&self) -> &ConfigStatus {
        &self.config
    }

    /// Records what was changed beside the hub in the files of its users.
    pub async fn settle_users(&self) {
        if let Some(users) = &self.users
            && let Err(error) = users.settle_all().await
        {
            tracing::warn!(%error, "changed credentials of users are not on record yet");
        }
    }

    /// Shows the devices that the hub has now, with what is known of them besides their tags. Blocks
    /// for a moment; it is called when devices have come or gone.
    pub fn refresh(&self, devices: Vec<DeviceInfo>, runtime: &Handle) {
        self.machines.set(machines_of(&devices));
        self.devices.set(devices);
        if let Some(opcua) = &self.opcua {
            let _inside = runtime.enter();
            opcua.refresh();
        }
    }

    /// Closes them and waits until they are.
    pub fn close(self, runtime: &Handle) {
        runtime.block_on(async {
            if let Some(http) = self.http {
                http.stop().await;
            }
            if let Some(opcua) = self.opcua {
                opcua.shutdown().await;
            }
        });
    }
}

impl Hub {
    /// Opens the faces of this hub. Blocking; call it from no async thread.
    pub fn open_faces(&self, faces: &Faces) -> Result<OpenFaces, HubError> {
        let view = Arc::new(LedgerView {
            explorer: self.explorer().clone(),
            status: self.ledger_status(),
            heights: self.heights(),
            buffer: self.buffer.clone(),
            retention: self.retainer().map(Retainer::view),
        });
        let (front, served) = faces.front()?;
        let machines = Machines::default();
        let control = self.control();
        self.runtime().block_on(self.name_users(&faces.users()?))?;
        let access: Arc<dyn AccessPort> = Arc::new(self.access().clone());
        if faces.http.is_some() && !faces.http_log_in {
            // Whoever is on this machine is in from now on, also when nothing can be recorded later. Who may
            // not come in is told so when they ask.
            let local = Caller::new(api::LOCAL, api::FACE);
            let admitted = self.runtime().block_on(async {
                access.admit(api::LOCAL, api::FACE).await?;
                let entered = self.sessions().enter(&local).await;
                entered.map_err(|error| AccessError::NotRecorded(error.0))
            });
            if let Err(error) = admitted {
                tracing::warn!(%error, "users of this machine are not let in");
            }
        }
        let users = faces.log_in.as_ref().map(|files| {
            let files = CredentialFiles::new(&files.credentials);
            UserDesk::new(self.access().clone(), files)
        });
        if let Some(users) = &users
            && let Err(error) = self.runtime().block_on(users.settle_all())
        {
            // Nobody is let in by what no record tells of: that is looked at again when they log in.
            tracing::warn!(%error, "changed credentials of users are not on record yet");
        }
        let desk = faces.desk(self.id(), users.as_ref());
        let opcua = match &faces.opcua {
            Some(config) => {
                machines.set(machines_of(&faces.devices));
                let ports = ScadaPorts {
                    control: Some(control.clone()),
                    alarms: Some(Arc::new(self.alarms().clone())),
                    history: Some(self.past().clone()),
                    machines: machines.clone(),
                    access: Some(access.clone()),
                    log_in: Some(desk.clone()),
                    ..ScadaPorts::new(self.live().clone(), view.clone(), self.sessions().clone())
                };
                let server = ScadaServer::start(config.clone(), ports);
                Some(self.runtime().block_on(server)?)
            }
            None => None,
        };
        let devices = DeviceList::new(faces.devices.clone());
        let config = ConfigStatus::default();
        let http = match faces.http {
            Some(bind) => {
                let context = ApiContext {
                    hub_id: self.id().to_owned(),
                    started: self.started(),
                    live: self.live().clone(),
                    devices: devices.clone(),
                    config: config.clone(),
                    stats: self.stats().clone(),
                    ledger: view,
                    charts: self.charts().clone(),
                    control: Some(control),
                    alarms: Arc::new(self.alarms().clone()),
                    access,
                    log_in: faces.http_log_in.then_some(desk),
                    sessions: self.sessions().clone(),
                    history: Some(self.past().clone()),
                    checkpoints: self.checkpoints().map(|c| c as _),
                    eraser: Some(self.eraser.clone()),
                    readers: Some(Arc::new(self.readers.clone())),
                    cluster: self.cluster.clone().map(|cluster| cluster as _),
                    keys: Some(self.keys.clone()),
                    users: users.clone().map(|users| Arc::new(users) as _),
                    edges: Some(self.edges.clone()),
                    opcua_url: opcua.as_ref().map(|server| server.url().to_owned()),
                    certificates: faces.opcua.as_ref().map(standing),
                };
                Some(api::start(bind, front, context)?)
            }
            None => None,
        };
        let served = served.map(|(served, files)| {
            AbortOnDropHandle::new(self.runtime().spawn(keep_served(served, files)))
        });
        Ok(OpenFaces {
            _served: served,
            http,
            opcua,
            devices,
            machines,
            config,
            _credentials: users.as_ref().and_then(|users| {
                let changes = self.access().changes();
                let cluster = self.cluster()?;
                Some(credentials::follow(
                    cluster,
                    users,
                    changes,
                    &self.runtime(),
                ))
            }),
            users,
        })
    }

    /// The newest height, to be watched.
    fn heights(&self) -> watch::Receiver<u64> {
        let mut status = self.ledger_status();
        let (heights, seen) = watch::channel(0);
        self.runtime().spawn(async move {
            loop {
                let height = status.borrow_and_update().tip.height;
                heights.send_replace(height);
                if status.changed().await.is_err() {
                    break;
                }
            }
        });
        seen
    }
}

impl FeedReader for Edges {
    fn nodes(&self) -> Vec<NodeStatus> {
        self.status()
    }

    fn feed(&self, device: &str) -> Option<Feed> {
        let gate = self.gate(device)?;
        Some(Feed {
            edge: gate.edge.clone(),
            backlog: gate.backlog(),
        })
    }
}

/// The ledger as the faces see it.
struct LedgerView {
    explorer: Explorer,
    status: watch::Receiver<LedgerStatus>,
    heights: watch::Receiver<u64>,
    buffer: Option<Arc<BufferedStore>>,
    retention: Option<RetentionView>,
}

impl LedgerPort for LedgerView {
    fn height(&self) -> u64 {
        self.newest().height
    }

    fn last_block_hash(&self) -> Hash {
        self.newest().hash
    }

    fn records(&self) -> u64 {
        self.newest().records
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.heights.clone()
    }
}

impl LedgerView {
    fn newest(&self) -> LedgerTip {
        self.status.borrow().tip
    }
}

impl LedgerReader for LedgerView {
    fn tip(&self) -> Option<Tip> {
        let tip = self.newest();
        Some(Tip {
            height: tip.height,
            hash: tip.hash,
            time: tip.time,
            records: tip.records,
        })
    }

    fn trouble(&self) -> Option<String> {
        match &self.status.borrow().health {
            LedgerHealth::Up => {
                let buffer = self.buffer.as_ref()?.status();
                let (waiting, reason) = (buffer.waiting, buffer.reason);
                (waiting > 0).then(|| {
                    format!("{waiting} blocks wait in the buffer, safe, until the ledger's disk takes them: {reason}")
                })
            }
            LedgerHealth::Waiting(why) => Some(format!("the ledger waits: {why}")),
            LedgerHealth::Broken(why) => Some(format!("the ledger is broken: {why}")),
        }
    }

    fn retention(&self) -> Option<RetentionStatus> {
        self.retention.as_ref().map(RetentionView::now)
    }

    fn block(&self, height: u64) -> Result<Option<Block>, LedgerReadError> {
        self.explorer.block(height).map_err(unreadable)
    }

    fn blocks(&self, before: Option<u64>, limit: usize) -> Result<Vec<Block>, LedgerReadError> {
        self.explorer.blocks(before, limit).map_err(unreadable)
    }

    fn records(
        &self,
        before: Option<RecordAt>,
        limit: usize,
        filter: &RecordFilter,
    ) -> Result<RecordPage, LedgerReadError> {
        let before = before.map(|at| (at.height, at.position));
        let page = self
            .explorer
            .records_where(before, limit, |record| wanted(filter, record))
            .map_err(unreadable)?;
        let at = |(height, position)| RecordAt { height, position };
        let records = page.items.into_iter();
        Ok(RecordPage {
            records: records.map(|r| (at(r.place), r.record)).collect(),
            next: page.next.map(at),
        })
    }
}

fn wanted(filter: &RecordFilter, record: &Record) -> bool {
    let body = &record.body;
    let batch = body.batch();
    let of_device = |device: &String| {
        batch.is_some_and(|b| b.device == *device)
            || body.object.strip_prefix("device:") == Some(device)
    };
    (batch.is_some() || !filter.batches_only && filter.verdict.is_none())
        && filter.device.as_ref().is_none_or(of_device)
        && filter.action.is_none_or(|action| body.action == action)
        && filter
            .verdict
            .is_none_or(|class| batch.is_some_and(|b| b.verdict.class == class))
}

fn unreadable(error: QueryError) -> LedgerReadError {
    LedgerReadError(error.to_string())
}
