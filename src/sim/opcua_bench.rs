//! What `bench opcua` runs: servers whose every value counts upwards, and clients that count what they
//! were told. A value that was not told leaves a gap.

use crate::live_view::{LiveSample, LiveView};
use crate::model::{Quality, TagSpec, Value, ValueKind, now};
use crate::protocols::opcua::core::{Extent, server_builder};
use crate::protocols::opcua::server::{NAMESPACE, ServerLimits};
use crate::protocols::opcua::{OpcUaServerConfig, ScadaPorts, ScadaServer};
use crate::protocols::ports::{LedgerPort, SessionPort};
use crate::stats::Histogram;
use opcua::client::{Client, ClientBuilder, IdentityToken, OnSubscriptionNotification, Session};
use opcua::client::{MonitoredItem, SessionEventLoop};
use opcua::crypto::SecurityPolicy;
use opcua::server::address_space::VariableBuilder;
use opcua::server::diagnostics::NamespaceMetadata;
use opcua::server::node_manager::memory::{SimpleNodeManager, simple_node_manager};
use opcua::server::{
    ANONYMOUS_USER_TOKEN_ID, Limits, ServerEndpoint, ServerHandle, SubscriptionLimits,
};
use opcua::types::{
    DataTypeId, DataValue, Error, MessageSecurityMode, MonitoredItemCreateRequest, NodeId,
    ObjectId, ReadValueId, TimestampsToReturn, UserTokenPolicy, VariableTypeId, Variant,
};
use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use weighbridge_verifier::Hash;

/// How long a server may take until all its values are there.
const FIRST_VALUES: Duration = Duration::from_secs(5);

/// The bare server's namespace.
const BARE: &str = "urn:weighbridge:bench:values";
/// Tags of one device of the hub's server.
const TAGS: usize = 100;
/// 1970-01-01 in the ticks of OPC UA: 100 ns since 1601-01-01.
const UNIX_EPOCH_TICKS: i64 = 116_444_736_000_000_000;

/// Which server is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The hub's.
    Hub,
    /// The stack's own, with its simple node manager.
    Bare,
}

/// A server with `items` doubles that are all rewritten in every period; dropping it ends it.
pub struct BenchServer {
    url: String,
    _hub: Option<ScadaServer>,
    _bare: Option<Ending>,
    _writing: Vec<AbortOnDropHandle<()>>,
}

/// What a server has, and how it changes.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Values.
    pub items: usize,
    /// How often each changes.
    pub period: Duration,
    /// Whether all devices change in the same moment, instead of one after the other as machines do
    /// that know nothing of each other.
    pub at_once: bool,
}

struct Ending(ServerHandle);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// An empty ledger, and nobody who asks after sessions.
struct Nothing;

impl LedgerPort for Nothing {
    fn height(&self) -> u64 {
        0
    }

    fn last_block_hash(&self) -> Hash {
        Hash::ZERO
    }

    fn records(&self) -> u64 {
        0
    }

    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}

impl SessionPort for Nothing {
    fn asked(&self, _: &str, _: &str) {}

    fn ended(&self, _: &str) {}

    fn open(&self) -> usize {
        0
    }
}

impl BenchServer {
    /// Starts one on a free loopback port; its certificates go into `dir`.
    pub async fn start(kind: Kind, load: Load, dir: &Path) -> io::Result<Self> {
        match kind {
            Kind::Hub => Self::hub(load, dir).await,
            Kind::Bare => Self::bare(load).await,
        }
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    async fn hub(load: Load, dir: &Path) -> io::Result<Self> {
        let live = LiveView::default();
        let names = names(load.items);
        let devices: Vec<_> = names
            .chunks(TAGS)
            .enumerate()
            .map(|(i, names)| {
                let tag = |name: &String| TagSpec {
                    name: name.rsplit('/').next().unwrap_or_default().into(),
                    kind: ValueKind::F64,
                    unit: String::new(),
                    description: String::new(),
                    range: None,
                    writable: false,
                };
                live.register(format!("d{i}").into(), names.iter().map(tag).collect())
            })
            .collect();
        let config = OpcUaServerConfig {
            bind: (Ipv4Addr::LOCALHOST, 0).into(),
            pki_dir: dir.join("pki"),
            limits: ServerLimits {
                connections: 1_000,
                connections_per_address: 1_000,
                sessions: 1_000,
                monitored_items: 1_000_000,
                ..ServerLimits::default()
            },
            ..OpcUaServerConfig::default()
        };
        let ports = ScadaPorts::new(live, Arc::new(Nothing), Arc::new(Nothing));
        let server = ScadaServer::start(config, ports).await;
        let server = server.map_err(io::Error::other)?;
        let count = devices.len().max(1) as u32;
        let writing = devices.into_iter().zip(0..).map(|(device, place)| {
            let wait = match load.at_once {
                true => Duration::ZERO,
                false => load.period * place / count,
            };
            let write = move |count: u64| {
                let sample = LiveSample {
                    time: now(),
                    value: Value::F64(count as f64),
                    quality: Quality::GOOD,
                };
                device.update((0..device.tags.len()).map(|tag| (tag, sample.clone())));
            };
            AbortOnDropHandle::new(tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                every(load.period, write).await;
            }))
        });
        Ok(Self {
            url: server.url().to_owned(),
            _hub: Some(server),
            _bare: None,
            _writing: writing.collect(),
        })
    }

    async fn bare(load: Load) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let metadata = NamespaceMetadata {
            namespace_uri: BARE.to_owned(),
            ..Default::default()
        };
        let tokens = [ANONYMOUS_USER_TOKEN_ID.to_owned()];
        let (server, handle) = server_builder(Extent::Server)
            .application_name("bare")
            .application_uri("urn:weighbridge:bench")
            .product_uri("urn:weighbridge:bench")
            .host(address.ip().to_string())
            .port(address.port())
            .discovery_urls(vec![format!("opc.tcp://{address}/")])
            .add_endpoint("none", ServerEndpoint::new_none("/", &tokens))
            .create_sample_keypair(false)
            .pki_dir(std::env::temp_dir().join("weighbridge-bench-pki"))
            .subscription_poll_interval_ms(10)
            .limits(Limits {
                max_sessions: 1_000,
                subscriptions: SubscriptionLimits {
                    min_sampling_interval_ms: 0.0,
                    min_publishing_interval_ms: 10.0,
                    max_monitored_item_queue_size: 100,
                    ..Default::default()
                },
                ..Default::default()
            })
            .with_node_manager(simple_node_manager(metadata, "bench"))
            .build()
            .map_err(io::Error::other)?;
        let nodes = handle
            .node_managers()
            .get_of_type::<SimpleNodeManager>()
            .ok_or_else(|| io::Error::other("the bare server's nodes are missing"))?;
        let namespace = handle
            .get_namespace_index(BARE)
            .ok_or_else(|| io::Error::other("the bare server's namespace is missing"))?;
        let names = names(load.items);
        let ids: Vec<_> = names.iter().map(|n| NodeId::new(namespace, &**n)).collect();
        {
            let mut space = nodes.address_space().write();
            for (id, name) in ids.iter().zip(&names) {
                VariableBuilder::new(id, &**name, &**name)
                    .data_type(DataTypeId::Double)
                    .has_type_definition(VariableTypeId::BaseDataVariableType)
                    .organized_by(ObjectId::ObjectsFolder)
                    .value(0.0)
                    .insert(&mut *space);
            }
        }
        tokio::spawn(async move {
            if let Err(reason) = server.run_with(listener).await {
                tracing::error!("the bare server stopped: {reason}");
            }
        });
        let subscriptions = handle.subscriptions().clone();
        let write = move |count: u64| {
            let value = DataValue::new_now(count as f64);
            let values = ids.iter().map(|id| (id, None, value.clone()));
            if let Err(status) = nodes.set_values(&subscriptions, values) {
                tracing::error!("the bare server's values cannot be set: {status}");
            }
        };
        Ok(Self {
            url: format!("opc.tcp://{address}/"),
            _hub: None,
            _bare: Some(Ending(handle)),
            _writing: vec![AbortOnDropHandle::new(tokio::spawn(every(
                load.period,
                write,
            )))],
        })
    }
}

/// The node ids, as texts: the same for both, since who asks for longer names waits longer.
fn names(items: usize) -> Vec<String> {
    let name = |i| format!("Weighbridge/Devices/d{}/v{i}", i / TAGS);
    (0..items).map(name).collect()
}

async fn every(period: Duration, write: impl Fn(u64) + Send) {
    let mut interval = tokio::time::interval(period);
    for count in 1.. {
        interval.tick().await;
        write(count);
    }
}

/// What clients were told.
#[derive(Default)]
pub struct Told {
    /// Notifications of values.
    pub notifications: AtomicU64,
    /// Values that were left out.
    pub missing: AtomicU64,
    /// Values that came again, or late.
    pub disorder: AtomicU64,
    /// From the source time to the client's hands.
    pub latency: Histogram,
    /// Whether it is counted.
    pub counting: AtomicBool,
}

/// Counts for one session.
struct Counter {
    told: Arc<Told>,
    last: HashMap<u32, u64>,
}

impl OnSubscriptionNotification for Counter {
    fn on_data_value(&mut self, notification: DataValue, item: &MonitoredItem) {
        let Some(Variant::Double(value)) = notification.value else {
            return;
        };
        let value = value as u64;
        let last = self.last.insert(item.client_handle(), value);
        if !self.told.counting.load(Ordering::Relaxed) {
            return;
        }
        self.told.notifications.fetch_add(1, Ordering::Relaxed);
        match last {
            Some(last) if value > last => {
                let missing = value - last - 1;
                self.told.missing.fetch_add(missing, Ordering::Relaxed);
            }
            Some(_) => {
                self.told.disorder.fetch_add(1, Ordering::Relaxed);
            }
            None => {}
        }
        if let Some(time) = notification.source_timestamp {
            let nanos = (time.ticks() - UNIX_EPOCH_TICKS) * 100;
            self.told.latency.observe(now() - nanos, 1);
        }
    }
}

/// What the clients of a run ask for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Sessions, each with one subscription.
    pub sessions: usize,
    /// Monitored items of each.
    pub items: usize,
    /// How often it is published.
    pub publishing: Duration,
    /// Sampling interval, in milliseconds.
    pub sampling: f64,
    /// Queue of each item.
    pub queue: u32,
}

/// Sessions that are open; dropping them ends them.
pub struct Clients {
    sessions: Vec<Arc<Session>>,
    _events: Vec<AbortOnDropHandle<()>>,
}

fn client() -> io::Result<Client> {
    ClientBuilder::new()
        .application_name("bench")
        .application_uri("urn:weighbridge:bench-client")
        .product_uri("urn:weighbridge:bench-client")
        .create_sample_keypair(false)
        .pki_dir(std::env::temp_dir().join("weighbridge-bench-pki"))
        .session_retry_limit(0)
        .min_publish_interval(Duration::from_millis(1))
        .max_array_length(100_000)
        .max_message_size(16 << 20)
        .max_chunk_count(1_000)
        .client()
        .map_err(|reasons| io::Error::other(reasons.join(", ")))
}

fn failed(error: Error) -> io::Error {
    io::Error::other(error.to_string())
}

impl Clients {
    /// Opens `count` sessions at `url`.
    pub async fn open(url: &str, count: usize) -> io::Result<Self> {
        let mut this = Self {
            sessions: Vec::new(),
            _events: Vec::new(),
        };
        for _ in 0..count {
            let endpoint = (
                url,
                SecurityPolicy::None.to_str(),
                MessageSecurityMode::None,
                UserTokenPolicy::anonymous(),
            );
            let connecting = client()?
                .connect_to_matching_endpoint(endpoint, IdentityToken::Anonymous)
                .await;
            let (session, events): (_, SessionEventLoop<_>) = connecting.map_err(failed)?;
            let driver = events.spawn();
            if !session.wait_for_connection().await {
                return Err(io::Error::other("a session could not be opened"));
            }
            this.sessions.push(session);
            this._events
                .push(AbortOnDropHandle::new(tokio::spawn(async {
                    let _ = driver.await;
                })));
        }
        Ok(this)
    }

    /// Subscribes in every session.
    pub async fn subscribe(&self, kind: Kind, wish: &Wish, told: &Arc<Told>) -> io::Result<()> {
        for session in &self.sessions {
            let counter = Counter {
                told: told.clone(),
                last: HashMap::new(),
            };
            let subscription = session
                .create_subscription(wish.publishing, 6_000, 200, 0, 0, true, counter)
                .await
                .map_err(failed)?;
            let nodes = nodes(session, kind, wish.items).await?;
            for nodes in nodes.chunks(500) {
                let item = |node: &NodeId| {
                    let mut item = MonitoredItemCreateRequest::from(node.clone());
                    item.requested_parameters.queue_size = wish.queue;
                    item.requested_parameters.sampling_interval = wish.sampling;
                    item
                };
                let items = nodes.iter().map(item).collect();
                let created = session
                    .create_monitored_items(subscription, TimestampsToReturn::Both, items)
                    .await
                    .map_err(failed)?;
                if let Some(bad) = created.iter().find(|c| c.result.status_code.is_bad()) {
                    return Err(io::Error::other(bad.result.status_code.to_string()));
                }
            }
        }
        Ok(())
    }

    /// Reads `batch` of the nodes again and again in the first session for `time`; returns values a
    /// second.
    pub async fn read(
        &self,
        kind: Kind,
        items: usize,
        batch: usize,
        time: Duration,
    ) -> io::Result<f64> {
        let Some(session) = self.sessions.first() else {
            return Err(io::Error::other("there is no session"));
        };
        let nodes = nodes(session, kind, items).await?;
        let batches: Vec<Vec<ReadValueId>> = nodes
            .chunks(batch)
            .map(|nodes| nodes.iter().map(|n| ReadValueId::from(n.clone())).collect())
            .collect();
        // A server that has just started waits for its first values.
        let latest = Instant::now() + FIRST_VALUES;
        for batch in &batches {
            loop {
                let read = session.read(batch, TimestampsToReturn::Both, 0.0).await;
                let there = read.map_err(failed)?.iter().all(|v| v.value.is_some());
                if there || Instant::now() >= latest {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        let (start, mut values) = (Instant::now(), 0);
        for batch in batches.iter().cycle() {
            let read = session.read(batch, TimestampsToReturn::Both, 0.0).await;
            let read = read.map_err(failed)?;
            if let Some(bad) = read.iter().find(|v| v.value.is_none()) {
                return Err(io::Error::other(format!("a value was not read: {bad:?}")));
            }
            values += read.len();
            if start.elapsed() >= time {
                break;
            }
        }
        Ok(values as f64 / start.elapsed().as_secs_f64())
    }
}

async fn nodes(session: &Session, kind: Kind, items: usize) -> io::Result<Vec<NodeId>> {
    let uri = match kind {
        Kind::Hub => NAMESPACE,
        Kind::Bare => BARE,
    };
    let namespace = session.get_namespace_index(uri).await.map_err(failed)?;
    let names = names(items);
    Ok(names.iter().map(|n| NodeId::new(namespace, &**n)).collect())
}
