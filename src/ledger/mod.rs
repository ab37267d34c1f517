//! Records, blocks, proofs, and what the records add up to.

pub mod act;
pub mod assemble;
pub mod batch_format;
pub mod checkpoint;
pub mod draft;
pub mod erasure;
mod error;
pub mod facts;
pub mod fellow_wraps;
mod following;
pub mod head;
pub mod history;
pub mod inner_tree;
pub mod key_epochs;
pub mod key_wrap;
pub mod keys;
mod named;
mod number_stream;
mod opened;
pub mod opening;
pub mod proof;
mod puts;
pub mod query;
pub mod reading;
pub mod replay;
pub mod report;
pub mod retention;
pub mod rewrap;
pub mod seal;
mod section;
pub mod shape;
pub mod shared;
pub mod signers;
pub mod state;
pub mod store;
pub mod verify;
pub mod words;
pub mod writer;

// The same tests, once for each suite.
#[cfg(test)]
#[path = "."]
mod nist {
    use super::*;
    const SUITE: weighbridge_verifier::Suite = weighbridge_verifier::Suite::Nist;
    #[path = "golden.rs"]
    mod golden;
    #[path = "golden_hubs.rs"]
    mod golden_hubs;
    #[path = "golden_relay.rs"]
    mod golden_relay;
}
#[cfg(test)]
#[allow(clippy::duplicate_mod)]
#[path = "."]
mod guomi {
    use super::*;
    const SUITE: weighbridge_verifier::Suite = weighbridge_verifier::Suite::Guomi;
    #[path = "golden.rs"]
    mod golden;
    #[path = "golden_hubs.rs"]
    mod golden_hubs;
    #[path = "golden_relay.rs"]
    mod golden_relay;
}
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
pub(crate) mod testing_hubs;
#[cfg(test)]
pub(crate) mod testing_relay;

pub use assemble::Tip;
pub use draft::Draft;
pub use error::LedgerError;
pub use state::State;
pub use weighbridge_verifier::{block, evidence, merkle, record};
pub use writer::{ChainConfig, Ledger};
