//! The hub's own actor: admission and supervision.
//!
//! Receives [`Shutdown`] and its own watchdog's ticks. Holds one pipeline a device (device, validator,
//! sealer). An actor that panicked is dead for good, so the watchdog looks for dead ones, waits until
//! what they had under way is settled or given up, and builds the device's pipeline anew from its plan,
//! numbering from what the ledger holds. Other devices notice nothing.

use super::control::ControlDoors;
use super::credit::Credits;
use super::device::DeviceActor;
use super::ledger::{Append, Close, LedgerActor, NextBatch};
use super::reading::{BatchLimits, Reading};
use super::sealer::{MakeSealer, RecordedLimits, SealerActor, SettleWith};
use super::validator::{MakeValidator, ValidatorActor};
use super::work::Workers;
use crate::ledger::seal::BatchSealer;
use crate::live_view::DeviceLive;
use crate::model::now;
use crate::protocols::Source;
use crate::validation::ChartHistory;
use actix::prelude::*;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const WATCHDOG_EVERY: Duration = Duration::from_millis(500);
/// How long a shutdown waits for connections to be closed in good order.
const GOODBYE: Duration = Duration::from_secs(2);

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
    pub limits: RecordedLimits,
    /// Makes its sealer for a key epoch.
    pub make_sealer: MakeSealer,
    /// The first key epoch that was never used.
    pub key_epoch: u64,
    /// Settings to be recorded before the first batch, when the ledger holds others.
    pub settings: Option<Vec<u8>>,
}

/// One device.
struct Pipeline {
    plan: DevicePlan,
    running: Option<Running>,
    building: bool,
}

/// One device's actors, and what bounds and stops its reading task.
struct Running {
    credits: Credits,
    stop: CancellationToken,
    device: Addr<DeviceActor>,
    validator: Addr<ValidatorActor>,
    sealer: Addr<SealerActor>,
}

impl Running {
    fn alive(&self) -> bool {
        self.device.connected() && self.validator.connected() && self.sealer.connected()
    }
}

/// The hub.
pub struct HubActor {
    ledger: Addr<LedgerActor>,
    history: Arc<ChartHistory>,
    workers: Workers,
    doors: ControlDoors,
    pipelines: Vec<Pipeline>,
    readers: TaskTracker,
    ending: bool,
}

/// Stops reading, lets everything under way become durable, and answers whether it is, after this long
/// at the latest.
#[derive(Message)]
#[rtype(result = "bool")]
pub struct Shutdown(pub Duration);

impl HubActor {
    /// A hub with these devices.
    pub fn new(
        ledger: Addr<LedgerActor>,
        history: Arc<ChartHistory>,
        workers: Workers,
        doors: ControlDoors,
        plans: Vec<DevicePlan>,
    ) -> Self {
        let pipeline = |plan| Pipeline {
            plan,
            running: None,
            building: false,
        };
        Self {
            ledger,
            history,
            workers,
            doors,
            pipelines: plans.into_iter().map(pipeline).collect(),
            readers: TaskTracker::new(),
            ending: false,
        }
    }

    /// Builds one device's actors; they go on with batch `next`.
    fn build(&self, plan: &mut DevicePlan, next: (u64, u64)) -> Result<Running, String> {
        let (credits, stop) = (Credits::default(), CancellationToken::new());
        let mut sealer = (plan.make_sealer)(plan.key_epoch)?;
        if let Some(settings) = plan.settings.take() {
            self.record_settings(&mut sealer, &settings);
        }
        let sealer = SealerActor::new(
            plan.live.id.clone(),
            plan.make_sealer.clone(),
            (plan.key_epoch, sealer),
            plan.limits.clone(),
            self.ledger.clone(),
            self.workers.clone(),
        )
        .start();
        let validator = ValidatorActor::new(
            plan.live.clone(),
            plan.make_validator.clone(),
            plan.limits.lock().clone(),
            self.history.clone(),
            sealer.clone(),
            self.workers.clone(),
        )
        .start();
        let source = (plan.make_source)();
        self.doors.open(&plan.live, source.control());
        let source = (source, plan.batch);
        let (live, of_reading, stopped) = (plan.live.clone(), credits.clone(), stop.clone());
        let reading =
            Box::new(move |batches| Reading::new(source, batches, live, of_reading, stopped));
        let tasks = (self.readers.clone(), self.workers.clone());
        let live = plan.live.clone();
        let device = DeviceActor::new(live, next, validator.clone(), reading, tasks).start();
        // The mailbox is empty: this cannot be refused.
        sealer.do_send(SettleWith(device.clone()));
        Ok(Running {
            credits,
            stop,
            device,
            validator,
            sealer,
        })
    }

    fn record_settings(&self, sealer: &mut BatchSealer, settings: &[u8]) {
        let (draft, puts) = sealer.seal_document("validation", settings, now());
        let append = Append {
            drafts: vec![draft],
            puts,
            settle: None,
        };
        // Sent before any batch of the device, one a device: the ledger's mailbox takes it.
        self.ledger.do_send(append);
    }

    /// Builds what is not alive, at the start and whenever something died.
    fn watch(&mut self, ctx: &mut Context<Self>) {
        for at in 0..self.pipelines.len() {
            let pipeline = &mut self.pipelines[at];
            let alive = pipeline.running.as_ref().is_some_and(Running::alive);
            if alive || pipeline.building || self.ending {
                continue;
            }
            pipeline.building = true;
            let device = pipeline.plan.live.id.clone();
            let before = pipeline.running.as_ref();
            let before = before.map(|r| (r.stop.clone(), r.credits.clone()));
            if before.is_some() {
                tracing::error!(%device, "a part of the device's pipeline died, building it anew");
                let plain = "the hub failed over this device and starts it again";
                let exact = "a part of its pipeline died; the hub's log says which and why";
                pipeline.plan.live.set_down(plain, exact, now());
                // The dead sealer may have used its key for messages nobody can count any more.
                pipeline.plan.key_epoch += 1 << 32;
            }
            let ledger = self.ledger.clone();
            let next = async move {
                if let Some((stop, credits)) = before {
                    stop.cancel();
                    credits.drain().await;
                }
                ledger.send(NextBatch(device)).await
            };
            ctx.spawn(next.into_actor(self).map(move |next, actor, _| {
                // A ledger that is gone takes the hub with it; nothing to build for.
                let Ok(next) = next else { return };
                if actor.ending {
                    return;
                }
                let mut plan = actor.pipelines[at].plan.clone();
                match actor.build(&mut plan, next) {
                    Ok(running) => actor.pipelines[at].running = Some(running),
                    Err(error) => {
                        let device = &plan.live.id;
                        tracing::error!(%device, error, "the device's pipeline cannot be built, trying again");
                    }
                }
                actor.pipelines[at].plan = plan;
                actor.pipelines[at].building = false;
            }));
        }
    }
}

impl Actor for HubActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.watch(ctx);
        ctx.run_interval(WATCHDOG_EVERY, Self::watch);
    }
}

impl Handler<Shutdown> for HubActor {
    type Result = ResponseFuture<bool>;

    fn handle(&mut self, Shutdown(wait): Shutdown, _: &mut Self::Context) -> Self::Result {
        self.ending = true;
        let mut under_way = Vec::new();
        for running in self.pipelines.iter().filter_map(|p| p.running.as_ref()) {
            running.stop.cancel();
            under_way.push(running.credits.clone());
        }
        self.readers.close();
        let (ledger, readers) = (self.ledger.clone(), self.readers.clone());
        Box::pin(async move {
            // The last batches arrive one by one, and each is written as it comes.
            ledger.do_send(Close);
            let durable = async {
                for credits in under_way {
                    credits.drain().await;
                }
                ledger.send(Close).await.is_ok()
            };
            let durable = timeout(wait, durable).await.unwrap_or(false);
            if !durable {
                tracing::error!("shutting down with batches under way that are not durable");
            }
            let _ = timeout(GOODBYE, readers.wait()).await;
            durable
        })
    }
}
