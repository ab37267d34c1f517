//! Proof that somebody has a key: an ECDSA signature by P-256 with SHA-256, as every toolkit makes it.

use super::pinned_tls::spki;
use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{Signature, VerifyingKey};
use weighbridge_verifier::{Hash, PublicKey, sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Whether `signature` is `key`'s over `message`; as `r ‖ s`, or in ASN.1's form.
///
/// Unlike a record's, it may have a high s: it is looked at once and not kept, so that a second form
/// of it harms nobody, and OpenSSL makes both.
pub fn proves(key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
    let signature = match signature.len() {
        64 => Signature::from_slice(signature),
        _ => Signature::from_der(signature),
    };
    let key = VerifyingKey::from_sec1_bytes(&key.0);
    match (key, signature) {
        (Ok(key), Ok(signature)) => key.verify(message, &signature.normalize_s()).is_ok(),
        _ => false,
    }
}

/// SHA-256 of the key as certificates have it (SubjectPublicKeyInfo); `None` when it is no key.
pub fn key_hash(key: &PublicKey) -> Option<Hash> {
    spki(key).ok().map(|der| sha256(&[&der]))
}

/// SHA-256 of the public key in a certificate (DER), as [`key_hash`] has it; `None` when it is none.
pub fn certified_key_hash(certificate: &[u8]) -> Option<Hash> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(sha256(&[parsed.public_key().raw]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Identity, Signer};

    #[test]
    fn both_forms_and_both_signs_are_taken_and_nothing_else() {
        let identity = Identity::from_byte("edge-1", 7);
        let (key, message) = (identity.public_key(), b"message".as_slice());
        let low = identity.sign(&sha256(&[message]));
        let parsed = Signature::from_slice(&low.0).unwrap();
        let (r, s) = parsed.split_scalars();
        let high = Signature::from_scalars(r.to_bytes(), (-*s).to_bytes()).unwrap();
        for signature in [parsed, high] {
            assert!(proves(&key, message, &signature.to_bytes()));
            assert!(proves(&key, message, signature.to_der().as_bytes()));
            assert!(!proves(&key, b"massage", &signature.to_bytes()));
        }
        let other = Identity::from_byte("edge-2", 8).public_key();
        assert!(!proves(&other, message, &low.0));
        assert!(!proves(&PublicKey([0; 33]), message, &low.0));
        for wrong in [&[][..], &[0; 64], &low.0[..63], &[0x30; 70]] {
            assert!(!proves(&key, message, wrong));
        }
    }

    /// RFC 6979, A.2.5, with SHA-256 and the message "sample".
    #[test]
    fn the_signature_of_the_rfc() {
        let bytes = |hex: &str| data_encoding::HEXUPPER.decode(hex.as_bytes()).unwrap();
        let x = bytes("60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6");
        // y is 7903…F299: odd.
        let key = PublicKey([&[3], &*x].concat().try_into().unwrap());
        let signature = bytes(
            "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716\
             F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8",
        );
        assert!(proves(&key, b"sample", &signature));
        assert!(!proves(&key, b"test", &signature));
    }
}
