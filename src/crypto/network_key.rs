//! What a hub is known by on the network of a chain that several hubs decide: an Ed25519 key in a file of its
//! own. It vouches for connections only; what is decided rests on the hub's signing key.

use super::checkpoint_key::CheckpointKey;
use super::key_file::KeyFileError;
use std::path::Path;
use zeroize::Zeroizing;

/// The secret half of it. Wiped from memory when dropped.
pub struct NetworkSeed(Zeroizing<[u8; 32]>);

impl NetworkSeed {
    /// The one in this file, PKCS#8 PEM of mode 0600; a new one where there is none.
    pub fn load_or_make(path: &Path) -> Result<Self, KeyFileError> {
        Ok(Self(CheckpointKey::load_or_make(path)?.into_secret()))
    }

    /// A new one from the operating system's randomness, in no file.
    pub fn generate() -> Self {
        Self(CheckpointKey::generate().into_secret())
    }

    /// Its bytes.
    pub fn bytes(&self) -> [u8; 32] {
        *self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_and_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys/network.key");
        let made = NetworkSeed::load_or_make(&file).unwrap();
        let again = NetworkSeed::load_or_make(&file).unwrap();
        assert_eq!(made.bytes(), again.bytes());
        assert_ne!(made.bytes(), NetworkSeed::generate().bytes());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(&file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}
