//! Whether the device is who answers: looked at once a connection, before anything that is read over it
//! counts. Who differs is refused, which is recorded and alarmed, until somebody binds the device to them.

use super::access::AccessDesk;
use super::alarms::AlarmDesk;
use crate::access::{Binding, Change, DeclaredBinding, Stranger};
use crate::model::{DeviceId, Peer};
use crate::protocols::ports::{AccessError, AccessPort};
use async_trait::async_trait;
use serde_json::json;
use weighbridge_verifier::Action;

/// Why nothing that is read over a connection counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotMet {
    /// In plain words.
    pub plain: String,
    /// What to do about it.
    pub exact: String,
}

/// Tells a device from others.
#[async_trait]
pub trait Acquaintance: Send {
    /// Whether the device is who answers. Cheap when nothing changed since it was asked last.
    ///
    /// # Errors
    /// Why not, or not yet.
    async fn meet(&mut self, peer: &Peer) -> Result<(), NotMet>;
}

/// A device of a hub, known by its entry in the state of access.
pub struct BoundDevice {
    desk: AccessDesk,
    alarms: AlarmDesk,
    device: DeviceId,
    /// The device in the words of access.
    id: String,
    declared: DeclaredBinding,
    /// Who was met, in which version of the state.
    met: Option<(u64, Peer)>,
    /// Of whom a refusal is on record.
    refused: Option<Peer>,
}

impl BoundDevice {
    /// Device `device`, which the configuration says to be `declared`.
    pub fn new(
        desk: &AccessDesk,
        alarms: &AlarmDesk,
        device: &DeviceId,
        declared: DeclaredBinding,
    ) -> Self {
        Self {
            desk: desk.clone(),
            alarms: alarms.clone(),
            device: device.clone(),
            id: format!("device:{device}"),
            declared,
            met: None,
            refused: None,
        }
    }

    /// What the device is known by.
    pub fn known(&self) -> Option<Peer> {
        let state = self.desk.gate().state();
        state.bindings().get(&self.id).cloned().map(Peer::from)
    }

    /// Records what is known of the device from now on, where that changes.
    async fn bind(&self, peer: &Peer) -> Result<Result<(), Stranger>, AccessError> {
        let meet = |known: Option<&Binding>| Binding::meet(known, &self.declared, peer);
        let state = self.desk.gate().state();
        match meet(state.bindings().get(&self.id)) {
            Ok(None) => return Ok(Ok(())),
            Ok(Some(_)) => {}
            Err(stranger) => return Ok(Err(stranger)),
        }
        let mut met = Ok(());
        let bound = self.desk.note(|state| {
            let known = state.bindings().get(&self.id);
            match meet(known) {
                Ok(binding) => binding.map(|binding| {
                    let why = binding.because(known);
                    (Change::Bind(self.id.clone(), Some(binding)), why)
                }),
                Err(stranger) => {
                    met = Err(stranger);
                    None
                }
            }
        });
        bound.await?;
        Ok(met)
    }

    async fn refuse(&mut self, peer: &Peer, stranger: &Stranger) -> NotMet {
        let gate = self.desk.gate();
        gate.note_stranger(&self.id, Some(peer));
        let plain = format!("another machine answers in its place: {stranger}");
        self.alarms.stranger(&self.device, plain.clone());
        if self.refused.as_ref() != Some(peer) {
            let device = &self.device;
            tracing::error!(%device, %peer, %stranger, "a stranger answers, and is not read");
            let known = gate.state().bindings().get(&self.id).cloned();
            let details = json!({
                "answered": peer,
                "known": known,
                "declared": self.declared,
                "rule": stranger.rule(),
                "why": stranger.to_string(),
            });
            let entry = format!("binding/{}", self.id);
            let refused = (self.id.as_str(), Action::Configure);
            match self.desk.refuse(refused, &entry, details).await {
                Ok(()) => self.refused = Some(peer.clone()),
                Err(error) => tracing::error!(%device, %error, "its refusal is not recorded yet"),
            }
        }
        NotMet {
            plain,
            exact: format!(
                "if it was replaced or has moved: `weighbridge access bind {}`",
                self.device
            ),
        }
    }
}

#[async_trait]
impl Acquaintance for BoundDevice {
    async fn meet(&mut self, peer: &Peer) -> Result<(), NotMet> {
        let version = self.desk.gate().version();
        let met = self.met.as_ref();
        if met.is_some_and(|(at, met)| *at == version && met == peer) {
            return Ok(());
        }
        self.met = None;
        match self.bind(peer).await {
            Ok(Ok(())) => {
                self.desk.gate().note_stranger(&self.id, None);
                self.refused = None;
                self.met = Some((version, peer.clone()));
                Ok(())
            }
            Ok(Err(stranger)) => Err(self.refuse(peer, &stranger).await),
            Err(error) => Err(NotMet {
                plain: "who answers cannot be recorded yet, so it is not read".to_owned(),
                exact: error.to_string(),
            }),
        }
    }
}
