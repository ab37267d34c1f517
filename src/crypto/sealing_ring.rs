//! The keys by which a hub opens wraps: the one in use, and those before it that are still needed.
//!
//! The next key lies beside the one in use (`sealing.key.next`) from before it is on record until it has taken its
//! place; a hub that ends in between finds both, opens by both, and the record says which one counts. The one before
//! then has a name of its own (`sealing.key.former-…`) until nothing is wrapped to it any more; then it is
//! overwritten and removed.

use super::envelope::{EpochKey, OpenError};
use super::key_file::{self, KeyFileError};
use super::sealing::{SealingKey, SealingPublicKey, WrappedKey};
use parking_lot::RwLock;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use weighbridge_verifier::{PublicKey, Suite};

/// Most keys that may still be needed besides the one in use.
pub const MAX_FORMER: usize = 4;
/// What the names of files of former keys end with, before digits of the key.
const FORMER: &str = ".former-";
/// Digits of its key in the name of a file.
const DIGITS: usize = 16;

/// A hub's sealing keys. Cheap to clone: all clones are the same keys.
#[derive(Clone)]
pub struct SealingRing(Arc<Inner>);

struct Inner {
    /// Where the key in use is; `None` for one that is in no file, and so cannot be replaced.
    file: Option<PathBuf>,
    keys: RwLock<Keys>,
}

struct Keys {
    current: Arc<SealingKey>,
    next: Option<Arc<SealingKey>>,
    /// Newest first.
    former: Vec<Arc<SealingKey>>,
}

/// Why there is no next key.
#[derive(Debug, thiserror::Error)]
pub enum NextSealingKeyError {
    /// The key is in no file.
    #[error("the hub's sealing key is in no file: a new one would be lost with the process")]
    NoFile,
    /// Too many are still needed.
    #[error("{MAX_FORMER} sealing keys from before are still needed, which is the most")]
    Full,
    /// The file.
    #[error(transparent)]
    File(#[from] KeyFileError),
}

impl From<Arc<SealingKey>> for SealingRing {
    fn from(key: Arc<SealingKey>) -> Self {
        Self::of(None, key)
    }
}

impl From<SealingKey> for SealingRing {
    fn from(key: SealingKey) -> Self {
        Self::from(Arc::new(key))
    }
}

impl SealingRing {
    fn of(file: Option<PathBuf>, current: Arc<SealingKey>) -> Self {
        let keys = Keys {
            current,
            next: None,
            former: Vec::new(),
        };
        Self(Arc::new(Inner {
            file,
            keys: RwLock::new(keys),
        }))
    }

    /// All keys that are in `file` and beside it, to open by. No file is changed.
    pub fn load(file: &Path) -> Result<Self, KeyFileError> {
        let current = Arc::new(SealingKey::load(file)?);
        let ring = Self::of(Some(file.to_owned()), current);
        ring.look(false)?;
        Ok(ring)
    }

    /// `key` is what is in `file`, which a hub keeps: what a replacement has left beside it is tidied up.
    pub fn in_file(key: SealingKey, file: &Path) -> Result<Self, KeyFileError> {
        let ring = Self::of(Some(file.to_owned()), Arc::new(key));
        ring.look(true)?;
        Ok(ring)
    }

    /// Takes in the files beside the key in use; with `tidy`, removes those that are of no key of their own.
    fn look(&self, tidy: bool) -> Result<(), KeyFileError> {
        let Some(file) = &self.0.file else {
            return Ok(());
        };
        let mut keys = self.0.keys.write();
        let next = key_file::next(file);
        if next.exists() {
            // One that was not written to its end was never used.
            match SealingKey::load(&next) {
                Ok(key) => keys.next = Some(Arc::new(key)),
                Err(KeyFileError::Form { .. }) if tidy => key_file::destroy(&next)?,
                Err(KeyFileError::Form { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        for path in former_files(file)? {
            let key = SealingKey::load(&path)?;
            let public = key.public().compressed();
            if public != keys.current.public().compressed() {
                keys.former.push(Arc::new(key));
            } else if tidy {
                // A second name of the file of the key in use, which was not replaced in the end.
                let wrong = |source| KeyFileError::Write {
                    path: path.clone(),
                    source,
                };
                std::fs::remove_file(&path).map_err(wrong)?;
                key_file::sync_directory(file)?;
            }
        }
        Ok(())
    }

    /// The key in use.
    pub fn current(&self) -> Arc<SealingKey> {
        self.0.keys.read().current.clone()
    }

    /// The public half of the key in use: what new keys are wrapped to.
    pub fn public(&self) -> SealingPublicKey {
        self.current().public().clone()
    }

    /// The suite of all of them.
    pub fn suite(&self) -> Suite {
        self.current().suite()
    }

    /// The public halves of those before that are still needed, newest first.
    pub fn former(&self) -> Vec<PublicKey> {
        let keys = self.0.keys.read();
        keys.former
            .iter()
            .map(|k| k.public().compressed())
            .collect()
    }

    /// The key that is to take the place of the one in use.
    pub fn successor(&self) -> Option<PublicKey> {
        let keys = self.0.keys.read();
        keys.next.as_ref().map(|next| next.public().compressed())
    }

    /// All of them, the one in use first.
    fn all(&self) -> Vec<Arc<SealingKey>> {
        let keys = self.0.keys.read();
        let current = [keys.current.clone()].into_iter();
        current
            .chain(keys.next.clone())
            .chain(keys.former.iter().cloned())
            .collect()
    }

    /// The one with this public half.
    pub fn find(&self, public: &PublicKey) -> Option<Arc<SealingKey>> {
        let mut all = self.all().into_iter();
        all.find(|key| key.public().compressed() == *public)
    }

    /// Opens a wrap made for any of them.
    pub fn unwrap(
        &self,
        object: &str,
        epoch: u64,
        wrapped: &WrappedKey,
    ) -> Result<EpochKey, OpenError> {
        let mut wrong = OpenError::Authentication;
        for key in self.all() {
            match key.unwrap(object, epoch, wrapped) {
                Ok(key) => return Ok(key),
                Err(error) => wrong = error,
            }
        }
        Err(wrong)
    }

    /// Makes the next key, or takes the one that is there already; durable when it returns.
    pub fn prepare(&self) -> Result<PublicKey, NextSealingKeyError> {
        let file = self.0.file.as_ref().ok_or(NextSealingKeyError::NoFile)?;
        let mut keys = self.0.keys.write();
        if keys.former.len() >= MAX_FORMER {
            return Err(NextSealingKeyError::Full);
        }
        let next = match &keys.next {
            Some(next) => next.clone(),
            None => {
                let next = SealingKey::generate_of(keys.current.suite());
                next.save(&key_file::next(file))?;
                key_file::sync_directory(file)?;
                keys.next.insert(Arc::new(next)).clone()
            }
        };
        Ok(next.public().compressed())
    }

    /// Destroys a next key that will never be on record.
    pub fn abandon(&self) -> Result<(), KeyFileError> {
        let next = self.0.keys.write().next.take();
        match (next, &self.0.file) {
            (Some(_), Some(file)) => key_file::destroy(&key_file::next(file)),
            _ => Ok(()),
        }
    }

    /// `public` is the key in use from now on, if it is the next one; whether it is in use. The one before is kept.
    pub fn succeed(&self, public: &PublicKey) -> bool {
        let mut keys = self.0.keys.write();
        if let Some(next) = keys
            .next
            .take_if(|next| next.public().compressed() == *public)
        {
            let before = std::mem::replace(&mut keys.current, next);
            keys.former.insert(0, before);
        }
        keys.current.public().compressed() == *public
    }

    /// Puts the file of the key in use in its place, where that is due; the one before gets a name of its own.
    pub fn settle(&self) -> Result<(), KeyFileError> {
        let keys = self.0.keys.read();
        let Some(file) = self.0.file.as_ref().filter(|_| keys.next.is_none()) else {
            return Ok(());
        };
        let next = key_file::next(file);
        if !next.exists() {
            return Ok(());
        }
        let public = |key: &SealingKey| key.public().compressed();
        if public(&SealingKey::load(&next)?) != public(&keys.current) {
            return Ok(());
        }
        let before = SealingKey::load(file)?;
        key_file::take_place(file, &former_file(file, &public(&before)))
    }

    /// Destroys a key from before, in memory and in its file.
    pub fn forget(&self, public: &PublicKey) -> Result<(), KeyFileError> {
        let mut keys = self.0.keys.write();
        let is_it = |key: &Arc<SealingKey>| key.public().compressed() == *public;
        if !keys.former.iter().any(is_it) {
            return Ok(());
        }
        if let Some(file) = &self.0.file {
            let path = former_file(file, public);
            if path.exists() {
                key_file::destroy(&path)?;
            }
        }
        keys.former.retain(|key| !is_it(key));
        Ok(())
    }
}

/// Where a key is kept that was in `file` before.
fn former_file(file: &Path, public: &PublicKey) -> PathBuf {
    let digits = public.to_string();
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(FORMER);
    name.push(digits.get(..DIGITS).unwrap_or(&digits));
    file.with_file_name(name)
}

/// The files of keys that were in `file` before, newest first.
fn former_files(file: &Path) -> Result<Vec<PathBuf>, KeyFileError> {
    let mut beginning: OsString = file.file_name().unwrap_or_default().to_owned();
    beginning.push(FORMER);
    let beginning = beginning.to_string_lossy().into_owned();
    let directory = file.parent().filter(|dir| !dir.as_os_str().is_empty());
    let wrong = |source| KeyFileError::Read {
        path: file.to_owned(),
        source,
    };
    let entries = std::fs::read_dir(directory.unwrap_or(Path::new("."))).map_err(wrong)?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(wrong)?;
        if entry.file_name().to_string_lossy().starts_with(&beginning) {
            let since = entry.metadata().and_then(|m| m.modified());
            found.push((since.map_err(wrong)?, entry.path()));
        }
    }
    found.sort();
    Ok(found.into_iter().rev().map(|(_, path)| path).collect())
}

#[cfg(test)]
#[path = "sealing_ring_tests.rs"]
mod tests;
