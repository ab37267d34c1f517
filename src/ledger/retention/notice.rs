//! The notice of a retirement: what the record of it names by its hash. It is plain, like that of an erasure:
//! `verify` has no key.

use super::segment::SegmentRef;
use crate::ledger::Draft;
use crate::ledger::act::SealedAct;
use crate::ledger::named;
use crate::ledger::store::{Put, Space};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::Serialize;
use weighbridge_verifier::{
    Action, Content, DecodeError, Hash, RecordBody, Response, SealedRef, Suite, encode,
};

/// Version of the format this code writes.
const VERSION: u8 = 1;
const DOMAIN: &[u8] = b"weighbridge/retention/v1\0";
/// What the object of the record begins with; the rest is the chain.
const OBJECT: &str = "chain:";

const NOTICE: u8 = b'n';
const PENDING: u8 = b'p';
const SNAPSHOT: u8 = b's';
const KEY: u8 = b'k';

/// A sealed value that stays although its record is older: settings and entries in force, alarms that are not
/// at rest, the newest batch of a device.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct Kept {
    /// The value.
    pub sealed: SealedRef,
    /// Whose key it is sealed under.
    pub owner: String,
    /// Epoch and number, of a batch.
    pub batch: Option<(u64, u64)>,
    /// Time of its record.
    pub recorded: i64,
    /// Height of the block of its record.
    pub height: u64,
    /// Which record of the block, from 0.
    pub index: u32,
}

/// The record of an erasure that was in a body that is gone.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct ErasureRecord {
    /// Hash of the erasure's notice.
    pub notice: Hash,
    /// The device.
    pub device: String,
    /// Who asked.
    pub subject: String,
    /// Height of the block.
    pub height: u64,
    /// Which record of it, from 0.
    pub index: u32,
}

/// What goes, and what must be known when it is gone.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct Notice {
    version: u8,
    /// Which retirement of the chain, from 1.
    pub number: u64,
    /// Hash of the notice before; zeros before the first.
    pub previous: Hash,
    /// When this was decided.
    pub time: i64,
    /// The bodies of blocks after the first up to this height are gone, but for those by which a hub changed its
    /// key; 0 where none is.
    pub bodies: u64,
    /// The same before this retirement.
    pub bodies_before: u64,
    /// What the records up to this height name is gone, but for what is kept.
    pub batches: u64,
    /// The same before this retirement.
    pub batches_before: u64,
    /// Hash of the snapshot at the height of `bodies`.
    pub snapshot: Option<Hash>,
    /// What stays although its record is older.
    pub kept: Vec<Kept>,
    /// Epoch and number of the newest batch of each device up to the height of `batches`.
    pub devices: Vec<(String, (u64, u64))>,
    /// Records of erasures in all bodies that are gone.
    pub erasures: Vec<ErasureRecord>,
    /// Records in the bodies that this takes.
    pub records: u64,
    /// Sealed values that this takes.
    pub values: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Batches that this and those before took, without those that were erased.
    pub gone: u64,
    /// Batches that were stored up to the height of `bodies`.
    pub stored: u64,
    /// Where it was archived; empty where it was not.
    pub archive: String,
    /// The files that this was archived in.
    pub segments: Vec<SegmentRef>,
}

impl Notice {
    /// A notice in a chain of `suite` after the one `before`, that takes nothing more than that yet.
    pub fn after(suite: Suite, before: Option<&Self>, time: i64) -> Self {
        let mut next = Self {
            version: suite.marked(VERSION),
            number: 1,
            previous: Hash::ZERO,
            time,
            bodies: 0,
            bodies_before: 0,
            batches: 0,
            batches_before: 0,
            snapshot: None,
            kept: Vec::new(),
            devices: Vec::new(),
            erasures: Vec::new(),
            records: 0,
            values: 0,
            bytes: 0,
            gone: 0,
            stored: 0,
            archive: String::new(),
            segments: Vec::new(),
        };
        if let Some(before) = before {
            next.number = before.number.saturating_add(1);
            next.previous = before.hash();
            (next.bodies, next.bodies_before) = (before.bodies, before.bodies);
            (next.batches, next.batches_before) = (before.batches, before.batches);
            next.snapshot = before.snapshot;
            next.devices.clone_from(&before.devices);
            next.erasures.clone_from(&before.erasures);
            (next.gone, next.stored) = (before.gone, before.stored);
        }
        next
    }

    /// Whether what this batch was is gone, unless it is kept.
    pub fn takes_batch(&self, device: &str, which: (u64, u64)) -> bool {
        let at = self
            .devices
            .binary_search_by(|(known, _)| known.as_str().cmp(device));
        let newest = at.ok().and_then(|at| self.devices.get(at));
        newest.is_some_and(|(_, newest)| which <= *newest)
    }

    /// Whether the value of this hash is kept.
    pub fn keeps(&self, hash: &Hash) -> bool {
        self.kept
            .binary_search_by(|kept| kept.sealed.hash.cmp(hash))
            .is_ok()
    }

    /// Whether the body of the block at `height` is gone, unless a hub changed its key by it.
    pub fn takes_body(&self, height: u64) -> bool {
        height > 1 && height <= self.bodies
    }

    /// What the record of it names.
    pub fn hash(&self) -> Hash {
        named::hash(DOMAIN, self.version, self)
    }

    /// Reads a notice.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let form = named::Form {
            what: "notice of a retirement",
            version: VERSION,
            version_of: |notice: &Self| notice.version,
            check: Self::check,
        };
        form.read(bytes)
    }

    fn check(&self) -> Result<(), &'static str> {
        let kept = self.kept.is_sorted_by(|a, b| a.sealed.hash < b.sealed.hash);
        let devices = self.devices.is_sorted_by(|a, b| a.0 < b.0);
        if !kept || !devices {
            return Err("its entries are not in order");
        }
        let further = self.bodies >= self.bodies_before
            && self.batches >= self.batches_before
            && self.bodies <= self.batches
            && self.number > 0;
        let snapshot = self.snapshot.is_some() == (self.bodies > 0);
        match further && snapshot {
            true => Ok(()),
            false => Err("its heights do not fit each other"),
        }
    }

    /// The record of it in `chain` for `subject`, with what must be durable at the same moment: the notice,
    /// the snapshot, and that its work is to be done.
    pub fn recorded(&self, chain: &str, subject: &str, snapshot: Option<Vec<u8>>) -> SealedAct {
        let draft = Draft {
            time: self.time,
            subject: subject.to_owned(),
            action: Action::Erase,
            object: format!("{OBJECT}{chain}"),
            permit: None,
            content: Content::Commitment(self.hash()),
            response: Response::Accepted,
        };
        let put = |key: Vec<u8>, value: Vec<u8>| Put {
            space: Space::Retention,
            key,
            value,
        };
        let mut puts = vec![
            put(notice_key(self.number), encode(self)),
            put(pending_key(self.number), Vec::new()),
        ];
        puts.extend(snapshot.map(|bytes| put(snapshot_key(self.bodies), bytes)));
        SealedAct { draft, puts }
    }
}

/// The hash of the notice that a record names; `None` when it records no retirement.
pub fn of_record(body: &RecordBody) -> Option<Hash> {
    let retires = body.action == Action::Erase && body.response == Response::Accepted;
    match &body.content {
        Content::Commitment(hash) if retires && body.object.starts_with(OBJECT) => Some(*hash),
        _ => None,
    }
}

fn numbered(kind: u8, number: u64) -> Vec<u8> {
    [&[kind], &number.to_be_bytes()[..]].concat()
}

/// Where the store keeps notice `number`.
pub fn notice_key(number: u64) -> Vec<u8> {
    numbered(NOTICE, number)
}

/// Where the store keeps that the work of notice `number` is not done.
pub fn pending_key(number: u64) -> Vec<u8> {
    numbered(PENDING, number)
}

/// Where the store keeps the snapshot at `height`.
pub fn snapshot_key(height: u64) -> Vec<u8> {
    numbered(SNAPSHOT, height)
}

/// Where the store keeps the newest source time of what is gone under a device's key: the key under which its
/// wraps are, as [`wrap_prefix`](crate::ledger::key_wrap::wrap_prefix) has it.
pub fn reach_key(prefix: &[u8]) -> Vec<u8> {
    [&[KEY], prefix].concat()
}

/// What stands under a key of [`Space::Retention`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The notice of this number.
    Notice(u64),
    /// That the work of the notice of this number is not done.
    Pending(u64),
    /// The snapshot at this height.
    Snapshot(u64),
    /// The newest source time of what is gone under this key.
    Reach(Vec<u8>),
}

impl Entry {
    /// Reads a key; `None` when nothing is kept under such a one.
    pub fn of(key: &[u8]) -> Option<Self> {
        let (kind, rest) = key.split_first()?;
        let number = || rest.try_into().ok().map(u64::from_be_bytes);
        match *kind {
            NOTICE => number().map(Self::Notice),
            PENDING => number().map(Self::Pending),
            SNAPSHOT => number().map(Self::Snapshot),
            KEY => Some(Self::Reach(rest.to_vec())),
            _ => None,
        }
    }
}
