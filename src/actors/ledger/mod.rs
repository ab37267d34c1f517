//! The ledger's actor: gathers records into the open block and has it made durable.
//!
//! Receives [`Append`]; closes the block at N records or T ms after its first, never empty. One block
//! is written at a time, on a worker thread; what arrives meanwhile is the next block. Only when block
//! and head are on disk are the batches settled: counted, acknowledged, their credits returned. A full
//! disk keeps the block and tries again, so the devices slow down and nothing is lost; a broken
//! invariant stops the hub with the reason.

mod agree;
mod book;
mod look;
mod messages;
mod settle;

pub use book::{Book, View, keys_of};
pub use messages::{
    Append, BlockCommitted, BlockLimits, Close, CurrentState, Follow, Keys, KnownIdentities,
    LedgerHealth, LedgerStatus, LedgerTip, NextBatch, Record, RecordFault, RecordLast,
    RecordedKeys, RecordedSettings, Settle,
};

use super::work::Workers;
use crate::ledger::store::{Put, StoreError};
use crate::ledger::{Draft, LedgerError};
use crate::model::{DeviceId, now};
use crate::protocols::edge::wire::Standing;
use crate::stats::Stats;
use actix::prelude::*;
use agree::Agreeing;
use book::Written;
use look::Look;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{broadcast, oneshot, watch};
use weighbridge_verifier::PublicKey;

/// How often a write that the disk refused is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Acts that may wait for one block.
const MAX_ACTS: usize = 1_024;

/// Who waits for an act to be durable.
type ActDone = oneshot::Sender<Result<u64, RecordFault>>;

/// Blocks that a slow listener may be behind before it misses some, and is told how many.
const LISTENER_LAG: usize = 256;

/// The open block.
#[derive(Default)]
struct Open {
    drafts: Vec<Draft>,
    puts: Vec<Put>,
    settles: Vec<Settle>,
    /// Who waits for an act in it.
    acts: Vec<ActDone>,
    /// Whether one of them may not wait for others.
    urgent: bool,
    /// What is looked at first, and comes last.
    last: Option<(Draft, ActDone)>,
}

impl Open {
    fn is_empty(&self) -> bool {
        self.drafts.is_empty() && self.last.is_none()
    }
}

/// The ledger of one chain.
pub struct LedgerActor {
    /// Away while a worker writes.
    book: Option<Book>,
    limits: BlockLimits,
    open: Open,
    /// What is due for a block that the disk refused; the ledger keeps the block.
    refused: Option<Vec<Settle>>,
    /// When the open block closes or a refused one is tried again, and whether that is for acts.
    timer: Option<(SpawnHandle, bool)>,
    /// Who waits until nothing is left to write.
    closing: Vec<oneshot::Sender<()>>,
    /// Blocks written since the start.
    written: u64,
    /// Who waits for other hubs to agree, and how many have.
    agreeing: Vec<Agreeing>,
    asked: u64,
    /// This hub's id, where it shares the chain.
    book_of: Option<String>,
    /// Who waits for a look at the ledger, and how many blocks must be written before.
    asking: Vec<(u64, Look)>,
    status: watch::Sender<LedgerStatus>,
    committed: broadcast::Sender<Arc<BlockCommitted>>,
    tip: LedgerTip,
    /// Epoch and sequence of every device's newest durable batch.
    newest: BTreeMap<DeviceId, (u64, u64)>,
    /// The same beside the newest of each edge node, for devices that edge nodes have ever read.
    standing: BTreeMap<DeviceId, BTreeMap<PublicKey, watch::Sender<Standing>>>,
    stats: Arc<Stats>,
    workers: Workers,
}

impl LedgerActor {
    /// The actor of an opened ledger.
    pub fn new(
        book: impl Into<Book>,
        limits: BlockLimits,
        stats: Arc<Stats>,
        workers: Workers,
    ) -> Self {
        let book = book.into();
        let book_of = book.shared().map(|shared| shared.hub().to_owned());
        let (tip, newest, standing) = book.look(|view| {
            let tip = LedgerTip::of(&view.tip, view.state.totals().records);
            let newest = settle::newest(view.state);
            let standing = settle::standing(view.state, &newest);
            (tip, newest, standing)
        });
        Self {
            book: Some(book),
            limits,
            open: Open::default(),
            refused: None,
            timer: None,
            closing: Vec::new(),
            written: 0,
            agreeing: Vec::new(),
            asked: 0,
            book_of,
            asking: Vec::new(),
            status: watch::Sender::new(LedgerStatus {
                tip,
                health: LedgerHealth::Up,
            }),
            committed: broadcast::Sender::new(LISTENER_LAG),
            tip,
            newest,
            standing,
            stats,
            workers,
        }
    }

    /// Where the ledger's state can be watched.
    pub fn status(&self) -> watch::Receiver<LedgerStatus> {
        self.status.subscribe()
    }

    /// Where durable blocks can be heard of.
    pub fn committed(&self) -> broadcast::Sender<Arc<BlockCommitted>> {
        self.committed.clone()
    }

    fn schedule(&mut self, ctx: &mut Context<Self>) {
        if self.book.is_none() || self.refused.is_some() || self.open.is_empty() {
            return;
        }
        let urgent = self.open.urgent || self.open.last.is_some();
        if self.open.drafts.len() >= self.limits.records || urgent {
            return self.write(ctx);
        }
        // Acts do not wait as long as batches do, and whichever came first has the timer.
        let acts = !self.open.acts.is_empty();
        let age = if acts {
            self.limits.company.min(self.limits.age)
        } else {
            self.limits.age
        };
        if let Some((timer, for_acts)) = self.timer {
            if for_acts || !acts {
                return;
            }
            ctx.cancel_future(timer);
        }
        let timer = ctx.run_later(age, |actor, ctx| {
            actor.timer = None;
            actor.write(ctx);
        });
        self.timer = Some((timer, acts));
    }

    fn write(&mut self, ctx: &mut Context<Self>) {
        if let Some((timer, _)) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        let Some(mut book) = self.book.take() else {
            return;
        };
        // A block that the disk refused is signed already, and comes before all others.
        let refused = self.refused.take();
        let open = match refused {
            Some(_) => Open::default(),
            None => std::mem::take(&mut self.open),
        };
        let again = refused.is_some();
        let Open {
            drafts,
            puts,
            settles,
            acts,
            last,
            ..
        } = open;
        let (last, asked) = last.unzip();
        let asked = asked.zip(last.clone());
        let settles = refused.unwrap_or(settles);
        let (workers, stats) = (self.workers.clone(), self.stats.clone());
        let writing = async move {
            let written = workers.run(move || {
                let began = Instant::now();
                let written = if again {
                    book.retry()
                } else {
                    book.append(drafts, last, puts, now())
                };
                let took = i64::try_from(began.elapsed().as_nanos()).unwrap_or(i64::MAX);
                stats.commit.observe(took, 1);
                (book, written)
            });
            (written.await, settles, (acts, asked))
        };
        ctx.spawn(
            writing
                .into_actor(self)
                .map(
                    |(written, settles, (acts, asked)), actor, ctx| match written {
                        Ok((book, Ok(written))) => {
                            actor.book = Some(book);
                            actor.durable(written, settles, (acts, asked), ctx);
                            actor.written += 1;
                            actor.answer_asking();
                            if actor.open.is_empty() {
                                for done in actor.closing.drain(..) {
                                    // Whoever asked may have stopped waiting.
                                    let _ = done.send(());
                                }
                            }
                            actor.schedule(ctx);
                        }
                        Ok((book, Err(LedgerError::Store(error)))) => {
                            actor.book = Some(book);
                            let asked = asked.map(|(done, _)| done);
                            let acts = acts.into_iter().chain(asked).collect();
                            answer(acts, &Err(RecordFault::Pending(error.to_string())));
                            actor.try_again(settles, &error, ctx);
                        }
                        Ok((_, Err(error))) => actor.broken(error.to_string(), ctx),
                        Err(panic) => actor.broken(panic.to_string(), ctx),
                    },
                ),
        );
    }

    /// What was asked for is durable: answers those who wait.
    fn durable(
        &mut self,
        mut written: Written,
        settles: Vec<Settle>,
        (acts, asked): (Vec<ActDone>, Option<(ActDone, Draft)>),
        ctx: &mut Context<Self>,
    ) {
        let refused = written.refused.take();
        let agreed = written.block.is_some();
        let height = match &written.block {
            Some(tip) => tip.height,
            // In one of the blocks to come.
            None => self.next_height(),
        };
        if !written.records.is_empty() {
            self.settle(written, settles);
        }
        answer(acts, &Ok(height));
        match (asked, refused) {
            (None, _) => {}
            (Some((done, _)), Some(why)) => answer(vec![done], &Err(RecordFault::Refused(why))),
            (Some((done, _)), None) if agreed => answer(vec![done], &Ok(height)),
            // What others must know of counts when they do.
            (Some((done, draft)), None) => self.wait_for(draft, done, ctx),
        }
    }

    /// Keeps a block that the disk refused, and tries again after a while. Meanwhile the credits that
    /// it holds slow the devices down.
    fn try_again(&mut self, settles: Vec<Settle>, error: &StoreError, ctx: &mut Context<Self>) {
        tracing::error!(%error, "the block cannot be written, trying again");
        let reason = error.to_string();
        // Whoever acts upon a machine must hear soon that it was not recorded. The act itself stays.
        let waiting = std::mem::take(&mut self.open.acts);
        answer(waiting, &Err(RecordFault::Pending(reason.clone())));
        self.show(LedgerHealth::Waiting(reason));
        self.refused = Some(settles);
        let timer = ctx.run_later(RETRY, |actor, ctx| {
            actor.timer = None;
            actor.write(ctx);
        });
        self.timer = Some((timer, false));
    }

    fn show(&self, health: LedgerHealth) {
        let tip = self.tip;
        self.status.send_replace(LedgerStatus { tip, health });
    }

    fn broken(&mut self, reason: String, ctx: &mut Context<Self>) {
        tracing::error!(reason, "the ledger is broken, the hub stops");
        self.show(LedgerHealth::Broken(reason));
        ctx.stop();
    }
}

fn answer(acts: Vec<ActDone>, result: &Result<u64, RecordFault>) {
    for done in acts {
        // Whoever asked may have stopped waiting.
        let _ = done.send(result.clone());
    }
}

impl Actor for LedgerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.listen(ctx);
    }
}

impl Handler<Append> for LedgerActor {
    type Result = ();

    fn handle(&mut self, append: Append, ctx: &mut Self::Context) {
        self.open.drafts.extend(append.drafts);
        self.open.puts.extend(append.puts);
        self.open.settles.extend(append.settle);
        self.schedule(ctx);
    }
}

impl Handler<Record> for LedgerActor {
    type Result = ResponseFuture<Result<u64, RecordFault>>;

    fn handle(
        &mut self,
        Record { act, in_company }: Record,
        ctx: &mut Self::Context,
    ) -> Self::Result {
        if self.refused.is_some()
            && let LedgerHealth::Waiting(reason) = &self.status.borrow().health
        {
            let fault = RecordFault::Waiting(reason.clone());
            return Box::pin(async { Err(fault) });
        }
        if self.open.acts.len() >= MAX_ACTS {
            return Box::pin(async { Err(RecordFault::Busy) });
        }
        let (draft, puts) = act.into_parts();
        self.open.drafts.push(draft);
        self.open.puts.extend(puts);
        let (done, wait) = oneshot::channel();
        self.open.acts.push(done);
        self.open.urgent |= !in_company;
        self.schedule(ctx);
        Box::pin(async move { wait.await.unwrap_or(Err(RecordFault::Stopped)) })
    }
}

impl Handler<RecordLast> for LedgerActor {
    type Result = ResponseFuture<Result<u64, RecordFault>>;

    fn handle(&mut self, RecordLast(draft): RecordLast, ctx: &mut Self::Context) -> Self::Result {
        if self.refused.is_some()
            && let LedgerHealth::Waiting(reason) = &self.status.borrow().health
        {
            let fault = RecordFault::Waiting(reason.clone());
            return Box::pin(async { Err(fault) });
        }
        if self.open.last.is_some() {
            return Box::pin(async { Err(RecordFault::Busy) });
        }
        let (done, wait) = oneshot::channel();
        self.open.last = Some((draft, done));
        self.schedule(ctx);
        Box::pin(async move { wait.await.unwrap_or(Err(RecordFault::Stopped)) })
    }
}

impl Handler<Close> for LedgerActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Close, ctx: &mut Self::Context) -> Self::Result {
        self.limits.records = 1;
        self.schedule(ctx);
        let idle = self.book.is_some() && self.refused.is_none() && self.open.is_empty();
        if idle {
            return Box::pin(async {});
        }
        let (done, wait) = oneshot::channel();
        self.closing.push(done);
        Box::pin(async move {
            // A ledger that breaks meanwhile drops the sender; its status says so.
            let _ = wait.await;
        })
    }
}
