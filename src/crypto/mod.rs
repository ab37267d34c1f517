//! Suites, identities, signing, envelopes.

pub mod signer;

pub use signer::Signer;
