//! The hub's own actor: admission and supervision.
//!
//! Receives [`Shutdown`] and its own watchdog's ticks. Holds one pipeline a device (device, validator,
//! sealer). An actor that panicked is dead for good, so the watchdog looks for dead ones, waits until
//! what they had under way is settled or given up, and builds the device's pipeline anew from its plan,
//! numbering from what the ledger holds. Other devices notice nothing.

use super::credit::Credits;
use super::device::{DeviceActor, StopReading};
use super::ledger::{Append, Flush, LedgerActor, NextBatch};
use super::reading::{BatchLimits, Reading};
use super::sealer::{MakeSealer, SealerActor, SettleWith};
use super::validator::{LearnedLimits, MakeValidator, ValidatorActor};
use super::work::Workers;
use crate::ledger::seal::BatchSealer;
use crate::live_view::DeviceLive;
use crate::protocols::Source;
use crate::validation::ChartHistory;
use actix::prelude::*;
use std::sync::Arc;
use std::time::Duration;

const WATCHDOG_EVERY: Duration = Duration::from_millis(500);
/// How long a shutdown waits for batches under way before it gives them up, counted and logged.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(10);

/// All that is needed to build a device's pipeline, as often as it must be.
#[derive(Clone)]
pub struct DevicePlan {
    /// Its live state.
    pub live: Arc<DeviceLive>,
    /// Makes its source.
    pub make_source: Arc<dyn Fn() -> Box<dyn Source> + Send + Sync>,
    /// When its batches close.
    pub batch: BatchLimits,
    /// Makes its validator.
    pub make_validator: MakeValidator,
    /// The limits that the ledger holds for it.
    pub limits: LearnedLimits,
    /// Makes its sealer for a key epoch.
    pub make_sealer: MakeSealer,
    /// The first key epoch that was never used.
    pub key_epoch: u64,
    /// Settings to be recorded before the first batch, when the ledger holds others.
    pub settings: Option<Vec<u8>>,
}

/// One device's actors.
struct Pipeline {
    plan: DevicePlan,
    credits: Credits,
    device: Addr<DeviceActor>,
    validator: Addr<ValidatorActor>,
    sealer: Addr<SealerActor>,
    rebuilding: bool,
}

impl Pipeline {
    fn alive(&self) -> bool {
        self.device.connected() && self.validator.connected() && self.sealer.connected()
    }
}

/// The hub.
pub struct HubActor {
    ledger: Addr<LedgerActor>,
    history: Arc<ChartHistory>,
    workers: Workers,
    plans: Vec<DevicePlan>,
    pipelines: Vec<Pipeline>,
}

/// Stops reading, lets everything under way become durable, and answers when it is.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Shutdown;

impl HubActor {
    /// A hub with these devices.
    pub fn new(
        ledger: Addr<LedgerActor>,
        history: Arc<ChartHistory>,
        workers: Workers,
        plans: Vec<DevicePlan>,
    ) -> Self {
        Self {
            ledger,
            history,
            workers,
            plans,
            pipelines: Vec::new(),
        }
    }

    /// Builds one device's pipeline; it goes on with batch `next`.
    fn build(&self, mut plan: DevicePlan, next: (u64, u64)) -> Result<Pipeline, String> {
        let credits = Credits::default();
        let mut sealer = (plan.make_sealer)(plan.key_epoch)?;
        if let Some(settings) = plan.settings.take() {
            self.record_settings(&mut sealer, &settings);
        }
        let sealer = SealerActor::new(
            plan.live.id.clone(),
            plan.make_sealer.clone(),
            (plan.key_epoch, sealer),
            self.ledger.clone(),
            self.workers.clone(),
        )
        .start();
        let validator = ValidatorActor::new(
            plan.live.clone(),
            plan.make_validator.clone(),
            plan.limits.clone(),
            self.history.clone(),
            sealer.clone(),
            self.workers.clone(),
        )
        .start();
        let (source, limits) = ((plan.make_source)(), plan.batch);
        let (live, of_reading) = (plan.live.clone(), credits.clone());
        let reading = Box::new(move |batches, stop| Reading {
            source,
            limits,
            batches,
            live,
            credits: of_reading,
            stop,
        });
        let live = plan.live.clone();
        let workers = self.workers.clone();
        let device = DeviceActor::new(live, next, validator.clone(), reading, workers).start();
        // The mailbox is empty: this cannot be refused.
        sealer.do_send(SettleWith(device.clone()));
        Ok(Pipeline {
            plan,
            credits,
            device,
            validator,
            sealer,
            rebuilding: false,
        })
    }

    fn record_settings(&self, sealer: &mut BatchSealer, settings: &[u8]) {
        let time = crate::model::now();
        let (draft, puts) = sealer.seal_document("validation", settings, time);
        let append = Append {
            drafts: vec![draft],
            puts,
            settle: None,
        };
        // Sent before any batch of the device, one a device: the ledger's mailbox takes it.
        self.ledger.do_send(append);
    }

    fn watch(&mut self, ctx: &mut Context<Self>) {
        for at in 0..self.pipelines.len() {
            let pipeline = &mut self.pipelines[at];
            if pipeline.alive() || pipeline.rebuilding {
                continue;
            }
            pipeline.rebuilding = true;
            let device = pipeline.plan.live.id.clone();
            tracing::error!(%device, "a part of the device's pipeline died, building it anew");
            pipeline.device.do_send(StopReading);
            let credits = pipeline.credits.clone();
            let ledger = self.ledger.clone();
            let drained = async move {
                credits.drain().await;
                ledger.send(NextBatch(device)).await
            };
            ctx.spawn(drained.into_actor(self).map(move |next, actor, _| {
                // A ledger that is gone takes the hub with it; nothing to rebuild for.
                let Ok(next) = next else { return };
                let mut plan = actor.pipelines[at].plan.clone();
                // The dead sealer may have used its key for messages nobody can count any more.
                plan.key_epoch += 1 << 32;
                match actor.build(plan, next) {
                    Ok(pipeline) => actor.pipelines[at] = pipeline,
                    Err(error) => {
                        tracing::error!(error, "the pipeline cannot be built, trying again");
                        actor.pipelines[at].rebuilding = false;
                    }
                }
            }));
        }
    }
}

impl Actor for HubActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        for plan in std::mem::take(&mut self.plans) {
            let (ledger, device) = (self.ledger.clone(), plan.live.id.clone());
            let next = async move { ledger.send(NextBatch(device)).await }.into_actor(self);
            ctx.wait(next.map(|next, actor, _| {
                let Ok(next) = next else { return };
                let device = plan.live.id.clone();
                match actor.build(plan, next) {
                    Ok(pipeline) => actor.pipelines.push(pipeline),
                    Err(error) => tracing::error!(%device, error, "the device cannot be started"),
                }
            }));
        }
        ctx.run_interval(WATCHDOG_EVERY, Self::watch);
    }
}

impl Handler<Shutdown> for HubActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Shutdown, _: &mut Self::Context) -> Self::Result {
        let mut under_way = Vec::new();
        for pipeline in &mut self.pipelines {
            pipeline.rebuilding = true;
            pipeline.device.do_send(StopReading);
            under_way.push((pipeline.plan.live.id.clone(), pipeline.credits.clone()));
        }
        let ledger = self.ledger.clone();
        Box::pin(async move {
            let _ = ledger.send(Flush).await;
            for (device, credits) in under_way {
                // The last batches arrive one by one: each is flushed as it comes.
                let drained = tokio::time::timeout(SHUTDOWN_WAIT, credits.drain());
                if drained.await.is_err() {
                    tracing::error!(%device, "shutting down with batches under way that are not durable");
                }
            }
            let _ = ledger.send(Flush).await;
        })
    }
}
