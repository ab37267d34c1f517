//! P-256 signatures checked by `ring`, for a hub that checks every record of every other one.
//!
//! It takes what the verifier takes and nothing else: `ring` also takes signatures with a high s, so that is looked at
//! here; and what it does not take is left to the verifier, which says why.

use parking_lot::RwLock;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use std::collections::BTreeMap;
use weighbridge_verifier::{
    Hash, KeyCache, PublicKey, Signature, SignatureCheck, SignatureError, Suite,
};

/// More keys than this are not kept: what is checked comes from outside.
const KEYS_KEPT: usize = 1_024;

/// Checks signatures as [`KeyCache`] does, several times as quickly where what was signed is at hand.
#[derive(Debug, Default)]
pub struct QuickCheck {
    thorough: KeyCache,
    points: RwLock<BTreeMap<PublicKey, Vec<u8>>>,
}

impl QuickCheck {
    fn holds(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        let parsed = p256::ecdsa::Signature::from_slice(&signature.0);
        if !parsed.is_ok_and(|parsed| parsed.normalize_s() == parsed) {
            return false;
        }
        let check = |point: &Vec<u8>| {
            let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
            key.verify(message, &signature.0).is_ok()
        };
        if let Some(point) = self.points.read().get(key) {
            return check(point);
        }
        let Some(point) = key.uncompressed() else {
            return false;
        };
        let held = check(&point);
        let mut points = self.points.write();
        if points.len() < KEYS_KEPT {
            points.insert(*key, point);
        }
        held
    }
}

impl SignatureCheck for QuickCheck {
    fn check(
        &self,
        key: &PublicKey,
        message: &Hash,
        signature: &Signature,
    ) -> Result<(), SignatureError> {
        self.thorough.check(key, message, signature)
    }

    fn check_preimage(
        &self,
        key: &PublicKey,
        (suite, preimage): (Suite, &[u8]),
        signature: &Signature,
    ) -> Result<(), SignatureError> {
        let quick = suite == Suite::Nist && key.suite() == suite;
        if quick && self.holds(key, preimage, signature) {
            return Ok(());
        }
        self.check(key, &suite.hash(&[preimage]), signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Identity, Signer};

    /// A record that one hub takes, every hub and every auditor must take.
    #[test]
    fn it_takes_the_same_signatures_as_the_verifier() {
        let (quick, identity) = (QuickCheck::default(), Identity::generate("hub"));
        let other = Identity::generate("other").public_key();
        let (key, signed) = (identity.public_key(), b"what was signed");
        let good = identity.sign_preimage(signed);
        let mut cases = vec![good, identity.sign_preimage(b"something else")];
        let parsed = p256::ecdsa::Signature::from_slice(&good.0).unwrap();
        let (r, s) = parsed.split_scalars();
        let high = p256::ecdsa::Signature::from_scalars(r, -*s).unwrap();
        cases.push(Signature(high.to_bytes().into()));
        for bit in 0..512 {
            let mut changed = good;
            changed.0[bit / 8] ^= 1 << (bit % 8);
            cases.push(changed);
        }
        let mut held = 0;
        for signature in cases {
            for key in [key, other] {
                let here = quick.check_preimage(&key, (Suite::Nist, signed), &signature);
                let there = key.verify(&Suite::Nist.hash(&[signed]), &signature);
                assert_eq!(here, there);
                held += usize::from(here.is_ok());
            }
        }
        assert_eq!(held, 1);
    }

    #[test]
    fn keys_of_the_other_suite_are_left_to_the_verifier() {
        let (quick, identity) = (
            QuickCheck::default(),
            Identity::generate_of(Suite::Guomi, "hub"),
        );
        let (key, signed) = (identity.public_key(), b"what was signed");
        let signature = identity.sign_preimage(signed);
        assert!(
            quick
                .check_preimage(&key, (Suite::Guomi, signed), &signature)
                .is_ok()
        );
        let wrong = quick.check_preimage(&key, (Suite::Guomi, b"else"), &signature);
        assert_eq!(wrong, Err(SignatureError::Mismatch));
    }
}
