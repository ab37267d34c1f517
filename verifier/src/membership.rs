//! What hubs that share a chain record about themselves: votes on who is of the set, leases of devices,
//! and proof that one of them lied.
//!
//! How votes are counted is in [`crate::succession`]. These contents are in blocks of several hubs only.

use crate::block::ValidatorSet;
use crate::hash::to_hex;
use crate::signature::PublicKey;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize, Serializer};

/// Which way a hub votes.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum HubChange {
    /// The hub shall be of the set.
    Admit,
    /// The hub shall leave it, or stand by no longer. Whoever stands by first takes the place of one that leaves.
    Dismiss,
    /// The hub shall stand by, behind those that do.
    Standby,
}

/// What hubs of a set are trusted not to do, and so how many of them decide.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Faults {
    /// Fewer than a third may do anything at all: more than two thirds decide.
    Byzantine,
    /// One of three may stop, and none lies: a majority decides.
    Crash,
}

impl Faults {
    /// How many of `hubs` hubs decide; `None` where a set of that size cannot be trusted in this way. Only
    /// three hubs gain by a majority, and from four on a liar can be outvoted.
    pub fn threshold(self, hubs: usize) -> Option<u32> {
        let hubs = u32::try_from(hubs).ok()?;
        match (self, hubs) {
            (_, 0) => None,
            (Self::Byzantine, _) => (hubs.checked_mul(2)? / 3).checked_add(1),
            (Self::Crash, 3) => Some(2),
            (Self::Crash, _) => None,
        }
    }

    /// In which way the hubs of `set` are trusted.
    pub fn of(set: &ValidatorSet) -> Self {
        match Self::Crash.threshold(set.validators.len()) == Some(set.threshold) {
            true => Self::Crash,
            false => Self::Byzantine,
        }
    }
}

/// A hub's vote on who is in the set. It counts when hubs of the set, as many as its threshold, said the
/// very same.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubVoteContent {
    /// The hub that is voted on.
    pub hub: String,
    /// Its key: the one that it comes with, or that it has in the set.
    pub key: PublicKey,
    /// Whether it shall come or go.
    pub change: HubChange,
    /// How the hubs of the set that this makes are trusted.
    pub faults: Faults,
}

/// Who reads a device from now on.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct LeaseContent {
    /// The device.
    pub device: String,
    /// The fencing epoch of batches that are read under this lease.
    pub epoch: u64,
    /// The hub.
    pub hub: String,
}

/// Two messages that one hub signed and may not have signed both.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct EquivocationContent {
    /// What [`check_evidence`](crate::equivocation::check_evidence) takes.
    #[serde(serialize_with = "hexadecimal")]
    pub evidence: Vec<u8>,
}

fn hexadecimal<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&to_hex(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_many_decide() {
        let byzantine = [1, 2, 3, 3, 4, 5, 5, 6, 7, 7];
        for (hubs, threshold) in (1..).zip(byzantine) {
            assert_eq!(Faults::Byzantine.threshold(hubs), Some(threshold), "{hubs}");
            let crash = (hubs == 3).then_some(2);
            assert_eq!(Faults::Crash.threshold(hubs), crash, "{hubs}");
        }
        for faults in [Faults::Byzantine, Faults::Crash] {
            assert_eq!(faults.threshold(0), None);
            assert_eq!(faults.threshold(usize::MAX), None);
        }
    }
}
