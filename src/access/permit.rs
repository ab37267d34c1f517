//! Permits: within one, requests go straight through; after it, admission is repeated (Wan et al.
//! 2019, Algorithm 1). What a device stores is validated within a permit as well.

use super::level::Mode;
use crate::model::Nanos;
use borsh::BorshSerialize;
use serde::{Deserialize, Serialize};
use weighbridge_verifier::{Hash, Suite};

/// For how long somebody may store, read or control.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct Permit {
    /// From then on.
    pub from: Nanos,
    /// Up to then, then included no more.
    pub until: Nanos,
}

impl Permit {
    /// What records of a chain of `suite` name it by: the hash of whose it is, for what, and from when until
    /// when.
    pub fn hash(&self, suite: Suite, subject: &str, mode: Mode) -> Hash {
        let bytes = match borsh::to_vec(&(subject, mode.name(), self)) {
            Ok(bytes) => bytes,
            Err(error) => unreachable!("memory takes what is written to it: {error}"),
        };
        suite.hash(&[&bytes])
    }

    /// Whether it holds at `time`.
    pub fn holds(&self, time: Nanos) -> bool {
        self.from <= time && time < self.until
    }
}
