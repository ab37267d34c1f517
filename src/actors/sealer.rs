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
use crate::access::Mode;
use crate::ledger::Draft;
use crate::ledger::seal::{BatchSealer, Judged, Origin, SealError};
use crate::model::{Batch, DeviceId, Nanos, VerdictClass, now};
use crate::stats::Refusal;
use crate::validation::{Limits, Verdict};
use actix::prelude::*;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weighbridge_verifier::Hash;

/// Messages sealed under one epoch key, at most.
const KEY_MESSAGES: u64 = 1 << 20;
/// Age of an epoch key, at most.
const KEY_AGE: Duration = Duration::from_secs(24 * 3600);
/// A key seals samples of one day (UTC) at most, so that erasing up to a midnight takes whole keys.
const DAY: Nanos = 24 * 3600 * 1_000_000_000;

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
    /// The day of the newest sample under the key.
    day: Option<i64>,
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
            day: None,
            sealer: Some(sealer),
            limits,
            settled: None,
            admission,
            ledger,
            workers,
        }
    }

    /// The sealer for a batch with these newest samples, under a new key when the old one is used up.
    fn take_sealer(&mut self, day: Option<i64>) -> Result<BatchSealer, String> {
        let sealer = self.sealer.take().ok_or("the sealer was lost")?;
        let used_up = sealer.used() >= KEY_MESSAGES || self.since.elapsed() >= KEY_AGE;
        if !used_up && !is_later(day, self.day) {
            self.day = self.day.or(day);
            return Ok(sealer);
        }
        self.next_key(day)
    }

    /// A sealer under a new key.
    fn next_key(&mut self, day: Option<i64>) -> Result<BatchSealer, String> {
        self.key_epoch += 1;
        self.since = Instant::now();
        self.day = day;
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
        let mut sealer = match self.take_sealer(day_of(message.batch.last_time(), now())) {
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
            let permit = match admission.of_batch(verdict.class, &origin).await {
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
                    let subject = format!("device:{}", batch.device);
                    draft.permit = permit.map(|p| p.hash(sealer.suite(), &subject, Mode::Store));
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

/// The day of a batch's newest sample. A device whose clock is ahead is of today: its samples must not make
/// new keys without end.
fn day_of(newest: Option<Nanos>, now: Nanos) -> Option<i64> {
    Some(newest?.min(now).div_euclid(DAY))
}

/// Whether samples of `day` are for a new key, when the key's are of `of`. Late ones are not.
fn is_later(day: Option<i64>, of: Option<i64>) -> bool {
    matches!((day, of), (Some(day), Some(of)) if day > of)
}

/// Begin a new key, so that everything under those before can be erased.
#[derive(Message)]
#[rtype(result = "Result<u64, RenewFault>")]
pub struct RenewKey {
    /// The settings in force, which are recorded again under the new key; `None` when there are none.
    pub settings: Option<Vec<u8>>,
    /// What commits to them on record; zero when there are none.
    pub commitment: Hash,
}

/// Begin a new key, because those to whom keys are wrapped have changed. Batches that wait are sealed under
/// the new one.
#[derive(Message)]
#[rtype(result = "Result<u64, String>")]
pub struct RotateKey;

impl Handler<RotateKey> for SealerActor {
    type Result = Result<u64, String>;

    fn handle(&mut self, _: RotateKey, _: &mut Self::Context) -> Self::Result {
        // It is here: while a worker has it, no message is handled.
        let old = self.sealer.take();
        match self.next_key(None) {
            Ok(sealer) => {
                self.sealer = Some(sealer);
                Ok(self.key_epoch)
            }
            Err(error) => {
                self.sealer = old;
                Err(error)
            }
        }
    }
}

/// Why there is no new key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenewFault {
    /// Others were sealed meanwhile.
    #[error("the device's limits are just being learned, try again")]
    Changed,
    /// It cannot be made.
    #[error("there is no new key to seal under: {0}")]
    Key(String),
    /// The ledger is gone.
    #[error("the ledger has stopped")]
    Stopped,
}

impl Handler<RenewKey> for SealerActor {
    type Result = AtomicResponse<Self, Result<u64, RenewFault>>;

    fn handle(&mut self, message: RenewKey, _: &mut Self::Context) -> Self::Result {
        let append = self.renew(message);
        let (epoch, ledger) = (self.key_epoch, self.ledger.clone());
        let sent = async move {
            if let Some(append) = append? {
                let sent = ledger.send(append).await;
                sent.map_err(|_| RenewFault::Stopped)?;
            }
            Ok(epoch)
        };
        AtomicResponse::new(Box::pin(sent.into_actor(self)))
    }
}

impl SealerActor {
    fn renew(&mut self, message: RenewKey) -> Result<Option<Append>, RenewFault> {
        let old = self.sealer.take();
        let same = |s: &BatchSealer| s.in_force().commitment == message.commitment;
        if !old.as_ref().is_some_and(same) {
            self.sealer = old;
            return Err(RenewFault::Changed);
        }
        let mut sealer = match self.next_key(None) {
            Ok(sealer) => sealer,
            Err(error) => {
                self.sealer = old;
                return Err(RenewFault::Key(error));
            }
        };
        let sealed = message.settings.map(|settings| {
            let (draft, puts): (Draft, _) = sealer.seal_document("validation", &settings, now());
            Append {
                drafts: vec![draft],
                puts,
                settle: None,
            }
        });
        self.sealer = Some(sealer);
        Ok(sealed)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_day_is_a_new_key_and_late_samples_are_not() {
        let table = [
            (None, None, false),
            (Some(5), None, false),
            (None, Some(5), false),
            (Some(5), Some(5), false),
            (Some(6), Some(5), true),
            (Some(4), Some(5), false),
        ];
        for (day, of, later) in table {
            assert_eq!(is_later(day, of), later, "{day:?} {of:?}");
        }
        assert_eq!(day_of(None, DAY), None);
        assert_eq!(day_of(Some(3 * DAY - 1), 9 * DAY), Some(2));
        assert_eq!(day_of(Some(3 * DAY), 9 * DAY), Some(3));
        assert_eq!(day_of(Some(-1), 9 * DAY), Some(-1));
        assert_eq!(day_of(Some(Nanos::MAX), 9 * DAY), Some(9));
    }
}
