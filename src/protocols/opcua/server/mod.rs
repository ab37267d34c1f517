//! The server that SCADA connects to: live values with quality, and the state of the ledger.

mod address;
mod alarms;
mod budget;
mod callers;
mod chunk;
mod companion;
mod config;
mod counters;
mod diagnostics;
mod fence;
mod flow;
pub mod guard;
mod history;
mod items;
mod methods;
mod news;
mod nodes;
mod origin;
mod pace;
mod parts;
mod places;
mod points;
mod read;
mod replaced;
mod roles;
mod sessions;
mod shown;
mod stack;
mod standard;
mod turnstile;
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
use crate::access::Role;
use crate::live_view::LiveView;
use crate::protocols::log_in::LogInPort;
use crate::protocols::ports::{
    AccessError, AccessPort, AlarmPort, ControlPort, HistoryPort, LedgerPort, SessionPort,
};
use crate::protocols::{FixedAccess, FixedLogIn};
use budget::Budget;
use callers::Callers;
use fence::Fences;
use guard::{Guard, GuardRules, GuardStats};
use history::MAX_CONTINUATIONS;
use opcua::server::{
    ANONYMOUS_USER_TOKEN_ID, Limits, ServerBuilder, ServerEndpoint, ServerHandle,
    SubscriptionLimits,
};
use opcua::types::{BuildInfo, DateTime, MessageSecurityMode};
use parking_lot::Mutex;
use replaced::Replaced;
use roles::Roles;
use sessions::Sessions;
use stack::{Setup, Stack};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio_util::task::AbortOnDropHandle;
use turnstile::Turnstile;
use users::Users;

/// How often the stack looks whether a subscription has something to publish.
const POLL_MS: u64 = 5;
/// How often the folder of rejected certificates is tidied.
const TIDY: Duration = Duration::from_secs(10);
/// Pages of browsing that a session may have open: each holds what is still to come.
const MAX_BROWSE_POINTS: usize = 10;
/// When a stack that could not be renewed is tried again.
const RENEW_AGAIN: Duration = Duration::from_secs(60);

/// Why the server cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum ScadaError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The users.
    #[error(transparent)]
    Users(#[from] UsersError),
    /// The users once more: the names of some cannot be.
    #[error(transparent)]
    Access(#[from] AccessError),
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
    /// Says what users may; without it they are what the configuration says, and that is not recorded.
    pub access: Option<Arc<dyn AccessPort>>,
    /// Says who somebody is; without it nobody is slowed down who guesses passwords.
    pub log_in: Option<Arc<dyn LogInPort>>,
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
            access: None,
            log_in: None,
        }
    }
}

/// A running server; dropping it ends it at once.
pub struct ScadaServer {
    url: String,
    live: LiveView,
    stack: Arc<Mutex<Arc<Stack>>>,
    guard: Arc<Guard>,
    sessions: Arc<Sessions>,
    renewing: AbortOnDropHandle<()>,
    _tidying: AbortOnDropHandle<()>,
    _watching: AbortOnDropHandle<()>,
}

impl ScadaServer {
    /// Starts the server with the devices that `live` has; makes a certificate at the first start,
    /// which takes about a second.
    pub async fn start(config: OpcUaServerConfig, ports: ScadaPorts) -> Result<Self, ScadaError> {
        config.check()?;
        let live = ports.live.clone();
        let access = match &ports.access {
            Some(access) => access.clone(),
            None => FixedAccess::new(&Self::users(&config)?)?,
        };
        let desk = ports.log_in.clone();
        let desk = desk.unwrap_or_else(|| Arc::new(FixedLogIn));
        let callers = Arc::new(Callers::new(users::certified(&config), access));
        let sessions = Arc::new(Sessions::new(
            ports.sessions.clone(),
            callers.clone(),
            config.limits.sessions_per_user,
        ));
        let failed = |address, source| ScadaError::Bind { address, source };
        let public = guard::listen(config.bind).map_err(|e| failed(config.bind, e))?;
        let address = public.local_addr().map_err(|e| failed(config.bind, e))?;
        let host = host(&config);
        let turnstile = Arc::<Turnstile>::default();
        let of_users = (callers.clone(), sessions.clone());
        let users = prepare(config.clone(), of_users, (desk, turnstile.clone())).await?;
        let setup = Setup {
            host: host.clone(),
            port: address.port(),
            users: Arc::new(users),
            fences: Fences {
                budget: Arc::new(Budget::new(&config.limits)),
                sessions: sessions.clone(),
                roles: Arc::new(Roles::new(callers, config.allows_none())),
            },
            stats: Arc::new(GuardStats::default()),
            config: config.clone(),
            ports,
        };
        // Before the stack reads them: what is replaced meanwhile is read again.
        let replaced = Replaced::new(pki::own_files(&config.pki_dir));
        let stack = Stack::start(&setup).await?;
        let (inner, rules) = (stack.address(), rules(&config));
        let at_the_guard = (Some(turnstile), Some(sessions.port().clone()));
        let guard = Guard::start(public, inner, rules, setup.stats.clone(), at_the_guard);
        let guard = Arc::new(guard.map_err(|e| failed(address, e))?);
        let stack = Arc::new(Mutex::new(Arc::new(stack)));
        let renewing = renew_when_due((setup, replaced), stack.clone(), guard.clone());
        tracing::info!(url = url(&host, address.port()), "OPC UA server started");
        Ok(Self {
            url: url(&host, address.port()),
            live,
            stack,
            _watching: AbortOnDropHandle::new(tokio::spawn(sessions.clone().watch(guard.clone()))),
            guard,
            sessions,
            renewing: AbortOnDropHandle::new(tokio::spawn(renewing)),
            _tidying: AbortOnDropHandle::new(tokio::spawn(tidy(config.pki_dir.clone()))),
        })
    }

    /// The users that `config` names, with their roles. Blocking: it reads certificates.
    ///
    /// # Errors
    /// When a certificate cannot be read.
    pub fn users(config: &OpcUaServerConfig) -> Result<Vec<(String, Vec<Role>)>, ScadaError> {
        Ok(users::users_of(config)?)
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
        let stack = self.stack.lock();
        stack.refresh(&self.live);
    }

    /// Ends it in good order: no new connections, then an end to the sessions.
    pub async fn shutdown(self) {
        drop(self.renewing);
        let stack = self.stack.lock().clone();
        stack.end().await;
        self.guard.stop().await;
        self.sessions.end_all();
    }
}

/// Replaces the stack when too many deleted items are left in it (see [`Budget`]), or the server's own
/// certificate was replaced: the new one takes its place, clients are disconnected and come back to it, and the
/// old one is dropped with all it kept.
async fn renew_when_due(
    (setup, mut replaced): (Setup, Replaced),
    stack: Arc<Mutex<Arc<Stack>>>,
    guard: Arc<Guard>,
) {
    loop {
        let why = tokio::select! {
            () = setup.fences.budget.worn() => "it kept too much of deleted subscriptions",
            () = replaced.changed() => "its certificate was replaced",
        };
        let next = match Stack::start(&setup).await {
            Ok(next) => next,
            Err(error) => {
                tracing::error!("the OPC UA stack cannot be renewed: {error}");
                tokio::time::sleep(RENEW_AGAIN).await;
                setup.fences.budget.still_worn();
                continue;
            }
        };
        let address = next.address();
        let old = {
            let mut stack = stack.lock();
            // Devices that came meanwhile.
            next.refresh(&setup.ports.live);
            std::mem::replace(&mut *stack, Arc::new(next))
        };
        setup.fences.sessions.end_all();
        setup.fences.budget.renewed();
        guard.lead_to(address);
        old.end().await;
        tracing::warn!(why, "the OPC UA stack was renewed; clients connect again");
    }
}

/// Reads the users and sees to the certificate, away from the async threads.
async fn prepare(
    config: OpcUaServerConfig,
    (callers, sessions): (Arc<Callers>, Arc<Sessions>),
    (desk, turnstile): (Arc<dyn LogInPort>, Arc<Turnstile>),
) -> Result<Users, ScadaError> {
    let work = move || {
        ensure_certificate(&config)?;
        let how = (desk, turnstile);
        Ok(Users::load(&config, (callers, sessions), how)?)
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
            // Fewer than the guard lets wait.
            max_pending_publish_requests: 20,
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
