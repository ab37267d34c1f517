//! The state of access of a hub that shares its chain with others.
//!
//! Every hub changes access by itself, and what it recorded is in force there at once; on the shared chain the entries
//! of all hubs have one order, and **the order of the chain decides**: of each name the newest entry counts. What is
//! in force at a hub is what the chain says, and then what the hub recorded and the chain does not have yet, for that
//! comes later in any case. So hubs that have the same chain, and nothing of their own that is still to come, have the
//! same state; and a fresh start, which reads the newest entry of each name, has it too.
//!
//! An entry says all of what is under its name. A hub that recorded one without knowing of another's that comes
//! before it on the chain would undo that: who was put out at one hub would be in again because another gave them a
//! role at that moment. So whoever finds that its own change was crossed makes the change again, on what the chain
//! says by now, and records what comes of it; a change that cannot be made any more is taken back, with everything
//! that was asked for together with it.

use super::change::Change;
use super::entry::{Entry, EntryError};
use super::state::AccessState;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// An entry as the chain has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// The entry; without what it says where that cannot be read here yet.
    pub entry: Entry,
    /// Whether this hub recorded it.
    pub own: bool,
    /// Whether it cannot be read here yet: it is told again when it can be.
    pub unread: bool,
}

impl Told {
    /// An entry that can be read.
    pub fn new(entry: Entry, own: bool) -> Self {
        let unread = false;
        Self { entry, own, unread }
    }

    /// Another hub's entry of this name, which cannot be read here yet.
    pub fn unread(name: &str) -> Self {
        Self {
            entry: Entry {
                name: name.to_owned(),
                says: serde_json::Value::Null,
            },
            own: false,
            unread: true,
        }
    }
}

/// An entry that this hub recorded, and the chain does not have yet.
#[derive(Clone, Debug)]
struct Open {
    /// What was asked for together has one number.
    request: u64,
    entry: Entry,
    asked: Asked,
}

/// What an entry came of.
#[derive(Clone, Debug)]
enum Asked {
    /// These changes, in this order, which can be made again.
    Changes(Vec<Change>),
    /// Nobody knows any more; or a change was taken back.
    Unknown,
    /// It was crossed, and what it came to is recorded after it.
    Decided,
}

/// What the chain says, and what this hub adds to it.
#[derive(Clone, Debug, Default)]
pub struct SharedAccess {
    chain: AccessState,
    /// Names of which the chain's newest entry is another hub's.
    elsewhere: BTreeSet<String>,
    open: VecDeque<Open>,
    requests: u64,
    /// By name, what this hub changed without knowing of another's entry that comes before, which cannot be read yet.
    blind: BTreeMap<String, Vec<Change>>,
}

impl SharedAccess {
    /// Of a hub that has read of the chain what is `told`, the newest of each name at least, and recorded `open`
    /// since, in this order.
    ///
    /// # Errors
    /// When an entry cannot be read.
    pub fn new(told: impl IntoIterator<Item = Told>, open: Vec<Entry>) -> Result<Self, EntryError> {
        let mut this = Self::default();
        for told in told {
            this.load(&told)?;
        }
        for entry in open {
            if this.chain.is_unread(&entry.name) {
                this.blind.insert(entry.name.clone(), Vec::new());
            }
            this.begin(vec![(Asked::Unknown, entry)]);
        }
        Ok(this)
    }

    fn load(&mut self, told: &Told) -> Result<(), EntryError> {
        let name = &told.entry.name;
        match told.unread {
            true => self.chain.hide(name),
            false => self.chain.load(&told.entry)?,
        }
        if told.own && self.blind.contains_key(name) {
            // What it overwrote is not known yet.
            self.chain.hide(name);
        }
        match told.own {
            true => self.elsewhere.remove(&told.entry.name),
            false => self.elsewhere.insert(told.entry.name.clone()),
        };
        Ok(())
    }

    fn begin(&mut self, entries: Vec<(Asked, Entry)>) {
        self.requests += 1;
        let request = self.requests;
        self.open
            .extend(entries.into_iter().map(|(asked, entry)| Open {
                request,
                entry,
                asked,
            }));
    }

    /// This hub recorded these changes together, and the entries that they made.
    pub fn recorded(&mut self, changes: impl IntoIterator<Item = (Change, Entry)>) {
        let changes = changes.into_iter();
        let changes = changes.map(|(change, entry)| (Asked::Changes(vec![change]), entry));
        self.begin(changes.collect());
    }

    /// Entries of this hub that the chain does not have yet.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Whether what is in force under a name was recorded by another hub.
    pub fn is_elsewhere(&self, name: &str) -> bool {
        self.elsewhere.contains(name) && self.open.iter().all(|open| open.entry.name != name)
    }

    /// The state in force.
    pub fn in_force(&self) -> AccessState {
        let mut state = self.chain.clone();
        for open in &self.open {
            // It was read when it was taken in, or made by this program.
            if let Err(error) = state.load(&open.entry) {
                tracing::error!(%error, "an entry about access that this hub recorded cannot be read");
            }
        }
        // Own entries were made without what cannot be read.
        state.set_unread(self.chain.unread().clone());
        state
    }

    /// Takes in an entry that the chain has had for longer, and that could not be read before; nothing that can be
    /// read of its name came after it but what this hub recorded without knowing it. Returns what this hub is to
    /// record now, as [`Self::take_in`].
    ///
    /// # Errors
    /// When it cannot be read; then nothing was taken in.
    pub fn take_in_late(&mut self, told: &Told) -> Result<Vec<Entry>, EntryError> {
        let name = &told.entry.name;
        let Some(changes) = self.blind.get(name).cloned() else {
            return self.take_in(std::slice::from_ref(told));
        };
        let mut after = self.clone();
        after.blind.remove(name);
        after.load(told)?;
        // What this hub asked for is asked for again, now that it is known on what; else it is taken back.
        let mut wanted = after.chain.clone();
        let made = !changes.is_empty()
            && changes
                .iter()
                .all(|change| wanted.apply(change.clone()).is_ok());
        let (asked, entry) = match made {
            true => (Asked::Changes(changes), wanted.entry_named(name)),
            false => (Asked::Unknown, told.entry.clone()),
        };
        for open in after.open.iter_mut().filter(|o| o.entry.name == *name) {
            open.asked = Asked::Decided;
        }
        after.begin(vec![(asked, entry.clone())]);
        *self = after;
        Ok(vec![entry])
    }

    /// Takes in what the chain has next, in its order. Returns what this hub is to record now: what its own changes
    /// come to after those of others; it is in force already.
    ///
    /// # Errors
    /// When an entry cannot be read; then nothing was taken in.
    pub fn take_in(&mut self, told: &[Told]) -> Result<Vec<Entry>, EntryError> {
        let mut after = self.clone();
        let mut crossed = after.follow(told)?;
        if crossed.is_empty() {
            *self = after;
            return Ok(Vec::new());
        }
        let (wanted, given_up) = self.wanted(told)?;
        // All of what was asked for together, or none.
        let undone = self.open.iter().filter(|o| given_up.contains(&o.request));
        crossed.extend(undone.map(|open| open.entry.name.clone()));
        let recorded = after.in_force();
        let mut entries = Vec::new();
        for name in crossed {
            if after.chain.is_unread(&name) {
                // Nothing is said over what cannot be seen.
                continue;
            }
            let entry = wanted.entry_named(&name);
            if recorded.entry_named(&name) == entry {
                continue;
            }
            for open in after.open.iter_mut().filter(|open| open.entry.name == name) {
                open.asked = Asked::Decided;
            }
            let stand = self.open.iter().filter(|open| open.entry.name == name);
            let stand = stand.filter(|open| !given_up.contains(&open.request));
            let changes: Vec<Change> = stand.flat_map(|open| open.asked.changes()).collect();
            let asked = match changes.is_empty() {
                true => Asked::Unknown,
                false => Asked::Changes(changes),
            };
            entries.push(entry.clone());
            after.begin(vec![(asked, entry)]);
        }
        *self = after;
        Ok(entries)
    }

    /// Follows the chain to the letter; returns the names of own entries that another hub's came before, or that came
    /// with others than are on record.
    fn follow(&mut self, told: &[Told]) -> Result<BTreeSet<String>, EntryError> {
        let mut crossed = BTreeSet::new();
        for told in told {
            let name = &told.entry.name;
            if told.unread {
                self.load(told)?;
                let own: Vec<&Open> = self.open.iter().filter(|o| o.entry.name == *name).collect();
                if !own.is_empty() {
                    let changes = own.iter().flat_map(|open| open.asked.changes()).collect();
                    self.blind.insert(name.clone(), changes);
                }
                continue;
            }
            if !told.own {
                self.blind.remove(name);
            }
            self.load(told)?;
            match self.place_of(told) {
                Some(at) => {
                    self.open.drain(..=at);
                }
                None => {
                    let mut names = self.open.iter().map(|open| &open.entry.name);
                    if names.any(|name| *name == told.entry.name) {
                        crossed.insert(told.entry.name.clone());
                    }
                }
            }
        }
        Ok(crossed)
    }

    /// Which of what is open the chain has now.
    fn place_of(&self, told: &Told) -> Option<usize> {
        let mut open = self.open.iter();
        let at = open.position(|open| open.entry == told.entry);
        at.filter(|_| told.own)
    }

    /// What is to be in force after these: the changes of this hub made on what others recorded before them; and the
    /// requests that cannot be made any more.
    fn wanted(&self, told: &[Told]) -> Result<(AccessState, BTreeSet<u64>), EntryError> {
        let mut given_up = BTreeSet::new();
        // Each round gives up one request more.
        loop {
            match self.made_again(told, &given_up)? {
                Ok(state) => return Ok((state, given_up)),
                Err(request) => {
                    given_up.insert(request);
                }
            }
        }
    }

    /// The same without these requests; one more that cannot be made is the inner error.
    fn made_again(
        &self,
        told: &[Told],
        given_up: &BTreeSet<u64>,
    ) -> Result<Result<AccessState, u64>, EntryError> {
        let mut state = self.chain.clone();
        let mut left = self.clone();
        let mut others = BTreeSet::new();
        for told in told {
            if told.unread {
                state.hide(&told.entry.name);
                continue;
            }
            let Some(at) = left.place_of(told) else {
                state.load(&told.entry)?;
                others.insert(&told.entry.name);
                continue;
            };
            let own = left.open.drain(..=at).next_back();
            let own = own.filter(|open| !given_up.contains(&open.request));
            if let Some(open) = own
                && !open.make(&mut state, others.contains(&open.entry.name))?
            {
                return Ok(Err(open.request));
            }
        }
        let own = left.open.iter();
        for open in own.filter(|open| !given_up.contains(&open.request)) {
            if !open.make(&mut state, others.contains(&open.entry.name))? {
                return Ok(Err(open.request));
            }
        }
        Ok(Ok(state))
    }
}

impl Open {
    /// Puts it in force in `state`, where another hub's entry of its name came before if it is `crossed`; `false` when
    /// it cannot be made again.
    fn make(&self, state: &mut AccessState, crossed: bool) -> Result<bool, EntryError> {
        if !crossed {
            state.load(&self.entry)?;
            return Ok(true);
        }
        match &self.asked {
            Asked::Changes(changes) => {
                let mut changes = changes.iter().cloned();
                Ok(changes.all(|change| state.apply(change).is_ok()))
            }
            Asked::Unknown => Ok(false),
            Asked::Decided => Ok(true),
        }
    }
}

impl Asked {
    fn changes(&self) -> impl Iterator<Item = Change> {
        let changes = match self {
            Self::Changes(changes) => changes.as_slice(),
            Self::Unknown | Self::Decided => &[],
        };
        changes.iter().cloned()
    }
}

#[cfg(test)]
#[path = "shared_tests.rs"]
mod tests;
