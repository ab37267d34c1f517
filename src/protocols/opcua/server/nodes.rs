//! The stack's side of the variables: it asks here for values and for permission.

use super::ScadaPorts;
use super::address::{NAMESPACE, add_device, add_root, remove_device};
use super::companion::Companions;
use super::companion::types::{self, Spaces};
use super::history::capabilities::historize;
use super::items::Item;
use super::origin::Origin;
use super::parts::{Parts, Past};
use super::points::Group;
use super::read::Reader;
use super::sessions::Sessions;
use super::{methods, writes};
use crate::access::{Caller, Right};
use crate::live_view::{DeviceLive, LiveView};
use crate::model::{DeviceId, TagSpec, now};
use async_trait::async_trait;
use opcua::server::address_space::AddressSpace;
use opcua::server::diagnostics::NamespaceMetadata;
use opcua::server::node_manager::memory::InMemoryNodeManagerImpl;
use opcua::server::node_manager::{
    HistoryNode, MethodCall, MonitoredItemRef, MonitoredItemUpdateRef, ParsedReadValueId, ReadNode,
    RequestContext, ServerContext, WriteNode,
};
use opcua::server::{CreateMonitoredItem, SubscriptionCache};
use opcua::sync::RwLock;
use opcua::types::{
    AttributeId, DataEncoding, DataValue, MonitoringMode, NodeId, NumericRange, ReadAtTimeDetails,
    ReadProcessedDetails, ReadRawModifiedDetails, StatusCode, TimestampsToReturn, Variant,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

/// An interval so short that the stack never holds a value back by it: pace is kept here.
const NO_PACE: f64 = 1e-6;

/// The hub's variables.
pub(super) struct LiveNodes {
    namespace: u16,
    /// Of the companion specifications.
    spaces: [u16; 3],
    companions: Companions,
    ports: ScadaPorts,
    sessions: Arc<Sessions>,
    parts: Arc<Parts>,
}

/// Which variables there are.
#[derive(Clone, Default)]
pub(super) struct Tags(Arc<RwLock<Groups>>);

impl Tags {
    /// The device and the tag of a node; `None` when it is not a tag's.
    pub(super) fn of(&self, node: &NodeId) -> Option<(DeviceId, TagSpec)> {
        let groups = self.0.read();
        let (group, index) = groups.points.get(node)?;
        let Origin::Device(live) = &group.origin else {
            return None;
        };
        let tag = live.tags.get(*index)?;
        Some((live.id.clone(), tag.clone()))
    }

    /// The device and the tag whose samples a node shows, under whatever name.
    pub(super) fn shown_by(&self, node: &NodeId) -> Option<(DeviceId, Arc<str>)> {
        let groups = self.0.read();
        let (group, index) = groups.points.get(node)?;
        let (live, tag) = group.origin.tag(*index)?;
        let tag = live.tags.get(tag)?;
        Some((live.id.clone(), tag.name.clone()))
    }

    fn point(&self, node: &NodeId) -> Option<(Arc<Group>, usize)> {
        self.0.read().points.get(node).cloned()
    }
}

#[derive(Default)]
struct Groups {
    devices: BTreeMap<DeviceId, (Arc<DeviceLive>, Arc<Group>)>,
    /// Found by strangers but filled by us, so the hash need not withstand chosen keys.
    points: HashMap<NodeId, (Arc<Group>, usize), foldhash::fast::RandomState>,
}

impl LiveNodes {
    /// Index of the hub's namespace.
    pub(super) fn namespace(&self) -> u16 {
        self.namespace
    }

    fn past(&self) -> Result<&Arc<dyn Past>, StatusCode> {
        let past = self.parts.past.get();
        past.ok_or(StatusCode::BadHistoryOperationUnsupported)
    }

    /// Puts the folders and the ledger into the address space; returns the ledger's group too.
    pub(super) fn build(
        context: &ServerContext,
        space: &mut AddressSpace,
        ports: ScadaPorts,
        (sessions, parts): (Arc<Sessions>, Arc<Parts>),
    ) -> (Self, Arc<Group>) {
        let namespace = context
            .type_tree
            .write()
            .namespaces_mut()
            .add_namespace(NAMESPACE);
        space.add_namespace(NAMESPACE, namespace);
        let nodes = add_root(space, namespace);
        let spaces = types::NAMESPACES.map(|uri| {
            let index = context
                .type_tree
                .write()
                .namespaces_mut()
                .add_namespace(uri);
            space.add_namespace(uri, index);
            index
        });
        let machines = ports.machines.clone();
        let companions = Companions::new(space, Spaces::new(spaces), namespace, machines);
        if let Some(history) = &ports.history {
            methods::add_get_evidence(space, namespace, &parts, history.clone());
        }
        let origin = Origin::Ledger {
            port: ports.ledger.clone(),
            changed: AtomicI64::new(now()),
        };
        let group = Arc::new(Group::new(origin, nodes));
        let this = Self {
            namespace,
            spaces,
            companions,
            ports,
            sessions,
            parts,
        };
        this.parts.tags.0.write().enrol(&group);
        (this, group)
    }

    /// Adds a device, or replaces the one of its id; nothing when it is there already.
    pub(super) fn add(
        &self,
        space: &RwLock<AddressSpace>,
        live: &Arc<DeviceLive>,
    ) -> Vec<Arc<Group>> {
        let mut groups = self.parts.tags.0.write();
        let old = match groups.devices.get(&live.id) {
            Some((same, _)) if Arc::ptr_eq(same, live) => return Vec::new(),
            other => other.cloned(),
        };
        let mut space = space.write();
        if let Some((old, group)) = &old {
            remove_device(&mut space, self.namespace, &old.id, &old.tags);
            for node in &group.nodes {
                groups.points.remove(node);
            }
        }
        let nodes = add_device(
            &mut space,
            self.namespace,
            &live.id,
            &live.tags,
            self.ports.control.is_some(),
        );
        if self.ports.history.is_some() {
            historize(&mut space, &nodes);
        }
        let group = Arc::new(Group::new(Origin::Device(live.clone()), nodes));
        if let Some((_, old)) = &old {
            group.inherit(old);
        }
        let machine = self.companions.add(&mut space, live);
        if self.ports.history.is_some() {
            historize(&mut space, &machine.group.tag_nodes());
        }
        if let Some(old) = &machine.old {
            for node in &old.nodes {
                groups.points.remove(node);
            }
            machine.group.inherit(old);
        }
        groups.enrol(&group);
        groups.enrol(&machine.group);
        groups
            .devices
            .insert(live.id.clone(), (live.clone(), group.clone()));
        vec![group, machine.group]
    }

    /// Takes out the devices that `live` has no more.
    pub(super) fn remove_gone(
        &self,
        space: &RwLock<AddressSpace>,
        live: &LiveView,
        subscriptions: &SubscriptionCache,
    ) {
        let mut groups = self.parts.tags.0.write();
        let ids = groups.devices.keys();
        let gone: Vec<_> = ids
            .filter(|id| live.device(id).is_none())
            .cloned()
            .collect();
        for id in gone {
            let Some((device, group)) = groups.devices.remove(&id) else {
                continue;
            };
            let mut space = space.write();
            remove_device(&mut space, self.namespace, &id, &device.tags);
            let machine = self.companions.remove(&mut space, &id);
            for group in [Some(group), machine].into_iter().flatten() {
                for node in &group.nodes {
                    groups.points.remove(node);
                }
                group.part(subscriptions);
            }
        }
    }

    /// Sets the values of variables that a request asks for; leaves what else it asks for as `rest`. The
    /// stack's own way to values collects them three times.
    pub(super) fn answer<'n>(
        &self,
        context: &RequestContext,
        timestamps_to_return: TimestampsToReturn,
        nodes: &'n mut [&mut ReadNode],
        rest: &mut Vec<&'n mut ReadNode>,
    ) {
        let is_value = |read: &ReadNode| read.node().attribute_id == AttributeId::Value;
        if !nodes.iter().any(|read| is_value(read)) {
            rest.extend(nodes.iter_mut().map(|read| &mut **read));
            return;
        }
        let (caller, sees_all) = self.sessions.sees(context);
        let may = |origin: &Origin, index: usize| sees_all || self.may_see(&caller, origin, index);
        let groups = self.parts.tags.0.read();
        let mut reader = Reader::new(timestamps_to_return);
        for read in nodes {
            let known = is_value(read).then(|| Self::read(&groups, read.node(), &may, &mut reader));
            match known.flatten() {
                Some(data) => read.set_result(data),
                None => rest.push(read),
            }
        }
    }

    /// The value of a variable; `None` when the node is none of ours.
    fn read<'a>(
        groups: &'a Groups,
        node: &ParsedReadValueId,
        may: &impl Fn(&Origin, usize) -> bool,
        reader: &mut Reader<'a>,
    ) -> Option<DataValue> {
        let (group, index) = match reader.next_is(&node.node_id) {
            Some(next) => next,
            None => groups.points.get(&node.node_id).map(|(g, i)| (g, *i))?,
        };
        if !may(&group.origin, index) {
            return Some(failure(StatusCode::BadUserAccessDenied));
        }
        if !matches!(node.data_encoding, DataEncoding::Binary) {
            return Some(failure(StatusCode::BadDataEncodingInvalid));
        }
        let mut data = reader.read(group, index);
        if node.index_range != NumericRange::None {
            match data.value.take().map(|v| v.range_of(&node.index_range)) {
                Some(Ok(part)) => data.value = Some(part),
                Some(Err(status)) => return Some(failure(status)),
                None => {}
            }
        }
        Some(data)
    }

    /// Monitors a variable; false when the node is none of ours.
    fn monitor(&self, item: &mut CreateMonitoredItem) -> bool {
        let node = &item.item_to_monitor().node_id;
        let Some((group, index)) = self.parts.tags.point(node) else {
            return false;
        };
        let told = group.origin.read(index);
        item.set_initial_value(told.clone().data_value());
        let interval = pace(item.sampling_interval());
        // The type of the filter has no name outside of the stack.
        let unfiltered = format!("{:?}", item.filter()) == "None";
        // One of zero the stack does not hold back.
        let by_source_time = item.sampling_interval() != 0.0;
        if by_source_time {
            item.revise_sampling_interval(NO_PACE);
        }
        let watching = Item::new(interval, unfiltered, by_source_time, told);
        group.monitor(index, item.handle(), watching);
        true
    }

    /// Whether a user who may not see everything may see this.
    fn may_see(&self, caller: &Caller, origin: &Origin, index: usize) -> bool {
        let gate = self.sessions.gate();
        let thing = origin.thing(index);
        let thing = thing.as_deref().unwrap_or(gate.hub());
        gate.passage(&caller.user, Right::Live, thing, now())
            .is_ok()
    }

    fn group_of(&self, node: &NodeId) -> Option<Arc<Group>> {
        Some(self.parts.tags.point(node)?.0)
    }
}

impl Groups {
    fn enrol(&mut self, group: &Arc<Group>) {
        let points = group.nodes.iter().enumerate();
        self.points
            .extend(points.map(|(index, node)| (node.clone(), (group.clone(), index))));
    }
}

fn failure(status: StatusCode) -> DataValue {
    DataValue {
        value: Some(Variant::Empty),
        status: Some(status),
        ..DataValue::null()
    }
}

fn pace(sampling_interval: f64) -> Duration {
    // An hour is as good as never, and a client can ask for infinity.
    Duration::from_secs_f64(sampling_interval.clamp(0.0, 3.6e6) / 1000.0)
}

#[async_trait]
impl InMemoryNodeManagerImpl for LiveNodes {
    async fn init(&self, _: &mut AddressSpace, _: ServerContext) {}

    fn name(&self) -> &str {
        "weighbridge"
    }

    fn namespaces(&self) -> Vec<NamespaceMetadata> {
        let companions = types::NAMESPACES.into_iter().zip(self.spaces);
        std::iter::once((NAMESPACE, self.namespace))
            .chain(companions)
            .map(|(uri, index)| NamespaceMetadata {
                namespace_uri: uri.to_owned(),
                namespace_index: index,
                ..Default::default()
            })
            .collect()
    }

    /// Of what is no variable but a property: variables were [answered](LiveNodes::answer).
    async fn read_values(
        &self,
        context: &RequestContext,
        address_space: &RwLock<AddressSpace>,
        nodes: &[&ParsedReadValueId],
        max_age: f64,
        timestamps_to_return: TimestampsToReturn,
    ) -> Vec<DataValue> {
        let space = address_space.read();
        let read =
            |node: &&ParsedReadValueId| space.read(context, node, max_age, timestamps_to_return);
        nodes.iter().map(read).collect()
    }

    async fn create_value_monitored_items(
        &self,
        context: &RequestContext,
        address_space: &RwLock<AddressSpace>,
        items: &mut [&mut &mut CreateMonitoredItem],
    ) {
        self.sessions.asked(context);
        let space = address_space.read();
        for item in items {
            let node = item.item_to_monitor().clone();
            match space.validate_node_read(context, &node) {
                Ok(_) => {
                    item.set_status(StatusCode::Good);
                    if !self.monitor(item) {
                        // A property, which does not change.
                        let both = TimestampsToReturn::Both;
                        item.set_initial_value(space.read(context, &node, 0.0, both));
                    }
                }
                Err(status) => item.set_status(status),
            }
        }
    }

    async fn modify_monitored_items(&self, _: &RequestContext, items: &[&MonitoredItemUpdateRef]) {
        for item in items {
            if let Some(group) = self.group_of(item.node_id()) {
                let interval = pace(item.update().revised_sampling_interval);
                group.set_interval(item.handle(), interval);
            }
        }
    }

    async fn set_monitoring_mode(
        &self,
        _: &RequestContext,
        mode: MonitoringMode,
        items: &[&MonitoredItemRef],
    ) {
        if mode == MonitoringMode::Disabled {
            return;
        }
        for item in items {
            if let Some(group) = self.group_of(item.node_id()) {
                group.refresh(item.handle());
            }
        }
    }

    async fn create_event_monitored_items(
        &self,
        context: &RequestContext,
        _: &RwLock<AddressSpace>,
        items: &mut [&mut &mut CreateMonitoredItem],
    ) {
        self.sessions.asked(context);
        for item in items {
            self.parts.listeners.enrol(context, item);
        }
    }

    async fn delete_monitored_items(&self, _: &RequestContext, items: &[&MonitoredItemRef]) {
        self.parts.listeners.forget(items);
        for item in items {
            let group = self.group_of(item.node_id());
            if let Some(group) = group {
                group.forget(item.handle());
            }
        }
    }

    async fn write(
        &self,
        context: &RequestContext,
        address_space: &RwLock<AddressSpace>,
        nodes_to_write: &mut [&mut WriteNode],
    ) -> Result<(), StatusCode> {
        let caller = self.sessions.asked(context);
        let mut known = Vec::with_capacity(nodes_to_write.len());
        {
            let space = address_space.read();
            for node in nodes_to_write {
                match space.node_exists(&node.value().node_id) {
                    true => known.push(&mut **node),
                    false => node.set_status(StatusCode::BadNodeIdUnknown),
                }
            }
        }
        writes::write(
            &self.parts,
            self.ports.control.as_ref(),
            &caller,
            &mut known,
        )
        .await;
        Ok(())
    }

    async fn history_read_raw_modified(
        &self,
        context: &RequestContext,
        details: &ReadRawModifiedDetails,
        nodes: &mut [&mut &mut HistoryNode],
        timestamps_to_return: TimestampsToReturn,
    ) -> Result<(), StatusCode> {
        let caller = self.sessions.asked(context);
        let past = self.past()?;
        past.raw(&caller, details, nodes, timestamps_to_return)
            .await
    }

    async fn history_read_processed(
        &self,
        context: &RequestContext,
        details: &ReadProcessedDetails,
        nodes: &mut [&mut &mut HistoryNode],
        timestamps_to_return: TimestampsToReturn,
    ) -> Result<(), StatusCode> {
        let caller = self.sessions.asked(context);
        let past = self.past()?;
        past.processed(&caller, details, nodes, timestamps_to_return)
            .await
    }

    async fn history_read_at_time(
        &self,
        context: &RequestContext,
        details: &ReadAtTimeDetails,
        nodes: &mut [&mut &mut HistoryNode],
        timestamps_to_return: TimestampsToReturn,
    ) -> Result<(), StatusCode> {
        let caller = self.sessions.asked(context);
        let past = self.past()?;
        past.at_time(&caller, details, nodes, timestamps_to_return)
            .await
    }

    async fn call(
        &self,
        context: &RequestContext,
        _: &RwLock<AddressSpace>,
        methods_to_call: &mut [&mut &mut MethodCall],
    ) -> Result<(), StatusCode> {
        let caller = self.sessions.asked(context);
        for call in methods_to_call {
            self.parts.call(context, &caller, call).await;
        }
        Ok(())
    }
}
