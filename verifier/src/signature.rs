//! ECDSA over P-256 with SHA-256: keys as compressed SEC1 points, signatures as `r ‖ s` with low s.

use crate::hash::{Hash, HexError, parse_hex, write_hex};
use borsh::{BorshDeserialize, BorshSerialize};
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{PoisonError, RwLock};

/// A P-256 public key: a compressed SEC1 point, 33 bytes; printed as hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct PublicKey(pub [u8; 33]);

/// An ECDSA signature `r ‖ s`, 64 bytes, big-endian. High-s forms are refused, so that a record has
/// one signature only.
#[derive(Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Signature(pub [u8; 64]);

impl Signature {
    /// The same signature as ASN.1 has it (RFC 3279 §2.2.3), for notes.
    pub fn to_der(&self) -> Option<Vec<u8>> {
        let signature = p256::ecdsa::Signature::from_slice(&self.0).ok()?;
        Some(signature.to_der().as_bytes().to_vec())
    }

    /// Reads that form.
    pub(crate) fn from_der(bytes: &[u8]) -> Option<Self> {
        let signature = p256::ecdsa::Signature::from_der(bytes).ok()?;
        Some(Self(signature.to_bytes().into()))
    }
}

/// Why a signature does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The key is not a point of the curve.
    #[error("the public key is not a point of P-256")]
    Key,
    /// r or s is zero or too large.
    #[error("the signature is malformed")]
    Form,
    /// s is in the upper half: a second form of a valid signature.
    #[error("the signature is not in low-s form")]
    HighS,
    /// The signature is not this key's over this message.
    #[error("the signature does not match the key and the content")]
    Mismatch,
}

/// A public key, decompressed once for many verifications.
#[derive(Clone, Debug)]
pub struct Verifier(p256::ecdsa::VerifyingKey);

impl Verifier {
    /// Checks that `signature` is this key's over the 32-byte message hash `message`.
    pub fn verify(&self, message: &Hash, signature: &Signature) -> Result<(), SignatureError> {
        let parsed =
            p256::ecdsa::Signature::from_slice(&signature.0).map_err(|_| SignatureError::Form)?;
        if parsed.normalize_s() != parsed {
            return Err(SignatureError::HighS);
        }
        self.0
            .verify_prehash(&message.0, &parsed)
            .map_err(|_| SignatureError::Mismatch)
    }
}

impl PublicKey {
    /// Decompresses the point. Only the tags 02 and 03 are taken, so that a key has one form only.
    pub fn verifier(&self) -> Result<Verifier, SignatureError> {
        if !matches!(self.0[0], 2 | 3) {
            return Err(SignatureError::Key);
        }
        p256::ecdsa::VerifyingKey::from_sec1_bytes(&self.0)
            .map(Verifier)
            .map_err(|_| SignatureError::Key)
    }

    /// The point without compression, as X.509 and notes have it; `None` when it is none.
    pub(crate) fn uncompressed(&self) -> Option<Vec<u8>> {
        let point = self.verifier().ok()?.0.to_sec1_point(false);
        Some(point.as_bytes().to_vec())
    }

    /// The key at this uncompressed point.
    pub(crate) fn from_uncompressed(point: &[u8]) -> Option<Self> {
        let uncompressed = point.len() == 65;
        let key =
            uncompressed.then(|| p256::ecdsa::VerifyingKey::from_sec1_bytes(point).ok())??;
        let compressed = key.to_sec1_point(true);
        compressed.as_bytes().try_into().ok().map(Self)
    }

    /// Checks one signature; use [`PublicKey::verifier`] for many.
    pub fn verify(&self, message: &Hash, signature: &Signature) -> Result<(), SignatureError> {
        self.verifier()?.verify(message, signature)
    }
}

/// A way of checking signatures: directly, with the keys' points kept, or on another library.
///
/// Whatever it does, it must accept what [`PublicKey::verify`] accepts and nothing else.
pub trait SignatureCheck: Send + Sync {
    /// Checks that `signature` is `key`'s over `message`.
    fn check(
        &self,
        key: &PublicKey,
        message: &Hash,
        signature: &Signature,
    ) -> Result<(), SignatureError>;
}

/// Checks each signature on its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct DirectCheck;

impl SignatureCheck for DirectCheck {
    fn check(
        &self,
        key: &PublicKey,
        message: &Hash,
        signature: &Signature,
    ) -> Result<(), SignatureError> {
        key.verify(message, signature)
    }
}

/// Keeps the decompressed points of the keys it has seen: a ledger has few keys and many signatures.
#[derive(Debug, Default)]
pub struct KeyCache {
    keys: RwLock<BTreeMap<PublicKey, Verifier>>,
}

/// More keys than this are not kept: what is checked comes from outside.
const KEYS_KEPT: usize = 4096;

impl SignatureCheck for KeyCache {
    fn check(
        &self,
        key: &PublicKey,
        message: &Hash,
        signature: &Signature,
    ) -> Result<(), SignatureError> {
        // A poisoned lock only means that another thread panicked while it looked up a key.
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(verifier) = keys.get(key) {
            return verifier.verify(message, signature);
        }
        drop(keys);
        let verifier = key.verifier()?;
        let result = verifier.verify(message, signature);
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if keys.len() < KEYS_KEPT {
            keys.insert(*key, verifier);
        }
        result
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        parse_hex(text).map(Self)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <String as Deserialize>::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature(")?;
        write_hex(&self.0, f)?;
        write!(f, ")")
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as Deserialize>::deserialize(deserializer)?;
        parse_hex(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sha256;
    use p256::ecdsa::SigningKey;
    use p256::ecdsa::signature::hazmat::PrehashSigner;

    fn signed(message: &Hash) -> (PublicKey, Signature) {
        let key = SigningKey::from_slice(&[7; 32]).unwrap();
        let point = key.verifying_key().to_sec1_point(true);
        let signature: p256::ecdsa::Signature = key.sign_prehash(&message.0).unwrap();
        let low = signature.normalize_s();
        let public = PublicKey(point.as_bytes().try_into().unwrap());
        (public, Signature(low.to_bytes().into()))
    }

    #[test]
    fn a_signature_has_one_form_only() {
        let message = sha256(&[b"message"]);
        let (key, low) = signed(&message);
        key.verify(&message, &low).unwrap();
        let parsed = p256::ecdsa::Signature::from_slice(&low.0).unwrap();
        let (r, s) = parsed.split_scalars();
        let high = p256::ecdsa::Signature::from_scalars(r, -*s).unwrap();
        let high = Signature(high.to_bytes().into());
        assert_eq!(key.verify(&message, &high), Err(SignatureError::HighS));
        for zero in [0..32, 32..64] {
            let mut broken = low;
            broken.0[zero].fill(0);
            assert_eq!(key.verify(&message, &broken), Err(SignatureError::Form));
        }
        let other = sha256(&[b"another"]);
        assert_eq!(key.verify(&other, &low), Err(SignatureError::Mismatch));
    }

    #[test]
    fn a_key_has_one_form_only() {
        let message = sha256(&[b"message"]);
        let (key, signature) = signed(&message);
        for tag in 0..=255u8 {
            let mut other = key;
            other.0[0] = tag;
            let verified = other.verify(&message, &signature).is_ok();
            assert_eq!(verified, tag == key.0[0], "tag {tag}");
            assert_eq!(other.verifier().is_ok(), tag == 2 || tag == 3);
        }
    }

    #[test]
    fn keeping_keys_changes_no_answer() {
        let message = sha256(&[b"message"]);
        let (key, signature) = signed(&message);
        let cache = KeyCache::default();
        for message in [message, sha256(&[b"another"]), message] {
            let direct = DirectCheck.check(&key, &message, &signature);
            assert_eq!(cache.check(&key, &message, &signature), direct);
        }
        let nobody = PublicKey([9; 33]);
        let refused = cache.check(&nobody, &message, &signature);
        assert_eq!(refused, Err(SignatureError::Key));
    }
}
