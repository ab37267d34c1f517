//! A batch store in memory that loses its connection, changes bytes, and keeps callers waiting, on demand.

use super::BatchStore;
use crate::ledger::store::{Pair, StoreError};
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows of a page.
const PAGE: usize = 3;

/// It. Clones are handles on the same one.
#[derive(Clone, Default)]
pub struct FaultyBatches {
    shared: Arc<(Mutex<Rows>, Condvar)>,
}

#[derive(Default)]
struct Rows {
    rows: BTreeMap<Vec<u8>, (u64, Vec<u8>)>,
    lost: Lost,
    held: bool,
    /// Writes that wait because it is held.
    waiting: usize,
}

/// Whether the connection is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lost {
    /// It is not.
    #[default]
    No,
    /// Nothing gets through.
    All,
    /// What is written gets there, and the answer does not come back.
    Answers,
}

impl FaultyBatches {
    /// Loses the connection, or has it again.
    pub fn lose(&self, lost: Lost) {
        self.shared.0.lock().lost = lost;
    }

    /// Keeps those who write waiting until it is let go.
    pub fn hold(&self, held: bool) {
        self.shared.0.lock().held = held;
        self.shared.1.notify_all();
    }

    /// Returns when somebody waits because it is held.
    pub fn wait_for_a_writer(&self) {
        let mut rows = self.shared.0.lock();
        while rows.waiting == 0 {
            self.shared.1.wait(&mut rows);
        }
    }

    /// Changes a byte of the row under `hash`.
    pub fn change(&self, hash: &[u8]) {
        if let Some((_, value)) = self.shared.0.lock().rows.get_mut(hash)
            && let Some(byte) = value.first_mut()
        {
            *byte ^= 1;
        }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.shared.0.lock().rows.len()
    }

    fn read<T>(&self, read: impl FnOnce(&Rows) -> T) -> Result<T, StoreError> {
        let rows = self.shared.0.lock();
        match rows.lost {
            Lost::No => Ok(read(&rows)),
            Lost::All | Lost::Answers => Err(gone()),
        }
    }

    fn write<T>(&self, write: impl FnOnce(&mut Rows) -> T) -> Result<T, StoreError> {
        let mut rows = self.shared.0.lock();
        rows.waiting += 1;
        self.shared.1.notify_all();
        while rows.held {
            self.shared.1.wait(&mut rows);
        }
        rows.waiting -= 1;
        match rows.lost {
            Lost::No => Ok(write(&mut rows)),
            Lost::All => Err(gone()),
            Lost::Answers => {
                write(&mut rows);
                Err(gone())
            }
        }
    }
}

fn gone() -> StoreError {
    StoreError::Io("the database does not answer".to_owned())
}

impl BatchStore for FaultyBatches {
    fn row(&self, hash: &[u8]) -> String {
        let hash: String = hash.iter().map(|b| format!("{b:02x}")).collect();
        format!("row {hash}")
    }

    fn put(&self, number: u64, batches: &[(&[u8], &[u8])]) -> Result<(), StoreError> {
        self.write(|rows| {
            for (hash, value) in batches {
                let row = rows.rows.entry(hash.to_vec());
                row.or_insert((number, Vec::new())).1 = value.to_vec();
            }
        })
    }

    fn get(&self, hash: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|rows| rows.rows.get(hash).map(|(_, value)| value.clone()))
    }

    fn page(&self, from: &[u8], up_to: u64) -> Result<Vec<Pair>, StoreError> {
        self.read(|rows| {
            let rows = rows.rows.range(from.to_vec()..);
            let rows = rows.filter(|(_, (number, _))| *number <= up_to);
            let pairs = rows.map(|(hash, (_, value))| (hash.clone(), value.clone()));
            pairs.take(PAGE).collect()
        })
    }

    fn remove(&self, hashes: &[Vec<u8>]) -> Result<(), StoreError> {
        self.write(|rows| rows.rows.retain(|hash, _| !hashes.contains(hash)))
    }

    fn newest(&self) -> Result<u64, StoreError> {
        self.read(|rows| rows.rows.values().map(|(number, _)| *number).max())
            .map(Option::unwrap_or_default)
    }

    fn sweep(&self, number: u64) -> Result<u64, StoreError> {
        self.write(|rows| {
            let before = rows.rows.len();
            rows.rows.retain(|_, (of, _)| *of != number);
            (before - rows.rows.len()) as u64
        })
    }
}
