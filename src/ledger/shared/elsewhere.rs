//! Sealed bytes of records in blocks that are not here: other hubs have them.

use super::SharedLedger;
use super::carried::{Want, check_wrap_signature, is_sealed, read_entry, read_wrap};
use crate::ledger::LedgerError;
use crate::ledger::history::index;
use crate::ledger::key_wrap::wrap_prefix;
use crate::ledger::keys::sealed_key;
use crate::ledger::store::{Put, Space, StoreError};
use borsh::{BorshDeserialize, BorshSerialize};
use std::collections::{BTreeMap, BTreeSet};
use weighbridge_verifier::{DecodeError, Hash, IdentityKind, PublicKey, Record, decode, encode};

/// Source times of a batch are looked for this far from when it was recorded, ns: a day.
const AROUND: i64 = 86_400_000_000_000;
/// Entries of the history that are looked at for one batch.
const LOOKED_AT: usize = 16_384;
/// Wraps of one key that are handed out.
const MAX_WRAPS: usize = 256;

/// What is missing, as it is kept in [`Space::Missing`].
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(in crate::ledger) struct Lacking {
    want: Want,
    length: u64,
}

impl Lacking {
    /// The sealed bytes that `record` names, if it names any.
    pub(in crate::ledger) fn of(record: &Record) -> Option<Self> {
        let want = Want::of(record)?;
        let length = record.body.sealed()?.length;
        Some(Self { want, length })
    }

    pub(in crate::ledger) fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode("missing bytes", bytes)
    }

    pub(in crate::ledger) fn hash(&self) -> Hash {
        self.want.hash
    }

    /// Whose key they are sealed under, and which.
    pub(in crate::ledger) fn sealing_key(&self) -> (String, u64) {
        (self.want.object.clone(), self.want.key_epoch)
    }

    pub(in crate::ledger) fn put(&self) -> Put {
        Put {
            space: Space::Missing,
            key: sealed_key(&self.want.hash),
            value: encode(self),
        }
    }
}

impl SharedLedger {
    /// Sealed bytes that records in blocks name and that are not here, up to `limit` of them.
    pub fn missing(&self, limit: usize) -> Result<Vec<Want>, StoreError> {
        let mut wants = Vec::new();
        for entry in self.store.scan(Space::Missing, &[]) {
            let (_, value) = entry?;
            if wants.len() >= limit {
                break;
            }
            if value.is_empty() {
                continue;
            }
            let lacking = Lacking::from_bytes(&value);
            let lacking = lacking.map_err(|e| StoreError::Damaged(e.to_string()))?;
            wants.push(lacking.want);
        }
        Ok(wants)
    }

    /// Takes sealed bytes that were missing, where hash and length are those that a record names, and wraps of their
    /// keys and entries of the history with them. A wrap goes into a slot where none lies, and where one was destroyed
    /// it stays so. Bytes are left when no wrap of their key is here or comes with them. Returns how many sealed values
    /// were taken.
    pub fn bring(&mut self, puts: Vec<Put>) -> Result<usize, LedgerError> {
        let mut came: BTreeMap<Hash, Lacking> = BTreeMap::new();
        let mut taken = Vec::new();
        let (sealed, others): (Vec<Put>, Vec<Put>) =
            puts.into_iter().partition(|put| put.space == Space::Sealed);
        let suite = self.chain.state().suite();
        for put in sealed {
            let value = self.store.get(Space::Missing, &put.key)?;
            let Some(value) = value.filter(|value| !value.is_empty()) else {
                continue;
            };
            let lacking = Lacking::from_bytes(&value);
            let lacking = lacking.map_err(|e| StoreError::Damaged(e.to_string()))?;
            if is_sealed(suite, &lacking.want.hash, lacking.length, &put) {
                // What says that it is missing is emptied in the same commit, and removed when that is done.
                taken.push(Put {
                    space: Space::Missing,
                    key: put.key.clone(),
                    value: Vec::new(),
                });
                taken.push(put);
                came.insert(lacking.want.hash, lacking);
            }
        }
        for put in others {
            let belongs = match put.space {
                Space::Keys => self.is_wrap_of(&put, &came)?,
                Space::History => read_entry(&put).is_some_and(|(device, span)| {
                    let lacking = came.get(&span.sealed.hash);
                    lacking.is_some_and(|l| {
                        let which = (&l.want.object, l.want.key_epoch, l.length);
                        which == (&device, span.sealed.key_epoch, span.sealed.length)
                    })
                }),
                _ => false,
            };
            if belongs {
                taken.push(put);
            }
        }
        // Bytes that nobody here could ever open are still missing.
        let mut left = BTreeSet::new();
        for lacking in came.values() {
            let prefix = wrap_prefix(&lacking.want.object, lacking.want.key_epoch);
            let comes = |put: &Put| put.space == Space::Keys && put.key.starts_with(&prefix);
            if !taken.iter().any(comes) && !self.has_wrap(&prefix)? {
                left.insert(lacking.want.hash);
            }
        }
        came.retain(|hash, _| !left.contains(hash));
        taken.retain(|put| !left.iter().any(|hash| names(put, hash)));
        if came.is_empty() {
            return Ok(0);
        }
        self.store.commit(&taken)?;
        let done: Vec<Vec<u8>> = came.keys().map(sealed_key).collect();
        // What stays although it is empty says nothing.
        let _ = self.store.remove(Space::Missing, &done);
        Ok(came.len())
    }

    /// Whether there is a wrap under this prefix, or was.
    fn has_wrap(&self, prefix: &[u8]) -> Result<bool, StoreError> {
        let first = self.store.scan(Space::Keys, prefix).next().transpose()?;
        Ok(first.is_some_and(|(key, _)| key.starts_with(prefix)))
    }

    /// Whether `put` is a wrap, by a hub, of a key that one of these is sealed under, for a slot that is free.
    fn is_wrap_of(&self, put: &Put, came: &BTreeMap<Hash, Lacking>) -> Result<bool, StoreError> {
        let Ok(wrap) = read_wrap(put) else {
            return Ok(false);
        };
        let state = self.chain.state();
        let needed = came.values().any(|lacking| {
            (&lacking.want.object, lacking.want.key_epoch) == (&wrap.device, wrap.key_epoch)
        });
        let hub = state.identities().get(&wrap.hub);
        let hub = hub.filter(|identity| identity.kind == IdentityKind::Hub);
        if !needed || wrap.chain != state.chain() || hub.is_none() {
            return Ok(false);
        }
        let mut keys: Vec<PublicKey> = state.former_keys(&wrap.hub).to_vec();
        keys.extend(hub.and_then(|identity| identity.key));
        if check_wrap_signature(&wrap, &keys, &*self.check).is_err() {
            return Ok(false);
        }
        Ok(self.store.get(Space::Keys, &put.key)?.is_none())
    }

    /// What another hub wants, as far as it is here: the sealed bytes, all wraps of their key, and their entries of
    /// the history. Nothing where the bytes are not here.
    pub fn lend(&self, want: &Want) -> Result<Vec<Put>, StoreError> {
        let key = sealed_key(&want.hash);
        let Some(value) = self.store.get(Space::Sealed, &key)? else {
            return Ok(Vec::new());
        };
        let space = Space::Sealed;
        let mut puts = vec![Put { space, key, value }];
        let prefix = wrap_prefix(&want.object, want.key_epoch);
        for entry in self.store.scan(Space::Keys, &prefix).take(MAX_WRAPS) {
            let (key, value) = entry?;
            if !key.starts_with(&prefix) {
                break;
            }
            if !value.is_empty() {
                let space = Space::Keys;
                puts.push(Put { space, key, value });
            }
        }
        let low = want.time.saturating_sub(AROUND);
        let high = want.time.saturating_add(AROUND);
        // What is not found is made up by whoever can open the batch.
        let spans = index::overlapping(&*self.store, &want.object, (low, high), LOOKED_AT);
        let spans = spans.ok().flatten().unwrap_or_default();
        let own = spans.iter().filter(|span| span.sealed.hash == want.hash);
        puts.extend(own.map(|span| span.put(&want.object)));
        Ok(puts)
    }
}

/// Whether `put` is about the sealed bytes of this hash.
fn names(put: &Put, hash: &Hash) -> bool {
    match put.space {
        Space::Sealed | Space::Missing => put.key == sealed_key(hash),
        Space::History => read_entry(put).is_some_and(|(_, span)| span.sealed.hash == *hash),
        _ => false,
    }
}
