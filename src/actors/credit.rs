//! The bound of the data path: a device may have only so many batches between its socket and the disk.

use crate::live_view::DeviceLive;
use crate::model::Nanos;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Batches that a device may have under way: one being read, one being judged or sealed, one being
/// written.
pub const BATCHES_UNDER_WAY: usize = 3;

/// The credits of one device.
#[derive(Clone)]
pub struct Credits(Arc<Semaphore>);

/// Leave to have one batch under way. Dropping it, on whatever path, gives the credit back; and if it
/// carried a batch that was never settled, counts the batch's samples as dropped.
#[must_use]
pub struct Credit {
    _permit: OwnedSemaphorePermit,
    carried: Option<(Arc<DeviceLive>, u64)>,
}

impl Default for Credits {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BATCHES_UNDER_WAY)))
    }
}

impl Credits {
    /// Waits for a credit; `None` once the device is shut down.
    pub async fn take(&self) -> Option<Credit> {
        let permit = self.0.clone().acquire_owned().await.ok()?;
        Some(Credit {
            _permit: permit,
            carried: None,
        })
    }

    /// Waits until nothing is under way, and lets nothing new begin.
    pub async fn drain(&self) {
        let all = u32::try_from(BATCHES_UNDER_WAY).unwrap_or(u32::MAX);
        // The permits are dropped after closing, so nobody can take one in between.
        let _all = self.0.acquire_many(all).await;
        self.0.close();
    }
}

impl Credit {
    /// From here on `samples` samples of the device depend on it.
    pub fn carry(&mut self, live: Arc<DeviceLive>, samples: u64) {
        self.carried = Some((live, samples));
    }

    /// What it carried is durable.
    pub fn settled(mut self) {
        self.carried = None;
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        if let Some((live, samples)) = self.carried.take() {
            live.dropped.fetch_add(samples, Ordering::Relaxed);
        }
    }
}

/// Source times of a batch's samples, for the latency figures: time and how many samples have it.
#[derive(Clone, Debug, Default)]
pub struct SourceTimes(pub Vec<(Nanos, u32)>);
