//! What the ledger has of a device, for a source that goes on from there.

use crate::ledger::history::reader::Archive;
use crate::model::{DeviceId, Nanos, Quality, TagSpec, now};
use crate::protocols::Recorded;
use async_trait::async_trait;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Times further ahead of the hub's clock are a wrong clock's, ns.
const AHEAD: Nanos = 3_600_000_000_000;

/// The bits of a quality that are its status code (OPC 10000-4, 7.39).
const CODE: u32 = 0xffff_0000;

/// One device's past.
pub(super) struct DeviceRecorded {
    pub archive: Archive,
    /// Whether the index has every batch. What it does not have would be taken for missing.
    pub complete: Arc<AtomicBool>,
    pub device: DeviceId,
    pub tags: Arc<[TagSpec]>,
}

#[async_trait]
impl Recorded for DeviceRecorded {
    async fn newest(&self, uncounted: &[u32]) -> Result<Vec<Option<Nanos>>, String> {
        if !self.complete.load(Ordering::Acquire) {
            return Err("the index of the history is being made up".to_owned());
        }
        let (archive, device) = (self.archive.clone(), self.device.clone());
        let (tags, uncounted) = (self.tags.clone(), uncounted.to_vec());
        // It reads the disk.
        let newest = tokio::task::spawn_blocking(move || {
            let tags: Vec<&str> = tags.iter().map(|tag| &*tag.name).collect();
            let before = now().saturating_add(AHEAD);
            let counts = |quality: Quality| !uncounted.contains(&(quality.0 & CODE));
            archive.newest((&device, &tags), before, &counts)
        });
        let newest = newest.await.map_err(|panicked| panicked.to_string())?;
        newest.map_err(|error| error.to_string())
    }
}
