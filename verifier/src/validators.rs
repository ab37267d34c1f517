//! The hubs that sign blocks, and how many of them must.

use crate::block::{BlockError, BlockHeader, CommitSignature};
use crate::codec::encode;
use crate::hash::Hash;
use crate::signature::{PublicKey, Signature, SignatureError};
use crate::suite::Suite;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

const VALIDATORS_DOMAIN: &[u8] = b"weighbridge/validators/v1\0";

/// A hub that may sign blocks.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validator {
    /// Its id.
    pub id: String,
    /// Its key.
    pub key: PublicKey,
}

/// The hubs that may sign, and how many of them must.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidatorSet {
    /// The hubs, ordered by id.
    pub validators: Vec<Validator>,
    /// How many signatures make a commit.
    pub threshold: u32,
}

impl ValidatorSet {
    /// The set of a single hub that signs for itself.
    pub fn solo(id: &str, key: PublicKey) -> Self {
        let id = id.to_owned();
        Self {
            validators: vec![Validator { id, key }],
            threshold: 1,
        }
    }

    /// What a header of this suite holds of the set.
    pub fn hash(&self, suite: Suite) -> Hash {
        suite.hash(&[VALIDATORS_DOMAIN, &encode(self)])
    }

    /// Whether it is one that can decide: hubs strictly ordered by id, no key twice (it would count
    /// twice), and a threshold between one and their number.
    pub fn is_well_formed(&self) -> bool {
        let hubs = &self.validators;
        let keys: BTreeSet<&PublicKey> = hubs.iter().map(|v| &v.key).collect();
        let ordered = hubs
            .iter()
            .zip(hubs.iter().skip(1))
            .all(|(a, b)| a.id < b.id);
        let threshold = usize::try_from(self.threshold).unwrap_or(usize::MAX);
        ordered && keys.len() == hubs.len() && (1..=hubs.len()).contains(&threshold)
    }

    /// The hub with this id.
    pub fn get(&self, id: &str) -> Option<&Validator> {
        self.validators.iter().find(|v| v.id == id)
    }

    /// Checks that this is the set that the header names, and that enough of it signed `message`, each
    /// once.
    pub(crate) fn check_signatures(
        &self,
        header: &BlockHeader,
        signatures: &[CommitSignature],
        holds: impl Fn(&PublicKey, &Signature) -> Result<(), SignatureError>,
    ) -> Result<(), BlockError> {
        if self.hash(header.suite()) != header.validators_hash {
            return Err(BlockError::ValidatorSet);
        }
        let other_suite = |v: &Validator| v.key.suite() != header.suite();
        if !self.is_well_formed() || self.validators.iter().any(other_suite) {
            return Err(BlockError::MalformedSet);
        }
        let mut seen = BTreeSet::new();
        for one in signatures {
            let entitled = self
                .get(&one.validator)
                .filter(|_| seen.insert(&one.validator));
            let validator = entitled.ok_or_else(|| BlockError::Signer(one.validator.clone()))?;
            holds(&validator.key, &one.signature)
                .map_err(|_| BlockError::Signature(one.validator.clone()))?;
        }
        let needed = self.threshold;
        if (seen.len() as u64) < u64::from(needed) {
            let got = seen.len();
            return Err(BlockError::Threshold { got, needed });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(hubs: &[(&str, u8)], threshold: u32) -> ValidatorSet {
        let validator = |(id, key): &(&str, u8)| Validator {
            id: (*id).to_owned(),
            key: PublicKey([*key; 33]),
        };
        let validators = hubs.iter().map(validator).collect();
        ValidatorSet {
            validators,
            threshold,
        }
    }

    #[test]
    fn a_set_that_cannot_decide_is_malformed() {
        assert!(set(&[("a", 1)], 1).is_well_formed());
        assert!(set(&[("a", 1), ("b", 2), ("c", 3)], 2).is_well_formed());
        let twice = [("a", 1), ("a", 2)];
        let one_key = [("a", 1), ("b", 1)];
        let unordered = [("b", 1), ("a", 2)];
        for hubs in [twice, one_key, unordered] {
            assert!(!set(&hubs, 1).is_well_formed(), "{hubs:?}");
        }
        for threshold in [0, 3, u32::MAX] {
            assert!(!set(&[("a", 1), ("b", 2)], threshold).is_well_formed());
        }
        assert!(!set(&[], 0).is_well_formed());
    }
}
