//! Implementations of [`crate::ledger::store::Store`], and the signed head outside of it.
