//! The keys that a hub signs and opens with.

use super::HubError;
use crate::crypto::{Identity, SealingKey, Signer};
use weighbridge_verifier::Suite;

/// The hub's two keys.
pub struct HubKeys {
    /// Signs records and blocks.
    pub signing: Identity,
    /// Opens the wraps of epoch keys.
    pub sealing: SealingKey,
}

impl HubKeys {
    /// The file of the signing key in a directory of keys.
    pub const SIGNING: &str = "hub.key";
    /// The file of the sealing key in a directory of keys.
    pub const SEALING: &str = "sealing.key";
    /// The file of the key of checkpoints in a directory of keys; it is made when first needed.
    pub const CHECKPOINT: &str = "checkpoint.key";

    /// New keys of suite `nist`.
    pub fn generate(hub: &str) -> Self {
        Self::generate_of(Suite::Nist, hub)
    }

    /// New keys of `suite`: they make the hub's chain one of it.
    pub fn generate_of(suite: Suite, hub: &str) -> Self {
        Self {
            signing: Identity::generate_of(suite, hub),
            sealing: SealingKey::generate_of(suite),
        }
    }

    pub(super) fn check(&self) -> Result<(), HubError> {
        let (signing, sealing) = (self.signing.suite(), self.sealing.suite());
        match signing == sealing {
            true => Ok(()),
            false => Err(HubError::TwoSuites { signing, sealing }),
        }
    }
}
