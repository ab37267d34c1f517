//! Who listens to events, and what they were not told yet.
//!
//! The stack delivers an event to everybody who listens at a node, which a refresh must not. It takes a
//! queue of size 0, "as the server likes", for one of size 1, in which events replace each other; and
//! when a queue overflows it says so to nobody. So events are delivered to each monitored item from
//! here, as many as its queue takes, and held back until they were fetched. Only when too many are
//! held some are lost, and that is an event itself.

use super::event::{Happening, Mark};
use super::fields::Names;
use opcua::nodes::DefaultTypeTree;
use opcua::server::node_manager::{MonitoredItemRef, RequestContext};
use opcua::server::{CreateMonitoredItem, MonitoredItemHandle, SubscriptionCache};
use opcua::sync::RwLock;
use opcua::types::{AttributeId, MonitoringMode, NodeId, StatusCode};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::Notify;

/// Monitored items that listen to events, in all sessions together.
const MOST_LISTENERS: usize = 1_000;
/// Events held back for one item; beyond them the oldest are lost, and it is told to refresh.
const MOST_HELD: usize = if cfg!(test) { 40 } else { 2_000 };
/// Sessions that are looked through beyond the newest known one for a subscription that was
/// transferred to another session: the stack tells nobody of that.
const LOOK_AHEAD: u32 = 64;

/// Everybody who listens.
#[derive(Default)]
pub(in crate::protocols::opcua::server) struct Listeners {
    inner: Mutex<Inner>,
    /// Told when events are held back.
    pub(super) held: Notify,
}

#[derive(Default)]
struct Inner {
    /// Without it there are no alarms, and nobody is told anything.
    names: Option<Names>,
    stack: Option<Stack>,
    items: HashMap<MonitoredItemHandle, Listener>,
    newest_session: u32,
}

/// What is needed of the stack.
struct Stack {
    subscriptions: Arc<SubscriptionCache>,
    types: Arc<RwLock<DefaultTypeTree>>,
}

struct Listener {
    session: u32,
    node: NodeId,
    held: VecDeque<Arc<Happening>>,
    /// Events in its queue, at most: its filter may have let none of them pass.
    queued: usize,
    /// Events of its last refresh: they may be held beyond the bound.
    refreshed: usize,
}

impl Listeners {
    /// Takes in a monitored item that the stack accepted; refuses it when there are too many.
    pub(in crate::protocols::opcua::server) fn enrol(
        &self,
        context: &RequestContext,
        item: &mut CreateMonitoredItem,
    ) {
        let monitored = item.item_to_monitor();
        if monitored.attribute_id != AttributeId::EventNotifier || !item.status_code().is_good() {
            return;
        }
        let mut inner = self.inner.lock();
        if inner.names.is_none() {
            return;
        }
        if inner.items.len() >= MOST_LISTENERS {
            item.set_status(StatusCode::BadTooManyMonitoredItems);
            return;
        }
        inner.newest_session = inner.newest_session.max(context.session_id());
        inner.stack.get_or_insert_with(|| Stack {
            subscriptions: context.subscriptions.clone(),
            types: context.type_tree.clone(),
        });
        let listener = Listener {
            session: context.session_id(),
            node: monitored.node_id.clone(),
            held: VecDeque::new(),
            queued: 0,
            refreshed: 0,
        };
        inner.items.insert(item.handle(), listener);
    }

    /// Lets go of items that were deleted.
    pub(in crate::protocols::opcua::server) fn forget(&self, items: &[&MonitoredItemRef]) {
        let mut inner = self.inner.lock();
        for item in items {
            inner.items.remove(&item.handle());
        }
    }

    /// From now on there are alarms.
    pub(super) fn open(&self, names: Names) {
        self.inner.lock().names = Some(names);
    }

    /// Tells an event to everybody who hears it.
    pub(super) fn tell(&self, event: Arc<Happening>) {
        let mut inner = self.inner.lock();
        for listener in inner.items.values_mut() {
            if event.is_heard_at(&listener.node) {
                listener.held.push_back(event.clone());
            }
        }
        self.deliver(&mut inner);
    }

    /// Something was not told: everybody should refresh.
    pub(super) fn missed(&self) {
        let names = self.inner.lock().names;
        if let Some(names) = names {
            self.tell(Arc::new(Happening::mark(Mark::Required, names)));
        }
    }

    /// Delivers what was held back, as far as there is room.
    pub(super) fn flush(&self) {
        self.deliver(&mut self.inner.lock());
    }

    fn deliver(&self, inner: &mut Inner) {
        if inner.deliver() {
            self.held.notify_one();
        }
    }

    /// Tells `events` to the items of one subscription, or to one item of it, between the marks of a
    /// refresh.
    pub(super) fn refresh(
        &self,
        session: u32,
        subscription: u32,
        item: Option<u32>,
        events: Vec<Arc<Happening>>,
    ) -> Result<(), StatusCode> {
        let mut inner = self.inner.lock();
        inner.newest_session = inner.newest_session.max(session);
        let Some(names) = inner.names else {
            return Err(StatusCode::BadNotSupported);
        };
        let asked = |handle: &MonitoredItemHandle| {
            handle.subscription_id == subscription
                && item.is_none_or(|item| item == handle.monitored_item_id)
        };
        if item.is_some() && !inner.items.keys().any(asked) {
            return Err(StatusCode::BadMonitoredItemIdInvalid);
        }
        let mark = |mark| Arc::new(Happening::mark(mark, names));
        let (start, end) = (mark(Mark::Start), mark(Mark::End));
        let listeners = inner.items.iter_mut().filter(|(handle, _)| asked(handle));
        for (_, listener) in listeners {
            // What was held back is in the refresh.
            listener.held.clear();
            listener.held.push_back(start.clone());
            let heard = events.iter().filter(|e| e.is_heard_at(&listener.node));
            listener.held.extend(heard.cloned());
            listener.held.push_back(end.clone());
            listener.refreshed = listener.held.len();
        }
        self.deliver(&mut inner);
        Ok(())
    }
}

impl Inner {
    /// Delivers what there is room for; whether something is left.
    fn deliver(&mut self) -> bool {
        let (Some(stack), Some(names)) = (&self.stack, self.names) else {
            return false;
        };
        let types = stack.types.read();
        let mut left = false;
        let waiting = self.items.iter_mut();
        for (handle, listener) in waiting.filter(|(_, listener)| !listener.held.is_empty()) {
            if let Some(session) = stack.session_of(handle, listener.session, self.newest_session) {
                listener.session = session;
                stack.deliver(handle, listener, &types);
            }
            listener.hold_at_most(names);
            left |= !listener.held.is_empty();
        }
        left
    }
}

impl Stack {
    fn deliver(&self, handle: &MonitoredItemHandle, to: &mut Listener, types: &DefaultTypeTree) {
        let subscriptions = self.subscriptions.get_session_subscriptions(to.session);
        let Some(subscriptions) = subscriptions else {
            return;
        };
        let mut subscriptions = subscriptions.lock();
        let Some(subscription) = subscriptions.get_mut(handle.subscription_id) else {
            return;
        };
        let id = &handle.monitored_item_id;
        while !to.held.is_empty() {
            let Some(item) = subscription.get(id) else {
                return;
            };
            if !item.has_notifications() {
                to.queued = 0;
            }
            let room = match item.monitoring_mode() {
                MonitoringMode::Disabled => return to.held.clear(),
                // One place stays free: the stack does not look at a queue again before the next event,
                // also when its item begins to report.
                MonitoringMode::Sampling => item.queue_size().saturating_sub(1),
                MonitoringMode::Reporting => item.queue_size().max(1),
            };
            let some = room.saturating_sub(to.queued).min(to.held.len());
            if some == 0 {
                return;
            }
            for event in to.held.drain(..some) {
                subscription.notify_event(id, &*event, types);
            }
            to.queued += some;
        }
    }

    /// The session that has the item's subscription now: the one it had, or a later one.
    fn session_of(&self, handle: &MonitoredItemHandle, had: u32, newest: u32) -> Option<u32> {
        let has = |session: &u32| {
            let subscriptions = self.subscriptions.get_session_subscriptions(*session);
            subscriptions.is_some_and(|s| s.lock().contains(handle.subscription_id))
        };
        (had..newest.max(had).saturating_add(LOOK_AHEAD)).find(has)
    }
}

impl Listener {
    fn hold_at_most(&mut self, names: Names) {
        let beyond = self.held.len().saturating_sub(MOST_HELD + self.refreshed);
        if beyond == 0 {
            return;
        }
        // Two more make room for the marks, which come before what is left.
        self.held.drain(..(beyond + 2).min(self.held.len()));
        for mark in [Mark::Required, Mark::Overflow] {
            self.held.push_front(Arc::new(Happening::mark(mark, names)));
        }
    }
}
