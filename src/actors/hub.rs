//! The hub's own actor: admission and supervision.
//!
//! Receives [`Shutdown`], [`Retire`] and [`Adopt`], and its own watchdog's ticks. Holds one pipeline a device (device, validator,
//! sealer). An actor that panicked is dead for good, so the watchdog looks for dead ones, waits until
//! what they had under way is settled or given up, and builds the device's pipeline anew from its plan,
//! numbering from what the ledger holds. Other devices notice nothing, and neither do they when one is
//! taken out or put in.

use super::access::AccessDesk;
use super::admission::Admission;
use super::alarms::AlarmDesk;
use super::binding::BoundDevice;
use super::control::ControlDoors;
use super::credit::Credits;
use super::device::{DeviceActor, Leave, MakeReading};
use super::edge_intake::{EdgeFeed, EdgeIntake};
use super::ledger::{Append, Close, Follow, LedgerActor, NextBatch};
use super::possession::Possession;
use super::reading::{BatchLimits, Reading};
use super::sealer::{MakeSealer, RecordedLimits, SealerActor, SettleWith};
use super::validator::{MakeValidator, ValidatorActor};
use super::work::Workers;
use crate::access::DeclaredBinding;
use crate::crypto::Signer;
use crate::ledger::key_epochs;
use crate::ledger::seal::BatchSealer;
use crate::live_view::DeviceLive;
use crate::model::{DeviceId, now};
use crate::protocols::Source;
use crate::protocols::edge::wire::Standing;
use crate::protocols::edge::{EdgeControl, EdgeKeys};
use crate::protocols::ports::AccessPort;
use crate::validation::ChartHistory;
use actix::prelude::*;
use futures_util::FutureExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
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
    /// Where its batches come from.
    pub intake: Intake,
    /// What the configuration says that it is known by.
    pub binding: DeclaredBinding,
    /// The chain that its data are recorded in.
    pub chain: String,
    /// Its own key, where the hub can ask it to sign.
    pub attester: Option<Arc<dyn Signer>>,
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
    /// The fencing epoch of the lease under which the hub reads it; none where it has no leases.
    pub lease: Option<u64>,
    /// Settings to be recorded before the first batch, when the ledger holds others.
    pub settings: Option<Vec<u8>>,
}

/// Where a device's batches come from.
#[derive(Clone)]
pub enum Intake {
    /// The hub reads it, through what this makes.
    Source(MakeSource),
    /// An edge node reads it.
    Edge(EdgeFeed),
}

/// Makes a device's source, whenever it is needed.
pub type MakeSource = Arc<dyn Fn() -> Box<dyn Source> + Send + Sync>;

/// The number of a device's next batch; for a device that an edge node reads also what the ledger has
/// of it, to be watched.
type Next = ((u64, u64), Option<watch::Receiver<Standing>>);

/// One device.
struct Pipeline {
    plan: DevicePlan,
    running: Option<Running>,
    building: bool,
    /// It is being taken out: nothing is built for it any more.
    retiring: bool,
    /// Tells it from another of the same device that was here before.
    number: u64,
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
    alarms: AlarmDesk,
    workers: Workers,
    doors: ControlDoors,
    access: AccessDesk,
    pipelines: BTreeMap<DeviceId, Pipeline>,
    adopted: u64,
    readers: TaskTracker,
    ending: bool,
}

/// Stops reading, lets everything under way become durable, and answers whether it is, after this long
/// at the latest.
#[derive(Message)]
#[rtype(result = "bool")]
pub struct Shutdown(pub Duration);

/// Takes devices out: reading ends, what was read becomes durable, then their actors end. Answers when
/// that is done; devices that are not there are no error. A hub whose disk refuses answers late.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Retire(pub Vec<DeviceId>);

/// Puts devices in, none of which may be there.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Adopt(pub Vec<DevicePlan>);

/// Asks for the sealer of a device: `None` when the device is not there, an error while it is being set up.
#[derive(Message)]
#[rtype(result = "Result<Option<Addr<SealerActor>>, ()>")]
pub struct SealerOf(pub DeviceId);

impl HubActor {
    /// A hub with these devices.
    pub fn new(
        ledger: Addr<LedgerActor>,
        (history, alarms): (Arc<ChartHistory>, AlarmDesk),
        workers: Workers,
        (doors, access): (ControlDoors, AccessDesk),
        plans: Vec<DevicePlan>,
    ) -> Self {
        let mut this = Self {
            ledger,
            history,
            alarms,
            workers,
            doors,
            access,
            pipelines: BTreeMap::new(),
            adopted: 0,
            readers: TaskTracker::new(),
            ending: false,
        };
        this.adopt(plans);
        this
    }

    fn adopt(&mut self, plans: Vec<DevicePlan>) {
        for plan in plans {
            self.adopted += 1;
            let pipeline = Pipeline {
                running: None,
                building: false,
                retiring: false,
                number: self.adopted,
                plan,
            };
            self.pipelines
                .insert(pipeline.plan.live.id.clone(), pipeline);
        }
    }

    /// Builds one device's actors; they go on with batch `next`, after what the ledger has.
    fn build(&self, plan: &mut DevicePlan, (next, standing): Next) -> Result<Running, String> {
        let (credits, stop) = (Credits::default(), CancellationToken::new());
        let mut sealer = (plan.make_sealer)(plan.key_epoch)?;
        if let Some(settings) = plan.settings.take() {
            self.record_settings(&mut sealer, &settings);
        }
        let possession = self.possession(plan, next);
        let admission = Admission::new(&self.access, &plan.live.id).proved_by(possession.clone());
        let known = BoundDevice::new(
            &self.access,
            &self.alarms,
            &plan.live.id,
            plan.binding.clone(),
        );
        let sealer = SealerActor::new(
            plan.live.id.clone(),
            plan.make_sealer.clone(),
            (plan.key_epoch, sealer),
            plan.limits.clone(),
            (admission.clone(), self.ledger.clone()),
            self.workers.clone(),
        )
        .start();
        self.alarms.watch(&plan.live);
        let validator = ValidatorActor::new(
            plan.live.clone(),
            plan.make_validator.clone(),
            plan.limits.lock().clone(),
            (self.history.clone(), self.alarms.clone()),
            sealer.clone(),
            self.workers.clone(),
        )
        .start();
        let (live, of_reading) = (plan.live.clone(), (credits.clone(), stop.clone()));
        let reading: MakeReading = match &plan.intake {
            Intake::Source(make) => {
                let source = make();
                self.doors.open(&plan.live, source.control());
                let source = (source, plan.batch);
                Box::new(move |batches| {
                    let (credits, stop) = of_reading;
                    let reading = Reading::new(source, Box::new(batches), live, credits, stop);
                    let reading = reading.admitted_by(admission).known_by(Box::new(known));
                    reading.run().boxed()
                })
            }
            Intake::Edge(feed) => {
                // Whoever reads the device acts upon it, too.
                let control = Arc::new(EdgeControl(feed.gate.clone()));
                self.doors.open(&plan.live, Some(control));
                let (feed, workers) = (feed.clone(), self.workers.clone());
                let newest = (next.0, next.1 - 1);
                let standing = standing.ok_or("nobody watches the ledger for it")?;
                let possession = possession.ok_or("nobody signs for it")?;
                let identity = (known, possession);
                Box::new(move |batches| {
                    let from = (newest, standing);
                    EdgeIntake::new(feed, from, batches, live, of_reading, (workers, identity))
                        .run(admission)
                        .boxed()
                })
            }
        };
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

    /// Who signs for a device: the edge node that reads it, or its own key.
    fn possession(&self, plan: &DevicePlan, (epoch, _): (u64, u64)) -> Option<Arc<Possession>> {
        let hub = self.access.gate().hub();
        let at = (plan.chain.as_str(), hub.trim_start_matches("hub:"));
        let device = &plan.live.id;
        let possession = match (&plan.intake, &plan.attester) {
            (Intake::Edge(feed), _) => {
                Possession::new(at, device, (&feed.gate.edge, feed.keys.clone()), epoch)
            }
            (Intake::Source(_), Some(own)) => {
                let signer = (own.id(), EdgeKeys::new(own.public_key(), Vec::new()));
                Possession::new(at, device, signer, epoch).local(own.clone())
            }
            (Intake::Source(_), None) => return None,
        };
        Some(Arc::new(possession))
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
        for pipeline in self.pipelines.values_mut() {
            let alive = pipeline.running.as_ref().is_some_and(Running::alive);
            if alive || pipeline.building || pipeline.retiring || self.ending {
                continue;
            }
            pipeline.building = true;
            let (device, number) = (pipeline.plan.live.id.clone(), pipeline.number);
            let edge = match &pipeline.plan.intake {
                Intake::Source(_) => None,
                Intake::Edge(feed) => Some(feed.keys.current()),
            };
            let before = pipeline.running.as_ref();
            let before = before.map(|r| (r.stop.clone(), r.credits.clone()));
            if before.is_some() {
                tracing::error!(%device, "a part of the device's pipeline died, building it anew");
                let plain = "the hub failed over this device and starts it again";
                let exact = "a part of its pipeline died; the hub's log says which and why";
                pipeline.plan.live.set_down(plain, exact, now());
                // The dead sealer may have used its key for messages nobody can count any more.
                let plan = &mut pipeline.plan;
                plan.key_epoch = key_epochs::after_loss(plan.key_epoch, plan.lease);
            }
            let (ledger, of_device) = (self.ledger.clone(), device.clone());
            let next = async move {
                if let Some((stop, credits)) = before {
                    stop.cancel();
                    credits.drain().await;
                }
                let standing = match edge {
                    Some(key) => Some(ledger.send(Follow(of_device.clone(), key)).await?),
                    None => None,
                };
                Ok::<_, MailboxError>((ledger.send(NextBatch(of_device)).await?, standing))
            };
            ctx.spawn(
                actix::fut::wrap_future::<_, Self>(next).map(move |next, actor, _| {
                    // A ledger that is gone takes the hub with it; nothing to build for.
                    if let Ok(next) = next {
                        actor.go_on(&device, number, next);
                    }
                }),
            );
        }
    }

    /// Builds a device's pipeline, unless it was taken out meanwhile.
    fn go_on(&mut self, device: &DeviceId, number: u64, next: Next) {
        let wanted = |p: &Pipeline| p.number == number && !p.retiring;
        if self.ending || !self.pipelines.get(device).is_some_and(wanted) {
            return;
        }
        let Some(mut pipeline) = self.pipelines.remove(device) else {
            return;
        };
        match self.build(&mut pipeline.plan, next) {
            Ok(running) => pipeline.running = Some(running),
            Err(error) => {
                tracing::error!(%device, error, "the device's pipeline cannot be built, trying again");
            }
        }
        pipeline.building = false;
        self.pipelines.insert(device.clone(), pipeline);
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
        for running in self.pipelines.values().filter_map(|p| p.running.as_ref()) {
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

impl Handler<Retire> for HubActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, Retire(devices): Retire, _: &mut Self::Context) -> Self::Result {
        let mut leaving = Vec::new();
        for device in devices {
            let Some(pipeline) = self.pipelines.get_mut(&device) else {
                continue;
            };
            pipeline.retiring = true;
            let running = pipeline.running.as_ref();
            let running = running.map(|r| (r.stop.clone(), r.credits.clone(), r.device.clone()));
            if let Some((stop, ..)) = &running {
                stop.cancel();
            }
            leaving.push((device, pipeline.number, running));
        }
        let left = async move {
            for (_, _, running) in &leaving {
                if let Some((_, credits, device)) = running {
                    credits.drain().await;
                    // Nothing is under way: its mailbox takes this, or it is dead already.
                    device.do_send(Leave);
                }
            }
            leaving
        };
        Box::pin(left.into_actor(self).map(|leaving, actor, _| {
            for (device, number, _) in leaving {
                let same = |p: &Pipeline| p.number == number;
                if actor.pipelines.get(&device).is_some_and(same) {
                    actor.pipelines.remove(&device);
                    actor.doors.close(&device);
                }
            }
        }))
    }
}

impl Handler<Adopt> for HubActor {
    type Result = ();

    fn handle(&mut self, Adopt(plans): Adopt, ctx: &mut Self::Context) {
        self.adopt(plans);
        self.watch(ctx);
    }
}

impl Handler<SealerOf> for HubActor {
    type Result = Result<Option<Addr<SealerActor>>, ()>;

    fn handle(&mut self, SealerOf(device): SealerOf, _: &mut Self::Context) -> Self::Result {
        match self.pipelines.get(&device) {
            None => Ok(None),
            Some(pipeline) => match pipeline.running.as_ref().filter(|r| r.alive()) {
                Some(running) if !pipeline.retiring => Ok(Some(running.sealer.clone())),
                _ => Err(()),
            },
        }
    }
}
