//! The server that SCADA connects to: live values with quality, and the state of the ledger.

mod address;
mod alarms;
mod callers;
mod chunk;
mod companion;
mod config;
mod diagnostics;
mod flow;
pub mod guard;
mod history;
mod methods;
mod nodes;
mod pace;
mod parts;
mod places;
mod points;
mod read;
mod sessions;
mod standard;
mod units;
mod users;
mod writes;

pub use address::NAMESPACE;
pub use companion::{
    Machine, MachineKind, MachineryConfig, Machines, MotionDeviceCategory, TagRole,
};
pub use config::{ConfigError, OpcUaServerConfig, ServerLimits, UserConfig};
pub use users::UsersError;

use super::pki;
use super::security::{Mode, Policy, Trust};
use crate::live_view::LiveView;
use crate::protocols::ports::{AlarmPort, ControlPort, HistoryPort, LedgerPort, SessionPort};
use callers::Callers;
use guard::{Guard, GuardRules, GuardStats};
use history::{History, MAX_CONTINUATIONS};
use nodes::LiveNodes;
use opcua::server::address_space::AddressSpace;
use opcua::server::diagnostics::DiagnosticsNodeManagerBuilder;
use opcua::server::node_manager::ServerContext;
use opcua::server::node_manager::memory::{InMemoryNodeManager, InMemoryNodeManagerBuilder};
use opcua::server::{
    ANONYMOUS_USER_TOKEN_ID, Limits, ServerBuilder, ServerEndpoint, ServerHandle,
    SubscriptionLimits,
};
use opcua::types::{BuildInfo, DateTime, MessageSecurityMode};
use parking_lot::Mutex;
use parts::Parts;
use points::Group;
use sessions::Sessions;
use standard::Standard;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;
use users::Users;

/// How often the stack looks whether a subscription has something to publish.
const POLL_MS: u64 = 5;
/// How often the folder of rejected certificates is tidied.
const TIDY: Duration = Duration::from_secs(10);
/// Pages of browsing that a session may have open: each holds what is still to come.
const MAX_BROWSE_POINTS: usize = 10;
/// How long sessions have to end at shutdown.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why the server cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum ScadaError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The users.
    #[error(transparent)]
    Users(#[from] UsersError),
    /// The certificates.
    #[error(transparent)]
    Pki(#[from] pki::PkiError),
    /// The address.
    #[error("the OPC UA server cannot listen on {address}: {source}")]
    Bind {
        /// Which one.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The stack.
    #[error("the OPC UA server cannot be started: {0}")]
    Stack(String),
}

/// What the server shows of the hub, and what it lets users do there.
#[derive(Clone)]
pub struct ScadaPorts {
    /// The newest samples.
    pub live: LiveView,
    /// The ledger.
    pub ledger: Arc<dyn LedgerPort>,
    /// Who is told of users and their requests.
    pub sessions: Arc<dyn SessionPort>,
    /// Acts upon the machines; without it nothing can be written.
    pub control: Option<Arc<dyn ControlPort>>,
    /// The alarms; without it there are no conditions.
    pub alarms: Option<Arc<dyn AlarmPort>>,
    /// What was recorded; without it there is no history.
    pub history: Option<Arc<dyn HistoryPort>>,
    /// What is configured about the machines.
    pub machines: Machines,
}

impl ScadaPorts {
    /// Live values and the ledger, and nothing to act upon.
    pub fn new(
        live: LiveView,
        ledger: Arc<dyn LedgerPort>,
        sessions: Arc<dyn SessionPort>,
    ) -> Self {
        Self {
            live,
            ledger,
            sessions,
            control: None,
            alarms: None,
            history: None,
            machines: Machines::default(),
        }
    }
}

/// A running server; dropping it ends it at once.
pub struct ScadaServer {
    url: String,
    live: LiveView,
    handle: ServerHandle,
    nodes: Arc<InMemoryNodeManager<LiveNodes>>,
    pushers: Mutex<JoinSet<()>>,
    guard: Guard,
    stack: AbortOnDropHandle<()>,
    sessions: Arc<Sessions>,
    _alarms: Option<AbortOnDropHandle<()>>,
    _tidying: AbortOnDropHandle<()>,
    _watching: AbortOnDropHandle<()>,
}

impl ScadaServer {
    /// Starts the server with the devices that `live` has; makes a certificate at the first start,
    /// which takes about a second.
    pub async fn start(config: OpcUaServerConfig, ports: ScadaPorts) -> Result<Self, ScadaError> {
        config.check()?;
        let live = ports.live.clone();
        let callers = Arc::new(Callers::new(&config));
        let parts = Arc::new(Parts::default());
        let sessions = Arc::new(Sessions::new(ports.sessions.clone(), callers.clone()));
        if let Some(port) = &ports.history {
            let past = History::new(port.clone(), parts.tags.clone());
            // Nobody else sets it.
            let _ = parts.past.set(Arc::new(past));
        }
        let failed = |address, source| ScadaError::Bind { address, source };
        let public = TcpListener::bind(config.bind)
            .await
            .map_err(|e| failed(config.bind, e))?;
        let address = public.local_addr().map_err(|e| failed(config.bind, e))?;
        let host = host(&config);
        let users = prepare(config.clone(), callers.clone()).await?;

        let slot = Arc::new(Mutex::new(None));
        let standard = Standard {
            parts: parts.clone(),
            sessions: sessions.clone(),
        };
        let builder = builder(&config, &host, address.port())
            .without_node_managers()
            .with_node_manager(standard)
            .with_node_manager(DiagnosticsNodeManagerBuilder);
        let (ledger_slot, of_nodes) = (slot.clone(), (sessions.clone(), parts.clone()));
        let (most, alarms) = (config.limits.monitored_items, ports.alarms.clone());
        let build = move |context: ServerContext, space: &mut AddressSpace| {
            let (nodes, group) = LiveNodes::build(&context, space, ports, of_nodes, most);
            *ledger_slot.lock() = Some(group);
            nodes
        };
        let (server, handle) = builder
            .with_authenticator(Arc::new(users))
            .with_node_manager(InMemoryNodeManagerBuilder::new(build))
            .build()
            .map_err(ScadaError::Stack)?;
        let nodes = handle
            .node_managers()
            .get_of_type::<InMemoryNodeManager<LiveNodes>>()
            .ok_or_else(|| ScadaError::Stack("its nodes are missing".into()))?;

        let alarms = alarms.map(|port| alarms::open(port, &handle, nodes.clone(), &parts));

        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let inner = TcpListener::bind(loopback)
            .await
            .map_err(|e| failed(loopback, e))?;
        let inner_address = inner.local_addr().map_err(|e| failed(loopback, e))?;
        let stack = AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(reason) = server.run_with(inner).await {
                tracing::error!("the OPC UA server stopped: {reason}");
            }
        }));
        advertise(&handle, inner_address.port(), address.port())
            .await
            .map_err(ScadaError::Stack)?;
        let guard =
            Guard::start(public, inner_address, rules(&config)).map_err(|e| failed(address, e))?;

        let this = Self {
            url: url(&host, address.port()),
            live,
            handle,
            nodes,
            pushers: Mutex::default(),
            guard,
            stack,
            _watching: AbortOnDropHandle::new(tokio::spawn(sessions.clone().watch())),
            sessions,
            _alarms: alarms,
            _tidying: AbortOnDropHandle::new(tokio::spawn(tidy(config.pki_dir.clone()))),
        };
        let ledger_group = slot.lock().take();
        if let Some(group) = ledger_group {
            this.push(group);
        }
        this.refresh();
        tracing::info!(url = this.url, "OPC UA server started");
        Ok(this)
    }

    /// The endpoint's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.guard.address().port()
    }

    /// Counters of the guard in front of it.
    pub fn guard_stats(&self) -> &Arc<GuardStats> {
        self.guard.stats()
    }

    /// Takes in the devices that have been registered in the live view, or registered anew, since
    /// the start or the last call, and takes out those that it has no more.
    pub fn refresh(&self) {
        let space = self.nodes.address_space();
        let subscriptions = self.handle.subscriptions();
        self.nodes
            .inner()
            .remove_gone(space, &self.live, subscriptions);
        for live in self.live.devices() {
            let space = self.nodes.address_space();
            for group in self.nodes.inner().add(space, &live) {
                self.push(group);
            }
        }
    }

    fn push(&self, group: Arc<Group>) {
        let subscriptions = self.handle.subscriptions().clone();
        self.pushers.lock().spawn(group.push(subscriptions));
    }

    /// Ends it in good order: no new connections, then an end to the sessions.
    pub async fn shutdown(self) {
        self.handle.cancel();
        let _ = tokio::time::timeout(FAREWELL, self.stack).await;
        self.guard.stop().await;
        self.sessions.end_all();
    }
}

/// Reads the users and sees to the certificate, away from the async threads.
async fn prepare(config: OpcUaServerConfig, callers: Arc<Callers>) -> Result<Users, ScadaError> {
    let work = move || {
        ensure_certificate(&config)?;
        Ok(Users::load(&config, callers)?)
    };
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(ScadaError::Stack(e.to_string())))
}

/// Makes the server's certificate folder and certificate where they are missing. Blocking; the server
/// does it when it starts.
pub fn ensure_certificate(config: &OpcUaServerConfig) -> Result<(), pki::PkiError> {
    let mut hosts = vec![host(config), pki::host_name(), config.bind.ip().to_string()];
    if config.is_loopback() {
        hosts.push("localhost".into());
    }
    hosts.sort_unstable();
    hosts.dedup();
    let subject = pki::Subject {
        name: "Weighbridge".into(),
        application_uri: application_uri(),
        hosts,
    };
    pki::ensure(&config.pki_dir, &subject)
}

fn application_uri() -> String {
    format!("urn:{}:weighbridge", pki::host_name())
}

/// The name clients use.
fn host(config: &OpcUaServerConfig) -> String {
    match &config.host {
        Some(host) => host.clone(),
        None if config.bind.ip().is_unspecified() => pki::host_name(),
        None => config.bind.ip().to_string(),
    }
}

fn url(host: &str, port: u16) -> String {
    format!("opc.tcp://{}:{port}/", bracketed(host))
}

/// IPv6 addresses stand in brackets in URLs.
fn bracketed(host: &str) -> String {
    match host.parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => host.to_owned(),
    }
}

fn policies(config: &OpcUaServerConfig) -> Vec<Policy> {
    let none = config.allows_none().then_some(Policy::None);
    Policy::SECURE.into_iter().chain(none).collect()
}

fn rules(config: &OpcUaServerConfig) -> GuardRules {
    GuardRules {
        connections: config.limits.connections,
        connections_per_address: config.limits.connections_per_address,
        message_bytes: config.limits.message_bytes,
        idle: Duration::from_secs(600),
        policies: policies(config),
    }
}

fn builder(config: &OpcUaServerConfig, host: &str, port: u16) -> ServerBuilder {
    let version = env!("CARGO_PKG_VERSION");
    let mut builder = ServerBuilder::new()
        .application_name("Weighbridge")
        .application_uri(application_uri())
        .product_uri("urn:weighbridge")
        .build_info(BuildInfo {
            product_uri: "urn:weighbridge".into(),
            manufacturer_name: "Weighbridge".into(),
            product_name: "Weighbridge".into(),
            software_version: version.into(),
            build_number: version.into(),
            build_date: DateTime::null(),
        })
        .host(bracketed(host))
        .port(port)
        .discovery_urls(vec![url(host, port)])
        .pki_dir(&config.pki_dir)
        .certificate_path("own/cert.der")
        .private_key_path("private/private.pem")
        .create_sample_keypair(false)
        .trust_client_certs(config.trust == Trust::Any)
        .check_cert_time(true)
        .hello_timeout(5)
        .subscription_poll_interval_ms(POLL_MS)
        .max_timeout_ms(30_000)
        .max_session_timeout_ms(120_000)
        .max_secure_channel_token_lifetime_ms(3_600_000)
        .limits(limits(config))
        .diagnostics_enabled(true);
    // Who may do what is decided by the users; the stack only wants a known token.
    let tokens = [ANONYMOUS_USER_TOKEN_ID.to_owned()];
    for policy in policies(config) {
        let modes = match policy {
            Policy::None => vec![MessageSecurityMode::None],
            _ => Mode::ALL.map(Mode::stack).to_vec(),
        };
        for mode in modes {
            let endpoint = ServerEndpoint::new("/", policy.stack(), mode, &tokens);
            builder = builder.add_endpoint(format!("{} {mode:?}", policy.name()), endpoint);
        }
    }
    builder
}

fn limits(config: &OpcUaServerConfig) -> Limits {
    let configured = &config.limits;
    Limits {
        max_array_length: 20_000,
        max_string_length: 65_536,
        max_byte_string_length: 65_536,
        max_message_size: configured.message_bytes,
        max_chunk_count: configured.message_bytes.div_ceil(8_192).max(1),
        max_browse_continuation_points: MAX_BROWSE_POINTS,
        max_history_continuation_points: MAX_CONTINUATIONS,
        max_query_continuation_points: 1,
        max_sessions: configured.sessions,
        subscriptions: SubscriptionLimits {
            max_subscriptions_per_session: configured.subscriptions_per_session,
            min_sampling_interval_ms: 0.0,
            min_publishing_interval_ms: 10.0,
            max_pending_publish_requests: 50,
            max_publish_requests_per_subscription: 10,
            max_keep_alive_count: 3_000,
            max_lifetime_count: 9_000,
            max_monitored_items_per_sub: configured.monitored_items,
            max_monitored_item_queue_size: configured.queue_size,
            // Clients of the same stack take arrays of 1,000 by default.
            max_notifications_per_publish: 1_000,
            max_queued_notifications: 64,
            ..Default::default()
        },
        ..Default::default()
    }
}

/// Waits until the stack listens on `inner`, and has it name `public`, the guard's port, in its
/// endpoints: it would name its own.
pub(crate) async fn advertise(
    handle: &ServerHandle,
    inner: u16,
    public: u16,
) -> Result<(), String> {
    let port = &handle.info().port;
    for _ in 0..2_000 {
        if port.load(Ordering::Relaxed) == inner {
            port.store(public, Ordering::Relaxed);
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Err("it did not get ready in time".into())
}

async fn tidy(folder: PathBuf) {
    let mut interval = tokio::time::interval(TIDY);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let folder = folder.clone();
        let tidied = tokio::task::spawn_blocking(move || pki::prune_rejected(&folder)).await;
        if let Ok(Err(error)) = tidied {
            tracing::warn!("rejected certificates cannot be tidied: {error}");
        }
    }
}

#[cfg(test)]
mod tests;
