//! The integration tests: one binary, so that it links once.

#![allow(clippy::unwrap_used)]

mod floors;
mod kill;
mod support;
