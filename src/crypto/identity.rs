//! An id with a signing key.

use super::key_file::{self, KeyFileError};
use super::signer::Signer;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{Signature as EcdsaSignature, SigningKey};
use p256::elliptic_curve::Generate;
use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding, SecretDocument};
use std::path::Path;
use weighbridge_verifier::{Hash, PublicKey, Signature};

/// A hub's, edge node's or device's own signing key. The key is wiped from memory when dropped.
pub struct Identity {
    id: String,
    key: SigningKey,
    public: PublicKey,
}

impl Identity {
    /// A new key from the operating system's randomness.
    pub fn generate(id: &str) -> Self {
        Self::new(id, SigningKey::generate())
    }

    /// A key that is the same in every run, for tests.
    #[cfg(test)]
    pub(crate) fn from_byte(id: &str, byte: u8) -> Self {
        Self::new(id, SigningKey::from_slice(&[byte.max(1); 32]).unwrap())
    }

    fn new(id: &str, key: SigningKey) -> Self {
        let point = key.verifying_key().to_sec1_point(true);
        let mut public = [0; 33];
        public.copy_from_slice(point.as_bytes());
        Self {
            id: id.to_owned(),
            key,
            public: PublicKey(public),
        }
    }

    /// Reads the key of `id` from a PKCS#8 PEM file of mode 0600.
    pub fn load(path: &Path, id: &str) -> Result<Self, KeyFileError> {
        let pem = key_file::read(path)?;
        let key = SigningKey::from_pkcs8_pem(&pem).map_err(|_| KeyFileError::Form {
            path: path.to_owned(),
        })?;
        Ok(Self::new(id, key))
    }

    /// The private key as PKCS#8 DER, for TLS.
    pub(super) fn pkcs8_der(&self) -> SecretDocument {
        match self.key.to_pkcs8_der() {
            Ok(der) => der,
            Err(error) => unreachable!("a P-256 key has a PKCS#8 form: {error}"),
        }
    }

    /// Writes the key to a new file of mode 0600.
    pub fn save(&self, path: &Path) -> Result<(), KeyFileError> {
        let pem = self
            .key
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|_| KeyFileError::Form {
                path: path.to_owned(),
            })?;
        key_file::write(path, &pem)
    }
}

impl Signer for Identity {
    fn id(&self) -> &str {
        &self.id
    }

    fn public_key(&self) -> PublicKey {
        self.public
    }

    fn sign(&self, message: &Hash) -> Signature {
        let signature: EcdsaSignature = match self.key.sign_prehash(&message.0) {
            Ok(signature) => signature,
            // Signing fails for hashes shorter than half the curve's size only; this one is 32 bytes.
            Err(e) => unreachable!("signing a 32-byte hash failed: {e}"),
        };
        Signature(signature.normalize_s().to_bytes().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weighbridge_verifier::sha256;

    #[test]
    fn what_is_saved_signs_the_same_and_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys/hub.key");
        let identity = Identity::generate("hub-1");
        identity.save(&path).unwrap();
        assert!(matches!(
            identity.save(&path),
            Err(KeyFileError::Write { .. })
        ));
        let again = Identity::load(&path, "hub-1").unwrap();
        let message = sha256(&[b"m"]);
        assert_eq!(identity.sign(&message), again.sign(&message));
        again
            .public_key()
            .verify(&message, &identity.sign(&message))
            .unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
            let error = Identity::load(&path, "hub-1").err().unwrap();
            assert!(matches!(error, KeyFileError::Open { mode: 0o640, .. }));
        }
    }

    #[test]
    fn the_high_s_twin_of_a_signature_is_refused() {
        let identity = Identity::generate("hub-1");
        let message = sha256(&[b"m"]);
        let parsed = EcdsaSignature::from_slice(&identity.sign(&message).0).unwrap();
        let (r, s) = parsed.split_scalars();
        let twin = EcdsaSignature::from_scalars(r.to_bytes(), (-*s).to_bytes()).unwrap();
        let twin = Signature(twin.to_bytes().into());
        let refused = identity.public_key().verify(&message, &twin);
        assert_eq!(refused, Err(weighbridge_verifier::SignatureError::HighS));
    }
}
