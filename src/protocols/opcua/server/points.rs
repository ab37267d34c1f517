//! The variables of the server: what they read, who monitors them, and how news gets to monitors.
//!
//! The stack would sample every variable every 100 ms, and holds values back in a way that loses the
//! newest of three quick ones. Here a value goes to a monitored item when it changes, at most once
//! in the interval that its client asked for, and always the newest.

use crate::live_view::DeviceLive;
use crate::model::{Nanos, Quality, Value, now};
use crate::protocols::ports::LedgerPort;
use opcua::server::{MonitoredItemHandle, SubscriptionCache};
use opcua::types::{AttributeId, ByteString, DataValue, DateTime, NodeId, StatusCode, Variant};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// `Bad_WaitingForInitialData`.
const WAITING: Quality = Quality(0x8032_0000);
/// Changes within this time go out together.
const TOGETHER: Duration = Duration::from_millis(10);
/// When to look again for an item that the stack has not enrolled yet.
const NOT_ENROLLED: Duration = Duration::from_millis(50);

/// 1970-01-01 in the ticks of OPC UA: 100 ns since 1601-01-01.
pub(super) const UNIX_EPOCH_TICKS: i64 = 116_444_736_000_000_000;

/// The variables of the ledger, in the order of their index.
pub(super) const LEDGER_FIELDS: [&str; 3] = ["Height", "LastBlockHash", "Records"];

/// Where the values of a group of variables come from.
pub(super) enum Origin {
    Device(Arc<DeviceLive>),
    Ledger {
        port: Arc<dyn LedgerPort>,
        changed: AtomicI64,
    },
}

/// What a variable says at a moment.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    value: Option<Value>,
    time: Option<Nanos>,
    quality: Quality,
}

impl Origin {
    fn changes(&self) -> watch::Receiver<u64> {
        match self {
            Self::Device(live) => live.changes(),
            Self::Ledger { port, .. } => port.changes(),
        }
    }

    pub(super) fn read(&self, index: usize) -> Reading {
        match self {
            Self::Device(live) => match live.sample(index) {
                Some(sample) => Reading {
                    // A Bad sample's value means nothing, so none is given.
                    value: (!sample.quality.is_bad()).then_some(sample.value),
                    time: Some(sample.time),
                    quality: sample.quality,
                },
                None => Reading {
                    value: None,
                    time: None,
                    quality: WAITING,
                },
            },
            Self::Ledger { port, changed } => Reading {
                value: Some(match index {
                    0 => Value::U64(port.height()),
                    1 => Value::Text(port.last_block_hash().to_string()),
                    _ => Value::U64(port.records()),
                }),
                time: Some(changed.load(Ordering::Relaxed)),
                quality: Quality::GOOD,
            },
        }
    }
}

impl Reading {
    pub(super) fn data_value(self) -> DataValue {
        DataValue {
            value: self.value.map(variant),
            status: Some(StatusCode::from(self.quality.0)),
            source_timestamp: self.time.map(|time| DateTime::from(ticks(time))),
            source_picoseconds: None,
            server_timestamp: Some(DateTime::now()),
            server_picoseconds: None,
        }
    }

    /// Whether nothing is new. The time decides too: a stuck sensor has new samples of one value.
    fn same(&self, other: &Self) -> bool {
        self.time == other.time && self.quality == other.quality && self.same_value(other)
    }

    fn same_value(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (Some(Value::F64(a)), Some(Value::F64(b))) => a.to_bits() == b.to_bits(),
            (a, b) => a == b,
        }
    }
}

pub(super) fn variant(value: Value) -> Variant {
    match value {
        Value::Bool(v) => Variant::Boolean(v),
        Value::I64(v) => Variant::Int64(v),
        Value::U64(v) => Variant::UInt64(v),
        Value::F64(v) => Variant::Double(v),
        Value::Text(v) => Variant::String(v.into()),
        Value::Bytes(v) => Variant::ByteString(ByteString::from(v)),
    }
}

pub(super) fn ticks(time: Nanos) -> i64 {
    UNIX_EPOCH_TICKS + time.div_euclid(100)
}

/// A monitored item of a client.
pub(super) struct Item {
    index: usize,
    interval: Duration,
    /// Its client set no filter. The stack then compares values only, not statuses.
    unfiltered: bool,
    /// The stack is known to have it.
    enrolled: bool,
    last: Reading,
    due: Instant,
}

impl Item {
    pub(super) fn new(index: usize, interval: Duration, unfiltered: bool, told: Reading) -> Self {
        Self {
            index,
            interval,
            unfiltered,
            enrolled: false,
            last: told,
            due: Instant::now(),
        }
    }
}

/// Variables of one origin, and the items that monitor them.
pub(super) struct Group {
    pub(super) origin: Origin,
    /// Node id of each variable, by index.
    pub(super) nodes: Vec<NodeId>,
    items: Mutex<HashMap<MonitoredItemHandle, Item>>,
    woken: Notify,
    retired: AtomicBool,
}

impl Group {
    pub(super) fn new(origin: Origin, nodes: Vec<NodeId>) -> Self {
        Self {
            origin,
            nodes,
            items: Mutex::default(),
            woken: Notify::new(),
            retired: AtomicBool::new(false),
        }
    }

    /// Adds a monitored item, or replaces it.
    pub(super) fn monitor(&self, handle: MonitoredItemHandle, item: Item) {
        self.items.lock().insert(handle, item);
        self.woken.notify_one();
    }

    /// Changes how often an item is told.
    pub(super) fn set_interval(&self, handle: MonitoredItemHandle, interval: Duration) {
        if let Some(item) = self.items.lock().get_mut(&handle) {
            item.interval = interval;
        }
    }

    /// Removes a monitored item; whether it was there.
    pub(super) fn forget(&self, handle: MonitoredItemHandle) -> bool {
        self.items.lock().remove(&handle).is_some()
    }

    /// Takes over from `old`, which had the same variables under other indices; returns how many
    /// items have no variable any more.
    pub(super) fn inherit(&self, old: &Self) -> usize {
        old.retired.store(true, Ordering::Release);
        old.woken.notify_one();
        let mut lost = 0;
        for (handle, mut item) in old.items.lock().drain() {
            let node = old.nodes.get(item.index);
            match self.nodes.iter().position(|n| Some(n) == node) {
                Some(index) => {
                    item.index = index;
                    self.monitor(handle, item);
                }
                None => lost += 1,
            }
        }
        lost
    }

    /// Its device is there no more: tells the monitored items so, for the last time; returns how many
    /// they were.
    pub(super) fn part(&self, subscriptions: &SubscriptionCache) -> usize {
        self.retired.store(true, Ordering::Release);
        self.woken.notify_one();
        let items = std::mem::take(&mut *self.items.lock());
        let mut notifier = subscriptions.data_notifier();
        for (handle, item) in &items {
            let node = self.nodes.get(item.index);
            if let Some(mut batch) = node.and_then(|id| notifier.notify_for(id, AttributeId::Value))
            {
                let gone = DataValue {
                    status: Some(StatusCode::BadNodeIdUnknown),
                    ..DataValue::null()
                };
                batch.data_value_to_item(gone, handle);
            }
        }
        items.len()
    }

    /// Tells the monitored items what is new, as it becomes new. Ends when another group inherited,
    /// or its device is gone.
    pub(super) async fn push(self: Arc<Self>, subscriptions: Arc<SubscriptionCache>) {
        let mut changes = self.origin.changes();
        loop {
            if self.items.lock().is_empty() {
                // Nobody looks: nothing to do for any change until somebody does.
                self.woken.notified().await;
            }
            if self.retired.load(Ordering::Acquire) {
                return;
            }
            if changes.has_changed().unwrap_or(false) {
                changes.mark_unchanged();
                if let Origin::Ledger { changed, .. } = &self.origin {
                    changed.store(now(), Ordering::Relaxed);
                }
            }
            let next = self.deliver(&subscriptions);
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = changes.changed() => match changed {
                    Ok(()) => changes.mark_changed(),
                    Err(_) => return,
                },
                () = self.woken.notified() => {}
                () = due => {}
            }
            tokio::time::sleep(TOGETHER).await;
        }
    }

    /// Gives every item that is due its news; returns when the next one is due.
    fn deliver(&self, subscriptions: &SubscriptionCache) -> Option<Instant> {
        let now = Instant::now();
        let mut next: Option<Instant> = None;
        let mut later = |at: Instant| next = Some(next.map_or(at, |n| n.min(at)));
        let mut items = self.items.lock();
        let mut notifier = subscriptions.data_notifier();
        for (handle, item) in items.iter_mut() {
            let reading = self.origin.read(item.index);
            if reading.same(&item.last) {
                continue;
            }
            if item.due > now {
                later(item.due);
                continue;
            }
            let node = self.nodes.get(item.index);
            let batch = node.and_then(|id| notifier.notify_for(id, AttributeId::Value));
            let batch = batch.filter(|b| item.enrolled || b.entries().any(|(h, _)| h == handle));
            let Some(mut batch) = batch else {
                // The stack enrols an item only after it has asked us for the first value.
                item.due = now + NOT_ENROLLED;
                later(item.due);
                continue;
            };
            item.enrolled = true;
            if item.unfiltered
                && reading.quality != item.last.quality
                && reading.value.is_some()
                && reading.same_value(&item.last)
            {
                // The stack would drop what differs in its status alone. A null in between makes
                // it notice; without a timestamp it is not held back.
                let between = DataValue {
                    value: None,
                    status: Some(StatusCode::from(reading.quality.0)),
                    ..DataValue::null()
                };
                batch.data_value_to_item(between, handle);
            }
            batch.data_value_to_item(reading.clone().data_value(), handle);
            item.last = reading;
            item.due = now + item.interval;
        }
        next
    }
}
