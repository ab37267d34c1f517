//! Salts of a batch that was hashed elsewhere: an edge node makes them, the hub must know them.
//!
//! A hub's own batches get their salts from the device's epoch key. An edge node cannot: were its key
//! also the one that a hub seals under, two hubs that took the same batch would use one nonce twice.
//! So the edge draws a secret of its own for every batch, and it travels and rests inside of what is
//! sealed (ADR 13).

use aes_gcm::aead::KeyInit;
use aes_gcm::aes::Aes256;
use aes_gcm::aes::cipher::{Array, BlockCipherEncrypt};
use hkdf::Hkdf;
use sha2::Sha256;
use weighbridge_verifier::Salt;
use zeroize::Zeroizing;

/// The secret that the salts of one batch come from.
#[derive(Clone, PartialEq, Eq)]
pub struct SaltSeed(Zeroizing<[u8; 32]>);

impl SaltSeed {
    /// A new secret from the operating system's randomness.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut())?;
        Ok(Self(seed))
    }

    /// The secret that was read from a sealed batch.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Its bytes, for the sealed batch.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The salts of the first `count` leaves.
    pub fn salts(&self, count: usize) -> Vec<Salt> {
        let mut key = Zeroizing::new([0; 32]);
        let derived = Hkdf::<Sha256>::new(None, self.0.as_slice())
            .expand(b"weighbridge/batch-salt/v1", key.as_mut());
        if let Err(error) = derived {
            unreachable!("HKDF gives 32 bytes: {error}");
        }
        let block = |position: u64| {
            let mut block = [0; 16];
            block[8..].copy_from_slice(&position.to_be_bytes());
            block
        };
        let mut salts: Vec<Salt> = (0..count as u64).map(block).collect();
        Aes256::new(&(*key).into()).encrypt_blocks(Array::cast_slice_from_core_mut(&mut salts));
        salts
    }
}

impl std::fmt::Debug for SaltSeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SaltSeed(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_salts_again_and_no_two_alike() {
        let seed = SaltSeed::generate().unwrap();
        let again = SaltSeed::from_bytes(*seed.as_bytes());
        let mut salts = seed.salts(100);
        assert_eq!(again.salts(50), salts[..50]);
        salts.extend(SaltSeed::generate().unwrap().salts(100));
        salts.sort_unstable();
        salts.dedup();
        assert_eq!(salts.len(), 200);
        assert!(!format!("{seed:?}").contains(char::is_numeric));
    }
}
