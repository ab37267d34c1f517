//! The two actors of ours among the engine's: one that the engine asks, and one that listens to the
//! network. Both only hand on.
//!
//! The engine comes with a host actor that answers one question after the other and waits for each
//! answer; ours gives the question with its reply port to the chain's task, so that a value which takes
//! long to check holds up nothing else.

use super::context::{Context, Part, Proposal, core_types};
use arc_malachitebft_app::engine::host::HostMsg;
use arc_malachitebft_app::engine::network::NetworkEvent;
use arc_malachitebft_app::engine::util::streaming::StreamContent;
use arc_malachitebft_app::types::PeerId;
use arc_malachitebft_network::Channel;
use core_types::SignedMessage;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use tokio::sync::{mpsc, watch};

/// Whom the engine asks.
pub struct Host;

#[async_trait::async_trait]
impl Actor for Host {
    type Msg = HostMsg<Context>;
    type State = mpsc::Sender<HostMsg<Context>>;
    type Arguments = mpsc::Sender<HostMsg<Context>>;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        task: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(task)
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: Self::Msg,
        task: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        // An error stops the engine, as it should: nobody would answer it.
        task.send(message).await?;
        Ok(())
    }
}

/// What was heard on the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Where the engine listens, once it does.
    pub listening: Option<SocketAddr>,
    /// The connected peers, and which height each has begun or ended.
    pub peers: BTreeMap<PeerId, u64>,
    /// What each has said that it wants to be told of.
    pub wants: HashSet<(PeerId, Channel)>,
}

impl Heard {
    /// The greatest height that somebody is at: has voted in, or has decided.
    pub fn height(&self) -> u64 {
        self.peers.values().copied().max().unwrap_or(0)
    }

    /// The connected peers to whom nothing is sent of some of what is agreed on, because they have not asked for it.
    pub fn unheard(&self) -> impl Iterator<Item = PeerId> {
        let wants = |peer: &PeerId| {
            let mut all = Channel::consensus().iter();
            all.all(|channel| self.wants.contains(&(*peer, *channel)))
        };
        self.peers.keys().copied().filter(move |peer| !wants(peer))
    }
}

/// A proposal as it came; nobody has checked its signature.
pub type Claim = SignedMessage<Context, Proposal>;

/// Listens to the network, also while the engine does not: before its first height, and in rest.
pub struct Ears;

/// Whom it tells.
pub struct Hearing {
    pub heard: watch::Sender<Heard>,
    /// Proposals; one that finds no room is not handed on.
    pub claims: mpsc::Sender<Claim>,
}

/// Something that happened on the network.
pub struct Sound(NetworkEvent<Context>);

impl From<NetworkEvent<Context>> for Sound {
    fn from(event: NetworkEvent<Context>) -> Self {
        Self(event)
    }
}

/// The address in a multiaddress of an IP address and a TCP port.
fn socket(address: &str) -> Option<SocketAddr> {
    let mut pieces = address.split('/').skip(1);
    let (kind, ip, tcp, port) = (
        pieces.next()?,
        pieces.next()?,
        pieces.next()?,
        pieces.next()?,
    );
    let ip = ip.parse().ok()?;
    let port = port.parse().ok()?;
    (matches!(kind, "ip4" | "ip6") && tcp == "tcp").then(|| SocketAddr::new(ip, port))
}

impl Sound {
    /// Who is at which height, as far as this says it. Nobody has checked a signature yet; what comes
    /// of a lie is that a height begins in which nothing is decided.
    fn height(&self) -> Option<(PeerId, u64)> {
        Some(match &self.0 {
            NetworkEvent::Vote(from, vote) => (*from, vote.height.0),
            NetworkEvent::Proposal(from, proposal) => (*from, proposal.height.0),
            NetworkEvent::PolkaCertificate(from, polka) => (*from, polka.height.0),
            NetworkEvent::RoundCertificate(from, round) => (*from, round.height.0),
            NetworkEvent::Status(from, status) => (*from, status.tip_height.0),
            NetworkEvent::ProposalPart(from, _, part) => match &part.content {
                StreamContent::Data(Part::Start { height, .. }) => (*from, *height),
                _ => return None,
            },
            _ => return None,
        })
    }

    fn change(self, heard: &mut Heard) -> bool {
        if let Some((from, height)) = self.height() {
            let known = heard.peers.entry(from).or_default();
            let higher = height > *known;
            *known = height.max(*known);
            return higher;
        }
        match self.0 {
            NetworkEvent::Listening(address) => {
                let found = socket(&address.to_string());
                let first = heard.listening.is_none() && found.is_some();
                if first {
                    heard.listening = found;
                }
                first
            }
            NetworkEvent::PeerConnected(peer) => {
                let first = !heard.peers.contains_key(&peer);
                heard.peers.entry(peer).or_default();
                first
            }
            NetworkEvent::PeerSubscribed(peer, channel) => heard.wants.insert((peer, channel)),
            NetworkEvent::PeerDisconnected(peer) => {
                heard.wants.retain(|(of, _)| *of != peer);
                heard.peers.remove(&peer).is_some()
            }
            _ => false,
        }
    }
}

#[async_trait::async_trait]
impl Actor for Ears {
    type Msg = Sound;
    type State = Hearing;
    type Arguments = Hearing;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        hearing: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(hearing)
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        sound: Self::Msg,
        hearing: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let NetworkEvent::Proposal(_, claim) = &sound.0 {
            let _ = hearing.claims.try_send(claim.clone());
        }
        hearing.heard.send_if_modified(|heard| sound.change(heard));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::socket;

    #[test]
    fn a_listening_address_is_read() {
        let read = |text| socket(text).map(|address| address.to_string());
        assert_eq!(read("/ip4/127.0.0.1/tcp/4001").unwrap(), "127.0.0.1:4001");
        assert_eq!(read("/ip6/::1/tcp/4001").unwrap(), "[::1]:4001");
        for other in ["", "/", "/dns4/hall/tcp/1", "/ip4/127.0.0.1/udp/1/quic-v1"] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
