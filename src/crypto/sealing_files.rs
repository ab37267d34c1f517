//! Keys that open wraps, as files: PKCS#8 PEM (RFC 5958), encrypted under a passphrase where one is given
//! (PBES2 of RFC 8018 with scrypt and AES-256); public halves as SubjectPublicKeyInfo PEM (RFC 7468, 13).

use super::key_file::{self, KeyFileError};
use super::sealing::{SealingKey, SealingPublicKey, Secret};
use p256::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use pkcs8::LineEnding;
use sm2::elliptic_curve::sec1::ToSec1Point;
use std::fs;
use std::path::Path;
use weighbridge_verifier::{PublicKey, Suite};
use zeroize::Zeroizing;

/// How a file that is encrypted begins.
const ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
/// What stands where a private key begins, encrypted or not.
const PRIVATE: &str = "PRIVATE KEY-----";
/// Longest file of a public key, in bytes.
const MAX_PUBLIC: u64 = 4_096;

impl SealingKey {
    /// Reads the key from a PKCS#8 PEM file of mode 0600. The curve that the file names tells the suite.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        Self::load_with(path, || None)
    }

    /// The same; where the file is encrypted, `passphrase` is asked.
    pub fn load_with(
        path: &Path,
        passphrase: impl FnOnce() -> Option<Zeroizing<String>>,
    ) -> Result<Self, KeyFileError> {
        let pem = key_file::read(path)?;
        let form = || KeyFileError::Form {
            path: path.to_owned(),
        };
        if !pem.trim_start().starts_with(ENCRYPTED) {
            return p256::SecretKey::from_pkcs8_pem(&pem)
                .map(Self::p256)
                .or_else(|_| sm2::SecretKey::from_pkcs8_pem(&pem).map(Self::sm2))
                .map_err(|_| form());
        }
        let locked = |what| KeyFileError::Passphrase {
            path: path.to_owned(),
            what,
        };
        let passphrase = passphrase().ok_or_else(|| locked("no passphrase was given"))?;
        // One decryption, whichever the curve: it is slow on purpose.
        let (_, document) = pkcs8::SecretDocument::from_pem(&pem).map_err(|_| form())?;
        let sealed = pkcs8::EncryptedPrivateKeyInfoRef::try_from(document.as_bytes());
        let opened = sealed.map_err(|_| form())?.decrypt(passphrase.as_bytes());
        let opened = opened.map_err(|_| locked("the passphrase does not open it"))?;
        p256::SecretKey::from_pkcs8_der(opened.as_bytes())
            .map(Self::p256)
            .or_else(|_| sm2::SecretKey::from_pkcs8_der(opened.as_bytes()).map(Self::sm2))
            .map_err(|_| form())
    }

    /// Writes the key to a new file of mode 0600.
    pub fn save(&self, path: &Path) -> Result<(), KeyFileError> {
        let pem = match &self.secret {
            Secret::P256 { secret, .. } => secret.to_pkcs8_pem(LineEnding::LF),
            Secret::Sm2(secret) => secret.to_pkcs8_pem(LineEnding::LF),
        };
        written(path, pem)
    }

    /// The same, encrypted under a passphrase.
    pub fn save_encrypted(&self, path: &Path, passphrase: &str) -> Result<(), KeyFileError> {
        let pem = match &self.secret {
            Secret::P256 { secret, .. } => {
                secret.to_pkcs8_encrypted_pem(passphrase, LineEnding::LF)
            }
            Secret::Sm2(secret) => secret.to_pkcs8_encrypted_pem(passphrase, LineEnding::LF),
        };
        written(path, pem)
    }
}

fn written(path: &Path, pem: pkcs8::Result<Zeroizing<String>>) -> Result<(), KeyFileError> {
    let pem = pem.map_err(|_| KeyFileError::Form {
        path: path.to_owned(),
    })?;
    key_file::write(path, &pem)
}

impl SealingPublicKey {
    /// The key as SubjectPublicKeyInfo in PEM form, as other programs take it.
    pub fn to_pem(&self) -> String {
        let key = self.compressed();
        let point = key.to_sec1();
        let pem = match key.suite() {
            Suite::Nist => p256::PublicKey::from_sec1_bytes(&point)
                .ok()
                .and_then(|key| key.to_public_key_pem(LineEnding::LF).ok()),
            Suite::Guomi => sm2::PublicKey::from_sec1_bytes(&point)
                .ok()
                .and_then(|key| key.to_public_key_pem(LineEnding::LF).ok()),
        };
        match pem {
            Some(pem) => pem,
            None => unreachable!("a public key has a SubjectPublicKeyInfo"),
        }
    }

    /// Reads a key in PEM form, or as the 66 hexadecimal digits that are printed. `None` when it is neither.
    pub fn from_text(text: &str) -> Option<Self> {
        let text = text.trim();
        let key = match text.parse::<PublicKey>() {
            Ok(key) => key,
            Err(_) => of_pem(text)?,
        };
        Self::from_compressed(&key).ok()
    }

    /// Reads a file with a key in one of these forms.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let wrong = |source| KeyFileError::Read {
            path: path.to_owned(),
            source,
        };
        let none = || KeyFileError::NoPublicKey {
            path: path.to_owned(),
        };
        if fs::metadata(path).map_err(wrong)?.len() > MAX_PUBLIC {
            return Err(none());
        }
        let bytes = Zeroizing::new(fs::read(path).map_err(wrong)?);
        let text = std::str::from_utf8(&bytes).map_err(|_| none())?;
        Self::from_text(text).ok_or_else(|| match text.contains(PRIVATE) {
            true => KeyFileError::Private {
                path: path.to_owned(),
            },
            false => none(),
        })
    }
}

fn of_pem(text: &str) -> Option<PublicKey> {
    if let Ok(key) = p256::PublicKey::from_public_key_pem(text) {
        return PublicKey::from_sec1(Suite::Nist, key.to_sec1_point(true).as_bytes());
    }
    let key = sm2::PublicKey::from_public_key_pem(text).ok()?;
    PublicKey::from_sec1(Suite::Guomi, key.to_sec1_point(true).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::EpochKey;

    fn passphrase(text: &str) -> Option<Zeroizing<String>> {
        Some(Zeroizing::new(text.to_owned()))
    }

    #[test]
    fn an_encrypted_key_opens_with_its_passphrase_alone() {
        for suite in Suite::ALL {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("anna.key.pem");
            let key = SealingKey::generate_of(suite);
            key.save_encrypted(&path, "open sesame").unwrap();
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.starts_with(ENCRYPTED), "{text}");
            let again = SealingKey::load_with(&path, || passphrase("open sesame")).unwrap();
            let epoch = EpochKey::generate(suite, "press-1", 1).unwrap();
            let wrapped = key.public().wrap(&epoch).unwrap();
            assert!(again.unwrap("press-1", 1, &wrapped).is_ok());
            for wrong in [None, passphrase("open sesam")] {
                let error = SealingKey::load_with(&path, || wrong).err().unwrap();
                assert!(matches!(error, KeyFileError::Passphrase { .. }), "{error}");
            }
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                let mode = fs::metadata(&path).unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o600);
            }
        }
    }

    #[test]
    fn a_public_key_is_read_in_both_forms_and_nothing_else_is() {
        for suite in Suite::ALL {
            let key = SealingKey::generate_of(suite);
            let printed = key.public().compressed();
            for text in [key.public().to_pem(), format!("{printed}\n")] {
                let read = SealingPublicKey::from_text(&text).unwrap();
                assert_eq!(read.compressed(), printed);
                assert_eq!(read.suite(), suite);
            }
            let pem = key.public().to_pem();
            for wrong in ["", "02", &pem[..pem.len() / 2], &"0".repeat(66)] {
                assert!(SealingPublicKey::from_text(wrong).is_none(), "{wrong}");
            }
        }
    }
}
