//! Epoch keys: what a device's batches are sealed under, and where the salts of their leaves come from.
//!
//! One random 32-byte secret per object and epoch. Two keys are derived from it with labels of their
//! own: one seals, one makes salts, so no salt ever shares a key stream with the ciphertext. Of suite
//! `nist` that is HKDF-SHA-256, AES-256-GCM and AES-256 on distinct blocks; of suite `guomi` HKDF-SM3,
//! SM4-GCM and SM4. Messages are counted; the count is the nonce.
//! A hub makes new epoch keys at every start and never reuses an old one for sealing, so a count
//! that was used before a crash is never used again under the same key.

use super::symmetric::{Salter, Sealer, Secret};
use aes_gcm::Nonce;
use aes_gcm::aead::Payload;
use std::sync::atomic::{AtomicU64, Ordering};
use weighbridge_verifier::{Salt, Suite, encode};
use zeroize::Zeroizing;

/// Version byte of the sealed form, which has the suite's mark: `version ‖ count (u64, little-endian) ‖ ciphertext ‖ tag`.
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
    suite: Suite,
    sealer: Sealer,
    salter: Salter,
    count: AtomicU64,
}

impl EpochKey {
    /// A new key from the operating system's randomness.
    pub fn generate(suite: Suite, object: &str, epoch: u64) -> Result<Self, getrandom::Error> {
        let mut secret = Zeroizing::new([0; 32]);
        getrandom::fill(secret.as_mut())?;
        Ok(Self::from_secret(suite, object, epoch, &secret))
    }

    /// The key that a reader unwrapped.
    pub fn from_secret(suite: Suite, object: &str, epoch: u64, bytes: &[u8; 32]) -> Self {
        let secret = Secret { suite, bytes };
        let info = |label: &str| encode(&(label, object, epoch));
        Self {
            object: object.to_owned(),
            epoch,
            secret: Zeroizing::new(*bytes),
            suite,
            sealer: Sealer::new(&secret, &info("weighbridge/seal/v1")),
            salter: Salter::new(&secret, &info("weighbridge/salt/v1")),
            count: AtomicU64::new(0),
        }
    }

    /// The suite of the chain it seals for.
    pub fn suite(&self) -> Suite {
        self.suite
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
        let ciphertext = self.sealer.seal(&nonce(number.0), payload);
        let mut sealed = Vec::with_capacity(HEADER + ciphertext.len());
        sealed.push(self.version());
        sealed.extend(number.0.to_le_bytes());
        sealed.extend(ciphertext);
        sealed
    }

    /// Opens sealed bytes: the message's number and its plaintext.
    pub fn open(&self, sealed: &[u8]) -> Result<(u64, Zeroizing<Vec<u8>>), OpenError> {
        let (version, rest) = sealed.split_first().ok_or(OpenError::Form)?;
        let (count, ciphertext) = rest.split_first_chunk().ok_or(OpenError::Form)?;
        if *version != self.version() || ciphertext.len() < TAG {
            return Err(OpenError::Form);
        }
        let number = u64::from_le_bytes(*count);
        let payload = Payload {
            msg: ciphertext,
            aad: &self.associated(number),
        };
        let plaintext = self.sealer.open(&nonce(number), payload);
        let plaintext = plaintext.ok_or(OpenError::Authentication)?;
        Ok((number, Zeroizing::new(plaintext)))
    }

    /// The salts of the first `count` leaves of message `number`.
    pub fn salts(&self, number: u64, count: usize) -> Vec<Salt> {
        let mut salts: Vec<Salt> = (0..count as u64)
            .map(|position| salt_input(number, position))
            .collect();
        self.salter.salt(&mut salts);
        salts
    }

    fn version(&self) -> u8 {
        self.suite.marked(SEALED_VERSION)
    }

    fn associated(&self, number: u64) -> Vec<u8> {
        encode(&(self.version(), &self.object, self.epoch, number))
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
        for suite in Suite::ALL {
            opens_what_it_sealed(suite);
        }
    }

    fn opens_what_it_sealed(suite: Suite) {
        let key = EpochKey::generate(suite, "press-1", 3).unwrap();
        let again = EpochKey::from_secret(suite, "press-1", 3, key.secret());
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
        let stranger = EpochKey::from_secret(suite, "press-2", 3, key.secret());
        assert_eq!(stranger.open(&sealed), Err(OpenError::Authentication));
        let other = Suite::ALL.into_iter().find(|s| *s != suite).unwrap();
        let stranger = EpochKey::from_secret(other, "press-1", 3, key.secret());
        assert_eq!(stranger.open(&sealed), Err(OpenError::Form));
    }

    #[test]
    fn messages_and_salts_never_repeat() {
        for suite in Suite::ALL {
            nothing_repeats(suite);
        }
    }

    fn nothing_repeats(suite: Suite) {
        let key = EpochKey::generate(suite, "press-1", 1).unwrap();
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
