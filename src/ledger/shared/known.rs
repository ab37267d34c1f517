//! Signatures of records that were checked before anybody had to wait for it.

use super::carried::Carried;
use std::collections::BTreeMap;
use weighbridge_verifier::{Hash, PublicKey, Signature, SignatureCheck, SignatureError, Suite};

/// Checks as another one does, and remembers which signatures of a run of records hold.
pub struct Known<'a> {
    check: &'a dyn SignatureCheck,
    /// Whose they are, and over what.
    held: BTreeMap<[u8; 64], (PublicKey, Hash)>,
}

impl<'a> Known<'a> {
    /// Checks the records of a run by the key that their hub signs by, up to the first that does not hold: what
    /// becomes of that one, and of those after a change of keys, is found out when they are taken.
    pub fn of(run: &[Carried], key: Option<PublicKey>, check: &'a dyn SignatureCheck) -> Self {
        let mut held = BTreeMap::new();
        for Carried { record, .. } in run {
            let (suite, signed) = (record.body.suite(), record.body.preimage());
            let Some(key) = key.filter(|key| {
                let held = check.check_preimage(key, (suite, &signed), &record.signature);
                key.suite() == suite && held.is_ok()
            }) else {
                break;
            };
            held.insert(record.signature.0, (key, suite.hash(&[&signed])));
        }
        Self { check, held }
    }
}

impl SignatureCheck for Known<'_> {
    fn check(
        &self,
        key: &PublicKey,
        message: &Hash,
        signature: &Signature,
    ) -> Result<(), SignatureError> {
        match self.held.get(&signature.0) {
            Some(held) if *held == (*key, *message) => Ok(()),
            _ => self.check.check(key, message, signature),
        }
    }

    fn check_preimage(
        &self,
        key: &PublicKey,
        (suite, preimage): (Suite, &[u8]),
        signature: &Signature,
    ) -> Result<(), SignatureError> {
        match self.held.get(&signature.0) {
            Some(held) if *held == (*key, suite.hash(&[preimage])) => Ok(()),
            _ => self.check.check_preimage(key, (suite, preimage), signature),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl SignatureCheck for Nothing {
        fn check(&self, _: &PublicKey, _: &Hash, _: &Signature) -> Result<(), SignatureError> {
            Err(SignatureError::Mismatch)
        }
    }

    #[test]
    fn a_signature_is_known_for_its_key_and_its_message_only() {
        let suite = Suite::Nist;
        let (key, other) = (PublicKey([2; 33]), PublicKey([3; 33]));
        let (signature, hash) = (Signature([7; 64]), suite.hash(&[b"signed"]));
        let known = Known {
            check: &Nothing,
            held: BTreeMap::from([(signature.0, (key, hash))]),
        };
        let cases = [
            (key, &b"signed"[..], signature, true),
            (other, b"signed", signature, false),
            (key, b"something else", signature, false),
            (key, b"signed", Signature([8; 64]), false),
        ];
        for (key, signed, signature, holds) in cases {
            let whole = known.check_preimage(&key, (suite, signed), &signature);
            assert_eq!(whole.is_ok(), holds);
            let hashed = known.check(&key, &suite.hash(&[signed]), &signature);
            assert_eq!(hashed.is_ok(), holds);
        }
    }
}
