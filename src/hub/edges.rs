//! The edge nodes of a hub: who they are, and which devices they read.

use super::device::Feed;
use super::{DeviceSetup, HubError};
use crate::actors::edge_intake::EdgeFeed;
use crate::actors::hub::Intake;
use crate::crypto::pinned_tls::{self, ServerConfig};
use crate::crypto::{Identity, SealingKey};
use crate::ledger::{Draft, Ledger};
use crate::model::now;
use crate::protocols::edge::{EdgeEntry, EdgeListener, Gate, HubCard};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::runtime::Handle;
use weighbridge_verifier::{IdentityContent, IdentityKind, PublicKey};

/// Where a hub listens for edge nodes, and for which.
#[derive(Clone, Debug)]
pub struct EdgesSetup {
    /// Where.
    pub bind: SocketAddr,
    /// Id and key of each.
    pub nodes: Vec<(String, PublicKey)>,
}

/// The edge nodes while a hub is put together.
pub(super) struct Edges {
    listen: Option<(SocketAddr, Arc<ServerConfig>)>,
    hub: HubCard,
    entries: Vec<EdgeEntry>,
    sealing: Arc<SealingKey>,
}

impl Edges {
    pub(super) fn new(
        setup: Option<EdgesSetup>,
        signing: &Identity,
        hub: &str,
        sealing: Arc<SealingKey>,
    ) -> Result<Self, HubError> {
        let hub = HubCard {
            id: hub.to_owned(),
            sealing: sealing.public().compressed(),
        };
        let mut edges = Self {
            listen: None,
            hub,
            entries: Vec::new(),
            sealing,
        };
        if let Some(setup) = setup {
            let keys: Vec<_> = setup.nodes.iter().map(|(_, key)| *key).collect();
            edges.listen = Some((setup.bind, pinned_tls::server(signing, &keys)?));
            let entry = |(id, key)| EdgeEntry {
                id,
                key,
                gates: Vec::new(),
            };
            edges.entries = setup.nodes.into_iter().map(entry).collect();
        }
        Ok(edges)
    }

    /// Enrols the edge nodes that are not in the ledger yet.
    pub(super) fn enrol(&self, ledger: &mut Ledger) -> Result<(), HubError> {
        let mut drafts = Vec::new();
        for entry in &self.entries {
            let known = ledger.state().identities().get(&entry.id);
            if let Some(known) = known {
                if known.key == Some(entry.key)
                    && known.kind == IdentityKind::Edge
                    && !known.revoked
                {
                    continue;
                }
                return Err(HubError::Edge {
                    edge: entry.id.clone(),
                    reason: "the ledger knows this id with another key; a new key needs a new id"
                        .to_owned(),
                });
            }
            let identity = IdentityContent {
                id: entry.id.clone(),
                kind: IdentityKind::Edge,
                key: Some(entry.key),
            };
            let subject = format!("edge:{}", entry.id);
            drafts.push(Draft::enrol(now(), &subject, identity));
        }
        if !drafts.is_empty() {
            ledger.append(&drafts, Vec::new(), now())?;
        }
        Ok(())
    }

    /// Where the batches of `device` come from.
    pub(super) fn intake(&mut self, device: &DeviceSetup) -> Result<Intake, HubError> {
        let edge = match &device.feed {
            Feed::Source(make) => return Ok(Intake::Source(make.clone())),
            Feed::Edge(edge) => edge,
        };
        let Some(entry) = self.entries.iter_mut().find(|e| e.id == *edge) else {
            return Err(HubError::Device {
                device: device.id.to_string(),
                reason: format!("the edge node `{edge}` that reads it is not known"),
            });
        };
        let (id, tags) = (device.id.clone(), device.tags.clone());
        let gate = Arc::new(Gate::new(id, edge, tags, device.grade));
        entry.gates.push(gate.clone());
        Ok(Intake::Edge(EdgeFeed {
            gate,
            key: entry.key,
            sealing: self.sealing.clone(),
        }))
    }

    /// Lets them in from now on.
    pub(super) fn listen(self, runtime: &Handle) -> Result<Option<EdgeListener>, HubError> {
        let Some((bind, tls)) = self.listen else {
            return Ok(None);
        };
        let listener = EdgeListener::start(bind, tls, self.hub, self.entries);
        Ok(Some(runtime.block_on(listener)?))
    }
}
