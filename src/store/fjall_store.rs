//! The store over fjall: four keyspaces, one journal, one fsync a commit. Wrapped keys are beside it, in
//! slots that can be overwritten.
//!
//! fjall refuses all further writes after a write has failed, because it cannot know what reached the
//! disk. Opening it again lets its journal decide; so after a failed commit the database is opened
//! anew before the next one, and a full disk does not need a restart of the hub.

use super::key_slots::KeySlots;
use super::legacy_keys::{move_out, scrub_folder};
use super::lock::DirectoryLock;
use super::manifest::check_manifests;
use super::small_file;
use crate::ledger::store::{Entry, Pair, Put, Space, Store, StoreError};
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode,
};
use parking_lot::{Mutex, RwLock};
use std::path::{Path, PathBuf};

/// Folder of the database inside the data directory.
const FOLDER: &str = "store";
/// Blocks read from disk that are kept in memory.
const CACHE_BYTES: u64 = 8 << 20;
/// Journals are given up once their content is in tables; at most this much is kept.
const JOURNAL_BYTES: u64 = 64 << 20;
/// Values of at least this size lie in files of their own and are not moved by compaction.
const SEPARATE_FROM: u32 = 1 << 10;
/// Files of values are written anew by a compaction when this share of them was removed. Nothing but
/// erasing removes values, and what it removed of one device is spread over all files.
const STALE: f32 = 0.02;
/// Compactions at most, to give back the room of what was removed: the first notices which files have
/// something to give back, the others write them anew.
const COMPACTIONS: usize = 8;

/// How much of a keyspace is gathered in memory before it is written as a table. Together with what
/// is being flushed this bounds the store's memory.
fn memtable_bytes(space: Space) -> u64 {
    match space {
        Space::Sealed => 4 << 20,
        Space::Blocks => 2 << 20,
        _ => 1 << 20,
    }
}

/// A data directory's store. Only one process can have it open, for reading too.
pub struct FjallStore {
    folder: PathBuf,
    inner: RwLock<Option<Inner>>,
    slots: Mutex<KeySlots>,
    _lock: DirectoryLock,
}

pub(super) struct Inner {
    pub(super) database: Database,
    blocks: Keyspace,
    sealed: Keyspace,
    history: Keyspace,
    erasures: Keyspace,
    retention: Keyspace,
    own: Keyspace,
    missing: Keyspace,
}

impl FjallStore {
    /// Opens the store in data directory `dir`, creating both if they are not there.
    pub fn create_or_open(dir: &Path) -> Result<Self, StoreError> {
        small_file::make_directory(dir, true)
            .map_err(|e| io(&format!("{} cannot be created", dir.display()), &e))?;
        let lock = DirectoryLock::take(dir)?;
        Self::with_lock(dir, lock)
    }

    /// Whether there is a store in `dir`.
    pub fn is_in(dir: &Path) -> bool {
        dir.join(FOLDER).is_dir()
    }

    /// Opens the store in data directory `dir`, which must hold one.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let folder = dir.join(FOLDER);
        if !folder.is_dir() {
            return Err(StoreError::Missing(dir.to_owned()));
        }
        let lock = DirectoryLock::take(dir)?;
        check_there(&folder)?;
        Self::with_lock(dir, lock)
    }

    fn with_lock(dir: &Path, lock: DirectoryLock) -> Result<Self, StoreError> {
        let folder = dir.join(FOLDER);
        let inner = Inner::open(&folder, scrub_folder(dir).is_dir())?;
        let mut slots = KeySlots::open(dir)?;
        let inner = move_out((dir, &folder), inner, &mut slots)?;
        Ok(Self {
            folder,
            inner: RwLock::new(Some(inner)),
            slots: Mutex::new(slots),
            _lock: lock,
        })
    }

    fn with<T>(&self, read: impl FnOnce(&Inner) -> Result<T, StoreError>) -> Result<T, StoreError> {
        if let Some(inner) = &*self.inner.read() {
            return read(inner);
        }
        self.reopen()?;
        match &*self.inner.read() {
            Some(inner) => read(inner),
            None => Err(StoreError::Io("the store is being reopened".to_owned())),
        }
    }

    /// Moves everything from the journal into tables, as a large ledger has it.
    #[cfg(test)]
    pub(super) fn flush(&self) {
        self.with(Inner::flush).unwrap();
    }

    fn reopen(&self) -> Result<(), StoreError> {
        let mut inner = self.inner.write();
        if inner.is_none() {
            check_there(&self.folder)?;
            *inner = Some(Inner::open(&self.folder, false)?);
        }
        Ok(())
    }
}

/// fjall would begin a new database where the marker file of the old one is lost.
fn check_there(folder: &Path) -> Result<(), StoreError> {
    if folder.join("version").is_file() {
        return Ok(());
    }
    let why = format!("{} holds no database", folder.display());
    Err(StoreError::Damaged(why))
}

impl Inner {
    /// Opens the database in `folder`; with `moving`, one that may just be giving up a keyspace.
    pub(super) fn open(folder: &Path, moving: bool) -> Result<Self, StoreError> {
        check_manifests(folder, moving)?;
        let open = || -> Result<Self, fjall::Error> {
            let database = Database::builder(folder)
                .cache_size(CACHE_BYTES)
                .max_journaling_size(JOURNAL_BYTES)
                // Ciphertext does not compress.
                .journal_compression(CompressionType::None)
                .worker_threads(2)
                .open()?;
            let keyspace = |space: Space| database.keyspace(space.name(), || options(space));
            Ok(Self {
                blocks: keyspace(Space::Blocks)?,
                sealed: keyspace(Space::Sealed)?,
                history: keyspace(Space::History)?,
                erasures: keyspace(Space::Erasures)?,
                retention: keyspace(Space::Retention)?,
                own: keyspace(Space::Own)?,
                missing: keyspace(Space::Missing)?,
                database,
            })
        };
        guarded(open)
    }

    /// The keyspace of `space`; wrapped keys have none.
    fn keyspace(&self, space: Space) -> Option<&Keyspace> {
        match space {
            Space::Blocks => Some(&self.blocks),
            Space::Sealed => Some(&self.sealed),
            Space::Keys => None,
            Space::History => Some(&self.history),
            Space::Erasures => Some(&self.erasures),
            Space::Retention => Some(&self.retention),
            Space::Own => Some(&self.own),
            Space::Missing => Some(&self.missing),
        }
    }

    /// Moves everything from the journal into tables.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        for keyspace in Space::ALL.into_iter().filter_map(|s| self.keyspace(s)) {
            guarded(|| keyspace.rotate_memtable_and_wait())?;
        }
        Ok(())
    }

    /// Gives back the room of removed values.
    fn reclaim(&self) -> Result<(), StoreError> {
        self.flush()?;
        for keyspace in [&self.history, &self.blocks, &self.sealed] {
            let mut left = u64::MAX;
            for _ in 0..COMPACTIONS {
                guarded(|| keyspace.major_compact())?;
                self.release()?;
                let stale = keyspace.fragmented_blob_bytes();
                if stale == 0 || stale == left {
                    break;
                }
                left = stale;
            }
        }
        Ok(())
    }

    /// Lets go of files that only earlier versions of the tables need. fjall does that when a memtable is
    /// rotated after writes that came after the compaction.
    fn release(&self) -> Result<(), StoreError> {
        for _ in 0..2 {
            guarded(|| self.erasures.remove([0]))?;
        }
        guarded(|| self.erasures.rotate_memtable_and_wait())
    }

    /// Commits, or says `false` if the database takes no more writes since an earlier one failed
    /// (one of its own, in the background): then nothing of this one was written.
    fn commit(&self, puts: &[Put]) -> Result<bool, StoreError> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for put in puts {
            if let Some(keyspace) = self.keyspace(put.space) {
                batch.insert(keyspace, put.key.as_slice(), put.value.as_slice());
            }
        }
        write(batch)
    }

    /// The same for what is removed.
    fn remove(&self, keyspace: &Keyspace, keys: &[Vec<u8>]) -> Result<bool, StoreError> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for key in keys {
            batch.remove(keyspace, key.as_slice());
        }
        write(batch)
    }
}

fn write(batch: fjall::OwnedWriteBatch) -> Result<bool, StoreError> {
    guarded(|| match batch.commit() {
        Ok(()) => Ok(true),
        Err(fjall::Error::Poisoned) => Ok(false),
        Err(e) => Err(e),
    })
}

fn options(space: Space) -> KeyspaceCreateOptions {
    let options = KeyspaceCreateOptions::default().max_memtable_size(memtable_bytes(space));
    if space != Space::Sealed {
        return options;
    }
    let separation = KvSeparationOptions::default()
        .separation_threshold(SEPARATE_FROM)
        .staleness_threshold(STALE)
        .age_cutoff(1.0)
        .compression(CompressionType::None);
    options.with_kv_separation(Some(separation))
}

impl FjallStore {
    /// Does a write until the database takes it.
    fn durably(
        &self,
        write: impl Fn(&Inner) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        for _ in 0..2 {
            // Files that were deleted take what is written into them all the same, and lose it.
            check_there(&self.folder)?;
            let result = self.with(&write);
            if let Ok(true) = result {
                return Ok(());
            }
            // Whatever the journal holds decides when it is opened again.
            *self.inner.write() = None;
            result?;
        }
        Err(StoreError::Io("writes in the background fail".to_owned()))
    }

    /// Reads from the keyspace of `space`, which is not that of wrapped keys.
    fn read<T>(
        &self,
        space: Space,
        read: impl FnOnce(&Keyspace) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.with(|inner| match inner.keyspace(space) {
            Some(keyspace) => read(keyspace),
            None => Err(StoreError::Io(format!("there is no keyspace {space}"))),
        })
    }

    /// The wrapped keys from `from` on.
    fn scan_slots(&self, from: &[u8]) -> impl Iterator<Item = Entry> + '_ {
        let keys = self.slots.lock().keys(from);
        keys.into_iter().filter_map(|key| {
            let value = self.slots.lock().get(&key).transpose()?;
            Some(value.map(|value| (key, value)))
        })
    }
}

impl Store for FjallStore {
    fn commit(&self, puts: &[Put]) -> Result<(), StoreError> {
        check_there(&self.folder)?;
        let wraps = puts.iter().filter(|put| put.space == Space::Keys);
        let wraps: Vec<_> = wraps.map(|put| (&*put.key, &*put.value)).collect();
        if !wraps.is_empty() {
            self.slots.lock().put(&wraps)?;
        }
        if wraps.len() == puts.len() {
            return Ok(());
        }
        self.durably(|inner| inner.commit(puts))
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if space == Space::Keys {
            return self.slots.lock().get(key);
        }
        self.read(space, |keyspace| {
            let value = guarded(|| keyspace.get(key))?;
            Ok(value.map(|v| v.to_vec()))
        })
    }

    fn last(&self, space: Space) -> Result<Option<Pair>, StoreError> {
        if space == Space::Keys {
            return self.slots.lock().last();
        }
        self.read(space, |keyspace| {
            let guard = guarded(|| Ok(keyspace.last_key_value()))?;
            guard.map(read_pair).transpose()
        })
    }

    fn remove(&self, space: Space, keys: &[Vec<u8>]) -> Result<(), StoreError> {
        check_there(&self.folder)?;
        if space == Space::Keys {
            return self.slots.lock().destroy(keys);
        }
        self.durably(|inner| match inner.keyspace(space) {
            Some(keyspace) => inner.remove(keyspace, keys),
            None => Ok(true),
        })
    }

    fn reclaim(&self) -> Result<(), StoreError> {
        self.with(Inner::reclaim)
    }

    fn scan<'a>(&'a self, space: Space, from: &[u8]) -> Box<dyn Iterator<Item = Entry> + 'a> {
        if space == Space::Keys {
            return Box::new(self.scan_slots(from));
        }
        let range = self.read(space, |keyspace| {
            guarded(|| Ok(keyspace.range::<&[u8], _>(from..)))
        });
        match range {
            Ok(range) => Box::new(Scan { range: Some(range) }),
            Err(e) => Box::new(std::iter::once(Err(e))),
        }
    }
}

/// A scan that ends after an entry that cannot be read.
struct Scan {
    range: Option<fjall::Iter>,
}

impl Iterator for Scan {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let range = self.range.as_mut()?;
        let entry = guarded(|| Ok(range.next())).transpose()?;
        let entry = entry.and_then(read_pair);
        if entry.is_err() {
            self.range = None;
        }
        Some(entry)
    }
}

fn read_pair(guard: fjall::Guard) -> Entry {
    let (key, value) = guarded(|| guard.into_inner())?;
    Ok((key.to_vec(), value.to_vec()))
}

/// Runs one call of fjall. What it finds on a damaged disk may also make it panic; a panic there is a
/// damaged store, not a fault of the hub.
pub(super) fn guarded<T>(call: impl FnOnce() -> Result<T, fjall::Error>) -> Result<T, StoreError> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|e| translate(&e)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(StoreError::Damaged(
                text.unwrap_or("it cannot be read").to_owned(),
            ))
        }
    }
}

fn translate(error: &fjall::Error) -> StoreError {
    use fjall::Error;
    match error {
        Error::Io(e) => io("a file of the store", e),
        Error::Storage(inner) => match inner {
            fjall::LsmError::Io(e) => io("a file of the store", e),
            other => StoreError::Damaged(format!("{other:?}")),
        },
        Error::Locked => StoreError::Io("the database is still open".to_owned()),
        other => StoreError::Damaged(format!("{other:?}")),
    }
}

pub(super) fn io(what: &str, error: &std::io::Error) -> StoreError {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full,
        // What should be there and is not, or is shorter than it should be.
        ErrorKind::NotFound | ErrorKind::UnexpectedEof | ErrorKind::InvalidData => {
            StoreError::Damaged(format!("{what}: {error}"))
        }
        _ => StoreError::Io(format!("{what}: {error}")),
    }
}
