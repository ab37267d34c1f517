//! What the ledger has of a device, for a source that goes on from there.

use crate::ledger::history::reader::Archive;
use crate::model::{DeviceId, Nanos, Quality, TagSpec, now};
use crate::protocols::Recorded;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Times further ahead of the hub's clock are a wrong clock's, ns.
const AHEAD: Nanos = 3_600_000_000_000;

/// One device's past.
pub(super) struct DeviceRecorded {
    pub archive: Archive,
    /// Whether the index has every batch. What it does not have would be taken for missing.
    pub complete: Arc<AtomicBool>,
    pub device: DeviceId,
    pub tags: Arc<[TagSpec]>,
}

impl Recorded for DeviceRecorded {
    fn newest(&self, counts: &dyn Fn(Quality) -> bool) -> Result<Vec<Option<Nanos>>, String> {
        if !self.complete.load(Ordering::Acquire) {
            return Err("the index of the history is being made up".to_owned());
        }
        let tags: Vec<&str> = self.tags.iter().map(|tag| &*tag.name).collect();
        let before = now().saturating_add(AHEAD);
        let newest = self.archive.newest((&self.device, &tags), before, counts);
        newest.map_err(|error| error.to_string())
    }
}
