//! Looking at the ledger between two blocks: the state, and what is asked of it.

use super::LedgerActor;
use super::book::{View, keys_of, look_at};
use super::messages::{
    CurrentState, Follow, Keys, KnownIdentities, NextBatch, RecordedKeys, RecordedSettings,
};
use crate::ledger::State;
use crate::ledger::facts::{Document, Identity};
use crate::protocols::edge::wire::Standing;
use actix::prelude::*;
use std::collections::BTreeMap;
use tokio::sync::{oneshot, watch};

/// A look at the ledger, between two blocks.
pub(super) type Look = Box<dyn FnOnce(View<'_>) + Send>;

impl LedgerActor {
    pub(super) fn answer_asking(&mut self) {
        let Some(book) = &self.book else { return };
        let asking = std::mem::take(&mut self.asking);
        for (blocks, look) in asking {
            if blocks > self.written {
                self.asking.push((blocks, look));
            } else if let Some(shared) = book.shared() {
                // Others use it at the same time, and may be waiting for a disk.
                let (shared, workers) = (shared.clone(), self.workers.clone());
                actix::spawn(async move {
                    let looked = workers.run(move || look_at(&shared, look)).await;
                    if let Err(error) = looked {
                        tracing::error!(%error, "a look at the ledger failed");
                    }
                });
            } else {
                book.look(look);
            }
        }
    }

    /// Has a look at the ledger when all that came before is durable.
    fn look<T: Send + 'static>(
        &mut self,
        look: impl FnOnce(View<'_>) -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (answer, wait) = oneshot::channel();
        let being_written = self.book.is_none() || self.refused.is_some();
        let before = u64::from(being_written) + u64::from(!self.open.is_empty());
        // Whoever asked may have stopped waiting.
        let look = move |view: View<'_>| drop(answer.send(look(view)));
        self.asking.push((self.written + before, Box::new(look)));
        self.answer_asking();
        wait
    }
}

impl Handler<NextBatch> for LedgerActor {
    type Result = ResponseFuture<(u64, u64)>;

    fn handle(
        &mut self,
        NextBatch(device, lease): NextBatch,
        _: &mut Self::Context,
    ) -> Self::Result {
        let Some(epoch) = lease else {
            let newest = self.newest.get(&device).copied().unwrap_or_default();
            return Box::pin(std::future::ready((newest.0.max(1), newest.1 + 1)));
        };
        // Others may read it under newer ones by now.
        let wait = self.look(move |view| {
            let leases = view.state.leases(&device).iter();
            let own = leases.rev().find(|lease| lease.epoch == epoch);
            own.map_or(0, |lease| lease.sequence)
        });
        Box::pin(async move { (epoch, wait.await.unwrap_or(0) + 1) })
    }
}

impl Handler<Follow> for LedgerActor {
    type Result = MessageResult<Follow>;

    fn handle(&mut self, Follow(device, key): Follow, _: &mut Self::Context) -> Self::Result {
        let newest = self.newest.get(&device).copied().unwrap_or_default();
        let watched = self.standing.entry(device).or_default().entry(key);
        let nothing = || {
            let own = (0, 0);
            watch::Sender::new(Standing { newest, own })
        };
        MessageResult(watched.or_insert_with(nothing).subscribe())
    }
}

impl Handler<RecordedSettings> for LedgerActor {
    type Result = ResponseFuture<Option<Document>>;

    fn handle(
        &mut self,
        RecordedSettings(device): RecordedSettings,
        _: &mut Self::Context,
    ) -> Self::Result {
        let wait = self.look(move |view| view.state.device_settings(&device).cloned());
        Box::pin(async move { wait.await.unwrap_or(None) })
    }
}

impl Handler<CurrentState> for LedgerActor {
    type Result = ResponseFuture<Option<(State, u64)>>;

    fn handle(&mut self, _: CurrentState, _: &mut Self::Context) -> Self::Result {
        let wait = self.look(|view| (view.state.clone(), view.tip.height));
        Box::pin(async move { wait.await.ok() })
    }
}

impl Handler<KnownIdentities> for LedgerActor {
    type Result = ResponseFuture<BTreeMap<String, Identity>>;

    fn handle(
        &mut self,
        KnownIdentities(ids): KnownIdentities,
        _: &mut Self::Context,
    ) -> Self::Result {
        let wait = self.look(move |view| {
            let known = view.state.identities();
            let known = ids
                .into_iter()
                .filter_map(|id| known.get(&id).cloned().map(|k| (id, k)));
            known.collect()
        });
        // A ledger that breaks meanwhile stops the hub.
        Box::pin(async move { wait.await.unwrap_or_default() })
    }
}

impl Handler<RecordedKeys> for LedgerActor {
    type Result = ResponseFuture<Keys>;

    fn handle(&mut self, _: RecordedKeys, _: &mut Self::Context) -> Self::Result {
        let wait = self.look(keys_of);
        Box::pin(async move { wait.await.unwrap_or_default() })
    }
}
