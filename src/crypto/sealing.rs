//! Wrapping epoch keys to readers: HPKE (RFC 9180), base mode, DHKEM(P-256, HKDF-SHA256),
//! HKDF-SHA256, AES-256-GCM.
//!
//! The key that opens wraps is not the key that signs: a hub restored from a backup gets a new
//! signing key, and must still read its data.

use super::envelope::{EpochKey, OpenError};
use super::key_file::{self, KeyFileError};
use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::DhP256HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use p256::SecretKey;
use p256::elliptic_curve::Generate;
use p256::elliptic_curve::sec1::ToSec1Point;
use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding};
use std::path::Path;
use weighbridge_verifier::{PublicKey, encode};
use zeroize::Zeroizing;

type Kem256 = DhP256HkdfSha256;

const INFO: &[u8] = b"weighbridge/wrap/v1";

/// A reader's private key; wiped from memory when dropped.
pub struct SealingKey {
    secret: SecretKey,
    private: <Kem256 as Kem>::PrivateKey,
    public: SealingPublicKey,
}

/// A reader's public key.
#[derive(Clone)]
pub struct SealingPublicKey(<Kem256 as Kem>::PublicKey);

/// An epoch key that one reader can open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// The encapsulated key (uncompressed point, 65 bytes).
    pub enc: Vec<u8>,
    /// The sealed secret, 32 bytes and a tag.
    pub ciphertext: Vec<u8>,
}

impl SealingKey {
    /// A new key from the operating system's randomness.
    pub fn generate() -> Self {
        Self::new(SecretKey::generate())
    }

    fn new(secret: SecretKey) -> Self {
        let bytes = Zeroizing::new(<[u8; 32]>::from(secret.to_bytes()));
        let Ok(private) = <Kem256 as Kem>::PrivateKey::from_bytes(bytes.as_slice()) else {
            unreachable!("a P-256 secret key is a DHKEM(P-256) private key");
        };
        let public = SealingPublicKey(Kem256::sk_to_pk(&private));
        Self {
            secret,
            private,
            public,
        }
    }

    /// Reads the key from a PKCS#8 PEM file of mode 0600.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let pem = key_file::read(path)?;
        let secret = SecretKey::from_pkcs8_pem(&pem).map_err(|_| KeyFileError::Form {
            path: path.to_owned(),
        })?;
        Ok(Self::new(secret))
    }

    /// Writes the key to a new file of mode 0600.
    pub fn save(&self, path: &Path) -> Result<(), KeyFileError> {
        let pem = self
            .secret
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|_| KeyFileError::Form {
                path: path.to_owned(),
            })?;
        key_file::write(path, &pem)
    }

    /// The public half.
    pub fn public(&self) -> &SealingPublicKey {
        &self.public
    }

    /// Opens a wrap made for this key.
    pub fn unwrap(
        &self,
        object: &str,
        epoch: u64,
        wrapped: &WrappedKey,
    ) -> Result<EpochKey, OpenError> {
        let enc =
            <Kem256 as Kem>::EncappedKey::from_bytes(&wrapped.enc).map_err(|_| OpenError::Form)?;
        let secret = hpke::single_shot_open::<AesGcm256, HkdfSha256, Kem256>(
            &OpModeR::Base,
            &self.private,
            &enc,
            INFO,
            &wrapped.ciphertext,
            &associated(object, epoch),
        )
        .map(Zeroizing::new)
        .map_err(|_| OpenError::Authentication)?;
        let secret = secret.as_slice().try_into().map_err(|_| OpenError::Form)?;
        Ok(EpochKey::from_secret(object, epoch, secret))
    }
}

impl SealingPublicKey {
    /// Reads the key from its compressed point.
    pub fn from_compressed(key: &PublicKey) -> Result<Self, OpenError> {
        let point = p256::PublicKey::from_sec1_bytes(&key.0).map_err(|_| OpenError::Form)?;
        let bytes = point.to_sec1_point(false);
        <Kem256 as Kem>::PublicKey::from_bytes(bytes.as_bytes())
            .map(Self)
            .map_err(|_| OpenError::Form)
    }

    /// The key as a compressed point, which is how files and people write it.
    pub fn compressed(&self) -> PublicKey {
        let point = match p256::PublicKey::from_sec1_bytes(&self.0.to_bytes()) {
            Ok(key) => key.to_sec1_point(true),
            Err(error) => unreachable!("a DHKEM(P-256) key is a point: {error}"),
        };
        let mut compressed = [0; 33];
        compressed.copy_from_slice(point.as_bytes());
        PublicKey(compressed)
    }

    /// Wraps `key` so that the owner of this key can open it.
    pub fn wrap(&self, key: &EpochKey) -> Result<WrappedKey, OpenError> {
        let (enc, ciphertext) = hpke::single_shot_seal::<AesGcm256, HkdfSha256, Kem256>(
            &OpModeS::Base,
            &self.0,
            INFO,
            key.secret(),
            &associated(key.object(), key.epoch()),
        )
        .map_err(|_| OpenError::Form)?;
        Ok(WrappedKey {
            enc: enc.to_bytes().to_vec(),
            ciphertext,
        })
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
        let (reader, other) = (SealingKey::generate(), SealingKey::generate());
        let key = EpochKey::generate("press-1", 7).unwrap();
        let wrapped = reader.public().wrap(&key).unwrap();
        let opened = reader.unwrap("press-1", 7, &wrapped).unwrap();
        assert_eq!(opened.secret(), key.secret());
        assert!(other.unwrap("press-1", 7, &wrapped).is_err());
        assert!(reader.unwrap("press-2", 7, &wrapped).is_err());
        assert!(reader.unwrap("press-1", 8, &wrapped).is_err());
    }

    #[test]
    fn a_saved_key_opens_what_the_first_one_could() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sealing.key");
        let first = SealingKey::generate();
        first.save(&path).unwrap();
        let again = SealingKey::load(&path).unwrap();
        let key = EpochKey::generate("a", 1).unwrap();
        let wrapped = first.public().wrap(&key).unwrap();
        assert!(again.unwrap("a", 1, &wrapped).is_ok());
        let public = SealingPublicKey::from_compressed(&first.public().compressed()).unwrap();
        let wrapped = public.wrap(&key).unwrap();
        assert!(again.unwrap("a", 1, &wrapped).is_ok());
        assert!(SealingPublicKey::from_compressed(&PublicKey([9; 33])).is_err());
    }
}
