//! What hubs of one chain carry to each other: records that no block has yet, and sealed bytes.

use super::store::Put;
use borsh::{BorshDeserialize, BorshSerialize};
use weighbridge_verifier::{Hash, Record};

/// A record of one hub on its way to the others, with what it answers for.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Carried {
    /// The record, signed by its hub.
    pub record: Record,
    /// What is written together with it: sealed bytes, wrapped keys, places in the history.
    pub puts: Vec<Put>,
}

/// Sealed bytes that a record on the chain names and this hub does not have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct Want {
    /// Hash of the sealed bytes.
    pub hash: Hash,
    /// What they are of, for example `device:press-1`: their key is found by it.
    pub object: String,
    /// Number of the key that they are sealed under.
    pub key_epoch: u64,
}
