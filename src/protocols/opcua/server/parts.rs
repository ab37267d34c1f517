//! The parts of the server beside live values: methods and history. Each is a module of its own; here is
//! what the node managers ask of them.

use super::alarms::Listeners;
use super::nodes::Tags;
use crate::access::Caller;
use async_trait::async_trait;
use opcua::server::node_manager::{HistoryNode, MethodCall, RequestContext};
use opcua::sync::RwLock;
use opcua::types::{
    NodeId, ReadAtTimeDetails, ReadProcessedDetails, ReadRawModifiedDetails, StatusCode,
    TimestampsToReturn, Variant,
};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// What a method does.
#[async_trait]
pub(super) trait Method: Send + Sync + 'static {
    /// Calls it on `object`; the number of arguments was not checked.
    async fn call(
        &self,
        context: &RequestContext,
        caller: &Caller,
        object: &NodeId,
        arguments: &[Variant],
    ) -> Result<Vec<Variant>, StatusCode>;
}

/// Answers reads of history. Each node's result and status is set on the node; an error is for all.
#[async_trait]
pub(super) trait Past: Send + Sync + 'static {
    /// As it was recorded.
    async fn raw(
        &self,
        caller: &Caller,
        details: &ReadRawModifiedDetails,
        nodes: &mut [&mut &mut HistoryNode],
        timestamps: TimestampsToReturn,
    ) -> Result<(), StatusCode>;

    /// Aggregated.
    async fn processed(
        &self,
        caller: &Caller,
        details: &ReadProcessedDetails,
        nodes: &mut [&mut &mut HistoryNode],
        timestamps: TimestampsToReturn,
    ) -> Result<(), StatusCode>;

    /// At given times.
    async fn at_time(
        &self,
        caller: &Caller,
        details: &ReadAtTimeDetails,
        nodes: &mut [&mut &mut HistoryNode],
        timestamps: TimestampsToReturn,
    ) -> Result<(), StatusCode>;
}

/// The parts that a server has.
#[derive(Default)]
pub(super) struct Parts {
    /// Which tag a node is.
    pub(super) tags: Tags,
    /// History; without it there is none.
    pub(super) past: OnceLock<Arc<dyn Past>>,
    /// Who listens to events.
    pub(super) listeners: Listeners,
    methods: RwLock<HashMap<NodeId, Arc<dyn Method>>>,
}

impl Parts {
    /// Has calls of the method node `id` go to `method`: a node of this hub's namespace, or one of the
    /// standard's, such as the methods of condition types.
    pub(super) fn add_method(&self, id: NodeId, method: Arc<dyn Method>) {
        self.methods.write().insert(id, method);
    }

    /// Whether calls of this node go to a method here.
    pub(super) fn has_method(&self, id: &NodeId) -> bool {
        self.methods.read().contains_key(id)
    }

    /// Calls what was asked for, and sets its result.
    pub(super) async fn call(
        &self,
        context: &RequestContext,
        caller: &Caller,
        call: &mut MethodCall,
    ) {
        let method = self.methods.read().get(call.method_id()).cloned();
        let Some(method) = method else {
            call.set_status(StatusCode::BadMethodInvalid);
            return;
        };
        let result = method.call(context, caller, call.object_id(), call.arguments());
        match result.await {
            Ok(outputs) => {
                call.set_outputs(outputs);
                call.set_status(StatusCode::Good);
            }
            Err(status) => call.set_status(status),
        }
    }
}
