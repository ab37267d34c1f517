//! A simulated controller with many variables behind a real OPC UA server, which can be restarted,
//! renumbered and robbed of its nodes while its machine runs on. The recovery tests and the tests of
//! the client talk to it.
//!
//! | node (namespace [`NAMESPACE`]) | what |
//! | --- | --- |
//! | `v0` … | doubles: the number of the machine's last step; unit °C, range 0 to 10⁹ |
//! | `v2`, `v5` … | with [`ControllerPlan::new_ids`] they have other ids after every start and restoration |
//! | `setpoint` | double, can be written |
//! | `stubborn` | double, takes every write and keeps its value |
//! | `locked` | double, can only be read |
//! | `Machine`, `Add`, `Refuse` | an object and its methods |
//!
//! The first [`ControllerPlan::history`] variables have a history, which goes on while the server is
//! down.

mod nodes;

use crate::model::{Nanos, now};
use crate::protocols::opcua::core::{Extent, server_builder};
use crate::protocols::opcua::{Mode, Policy};
use nodes::Nodes;
use opcua::server::node_manager::memory::{InMemoryNodeManager, InMemoryNodeManagerBuilder};
use opcua::server::{
    ANONYMOUS_USER_TOKEN_ID, Limits, OperationalLimits, ServerEndpoint, ServerHandle,
    ServerUserToken, SubscriptionLimits,
};
use opcua::types::{BuildInfo, DateTime, MessageSecurityMode};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// URI of the namespace of the controller's nodes.
pub const NAMESPACE: &str = "urn:weighbridge:sim:controller";

/// 1970-01-01 in the ticks of OPC UA: 100 ns since 1601-01-01.
const UNIX_EPOCH_TICKS: i64 = 116_444_736_000_000_000;
/// Steps that the history remembers.
const REMEMBERED: usize = 100_000;

/// What a controller is like.
#[derive(Clone, Debug)]
pub struct ControllerPlan {
    /// Variables.
    pub variables: usize,
    /// How many of them have a history.
    pub history: usize,
    /// Whether every third variable gets another node id whenever it is made; only its browse name stays.
    pub new_ids: bool,
    /// From one step of the machine to the next.
    pub period: Duration,
    /// Publishing intervals after which a subscription that nobody asks about is dropped; a third of
    /// it is the longest time between two keep-alives.
    pub lifetime: u32,
    /// Operations in one request.
    pub operations: usize,
    /// Monitored items in one subscription; 0 is no limit.
    pub items_per_subscription: usize,
    /// Subscriptions of one session.
    pub subscriptions: usize,
    /// Folder with a certificate, for endpoints with every security policy; `None` has no security.
    pub pki_dir: Option<PathBuf>,
    /// A user and a password, besides anonymous ones.
    pub user: Option<(String, String)>,
    /// A certificate that logs in.
    pub user_certificate: Option<PathBuf>,
}

impl ControllerPlan {
    /// So many variables that change every `period`; no security, no history.
    pub fn new(variables: usize, period: Duration) -> Self {
        Self {
            variables,
            history: 0,
            new_ids: false,
            period,
            lifetime: 9_000,
            operations: 10_000,
            items_per_subscription: 0,
            subscriptions: 100,
            pki_dir: None,
            user: None,
            user_certificate: None,
        }
    }
}

/// The machine's memory: when each step was.
#[derive(Default)]
struct Steps {
    number: u64,
    times: VecDeque<(u64, Nanos)>,
}

type Manager = InMemoryNodeManager<Nodes>;

struct Running {
    handle: ServerHandle,
    nodes: Arc<Manager>,
    address: SocketAddr,
    server: AbortOnDropHandle<()>,
}

/// The machine and its server; dropping it ends both.
pub struct Controller {
    plan: ControllerPlan,
    steps: Arc<Mutex<Steps>>,
    running: Arc<Mutex<Option<Running>>>,
    _machine: AbortOnDropHandle<()>,
}

impl Controller {
    /// Starts the machine; nobody serves it yet.
    pub fn new(plan: ControllerPlan) -> Self {
        let steps = Arc::<Mutex<Steps>>::default();
        let running = Arc::<Mutex<Option<Running>>>::default();
        let machine = run_machine(plan.period, steps.clone(), running.clone());
        Self {
            plan,
            steps,
            running,
            _machine: AbortOnDropHandle::new(tokio::spawn(machine)),
        }
    }

    /// Serves the machine on a free port of loopback; `before` are namespaces that other parts of the
    /// controller registered first, so that ours has a higher index.
    pub async fn start(&self, before: &[String]) -> io::Result<SocketAddr> {
        self.stop().await;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (steps, plan) = (self.steps.clone(), self.plan.clone());
        let before = before.to_vec();
        let build =
            move |context: opcua::server::node_manager::ServerContext,
                  space: &mut opcua::server::address_space::AddressSpace| {
                Nodes::build(&context, space, &before, &plan, steps)
            };
        let (server, handle) = self
            .builder(address)
            .with_node_manager(InMemoryNodeManagerBuilder::new(build))
            .build()
            .map_err(io::Error::other)?;
        let nodes = handle
            .node_managers()
            .get_of_type::<Manager>()
            .ok_or_else(|| io::Error::other("the controller's nodes are missing"))?;
        let server = tokio::spawn(async move {
            if let Err(reason) = server.run_with(listener).await {
                tracing::error!("a simulated controller stopped: {reason}");
            }
        });
        *self.running.lock() = Some(Running {
            handle,
            nodes,
            address,
            server: AbortOnDropHandle::new(server),
        });
        Ok(address)
    }

    /// Ends the server; the machine runs on.
    pub async fn stop(&self) {
        let running = self.running.lock().take();
        if let Some(running) = running {
            running.handle.cancel();
            let _ = tokio::time::timeout(Duration::from_millis(500), running.server).await;
        }
    }

    /// Where the server listens.
    pub fn address(&self) -> Option<SocketAddr> {
        self.running.lock().as_ref().map(|r| r.address)
    }

    /// Takes a variable away, and tells those who monitor it unless `silent`.
    pub fn delete(&self, variable: usize, silent: bool) {
        if let Some(running) = &*self.running.lock()
            && let Some(node) = running.nodes.inner().id(variable)
        {
            running.nodes.inner().delete(&running.nodes, &node);
            if !silent {
                let gone = nodes::gone(timestamp(now()));
                running.handle.subscriptions().notify_data_change(
                    [(gone, &node, opcua::types::AttributeId::Value)].into_iter(),
                );
            }
        }
    }

    /// Puts a variable back.
    pub fn restore(&self, variable: usize) {
        if let Some(running) = &*self.running.lock() {
            running.nodes.inner().restore(&running.nodes, variable);
        }
    }

    /// The number and the source time of every step since `from`.
    pub fn steps_since(&self, from: Nanos) -> Vec<(u64, Nanos)> {
        let steps = self.steps.lock();
        let times = steps.times.iter().copied();
        times.filter(|(_, time)| *time >= from).collect()
    }

    fn builder(&self, address: SocketAddr) -> opcua::server::ServerBuilder {
        let plan = &self.plan;
        let mut tokens = vec![ANONYMOUS_USER_TOKEN_ID.to_owned()];
        let mut builder = server_builder(Extent::Controller)
            .application_name("controller")
            // Not the namespace of the nodes: index 1 is the server itself.
            .application_uri("urn:weighbridge:sim:controller:server")
            .product_uri("urn:weighbridge:sim")
            .build_info(BuildInfo {
                manufacturer_name: "Weighbridge".into(),
                product_name: "Simulated controller".into(),
                software_version: env!("CARGO_PKG_VERSION").into(),
                ..BuildInfo::default()
            })
            .host(address.ip().to_string())
            .port(address.port())
            .discovery_urls(vec![format!("opc.tcp://{address}/")])
            .create_sample_keypair(false)
            .subscription_poll_interval_ms(10)
            .limits(limits(plan));
        if let Some((user, password)) = &plan.user {
            tokens.push("password".into());
            let token = ServerUserToken::user_pass(user.clone(), password.clone());
            builder = builder.add_user_token("password", token);
        }
        if let Some(certificate) = &plan.user_certificate {
            tokens.push("certificate".into());
            builder = builder.add_user_token(
                "certificate",
                ServerUserToken::x509("operator", certificate),
            );
        }
        builder = builder.add_endpoint("none", ServerEndpoint::new_none("/", &tokens));
        let Some(folder) = &plan.pki_dir else {
            // Without security nothing is kept there.
            return builder.pki_dir(std::env::temp_dir().join("weighbridge-sim-pki"));
        };
        for policy in Policy::SECURE {
            for mode in Mode::ALL {
                let mode: MessageSecurityMode = mode.stack();
                let endpoint = ServerEndpoint::new("/", policy.stack(), mode, &tokens);
                builder = builder.add_endpoint(format!("{} {mode:?}", policy.name()), endpoint);
            }
        }
        builder
            .pki_dir(folder)
            .certificate_path("own/cert.der")
            .private_key_path("private/private.pem")
            .trust_client_certs(true)
    }
}

fn limits(plan: &ControllerPlan) -> Limits {
    Limits {
        max_message_size: 16 << 20,
        max_chunk_count: 512,
        max_array_length: 100_000,
        max_sessions: 100,
        subscriptions: SubscriptionLimits {
            min_sampling_interval_ms: 0.0,
            min_publishing_interval_ms: 20.0,
            max_monitored_items_per_sub: plan.items_per_subscription,
            max_subscriptions_per_session: plan.subscriptions,
            max_monitored_item_queue_size: 1_000,
            max_keep_alive_count: (plan.lifetime / 3).max(1),
            max_lifetime_count: plan.lifetime.max(3),
            ..Default::default()
        },
        operational: OperationalLimits {
            max_nodes_per_read: plan.operations,
            max_nodes_per_write: plan.operations,
            max_monitored_items_per_call: plan.operations,
            max_nodes_per_browse: plan.operations,
            max_nodes_per_history_read_data: plan.operations,
            ..Default::default()
        },
        ..Default::default()
    }
}

/// Steps the machine, whether it is served or not.
async fn run_machine(
    period: Duration,
    steps: Arc<Mutex<Steps>>,
    running: Arc<Mutex<Option<Running>>>,
) {
    let mut tick = tokio::time::interval(period);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tick.tick().await;
        let (number, time) = {
            let mut steps = steps.lock();
            steps.number += 1;
            // As coarse as OPC UA's clock, so that the same sample has the same time by every way.
            let step = (steps.number, now() / 100 * 100);
            steps.times.push_back(step);
            if steps.times.len() > REMEMBERED {
                steps.times.pop_front();
            }
            step
        };
        if let Some(running) = &*running.lock() {
            let nodes = &running.nodes;
            let told = nodes.inner().step(
                nodes,
                running.handle.subscriptions(),
                number,
                timestamp(time),
            );
            if let Err(status) = told {
                tracing::error!("a simulated controller's values cannot be set: {status}");
            }
        }
    }
}

fn timestamp(time: Nanos) -> DateTime {
    DateTime::from(UNIX_EPOCH_TICKS + time.div_euclid(100))
}

fn nanos(time: &DateTime) -> Nanos {
    (time.ticks() - UNIX_EPOCH_TICKS).saturating_mul(100)
}

#[cfg(test)]
mod tests;
