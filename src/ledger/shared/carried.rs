//! A record on its way from the hub that made it to another, with what belongs to it.

use crate::ledger::history::index;
use crate::ledger::key_wrap::{KeyWrap, sealing_key};
use crate::ledger::keys::sealed_key;
use crate::ledger::store::{Put, Space};
use borsh::{BorshDeserialize, BorshSerialize};
use weighbridge_verifier::{
    Hash, PublicKey, Record, SignatureCheck, SignatureError, Suite, encode,
};

/// Most values that come with one record: sealed bytes, wraps to hubs and readers, entries of the history.
pub const MAX_PUTS: usize = 512;

/// Longest wrapped key or entry of the history, in bytes.
const MAX_SMALL: usize = 4 << 10;

/// A record of a hub's own, and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Carried {
    /// The record.
    pub record: Record,
    /// Its sealed bytes, the wraps of the key that they are sealed under, its entries of the history.
    pub puts: Vec<Put>,
}

/// Sealed bytes that are not here, and where they are needed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct Want {
    /// Their hash.
    pub hash: Hash,
    /// Whose key they are sealed under: a device, or `hub:` and a hub's id.
    pub object: String,
    /// Which of its keys.
    pub key_epoch: u64,
    /// When they were recorded, ns since 1970: about there their entry of the history is.
    pub time: i64,
}

impl Want {
    /// The sealed bytes that `record` names, if it names any.
    pub fn of(record: &Record) -> Option<Self> {
        let (object, key_epoch) = sealing_key(record)?;
        Some(Self {
            hash: record.body.sealed()?.hash,
            object: object.into_owned(),
            key_epoch,
            time: record.body.time,
        })
    }
}

/// Why what comes with a record does not belong to it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// Too many values.
    #[error("{0} values came with it")]
    Many(usize),
    /// The sealed bytes that it names did not come, or others.
    #[error("the sealed bytes that it names did not come with it")]
    Sealed,
    /// A wrapped key that is no wrap of the key that it is sealed under, or is not signed by its hub.
    #[error("a wrapped key came with it that does not belong to it: {0}")]
    Wrap(String),
    /// An entry of the history that is not about it.
    #[error("an entry of the history came with it that is not about it")]
    History,
    /// What goes with no record.
    #[error("a value of the keyspace {0} came with it")]
    Space(Space),
}

impl Carried {
    /// Bytes that it takes, about.
    pub fn size(&self) -> usize {
        let puts = self.puts.iter().map(put_size);
        encode(&self.record).len() + puts.sum::<usize>()
    }

    /// Checks that all that came belongs to the record, and that what it names came. `keys` are those that its
    /// hub signs or has signed by.
    pub(super) fn check_puts(
        &self,
        keys: &[PublicKey],
        check: &dyn SignatureCheck,
    ) -> Result<(), Misfit> {
        if self.puts.len() > MAX_PUTS {
            return Err(Misfit::Many(self.puts.len()));
        }
        let mut sealed = 0;
        for put in &self.puts {
            match put.space {
                Space::Sealed => {
                    let named = self.record.body.sealed();
                    let own = named.is_some_and(|s| {
                        is_sealed(self.record.body.suite(), &s.hash, s.length, put)
                    });
                    own.then_some(()).ok_or(Misfit::Sealed)?;
                    sealed += 1;
                }
                Space::Keys => self.check_wrap(put, keys, check)?,
                Space::History => self.check_entry(put)?,
                other => return Err(Misfit::Space(other)),
            }
        }
        let needed = usize::from(self.record.body.sealed().is_some());
        (sealed == needed).then_some(()).ok_or(Misfit::Sealed)
    }

    fn check_wrap(
        &self,
        put: &Put,
        keys: &[PublicKey],
        check: &dyn SignatureCheck,
    ) -> Result<(), Misfit> {
        let wrong = |why: &str| Misfit::Wrap(why.to_owned());
        let wrap = read_wrap(put).map_err(|why| wrong(&why))?;
        let body = &self.record.body;
        let owner = sealing_key(&self.record);
        let owner = owner.filter(|(o, epoch)| *o == wrap.device && *epoch == wrap.key_epoch);
        if owner.is_none() || wrap.chain != body.chain || wrap.hub != body.hub {
            return Err(wrong("it is of another key"));
        }
        let held = check_wrap_signature(&wrap, keys, check);
        held.map_err(|why| Misfit::Wrap(why.to_string()))
    }

    fn check_entry(&self, put: &Put) -> Result<(), Misfit> {
        let batch = self.record.body.batch().ok_or(Misfit::History)?;
        let sealed = batch.sealed.ok_or(Misfit::History)?;
        let entry = read_entry(put).ok_or(Misfit::History)?;
        let (device, span) = entry;
        let which = (span.epoch, span.sequence, span.sealed);
        let own = device == batch.device && which == (batch.epoch, batch.sequence, sealed);
        own.then_some(()).ok_or(Misfit::History)
    }
}

/// Bytes that a value takes.
pub(super) fn put_size(put: &Put) -> usize {
    put.key.len() + put.value.len() + 9
}

/// Whether `put` has the sealed bytes of this hash and length, under the key where they belong.
pub(super) fn is_sealed(suite: Suite, hash: &Hash, length: u64, put: &Put) -> bool {
    put.key == sealed_key(hash)
        && put.value.len() as u64 == length
        && suite.hash(&[&put.value]) == *hash
}

/// The wrapped key that `put` has, if that is where it belongs.
pub(super) fn read_wrap(put: &Put) -> Result<KeyWrap, String> {
    if put.value.len() > MAX_SMALL {
        return Err("it is too long".to_owned());
    }
    let wrap = KeyWrap::from_bytes(&put.value).map_err(|e| e.to_string())?;
    match wrap.key() == put.key {
        true => Ok(wrap),
        false => Err("it would be kept under another key than its own".to_owned()),
    }
}

/// Checks that one of `keys` signed the wrap.
pub(super) fn check_wrap_signature(
    wrap: &KeyWrap,
    keys: &[PublicKey],
    check: &dyn SignatureCheck,
) -> Result<(), SignatureError> {
    let mut held = Err(SignatureError::Key);
    for key in keys {
        held = wrap.verify(key, check);
        if held.is_ok() {
            break;
        }
    }
    held
}

/// The entry of the history that `put` has, if that is where it belongs: device and interval.
pub(super) fn read_entry(put: &Put) -> Option<(String, index::Span)> {
    if put.value.len() > MAX_SMALL {
        return None;
    }
    let (device, _, span) = index::read(&put.key, &put.value)?;
    (span.put(&device) == *put).then_some((device, span))
}
