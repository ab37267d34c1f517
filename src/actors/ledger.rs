//! The ledger's actor: gathers records into the open block and has it made durable.
//!
//! Receives [`Append`]; closes the block at N records or T ms after its first, never empty. One block
//! is written at a time, on a worker thread; what arrives meanwhile is the next block. Only when block
//! and head are on disk are the batches settled: counted, acknowledged, their credits returned. A full
//! disk keeps the block and tries again, so the devices slow down and nothing is lost; a broken
//! invariant stops the hub with the reason.

use super::credit::{Credit, SourceTimes};
use super::device::BatchSettled;
use super::work::Workers;
use crate::ledger::act::SealedAct;
use crate::ledger::facts::{Document, Identity};
use crate::ledger::store::{Put, StoreError};
use crate::ledger::{Draft, Ledger, LedgerError, State, Tip};
use crate::model::{DeviceId, Nanos, VerdictClass, now};
use crate::protocols::edge::wire::Standing;
use crate::stats::{Refusal, Stats};
use actix::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{broadcast, oneshot, watch};
use weighbridge_verifier::{Block, CentresContent, Hash, PublicKey};

/// When a block closes, whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockLimits {
    /// After this many records.
    pub records: usize,
    /// This long after its first record arrived.
    pub age: Duration,
    /// How long an act that may wait for others does so. A block costs as much as a few acts in it (two
    /// signatures, two writes that are synced), and while others are answered the machine is not idle.
    pub company: Duration,
}

impl Default for BlockLimits {
    fn default() -> Self {
        Self {
            records: 64,
            age: Duration::from_millis(100),
            company: Duration::from_millis(4),
        }
    }
}

/// How often a write that the disk refused is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Append records, and the values they answer for, to the open block.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Append {
    /// The records, not yet signed.
    pub drafts: Vec<Draft>,
    /// Ciphertexts and wrapped keys that must be durable with them.
    pub puts: Vec<Put>,
    /// What to do when they are.
    pub settle: Option<Settle>,
}

/// What is due once a batch is durable.
pub struct Settle {
    /// The device of the batch.
    pub device: DeviceId,
    /// The batch's epoch.
    pub epoch: u64,
    /// The batch's sequence number.
    pub sequence: u64,
    /// What validation said of it.
    pub class: VerdictClass,
    /// Its samples.
    pub points: u64,
    /// Their source times.
    pub times: SourceTimes,
    /// For the status page, when it was refused.
    pub refusal: Option<Refusal>,
    /// Whom to tell.
    pub settled: Option<Recipient<BatchSettled>>,
    /// Dropped, and so returned, when it is settled.
    pub credit: Credit,
}

/// Make an act of a user durable now: the block closes at once, whatever else it holds, and acts that
/// come while a block is written share the next one. Answers with the block's height when the act is
/// durable.
#[derive(Message)]
#[rtype(result = "Result<u64, RecordFault>")]
pub struct Record {
    /// The act.
    pub act: SealedAct,
    /// Whether it may wait a moment ([`BlockLimits::company`]) for others to share its block with. Who is alone should not ask
    /// for that, and nobody whose act is about a machine.
    pub in_company: bool,
}

/// Record what is looked at first, and comes last in a block that is closed at once: a key that takes the place
/// of another, key generation centres. Answers with the block's height when it is durable; if it gives
/// the hub a key, the hub signs by that one then.
#[derive(Message)]
#[rtype(result = "Result<u64, RecordFault>")]
pub struct RecordLast(pub Draft);

/// Why an act is not known to be durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// The disk refuses, and the act was not taken.
    #[error("the ledger cannot be written: {0}")]
    Waiting(String),
    /// The disk began to refuse when the act was taken already: it may still become durable.
    #[error("the ledger cannot be written for now: {0}")]
    Pending(String),
    /// Too many acts wait for their block.
    #[error("too many acts wait to be recorded")]
    Busy,
    /// It may not come next, and was not taken.
    #[error("{0}")]
    Refused(String),
    /// The ledger is gone, or ended before the act was written.
    #[error("the ledger has stopped")]
    Stopped,
}

/// Acts that may wait for one block.
const MAX_ACTS: usize = 1_024;

/// Who waits for an act to be durable.
type ActDone = oneshot::Sender<Result<u64, RecordFault>>;

/// The hub is ending: from now on no record waits for others to share its block with. Answers when
/// nothing is left to write.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Close;

/// Asks for the number of a device's next batch, epoch and sequence, as the durable ledger has it.
#[derive(Message)]
#[rtype(result = "(u64, u64)")]
pub struct NextBatch(pub DeviceId);

/// Asks for what the durable ledger has of a device, and of it from the edge node with this key, to be
/// watched.
#[derive(Message)]
#[rtype(result = "watch::Receiver<Standing>")]
pub struct Follow(pub DeviceId, pub PublicKey);

/// Asks for the validation settings and limits in force for a device. Answers when all that came
/// before is durable, so that nothing is under way that would change them.
#[derive(Message)]
#[rtype(result = "Option<Document>")]
pub struct RecordedSettings(pub DeviceId);

/// Asks whom of these ids the ledger knows. Answers as [`RecordedSettings`] does.
#[derive(Message)]
#[rtype(result = "BTreeMap<String, Identity>")]
pub struct KnownIdentities(pub Vec<String>);

/// Asks for the state after the newest durable block, and its height; `None` when the ledger broke.
#[derive(Message)]
#[rtype(result = "Option<(State, u64)>")]
pub struct CurrentState;

/// Asks for the keys of all identities. Answers as [`RecordedSettings`] does.
#[derive(Message)]
#[rtype(result = "Keys")]
pub struct RecordedKeys;

/// The keys of all identities.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// Identities, each with the keys that it had before, oldest first, by id.
    pub identities: BTreeMap<String, (Identity, Vec<PublicKey>)>,
    /// The records by which hubs changed their keys, in order.
    pub rotations: Vec<weighbridge_verifier::Record>,
    /// The versions of the set of key generation centres.
    pub centres: Vec<CentresContent>,
}

/// A block is durable: what was acknowledged with it.
#[derive(Clone, Debug)]
pub struct BlockCommitted {
    /// The block.
    pub tip: LedgerTip,
    /// Device, epoch, sequence and verdict of every batch in it, in order.
    pub batches: Vec<(DeviceId, u64, u64, VerdictClass)>,
}

/// Blocks that a slow listener may be behind before it misses some, and is told how many.
const LISTENER_LAG: usize = 256;

/// The newest durable block, and how many records the chain has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerTip {
    /// The block's height.
    pub height: u64,
    /// Its hash.
    pub hash: Hash,
    /// When it was made.
    pub time: Nanos,
    /// Records in the whole chain.
    pub records: u64,
}

impl LedgerTip {
    fn of(tip: &Tip, records: u64) -> Self {
        Self {
            height: tip.height,
            hash: tip.hash,
            time: tip.time,
            records,
        }
    }
}

/// How the ledger is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerHealth {
    /// Working.
    Up,
    /// The disk refuses; it is tried again.
    Waiting(String),
    /// An invariant is broken; the hub must stop.
    Broken(String),
}

/// What the rest of the hub sees of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerStatus {
    /// The newest durable block.
    pub tip: LedgerTip,
    /// How it is.
    pub health: LedgerHealth,
}

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

/// A look at the ledger, between two blocks.
type Look = Box<dyn FnOnce(&Ledger) + Send>;

/// The ledger of one chain.
pub struct LedgerActor {
    /// Away while a worker writes.
    ledger: Option<Ledger>,
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
    pub fn new(ledger: Ledger, limits: BlockLimits, stats: Arc<Stats>, workers: Workers) -> Self {
        let tip = LedgerTip::of(ledger.tip(), ledger.state().totals().records);
        let newest = ledger.state().devices().iter();
        let newest: BTreeMap<DeviceId, _> = newest
            .map(|(device, at)| (device.as_str().into(), (at.epoch, at.sequence)))
            .collect();
        let standing = ledger.state().attested().iter();
        let standing = standing
            .map(|(device, attested)| {
                let newest = newest.get(device.as_str()).copied().unwrap_or_default();
                let of_key = attested.iter().map(|(key, at)| {
                    let own = (at.epoch, at.sequence);
                    (*key, watch::Sender::new(Standing { newest, own }))
                });
                (device.as_str().into(), of_key.collect())
            })
            .collect();
        Self {
            ledger: Some(ledger),
            limits,
            open: Open::default(),
            refused: None,
            timer: None,
            closing: Vec::new(),
            written: 0,
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

    /// Tells those who watch what the ledger has of `device`.
    fn show_standing(&self, device: &DeviceId) {
        let Some(watched) = self.standing.get(device) else {
            return;
        };
        let newest = self.newest.get(device).copied().unwrap_or_default();
        let state = self.ledger.as_ref().map(Ledger::state);
        let attested = state.and_then(|state| state.attested().get(&**device));
        for (key, standing) in watched {
            let own = attested.and_then(|attested| attested.get(key));
            let own = own.map_or((0, 0), |at| (at.epoch, at.sequence));
            standing.send_replace(Standing { newest, own });
        }
    }

    fn schedule(&mut self, ctx: &mut Context<Self>) {
        if self.ledger.is_none() || self.refused.is_some() || self.open.is_empty() {
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
        let Some(mut ledger) = self.ledger.take() else {
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
            mut drafts,
            puts,
            settles,
            mut acts,
            last,
            ..
        } = open;
        if let Some((draft, done)) = last {
            match ledger.takes(&draft, now()) {
                Ok(()) => {
                    drafts.push(draft);
                    acts.push(done);
                }
                Err(why) => answer(vec![done], &Err(RecordFault::Refused(why))),
            }
        }
        if refused.is_none() && drafts.is_empty() {
            self.ledger = Some(ledger);
            return;
        }
        let settles = refused.unwrap_or(settles);
        let (workers, stats) = (self.workers.clone(), self.stats.clone());
        let writing = async move {
            let written = workers.run(move || {
                let began = Instant::now();
                let written = if again {
                    ledger.retry()
                } else {
                    ledger.append(&drafts, puts, now())
                };
                let took = i64::try_from(began.elapsed().as_nanos()).unwrap_or(i64::MAX);
                stats.commit.observe(took, 1);
                (ledger, written)
            });
            (written.await, settles, acts)
        };
        ctx.spawn(writing.into_actor(self).map(
            |(written, settles, acts), actor, ctx| match written {
                Ok((ledger, Ok(block))) => {
                    actor.ledger = Some(ledger);
                    actor.settle(&block, settles);
                    answer(acts, &Ok(actor.tip.height));
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
                Ok((ledger, Err(LedgerError::Store(error)))) => {
                    actor.ledger = Some(ledger);
                    answer(acts, &Err(RecordFault::Pending(error.to_string())));
                    actor.try_again(settles, &error, ctx);
                }
                Ok((_, Err(error))) => actor.broken(error.to_string(), ctx),
                Err(panic) => actor.broken(panic.to_string(), ctx),
            },
        ));
    }

    fn settle(&mut self, block: &Block, settles: Vec<Settle>) {
        let records = self.tip.records + block.records.len() as u64;
        self.tip = LedgerTip::of(&Tip::of(&block.header), records);
        let sealed = block.records.iter().filter_map(|r| r.body.sealed());
        let stored = sealed.map(|sealed| sealed.length).sum();
        self.stats.count_block(block.records.len() as u64, stored);
        let durable = now();
        let mut batches = Vec::with_capacity(settles.len());
        for settle in settles {
            self.stats.count_batch(settle.class, settle.points);
            let newest = (settle.epoch, settle.sequence);
            batches.push((settle.device.clone(), newest.0, newest.1, settle.class));
            self.newest.insert(settle.device, newest);
            for (time, samples) in settle.times.0 {
                self.stats
                    .latency
                    .observe(durable.saturating_sub(time), u64::from(samples));
            }
            if let Some(refusal) = settle.refusal {
                self.stats.refused(refusal);
            }
            if let Some(device) = settle.settled {
                let settled = BatchSettled {
                    sequence: settle.sequence,
                    class: settle.class,
                    height: self.tip.height,
                };
                // At most BATCHES_UNDER_WAY of them wait in a device's mailbox; when the device is
                // being rebuilt nobody needs to know.
                let _ = device.try_send(settled);
            }
            settle.credit.settled();
        }
        for (device, ..) in &batches {
            self.show_standing(device);
        }
        let tip = self.tip;
        // Nobody listening is fine.
        let _ = self
            .committed
            .send(Arc::new(BlockCommitted { tip, batches }));
        self.show(LedgerHealth::Up);
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

    fn answer_asking(&mut self) {
        let Some(ledger) = &self.ledger else { return };
        let asking = std::mem::take(&mut self.asking);
        for (blocks, look) in asking {
            if blocks > self.written {
                self.asking.push((blocks, look));
            } else {
                look(ledger);
            }
        }
    }

    /// Has a look at the ledger when all that came before is durable.
    fn look<T: Send + 'static>(
        &mut self,
        look: impl FnOnce(&Ledger) -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (answer, wait) = oneshot::channel();
        let being_written = self.ledger.is_none() || self.refused.is_some();
        let before = u64::from(being_written) + u64::from(!self.open.is_empty());
        // Whoever asked may have stopped waiting.
        let look = move |ledger: &Ledger| drop(answer.send(look(ledger)));
        self.asking.push((self.written + before, Box::new(look)));
        self.answer_asking();
        wait
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

/// The keys of all identities, as `ledger` has them.
pub fn keys_of(ledger: &Ledger) -> Keys {
    let state = ledger.state();
    let identities = state.identities().iter().map(|(id, identity)| {
        let former = state.former_keys(id).to_vec();
        (id.clone(), (identity.clone(), former))
    });
    let centres = state.centres().iter();
    let centres = centres.map(|(version, members)| CentresContent {
        version: *version,
        members: members.clone(),
    });
    Keys {
        identities: identities.collect(),
        rotations: ledger.rotations().to_vec(),
        centres: centres.collect(),
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

impl Handler<NextBatch> for LedgerActor {
    type Result = MessageResult<NextBatch>;

    fn handle(&mut self, NextBatch(device): NextBatch, _: &mut Self::Context) -> Self::Result {
        let newest = self.newest.get(&device).copied().unwrap_or_default();
        MessageResult((newest.0.max(1), newest.1 + 1))
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
        let wait = self.look(move |ledger| ledger.state().device_settings(&device).cloned());
        Box::pin(async move { wait.await.unwrap_or(None) })
    }
}

impl Handler<CurrentState> for LedgerActor {
    type Result = ResponseFuture<Option<(State, u64)>>;

    fn handle(&mut self, _: CurrentState, _: &mut Self::Context) -> Self::Result {
        let wait = self.look(|ledger| (ledger.state().clone(), ledger.tip().height));
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
        let wait = self.look(move |ledger| {
            let known = ledger.state().identities();
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

impl Handler<Close> for LedgerActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Close, ctx: &mut Self::Context) -> Self::Result {
        self.limits.records = 1;
        self.schedule(ctx);
        let idle = self.ledger.is_some() && self.refused.is_none() && self.open.is_empty();
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
