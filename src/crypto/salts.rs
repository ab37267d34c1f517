//! Salts of a batch that was hashed elsewhere: an edge node makes them, the hub must know them.
//!
//! A hub's own batches get their salts from the device's epoch key. An edge node cannot: were its key
//! also the one that a hub seals under, two hubs that took the same batch would use one nonce twice.
//! So the edge draws a secret of its own for every batch, and it travels and rests inside of what is
//! sealed (ADR 13).

use super::symmetric::{Salter, Secret};
use weighbridge_verifier::{Salt, Suite};
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

    /// The salts of the first `count` leaves, for a chain of this suite.
    pub fn salts(&self, suite: Suite, count: usize) -> Vec<Salt> {
        let bytes = &*self.0;
        let salter = Salter::new(&Secret { suite, bytes }, b"weighbridge/batch-salt/v1");
        let block = |position: u64| {
            let mut block = [0; 16];
            block[8..].copy_from_slice(&position.to_be_bytes());
            block
        };
        let mut salts: Vec<Salt> = (0..count as u64).map(block).collect();
        salter.salt(&mut salts);
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
        let mut all = Vec::new();
        for suite in Suite::ALL {
            let salts = seed.salts(suite, 100);
            assert_eq!(again.salts(suite, 50), salts[..50]);
            all.extend(salts);
            all.extend(SaltSeed::generate().unwrap().salts(suite, 100));
        }
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 400);
        assert!(!format!("{seed:?}").contains(char::is_numeric));
    }
}
