//! Handing out sealed batches: to whoever was granted them, each page on record before it leaves. The hub opens
//! nothing for that.

use super::Readers;
use super::keys::Recipients;
use super::wraps::Wraps;
use crate::access::{Caller, Denied};
use crate::api::{ReadersFault, SealedRequest};
use crate::ledger::act::{Act, name};
use crate::ledger::history::PastError;
use crate::ledger::key_wrap::reader_recipient;
use crate::ledger::reading::{SealedBundle, Wanted, gather, select};
use crate::model::{Nanos, now, rfc3339};
use serde_json::{Value as Json, json};
use weighbridge_verifier::{Action, PublicKey, Response};

/// Kind of the records of what was handed out sealed.
const KIND: &str = "sealed-read";

/// Who reads, and what they may.
struct Reader {
    recipient: String,
    key: PublicKey,
    spans: Vec<(Nanos, Nanos)>,
}

impl Readers {
    /// A page of sealed batches, with the keys wrapped to the caller. That it was asked, and a refusal, is durable
    /// in the record when this returns.
    ///
    /// # Errors
    /// When the caller was not granted any of it, it cannot be recorded, or cannot be read.
    pub async fn sealed(
        &self,
        caller: &Caller,
        request: SealedRequest,
    ) -> Result<SealedBundle, ReadersFault> {
        let (id, object) = (name("user", &caller.user), name("device", &request.device));
        let (state, time) = (self.0.gate.state(), now());
        let may = state.sealed_for(&id, &object, (self.0.gate.hub(), time));
        let denied = may.as_ref().err();
        let details = json!({
            "from": rfc3339(request.range.0),
            "from_ns": request.range.0.to_string(),
            "to": rfc3339(request.range.1),
            "to_ns": request.range.1.to_string(),
            "after": request.after.map(|(epoch, sequence)| format!("{epoch}.{sequence}")),
            "session": caller.session,
        });
        self.told((&id, &object), (Action::Read, KIND), denied, details)
            .await?;
        let found = may.ok().zip(state.reader(&id));
        let Some(((_, spans), reader)) = found else {
            let (user, device) = (&caller.user, &request.device);
            let why = format!("{user} may not take what is recorded of {device} away");
            return Err(ReadersFault::Denied(why));
        };
        let reader = Reader {
            recipient: reader_recipient(&id, &reader.key),
            key: reader.key,
            spans,
        };
        self.page(request, reader).await
    }

    /// Records what was asked, or that it was refused, and returns once that is durable.
    pub(super) async fn told(
        &self,
        (subject, object): (&str, &str),
        (action, kind): (Action, &str),
        denied: Option<&Denied>,
        mut details: Json,
    ) -> Result<u64, ReadersFault> {
        if let Some(denied) = denied {
            tracing::warn!(subject, object, kind, rule = denied.rule(), %denied, "denied");
            details["rule"] = json!(denied.rule());
            details["denied"] = json!(denied.to_string());
        }
        let act = Act {
            time: now(),
            subject,
            action,
            object,
            kind,
            details: &details,
            response: match denied {
                None => Response::Accepted,
                Some(_) => Response::Refused,
            },
        };
        let recorded = self.0.journal.record(&act).await;
        recorded.map_err(|e| ReadersFault::NotRecorded(e.to_string()))
    }

    async fn page(
        &self,
        request: SealedRequest,
        reader: Reader,
    ) -> Result<SealedBundle, ReadersFault> {
        let inner = &*self.0;
        self.indexed().map_err(ReadersFault::Unreadable)?;
        let to = Recipients::from([(reader.recipient.clone(), reader.key)]);
        let (store, planner) = (inner.store.clone(), inner.planner.clone());
        let (looked, asked) = (store.clone(), request.clone());
        let (recipient, spans) = (reader.recipient.clone(), reader.spans.clone());
        let selected = move || select(&*looked, &wanted(&asked, &recipient, &spans));
        let page = self.reading(selected).await?;
        // Who may read what was gets no key that is still in use.
        let in_use = planner.keys.made().remove(&request.device);
        if in_use.is_some_and(|(epoch, made_for)| {
            page.epochs().contains(&epoch) && !to.is_subset(&made_for)
        }) {
            let renewed = self.renew(&request.device).await;
            renewed.map_err(|error| ReadersFault::Unreadable(error.0))?;
        }
        {
            // No key is erased meanwhile: what is made here would outlive it.
            let nothing_changes = inner.changing.clone().lock_owned().await;
            let (store, device, epochs) = (store.clone(), request.device.clone(), page.epochs());
            self.reading(move || {
                let _nothing_changes = nothing_changes;
                let wraps = Wraps {
                    store: &*store,
                    opener: &planner.opener,
                    maker: &planner.keys,
                };
                wraps.ensure(&device, &epochs, &to)
            })
            .await?;
        }
        let explorer = inner.explorer.clone();
        self.reading(move || {
            let wanted = wanted(&request, &reader.recipient, &reader.spans);
            gather(&*store, &explorer, &wanted, &page)
        })
        .await
    }

    /// Reads the store on a thread that may take long, one at a time.
    pub(super) async fn reading<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, PastError> + Send + 'static,
    ) -> Result<T, ReadersFault> {
        let unreadable = |why: String| ReadersFault::Unreadable(why);
        let turn = self.0.turns.clone().acquire_owned().await;
        let turn = turn.map_err(|e| unreadable(e.to_string()))?;
        let done = self.0.runtime.spawn_blocking(move || {
            // Held by the work itself: whoever stops waiting for it does not make room for more.
            let _turn = turn;
            work()
        });
        match done.await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(PastError::TooMuch(why))) => Err(ReadersFault::TooMuch(why)),
            Ok(Err(error)) => Err(unreadable(error.to_string())),
            Err(panic) => Err(unreadable(panic.to_string())),
        }
    }
}

fn wanted<'a>(
    request: &'a SealedRequest,
    recipient: &'a str,
    spans: &'a [(Nanos, Nanos)],
) -> Wanted<'a> {
    Wanted {
        device: &request.device,
        recipient,
        range: request.range,
        spans,
        after: request.after,
    }
}
