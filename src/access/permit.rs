//! Permits: within one, requests go straight through; after it, admission is repeated (Wan et al.
//! 2019, Algorithm 1). What a device stores is validated within a permit as well.

use crate::model::Nanos;
use borsh::BorshSerialize;
use serde::{Deserialize, Serialize};

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
    /// Whether it holds at `time`.
    pub fn holds(&self, time: Nanos) -> bool {
        self.from <= time && time < self.until
    }
}
