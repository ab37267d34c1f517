//! The OPC UA stack behind the guard, with the nodes that it shows: all of it can be replaced while the
//! hub runs.

use super::alarms;
use super::counters;
use super::fence::{Fences, Inside};
use super::guard::{self, GuardStats};
use super::history::History;
use super::nodes::LiveNodes;
use super::parts::Parts;
use super::points::Group;
use super::standard::{self, Standard};
use super::users::Users;
use super::{OpcUaServerConfig, ScadaError, ScadaPorts, advertise, builder};
use crate::live_view::LiveView;
use opcua::server::ServerHandle;
use opcua::server::address_space::AddressSpace;
use opcua::server::diagnostics::DiagnosticsNodeManagerBuilder;
use opcua::server::node_manager::memory::{InMemoryNodeManager, InMemoryNodeManagerBuilder};
use opcua::server::node_manager::{DynNodeManager, ServerContext};
use parking_lot::Mutex;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// How long sessions have to end.
const FAREWELL: Duration = Duration::from_secs(2);

type Nodes = InMemoryNodeManager<LiveNodes>;

/// What every stack of a server is made of.
pub(super) struct Setup {
    pub(super) config: OpcUaServerConfig,
    pub(super) ports: ScadaPorts,
    /// The name that clients use, and the port.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) users: Arc<Users>,
    pub(super) fences: Fences,
    pub(super) stats: Arc<GuardStats>,
}

/// A running stack; dropping it ends it at once.
pub(super) struct Stack {
    pub(super) handle: ServerHandle,
    address: SocketAddr,
    nodes: Arc<Nodes>,
    pushers: Mutex<JoinSet<()>>,
    running: Mutex<Option<AbortOnDropHandle<()>>>,
    _alarms: Option<AbortOnDropHandle<()>>,
    _counting: AbortOnDropHandle<()>,
}

fn nodes_of(manager: &Arc<DynNodeManager>) -> Option<Arc<Nodes>> {
    manager.clone().into_any_arc().downcast().ok()
}

impl Stack {
    /// Starts it, with the devices that there are.
    pub(super) async fn start(setup: &Setup) -> Result<Self, ScadaError> {
        let Setup {
            config,
            ports,
            fences,
            ..
        } = setup;
        let parts = Arc::new(Parts::default());
        let sessions = fences.sessions.clone();
        if let Some(port) = &ports.history {
            let past = History::new(port.clone(), parts.tags.clone(), sessions.gate().clone());
            // Nobody else sets it.
            let _ = parts.past.set(Arc::new(past));
        }
        let group = Arc::new(Mutex::new(None));
        let standard = Standard {
            parts: parts.clone(),
            sessions: sessions.clone(),
        };
        let (group_slot, of_nodes) = (group.clone(), (sessions, parts.clone()));
        let (roles, of_hub) = (fences.roles.clone(), ports.clone());
        let build = move |context: ServerContext, space: &mut AddressSpace| {
            let (nodes, group) = LiveNodes::build(&context, space, of_hub, of_nodes);
            roles.add(space, nodes.namespace());
            counters::add_nodes(space, nodes.namespace());
            *group_slot.lock() = Some(group);
            nodes
        };
        let found = Arc::new(Mutex::new(None));
        let found_slot = found.clone();
        let live_nodes = fences.around(InMemoryNodeManagerBuilder::new(build), move |manager| {
            let nodes = nodes_of(manager)?;
            *found_slot.lock() = Some(nodes.clone());
            Some(Inside::live(nodes))
        });
        let (server, handle) = builder(config, &setup.host, setup.port)
            .without_node_managers()
            .with_node_manager(fences.around(standard, standard::inside))
            .with_node_manager(DiagnosticsNodeManagerBuilder)
            .with_authenticator(setup.users.clone())
            .with_node_manager(live_nodes)
            .build()
            .map_err(ScadaError::Stack)?;
        let nodes = found.lock().take();
        let nodes = nodes.ok_or_else(|| ScadaError::Stack("its nodes are missing".into()))?;
        let (alarms, gate) = (ports.alarms.clone(), fences.sessions.gate().clone());
        let alarms = alarms.map(|port| alarms::open((port, gate), &handle, nodes.clone(), &parts));

        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let failed = |source| ScadaError::Bind {
            address: loopback,
            source,
        };
        let inner = guard::listen(loopback).map_err(failed)?;
        let address = inner.local_addr().map_err(failed)?;
        let running = AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(reason) = server.run_with(inner).await {
                tracing::error!("the OPC UA server stopped: {reason}");
            }
        }));
        advertise(&handle, address.port(), setup.port)
            .await
            .map_err(ScadaError::Stack)?;
        let counting = counters::keep(
            (nodes.clone(), handle.subscriptions().clone()),
            (setup.stats.clone(), fences.clone()),
        );
        let this = Self {
            handle,
            address,
            nodes,
            pushers: Mutex::default(),
            running: Mutex::new(Some(running)),
            _alarms: alarms,
            _counting: AbortOnDropHandle::new(tokio::spawn(counting)),
        };
        let group = group.lock().take();
        if let Some(group) = group {
            this.push(group);
        }
        this.refresh(&ports.live);
        Ok(this)
    }

    /// Where it listens, for the guard alone.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes in what devices there are, and takes out those that are gone.
    pub(super) fn refresh(&self, live: &LiveView) {
        let space = self.nodes.address_space();
        let subscriptions = self.handle.subscriptions();
        self.nodes.inner().remove_gone(space, live, subscriptions);
        for device in live.devices() {
            let space = self.nodes.address_space();
            for group in self.nodes.inner().add(space, &device) {
                self.push(group);
            }
        }
    }

    fn push(&self, group: Arc<Group>) {
        let subscriptions = self.handle.subscriptions().clone();
        self.pushers.lock().spawn(group.push(subscriptions));
    }

    /// Ends the sessions, and it.
    pub(super) async fn end(&self) {
        self.handle.cancel();
        let running = self.running.lock().take();
        if let Some(running) = running {
            let _ = tokio::time::timeout(FAREWELL, running).await;
        }
    }
}
