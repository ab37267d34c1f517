//! The port through which everything above signs.

use weighbridge_verifier::{Hash, PublicKey, Signature, Suite};

/// Something with an id and a signing key: a hub, an edge node, a device.
pub trait Signer: Send + Sync {
    /// Its id.
    fn id(&self) -> &str;

    /// Its public key.
    fn public_key(&self) -> PublicKey;

    /// The suite of its key, and so of what it signs.
    fn suite(&self) -> Suite {
        self.public_key().suite()
    }

    /// Signs a 32-byte message hash; deterministic (RFC 6979), and of ECDSA low-s.
    fn sign(&self, message: &Hash) -> Signature;

    /// Signs the hash of the suite over `preimage`, which any check takes like [`sign`](Self::sign) of it. For
    /// what is signed often: some keys are quicker with the message than with its hash, and draw a random
    /// nonce for it.
    fn sign_preimage(&self, preimage: &[u8]) -> Signature {
        self.sign(&self.suite().hash(&[preimage]))
    }

    /// The key that is to take the place of its own, if there is one.
    fn successor(&self) -> Option<PublicKey> {
        None
    }

    /// Goes over to the successor, which is `key`, because that is on record; whether it did. From here on
    /// everything is signed by it.
    fn succeed(&self, key: &PublicKey) -> bool {
        let _ = key;
        false
    }
}
