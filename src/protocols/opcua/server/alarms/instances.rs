//! Condition instances: one object an alarm, below `Weighbridge/Alarms`, with its fields and methods.

use super::fields::{
    FIELDS, FOLDER, Field, Names, Of, condition, device, is_hidden, part, source, value,
};
use super::node;
use crate::alarms::{Alarm, Kind, Shelving};
use crate::protocols::opcua::server::nodes::LiveNodes;
use opcua::server::SubscriptionCache;
use opcua::server::address_space::{AddressSpace, ObjectBuilder, VariableBuilder};
use opcua::server::node_manager::memory::InMemoryNodeManager;
use opcua::types::{
    DataValue, MethodId, NodeId, ObjectTypeId, QualifiedName, ReferenceTypeId, StatusCode,
    VariableTypeId, Variant,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Instances of alarms at rest that are kept, for clients that look at them once more.
const MOST_AT_REST: usize = 200;

/// Methods of a condition, and those of its shelving state. The nodes are the types' own.
const METHODS: [MethodId; 5] = [
    MethodId::ConditionType_Enable,
    MethodId::ConditionType_Disable,
    MethodId::ConditionType_AddComment,
    MethodId::AcknowledgeableConditionType_Acknowledge,
    MethodId::AcknowledgeableConditionType_Confirm,
];
const SHELVING_METHODS: [MethodId; 3] = [
    MethodId::AlarmConditionType_ShelvingState_TimedShelve,
    MethodId::AlarmConditionType_ShelvingState_OneShotShelve,
    MethodId::AlarmConditionType_ShelvingState_Unshelve,
];

/// The instances in the address space.
pub(super) struct Instances {
    nodes: Arc<InMemoryNodeManager<LiveNodes>>,
    subscriptions: Arc<SubscriptionCache>,
    names: Names,
    shown: BTreeMap<String, Alarm>,
}

impl Instances {
    pub(super) fn new(
        nodes: Arc<InMemoryNodeManager<LiveNodes>>,
        subscriptions: Arc<SubscriptionCache>,
        names: Names,
    ) -> Self {
        Self {
            nodes,
            subscriptions,
            names,
            shown: BTreeMap::new(),
        }
    }

    /// Shows the state of an alarm; makes its instance where there is none.
    pub(super) fn show(&mut self, alarm: &Alarm) {
        let known = self.shown.insert(alarm.id.clone(), alarm.clone());
        {
            let mut space = self.nodes.address_space().write();
            if known.is_none() {
                add(&mut space, alarm, &self.names);
            }
            attach(&mut space, alarm, self.names.namespace);
        }
        self.set(alarm, FIELDS.iter());
        if alarm.at_rest() {
            self.prune();
        }
    }

    /// Shows what runs: the time until an alarm is unshelved. And finds the nodes of devices again
    /// that were replaced.
    pub(super) fn tick(&self) {
        let shelved = |alarm: &&Alarm| matches!(alarm.shelving, Shelving::Until(_));
        for alarm in self.shown.values().filter(shelved) {
            let running = |field: &&Field| field.path == "ShelvingState/UnshelveTime";
            self.set(alarm, FIELDS.iter().filter(running));
        }
        let detached = |space: &AddressSpace, alarm: &Alarm| {
            let source = source(alarm, self.names.namespace);
            let condition = condition(&alarm.id, self.names.namespace);
            space.node_exists(&source)
                && !space.has_reference(&source, &condition, ReferenceTypeId::HasCondition)
        };
        let space = self.nodes.address_space().read();
        let shown = self.shown.values();
        let detached: Vec<_> = shown.filter(|alarm| detached(&space, alarm)).collect();
        drop(space);
        for alarm in detached {
            let mut space = self.nodes.address_space().write();
            attach(&mut space, alarm, self.names.namespace);
        }
    }

    fn set<'a>(&self, alarm: &Alarm, fields: impl Iterator<Item = &'a Field>) {
        let time = super::fields::date_time(alarm.time);
        let values: Vec<_> = fields
            .filter(|field| Of::alarm(alarm).has(field.of))
            .map(|field| {
                let id = part(&alarm.id, field.path, self.names.namespace);
                if is_hidden(alarm, field.path) {
                    let status = StatusCode::BadConditionDisabled;
                    return (id, DataValue::new_at_status(Variant::Empty, time, status));
                }
                let value = value(alarm, &self.names, field.path);
                (id, DataValue::new_at_status(value, time, StatusCode::Good))
            })
            .collect();
        let values = values.iter().map(|(id, value)| (id, None, value.clone()));
        if let Err(status) = self.nodes.set_values(&self.subscriptions, values) {
            tracing::error!(alarm = alarm.id, %status, "the alarm's nodes cannot be set");
        }
    }

    /// Removes the instances that are at rest longest, when there are too many.
    fn prune(&mut self) {
        let mut resting: Vec<_> = self.shown.values().filter(|a| a.at_rest()).collect();
        let Some(beyond) = resting.len().checked_sub(MOST_AT_REST) else {
            return;
        };
        resting.sort_unstable_by_key(|alarm| alarm.event);
        let removed = resting.iter().take(beyond).map(|alarm| (*alarm).clone());
        let removed: Vec<Alarm> = removed.collect();
        let mut space = self.nodes.address_space().write();
        for alarm in removed {
            remove(&mut space, &alarm, self.names.namespace);
            self.shown.remove(&alarm.id);
        }
    }
}

fn add(space: &mut AddressSpace, alarm: &Alarm, names: &Names) {
    let namespace = names.namespace;
    let of = Of::alarm(alarm);
    let id = condition(&alarm.id, namespace);
    let name = QualifiedName::new(namespace, alarm.id.as_str());
    ObjectBuilder::new(&id, name, alarm.id.as_str())
        .has_type_definition(of.id(namespace))
        .organized_by(node(namespace, FOLDER))
        .insert(space);
    let shelving = part(&alarm.id, "ShelvingState", namespace);
    ObjectBuilder::new(
        &shelving,
        QualifiedName::new(0, "ShelvingState"),
        "ShelvingState",
    )
    .has_type_definition(ObjectTypeId::ShelvedStateMachineType)
    .component_of(id.clone())
    .insert(space);
    for field in FIELDS.iter().filter(|field| of.has(field.of)) {
        add_field(space, alarm, field, names);
    }
    for method in METHODS {
        space.insert_reference(&id, &method.into(), ReferenceTypeId::HasComponent);
    }
    for method in SHELVING_METHODS {
        space.insert_reference(&shelving, &method.into(), ReferenceTypeId::HasComponent);
    }
}

fn add_field(space: &mut AddressSpace, alarm: &Alarm, field: &Field, names: &Names) {
    let namespace = names.namespace;
    let (parent, name) = match field.path.rsplit_once('/') {
        Some((parent, name)) => (part(&alarm.id, parent, namespace), name),
        None => (condition(&alarm.id, namespace), field.path),
    };
    let of_ours = if field.of == Of::ControlChart {
        namespace
    } else {
        0
    };
    let id = part(&alarm.id, field.path, namespace);
    let node = VariableBuilder::new(&id, QualifiedName::new(of_ours, name), name)
        .data_type(field.data_type)
        .has_type_definition(field.node)
        .value(value(alarm, names, field.path));
    let node = match field.node {
        VariableTypeId::PropertyType => node.property_of(parent),
        _ => node.component_of(parent),
    };
    node.insert(space);
}

/// Ties the condition to what it is about.
fn attach(space: &mut AddressSpace, alarm: &Alarm, namespace: u16) {
    let condition = condition(&alarm.id, namespace);
    let source = source(alarm, namespace);
    if space.node_exists(&source)
        && !space.has_reference(&source, &condition, ReferenceTypeId::HasCondition)
    {
        space.insert_reference(&source, &condition, ReferenceTypeId::HasCondition);
    }
    let device = device(alarm, namespace);
    if alarm.kind == Kind::Tag
        && space.node_exists(&device)
        && !space.has_reference(&device, &source, ReferenceTypeId::HasEventSource)
    {
        space.insert_reference(&device, &source, ReferenceTypeId::HasEventSource);
    }
}

fn remove(space: &mut AddressSpace, alarm: &Alarm, namespace: u16) {
    for field in FIELDS {
        space.delete(&part(&alarm.id, field.path, namespace), true);
    }
    space.delete(&part(&alarm.id, "ShelvingState", namespace), true);
    let id: NodeId = condition(&alarm.id, namespace);
    space.delete(&id, true);
}
