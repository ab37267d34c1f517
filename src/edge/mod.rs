//! An edge node: beside the machines, it reads them, signs what it read, keeps it on disk, and brings it
//! to the first hub that answers (ADR 13).
//!
//! ```text
//! source ─▶ reading task ─▶ writer: packed, signed, sealed ─▶ spool ─▶ uplink ─▶ hub ─▶ durable: cut off
//! ```

mod acquaintance;
mod desk;
mod entry;
mod error;
mod key;
mod known;
mod lane;
mod member;
mod numbering;
mod past;
mod session;
mod setup;
mod stay;
mod uplink;
mod view;
mod writer;

pub use error::{EdgeError, SetupError};
pub use lane::{LaneStatus, WhenFull};

use crate::crypto::{Identity, PeerKey, SealingPublicKey, Signer};
use crate::hub::{DeviceSetup, check_devices};
use crate::live_view::LiveView;
use crate::model::{DeviceId, Nanos, now};
use acquaintance::Acquaintance;
use key::EdgeKey;
use member::{Cell, Member};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uplink::{Lanes, Target, Uplink};
use weighbridge_verifier::PublicKey;

/// How long a device that is taken out waits until its buffer is closed. The connection to the hub and
/// what is being done with the machine let go of it within eight seconds.
const LETS_GO: Duration = Duration::from_secs(20);
/// How long an ending edge node waits until what it read is on disk.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(10);
/// A buffer smaller than this for a device would hold only a few batches.
pub const MIN_BUFFER: u64 = 256 << 10;

/// A hub that an edge node uploads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubEntry {
    /// Host and port.
    pub address: String,
    /// Its own key, and the one that it shows in TLS.
    pub key: PeerKey,
    /// Its sealing key, which uploads are sealed to.
    pub sealing: PublicKey,
}

/// How the connection to the hubs is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UplinkStatus {
    /// Not yet tried.
    Starting,
    /// Connected.
    Up {
        /// Id of the hub.
        hub: String,
        /// Where it is.
        address: String,
        /// Since when.
        since: Nanos,
    },
    /// Not connected.
    Down {
        /// Why.
        reason: String,
        /// When a hub was last heard; `None` when none was since the start.
        last_success: Option<Nanos>,
        /// When the next attempt is due.
        retry_at: Nanos,
    },
}

/// Puts an edge node together.
pub struct EdgeBuilder {
    identity: Identity,
    buffer: PathBuf,
    bytes: u64,
    when_full: WhenFull,
    patience: Duration,
    hubs: Vec<HubEntry>,
    devices: Vec<DeviceSetup>,
}

impl EdgeBuilder {
    /// An edge node with this key that buffers in directory `buffer`.
    pub fn new(identity: Identity, buffer: impl Into<PathBuf>) -> Self {
        Self {
            identity,
            buffer: buffer.into(),
            bytes: 1 << 30,
            when_full: WhenFull::default(),
            patience: Duration::from_secs(3),
            hubs: Vec::new(),
            devices: Vec::new(),
        }
    }

    /// How large the buffer may become, in bytes, all devices together, and what happens then.
    pub fn bound(mut self, bytes: u64, when_full: WhenFull) -> Self {
        self.bytes = bytes;
        self.when_full = when_full;
        self
    }

    /// How long a lost hub is tried again before the next is asked.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// One more hub; the first that answers is uploaded to.
    pub fn hub(mut self, hub: HubEntry) -> Self {
        self.hubs.push(hub);
        self
    }

    /// One more device.
    pub fn device(mut self, device: DeviceSetup) -> Self {
        self.devices.push(device);
        self
    }

    /// Starts everything. Blocking; call it from no async thread.
    pub fn start(self) -> Result<EdgeNode, EdgeError> {
        if self.hubs.is_empty() {
            return Err(EdgeError::NoHub);
        }
        let mut targets = Vec::with_capacity(self.hubs.len());
        let mut readers = Vec::with_capacity(self.hubs.len());
        let key = Arc::new(EdgeKey::new(self.identity));
        let own = key.suite();
        for hub in self.hubs {
            let keys = [hub.key.own.suite(), hub.sealing.suite()];
            if let Some(suite) = keys.into_iter().find(|suite| *suite != own) {
                let address = hub.address;
                return Err(EdgeError::Suite {
                    address,
                    suite,
                    own,
                });
            }
            let sealing = SealingPublicKey::from_compressed(&hub.sealing);
            readers.push(sealing.map_err(|source| EdgeError::SealingKey {
                address: hub.address.clone(),
                source,
            })?);
            targets.push(Target {
                known: Acquaintance::new(&key.current(), hub.key, &self.buffer)?,
                address: hub.address,
                key: hub.key.own,
                sealing: hub.sealing,
            });
        }
        let id = key.id().to_owned();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(4)
            .thread_name("weighbridge-edge")
            .enable_all()
            .build()
            .map_err(EdgeError::Threads)?;
        check_devices(&self.devices)?;
        let live = LiveView::default();
        let more = Arc::new(Notify::new());
        let cell = Cell {
            live: live.clone(),
            buffer: self.buffer,
            bytes: self.bytes,
            when_full: self.when_full,
            signer: key.clone(),
            readers,
            // One key a process: what an earlier one sealed, this one cannot open.
            key: u64::try_from(now()).unwrap_or(0),
            more: more.clone(),
            runtime: runtime.handle().clone(),
            stop: CancellationToken::new(),
            reading: TaskTracker::new(),
            buffers: Mutex::default(),
        };
        let devices = self.devices.len();
        let opened = self.devices.into_iter();
        let opened = opened.map(|device| cell.prepare(device, devices));
        let opened: Vec<_> = opened.collect::<Result<_, _>>()?;
        let members = opened.into_iter().map(|ready| cell.begin(ready));
        let members: BTreeMap<_, _> = members
            .map(|member| (member.lane.live.id.clone(), member))
            .collect();
        let (lanes, seen_lanes) = watch::channel(lanes_of(&members));
        let (status, seen) = watch::channel(UplinkStatus::Starting);
        let heard = Arc::new(AtomicI64::new(0));
        let end = CancellationToken::new();
        let sending = TaskTracker::new();
        let uplink = Uplink {
            targets,
            key: key.clone(),
            lanes: seen_lanes,
            more,
            patience: self.patience,
            status,
            heard: heard.clone(),
            stop: end.clone(),
        };
        sending.spawn_on(uplink.run(), runtime.handle());
        Ok(EdgeNode {
            id,
            key,
            started: now(),
            live,
            heard,
            members: Mutex::new(members),
            changing: tokio::sync::Mutex::new(()),
            lanes,
            cell: Arc::new(cell),
            status: seen,
            end,
            sending,
            runtime: Some(runtime),
        })
    }
}

fn lanes_of(members: &BTreeMap<DeviceId, Member>) -> Lanes {
    members.values().map(|member| member.lane.clone()).collect()
}

/// A running edge node. Dropping it ends it without a word on what went wrong.
pub struct EdgeNode {
    id: String,
    key: Arc<EdgeKey>,
    started: Nanos,
    live: LiveView,
    heard: Arc<AtomicI64>,
    members: Mutex<BTreeMap<DeviceId, Member>>,
    /// Held while devices change.
    changing: tokio::sync::Mutex<()>,
    lanes: watch::Sender<Lanes>,
    cell: Arc<Cell>,
    status: watch::Receiver<UplinkStatus>,
    end: CancellationToken,
    sending: TaskTracker,
    runtime: Option<Runtime>,
}

impl EdgeNode {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key that it signs by, to be watched.
    pub fn key(&self) -> watch::Receiver<Arc<Identity>> {
        self.key.watch()
    }

    /// From now on `identity` is to take the place of the key in use, which it does when a hub lets the edge
    /// node in with it. Until then everything goes on under the one in use; naming that one ends the waiting.
    ///
    /// # Errors
    /// When it is of another suite, or another edge node's.
    pub fn offer_key(&self, identity: Identity) -> Result<(), EdgeError> {
        self.key.offer(identity)
    }

    /// When it started.
    pub fn started(&self) -> Nanos {
        self.started
    }

    /// The newest sample of every tag.
    pub fn live(&self) -> &LiveView {
        &self.live
    }

    /// How the connection to the hubs is, to be watched.
    pub fn uplink(&self) -> watch::Receiver<UplinkStatus> {
        self.status.clone()
    }

    /// When a hub was last heard.
    pub fn heard(&self) -> Option<Nanos> {
        let heard = self.heard.load(Ordering::Relaxed);
        (heard != 0).then_some(heard)
    }

    /// How the devices' buffers are.
    pub fn lanes(&self) -> Vec<LaneStatus> {
        self.lanes.borrow().iter().map(|l| l.status()).collect()
    }

    /// Takes the devices `remove` out and puts `put` in; one that is there under the same id is replaced,
    /// and what its buffer holds still goes up. All other devices are read on, and their batches go up, as
    /// if nothing happened. What a leaving device has read is on disk first, so this takes as long as the
    /// disk does, or the hub if the buffer is full. What waits in the buffer of a device that was taken
    /// out stays there until the device is back; the buffer is closed when this returns.
    ///
    /// # Errors
    /// When a device cannot be used, or its buffer not be opened; then nothing was changed.
    pub async fn apply(
        &self,
        remove: Vec<DeviceId>,
        put: Vec<DeviceSetup>,
    ) -> Result<(), EdgeError> {
        let _one_at_a_time = self.changing.lock().await;
        if self.cell.stop.is_cancelled() {
            return Err(EdgeError::Ending);
        }
        check_devices(&put)?;
        let devices = {
            let members = self.members.lock();
            let mut ids: BTreeSet<_> = members.keys().cloned().collect();
            ids.retain(|id| !remove.contains(id));
            ids.extend(put.iter().map(|d| d.id.clone()));
            ids.len()
        };
        let cell = self.cell.clone();
        // It opens buffers.
        let prepared = tokio::task::spawn_blocking(move || {
            let prepared = put.into_iter().map(|d| cell.prepare(d, devices));
            prepared.collect::<Result<Vec<_>, _>>()
        });
        let prepared = prepared.await.map_err(|_| EdgeError::Ending)??;
        let leaving: Vec<Member> = {
            let mut members = self.members.lock();
            let ids = remove.iter().chain(prepared.iter().map(|p| &p.id));
            ids.filter_map(|id| members.remove(id)).collect()
        };
        for member in &leaving {
            member.stop.cancel();
        }
        for member in &leaving {
            member.tasks.close();
            member.tasks.wait().await;
        }
        let gone = leaving.iter().map(|member| &member.lane);
        let mut closing = Vec::new();
        for lane in gone.filter(|lane| remove.contains(&lane.live.id)) {
            let (device, batches) = (&lane.live.id, lane.backlog().0);
            self.live.remove(device);
            closing.push(device.clone());
            if batches > 0 {
                tracing::warn!(%device, batches, "it is read no more; what waits in its buffer stays there");
            }
        }
        drop(leaving);
        let lanes = {
            let mut members = self.members.lock();
            for ready in prepared {
                let member = self.cell.begin(ready);
                members.insert(member.lane.live.id.clone(), member);
            }
            let limits = self.cell.limits(devices);
            members.values().for_each(|m| m.lane.set_limits(limits));
            closing.retain(|device| !members.contains_key(device));
            lanes_of(&members)
        };
        self.lanes.send_replace(lanes);
        let closed = tokio::time::timeout(LETS_GO, self.cell.closed(&closing)).await;
        if closed.is_err() {
            tracing::warn!("the buffer of a device that was taken out is still in use");
        }
        Ok(())
    }

    /// The runtime that it works on.
    pub fn runtime(&self) -> tokio::runtime::Handle {
        match &self.runtime {
            Some(runtime) => runtime.handle().clone(),
            None => unreachable!("the runtime lives as long as the edge node"),
        }
    }

    /// Stops reading, waits until all that was read is on disk, and ends; what no hub has taken yet is
    /// sent after the next start. Blocking; call it from no async thread.
    pub fn shutdown(mut self) -> Result<(), EdgeError> {
        self.finish()
    }

    fn finish(&mut self) -> Result<(), EdgeError> {
        let Some(runtime) = self.runtime.take() else {
            return Ok(());
        };
        let dropped_before = self.dropped();
        self.cell.stop.cancel();
        self.cell.reading.close();
        let stored = runtime.block_on(async {
            let stored = tokio::time::timeout(SHUTDOWN_WAIT, self.cell.reading.wait()).await;
            self.end.cancel();
            self.sending.close();
            let _ = tokio::time::timeout(Duration::from_secs(1), self.sending.wait()).await;
            stored.is_ok()
        });
        runtime.shutdown_timeout(Duration::from_secs(1));
        let samples = self.dropped() - dropped_before;
        if stored || samples == 0 {
            return Ok(());
        }
        let reason = "the buffer takes nothing";
        Err(EdgeError::Lost { samples, reason })
    }

    fn dropped(&self) -> u64 {
        let devices = self.live.devices();
        let dropped = devices.iter().map(|d| &d.dropped);
        dropped
            .map(|d| d.load(std::sync::atomic::Ordering::Relaxed))
            .sum()
    }
}

impl Drop for EdgeNode {
    fn drop(&mut self) {
        if let Err(error) = self.finish() {
            tracing::error!(%error, "the edge node did not end in good order");
        }
    }
}
