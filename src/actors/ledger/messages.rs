//! What the ledger's actor is told and asked, and what it tells.

use super::super::credit::{Credit, SourceTimes};
use super::super::device::BatchSettled;
use crate::ledger::act::SealedAct;
use crate::ledger::facts::{Document, Identity};
use crate::ledger::store::Put;
use crate::ledger::{Draft, State, Tip};
use crate::model::{DeviceId, Nanos, VerdictClass};
use crate::protocols::edge::wire::Standing;
use crate::stats::Refusal;
use actix::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;
use weighbridge_verifier::{CentresContent, Hash, PublicKey};

/// When a block closes, whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockLimits {
    /// After this many records.
    pub records: usize,
    /// This long after its first record arrived.
    pub age: Duration,
    /// How long an act that may wait for others does so. A block costs as much as a few acts in it (two
    /// signatures, two writes that are synced), and while others are answered the machine is not idle.
    pub company: Duration,
}

impl Default for BlockLimits {
    fn default() -> Self {
        Self {
            records: 64,
            age: Duration::from_millis(100),
            company: Duration::from_millis(4),
        }
    }
}

/// Append records, and the values they answer for, to the open block.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Append {
    /// The records, not yet signed.
    pub drafts: Vec<Draft>,
    /// Ciphertexts and wrapped keys that must be durable with them.
    pub puts: Vec<Put>,
    /// What to do when they are.
    pub settle: Option<Settle>,
}

/// What is due once a batch is durable.
pub struct Settle {
    /// The device of the batch.
    pub device: DeviceId,
    /// The batch's epoch.
    pub epoch: u64,
    /// The batch's sequence number.
    pub sequence: u64,
    /// What validation said of it.
    pub class: VerdictClass,
    /// Its samples.
    pub points: u64,
    /// Their source times.
    pub times: SourceTimes,
    /// For the status page, when it was refused.
    pub refusal: Option<Refusal>,
    /// Whom to tell.
    pub settled: Option<Recipient<BatchSettled>>,
    /// Dropped, and so returned, when it is settled.
    pub credit: Credit,
}

/// Make an act of a user durable now: the block closes at once, whatever else it holds, and acts that
/// come while a block is written share the next one. Answers with the block's height when the act is
/// durable.
#[derive(Message)]
#[rtype(result = "Result<u64, RecordFault>")]
pub struct Record {
    /// The act.
    pub act: SealedAct,
    /// Whether it may wait a moment ([`BlockLimits::company`]) for others to share its block with. Who is alone should not ask
    /// for that, and nobody whose act is about a machine.
    pub in_company: bool,
}

/// Record what is looked at first, and comes last in a block that is closed at once: a key that takes the place
/// of another, key generation centres. Answers with the block's height when it is durable; if it gives
/// the hub a key, the hub signs by that one then.
#[derive(Message)]
#[rtype(result = "Result<u64, RecordFault>")]
pub struct RecordLast(pub Draft);

/// Why an act is not known to be durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// The disk refuses, and the act was not taken.
    #[error("the ledger cannot be written: {0}")]
    Waiting(String),
    /// The disk began to refuse when the act was taken already: it may still become durable.
    #[error("the ledger cannot be written for now: {0}")]
    Pending(String),
    /// Too many acts wait for their block.
    #[error("too many acts wait to be recorded")]
    Busy,
    /// It is durable here, and the other hubs have not agreed to it in time; they may yet.
    #[error("recorded by this hub, not yet agreed by the others")]
    NotAgreed,
    /// It may not come next, and was not taken.
    #[error("{0}")]
    Refused(String),
    /// The ledger is gone, or ended before the act was written.
    #[error("the ledger has stopped")]
    Stopped,
}

/// The hub is ending: from now on no record waits for others to share its block with. Answers when
/// nothing is left to write.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Close;

/// Asks for the number of a device's next batch, epoch and sequence, as the durable ledger has it: under the lease of
/// this fencing epoch, or of a device without leases.
#[derive(Message)]
#[rtype(result = "(u64, u64)")]
pub struct NextBatch(pub DeviceId, pub Option<u64>);

/// Asks for what the durable ledger has of a device, and of it from the edge node with this key, to be
/// watched.
#[derive(Message)]
#[rtype(result = "watch::Receiver<Standing>")]
pub struct Follow(pub DeviceId, pub PublicKey);

/// Asks for the validation settings and limits in force for a device. Answers when all that came
/// before is durable, so that nothing is under way that would change them.
#[derive(Message)]
#[rtype(result = "Option<Document>")]
pub struct RecordedSettings(pub DeviceId);

/// Asks whom of these ids the ledger knows. Answers as [`RecordedSettings`] does.
#[derive(Message)]
#[rtype(result = "BTreeMap<String, Identity>")]
pub struct KnownIdentities(pub Vec<String>);

/// Asks for the state after the newest durable block, and its height; `None` when the ledger broke.
#[derive(Message)]
#[rtype(result = "Option<(State, u64)>")]
pub struct CurrentState;

/// Asks for the keys of all identities. Answers as [`RecordedSettings`] does.
#[derive(Message)]
#[rtype(result = "Keys")]
pub struct RecordedKeys;

/// The keys of all identities.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// Identities, each with the keys that it had before, oldest first, by id.
    pub identities: BTreeMap<String, (Identity, Vec<PublicKey>)>,
    /// The records by which hubs changed their keys, in order.
    pub rotations: Vec<weighbridge_verifier::Record>,
    /// The versions of the set of key generation centres.
    pub centres: Vec<CentresContent>,
}

/// A block is durable: what was acknowledged with it.
#[derive(Clone, Debug)]
pub struct BlockCommitted {
    /// The block.
    pub tip: LedgerTip,
    /// Device, epoch, sequence and verdict of every batch in it, in order.
    pub batches: Vec<(DeviceId, u64, u64, VerdictClass)>,
    /// What other hubs recorded in it, in order; nothing where this hub decides alone.
    pub foreign: Vec<weighbridge_verifier::Record>,
    /// The block itself, where several hubs decided it.
    pub decided: Option<std::sync::Arc<weighbridge_verifier::Block>>,
}

/// The newest durable block, and how many records the chain has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerTip {
    /// The block's height.
    pub height: u64,
    /// Its hash.
    pub hash: Hash,
    /// When it was made.
    pub time: Nanos,
    /// Records in the whole chain.
    pub records: u64,
}

impl LedgerTip {
    pub(super) fn of(tip: &Tip, records: u64) -> Self {
        Self {
            height: tip.height,
            hash: tip.hash,
            time: tip.time,
            records,
        }
    }
}

/// How the ledger is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerHealth {
    /// Working.
    Up,
    /// The disk refuses; it is tried again.
    Waiting(String),
    /// An invariant is broken; the hub must stop.
    Broken(String),
}

/// What the rest of the hub sees of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerStatus {
    /// The newest durable block.
    pub tip: LedgerTip,
    /// How it is.
    pub health: LedgerHealth,
}
