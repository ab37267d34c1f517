//! Asks the server for its notifications, puts them in order, and asks again for those that were
//! lost on the way (OPC 10000-4, 5.14.5 and 5.14.6).

use super::convert::sample;
use super::inbox::Arrival;
use super::line::Line;
use super::part::Part;
use super::session::silence;
use super::subscription::Subscription;
use crate::model::now;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use opcua::client::UARequest;
use opcua::client::services::{Publish, Republish};
use opcua::types::{
    DataChangeNotification, Error, NotificationMessage, PublishResponse, StatusChangeNotification,
    StatusCode, SubscriptionAcknowledgement, match_extension_object_owned,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Requests that wait at the server beyond one a subscription, so that it can always answer.
const SPARE: usize = 2;
/// A request is asked anew after this time; silence is noticed much earlier.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Failures in a row after which the session is given up.
const FAILURES: usize = 5;
/// Lost messages that are asked for again; where more are lost, only the history can help.
const REPUBLISH: u32 = 200;
/// Number of a subscription's first message.
const FIRST: u32 = 1;

/// Why there will be no more notifications.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The subscription is no more; the session may be.
    Dropped(String),
    /// The session is of no use.
    Broken(String),
}

/// The requests that wait at the server. They are the session's, not a subscription's: whatever ends a
/// subscription, the server keeps them and answers the oldest first, so whoever forgot them would miss
/// the first messages of the next one.
#[derive(Default)]
pub(super) struct Waiting {
    requests: FuturesUnordered<BoxFuture<'static, (u64, Result<PublishResponse, Error>)>>,
    /// How many times all was subscribed anew.
    round: u64,
}

impl Waiting {
    /// From now on for another subscription.
    pub(super) fn next_round(mut self) -> Self {
        self.round += 1;
        self
    }

    fn ask(&mut self, line: &Arc<Line>, acknowledge: Vec<SubscriptionAcknowledgement>) {
        let request = Publish::new(&line.session)
            .acks(acknowledge)
            .timeout(REQUEST_TIMEOUT);
        let (line, round) = (line.clone(), self.round);
        let answer = async move { (round, request.send(line.session.channel()).await) };
        self.requests.push(answer.boxed());
    }
}

/// Publishes until it ends. The server answers each request for one subscription, the one whose turn it
/// is; one that is not heard ends them all, so that they begin anew together.
pub(super) async fn publish(
    line: Arc<Line>,
    subscription: Arc<Subscription>,
    mut waiting: Waiting,
) -> (End, Waiting) {
    let end = publish_until(line, subscription, &mut waiting).await;
    (end, waiting)
}

async fn publish_until(
    line: Arc<Line>,
    subscription: Arc<Subscription>,
    waiting: &mut Waiting,
) -> End {
    let mut most = usize::MAX;
    let mut failures = 0;
    let mut silent = Silence::default();
    let mut stream = Messages {
        line: line.clone(),
        subscription,
        acknowledge: Vec::new(),
    };
    loop {
        let parts = stream.subscription.parts();
        while waiting.requests.len() < most.min(parts.len() + SPARE) {
            waiting.ask(&line, std::mem::take(&mut stream.acknowledge));
        }
        let margin = (silence(&line.config) / 2).max(MARGIN);
        let left = silent.left(&parts, margin);
        let began = Instant::now();
        let answer = timeout(left, waiting.requests.next()).await;
        silent.waited(began.elapsed());
        let (round, answer) = match answer {
            Ok(Some(answer)) => answer,
            Ok(None) => continue,
            Err(_) => return End::Dropped("it said nothing of a subscription for too long".into()),
        };
        let status = match answer {
            Ok(response) => {
                failures = 0;
                silent.heard(response.subscription_id);
                if let Some(reason) = stream.take(response).await {
                    return End::Dropped(reason);
                }
                continue;
            }
            Err(error) => error.status(),
        };
        match status {
            StatusCode::BadTooManyPublishRequests => most = waiting.requests.len().max(1),
            // Said of the subscription that was given up.
            StatusCode::BadNoSubscription if round < waiting.round => {}
            StatusCode::BadNoSubscription | StatusCode::BadSubscriptionIdInvalid => {
                return End::Dropped(format!("it has no such subscription any more ({status})"));
            }
            _ => {
                failures += 1;
                if failures >= FAILURES {
                    return End::Broken(format!("it gives no notifications ({status})"));
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Time that a sign of life may be late.
const MARGIN: Duration = Duration::from_millis(1_000);

/// For how long nothing came of each subscription, while something could be heard: the time that we
/// take ourselves over what came is no silence.
#[derive(Default)]
struct Silence(HashMap<u32, Duration>);

impl Silence {
    /// How long may be waited until one of `parts` has been silent for too long.
    fn left(&mut self, parts: &[Arc<Part>], margin: Duration) -> Duration {
        self.0
            .retain(|id, _| parts.iter().any(|part| part.id == *id));
        let left = parts.iter().map(|part| {
            let waited = *self.0.entry(part.id).or_default();
            (part.keep_alive + margin).saturating_sub(waited)
        });
        left.min().unwrap_or(margin)
    }

    fn waited(&mut self, time: Duration) {
        for waited in self.0.values_mut() {
            *waited += time;
        }
    }

    fn heard(&mut self, id: u32) {
        self.0.insert(id, Duration::ZERO);
    }
}

struct Messages {
    line: Arc<Line>,
    subscription: Arc<Subscription>,
    acknowledge: Vec<SubscriptionAcknowledgement>,
}

impl Messages {
    /// Takes a message, after those before it; the reason when the subscription has ended.
    async fn take(&mut self, response: PublishResponse) -> Option<String> {
        // One that is not there was given up.
        let part = self.subscription.part(response.subscription_id)?;
        let message = response.notification_message;
        if self.is_foreign(&message) {
            return Some("it sends values that this subscription does not have".into());
        }
        let sequence = message.sequence_number;
        let has_data = message
            .notification_data
            .as_ref()
            .is_some_and(|d| !d.is_empty());
        let expected = *part.expected.lock();
        // The first has number 1 (OPC 10000-4, 5.14.1.1); of a server that counts otherwise, it is the
        // first that came.
        let begins = || {
            if sequence <= REPUBLISH {
                FIRST
            } else {
                sequence
            }
        };
        let expected = expected.unwrap_or_else(begins);
        match sequence.wrapping_sub(expected) {
            0 => {}
            missed if missed < 1 << 31 => {
                self.republish(&part, (expected, missed), has_data).await;
            }
            // It came already.
            _ => return None,
        }
        // A sign of life has the number of the message that comes next.
        let next = if has_data {
            following(sequence)
        } else {
            sequence
        };
        *part.expected.lock() = Some(next);
        if has_data {
            self.acknowledge(&part, sequence);
        }
        self.deliver(message)
    }

    /// Whether there are values in it that were not asked for.
    fn is_foreign(&self, message: &NotificationMessage) -> bool {
        let all = message.notification_data.iter().flatten();
        let changes = all.filter_map(|data| data.inner_as::<DataChangeNotification>());
        let mut items = changes.flat_map(|change| change.monitored_items.iter().flatten());
        let handles = self.subscription.handles;
        items.any(|item| handles.column(item.client_handle).is_none())
    }

    async fn republish(&mut self, part: &Part, (from, missed): (u32, u32), certain: bool) {
        let mut sequence = from;
        let mut lost = missed > REPUBLISH;
        for _ in 0..missed.min(REPUBLISH) {
            let again = Republish::new(part.id, sequence, &self.line.session);
            match again.send(self.line.session.channel()).await {
                Ok(response) => {
                    self.acknowledge(part, sequence);
                    self.deliver(response.notification_message);
                }
                Err(_) => lost = true,
            }
            sequence = following(sequence);
        }
        tracing::info!(
            device = %self.line.wanted.device,
            messages = missed,
            lost,
            "messages were lost on the way and asked for again"
        );
        // Some servers count signs of life as messages, so only a message with data is proof.
        if lost && certain {
            self.line.hold();
            self.subscription.note_gap();
        }
    }

    fn acknowledge(&mut self, part: &Part, sequence_number: u32) {
        self.acknowledge.push(SubscriptionAcknowledgement {
            subscription_id: part.id,
            sequence_number,
        });
    }

    fn deliver(&self, message: NotificationMessage) -> Option<String> {
        let mut ended = None;
        for data in message.notification_data.into_iter().flatten() {
            match_extension_object_owned!(data,
                change: DataChangeNotification => self.data_change(change),
                change: StatusChangeNotification => {
                    ended = Some(format!("it ended the subscription ({})", change.status));
                },
            );
        }
        ended
    }

    fn data_change(&self, change: DataChangeNotification) {
        let now = now();
        let mut lost = 0;
        let wanted = &self.line.wanted;
        let arrivals = change.monitored_items.into_iter().flatten();
        let arrivals = arrivals.filter_map(|item| {
            let column = self.subscription.handles.column(item.client_handle)?;
            let kind = wanted.tags.get(column)?.kind;
            let status = item.value.status.unwrap_or_default();
            if is_gone(status) {
                wanted.report(column, status);
                self.subscription.lose(column);
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
        self.line.inbox.put(arrivals);
        self.line.inbox.lose(lost);
    }
}

/// Statuses that say that there is no such node: servers differ in how they say it.
pub(super) const GONE: [StatusCode; 3] = [
    StatusCode::BadNodeIdUnknown,
    StatusCode::BadNodeIdInvalid,
    StatusCode::BadObjectDeleted,
];

/// Whether a status says that there is no such node, whatever bits that tell of the sample (OPC 10000-4,
/// 7.39), such as an overflow of its queue, a server adds.
pub(super) fn is_gone(status: StatusCode) -> bool {
    GONE.contains(&StatusCode::from(status.bits() & CODE))
}

/// The bits of a status that are its code; the others tell of the sample.
const CODE: u32 = 0xffff_0000;

/// The sequence number after this one: 0 is left out (OPC 10000-4, 7.7).
fn following(sequence: u32) -> u32 {
    sequence.checked_add(1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_gone_whatever_else_the_status_tells() {
        for status in [
            StatusCode::BadNodeIdUnknown,
            StatusCode::BadNodeIdUnknown.set_overflow(true),
            StatusCode::BadObjectDeleted,
        ] {
            assert!(is_gone(status), "{status}");
        }
        for status in [StatusCode::Good, StatusCode::BadNoCommunication] {
            assert!(!is_gone(status.set_overflow(true)), "{status}");
        }
    }
}
