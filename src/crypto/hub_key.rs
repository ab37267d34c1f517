//! A hub's signing key in its file, and the one that is to take its place.
//!
//! The next key lies beside the one in use (`hub.key.next`) from before it is on record until it has taken
//! its place. A hub that ends in between finds both when it starts, and the ledger says which one counts.
//! Only when the next one is in its place is the old file overwritten and removed.

use super::identity::Identity;
use super::key_file::{self, KeyFileError};
use super::signer::Signer;
use parking_lot::RwLock;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use weighbridge_verifier::rotation::rotation_message;
use weighbridge_verifier::{
    Hash, IdentityContent, IdentityKind, PublicKey, RotationContent, Signature,
};

/// A hub's signing key, which may be replaced while it is in use.
pub struct HubKey {
    id: String,
    /// Where the key is; `None` for one that is in no file, and so cannot be replaced.
    file: Option<PathBuf>,
    keys: RwLock<Keys>,
}

struct Keys {
    current: Arc<Identity>,
    next: Option<Arc<Identity>>,
}

/// Why there is no next key.
#[derive(Debug, thiserror::Error)]
pub enum NextKeyError {
    /// The key is in no file.
    #[error("the hub's key is in no file: a new one would be lost with the process")]
    NoFile,
    /// The file.
    #[error(transparent)]
    File(#[from] KeyFileError),
}

impl HubKey {
    /// A key that is in no file.
    pub fn new(identity: Identity) -> Self {
        Self {
            id: identity.id().to_owned(),
            file: None,
            keys: RwLock::new(Keys {
                current: Arc::new(identity),
                next: None,
            }),
        }
    }

    /// `identity` is what is in `file`; beside it there may be the next one.
    pub fn in_file(identity: Identity, file: &Path) -> Result<Self, KeyFileError> {
        key_file::finish(file)?;
        let mut key = Self::new(identity);
        key.file = Some(file.to_owned());
        let next = key_file::next(file);
        if next.exists() {
            // One that was not written to its end was never used.
            match Identity::load(&next, &key.id) {
                Ok(identity) => key.keys.write().next = Some(Arc::new(identity)),
                Err(KeyFileError::Form { .. }) => key_file::destroy(&next)?,
                Err(error) => return Err(error),
            }
        }
        Ok(key)
    }

    /// The key in use.
    pub fn current(&self) -> Arc<Identity> {
        self.keys.read().current.clone()
    }

    /// Makes the next key, or takes the one that is there already, and says how it takes the place of the
    /// one in use in `chain`.
    pub fn prepare(&self, chain: &str) -> Result<RotationContent, NextKeyError> {
        let file = self.file.as_ref().ok_or(NextKeyError::NoFile)?;
        let mut keys = self.keys.write();
        let replaces = keys.current.public_key();
        let next = match &keys.next {
            Some(next) => next.clone(),
            None => {
                let next = Identity::generate_of(replaces.suite(), &self.id);
                next.save(&key_file::next(file))?;
                key_file::sync_directory(file)?;
                keys.next.insert(Arc::new(next)).clone()
            }
        };
        let identity = IdentityContent {
            id: self.id.clone(),
            kind: IdentityKind::Hub,
            key: Some(next.public_key()),
        };
        let message = rotation_message(replaces.suite(), chain, &identity, &replaces);
        Ok(RotationContent {
            proof: next.sign(&message),
            identity,
            replaces,
            consent: None,
        })
    }

    /// Destroys a next key that will never be on record.
    pub fn abandon(&self) -> Result<(), KeyFileError> {
        let next = self.keys.write().next.take();
        match (next, &self.file) {
            (Some(_), Some(file)) => key_file::destroy(&key_file::next(file)),
            _ => Ok(()),
        }
    }
}

impl Signer for HubKey {
    fn id(&self) -> &str {
        &self.id
    }

    fn public_key(&self) -> PublicKey {
        self.keys.read().current.public_key()
    }

    fn sign(&self, message: &Hash) -> Signature {
        self.current().sign(message)
    }

    fn sign_preimage(&self, preimage: &[u8]) -> Signature {
        self.current().sign_preimage(preimage)
    }

    fn successor(&self) -> Option<PublicKey> {
        self.keys.read().next.as_ref().map(|next| next.public_key())
    }

    fn succeed(&self, key: &PublicKey) -> bool {
        let mut keys = self.keys.write();
        match keys.next.take_if(|next| next.public_key() == *key) {
            Some(next) => keys.current = next,
            None => return false,
        }
        true
    }
}

impl HubKey {
    /// Puts the file of the key in use in its place, where that is due, and destroys the one before.
    pub fn settle(&self) -> Result<(), KeyFileError> {
        let keys = self.keys.read();
        let Some(file) = self.file.as_ref().filter(|_| keys.next.is_none()) else {
            return Ok(());
        };
        if !key_file::next(file).exists() {
            return Ok(());
        }
        let next = Identity::load(&key_file::next(file), &self.id)?;
        match next.public_key() == keys.current.public_key() {
            true => key_file::replace(file),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weighbridge_verifier::Suite;
    use weighbridge_verifier::signature::DirectCheck;

    fn files(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn at_every_step_the_files_hold_the_key_that_counts() {
        for suite in Suite::ALL {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("hub.key");
            let first = Identity::generate_of(suite, "hub-1");
            let old = first.public_key();
            first.save(&file).unwrap();
            let load = || {
                let identity = Identity::load(&file, "hub-1").unwrap();
                HubKey::in_file(identity, &file).unwrap()
            };
            let key = load();
            let rotation = key.prepare("main").unwrap();
            let new = rotation.identity.key.unwrap();
            assert!(rotation.verify_with(suite, "main", &DirectCheck).is_ok());
            assert!(rotation.verify_with(suite, "mine", &DirectCheck).is_err());
            // Asked again, it is the same one: the first may be on its way to the ledger.
            assert_eq!(key.prepare("main").unwrap(), rotation);
            // Ended before it was on record, and after.
            assert_eq!((key.public_key(), key.successor()), (old, Some(new)));
            let again = load();
            assert_eq!((again.public_key(), again.successor()), (old, Some(new)));
            assert!(!again.succeed(&old));
            assert!(again.succeed(&new));
            assert_eq!((again.public_key(), again.successor()), (new, None));
            assert_eq!(files(dir.path()), ["hub.key", "hub.key.next"]);
            again.settle().unwrap();
            assert_eq!(files(dir.path()), ["hub.key"]);
            assert_eq!((load().public_key(), load().successor()), (new, None));
            // One that comes to nothing.
            again.prepare("main").unwrap();
            again.abandon().unwrap();
            assert_eq!(files(dir.path()), ["hub.key"]);
            assert_eq!((load().public_key(), load().successor()), (new, None));
        }
    }

    #[test]
    fn a_file_that_was_being_replaced_is_finished_and_a_torn_one_is_no_key() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hub.key");
        let (old, new) = (Identity::generate("hub-1"), Identity::generate("hub-1"));
        // The old one has its second name, and the new one is not yet in its place; then it is.
        old.save(&file).unwrap();
        let second = dir.path().join("hub.key.old");
        std::fs::hard_link(&file, &second).unwrap();
        new.save(&key_file::next(&file)).unwrap();
        let key = HubKey::in_file(Identity::load(&file, "hub-1").unwrap(), &file).unwrap();
        assert_eq!(files(dir.path()), ["hub.key", "hub.key.next"]);
        assert_eq!(key.public_key(), old.public_key());
        std::fs::hard_link(&file, &second).unwrap();
        std::fs::rename(key_file::next(&file), &file).unwrap();
        let key = HubKey::in_file(Identity::load(&file, "hub-1").unwrap(), &file).unwrap();
        assert_eq!(files(dir.path()), ["hub.key"]);
        assert_eq!(key.public_key(), new.public_key());
        // Torn while it was written.
        key_file::write(&key_file::next(&file), "-----BEGIN PRIV").unwrap();
        let key = HubKey::in_file(Identity::load(&file, "hub-1").unwrap(), &file).unwrap();
        assert_eq!(key.successor(), None);
        assert_eq!(files(dir.path()), ["hub.key"]);
    }
}
