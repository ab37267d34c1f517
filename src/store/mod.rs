//! Implementations of [`crate::ledger::store::Store`], the signed head outside of it, and the durable
//! queue for what cannot go on yet.

mod buffered;
mod faulty;
mod fjall_store;
mod head;
mod lock;
mod manifest;
pub mod spool;

pub use buffered::{BufferStatus, BufferedStore, buffered_puts};
pub use faulty::{FaultyDisk, FaultyHead, FaultyStore};
pub use fjall_store::FjallStore;
pub use head::HeadFile;

// The same tests, once for each suite.
#[cfg(test)]
#[path = "tests"]
mod nist {
    use super::*;
    const SUITE: weighbridge_verifier::Suite = weighbridge_verifier::Suite::Nist;
    #[path = "mod.rs"]
    mod tests;
}
#[cfg(test)]
#[allow(clippy::duplicate_mod)]
#[path = "tests"]
mod guomi {
    use super::*;
    const SUITE: weighbridge_verifier::Suite = weighbridge_verifier::Suite::Guomi;
    #[path = "mod.rs"]
    mod tests;
}
