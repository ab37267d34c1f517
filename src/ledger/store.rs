//! The port behind which blocks, sealed batches and wrapped keys are kept.
//!
//! `crate::store` implements it: once over fjall, once as a fake that loses power, tears writes and
//! runs full.

use borsh::{BorshDeserialize, BorshSerialize};
use std::{fmt, io};

/// Keyspaces of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// Height (u64, big-endian) → canonical block.
    Blocks,
    /// Hash of the ciphertext (32 bytes) → ciphertext of a batch or document.
    Sealed,
    /// Object, key epoch, recipient → wrapped epoch key. The only space whose values are overwritten, in
    /// the place where they lie: an empty value is a key that was destroyed.
    Keys,
    /// Device, length class, newest source time, batch → where its sealed batch is. Says nothing that
    /// blocks and sealed batches do not say, and can be made up from them.
    History,
    /// What was erased, by the hash that the record of it names, and what of that is still to be done.
    Erasures,
    /// What was retired: notices, what of them is still to be done, the state that the newest starts from.
    Retention,
    /// Number (u64, big-endian) → a record of this hub's own that is durable here and not yet in a block of a
    /// chain that several hubs share. One that a block has by now says nothing any more.
    Own,
    /// Hash of a ciphertext (32 bytes) → what a record of a chain that several hubs share names, and what is not
    /// here yet. An empty value says that it has come.
    Missing,
}

impl Space {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Blocks,
        Self::Sealed,
        Self::Keys,
        Self::History,
        Self::Erasures,
        Self::Retention,
        Self::Own,
        Self::Missing,
    ];

    /// Its number in what is written down or sent; these stay.
    pub fn code(self) -> u8 {
        match self {
            Self::Blocks => 0,
            Self::Sealed => 1,
            Self::Keys => 2,
            Self::History => 3,
            Self::Erasures => 4,
            Self::Retention => 5,
            Self::Own => 6,
            Self::Missing => 7,
        }
    }

    /// The space of this number.
    pub fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|space| space.code() == code)
    }

    /// Its name on disk.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blocks => "blocks",
            Self::Sealed => "sealed",
            Self::Keys => "keys",
            Self::History => "history",
            Self::Erasures => "erasures",
            Self::Retention => "retention",
            Self::Own => "own",
            Self::Missing => "missing",
        }
    }
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl BorshSerialize for Space {
    fn serialize<W: io::Write>(&self, writer: &mut W) -> io::Result<()> {
        self.code().serialize(writer)
    }
}

impl BorshDeserialize for Space {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Self> {
        let code = u8::deserialize_reader(reader)?;
        let unknown = || io::Error::new(io::ErrorKind::InvalidData, "there is no such keyspace");
        Self::of_code(code).ok_or_else(unknown)
    }
}

/// One value to be written.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Put {
    /// Into which keyspace.
    pub space: Space,
    /// Under which key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

/// Why the store cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("the data directory {0} is in use by another process; stop it first")]
    InUse(std::path::PathBuf),
    /// There is none.
    #[error("there is no store in {0}")]
    Missing(std::path::PathBuf),
    /// The disk is full.
    #[error("the disk is full")]
    Full,
    /// What is there cannot be read.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The operating system failed.
    #[error("the store failed: {0}")]
    Io(String),
}

/// Key and value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// One entry of a scan: key and value, or why it cannot be read.
pub type Entry = Result<Pair, StoreError>;

/// A key-value store with atomic, durable batches of writes. Blocking: never call it from an async
/// thread.
pub trait Store: Send + Sync {
    /// Writes all of `puts` or none, and returns once they are durable. Wrapped keys are written first:
    /// one that is there without its block wraps nothing.
    ///
    /// After an error it is not known which of the two: whoever needs to know reads, or commits the
    /// same again.
    fn commit(&self, puts: &[Put]) -> Result<(), StoreError>;

    /// The value under `key`.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// The entry with the greatest key.
    fn last(&self, space: Space) -> Result<Option<Pair>, StoreError>;

    /// All entries with keys from `from` on, ascending.
    fn scan<'a>(&'a self, space: Space, from: &[u8]) -> Box<dyn Iterator<Item = Entry> + 'a>;

    /// Removes what is under `keys`, and returns once that is durable. What is not there is no error.
    /// Wrapped keys are overwritten where they lie, and an empty value stays under their keys. Anything
    /// else may stay in the store's files until [`reclaim`](Self::reclaim).
    fn remove(&self, space: Space, keys: &[Vec<u8>]) -> Result<(), StoreError>;

    /// Gives back the room of what was removed. It takes as long as writing what remains.
    fn reclaim(&self) -> Result<(), StoreError>;
}
