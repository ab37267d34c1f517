//! The monitored items of clients: what each was told, and what it must be told next.

use super::origin::Reading;
use super::pace::Pace;
use opcua::server::MonitoredItemHandle;
use opcua::server::notify::SubscriptionDataNotifierBatch;
use opcua::types::DataValue;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;
use tokio::time::Instant;

/// A monitored item of a client.
pub(super) struct Item {
    pub(super) pace: Pace,
    /// Its client set no filter: it wants to hear of changes of value and status only. The stack then
    /// compares values only.
    unfiltered: bool,
    /// The stack holds back what is older by its source time than what came before.
    by_source_time: bool,
    /// The stack is known to have it.
    pub(super) enrolled: bool,
    /// What it was told last; `None` when it must be told whatever is newest.
    pub(super) last: Option<Reading>,
    /// The newest, when it had to wait.
    pub(super) held: Option<Reading>,
    /// News before this one are older than what it was told.
    pub(super) from: u64,
    /// How often it was looked for among the stack's.
    pub(super) sought: u32,
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

    /// Whether its client has not been told that yet.
    pub(super) fn is_news(&self, reading: &Reading) -> bool {
        let Some(last) = &self.last else {
            return true;
        };
        match self.unfiltered {
            true => reading.quality != last.quality || !reading.same_value(last),
            false => !reading.same(last),
        }
    }

    /// Gives the stack `reading`, as `data`.
    pub(super) fn tell(
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
pub(super) struct Items {
    /// Of each variable, by index.
    pub(super) of: Vec<HashMap<MonitoredItemHandle, Item>>,
    pub(super) index: HashMap<MonitoredItemHandle, usize>,
    /// Who has to be looked at, and when. There may be some here who need not be.
    pub(super) due: BinaryHeap<Reverse<(Instant, u32, u32)>>,
}

impl Items {
    /// Has an item be looked at then.
    pub(super) fn look_at(&mut self, handle: MonitoredItemHandle, at: Instant) {
        let MonitoredItemHandle {
            subscription_id,
            monitored_item_id,
        } = handle;
        self.due
            .push(Reverse((at, subscription_id, monitored_item_id)));
    }

    /// One of them.
    pub(super) fn item(&mut self, handle: MonitoredItemHandle) -> Option<&mut Item> {
        let index = *self.index.get(&handle)?;
        self.of.get_mut(index)?.get_mut(&handle)
    }

    /// The next item that is due by `now`.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<MonitoredItemHandle> {
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
