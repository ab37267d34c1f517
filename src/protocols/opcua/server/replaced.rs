//! Looks whether the server's own certificate was replaced.

use crate::crypto::ChangedFiles;
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often.
const LOOK: Duration = Duration::from_secs(1);

/// The files of the certificate and its key.
pub(super) struct Replaced {
    files: Arc<Mutex<ChangedFiles>>,
    ticks: Interval,
}

impl Replaced {
    /// As they are now, they are known.
    pub(super) fn new(files: Vec<PathBuf>) -> Self {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            files: Arc::new(Mutex::new(ChangedFiles::new(files))),
            ticks,
        }
    }

    /// Returns when they are others than they were. Whoever drops this for another reason to read them does so
    /// afterwards, and so misses nothing.
    pub(super) async fn changed(&mut self) {
        loop {
            self.ticks.tick().await;
            let files = self.files.clone();
            let looked = tokio::task::spawn_blocking(move || files.lock().look());
            if looked.await.unwrap_or(false) {
                return;
            }
        }
    }
}
