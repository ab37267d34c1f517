//! One connection to a hub, as its two directions share it, and what the hub says over it.

use super::EdgeError;
use super::acquaintance::Acquaintance;
use super::desk::Desk;
use super::lane::Lane;
use super::seals::Seals;
use super::stay::Stays;
use super::uplink::{Reader, SILENCE};
use crate::model::now;
use crate::protocols::edge::SealingWord;
use crate::protocols::edge::wire::{self, DeviceWelcome, FromHub, MAX_ANSWER, Welcome};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use weighbridge_verifier::PublicKey;

/// One connection.
pub(super) struct Session {
    pub(super) hub: String,
    pub(super) key: PublicKey,
    pub(super) known: Arc<Acquaintance>,
    pub(super) seals: Arc<Seals>,
    pub(super) stays: Stays,
    pub(super) desk: Desk,
    pub(super) heard: Arc<AtomicI64>,
    pub(super) more: Arc<Notify>,
}

impl Session {
    /// Takes the hub's answers to the greeting.
    pub(super) async fn enter(
        &self,
        lanes: &[Arc<Lane>],
        welcome: &Welcome,
        word: Option<Box<SealingWord>>,
    ) -> Result<(), String> {
        if welcome.sealing != self.known.sealing() {
            let told = match word {
                Some(word) => self.told(*word).await,
                None => Err("it does not vouch for it".to_owned()),
            };
            if let Err(why) = told {
                return Err(format!(
                    "its sealing key is {}, not the one that is known: {why}",
                    welcome.sealing
                ));
            }
        }
        let mut refused = None;
        let mut open = false;
        for (lane, answer) in lanes.iter().zip(&welcome.devices) {
            if let DeviceWelcome::Refused(reason) = answer {
                let device = &lane.live.id;
                refused.get_or_insert(format!("it does not take `{device}`: {reason}"));
            } else {
                open = true;
            }
            self.entered(&lane.live.id, answer.clone()).await?;
        }
        match refused {
            Some(reason) if !open => Err(reason),
            _ => Ok(()),
        }
    }

    /// Takes the hub's word for its sealing key.
    async fn told(&self, word: SealingWord) -> Result<(), String> {
        let (known, seals) = (self.known.clone(), self.seals.clone());
        let told = tokio::task::spawn_blocking(move || seals.told(&known, &word));
        told.await.map_err(|e| e.to_string())??;
        self.more.notify_one();
        Ok(())
    }

    /// Takes the hub's answer for one device; an error ends the connection.
    async fn entered(&self, device: &str, answer: DeviceWelcome) -> Result<(), String> {
        let Some(lane) = self.stays.lane(device) else {
            // It left meanwhile.
            return Ok(());
        };
        match answer {
            DeviceWelcome::Standing(standing) => {
                let hub = self.key;
                on_disk(&lane, move |lane| lane.meet(hub, standing)).await?;
                lane.set_refused(None);
                self.stays.comes_in(device, &lane);
                self.more.notify_one();
            }
            DeviceWelcome::Refused(reason) => {
                let hub = &self.hub;
                lane.set_refused(Some(reason.clone()));
                if self.stays.is_refused(device, &reason) {
                    tracing::error!(device, hub, reason, "the hub does not take its batches");
                }
            }
        }
        Ok(())
    }

    /// Takes the hub's answers until there are none any more; why.
    pub(super) async fn listen(self: Arc<Self>, mut reader: Reader) -> String {
        loop {
            let answer = timeout(SILENCE, wire::read(&mut reader, "answer", MAX_ANSWER));
            let answer = match answer.await {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) => return error.to_string(),
                Err(_) => return format!("nothing was heard for {} s", SILENCE.as_secs()),
            };
            self.heard.store(now(), Ordering::Relaxed);
            match answer {
                FromHub::Durable(device, epoch, sequence) => {
                    let Some(lane) = self.stays.lane(&device) else {
                        continue;
                    };
                    let durable = move |lane: &Lane| lane.durable((epoch, sequence));
                    if let Err(reason) = on_disk(&lane, durable).await {
                        return reason;
                    }
                }
                FromHub::Entered(device, answer) => {
                    if let Err(reason) = self.entered(&device, answer).await {
                        return reason;
                    }
                }
                FromHub::Again(device, reason) => {
                    tracing::info!(device, hub = self.hub, reason, "the hub takes it anew");
                    self.stays.again(&device);
                    self.more.notify_one();
                }
                FromHub::Act(order) => {
                    let lane = self.stays.open_lane(&order.device);
                    self.desk.follow(order, lane);
                }
                FromHub::Recorded(number, device, newest) => {
                    if let Some(lane) = self.stays.lane(&device) {
                        lane.past.answer(number, newest);
                    }
                }
                FromHub::Known(device, known) => {
                    let Some(lane) = self.stays.lane(&device) else {
                        continue;
                    };
                    let set = move |lane: &Lane| lane.set_known(known);
                    if let Err(reason) = on_disk(&lane, set).await {
                        return reason;
                    }
                }
                FromHub::Prove(challenge) => {
                    if challenge.hub != self.hub {
                        return format!("it asks in the name of `{}`", challenge.hub);
                    }
                    self.stays.prove(&challenge);
                    self.more.notify_one();
                }
                FromHub::Sealing(word) => {
                    if let Err(why) = self.told(*word).await {
                        return format!("its new sealing key is not believed: {why}");
                    }
                }
                FromHub::Pong => {}
                FromHub::Goodbye(reason) => return format!("it ended the connection: {reason}"),
            }
        }
    }
}

/// Does what touches the disk where it may take its time.
pub(super) async fn on_disk<T: Send + 'static>(
    lane: &Arc<Lane>,
    work: impl FnOnce(&Lane) -> Result<T, EdgeError> + Send + 'static,
) -> Result<T, String> {
    let lane = lane.clone();
    let done: JoinHandle<_> = tokio::task::spawn_blocking(move || work(&lane));
    match done.await {
        Ok(done) => done.map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
