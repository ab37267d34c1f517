//! The integration tests: one binary, so that it links once.

#![allow(clippy::unwrap_used)]

mod disk;
mod floors;
mod kill;
mod machines;
mod panics;
mod restart;
mod site;
mod support;
mod values;
