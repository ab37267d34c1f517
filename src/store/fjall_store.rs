//! The store over fjall: four keyspaces, one journal, one fsync a commit.
//!
//! fjall refuses all further writes after a write has failed, because it cannot know what reached the
//! disk. Opening it again lets its journal decide; so after a failed commit the database is opened
//! anew before the next one, and a full disk does not need a restart of the hub.

use super::lock::DirectoryLock;
use super::manifest::check_manifests;
use crate::ledger::store::{Entry, Pair, Put, Space, Store, StoreError};
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode,
};
use parking_lot::RwLock;
use std::path::{Path, PathBuf};

/// Folder of the database inside the data directory.
const FOLDER: &str = "store";
/// Blocks read from disk that are kept in memory.
const CACHE_BYTES: u64 = 8 << 20;
/// Journals are given up once their content is in tables; at most this much is kept.
const JOURNAL_BYTES: u64 = 64 << 20;
/// Values of at least this size lie in files of their own and are not moved by compaction.
const SEPARATE_FROM: u32 = 1 << 10;

/// How much of a keyspace is gathered in memory before it is written as a table. Together with what
/// is being flushed this bounds the store's memory.
fn memtable_bytes(space: Space) -> u64 {
    match space {
        Space::Sealed => 4 << 20,
        Space::Blocks => 2 << 20,
        Space::Keys | Space::History => 1 << 20,
    }
}

/// A data directory's store. Only one process can have it open, for reading too.
pub struct FjallStore {
    folder: PathBuf,
    inner: RwLock<Option<Inner>>,
    _lock: DirectoryLock,
}

struct Inner {
    database: Database,
    blocks: Keyspace,
    sealed: Keyspace,
    keys: Keyspace,
    history: Keyspace,
}

impl FjallStore {
    /// Opens the store in data directory `dir`, creating both if they are not there.
    pub fn create_or_open(dir: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(dir)
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
        let inner = Inner::open(&folder)?;
        Ok(Self {
            folder,
            inner: RwLock::new(Some(inner)),
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
        let flushed = self.with(|inner| {
            for space in Space::ALL {
                guarded(|| inner.keyspace(space).rotate_memtable_and_wait())?;
            }
            Ok(())
        });
        flushed.unwrap();
    }

    fn reopen(&self) -> Result<(), StoreError> {
        let mut inner = self.inner.write();
        if inner.is_none() {
            check_there(&self.folder)?;
            *inner = Some(Inner::open(&self.folder)?);
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
    fn open(folder: &Path) -> Result<Self, StoreError> {
        check_manifests(folder)?;
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
                keys: keyspace(Space::Keys)?,
                history: keyspace(Space::History)?,
                database,
            })
        };
        guarded(open)
    }

    fn keyspace(&self, space: Space) -> &Keyspace {
        match space {
            Space::Blocks => &self.blocks,
            Space::Sealed => &self.sealed,
            Space::Keys => &self.keys,
            Space::History => &self.history,
        }
    }

    /// Commits, or says `false` if the database takes no more writes since an earlier one failed
    /// (one of its own, in the background): then nothing of this one was written.
    fn commit(&self, puts: &[Put]) -> Result<bool, StoreError> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for put in puts {
            let keyspace = self.keyspace(put.space);
            batch.insert(keyspace, put.key.as_slice(), put.value.as_slice());
        }
        guarded(|| match batch.commit() {
            Ok(()) => Ok(true),
            Err(fjall::Error::Poisoned) => Ok(false),
            Err(e) => Err(e),
        })
    }
}

fn options(space: Space) -> KeyspaceCreateOptions {
    let options = KeyspaceCreateOptions::default().max_memtable_size(memtable_bytes(space));
    if space != Space::Sealed {
        return options;
    }
    let separation = KvSeparationOptions::default()
        .separation_threshold(SEPARATE_FROM)
        .compression(CompressionType::None);
    options.with_kv_separation(Some(separation))
}

impl Store for FjallStore {
    fn commit(&self, puts: &[Put]) -> Result<(), StoreError> {
        for _ in 0..2 {
            // Files that were deleted take what is written into them all the same, and lose it.
            check_there(&self.folder)?;
            let result = self.with(|inner| inner.commit(puts));
            if let Ok(true) = result {
                return Ok(());
            }
            // Whatever the journal holds decides when it is opened again.
            *self.inner.write() = None;
            result?;
        }
        Err(StoreError::Io("writes in the background fail".to_owned()))
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.with(|inner| {
            let value = guarded(|| inner.keyspace(space).get(key))?;
            Ok(value.map(|v| v.to_vec()))
        })
    }

    fn last(&self, space: Space) -> Result<Option<Pair>, StoreError> {
        self.with(|inner| {
            let guard = guarded(|| Ok(inner.keyspace(space).last_key_value()))?;
            guard.map(read_pair).transpose()
        })
    }

    fn scan<'a>(&'a self, space: Space, from: &[u8]) -> Box<dyn Iterator<Item = Entry> + 'a> {
        let range = self.with(|inner| {
            let keyspace = inner.keyspace(space);
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
fn guarded<T>(call: impl FnOnce() -> Result<T, fjall::Error>) -> Result<T, StoreError> {
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

fn io(what: &str, error: &std::io::Error) -> StoreError {
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
