//! The wraps of a hub's fellows: the other hubs of its chain, each of which opens whatever any of them recorded.
//!
//! A new key is wrapped to the fellows when it is made. Here are the keys from before: when a hub becomes a fellow, or
//! gets another sealing key, every key that this hub opens is wrapped to it, a bounded number at a time. A fellow's
//! wrap lies under the fellow's own name, where that hub looks for it. A key that was destroyed is wrapped to nobody.
//! That all of it was done is noted by a mark among the wraps, so whoever was interrupted does it again, from the
//! beginning or from anywhere.

use super::key_wrap::{KeyWrap, read_wrap_key, wrap_key, wrap_prefix};
use super::opening::{Opener, OpeningError};
use super::signers::Signers;
use super::store::{Put, Space, Store, StoreError};
use crate::crypto::{EpochKey, OpenError, SealingPublicKey, SealingRing, Signer, WrappedKey};
use std::collections::BTreeMap;
use weighbridge_verifier::PublicKey;

/// Keys looked at in one step; their wraps are written in one commit.
const TOGETHER: usize = 32;
/// What marks belong to. No device has an id with a colon in it.
const MARK: &str = "fellow:";
/// Digits of its sealing key in the name of a fellow's mark.
const DIGITS: usize = 16;

/// A fellow, as far as wraps go.
#[derive(Clone)]
pub struct Fellow {
    /// The hub's id, which its wraps are for.
    pub id: String,
    /// Its sealing key.
    pub key: SealingPublicKey,
    /// Whether wraps that are there may be to a key that it had before.
    pub anew: bool,
}

/// The keys that a hub opens, and those whom it wraps them to.
pub struct FellowWraps<'a> {
    /// Where they are.
    pub store: &'a dyn Store,
    /// Opens them for this hub.
    pub opener: &'a Opener,
    /// This hub, which signs.
    pub signer: &'a dyn Signer,
    /// The chain.
    pub chain: &'a str,
    /// The fellows.
    pub fellows: &'a [Fellow],
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wrapped {
    /// Keys that were looked at.
    pub seen: u64,
    /// Wraps that were made.
    pub made: u64,
    /// Keys of this hub that do not open.
    pub unopened: u64,
}

/// The wraps of one key, by recipient.
type Group = ((String, u64), BTreeMap<String, Vec<u8>>);

impl FellowWraps<'_> {
    /// Looks at some keys from `from` on, adds to `done`, and tells `sent` of every wrap that was made; from where to
    /// go on, `None` at the end. Whoever calls it keeps keys from being destroyed meanwhile.
    ///
    /// # Errors
    /// When the store fails. What was done of it stays.
    pub fn step(
        &self,
        from: &[u8],
        done: &mut Wrapped,
        sent: &dyn Fn(&[Put]),
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let (groups, next) = self.some(from)?;
        let mut puts = Vec::new();
        for ((object, epoch), wraps) in &groups {
            if object.starts_with(MARK) {
                continue;
            }
            done.seen += 1;
            let wanting: Vec<&Fellow> = self.fellows.iter().filter(|f| f.wants(wraps)).collect();
            if wanting.is_empty() {
                continue;
            }
            let key = match self.opener.epoch_key(object, *epoch) {
                Ok(key) => key,
                // Destroyed, or never this hub's.
                Err(OpeningError::NoKey { .. }) => continue,
                Err(OpeningError::Store(error)) => return Err(error),
                Err(error) => {
                    tracing::error!(object, epoch, %error, "a key cannot be wrapped to fellow hubs");
                    done.unopened += 1;
                    continue;
                }
            };
            for fellow in wanting {
                match wrap_for(&key, fellow, (self.chain, self.signer)) {
                    Ok(put) => puts.push(put),
                    Err(error) => {
                        tracing::error!(hub = fellow.id, %error, "a key cannot be wrapped to this hub");
                    }
                }
            }
        }
        if !puts.is_empty() {
            self.store.commit(&puts)?;
            done.made += puts.len() as u64;
            sent(&puts);
        }
        Ok(next)
    }

    /// All of them, and the marks.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn all(&self, sent: &dyn Fn(&[Put])) -> Result<Wrapped, StoreError> {
        let (mut done, mut from) = (Wrapped::default(), Some(Vec::new()));
        while let Some(at) = from {
            from = self.step(&at, &mut done, sent)?;
        }
        self.mark()?;
        Ok(done)
    }

    /// Notes that the keys from before are wrapped to every fellow's sealing key.
    ///
    /// # Errors
    /// When the store fails, or a mark cannot be made.
    pub fn mark(&self) -> Result<(), StoreError> {
        let mut puts = Vec::new();
        for fellow in self.fellows {
            let number = match mark_of(self.store, &fellow.id)? {
                Some((_, digits)) if digits == digits_of(&fellow.key.compressed()) => continue,
                Some((number, _)) => number + 1,
                None => 1,
            };
            let object = mark_object(&fellow.id, &digits_of(&fellow.key.compressed()));
            // A mark is the fellow's wrap of a key that seals nothing: wraps are all that this space has.
            let failed = |error: &dyn std::fmt::Display| StoreError::Io(error.to_string());
            let key = EpochKey::generate(fellow.key.suite(), &object, number);
            let key = key.map_err(|e| failed(&e))?;
            let mark = wrap_for(&key, fellow, (self.chain, self.signer));
            puts.push(mark.map_err(|e| failed(&e))?);
        }
        match puts.is_empty() {
            true => Ok(()),
            false => self.store.commit(&puts),
        }
    }

    /// The wraps of some keys from `from` on, and where the next begin.
    fn some(&self, from: &[u8]) -> Result<(Vec<Group>, Option<Vec<u8>>), StoreError> {
        let mut groups: Vec<Group> = Vec::new();
        for entry in self.store.scan(Space::Keys, from) {
            let (at, value) = entry?;
            let Some((object, epoch, recipient)) = read_wrap_key(&at) else {
                continue;
            };
            let of = (object, epoch);
            let full = groups.len() == TOGETHER;
            if let Some((_, wraps)) = groups.last_mut().filter(|(last, _)| *last == of) {
                wraps.insert(recipient, value);
                continue;
            }
            if full {
                return Ok((groups, Some(wrap_prefix(&of.0, of.1))));
            }
            groups.push((of, BTreeMap::from([(recipient, value)])));
        }
        Ok((groups, None))
    }
}

impl Fellow {
    /// Whether the fellow should get a wrap beside those that are there.
    fn wants(&self, wraps: &BTreeMap<String, Vec<u8>>) -> bool {
        let there = wraps.get(&self.id).filter(|wrap| !wrap.is_empty());
        let Some(there) = there else { return true };
        // What the fellow wrapped itself it has, and makes anew itself.
        let own = KeyWrap::from_bytes(there).is_ok_and(|wrap| wrap.hub == self.id);
        self.anew && !own
    }
}

/// Whether wraps of this object are marks, and none of a key that seals something.
pub fn is_mark(object: &str) -> bool {
    object.starts_with(MARK)
}

/// Whether this is a wrap that `ring` opens.
pub fn opens_by(ring: &SealingRing, wrap: &[u8]) -> bool {
    KeyWrap::from_bytes(wrap).is_ok_and(|wrap| opens(ring, &wrap))
}

/// Whether all keys from before were wrapped to this sealing key of hub `id`.
pub fn is_marked(store: &dyn Store, id: &str, key: &PublicKey) -> Result<bool, StoreError> {
    let mark = mark_of(store, id)?;
    Ok(mark.is_some_and(|(_, digits)| digits == digits_of(key)))
}

/// Which of the wraps that a fellow sends are to be written: those of this chain whose signature holds, where none
/// lies yet. One to this hub must open by `ring`, and then takes the place of one that does not; what was destroyed
/// stays so.
///
/// # Errors
/// When the store fails.
pub fn worth_taking(
    (store, ring, own): (&dyn Store, &SealingRing, &str),
    signers: &Signers,
    offered: Vec<Put>,
) -> Result<Vec<Put>, StoreError> {
    let mut taken = Vec::new();
    for offered in offered {
        let Ok(wrap) = KeyWrap::from_bytes(&offered.value) else {
            continue;
        };
        let placed = offered.space == Space::Keys && wrap.key() == offered.key;
        if !placed || wrap.device.starts_with(MARK) || signers.check(&wrap).is_err() {
            continue;
        }
        let there = store.get(Space::Keys, &offered.key)?;
        let opens = wrap.recipient != own || opens(ring, &wrap);
        let wanted = match there {
            None => opens,
            Some(there) if there.is_empty() => false,
            Some(there) => {
                let there = KeyWrap::from_bytes(&there);
                wrap.recipient == own
                    && opens
                    && !there.is_ok_and(|there| self::opens(ring, &there))
            }
        };
        if wanted {
            taken.push(offered);
        }
    }
    Ok(taken)
}

fn opens(ring: &SealingRing, wrap: &KeyWrap) -> bool {
    let wrapped = WrappedKey {
        enc: wrap.enc.clone(),
        ciphertext: wrap.ciphertext.clone(),
    };
    ring.unwrap(&wrap.device, wrap.key_epoch, &wrapped).is_ok()
}

/// A wrap of `key` for a fellow.
///
/// # Errors
/// When its sealing key is of another suite.
pub fn wrap_for(
    key: &EpochKey,
    fellow: &Fellow,
    (chain, signer): (&str, &dyn Signer),
) -> Result<Put, OpenError> {
    let wrapped = fellow.key.wrap(key)?;
    let wrapped = (wrapped.enc, wrapped.ciphertext);
    let (object, epoch) = (key.object(), key.epoch());
    let wrap = KeyWrap::sign(chain, object, epoch, &fellow.id, wrapped, signer);
    Ok(put(&wrap))
}

fn put(wrap: &KeyWrap) -> Put {
    Put {
        space: Space::Keys,
        key: wrap.key(),
        value: wrap.to_bytes(),
    }
}

fn digits_of(key: &PublicKey) -> String {
    let hash = key.suite().hash(&[b"weighbridge/fellow/v1\0", &key.0]);
    let digits = hash.to_string();
    digits.get(..DIGITS).unwrap_or(&digits).to_owned()
}

fn mark_object(id: &str, digits: &str) -> String {
    format!("{MARK}{id}/{digits}")
}

/// The newest mark of a fellow: its number, and the digits of the key it is of.
fn mark_of(store: &dyn Store, id: &str) -> Result<Option<(u64, String)>, StoreError> {
    // All marks of a fellow have names of one length, and so lie together.
    let beginning = mark_object(id, "");
    let first = wrap_key(&mark_object(id, &"0".repeat(DIGITS)), 0, "");
    let mut newest: Option<(u64, String)> = None;
    for entry in store.scan(Space::Keys, &first) {
        let (at, _) = entry?;
        let Some((object, number, _)) = read_wrap_key(&at) else {
            continue;
        };
        let Some(digits) = object
            .strip_prefix(&beginning)
            .filter(|d| d.len() == DIGITS)
        else {
            break;
        };
        if newest.as_ref().is_none_or(|(before, _)| number > *before) {
            newest = Some((number, digits.to_owned()));
        }
    }
    Ok(newest)
}
