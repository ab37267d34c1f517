//! The variables of the server: who monitors them, and how news gets to monitors.
//!
//! The stack would sample every variable every 100 ms, and holds values back in a way that loses the
//! newest of three quick ones. Here every value goes to the monitored items of its variable when it
//! comes, as often as the interval allows that its client asked for, and the newest always.

use super::items::{Item, Items};
use super::news::{Fresh, Source};
use super::origin::{Origin, Reading};
use super::pace::Pace;
use crate::live_view::News;
use crate::model::now;
use opcua::server::notify::SubscriptionDataNotifierBatch;
use opcua::server::{MonitoredItemHandle, SubscriptionCache};
use opcua::types::{AttributeId, DataValue, NodeId, StatusCode};
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// When to look again for an item that the stack has not enrolled yet.
const NOT_ENROLLED: Duration = Duration::from_millis(10);
/// How often an item is looked for.
const SEEK_AT_MOST: u32 = 500;
/// Notifications that are given to the stack at a time: meanwhile it can do nothing else with its
/// subscriptions.
const AT_A_TIME: usize = 4_096;

/// Variables of one origin, and the items that monitor them.
pub(super) struct Group {
    pub(super) origin: Origin,
    /// Node id of each variable, by index.
    pub(super) nodes: Vec<NodeId>,
    items: Mutex<Items>,
    woken: Notify,
    retired: AtomicBool,
}

impl Group {
    pub(super) fn new(origin: Origin, nodes: Vec<NodeId>) -> Self {
        let items = Items {
            of: nodes.iter().map(|_| HashMap::new()).collect(),
            ..Items::default()
        };
        Self {
            origin,
            nodes,
            items: Mutex::new(items),
            woken: Notify::new(),
            retired: AtomicBool::new(false),
        }
    }

    /// The nodes that show a tag's samples as they are.
    pub(super) fn tag_nodes(&self) -> Vec<NodeId> {
        let nodes = self.nodes.iter().enumerate();
        let of_tags = nodes.filter(|(index, _)| self.origin.tag(*index).is_some());
        of_tags.map(|(_, node)| node.clone()).collect()
    }

    /// Adds a monitored item of variable `index`.
    pub(super) fn monitor(&self, index: usize, handle: MonitoredItemHandle, item: Item) {
        let mut items = self.items.lock();
        let Some(of) = items.of.get_mut(index) else {
            return;
        };
        of.insert(handle, item);
        items.index.insert(handle, index);
        // What came since it was told its first value.
        items.look_at(handle, Instant::now());
        drop(items);
        self.woken.notify_one();
    }

    /// Has an item be told the newest value.
    pub(super) fn refresh(&self, handle: MonitoredItemHandle) {
        let mut items = self.items.lock();
        if let Some(item) = items.item(handle) {
            item.last = None;
            item.sought = 0;
            items.look_at(handle, Instant::now());
            drop(items);
            self.woken.notify_one();
        }
    }

    /// Changes how often an item is told.
    pub(super) fn set_interval(&self, handle: MonitoredItemHandle, interval: Duration) {
        if let Some(item) = self.items.lock().item(handle) {
            item.pace = Pace::new(interval);
        }
    }

    /// Removes a monitored item.
    pub(super) fn forget(&self, handle: MonitoredItemHandle) {
        let mut items = self.items.lock();
        if let Some(index) = items.index.remove(&handle)
            && let Some(of) = items.of.get_mut(index)
        {
            of.remove(&handle);
        }
    }

    /// Takes over from `old`, which had the same variables under other indices.
    pub(super) fn inherit(&self, old: &Self) {
        old.retired.store(true, Ordering::Release);
        old.woken.notify_one();
        let gone = std::mem::take(&mut *old.items.lock());
        for (node, items) in old.nodes.iter().zip(gone.of) {
            if let Some(index) = self.nodes.iter().position(|n| n == node) {
                for (handle, item) in items {
                    self.monitor(index, handle, item);
                }
            }
        }
    }

    /// Its device is there no more: tells the monitored items so, for the last time.
    pub(super) fn part(&self, subscriptions: &SubscriptionCache) {
        self.retired.store(true, Ordering::Release);
        self.woken.notify_one();
        let items = std::mem::take(&mut *self.items.lock());
        let mut notifier = subscriptions.data_notifier();
        for (handle, index) in &items.index {
            let node = self.nodes.get(*index);
            if let Some(mut batch) = node.and_then(|id| notifier.notify_for(id, AttributeId::Value))
            {
                let gone = DataValue {
                    status: Some(StatusCode::BadNodeIdUnknown),
                    ..DataValue::null()
                };
                batch.data_value_to_item(gone, handle);
            }
        }
    }

    /// Tells the monitored items what is new, as it becomes new. Ends when another group inherited,
    /// or its device is gone.
    pub(super) async fn push(self: Arc<Self>, subscriptions: Arc<SubscriptionCache>) {
        let mut source: Option<Source> = None;
        let mut from = 0;
        loop {
            if self.retired.load(Ordering::Acquire) {
                return;
            }
            if self.items.lock().index.is_empty() {
                // Nobody looks: nothing to do for any change until somebody does.
                source = None;
                self.woken.notified().await;
                continue;
            }
            let next = self.deliver_due(&subscriptions).await;
            let Some(news) = &mut source else {
                source = Some(self.origin.news());
                // What came before is in no news.
                from = self.deliver_all(&subscriptions).await;
                continue;
            };
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let mut fresh = tokio::select! {
                fresh = news.wait() => fresh,
                () = self.woken.notified() => continue,
                () = due => continue,
            };
            loop {
                match fresh {
                    Fresh::News(news) if news.serial < from => {}
                    Fresh::News(news) => self.deliver(&news, &subscriptions).await,
                    Fresh::All => {
                        self.deliver_all(&subscriptions).await;
                    }
                    Fresh::Missed => {
                        source = None;
                        break;
                    }
                    Fresh::Nothing => break,
                    Fresh::Ended => return,
                }
                fresh = news.look();
            }
        }
    }

    /// Gives the items of the samples' variables their news.
    async fn deliver(&self, news: &News, subscriptions: &SubscriptionCache) {
        self.deliver_readings(self.origin.readings(news), subscriptions)
            .await;
    }

    /// Gives all items what is newest; returns from which news on there is something else.
    async fn deliver_all(&self, subscriptions: &SubscriptionCache) -> u64 {
        if let Origin::Ledger { changed, .. } = &self.origin {
            changed.store(now(), Ordering::Relaxed);
        }
        let all: Vec<_> = (0..self.nodes.len())
            .map(|index| (index, self.origin.read(index)))
            .collect();
        let serials = all.iter().map(|(_, reading)| reading.serial);
        // The readings are of moments one after the other; what came meanwhile is told twice at worst.
        let from = serials.min().unwrap_or(0).saturating_add(1);
        self.deliver_readings(all, subscriptions).await;
        from
    }

    async fn deliver_readings(
        &self,
        readings: Vec<(usize, Reading)>,
        subscriptions: &SubscriptionCache,
    ) {
        let mut readings = readings.into_iter().peekable();
        while readings.peek().is_some() {
            self.deliver_some(&mut readings, subscriptions);
            tokio::task::yield_now().await;
        }
    }

    fn deliver_some(
        &self,
        readings: &mut impl Iterator<Item = (usize, Reading)>,
        subscriptions: &SubscriptionCache,
    ) {
        let now = Instant::now();
        let mut items = self.items.lock();
        let mut notifier = subscriptions.data_notifier();
        let mut given = 0;
        let mut waiting = Vec::new();
        while given < AT_A_TIME
            && let Some((index, reading)) = readings.next()
        {
            given += 1;
            let (Some(of), Some(node)) = (items.of.get_mut(index), self.nodes.get(index)) else {
                continue;
            };
            if of.is_empty() {
                continue;
            }
            let mut batch = notifier.notify_for(node, AttributeId::Value);
            let data = reading.clone().data_value();
            for (handle, item) in of.iter_mut() {
                if reading.serial < item.from {
                    continue;
                }
                if !item.is_news(&reading) {
                    // What waits is older.
                    item.held = None;
                    continue;
                }
                let waits = match &mut batch {
                    Some(batch) if item.enrolled => match item.pace.admits(now, reading.time) {
                        Ok(()) => {
                            item.tell(handle, &reading, &data, batch);
                            given += 1;
                            continue;
                        }
                        Err(until) => until,
                    },
                    _ => now,
                };
                if item.held.replace(reading.clone()).is_none() {
                    waiting.push((*handle, waits));
                }
            }
        }
        for (handle, at) in waiting {
            items.look_at(handle, at);
        }
    }

    /// Gives every item that is due the newest; returns when the next one is due.
    async fn deliver_due(&self, subscriptions: &SubscriptionCache) -> Option<Instant> {
        loop {
            let now = Instant::now();
            let mut given = 0;
            {
                let mut items = self.items.lock();
                let mut notifier = subscriptions.data_notifier();
                let mut again = Vec::new();
                while given < AT_A_TIME
                    && let Some(handle) = items.next_due(now)
                {
                    given += 1;
                    let Some(index) = items.index.get(&handle).copied() else {
                        continue;
                    };
                    let of = items.of.get_mut(index).and_then(|of| of.get_mut(&handle));
                    let (Some(item), Some(node)) = (of, self.nodes.get(index)) else {
                        continue;
                    };
                    let batch = notifier.notify_for(node, AttributeId::Value);
                    let has = |b: &SubscriptionDataNotifierBatch<'_>| {
                        item.enrolled || b.entries().any(|(h, _)| *h == handle)
                    };
                    let Some(mut batch) = batch.filter(has) else {
                        // The stack enrols an item only after it has asked us for the first value. A
                        // disabled one is not found either, until it is enabled.
                        item.sought += 1;
                        if item.sought < SEEK_AT_MOST {
                            again.push((handle, now + NOT_ENROLLED));
                        }
                        continue;
                    };
                    item.enrolled = true;
                    let reading = item.held.take().unwrap_or_else(|| {
                        let newest = self.origin.read(index);
                        item.from = newest.serial.saturating_add(1);
                        newest
                    });
                    if !item.is_news(&reading) {
                        continue;
                    }
                    match item.pace.admits(now, None) {
                        Ok(()) => {
                            let data = reading.clone().data_value();
                            item.tell(&handle, &reading, &data, &mut batch);
                        }
                        Err(until) => {
                            item.held = Some(reading);
                            again.push((handle, until));
                        }
                    }
                }
                for (handle, at) in again {
                    items.look_at(handle, at);
                }
            }
            if given < AT_A_TIME {
                let items = self.items.lock();
                return items.due.peek().map(|Reverse((at, ..))| *at);
            }
            tokio::task::yield_now().await;
        }
    }
}
