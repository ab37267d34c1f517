//! The hubs that this one is connected to: who they are may change, and a connection over which one side is not sent
//! what it needs is made anew.
//!
//! On the network, a hub is sent votes and proposals only when it has said over the connection that it wants them, and
//! the engine's network says so at the first of several connections to the same hub alone
//! (`libp2p-scatter`, `Behaviour::on_swarm_event`; of what it publishes the engine repeats only the wish for its own
//! status messages). A connection that is made before the other side has noticed the end of the one before it is
//! such a second one: both hubs are connected, all looks well, and one of them never hears a vote again.

use super::engine_error;
use crate::engine::EngineError;
use crate::malachite::actors::Heard;
use crate::malachite::context::Context;
use arc_malachitebft_app::engine::network::{NetworkMsg, NetworkRef, PersistentPeersOp};
use arc_malachitebft_app::net::Multiaddr;
use arc_malachitebft_app::types::PeerId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, timeout};

/// How long a connected hub may take to say what it wants to be told of.
const SLOW: Duration = Duration::from_secs(1);
/// The longest wait before a connection is made anew once more.
const LONGEST: Duration = Duration::from_secs(60);
/// How often it is looked while somebody has not said so.
const LOOK: Duration = Duration::from_millis(200);
/// Until the other side has noticed, too, that a connection has ended.
const NOTICED: Duration = Duration::from_millis(300);

/// Where the other hubs are, by what they are known by on the network.
#[derive(Clone)]
pub struct Links {
    network: NetworkRef<Context>,
    hubs: Arc<Mutex<BTreeMap<String, Multiaddr>>>,
}

impl Links {
    /// With these, which the network was opened with.
    pub fn new(network: NetworkRef<Context>, hubs: BTreeMap<String, Multiaddr>) -> Self {
        Self {
            network,
            hubs: Arc::new(Mutex::new(hubs)),
        }
    }

    /// Looks for a hub there from now on.
    pub async fn add(&self, id: String, address: Multiaddr) -> Result<(), EngineError> {
        let mut hubs = self.hubs.lock().await;
        self.tell(PersistentPeersOp::Add(address.clone())).await?;
        hubs.insert(id, address);
        Ok(())
    }

    /// Looks for it no more, and ends the connections to it.
    pub async fn remove(&self, id: &str, address: Multiaddr) -> Result<(), EngineError> {
        let mut hubs = self.hubs.lock().await;
        self.tell(PersistentPeersOp::Remove(address)).await?;
        hubs.remove(id);
        Ok(())
    }

    async fn tell(&self, op: PersistentPeersOp) -> Result<(), EngineError> {
        let ask = |reply| NetworkMsg::UpdatePersistentPeers(op, reply);
        let called = self.network.call(ask, None).await.map_err(engine_error)?;
        match called {
            ractor::rpc::CallResult::Success(result) => result.map_err(engine_error),
            _ => Err(engine_error("the network is gone")),
        }
    }

    /// Makes connections anew over which somebody is not sent what they need, until nothing is heard any more.
    pub async fn keep(self, mut heard: watch::Receiver<Heard>) {
        // Since when, and how long it is waited this time.
        let mut waiting: BTreeMap<PeerId, (Instant, Duration)> = BTreeMap::new();
        loop {
            let (unheard, connected): (Vec<_>, Vec<_>) = {
                let heard = heard.borrow_and_update();
                (
                    heard.unheard().collect(),
                    heard.peers.keys().copied().collect(),
                )
            };
            // Of who is not connected at this moment nothing is known, above all not that it went well.
            waiting.retain(|peer, _| unheard.contains(peer) || !connected.contains(peer));
            let now = Instant::now();
            for peer in &unheard {
                let (since, patience) = *waiting.entry(*peer).or_insert((now, SLOW));
                if now.duration_since(since) < patience {
                    continue;
                }
                if let Err(error) = self.renew(*peer, &mut heard).await {
                    tracing::error!(hub = %peer, %error, "a connection was not made anew");
                }
                let next = (Instant::now(), (2 * patience).min(LONGEST));
                waiting.insert(*peer, next);
            }
            let gone = match unheard.is_empty() {
                true => heard.changed().await.is_err(),
                false => {
                    sleep(LOOK).await;
                    heard.has_changed().is_err()
                }
            };
            if gone {
                return;
            }
        }
    }

    /// Ends the connections to a hub, and looks for it again.
    async fn renew(
        &self,
        peer: PeerId,
        heard: &mut watch::Receiver<Heard>,
    ) -> Result<(), EngineError> {
        let id = peer.to_string();
        // Nobody else may change it in between.
        let hubs = self.hubs.lock().await;
        let Some(address) = hubs.get(&id) else {
            return Ok(());
        };
        tracing::warn!(
            hub = id,
            "a hub is connected and is not sent votes: the connection is made anew"
        );
        self.tell(PersistentPeersOp::Remove(address.clone()))
            .await?;
        let ended = heard.wait_for(|heard| !heard.peers.contains_key(&peer));
        let _ = timeout(SLOW, ended).await;
        sleep(NOTICED).await;
        self.tell(PersistentPeersOp::Add(address.clone())).await
    }
}
