//! A device's way into the record (Wan et al. 2019, Algorithm 1): on the whitelist, judged, then within a
//! permit, which its next good batch renews when it ends. Whose batches are refused again and again is
//! cut off.

use super::access::{AccessDesk, By};
use crate::access::{Change, Denied, Permit, Right, Side};
use crate::ledger::seal::RefusedBatch;
use crate::model::{VerdictClass, now};
use crate::protocols::ports::AccessPort;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::watch;
use weighbridge_verifier::Hash;

/// One device's admission. Clones share what they count.
#[derive(Clone)]
pub struct Admission {
    desk: AccessDesk,
    /// The device in the words of access.
    device: String,
    changes: watch::Receiver<u64>,
    /// Refused batches in a row.
    refused: Arc<AtomicU32>,
}

impl Admission {
    /// That of device `device`, at `desk`.
    pub fn new(desk: &AccessDesk, device: &str) -> Self {
        Self {
            desk: desk.clone(),
            device: format!("device:{device}"),
            changes: desk.changes(),
            refused: Arc::default(),
        }
    }

    /// Why nothing of the device may be taken; `None` when something may be.
    pub fn bar(&self) -> Option<Denied> {
        let state = self.desk.gate().state();
        state.admits(&self.device, now()).err()
    }

    /// Waits until access changed since the last look.
    pub async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            // The desk lives as long as the hub.
            std::future::pending::<()>().await;
        }
    }

    /// Leave to record a batch that was judged so, with the permit it is recorded under. When the
    /// permit is at its end, a batch that is not refused renews it: that is in the record before the
    /// batch.
    ///
    /// # Errors
    /// Why the batch must be refused instead.
    pub async fn of_batch(&self, class: VerdictClass) -> Result<Option<Permit>, Denied> {
        let good = class != VerdictClass::Invalid;
        if good {
            self.refused.store(0, Ordering::Relaxed);
            self.desk.renew_store(&self.device).await;
        } else {
            self.count_refused().await;
        }
        let device = &self.device;
        let granted = self.desk.gate().own(device, Right::Store, device, now());
        match granted {
            Ok(granted) => Ok(granted.permit),
            // It is refused anyway.
            Err(_) if !good => Ok(None),
            Err(denied) => Err(denied),
        }
    }

    async fn count_refused(&self) {
        let refused = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        let most = self.desk.cut_off_after();
        if most == 0 || refused < most || self.bar().is_some() {
            return;
        }
        let device = &self.device;
        let why = format!("{refused} batches in a row were refused");
        let black = Change::Black(Side::Intranet, device.clone(), true);
        match self.desk.change(By::Hub(&why), vec![black]).await {
            Ok(()) => tracing::error!(device, why, "the device is cut off"),
            // The next refused batch tries again.
            Err(error) => tracing::error!(device, why, %error, "the device cannot be cut off yet"),
        }
    }
}

/// In the place of a batch that may not come in.
pub fn barred(samples: usize, denied: &Denied) -> RefusedBatch {
    RefusedBatch {
        samples: u32::try_from(samples).unwrap_or(u32::MAX),
        // It was never sealed.
        inner_root: Hash::ZERO,
        attester: None,
        rule: denied.rule(),
        reason: format!("the device may not store: {denied}"),
    }
}
