//! Which hubs there are, and what both sides of TLS take for their keys. It is exchanged while links are up.

use super::peer::{Peer, Target};
use super::{MeshHub, Shared, dial};
use crate::crypto::Identity;
use crate::crypto::mesh_tls::{self, ServerConfig};
use crate::crypto::pinned_tls::TlsError;
use std::net::IpAddr;
use std::sync::Arc;
use weighbridge_verifier::PublicKey;

/// The hubs of the chain but for this one.
pub(super) struct Roster {
    /// What this hub shows.
    identity: Arc<Identity>,
    pub(super) tls: Arc<ServerConfig>,
    pub(super) peers: Arc<[Arc<Peer>]>,
}

impl Roster {
    pub(super) fn of_nobody(identity: Arc<Identity>) -> Result<Self, TlsError> {
        Ok(Self {
            tls: mesh_tls::server(&identity, &[])?,
            identity,
            peers: Arc::new([]),
        })
    }

    /// Whether a hub is known to be at `address`.
    pub(super) fn is_host(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let literal = |peer: &Peer| {
            let target = peer.target.borrow();
            let host = target.address.rsplit_once(':').map(|(host, _)| host);
            let host = host.unwrap_or_default().trim_matches(['[', ']']);
            host.parse()
                .is_ok_and(|ip: IpAddr| ip.to_canonical() == address)
        };
        let mut peers = self.peers.iter();
        peers.any(|peer| peer.host() == Some(address) || literal(peer))
    }
}

impl Shared {
    /// From now on these are the other hubs.
    pub(super) fn set_hubs(self: &Arc<Self>, hubs: &[MeshHub]) -> Result<(), TlsError> {
        let _exchange = self.exchange.lock();
        let (identity, old) = {
            let roster = self.roster.read();
            (roster.identity.clone(), roster.peers.clone())
        };
        let others = hubs.iter().filter(|hub| hub.id != self.hub);
        let targets = others.map(|hub| Ok((hub.id.clone(), target(&identity, hub)?)));
        let targets: Vec<(String, Target)> = targets.collect::<Result<_, TlsError>>()?;
        let keys = targets.iter().flat_map(|(_, target)| target.keys.iter());
        let keys: Vec<PublicKey> = keys.copied().collect();
        let tls = mesh_tls::server(&identity, &keys)?;
        let mut new = Vec::new();
        let peers: Arc<[Arc<Peer>]> = targets
            .into_iter()
            .map(|(id, target)| match old.iter().find(|peer| peer.id == id) {
                Some(known) => {
                    known.target.send_if_modified(|now| {
                        let same = now.address == target.address && now.keys == target.keys;
                        *now = target;
                        !same
                    });
                    known.clone()
                }
                None => {
                    let peer = Arc::new(Peer::new(&id, target, self.news.clone()));
                    new.push(peer.clone());
                    peer
                }
            })
            .collect();
        let stays = |old: &Arc<Peer>| peers.iter().any(|peer| Arc::ptr_eq(peer, old));
        let gone: Vec<Arc<Peer>> = old.iter().filter(|old| !stays(old)).cloned().collect();
        *self.roster.write() = Roster {
            identity,
            tls,
            peers,
        };
        for peer in gone {
            peer.gone.cancel();
        }
        for peer in new {
            self.tasks.spawn(dial::keep(self.clone(), peer));
        }
        super::peer::tell(&self.news.links);
        Ok(())
    }

    /// From now on this hub shows the key of `identity`.
    pub(super) fn show(&self, identity: Arc<Identity>) -> Result<(), TlsError> {
        let _exchange = self.exchange.lock();
        let peers = self.peers();
        let keys = peers.iter().flat_map(|peer| peer.keys().to_vec());
        let tls = mesh_tls::server(&identity, &keys.collect::<Vec<_>>())?;
        let clients = peers
            .iter()
            .map(|peer| mesh_tls::client(&identity, &peer.keys()));
        let clients: Vec<_> = clients.collect::<Result<_, TlsError>>()?;
        for (peer, tls) in peers.iter().zip(clients) {
            // The next connection is made with it.
            peer.target.send_if_modified(|now| {
                now.tls = tls;
                false
            });
        }
        *self.roster.write() = Roster {
            identity,
            tls,
            peers,
        };
        Ok(())
    }
}

fn target(identity: &Identity, hub: &MeshHub) -> Result<Target, TlsError> {
    Ok(Target {
        address: hub.address.clone(),
        keys: hub.keys.clone().into(),
        tls: mesh_tls::client(identity, &hub.keys)?,
    })
}
