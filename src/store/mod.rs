//! Implementations of [`crate::ledger::store::Store`], and the signed head outside of it.

mod fjall_store;
mod head;
mod lock;

pub use fjall_store::FjallStore;
pub use head::HeadFile;
