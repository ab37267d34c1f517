//! `[cluster]`: the hubs that a chain is shared with.

use super::value;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use weighbridge_verifier::PublicKey;

/// `[cluster]`: the chain is decided by several hubs. Where it is left out this hub decides alone.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// Where the other hubs' consensus connects. Any address: only the hubs named here get in.
    #[serde(deserialize_with = "value::bind")]
    pub listen: SocketAddr,
    /// Where the other hubs fetch this hub's records.
    #[serde(deserialize_with = "value::bind")]
    pub mesh: SocketAddr,
    /// File with what this hub is known by on the network of consensus: Ed25519, PKCS#8 PEM, mode 0600; made when it is
    /// first needed.
    #[serde(default = "default_network_key")]
    pub network_key: PathBuf,
    /// The hub that began the chain, and the key that it had then. Only that hub itself can do without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genesis: Option<GenesisConfig>,
    /// Every other hub.
    #[serde(default)]
    pub hubs: Vec<ClusterHubConfig>,
}

/// Who began a chain.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisConfig {
    /// The hub's id.
    #[serde(deserialize_with = "value::id")]
    pub hub: String,
    /// The signing key that it enrolled itself with in the first block.
    pub key: PublicKey,
}

/// `[[cluster.hubs]]`: one of the other hubs, as its `weighbridge cluster card` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterHubConfig {
    /// Its id, which the ledger knows it by.
    #[serde(deserialize_with = "value::id")]
    pub id: String,
    /// Its public signing key.
    pub key: PublicKey,
    /// Its sealing key's public half: what is recorded here is sealed to it as well.
    pub sealing: PublicKey,
    /// What it is known by on the network of consensus.
    #[serde(deserialize_with = "network_id")]
    pub network: String,
    /// Where its consensus listens.
    #[serde(deserialize_with = "value::bind")]
    pub consensus: SocketAddr,
    /// Where its records are fetched.
    #[serde(deserialize_with = "value::bind")]
    pub mesh: SocketAddr,
}

fn default_network_key() -> PathBuf {
    "keys/network.key".into()
}

/// Reads what a network key is known by: a libp2p peer id, in Base58 (without 0, O, I and l).
fn network_id<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    let base58 = |c: char| c.is_ascii_alphanumeric() && !matches!(c, '0' | 'O' | 'I' | 'l');
    if (40..=64).contains(&text.len()) && text.chars().all(base58) {
        return Ok(text);
    }
    Err(serde::de::Error::custom(format!(
        "`{text}` is no network id: expected one as `weighbridge cluster card` prints it, for example \
         12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
    )))
}

impl ClusterConfig {
    pub(super) fn resolve(&mut self, base: &Path) {
        self.network_key = base.join(&self.network_key);
    }
}
