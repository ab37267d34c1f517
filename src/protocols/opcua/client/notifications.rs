//! What the stack calls when the server publishes.

use super::convert::sample;
use super::inbox::{Arrival, Inbox};
use super::search::Wanted;
use crate::model::now;
use opcua::client::{MonitoredItemMap, OnSubscriptionNotificationCore};
use opcua::types::{
    DataChangeNotification, ExtensionObject, NotificationMessage, StatusChangeNotification,
    StatusCode, match_extension_object_owned,
};
use std::sync::Arc;

/// Puts a subscription's data changes into the inbox. The client handle of a monitored item is its
/// column plus one, since the stack gives handle 0 a meaning of its own.
pub(super) struct Notifications {
    pub(super) inbox: Arc<Inbox>,
    pub(super) wanted: Arc<Wanted>,
}

impl Notifications {
    fn data_change(&self, change: DataChangeNotification) {
        let now = now();
        let mut lost = 0;
        let arrivals = change
            .monitored_items
            .into_iter()
            .flatten()
            .filter_map(|item| {
                let column = usize::try_from(item.client_handle).ok()?.checked_sub(1)?;
                let kind = self.wanted.tags.get(column)?.kind;
                let status = item.value.status.unwrap_or_default();
                if status == StatusCode::BadNodeIdUnknown {
                    // Some servers subscribe what does not exist, and say so only here.
                    self.wanted.report(column, status);
                }
                if status.overflow() {
                    // The server's queue was too short; it does not say by how many.
                    lost += 1;
                }
                let (time, value, quality) = sample(item.value, kind, now);
                Some(Arrival {
                    column,
                    time,
                    value,
                    quality,
                })
            });
        self.inbox.put(arrivals);
        self.inbox.lose(lost);
    }
}

impl OnSubscriptionNotificationCore for Notifications {
    fn on_subscription_notification(
        &mut self,
        notification: NotificationMessage,
        _: MonitoredItemMap<'_>,
    ) {
        for data in notification.notification_data.into_iter().flatten() {
            let data: ExtensionObject = data;
            match_extension_object_owned!(data,
                change: DataChangeNotification => self.data_change(change),
                change: StatusChangeNotification => {
                    if change.status.is_bad() {
                        self.inbox.close(format!("it ended the subscription: {}", change.status));
                    }
                },
            );
        }
    }
}
