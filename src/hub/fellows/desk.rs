//! Follows who the fellows are: keys in use, then the keys from before.

use super::{Fellows, Keys};
use crate::access::{AccessState, Gate};
use crate::crypto::SealingPublicKey;
use crate::hub::plan::Planner;
use crate::hub::renewal::Renewal;
use crate::ledger::act::name;
use crate::ledger::fellow_wraps::{Fellow, FellowWraps, Wrapped, is_marked};
use crate::ledger::store::{Put, Store, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Mutex as Turn, watch};
use tokio::time::{Instant, sleep_until};

/// After so long it is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// Keys that came to open here are wrapped to the others no sooner than so long after the last time.
const LATE: Duration = Duration::from_secs(30);

/// Wraps keys to fellows. Cheap to clone.
#[derive(Clone)]
pub(in crate::hub) struct FellowDesk(Arc<Inner>);

struct Inner {
    fellows: Fellows,
    planner: Arc<Planner>,
    gate: Gate,
    store: Arc<dyn Store>,
    runtime: Handle,
    /// Held while devices change, and while keys are erased.
    changing: Arc<Turn<()>>,
    renewal: Renewal,
    /// One at a time.
    turn: Turn<()>,
}

impl FellowDesk {
    pub(in crate::hub) fn new(
        (fellows, planner, gate): (Fellows, Arc<Planner>, Gate),
        (store, runtime, changing): (Arc<dyn Store>, Handle, Arc<Turn<()>>),
        renewal: Renewal,
    ) -> Self {
        Self(Arc::new(Inner {
            fellows,
            planner,
            gate,
            store,
            runtime,
            changing,
            renewal,
            turn: Turn::default(),
        }))
    }

    /// Follows every change from now on, in the background: of the fellows, and of what the record says their sealing
    /// keys are. A hub that is alone has nothing to follow.
    pub(in crate::hub) fn follow(&self, mut access: watch::Receiver<u64>) {
        if !self.0.fellows.are_possible() {
            return;
        }
        let this = self.clone();
        self.0.runtime.spawn(async move {
            let mut fellows = this.0.fellows.changes();
            let mut more = this.0.fellows.more_open();
            // When what came to open here is wrapped to the others, and whether that is now.
            let (mut due, mut late): (Option<Instant>, bool) = (None, false);
            let mut told = AccessState::default();
            loop {
                fellows.borrow_and_update();
                access.borrow_and_update();
                let state = this.0.gate.state();
                this.told(&told, &state);
                told = AccessState::clone(&state);
                let settled = match std::mem::take(&mut late) {
                    true => this.settle_late().await,
                    false => this.settle().await,
                };
                let again = async {
                    match &settled {
                        Ok(()) => std::future::pending().await,
                        Err(error) => {
                            tracing::warn!(error, "keys are wrapped to fellow hubs again later");
                            tokio::time::sleep(AGAIN).await;
                        }
                    }
                };
                let opened = async {
                    match due {
                        Some(at) => sleep_until(at).await,
                        None if more.changed().await.is_err() => std::future::pending().await,
                        None => {}
                    }
                };
                let gone = tokio::select! {
                    changed = fellows.changed() => changed.is_err(),
                    changed = access.changed() => changed.is_err(),
                    () = again => false,
                    () = opened => {
                        late = due.is_some();
                        due = (!late).then(|| Instant::now() + LATE);
                        false
                    }
                };
                if gone {
                    break;
                }
            }
        });
    }

    /// Takes over the sealing keys of fellows that the record has new.
    fn told(&self, before: &AccessState, now: &AccessState) {
        let fellows = &self.0.fellows;
        for id in fellows.keys().keys() {
            let hub = name("hub", id);
            let Some(key) = now
                .sealing(&hub)
                .filter(|key| before.sealing(&hub) != Some(key))
            else {
                continue;
            };
            match fellows.set(id, *key) {
                Ok(true) => tracing::info!(id, %key, "a fellow hub has a new sealing key"),
                Ok(false) => {}
                Err(error) => tracing::error!(id, %error, "a fellow hub's sealing key is none"),
            }
        }
    }

    /// Returns when nothing is sealed any more under keys that are not wrapped to all fellows of now, and every key
    /// from before that this hub opens is.
    ///
    /// # Errors
    /// When that cannot be done now; it can be done again.
    pub(in crate::hub) async fn settle(&self) -> Result<(), String> {
        let inner = &*self.0;
        let _one_at_a_time = inner.turn.lock().await;
        let behind = inner.planner.keys.behind_fellows();
        let keys = inner.fellows.keys();
        let renewed = !behind.is_empty();
        inner.renewal.renew(behind).await?;
        let new = self.unmarked(keys).await?;
        if new.is_empty() {
            return Ok(());
        }
        if renewed {
            inner.renewal.durable().await?;
        }
        let done = self.wrap(new.clone()).await?;
        let Wrapped {
            seen,
            made,
            unopened,
        } = done;
        let hubs: Vec<_> = new.iter().map(|fellow| &*fellow.id).collect();
        tracing::info!(
            ?hubs,
            seen,
            made,
            unopened,
            "keys are wrapped to fellow hubs"
        );
        Ok(())
    }

    /// The same, and wraps keys that came to open here since all were wrapped.
    async fn settle_late(&self) -> Result<(), String> {
        self.settle().await?;
        let _one_at_a_time = self.0.turn.lock().await;
        let fellows = self.0.fellows.keys().into_iter().map(|(id, key)| {
            let key = SealingPublicKey::from_compressed(&key).map_err(|e| e.to_string())?;
            let anew = false;
            Ok(Fellow { id, key, anew })
        });
        let fellows: Arc<[Fellow]> = fellows.collect::<Result<_, String>>()?;
        let Wrapped { made, .. } = self.wrap(fellows).await?;
        if made > 0 {
            tracing::info!(
                made,
                "keys that open here by now are wrapped to fellow hubs"
            );
        }
        Ok(())
    }

    /// The fellows to whose sealing key the keys from before were not all wrapped.
    async fn unmarked(&self, keys: Keys) -> Result<Arc<[Fellow]>, String> {
        let store = self.0.store.clone();
        self.blocking(move || {
            let mut new = Vec::new();
            for (id, key) in keys {
                if is_marked(&*store, &id, &key)? {
                    continue;
                }
                let key = SealingPublicKey::from_compressed(&key);
                let key = key.map_err(|e| StoreError::Io(e.to_string()))?;
                let anew = true;
                new.push(Fellow { id, key, anew });
            }
            Ok(new.into())
        })
        .await
    }

    /// Wraps all keys to them, some at a time.
    async fn wrap(&self, fellows: Arc<[Fellow]>) -> Result<Wrapped, String> {
        let (mut done, mut from) = (Wrapped::default(), Some(Vec::new()));
        while let Some(at) = from {
            let nothing_changes = self.0.changing.clone().lock_owned().await;
            let (this, fellows) = (self.0.clone(), fellows.clone());
            let step = move || {
                // Held by the work itself, also when nobody waits for it any more.
                let _nothing_changes = nothing_changes;
                let mut done = done;
                let sent = |puts: &[Put]| this.fellows.wrapped(puts);
                let next = this.wraps(&fellows).step(&at, &mut done, &sent)?;
                Ok((next, done))
            };
            (from, done) = self.blocking(step).await?;
        }
        let this = self.0.clone();
        self.blocking(move || this.wraps(&fellows).mark()).await?;
        Ok(done)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, String> {
        let done = self.0.runtime.spawn_blocking(work).await;
        done.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
    }
}

impl Inner {
    fn wraps<'a>(&'a self, fellows: &'a [Fellow]) -> FellowWraps<'a> {
        FellowWraps {
            store: &*self.store,
            opener: &self.planner.opener,
            signer: &*self.planner.signer,
            chain: &self.planner.chain,
            fellows,
        }
    }
}
