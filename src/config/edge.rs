//! `[edges]`, `[buffer]` and `[edge]`: hubs that edge nodes upload to, and edge nodes.

use super::value;
use crate::crypto::PeerKey;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use weighbridge_verifier::PublicKey;

/// `[edges]`: the edge nodes that upload to this hub.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EdgesConfig {
    /// Where they connect. Any address: only those who have one of the keys get in.
    #[serde(deserialize_with = "value::bind")]
    pub bind: SocketAddr,
    /// Who they are.
    #[serde(default, rename = "node")]
    pub nodes: Vec<EdgeNodeConfig>,
}

/// `[[edges.node]]`: one of them.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeNodeConfig {
    /// Its id, which the ledger knows it by.
    #[serde(deserialize_with = "value::id")]
    pub id: String,
    /// Its public key, as it prints it itself.
    pub key: PublicKey,
    /// The P-256 key that it shows in TLS, where that is not `key`: of suite `guomi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_key: Option<PublicKey>,
}

impl EdgeNodeConfig {
    /// Its keys.
    pub fn keys(&self) -> PeerKey {
        peer(self.key, self.link_key)
    }
}

fn peer(own: PublicKey, link: Option<PublicKey>) -> PeerKey {
    let link = link.unwrap_or(own);
    PeerKey { own, link }
}

/// `[buffer]`: where batches wait that cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct BufferConfig {
    /// The directory; it may be on another disk. Relative paths start at the configuration file.
    pub dir: PathBuf,
    /// How large it may become, in megabytes (10⁶ bytes).
    #[serde(deserialize_with = "value::within::<1, 1000000, _>")]
    pub max_mb: u64,
    /// What happens then.
    pub when_full: WhenFullConfig,
}

impl Default for BufferConfig {
    fn default() -> Self {
        Self {
            dir: "buffer".into(),
            max_mb: 1024,
            when_full: WhenFullConfig::Stop,
        }
    }
}

impl BufferConfig {
    /// Its bound in bytes.
    pub fn bytes(&self) -> u64 {
        self.max_mb.saturating_mul(1_000_000)
    }

    pub(super) fn resolve(&mut self, base: &Path) {
        self.dir = base.join(&self.dir);
    }
}

/// What happens when a buffer is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenFullConfig {
    /// Devices are read no more until there is room: nothing that was taken is lost.
    #[default]
    Stop,
    /// The samples of the oldest batches are dropped, and records say so.
    DropOldest,
}

/// `[edge]`: this process is an edge node, not a hub.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeSection {
    /// Its id.
    #[serde(deserialize_with = "value::id")]
    pub id: String,
    /// File with its key, which signs batches and is shown to hubs, of the suite of its hubs: PKCS#8 PEM, mode 0600. The
    /// environment variable [`super::SIGNING_KEY_VARIABLE`] overrides it.
    #[serde(default = "default_key")]
    pub signing_key: PathBuf,
    /// How long a lost hub is tried again before the next is asked, in ms.
    #[serde(
        default = "default_patience",
        deserialize_with = "value::within::<0, 3600000, _>"
    )]
    pub patience_ms: u64,
    /// Where its status is shown by HTTP; nowhere by default. Only loopback, as at a hub.
    #[serde(
        default,
        deserialize_with = "some_bind",
        skip_serializing_if = "Option::is_none"
    )]
    pub http: Option<SocketAddr>,
    /// The hubs, in the order in which they are tried.
    #[serde(default, rename = "hub")]
    pub hubs: Vec<EdgeHubConfig>,
}

fn some_bind<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    value::bind(from).map(Some)
}

fn default_key() -> PathBuf {
    "keys/edge.key".into()
}

fn default_patience() -> u64 {
    3000
}

/// `[[edge.hub]]`: a hub to upload to.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeHubConfig {
    /// Host and port.
    #[serde(deserialize_with = "address")]
    pub address: String,
    /// Its public key, which it shows in TLS unless there is a `link_key`.
    pub key: PublicKey,
    /// The P-256 key that it shows in TLS, where that is not `key`: of suite `guomi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_key: Option<PublicKey>,
    /// Its sealing key's public half: what batches are sealed to.
    pub sealing_key: PublicKey,
}

impl EdgeHubConfig {
    /// Its keys.
    pub fn keys(&self) -> PeerKey {
        peer(self.key, self.link_key)
    }
}

fn address<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    let parts = text.rsplit_once(':');
    let whole = parts.is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if whole {
        return Ok(text);
    }
    Err(serde::de::Error::custom(format!(
        "`{text}` is not an address to connect to: expected host:port, for example 192.0.2.1:4850"
    )))
}
