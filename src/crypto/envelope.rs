//! Epoch keys: what a device's batches are sealed under, and where the salts of their leaves come from.
//!
//! One random 32-byte secret per object and epoch. Two keys are derived from it by HKDF-SHA-256 with
//! labels of their own: one for AES-256-GCM, one for the salt PRF (AES-256 on distinct blocks), so no
//! salt ever shares a key stream with the ciphertext. Messages are counted; the count is the nonce.
//! A hub makes new epoch keys at every start and never reuses an old one for sealing, so a count
//! that was used before a crash is never used again under the same key.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::aes::Aes256;
use aes_gcm::aes::cipher::{Array, BlockCipherEncrypt};
use aes_gcm::{Aes256Gcm, Nonce};
use hkdf::Hkdf;
use sha2::Sha256;
use std::sync::atomic::{AtomicU64, Ordering};
use weighbridge_verifier::{Salt, encode};
use zeroize::Zeroizing;

/// Version byte of the sealed form: `version ‖ count (u64, little-endian) ‖ ciphertext ‖ tag`.
const SEALED_VERSION: u8 = 1;
const HEADER: usize = 9;
const TAG: usize = 16;

/// Why sealed bytes cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Shorter than any sealed message, or of another version.
    #[error("the bytes are not of the sealed form")]
    Form,
    /// The key is another one, or the bytes were changed.
    #[error("the sealed bytes do not open under this key")]
    Authentication,
}

/// The key of one object (a device) for one epoch.
pub struct EpochKey {
    object: String,
    epoch: u64,
    secret: Zeroizing<[u8; 32]>,
    cipher: Aes256Gcm,
    salts: Aes256,
    count: AtomicU64,
}

impl EpochKey {
    /// A new key from the operating system's randomness.
    pub fn generate(object: &str, epoch: u64) -> Result<Self, getrandom::Error> {
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(secret.as_mut())?;
        Ok(Self::from_secret(object, epoch, &secret))
    }

    /// The key that a reader unwrapped.
    pub fn from_secret(object: &str, epoch: u64, secret: &[u8; 32]) -> Self {
        let derive = |label: &str| {
            let mut key = Zeroizing::new([0; 32]);
            let info = encode(&(label, object, epoch));
            match Hkdf::<Sha256>::new(None, secret).expand(&info, key.as_mut()) {
                Ok(()) => key,
                Err(e) => unreachable!("HKDF gives 32 bytes: {e}"),
            }
        };
        Self {
            object: object.to_owned(),
            epoch,
            secret: Zeroizing::new(*secret),
            cipher: Aes256Gcm::new(&(*derive("weighbridge/seal/v1")).into()),
            salts: Aes256::new(&(*derive("weighbridge/salt/v1")).into()),
            count: AtomicU64::new(0),
        }
    }

    /// What the key belongs to.
    pub fn object(&self) -> &str {
        &self.object
    }

    /// Its epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How many messages were counted under it.
    pub fn used(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// The number of the next message. Each number seals once.
    pub fn next_message(&self) -> MessageNumber {
        MessageNumber(self.count.fetch_add(1, Ordering::Relaxed))
    }

    /// Seals `plaintext` as message `number`.
    pub fn seal(&self, number: MessageNumber, plaintext: &[u8]) -> Vec<u8> {
        let payload = Payload {
            msg: plaintext,
            aad: &self.associated(number.0),
        };
        let Ok(ciphertext) = self.cipher.encrypt(&nonce(number.0), payload) else {
            unreachable!("AES-GCM seals up to 64 GiB, a batch is far below");
        };
        let mut sealed = Vec::with_capacity(HEADER + ciphertext.len());
        sealed.push(SEALED_VERSION);
        sealed.extend(number.0.to_le_bytes());
        sealed.extend(ciphertext);
        sealed
    }

    /// Opens sealed bytes: the message's number and its plaintext.
    pub fn open(&self, sealed: &[u8]) -> Result<(u64, Zeroizing<Vec<u8>>), OpenError> {
        let (version, rest) = sealed.split_first().ok_or(OpenError::Form)?;
        let (count, ciphertext) = rest.split_first_chunk().ok_or(OpenError::Form)?;
        if *version != SEALED_VERSION || ciphertext.len() < TAG {
            return Err(OpenError::Form);
        }
        let number = u64::from_le_bytes(*count);
        let payload = Payload {
            msg: ciphertext,
            aad: &self.associated(number),
        };
        let plaintext = self
            .cipher
            .decrypt(&nonce(number), payload)
            .map_err(|_| OpenError::Authentication)?;
        Ok((number, Zeroizing::new(plaintext)))
    }

    /// The salts of the first `count` leaves of message `number`.
    pub fn salts(&self, number: u64, count: usize) -> Vec<Salt> {
        let mut salts: Vec<Salt> = (0..count as u64)
            .map(|position| salt_input(number, position))
            .collect();
        self.salts
            .encrypt_blocks(Array::cast_slice_from_core_mut(&mut salts));
        salts
    }

    fn associated(&self, number: u64) -> Vec<u8> {
        encode(&(SEALED_VERSION, &self.object, self.epoch, number))
    }
}

/// The number of one message under an epoch key; it cannot be copied, so it seals once.
#[derive(Debug)]
pub struct MessageNumber(u64);

impl MessageNumber {
    /// The number, for the salts that go with the message.
    pub fn get(&self) -> u64 {
        self.0
    }
}

fn nonce(number: u64) -> Nonce<aes_gcm::aead::consts::U12> {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&number.to_be_bytes());
    nonce.into()
}

fn salt_input(number: u64, position: u64) -> Salt {
    let mut block = [0; 16];
    block[..8].copy_from_slice(&number.to_be_bytes());
    block[8..].copy_from_slice(&position.to_be_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_what_it_sealed_and_nothing_else() {
        let key = EpochKey::generate("press-1", 3).unwrap();
        let again = EpochKey::from_secret("press-1", 3, key.secret());
        let number = key.next_message();
        let count = number.get();
        let sealed = key.seal(number, b"samples");
        let (opened, plain) = again.open(&sealed).unwrap();
        assert_eq!((opened, plain.as_slice()), (count, &b"samples"[..]));
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(again.open(&changed).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(again.open(&sealed[..length]).is_err());
        }
        let stranger = EpochKey::from_secret("press-2", 3, key.secret());
        assert_eq!(stranger.open(&sealed), Err(OpenError::Authentication));
    }

    #[test]
    fn messages_and_salts_never_repeat() {
        let key = EpochKey::generate("press-1", 1).unwrap();
        let a = key.next_message();
        let b = key.next_message();
        let mut all = key.salts(a.get(), 100);
        all.extend(key.salts(b.get(), 100));
        let first = all.clone();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 200);
        assert_eq!(first[..50], key.salts(a.get(), 50)[..]);
        assert_ne!(key.seal(a, b"x")[HEADER..], key.seal(b, b"x")[HEADER..]);
    }
}
