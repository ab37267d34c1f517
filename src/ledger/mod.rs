//! Records, blocks, proofs, and what the records add up to.

pub mod store;

pub use weighbridge_verifier::{block, evidence, merkle, record};
