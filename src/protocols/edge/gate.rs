//! Where the two sides of an edge-fed device meet on the hub: the edge's connection, which comes and
//! goes, and the device's intake, which may be built anew.

use super::acting::Orders;
use super::upload::Upload;
use super::wire::{DeviceLink, Standing, WINDOW};
use crate::access::{Nonce, RenewalChallenge};
use crate::model::{DeviceId, Peer, TagSpec};
use crate::protocols::Recorded;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use weighbridge_verifier::Signature;

/// How an edge-fed device is, as far as the hub can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contact {
    /// Its edge node is not connected, and why.
    Away(String),
    /// Its edge node is connected, and says so of it.
    Here(DeviceLink),
}

/// What waits in an edge node's buffer of a device, as the edge node said last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Batches that the ledger does not have.
    pub batches: u64,
    /// Bytes of the buffer.
    pub bytes: u64,
}

/// The gate of one device.
pub struct Gate {
    /// The device.
    pub device: DeviceId,
    /// The edge node that reads it.
    pub edge: String,
    /// Its tags.
    pub tags: Arc<[TagSpec]>,
    /// Privacy grade of its data.
    pub grade: u8,
    entrance: watch::Sender<Option<Entrance>>,
    contact: watch::Sender<Contact>,
    backlog: Mutex<Option<Backlog>>,
    /// The way to the edge node, while it has the device.
    orders: watch::Sender<Option<Arc<Orders>>>,
    recorded: Mutex<Option<Arc<dyn Recorded>>>,
    said: watch::Sender<Said>,
    asks: watch::Sender<Asks>,
}

/// What the edge node said last of who the device is, and who it is itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Who answers as the device.
    pub answers: Option<Peer>,
    /// What it signed.
    pub proof: Option<(Nonce, Signature)>,
}

/// What the edge node is told of who the device is, and asked to sign.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// What the device is known by.
    pub known: Option<Peer>,
    /// To be signed.
    pub challenge: Option<RenewalChallenge>,
}

/// The way into a device's pipeline.
#[derive(Clone)]
pub struct Entrance {
    uploads: mpsc::Sender<Upload>,
    /// The newest that went in, epoch and sequence.
    newest: Arc<Mutex<(u64, u64)>>,
    /// What the ledger has.
    pub standing: watch::Receiver<Standing>,
}

/// Why an upload does not go in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntranceError {
    /// Batches are missing before it.
    #[error("batch {0}.{1} came where another one was due")]
    Gap(u64, u64),
    /// More are on their way than may be.
    #[error("it sends more than {WINDOW} batches ahead")]
    Crowd,
    /// The device's pipeline is being built anew.
    #[error("the hub starts this device again")]
    Closed,
}

impl Entrance {
    /// Lets an upload in, once: one that went in already is not taken again, whatever connection it
    /// came by.
    pub fn offer(&self, upload: Upload) -> Result<(), EntranceError> {
        let which = (upload.epoch, upload.sequence);
        let mut newest = self.newest.lock();
        if which <= *newest {
            return Ok(());
        }
        let goes_on = which.0 == newest.0 && which.1 == newest.1 + 1;
        if !goes_on && which.1 != 1 {
            return Err(EntranceError::Gap(which.0, which.1));
        }
        match self.uploads.try_send(upload) {
            Ok(()) => {
                *newest = which;
                Ok(())
            }
            Err(mpsc::error::TrySendError::Full(_)) => Err(EntranceError::Crowd),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(EntranceError::Closed),
        }
    }

    /// What the ledger has, once everything that went in is there.
    ///
    /// Before that an edge node must not be told where the ledger stands: after another hub has taken
    /// some of what is still under way here, it could not tell, and would send the rest of it twice.
    pub async fn settled(&self) -> Standing {
        let mut standing = self.standing.clone();
        loop {
            let (at, newest) = (*standing.borrow_and_update(), *self.newest.lock());
            // Before a device's first batch both are some kind of nothing.
            if at.newest >= newest || newest.1 == 0 || standing.changed().await.is_err() {
                return at;
            }
        }
    }

    fn is_open(&self) -> bool {
        !self.uploads.is_closed()
    }

    /// Returns when nothing can go in here any more.
    pub async fn closed(&self) {
        self.uploads.closed().await;
    }
}

impl Gate {
    /// A gate that is closed from both sides.
    pub fn new(device: DeviceId, edge: &str, tags: Arc<[TagSpec]>, grade: u8) -> Self {
        let away = Contact::Away(format!("the edge node `{edge}` has not connected yet"));
        Self {
            device,
            edge: edge.to_owned(),
            tags,
            grade,
            entrance: watch::Sender::new(None),
            contact: watch::Sender::new(away),
            backlog: Mutex::new(None),
            orders: watch::Sender::default(),
            recorded: Mutex::new(None),
            said: watch::Sender::default(),
            asks: watch::Sender::default(),
        }
    }

    /// Opens it for the device's intake, which has batch `newest`; an intake before this one gets
    /// nothing any more.
    pub fn open(
        &self,
        newest: (u64, u64),
        standing: watch::Receiver<Standing>,
    ) -> mpsc::Receiver<Upload> {
        // Twice, because an edge node that came back from another hub begins a new epoch while the old
        // one's last batches may still be here.
        let (uploads, receiver) = mpsc::channel(2 * WINDOW as usize);
        self.entrance.send_replace(Some(Entrance {
            uploads,
            newest: Arc::new(Mutex::new(newest)),
            standing,
        }));
        receiver
    }

    /// The way in; `None` while the device's pipeline is being built.
    pub fn entrance(&self) -> Option<Entrance> {
        let entrance = self.entrance.borrow().clone();
        entrance.filter(Entrance::is_open)
    }

    /// The way in, as soon as there is one.
    pub async fn opened(&self) -> Option<Entrance> {
        let mut entrance = self.entrance.subscribe();
        let open = |e: &Option<Entrance>| e.as_ref().is_some_and(Entrance::is_open);
        let opened = entrance.wait_for(open).await;
        opened.ok().and_then(|e| e.clone())
    }

    /// Remembers what waits at the edge node.
    pub(super) fn set_backlog(&self, backlog: Backlog) {
        *self.backlog.lock() = Some(backlog);
    }

    /// What waits at the edge node, as far as it ever said.
    pub fn backlog(&self) -> Option<Backlog> {
        *self.backlog.lock()
    }

    /// Whom to ask what is recorded of the device.
    pub fn set_recorded(&self, recorded: Arc<dyn Recorded>) {
        *self.recorded.lock() = Some(recorded);
    }

    pub(super) fn recorded(&self) -> Option<Arc<dyn Recorded>> {
        self.recorded.lock().clone()
    }

    /// From now on orders go this way.
    pub(super) fn set_orders(&self, orders: &Arc<Orders>) {
        self.orders.send_replace(Some(orders.clone()));
    }

    /// Orders go this way no more; a newer connection's way stays.
    pub(super) fn end_orders(&self, orders: &Arc<Orders>) {
        self.orders.send_if_modified(|current| {
            let ended = current.take_if(|current| Arc::ptr_eq(current, orders));
            ended.is_some()
        });
    }

    /// The way to act upon the device, while its edge node is here.
    pub(super) fn orders(&self) -> Option<Arc<Orders>> {
        self.orders.borrow().clone()
    }

    /// Waits for a way on which orders are still given.
    pub(super) async fn way(&self) {
        let mut orders = self.orders.subscribe();
        let open = |orders: &Option<Arc<Orders>>| orders.as_ref().is_some_and(|o| !o.is_leaving());
        // The sender is in `self`.
        let _ = orders.wait_for(open).await;
    }

    /// Who answers as the device.
    pub(super) fn set_answers(&self, peer: Peer) {
        self.said.send_modify(|said| said.answers = Some(peer));
    }

    /// What the edge node signed.
    pub(super) fn set_proof(&self, nonce: Nonce, signature: Signature) {
        self.said
            .send_modify(|said| said.proof = Some((nonce, signature)));
    }

    /// What the edge node said, to be watched.
    pub fn said(&self) -> watch::Receiver<Said> {
        self.said.subscribe()
    }

    /// From now on the edge node is told and asked this.
    pub fn ask(&self, change: impl FnOnce(&mut Asks)) {
        self.asks.send_if_modified(|asks| {
            let before = asks.clone();
            change(asks);
            *asks != before
        });
    }

    /// What the edge node is to be told and asked, to be watched.
    pub(super) fn asks(&self) -> watch::Receiver<Asks> {
        self.asks.subscribe()
    }

    /// Says how the device is.
    pub fn set_contact(&self, contact: Contact) {
        self.contact.send_replace(contact);
    }

    /// How the device is, to be watched.
    pub fn contact(&self) -> watch::Receiver<Contact> {
        self.contact.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Identity;

    #[tokio::test]
    async fn the_ledger_stands_somewhere_when_nothing_is_under_way() {
        let edge = Identity::generate("edge-1");
        let gate = Gate::new("press-1".into(), "edge-1", Arc::new([]), 0);
        let at = |number| Standing {
            newest: number,
            own: number,
        };
        let (ledger, standing) = watch::channel(Standing::default());
        let mut intake = gate.open((1, 0), standing);
        let entrance = gate.entrance().unwrap();
        assert_eq!(entrance.settled().await, Standing::default());
        entrance
            .offer(Upload::damaged("press-1", 0, (1, 1), &edge))
            .unwrap();
        entrance
            .offer(Upload::damaged("press-1", 0, (1, 2), &edge))
            .unwrap();
        let soon = std::time::Duration::ZERO;
        assert!(
            tokio::time::timeout(soon, entrance.settled())
                .await
                .is_err()
        );
        while intake.try_recv().is_ok() {}
        ledger.send_replace(at((1, 1)));
        assert!(
            tokio::time::timeout(soon, entrance.settled())
                .await
                .is_err()
        );
        ledger.send_replace(at((1, 2)));
        assert_eq!(entrance.settled().await, at((1, 2)));
    }

    #[test]
    fn every_batch_goes_in_once_and_in_order() {
        let edge = Identity::generate("edge-1");
        let gate = Gate::new("press-1".into(), "edge-1", Arc::new([]), 0);
        assert!(gate.entrance().is_none());
        let (_ledger, standing) = watch::channel(Standing::default());
        let mut intake = gate.open((3, 4), standing);
        let entrance = gate.entrance().unwrap();
        let offer = |which| entrance.offer(Upload::damaged("press-1", 0, which, &edge));
        assert_eq!(offer((3, 4)), Ok(()));
        assert_eq!(offer((3, 6)), Err(EntranceError::Gap(3, 6)));
        assert_eq!(offer((3, 5)), Ok(()));
        assert_eq!(offer((3, 5)), Ok(()));
        assert_eq!(offer((4, 2)), Err(EntranceError::Gap(4, 2)));
        assert_eq!(offer((7, 1)), Ok(()));
        assert_eq!(offer((4, 1)), Ok(()), "older than what went in");
        let taken: Vec<_> = std::iter::from_fn(|| intake.try_recv().ok())
            .map(|u| (u.epoch, u.sequence))
            .collect();
        assert_eq!(taken, [(3, 5), (7, 1)]);
        for sequence in 0..2 * WINDOW {
            assert_eq!(offer((7, 2 + sequence)), Ok(()));
        }
        assert_eq!(offer((7, 2 + 2 * WINDOW)), Err(EntranceError::Crowd));
        drop(intake);
        assert_eq!(offer((8, 1)), Err(EntranceError::Closed));
        assert!(gate.entrance().is_none());
    }
}
