//! Who signs what a device says proves again and again to have the key, before the device's permit is
//! renewed: an edge node over its connection, the device's own key where the hub can ask it.

use crate::access::{Nonce, RENEWAL_OPEN_FOR, RenewalChallenge, RenewalError, Renewals};
use crate::crypto::Signer;
use crate::model::now;
use crate::protocols::edge::EdgeKeys;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;
use weighbridge_verifier::Signature;

/// Whoever signs for one device.
pub struct Possession {
    chain: String,
    hub: String,
    device: String,
    signer: String,
    key: EdgeKeys,
    /// Signs here; `None` when it is asked over its connection.
    local: Option<Arc<dyn Signer>>,
    epoch: AtomicU64,
    renewals: Mutex<Renewals>,
    answered: Notify,
}

impl Possession {
    /// That of `signer`, who has `key`, for `device` of `hub` in `chain`.
    pub fn new(
        (chain, hub): (&str, &str),
        device: &str,
        (signer, key): (&str, EdgeKeys),
        epoch: u64,
    ) -> Self {
        Self {
            chain: chain.to_owned(),
            hub: hub.to_owned(),
            device: device.to_owned(),
            signer: signer.to_owned(),
            key,
            local: None,
            epoch: AtomicU64::new(epoch),
            renewals: Mutex::default(),
            answered: Notify::new(),
        }
    }

    /// The same of one who can be asked here.
    pub fn local(mut self, signer: Arc<dyn Signer>) -> Self {
        self.local = Some(signer);
        self
    }

    /// The device's newest batch is of this epoch.
    pub fn in_epoch(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Relaxed);
    }

    /// What is to be signed now; `None` while somebody is asked, or has answered.
    pub fn ask(&self) -> Option<RenewalChallenge> {
        let mut nonce = Nonce::default();
        if let Err(error) = getrandom::fill(&mut nonce) {
            tracing::error!(%error, "there is no randomness, so nobody can be asked for a signature");
            return None;
        }
        let time = now();
        let challenge = RenewalChallenge {
            chain: self.chain.clone(),
            hub: self.hub.clone(),
            device: self.device.clone(),
            signer: self.signer.clone(),
            epoch: self.epoch.load(Ordering::Relaxed),
            nonce,
            expires: time.saturating_add(RENEWAL_OPEN_FOR),
        };
        self.renewals.lock().ask(challenge, time)
    }

    /// Takes an answer.
    ///
    /// # Errors
    /// Why it proves nothing.
    pub fn answer(&self, nonce: &Nonce, signature: &Signature) -> Result<(), RenewalError> {
        let mut renewals = self.renewals.lock();
        // Who signs here may have another key by now.
        let own = self.local.as_ref().map(|signer| signer.public_key());
        let key = own.unwrap_or_else(|| self.key.current());
        renewals.answer(nonce, signature, &key, now())?;
        self.answered.notify_one();
        Ok(())
    }

    /// Whether the device's permit may be renewed.
    pub fn is_proved(&self) -> bool {
        self.renewals.lock().is_proved()
    }

    /// Returns when there is a proof.
    pub async fn proved(&self) {
        self.ask_here();
        while !self.is_proved() {
            // A proof that came since is remembered.
            self.answered.notified().await;
        }
    }

    /// Asks whoever signs here, who answers at once.
    fn ask_here(&self) {
        if let Some(signer) = &self.local
            && let Some(challenge) = self.ask()
        {
            let signature = signer.sign(&challenge.hash(signer.suite()));
            if let Err(error) = self.answer(&challenge.nonce, &signature) {
                let (device, signer) = (&self.device, &self.signer);
                tracing::error!(device, signer, %error, "the device's key does not sign for it");
            }
        }
    }

    /// The proof that the permit is renewed by: good for once.
    pub fn spend(&self) -> Option<RenewalChallenge> {
        self.ask_here();
        self.renewals.lock().spend()
    }
}
