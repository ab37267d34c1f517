//! A key generation centre's share of the master key, and the set of centres.
//!
//! The master key is the sum of the shares, which nobody ever forms. A centre that could choose its
//! public share after having seen the others' could make the sum a key of its own; so each proves that
//! it knows its share (Schnorr's proof, bound to the centre's name and the set's version).

use super::point::{Point, PointError, hash_of, scalar_of};
use crate::crypto::key_file::{self, KeyFileError};
use sm2::elliptic_curve::Generate;
use sm2::elliptic_curve::group::Group;
use sm2::pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding};
use sm2::{NonZeroScalar, ProjectivePoint, Scalar};
use std::collections::BTreeMap;
use std::path::Path;
use zeroize::Zeroizing;

/// Most centres of a set.
pub const MAX_CENTRES: usize = 32;

/// A centre's share of the master key; wiped from memory when dropped.
pub struct CentreKey {
    name: String,
    pub(super) share: Zeroizing<NonZeroScalar>,
    public: Point,
}

/// Proof that whoever made it knows the share of a public share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Possession {
    pub(super) commitment: Point,
    pub(super) response: Scalar,
}

/// What a centre says of itself when it joins a set.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its public share.
    pub public: Point,
    /// That it knows the share.
    pub possession: Possession,
}

/// Why centres are no set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CentresError {
    /// There is none, or there are too many.
    #[error("a set has 1 to {MAX_CENTRES} centres, not {0}")]
    Count(usize),
    /// Two of one name, or none.
    #[error("the centre's name {0:?} is empty or given twice")]
    Name(String),
    /// A centre does not show that it knows its share.
    #[error("centre {0:?} does not prove that it knows its share of the master key")]
    Possession(String),
    /// The shares cancel each other out.
    #[error("the centres' public shares add up to nothing")]
    Sum,
}

/// A set of centres in force: one version of the master public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Centres {
    version: u64,
    members: BTreeMap<String, Point>,
    public: Point,
}

impl CentreKey {
    /// A new share from the operating system's randomness.
    pub fn generate(name: &str) -> Self {
        let share = Zeroizing::new(NonZeroScalar::generate());
        Self {
            name: name.to_owned(),
            public: Point::generated(&share),
            share,
        }
    }

    /// The share in a PKCS#8 PEM file of mode 0600.
    pub fn load(path: &Path, name: &str) -> Result<Self, KeyFileError> {
        let pem = key_file::read(path)?;
        let secret = sm2::SecretKey::from_pkcs8_pem(&pem);
        let secret = secret.map_err(|_| KeyFileError::Form {
            path: path.to_owned(),
        })?;
        let share = Zeroizing::new(secret.to_nonzero_scalar());
        Ok(Self {
            name: name.to_owned(),
            public: Point::generated(&share),
            share,
        })
    }

    /// Writes the share to a new file of mode 0600.
    pub fn save(&self, path: &Path) -> Result<(), KeyFileError> {
        let pem = sm2::SecretKey::from(*self.share).to_pkcs8_pem(LineEnding::LF);
        let pem = pem.map_err(|_| KeyFileError::Form {
            path: path.to_owned(),
        })?;
        key_file::write(path, &pem)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it says of itself to join version `version` of the set.
    pub fn member(&self, version: u64) -> Member {
        let nonce = Zeroizing::new(NonZeroScalar::generate());
        let commitment = Point::generated(&nonce);
        let challenge = challenge(&self.name, version, &self.public, &commitment);
        Member {
            name: self.name.clone(),
            public: self.public,
            possession: Possession {
                commitment,
                response: **nonce + challenge * **self.share,
            },
        }
    }
}

impl Centres {
    /// The set of these centres, each of which has proved that it knows its share.
    pub fn new(version: u64, members: &[Member]) -> Result<Self, CentresError> {
        if !(1..=MAX_CENTRES).contains(&members.len()) {
            return Err(CentresError::Count(members.len()));
        }
        let mut known = BTreeMap::new();
        let mut sum = ProjectivePoint::identity();
        for member in members {
            let name = || member.name.clone();
            if member.name.is_empty() || known.insert(name(), member.public).is_some() {
                return Err(CentresError::Name(name()));
            }
            let proved = member.proved(version);
            sum += proved.map_err(|_| CentresError::Possession(name()))?;
        }
        Ok(Self {
            version,
            members: known,
            public: Point::of(&sum).map_err(|_| CentresError::Sum)?,
        })
    }

    /// Its version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The master public key: the sum of the public shares.
    pub fn public(&self) -> &Point {
        &self.public
    }

    /// The centres' public shares, by name.
    pub fn members(&self) -> &BTreeMap<String, Point> {
        &self.members
    }
}

impl Member {
    fn proved(&self, version: u64) -> Result<ProjectivePoint, PointError> {
        let (public, commitment) = (self.public.decode()?, self.possession.commitment.decode()?);
        let challenge = challenge(
            &self.name,
            version,
            &self.public,
            &self.possession.commitment,
        );
        let shown = ProjectivePoint::generator() * self.possession.response;
        match shown == commitment + public * challenge {
            true => Ok(public),
            false => Err(PointError),
        }
    }
}

fn challenge(name: &str, version: u64, public: &Point, commitment: &Point) -> Scalar {
    scalar_of(&hash_of(
        "weighbridge/centre/possession/v1",
        &[
            name.as_bytes(),
            &version.to_be_bytes(),
            &public.0,
            &commitment.0,
        ],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_that_was_made_from_the_others_is_refused() {
        let (a, b) = (CentreKey::generate("a"), CentreKey::generate("b"));
        let (honest, rogue) = (a.member(1), b.member(1));
        // It wants the sum to be its own key: it shows that key less the other's share.
        let target = rogue.public.decode().unwrap() - honest.public.decode().unwrap();
        let rogue = Member {
            public: Point::of(&target).unwrap(),
            ..rogue
        };
        let refused = Centres::new(1, &[honest.clone(), rogue]);
        assert_eq!(refused, Err(CentresError::Possession("b".into())));
        // A proof serves one name and one version only.
        let renamed = Member {
            name: "c".into(),
            ..honest.clone()
        };
        let refused = Centres::new(1, &[renamed]);
        assert_eq!(refused, Err(CentresError::Possession("c".into())));
        let refused = Centres::new(2, std::slice::from_ref(&honest));
        assert_eq!(refused, Err(CentresError::Possession("a".into())));
        let set = Centres::new(1, std::slice::from_ref(&honest)).unwrap();
        assert_eq!(*set.public(), honest.public);
    }

    #[test]
    fn what_is_no_set() {
        let member = CentreKey::generate("a").member(1);
        assert_eq!(Centres::new(1, &[]), Err(CentresError::Count(0)));
        let twice = [member.clone(), member.clone()];
        assert_eq!(Centres::new(1, &twice), Err(CentresError::Name("a".into())));
        let many = vec![member; MAX_CENTRES + 1];
        assert_eq!(Centres::new(1, &many), Err(CentresError::Count(33)));
        let nameless = CentreKey::generate("").member(1);
        assert_eq!(
            Centres::new(1, &[nameless]),
            Err(CentresError::Name(String::new()))
        );
    }
}
