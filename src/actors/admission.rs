//! A device's way into the record (Wan et al. 2019, Algorithm 1): on the whitelist, judged, then within a
//! permit, which its next good batch renews when it ends. Whose batches are refused again and again is
//! cut off.

use super::access::AccessDesk;
use super::possession::Possession;
use crate::access::{Denied, FloodGauge, Mode, Permit, Right, Side};
use crate::ledger::seal::{DROPPED, Origin, RefusedBatch};
use crate::model::{Batch, Nanos, VerdictClass, now};
use crate::protocols::Sent;
use crate::protocols::ports::AccessPort;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;
use weighbridge_verifier::Hash;

/// How long a batch waits for a signature that its permit is renewed by.
const PROOF: Duration = Duration::from_secs(10);

/// One device's admission. Clones share what they count.
#[derive(Clone)]
pub struct Admission {
    desk: AccessDesk,
    /// The device in the words of access.
    device: String,
    changes: watch::Receiver<u64>,
    /// Refused batches in a row.
    refused: Arc<AtomicU32>,
    /// What it sent by itself.
    flood: FloodGauge,
    /// What was measured before does not count: it was kept out meanwhile.
    counts_from: Nanos,
    /// Who signs for it, where somebody does.
    possession: Option<Arc<Possession>>,
}

impl Admission {
    /// That of device `device`, at `desk`.
    pub fn new(desk: &AccessDesk, device: &str) -> Self {
        Self {
            desk: desk.clone(),
            device: format!("device:{device}"),
            changes: desk.changes(),
            refused: Arc::default(),
            flood: FloodGauge::new(desk.config().flood_window(), now()),
            counts_from: Nanos::MIN,
            possession: None,
        }
    }

    /// Its permit is renewed only when whoever signs for it has proved to have the key.
    pub fn proved_by(mut self, possession: Option<Arc<Possession>>) -> Self {
        self.possession = possession;
        self
    }

    /// Whether a proof is wanted: the permit ends soon, and there is none yet.
    pub fn wants_proof(&self) -> bool {
        let unproved = |p: &Arc<Possession>| !p.is_proved();
        self.possession.as_ref().is_some_and(unproved) && self.desk.store_ends(&self.device)
    }

    /// Whether nothing can be recorded before there is a proof.
    pub fn waits_for_proof(&self) -> bool {
        let time = now();
        let state = self.desk.gate().state();
        let permit = state.permit(&self.device, Mode::Store);
        !permit.is_some_and(|permit| permit.holds(time)) && self.wants_proof()
    }

    /// Renews its permit when that ends soon.
    async fn renew(&self) {
        if !self.desk.store_ends(&self.device) {
            return;
        }
        let why = "on the whitelist, and its data are good";
        match &self.possession {
            None => self.desk.renew_store(&self.device, why).await,
            Some(possession) => {
                // A batch that is under way when the permit ends waits for the answer.
                if self.waits_for_proof() {
                    let _ = timeout(PROOF, possession.proved()).await;
                }
                if let Some(proof) = possession.spend() {
                    let (signer, nonce) = (proof.signer, Hash(proof.nonce));
                    let why = format!("{why}; {signer} has signed {nonce}");
                    self.desk.renew_store(&self.device, &why).await;
                }
            }
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
    pub async fn of_batch(
        &self,
        class: VerdictClass,
        origin: &Origin,
    ) -> Result<Option<Permit>, Denied> {
        let good = class != VerdictClass::Invalid;
        if matches!(origin, Origin::Refused(refused) if refused.rule == DROPPED) {
            // It was good, and there was no room for it.
        } else if good {
            self.refused.store(0, Ordering::Relaxed);
            self.renew().await;
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

    /// Counts what the device sent by itself; a flood cuts it off.
    pub async fn sent(&mut self, sent: Sent) {
        let most = self
            .desk
            .config()
            .flood_of_data(sent.per_second, sent.burst);
        let Some(most) = most else { return };
        if let Some(flood) = self.flood.count(sent.samples, most, now())
            && self.bar().is_none()
        {
            let why = format!("it floods: {flood} samples");
            self.desk.cut_off(Side::Intranet, &self.device, &why).await;
        }
    }

    /// Counts what an edge node brought of the device, which should send so much in a second; a flood cuts it off. It is
    /// counted by the clock of the samples: what was kept during an outage comes all at once, and is no flood.
    pub async fn brought(&mut self, batch: &Batch, per_second: f64) {
        let newest = batch.timelines.iter().filter_map(|times| times.last());
        let Some(time) = newest.max().filter(|time| **time >= self.counts_from) else {
            return;
        };
        let samples = batch.samples();
        let Some(most) = self.desk.config().flood_of_data(per_second, 0) else {
            return;
        };
        if let Some(flood) = self.flood.count(samples as u64, most, *time)
            && self.bar().is_none()
        {
            let why = format!("it floods: {flood} samples");
            self.desk.cut_off(Side::Intranet, &self.device, &why).await;
        }
    }

    /// Nothing is taken of the device now. What its edge node keeps meanwhile is the past when it is let in again.
    pub fn kept_out(&mut self) {
        if self.bar().is_some() {
            self.counts_from = now();
        }
    }

    async fn count_refused(&self) {
        let refused = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        let most = self.desk.config().cut_off_after;
        if most == 0 || refused < most || self.bar().is_some() {
            return;
        }
        let why = format!("{refused} batches in a row were refused");
        // If it cannot be, the next refused batch tries again.
        self.desk.cut_off(Side::Intranet, &self.device, &why).await;
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
