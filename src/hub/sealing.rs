//! The hub's sealing key is replaced while it runs.
//!
//! The new key is on the disk before anything names it. An entry of access says that it is the hub's; when that is
//! durable, every new key of an epoch is wrapped to it alone. Then the devices and the journal get new keys, so that
//! none that was made before comes into the store later, and every wrap that is there is made anew in its slot, some
//! at a time, under the lock that erasing holds. The key before opens what is not converted yet, also for a hub that
//! was started anew in between; when nothing needs it any more, its file is overwritten and removed.

use super::edges::Edges;
use super::plan::Planner;
use super::renewal::Renewal;
use super::{Fellows, HubError};
use crate::access::{Caller, Change};
use crate::actors::access::{AccessDesk, By};
use crate::actors::hub::HubActor;
use crate::actors::journal::Journal;
use crate::actors::ledger::LedgerActor;
use crate::api::{KeyFault, NewSealingKey, SealingKeys};
use crate::crypto::{NextSealingKeyError, SealingRing};
use crate::ledger::rewrap::{Rewrap, Rewrapped};
use crate::ledger::store::Store;
use crate::protocols::ports::AccessError;
use actix::Addr;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard, oneshot};
use tokio::time::{sleep, timeout};
use weighbridge_verifier::PublicKey;

/// How long whoever asks waits for their turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// After so long it is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// How often it is looked whether edge nodes still need a key.
const BEHIND: Duration = Duration::from_millis(500);

/// Brings the ring to what the record says, before anything is wrapped or sealed. A replacement that was cut short
/// has happened if it is on record, and else comes to nothing.
pub(super) fn resume(ring: &SealingRing, recorded: Option<&PublicKey>) -> Result<(), HubError> {
    if let Some(key) = recorded
        && !ring.succeed(key)
    {
        tracing::warn!(%key, own = %ring.public().compressed(),
            "the hub has another sealing key than the one on record");
    }
    ring.settle()?;
    ring.abandon()?;
    Ok(())
}

/// Replaces the sealing key of a running hub. Cheap to clone.
#[derive(Clone)]
pub(super) struct SealingDesk(Arc<Inner>);

struct Inner {
    ring: SealingRing,
    planner: Arc<Planner>,
    edges: Arc<Edges>,
    fellows: Fellows,
    store: Arc<dyn Store>,
    runtime: Handle,
    /// Held while devices change, and while keys are erased.
    changing: Arc<Turn<()>>,
    renewal: Renewal,
    access: AccessDesk,
    /// One at a time.
    turn: Arc<Turn<()>>,
    /// What keys from before are kept for.
    waits_for: Mutex<Option<String>>,
}

impl SealingDesk {
    /// Goes on with what was interrupted.
    pub(super) fn new(
        (ring, planner): (SealingRing, Arc<Planner>),
        (edges, fellows): (Arc<Edges>, Fellows),
        (store, runtime, changing): (Arc<dyn Store>, Handle, Arc<Turn<()>>),
        (hub, ledger): (Addr<HubActor>, Addr<LedgerActor>),
        (access, journal): (AccessDesk, Journal),
    ) -> Self {
        let this = Self(Arc::new(Inner {
            ring,
            planner,
            edges,
            fellows,
            store,
            runtime,
            changing,
            renewal: Renewal {
                hub,
                ledger,
                journal,
            },
            access,
            turn: Arc::default(),
            waits_for: Mutex::default(),
        }));
        if !this.0.ring.former().is_empty() {
            let going_on = this.clone();
            this.0.runtime.spawn(async move {
                let turn = going_on.0.turn.clone().lock_owned().await;
                going_on.convert(turn).await;
            });
        }
        this
    }

    /// The keys, and what those before are kept for.
    pub(super) fn keys(&self) -> SealingKeys {
        let inner = &*self.0;
        let former = inner.ring.former();
        let waits_for = inner.waits_for.lock().clone();
        SealingKeys {
            key: inner.ring.public().compressed(),
            waits_for: waits_for.filter(|_| !former.is_empty()),
            former,
        }
    }

    /// Gives the hub a new sealing key, for somebody who may. Answers when it is in force; wraps are made anew after
    /// that.
    pub(super) async fn rotate(&self, caller: &Caller) -> Result<NewSealingKey, KeyFault> {
        let busy = |_| KeyFault::Busy("wraps to the key before are still made anew".to_owned());
        let turn = timeout(PATIENCE, self.0.turn.clone().lock_owned()).await;
        let turn = turn.map_err(busy)?;
        let (answer, answered) = oneshot::channel();
        let (this, caller) = (self.clone(), caller.clone());
        // Whoever asked may go away; what is on record is done.
        self.0.runtime.spawn(async move {
            let replaced = this.replace(&caller).await;
            // Whoever asked may be gone.
            let _ = answer.send(replaced);
            if !this.0.ring.former().is_empty() {
                this.convert(turn).await;
            }
        });
        let stopping = |_| KeyFault::Failed("the hub is stopping".to_owned());
        answered.await.map_err(stopping)?
    }

    /// Makes the key, has it recorded, and puts it in force.
    async fn replace(&self, caller: &Caller) -> Result<NewSealingKey, KeyFault> {
        let inner = &*self.0;
        let _nothing_changes = inner.changing.lock().await;
        let failed = |why: String| KeyFault::Failed(why);
        let replaces = inner.ring.public().compressed();
        let ring = inner.ring.clone();
        let key = self.blocking(move || ring.prepare()).await?;
        let key = key.map_err(|error| match error {
            NextSealingKeyError::Full => KeyFault::Busy(error.to_string()),
            error => failed(error.to_string()),
        })?;
        let change = Change::SealingKey(inner.access_name(), key);
        let changed = inner.access.change(By::User(caller), vec![change]).await;
        if let Err(error) = changed {
            // One that may still come into the record stays: the next request takes it, or the next start ends it.
            if !matches!(error, AccessError::NotRecorded(_)) {
                let ring = inner.ring.clone();
                let gone = self.blocking(move || ring.abandon()).await?;
                gone.map_err(|e| failed(e.to_string()))?;
            }
            return Err(match error {
                AccessError::Denied(why) => KeyFault::Denied(why),
                AccessError::Impossible(why) => KeyFault::Wrong(why),
                error => KeyFault::Busy(error.to_string()),
            });
        }
        inner.ring.succeed(&key);
        inner.edges.tell_sealing();
        *inner.waits_for.lock() = Some("wraps that are to be made anew".to_owned());
        tracing::info!(%key, %replaces, by = caller.user, "the hub has a new sealing key");
        let ring = inner.ring.clone();
        let settled = self.blocking(move || ring.settle()).await?;
        settled.map_err(|e| {
            failed(format!(
                "the hub has its new sealing key, but {e}; leave all key files where they are, the next start \
                 finishes it"
            ))
        })?;
        Ok(NewSealingKey { key, replaces })
    }

    /// Makes all wraps anew, however often it takes, and destroys the keys before when no edge node needs them. The
    /// key may be replaced again while it waits for those.
    async fn convert(&self, turn: OwnedMutexGuard<()>) {
        let inner = &*self.0;
        let former = inner.ring.former();
        let done = loop {
            match self.convert_once().await {
                Ok(done) => break done,
                Err(why) => self.still_kept(why).await,
            }
        };
        drop(turn);
        let Rewrapped {
            seen,
            made,
            unopened,
        } = done;
        tracing::info!(
            seen,
            made,
            unopened,
            "all is wrapped to the new sealing key"
        );
        loop {
            let behind = inner.edges.behind();
            if !behind.is_empty() {
                let why = format!("what is buffered at edge nodes ({})", behind.join(", "));
                *inner.waits_for.lock() = Some(why);
                sleep(BEHIND).await;
                continue;
            }
            match self.fellows_behind().await {
                Ok(behind) if behind.is_empty() => {}
                Ok(behind) => {
                    let why = format!("what other hubs wrap to it ({})", behind.join(", "));
                    *inner.waits_for.lock() = Some(why);
                    sleep(BEHIND).await;
                    continue;
                }
                Err(error) => {
                    self.still_kept(error).await;
                    continue;
                }
            }
            let (ring, former) = (inner.ring.clone(), former.clone());
            let forget = move || former.iter().try_for_each(|key| ring.forget(key));
            match self.blocking(forget).await {
                Ok(Ok(())) => break,
                Ok(Err(error)) => self.still_kept(error.to_string()).await,
                Err(error) => self.still_kept(error.to_string()).await,
            }
        }
        tracing::info!("the sealing key before is destroyed");
    }

    /// The other hubs that have not heard of the key in use yet, or whose wraps have not come.
    async fn fellows_behind(&self) -> Result<Vec<String>, String> {
        let this = self.0.clone();
        let look = move || {
            let own = this.planner.signer.id();
            this.fellows.behind(&*this.store, (own, &this.ring))
        };
        let behind = self.blocking(look).await.map_err(|e| e.to_string())?;
        behind.map_err(|e| e.to_string())
    }

    async fn still_kept(&self, why: String) {
        tracing::warn!(why, "the sealing key before is still kept");
        *self.0.waits_for.lock() = Some(why);
        sleep(AGAIN).await;
    }

    async fn convert_once(&self) -> Result<Rewrapped, String> {
        let inner = &*self.0;
        // No key that was wrapped to the key before is sealed under any more.
        inner.renewal.renew(inner.planner.keys.behind()).await?;
        inner.renewal.durable().await?;
        let (mut done, mut from) = (Rewrapped::default(), Some(Vec::new()));
        while let Some(at) = from {
            let nothing_changes = inner.changing.clone().lock_owned().await;
            let this = self.0.clone();
            let step = move || {
                // Held by the work itself, also when nobody waits for it any more.
                let _nothing_changes = nothing_changes;
                let mut done = done;
                let rewrap = Rewrap {
                    store: &*this.store,
                    keys: &this.ring,
                    signer: &*this.planner.signer,
                    chain: &this.planner.chain,
                };
                let next = rewrap.step(&at, &mut done);
                next.map(|next| (next, done)).map_err(|e| e.to_string())
            };
            let stepped = self.blocking(step).await.map_err(|e| e.to_string())?;
            (from, done) = stepped?;
        }
        Ok(done)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, KeyFault> {
        let done = self.0.runtime.spawn_blocking(work).await;
        done.map_err(|e| KeyFault::Failed(e.to_string()))
    }
}

impl Inner {
    /// The hub, as the state of access names it.
    fn access_name(&self) -> String {
        crate::ledger::act::name("hub", self.planner.signer.id())
    }
}
