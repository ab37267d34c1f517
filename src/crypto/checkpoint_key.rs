//! The key that signs checkpoints: Ed25519 (RFC 8032), because that is what the witnesses of
//! transparency logs know. It is a key of its own; the hub's P-256 key signs the same note beside it,
//! which binds the two.

use super::key_file::{self, KeyFileError};
use p256::pkcs8::{LineEnding, SecretDocument};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use std::path::Path;
use weighbridge_verifier::note::{KeyKind, NoteKey, NoteSignature};
use zeroize::Zeroizing;

/// PKCS#8 of an Ed25519 key up to its 32 bytes of secret (RFC 8410 §7).
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// A key that signs notes. The secret is wiped from memory when dropped.
pub struct CheckpointKey {
    secret: Zeroizing<[u8; 32]>,
    pair: Ed25519KeyPair,
    public: [u8; 32],
}

impl CheckpointKey {
    /// A new key from the operating system's randomness.
    pub fn generate() -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        match getrandom::fill(&mut *secret) {
            Ok(()) => Self::new(secret),
            Err(error) => unreachable!("the operating system has no randomness: {error}"),
        }
    }

    fn new(secret: Zeroizing<[u8; 32]>) -> Self {
        let pair = match Ed25519KeyPair::from_seed_unchecked(&*secret) {
            Ok(pair) => pair,
            Err(error) => unreachable!("any 32 bytes are an Ed25519 key: {error}"),
        };
        let mut public = [0; 32];
        public.copy_from_slice(pair.public_key().as_ref());
        Self {
            secret,
            pair,
            public,
        }
    }

    /// Reads the key from a PKCS#8 PEM file of mode 0600.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let pem = key_file::read(path)?;
        let parsed = SecretDocument::from_pem(&pem).ok();
        let secret = parsed.and_then(|(label, der)| {
            let rest = der.as_bytes().strip_prefix(&PKCS8)?;
            let secret = <[u8; 32]>::try_from(rest).ok()?;
            (label == "PRIVATE KEY").then(|| Zeroizing::new(secret))
        });
        secret
            .map(Self::new)
            .ok_or_else(|| KeyFileError::NoEd25519 {
                path: path.to_owned(),
            })
    }

    /// Writes the key to a new file of mode 0600.
    pub fn save(&self, path: &Path) -> Result<(), KeyFileError> {
        let der = Zeroizing::new([&PKCS8[..], &*self.secret].concat());
        let document = SecretDocument::try_from(der.as_slice());
        let pem = document.and_then(|d| d.to_pem("PRIVATE KEY", LineEnding::LF));
        match pem {
            Ok(pem) => key_file::write(path, &pem),
            Err(error) => unreachable!("an Ed25519 key has a PEM form: {error}"),
        }
    }

    /// The key in this file; a new one where there is none. Installations from before there were
    /// checkpoints get theirs so, when they first make one.
    pub fn load_or_make(path: &Path) -> Result<Self, KeyFileError> {
        if path.symlink_metadata().is_ok() {
            return Self::load(path);
        }
        let key = Self::generate();
        match key.save(path) {
            Ok(()) => Ok(key),
            // Another process was quicker: its key counts.
            Err(_) if path.symlink_metadata().is_ok() => Self::load(path),
            Err(error) => Err(error),
        }
    }

    /// The secret alone, for a key of the same form that signs no notes.
    pub(super) fn into_secret(self) -> Zeroizing<[u8; 32]> {
        self.secret
    }

    /// What witnesses and auditors are given, under the name `origin`.
    pub fn note_key(&self, origin: &str) -> NoteKey {
        NoteKey {
            name: origin.to_owned(),
            key: KeyKind::Ed25519(self.public),
        }
    }

    /// Signs the text of a note.
    pub fn sign(&self, origin: &str, text: &str) -> NoteSignature {
        let signature = self.pair.sign(text.as_bytes());
        self.note_key(origin).line(signature.as_ref())
    }
}

/// Checks an Ed25519 signature.
pub fn ed25519_holds(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    let key = UnparsedPublicKey::new(&ED25519, key);
    key.verify(message, signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use weighbridge_verifier::note::{Note, NoteError, Stamp};

    fn key(secret: &str) -> CheckpointKey {
        let digit = |i: usize| u8::from_str_radix(&secret[2 * i..2 * i + 2], 16).unwrap();
        CheckpointKey::new(Zeroizing::new(std::array::from_fn(digit)))
    }

    /// RFC 8032 §7.1, test 1.
    #[test]
    fn the_signature_of_the_rfc() {
        let key = key("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        assert_eq!(hex(&key.public), public);
        let signature = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b";
        assert_eq!(hex(&key.sign("o", "").signature), signature);
    }

    /// Example note and key of golang.org/x/mod/sumdb/note.
    #[test]
    fn the_signature_of_a_published_note() {
        let key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let note = "If you think cryptography is the answer to your problem,\n\
            then you don't know what your problem is.\n\n\
            — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        let key: NoteKey = key.parse().unwrap();
        let mut note = Note::parse(note.as_bytes()).unwrap();
        assert_eq!(note.verify(&key, ed25519_holds), Ok(Stamp(None)));
        note.text.push('\n');
        let spoiled = note.verify(&key, ed25519_holds);
        assert!(matches!(spoiled, Err(NoteError::Signature(_))));
    }

    #[test]
    fn what_is_saved_signs_the_same_and_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys/checkpoint.key");
        let made = CheckpointKey::load_or_make(&path).unwrap();
        let again = CheckpointKey::load_or_make(&path).unwrap();
        assert_eq!(made.sign("o", "text\n"), again.sign("o", "text\n"));
        assert!(made.save(&path).is_err());
        let pem = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            pem.lines().count(),
            3,
            "one line of PKCS#8, as OpenSSL has it"
        );
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |m| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(m));
            assert_eq!(
                std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o600
            );
            mode(0o640).unwrap();
            let open = CheckpointKey::load(&path).err().unwrap();
            assert!(matches!(open, KeyFileError::Open { mode: 0o640, .. }));
            mode(0o600).unwrap();
        }
        std::fs::write(&path, pem.replace("MC4C", "MC4D")).unwrap();
        let wrong = CheckpointKey::load(&path).err().unwrap();
        assert!(matches!(wrong, KeyFileError::NoEd25519 { .. }));
    }
}
