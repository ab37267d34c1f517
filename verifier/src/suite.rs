//! The suites of algorithms: a chain is of one of them from its first block on.
//!
//! What is hashed or signed says itself of which suite it is, in the high four bits of a byte that it
//! had anyhow: the version of a format, the tag of a public key. Zero is `nist`, so everything from
//! before there were two is as it was; and a key of one suite can never be read as one of the other.

use crate::hash::Hash;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sm3::Sm3;
use std::fmt;
use std::str::FromStr;

/// A suite of algorithms.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Suite {
    /// SHA-256 (FIPS 180-4), ECDSA over P-256 (FIPS 186-5).
    #[default]
    Nist,
    /// SM3 (GB/T 32905), SM2 (GB/T 32918).
    Guomi,
}

const MARK_BITS: u8 = 0xf0;

impl Suite {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Nist, Self::Guomi];

    /// The high four bits of what is of this suite.
    const fn mark(self) -> u8 {
        match self {
            Self::Nist => 0x00,
            Self::Guomi => 0x10,
        }
    }

    /// `byte`, which is below 16, with this suite's mark: a version, or the tag of a point.
    pub const fn marked(self, byte: u8) -> u8 {
        self.mark() | byte
    }

    /// The suite whose mark `byte` has, and the byte without it. A mark that is not known is left in
    /// the byte and counts as `nist`: whatever carries it is refused, for its version or as no key.
    pub const fn of_marked(byte: u8) -> (Self, u8) {
        match byte & MARK_BITS {
            0x10 => (Self::Guomi, byte & !MARK_BITS),
            _ => (Self::Nist, byte),
        }
    }

    /// The suite's hash over the concatenation of `parts`.
    pub fn hash(self, parts: &[&[u8]]) -> Hash {
        match self {
            Self::Nist => digest::<Sha256>(parts),
            Self::Guomi => digest::<Sm3>(parts),
        }
    }

    /// The name used in files and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nist => "nist",
            Self::Guomi => "guomi",
        }
    }

    /// Whether it is `nist`, which files do not say.
    pub(crate) fn is_nist(&self) -> bool {
        *self == Self::Nist
    }
}

fn digest<D: Digest>(parts: &[&[u8]]) -> Hash
where
    [u8; 32]: From<sha2::digest::Output<D>>,
{
    let mut hasher = D::new();
    for part in parts {
        hasher.update(part);
    }
    Hash(hasher.finalize().into())
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Text that names no suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a suite is `nist` or `guomi`")]
pub struct UnknownSuite;

impl FromStr for Suite {
    type Err = UnknownSuite;

    fn from_str(text: &str) -> Result<Self, UnknownSuite> {
        let named = Self::ALL.into_iter().find(|suite| suite.name() == text);
        named.ok_or(UnknownSuite)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_and_no_other_is_taken() {
        for suite in Suite::ALL {
            assert_eq!(suite.name().parse(), Ok(suite));
            for byte in 0..16 {
                assert_eq!(Suite::of_marked(suite.marked(byte)), (suite, byte));
            }
        }
        for byte in 0x20..=0xff {
            assert_eq!(Suite::of_marked(byte), (Suite::Nist, byte));
        }
        assert_eq!(Suite::Nist.marked(1), 1, "older files carry no mark");
        assert_eq!("Nist".parse::<Suite>(), Err(UnknownSuite));
    }

    /// FIPS 180-4's example of one block, and GB/T 32905-2016, Annex A.
    #[test]
    fn the_hashes_of_the_standards() {
        let published = [
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0",
        ];
        for (suite, published) in Suite::ALL.into_iter().zip(published) {
            assert_eq!(suite.hash(&[b"a", b"", b"bc"]).to_string(), published);
        }
        let long = Suite::Guomi.hash(&["abcd".repeat(16).as_bytes()]);
        let published = "debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732";
        assert_eq!(long.to_string(), published);
    }
}
