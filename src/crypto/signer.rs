//! The port behind which a signing key is kept.
//!
//! The ledger asks for signatures without knowing where the key lies: in a sealed file, or in tests
//! in plain sight.

use weighbridge_verifier::{Hash, PublicKey, Signature};

/// A hub's signing identity.
pub trait Signer: Send + Sync {
    /// Id of the hub.
    fn id(&self) -> &str;

    /// Its public key.
    fn public_key(&self) -> PublicKey;

    /// Its signature over the 32-byte message hash `message`, in low-s form.
    fn sign(&self, message: &Hash) -> Signature;
}
