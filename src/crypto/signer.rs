//! The port through which everything above signs.

use weighbridge_verifier::{Hash, PublicKey, Signature};

/// Something with an id and a P-256 signing key: a hub, an edge node, a device.
pub trait Signer: Send + Sync {
    /// Its id.
    fn id(&self) -> &str;

    /// Its public key.
    fn public_key(&self) -> PublicKey;

    /// Signs a 32-byte message hash; deterministic (RFC 6979) and low-s.
    fn sign(&self, message: &Hash) -> Signature;
}
