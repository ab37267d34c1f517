//! What was recorded, found again: by device, tag and source time.
//!
//! Blocks are in the order in which they were made, and so says nothing about source times: a device
//! that was read late, an edge that was cut off, a server that filled a gap all record old samples in
//! new blocks. So every sealed batch has an entry in an index ([`index`]), written in the same atomic
//! commit as its block; what is missing there is made up from the blocks ([`rebuild`]).

pub mod evidence;
pub mod gone;
pub mod index;
mod newest;
pub mod reader;
pub mod rebuild;
pub mod succession;

// The same tests, once for each suite.
#[cfg(test)]
#[path = "."]
mod nist {
    use super::*;
    const SUITE: weighbridge_verifier::Suite = weighbridge_verifier::Suite::Nist;
    #[path = "tests.rs"]
    mod tests;
}
#[cfg(test)]
#[allow(clippy::duplicate_mod)]
#[path = "."]
mod guomi {
    use super::*;
    const SUITE: weighbridge_verifier::Suite = weighbridge_verifier::Suite::Guomi;
    #[path = "tests.rs"]
    mod tests;
}

use super::opening::OpeningError;
use super::proof::ProofError;
use super::query::QueryError;
use super::store::StoreError;

/// Why what was recorded cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PastError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A batch cannot be opened.
    #[error(transparent)]
    Opening(#[from] OpeningError),
    /// The blocks.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// An entry of the index is not what was written.
    #[error(
        "the index of the history is damaged at entry {0}; restart the hub: it makes it up anew from its \
         blocks"
    )]
    Index(String),
    /// A batch that the index names is in no block near where it should be.
    #[error("the batch {epoch}.{sequence} of `{device}` is in no block")]
    NoRecord {
        /// Its device.
        device: String,
        /// Its fencing epoch.
        epoch: u64,
        /// Its sequence number.
        sequence: u64,
    },
    /// More is asked for than one file may hold.
    #[error("{0}; ask for a shorter time or fewer tags")]
    TooMuch(String),
    /// No sample is there.
    #[error("there is no stored sample of `{0}` in that time")]
    NoSamples(String),
    /// A tag that no batch of the time has.
    #[error("`{device}` has no tag `{tag}` in that time")]
    NoTag {
        /// The device.
        device: String,
        /// The tag.
        tag: String,
    },
    /// What judged a batch is in no block that was looked through.
    #[error("the settings that judged the batches of `{0}` are in no block near them")]
    NoSettings(String),
    /// What was retired is not known, or it is what was asked for.
    #[error("{0}")]
    Retired(String),
    /// What was erased is not known.
    #[error("{0}")]
    Erasures(String),
    /// The ledger does not begin with its hub's enrolment.
    #[error("the ledger does not begin with its hub's enrolment")]
    Genesis,
    /// A block's set of hubs is not the one that the records before it make.
    #[error("who signs block {0} does not follow from the records before it")]
    Succession(u64),
    /// A sample cannot be proven.
    #[error(transparent)]
    Proof(#[from] ProofError),
}
