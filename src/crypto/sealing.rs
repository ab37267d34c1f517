//! Wrapping epoch keys to readers. Of suite `nist`: HPKE (RFC 9180), base mode, DHKEM(P-256,
//! HKDF-SHA256), HKDF-SHA256, AES-256-GCM. Of suite `guomi`: public-key encryption with SM2
//! (GB/T 32918.4), its ciphertext in the order C1 ‖ C3 ‖ C2.
//!
//! The key that opens wraps is not the key that signs: a hub restored from a backup gets a new
//! signing key, and must still read its data.

use super::envelope::{EpochKey, OpenError};
use super::guomi::wrap;
use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::DhP256HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use p256::elliptic_curve::Generate;
use p256::elliptic_curve::sec1::ToSec1Point;
use weighbridge_verifier::{PublicKey, Suite, encode};
use zeroize::Zeroizing;

type Kem256 = DhP256HkdfSha256;

const INFO: &[u8] = b"weighbridge/wrap/v1";

/// A reader's private key; wiped from memory when dropped.
pub struct SealingKey {
    pub(super) secret: Secret,
    public: SealingPublicKey,
}

pub(super) enum Secret {
    P256 {
        secret: p256::SecretKey,
        private: Box<<Kem256 as Kem>::PrivateKey>,
    },
    Sm2(sm2::SecretKey),
}

/// A reader's public key.
#[derive(Clone)]
pub struct SealingPublicKey(Public);

#[derive(Clone)]
enum Public {
    P256(Box<<Kem256 as Kem>::PublicKey>),
    Sm2(Box<sm2::PublicKey>),
}

/// An epoch key that one reader can open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// The encapsulated key, SM2's C1: an uncompressed point, 65 bytes.
    pub enc: Vec<u8>,
    /// The sealed secret: of HPKE 32 bytes and a tag; of SM2 C3 ‖ C2.
    pub ciphertext: Vec<u8>,
}

impl SealingKey {
    /// A new key of suite `nist` from the operating system's randomness.
    pub fn generate() -> Self {
        Self::generate_of(Suite::Nist)
    }

    /// A new key of `suite` from the operating system's randomness.
    pub fn generate_of(suite: Suite) -> Self {
        match suite {
            Suite::Nist => Self::p256(p256::SecretKey::generate()),
            Suite::Guomi => Self::sm2(sm2::SecretKey::generate()),
        }
    }

    pub(super) fn p256(secret: p256::SecretKey) -> Self {
        let bytes = Zeroizing::new(<[u8; 32]>::from(secret.to_bytes()));
        let Ok(private) = <Kem256 as Kem>::PrivateKey::from_bytes(bytes.as_slice()) else {
            unreachable!("a P-256 secret key is a DHKEM(P-256) private key");
        };
        let public = SealingPublicKey(Public::P256(Box::new(Kem256::sk_to_pk(&private))));
        let private = Box::new(private);
        Self {
            secret: Secret::P256 { secret, private },
            public,
        }
    }

    pub(super) fn sm2(secret: sm2::SecretKey) -> Self {
        let public = SealingPublicKey(Public::Sm2(Box::new(secret.public_key())));
        let secret = Secret::Sm2(secret);
        Self { secret, public }
    }

    /// The public half.
    pub fn public(&self) -> &SealingPublicKey {
        &self.public
    }

    /// The suite it is of.
    pub fn suite(&self) -> Suite {
        self.public.suite()
    }

    /// Opens a wrap made for this key.
    pub fn unwrap(
        &self,
        object: &str,
        epoch: u64,
        wrapped: &WrappedKey,
    ) -> Result<EpochKey, OpenError> {
        let associated = associated(object, epoch);
        let secret = match &self.secret {
            Secret::P256 { private, .. } => {
                let enc = <Kem256 as Kem>::EncappedKey::from_bytes(&wrapped.enc)
                    .map_err(|_| OpenError::Form)?;
                hpke::single_shot_open::<AesGcm256, HkdfSha256, Kem256>(
                    &OpModeR::Base,
                    private,
                    &enc,
                    INFO,
                    &wrapped.ciphertext,
                    &associated,
                )
                .map(Zeroizing::new)
                .map_err(|_| OpenError::Authentication)?
            }
            Secret::Sm2(secret) => wrap::open(secret, wrapped, INFO, &associated)?,
        };
        let secret = secret.as_slice().try_into().map_err(|_| OpenError::Form)?;
        Ok(EpochKey::from_secret(self.suite(), object, epoch, secret))
    }
}

impl SealingPublicKey {
    /// Reads the key from its compressed point.
    pub fn from_compressed(key: &PublicKey) -> Result<Self, OpenError> {
        key.verifier().map_err(|_| OpenError::Form)?;
        let point = key.to_sec1();
        Ok(Self(match key.suite() {
            Suite::Nist => {
                let point =
                    p256::PublicKey::from_sec1_bytes(&point).map_err(|_| OpenError::Form)?;
                let bytes = point.to_sec1_point(false);
                let key = <Kem256 as Kem>::PublicKey::from_bytes(bytes.as_bytes())
                    .map_err(|_| OpenError::Form)?;
                Public::P256(Box::new(key))
            }
            Suite::Guomi => {
                let key = sm2::PublicKey::from_sec1_bytes(&point).map_err(|_| OpenError::Form)?;
                Public::Sm2(Box::new(key))
            }
        }))
    }

    /// The suite it is of.
    pub fn suite(&self) -> Suite {
        match &self.0 {
            Public::P256(_) => Suite::Nist,
            Public::Sm2(_) => Suite::Guomi,
        }
    }

    /// The key as a compressed point, which is how files and people write it.
    pub fn compressed(&self) -> PublicKey {
        let point = match &self.0 {
            Public::P256(key) => match p256::PublicKey::from_sec1_bytes(&key.to_bytes()) {
                Ok(key) => key.to_sec1_point(true).as_bytes().to_vec(),
                Err(error) => unreachable!("a DHKEM(P-256) key is a point: {error}"),
            },
            Public::Sm2(key) => key.to_sec1_point(true).as_bytes().to_vec(),
        };
        match PublicKey::from_sec1(self.suite(), &point) {
            Some(key) => key,
            None => unreachable!("a public key is a point that is not at infinity"),
        }
    }

    /// Wraps `key` so that the owner of this key can open it. A key of another suite has no wrap here.
    pub fn wrap(&self, key: &EpochKey) -> Result<WrappedKey, OpenError> {
        if key.suite() != self.suite() {
            return Err(OpenError::Form);
        }
        let associated = associated(key.object(), key.epoch());
        match &self.0 {
            Public::P256(public) => {
                let (enc, ciphertext) = hpke::single_shot_seal::<AesGcm256, HkdfSha256, Kem256>(
                    &OpModeS::Base,
                    public,
                    INFO,
                    key.secret(),
                    &associated,
                )
                .map_err(|_| OpenError::Form)?;
                Ok(WrappedKey {
                    enc: enc.to_bytes().to_vec(),
                    ciphertext,
                })
            }
            Public::Sm2(public) => wrap::seal(public, key.secret(), INFO, &associated),
        }
    }
}

/// A wrap of one object and epoch opens for no other.
fn associated(object: &str, epoch: u64) -> Vec<u8> {
    encode(&(object, epoch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_reader_opens_a_wrap_and_only_for_its_object() {
        for suite in Suite::ALL {
            only_the_reader_opens(suite);
        }
    }

    fn only_the_reader_opens(suite: Suite) {
        let generate = || SealingKey::generate_of(suite);
        let (reader, other) = (generate(), generate());
        let key = EpochKey::generate(suite, "press-1", 7).unwrap();
        let wrapped = reader.public().wrap(&key).unwrap();
        let opened = reader.unwrap("press-1", 7, &wrapped).unwrap();
        assert_eq!(opened.secret(), key.secret());
        assert!(other.unwrap("press-1", 7, &wrapped).is_err());
        assert!(reader.unwrap("press-2", 7, &wrapped).is_err());
        assert!(reader.unwrap("press-1", 8, &wrapped).is_err());
        for byte in 0..wrapped.enc.len() + wrapped.ciphertext.len() {
            let mut changed = wrapped.clone();
            let mut bytes = changed.enc.iter_mut().chain(&mut changed.ciphertext);
            *bytes.nth(byte).unwrap() ^= 1;
            assert!(
                reader.unwrap("press-1", 7, &changed).is_err(),
                "byte {byte}"
            );
        }
        for stranger in Suite::ALL.into_iter().filter(|s| *s != suite) {
            let stranger = SealingKey::generate_of(stranger);
            assert!(stranger.public().wrap(&key).is_err());
            assert!(stranger.unwrap("press-1", 7, &wrapped).is_err());
        }
    }

    #[test]
    fn a_saved_key_opens_what_the_first_one_could() {
        for suite in Suite::ALL {
            saved_opens(suite);
        }
    }

    fn saved_opens(suite: Suite) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sealing.key");
        let first = SealingKey::generate_of(suite);
        first.save(&path).unwrap();
        let again = SealingKey::load(&path).unwrap();
        let key = EpochKey::generate(suite, "a", 1).unwrap();
        let wrapped = first.public().wrap(&key).unwrap();
        assert!(again.unwrap("a", 1, &wrapped).is_ok());
        let public = SealingPublicKey::from_compressed(&first.public().compressed()).unwrap();
        let wrapped = public.wrap(&key).unwrap();
        assert!(again.unwrap("a", 1, &wrapped).is_ok());
        assert!(SealingPublicKey::from_compressed(&PublicKey([9; 33])).is_err());
    }
}
