//! The task that takes one device's batches from the edge node that reads it.
//!
//! It stands where a reading task stands for other devices: it takes a credit before it takes a batch,
//! opens and checks the batch on a worker, shows its newest values, and hands it to the device's actor.
//! A batch that does not hold is handed on as refused, so that its record says why.

use super::admission::Admission;
use super::binding::{Acquaintance, BoundDevice, NotMet};
use super::credit::{Credit, Credits};
use super::device::BatchRead;
use super::possession::Possession;
use super::reading::CUT_OFF;
use super::work::Workers;
use crate::access::Nonce;
use crate::crypto::SealingKey;
use crate::ledger::seal::Origin;
use crate::live_view::{DeviceLive, Link, LiveSample};
use crate::model::{Batch, now};
use crate::protocols::edge::wire::{DeviceLink, Standing};
use crate::protocols::edge::{Contact, EdgeKeys, Gate, Said, Unpacker, Upload};
use actix::Recipient;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use weighbridge_verifier::Signature;

/// How a device is fed by an edge node.
#[derive(Clone)]
pub struct EdgeFeed {
    /// Where its batches come in.
    pub gate: Arc<Gate>,
    /// The edge node's keys.
    pub keys: EdgeKeys,
    /// Opens what is sealed to this hub.
    pub sealing: Arc<SealingKey>,
    /// Samples a second that the device should send.
    pub samples_per_second: Option<f64>,
}

/// What expired by itself may be renewed by itself.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The intake of one device.
pub struct EdgeIntake {
    feed: EdgeFeed,
    uploads: mpsc::Receiver<Upload>,
    contact: watch::Receiver<Contact>,
    /// What the edge node says of who the device is, and who it is itself.
    said: watch::Receiver<Said>,
    known: BoundDevice,
    possession: Arc<Possession>,
    /// Another one answers in the device's place, and why that is said.
    stranger: Option<NotMet>,
    /// The newest answer to a challenge that was looked at. One may be answered again, by another key.
    looked_at: Option<(Nonce, Signature)>,
    unpacker: Option<Unpacker>,
    batches: Recipient<BatchRead>,
    live: Arc<DeviceLive>,
    credits: Credits,
    stop: CancellationToken,
    workers: Workers,
}

impl EdgeIntake {
    /// An intake that goes on after batch `newest`; `standing` is what the ledger has of the device.
    pub fn new(
        feed: EdgeFeed,
        (newest, standing): ((u64, u64), watch::Receiver<Standing>),
        batches: Recipient<BatchRead>,
        live: Arc<DeviceLive>,
        (credits, stop): (Credits, CancellationToken),
        (workers, (known, possession)): (Workers, (BoundDevice, Arc<Possession>)),
    ) -> Self {
        // Before anybody can come in: an edge node that is told of nothing would forget what it knows.
        feed.gate.ask(|asks| asks.known = known.known());
        Self {
            said: feed.gate.said(),
            known,
            possession,
            stranger: None,
            looked_at: None,
            uploads: feed.gate.open(newest, standing),
            contact: feed.gate.contact(),
            feed,
            unpacker: None,
            batches,
            live,
            credits,
            stop,
            workers,
        }
    }

    /// Takes batches until stopped, while the device may come in: those of one that may not stay at the
    /// edge node.
    pub async fn run(mut self, mut admission: Admission) {
        self.contact.mark_changed();
        self.said.mark_changed();
        let mut held = None;
        loop {
            self.listen(&admission).await;
            if let Some((plain, exact)) = self.hindrance(&admission) {
                admission.kept_out();
                self.live.set_down(plain, exact, now());
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    () = admission.changed() => {}
                    Ok(()) = self.said.changed() => self.said.mark_changed(),
                    () = tokio::time::sleep(LOOK_AGAIN) => {}
                }
                self.contact.mark_changed();
                continue;
            }
            let credit = match held.take() {
                Some(credit) => credit,
                None => match self.credit().await {
                    Some(credit) => credit,
                    None => return,
                },
            };
            let upload = tokio::select! {
                () = self.stop.cancelled() => return,
                upload = self.uploads.recv() => upload,
                Ok(()) = self.contact.changed() => {
                    self.show_contact();
                    held = Some(credit);
                    continue;
                }
                Ok(()) = self.said.changed() => {
                    self.said.mark_changed();
                    held = Some(credit);
                    continue;
                }
                () = admission.changed() => {
                    held = Some(credit);
                    continue;
                }
                () = tokio::time::sleep(LOOK_AGAIN) => {
                    held = Some(credit);
                    continue;
                }
            };
            let Some(upload) = upload else { return };
            self.possession.in_epoch(upload.epoch);
            if !self.take(upload, credit, &mut admission).await {
                tracing::error!(device = %self.live.id, "nobody takes its batches");
                return;
            }
        }
    }

    /// Takes in what the edge node said of who is there, tells it what the device is known by, and asks it to
    /// sign when the permit ends soon.
    async fn listen(&mut self, admission: &Admission) {
        let said = self.said.borrow_and_update().clone();
        let looked_at = self.looked_at;
        if let Some((nonce, signature)) = said.proof.filter(|p| looked_at != Some(*p)) {
            self.looked_at = Some((nonce, signature));
            if let Err(error) = self.possession.answer(&nonce, &signature) {
                let (device, edge) = (&self.live.id, &self.feed.gate.edge);
                tracing::warn!(%device, edge, %error, "a signature for a renewal proves nothing");
            }
        }
        if admission.bar().is_none()
            && let Some(peer) = said.answers
        {
            self.stranger = self.known.meet(&peer).await.err();
        }
        let wanted = admission.wants_proof();
        let challenge = wanted.then(|| self.possession.ask()).flatten();
        let known = self.known.known();
        self.feed.gate.ask(|asks| {
            asks.known = known;
            // One that is open stays until it is answered.
            if challenge.is_some() || !wanted {
                asks.challenge = challenge;
            }
        });
    }

    /// Why nothing is taken of the device, and what to do.
    fn hindrance(&self, admission: &Admission) -> Option<(String, String)> {
        if let Some(denied) = admission.bar() {
            let plain = format!("the hub takes nothing of it: {denied}");
            return Some((plain, CUT_OFF.to_owned()));
        }
        if let Some(stranger) = &self.stranger {
            return Some((stranger.plain.clone(), stranger.exact.clone()));
        }
        let edge = &self.feed.gate.edge;
        let away = matches!(&*self.contact.borrow(), Contact::Away(_));
        (admission.waits_for_proof() && !away).then(|| {
            let plain = format!("the permit has ended, and `{edge}` has not proved its key yet");
            (plain, String::new())
        })
    }

    async fn credit(&mut self) -> Option<Credit> {
        let (credits, stop) = (self.credits.clone(), self.stop.clone());
        let credit = credits.take();
        tokio::pin!(credit);
        loop {
            tokio::select! {
                () = stop.cancelled() => return None,
                credit = &mut credit => return credit,
                Ok(()) = self.contact.changed() => self.show_contact(),
            }
        }
    }

    /// False when the device's actor is gone.
    async fn take(
        &mut self,
        upload: Upload,
        mut credit: Credit,
        admission: &mut Admission,
    ) -> bool {
        let unpacker = self.unpacker.take().unwrap_or_else(|| self.new_unpacker());
        let which = (upload.epoch, upload.sequence);
        let samples = upload.samples;
        let unpacked = self.workers.run(move || {
            let mut unpacker = unpacker;
            let unpacked = unpacker.unpack(&upload);
            (unpacker, unpacked)
        });
        let unpacked = match unpacked.await {
            Ok((unpacker, unpacked)) => {
                self.unpacker = Some(unpacker);
                unpacked
            }
            Err(panic) => {
                // The edge node keeps the batch, and sends it again to the intake that is built anew.
                tracing::error!(device = %self.live.id, %panic, "a batch of an edge node cannot be read");
                return false;
            }
        };
        let (batch, origin) = match unpacked {
            Ok((batch, attested)) => {
                self.live.count_points(batch.samples() as u64);
                self.show(&batch);
                if let Some(per_second) = self.feed.samples_per_second {
                    admission.brought(&batch, per_second).await;
                }
                (batch, Origin::Edge(attested))
            }
            Err(refused) => {
                let (epoch, sequence) = which;
                tracing::error!(
                    device = %self.live.id, epoch, sequence, reason = refused.reason,
                    "a batch of an edge node is refused"
                );
                let samples = u64::from(samples);
                self.live.dropped.fetch_add(samples, Ordering::Relaxed);
                (self.empty(which), Origin::Refused(*refused))
            }
        };
        // What is lost on the way is not lost: the edge node still has it. So nothing is carried that
        // would be counted as dropped.
        credit.carry(self.live.clone(), 0);
        let read = BatchRead {
            batch,
            origin,
            credit,
        };
        self.batches.send(read).await.is_ok()
    }

    fn new_unpacker(&self) -> Unpacker {
        let gate = &self.feed.gate;
        let (key, sealing) = (self.feed.keys.clone(), self.feed.sealing.clone());
        Unpacker::new(gate.tags.clone(), gate.grade, key, sealing)
    }

    fn empty(&self, (epoch, sequence): (u64, u64)) -> Batch {
        Batch {
            device: self.live.id.clone(),
            epoch,
            sequence,
            tags: self.feed.gate.tags.clone(),
            timelines: Vec::new(),
            columns: Vec::new(),
        }
    }

    fn show(&self, batch: &Batch) {
        let newest = batch.columns.iter().enumerate().filter_map(|(at, column)| {
            let last = column.values.len().checked_sub(1)?;
            let sample = LiveSample {
                time: *batch.times(column).get(last)?,
                value: column.values.get(last)?,
                quality: column.quality.get(last),
            };
            Some((at, sample))
        });
        let read = batch.timelines.iter().filter_map(|times| times.last());
        if let Some(read) = read.max() {
            self.live.set_heard(*read);
        }
        self.live.update(newest);
    }

    fn show_contact(&mut self) {
        let contact = self.contact.borrow_and_update().clone();
        let reason = match contact {
            Contact::Here(DeviceLink::Up) => {
                if matches!(self.live.link(), Link::Down { .. }) {
                    self.live.reconnects.fetch_add(1, Ordering::Relaxed);
                }
                self.live.set_link(Link::Up);
                return;
            }
            Contact::Here(DeviceLink::Down(reason)) => {
                format!("{}: {reason}", self.feed.gate.edge)
            }
            Contact::Away(reason) => reason,
        };
        // The edge node tries by itself, all the time.
        self.live.set_down(reason, "", now());
    }
}
