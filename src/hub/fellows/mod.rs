//! The other hubs of a site: whoever recorded something, every one of them opens it.
//!
//! [`Fellows`] is who they are, and changes while the hub runs. Every new key is wrapped to them when it is made
//! ([`KeyMaker`](super::readers::KeyMaker)); [`FellowDesk`] sees to the keys from before, and to keys in use that were
//! wrapped to others than there are now.

mod desk;
#[cfg(test)]
mod tests;

pub(super) use desk::FellowDesk;

use crate::crypto::{OpenError, SealingPublicKey, SealingRing, WrappedKey};
use crate::ledger::key_wrap::{KeyWrap, hub_object, keys_of, wrap_key};
use crate::ledger::signers::Signers;
use crate::ledger::store::{Put, Space, Store, StoreError};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{broadcast, watch};
use weighbridge_verifier::PublicKey;

/// Commits of wraps that whoever sends them may be behind before they miss some.
const BEHIND: usize = 64;

/// Sealing keys of hubs, by id.
pub(super) type Keys = BTreeMap<String, PublicKey>;

/// The other hubs of the site, and the public keys that keys are wrapped to for them. Cheap to clone: all clones are
/// the same.
///
/// Only hubs of the set belong here, or `verify` names wraps to somebody whom the chain does not know.
#[derive(Clone)]
pub struct Fellows(Arc<Inner>);

struct Inner {
    /// Whether the hub is one of several at all.
    shared: bool,
    keys: RwLock<Keys>,
    changes: watch::Sender<u64>,
    wraps: broadcast::Sender<Arc<[Put]>>,
    opened: watch::Sender<u64>,
}

impl Default for Fellows {
    /// Of a hub that is alone, and stays so.
    fn default() -> Self {
        Self::of(false)
    }
}

impl Fellows {
    fn of(shared: bool) -> Self {
        Self(Arc::new(Inner {
            shared,
            keys: RwLock::default(),
            changes: watch::Sender::new(0),
            wraps: broadcast::Sender::new(BEHIND),
            opened: watch::Sender::new(0),
        }))
    }

    /// Of a hub that shares its chain, and has nobody to share it with yet.
    pub fn shared() -> Self {
        Self::of(true)
    }

    /// Whether the chain is shared: what others recorded is no business of this hub's configuration and files.
    pub fn are_possible(&self) -> bool {
        self.0.shared
    }

    /// Hub `id` is a fellow, and has this sealing key from now on; whether that is new.
    ///
    /// # Errors
    /// When it is no key.
    pub fn set(&self, id: &str, key: PublicKey) -> Result<bool, OpenError> {
        SealingPublicKey::from_compressed(&key)?;
        let before = self.0.keys.write().insert(id.to_owned(), key);
        let new = before != Some(key);
        if new {
            self.changed();
        }
        Ok(new)
    }

    /// Hub `id` is a fellow no more. What it opened it goes on to open; what is sealed from now on it does not.
    pub fn remove(&self, id: &str) {
        let gone = self.0.keys.write().remove(id).is_some();
        if gone {
            self.changed();
        }
    }

    fn changed(&self) {
        self.0.changes.send_modify(|changes| *changes += 1);
    }

    /// All of them.
    pub fn keys(&self) -> BTreeMap<String, PublicKey> {
        self.0.keys.read().clone()
    }

    /// Told of the wraps that are made for fellows of keys from before. They lie in the store already, and whoever
    /// misses one can ask for it.
    pub fn wraps(&self) -> broadcast::Receiver<Arc<[Put]>> {
        self.0.wraps.subscribe()
    }

    fn wrapped(&self, puts: &[Put]) {
        // Nobody listening is fine.
        let _ = self.0.wraps.send(puts.into());
    }

    /// Which of them still wrap their keys to a sealing key that the hub had before the one in use, as far as their
    /// newest wraps for hub `own` say.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn behind(
        &self,
        store: &dyn Store,
        (own, ring): (&str, &SealingRing),
    ) -> Result<Vec<String>, StoreError> {
        let current = ring.current();
        let mut behind = Vec::new();
        for id in self.keys().into_keys() {
            let object = hub_object(&id);
            let mut newest = None;
            for key in keys_of(store, &object)?.into_iter().rev() {
                if key.at == wrap_key(&object, key.epoch, own) && !key.destroyed {
                    newest = Some(key);
                    break;
                }
            }
            let Some(newest) = newest else { continue };
            let wrap = store.get(Space::Keys, &newest.at)?.unwrap_or_default();
            let opens = KeyWrap::from_bytes(&wrap).is_ok_and(|wrap| {
                let (enc, ciphertext) = (wrap.enc, wrap.ciphertext);
                let wrapped = WrappedKey { enc, ciphertext };
                current.unwrap(&object, newest.epoch, &wrapped).is_ok()
            });
            if !opens {
                behind.push(id);
            }
        }
        Ok(behind)
    }

    /// Keys may open here that did not before: the fellows get them, too.
    pub(super) fn opened(&self) {
        self.0.opened.send_modify(|times| *times += 1);
    }

    fn more_open(&self) -> watch::Receiver<u64> {
        self.0.opened.subscribe()
    }

    /// Told of every change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }
}

impl super::Hub {
    /// The other hubs of the site: to be told who they are.
    pub fn fellows(&self) -> &Fellows {
        &self.fellows
    }

    /// By which keys the hubs of the chain sign: to be told of every state that has others.
    pub fn signers(&self) -> &Signers {
        &self.planner.signers
    }
}
