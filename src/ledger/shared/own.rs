//! This hub's own records that are durable here and in no block yet.

use super::carried::Carried;
use crate::crypto::Signer;
use crate::ledger::LedgerError;
use crate::ledger::assemble::sign_record;
use crate::ledger::draft::Draft;
use crate::ledger::history::index;
use crate::ledger::key_wrap::{read_wrap_key, sealing_key};
use crate::ledger::keys::height_key;
use crate::ledger::shape::ApplyError;
use crate::ledger::state::State;
use crate::ledger::store::{Put, Space, Store, StoreError};
use crate::model::Nanos;
use borsh::{BorshDeserialize, BorshSerialize};
use std::sync::Arc;
use weighbridge_verifier::{DecodeError, Hash, Record, decode, encode};

/// Version of the format this code writes.
const VERSION: u8 = 1;

/// Where a value is kept.
pub(in crate::ledger) type Place = (Space, Vec<u8>);

/// An open record, as it is kept in [`Space::Own`] under its number.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(in crate::ledger) struct Entry {
    version: u8,
    /// The record.
    pub(in crate::ledger) record: Record,
    /// Where what belongs to it is.
    pub(in crate::ledger) puts: Vec<Place>,
    /// Where what belonged to the record is whose place it took: to be removed.
    pub(in crate::ledger) drop: Vec<Place>,
}

impl Entry {
    pub(in crate::ledger) fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let entry: Self = decode("open record", bytes)?;
        if entry.version == VERSION {
            return Ok(entry);
        }
        Err(DecodeError {
            what: "open record",
            reason: format!("the format version {} is not known here", entry.version),
        })
    }
}

/// An open record.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) entry: Entry,
    pub(super) hash: Hash,
}

impl Open {
    pub(super) fn new(record: Record, hash: Hash, puts: Vec<Place>) -> Arc<Self> {
        let entry = Entry {
            version: VERSION,
            record,
            puts,
            drop: Vec::new(),
        };
        Arc::new(Self { entry, hash })
    }

    pub(super) fn of(entry: Entry) -> Arc<Self> {
        let hash = entry.record.body.hash();
        Arc::new(Self { entry, hash })
    }

    pub(super) fn record(&self) -> &Record {
        &self.entry.record
    }

    pub(super) fn sequence(&self) -> u64 {
        self.entry.record.body.sequence
    }

    /// What is kept of it.
    pub(super) fn put(&self) -> Put {
        Put {
            space: Space::Own,
            key: height_key(self.sequence()),
            value: encode(&self.entry),
        }
    }

    /// The record with what belongs to it. A wrapped key that was destroyed does not come with it.
    pub(super) fn carried(&self, store: &dyn Store) -> Result<Carried, StoreError> {
        let mut puts = Vec::with_capacity(self.entry.puts.len());
        for (space, key) in &self.entry.puts {
            match store.get(*space, key)? {
                Some(value) if *space != Space::Keys || !value.is_empty() => puts.push(Put {
                    space: *space,
                    key: key.clone(),
                    value,
                }),
                None if *space == Space::Sealed => {
                    let number = self.sequence();
                    let why = format!("the sealed bytes of the open record {number} are missing");
                    return Err(StoreError::Damaged(why));
                }
                _ => {}
            }
        }
        let record = self.entry.record.clone();
        Ok(Carried { record, puts })
    }
}

/// Which of `puts` belong to each of `records`: the sealed bytes that it names, entries of the history about it, and
/// wraps of the key that it is sealed under, with the first record of these that needs them.
pub(super) fn places(records: &[Record], puts: &[Put]) -> Vec<Vec<Place>> {
    let mut places = vec![Vec::new(); records.len()];
    for put in puts {
        let belongs = |record: &Record| match put.space {
            Space::Sealed => {
                let sealed = record.body.sealed();
                sealed.is_some_and(|sealed| sealed.hash.0[..] == put.key[..])
            }
            Space::Keys => wraps_key_of(record, &put.key),
            Space::History => index::read(&put.key, &put.value).is_some_and(|(_, _, span)| {
                let batch = record.body.batch();
                batch.is_some_and(|batch| batch.sealed == Some(span.sealed))
            }),
            _ => false,
        };
        let owner = records.iter().position(belongs);
        if let Some(of) = owner.and_then(|at| places.get_mut(at)) {
            of.push((put.space, put.key.clone()));
        }
    }
    places
}

/// Whether a wrap under `key` is of the key that `record` is sealed under.
fn wraps_key_of(record: &Record, key: &[u8]) -> bool {
    let both = read_wrap_key(key).zip(sealing_key(record));
    both.is_some_and(|((device, epoch, _), (owner, of))| *owner == device && of == epoch)
}

/// Takes those of `loose` that are wraps of the key that `record` is sealed under.
pub(super) fn needed_by(record: &Record, loose: &mut Vec<Place>) -> Vec<Place> {
    let (needed, rest) = loose
        .drain(..)
        .partition(|(_, key)| wraps_key_of(record, key));
    *loose = rest;
    needed
}

/// An open record that may not stand in the chain any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its number, under which a record stands now that says so.
    pub sequence: u64,
    /// What it was about: subject and object.
    pub about: (String, String),
    /// Why it may not.
    pub why: ApplyError,
}

/// Open records after what blocks have now.
pub(super) struct Replayed {
    /// The state after them.
    pub(super) state: State,
    pub(super) open: Vec<Arc<Open>>,
    /// From which of them on they are other ones than before.
    pub(super) changed: Option<usize>,
    pub(super) left_out: Vec<LeftOut>,
    /// Wraps that came with a record that was left out, for the next one that is sealed under the same key.
    pub(super) loose: Vec<Place>,
}

/// Applies open records to the state that blocks give. From the first that does not apply any more they are signed
/// anew, in the same order and under the same numbers; in the place of one that cannot, there is one that says so.
pub(super) fn replay<'a>(
    committed: &State,
    open: impl Iterator<Item = &'a Arc<Open>>,
    signer: &dyn Signer,
    loose: Vec<Place>,
    now: Nanos,
) -> Result<Replayed, LedgerError> {
    let mut replayed = Replayed {
        state: committed.clone(),
        open: Vec::new(),
        changed: None,
        left_out: Vec::new(),
        loose,
    };
    for before in open {
        let body = &before.record().body;
        let state = &mut replayed.state;
        let stands = replayed.changed.is_none() && state.apply_signed(body, before.hash).is_ok();
        if stands {
            replayed.open.push(before.clone());
            continue;
        }
        replayed.changed = replayed.changed.or(Some(replayed.open.len()));
        // A clock that went back does not change when it happened.
        let now = now.max(body.time);
        let (record, hash) = sign_record(&Draft::again(body), state, signer, now);
        let mut entry = before.entry.clone();
        entry.record = record;
        let Err(why) = state.apply_signed(&entry.record.body, hash) else {
            entry
                .puts
                .extend(needed_by(&entry.record, &mut replayed.loose));
            replayed.open.push(Arc::new(Open { entry, hash }));
            continue;
        };
        let said = Draft::left_out(body, before.hash);
        let (record, hash) = sign_record(&said, state, signer, now);
        let applied = state.apply_signed(&record.body, hash);
        applied.map_err(|why| LedgerError::Own {
            sequence: body.sequence,
            why: why.to_string(),
        })?;
        entry.record = record;
        let (wraps, gone): (Vec<Place>, Vec<Place>) = entry
            .puts
            .drain(..)
            .partition(|(space, _)| *space == Space::Keys);
        replayed.loose.extend(wraps);
        entry.drop.extend(gone);
        replayed.left_out.push(LeftOut {
            sequence: body.sequence,
            about: (body.subject.clone(), body.object.clone()),
            why,
        });
        replayed.open.push(Arc::new(Open { entry, hash }));
    }
    Ok(replayed)
}
