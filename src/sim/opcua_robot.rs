//! A simulated robot's controller: a real OPC UA server.
//!
//! It offers what small controllers offer, no security and anonymous log-in, and therefore listens
//! on loopback only. Behind the fault switch its connections break and new ones are refused.

use super::device::SimDevice;
use super::signal::{Signal, SignalKind};
use crate::model::{Nanos, TagSpec, Value, now};
use crate::protocols::opcua::core::{Extent, server_builder};
use crate::protocols::opcua::server::advertise;
use crate::protocols::opcua::server::guard::{Guard, GuardRules};
use crate::protocols::opcua::{NodeAddress, OpcUaPoint, Policy};
use opcua::server::address_space::{ObjectBuilder, VariableBuilder};
use opcua::server::diagnostics::NamespaceMetadata;
use opcua::server::node_manager::memory::{SimpleNodeManager, simple_node_manager};
use opcua::server::{
    ANONYMOUS_USER_TOKEN_ID, Limits, ServerBuilder, ServerEndpoint, ServerHandle,
    SubscriptionLimits,
};
use opcua::types::{
    DataTypeId, DataValue, DateTime, NodeId, ObjectId, ObjectTypeId, QualifiedName, StatusCode,
    VariableTypeId, Variant,
};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// URI of the namespace that robots keep their variables in.
pub const NAMESPACE: &str = "urn:weighbridge:sim";

/// 1970-01-01 in the ticks of OPC UA: 100 ns since 1601-01-01.
const UNIX_EPOCH_TICKS: i64 = 116_444_736_000_000_000;

/// A robot's OPC UA server; dropping it ends it.
pub struct RobotServer {
    id: String,
    address: SocketAddr,
    signals: &'static [Signal],
    handle: ServerHandle,
    _tasks: [AbortOnDropHandle<()>; 3],
}

impl RobotServer {
    /// Serves `device` at `address`, which must be loopback; new values every `period`, timed from
    /// `start`.
    pub async fn start(
        device: SimDevice,
        address: SocketAddr,
        period: Duration,
        start: Instant,
    ) -> io::Result<Self> {
        if !address.ip().is_loopback() {
            return Err(io::Error::other(
                "a simulated robot has no security, so it listens on loopback only",
            ));
        }
        let public = TcpListener::bind(address).await?;
        let address = public.local_addr()?;
        let id = device.id().to_owned();
        let signals = device.signals();

        let metadata = NamespaceMetadata {
            namespace_uri: NAMESPACE.to_owned(),
            ..Default::default()
        };
        let (server, handle) = builder(&id, address)
            .with_node_manager(simple_node_manager(metadata, "robot"))
            .build()
            .map_err(io::Error::other)?;
        let nodes = handle
            .node_managers()
            .get_of_type::<SimpleNodeManager>()
            .ok_or_else(|| io::Error::other("the robot's nodes are missing"))?;
        let namespace = handle
            .get_namespace_index(NAMESPACE)
            .ok_or_else(|| io::Error::other("the robot's namespace is missing"))?;
        let ids = add_nodes(&nodes, namespace, &id, signals);

        let inner = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let inner_address = inner.local_addr()?;
        let running = tokio::spawn(async move {
            if let Err(reason) = server.run_with(inner).await {
                tracing::error!("a simulated robot stopped: {reason}");
            }
        });
        advertise(&handle, inner_address.port(), address.port())
            .await
            .map_err(io::Error::other)?;

        let door = tokio::spawn(tend_door(public, inner_address, device.faults()));
        let moving = tokio::spawn(move_on(device, period, start, ids, nodes, handle.clone()));
        Ok(Self {
            id,
            address,
            signals,
            handle,
            _tasks: [running, door, moving].map(AbortOnDropHandle::new),
        })
    }

    /// The robot's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its endpoint.
    pub fn url(&self) -> String {
        format!("opc.tcp://{}/", self.address)
    }

    /// The tags it is read by.
    pub fn points(&self) -> Vec<(TagSpec, OpcUaPoint)> {
        points(&self.id, self.signals)
    }
}

impl Drop for RobotServer {
    fn drop(&mut self) {
        // Its connections are tasks of their own, which only this ends.
        self.handle.cancel();
    }
}

/// The tags of the device `id`, and where its server keeps them.
pub fn points(id: &str, signals: &[Signal]) -> Vec<(TagSpec, OpcUaPoint)> {
    signals
        .iter()
        .map(|signal| {
            let node = NodeAddress::named(NAMESPACE, &node_name(id, signal.name));
            (signal.tag(), OpcUaPoint::new(node, signal.value_kind()))
        })
        .collect()
}

fn node_name(id: &str, signal: &str) -> String {
    format!("{id}.{signal}")
}

fn builder(id: &str, address: SocketAddr) -> ServerBuilder {
    let tokens = [ANONYMOUS_USER_TOKEN_ID.to_owned()];
    server_builder(Extent::Controller)
        .application_name(id)
        .application_uri(format!("urn:weighbridge:sim:{id}"))
        .product_uri("urn:weighbridge:sim")
        .host(address.ip().to_string())
        .port(address.port())
        .discovery_urls(vec![format!("opc.tcp://{address}/")])
        .add_endpoint("none", ServerEndpoint::new_none("/", &tokens))
        .create_sample_keypair(false)
        // Without security nothing is kept there.
        .pki_dir(std::env::temp_dir().join("weighbridge-sim-pki"))
        .subscription_poll_interval_ms(10)
        .limits(Limits {
            max_message_size: 1 << 20,
            max_chunk_count: 128,
            subscriptions: SubscriptionLimits {
                min_sampling_interval_ms: 0.0,
                min_publishing_interval_ms: 10.0,
                max_monitored_item_queue_size: 100,
                ..Default::default()
            },
            ..Default::default()
        })
}

fn add_nodes(
    nodes: &SimpleNodeManager,
    namespace: u16,
    id: &str,
    signals: &[Signal],
) -> Vec<NodeId> {
    let mut space = nodes.address_space().write();
    let robot = NodeId::new(namespace, id);
    ObjectBuilder::new(&robot, QualifiedName::new(namespace, id), id)
        .has_type_definition(ObjectTypeId::BaseObjectType)
        .organized_by(ObjectId::ObjectsFolder)
        .insert(&mut *space);
    let add = |signal: &Signal| {
        let node = NodeId::new(namespace, node_name(id, signal.name));
        let data_type = match signal.kind {
            SignalKind::F32 { .. } => DataTypeId::Float,
            SignalKind::U32 => DataTypeId::UInt32,
            SignalKind::U16 => DataTypeId::UInt16,
            SignalKind::Bool => DataTypeId::Boolean,
        };
        VariableBuilder::new(
            &node,
            QualifiedName::new(namespace, signal.name),
            signal.name,
        )
        .description(signal.description)
        .data_type(data_type)
        .has_type_definition(VariableTypeId::BaseDataVariableType)
        .component_of(robot.clone())
        .insert(&mut *space);
        node
    };
    signals.iter().map(add).collect()
}

/// Samples the robot each period and puts the values in.
async fn move_on(
    mut device: SimDevice,
    period: Duration,
    start: Instant,
    ids: Vec<NodeId>,
    nodes: Arc<SimpleNodeManager>,
    handle: ServerHandle,
) {
    let mut tick = tokio::time::interval(period);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tick.tick().await;
        let values = device.sample(start.elapsed().as_secs_f64());
        let time = timestamp(now());
        let changes = ids
            .iter()
            .zip(device.signals())
            .zip(values)
            .map(|((id, signal), value)| (id, None, data_value(signal.kind, value, time)));
        if let Err(status) = nodes.set_values(handle.subscriptions(), changes) {
            tracing::error!("a simulated robot's values cannot be set: {status}");
            return;
        }
    }
}

fn timestamp(time: Nanos) -> DateTime {
    DateTime::from(UNIX_EPOCH_TICKS + time.div_euclid(100))
}

/// As narrow as the controller keeps it.
fn data_value(kind: SignalKind, value: Value, time: DateTime) -> DataValue {
    let value = match (kind, value) {
        (SignalKind::F32 { .. }, Value::F64(x)) => Variant::Float(x as f32),
        (SignalKind::U32, Value::U64(x)) => Variant::UInt32(x as u32),
        (SignalKind::U16, Value::U64(x)) => Variant::UInt16(x as u16),
        (SignalKind::Bool, Value::Bool(x)) => Variant::Boolean(x),
        (_, other) => Variant::String(other.to_string().into()),
    };
    DataValue {
        value: Some(value),
        status: Some(StatusCode::Good),
        source_timestamp: Some(time),
        source_picoseconds: None,
        server_timestamp: Some(time),
        server_picoseconds: None,
    }
}

/// Lets clients in, except while a fault keeps the robot off the network.
async fn tend_door(first: TcpListener, inner: SocketAddr, faults: super::fault::FaultSwitch) {
    let rules = GuardRules {
        connections: 50,
        connections_per_address: 50,
        message_bytes: 1 << 20,
        idle: Duration::from_secs(600),
        policies: vec![Policy::None],
    };
    let Ok(address) = first.local_addr() else {
        return;
    };
    let mut changes = faults.changes();
    let mut listener = Some(first);
    loop {
        let away = faults.disconnects() || faults.corrupts();
        let guard = match listener.take() {
            _ if away => None,
            Some(listener) => {
                Guard::start(listener, inner, rules.clone(), Arc::default(), (None, None)).ok()
            }
            None => match TcpListener::bind(address).await {
                Ok(listener) => {
                    Guard::start(listener, inner, rules.clone(), Arc::default(), (None, None)).ok()
                }
                Err(error) => {
                    tracing::warn!(%address, "a simulated robot cannot come back yet: {error}");
                    None
                }
            },
        };
        if guard.is_none() && !away {
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        }
        // Other faults do not move the door.
        while (faults.disconnects() || faults.corrupts()) == away {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        if let Some(guard) = guard {
            guard.stop().await;
        }
    }
}

#[cfg(test)]
mod tests;
