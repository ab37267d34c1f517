//! The notice of an erasure: what the record of it names by its hash. It is no secret; it says of a device what
//! records say anyway, batch numbers and key epochs.

use crate::ledger::Draft;
use crate::ledger::act::SealedAct;
use crate::ledger::named;
use crate::ledger::store::{Put, Space};
use crate::model::Nanos;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::Serialize;
use weighbridge_verifier::{
    Action, Content, DecodeError, Hash, RecordBody, Response, Suite, encode,
};

/// Version of the format this code writes.
const VERSION: u8 = 1;
const DOMAIN: &[u8] = b"weighbridge/erasure/v1\0";
const NOTICE: u8 = b'n';
const PENDING: u8 = b'p';

/// Pieces that one notice may list, of keys and of batches.
pub const MAX_PIECES: usize = 100_000;

/// What an erasure takes.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct Notice {
    version: u8,
    /// The device.
    pub device: String,
    /// Everything before this source time was to go, ns since 1970.
    pub until: i64,
    /// When this was decided.
    pub time: i64,
    /// Key epochs whose keys are destroyed, each range with both ends: all that is sealed under them is
    /// erased.
    pub keys: Vec<(u64, u64)>,
    /// Batches that are removed though their keys stay: fencing epoch, first and last sequence number.
    pub bodies: Vec<(u64, u64, u64)>,
    /// How many batches that were there.
    pub batches: u64,
    /// Bytes of ciphertext in them.
    pub bytes: u64,
}

impl Notice {
    /// A notice in a chain of `suite` that takes nothing yet.
    pub fn new(suite: Suite, device: &str, until: Nanos, time: Nanos) -> Self {
        Self {
            version: suite.marked(VERSION),
            device: device.to_owned(),
            until,
            time,
            keys: Vec::new(),
            bodies: Vec::new(),
            batches: 0,
            bytes: 0,
        }
    }

    /// Whether it takes nothing.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.bodies.is_empty()
    }

    /// Whether the key of this epoch is destroyed.
    pub fn takes_key(&self, key_epoch: u64) -> bool {
        let at = self.keys.partition_point(|(_, last)| *last < key_epoch);
        self.keys
            .get(at)
            .is_some_and(|(first, _)| *first <= key_epoch)
    }

    /// Whether this batch, sealed under the key of `key_epoch`, is erased.
    pub fn takes_batch(&self, key_epoch: u64, (epoch, sequence): (u64, u64)) -> bool {
        let before = |(of, _, last): &(u64, u64, u64)| (*of, *last) < (epoch, sequence);
        let at = self.bodies.partition_point(before);
        let listed = |(of, first, _): &(u64, u64, u64)| *of == epoch && *first <= sequence;
        self.takes_key(key_epoch) || self.bodies.get(at).is_some_and(listed)
    }

    /// What the record of it names.
    pub fn hash(&self) -> Hash {
        named::hash(DOMAIN, self.version, self)
    }

    /// Reads a notice.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let form = named::Form {
            what: "notice of an erasure",
            version: VERSION,
            version_of: |notice: &Self| notice.version,
            check: Self::check,
        };
        form.read(bytes)
    }

    fn check(&self) -> Result<(), &'static str> {
        let keys = self.keys.is_sorted_by(|a, b| a.1 < b.0);
        let bodies = &self.bodies;
        let bodies = bodies.is_sorted_by(|a, b| (a.0, a.2) < (b.0, b.1));
        let ends = self.keys.iter().all(|(first, last)| first <= last)
            && self.bodies.iter().all(|(_, first, last)| first <= last);
        match keys && bodies && ends {
            true => Ok(()),
            false => Err("its pieces are not in order"),
        }
    }

    /// The record of it for `subject`, with what must be durable at the same moment: the notice, and that
    /// its work is to be done.
    pub fn recorded(&self, subject: &str) -> SealedAct {
        let hash = self.hash();
        let draft = Draft {
            time: self.time,
            subject: subject.to_owned(),
            action: Action::Erase,
            object: format!("device:{}", self.device),
            permit: None,
            content: Content::Commitment(hash),
            response: Response::Accepted,
        };
        let puts = vec![
            Put {
                space: Space::Erasures,
                key: notice_key(&hash),
                value: encode(self),
            },
            Put {
                space: Space::Erasures,
                key: pending_key(&hash),
                value: Vec::new(),
            },
        ];
        SealedAct { draft, puts }
    }
}

/// The hash of the notice that a record names, and the device; `None` when it records no erasure.
pub fn of_record(body: &RecordBody) -> Option<(Hash, &str)> {
    let erases = body.action == Action::Erase && body.response == Response::Accepted;
    match &body.content {
        Content::Commitment(hash) if erases => Some((*hash, body.object.strip_prefix("device:")?)),
        _ => None,
    }
}

/// Where the store keeps the notice of this hash.
pub fn notice_key(hash: &Hash) -> Vec<u8> {
    [&[NOTICE], &hash.0[..]].concat()
}

/// Where the store keeps that the work of this notice is not done.
pub fn pending_key(hash: &Hash) -> Vec<u8> {
    [&[PENDING], &hash.0[..]].concat()
}

/// What stands under a key of [`Space::Erasures`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The notice of this hash.
    Notice(Hash),
    /// That the work of the notice of this hash is not done.
    Pending(Hash),
}

impl Kept {
    /// Reads a key; `None` when nothing is kept under such a one.
    pub fn of(key: &[u8]) -> Option<Self> {
        let (kind, hash) = key.split_first()?;
        let hash = Hash(hash.try_into().ok()?);
        match *kind {
            NOTICE => Some(Self::Notice(hash)),
            PENDING => Some(Self::Pending(hash)),
            _ => None,
        }
    }
}
