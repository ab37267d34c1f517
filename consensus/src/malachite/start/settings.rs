//! Our settings in the engine's terms.

use crate::engine::{EngineError, Faults, Peer, Setup, Timing};
use crate::malachite::codec::{MAX_DECISIONS, MAX_PART};
use crate::malachite::context::core_types;
use crate::validators::MAX_VALIDATORS;
use arc_malachitebft_app::net::Multiaddr;
use arc_malachitebft_network::{
    BootstrapProtocol, ChannelNames, Config as NetworkConfig, DiscoveryConfig, GossipSubConfig,
    ProtocolNames, PubSubMaxSizePerTopic, PubSubProtocol, Selector, TransportProtocol,
};
use arc_malachitebft_sync as sync;
use core_types::{ThresholdParam, ThresholdParams};
use std::net::SocketAddr;
use std::time::Duration;

/// What a message of the network may have around a value or a part.
const AROUND: usize = 64 << 10;

pub fn multiaddr(peer: &Peer) -> Result<Multiaddr, EngineError> {
    let ip = match peer.address.ip() {
        std::net::IpAddr::V4(ip) => format!("/ip4/{ip}"),
        std::net::IpAddr::V6(ip) => format!("/ip6/{ip}"),
    };
    let text = format!("{ip}/tcp/{}/p2p/{}", peer.address.port(), peer.id);
    let parsed = text.parse::<Multiaddr>();
    parsed.map_err(|e| EngineError::Setup(format!("the peer {peer:?} cannot be reached: {e}")))
}

fn listen(address: SocketAddr) -> Result<Multiaddr, EngineError> {
    let kind = if address.is_ipv4() { "ip4" } else { "ip6" };
    let text = format!("/{kind}/{}/tcp/{}", address.ip(), address.port());
    let parsed = text.parse::<Multiaddr>();
    parsed.map_err(|e| EngineError::Setup(format!("cannot listen on {address}: {e}")))
}

pub fn network_config(setup: &Setup, peers: Vec<Multiaddr>) -> Result<NetworkConfig, EngineError> {
    Ok(NetworkConfig {
        listen_addr: listen(setup.listen)?,
        persistent_peers: peers,
        persistent_peers_only: true,
        discovery: DiscoveryConfig {
            enabled: false,
            persistent_peers_only: true,
            bootstrap_protocol: BootstrapProtocol::Full,
            selector: Selector::Random,
            // Hubs behind one address are normal, above all on a bench; who is no hub is not let in.
            max_connections_per_ip: 4 * MAX_VALIDATORS,
            ip_throttle_duration: Duration::ZERO,
            // A hub may be off for as long as it likes.
            dial_max_retries: usize::MAX,
            ..DiscoveryConfig::default()
        },
        idle_connection_timeout: Duration::from_secs(15 * 60),
        transport: TransportProtocol::Tcp,
        gossipsub: GossipSubConfig::default(),
        // Everybody is connected to everybody: what is sent goes to all, once.
        pubsub_protocol: PubSubProtocol::Broadcast,
        channel_names: ChannelNames::default(),
        rpc_max_size: response_size(setup.max_value),
        pubsub_max_size: MAX_PART + AROUND,
        pubsub_max_size_per_topic: PubSubMaxSizePerTopic::default(),
        sync_request_timeout: setup.timing.request,
        sync_max_request_size: AROUND,
        sync_parallel_requests: 5,
        enable_consensus: true,
        enable_sync: true,
        protocol_names: ProtocolNames::default(),
    })
}

/// The longest answer to a hub that catches up.
fn response_size(max_value: usize) -> usize {
    4 * max_value + MAX_DECISIONS * AROUND
}

pub fn sync_config(setup: &Setup) -> sync::Config {
    sync::Config::default()
        .with_request_timeout(setup.timing.request)
        .with_max_request_size(AROUND)
        .with_max_response_size(response_size(setup.max_value))
        .with_batch_size(20)
}

pub fn thresholds(faults: Faults) -> ThresholdParams {
    match faults {
        Faults::Byzantine => ThresholdParams::default(),
        Faults::Crash => ThresholdParams {
            quorum: ThresholdParam::new(1, 2),
            honest: ThresholdParam::new(0, 1),
        },
    }
}

pub fn check_timing(timing: &Timing) -> Result<(), EngineError> {
    let zero = [
        timing.propose,
        timing.vote,
        timing.longest,
        timing.status,
        timing.request,
    ];
    match zero.iter().any(Duration::is_zero) {
        true => Err(EngineError::Setup("a time limit of zero".to_owned())),
        false => Ok(()),
    }
}
