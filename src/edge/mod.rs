//! An edge node: beside the machines, it reads them, signs what it read, keeps it on disk, and brings it
//! to the first hub that answers (ADR 13).
//!
//! ```text
//! source ─▶ reading task ─▶ writer: packed, signed, sealed ─▶ spool ─▶ uplink ─▶ hub ─▶ durable: cut off
//! ```

mod lane;
mod numbering;
mod setup;
mod uplink;
mod writer;

pub use lane::{LaneStatus, WhenFull};

use crate::actors::credit::Credits;
use crate::actors::device::BatchRead;
use crate::actors::hub::MakeSource;
use crate::actors::reading::{BatchLimits, Reading};
use crate::crypto::pinned_tls::{self, TlsError};
use crate::crypto::{Identity, OpenError, SealingPublicKey, Signer};
use crate::hub::DeviceSetup;
use crate::live_view::{DeviceLive, LiveView};
use crate::model::now;
use crate::protocols::edge::{Packer, UploadError};
use crate::store::spool::{SpoolError, SpoolLimits};
use lane::Lane;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uplink::{Target, Uplink};
use weighbridge_verifier::PublicKey;
use writer::{LaneSink, Writer};

/// How long an ending edge node waits until what it read is on disk.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(10);
/// How long after a panic a device is read again.
const AFTER_PANIC: Duration = Duration::from_millis(500);
/// A buffer smaller than this for a device would hold only a few batches.
pub const MIN_BUFFER: u64 = 256 << 10;

/// Why an edge node cannot start, or go on.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// The buffer.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// A batch cannot be packed.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A hub's sealing key is none.
    #[error("the sealing key of the hub at {address} is no key: {source}")]
    SealingKey {
        /// Which hub.
        address: String,
        /// Why.
        source: OpenError,
    },
    /// The numbering of a lane.
    #[error("the numbering of the batches in {} cannot be kept: {source}", dir.display())]
    Numbering {
        /// Where.
        dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A device.
    #[error("the device `{device}` cannot be read here: {reason}")]
    Device {
        /// Which.
        device: String,
        /// Why.
        reason: &'static str,
    },
    /// There is nobody to upload to.
    #[error("there is no hub to upload to: name at least one")]
    NoHub,
    /// Threads.
    #[error("the edge node's threads cannot be started: {0}")]
    Threads(std::io::Error),
    /// It ended before everything was on disk.
    #[error("{samples} samples were read but are not in the buffer: {reason}")]
    Lost {
        /// How many.
        samples: u64,
        /// Why.
        reason: &'static str,
    },
}

/// Why an edge node's configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// It is a hub's.
    #[error("the configuration has no `[edge]`: it is not an edge node's")]
    NotAnEdge,
    /// The key.
    #[error(transparent)]
    Key(#[from] crate::crypto::KeyFileError),
    /// A device.
    #[error(transparent)]
    Device(#[from] crate::hub::HubError),
}

/// A hub that an edge node uploads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubEntry {
    /// Host and port.
    pub address: String,
    /// Its signing key, which it shows in TLS.
    pub key: PublicKey,
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
    },
    /// Not connected.
    Down {
        /// Why.
        reason: String,
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
        for hub in self.hubs {
            let tls = pinned_tls::client(&self.identity, &hub.key)?;
            let sealing = SealingPublicKey::from_compressed(&hub.sealing);
            readers.push(sealing.map_err(|source| EdgeError::SealingKey {
                address: hub.address.clone(),
                source,
            })?);
            targets.push(Target {
                address: hub.address,
                key: hub.key,
                sealing: hub.sealing,
                tls,
            });
        }
        let id = self.identity.id().to_owned();
        let signer: Arc<dyn Signer> = Arc::new(self.identity);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(4)
            .thread_name("weighbridge-edge")
            .enable_all()
            .build()
            .map_err(EdgeError::Threads)?;
        let live = LiveView::default();
        let share = self.bytes / self.devices.len().max(1) as u64;
        let limits = SpoolLimits::of(share.max(MIN_BUFFER));
        let (stop, end) = (CancellationToken::new(), CancellationToken::new());
        let (reading, sending) = (TaskTracker::new(), TaskTracker::new());
        let more = Arc::new(Notify::new());
        // One key a process: what an earlier one sealed, this one cannot open.
        let key = u64::try_from(now()).unwrap_or(0);
        let mut lanes = Vec::with_capacity(self.devices.len());
        let mut readings = Vec::with_capacity(self.devices.len());
        for device in self.devices {
            let make = device.source().ok_or_else(|| EdgeError::Device {
                device: device.id.to_string(),
                reason: "it is read by another edge node",
            })?;
            let of_device = live.register(device.id.clone(), device.tags.clone());
            let lane = Arc::new(Lane::open(
                (of_device.clone(), device.grade),
                &self.buffer,
                limits,
                self.when_full,
                signer.clone(),
                more.clone(),
            )?);
            lanes.push(lane.clone());
            let packer = Packer::new(device.grade, key, &readers)?;
            readings.push((make, device.batch, of_device, lane, packer));
        }
        for (make, limits, live, lane, packer) in readings {
            let (batches, queue) = mpsc::channel(1);
            let reader = Reader {
                make,
                limits,
                live,
                batches,
                stop: stop.clone(),
            };
            reading.spawn_on(reader.run(), runtime.handle());
            let writer = Writer::new(lane, packer, queue);
            reading.spawn_on(writer.run(), runtime.handle());
        }
        let (status, seen) = watch::channel(UplinkStatus::Starting);
        let lanes: Arc<[_]> = lanes.into();
        let uplink = Uplink {
            targets,
            lanes: lanes.clone(),
            more,
            patience: self.patience,
            status,
            stop: end.clone(),
        };
        sending.spawn_on(uplink.run(), runtime.handle());
        Ok(EdgeNode {
            id,
            live,
            lanes,
            status: seen,
            stop,
            end,
            reading,
            sending,
            runtime: Some(runtime),
        })
    }
}

/// One device's reading, begun anew when its source panics.
struct Reader {
    make: MakeSource,
    limits: BatchLimits,
    live: Arc<DeviceLive>,
    batches: mpsc::Sender<BatchRead>,
    stop: CancellationToken,
}

impl Reader {
    async fn run(self) {
        let credits = Credits::default();
        loop {
            let sink = Box::new(LaneSink(self.batches.clone()));
            let source = ((self.make)(), self.limits);
            let (credits, stop) = (credits.clone(), self.stop.clone());
            let reading = Reading::new(source, sink, self.live.clone(), credits, stop);
            let Err(error) = tokio::spawn(reading.run()).await else {
                return;
            };
            tracing::error!(device = %self.live.id, %error, "the reading task died, starting it anew");
            let retry_at = now() + AFTER_PANIC.as_nanos() as i64;
            self.live.set_down(
                "the edge node failed over this device and starts it again",
                "its reading task died; the log says why",
                retry_at,
            );
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(AFTER_PANIC) => {}
            }
        }
    }
}

/// A running edge node. Dropping it ends it without a word on what went wrong.
pub struct EdgeNode {
    id: String,
    live: LiveView,
    lanes: Arc<[Arc<Lane>]>,
    status: watch::Receiver<UplinkStatus>,
    stop: CancellationToken,
    end: CancellationToken,
    reading: TaskTracker,
    sending: TaskTracker,
    runtime: Option<Runtime>,
}

impl EdgeNode {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The newest sample of every tag.
    pub fn live(&self) -> &LiveView {
        &self.live
    }

    /// How the connection to the hubs is, to be watched.
    pub fn uplink(&self) -> watch::Receiver<UplinkStatus> {
        self.status.clone()
    }

    /// How the devices' buffers are.
    pub fn lanes(&self) -> Vec<LaneStatus> {
        self.lanes.iter().map(|lane| lane.status()).collect()
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
        self.stop.cancel();
        self.reading.close();
        let stored = runtime.block_on(async {
            let stored = tokio::time::timeout(SHUTDOWN_WAIT, self.reading.wait()).await;
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
