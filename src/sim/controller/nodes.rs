//! The controller's nodes: what is read, written, called, and remembered.

use super::{ControllerPlan, NAMESPACE, Steps, nanos, timestamp};
use crate::model::Nanos;
use async_trait::async_trait;
use opcua::server::ContinuationPoint;
use opcua::server::SubscriptionCache;
use opcua::server::address_space::{
    AddressSpace, MethodBuilder, ObjectBuilder, VariableBuilder, write_node_value,
};
use opcua::server::diagnostics::NamespaceMetadata;
use opcua::server::node_manager::memory::{InMemoryNodeManager, InMemoryNodeManagerImpl};
use opcua::server::node_manager::{
    HistoryNode, MethodCall, RequestContext, ServerContext, WriteNode,
};
use opcua::sync::RwLock;
use opcua::types::{
    Argument, AttributeId, DataTypeId, DataValue, DateTime, EUInformation, HistoryData,
    LocalizedText, NodeId, ObjectId, ObjectTypeId, QualifiedName, Range, ReadRawModifiedDetails,
    StatusCode, TimestampsToReturn, VariableTypeId, Variant,
};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// UNECE code of the degree Celsius as OPC UA writes it: "CEL" in three bytes (OPC 10000-8, 5.6.3).
const CELSIUS: i32 = 0x43_45_4c;
/// Values in one answer about history, whatever was asked for.
const PAGE: usize = 500;

/// The nodes.
pub(super) struct Nodes {
    namespace: u16,
    others: Vec<NamespaceMetadata>,
    variables: Mutex<Vec<NodeId>>,
    history: usize,
    new_ids: bool,
    deleted: Mutex<HashSet<NodeId>>,
    steps: Arc<Mutex<Steps>>,
}

impl Nodes {
    pub(super) fn build(
        context: &ServerContext,
        space: &mut AddressSpace,
        before: &[String],
        plan: &ControllerPlan,
        steps: Arc<Mutex<Steps>>,
    ) -> Self {
        let mut tree = context.type_tree.write();
        let mut add = |uri: &str| {
            let namespace_index = tree.namespaces_mut().add_namespace(uri);
            space.add_namespace(uri, namespace_index);
            NamespaceMetadata {
                namespace_uri: uri.to_owned(),
                namespace_index,
                ..Default::default()
            }
        };
        let mut others: Vec<_> = before.iter().map(|uri| add(uri)).collect();
        let own = add(NAMESPACE);
        let namespace = own.namespace_index;
        others.push(own);
        let machine = NodeId::new(namespace, "Machine");
        ObjectBuilder::new(
            &machine,
            QualifiedName::new(namespace, "Machine"),
            "Machine",
        )
        .has_type_definition(ObjectTypeId::BaseObjectType)
        .organized_by(ObjectId::ObjectsFolder)
        .insert(space);
        for method in ["Add", "Refuse"] {
            let id = NodeId::new(namespace, method);
            let builder = MethodBuilder::new(&id, QualifiedName::new(namespace, method), method)
                .component_of(machine.clone())
                .executable(true)
                .user_executable(true);
            let builder = match method {
                "Add" => {
                    let arguments = NodeId::new(namespace, "Add#InputArguments");
                    let numbers = ["a", "b"].map(|name| Argument {
                        name: name.into(),
                        data_type: DataTypeId::Double.into(),
                        value_rank: -1,
                        array_dimensions: None,
                        description: LocalizedText::null(),
                    });
                    builder.input_args(space, &arguments, &numbers)
                }
                _ => builder,
            };
            builder.insert(space);
        }
        for (name, writable) in [("setpoint", true), ("stubborn", true), ("locked", false)] {
            let id = NodeId::new(namespace, name);
            let builder = VariableBuilder::new(&id, QualifiedName::new(namespace, name), name)
                .data_type(DataTypeId::Double)
                .value(1.0)
                .component_of(machine.clone())
                .has_type_definition(VariableTypeId::BaseDataVariableType);
            let builder = if writable {
                builder.writable()
            } else {
                builder
            };
            builder.insert(space);
        }
        let ids: Vec<_> = (0..plan.variables)
            .map(|i| {
                let id = variable_id(namespace, i, plan.new_ids);
                add_variable(space, id, i, i < plan.history)
            })
            .collect();
        for other in others.iter().map(|o| o.namespace_index) {
            if other != namespace {
                add_decoys(space, other);
            }
        }
        Self {
            namespace,
            others,
            variables: Mutex::new(ids),
            history: plan.history,
            new_ids: plan.new_ids,
            deleted: Mutex::default(),
            steps,
        }
    }

    /// The id that a variable has now.
    pub(super) fn id(&self, variable: usize) -> Option<NodeId> {
        self.variables.lock().get(variable).cloned()
    }

    pub(super) fn step(
        &self,
        manager: &InMemoryNodeManager<Self>,
        subscriptions: &SubscriptionCache,
        number: u64,
        time: DateTime,
    ) -> Result<(), StatusCode> {
        let deleted = self.deleted.lock();
        let value = DataValue {
            value: Some(Variant::Double(number as f64)),
            status: Some(StatusCode::Good),
            source_timestamp: Some(time),
            server_timestamp: Some(time),
            ..DataValue::null()
        };
        let variables = self.variables.lock();
        let there = variables.iter().filter(|id| !deleted.contains(*id));
        manager.set_values(subscriptions, there.map(|id| (id, None, value.clone())))
    }

    pub(super) fn delete(&self, manager: &InMemoryNodeManager<Self>, node: &NodeId) {
        self.deleted.lock().insert(node.clone());
        manager.address_space().write().delete(node, true);
    }

    pub(super) fn restore(&self, manager: &InMemoryNodeManager<Self>, variable: usize) {
        let mut deleted = self.deleted.lock();
        let id = variable_id(self.namespace, variable, self.new_ids);
        if let Some(slot) = self.variables.lock().get_mut(variable) {
            deleted.remove(slot);
            *slot = id.clone();
        }
        let mut space = manager.address_space().write();
        add_variable(&mut space, id, variable, variable < self.history);
    }

    /// A page of the steps from `from` to `to`, and whether there is more.
    fn page(&self, from: Nanos, to: Nanos, most: usize) -> (Vec<DataValue>, Option<Nanos>) {
        let steps = self.steps.lock();
        let within = steps.times.iter().filter(|(_, t)| *t >= from && *t < to);
        let mut page: Vec<_> = within.take(most + 1).collect();
        let next = (page.len() > most).then(|| page.pop()).flatten();
        let value = |(number, time): &(u64, Nanos)| DataValue {
            value: Some(Variant::Double(*number as f64)),
            status: Some(StatusCode::Good),
            source_timestamp: Some(timestamp(*time)),
            ..DataValue::null()
        };
        let values = page.into_iter().map(value).collect();
        (values, next.map(|(_, time)| *time))
    }
}

/// What a monitored item says when its node is no more. It has no source time: the stack delays what
/// comes sooner than the sampling interval after the value before, looks at it once, and forgets it
/// when that look came too early and nothing else changes.
pub(super) fn gone(time: DateTime) -> DataValue {
    DataValue {
        value: None,
        status: Some(StatusCode::BadNodeIdUnknown),
        source_timestamp: None,
        server_timestamp: Some(time),
        ..DataValue::null()
    }
}

/// Variables of the same names in another namespace: who reads these goes by an index that was.
fn add_decoys(space: &mut AddressSpace, namespace: u16) {
    for name in ["v0", "v1"] {
        let id = NodeId::new(namespace, name);
        VariableBuilder::new(&id, QualifiedName::new(namespace, name), name)
            .data_type(DataTypeId::Double)
            .value(-1.0)
            .has_type_definition(VariableTypeId::BaseDataVariableType)
            .organized_by(ObjectId::ObjectsFolder)
            .insert(space);
    }
}

/// The id of a variable; with `new` every third one has never been there before.
fn variable_id(namespace: u16, index: usize, new: bool) -> NodeId {
    static MADE: AtomicU64 = AtomicU64::new(0);
    match new && index % 3 == 2 {
        true => {
            let made = MADE.fetch_add(1, Ordering::Relaxed);
            NodeId::new(namespace, format!("v{index}@{made}"))
        }
        false => NodeId::new(namespace, format!("v{index}")),
    }
}

fn add_variable(space: &mut AddressSpace, id: NodeId, index: usize, history: bool) -> NodeId {
    let name = format!("v{index}");
    let namespace = id.namespace;
    let builder = VariableBuilder::new(
        &id,
        QualifiedName::new(namespace, name.as_str()),
        name.as_str(),
    )
    .description(format!("variable {index}"))
    .data_type(DataTypeId::Double)
    .value(0.0)
    .has_type_definition(VariableTypeId::AnalogItemType)
    .component_of(NodeId::new(namespace, "Machine"));
    let builder = if history {
        builder.history_readable().historizing(true)
    } else {
        builder
    };
    builder.insert(space);
    // Ten thousand times two more nodes would only make the tests slow.
    if index < 100 {
        let mut property = |name: &str, data_type: DataTypeId, value: Variant| {
            let property = NodeId::new(namespace, format!("{}#{name}", id.identifier));
            VariableBuilder::new(&property, QualifiedName::new(0, name), name)
                .data_type(data_type)
                .value(value)
                .has_type_definition(VariableTypeId::PropertyType)
                .property_of(id.clone())
                .insert(space);
        };
        let range = Range {
            low: 0.0,
            high: 1e9,
        };
        property("EURange", DataTypeId::Range, range.into());
        let unit = EUInformation {
            namespace_uri: "http://www.opcfoundation.org/UA/units/un/cefact".into(),
            unit_id: CELSIUS,
            display_name: LocalizedText::from("°C"),
            description: LocalizedText::from("degree Celsius"),
        };
        property("EngineeringUnits", DataTypeId::EUInformation, unit.into());
    }
    id
}

#[async_trait]
impl InMemoryNodeManagerImpl for Nodes {
    async fn init(&self, _: &mut AddressSpace, _: ServerContext) {}

    fn name(&self) -> &str {
        "controller"
    }

    fn namespaces(&self) -> Vec<NamespaceMetadata> {
        self.others.clone()
    }

    async fn create_value_monitored_items(
        &self,
        context: &RequestContext,
        space: &RwLock<AddressSpace>,
        items: &mut [&mut &mut opcua::server::CreateMonitoredItem],
    ) {
        let space = space.read();
        for item in items {
            let node = item.item_to_monitor();
            match space.validate_node_read(context, node) {
                Ok(_) => {
                    let value = space.read(context, node, 0.0, TimestampsToReturn::Both);
                    item.set_initial_value(value);
                    item.set_status(StatusCode::Good);
                }
                Err(status) => item.set_status(status),
            }
        }
    }

    async fn write(
        &self,
        context: &RequestContext,
        space: &RwLock<AddressSpace>,
        writes: &mut [&mut WriteNode],
    ) -> Result<(), StatusCode> {
        let mut space = space.write();
        let tree = context.type_tree.read();
        for write in writes {
            let node = match space.validate_node_write(context, write.value(), &*tree) {
                Ok(node) => node,
                Err(status) => {
                    write.set_status(status);
                    continue;
                }
            };
            let stubborn = NodeId::new(self.namespace, "stubborn");
            if write.value().node_id == stubborn {
                write.set_status(StatusCode::Good);
                continue;
            }
            let written = write_node_value(node, write.value());
            let id = write.value().node_id.clone();
            if written.is_ok() {
                let value = write.value().value.clone();
                context
                    .subscriptions
                    .notify_data_change([(value, &id, AttributeId::Value)].into_iter());
            }
            write.set_status(written.err().unwrap_or(StatusCode::Good));
        }
        Ok(())
    }

    async fn call(
        &self,
        _: &RequestContext,
        _: &RwLock<AddressSpace>,
        calls: &mut [&mut &mut MethodCall],
    ) -> Result<(), StatusCode> {
        for call in calls {
            let add = NodeId::new(self.namespace, "Add");
            let numbers = match call.arguments() {
                [Variant::Double(a), Variant::Double(b)] if *call.method_id() == add => {
                    Some((*a, *b))
                }
                _ => None,
            };
            match numbers {
                Some((a, b)) => {
                    call.set_outputs(vec![Variant::Double(a + b)]);
                    call.set_status(StatusCode::Good);
                }
                None if *call.method_id() == add => {
                    call.set_status(StatusCode::BadInvalidArgument);
                }
                None => call.set_status(StatusCode::BadInvalidState),
            }
        }
        Ok(())
    }

    async fn history_read_raw_modified(
        &self,
        _: &RequestContext,
        details: &ReadRawModifiedDetails,
        nodes: &mut [&mut &mut HistoryNode],
        _: TimestampsToReturn,
    ) -> Result<(), StatusCode> {
        let most = match details.num_values_per_node as usize {
            0 => PAGE,
            asked => asked.min(PAGE),
        };
        for node in nodes {
            if !self
                .variables
                .lock()
                .iter()
                .take(self.history)
                .any(|v| v == node.node_id())
            {
                node.set_status(StatusCode::BadHistoryOperationUnsupported);
                continue;
            }
            let resumed = node.continuation_point().and_then(|p| p.get::<Nanos>());
            let from = resumed.copied().unwrap_or(nanos(&details.start_time));
            let (values, next) = self.page(from, nanos(&details.end_time), most);
            node.set_status(if values.is_empty() {
                StatusCode::GoodNoData
            } else {
                StatusCode::Good
            });
            node.set_result(HistoryData {
                data_values: Some(values),
            });
            node.set_next_continuation_point(
                next.map(|time| ContinuationPoint::new(Box::new(time))),
            );
        }
        Ok(())
    }
}
