//! One device's way out of an edge node: its buffer on disk, and the numbers of what is in it.

use super::EdgeError;
use super::known::Known;
use super::numbering::{Numbering, Series};
use super::past::Past;
use crate::access::{Binding, Nonce, RenewalChallenge};
use crate::crypto::Signer;
use crate::live_view::DeviceLive;
use crate::model::{Batch, DeviceId, Peer};
use crate::protocols::control::Control;
use crate::protocols::edge::wire::{DeviceHello, Standing, WINDOW};
use crate::protocols::edge::{Content, Packer, Upload, tag_card};
use crate::store::spool::{Next, Spool, SpoolError, SpoolLimits};
use parking_lot::Mutex;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};
use weighbridge_verifier::{PublicKey, Signature};

/// What happens when a buffer is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// The device is read no more until there is room: nothing that was taken is lost.
    #[default]
    Stop,
    /// The samples of the oldest batches are dropped; a record of each says so.
    DropOldest,
}

/// A lane. A device that is configured anew gets a new lane over the same buffer.
pub(super) struct Lane {
    pub(super) live: Arc<DeviceLive>,
    grade: u8,
    /// Acts upon the device; none where it can only be read.
    control: Mutex<Option<Arc<dyn Control>>>,
    /// Why the hub does not take its batches; `None` while it does.
    refused: Mutex<Option<String>>,
    /// Held while something is done with the device.
    pub(super) acting: tokio::sync::Mutex<()>,
    /// What its source wants to know of the hub.
    pub(super) past: Past,
    shared: Arc<Shared>,
}

/// A device's buffer, which outlives its configuration.
pub(super) struct Buffer(Arc<Shared>);

/// A buffer, if it is still open.
pub(super) struct WeakBuffer {
    shared: Weak<Shared>,
    closed: CancellationToken,
}

impl Buffer {
    pub(super) fn downgrade(&self) -> WeakBuffer {
        WeakBuffer {
            shared: Arc::downgrade(&self.0),
            closed: self.0.closed.clone(),
        }
    }
}

impl WeakBuffer {
    pub(super) fn upgrade(&self) -> Option<Buffer> {
        self.shared.upgrade().map(Buffer)
    }

    /// Cancelled when the buffer is closed and may be opened again.
    pub(super) fn closed(&self) -> &CancellationToken {
        &self.closed
    }
}

/// What outlives a device's configuration.
struct Shared {
    dir: PathBuf,
    when_full: WhenFull,
    signer: Arc<dyn Signer>,
    inner: Mutex<Inner>,
    /// Wakes the writer: there may be room.
    room: Notify,
    /// Wakes the uplink: there is something to send.
    more: Arc<Notify>,
    counts: Counts,
    known: Known,
    closed: CancellationToken,
    /// Says that all of the above is gone, because it is the last that goes.
    _closes: DropGuard,
}

struct Inner {
    spool: Spool,
    numbering: Numbering,
    /// The numbers under which the current hub gets what follows.
    series: Series,
    /// Whether the current hub has the newest of what is acknowledged.
    has_newest: bool,
    /// What is packed now is sealed to these.
    sealed_to: Vec<PublicKey>,
    /// What is in the buffer before this place may be sealed to others.
    sealed_since: u64,
}

/// What a lane has done.
#[derive(Default)]
struct Counts {
    stored: AtomicU64,
    acknowledged: AtomicU64,
    dropped: AtomicU64,
    damaged: AtomicU64,
}

/// How a lane is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneStatus {
    /// The device.
    pub device: DeviceId,
    /// Batches in the buffer.
    pub pending: u64,
    /// Bytes of the buffer.
    pub bytes: u64,
    /// Bytes it may have at most.
    pub limit: u64,
    /// Batches made durable here since the start.
    pub stored: u64,
    /// Batches that a hub made durable since the start.
    pub acknowledged: u64,
    /// Samples dropped because the buffer was full.
    pub dropped: u64,
    /// Batches that this disk has lost.
    pub damaged: u64,
    /// Why the hub that is connected does not take its batches; `None` where it does, or nobody was asked.
    pub refused: Option<String>,
}

/// What is ready to be sent.
#[derive(Default)]
pub(super) struct Ready {
    pub(super) uploads: Vec<Upload>,
    /// Why the lane cannot send to this hub at all.
    pub(super) blocked: Option<String>,
}

impl Lane {
    /// Opens the buffer of `device` in `dir`. Blocking.
    pub(super) fn open(
        device: &DeviceId,
        dir: &Path,
        limits: SpoolLimits,
        when_full: WhenFull,
        signer: Arc<dyn Signer>,
        more: Arc<Notify>,
    ) -> Result<Buffer, EdgeError> {
        let dir = dir.join(&**device);
        let (spool, opened) = Spool::open(&dir, limits)?;
        if opened.torn > 0 {
            let bytes = opened.torn;
            tracing::info!(%device, bytes, "a batch that was being written is cut off");
        }
        if opened.lost > 0 {
            let batches = opened.lost;
            tracing::error!(%device, batches, "the disk has lost batches of the buffer");
        }
        let numbering = Numbering::load(&dir).map_err(|source| EdgeError::Numbering {
            dir: dir.clone(),
            source,
        })?;
        let known = Known::load(&dir).map_err(|source| EdgeError::Known {
            dir: dir.clone(),
            source,
        })?;
        let series = numbering.newest();
        let sealed_since = spool.next_index();
        let closed = CancellationToken::new();
        let shared = Shared {
            dir,
            when_full,
            signer,
            inner: Mutex::new(Inner {
                spool,
                numbering,
                series,
                has_newest: false,
                sealed_to: Vec::new(),
                sealed_since,
            }),
            room: Notify::new(),
            more,
            counts: Counts::default(),
            known,
            _closes: closed.clone().drop_guard(),
            closed,
        };
        Ok(Buffer(Arc::new(shared)))
    }

    /// A lane over this buffer.
    pub(super) fn over(buffer: Buffer, live: Arc<DeviceLive>, grade: u8) -> Self {
        Self {
            live,
            grade,
            control: Mutex::new(None),
            refused: Mutex::new(None),
            acting: tokio::sync::Mutex::default(),
            past: Past::default(),
            shared: buffer.0,
        }
    }

    /// How large its buffer may become from now on.
    pub(super) fn set_limits(&self, limits: SpoolLimits) {
        self.shared.inner.lock().spool.set_limits(limits);
        self.shared.room.notify_one();
    }

    /// Returns when there may be room.
    pub(super) async fn room(&self) {
        self.shared.room.notified().await;
    }

    /// From now on the device is acted upon by this.
    pub(super) fn set_control(&self, control: Option<Arc<dyn Control>>) {
        *self.control.lock() = control;
    }

    /// Remembers whether the hub takes its batches, and why not.
    pub(super) fn set_refused(&self, reason: Option<String>) {
        *self.refused.lock() = reason;
    }

    /// What the device is known by.
    pub(super) fn known(&self) -> &Known {
        &self.shared.known
    }

    /// The hub says what the device is known by. Blocking.
    pub(super) fn set_known(&self, known: Option<Peer>) -> Result<(), EdgeError> {
        let set = self.shared.known.set(known.map(Binding::from));
        set.map_err(|source| EdgeError::Known {
            dir: self.shared.dir.clone(),
            source,
        })
    }

    /// The edge node's signature over a hub's challenge, where that is about this device and this edge node.
    pub(super) fn prove(&self, challenge: &RenewalChallenge) -> Option<(Nonce, Signature)> {
        let signer = &self.shared.signer;
        let own = challenge.device == *self.live.id && challenge.signer == signer.id();
        own.then(|| {
            let signature = signer.sign(&challenge.hash(signer.suite()));
            (challenge.nonce, signature)
        })
    }

    /// Acts upon the device.
    pub(super) fn control(&self) -> Option<Arc<dyn Control>> {
        self.control.lock().clone()
    }

    /// What the current hub is to be asked of the device's past: nothing before it has all that was read.
    pub(super) fn question(&self) -> Option<(u64, Vec<u32>)> {
        let (number, uncounted) = self.past.question()?;
        let (pending, has_newest) = {
            let inner = self.shared.inner.lock();
            (inner.spool.pending(), inner.has_newest)
        };
        if !has_newest {
            let reason = "another hub than this one has taken what was read last".to_owned();
            self.past.answer(number, Err(reason));
            return None;
        }
        (pending == 0).then_some((number, uncounted))
    }

    /// The uplink has something to say.
    pub(super) fn wake_uplink(&self) {
        self.shared.more.notify_one();
    }

    pub(super) fn hello(&self) -> DeviceHello {
        DeviceHello {
            id: self.live.id.to_string(),
            grade: self.grade,
            tags: self.live.tags.iter().map(tag_card).collect(),
        }
    }

    pub(super) fn status(&self) -> LaneStatus {
        let (pending, bytes, limit) = {
            let inner = self.shared.inner.lock();
            let spool = &inner.spool;
            (spool.pending(), spool.bytes(), spool.limits().bytes)
        };
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        LaneStatus {
            device: self.live.id.clone(),
            pending,
            bytes,
            limit,
            stored: count(&self.shared.counts.stored),
            acknowledged: count(&self.shared.counts.acknowledged),
            dropped: count(&self.shared.counts.dropped),
            damaged: count(&self.shared.counts.damaged),
            refused: self.refused.lock().clone(),
        }
    }

    /// What waits in the buffer: batches and bytes.
    pub(super) fn backlog(&self) -> (u64, u64) {
        let inner = self.shared.inner.lock();
        (inner.spool.pending(), inner.spool.bytes())
    }

    /// Packs `batch` with the next number and appends it; it is durable after [`Self::sync`]. Only one
    /// at a time may do this. Blocking.
    pub(super) fn append(&self, packer: &mut Packer, batch: &Batch) -> Result<(), EdgeError> {
        let number = {
            let inner = self.shared.inner.lock();
            inner.series.number(inner.spool.next_index())
        };
        let upload = packer.pack(batch, number, &*self.shared.signer)?;
        let bytes = upload.to_bytes();
        loop {
            let mut inner = self.shared.inner.lock();
            match inner.spool.append(&bytes) {
                Ok(_) => break,
                Err(SpoolError::Full { .. }) if self.shared.when_full == WhenFull::DropOldest => {
                    self.drop_oldest(&mut inner.spool)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.shared.counts.stored.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// What is appended from now on is packed by `packer`.
    pub(super) fn packs_by(&self, packer: &Packer) {
        let mut inner = self.shared.inner.lock();
        inner.sealed_to = packer.recipients().copied().collect();
        inner.sealed_since = inner.spool.next_index();
    }

    /// Whether all that waits is sealed to `key`, and what comes will be.
    pub(super) fn seals_to(&self, key: &PublicKey) -> bool {
        let inner = self.shared.inner.lock();
        inner.sealed_to.contains(key) && inner.spool.head() >= inner.sealed_since
    }

    /// Makes what was appended durable. Blocking.
    pub(super) fn sync(&self) -> Result<(), EdgeError> {
        self.shared.inner.lock().spool.sync()?;
        self.shared.more.notify_one();
        Ok(())
    }

    fn drop_oldest(&self, spool: &mut Spool) -> Result<(), EdgeError> {
        let samples = Cell::new(0);
        let shrunk = spool.shrink_oldest(|bytes| match Upload::from_bytes(bytes) {
            Ok(upload) => {
                if matches!(upload.content, Content::Sealed(_)) {
                    samples.set(samples.get() + u64::from(upload.samples));
                }
                upload.without_samples().to_bytes()
            }
            // It is found to be damaged when its turn comes.
            Err(_) => bytes.to_vec(),
        })?;
        let (batches, samples) = (shrunk.records, samples.get());
        self.shared
            .counts
            .dropped
            .fetch_add(samples, Ordering::Relaxed);
        self.live.dropped.fetch_add(samples, Ordering::Relaxed);
        let device = &self.live.id;
        tracing::error!(%device, batches, samples, "the buffer is full, the oldest samples are dropped");
        Ok(())
    }

    /// The ledger of the hub with key `hub` has what `standing` says: what it has is acknowledged, and
    /// what follows is numbered for it. Blocking.
    pub(super) fn meet(&self, hub: PublicKey, standing: Standing) -> Result<(), EdgeError> {
        let mut inner = self.shared.inner.lock();
        let (head, end) = (inner.spool.head(), inner.spool.next_index());
        let mut numbering = inner.numbering.clone();
        let meeting = numbering.meet(hub, standing, head, end);
        if meeting.new {
            numbering
                .save(&self.shared.dir)
                .map_err(|source| EdgeError::Numbering {
                    dir: self.shared.dir.clone(),
                    source,
                })?;
            let (device, epoch) = (&self.live.id, meeting.series.epoch);
            tracing::info!(%device, epoch, "a new epoch begins with this hub");
            inner.numbering = numbering;
        }
        inner.series = meeting.series;
        inner.has_newest = meeting.has_newest;
        self.acknowledge_to(&mut inner.spool, meeting.acknowledged)?;
        let head = inner.spool.head();
        inner.spool.read_from(head);
        Ok(())
    }

    /// The current hub has made everything up to this batch durable. Blocking.
    pub(super) fn durable(&self, (epoch, sequence): (u64, u64)) -> Result<(), EdgeError> {
        let mut inner = self.shared.inner.lock();
        // The last batches of an older series say nothing of this one.
        if epoch != inner.series.epoch {
            return Ok(());
        }
        let to = inner.series.after(sequence);
        self.acknowledge_to(&mut inner.spool, to)
    }

    fn acknowledge_to(&self, spool: &mut Spool, to: u64) -> Result<(), EdgeError> {
        let before = spool.head();
        spool.acknowledge(to)?;
        let batches = spool.head() - before;
        if batches > 0 {
            let counted = &self.shared.counts.acknowledged;
            counted.fetch_add(batches, Ordering::Relaxed);
            self.shared.room.notify_one();
            self.shared.more.notify_one();
        }
        Ok(())
    }

    /// Up to `most` uploads that may be sent now, for the owner of the keys `sealing`. Blocking.
    pub(super) fn ready(&self, sealing: &[PublicKey], most: usize) -> Result<Ready, EdgeError> {
        let mut inner = self.shared.inner.lock();
        let mut ready = Ready::default();
        while ready.uploads.len() < most && inner.spool.cursor() - inner.spool.head() < WINDOW {
            let Some(next) = inner.spool.read()? else {
                break;
            };
            let number = inner.series.number(next.index());
            let upload = self.prepared(next, number);
            if !upload.opens_for(sealing) {
                ready.blocked = Some(format!(
                    "the batches of `{}` were sealed before this hub was in the list: it cannot open them",
                    self.live.id
                ));
                let head = inner.spool.head();
                inner.spool.read_from(head);
                break;
            }
            ready.uploads.push(upload);
        }
        Ok(ready)
    }

    /// A record as it is sent under `number`.
    fn prepared(&self, next: Next, number: (u64, u64)) -> Upload {
        let (device, index) = (&self.live.id, next.index());
        let read = match next {
            Next::Record(_, bytes) => Upload::from_bytes(&bytes).map_err(|e| e.to_string()),
            Next::Lost(_) => Err("the disk has lost it".to_owned()),
        };
        let numbered = read.and_then(|mut upload| {
            if (upload.epoch, upload.sequence) != number {
                let renumbered = upload.renumber(number, &*self.shared.signer);
                renumbered.map_err(|fault| fault.to_string())?;
            }
            Ok(upload)
        });
        numbered.unwrap_or_else(|reason| {
            tracing::error!(%device, index, reason, "a batch of the buffer is lost");
            self.shared.counts.damaged.fetch_add(1, Ordering::Relaxed);
            Upload::damaged(device, self.grade, number, &*self.shared.signer)
        })
    }
}
