//! The precommits that decided a value.

use crate::engine::Faults;
use crate::validators::{MAX_VALIDATORS, Validators};
use std::collections::BTreeSet;
use weighbridge_verifier::signature::{Signature, SignatureError};
use weighbridge_verifier::vote::Vote;
use weighbridge_verifier::{DecodeError, Hash, PublicKey, Suite, decode, encode};

/// Most signatures of a certificate.
pub const MAX_SIGNATURES: usize = MAX_VALIDATORS;

/// Proof of a decision: who precommitted to it, in one round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Height of the decision.
    pub height: u64,
    /// Round of the precommits.
    pub round: u32,
    /// The value.
    pub id: Hash,
    /// The signatures, by key.
    pub signatures: Vec<(PublicKey, Signature)>,
}

/// Why a certificate proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The bytes are no certificate.
    #[error(transparent)]
    Form(#[from] DecodeError),
    /// Signatures are not strictly in the order of their keys, or too many.
    #[error("the signatures of the certificate are not in the order of their keys")]
    Order,
    /// Somebody signed who may not.
    #[error("{0} signed and is no validator of this height")]
    Signer(PublicKey),
    /// A signature is wrong.
    #[error("the signature of {0} does not hold: {1}")]
    Signature(PublicKey, SignatureError),
    /// Too little power signed.
    #[error("{got} of {needed} needed votes signed")]
    Quorum {
        /// Power that signed.
        got: u64,
        /// Power needed.
        needed: u64,
    },
}

impl Certificate {
    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(&(self.height, self.round, self.id, &self.signatures))
    }

    /// Reads canonical bytes, and nothing else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CertificateError> {
        let (height, round, id, signatures) = decode("certificate", bytes)?;
        let certificate = Self {
            height,
            round,
            id,
            signatures,
        };
        match certificate.is_ordered() {
            true => Ok(certificate),
            false => Err(CertificateError::Order),
        }
    }

    fn is_ordered(&self) -> bool {
        let keys: BTreeSet<_> = self.signatures.iter().map(|(key, _)| *key).collect();
        let in_order = keys.iter().eq(self.signatures.iter().map(|(key, _)| key));
        in_order && self.signatures.len() <= MAX_SIGNATURES
    }

    /// What every signature is over.
    pub fn message(&self, chain: &str) -> Hash {
        Vote::precommit(self.height, self.round, self.id).message(Suite::Nist, chain)
    }

    /// Checks that enough of `validators`, who are those of its height, decided this.
    pub fn verify(
        &self,
        chain: &str,
        validators: &Validators,
        faults: Faults,
    ) -> Result<(), CertificateError> {
        if !self.is_ordered() {
            return Err(CertificateError::Order);
        }
        let message = self.message(chain);
        let mut got = 0;
        for (key, signature) in &self.signatures {
            let known = validators.get(key);
            let validator = known.ok_or(CertificateError::Signer(*key))?;
            let held = key.verify(&message, signature);
            held.map_err(|e| CertificateError::Signature(*key, e))?;
            got += validator.power;
        }
        let needed = validators.quorum(faults);
        match got >= needed {
            true => Ok(()),
            false => Err(CertificateError::Quorum { got, needed }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::malachite::test_keys::{TestKey, public};
    use crate::validators::Validator;

    fn decided(signers: &[u8]) -> Certificate {
        let mut certificate = Certificate {
            height: 9,
            round: 1,
            id: Hash([3; 32]),
            signatures: Vec::new(),
        };
        let message = certificate.message("hall");
        for signer in signers {
            let signature = TestKey::new(*signer).signature(&message);
            certificate.signatures.push((public(*signer), signature));
        }
        certificate.signatures.sort_by_key(|(key, _)| *key);
        certificate
    }

    fn four() -> Validators {
        Validators::new((1..=4).map(|n| Validator::new(public(n))).collect()).unwrap()
    }

    #[test]
    fn three_of_four_decide_and_two_do_not() {
        let set = four();
        let faults = Faults::Byzantine;
        decided(&[1, 2, 4]).verify("hall", &set, faults).unwrap();
        decided(&[1, 2, 3, 4]).verify("hall", &set, faults).unwrap();
        let few = decided(&[1, 2]).verify("hall", &set, faults);
        let quorum = CertificateError::Quorum { got: 2, needed: 3 };
        assert_eq!(few.unwrap_err().to_string(), quorum.to_string());
        let stranger = decided(&[1, 2, 3, 5]).verify("hall", &set, faults);
        assert!(matches!(stranger, Err(CertificateError::Signer(_))));
        let elsewhere = decided(&[1, 2, 3]).verify("yard", &set, faults);
        assert!(matches!(elsewhere, Err(CertificateError::Signature(..))));
        for change in [
            |c: &mut Certificate| c.height += 1,
            |c: &mut Certificate| c.round += 1,
            |c: &mut Certificate| c.id.0[0] ^= 1,
        ] {
            let mut changed = decided(&[1, 2, 3]);
            change(&mut changed);
            let held = changed.verify("hall", &set, faults);
            assert!(matches!(held, Err(CertificateError::Signature(..))));
        }
        let mut twice = decided(&[1, 2, 3]);
        twice.signatures[1] = twice.signatures[0];
        let held = twice.verify("hall", &set, faults);
        assert!(matches!(held, Err(CertificateError::Order)));
    }

    #[test]
    fn a_certificate_has_one_form() {
        let certificate = decided(&[1, 2, 3]);
        let bytes = certificate.to_bytes();
        assert_eq!(Certificate::from_bytes(&bytes).unwrap(), certificate);
        assert_eq!(bytes.len(), 8 + 4 + 32 + 4 + 3 * (33 + 64));
        for length in 0..bytes.len() {
            assert!(Certificate::from_bytes(&bytes[..length]).is_err());
        }
        assert!(Certificate::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
        let mut swapped = certificate;
        swapped.signatures.swap(0, 1);
        let read = Certificate::from_bytes(&swapped.to_bytes());
        assert!(matches!(read, Err(CertificateError::Order)));
    }
}
