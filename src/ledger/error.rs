//! Why a ledger cannot be opened or written to.

use super::assemble::AssembleError;
use super::replay::FollowError;
use super::retention::RetentionError;
use super::store::{Space, StoreError};
use weighbridge_verifier::{DecodeError, Hash, PublicKey, SignatureError, Suite};

/// Why a ledger cannot be opened or appended to.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The store failed. Nothing was acknowledged; the same drafts can be appended again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The drafts do not make a block. Nothing has changed.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// An earlier block may or may not be in the store: it must be written again first.
    #[error("block {0} is not yet known to be durable: retry it before other drafts are appended")]
    Pending(u64),
    /// There is no block to be written again.
    #[error("there is no block that waits to be written again")]
    NothingPending,
    /// A draft names sealed bytes that did not come with it.
    #[error("the sealed bytes {hash} of draft {index} did not come with it")]
    SealedMissing {
        /// Which draft, from 0.
        index: usize,
        /// What their hash should be.
        hash: Hash,
    },
    /// An id is empty or too long.
    #[error("the id `{0}` must have 1 to 64 bytes")]
    Id(String),
    /// A stored block cannot be read.
    #[error("the ledger is damaged: block {height}: {why}")]
    Decode {
        /// Its height.
        height: u64,
        /// Why.
        why: DecodeError,
    },
    /// A stored block does not follow from the one before.
    #[error("the ledger is damaged: block {height}: {why}")]
    Follow {
        /// Its height.
        height: u64,
        /// Why.
        why: FollowError,
    },
    /// What was retired is not known, or the state that it left cannot be used.
    #[error("the ledger is damaged: {0}")]
    Retention(#[from] RetentionError),
    /// The keyspace of blocks holds a key that is no height.
    #[error("the ledger is damaged: the store holds a block under a key that is no height")]
    Key,
    /// The head cannot be read.
    #[error("the signed head is damaged: {0}")]
    Head(String),
    /// The head's signature is not this hub's.
    #[error("the signed head is not signed by this hub's key: {0}")]
    HeadSignature(#[from] SignatureError),
    /// The chain is of another suite than the keys.
    #[error(
        "the ledger is of suite `{chain}` and the keys are of suite `{keys}`: the first block fixes the \
         suite; another one needs another data directory"
    )]
    Suite {
        /// The chain's.
        chain: Suite,
        /// The keys'.
        keys: Suite,
    },
    /// The store ends before the head.
    #[error(
        "the store is damaged: it ends at block {store}, but block {head} was acknowledged; restore \
         the data directory from a backup, with a new signing key"
    )]
    Behind {
        /// Newest height in the store.
        store: u64,
        /// Height of the head.
        head: u64,
    },
    /// Store and head disagree about a block.
    #[error("the ledger is damaged: block {0} in the store is not the one that was acknowledged")]
    Differs(u64),
    /// There are blocks but no head.
    #[error(
        "the signed head is missing although the store holds {0} blocks: whether its end was lost \
         cannot be told"
    )]
    HeadMissing(u64),
    /// The hub has another key by now.
    #[error(
        "the ledger has given `{hub}` another key than {given}: since then it signs by {current}; put the \
         file of that key where `signing_key` says (the one from before is of no use any more); where a file \
         of the same name with `.next` lies beside it, start the hub, which puts it there"
    )]
    FormerKey {
        /// The hub.
        hub: String,
        /// The key that it had.
        given: PublicKey,
        /// The key that it has.
        current: PublicKey,
    },
    /// A key is on record that is not here.
    #[error("the ledger gives `{0}` a key that it does not have")]
    KeyLost(String),
    /// The ledger was written under another key.
    #[error("the ledger was begun by `{hub}` under another key than the one given")]
    Signer {
        /// The hub of the ledger.
        hub: String,
    },
    /// Several hubs share the chain.
    #[error(
        "several hubs share this chain since block {0}: it goes on with them only; start the hub with \
         `[cluster]` in its configuration"
    )]
    Shared(u64),
    /// There are records that wait for other hubs.
    #[error(
        "records of this hub up to number {0} wait until other hubs agree to them: start it with `[cluster]` in \
         its configuration"
    )]
    OpenRecords(u64),
    /// The chain is not the one that was to be joined.
    #[error(
        "this chain was begun by `{hub}` under the key {key}, which is not the hub and key that `genesis` names"
    )]
    Genesis {
        /// The hub of the first block.
        hub: String,
        /// Its key then.
        key: PublicKey,
    },
    /// The chain has another key of this hub.
    #[error("the chain has another key of `{0}` than the one given")]
    OwnKey(String),
    /// What is kept of this hub's open records cannot be used.
    #[error("the ledger is damaged: its open record {sequence}: {why}")]
    Own {
        /// Its number.
        sequence: u64,
        /// Why.
        why: String,
    },
    /// Too much waits for the other hubs.
    #[error(
        "{0} records wait until the other hubs agree to them, and no more are kept: see which hubs cannot be \
         reached"
    )]
    TooManyOpen(usize),
    /// What belongs to one hub's ledger only.
    #[error("what goes into the keyspace {0} is not shared with other hubs yet")]
    NotShared(Space),
    /// A hub's key in a cluster.
    #[error(
        "a hub of several gets another key by leaving the set and coming back with it: its key cannot be \
         replaced in place"
    )]
    RotatesMember,
    /// Bytes that were decided and are no value.
    #[error("what was decided at height {height} cannot be read: {why}")]
    Value {
        /// The height.
        height: u64,
        /// Why.
        why: DecodeError,
    },
}
