//! The hub's own key is replaced while it runs.
//!
//! The new key is on the disk before anything names it. The record that gives it to the hub is the last one
//! of a block that the old key signs; when that block is durable the ledger's next signature is by the new
//! one, so nothing waits but for that one block. Then the file takes the old one's place, and the
//! listener of edge nodes shows the new key.

use super::edges::Edges;
use super::plan::Planner;
use super::sealing::SealingDesk;
use crate::access::{Caller, Gate, Right};
use crate::actors::access::log_denied;
use crate::actors::journal::Journal;
use crate::actors::ledger::{LedgerActor, LedgerStatus, RecordFault, RecordLast, RecordedKeys};
use crate::api::{KeyFault, KeyPort, KnownKey, NewKey, NewSealingKey, OfferedKey, SealingKeys};
use crate::crypto::guomi::making::{Making, TurnError};
use crate::crypto::guomi::recorded;
use crate::crypto::{HubKey, Signer};
use crate::ledger::Draft;
use crate::ledger::act::{Act, name};
use crate::model::now;
use actix::Addr;
use async_trait::async_trait;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Mutex as Turn, oneshot, watch};
use tokio::time::timeout;
use weighbridge_verifier::{
    Action, CentreShare, CentresContent, IdentityKind, PublicKey, Response,
};

/// How long whoever asks waits for the disk.
const PATIENCE: Duration = Duration::from_secs(5);

/// Replaces the keys of a running hub.
pub struct KeyDesk {
    key: Arc<HubKey>,
    planner: Arc<Planner>,
    ledger: Addr<LedgerActor>,
    status: watch::Receiver<LedgerStatus>,
    edges: Arc<Edges>,
    /// Held while edge nodes change.
    changing: Arc<Turn<()>>,
    runtime: Handle,
    gate: Gate,
    journal: Journal,
    sealing: SealingDesk,
    /// One at a time.
    turn: Arc<Turn<()>>,
}

impl KeyDesk {
    pub(super) fn new(
        (key, planner): (Arc<HubKey>, Arc<Planner>),
        (ledger, status): (Addr<LedgerActor>, watch::Receiver<LedgerStatus>),
        (edges, changing, runtime): (Arc<Edges>, Arc<Turn<()>>, Handle),
        (gate, journal): (Gate, Journal),
        sealing: SealingDesk,
    ) -> Self {
        Self {
            key,
            planner,
            ledger,
            status,
            edges,
            changing,
            runtime,
            gate,
            journal,
            sealing,
            turn: Arc::default(),
        }
    }

    fn share(&self) -> Self {
        Self {
            key: self.key.clone(),
            planner: self.planner.clone(),
            ledger: self.ledger.clone(),
            status: self.status.clone(),
            edges: self.edges.clone(),
            changing: self.changing.clone(),
            runtime: self.runtime.clone(),
            gate: self.gate.clone(),
            journal: self.journal.clone(),
            sealing: self.sealing.clone(),
            turn: self.turn.clone(),
        }
    }

    /// Gives the hub a new signing key as [`KeyPort::rotate_hub`] does, for a program that holds the hub and
    /// has decided itself that the caller may.
    pub async fn rotate_hub_for(&self, caller: &Caller) -> Result<NewKey, KeyFault> {
        let busy = |_| KeyFault::Busy("the key is being replaced already".to_owned());
        let turn = timeout(PATIENCE, self.turn.clone().lock_owned()).await;
        let turn = turn.map_err(busy)?;
        let (answer, answered) = oneshot::channel();
        let (this, subject) = (self.share(), name("user", &caller.user));
        // Whoever asked may go away; what is on record is done.
        self.runtime.spawn(async move {
            let _turn = turn;
            this.replace(&subject, answer).await;
        });
        let stopping = |_| KeyFault::Failed("the hub is stopping".to_owned());
        answered.await.map_err(stopping)?
    }

    async fn replace(&self, subject: &str, answer: oneshot::Sender<Result<NewKey, KeyFault>>) {
        let _nothing_changes = self.changing.lock().await;
        let asked = self.ask(subject).await;
        let (new, recorded) = match asked {
            Ok(asked) => asked,
            Err(fault) => {
                // Whoever asked may be gone.
                let _ = answer.send(Err(fault));
                return;
            }
        };
        let height = match recorded {
            Ok(height) => height,
            Err(fault) => {
                let fault = format!(
                    "it is not known whether it is recorded: {fault}; if it is, the hub has its new key then"
                );
                let _ = answer.send(Err(KeyFault::Failed(fault)));
                return self.follow(new.key).await;
            }
        };
        let taken_over = self.take_over().await;
        let NewKey { key, replaces, .. } = new;
        tracing::info!(%key, %replaces, height, by = subject, "the hub signs by a new key");
        let done = taken_over.map(|()| NewKey { height, ..new });
        let _ = answer.send(done);
    }

    /// Makes the key and asks for its record: the keys, and the block's height or why it may still follow.
    async fn ask(&self, subject: &str) -> Result<(NewKey, Result<u64, String>), KeyFault> {
        let failed = |why: String| KeyFault::Failed(why);
        let (key, chain) = (self.key.clone(), self.planner.chain.clone());
        let made = self.blocking(move || key.prepare(&chain)).await?;
        let rotation = made.map_err(|e| failed(e.to_string()))?;
        let new = NewKey {
            key: rotation.identity.key.unwrap_or(rotation.replaces),
            replaces: rotation.replaces,
            height: 0,
        };
        let sent = self
            .ledger
            .send(RecordLast(Draft::rotate(now(), subject, rotation)));
        let fault = match timeout(PATIENCE, sent).await {
            Ok(Ok(Ok(height))) => return Ok((new, Ok(height))),
            Err(_) => return Ok((new, Err("the ledger does not answer".to_owned()))),
            Ok(Ok(Err(fault @ (RecordFault::Pending(_) | RecordFault::NotAgreed)))) => {
                return Ok((new, Err(fault.to_string())));
            }
            Ok(Ok(Err(fault))) => fault,
            Ok(Err(_)) => RecordFault::Stopped,
        };
        // A ledger that ended may have recorded it: the next start knows.
        if fault != RecordFault::Stopped {
            let key = self.key.clone();
            let gone = self.blocking(move || key.abandon()).await?;
            gone.map_err(|e| failed(e.to_string()))?;
        }
        Err(match fault {
            RecordFault::Stopped => failed(fault.to_string()),
            fault => KeyFault::Busy(format!("the key was not replaced: {fault}")),
        })
    }

    /// Waits until a key that may follow is the one in use.
    async fn follow(&self, key: PublicKey) {
        let mut status = self.status.clone();
        while self.key.public_key() != key {
            if self.key.successor().is_none() || status.changed().await.is_err() {
                return;
            }
        }
        if let Err(error) = self.take_over().await {
            tracing::error!(%error, "the hub signs by its new key, and something is left to do");
        }
    }

    /// What follows when the hub signs by its new key.
    async fn take_over(&self) -> Result<(), KeyFault> {
        let key = self.key.clone();
        let settled = self.blocking(move || key.settle()).await?;
        let left = |why: String| {
            KeyFault::Failed(format!(
                "the hub signs by its new key, but {why}; leave all key files where they are, the next \
                 start finishes it"
            ))
        };
        settled.map_err(|e| left(e.to_string()))?;
        let keys = self.ledger.send(RecordedKeys).await;
        let keys = keys.map_err(|e| left(e.to_string()))?;
        let introduced = self.edges.introduce(&keys.rotations);
        introduced.map_err(|e| left(e.to_string()))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, KeyFault> {
        let done = self.runtime.spawn_blocking(work).await;
        done.map_err(|e| KeyFault::Failed(e.to_string()))
    }

    /// Records a refusal, and returns what to answer: not the rule.
    async fn refuse(&self, caller: &Caller, object: &str, denied: String) -> KeyFault {
        let details = json!({"session": caller.session, "denied": denied});
        let act = Act {
            time: now(),
            subject: &name("user", &caller.user),
            action: Action::Enrol,
            object,
            kind: "rotate-key",
            details: &details,
            response: Response::Refused,
        };
        if let Err(error) = self.journal.record(&act).await {
            return KeyFault::Busy(format!("the refusal could not be recorded: {error}"));
        }
        KeyFault::Denied(format!(
            "`{}` may not replace the key of `{object}`",
            caller.user
        ))
    }
}

#[async_trait]
impl KeyPort for KeyDesk {
    async fn rotate_hub(&self, caller: &Caller) -> Result<NewKey, KeyFault> {
        self.allowed(caller, &name("hub", self.key.id())).await?;
        self.rotate_hub_for(caller).await
    }

    async fn rotate_sealing(&self, caller: &Caller) -> Result<NewSealingKey, KeyFault> {
        self.allowed(caller, &name("hub", self.key.id())).await?;
        self.sealing.rotate(caller).await
    }

    fn sealing(&self) -> SealingKeys {
        self.sealing.keys()
    }

    async fn keys(&self) -> Vec<KnownKey> {
        let keys = self.ledger.send(RecordedKeys).await.unwrap_or_default();
        let known = keys.identities.into_iter();
        let known = known.map(|(id, (identity, former))| KnownKey {
            id,
            kind: identity.kind,
            key: identity.key,
            former,
            revoked: identity.revoked,
        });
        known.collect()
    }

    async fn centres(&self) -> Vec<CentresContent> {
        let keys = self.ledger.send(RecordedKeys).await;
        keys.unwrap_or_default().centres
    }

    async fn set_centres(
        &self,
        caller: &Caller,
        members: Vec<CentreShare>,
    ) -> Result<(u32, u64), KeyFault> {
        self.allowed(caller, &name("hub", self.key.id())).await?;
        let newest = self.centres().await.last().map_or(0, |set| set.version);
        let version = newest.saturating_add(1);
        let centres = CentresContent { version, members };
        let by = name("user", &caller.user);
        let height = self.record(Draft::centres(now(), &by, centres)).await?;
        Ok((version, height))
    }

    async fn enrol(&self, caller: &Caller, key: OfferedKey) -> Result<u64, KeyFault> {
        let identity = match &key {
            OfferedKey::Derived(derived) => &derived.identity,
            OfferedKey::Rotation(rotation) => &rotation.identity,
        };
        let kind = match identity.kind {
            IdentityKind::Edge => "edge",
            IdentityKind::Device => "device",
            _ => {
                let why = "only edge nodes and devices show their keys here";
                return Err(KeyFault::Wrong(why.to_owned()));
            }
        };
        self.allowed(caller, &name(kind, &identity.id)).await?;
        let by = name("user", &caller.user);
        let (id, new) = (identity.id.clone(), identity.key);
        let of_device = identity.kind == IdentityKind::Device;
        let draft = match key {
            OfferedKey::Derived(derived) => Draft::derived(now(), &by, derived),
            OfferedKey::Rotation(rotation) => Draft::rotate(now(), &by, rotation),
        };
        let height = self.record(draft).await?;
        if let Some(new) = new.filter(|_| of_device) {
            self.planner.succeeds(&id, &new);
        }
        Ok(height)
    }

    async fn complain(&self, caller: &Caller, making: Making) -> Result<Option<String>, KeyFault> {
        self.allowed(caller, &name("hub", self.key.id())).await?;
        let sets = self.centres().await;
        let set = sets.iter().find(|set| set.version == making.version);
        let none = || KeyFault::Wrong("the ledger has no such version of the centres".to_owned());
        let set = recorded::centres(making.version, &set.ok_or_else(none)?.members);
        let set = set.map_err(|e| KeyFault::Wrong(e.to_string()))?;
        let fault = match making.judge(&set) {
            Ok(()) => return Ok(None),
            Err(TurnError::Fault(fault)) => fault.to_string(),
            Err(error) => return Err(KeyFault::Wrong(error.to_string())),
        };
        let details = json!({"session": caller.session, "fault": fault, "making": making});
        let act = Act {
            time: now(),
            subject: &name("user", &caller.user),
            action: Action::Grant,
            object: &name("centres", &making.version.to_string()),
            kind: "centre-fault",
            details: &details,
            response: Response::Refused,
        };
        let recorded = self.journal.record(&act).await;
        recorded.map_err(|e| KeyFault::Busy(format!("it could not be recorded: {e}")))?;
        Ok(Some(fault))
    }
}

impl KeyDesk {
    async fn allowed(&self, caller: &Caller, object: &str) -> Result<(), KeyFault> {
        let gate = &self.gate;
        let allowed = gate.passages(&caller.user, Right::Enrol, [object], now());
        match allowed {
            Ok(_) => Ok(()),
            Err(denied) => {
                log_denied(caller, Right::Enrol, object, &denied);
                Err(self.refuse(caller, object, denied.to_string()).await)
            }
        }
    }

    /// Has the ledger look at it and record it.
    async fn record(&self, draft: Draft) -> Result<u64, KeyFault> {
        let _nothing_changes = self.changing.lock().await;
        let sent = timeout(PATIENCE, self.ledger.send(RecordLast(draft))).await;
        let silent = |_| KeyFault::Failed("the ledger does not answer: it may still follow".into());
        let answer = sent.map_err(silent)?;
        let answer = answer.unwrap_or(Err(RecordFault::Stopped));
        answer.map_err(|fault| match fault {
            RecordFault::Refused(why) => KeyFault::Wrong(why),
            RecordFault::Pending(_) | RecordFault::NotAgreed => {
                KeyFault::Failed(format!("{fault}: it may still follow"))
            }
            RecordFault::Stopped => KeyFault::Failed(fault.to_string()),
            fault => KeyFault::Busy(fault.to_string()),
        })
    }
}
