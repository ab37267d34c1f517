//! SHA-256 of messages of known length, without the buffering of a general hasher: the inner tree
//! hashes a million samples a second beside everything else, and a quarter of that was buffering.
//!
//! FIPS 180-4: §5.1.1 padding, §5.3.3 initial value.

use crate::hash::Hash;
use sha2::block_api::compress256;

/// Bytes of a block.
pub(crate) const BLOCK: usize = 64;

/// A running hash after a whole number of blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State([u32; 8]);

impl State {
    /// Before the first block (FIPS 180-4 §5.3.3).
    pub(crate) const INITIAL: Self = Self([
        0x6a09_e667,
        0xbb67_ae85,
        0x3c6e_f372,
        0xa54f_f53a,
        0x510e_527f,
        0x9b05_688c,
        0x1f83_d9ab,
        0x5be0_cd19,
    ]);

    /// After some more blocks.
    pub(crate) fn after(mut self, blocks: &[[u8; BLOCK]]) -> Self {
        compress256(&mut self.0, blocks);
        self
    }

    /// The digest, if all blocks with their padding have been put in.
    pub(crate) fn digest(self) -> Hash {
        let mut out = [0; 32];
        for (bytes, word) in out.chunks_exact_mut(4).zip(self.0) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        Hash(out)
    }
}

/// Ends a last block that holds `used` bytes (at most 55), of a message of `total` bytes (at most
/// 8,191) in all.
pub(crate) fn pad(block: &mut [u8; BLOCK], used: usize, total: u16) {
    block[used] = 0x80;
    block[62..].copy_from_slice(&(total * 8).to_be_bytes());
}
