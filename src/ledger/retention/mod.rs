//! Retiring what is older than a policy: sealed batches, and the bodies of blocks.
//!
//! Headers and certificates stay, and the first block as a whole, so every proof that was issued holds, and so
//! does the tree of checkpoints. What goes is on record before it goes ([`notice`]), with the hash of the state
//! that a start begins at when the bodies before are gone ([`snapshot`]), and of the files that it was archived
//! in ([`segment`]). The work itself ([`work`]) can be interrupted anywhere, and is finished by the next start.
//! A block whose body is gone is kept in the form of a block without a record, which no block ever was. Blocks by
//! which a hub changed its key keep their bodies ([`keys`]): headers alone cannot be checked beyond them.

pub mod keys;
pub mod notice;
pub mod plan;
pub mod readback;
pub mod retired;
pub mod segment;
pub mod snapshot;
pub mod work;

use super::erasure::ErasureError;
use super::history::PastError;
use super::replay::FollowError;
use super::store::StoreError;
use weighbridge_verifier::{Block, DecodeError};

/// Why nothing was retired, or not all; or why what was retired cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something that was written cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The index of the history.
    #[error(transparent)]
    Past(#[from] PastError),
    /// What was erased is not known.
    #[error(transparent)]
    Erasure(#[from] ErasureError),
    /// A block is not where it should be.
    #[error("block {0} is missing")]
    Missing(u64),
    /// A block does not follow.
    #[error("block {height} does not follow: {why}")]
    Follow {
        /// Its height.
        height: u64,
        /// Why.
        why: FollowError,
    },
    /// What is kept about retiring is not what was written.
    #[error("what is recorded of retired blocks is damaged: {0}")]
    Damaged(String),
    /// An earlier retirement is not finished.
    #[error("an earlier retirement is not finished")]
    Pending,
    /// Whoever asked for it wants no more of it for now.
    #[error("it was stopped, and goes on later")]
    Stopped,
    /// The archive.
    #[error("the archive: {0}")]
    Archive(String),
}

/// Whether the block's body is gone: its header counts records, and it has none.
pub fn is_stripped(block: &Block) -> bool {
    block.records.is_empty() && block.header.record_count > 0
}

/// The block without its body.
pub fn strip(block: Block) -> Block {
    Block {
        records: Vec::new(),
        ..block
    }
}
