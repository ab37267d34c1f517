//! Around each manager of nodes: what its users may have, and what they are shown of what they may do.

use super::budget::Budget;
use super::nodes::{LiveNodes, NotShown};
use super::roles::Roles;
use super::sessions::Sessions;
use async_trait::async_trait;
use opcua::nodes::DefaultTypeTree;
use opcua::server::CreateMonitoredItem;
use opcua::server::address_space::AddressSpace;
use opcua::server::diagnostics::NamespaceMetadata;
use opcua::server::node_manager::memory::InMemoryNodeManager;
use opcua::server::node_manager::{
    BrowseNode, BrowsePathItem, DynNodeManager, ExternalReferenceRequest, HistoryNode, MethodCall,
    MonitoredItemRef, MonitoredItemUpdateRef, NodeManager, NodeManagerBuilder, ReadNode,
    RequestContext, ServerContext, WriteNode,
};
use opcua::sync::RwLock;
use opcua::types::{
    MonitoringMode, NodeId, NumericRange, ReadAtTimeDetails, ReadProcessedDetails,
    ReadRawModifiedDetails, StatusCode, TimestampsToReturn,
};
use std::sync::Arc;
use std::time::Instant;

/// What the fences of one server share.
#[derive(Clone)]
pub(super) struct Fences {
    pub(super) budget: Arc<Budget>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) roles: Arc<Roles>,
}

impl Fences {
    /// Puts a fence around what `builder` builds. `inside` looks what that is.
    pub(super) fn around(
        &self,
        builder: impl NodeManagerBuilder + 'static,
        inside: impl FnOnce(&Arc<DynNodeManager>) -> Option<Inside> + 'static,
    ) -> impl NodeManagerBuilder + 'static {
        Fenced {
            builder,
            inside,
            fences: self.clone(),
        }
    }
}

/// The nodes of a fenced manager.
pub(super) struct Inside {
    space: Arc<RwLock<AddressSpace>>,
    /// The hub's variables.
    live: Option<Arc<InMemoryNodeManager<LiveNodes>>>,
    /// Whose nodes they are. Asked for each node of a request, by all managers, so not looked up.
    namespaces: Box<[u16]>,
}

impl Inside {
    /// Of a manager that has its namespaces already.
    pub(super) fn new(space: &Arc<RwLock<AddressSpace>>) -> Self {
        let mut namespaces: Vec<_> = space.read().namespaces().keys().copied().collect();
        // The hub's own comes before those of the companion specifications.
        namespaces.sort_unstable();
        Self {
            space: space.clone(),
            live: None,
            namespaces: namespaces.into(),
        }
    }

    /// Of the hub's variables.
    pub(super) fn live(nodes: Arc<InMemoryNodeManager<LiveNodes>>) -> Self {
        Self {
            live: Some(nodes.clone()),
            ..Self::new(nodes.address_space())
        }
    }
}

/// Builds a manager of nodes, and the fence around it.
struct Fenced<B, F> {
    builder: B,
    inside: F,
    fences: Fences,
}

impl<B, F> NodeManagerBuilder for Fenced<B, F>
where
    B: NodeManagerBuilder,
    F: FnOnce(&Arc<DynNodeManager>) -> Option<Inside>,
{
    fn build(self: Box<Self>, context: ServerContext) -> Arc<DynNodeManager> {
        let inner = Box::new(self.builder).build(context);
        let inside = (self.inside)(&inner);
        Arc::new(Fence {
            inner,
            inside,
            fences: self.fences,
        })
    }
}

struct Fence {
    inner: Arc<DynNodeManager>,
    inside: Option<Inside>,
    fences: Fences,
}

impl Fence {
    /// Takes the items that may be had into the user's account, and returns them.
    fn admit<'b>(
        &self,
        context: &RequestContext,
        items: &'b mut [&mut CreateMonitoredItem],
    ) -> Vec<&'b mut CreateMonitoredItem> {
        let (token, now) = (context.user_token(), Instant::now());
        let mut admitted = Vec::with_capacity(items.len());
        for item in items {
            // A part of an array of arrays: no variable here is one, and the stack keeps it as long as
            // it was written.
            if let NumericRange::MultipleRanges(_) = item.item_to_monitor().index_range {
                item.set_status(StatusCode::BadIndexRangeNoData);
            } else if self.fences.budget.admits(token, item.handle(), now) {
                admitted.push(&mut **item);
            } else {
                context.info.diagnostics.inc_rejected_requests();
                item.set_status(StatusCode::BadTooManyMonitoredItems);
            }
        }
        admitted
    }

    /// Reads as the stack does, and tells of rights.
    async fn pass(
        &self,
        context: &RequestContext,
        max_age: f64,
        timestamps_to_return: TimestampsToReturn,
        nodes: &mut [&mut ReadNode],
    ) -> Result<(), StatusCode> {
        let read = self
            .inner
            .read(context, max_age, timestamps_to_return, nodes);
        read.await?;
        if let Some(inside) = &self.inside {
            let (token, space) = (context.user_token(), &inside.space);
            self.fences.roles.tell(token, space, nodes);
        }
        Ok(())
    }
}

#[async_trait]
impl NodeManager for Fence {
    fn owns_node(&self, id: &NodeId) -> bool {
        match &self.inside {
            Some(inside) => inside.namespaces.contains(&id.namespace),
            None => self.inner.owns_node(id),
        }
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    /// The stack asks when a session is activated.
    fn namespaces_for_user(&self, context: &RequestContext) -> Vec<NamespaceMetadata> {
        self.fences.sessions.entered(context);
        self.inner.namespaces_for_user(context)
    }

    async fn init(&self, type_tree: &mut DefaultTypeTree, context: ServerContext) {
        self.inner.init(type_tree, context).await;
    }

    async fn resolve_external_references(
        &self,
        context: &RequestContext,
        items: &mut [&mut ExternalReferenceRequest],
    ) {
        self.inner.resolve_external_references(context, items).await;
    }

    async fn read(
        &self,
        context: &RequestContext,
        max_age: f64,
        timestamps_to_return: TimestampsToReturn,
        nodes: &mut [&mut ReadNode],
    ) -> Result<(), StatusCode> {
        let live = self.inside.as_ref().and_then(|i| i.live.as_ref());
        let Some(live) = live else {
            return self
                .pass(context, max_age, timestamps_to_return, nodes)
                .await;
        };
        let mut rest = Vec::new();
        let live = live.inner();
        let not_shown = live.answer(context, timestamps_to_return, nodes, &mut rest);
        if let Some(NotShown { caller, object }) = not_shown {
            self.fences.sessions.not_shown(&caller, &object).await?;
        }
        match rest.is_empty() {
            true => Ok(()),
            false => {
                self.pass(context, max_age, timestamps_to_return, &mut rest)
                    .await
            }
        }
    }

    async fn history_read_raw_modified(
        &self,
        context: &RequestContext,
        details: &ReadRawModifiedDetails,
        nodes: &mut [&mut HistoryNode],
        timestamps: TimestampsToReturn,
    ) -> Result<(), StatusCode> {
        let read = self
            .inner
            .history_read_raw_modified(context, details, nodes, timestamps);
        read.await
    }

    async fn history_read_processed(
        &self,
        context: &RequestContext,
        details: &ReadProcessedDetails,
        nodes: &mut [&mut HistoryNode],
        timestamps: TimestampsToReturn,
    ) -> Result<(), StatusCode> {
        let read = self
            .inner
            .history_read_processed(context, details, nodes, timestamps);
        read.await
    }

    async fn history_read_at_time(
        &self,
        context: &RequestContext,
        details: &ReadAtTimeDetails,
        nodes: &mut [&mut HistoryNode],
        timestamps: TimestampsToReturn,
    ) -> Result<(), StatusCode> {
        let read = self
            .inner
            .history_read_at_time(context, details, nodes, timestamps);
        read.await
    }

    async fn write(
        &self,
        context: &RequestContext,
        nodes: &mut [&mut WriteNode],
    ) -> Result<(), StatusCode> {
        self.inner.write(context, nodes).await
    }

    async fn browse(
        &self,
        context: &RequestContext,
        nodes: &mut [BrowseNode],
    ) -> Result<(), StatusCode> {
        self.inner.browse(context, nodes).await
    }

    async fn translate_browse_paths_to_node_ids(
        &self,
        context: &RequestContext,
        nodes: &mut [&mut BrowsePathItem],
    ) -> Result<(), StatusCode> {
        let translated = self
            .inner
            .translate_browse_paths_to_node_ids(context, nodes);
        translated.await
    }

    async fn create_monitored_items(
        &self,
        context: &RequestContext,
        items: &mut [&mut CreateMonitoredItem],
    ) -> Result<(), StatusCode> {
        let mut admitted = self.admit(context, items);
        let created = self.inner.create_monitored_items(context, &mut admitted);
        let created = created.await;
        let now = Instant::now();
        for item in admitted {
            if created.is_err() || !item.status_code().is_good() {
                self.fences.budget.gone(item.handle(), false, now);
            }
        }
        created
    }

    async fn modify_monitored_items(
        &self,
        context: &RequestContext,
        items: &[&MonitoredItemUpdateRef],
    ) {
        self.inner.modify_monitored_items(context, items).await;
    }

    async fn set_monitoring_mode(
        &self,
        context: &RequestContext,
        mode: MonitoringMode,
        items: &[&MonitoredItemRef],
    ) {
        self.inner.set_monitoring_mode(context, mode, items).await;
    }

    async fn delete_monitored_items(&self, context: &RequestContext, items: &[&MonitoredItemRef]) {
        let now = Instant::now();
        let owner = context
            .subscriptions
            .get_session_subscriptions(context.session_id());
        let lives = |item: &MonitoredItemRef| {
            let subscription = item.handle().subscription_id;
            owner
                .as_ref()
                .is_some_and(|o| o.lock().contains(subscription))
        };
        for item in items {
            // Of a subscription that lives the stack forgets the item; with the subscription it does not.
            self.fences.budget.gone(item.handle(), !lives(item), now);
        }
        self.inner.delete_monitored_items(context, items).await;
    }

    async fn call(
        &self,
        context: &RequestContext,
        methods: &mut [&mut MethodCall],
    ) -> Result<(), StatusCode> {
        self.inner.call(context, methods).await
    }
}
