//! The standard's namespace as this server shows it: the stack's own nodes, with what the stack lacks
//! done here.

use super::diagnostics;
use super::fence::Inside;
use super::history::capabilities;
use super::parts::Parts;
use super::sessions::Sessions;
use crate::access::Right;
use crate::model::now;
use crate::protocols::opcua::core::{Core, Extent};
use async_trait::async_trait;
use opcua::nodes::DefaultTypeTree;
use opcua::server::diagnostics::NamespaceMetadata;
use opcua::server::node_manager::memory::CoreNodeManager;
use opcua::server::node_manager::{
    BrowseNode, BrowsePathItem, DynNodeManager, ExternalReferenceRequest, MethodCall,
    MonitoredItemRef, MonitoredItemUpdateRef, NodeManager, NodeManagerBuilder, ReadNode,
    RequestContext, ServerContext,
};
use opcua::server::{CreateMonitoredItem, ServerStatusWrapper};
use opcua::types::{
    AttributeId, DataValue, DateTime, ExtensionObject, MonitoringMode, NodeId,
    ServerStatusDataType, StatusCode, TimestampsToReturn, VariableId, Variant,
};
use std::sync::Arc;

/// Builds the nodes.
pub(super) struct Standard {
    pub(super) parts: Arc<Parts>,
    pub(super) sessions: Arc<Sessions>,
}

impl NodeManagerBuilder for Standard {
    fn build(self: Box<Self>, context: ServerContext) -> Arc<DynNodeManager> {
        let status = context.status.clone();
        let stack = Box::new(Core(Extent::Server)).build(context);
        if let Ok(core) = stack.clone().into_any_arc().downcast::<CoreNodeManager>() {
            capabilities::add_functions(&mut core.address_space().write());
        }
        Arc::new(StandardNodes {
            status,
            stack,
            parts: self.parts,
            sessions: self.sessions,
        })
    }
}

/// The nodes of a manager that was built here.
pub(super) fn inside(manager: &Arc<DynNodeManager>) -> Option<Inside> {
    let standard = manager.clone().into_any_arc().downcast::<StandardNodes>();
    let stack = standard.ok()?.stack.clone().into_any_arc();
    let core = stack.downcast::<CoreNodeManager>().ok()?;
    Some(Inside::new(core.address_space()))
}

/// The stack's nodes, and what is done in its place.
struct StandardNodes {
    stack: Arc<DynNodeManager>,
    status: Arc<ServerStatusWrapper>,
    parts: Arc<Parts>,
    sessions: Arc<Sessions>,
}

impl StandardNodes {
    /// The stack says that there is no history.
    fn tell_of_history(&self, node: &mut ReadNode) {
        let wanted = node.node();
        if wanted.attribute_id == AttributeId::Value
            && self.parts.past.get().is_some()
            && let Some(value) = capabilities::capability(&wanted.node_id)
        {
            node.set_result(DataValue::new_at(value, DateTime::now()));
        }
    }

    /// The stack gives the time at which it last changed the state.
    fn keep_time(&self, node: &mut ReadNode) {
        let whole = NodeId::from(VariableId::Server_ServerStatus);
        if node.node().attribute_id != AttributeId::Value
            || node.node().node_id != whole
            || node.node().index_range.has_range()
        {
            return;
        }
        let status = self.status.full_status_obj();
        if let Some(mut status) = status.into_inner_as::<ServerStatusDataType>() {
            let now = DateTime::now();
            status.current_time = now;
            let value = Variant::from(ExtensionObject::from_message(*status));
            node.set_result(DataValue::new_at(value, now));
        }
    }
}

#[async_trait]
impl NodeManager for StandardNodes {
    fn owns_node(&self, id: &NodeId) -> bool {
        self.stack.owns_node(id)
    }

    fn name(&self) -> &str {
        "standard"
    }

    fn namespaces_for_user(&self, context: &RequestContext) -> Vec<NamespaceMetadata> {
        self.stack.namespaces_for_user(context)
    }

    async fn init(&self, type_tree: &mut DefaultTypeTree, context: ServerContext) {
        self.stack.init(type_tree, context).await;
    }

    async fn resolve_external_references(
        &self,
        context: &RequestContext,
        items: &mut [&mut ExternalReferenceRequest],
    ) {
        self.stack.resolve_external_references(context, items).await;
    }

    async fn read(
        &self,
        context: &RequestContext,
        max_age: f64,
        timestamps_to_return: TimestampsToReturn,
        nodes_to_read: &mut [&mut ReadNode],
    ) -> Result<(), StatusCode> {
        let caller = self.sessions.asked(context);
        let read = self
            .stack
            .read(context, max_age, timestamps_to_return, nodes_to_read);
        read.await?;
        // Who may act upon machines may know who else is there.
        let may_see_others = self
            .sessions
            .gate()
            .somewhere(&caller.user, Right::Call, now());
        for node in nodes_to_read {
            self.keep_time(node);
            diagnostics::read(node, context, &self.sessions, may_see_others);
            self.tell_of_history(node);
        }
        Ok(())
    }

    async fn browse(
        &self,
        context: &RequestContext,
        nodes_to_browse: &mut [BrowseNode],
    ) -> Result<(), StatusCode> {
        self.stack.browse(context, nodes_to_browse).await
    }

    async fn translate_browse_paths_to_node_ids(
        &self,
        context: &RequestContext,
        nodes: &mut [&mut BrowsePathItem],
    ) -> Result<(), StatusCode> {
        let translated = self
            .stack
            .translate_browse_paths_to_node_ids(context, nodes);
        translated.await
    }

    async fn create_monitored_items(
        &self,
        context: &RequestContext,
        items: &mut [&mut CreateMonitoredItem],
    ) -> Result<(), StatusCode> {
        self.stack.create_monitored_items(context, items).await?;
        for item in items {
            self.parts.listeners.enrol(context, item);
        }
        Ok(())
    }

    async fn modify_monitored_items(
        &self,
        context: &RequestContext,
        items: &[&MonitoredItemUpdateRef],
    ) {
        self.stack.modify_monitored_items(context, items).await;
    }

    async fn set_monitoring_mode(
        &self,
        context: &RequestContext,
        mode: MonitoringMode,
        items: &[&MonitoredItemRef],
    ) {
        self.stack.set_monitoring_mode(context, mode, items).await;
    }

    async fn delete_monitored_items(&self, context: &RequestContext, items: &[&MonitoredItemRef]) {
        self.parts.listeners.forget(items);
        self.stack.delete_monitored_items(context, items).await;
    }

    /// The standard has methods that are called on objects of other namespaces, by the method's id in
    /// its type: those of conditions, for example.
    async fn call(
        &self,
        context: &RequestContext,
        methods_to_call: &mut [&mut MethodCall],
    ) -> Result<(), StatusCode> {
        let caller = self.sessions.asked(context);
        let mut rest = Vec::new();
        for call in methods_to_call {
            match self.parts.has_method(call.method_id()) {
                true => self.parts.call(context, &caller, call).await,
                false => rest.push(&mut **call),
            }
        }
        self.stack.call(context, &mut rest).await
    }
}
