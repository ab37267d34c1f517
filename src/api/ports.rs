//! What the HTTP face reads: the ledger's query side and the charts, as narrow traits, so that it
//! can be tested against a fake and never learns how either is kept.

use crate::access::Caller;
use crate::crypto::guomi::making::Making;
use crate::ledger::block::Block;
use crate::ledger::erasure::plan::Plan;
use crate::ledger::record::{Action, Record};
use crate::ledger::report::Progress;
use crate::model::{Nanos, VerdictClass};
use crate::validation::{ChartHistory, TagChart};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use weighbridge_verifier::{
    CentreShare, CentresContent, DerivedContent, Hash, IdentityKind, PublicKey, RotationContent,
};

/// The newest block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// Its height, from 1.
    pub height: u64,
    /// Its hash.
    pub hash: Hash,
    /// When it was made.
    pub time: Nanos,
    /// Records in the whole chain.
    pub records: u64,
}

/// Where a record is: height of its block and position in it, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordAt {
    /// Height of its block.
    pub height: u64,
    /// Position in the block's body.
    pub position: u32,
}

/// Which records are wanted; `None` means any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordFilter {
    /// Only records that are about batches.
    pub batches_only: bool,
    /// Only records about a batch of this device, or about this device by object.
    pub device: Option<String>,
    /// Only batches of this verdict.
    pub verdict: Option<VerdictClass>,
    /// Only records of this action.
    pub action: Option<Action>,
}

/// A part of the records, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordPage {
    /// The records and where they are.
    pub records: Vec<(RecordAt, Record)>,
    /// Continue before this one; `None` when there is nothing older. A page may be shorter than
    /// asked for and still have a next one: a search looks through a bounded number of blocks.
    pub next: Option<RecordAt>,
}

/// How retiring is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RetentionStatus {
    /// The bodies of blocks after the first up to this height are gone.
    pub bodies_horizon: u64,
    /// What records up to this height name is gone, but for what is in use.
    pub batches_horizon: u64,
    /// Bytes of the data directory, without the store's journal, when it was last looked at.
    pub used_bytes: u64,
    /// What they may be.
    pub max_bytes: Option<u64>,
    /// Bytes of sealed values that were retired.
    pub retired_bytes: u64,
    /// Where it was archived.
    pub archive: Option<String>,
    /// Files of the archive that are on record.
    pub segments: u64,
    /// Bytes of them.
    pub archived_bytes: u64,
    /// When something was retired last.
    pub last: Option<String>,
    /// How far what is under way has come.
    #[serde(skip)]
    pub progress: Option<Progress>,
    /// Why nothing is retired for now.
    pub trouble: Option<String>,
}

/// The ledger cannot be read; the reason, in plain words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ledger cannot be read: {0}")]
pub struct LedgerReadError(pub String);

/// The ledger's query side. Blocking, except for `tip` and `trouble`: called from a pool of threads.
pub trait LedgerReader: Send + Sync {
    /// The newest block, also while the ledger is in trouble; `None` while there is none. Never
    /// blocks.
    fn tip(&self) -> Option<Tip>;

    /// How what is old is retired; `None` where everything is kept. Never blocks.
    fn retention(&self) -> Option<RetentionStatus> {
        None
    }

    /// What keeps the ledger from taking new blocks, in plain words, for example a full disk;
    /// `None` when all is well. Never blocks.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// The block at `height`.
    fn block(&self, height: u64) -> Result<Option<Block>, LedgerReadError>;

    /// At most `limit` blocks below height `before` (from the newest on when `None`), newest first.
    fn blocks(&self, before: Option<u64>, limit: usize) -> Result<Vec<Block>, LedgerReadError>;

    /// At most `limit` records before `before`, newest first.
    fn records(
        &self,
        before: Option<RecordAt>,
        limit: usize,
        filter: &RecordFilter,
    ) -> Result<RecordPage, LedgerReadError>;
}

/// Why there is no checkpoint; in plain words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoCheckpoint {
    /// The ledger has fewer blocks than the proof should begin with.
    #[error("{0}")]
    Short(String),
    /// Others have asked for much, and it takes time.
    #[error("checkpoints are being made for others, try again")]
    Busy,
    /// It cannot be made.
    #[error("{0}")]
    Failed(String),
}

/// Makes signed checkpoints of the ledger. Blocking: called from a pool of threads.
pub trait CheckpointPort: Send + Sync {
    /// That of `size` blocks (of all when `None`), as a signed note; with `old`, after the proof that
    /// it extends the tree of so many blocks, as witnesses take it.
    fn checkpoint(&self, old: Option<u64>, size: Option<u64>) -> Result<String, NoCheckpoint>;

    /// The keys that sign them, a line each: the checkpoint key and the hub's own.
    fn keys(&self) -> Result<String, NoCheckpoint>;
}

/// What is to be erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EraseRequest {
    /// The device.
    pub device: String,
    /// Everything before this source time.
    pub until: Nanos,
    /// Only say what would be.
    pub dry_run: bool,
}

/// What an erasure takes, and how far it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EraseStatus {
    /// What it takes.
    pub plan: Plan,
    /// Height of the block that records it; `None` of one that was not done.
    pub height: Option<u64>,
    /// What is being done, and how much of it is; `None` before that begins.
    pub progress: Option<Progress>,
    /// Whether it is done.
    pub done: bool,
    /// Why it cannot be finished for now.
    pub trouble: Option<String>,
}

/// Why nothing is erased; in plain words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EraseFault {
    /// The caller lacks the right; recorded.
    #[error("{0}")]
    Denied(String),
    /// The request makes no sense.
    #[error("{0}")]
    Unknown(String),
    /// Another one is under way, or something must be finished before.
    #[error("{0}")]
    Busy(String),
    /// It failed. What is on record of it is finished when the hub starts next.
    #[error("{0}")]
    Failed(String),
}

/// Erases what was recorded.
#[async_trait]
pub trait ErasePort: Send + Sync {
    /// Erases, or says what would be erased. Answers when the keys are destroyed and a record says so; what
    /// remains goes on.
    async fn erase(
        &self,
        caller: &Caller,
        request: EraseRequest,
    ) -> Result<EraseStatus, EraseFault>;

    /// The erasure that was begun last since the hub started.
    fn last(&self) -> Option<EraseStatus>;
}

/// What is wanted sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedRequest {
    /// The device.
    pub device: String,
    /// From this source time on, up to this one, not included.
    pub range: (Nanos, Nanos),
    /// After this batch, by fencing epoch and sequence number.
    pub after: Option<(u64, u64)>,
}

/// What a user wants a copy of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseRequest {
    /// The device.
    pub device: String,
    /// Its tags; all that the user may see where none is named.
    pub tags: Vec<String>,
    /// From this source time on, up to this one, not included.
    pub range: (Nanos, Nanos),
    /// Whether the user showed a one-time code or a key of theirs when the session began.
    pub proven: bool,
}

/// Why a reader gets nothing; in plain words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadersFault {
    /// They may not; recorded.
    #[error("{0}")]
    Denied(String),
    /// Nothing is there.
    #[error("{0}")]
    Unknown(String),
    /// More is asked for than one answer may hold.
    #[error("{0}; ask for a shorter time or fewer tags")]
    TooMuch(String),
    /// The ledger or its keys cannot be read.
    #[error("the record cannot be read: {0}")]
    Unreadable(String),
    /// It could not be made durable, so nothing is handed out.
    #[error("nothing is handed out, because it could not be recorded: {0}")]
    NotRecorded(String),
}

/// Hands to readers what they open with keys of their own.
#[async_trait]
pub trait ReadersPort: Send + Sync {
    /// Returns when the wraps of all keys are as the state of access says; why they are not yet is the error.
    async fn settled(&self) -> Result<(), String>;

    /// A file of sealed batches. On record before this returns, and so is a refusal.
    async fn sealed(
        &self,
        caller: &Caller,
        request: SealedRequest,
    ) -> Result<Vec<u8>, ReadersFault>;

    /// A file with a copy that is encrypted to the caller. On record before this returns, and so is a refusal.
    async fn release(
        &self,
        caller: &Caller,
        request: ReleaseRequest,
    ) -> Result<Vec<u8>, ReadersFault>;
}

/// A key of the ledger's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownKey {
    /// Whose.
    pub id: String,
    /// What that is.
    pub kind: IdentityKind,
    /// The key in use; `None` for who has none.
    pub key: Option<PublicKey>,
    /// Those before it, oldest first.
    pub former: Vec<PublicKey>,
    /// Whether it was withdrawn.
    pub revoked: bool,
}

/// A key that took the place of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// The new one.
    pub key: PublicKey,
    /// The one before.
    pub replaces: PublicKey,
    /// The block that says so.
    pub height: u64,
}

/// Why a key was not replaced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// The caller may not.
    #[error("{0}")]
    Denied(String),
    /// Not now.
    #[error("{0}")]
    Busy(String),
    /// What was shown is not right.
    #[error("{0}")]
    Wrong(String),
    /// It failed; the text says whether it may still follow.
    #[error("{0}")]
    Failed(String),
}

/// Replaces keys.
#[async_trait]
pub trait KeyPort: Send + Sync {
    /// Gives the hub a new signing key. Answers when that is on record and the hub signs by it.
    async fn rotate_hub(&self, caller: &Caller) -> Result<NewKey, KeyFault>;

    /// Gives the hub a new sealing key. Answers when that is on record and new keys are wrapped to it; wraps to the
    /// one before are made anew after that.
    async fn rotate_sealing(&self, caller: &Caller) -> Result<NewSealingKey, KeyFault>;

    /// The hub's sealing keys.
    fn sealing(&self) -> SealingKeys;

    /// The keys of all identities.
    async fn keys(&self) -> Vec<KnownKey>;

    /// The versions of the set of key generation centres.
    async fn centres(&self) -> Vec<CentresContent>;

    /// Makes these centres the next version of the set: its number, and the block that says so.
    async fn set_centres(
        &self,
        caller: &Caller,
        members: Vec<CentreShare>,
    ) -> Result<(u32, u64), KeyFault>;

    /// Enrols who has a certificateless key, or gives a key in place of another: the block that says so.
    async fn enrol(&self, caller: &Caller, key: OfferedKey) -> Result<u64, KeyFault>;

    /// Looks who keeps a key from being made, and records that; `None` when nobody does.
    async fn complain(&self, caller: &Caller, making: Making) -> Result<Option<String>, KeyFault>;
}

/// A hub's new sealing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct NewSealingKey {
    /// What new keys are wrapped to.
    pub key: PublicKey,
    /// What they were wrapped to before.
    pub replaces: PublicKey,
}

/// A hub's sealing keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SealingKeys {
    /// The one in use.
    pub key: PublicKey,
    /// Those before that are still kept, newest first.
    pub former: Vec<PublicKey>,
    /// What they are kept for, while there are some.
    pub waits_for: Option<String>,
}

/// A key that somebody made and shows.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OfferedKey {
    /// One that key generation centres helped to make.
    Derived(DerivedContent),
    /// One in place of another.
    Rotation(RotationContent),
}

/// The charts' side of validation.
pub trait ChartReader: Send + Sync {
    /// The control chart of tag `tag` of device `device` with at most `points` newest points;
    /// `None` when there is none, for example because the tag is a text or nothing was judged yet.
    fn chart(&self, device: &str, tag: &str, points: usize) -> Option<TagChart>;
}

impl ChartReader for ChartHistory {
    fn chart(&self, device: &str, tag: &str, points: usize) -> Option<TagChart> {
        ChartHistory::chart(self, device, tag, points)
    }
}
