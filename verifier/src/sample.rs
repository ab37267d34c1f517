//! One sample as a leaf of the inner tree: value, quality, salt and the leaf's bytes.

use crate::compress::{BLOCK, State, pad};
use crate::hash::Hash;
use crate::suite::Suite;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sm3::Sm3;
use std::fmt;

/// The value of a sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A switch, coil or flag.
    Bool(bool),
    /// A signed integer.
    I64(i64),
    /// An unsigned integer.
    U64(u64),
    /// A number with a fraction.
    F64(f64),
    /// Text.
    Text(String),
    /// Uninterpreted bytes.
    Bytes(Vec<u8>),
}

impl Value {
    /// The number a chart would judge; `None` for text and bytes.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Bool(b) => Some(f64::from(u8::from(*b))),
            Self::I64(i) => Some(*i as f64),
            Self::U64(u) => Some(*u as f64),
            Self::F64(f) => Some(*f),
            Self::Text(_) | Self::Bytes(_) => None,
        }
    }

    /// Type code and bytes, as they stand in a leaf: numbers little-endian, `f64` as its bits.
    fn write_leaf(&self, hasher: &mut impl Digest) {
        match self {
            Self::Bool(b) => hasher.update([0, u8::from(*b)]),
            Self::I64(i) => write_number(hasher, 1, i.to_le_bytes()),
            Self::U64(u) => write_number(hasher, 2, u.to_le_bytes()),
            Self::F64(f) => write_number(hasher, 3, f.to_bits().to_le_bytes()),
            Self::Text(t) => {
                hasher.update([4]);
                hasher.update(t.as_bytes());
            }
            Self::Bytes(b) => {
                hasher.update([5]);
                hasher.update(b);
            }
        }
    }
}

fn write_number(hasher: &mut impl Digest, code: u8, bytes: [u8; 8]) {
    let mut out = [code; 9];
    out[1..].copy_from_slice(&bytes);
    hasher.update(out);
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(v) => v.fmt(f),
            Self::I64(v) => v.fmt(f),
            Self::U64(v) => v.fmt(f),
            Self::F64(v) => v.fmt(f),
            Self::Text(v) => v.fmt(f),
            Self::Bytes(v) => crate::hash::write_hex(v, f),
        }
    }
}

/// borsh has no NaN; a float travels as its bits, because what a sensor said must be kept as it was.
impl BorshSerialize for Value {
    fn serialize<W: std::io::Write>(&self, out: &mut W) -> std::io::Result<()> {
        match self {
            Self::Bool(v) => BorshSerialize::serialize(&(0u8, v), out),
            Self::I64(v) => BorshSerialize::serialize(&(1u8, v), out),
            Self::U64(v) => BorshSerialize::serialize(&(2u8, v), out),
            Self::F64(v) => BorshSerialize::serialize(&(3u8, v.to_bits()), out),
            Self::Text(v) => BorshSerialize::serialize(&(4u8, v), out),
            Self::Bytes(v) => BorshSerialize::serialize(&(5u8, v), out),
        }
    }
}

impl BorshDeserialize for Value {
    fn deserialize_reader<R: std::io::Read>(r: &mut R) -> std::io::Result<Self> {
        Ok(match u8::deserialize_reader(r)? {
            0 => Self::Bool(bool::deserialize_reader(r)?),
            1 => Self::I64(i64::deserialize_reader(r)?),
            2 => Self::U64(u64::deserialize_reader(r)?),
            3 => Self::F64(f64::from_bits(u64::deserialize_reader(r)?)),
            4 => Self::Text(String::deserialize_reader(r)?),
            5 => Self::Bytes(Vec::deserialize_reader(r)?),
            code => {
                let what = format!("unknown value type {code}");
                return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, what));
            }
        })
    }
}

/// An OPC UA status code (OPC 10000-4 §7.39): severity in the two top bits.
#[derive(
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(transparent)]
pub struct Quality(pub u32);

impl Quality {
    /// The value is good.
    pub const GOOD: Self = Self(0x0000_0000);
    /// The value may be used with care.
    pub const UNCERTAIN: Self = Self(0x4000_0000);
    /// The value must not be used.
    pub const BAD: Self = Self(0x8000_0000);
    /// `Bad_NoCommunication`: the device does not answer.
    pub const BAD_NO_COMMUNICATION: Self = Self(0x8031_0000);
    /// `Bad_OutOfRange`.
    pub const BAD_OUT_OF_RANGE: Self = Self(0x803C_0000);
    /// `Bad_NoData`: there is no value yet.
    pub const BAD_NO_DATA: Self = Self(0x809B_0000);
    /// `Uncertain_EngineeringUnitsExceeded`: used for a value that its charts call out of control.
    pub const UNCERTAIN_ENGINEERING_UNITS_EXCEEDED: Self = Self(0x4094_0000);

    /// Severity Good.
    pub fn is_good(self) -> bool {
        self.0 >> 30 == 0
    }

    /// Severity Bad.
    pub fn is_bad(self) -> bool {
        self.0 >> 30 >= 2
    }

    /// The more severe of the two; this one when they are alike.
    pub fn worse(self, other: Self) -> Self {
        if other.0 >> 30 > self.0 >> 30 {
            other
        } else {
            self
        }
    }

    /// "Good", "Uncertain" or "Bad".
    pub fn severity(self) -> &'static str {
        match self.0 >> 30 {
            0 => "Good",
            1 => "Uncertain",
            _ => "Bad",
        }
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 & 0x3FFF_FFFF == 0 {
            f.write_str(self.severity())
        } else {
            write!(f, "{} (0x{:08X})", self.severity(), self.0)
        }
    }
}

impl fmt::Debug for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Quality({self})")
    }
}

/// The salt of one leaf; without it a low-entropy value could be guessed from its hash.
pub type Salt = [u8; 16];

/// The part of a leaf that names its tag, hashed ahead: device and tag name fill the first block of
/// the hash, so a leaf costs one compression.
///
/// A leaf is `0x00 ‖ H(device ‖ 0x00 ‖ tag) ‖ 31 zero bytes ‖ salt ‖ index ‖ time ‖ quality ‖ type ‖
/// value`: index u32, time i64 (ns since 1970), quality u32, all little-endian. The hash of such a
/// leaf is the RFC 6962 leaf hash of the bytes after `0x00`.
#[derive(Clone)]
pub struct TagDigest(Midstate);

#[derive(Clone)]
enum Midstate {
    Sha256 {
        midstate: Sha256,
        /// The same, for leaves of known length.
        state: State,
    },
    Sm3(Sm3),
}

impl TagDigest {
    /// Digest of tag `tag` of device `device`, for leaves of this suite.
    pub fn new(suite: Suite, device: &str, tag: &str) -> Self {
        // The length keeps ("a", "b\0c") and ("a\0b", "c") apart.
        let length = (device.len() as u64).to_le_bytes();
        let name = suite.hash(&[&length, device.as_bytes(), tag.as_bytes()]);
        let mut block = [0; BLOCK];
        block[1..33].copy_from_slice(&name.0);
        Self(match suite {
            Suite::Nist => Midstate::Sha256 {
                midstate: Sha256::new_with_prefix(block),
                state: State::INITIAL.after(&[block]),
            },
            Suite::Guomi => Midstate::Sm3(Sm3::new_with_prefix(block)),
        })
    }

    /// Leaf hash of one sample; `index` counts the samples of this tag in its batch from 0.
    pub fn leaf(
        &self,
        salt: &Salt,
        index: u32,
        time: i64,
        quality: Quality,
        value: &Value,
    ) -> Hash {
        let head = sample_head(salt, index, time, quality);
        match &self.0 {
            Midstate::Sha256 { midstate, .. } => {
                let mut hasher = midstate.clone().chain_update(head);
                value.write_leaf(&mut hasher);
                Hash(hasher.finalize().into())
            }
            Midstate::Sm3(midstate) => {
                let mut hasher = midstate.clone().chain_update(head);
                value.write_leaf(&mut hasher);
                Hash(hasher.finalize().into())
            }
        }
    }

    /// The same for an `f64`, the common case on the hot path.
    pub fn leaf_f64(
        &self,
        salt: &Salt,
        index: u32,
        time: i64,
        quality: Quality,
        value: f64,
    ) -> Hash {
        let Midstate::Sha256 { state, .. } = &self.0 else {
            return self.leaf(salt, index, time, quality, &Value::F64(value));
        };
        let mut rest = [0; BLOCK];
        rest[..32].copy_from_slice(&sample_head(salt, index, time, quality));
        rest[32] = 3;
        rest[33..41].copy_from_slice(&value.to_bits().to_le_bytes());
        pad(&mut rest, 41, 64 + 41);
        state.after(&[rest]).digest()
    }
}

fn sample_head(salt: &Salt, index: u32, time: i64, quality: Quality) -> [u8; 32] {
    let mut head = [0; 32];
    head[..16].copy_from_slice(salt);
    head[16..20].copy_from_slice(&index.to_le_bytes());
    head[20..28].copy_from_slice(&time.to_le_bytes());
    head[28..].copy_from_slice(&quality.0.to_le_bytes());
    head
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::leaf_hash;

    #[test]
    fn leaf_is_the_rfc_leaf_hash_of_the_documented_bytes() {
        Suite::ALL
            .into_iter()
            .for_each(leaf_is_the_rfc_leaf_hash_of);
    }

    fn leaf_is_the_rfc_leaf_hash_of(suite: Suite) {
        let name = suite.hash(&[&7u64.to_le_bytes(), b"press-1", b"force"]);
        let salt = [7; 16];
        let mut bytes = name.0.to_vec();
        bytes.extend([0; 31]);
        bytes.extend(salt);
        bytes.extend(3u32.to_le_bytes());
        bytes.extend(5i64.to_le_bytes());
        bytes.extend(0u32.to_le_bytes());
        bytes.push(3);
        bytes.extend(1.5f64.to_le_bytes());
        let digest = TagDigest::new(suite, "press-1", "force");
        let leaf = digest.leaf(&salt, 3, 5, Quality::GOOD, &Value::F64(1.5));
        assert_eq!(leaf, leaf_hash(suite, &bytes));
        assert_eq!(leaf, digest.leaf_f64(&salt, 3, 5, Quality::GOOD, 1.5));
    }

    proptest::proptest! {
        #[test]
        fn the_fast_leaf_is_the_same(
            suite in proptest::sample::select(&Suite::ALL[..]),
            salt: Salt, index: u32, time: i64, quality: u32, bits: u64, tag: String,
        ) {
            let (digest, quality) = (TagDigest::new(suite, "press-1", &tag), Quality(quality));
            let value = f64::from_bits(bits);
            let plain = digest.leaf(&salt, index, time, quality, &Value::F64(value));
            let fast = digest.leaf_f64(&salt, index, time, quality, value);
            proptest::prop_assert_eq!(plain, fast);
        }
    }

    #[test]
    fn nan_survives_encoding() {
        let nan = Value::F64(f64::from_bits(0x7ff8_0000_dead_beef));
        let bytes = crate::encode(&nan);
        let back: Value = crate::decode("value", &bytes).unwrap();
        assert!(matches!(back, Value::F64(f) if f.to_bits() == 0x7ff8_0000_dead_beef));
    }
}
