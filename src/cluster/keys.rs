//! Keys that are not wrapped to this hub: those of what was recorded before it was let in. The other hubs wrap them to
//! it (`ledger/fellow_wraps.rs`); it asks for the wraps until every key opens, and says when more can be opened.

use super::SharedBook;
use super::ports::{Fault, LentWraps};
use crate::crypto::{SealingPublicKey, SealingRing};
use crate::ledger::fellow_wraps::{is_mark, is_marked, opens_by, worth_taking};
use crate::ledger::key_wrap::{read_wrap_key, wrap_key};
use crate::ledger::shared::{SharedLedger, Want};
use crate::ledger::signers::Signers;
use crate::ledger::store::{Put, Space, Store, StoreError};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;
use weighbridge_verifier::Record;

/// Keys that are kept in mind as not opening.
const MOST: usize = 4_096;
/// Wraps in one answer.
const LENT: usize = 1_024;
/// Wraps that are looked at for one answer.
const LOOKED_AT: usize = 32_768;

/// Whose key, and which.
type KeyName = (String, u64);

/// What this hub opens, and what it does not yet.
pub(super) struct Keys {
    ring: SealingRing,
    signers: Signers,
    lacking: Mutex<Lacking>,
    /// Whether this hub was one of the set when it was looked last.
    member: AtomicBool,
    /// Rises when there is a new reason to ask for wraps.
    wanted: watch::Sender<u64>,
    /// Rises when something came that may open now.
    opened: watch::Sender<u64>,
}

#[derive(Default)]
struct Lacking {
    keys: BTreeSet<KeyName>,
    /// There are more than are kept in mind.
    more: bool,
    /// The key of each object that was found to be there last.
    there: BTreeMap<String, u64>,
}

impl Lacking {
    fn insert(&mut self, key: KeyName) {
        match self.keys.len() < MOST {
            true => {
                self.keys.insert(key);
            }
            false => self.more = true,
        }
    }
}

impl Keys {
    /// Keeps those of `keys` in mind that are not wrapped to hub `own`.
    fn note(
        &self,
        (store, own): (&dyn Store, &str),
        keys: impl IntoIterator<Item = KeyName>,
    ) -> Result<(), StoreError> {
        let mut lacking = self.lacking.lock();
        let before = lacking.keys.len();
        for (object, epoch) in keys {
            if lacking.there.get(&object) == Some(&epoch) {
                continue;
            }
            if store
                .get(Space::Keys, &wrap_key(&object, epoch, own))?
                .is_none()
            {
                lacking.insert((object, epoch));
            } else {
                if lacking.there.len() >= MOST {
                    lacking.there.clear();
                }
                lacking.there.insert(object, epoch);
            }
        }
        if lacking.keys.len() > before {
            self.wanted.send_modify(|times| *times += 1);
        }
        Ok(())
    }

    /// Whether a key is not wrapped to hub `own` by now, or by a wrap that does not open.
    fn lacks(&self, (store, own): (&dyn Store, &str)) -> Result<bool, StoreError> {
        let mut lacking = self.lacking.lock();
        if lacking.keys.is_empty() && lacking.more {
            lacking.more = false;
            not_wrapped((store, own), &mut lacking)?;
        }
        let mut found = BTreeSet::new();
        for (object, epoch) in std::mem::take(&mut lacking.keys) {
            let wrap = store.get(Space::Keys, &wrap_key(&object, epoch, own))?;
            // What was destroyed stays so.
            let there = wrap.is_some_and(|wrap| wrap.is_empty() || opens_by(&self.ring, &wrap));
            if !there {
                found.insert((object, epoch));
            }
        }
        lacking.keys = found;
        Ok(!lacking.keys.is_empty() || lacking.more)
    }
}

/// Finds the keys of which there are wraps, but none to hub `own`.
fn not_wrapped((store, own): (&dyn Store, &str), into: &mut Lacking) -> Result<(), StoreError> {
    let mut last = Group::default();
    for entry in store.scan(Space::Keys, &[]) {
        let (at, wrap) = entry?;
        let Some((object, epoch, recipient)) = read_wrap_key(&at) else {
            continue;
        };
        let of = Some((object, epoch));
        if last.of != of {
            std::mem::take(&mut last).end(into);
            last.of = of;
        }
        last.own |= recipient == own;
        last.lives |= !wrap.is_empty();
    }
    last.end(into);
    Ok(())
}

/// The wraps of one key.
#[derive(Default)]
struct Group {
    of: Option<KeyName>,
    /// There is one to this hub, or was.
    own: bool,
    /// There is one to anybody.
    lives: bool,
}

impl Group {
    fn end(self, into: &mut Lacking) {
        if let Some(key) = self.of.filter(|(object, _)| !is_mark(object))
            && self.lives
            && !self.own
        {
            into.insert(key);
        }
    }
}

impl SharedBook {
    /// From now on keys open by `ring`, and wraps are judged by `signers`. Blocking.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn open_by(&self, ring: SealingRing, signers: Signers) -> Result<(), StoreError> {
        let keys = Keys {
            ring,
            signers,
            lacking: Mutex::default(),
            member: AtomicBool::new(false),
            wanted: watch::Sender::new(0),
            opened: watch::Sender::new(0),
        };
        let store = self.lock().store().clone();
        not_wrapped((&*store, &self.hub), &mut keys.lacking.lock())?;
        let _ = self.keys.set(keys);
        Ok(())
    }

    /// Rises when something came that may open now.
    pub fn opened(&self) -> watch::Receiver<u64> {
        match self.keys.get() {
            Some(keys) => keys.opened.subscribe(),
            None => watch::Sender::new(0).subscribe(),
        }
    }

    /// This key should open, and does not. Blocking.
    pub fn want_key(&self, object: &str, epoch: u64) {
        if let Some(keys) = self.keys.get() {
            keys.lacking.lock().insert((object.to_owned(), epoch));
            keys.wanted.send_modify(|times| *times += 1);
        }
    }

    /// These are on the chain now, by whose keys they are sealed.
    pub(super) fn note_keys(&self, ledger: &SharedLedger, sealed: Vec<KeyName>) {
        let Some(keys) = self.keys.get() else { return };
        let noted = keys.note((&**ledger.store(), &self.hub), sealed);
        if let Err(error) = noted {
            tracing::error!(%error, "which keys do not open here cannot be said");
        }
        // Only a hub of the set is given any.
        let member = ledger.is_member();
        if !keys.member.swap(member, Ordering::AcqRel) && member {
            keys.wanted.send_modify(|times| *times += 1);
        }
    }

    /// Sealed bytes came, with wraps of their keys.
    pub(super) fn came_with(&self, ledger: &SharedLedger, wraps: Vec<KeyName>) {
        let Some(keys) = self.keys.get() else { return };
        self.note_keys(ledger, wraps);
        keys.opened.send_modify(|times| *times += 1);
    }

    pub(super) fn lacking(&self) -> Result<bool, Fault> {
        let Some(keys) = self.keys.get() else {
            return Ok(false);
        };
        let (store, member) = {
            let ledger = self.lock();
            (ledger.store().clone(), ledger.is_member())
        };
        if !member {
            return Ok(false);
        }
        keys.lacks((&*store, &self.hub)).map_err(Fault::failed)
    }

    pub(super) fn reasons(&self) -> watch::Receiver<u64> {
        match self.keys.get() {
            Some(keys) => keys.wanted.subscribe(),
            None => watch::Sender::new(0).subscribe(),
        }
    }

    pub(super) fn lent_to(&self, hub: &str, from: &[u8]) -> Result<LentWraps, Fault> {
        let (store, member) = {
            let ledger = self.lock();
            let member = ledger.committed().0.is_member(hub);
            (ledger.store().clone(), member)
        };
        if !member {
            return Ok(LentWraps::default());
        }
        let key = self.words.borrow().get(hub).map(|word| word.sealing);
        // First: what is made while it is looked is not all.
        let all = key.map(|key| is_marked(&*store, hub, &key));
        let all = all.transpose().map_err(Fault::failed)?.unwrap_or(false);
        let (mut puts, mut next) = (Vec::new(), None);
        for (looked, entry) in store.scan(Space::Keys, from).enumerate() {
            let (key, value) = entry.map_err(Fault::failed)?;
            if puts.len() >= LENT || looked >= LOOKED_AT {
                next = Some(key);
                break;
            }
            let of = read_wrap_key(&key);
            let theirs = of.is_some_and(|(object, _, to)| to == hub && !is_mark(&object));
            if theirs && !value.is_empty() {
                let space = Space::Keys;
                puts.push(Put { space, key, value });
            }
        }
        Ok(LentWraps { puts, next, all })
    }

    pub(super) fn take_wraps(&self, puts: Vec<Put>) -> Result<usize, Fault> {
        let own = |put: &Put| {
            put.space == Space::Keys
                && read_wrap_key(&put.key).is_some_and(|(_, _, to)| to == self.hub)
        };
        if !puts.iter().all(own) {
            return Err(Fault::lie("it lends wraps that are for somebody else"));
        }
        let Some(keys) = self.keys.get().filter(|_| !puts.is_empty()) else {
            return Ok(0);
        };
        let store: Arc<dyn Store> = {
            let ledger = self.lock();
            keys.signers.follow(ledger.committed().0);
            ledger.store().clone()
        };
        let by = (&*store, &keys.ring, &*self.hub);
        let worth = worth_taking(by, &keys.signers, puts).map_err(Fault::failed)?;
        if worth.is_empty() {
            return Ok(0);
        }
        store.commit(&worth).map_err(Fault::failed)?;
        keys.opened.send_modify(|times| *times += 1);
        Ok(worth.len())
    }

    /// What a user logs in by, for another hub of the set.
    pub(super) fn parcel_for(&self, hub: &str, user: &str) -> Result<Option<Vec<u8>>, Fault> {
        let member = self.lock().committed().0.is_member(hub);
        let key = self.words.borrow().get(hub).map(|word| word.sealing);
        let lender = self.lender.lock().clone();
        let (Some(lender), Some(key), true) = (lender, key, member) else {
            return Ok(None);
        };
        let key = SealingPublicKey::from_compressed(&key).map_err(Fault::failed)?;
        lender.parcel(user, &key).or_else(|why| {
            // The link is not to blame, and carries other things.
            tracing::warn!(hub, user, why, "what a user logs in by cannot be sent");
            Ok(None)
        })
    }
}

/// The keys that these are sealed under.
pub(super) fn keys_of(records: &[Record]) -> Vec<KeyName> {
    let wants = records.iter().filter_map(Want::of);
    let mut keys: Vec<KeyName> = wants.map(|want| (want.object, want.key_epoch)).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// The keys that these are wraps of.
pub(super) fn keys_in(puts: &[Put]) -> Vec<KeyName> {
    let wraps = puts.iter().filter(|put| put.space == Space::Keys);
    let keys = wraps.filter_map(|put| read_wrap_key(&put.key));
    let mut keys: Vec<KeyName> = keys.map(|(object, epoch, _)| (object, epoch)).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}
