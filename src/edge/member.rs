//! One device of an edge node: its reading, its writing to disk, its lane; begun and ended by itself.

use super::known::LaneKnown;
use super::lane::{Buffer, Lane, WeakBuffer, WhenFull};
use super::past::LaneRecorded;
use super::seals::Seals;
use super::writer::{LaneSink, Writer};
use super::{EdgeError, MIN_BUFFER};
use crate::access::DeclaredBinding;
use crate::actors::credit::Credits;
use crate::actors::device::BatchRead;
use crate::actors::hub::MakeSource;
use crate::actors::reading::{BatchLimits, Reading};
use crate::crypto::Signer;
use crate::hub::DeviceSetup;
use crate::live_view::LiveView;
use crate::model::{DeviceId, now};
use crate::protocols::edge::Packer;
use crate::store::spool::SpoolLimits;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long after a panic a device is read again.
const AFTER_PANIC: Duration = Duration::from_millis(500);

/// What all devices of an edge node are made from.
pub(super) struct Cell {
    pub(super) live: LiveView,
    pub(super) buffer: PathBuf,
    /// Of all buffers together.
    pub(super) bytes: u64,
    pub(super) when_full: WhenFull,
    pub(super) signer: Arc<dyn Signer>,
    pub(super) seals: Arc<Seals>,
    pub(super) more: Arc<Notify>,
    pub(super) runtime: Handle,
    pub(super) stop: CancellationToken,
    /// The tasks of all devices.
    pub(super) reading: TaskTracker,
    /// Buffers that are open: of devices that there are, and of some that were just taken out.
    pub(super) buffers: Mutex<BTreeMap<DeviceId, WeakBuffer>>,
}

/// A device that can begin: nothing of it can fail any more.
pub(super) struct Ready {
    pub(super) id: DeviceId,
    device: DeviceSetup,
    make: MakeSource,
    packer: Packer,
    /// Made only now, because it is what everybody sees.
    lane: Box<dyn FnOnce(&LiveView) -> Lane + Send>,
}

/// A device that is read.
pub(super) struct Member {
    pub(super) lane: Arc<Lane>,
    /// Ends its reading.
    pub(super) stop: CancellationToken,
    /// Ended when all that was read is on disk.
    pub(super) tasks: TaskTracker,
}

impl Cell {
    /// The bounds of one buffer of so many.
    pub(super) fn limits(&self, devices: usize) -> SpoolLimits {
        let share = self.bytes / devices.max(1) as u64;
        SpoolLimits::of(share.max(MIN_BUFFER))
    }

    /// All of a device that may fail, as one of so many. Blocking.
    pub(super) fn prepare(&self, device: DeviceSetup, devices: usize) -> Result<Ready, EdgeError> {
        let make = device.source().ok_or_else(|| EdgeError::Device {
            device: device.id.to_string(),
            reason: "it is read by another edge node",
        })?;
        let packer = self.seals.packer(device.grade)?;
        let (id, tags, grade) = (device.id.clone(), device.tags.clone(), device.grade);
        let buffer = self.buffer_of(&device.id, devices)?;
        let lane = move |live: &LiveView| Lane::over(buffer, live.register(id, tags), grade);
        Ok(Ready {
            id: device.id.clone(),
            device,
            make,
            packer,
            lane: Box::new(lane),
        })
    }

    /// The buffer of a device; there is only ever one that is open.
    fn buffer_of(&self, device: &DeviceId, devices: usize) -> Result<Buffer, EdgeError> {
        let mut buffers = self.buffers.lock();
        if let Some(open) = buffers.get(device).and_then(WeakBuffer::upgrade) {
            return Ok(open);
        }
        let opened = Lane::open(
            device,
            &self.buffer,
            self.limits(devices),
            self.when_full,
            self.signer.clone(),
            self.more.clone(),
        )?;
        buffers.retain(|_, buffer| buffer.upgrade().is_some());
        buffers.insert(device.clone(), opened.downgrade());
        Ok(opened)
    }

    /// Returns when the buffers of `devices` are closed: whoever had them has let go.
    pub(super) async fn closed(&self, devices: &[DeviceId]) {
        for device in devices {
            let closed = {
                let buffers = self.buffers.lock();
                buffers.get(device).map(|buffer| buffer.closed().clone())
            };
            if let Some(closed) = closed {
                closed.cancelled().await;
            }
        }
    }

    /// Begins to read a device.
    pub(super) fn begin(&self, ready: Ready) -> Member {
        let lane = Arc::new((ready.lane)(&self.live));
        let (stop, tasks) = (self.stop.child_token(), TaskTracker::new());
        let (batches, queue) = mpsc::channel(1);
        let reader = Reader {
            make: ready.make,
            limits: ready.device.batch,
            lane: lane.clone(),
            declared: ready.device.binding.clone(),
            batches,
            stop: stop.clone(),
        };
        let seals = (ready.packer, ready.device.grade, self.seals.clone());
        let writer = Writer::new(lane.clone(), seals, queue);
        let read = tasks.track_future(reader.run());
        self.reading.spawn_on(read, &self.runtime);
        let written = tasks.track_future(writer.run());
        self.reading.spawn_on(written, &self.runtime);
        Member { lane, stop, tasks }
    }
}

/// One device's reading, begun anew when its source panics.
struct Reader {
    make: MakeSource,
    limits: BatchLimits,
    lane: Arc<Lane>,
    declared: DeclaredBinding,
    batches: mpsc::Sender<BatchRead>,
    stop: CancellationToken,
}

impl Reader {
    async fn run(self) {
        let credits = Credits::default();
        let live = &self.lane.live;
        let mut recorded = Some(Arc::new(LaneRecorded(self.lane.clone())));
        loop {
            let sink = Box::new(LaneSink(self.batches.clone()));
            let mut source = (self.make)();
            // One that comes after a panic would go on from before what is on its way to the disk.
            if let Some(recorded) = recorded.take() {
                source.go_on_from(recorded);
            }
            self.lane.set_control(source.control());
            let source = (source, self.limits);
            let (credits, stop) = (credits.clone(), self.stop.clone());
            let reading = Reading::new(source, sink, live.clone(), credits, stop);
            let reading = reading.known_by(Box::new(LaneKnown {
                lane: self.lane.clone(),
                declared: self.declared.clone(),
            }));
            let Err(error) = tokio::spawn(reading.run()).await else {
                break;
            };
            tracing::error!(device = %live.id, %error, "the reading task died, starting it anew");
            let retry_at = now() + AFTER_PANIC.as_nanos() as i64;
            live.set_down(
                "the edge node failed over this device and starts it again",
                "its reading task died; the log says why",
                retry_at,
            );
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = tokio::time::sleep(AFTER_PANIC) => {}
            }
        }
        // Who asks for something now is told that there is no way any more.
        self.lane.set_control(None);
    }
}
