//! The entries of a chain's state.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::Serialize;
use weighbridge_verifier::{Hash, IdentityKind, MessageContent, PublicKey, SealedRef};

/// An identity in force.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct Identity {
    /// What it is.
    pub kind: IdentityKind,
    /// Its public key; `None` for a device that cannot sign.
    pub key: Option<PublicKey>,
    /// Whether it was withdrawn: its old records stand, new ones are refused.
    pub revoked: bool,
}

/// What a certificateless key is computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct Derivation {
    /// Version of the key generation centres.
    pub version: u32,
    /// The declared point.
    pub declared: PublicKey,
}

/// The end of one hub's own chain of records.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct HubTip {
    /// Number of its newest record.
    pub sequence: u64,
    /// Hash of that record's body.
    pub hash: Hash,
    /// Time of that record, ns since 1970.
    pub time: i64,
}

impl HubTip {
    /// Before a hub's first record.
    pub const NONE: Self = Self {
        sequence: 0,
        hash: Hash::ZERO,
        time: i64::MIN,
    };
}

/// Where a device's batches stand.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize,
)]
pub struct DeviceTip {
    /// Fencing epoch of its newest batch.
    pub epoch: u64,
    /// Sequence number of its newest batch within that epoch.
    pub sequence: u64,
}

/// A hub's turn to read a device.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct Lease {
    /// Fencing epoch of the batches that are read under it.
    pub epoch: u64,
    /// The hub that reads.
    pub hub: String,
    /// Sequence number of its newest batch; 0 before the first.
    pub sequence: u64,
}

/// A document in force.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct Document {
    /// Its version, from 1.
    pub version: u64,
    /// Salted commitment to its plaintext.
    pub commitment: Hash,
    /// Where the sealed document is.
    pub sealed: SealedRef,
}

/// The newest record of an object that is remembered: an alarm that is not at rest, an entry about
/// access.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct Word {
    /// The hub that recorded it, whose key it is sealed under.
    pub hub: String,
    /// What it recorded.
    pub message: MessageContent,
}

/// Sums over the whole chain.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize,
)]
pub struct Totals {
    /// Records.
    pub records: u64,
    /// Batches accepted.
    pub accepted: u64,
    /// Batches out of control.
    pub out_of_control: u64,
    /// Batches that were invalid.
    pub invalid: u64,
    /// Samples in stored batches.
    pub samples: u64,
    /// Bytes of ciphertext that records answer for.
    pub sealed_bytes: u64,
}

impl Totals {
    /// Batches of all classes.
    pub fn batches(&self) -> u64 {
        self.accepted + self.out_of_control + self.invalid
    }
}
