//! Keeps a device's subscription alive as long as its session is: recreates it when the server
//! dropped it, looks for variables that are not there, and fills gaps.

use super::fill::fill;
use super::line::Line;
use super::publish::{End, Waiting, is_gone, publish};
use super::subscription::Subscription;
use crate::model::{Nanos, Quality, now};
use opcua::types::{AttributeId, Error};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

/// How often a variable that was missing is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How often quiet variables are looked at: some servers delete a node and say nothing. Who said
/// nothing from one look to the next is quiet, so a node that vanished is found after two of them at
/// most. That costs one Read for three that ask anyway whether the server is there.
const PATROL: Duration = Duration::from_millis(1_500);
/// Where the quiet ones do not fit into one Read, one is sent in so many looks only.
const SELDOM: u32 = 6;
/// Shortest time from one subscription to the next.
const BETWEEN: Duration = Duration::from_secs(1);

/// The newest subscription, for who comes after the connection.
pub(super) type Slot = Arc<Mutex<Option<Arc<Subscription>>>>;

/// Subscribes everything anew.
pub(super) async fn begin(line: &Line) -> Result<Arc<Subscription>, Error> {
    let subscription = Subscription::create(line).await?;
    let all: Vec<_> = (0..line.wanted.points.len()).collect();
    let missing = subscription.subscribe(line, &all).await?;
    line.inbox.put_missing(missing, now());
    Ok(subscription)
}

/// Keeps `subscription` until the connection ends. With `after_outage` its gap is filled first; the
/// tags are held back already.
pub(super) async fn keep(
    line: Arc<Line>,
    mut subscription: Arc<Subscription>,
    slot: Slot,
    after_outage: bool,
) {
    let start = |subscription: &Arc<Subscription>, waiting| {
        let publish = publish(line.clone(), subscription.clone(), waiting);
        AbortOnDropHandle::new(tokio::spawn(publish))
    };
    let fill_now = || Some(AbortOnDropHandle::new(tokio::spawn(fill(line.clone()))));
    let mut began = Instant::now();
    let mut publishing = start(&subscription, Waiting::default());
    let mut filling = if after_outage { fill_now() } else { None };
    let mut learning = learn_history(&line, &subscription);
    let mut looking = interval(LOOK_AGAIN);
    let mut patrol = interval(PATROL);
    looking.set_missed_tick_behavior(MissedTickBehavior::Delay);
    patrol.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick of an interval comes at once.
    looking.reset();
    patrol.reset();
    let (mut at, mut walker) = (0, Walker::default());
    loop {
        tokio::select! {
            end = &mut publishing => {
                let (reason, waiting) = match end {
                    Ok((End::Dropped(reason), waiting)) => (reason, waiting),
                    Ok((End::Broken(reason), _)) => return line.inbox.close(reason),
                    Err(_) => return line.inbox.close("the client stopped".into()),
                };
                tracing::warn!(device = %line.wanted.device, reason, "subscribing again");
                tokio::time::sleep_until(began + BETWEEN).await;
                began = Instant::now();
                line.hold();
                subscription.delete(&line).await;
                subscription = match begin(&line).await {
                    Ok(subscription) => subscription,
                    Err(error) => return line.inbox.close(format!("{reason}, and gives no other ({error})")),
                };
                *slot.lock() = Some(subscription.clone());
                publishing = start(&subscription, waiting.next_round());
                filling = fill_now();
                learning = learn_history(&line, &subscription);
            }
            () = subscription.news.notified() => {
                let gone = std::mem::take(&mut *subscription.gone.lock());
                if !gone.is_empty() {
                    subscription.forget(&line, &gone).await;
                }
                if subscription.gap.swap(false, Ordering::SeqCst) {
                    filling = fill_now();
                }
            }
            _ = looking.tick() => look(&line, &subscription, &mut at).await,
            _ = patrol.tick() => walker.walk(&line, &subscription).await,
            // Neither ends before its work is done; then there is nothing to wait for.
            _ = wait(&mut filling) => filling = None,
            _ = wait(&mut learning) => learning = None,
        }
    }
}

type Task = Option<AbortOnDropHandle<()>>;

async fn wait(task: &mut Task) {
    match task {
        Some(task) => drop(task.await),
        None => std::future::pending().await,
    }
}

/// Which variables have a history is asked once, beside everything else.
fn learn_history(line: &Arc<Line>, subscription: &Arc<Subscription>) -> Task {
    if !line.config.fill_gaps || line.wanted.with_history.lock().is_some() {
        return None;
    }
    let (line, columns) = (line.clone(), subscription.present());
    let learn = async move {
        if let Err(error) = line.find_history(columns).await {
            tracing::debug!(device = %line.wanted.device, "histories are not known ({error})");
        }
    };
    Some(AbortOnDropHandle::new(tokio::spawn(learn)))
}

/// Looks for some of the missing variables, round and round.
async fn look(line: &Line, subscription: &Subscription, at: &mut usize) {
    let missing = subscription.missing();
    if missing.is_empty() {
        return;
    }
    let some = turn(&missing, line.limits.items, at);
    let unknown = some.iter().any(|column| line.node(*column).is_none());
    if unknown && line.learn_names().await.is_err() {
        return;
    }
    // What is behind a name may have come back with another id.
    let points = some.iter().filter_map(|c| line.wanted.points.get(*c));
    if line.learn_paths(points.map(|p| &p.node)).await.is_err() {
        return;
    }
    // A failure of the connection is seen and told by its driver.
    if let Err(error) = subscription.subscribe(line, &some).await {
        tracing::debug!(device = %line.wanted.device, "looking for variables failed ({error})");
    }
}

/// At most `most` of `all`, those whose turn it is.
fn turn(all: &[usize], most: usize, at: &mut usize) -> Vec<usize> {
    let begin = *at % all.len().max(1);
    let (before, after) = all.split_at(begin);
    let some: Vec<_> = after.iter().chain(before).copied().take(most).collect();
    *at = begin + some.len();
    some
}

/// Looks at variables that have been quiet, whether they are still there.
#[derive(Default)]
struct Walker {
    /// The newest sample of each column at the last look. The machine's clock, which they have their
    /// times of, may be wrong; but a variable that speaks has another one.
    seen: Vec<Option<Nanos>>,
    at: usize,
    looks: u32,
}

impl Walker {
    async fn walk(&mut self, line: &Line, subscription: &Subscription) {
        let last = line.wanted.last.lock().clone();
        let mut quiet = subscription.present();
        quiet.retain(|column| self.seen.get(*column) == last.get(*column));
        self.seen = last;
        self.looks = self.looks.wrapping_add(1);
        if quiet.len() > line.limits.read && !self.looks.is_multiple_of(SELDOM) {
            return;
        }
        quiet.sort_unstable();
        let some = turn(&quiet, line.limits.read, &mut self.at);
        look_whether_gone(line, subscription, some).await;
    }
}

async fn look_whether_gone(line: &Line, subscription: &Subscription, some: Vec<usize>) {
    let found: Vec<_> = some
        .into_iter()
        .filter_map(|column| Some((column, line.node(column)?)))
        .collect();
    if found.is_empty() {
        return;
    }
    let nodes: Vec<_> = found.iter().map(|(_, node)| node.clone()).collect();
    let Ok(classes) = line.read(&nodes, AttributeId::NodeClass).await else {
        return;
    };
    for ((column, _), class) in found.iter().zip(classes) {
        let status = class.status.unwrap_or_default();
        if is_gone(status) {
            line.wanted.report(*column, status);
            let quality = Quality(status.bits());
            line.inbox.put_missing([(*column, quality)], now());
            subscription.lose(*column);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_its_turn() {
        let mut at = 0;
        let all = [1, 2, 3, 4, 5];
        assert_eq!(turn(&all, 2, &mut at), [1, 2]);
        assert_eq!(turn(&all, 2, &mut at), [3, 4]);
        assert_eq!(turn(&all, 2, &mut at), [5, 1]);
        assert_eq!(turn(&all[..1], 2, &mut at), [1]);
        assert!(turn(&[], 2, &mut at).is_empty());
    }
}
