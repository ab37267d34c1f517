//! Implementations of [`crate::ledger::store::Store`], and the signed head outside of it.

mod faulty;
mod fjall_store;
mod head;
mod lock;
mod manifest;

pub use faulty::{FaultyDisk, FaultyHead, FaultyStore};
pub use fjall_store::FjallStore;
pub use head::HeadFile;

#[cfg(test)]
mod tests;
