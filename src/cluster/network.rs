//! The network of consensus: by what a hub is known there.

use crate::crypto::NetworkSeed;
use weighbridge_consensus::malachite;
use weighbridge_consensus::{EngineError, NetworkKey};

/// What a hub with this key is known by to the others.
pub fn network_id(seed: &NetworkSeed) -> Result<String, EngineError> {
    malachite::network_id(&NetworkKey::from_seed(seed.bytes()))
}
