//! `Objects/Weighbridge/Server`: what the guard and the limits have kept away, for everybody who may look.

use super::address::ROOT;
use super::fence::Fences;
use super::guard::GuardStats;
use super::nodes::LiveNodes;
use opcua::server::SubscriptionCache;
use opcua::server::address_space::{AddressSpace, ObjectBuilder, VariableBuilder};
use opcua::server::node_manager::memory::InMemoryNodeManager;
use opcua::types::{
    DataTypeId, DataValue, NodeId, ObjectTypeId, QualifiedName, VariableTypeId, Variant,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(1);

const NAMES: [(&str, &str); 7] = [
    ("ConnectionsAccepted", "Connections since the start"),
    (
        "ConnectionsTurnedAway",
        "Connections for which there was no place",
    ),
    (
        "ConnectionsExpelled",
        "Connections closed because of what they sent",
    ),
    (
        "ConnectionsDisplaced",
        "Connections that asked for nothing and lost their place",
    ),
    (
        "SessionsRefused",
        "Log-ins of users who had too many sessions",
    ),
    ("MonitoredItemsRefused", "Monitored items beyond the limits"),
    (
        "MonitoredItemsAbandoned",
        "Deleted items that the stack still keeps something of",
    ),
];

fn node(namespace: u16, name: &str) -> NodeId {
    NodeId::new(namespace, format!("{ROOT}/Server/{name}"))
}

/// Adds the nodes.
pub(super) fn add_nodes(space: &mut AddressSpace, namespace: u16) {
    let folder = NodeId::new(namespace, format!("{ROOT}/Server"));
    ObjectBuilder::new(&folder, QualifiedName::new(namespace, "Server"), "Server")
        .has_type_definition(ObjectTypeId::FolderType)
        .organized_by(NodeId::new(namespace, ROOT))
        .insert(space);
    for (name, description) in NAMES {
        let browse_name = QualifiedName::new(namespace, name);
        VariableBuilder::new(&node(namespace, name), browse_name, name)
            .description(description)
            .data_type(DataTypeId::UInt64)
            .value(Variant::UInt64(0))
            .has_type_definition(VariableTypeId::BaseDataVariableType)
            .component_of(folder.clone())
            .insert(space);
    }
}

/// Keeps their values.
pub(super) async fn keep(
    (nodes, subscriptions): (Arc<InMemoryNodeManager<LiveNodes>>, Arc<SubscriptionCache>),
    (guard, fences): (Arc<GuardStats>, Fences),
) {
    let namespace = nodes.inner().namespace();
    let ids = NAMES.map(|(name, _)| node(namespace, name));
    let mut told = [0; 7];
    let mut interval = tokio::time::interval(EVERY);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (refused, abandoned) = fences.budget.counts();
        let counts = [
            of(&guard.accepted),
            of(&guard.turned_away),
            of(&guard.expelled),
            of(&guard.displaced),
            fences.sessions.refused(),
            refused,
            abandoned,
        ];
        let changed = ids.iter().zip(counts).zip(told);
        let changed = changed.filter(|((_, count), told)| count != told);
        let values = changed.map(|((id, count), _)| (id, None, DataValue::new_now(count)));
        if let Err(status) = nodes.set_values(&subscriptions, values) {
            tracing::warn!("the counters of the OPC UA server are not shown: {status}");
        }
        told = counts;
    }
}
