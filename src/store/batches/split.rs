//! A store whose sealed bytes are elsewhere.
//!
//! Order of durability: the sealed bytes, then what refers to them. What a crash leaves between the two is rows
//! that nobody refers to. They are known by their number: a commit has the next one, its rows are written under it,
//! and the base has it in the same commit as what refers to them. So rows of a later number than the base knows are
//! nobody's; they are passed over, and removed before a commit uses that number.

use super::BatchStore;
use crate::ledger::store::{Entry, Pair, Put, Space, Store, StoreError};
use borsh::{BorshDeserialize, BorshSerialize};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use weighbridge_verifier::{Suite, decode, encode};

/// In the base's space of sealed bytes, where keys are hashes otherwise: the [`Mark`].
const MARK: &[u8] = b"outside";
/// The version of the mark.
const VERSION: u8 = 1;

/// What the base knows of the store outside.
#[derive(Clone, BorshSerialize, BorshDeserialize)]
struct Mark {
    version: u8,
    /// What the rows of this ledger are known by, among others in the same database.
    ledger: [u8; 16],
    /// The newest commit whose rows are referred to.
    number: u64,
}

/// `base` for everything but sealed bytes. Those that it had before stay there, and are read and removed as any.
pub struct SplitStore {
    base: Arc<dyn Store>,
    batches: Box<dyn BatchStore>,
    turn: Mutex<Turn>,
}

/// Commits with sealed bytes go one after the other: numbers must become durable in their order.
struct Turn {
    mark: Mark,
    /// The newest number outside when this was looked up; `None` after a failure, when neither it nor the mark is
    /// known any more.
    newest: Option<u64>,
}

impl SplitStore {
    /// The mark of the next commit. Nothing outside is of its number.
    fn next(&self, turn: &mut Turn) -> Result<Mark, StoreError> {
        let newest = match turn.newest {
            Some(newest) => newest,
            None => {
                if let Some(mark) = mark(&*self.base)? {
                    turn.mark = mark;
                }
                self.batches.newest()?
            }
        };
        turn.newest = Some(newest);
        let mut mark = turn.mark.clone();
        mark.number = mark.number.saturating_add(1);
        if mark.number <= newest {
            let swept = self.batches.sweep(mark.number)?;
            if swept > 0 {
                tracing::info!(
                    swept,
                    "sealed batches of an interrupted commit were removed"
                );
            }
        }
        Ok(mark)
    }
}

impl SplitStore {
    /// Whether the sealed bytes of `base` are elsewhere.
    pub fn is_split(base: &dyn Store) -> Result<bool, StoreError> {
        Ok(mark(base)?.is_some())
    }

    /// `base`, with sealed bytes in what `make` makes for the ledger of this name.
    pub fn open(
        base: Arc<dyn Store>,
        make: impl FnOnce([u8; 16]) -> Result<Box<dyn BatchStore>, StoreError>,
    ) -> Result<Self, StoreError> {
        let (mark, batches) = match mark(&*base)? {
            Some(mark) => {
                let batches = make(mark.ledger)?;
                (mark, batches)
            }
            None => {
                let mut ledger = [0; 16];
                let random = getrandom::fill(&mut ledger);
                random.map_err(|e| StoreError::Io(format!("no randomness: {e}")))?;
                let mark = Mark {
                    version: VERSION,
                    ledger,
                    number: 0,
                };
                let batches = make(ledger)?;
                base.commit(&[mark.put()])?;
                (mark, batches)
            }
        };
        let newest = None;
        Ok(Self {
            base,
            batches,
            turn: Mutex::new(Turn { mark, newest }),
        })
    }

    /// Whether `value` is what belongs under `hash`; whoever asks knows one of both suites' hashes of it.
    fn checked(&self, hash: &[u8], value: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        let is = |suite: Suite| suite.hash(&[&value]).0 == hash;
        if is(Suite::Nist) || is(Suite::Guomi) {
            return Ok(value);
        }
        Err(StoreError::Damaged(format!(
            "{} is changed: the hash of its {} bytes is another",
            self.batches.row(hash),
            value.len()
        )))
    }
}

fn mark(base: &dyn Store) -> Result<Option<Mark>, StoreError> {
    let Some(bytes) = base.get(Space::Sealed, MARK)? else {
        return Ok(None);
    };
    let mark: Mark =
        decode("mark of the batches", &bytes).map_err(|e| StoreError::Damaged(e.to_string()))?;
    match mark.version {
        VERSION => Ok(Some(mark)),
        version => Err(StoreError::Damaged(format!(
            "the format version {version} of the mark of the batches is not known here"
        ))),
    }
}

impl Mark {
    fn put(&self) -> Put {
        Put {
            space: Space::Sealed,
            key: MARK.to_vec(),
            value: encode(self),
        }
    }
}

impl Store for SplitStore {
    fn commit(&self, puts: &[Put]) -> Result<(), StoreError> {
        let is_sealed = |put: &&Put| put.space == Space::Sealed;
        let sealed: Vec<(&[u8], &[u8])> = puts
            .iter()
            .filter(is_sealed)
            .map(|put| (put.key.as_slice(), put.value.as_slice()))
            .collect();
        if sealed.is_empty() {
            return self.base.commit(puts);
        }
        let mut turn = self.turn.lock();
        let mark = self.next(&mut turn)?;
        // Until it is done it is not known whether it is.
        let newest = turn.newest.take();
        self.batches.put(mark.number, &sealed)?;
        let rest = puts.iter().filter(|put| !is_sealed(put)).cloned();
        let rest: Vec<Put> = rest.chain([mark.put()]).collect();
        self.base.commit(&rest)?;
        (turn.mark, turn.newest) = (mark, newest);
        Ok(())
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        // What the base has needs no network.
        let here = self.base.get(space, key)?;
        if space != Space::Sealed || here.is_some() {
            return Ok(here);
        }
        let found = self.batches.get(key)?;
        found.map(|value| self.checked(key, value)).transpose()
    }

    fn last(&self, space: Space) -> Result<Option<Pair>, StoreError> {
        match space {
            // Hashes have no order that means anything, so nobody asks in earnest.
            Space::Sealed => self.scan(space, &[]).last().transpose(),
            _ => self.base.last(space),
        }
    }

    fn scan<'a>(&'a self, space: Space, from: &[u8]) -> Box<dyn Iterator<Item = Entry> + 'a> {
        let base = self.base.scan(space, from);
        if space != Space::Sealed {
            return base;
        }
        let is_mark = |entry: &Entry| entry.as_ref().is_ok_and(|(key, _)| key == MARK);
        let mut here = base.filter(move |entry| !is_mark(entry)).peekable();
        let mut there = Pages {
            store: self,
            up_to: self.turn.lock().mark.number,
            from: Some(from.to_vec()),
            page: VecDeque::new(),
        }
        .peekable();
        Box::new(std::iter::from_fn(move || {
            match (here.peek(), there.peek()) {
                (Some(Err(_)), _) | (_, None) => here.next(),
                (_, Some(Err(_))) | (None, _) => there.next(),
                (Some(Ok((own, _))), Some(Ok((other, _)))) => {
                    if own < other {
                        return here.next();
                    }
                    if own == other {
                        here.next();
                    }
                    there.next()
                }
            }
        }))
    }

    fn remove(&self, space: Space, keys: &[Vec<u8>]) -> Result<(), StoreError> {
        if space == Space::Sealed && !keys.is_empty() {
            self.batches.remove(keys)?;
        }
        self.base.remove(space, keys)
    }

    /// The room outside is the business of the store there.
    fn reclaim(&self) -> Result<(), StoreError> {
        self.base.reclaim()
    }
}

/// What is outside, page by page. A row that is wrong is an error, and the ones after it follow; after any other
/// error nothing does.
struct Pages<'a> {
    store: &'a SplitStore,
    up_to: u64,
    /// Where the next page begins; `None` after the last.
    from: Option<Vec<u8>>,
    page: VecDeque<Pair>,
}

impl Iterator for Pages<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        if self.page.is_empty() {
            let from = self.from.take()?;
            match self.store.batches.page(&from, self.up_to) {
                Ok(page) => self.page = page.into(),
                Err(error) => return Some(Err(error)),
            }
            let last = self.page.back();
            self.from = last.map(|(key, _)| [key.as_slice(), &[0]].concat());
        }
        let (key, value) = self.page.pop_front()?;
        let checked = self.store.checked(&key, value);
        Some(checked.map(|value| (key, value)))
    }
}
