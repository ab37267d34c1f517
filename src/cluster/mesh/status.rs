//! How the links are, for the status page.

use crate::model::Nanos;
use std::net::SocketAddr;
use weighbridge_verifier::Hash;

/// How the links of a hub are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshStatus {
    /// Where it listens for the other hubs.
    pub address: SocketAddr,
    /// The others, in the order in which they were named.
    pub hubs: Vec<HubStatus>,
    /// Connections that were sent away: why, and how many.
    pub turned_away: Vec<(&'static str, u64)>,
}

/// How the links with another hub are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubStatus {
    /// Its id.
    pub id: String,
    /// Where it listens.
    pub address: String,
    /// The link over which this hub reads its records.
    pub reading: LinkStatus,
    /// The link over which it reads the records of this hub.
    pub lending: LinkStatus,
    /// When it was last heard.
    pub heard: Option<Nanos>,
    /// Its newest block, as it says.
    pub tip: Option<(u64, Hash)>,
    /// Blocks by which this hub is behind it.
    pub behind: u64,
    /// Records of this hub that it has not said it took. What it got in blocks is counted, too, until it takes
    /// something newer.
    pub lacks: u64,
    /// Bytes of them that are on their way.
    pub on_the_way: u64,
    /// How often it said what cannot be, since this hub started.
    pub lies: u64,
}

/// How a link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// Since when it is there; `None` when it is not.
    pub connected: Option<Nanos>,
    /// Why it is not; empty while it is.
    pub reason: String,
}

/// How far a hub is that reads the chain from the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncProgress {
    /// The hub that it reads from.
    pub from: Option<String>,
    /// Height of the newest block here.
    pub height: u64,
    /// Height of the newest block there.
    pub target: u64,
}
