//! The state of a chain after some block, as it is kept when the bodies before are gone.
//!
//! Whoever starts from one needs two things to believe it. Its hash must be the one that a notice has which a
//! record names: so a hub that still had the bodies vouches for all of it, also for the section that says who
//! attested, which no header commits to. And the hash of the state in it must be that of the block's header.

use super::RetentionError;
use crate::ledger::state::State;
use borsh::{BorshDeserialize, BorshSerialize};
use weighbridge_verifier::{BlockHeader, DecodeError, Hash, Suite, decode, encode};

/// Version of the format this code writes.
const VERSION: u8 = 1;
const DOMAIN: &[u8] = b"weighbridge/snapshot/v1\0";

/// A state, and after which block it is the state.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Snapshot {
    version: u8,
    /// Height of the block.
    pub height: u64,
    /// Its hash.
    pub block: Hash,
    state: Vec<u8>,
}

impl Snapshot {
    /// `state`, which is that after the block at `height`.
    pub fn of(state: &State, height: u64, block: Hash) -> Self {
        Self {
            version: state.suite().marked(VERSION),
            height,
            block,
            state: state.to_image(),
        }
    }

    /// The suite of its chain.
    pub fn suite(&self) -> Suite {
        Suite::of_marked(self.version).0
    }

    /// What a notice has of it.
    pub fn hash(&self) -> Hash {
        self.suite().hash(&[DOMAIN, &encode(self)])
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a snapshot.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let snapshot: Self = decode("snapshot", bytes)?;
        if snapshot.version == snapshot.suite().marked(VERSION) {
            return Ok(snapshot);
        }
        Err(DecodeError {
            what: "snapshot",
            reason: format!("the format version {} is not known here", snapshot.version),
        })
    }

    /// The state, if it is the one that `header` commits to.
    pub fn state(&self, header: &BlockHeader) -> Result<State, RetentionError> {
        let damaged = |what: &str| Err(RetentionError::Damaged(what.to_owned()));
        if (header.height, header.hash()) != (self.height, self.block) {
            return damaged("the snapshot is of another block");
        }
        if header.suite() != self.suite() {
            return damaged("the snapshot is of another suite than the chain");
        }
        let state = State::of_image(self.suite(), &self.state)?;
        if state.hash() != header.state_hash {
            return damaged("the snapshot is not the state that its block's header commits to");
        }
        if state.chain() != header.chain {
            return damaged("the snapshot is of another chain");
        }
        Ok(state)
    }
}
