//! Erasing what was recorded of a device up to a time.
//!
//! A record says what is erased, and is durable first ([`notice`]); then wrapped keys are overwritten, sealed
//! batches and their entries in the history removed, and their room given back ([`work`]). What was
//! interrupted is finished at the next start, from the notice alone. What may go is found in the index of the
//! history ([`plan`]); who meets something that is missing asks whether it was erased ([`erased`]).

pub mod erased;
pub mod notice;
pub mod plan;
pub mod work;

use super::history::PastError;
use super::opening::OpeningError;
use super::store::StoreError;
use weighbridge_verifier::DecodeError;

/// Why nothing was erased, or not all.
#[derive(Debug, thiserror::Error)]
pub enum ErasureError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was recorded cannot be looked over.
    #[error(transparent)]
    Past(#[from] PastError),
    /// A notice in the store is not what was written.
    #[error("the notice of an erasure is damaged: {0}")]
    Notice(#[from] DecodeError),
    /// The settings in force cannot be opened, so they cannot be kept.
    #[error("the settings in force cannot be read, and would be lost: {0}")]
    Settings(#[from] OpeningError),
    /// What was retired is not known.
    #[error("{0}")]
    Retired(String),
    /// More than one notice may hold.
    #[error(
        "the batches to be erased lie in over {0} pieces between others; erase up to an earlier time first"
    )]
    Pieces(usize),
}
