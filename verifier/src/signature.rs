//! Keys as compressed SEC 1 points, signatures as `r ‖ s`: of suite `nist` ECDSA over P-256 with
//! SHA-256 and low s, of suite `guomi` SM2 (GB/T 32918.2) with SM3.
//!
//! What is signed is always a hash of 32 bytes. For ECDSA it is the message's digest; for SM2 it is the
//! message itself, whose digest is SM3(Z ‖ message) with the identity that GM/T 0009 and RFC 8998 name
//! for whoever has no other.

use crate::hash::{Hash, HexError, parse_hex, write_hex};
use crate::suite::Suite;
use borsh::{BorshDeserialize, BorshSerialize};
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sm2::dsa::signature::Verifier as _;
use sm2::elliptic_curve::sec1::ToSec1Point;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{PoisonError, RwLock};

/// The identity that Z of an SM2 signature is made of (GM/T 0009-2012 §10, RFC 8998 §3.2.1).
pub const SM2_ID: &str = "1234567812345678";

/// A public key: a compressed SEC 1 point, 33 bytes; printed as hexadecimal. Its first byte, the tag of
/// the point, has the mark of its suite: 02 and 03 are P-256, 12 and 13 are SM2.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct PublicKey(pub [u8; 33]);

/// A signature `r ‖ s`, 64 bytes, big-endian; of which suite, its key says. High-s forms of ECDSA are
/// refused, so that a record has one signature only; an SM2 signature has one form anyway.
#[derive(Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Signature(pub [u8; 64]);

impl Signature {
    /// An ECDSA signature as ASN.1 has it (RFC 3279 §2.2.3), for notes.
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
    #[error("the public key is not a point of its curve")]
    Key,
    /// r or s is zero or too large.
    #[error("the signature is malformed")]
    Form,
    /// s is in the upper half: a second form of a valid signature.
    #[error("the signature is not in low-s form")]
    HighS,
    /// The key is of another suite than what it signed.
    #[error("the key is not of the suite `{0}`")]
    Suite(Suite),
    /// The signature is not this key's over this message.
    #[error("the signature does not match the key and the content")]
    Mismatch,
}

/// A public key, decompressed once for many verifications.
#[derive(Clone, Debug)]
pub struct Verifier(Point);

#[derive(Clone, Debug)]
enum Point {
    P256(p256::ecdsa::VerifyingKey),
    Sm2(Box<sm2::dsa::VerifyingKey>),
}

impl Verifier {
    /// Checks that `signature` is this key's over the 32-byte message hash `message`.
    pub fn verify(&self, message: &Hash, signature: &Signature) -> Result<(), SignatureError> {
        let held = match &self.0 {
            Point::P256(key) => {
                let parsed = p256::ecdsa::Signature::from_slice(&signature.0)
                    .map_err(|_| SignatureError::Form)?;
                if parsed.normalize_s() != parsed {
                    return Err(SignatureError::HighS);
                }
                key.verify_prehash(&message.0, &parsed).is_ok()
            }
            Point::Sm2(key) => {
                let parsed = sm2::dsa::Signature::from_slice(&signature.0)
                    .map_err(|_| SignatureError::Form)?;
                key.verify(&message.0, &parsed).is_ok()
            }
        };
        held.then_some(()).ok_or(SignatureError::Mismatch)
    }
}

impl PublicKey {
    /// The key at this compressed SEC 1 point of the curve of `suite`; `None` for what has not the form
    /// of one.
    pub fn from_sec1(suite: Suite, point: &[u8]) -> Option<Self> {
        let mut key: [u8; 33] = point.try_into().ok()?;
        let tag = matches!(key[0], 2 | 3).then_some(key[0])?;
        key[0] = suite.marked(tag);
        Some(Self(key))
    }

    /// The compressed SEC 1 point, without the mark.
    pub fn to_sec1(&self) -> [u8; 33] {
        let mut point = self.0;
        point[0] = Suite::of_marked(point[0]).1;
        point
    }

    /// The suite it is of.
    pub fn suite(&self) -> Suite {
        Suite::of_marked(self.0[0]).0
    }

    /// Whether it may sign what is of this suite.
    pub(crate) fn check_suite(&self, suite: Suite) -> Result<(), SignatureError> {
        match self.suite() == suite {
            true => Ok(()),
            false => Err(SignatureError::Suite(suite)),
        }
    }

    /// Decompresses the point. Only the tags 2 and 3 are taken, so that a key has one form only.
    pub fn verifier(&self) -> Result<Verifier, SignatureError> {
        let point = self.to_sec1();
        if !matches!(point[0], 2 | 3) {
            return Err(SignatureError::Key);
        }
        let decompressed = match self.suite() {
            Suite::Nist => p256::ecdsa::VerifyingKey::from_sec1_bytes(&point)
                .ok()
                .map(Point::P256),
            Suite::Guomi => sm2::dsa::VerifyingKey::from_sec1_bytes(SM2_ID, &point)
                .ok()
                .map(|key| Point::Sm2(Box::new(key))),
        };
        decompressed.map(Verifier).ok_or(SignatureError::Key)
    }

    /// The point without compression, as X.509 and notes have it; `None` when it is none.
    pub fn uncompressed(&self) -> Option<Vec<u8>> {
        Some(match self.verifier().ok()?.0 {
            Point::P256(key) => key.to_sec1_point(false).as_bytes().to_vec(),
            Point::Sm2(key) => key.to_sec1_point(false).as_bytes().to_vec(),
        })
    }

    /// The key at this uncompressed point of the curve of `suite`.
    pub(crate) fn from_uncompressed(suite: Suite, point: &[u8]) -> Option<Self> {
        // The last bit of y is what a compressed point has of it.
        let tag = 2 | point.last()? & 1;
        let x = point.strip_prefix(&[4])?.get(..32)?;
        let key = Self::from_sec1(suite, &[&[tag], x].concat())?;
        (key.uncompressed()? == point).then_some(key)
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

    /// The same where what `suite` hashes to the message is at hand: some libraries want it all.
    fn check_preimage(
        &self,
        key: &PublicKey,
        (suite, preimage): (Suite, &[u8]),
        signature: &Signature,
    ) -> Result<(), SignatureError> {
        self.check(key, &suite.hash(&[preimage]), signature)
    }
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
    use sm2::dsa::signature::Signer;

    fn signed(message: &Hash) -> (PublicKey, Signature) {
        let key = SigningKey::from_slice(&[7; 32]).unwrap();
        let point = key.verifying_key().to_sec1_point(true);
        let signature: p256::ecdsa::Signature = key.sign_prehash(&message.0).unwrap();
        let low = signature.normalize_s();
        let public = PublicKey::from_sec1(Suite::Nist, point.as_bytes()).unwrap();
        (public, Signature(low.to_bytes().into()))
    }

    fn sm2_signed(message: &Hash) -> (PublicKey, Signature) {
        let key = sm2::dsa::SigningKey::from_slice(SM2_ID, &[7; 32]).unwrap();
        let point = key.verifying_key().to_sec1_point(true);
        let signature: sm2::dsa::Signature = key.sign(&message.0);
        let public = PublicKey::from_sec1(Suite::Guomi, point.as_bytes()).unwrap();
        (public, Signature(signature.to_bytes().into()))
    }

    /// GB/T 32918.5-2017, Annex A: its message has 14 bytes, ours 32, so the key is what is checked
    /// here with the standard's number; `src/crypto/guomi/vectors.rs` has the signature.
    #[test]
    fn a_key_of_the_standard_is_read_and_written() {
        let hex = |text: &str| {
            let pairs = text.as_bytes().chunks(2);
            let byte = |p: &[u8]| u8::from_str_radix(str::from_utf8(p).unwrap(), 16).unwrap();
            pairs.map(byte).collect::<Vec<_>>()
        };
        let point = hex(concat!(
            "04",
            "09F9DF311E5421A150DD7D161E4BC5C672179FAD1833FC076BB08FF356F35020",
            "CCEA490CE26775A52DC6EA718CC1AA600AED05FBF35E084A6632F6072DA9AD13",
        ));
        let key = PublicKey::from_uncompressed(Suite::Guomi, &point).unwrap();
        let text = "1309f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020";
        assert_eq!(key.to_string(), text);
        assert_eq!(key.suite(), Suite::Guomi);
        assert_eq!(key.uncompressed().unwrap(), point);
        assert_eq!(PublicKey::from_uncompressed(Suite::Nist, &point), None);
    }

    #[test]
    fn an_sm2_signature_holds_for_its_message_only() {
        let message = sha256(&[b"message"]);
        let (key, signature) = sm2_signed(&message);
        key.verify(&message, &signature).unwrap();
        for bit in 0..512 {
            let mut changed = signature;
            changed.0[bit / 8] ^= 1 << (bit % 8);
            assert!(key.verify(&message, &changed).is_err(), "bit {bit}");
        }
        let other = sha256(&[b"another"]);
        assert_eq!(
            key.verify(&other, &signature),
            Err(SignatureError::Mismatch)
        );
        for zero in [0..32, 32..64] {
            let mut broken = signature;
            broken.0[zero].fill(0);
            assert_eq!(key.verify(&message, &broken), Err(SignatureError::Form));
        }
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
        for (key, signature) in [signed(&message), sm2_signed(&message)] {
            for tag in 0..=255u8 {
                let mut other = key;
                other.0[0] = tag;
                let verified = other.verify(&message, &signature).is_ok();
                assert_eq!(verified, tag == key.0[0], "tag {tag}");
                let own = tag == key.0[0] || tag == key.0[0] ^ 1;
                assert!(other.verifier().is_ok() || !own, "tag {tag}");
                let known = matches!(tag, 0x02 | 0x03 | 0x12 | 0x13);
                assert!(other.verifier().is_err() || known, "tag {tag}");
            }
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
