//! The variables of the server: what they read, who monitors them, and how news gets to monitors.
//!
//! The stack would sample every variable every 100 ms, and holds values back in a way that loses the
//! newest of three quick ones. Here every value goes to the monitored items of its variable when it
//! comes, as often as the interval allows that its client asked for, and the newest always.

use super::companion::point::{Point, Shape};
use super::pace::Pace;
use crate::live_view::{DeviceLive, LiveSample, News};
use crate::model::{Nanos, Quality, Value, now};
use crate::protocols::ports::LedgerPort;
use opcua::server::notify::SubscriptionDataNotifierBatch;
use opcua::server::{MonitoredItemHandle, SubscriptionCache};
use opcua::types::{AttributeId, ByteString, DataValue, DateTime, NodeId, StatusCode, Variant};
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::Instant;

/// `Bad_WaitingForInitialData`.
const WAITING: Quality = Quality(0x8032_0000);
/// When to look again for an item that the stack has not enrolled yet.
const NOT_ENROLLED: Duration = Duration::from_millis(10);
/// How often an item is looked for.
const SEEK_AT_MOST: u32 = 500;
/// Notifications that are given to the stack at a time: meanwhile it can do nothing else with its
/// subscriptions.
const AT_A_TIME: usize = 4_096;

/// 1970-01-01 in the ticks of OPC UA: 100 ns since 1601-01-01.
pub(super) const UNIX_EPOCH_TICKS: i64 = 116_444_736_000_000_000;

/// The variables of the ledger, in the order of their index.
pub(super) const LEDGER_FIELDS: [&str; 3] = ["Height", "LastBlockHash", "Records"];

/// Where the values of a group of variables come from.
pub(super) enum Origin {
    Device(Arc<DeviceLive>),
    /// The same samples under the companion specifications' names.
    Machine(Arc<DeviceLive>, Vec<Point>),
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
    shape: Shape,
    /// Of the newest news that it stands for.
    serial: u64,
}

impl Origin {
    fn news(&self) -> Source {
        match self {
            Self::Device(live) | Self::Machine(live, _) => Source::Device(live.news()),
            Self::Ledger { port, .. } => Source::Ledger(port.changes()),
        }
    }

    /// What a variable is of, in the words of access; `None` when it is the hub's.
    pub(super) fn thing(&self, index: usize) -> Option<String> {
        let (live, tag) = match self {
            Self::Device(live) => (live, Some(index)),
            Self::Machine(live, points) => (live, points.get(index).and_then(|p| p.tag())),
            Self::Ledger { .. } => return None,
        };
        Some(match tag.and_then(|tag| live.tags.get(tag)) {
            Some(tag) => format!("device:{}/{}", live.id, tag.name),
            None => format!("device:{}", live.id),
        })
    }

    pub(super) fn read(&self, index: usize) -> Reading {
        match self {
            Self::Device(live) => match live.newest(index) {
                (serial, Some(sample)) => Reading::of(&sample, serial),
                (serial, None) => Reading {
                    serial,
                    ..Reading::waiting()
                },
            },
            Self::Machine(live, points) => {
                let point = points.get(index).copied().unwrap_or(Point::Missing);
                // Asked for first: what comes meanwhile is told twice at worst.
                let (serial, _) = live.newest(0);
                let (value, time, quality, shape) = point.read(live);
                Reading {
                    value,
                    time,
                    quality,
                    shape,
                    serial,
                }
            }
            Self::Ledger { port, changed } => Reading {
                value: Some(match index {
                    0 => Value::U64(port.height()),
                    1 => Value::Text(port.last_block_hash().to_string()),
                    _ => Value::U64(port.records()),
                }),
                time: Some(changed.load(Ordering::Relaxed)),
                quality: Quality::GOOD,
                shape: Shape::Plain,
                // There are no older news on the way.
                serial: u64::MAX,
            },
        }
    }

    /// What news say of the variables.
    fn readings(&self, news: &News) -> Vec<(usize, Reading)> {
        let samples = news.samples.iter();
        let Self::Machine(_, points) = self else {
            let of = |(i, sample): &(usize, LiveSample)| (*i, Reading::of(sample, news.serial));
            return samples.map(of).collect();
        };
        let mut readings = Vec::new();
        for (tag, sample) in samples {
            for (index, point) in points.iter().enumerate() {
                if let Point::Tag(of, shape) = point
                    && of == tag
                {
                    let reading = Reading::of(sample, news.serial);
                    readings.push((
                        index,
                        Reading {
                            shape: *shape,
                            ..reading
                        },
                    ));
                }
            }
        }
        let states = points.iter().enumerate();
        let states = states.filter(|(_, point)| matches!(point, Point::State(..)));
        readings.extend(states.map(|(index, _)| (index, self.read(index))));
        readings
    }

    /// The device and the tag whose samples variable `index` shows as they are.
    pub(super) fn tag(&self, index: usize) -> Option<(&Arc<DeviceLive>, usize)> {
        match self {
            Self::Device(live) => Some((live, index)),
            Self::Machine(live, points) => Some((live, points.get(index)?.tag()?)),
            Self::Ledger { .. } => None,
        }
    }
}

impl Reading {
    /// Of a variable that has no sample yet.
    pub(super) fn waiting() -> Self {
        Self {
            value: None,
            time: None,
            quality: WAITING,
            shape: Shape::Plain,
            serial: 0,
        }
    }

    fn of(sample: &LiveSample, serial: u64) -> Self {
        Self {
            // A Bad sample's value means nothing, so none is given.
            value: (!sample.quality.is_bad()).then(|| sample.value.clone()),
            time: Some(sample.time),
            quality: sample.quality,
            shape: Shape::Plain,
            serial,
        }
    }

    pub(super) fn data_value(self) -> DataValue {
        self.data_value_at(DateTime::now())
    }

    /// As it is said to be at `now`.
    pub(super) fn data_value_at(self, now: DateTime) -> DataValue {
        DataValue {
            value: self.value.and_then(|value| self.shape.variant(value)),
            status: Some(StatusCode::from(self.quality.0)),
            source_timestamp: self.time.map(date_time),
            source_picoseconds: None,
            server_timestamp: Some(now),
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

/// A time as OPC UA says it, in whole ticks of 100 ns.
pub(super) fn date_time(time: Nanos) -> DateTime {
    // The stack's own way from ticks counts from 1601, which takes ten times as long.
    DateTime::from(chrono::DateTime::from_timestamp_nanos(time))
}

/// Where news come from.
enum Source {
    Device(broadcast::Receiver<News>),
    Ledger(watch::Receiver<u64>),
}

/// What is new.
enum Fresh {
    News(News),
    /// Perhaps everything.
    All,
    /// More than could be kept.
    Missed,
    /// Nothing yet.
    Nothing,
    /// Nothing any more.
    Ended,
}

impl Source {
    async fn wait(&mut self) -> Fresh {
        match self {
            Self::Device(news) => match news.recv().await {
                Ok(news) => Fresh::News(news),
                Err(RecvError::Lagged(_)) => Fresh::Missed,
                Err(RecvError::Closed) => Fresh::Ended,
            },
            Self::Ledger(changes) => match changes.changed().await {
                Ok(()) => Fresh::All,
                Err(_) => Fresh::Ended,
            },
        }
    }

    fn look(&mut self) -> Fresh {
        match self {
            Self::Device(news) => match news.try_recv() {
                Ok(news) => Fresh::News(news),
                Err(TryRecvError::Lagged(_)) => Fresh::Missed,
                Err(TryRecvError::Empty) => Fresh::Nothing,
                Err(TryRecvError::Closed) => Fresh::Ended,
            },
            Self::Ledger(_) => Fresh::Nothing,
        }
    }
}

/// A monitored item of a client.
pub(super) struct Item {
    pace: Pace,
    /// Its client set no filter: it wants to hear of changes of value and status only. The stack then
    /// compares values only.
    unfiltered: bool,
    /// The stack holds back what is older by its source time than what came before.
    by_source_time: bool,
    /// The stack is known to have it.
    enrolled: bool,
    /// What it was told last; `None` when it must be told whatever is newest.
    last: Option<Reading>,
    /// The newest, when it had to wait.
    held: Option<Reading>,
    /// News before this one are older than what it was told.
    from: u64,
    /// How often it was looked for among the stack's.
    sought: u32,
}

impl Item {
    pub(super) fn new(
        interval: Duration,
        unfiltered: bool,
        by_source_time: bool,
        told: Reading,
    ) -> Self {
        Self {
            pace: Pace::new(interval),
            unfiltered,
            by_source_time,
            enrolled: false,
            from: told.serial.saturating_add(1),
            last: Some(told),
            held: None,
            sought: 0,
        }
    }

    fn is_news(&self, reading: &Reading) -> bool {
        let Some(last) = &self.last else {
            return true;
        };
        match self.unfiltered {
            true => reading.quality != last.quality || !reading.same_value(last),
            false => !reading.same(last),
        }
    }

    /// Gives the stack `reading`, as `data`.
    fn tell(
        &mut self,
        handle: &MonitoredItemHandle,
        reading: &Reading,
        data: &DataValue,
        batch: &mut SubscriptionDataNotifierBatch<'_>,
    ) {
        let differs_in_status_alone = |last: &Reading| {
            reading.quality != last.quality && reading.value.is_some() && reading.same_value(last)
        };
        let is_older = |last: &Reading| reading.time < last.time;
        let last = self.last.as_ref();
        if self.unfiltered && last.is_some_and(differs_in_status_alone)
            || self.by_source_time && last.is_some_and(is_older)
        {
            // The stack would drop what differs in its status alone, and hold back what is older. A
            // null in between makes it notice; without a timestamp it is not held back.
            let between = DataValue {
                value: None,
                status: data.status,
                ..DataValue::null()
            };
            batch.data_value_to_item(between, handle);
        }
        batch.data_value_to_item(data.clone(), handle);
        self.last = Some(reading.clone());
        self.held = None;
    }
}

/// The monitored items of a group.
#[derive(Default)]
struct Items {
    /// Of each variable, by index.
    of: Vec<HashMap<MonitoredItemHandle, Item>>,
    index: HashMap<MonitoredItemHandle, usize>,
    /// Who has to be looked at, and when. There may be some here who need not be.
    due: BinaryHeap<Reverse<(Instant, u32, u32)>>,
}

impl Items {
    fn look_at(&mut self, handle: MonitoredItemHandle, at: Instant) {
        let MonitoredItemHandle {
            subscription_id,
            monitored_item_id,
        } = handle;
        self.due
            .push(Reverse((at, subscription_id, monitored_item_id)));
    }

    fn item(&mut self, handle: MonitoredItemHandle) -> Option<&mut Item> {
        let index = *self.index.get(&handle)?;
        self.of.get_mut(index)?.get_mut(&handle)
    }

    /// The next item that is due by `now`.
    fn next_due(&mut self, now: Instant) -> Option<MonitoredItemHandle> {
        let Reverse((at, subscription_id, monitored_item_id)) = *self.due.peek()?;
        if at > now {
            return None;
        }
        self.due.pop();
        Some(MonitoredItemHandle {
            subscription_id,
            monitored_item_id,
        })
    }
}

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
