//! The weighing of one device's batches.
//!
//! Receives [`JudgeBatch`], judges on a worker thread, shows the verdict, and sends the batch on to the
//! device's sealer. Holds the device's charts. One batch at a time, in order: the charts have memory.
//! A validator that panics over a batch refuses that batch and starts its charts anew.

use super::alarms::AlarmDesk;
use super::credit::Credit;
use super::sealer::{Learned, SealBatch, SealerActor};
use super::work::Workers;
use crate::ledger::seal::{Origin, RefusedBatch};
use crate::live_view::DeviceLive;
use crate::model::{Batch, Quality, VerdictClass, now};
use crate::validation::{ChartHistory, DeviceValidator, Judgement, Limits, Verdict};
use actix::prelude::*;
use std::sync::Arc;

/// Judge a batch, and pass it on.
#[derive(Message)]
#[rtype(result = "()")]
pub struct JudgeBatch {
    /// The batch.
    pub batch: Batch,
    /// How it came.
    pub origin: Origin,
    /// Leave to have it under way.
    pub credit: Credit,
}

/// Makes a device's validator anew, with the limits learned so far.
pub type MakeValidator = Arc<dyn Fn(Option<Limits>) -> DeviceValidator + Send + Sync>;

/// The validator of one device.
pub struct ValidatorActor {
    live: Arc<DeviceLive>,
    make: MakeValidator,
    /// The limits learned so far.
    limits: Option<Limits>,
    /// Away while a worker judges.
    validator: Option<DeviceValidator>,
    /// The limits that the validator uses, for the charts.
    in_force: Option<Arc<Limits>>,
    history: Arc<ChartHistory>,
    alarms: AlarmDesk,
    sealer: Addr<SealerActor>,
    workers: Workers,
}

/// What a worker brings back.
struct Judged {
    batch: Arc<Batch>,
    state_before: Vec<u8>,
    judgement: Judgement,
    document: Option<Vec<u8>>,
}

impl ValidatorActor {
    /// A validator that goes on with the limits that the ledger holds.
    pub fn new(
        live: Arc<DeviceLive>,
        make: MakeValidator,
        limits: Option<Limits>,
        (history, alarms): (Arc<ChartHistory>, AlarmDesk),
        sealer: Addr<SealerActor>,
        workers: Workers,
    ) -> Self {
        Self {
            live,
            make,
            limits,
            validator: None,
            in_force: None,
            history,
            alarms,
            sealer,
            workers,
        }
    }

    fn make_validator(&self) -> DeviceValidator {
        (self.make)(self.limits.clone())
    }

    fn show(&self, batch: &Batch, verdict: &Verdict) {
        let judged = verdict.qualities(batch.tags.len());
        self.live
            .set_verdict(verdict.class, now(), verdict.summary(), judged);
    }

    /// What was refused unseen says nothing of the values that are shown.
    fn show_refused(&self, refused: &RefusedBatch) {
        let judged = vec![Quality::GOOD; self.live.tags.len()];
        let reason = refused.reason.clone();
        self.live
            .set_verdict(VerdictClass::Invalid, now(), reason, judged);
    }

    fn passed_on(sent: Result<(), MailboxError>, actor: &mut Self, ctx: &mut Context<Self>) {
        if let Err(error) = sent {
            tracing::error!(device = %actor.live.id, %error, "the device's sealer is gone");
            ctx.stop();
        }
    }
}

impl Actor for ValidatorActor {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.validator = Some(self.make_validator());
    }
}

impl Handler<JudgeBatch> for ValidatorActor {
    type Result = AtomicResponse<Self, ()>;

    fn handle(
        &mut self,
        JudgeBatch {
            batch,
            origin,
            credit,
        }: JudgeBatch,
        _: &mut Self::Context,
    ) -> Self::Result {
        if let Origin::Refused(refused) = &origin {
            self.show_refused(refused);
            let sent = self.sealer.send(SealBatch {
                batch: Arc::new(batch),
                origin,
                verdict: Arc::new(Verdict::failed()),
                state_before: Vec::new(),
                learned: None,
                credit,
            });
            return AtomicResponse::new(Box::pin(sent.into_actor(self).map(Self::passed_on)));
        }
        let mut validator = match self.validator.take() {
            Some(validator) => validator,
            None => self.make_validator(),
        };
        let batch = Arc::new(batch);
        let workers = self.workers.clone();
        let judging = async move {
            let of_worker = batch.clone();
            let judged = workers
                .run(move || {
                    let state_before = validator.state();
                    let judgement = validator.judge(&of_worker);
                    let document = judgement
                        .learned
                        .is_some()
                        .then(|| validator.settings_document());
                    (validator, state_before, judgement, document)
                })
                .await;
            (batch, judged)
        };
        let judging = judging.into_actor(self).map(|(batch, judged), actor, _| {
            let judged = match judged {
                Ok((validator, state_before, judgement, document)) => {
                    actor.in_force = Some(validator.limits().clone());
                    actor.validator = Some(validator);
                    Judged {
                        batch,
                        state_before,
                        judgement,
                        document,
                    }
                }
                Err(panic) => {
                    tracing::error!(device = %actor.live.id, %panic, "validation failed, the batch is refused");
                    Judged {
                        batch,
                        state_before: Vec::new(),
                        judgement: Judgement {
                            verdict: Verdict::failed(),
                            learned: None,
                        },
                        document: None,
                    }
                }
            };
            let learned = judged.judgement.learned.zip(judged.document);
            let learned = learned.map(|(limits, document)| {
                actor.limits = Some(limits.clone());
                Learned { limits, document }
            });
            actor.show(&judged.batch, &judged.judgement.verdict);
            let verdict = Arc::new(judged.judgement.verdict);
            actor.alarms.judged(&actor.live.id, &verdict);
            let limits = actor.in_force.clone();
            let (batch, shown) = (judged.batch.clone(), verdict.clone());
            actor.history.push(batch, shown, limits);
            actor.sealer.send(SealBatch {
                batch: judged.batch,
                origin,
                verdict,
                state_before: judged.state_before,
                learned,
                credit,
            })
        });
        let passing_on = judging.then(|sent, actor, _| sent.into_actor(actor));
        AtomicResponse::new(Box::pin(passing_on.map(Self::passed_on)))
    }
}
