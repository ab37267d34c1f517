//! Looks whether the files of HTTP's certificate were replaced, and has the new one shown.

use crate::crypto::{ChangedFiles, ServedCertificate};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// How often.
const LOOK: Duration = Duration::from_secs(1);

/// Looks again and again at `files`, which are those of `served`.
pub(super) async fn keep_served(served: Arc<ServedCertificate>, mut files: ChangedFiles) {
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let served = served.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let read = files.look().then(|| served.load_again());
            (files, read)
        });
        let Ok((looked_at, read)) = looked.await else {
            return;
        };
        files = looked_at;
        match read {
            Some(Ok(true)) => tracing::info!("HTTPS shows the certificate that is in its file now"),
            Some(Ok(false)) | None => {}
            Some(Err(error)) => {
                tracing::error!(%error, "HTTPS shows on the certificate that it had");
            }
        }
    }
}
