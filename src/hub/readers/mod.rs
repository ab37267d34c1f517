//! Those who open what was recorded by themselves: their wraps, what they fetch sealed, and what is released
//! to them.
//!
//! Who reads what is said by the state of access. [`Readers`] follows it: when somebody is granted something, is
//! put out or gets another key, every device that it concerns gets a new key at once, under which the next
//! batch is sealed; then the wraps of older keys are made or overwritten.

mod keys;
mod release;
mod sealed;
#[cfg(test)]
mod tests;
mod wraps;

pub(in crate::hub) use keys::KeyMaker;

use super::plan::Planner;
use crate::access::{AccessState, Caller, Gate, Level, Reader};
use crate::actors::hub::{HubActor, SealerOf};
use crate::actors::journal::Journal;
use crate::actors::ledger::{LedgerActor, RecordedSettings};
use crate::actors::sealer::RotateKey;
use crate::api::{ReadersFault, ReadersPort, ReleaseRequest, SealedRequest};
use crate::ledger::query::Explorer;
use crate::ledger::store::Store;
use crate::model::{Nanos, now};
use actix::Addr;
use async_trait::async_trait;
use keys::{DAY, recipients};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Mutex as Turn, Semaphore, watch};
use wraps::{Done, Wraps};

/// After so long it is tried again.
const AGAIN: Duration = Duration::from_secs(30);
/// How long somebody who changed something waits for the keys.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest rest: clocks may be set.
const REST: Duration = Duration::from_secs(3_600);

/// Who reads, as far as the wraps follow from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Standing {
    readers: Vec<(String, Reader)>,
    escrow: Vec<String>,
    levels: Vec<(String, Level)>,
}

impl Standing {
    fn of(state: &AccessState, time: Nanos) -> Self {
        let readers = state
            .readers_in(time)
            .map(|(id, r)| (id.clone(), r.clone()));
        let levels = state.levels().map(|(object, l)| (object.clone(), *l));
        Self {
            readers: readers.collect(),
            escrow: state.escrow().map(|(name, _)| name.clone()).collect(),
            levels: levels.collect(),
        }
    }

    /// Whether nobody reads.
    fn is_empty(&self) -> bool {
        self.readers.is_empty() && self.escrow.is_empty()
    }

    /// Whether it takes the times of samples to say which keys somebody reads.
    fn has_spans(&self) -> bool {
        let grants = self.readers.iter().flat_map(|(_, reader)| &reader.grants);
        grants
            .into_iter()
            .any(|g| g.from.is_some() || g.until.is_some())
    }
}

/// When after `time` somebody's grant or identity begins to matter, or ends.
fn next_turn(state: &AccessState, time: Nanos) -> Nanos {
    let turns = state.readers().flat_map(|(id, reader)| {
        let subject = state.subjects().get(id);
        let spans = reader.grants.iter();
        let days = spans.clone().filter_map(|grant| grant.from);
        let days = days.map(|from| from.div_euclid(DAY).saturating_mul(DAY));
        let ends = spans.filter_map(|grant| grant.until);
        days.chain(ends).chain(subject.and_then(|s| s.expires))
    });
    turns
        .filter(|turn| *turn > time)
        .min()
        .unwrap_or(Nanos::MAX)
}

/// Where the wraps stand.
#[derive(Default)]
struct Settled {
    /// Of whom all wraps are as they should be, and until when; `None` while that is not known.
    standing: Option<(Standing, Nanos)>,
}

/// Follows who may read. Cheap to clone.
#[derive(Clone)]
pub struct Readers(Arc<Inner>);

pub(super) struct Inner {
    store: Arc<dyn Store>,
    runtime: Handle,
    /// Held while devices change, and while keys are erased.
    changing: Arc<Turn<()>>,
    hub: Addr<HubActor>,
    ledger: Addr<LedgerActor>,
    planner: Arc<Planner>,
    gate: Gate,
    journal: Journal,
    explorer: Explorer,
    /// Reads that take long, one at a time.
    turns: Arc<Semaphore>,
    settled: Turn<Settled>,
}

/// Why the wraps are not what they should be yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is recorded and in force, and the keys are not there yet: {0}")]
pub struct NotSettled(pub String);

impl Readers {
    pub(super) fn new(
        (store, runtime, changing): (Arc<dyn Store>, Handle, Arc<Turn<()>>),
        (hub, ledger): (Addr<HubActor>, Addr<LedgerActor>),
        (planner, gate, journal): (Arc<Planner>, Gate, Journal),
    ) -> Self {
        let explorer = Explorer::new(store.clone());
        Self(Arc::new(Inner {
            store,
            runtime,
            changing,
            hub,
            ledger,
            planner,
            gate,
            journal,
            explorer,
            turns: Arc::new(Semaphore::new(1)),
            settled: Turn::default(),
        }))
    }

    /// Follows every change from now on, in the background.
    pub(super) fn follow(&self, mut changes: watch::Receiver<u64>) {
        let this = self.clone();
        self.0.runtime.spawn(async move {
            loop {
                changes.borrow_and_update();
                let rest = match this.settle().await {
                    Ok(()) => this.rest(),
                    Err(error) => {
                        tracing::warn!(%error, "the wraps of readers are tried again");
                        AGAIN
                    }
                };
                let changed = tokio::time::timeout(rest, changes.changed()).await;
                if matches!(changed, Ok(Err(_))) {
                    break;
                }
            }
        });
    }

    /// Until somebody's grant or identity begins or ends.
    fn rest(&self) -> Duration {
        let time = now();
        let rest = next_turn(&self.0.gate.state(), time).saturating_sub(time);
        let rest = u64::try_from(rest).map(Duration::from_nanos);
        rest.unwrap_or_default().min(REST)
    }

    /// Returns when every wrap is as the state of access says: new keys are in use where those to whom they
    /// are wrapped have changed, wraps are there for those who may read, and overwritten for those who may not.
    ///
    /// # Errors
    /// When that cannot be done now. It is tried again.
    pub async fn settle(&self) -> Result<(), NotSettled> {
        let inner = &*self.0;
        let mut settled = inner.settled.lock().await;
        let (state, time) = (inner.gate.state(), now());
        let standing = Standing::of(&state, time);
        let before = settled.standing.as_ref();
        if before.is_some_and(|(before, until)| *before == standing && time < *until) {
            return Ok(());
        }
        let rotated = self.rotate(&state, time).await?;
        let until = next_turn(&state, time);
        let nobody = standing.is_empty() && rotated.is_empty();
        if nobody && settled.standing.is_none() && !self.has_readers().await? {
            settled.standing = Some((standing, until));
            return Ok(());
        }
        settled.standing = None;
        if standing.has_spans() {
            self.indexed().map_err(NotSettled)?;
        }
        let (mut done, held) = self.bring(&state, time).await?;
        if !held.is_empty() {
            // Keys in use go out of use before they are anybody's who may read only what was.
            for device in &held {
                self.renew(device).await?;
            }
            done = self.bring(&state, time).await?.0;
        }
        tracing::info!(
            rotated = rotated.len() + held.len(),
            made = done.made,
            removed = done.removed,
            "keys are wrapped to those who may read"
        );
        settled.standing = Some((standing, until));
        Ok(())
    }

    /// Brings the wraps to what `state` says.
    async fn bring(
        &self,
        state: &Arc<AccessState>,
        time: Nanos,
    ) -> Result<(Done, Vec<String>), NotSettled> {
        let inner = &*self.0;
        // Answered when all that was sealed before is durable, and the wraps of its keys: none comes later.
        let asked = inner.ledger.send(RecordedSettings("".into())).await;
        asked.map_err(|_| stopping())?;
        let nothing_changes = inner.changing.clone().lock_owned().await;
        let this = inner.planner.clone();
        let (store, state) = (inner.store.clone(), state.clone());
        let work = move || {
            // Held by the work itself, also when nobody waits for it any more.
            let _nothing_changes = nothing_changes;
            let wraps = Wraps {
                store: &*store,
                opener: &this.opener,
                maker: &this.keys,
            };
            wraps.bring(&state, time)
        };
        let done = inner.runtime.spawn_blocking(work).await;
        let done = done.map_err(|e| NotSettled(e.to_string()))?;
        done.map_err(|e| NotSettled(e.to_string()))
    }

    /// Whether the index of the history is complete; why not is the error.
    fn indexed(&self) -> Result<(), String> {
        match self.0.planner.indexed.load(Ordering::Acquire) {
            true => Ok(()),
            false => Err("the index of the history is being made up".to_owned()),
        }
    }

    /// Whether a wrap to a reader lies in the store, from before this start.
    async fn has_readers(&self) -> Result<bool, NotSettled> {
        let store = self.0.store.clone();
        let look = move || wraps::any(&*store);
        let found = self.0.runtime.spawn_blocking(look).await;
        let found = found.map_err(|e| NotSettled(e.to_string()))?;
        found.map_err(|e| NotSettled(e.to_string()))
    }

    /// Gives those devices new keys whose newest is wrapped to others than it should be.
    async fn rotate(&self, state: &AccessState, time: Nanos) -> Result<Vec<String>, NotSettled> {
        let inner = &*self.0;
        let mut rotated = Vec::new();
        for (device, (_, made_for)) in inner.planner.keys.made() {
            if device.contains(':')
                || recipients(state, &device, (inner.gate.hub(), time)) == made_for
            {
                continue;
            }
            if self.renew(&device).await? {
                rotated.push(device);
            }
        }
        Ok(rotated)
    }

    /// Gives a device a new key; whether it is there.
    async fn renew(&self, device: &str) -> Result<bool, NotSettled> {
        let sealer = self.0.hub.send(SealerOf(device.into())).await;
        // One that is not there any more needs none, and one that is being set up gets a new one anyway.
        let Ok(Some(sealer)) = sealer.map_err(|_| stopping())? else {
            return Ok(false);
        };
        let busy = |_| NotSettled(format!("`{device}` is just being set up"));
        let renewed = sealer.send(RotateKey).await.map_err(busy)?;
        renewed.map_err(NotSettled)?;
        Ok(true)
    }
}

#[async_trait]
impl ReadersPort for Readers {
    async fn settled(&self) -> Result<(), String> {
        let settled = tokio::time::timeout(PATIENCE, self.settle()).await;
        let settled = settled.unwrap_or_else(|_| Err(NotSettled("it takes long".to_owned())));
        settled.map_err(|error| error.to_string())
    }

    async fn sealed(
        &self,
        caller: &Caller,
        request: SealedRequest,
    ) -> Result<Vec<u8>, ReadersFault> {
        Ok(Readers::sealed(self, caller, request).await?.to_bytes())
    }

    async fn release(
        &self,
        caller: &Caller,
        request: ReleaseRequest,
    ) -> Result<Vec<u8>, ReadersFault> {
        Ok(Readers::release(self, caller, request).await?.to_bytes())
    }
}

fn stopping() -> NotSettled {
    NotSettled("the hub is stopping".to_owned())
}
