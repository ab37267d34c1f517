//! Proposers that lie.
