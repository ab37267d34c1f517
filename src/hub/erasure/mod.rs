//! Erasing at a running hub, and at a stopped one.
//!
//! In both the device gets a new key first, under which its settings go on, so that every key before that can
//! go. What goes is recorded, then done (`ledger::erasure`); what was interrupted is finished at the start.

mod stopped;
#[cfg(test)]
mod tests;

pub use stopped::StoppedErasure;

use super::HubHistory;
use super::plan::Planner;
use super::readers::KeyMaker;
use crate::access::{Caller, Denied, Gate, Right};
use crate::actors::access::log_denied;
use crate::actors::hub::{HubActor, SealerOf};
use crate::actors::journal::Journal;
use crate::actors::ledger::{Append, LedgerActor, RecordedSettings};
use crate::actors::sealer::{RenewFault, RenewKey};
use crate::api::{EraseFault, ErasePort, EraseRequest, EraseStatus};
use crate::ledger::act::{Act, name};
use crate::ledger::erasure::ErasureError;
use crate::ledger::erasure::plan::{Plan, plan};
use crate::ledger::erasure::work;
use crate::ledger::facts::Document;
use crate::ledger::opening::Opener;
use crate::ledger::seal::{BatchSealer, InForce};
use crate::ledger::store::{Put, Store};
use crate::ledger::{Draft, report::Progress};
use crate::model::{Nanos, now, rfc3339};
use actix::Addr;
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::runtime::Handle;
use tokio::sync::{Mutex as Turn, oneshot};
use weighbridge_verifier::{Action, Hash, Response};

/// Finishes what was interrupted, before anybody reads. A hub whose disk does not let it goes on without: the
/// next erasure or start tries again.
pub(super) fn resume(store: &dyn Store) {
    match work::resume(store) {
        Ok(0) => {}
        Ok(finished) => tracing::info!(finished, "interrupted erasures are finished"),
        Err(error) => tracing::error!(%error, "an interrupted erasure cannot be finished yet"),
    }
}

/// Whether the caller may erase what was recorded of `device`.
fn allowed(gate: &Gate, caller: &Caller, device: &str) -> Result<(), Denied> {
    let object = name("device", device);
    let denied = gate.passages(&caller.user, Right::Erase, [&*object], now());
    denied.inspect_err(|denied| log_denied(caller, Right::Erase, &object, denied))
}

/// The settings of `device` recorded again under its next key: that key's epoch, and what becomes durable.
fn renewed(
    (opener, keys): (&Opener, &KeyMaker),
    (device, document): (&str, &Document),
    time: Nanos,
) -> Result<(u64, Draft, Vec<Put>), ErasureError> {
    let settings = opener.open_document(device, &document.sealed)?;
    let epoch = opener.next_key_epoch(device)?;
    let made = keys.make((device, epoch));
    let (key, wraps) = made.map_err(crate::ledger::store::StoreError::Io)?;
    let in_force = Arc::new(Mutex::new(InForce {
        commitment: document.commitment,
        version: document.version,
    }));
    let mut sealer = BatchSealer::new(device, 0, key, wraps, in_force);
    let (draft, puts) = sealer.seal_document("validation", &settings, time);
    Ok((epoch, draft, puts))
}

/// Why nothing is erased where a chain is shared.
const SHARED: &str =
    "other hubs share this chain and keep the same keys: nothing can be erased from it yet";

/// Erases what a running hub recorded.
pub struct Eraser {
    store: Arc<dyn Store>,
    runtime: Handle,
    /// Held while devices change.
    changing: Arc<Turn<()>>,
    hub: Addr<HubActor>,
    ledger: Addr<LedgerActor>,
    past: Arc<HubHistory>,
    planner: Arc<Planner>,
    gate: Gate,
    journal: Journal,
    /// Whether other hubs have what is recorded, too.
    shared: bool,
    /// One at a time.
    turn: Arc<Turn<()>>,
    last: Arc<Mutex<Option<EraseStatus>>>,
}

impl Eraser {
    pub(super) fn new(
        (store, runtime, changing): (Arc<dyn Store>, Handle, Arc<Turn<()>>),
        (hub, ledger): (Addr<HubActor>, Addr<LedgerActor>),
        (past, planner): (Arc<HubHistory>, Arc<Planner>),
        (gate, journal): (Gate, Journal),
    ) -> Self {
        Self {
            store,
            runtime,
            changing,
            hub,
            ledger,
            past,
            planner,
            gate,
            journal,
            shared: false,
            turn: Arc::default(),
            last: Arc::default(),
        }
    }

    /// Where other hubs have what is recorded, too, nothing is erased yet.
    pub(super) fn among(self, shared: bool) -> Self {
        Self { shared, ..self }
    }

    /// Held while something is erased.
    pub(super) fn turn(&self) -> Arc<Turn<()>> {
        self.turn.clone()
    }

    /// The parts of it that a task of its own needs.
    fn share(&self) -> Self {
        Self {
            store: self.store.clone(),
            runtime: self.runtime.clone(),
            changing: self.changing.clone(),
            hub: self.hub.clone(),
            ledger: self.ledger.clone(),
            past: self.past.clone(),
            planner: self.planner.clone(),
            gate: self.gate.clone(),
            journal: self.journal.clone(),
            shared: self.shared,
            turn: self.turn.clone(),
            last: self.last.clone(),
        }
    }

    /// Records a refusal, and returns what to answer: not the rule.
    async fn refuse(&self, caller: &Caller, request: &EraseRequest, denied: Denied) -> EraseFault {
        let mut details = json!({
            "until": rfc3339(request.until),
            "until_ns": request.until.to_string(),
            "rule": denied.rule(),
            "denied": denied.to_string(),
        });
        caller.tell(&mut details);
        let act = Act {
            time: now(),
            subject: &name("user", &caller.user),
            action: Action::Erase,
            object: &name("device", &request.device),
            kind: "erase",
            details: &details,
            response: Response::Refused,
        };
        if let Err(error) = self.journal.record(&act).await {
            return EraseFault::Busy(format!("the refusal could not be recorded: {error}"));
        }
        EraseFault::Denied(format!(
            "`{}` may not erase what was recorded of `{}`",
            caller.user, request.device
        ))
    }

    /// Looks the history over.
    async fn plan(&self, request: &EraseRequest, current: u64) -> Result<Plan, EraseFault> {
        let (store, device) = (self.store.clone(), request.device.clone());
        let (times, suite) = ((request.until, now()), self.planner.signer.suite());
        self.blocking(move || plan(&*store, (suite, &device), times, current))
            .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ErasureError> + Send + 'static,
    ) -> Result<T, EraseFault> {
        let failed = |why: String| EraseFault::Failed(why);
        let done = self.runtime.spawn_blocking(work).await;
        let done = done.map_err(|e| failed(e.to_string()))?;
        done.map_err(|e| failed(e.to_string()))
    }

    /// Everything up to the destroyed keys; nothing where nothing is there to be erased.
    async fn begin(
        &self,
        caller: &Caller,
        request: &EraseRequest,
    ) -> Result<EraseStatus, EraseFault> {
        let store = self.store.clone();
        self.blocking(move || work::resume(&*store)).await?;
        let mut status = EraseStatus {
            plan: self.plan(request, u64::MAX).await?,
            height: None,
            progress: None,
            done: true,
            trouble: None,
        };
        if request.dry_run || status.plan.notice.is_empty() {
            return Ok(status);
        }
        let _nothing_changes = self.changing.lock().await;
        let current = self.renew(&request.device).await?;
        status.plan = self.plan(request, current).await?;
        if status.plan.notice.is_empty() {
            return Ok(status);
        }
        let notice = status.plan.notice.clone();
        let act = notice.recorded(&name("user", &caller.user));
        let height = self.journal.record_as_it_is(act).await;
        status.height = Some(height.map_err(|error| {
            let later = match error.may_follow() {
                true => "; if it still becomes durable, it is done when the hub starts next",
                false => "",
            };
            EraseFault::Failed(format!("it could not be recorded: {error}{later}"))
        })?);
        status.done = false;
        let (store, device) = (self.store.clone(), request.device.clone());
        self.blocking(move || work::destroy_keys(&*store, &notice))
            .await?;
        self.past.forget_keys(&device);
        self.planner.archive.forget_keys(&device);
        tracing::info!(
            device,
            user = caller.user,
            keys = status.plan.keys,
            batches = status.plan.notice.batches,
            "keys are destroyed, their batches follow"
        );
        Ok(status)
    }

    /// Gives the device a new key, under which its settings go on; returns its epoch, or the last there can
    /// be where nothing seals for the device.
    async fn renew(&self, device: &str) -> Result<u64, EraseFault> {
        let gone = || EraseFault::Failed("the hub is stopping".to_owned());
        let asked = self.ledger.send(RecordedSettings(device.into())).await;
        let document = asked.map_err(|_| gone())?;
        let sealer = self.hub.send(SealerOf(device.into())).await;
        let busy = |()| EraseFault::Busy(format!("`{device}` is just being set up, try again"));
        let sealer = sealer.map_err(|_| gone())?.map_err(busy)?;
        let epoch = match (sealer, document) {
            (Some(sealer), document) => {
                let settings = match document.clone() {
                    Some(document) => Some(self.settings(device, document).await?),
                    None => None,
                };
                let commitment = document.map_or(Hash::ZERO, |d| d.commitment);
                let renewed = sealer.send(RenewKey {
                    settings,
                    commitment,
                });
                renewed.await.map_err(|_| gone())?.map_err(|e| match e {
                    RenewFault::Changed => EraseFault::Busy(e.to_string()),
                    _ => EraseFault::Failed(e.to_string()),
                })?
            }
            (None, Some(document)) => {
                let (planner, device) = (self.planner.clone(), device.to_owned());
                let renewed = move || {
                    let keys = (&planner.opener, &planner.keys);
                    renewed(keys, (&device, &document), now())
                };
                let (epoch, draft, puts) = self.blocking(renewed).await?;
                let append = Append {
                    drafts: vec![draft],
                    puts,
                    settle: None,
                };
                self.ledger.send(append).await.map_err(|_| gone())?;
                epoch
            }
            (None, None) => u64::MAX,
        };
        // Answered when all that was sealed before is durable, and so in the index.
        let asked = self.ledger.send(RecordedSettings(device.into())).await;
        asked.map_err(|_| gone())?;
        Ok(epoch)
    }

    /// The settings in force.
    async fn settings(&self, device: &str, document: Document) -> Result<Vec<u8>, EraseFault> {
        let (opener, device) = (self.planner.opener.clone(), device.to_owned());
        let open = move || Ok(opener.open_document(&device, &document.sealed)?.to_vec());
        self.blocking(open).await
    }

    /// What is left when the keys are destroyed.
    async fn finish(&self, status: EraseStatus) {
        let (store, notice) = (self.store.clone(), status.plan.notice);
        let last = self.last.clone();
        let finished = self
            .blocking(move || {
                work::carry_out(&*store, &notice, &mut |progress: Progress| {
                    if let Some(last) = &mut *last.lock() {
                        last.progress = Some(progress);
                    }
                })
            })
            .await;
        if let Err(error) = &finished {
            tracing::error!(%error, "an erasure is not finished; the next one or the next start goes on");
        }
        if let Some(last) = &mut *self.last.lock() {
            last.done = finished.is_ok();
            last.trouble = finished.err().map(|error| error.to_string());
        }
    }
}

#[async_trait]
impl ErasePort for Eraser {
    async fn erase(
        &self,
        caller: &Caller,
        request: EraseRequest,
    ) -> Result<EraseStatus, EraseFault> {
        if let Err(denied) = allowed(&self.gate, caller, &request.device) {
            return Err(self.refuse(caller, &request, denied).await);
        }
        self.erase_for(caller, request).await
    }

    fn last(&self) -> Option<EraseStatus> {
        self.last.lock().clone()
    }
}

impl Eraser {
    /// Erases as [`ErasePort::erase`] does, for a program that holds the hub and has decided itself that the
    /// caller may.
    pub async fn erase_for(
        &self,
        caller: &Caller,
        request: EraseRequest,
    ) -> Result<EraseStatus, EraseFault> {
        if self.shared {
            return Err(EraseFault::Unknown(SHARED.to_owned()));
        }
        if request.until > now() {
            let why = format!("{} is in the future", rfc3339(request.until));
            return Err(EraseFault::Unknown(why));
        }
        if !self.planner.indexed.load(Ordering::Acquire) {
            let why = "the index of the history is being made up; erase when it is complete";
            return Err(EraseFault::Busy(why.to_owned()));
        }
        if request.dry_run {
            let plan = self.plan(&request, u64::MAX).await?;
            return Ok(EraseStatus {
                plan,
                height: None,
                progress: None,
                done: true,
                trouble: None,
            });
        }
        let busy = |_| {
            EraseFault::Busy(
                "another erasure is under way, or old blocks are being retired".to_owned(),
            )
        };
        let turn = self.turn.clone().try_lock_owned().map_err(busy)?;
        let (answer, answered) = oneshot::channel();
        let (this, caller) = (self.share(), caller.clone());
        // Whoever asked may go away; what is on record is done.
        self.runtime.spawn(async move {
            let _turn = turn;
            let begun = this.begin(&caller, &request).await;
            let goes_on = begun.as_ref().ok().filter(|status| !status.done).cloned();
            if let Some(status) = &goes_on {
                *this.last.lock() = Some(status.clone());
            }
            // Whoever asked may be gone.
            let _ = answer.send(begun);
            if let Some(status) = goes_on {
                this.finish(status).await;
            }
        });
        let stopping = |_| EraseFault::Failed("the hub is stopping".to_owned());
        answered.await.map_err(stopping)?
    }
}
