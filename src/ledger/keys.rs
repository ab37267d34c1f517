//! The keys under which the store keeps blocks and sealed bytes.

use weighbridge_verifier::Hash;

/// Key of the block at `height`: big-endian, so that blocks are kept in order.
pub fn height_key(height: u64) -> Vec<u8> {
    height.to_be_bytes().to_vec()
}

/// The height that `key` stands for; `None` when it is none.
pub fn height_of(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

/// Key of sealed bytes: their hash in the chain's suite.
pub fn sealed_key(hash: &Hash) -> Vec<u8> {
    hash.0.to_vec()
}
