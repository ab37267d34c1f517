//! A store with a buffer beside it, for the time when its disk takes nothing.
//!
//! A commit that the store refuses goes into a spool, which may lie on another disk, and counts as
//! durable: it is. What is in the spool is read as if it were in the store. A thread of its own brings
//! it there, in order, as soon as the store takes it; commits are keyed, so that one that had half
//! arrived does no harm when it is made again. So the ledger's blocks go on, signed and numbered as
//! always, and nobody above needs to know (ADR 12).

use super::spool::{Next, Spool, SpoolError, SpoolLimits};
use crate::ledger::store::{Entry, Pair, Put, Space, Store, StoreError};
use borsh::{BorshDeserialize, BorshSerialize};
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use weighbridge_verifier::{decode, encode};

/// How often a store that refused is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// How a buffer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferStatus {
    /// Commits that wait in it.
    pub waiting: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Why the store does not take them; empty when it does.
    pub reason: String,
}

/// A store, and what waits beside it.
pub struct BufferedStore {
    shared: Arc<Shared>,
    drain: Option<JoinHandle<()>>,
}

struct Shared {
    inner: Arc<dyn Store>,
    state: Mutex<State>,
    /// There is something to bring to the store, or this is the end.
    changed: Condvar,
}

struct State {
    spool: Spool,
    /// In which record of the spool the newest value under a key is.
    index: BTreeMap<(Space, Vec<u8>), u64>,
    reason: String,
    /// Something in it cannot be read any more.
    damaged: Option<String>,
    ended: bool,
}

#[derive(BorshSerialize, BorshDeserialize)]
struct Buffered {
    space: u8,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl BufferedStore {
    /// `inner` with a buffer in `dir`. What an earlier process left in it is read as part of the store
    /// from the beginning.
    pub fn open(
        inner: Arc<dyn Store>,
        dir: &Path,
        limits: SpoolLimits,
    ) -> Result<Self, StoreError> {
        let (mut spool, opened) = Spool::open(dir, limits).map_err(broken)?;
        if opened.lost > 0 {
            return Err(lost(spool.head()));
        }
        let index = index(&mut spool)?;
        let shared = Arc::new(Shared {
            inner,
            state: Mutex::new(State {
                spool,
                index,
                reason: String::new(),
                damaged: None,
                ended: false,
            }),
            changed: Condvar::new(),
        });
        let of_thread = shared.clone();
        let drain = std::thread::Builder::new()
            .name("weighbridge-buffer".to_owned())
            .spawn(move || of_thread.drain())
            .map_err(|e| StoreError::Io(format!("the buffer's thread cannot be started: {e}")))?;
        Ok(Self {
            shared,
            drain: Some(drain),
        })
    }

    /// `inner` with what waits in the buffer in `dir`, to be read; nothing is changed, and a commit fails.
    pub fn look(inner: Arc<dyn Store>, dir: &Path) -> Result<Option<Self>, StoreError> {
        let Some((mut spool, opened)) = Spool::look(dir).map_err(broken)? else {
            return Ok(None);
        };
        if opened.lost > 0 {
            return Err(lost(spool.head()));
        }
        let index = index(&mut spool)?;
        let damaged = Some("it was opened to be read only".to_owned());
        let shared = Arc::new(Shared {
            inner,
            state: Mutex::new(State {
                spool,
                index,
                reason: String::new(),
                damaged,
                ended: false,
            }),
            changed: Condvar::new(),
        });
        let drain = None;
        Ok(Some(Self { shared, drain }))
    }

    /// How the buffer is.
    pub fn status(&self) -> BufferStatus {
        let state = self.shared.state.lock();
        BufferStatus {
            waiting: state.spool.pending(),
            bytes: state.spool.bytes(),
            reason: state.reason.clone(),
        }
    }
}

impl Drop for BufferedStore {
    fn drop(&mut self) {
        self.shared.state.lock().ended = true;
        self.shared.changed.notify_all();
        if let Some(drain) = self.drain.take() {
            // A panic in it was reported when it happened.
            let _ = drain.join();
        }
    }
}

impl Shared {
    /// Brings what waits to the store, until the end.
    fn drain(&self) {
        let mut state = self.state.lock();
        while !state.ended {
            if state.damaged.is_some() || state.spool.pending() == 0 {
                self.changed.wait(&mut state);
                continue;
            }
            let next = match next(&mut state.spool) {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!(%error, "the buffer cannot be read");
                    state.damaged = Some(error.to_string());
                    continue;
                }
            };
            drop(state);
            // Meanwhile others append behind it.
            let written = self.inner.commit(&next.1);
            state = self.state.lock();
            let done = match written {
                Ok(()) => state.done(next.0, &next.1),
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                state.reason = error.to_string();
                self.changed.wait_for(&mut state, RETRY);
            }
        }
    }

    /// Whether nothing waits: what does would come back after it was removed.
    fn nothing_waits(&self) -> Result<(), StoreError> {
        let state = self.state.lock();
        if state.spool.pending() == 0 && !state.ended {
            return Ok(());
        }
        let why = "blocks still wait in its buffer; erase when it has written them";
        Err(StoreError::Io(why.to_owned()))
    }

    fn value(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let of = (space, key.to_vec());
        let mut state = self.state.lock();
        if let Some(record) = state.index.get(&of).copied()
            && let Some(found) = state.spool.get(record).map_err(broken)?
        {
            let newest_first = puts(&found)?.into_iter().rev();
            let mut values = newest_first.filter(|put| put.space == space && put.key == key);
            return Ok(values.next().map(|put| put.value));
        }
        drop(state);
        self.inner.get(space, key)
    }
}

impl State {
    /// Record `record` is in the store now.
    fn done(&mut self, record: u64, puts: &[Put]) -> Result<(), StoreError> {
        self.spool.acknowledge(record + 1).map_err(broken)?;
        for put in puts {
            let key = (put.space, put.key.clone());
            if self.index.get(&key) == Some(&record) {
                self.index.remove(&key);
            }
        }
        if self.spool.pending() == 0 {
            tracing::info!("the store takes writes again, and has all that waited in the buffer");
            self.reason.clear();
        }
        Ok(())
    }

    fn append(&mut self, puts: &[Put]) -> Result<(), StoreError> {
        let buffered = puts.iter().map(|put| Buffered {
            space: Space::code(put.space),
            key: put.key.clone(),
            value: put.value.clone(),
        });
        let bytes = encode(&buffered.collect::<Vec<_>>());
        let appended = self.spool.append(&bytes);
        let appended = appended.and_then(|record| self.spool.sync().map(|()| record));
        // Why the store does not take it comes first: that is what somebody can do something about.
        let record = appended.map_err(|error| {
            let reason = match self.reason.is_empty() {
                true => "the store is behind",
                false => self.reason.as_str(),
            };
            StoreError::Io(format!("{reason}; {error}"))
        })?;
        for put in puts {
            self.index.insert((put.space, put.key.clone()), record);
        }
        Ok(())
    }
}

impl Store for BufferedStore {
    fn commit(&self, puts: &[Put]) -> Result<(), StoreError> {
        let shared = &self.shared;
        let is_wrap = |put: &Put| put.space == Space::Keys;
        if puts.iter().any(is_wrap) && self.drain.is_some() {
            // Wrapped keys lie where they can be overwritten, and so never in the buffer.
            let (wraps, rest): (Vec<Put>, Vec<Put>) = puts.iter().cloned().partition(is_wrap);
            shared.inner.commit(&wraps)?;
            return match rest.is_empty() {
                true => Ok(()),
                false => self.commit(&rest),
            };
        }
        if self.drain.is_some() && shared.state.lock().spool.pending() == 0 {
            let error = match shared.inner.commit(puts) {
                Err(error @ (StoreError::Full | StoreError::Io(_))) => error,
                other => return other,
            };
            tracing::error!(%error, "the store takes nothing, the buffer does");
            shared.state.lock().reason = error.to_string();
        }
        let mut state = shared.state.lock();
        if let Some(damaged) = &state.damaged {
            return Err(StoreError::Damaged(damaged.clone()));
        }
        state.append(puts)?;
        shared.changed.notify_all();
        Ok(())
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.shared.value(space, key)
    }

    fn last(&self, space: Space) -> Result<Option<Pair>, StoreError> {
        let newest = {
            let state = self.shared.state.lock();
            let mut keys = state.index.keys().rev();
            keys.find(|(s, _)| *s == space).map(|(_, key)| key.clone())
        };
        let stored = self.shared.inner.last(space)?;
        match newest {
            Some(key) if stored.as_ref().is_none_or(|(last, _)| *last <= key) => {
                let value = self.shared.value(space, &key)?;
                Ok(value.map(|value| (key, value)))
            }
            _ => Ok(stored),
        }
    }

    fn scan<'a>(&'a self, space: Space, from: &[u8]) -> Box<dyn Iterator<Item = Entry> + 'a> {
        // First what waits, then what is there: what goes from one to the other meanwhile is in both.
        let waiting: Vec<Vec<u8>> = {
            let state = self.shared.state.lock();
            let keys = state.index.range((space, from.to_vec())..);
            let own = keys.take_while(|((s, _), _)| *s == space);
            own.map(|((_, key), _)| key.clone()).collect()
        };
        let mut stored = self.shared.inner.scan(space, from).peekable();
        let mut waiting = waiting.into_iter().peekable();
        Box::new(std::iter::from_fn(move || {
            let next = match (waiting.peek(), stored.peek()) {
                (None, _) | (_, Some(Err(_))) => return stored.next(),
                (Some(_), None) => waiting.next(),
                (Some(key), Some(Ok((there, _)))) if key > there => return stored.next(),
                (Some(key), Some(Ok((there, _)))) => {
                    if key == there {
                        stored.next();
                    }
                    waiting.next()
                }
            };
            let key = next?;
            match self.shared.value(space, &key) {
                Ok(value) => value.map(|value| Ok((key, value))),
                Err(error) => Some(Err(error)),
            }
        }))
    }

    fn remove(&self, space: Space, keys: &[Vec<u8>]) -> Result<(), StoreError> {
        self.shared.nothing_waits()?;
        self.shared.inner.remove(space, keys)
    }

    fn reclaim(&self) -> Result<(), StoreError> {
        self.shared.nothing_waits()?;
        self.shared.inner.reclaim()
    }
}

/// In which record the newest value under each key is.
fn index(spool: &mut Spool) -> Result<BTreeMap<(Space, Vec<u8>), u64>, StoreError> {
    let mut index = BTreeMap::new();
    while let Some(next) = spool.read().map_err(broken)? {
        for put in puts(&next)? {
            index.insert((put.space, put.key), next.index());
        }
    }
    spool.read_from(spool.head());
    Ok(index)
}

/// The puts of a commit that waits in a buffer; why it is none.
pub fn buffered_puts(bytes: &[u8]) -> Result<Vec<Put>, StoreError> {
    puts(&Next::Record(0, bytes.to_vec()))
}

/// The oldest record, without taking it.
fn next(spool: &mut Spool) -> Result<(u64, Vec<Put>), StoreError> {
    spool.read_from(spool.head());
    match spool.read().map_err(broken)? {
        Some(next) => Ok((next.index(), puts(&next)?)),
        None => Err(lost(spool.head())),
    }
}

fn puts(next: &Next) -> Result<Vec<Put>, StoreError> {
    let Next::Record(_, bytes) = next else {
        return Err(lost(next.index()));
    };
    let damaged = |e: weighbridge_verifier::DecodeError| StoreError::Damaged(e.to_string());
    let buffered: Vec<Buffered> = decode("buffered commit", bytes).map_err(damaged)?;
    let put = |b: Buffered| {
        let space = Space::of_code(b.space);
        let unknown = || StoreError::Damaged(format!("the buffer has no space {}", b.space));
        Ok(Put {
            space: space.ok_or_else(unknown)?,
            key: b.key,
            value: b.value,
        })
    };
    buffered.into_iter().map(put).collect()
}

fn lost(record: u64) -> StoreError {
    StoreError::Damaged(format!(
        "commit {record} of the buffer was acknowledged and is lost; restore the data directory from \
         a backup, with a new signing key"
    ))
}

fn broken(error: SpoolError) -> StoreError {
    match error {
        SpoolError::Lock(error) => error,
        other => StoreError::Io(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::FaultyDisk;
    use std::time::Instant;

    fn put(space: Space, key: u64, value: u8) -> Put {
        Put {
            space,
            key: key.to_be_bytes().to_vec(),
            value: vec![value; 100],
        }
    }

    fn open(disk: &FaultyDisk, dir: &Path) -> BufferedStore {
        let limits = SpoolLimits::of(1 << 20);
        BufferedStore::open(Arc::new(disk.store()), dir, limits).unwrap()
    }

    fn drained(store: &BufferedStore) {
        let began = Instant::now();
        while store.status().waiting > 0 {
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "{:?}",
                store.status()
            );
            std::thread::yield_now();
        }
    }

    fn keys(store: &dyn Store, space: Space, from: u64) -> Vec<(u64, u8)> {
        let entries = store.scan(space, &from.to_be_bytes());
        let pair = |(key, value): Pair| (u64::from_be_bytes(key.try_into().unwrap()), value[0]);
        entries.map(|e| pair(e.unwrap())).collect()
    }

    #[test]
    fn what_a_full_disk_refuses_is_read_as_if_it_were_there_and_gets_there() {
        let (disk, dir) = (FaultyDisk::new(3), tempfile::tempdir().unwrap());
        let store = open(&disk, dir.path());
        let both = |key, value| {
            [
                put(Space::Blocks, key, value),
                put(Space::Sealed, key, value),
            ]
        };
        for key in [1, 2, 5] {
            store.commit(&both(key, 1)).unwrap();
        }
        assert_eq!(store.status().waiting, 0);
        disk.set_full(true);
        for (key, value) in [(3, 1), (5, 2), (4, 1), (4, 3), (6, 1)] {
            store.commit(&both(key, value)).unwrap();
        }
        let status = store.status();
        assert_eq!((status.waiting, &*status.reason), (5, "the disk is full"));
        let all = [(1, 1), (2, 1), (3, 1), (4, 3), (5, 2), (6, 1)];
        assert_eq!(keys(&store, Space::Blocks, 0), all);
        assert_eq!(keys(&store, Space::Blocks, 4), all[3..]);
        assert_eq!(keys(&store, Space::Keys, 0), []);
        assert_eq!(store.last(Space::Sealed).unwrap().unwrap().1[0], 1);
        let five = store.get(Space::Sealed, &5_u64.to_be_bytes()).unwrap();
        assert_eq!(five.unwrap()[0], 2);
        // A restart in between changes nothing.
        drop(store);
        let store = open(&disk, dir.path());
        assert_eq!(keys(&store, Space::Blocks, 0), all);
        disk.set_full(false);
        drained(&store);
        assert_eq!(store.status().reason, "");
        assert_eq!(keys(&disk.store(), Space::Sealed, 0), all);
        assert_eq!(keys(&store, Space::Sealed, 0), all);
        store.commit(&both(7, 1)).unwrap();
        assert_eq!(store.status().waiting, 0);
        assert_eq!(disk.contents(Space::Blocks).len(), 7);
    }

    #[test]
    fn wrapped_keys_are_never_in_the_buffer_and_what_waits_is_not_erased() {
        let (disk, dir) = (FaultyDisk::new(6), tempfile::tempdir().unwrap());
        let store = open(&disk, dir.path());
        disk.set_full(true);
        let wrap = Put {
            value: b"a wrapped key".to_vec(),
            ..put(Space::Keys, 1, 0)
        };
        store
            .commit(&[wrap.clone(), put(Space::Blocks, 1, 1)])
            .unwrap();
        assert_eq!(store.status().waiting, 1);
        for file in std::fs::read_dir(dir.path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            assert!(!bytes.windows(wrap.value.len()).any(|w| w == wrap.value));
        }
        let got = store.get(Space::Keys, &wrap.key).unwrap();
        assert_eq!(got.as_ref(), Some(&wrap.value));
        let waiting = store.remove(Space::Keys, std::slice::from_ref(&wrap.key));
        assert!(waiting.unwrap_err().to_string().contains("still wait"));
        disk.set_full(false);
        drained(&store);
        store
            .remove(Space::Keys, std::slice::from_ref(&wrap.key))
            .unwrap();
        assert_eq!(store.get(Space::Keys, &wrap.key).unwrap(), Some(vec![]));
    }

    #[test]
    fn at_its_bound_it_refuses_like_the_disk_and_says_both() {
        let (disk, dir) = (FaultyDisk::new(4), tempfile::tempdir().unwrap());
        let store = open(&disk, dir.path());
        disk.set_full(true);
        let large = |key| Put {
            value: vec![0; 100_000],
            ..put(Space::Sealed, key, 0)
        };
        let mut taken = 0;
        let said = loop {
            match store.commit(&[large(taken)]) {
                Ok(()) => taken += 1,
                Err(error) => break error.to_string(),
            }
        };
        assert!(taken > 5, "{taken}: {said}");
        assert!(said.contains("the disk is full; the buffer"), "{said}");
        disk.set_full(false);
        drained(&store);
        store.commit(&[large(taken)]).unwrap();
        assert_eq!(disk.contents(Space::Sealed).len() as u64, taken + 1);
    }

    #[test]
    fn a_commit_that_is_lost_in_the_buffer_is_not_passed_over() {
        let (disk, dir) = (FaultyDisk::new(5), tempfile::tempdir().unwrap());
        let store = open(&disk, dir.path());
        disk.set_full(true);
        for key in 0..3 {
            store.commit(&[put(Space::Blocks, key, 1)]).unwrap();
        }
        drop(store);
        let segment = std::fs::read_dir(dir.path()).unwrap();
        let mut segment = segment.map(|e| e.unwrap().path());
        let segment = segment.find(|p| p.extension().is_some_and(|e| e == "seg"));
        let segment = segment.unwrap();
        let mut bytes = std::fs::read(&segment).unwrap();
        bytes[60] ^= 1;
        std::fs::write(&segment, bytes).unwrap();
        let inner = Arc::new(disk.store());
        let opened = BufferedStore::open(inner, dir.path(), SpoolLimits::of(1 << 20));
        let error = opened.err().unwrap().to_string();
        assert!(
            error.contains("commit 0 of the buffer was acknowledged and is lost"),
            "{error}"
        );
    }
}
