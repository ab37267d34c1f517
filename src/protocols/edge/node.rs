//! An edge node as a hub knows it: who it is, which devices it reads, and the connection that it has.

use super::gate::{Contact, Entrance, Gate};
use super::hub_side::{NodeStatus, away};
use super::talk::Talk;
use super::wire::{DeviceHello, EDGE_PROTOCOL, Standing};
use crate::crypto::PeerKey;
use crate::model::{DeviceId, Nanos, now};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use weighbridge_verifier::PublicKey;

/// An edge node that is let in.
pub(super) struct Node {
    pub(super) id: String,
    keys: Mutex<Keys>,
    /// Held by the connection that may bring batches.
    pub(super) turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    heard: AtomicI64,
}

/// What it shows in TLS.
struct Keys {
    link: PublicKey,
    /// The one before, until the newer one was shown.
    before: Option<PublicKey>,
}

struct State {
    /// The devices that it reads.
    gates: Vec<Arc<Gate>>,
    /// Ends the connection that there is.
    current: CancellationToken,
    talk: Weak<Talk>,
    connected: Option<Nanos>,
    reason: String,
    /// It is let in no more.
    dismissed: bool,
}

impl Node {
    pub(super) fn new(id: &str, key: PeerKey) -> Self {
        Self {
            id: id.to_owned(),
            keys: Mutex::new(Keys {
                link: key.link,
                before: None,
            }),
            turn: tokio::sync::Mutex::new(()),
            state: Mutex::new(State {
                gates: Vec::new(),
                current: CancellationToken::new(),
                talk: Weak::new(),
                connected: None,
                reason: "it has not connected yet".to_owned(),
                dismissed: false,
            }),
            heard: AtomicI64::new(0),
        }
    }

    /// From now on it has this key.
    pub(super) fn has(&self, key: PeerKey) {
        let mut keys = self.keys.lock();
        if keys.link != key.link {
            keys.before = Some(std::mem::replace(&mut keys.link, key.link));
        }
    }

    /// The keys that it may show.
    pub(super) fn links(&self) -> Vec<PublicKey> {
        let keys = self.keys.lock();
        [keys.link].into_iter().chain(keys.before).collect()
    }

    /// Whether `key`, which somebody has shown, is its own. When its newest was shown, the one before is none
    /// any more.
    pub(super) fn shows(&self, key: &PublicKey) -> bool {
        let mut keys = self.keys.lock();
        if keys.link == *key {
            keys.before = None;
        }
        keys.link == *key || keys.before.as_ref() == Some(key)
    }

    /// Lets the connection that there is finish what was asked of it.
    pub(super) async fn gives_way(&self) {
        let talk = self.state.lock().talk.upgrade();
        if let Some(talk) = talk {
            talk.gives_way().await;
        }
    }

    /// Begins a connection, and ends the one before.
    pub(super) fn begin(&self) -> CancellationToken {
        let own = CancellationToken::new();
        let mut state = self.state.lock();
        if state.dismissed {
            own.cancel();
        }
        std::mem::replace(&mut state.current, own.clone()).cancel();
        own
    }

    /// The connection of `own` is over.
    pub(super) fn ended(&self, own: &CancellationToken, reason: &str) {
        let mut state = self.state.lock();
        // Another connection of the same edge node knows better.
        if own.is_cancelled() && !state.dismissed {
            return;
        }
        state.connected = None;
        reason.clone_into(&mut state.reason);
        for gate in &state.gates {
            // Why a device was refused says more than that the connection is over.
            let was_in = matches!(*gate.contact().borrow(), Contact::Here(_));
            if was_in || state.dismissed {
                gate.set_contact(away(&self.id, reason));
            }
        }
    }

    /// It talks over this connection, or over none.
    pub(super) fn talks(&self, talk: Option<&Arc<Talk>>) {
        let mut state = self.state.lock();
        state.talk = talk.map_or_else(Weak::new, Arc::downgrade);
        if talk.is_some() {
            state.connected = Some(now());
        }
    }

    /// It said something.
    pub(super) fn is_heard(&self) {
        self.heard.store(now(), Ordering::Relaxed);
    }

    pub(super) fn is_dismissed(&self) -> bool {
        self.state.lock().dismissed
    }

    pub(super) fn gates(&self) -> Vec<Arc<Gate>> {
        self.state.lock().gates.clone()
    }

    /// It is known no more.
    pub(super) fn dismiss(&self) {
        let mut state = self.state.lock();
        state.dismissed = true;
        state.current.cancel();
    }

    pub(super) fn set_gates(&self, remove: &[DeviceId], put: &[Arc<Gate>]) {
        let own: Vec<_> = put.iter().filter(|g| g.edge == self.id).cloned().collect();
        let talk = {
            let mut state = self.state.lock();
            let stays = |gate: &Arc<Gate>| {
                let device = &gate.device;
                !remove.contains(device) && put.iter().all(|new| new.device != *device)
            };
            state.gates.retain(stays);
            for gate in &own {
                if state.connected.is_none() && !state.reason.is_empty() {
                    gate.set_contact(away(&self.id, &state.reason));
                }
            }
            state.gates.extend(own.iter().cloned());
            state.talk.upgrade()
        };
        if let Some(talk) = talk {
            for gate in own {
                talk.ask_for(&gate.device);
            }
        }
    }

    pub(super) fn gate(&self, device: &str) -> Option<Arc<Gate>> {
        let state = self.state.lock();
        state.gates.iter().find(|g| *g.device == *device).cloned()
    }

    pub(super) fn status(&self) -> NodeStatus {
        let state = self.state.lock();
        let heard = self.heard.load(Ordering::Relaxed);
        NodeStatus {
            id: self.id.clone(),
            connected: state.connected,
            reason: state.reason.clone(),
            heard: (heard != 0).then_some(heard),
            devices: state.gates.len(),
        }
    }

    /// The gate of a device, if the edge node reads it as the hub is told it would.
    fn admit(&self, version: u16, device: &DeviceHello) -> Result<Arc<Gate>, String> {
        if version != EDGE_PROTOCOL {
            return Err(format!(
                "the edge speaks version {version} of the protocol, the hub {EDGE_PROTOCOL}: install on \
                 both the newer of their versions of Weighbridge; what waits at the edge stays there"
            ));
        }
        let gate = self.gate(&device.id).ok_or_else(|| {
            format!(
                "the hub has no device `{}` with `edge = \"{}\"`",
                device.id, self.id
            )
        })?;
        if gate.grade != device.grade {
            let (here, there) = (gate.grade, device.grade);
            return Err(format!(
                "its grade is {here} at the hub and {there} at the edge"
            ));
        }
        let here: Vec<_> = gate.tags.iter().map(super::tag_card).collect();
        if here == device.tags {
            return Ok(gate);
        }
        let first = here.iter().zip(&device.tags).find(|(a, b)| a != b);
        Err(match first {
            Some((here, there)) => format!(
                "the hub expects the tag `{}` ({}) where the edge has `{}` ({})",
                here.0, here.1, there.0, there.1
            ),
            None => format!(
                "the hub expects {} tags, the edge has {}",
                here.len(),
                device.tags.len()
            ),
        })
    }

    /// A device of the connection, and what the ledger has of it.
    pub(super) async fn enter(
        &self,
        version: u16,
        device: &DeviceHello,
        until: Instant,
    ) -> Result<(Arc<Gate>, Entrance, Standing), String> {
        let gate = self.admit(version, device)?;
        let opened = timeout_at(until, gate.opened()).await;
        let entrance = opened.ok().flatten();
        let entrance = entrance.ok_or("the hub starts this device just now")?;
        let settled = timeout_at(until, entrance.settled()).await;
        let standing = settled.map_err(|_| "the hub still writes what came before")?;
        Ok((gate, entrance, standing))
    }
}
