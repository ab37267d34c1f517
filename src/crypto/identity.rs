//! An id with a signing key.

use super::key_file::{self, KeyFileError};
use super::quick_p256::QuickP256;
use super::signer::Signer;
use super::symmetric::Secret;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::elliptic_curve::Generate;
use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding, SecretDocument};
use sm2::dsa::signature::Signer as _;
use sm2::elliptic_curve::sec1::ToSec1Point;
use std::path::Path;
use weighbridge_verifier::signature::SM2_ID;
use weighbridge_verifier::{Hash, PublicKey, Signature, Suite};
use zeroize::Zeroizing;

/// A hub's, edge node's or device's own signing key. The key is wiped from memory when dropped.
///
/// An edge node and a hub show each other a key in TLS, which is P-256 whatever the chain's suite. Where
/// the own key is an SM2 key, that one is made from it, so that there is still one secret in one file.
pub struct Identity {
    id: String,
    key: Key,
    public: PublicKey,
}

/// The public keys of the other side of a link between edge node and hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerKey {
    /// Its own, which the ledger knows it by.
    pub own: PublicKey,
    /// The one that it shows in TLS.
    pub link: PublicKey,
}

/// The keys of a peer that shows its own key in TLS.
impl From<PublicKey> for PeerKey {
    fn from(own: PublicKey) -> Self {
        Self { own, link: own }
    }
}

enum Key {
    P256 {
        own: p256::ecdsa::SigningKey,
        quick: Option<QuickP256>,
    },
    Sm2 {
        secret: sm2::SecretKey,
        signing: Box<sm2::dsa::SigningKey>,
        link: p256::ecdsa::SigningKey,
    },
}

impl Identity {
    /// A new key of suite `nist` from the operating system's randomness.
    pub fn generate(id: &str) -> Self {
        Self::generate_of(Suite::Nist, id)
    }

    /// A new key of `suite` from the operating system's randomness.
    pub fn generate_of(suite: Suite, id: &str) -> Self {
        match suite {
            Suite::Nist => Self::p256(id, p256::ecdsa::SigningKey::generate()),
            Suite::Guomi => Self::sm2(id, sm2::SecretKey::generate()),
        }
    }

    /// A key that is the same in every run, for tests.
    #[cfg(test)]
    pub(crate) fn from_byte(id: &str, byte: u8) -> Self {
        Self::from_byte_of(Suite::Nist, id, byte)
    }

    /// The same of `suite`.
    #[cfg(test)]
    pub(crate) fn from_byte_of(suite: Suite, id: &str, byte: u8) -> Self {
        let secret = [byte.max(1); 32];
        match suite {
            Suite::Nist => Self::p256(id, p256::ecdsa::SigningKey::from_slice(&secret).unwrap()),
            Suite::Guomi => Self::sm2(id, sm2::SecretKey::from_slice(&secret).unwrap()),
        }
    }

    fn p256(id: &str, key: p256::ecdsa::SigningKey) -> Self {
        let point = key.verifying_key().to_sec1_point(true);
        let quick = QuickP256::new(&key);
        Self::new(
            id,
            Suite::Nist,
            point.as_bytes(),
            Key::P256 { own: key, quick },
        )
    }

    fn sm2(id: &str, secret: sm2::SecretKey) -> Self {
        let signing = match sm2::dsa::SigningKey::new(SM2_ID, &secret) {
            Ok(signing) => Box::new(signing),
            Err(error) => unreachable!("the identity has 16 bytes: {error}"),
        };
        let point = secret.public_key().to_sec1_point(true);
        let link = link_of(&secret);
        let key = Key::Sm2 {
            secret,
            signing,
            link,
        };
        Self::new(id, Suite::Guomi, point.as_bytes(), key)
    }

    /// The key that key generation centres helped to make.
    pub fn derived(id: &str, key: &super::guomi::certificateless::UserKey) -> Self {
        Self::sm2(id, key.secret().clone())
    }

    fn new(id: &str, suite: Suite, point: &[u8], key: Key) -> Self {
        let Some(public) = PublicKey::from_sec1(suite, point) else {
            unreachable!("a public key is a point that is not at infinity");
        };
        Self {
            id: id.to_owned(),
            key,
            public,
        }
    }

    /// Reads the key of `id` from a PKCS#8 PEM file of mode 0600. The curve that the file names tells
    /// the suite.
    pub fn load(path: &Path, id: &str) -> Result<Self, KeyFileError> {
        let pem = key_file::read(path)?;
        if let Ok(key) = p256::ecdsa::SigningKey::from_pkcs8_pem(&pem) {
            return Ok(Self::p256(id, key));
        }
        match sm2::SecretKey::from_pkcs8_pem(&pem) {
            Ok(secret) => Ok(Self::sm2(id, secret)),
            Err(_) => Err(KeyFileError::Form {
                path: path.to_owned(),
            }),
        }
    }

    /// The private key that is shown in TLS, as PKCS#8 DER.
    pub(super) fn link_der(&self) -> SecretDocument {
        match self.link().to_pkcs8_der() {
            Ok(der) => der,
            Err(error) => unreachable!("a P-256 key has a PKCS#8 form: {error}"),
        }
    }

    /// The public keys that the other side of a link must know.
    pub fn peer_key(&self) -> PeerKey {
        let point = self.link().verifying_key().to_sec1_point(true);
        let link = PublicKey::from_sec1(Suite::Nist, point.as_bytes());
        PeerKey {
            own: self.public,
            link: link.unwrap_or(self.public),
        }
    }

    fn link(&self) -> &p256::ecdsa::SigningKey {
        match &self.key {
            Key::P256 { own, .. } => own,
            Key::Sm2 { link, .. } => link,
        }
    }

    /// Writes the key to a new file of mode 0600.
    pub fn save(&self, path: &Path) -> Result<(), KeyFileError> {
        let pem = match &self.key {
            Key::P256 { own, .. } => own.to_pkcs8_pem(LineEnding::LF),
            Key::Sm2 { secret, .. } => secret.to_pkcs8_pem(LineEnding::LF),
        };
        let pem = pem.map_err(|_| KeyFileError::Form {
            path: path.to_owned(),
        })?;
        key_file::write(path, &pem)
    }
}

/// The P-256 key that goes with an SM2 key: derived from it, and of no use to find it.
fn link_of(secret: &sm2::SecretKey) -> p256::ecdsa::SigningKey {
    let bytes = Zeroizing::new(<[u8; 32]>::from(secret.to_bytes()));
    let secret = Secret {
        suite: Suite::Guomi,
        bytes: &bytes,
    };
    // One in 2³² numbers is none of the curve's group: then the next one.
    let candidates = (0u8..=255).map(|n| {
        let candidate = secret.derive::<32>(&[b"weighbridge/link-key/v1", &[n][..]].concat());
        p256::ecdsa::SigningKey::from_slice(&*candidate)
    });
    match candidates.flatten().next() {
        Some(key) => key,
        None => unreachable!("256 numbers in a row above the order of P-256"),
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
        let signed = match &self.key {
            Key::P256 { own, .. } => {
                let signature: Result<p256::ecdsa::Signature, _> = own.sign_prehash(&message.0);
                signature.map(|s| s.normalize_s().to_bytes().into()).ok()
            }
            Key::Sm2 { signing, .. } => {
                let signature: Result<sm2::dsa::Signature, _> = signing.try_sign(&message.0);
                signature.map(|s| s.to_bytes().into()).ok()
            }
        };
        match signed {
            Some(signature) => Signature(signature),
            // ECDSA fails for hashes shorter than half the curve's size, and both for numbers that turn
            // up once in 2^256 times.
            None => unreachable!("signing 32 bytes failed"),
        }
    }

    fn sign_preimage(&self, preimage: &[u8]) -> Signature {
        let quick = match &self.key {
            Key::P256 { quick, .. } => quick.as_ref().and_then(|quick| quick.sign(preimage)),
            Key::Sm2 { .. } => None,
        };
        quick.unwrap_or_else(|| self.sign(&self.suite().hash(&[preimage])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weighbridge_verifier::sha256;

    /// Quick or not, any check takes it, and the other half of the curve's order never stands in it.
    #[test]
    fn a_message_is_signed_like_its_hash() {
        for suite in [Suite::Nist, Suite::Guomi] {
            let identity = Identity::generate_of(suite, "hub-1");
            for number in 0u32..200 {
                let preimage = vec![0xa5; number as usize * 7];
                let hash = suite.hash(&[&preimage]);
                let signature = identity.sign_preimage(&preimage);
                identity.public_key().verify(&hash, &signature).unwrap();
                let other = suite.hash(&[&preimage, b"."]);
                assert!(identity.public_key().verify(&other, &signature).is_err());
                if suite == Suite::Nist {
                    let signature = p256::ecdsa::Signature::from_slice(&signature.0).unwrap();
                    assert_eq!(signature.normalize_s(), signature);
                }
            }
        }
    }

    #[test]
    fn what_is_saved_signs_the_same_and_only_its_owner_reads_it() {
        for suite in Suite::ALL {
            saved_signs_the_same(suite);
        }
    }

    fn saved_signs_the_same(suite: Suite) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys/hub.key");
        let identity = Identity::generate_of(suite, "hub-1");
        identity.save(&path).unwrap();
        assert!(matches!(
            identity.save(&path),
            Err(KeyFileError::Write { .. })
        ));
        let again = Identity::load(&path, "hub-1").unwrap();
        assert_eq!(again.public_key().suite(), suite);
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
    fn the_key_of_a_link_is_p256_and_stays_the_same() {
        let nist = Identity::generate("edge-1");
        assert_eq!(nist.peer_key(), nist.public_key().into());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edge.key");
        let guomi = Identity::generate_of(Suite::Guomi, "edge-1");
        guomi.save(&path).unwrap();
        let peer = guomi.peer_key();
        assert_eq!(
            (peer.own, peer.link.suite()),
            (guomi.public_key(), Suite::Nist)
        );
        assert!(peer.link.verifier().is_ok());
        assert_eq!(Identity::load(&path, "edge-1").unwrap().peer_key(), peer);
        let other = Identity::generate_of(Suite::Guomi, "edge-1");
        assert_ne!(other.peer_key().link, peer.link);
    }

    #[test]
    fn the_high_s_twin_of_a_signature_is_refused() {
        let identity = Identity::generate("hub-1");
        let message = sha256(&[b"m"]);
        let parsed = p256::ecdsa::Signature::from_slice(&identity.sign(&message).0).unwrap();
        let (r, s) = parsed.split_scalars();
        let twin = p256::ecdsa::Signature::from_scalars(r.to_bytes(), (-*s).to_bytes()).unwrap();
        let twin = Signature(twin.to_bytes().into());
        let refused = identity.public_key().verify(&message, &twin);
        assert_eq!(refused, Err(weighbridge_verifier::SignatureError::HighS));
    }
}
