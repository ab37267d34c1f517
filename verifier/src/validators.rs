//! The hubs that sign blocks, and how many of them must.

use crate::block::{BlockError, BlockHeader, CommitSignature};
use crate::codec::encode;
use crate::hash::Hash;
use crate::signature::{PublicKey, Signature, SignatureError};
use crate::suite::Suite;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::{self, Read, Write};

const VALIDATORS_DOMAIN: &[u8] = b"weighbridge/validators/v1\0";

/// Hubs that may stand by at most.
pub const MAX_STANDBYS: usize = 16;

/// The bit of an encoded threshold that says that standbys follow: sets without any are encoded as they were before
/// there were such.
const STANDBYS_FOLLOW: u32 = 1 << 31;

/// A hub that may sign blocks.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validator {
    /// Its id.
    pub id: String,
    /// Its key.
    pub key: PublicKey,
}

/// The hubs that may sign, how many of them must, and who takes the place of one that has to go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidatorSet {
    /// The hubs, ordered by id.
    pub validators: Vec<Validator>,
    /// How many signatures make a commit.
    pub threshold: u32,
    /// Hubs that stand by, in the order in which they come in. They sign nothing before that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub standbys: Vec<Validator>,
}

impl BorshSerialize for ValidatorSet {
    fn serialize<W: Write>(&self, to: &mut W) -> io::Result<()> {
        BorshSerialize::serialize(&self.validators, to)?;
        match self.standbys.is_empty() {
            true => BorshSerialize::serialize(&self.threshold, to),
            false => {
                let follow = self.threshold | STANDBYS_FOLLOW;
                BorshSerialize::serialize(&(follow, &self.standbys), to)
            }
        }
    }
}

impl BorshDeserialize for ValidatorSet {
    fn deserialize_reader<R: Read>(from: &mut R) -> io::Result<Self> {
        let validators = BorshDeserialize::deserialize_reader(from)?;
        let threshold = u32::deserialize_reader(from)?;
        let standbys = match threshold & STANDBYS_FOLLOW {
            0 => Vec::new(),
            _ => Vec::<Validator>::deserialize_reader(from)?,
        };
        if threshold & STANDBYS_FOLLOW != 0 && standbys.is_empty() {
            let why = "standbys are said to follow, and there are none";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(Self {
            validators,
            threshold: threshold & !STANDBYS_FOLLOW,
            standbys,
        })
    }
}

impl ValidatorSet {
    /// The set of a single hub that signs for itself.
    pub fn solo(id: &str, key: PublicKey) -> Self {
        let id = id.to_owned();
        Self {
            validators: vec![Validator { id, key }],
            threshold: 1,
            standbys: Vec::new(),
        }
    }

    /// What a header of this suite holds of the set.
    pub fn hash(&self, suite: Suite) -> Hash {
        suite.hash(&[VALIDATORS_DOMAIN, &encode(self)])
    }

    /// Whether it is one that can decide: hubs strictly ordered by id, no key twice (it would count
    /// twice), and a threshold between one and their number; and nobody who stands by is there already.
    pub fn is_well_formed(&self) -> bool {
        let hubs = &self.validators;
        let all = self.all();
        let keys: BTreeSet<&PublicKey> = all.clone().map(|v| &v.key).collect();
        let ids: BTreeSet<&str> = all.clone().map(|v| &*v.id).collect();
        let (named, standing) = (all.count(), self.standbys.len());
        let ordered = hubs
            .iter()
            .zip(hubs.iter().skip(1))
            .all(|(a, b)| a.id < b.id);
        let threshold = usize::try_from(self.threshold).unwrap_or(usize::MAX);
        let once = keys.len() == named && ids.len() == named && standing <= MAX_STANDBYS;
        ordered && once && (1..=hubs.len()).contains(&threshold)
    }

    /// The hubs that decide, then those that stand by.
    pub fn all(&self) -> impl Iterator<Item = &Validator> + Clone {
        self.validators.iter().chain(&self.standbys)
    }

    /// The hub with this id, if it stands by.
    pub fn standby(&self, id: &str) -> Option<&Validator> {
        self.standbys.iter().find(|v| v.id == id)
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
        if !self.is_well_formed() || self.all().any(other_suite) {
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
    use crate::codec::decode;

    fn set(hubs: &[(&str, u8)], threshold: u32) -> ValidatorSet {
        let validator = |(id, key): &(&str, u8)| Validator {
            id: (*id).to_owned(),
            key: PublicKey([*key; 33]),
        };
        let validators = hubs.iter().map(validator).collect();
        ValidatorSet {
            validators,
            threshold,
            standbys: Vec::new(),
        }
    }

    #[test]
    fn standbys_are_part_of_a_set_and_of_its_bytes() {
        let alone = set(&[("a", 1), ("b", 2)], 2);
        let bytes = encode(&alone);
        assert_eq!(bytes[bytes.len() - 4..], [2, 0, 0, 0], "as ever");
        let mut standing = alone.clone();
        standing.standbys = set(&[("z", 3), ("c", 4)], 1).validators;
        assert!(standing.is_well_formed());
        assert_ne!(standing.hash(Suite::Nist), alone.hash(Suite::Nist));
        let longer = encode(&standing);
        assert_eq!(longer[..bytes.len() - 4], bytes[..bytes.len() - 4]);
        assert_eq!(longer[bytes.len() - 4..bytes.len()], [2, 0, 0, 0x80]);
        for one in [&alone, &standing] {
            assert_eq!(&decode::<ValidatorSet>("set", &encode(one)).unwrap(), one);
            let json = serde_json::to_string(one).unwrap();
            assert_eq!(json.contains("standbys"), !one.standbys.is_empty());
            assert_eq!(&serde_json::from_str::<ValidatorSet>(&json).unwrap(), one);
        }
        // There is one way to write that nobody stands by.
        let nobody = [&bytes[..bytes.len() - 4], &[2, 0, 0, 0x80, 0, 0, 0, 0]].concat();
        assert!(decode::<ValidatorSet>("set", &nobody).is_err());
        for twice in [
            [("a", 5), ("c", 4)],
            [("z", 1), ("c", 4)],
            [("c", 4), ("c", 5)],
        ] {
            let mut malformed = alone.clone();
            malformed.standbys = set(&twice, 1).validators;
            assert!(!malformed.is_well_formed(), "{twice:?}");
        }
        let mut many = alone.clone();
        let name = |n: usize| (format!("z-{n:02}"), PublicKey([100 + n as u8; 33]));
        let all = (0..=MAX_STANDBYS).map(name);
        many.standbys = all.map(|(id, key)| Validator { id, key }).collect();
        assert!(!many.is_well_formed());
        many.standbys.pop();
        assert!(many.is_well_formed());
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
