//! Several engines in one process, over loopback.

#![allow(clippy::unwrap_used)]

mod four;
// The liar among the crate's own tests uses the rest of it.
#[allow(dead_code)]
mod ledger;
mod site;
