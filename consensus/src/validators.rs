//! Who decides a height.

use crate::engine::Faults;
use std::collections::BTreeSet;
use std::sync::Arc;
use weighbridge_verifier::{PublicKey, Suite};

/// Most validators of a height.
pub const MAX_VALIDATORS: usize = 128;
/// Most power of one validator, so that no sum overflows.
const MAX_POWER: u64 = u32::MAX as u64;

/// A hub that votes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validator {
    /// Its key.
    pub key: PublicKey,
    /// What its vote weighs.
    pub power: u64,
    /// Whether it has a turn in proposing. A hub that missed its turns votes on without one.
    pub proposes: bool,
}

impl Validator {
    /// A hub that votes with one voice and proposes in its turn.
    pub fn new(key: PublicKey) -> Self {
        Self {
            key,
            power: 1,
            proposes: true,
        }
    }
}

/// The hubs that decide a height, in the order in which they propose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validators(Arc<Inner>);

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    all: Vec<Validator>,
    proposers: Vec<usize>,
    power: u64,
}

/// Why a set of validators is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValidatorsError {
    /// Nobody, or too many.
    #[error("a height is decided by 1 to {MAX_VALIDATORS} validators, not {0}")]
    Count(usize),
    /// A key twice would count twice.
    #[error("the key {0} is there twice")]
    Twice(PublicKey),
    /// A key that is not a point of P-256.
    #[error("the key {0} is not one of P-256")]
    Key(PublicKey),
    /// A vote that weighs nothing, or too much.
    #[error("the power of a validator is between 1 and {MAX_POWER}, not {0}")]
    Power(u64),
}

impl Validators {
    /// The set of these, if it is one.
    pub fn new(all: Vec<Validator>) -> Result<Self, ValidatorsError> {
        if all.is_empty() || all.len() > MAX_VALIDATORS {
            return Err(ValidatorsError::Count(all.len()));
        }
        let mut seen = BTreeSet::new();
        for validator in &all {
            let key = validator.key;
            if key.suite() != Suite::Nist || key.uncompressed().is_none() {
                return Err(ValidatorsError::Key(key));
            }
            if !seen.insert(key) {
                return Err(ValidatorsError::Twice(key));
            }
            if validator.power == 0 || validator.power > MAX_POWER {
                return Err(ValidatorsError::Power(validator.power));
            }
        }
        let power = all.iter().map(|v| v.power).sum();
        let turns = |all: &[Validator], any: bool| -> Vec<usize> {
            let having = all.iter().enumerate().filter(|(_, v)| any || v.proposes);
            having.map(|(index, _)| index).collect()
        };
        let mut proposers = turns(&all, false);
        if proposers.is_empty() {
            proposers = turns(&all, true);
        }
        Ok(Self(Arc::new(Inner {
            all,
            proposers,
            power,
        })))
    }

    /// The validators.
    pub fn as_slice(&self) -> &[Validator] {
        &self.0.all
    }

    /// The one with this key.
    pub fn get(&self, key: &PublicKey) -> Option<&Validator> {
        self.0.all.iter().find(|v| v.key == *key)
    }

    /// What all votes together weigh.
    pub fn power(&self) -> u64 {
        self.0.power
    }

    /// Whose turn it is: with every height and every round, the next.
    pub fn proposer(&self, height: u64, round: u32) -> &Validator {
        let inner = &*self.0;
        let turns = inner.proposers.len().max(1) as u64;
        let turn = height.wrapping_add(u64::from(round)) % turns;
        let index = usize::try_from(turn)
            .ok()
            .and_then(|turn| inner.proposers.get(turn));
        let validator = index.and_then(|index| inner.all.get(*index));
        // `new` makes no set without a validator, and no turn that is not of one of them.
        validator.unwrap_or_else(|| unreachable!("a set of validators has a proposer"))
    }

    /// The least power that decides.
    pub fn quorum(&self, faults: Faults) -> u64 {
        match faults {
            Faults::Byzantine => 2 * self.power() / 3 + 1,
            Faults::Crash => self.power() / 2 + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::malachite::test_keys::public;

    fn set(count: u8) -> Validators {
        Validators::new((1..=count).map(|n| Validator::new(public(n))).collect()).unwrap()
    }

    #[test]
    fn quorums_are_those_of_the_literature() {
        // n, more than two thirds, more than a half
        for (count, byzantine, crash) in [(1, 1, 1), (2, 2, 2), (3, 3, 2), (4, 3, 3), (7, 5, 4)] {
            let set = set(count);
            assert_eq!(set.quorum(Faults::Byzantine), byzantine, "{count}");
            assert_eq!(set.quorum(Faults::Crash), crash, "{count}");
        }
    }

    #[test]
    fn a_set_that_cannot_decide_is_none() {
        let (a, b) = (Validator::new(public(1)), Validator::new(public(2)));
        let none = |all| Validators::new(all).unwrap_err();
        assert_eq!(none(vec![]), ValidatorsError::Count(0));
        let twice = none(vec![a.clone(), b.clone(), a.clone()]);
        assert_eq!(twice, ValidatorsError::Twice(a.key));
        let weightless = Validator {
            power: 0,
            ..a.clone()
        };
        assert_eq!(none(vec![weightless]), ValidatorsError::Power(0));
        let mut off = a.clone();
        off.key.0[0] = 5;
        assert_eq!(none(vec![off.clone()]), ValidatorsError::Key(off.key));
        let mut sm2 = a;
        sm2.key.0[0] |= 0x10;
        assert_eq!(none(vec![sm2.clone()]), ValidatorsError::Key(sm2.key));
        let many = (0..=MAX_VALIDATORS).map(|_| b.clone()).collect();
        assert_eq!(none(many), ValidatorsError::Count(MAX_VALIDATORS + 1));
    }

    #[test]
    fn everybody_proposes_in_turn_but_who_lost_it() {
        let mut all: Vec<_> = (1..=4).map(|n| Validator::new(public(n))).collect();
        let turns = |set: &Validators| -> Vec<PublicKey> {
            (0..4).map(|round| set.proposer(8, round).key).collect()
        };
        let keys: Vec<_> = all.iter().map(|v| v.key).collect();
        let everybody = Validators::new(all.clone()).unwrap();
        assert_eq!(turns(&everybody), keys);
        assert_eq!(everybody.proposer(9, 0).key, keys[1]);
        all[1].proposes = false;
        let three = turns(&Validators::new(all.clone()).unwrap());
        assert!(!three.contains(&keys[1]));
        for validator in &mut all {
            validator.proposes = false;
        }
        assert_eq!(turns(&Validators::new(all).unwrap()), keys);
        assert_eq!(everybody.proposer(u64::MAX, u32::MAX).power, 1);
    }
}
