//! Devices that several hubs may read, one after the other: this hub reads those whose lease it holds, gives them up
//! when another hub's lease is on the chain, and asks for the lease of those whose hub is gone. When is decided in
//! `cluster/lease.rs`.

use super::cluster::ClusterDesk;
use super::last::record_last;
use super::lease_table::LeaseTable;
use super::plan::{Planner, plan};
use super::{DeviceSetup, HubError};
use crate::actors::hub::{Adopt, HubActor, Intake, Retire};
use crate::actors::ledger::{LedgerActor, RecordFault, RecordedSettings};
use crate::cluster::drafts;
use crate::cluster::lease::{Horizon, Sight, Step, Watch};
use crate::model::{DeviceId, Nanos, now};
use actix::Addr;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

/// How often it is looked who was heard.
const TICK: Duration = Duration::from_millis(200);
/// Before a device that could not be read, or a lease that was refused, is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What moves devices.
pub(super) struct Reach {
    pub(super) planner: Arc<Planner>,
    pub(super) ledger: Addr<LedgerActor>,
    pub(super) hub: Addr<HubActor>,
    /// Held while devices change.
    pub(super) changing: Arc<tokio::sync::Mutex<()>>,
}

/// The devices that this hub may read, and what it does about each. Dropping it ends that.
pub(super) struct Leases {
    keeper: Arc<Keeper>,
    _watching: AbortOnDropHandle<()>,
}

struct Keeper {
    table: Arc<LeaseTable>,
    cluster: Arc<ClusterDesk>,
    reach: Reach,
    devices: Mutex<BTreeMap<DeviceId, Kept>>,
    news: Notify,
}

/// One device.
struct Kept {
    setup: DeviceSetup,
    watch: Watch,
    /// Something is being done about it.
    busy: bool,
    /// Nothing is done about it before.
    not_before: Duration,
}

impl Kept {
    fn new(setup: DeviceSetup) -> Self {
        Self {
            setup,
            watch: Watch::default(),
            busy: false,
            not_before: Duration::ZERO,
        }
    }
}

/// When each hub was last heard, by this hub's own steady clock, and what it said then.
type Heard = BTreeMap<String, (Nanos, (Duration, u64))>;

/// What the chain has of the devices: their leases, the newest fencing epoch of each, and whether a lease of this hub is
/// on its way into a block.
type OnChain = BTreeMap<DeviceId, (Option<(String, u64)>, u64, bool)>;

impl Leases {
    /// Looks after `devices` from now on.
    pub(super) fn watch(
        devices: Vec<DeviceSetup>,
        (table, cluster): (Arc<LeaseTable>, Arc<ClusterDesk>),
        reach: Reach,
        runtime: &Handle,
    ) -> Self {
        let devices = devices.into_iter();
        let devices = devices.map(|setup| (setup.id.clone(), Kept::new(setup)));
        let devices: BTreeMap<_, _> = devices.collect();
        table.names(devices.keys().cloned());
        let keeper = Arc::new(Keeper {
            table,
            cluster,
            reach,
            devices: Mutex::new(devices),
            news: Notify::new(),
        });
        let watching = runtime.spawn(keeper.clone().watch());
        Self {
            keeper,
            _watching: AbortOnDropHandle::new(watching),
        }
    }

    /// Looks after `setup` as well, in place of what it had under the same id, which is not being read any more.
    pub(super) fn put(&self, setup: DeviceSetup) {
        let (device, kept) = (setup.id.clone(), Kept::new(setup));
        self.keeper.table.reads(&device, None);
        let mut devices = self.keeper.devices.lock();
        devices.insert(device, kept);
        self.keeper.table.names(devices.keys().cloned());
        self.keeper.news.notify_one();
    }

    /// Looks after `device` no more, which is not being read any more.
    pub(super) fn remove(&self, device: &DeviceId) {
        let mut devices = self.keeper.devices.lock();
        devices.remove(device);
        self.keeper.table.names(devices.keys().cloned());
        self.keeper.table.reads(device, None);
    }
}

impl Keeper {
    async fn watch(self: Arc<Self>) {
        let (mut tip, mut links) = (self.cluster.book().tip(), self.cluster.link_changes());
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (begun, mut heard) = (self.table.clock(), Heard::new());
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                Ok(()) = tip.changed() => {}
                Ok(()) = links.changed() => {}
                () = self.news.notified() => {}
            }
            self.hear(&mut heard);
            let Some((horizon, chain)) = self.look(begun, &heard).await else {
                continue;
            };
            self.table.hears(horizon.trusted_until(self.table.clock()));
            self.decide(&horizon, &chain);
        }
    }

    /// Who was heard since it was looked last.
    fn hear(&self, heard: &mut Heard) {
        let now = self.table.clock();
        for hub in self.cluster.links().hubs {
            let (Some(at), Some((height, _))) = (hub.heard, hub.tip) else {
                continue;
            };
            // Clocks may be set: what counts is that there was something new.
            if heard.get(&hub.id).is_none_or(|(before, _)| *before != at) {
                heard.insert(hub.id, (at, (now, height)));
            }
        }
    }

    /// What this hub knows of the hubs, and what the chain has of the devices.
    async fn look(&self, begun: Duration, heard: &Heard) -> Option<(Horizon, OnChain)> {
        let book = self.cluster.book().clone();
        let devices: Vec<DeviceId> = self.devices.lock().keys().cloned().collect();
        let own = book.hub().to_owned();
        let asked = tokio::task::spawn_blocking(move || {
            book.look_agreed(|agreed, all, tip| {
                let of = |device: DeviceId| {
                    let lease = agreed.holder(&device);
                    let lease = lease.map(|lease| (lease.hub.clone(), lease.epoch));
                    let newest = agreed.newest_epoch(&device).max(all.newest_epoch(&device));
                    let on_its_way = all.holder(&device).is_some_and(|wanted| {
                        wanted.hub == own && lease.as_ref().is_none_or(|(_, e)| *e < wanted.epoch)
                    });
                    (device, (lease, newest, on_its_way))
                };
                let chain: OnChain = devices.into_iter().map(of).collect();
                let set = agreed.validators().cloned();
                let leases = agreed.leased().filter_map(|(device, leases)| {
                    let lease = leases.last()?;
                    Some((device.to_owned(), (lease.hub.clone(), lease.epoch)))
                });
                (chain, set, tip.height, leases.collect::<Vec<_>>())
            })
        });
        let (chain, set, height, leases) = asked.await.ok()?;
        self.table.follow(leases, now());
        let set = set?;
        let heard = heard.iter().map(|(hub, (_, last))| (hub.clone(), *last));
        let horizon = Horizon {
            own: self.cluster.book().hub().to_owned(),
            members: set.validators.iter().map(|hub| hub.id.clone()).collect(),
            threshold: usize::try_from(set.threshold).unwrap_or(usize::MAX),
            heard: heard.collect(),
            height,
            begun,
        };
        Some((horizon, chain))
    }

    /// Does what is to be done about every device.
    fn decide(self: &Arc<Self>, horizon: &Horizon, chain: &OnChain) {
        let now = self.table.clock();
        for (device, kept) in self.devices.lock().iter_mut() {
            let Some((lease, newest, on_its_way)) = chain.get(device) else {
                continue;
            };
            let sight = Sight {
                order: &kept.setup.hubs,
                lease: lease.as_ref().map(|(hub, epoch)| (hub.as_str(), *epoch)),
                newest: *newest,
            };
            let step = kept.watch.decide(horizon, sight, now);
            if kept.busy || now < kept.not_before {
                continue;
            }
            let reading = self.table.reading(device);
            let (keeper, device) = (self.clone(), device.clone());
            match step {
                Step::Read(epoch) if reading == Some(epoch) => {}
                Step::Read(epoch) if reading.is_none() => {
                    kept.busy = true;
                    tokio::spawn(async move {
                        let begun = keeper.begin(&device, epoch).await;
                        keeper.done(&device, begun.is_err());
                    });
                }
                _ if reading.is_some() => {
                    kept.busy = true;
                    tokio::spawn(async move {
                        keeper.end(&device).await;
                        keeper.done(&device, false);
                    });
                }
                Step::Take(epoch) if !on_its_way => {
                    kept.busy = true;
                    tokio::spawn(async move {
                        let taken = keeper.take(&device, epoch).await;
                        keeper.done(&device, taken.is_err());
                    });
                }
                _ => {}
            }
        }
    }

    fn done(&self, device: &DeviceId, failed: bool) {
        if let Some(kept) = self.devices.lock().get_mut(device) {
            kept.busy = false;
            if failed {
                kept.not_before = self.table.clock() + AGAIN;
            }
        }
        self.news.notify_one();
    }

    /// Asks for the lease, and waits until the chain has it, or does not.
    async fn take(&self, device: &DeviceId, epoch: u64) -> Result<(), RecordFault> {
        let hub = self.cluster.book().hub();
        tracing::warn!(%device, epoch, "nobody reads the device: this hub asks for its lease");
        let draft = || drafts::lease(now(), hub, device, epoch);
        let asked = record_last(&self.reach.ledger, draft).await;
        match asked {
            Ok(height) => {
                tracing::warn!(%device, epoch, height, "this hub has the lease of the device");
                Ok(())
            }
            Err(fault) => {
                tracing::warn!(%device, epoch, %fault, "this hub does not have the lease of the device");
                Err(fault)
            }
        }
    }

    /// Begins to read a device under the lease of this epoch.
    async fn begin(&self, device: &DeviceId, epoch: u64) -> Result<(), HubError> {
        let _one_at_a_time = self.reach.changing.lock().await;
        let setup = self
            .devices
            .lock()
            .get(device)
            .map(|kept| kept.setup.clone());
        let Some(setup) = setup.filter(|_| self.table.reading(device).is_none()) else {
            return Ok(());
        };
        self.table.reads(device, Some(epoch));
        let planned = self.plan(setup).await;
        if let Err(error) = &planned {
            tracing::error!(%device, %error, "a device whose lease this hub has cannot be read, trying again");
            self.table.reads(device, None);
        }
        planned
    }

    async fn plan(&self, setup: DeviceSetup) -> Result<(), HubError> {
        let make = setup.source().ok_or_else(|| HubError::Device {
            device: setup.id.to_string(),
            reason: "an edge node reads it, which goes from hub to hub by itself".to_owned(),
        })?;
        let device = setup.id.clone();
        let recorded = self.reach.ledger.send(RecordedSettings(device)).await;
        let recorded = recorded.map_err(|_| HubError::Gone)?;
        let planner = self.reach.planner.clone();
        // It reads the disk.
        let planned = move || plan(setup, recorded.as_ref(), Intake::Source(make), &planner);
        let planned = tokio::task::spawn_blocking(planned).await;
        let plan = planned.map_err(|_| HubError::Gone)??;
        let adopted = self.reach.hub.send(Adopt(vec![plan])).await;
        adopted.map_err(|_| HubError::Gone)
    }

    /// Reads a device no more; what was read is on its way into the ledger, under the epoch that it was read under.
    async fn end(&self, device: &DeviceId) {
        let _one_at_a_time = self.reach.changing.lock().await;
        if self.table.reading(device).is_none() {
            return;
        }
        tracing::warn!(%device, "another hub reads the device from now on");
        // A hub that ends has nothing to take out.
        let _ = self.reach.hub.send(Retire(vec![device.clone()])).await;
        self.reach.planner.history.remove(device);
        self.reach.planner.live.remove(device);
        self.table.reads(device, None);
    }
}
