//! Keys for tests.

use crate::application::Refused;
use crate::engine::Sign;
use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use weighbridge_verifier::{Hash, PublicKey, Signature, Suite};

/// A key that a number stands for.
pub struct TestKey(SigningKey);

impl TestKey {
    /// The key of this number, which is not zero.
    pub fn new(number: u8) -> Self {
        Self(SigningKey::from_slice(&[number; 32]).unwrap())
    }

    /// A signature with low s.
    pub fn signature(&self, message: &Hash) -> Signature {
        let signature: p256::ecdsa::Signature = self.0.sign_prehash(&message.0).unwrap();
        Signature(signature.normalize_s().to_bytes().into())
    }
}

impl Sign for TestKey {
    fn public_key(&self) -> PublicKey {
        let point = self.0.verifying_key().to_sec1_point(true);
        PublicKey::from_sec1(Suite::Nist, point.as_bytes()).unwrap()
    }

    fn sign(&self, message: &Hash) -> Result<Signature, Refused> {
        Ok(self.signature(message))
    }
}

/// The public key of this number.
pub fn public(number: u8) -> PublicKey {
    TestKey::new(number).public_key()
}
