//! The sealing of one device's batches.
//!
//! Receives [`SealBatch`], makes salts, leaves and inner root, encrypts on a worker thread, and sends
//! record and ciphertext to the ledger. Holds the device's epoch key; changes it after a bounded
//! number of messages or a bounded time. A batch that cannot be sealed stops the device's pipeline,
//! for a hole in the sequence would be a silent loss.

use super::admission::{Admission, barred};
use super::credit::{Credit, SourceTimes};
use super::device::{BatchSettled, DeviceActor};
use super::ledger::{Append, LedgerActor, Settle};
use super::work::Workers;
use crate::ledger::seal::{BatchSealer, Judged, Origin, SealError};
use crate::model::{Batch, DeviceId, VerdictClass, now};
use crate::stats::Refusal;
use crate::validation::{Limits, Verdict};
use actix::prelude::*;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Messages sealed under one epoch key, at most.
const KEY_MESSAGES: u64 = 1 << 20;
/// Age of an epoch key, at most.
const KEY_AGE: Duration = Duration::from_secs(24 * 3600);

/// Seal a judged batch, and pass it on.
#[derive(Message)]
#[rtype(result = "()")]
pub struct SealBatch {
    /// The batch.
    pub batch: Arc<Batch>,
    /// How it came.
    pub origin: Origin,
    /// What validation said.
    pub verdict: Arc<Verdict>,
    /// The charts' state before it.
    pub state_before: Vec<u8>,
    /// What this batch taught.
    pub learned: Option<Learned>,
    /// Leave to have it under way.
    pub credit: Credit,
}

/// Limits that a batch ended Phase I with.
pub struct Learned {
    /// The limits.
    pub limits: Limits,
    /// The settings document with them.
    pub document: Vec<u8>,
}

/// The limits that the newest recorded document holds; they outlive the actors. Only what is recorded
/// may judge after a pipeline was built anew, or batches would name a document that did not judge them.
pub type RecordedLimits = Arc<Mutex<Option<Limits>>>;

/// Makes the sealer of a key epoch.
pub type MakeSealer = Arc<dyn Fn(u64) -> Result<BatchSealer, String> + Send + Sync>;

/// The sealer of one device.
pub struct SealerActor {
    device: DeviceId,
    make: MakeSealer,
    key_epoch: u64,
    since: Instant,
    /// Away while a worker seals.
    sealer: Option<BatchSealer>,
    limits: RecordedLimits,
    settled: Option<Recipient<BatchSettled>>,
    admission: Admission,
    ledger: Addr<LedgerActor>,
    workers: Workers,
}

/// Tells the sealer whom to tell when batches are durable.
#[derive(Message)]
#[rtype(result = "()")]
pub struct SettleWith(pub Addr<DeviceActor>);

impl SealerActor {
    /// A sealer that begins with `sealer`, of key epoch `key_epoch`.
    pub fn new(
        device: DeviceId,
        make: MakeSealer,
        (key_epoch, sealer): (u64, BatchSealer),
        limits: RecordedLimits,
        (admission, ledger): (Admission, Addr<LedgerActor>),
        workers: Workers,
    ) -> Self {
        Self {
            device,
            make,
            key_epoch,
            since: Instant::now(),
            sealer: Some(sealer),
            limits,
            settled: None,
            admission,
            ledger,
            workers,
        }
    }

    /// The sealer for the next message, under a new key when the old one is used up.
    fn take_sealer(&mut self) -> Result<BatchSealer, String> {
        let sealer = self.sealer.take().ok_or("the sealer was lost")?;
        if sealer.used() < KEY_MESSAGES && self.since.elapsed() < KEY_AGE {
            return Ok(sealer);
        }
        self.key_epoch += 1;
        self.since = Instant::now();
        (self.make)(self.key_epoch)
    }
}

impl Actor for SealerActor {
    type Context = Context<Self>;
}

impl Handler<SettleWith> for SealerActor {
    type Result = ();

    fn handle(&mut self, SettleWith(device): SettleWith, _: &mut Self::Context) {
        self.settled = Some(device.recipient());
    }
}

impl Handler<SealBatch> for SealerActor {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, message: SealBatch, ctx: &mut Self::Context) -> Self::Result {
        let mut sealer = match self.take_sealer() {
            Ok(sealer) => sealer,
            Err(error) => {
                tracing::error!(device = %self.device, error, "no key to seal under");
                ctx.stop();
                return AtomicResponse::new(Box::pin(actix::fut::ready(())));
            }
        };
        let workers = self.workers.clone();
        let settled = self.settled.clone();
        let limits = self.limits.clone();
        let admission = self.admission.clone();
        let sealing = async move {
            let SealBatch {
                batch,
                mut origin,
                mut verdict,
                state_before,
                learned,
                credit,
            } = message;
            let permit = match admission.of_batch(verdict.class).await {
                Ok(permit) => permit,
                Err(denied) => {
                    origin = Origin::Refused(barred(batch.samples(), &denied));
                    verdict = Arc::new(Verdict::failed());
                    None
                }
            };
            workers
                .run(move || {
                    let time = now();
                    let (mut draft, mut puts) = match &origin {
                        Origin::Refused(refused) => {
                            let which = (batch.epoch, batch.sequence);
                            (sealer.refuse_batch(which, refused, time), Vec::new())
                        }
                        Origin::Read | Origin::Edge(_) => {
                            let judged = Judged {
                                batch: &batch,
                                verdict: &verdict,
                                state_before: &state_before,
                                attested: match &origin {
                                    Origin::Edge(attested) => Some(attested),
                                    _ => None,
                                },
                            };
                            sealer.seal_batch(&judged, time)?
                        }
                    };
                    draft.permit = permit;
                    let mut drafts = vec![draft];
                    if let Some(learned) = learned {
                        let document = &learned.document;
                        let (draft, more) = sealer.seal_document("validation", document, time);
                        drafts.push(draft);
                        puts.extend(more);
                        *limits.lock() = Some(learned.limits);
                    }
                    let settle = Settle {
                        device: batch.device.clone(),
                        epoch: batch.epoch,
                        sequence: batch.sequence,
                        class: verdict.class,
                        points: batch.samples() as u64,
                        times: source_times(&batch),
                        refusal: (verdict.class == VerdictClass::Invalid).then(|| Refusal {
                            time,
                            device: batch.device.clone(),
                            sequence: batch.sequence,
                            reason: match origin {
                                Origin::Refused(refused) => refused.reason,
                                Origin::Read | Origin::Edge(_) => verdict.summary(),
                            },
                        }),
                        settled,
                        credit,
                    };
                    let settle = Some(settle);
                    Ok((
                        sealer,
                        Append {
                            drafts,
                            puts,
                            settle,
                        },
                    ))
                })
                .await
        };
        let sealing = sealing.into_actor(self).then(|sealed, actor, _| {
            let sealed: Result<Result<_, SealError>, _> = sealed;
            let sealed = sealed.map_err(|panic| panic.to_string());
            let sealed = sealed.and_then(|sealed| sealed.map_err(|error| error.to_string()));
            let sent = sealed.map(|(sealer, append)| {
                actor.sealer = Some(sealer);
                actor.ledger.send(append)
            });
            async move { sent?.await.map_err(|error| error.to_string()) }.into_actor(actor)
        });
        AtomicResponse::new(Box::pin(sealing.map(|sent, actor, ctx| {
            if let Err(error) = sent {
                tracing::error!(device = %actor.device, error, "sealing failed");
                ctx.stop();
            }
        })))
    }
}

/// Every source time, with how many samples have it.
fn source_times(batch: &Batch) -> SourceTimes {
    let mut tags_on = vec![0; batch.timelines.len()];
    for column in &batch.columns {
        if let Some(tags) = tags_on.get_mut(column.timeline) {
            *tags += 1;
        }
    }
    let times = batch.timelines.iter().zip(tags_on);
    SourceTimes(
        times
            .flat_map(|(times, tags)| times.iter().map(move |time| (*time, tags)))
            .collect(),
    )
}
