//! The symmetric algorithms of each suite: AES-256 with HKDF-SHA-256, SM4 with HKDF-SM3.
//!
//! SM4 has keys of 16 bytes and the same block of 16 bytes; in Galois/Counter Mode its nonces and tags
//! are those of AES-GCM (RFC 8998 §2). HKDF over SM3 is RFC 5869 with HMAC-SM3.

use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::aes::Aes256;
use aes_gcm::aes::cipher::{Array, BlockCipherEncrypt};
use aes_gcm::{Aes256Gcm, AesGcm, Nonce};
use hkdf::Hkdf;
use sha2::Sha256;
use sm3::Sm3;
use sm4::Sm4;
use weighbridge_verifier::{Salt, Suite};
use zeroize::Zeroizing;

/// A secret that keys are derived from.
pub(super) struct Secret<'a> {
    /// For which suite.
    pub suite: Suite,
    /// The secret.
    pub bytes: &'a [u8; 32],
}

impl Secret<'_> {
    /// The key of `N` bytes for what `info` says.
    pub(super) fn derive<const N: usize>(&self, info: &[u8]) -> Zeroizing<[u8; N]> {
        let mut key = Zeroizing::new([0; N]);
        let derived = match self.suite {
            Suite::Nist => Hkdf::<Sha256>::new(None, self.bytes).expand(info, key.as_mut()),
            Suite::Guomi => Hkdf::<Sm3>::new(None, self.bytes).expand(info, key.as_mut()),
        };
        match derived {
            Ok(()) => key,
            Err(error) => unreachable!("HKDF gives {N} bytes: {error}"),
        }
    }
}

/// Seals messages, each under a nonce of its own.
pub(super) enum Sealer {
    Aes(Box<Aes256Gcm>),
    Sm4(Box<AesGcm<Sm4, U12>>),
}

impl Sealer {
    /// Under the key for what `info` says.
    pub(super) fn new(secret: &Secret<'_>, info: &[u8]) -> Self {
        match secret.suite {
            Suite::Nist => Self::Aes(Box::new(Aes256Gcm::new(&(*secret.derive(info)).into()))),
            Suite::Guomi => Self::Sm4(Box::new(AesGcm::new(&(*secret.derive(info)).into()))),
        }
    }

    /// Ciphertext and tag.
    pub(super) fn seal(&self, nonce: &Nonce<U12>, payload: Payload<'_, '_>) -> Vec<u8> {
        let sealed = match self {
            Self::Aes(cipher) => cipher.encrypt(nonce, payload),
            Self::Sm4(cipher) => cipher.encrypt(nonce, payload),
        };
        match sealed {
            Ok(sealed) => sealed,
            Err(_) => unreachable!("GCM seals up to 64 GiB, a batch is far below"),
        }
    }

    /// What was sealed; `None` when key, nonce, associated data or a bit of it is another.
    pub(super) fn open(&self, nonce: &Nonce<U12>, payload: Payload<'_, '_>) -> Option<Vec<u8>> {
        match self {
            Self::Aes(cipher) => cipher.decrypt(nonce, payload).ok(),
            Self::Sm4(cipher) => cipher.decrypt(nonce, payload).ok(),
        }
    }
}

/// Makes salts: the block cipher on distinct blocks, so no two are alike and none tells of another.
pub(super) enum Salter {
    Aes(Box<Aes256>),
    Sm4(Box<Sm4>),
}

impl Salter {
    /// Under the key for what `info` says.
    pub(super) fn new(secret: &Secret<'_>, info: &[u8]) -> Self {
        match secret.suite {
            Suite::Nist => Self::Aes(Box::new(Aes256::new(&(*secret.derive(info)).into()))),
            Suite::Guomi => Self::Sm4(Box::new(Sm4::new(&(*secret.derive(info)).into()))),
        }
    }

    /// Puts a salt in the place of each block.
    pub(super) fn salt(&self, blocks: &mut [Salt]) {
        let blocks = Array::cast_slice_from_core_mut(blocks);
        match self {
            Self::Aes(cipher) => cipher.encrypt_blocks(blocks),
            Self::Sm4(cipher) => cipher.encrypt_blocks(blocks),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// HKDF-SM3 has no published example, so this is RFC 5869 written out once more over the bare
    /// hash, whose examples are checked elsewhere.
    #[test]
    fn keys_of_suite_guomi_are_derived_as_the_rfc_says() {
        let hmac = |key: &[u8], message: &[u8]| {
            let mut block = [0; 64];
            block[..key.len()].copy_from_slice(key);
            let pad = |with: u8| block.map(|b| b ^ with);
            let inner = Suite::Guomi.hash(&[&pad(0x36), message]);
            Suite::Guomi.hash(&[&pad(0x5c), &inner.0]).0
        };
        let (bytes, info) = ([7; 32], b"weighbridge");
        let extracted = hmac(&[0; 32], &bytes);
        let first = hmac(&extracted, &[&info[..], &[1]].concat());
        let second = hmac(&extracted, &[&first[..], info, &[2]].concat());
        let secret = Secret {
            suite: Suite::Guomi,
            bytes: &bytes,
        };
        assert_eq!(*secret.derive::<16>(info), first[..16]);
        assert_eq!(secret.derive::<64>(info)[..], [first, second].concat());
    }
}
