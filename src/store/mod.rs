//! Implementations of [`crate::ledger::store::Store`], the signed head outside of it, and the durable
//! queue for what cannot go on yet.

mod buffered;
mod faulty;
mod fjall_store;
mod head;
mod key_slots;
mod legacy_keys;
mod lock;
mod manifest;
pub mod spool;

pub use buffered::{BufferStatus, BufferedStore, buffered_puts};
pub use faulty::{FaultyDisk, FaultyHead, FaultyStore};
pub use fjall_store::FjallStore;
pub use head::HeadFile;

#[cfg(test)]
mod tests;
