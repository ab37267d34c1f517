//! What a verification of a whole ledger found.

use super::assemble::Tip;
use super::facts::Totals;
use super::retention::segment::SegmentRef;
use serde::Serialize;
use std::fmt;
use weighbridge_verifier::{Hash, PublicKey, Suite};

/// Most findings that are kept; the others are only counted.
pub const MAX_FINDINGS: usize = 1_000;

/// Where something is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "space")]
pub enum Where {
    /// In the signed head.
    Head,
    /// In the block stored under this height.
    Block {
        /// The height.
        height: u64,
    },
    /// In a record.
    Record {
        /// Height of its block.
        height: u64,
        /// Which record of the block, from 0.
        index: usize,
    },
    /// In the sealed bytes under this key.
    Sealed {
        /// The key, hexadecimal.
        key: String,
    },
    /// In the wrapped key under this key.
    Keys {
        /// The key, hexadecimal.
        key: String,
    },
    /// In the entry of the history's index under this key.
    History {
        /// The key, hexadecimal.
        key: String,
    },
    /// In the notice of an erasure under this key.
    Erasures {
        /// The key, hexadecimal.
        key: String,
    },
    /// In a record of a hub's own that no block has yet.
    Own {
        /// Its number.
        sequence: u64,
    },
    /// In what says that the sealed bytes of this hash are missing.
    Missing {
        /// The hash, hexadecimal.
        key: String,
    },
    /// In a keyspace as a whole.
    Store {
        /// Its name.
        name: &'static str,
    },
}

impl fmt::Display for Where {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head => f.write_str("head"),
            Self::Block { height } => write!(f, "block {height}"),
            Self::Record { height, index } => write!(f, "block {height}, record {index}"),
            Self::Sealed { key } => write!(f, "sealed {key}"),
            Self::Keys { key } => write!(f, "wrapped key {key}"),
            Self::History { key } => write!(f, "history {key}"),
            Self::Erasures { key } => write!(f, "erasure {key}"),
            Self::Own { sequence } => write!(f, "open record {sequence}"),
            Self::Missing { key } => write!(f, "missing {key}"),
            Self::Store { name } => write!(f, "keyspace {name}"),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where.
    pub place: Where,
    /// What, in plain words.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// An erasure that is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErasureFound {
    /// The device.
    pub device: String,
    /// Everything before this source time was to go, ns since 1970.
    pub until: i64,
    /// When, ns since 1970.
    pub time: i64,
    /// Who asked.
    pub by: String,
    /// Height of the block that records it.
    pub height: u64,
    /// Which record of the block, from 0.
    pub index: usize,
    /// Batches that went.
    pub batches: u64,
    /// Bytes of ciphertext in them.
    pub bytes: u64,
}

/// A retirement that is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RetirementFound {
    /// When, ns since 1970.
    pub time: i64,
    /// After it the bodies of blocks after the first up to this height are gone.
    pub bodies: u64,
    /// After it what records up to this height name is gone, but for what is in use.
    pub batches: u64,
    /// Records in the bodies that went.
    pub records: u64,
    /// Sealed values that went.
    pub values: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Where it was archived; empty where it was not.
    pub archive: String,
    /// The files that it was archived in.
    pub segments: Vec<SegmentRef>,
    /// Whether it is still being carried out: a hub goes on with it.
    pub pending: bool,
}

/// Somebody besides the hub to whom keys are wrapped, or were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecipientFound {
    /// Who: a reader, `user:anna`; a key of escrow, `escrow:` and the beginning of its digits; where there are several, a
    /// hub by its id.
    pub name: String,
    /// Keys that are wrapped to them.
    pub wraps: u64,
    /// Wraps of theirs that were overwritten.
    pub removed: u64,
    /// Height of the first block that tells of them.
    pub height: u64,
    /// Which record of the block, from 0.
    pub index: usize,
}

/// How far a clean ledger can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LedgerTrust {
    /// It was begun under the key that was given.
    Key,
    /// It fits together, but no key to trust was given: whoever wrote it could have written another.
    SelfConsistentOnly,
}

/// A key that took the place of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeySince {
    /// The hub.
    pub hub: String,
    /// Its new key.
    pub key: PublicKey,
    /// The key before.
    pub replaces: PublicKey,
    /// The first block that the new key signs.
    pub height: u64,
}

/// What became of a hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HubEvent {
    /// It was let in.
    Admitted,
    /// It was let stand by.
    StandsBy,
    /// It stood by, and came in: for one that had to go, or by votes.
    CameIn,
    /// It was dismissed by votes.
    Dismissed,
    /// It was dismissed because two things that it signed contradict each other.
    Proven,
    /// It stands by no longer.
    Unlisted,
}

/// A hub that came into the set of those that decide or stand by, or left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HubChanged {
    /// The hub.
    pub hub: String,
    /// The block whose records changed it; it counts for those after.
    pub height: u64,
    /// What became of it.
    pub event: HubEvent,
}

/// What was verified, and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Id of the chain; empty when there is no readable first block.
    pub chain: String,
    /// Suite of the chain; none when there is no readable first block.
    pub suite: Option<Suite>,
    /// The key under which the ledger was begun.
    pub key: Option<PublicKey>,
    /// Keys that hubs signed by after others, each with the first block that it may sign.
    pub rotations: Vec<KeySince>,
    /// Hubs that came and went, up to [`MAX_FINDINGS`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hubs: Vec<HubChanged>,
    /// Height of the newest block that follows from all before it.
    pub height: u64,
    /// Its hash.
    pub block_hash: Hash,
    /// Hash of the state after it.
    pub state_hash: Hash,
    /// Sums over the chain up to it.
    pub totals: Totals,
    /// Values of the sealed keyspace that were hashed.
    pub sealed: u64,
    /// Bytes of ciphertext in them.
    pub sealed_bytes: u64,
    /// Wrapped keys that were checked, with those that were destroyed.
    pub wraps: u64,
    /// Wrapped keys that were destroyed.
    pub destroyed_keys: u64,
    /// Records of the hub's own that are durable here and in no block yet: the hubs have not agreed to them.
    #[serde(skip_serializing_if = "is_none")]
    pub open: u64,
    /// Sealed values that records of other hubs name and that have not come here.
    #[serde(skip_serializing_if = "is_none")]
    pub lacking: u64,
    /// To whom keys are wrapped besides the hub, up to [`MAX_FINDINGS`].
    pub recipients: Vec<RecipientFound>,
    /// What was erased, up to [`MAX_FINDINGS`].
    pub erasures: Vec<ErasureFound>,
    /// How many erasures there were in all.
    pub erasure_count: u64,
    /// Batches that they took.
    pub erased_batches: u64,
    /// What was retired, the newest first, up to [`MAX_FINDINGS`].
    pub retirements: Vec<RetirementFound>,
    /// How many retirements there were in all.
    pub retirement_count: u64,
    /// How far it can be trusted if there are no findings.
    pub trust: LedgerTrust,
    /// What is wrong, up to [`MAX_FINDINGS`].
    pub findings: Vec<Finding>,
    /// How many things are wrong in all.
    pub finding_count: u64,
}

impl Report {
    pub(super) fn new(trust: Option<&PublicKey>) -> Self {
        Self {
            chain: String::new(),
            suite: None,
            key: None,
            rotations: Vec::new(),
            hubs: Vec::new(),
            height: 0,
            block_hash: Hash::ZERO,
            state_hash: Hash::ZERO,
            totals: Totals::default(),
            sealed: 0,
            sealed_bytes: 0,
            wraps: 0,
            destroyed_keys: 0,
            open: 0,
            lacking: 0,
            recipients: Vec::new(),
            erasures: Vec::new(),
            erasure_count: 0,
            erased_batches: 0,
            retirements: Vec::new(),
            retirement_count: 0,
            trust: match trust {
                Some(_) => LedgerTrust::Key,
                None => LedgerTrust::SelfConsistentOnly,
            },
            findings: Vec::new(),
            finding_count: 0,
        }
    }

    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.finding_count == 0
    }

    /// The newest block that follows from all before it, without its time.
    pub fn reaches(&self, tip: &Tip) -> bool {
        self.height == tip.height && self.block_hash == tip.hash
    }

    pub(super) fn find(&mut self, place: Where, what: impl fmt::Display) {
        self.finding_count += 1;
        if self.findings.len() < MAX_FINDINGS {
            let what = what.to_string();
            self.findings.push(Finding { place, what });
        }
    }
}

fn is_none(count: &u64) -> bool {
    *count == 0
}

/// How far a verification has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being verified: "blocks", "sealed bytes", "wrapped keys".
    pub what: &'static str,
    /// How many are done.
    pub done: u64,
    /// How many there should be.
    pub total: u64,
}
