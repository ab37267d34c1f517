//! What hubs that agree on a block sign: proposals, prevotes and precommits.
//!
//! These are the messages of Tendermint (Buchman, Kwon, Milosevic 2018, arXiv:1807.04938). A hub's
//! consensus engine signs the hashes that are made here and nothing else, so whoever has the chain's
//! name, the height, the round and the block's hash can make them again and check the signatures
//! without the engine: `docs/adr/030-consensus-behind-a-trait.md` has the bytes.
//!
//! Who signed is not in the message: the key says it.

use crate::codec::encode;
use crate::hash::Hash;
use crate::suite::Suite;
use borsh::{BorshDeserialize, BorshSerialize};

const VOTE_DOMAIN: &[u8] = b"weighbridge/vote/v1\0";
const PROPOSAL_DOMAIN: &[u8] = b"weighbridge/proposal/v1\0";

/// The two votes of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum VoteKind {
    /// "This proposal holds."
    Prevote,
    /// "Enough hubs said so": precommits of enough hubs decide.
    Precommit,
}

/// A hub's vote for a block, or for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Vote {
    /// Which of the two votes of the round.
    pub kind: VoteKind,
    /// Height of the block.
    pub height: u64,
    /// Round, from 0.
    pub round: u32,
    /// Hash of the block; `None` is a vote that this round shall decide nothing.
    pub block: Option<Hash>,
}

impl Vote {
    /// The precommit that decides a block, which is what a certificate of a cluster consists of.
    pub fn precommit(height: u64, round: u32, block: Hash) -> Self {
        Self {
            kind: VoteKind::Precommit,
            height,
            round,
            block: Some(block),
        }
    }

    /// The bytes whose hash is signed.
    pub fn bytes(&self, chain: &str) -> Vec<u8> {
        [VOTE_DOMAIN, &encode(&(chain, self))].concat()
    }

    /// What is signed.
    pub fn message(&self, suite: Suite, chain: &str) -> Hash {
        suite.hash(&[&self.bytes(chain)])
    }
}

/// A hub's proposal of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Proposal {
    /// Height of the block.
    pub height: u64,
    /// Round, from 0.
    pub round: u32,
    /// Hash of the block.
    pub block: Hash,
    /// The earlier round in which enough hubs prevoted for the block, where it is proposed again.
    pub polka_round: Option<u32>,
}

impl Proposal {
    /// The bytes whose hash is signed.
    pub fn bytes(&self, chain: &str) -> Vec<u8> {
        [PROPOSAL_DOMAIN, &encode(&(chain, self))].concat()
    }

    /// What is signed.
    pub fn message(&self, suite: Suite, chain: &str) -> Hash {
        suite.hash(&[&self.bytes(chain)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::to_hex;

    /// The bytes that `docs/adr/030` shows. They are signed: they never change.
    #[test]
    fn the_bytes_of_votes_and_proposals_are_as_published() {
        let block = Hash([0xab; 32]);
        let precommit = Vote::precommit(7, 2, block);
        let nil = Vote {
            kind: VoteKind::Prevote,
            height: 7,
            round: 0,
            block: None,
        };
        let proposal = Proposal {
            height: 7,
            round: 2,
            block,
            polka_round: Some(1),
        };
        let ab = "ab".repeat(32);
        let chain = "0400000068616c6c"; // "hall", with its length before it
        let vote = to_hex(b"weighbridge/vote/v1\0");
        let cases = [
            (
                precommit.bytes("hall"),
                format!("{vote}{chain}0107000000000000000200000001{ab}"),
                precommit.message(Suite::Nist, "hall"),
                "62c9a30f17b1036e04f4195bef00201b9bb75837067b0c70d51d425565f6483b",
            ),
            (
                nil.bytes("hall"),
                format!("{vote}{chain}0007000000000000000000000000"),
                nil.message(Suite::Nist, "hall"),
                "13b0a7b62fba925dc2e0c5558566d94fa71ebefa77701211c8652095e0d87256",
            ),
            (
                proposal.bytes("hall"),
                format!(
                    "{}{chain}070000000000000002000000{ab}0101000000",
                    to_hex(b"weighbridge/proposal/v1\0"),
                ),
                proposal.message(Suite::Nist, "hall"),
                "f81a49e547a38f9b696384db095201255782b178f86dc6aa2ad798212d6c9a76",
            ),
        ];
        for (bytes, published, message, digest) in cases {
            assert_eq!(to_hex(&bytes), published);
            assert_eq!(message.to_string(), digest);
        }
    }

    #[test]
    fn whatever_differs_gives_another_message() {
        let block = Hash([1; 32]);
        let vote = Vote::precommit(1, 0, block);
        let mut messages = vec![
            vote.message(Suite::Nist, "a"),
            vote.message(Suite::Guomi, "a"),
            vote.message(Suite::Nist, "b"),
            Vote::precommit(2, 0, block).message(Suite::Nist, "a"),
            Vote::precommit(1, 1, block).message(Suite::Nist, "a"),
            Vote::precommit(1, 0, Hash::ZERO).message(Suite::Nist, "a"),
            Vote {
                block: None,
                ..vote
            }
            .message(Suite::Nist, "a"),
            Vote {
                kind: VoteKind::Prevote,
                ..vote
            }
            .message(Suite::Nist, "a"),
        ];
        let proposal = Proposal {
            height: 1,
            round: 0,
            block,
            polka_round: None,
        };
        messages.push(proposal.message(Suite::Nist, "a"));
        let again = Proposal {
            polka_round: Some(0),
            ..proposal
        };
        messages.push(again.message(Suite::Nist, "a"));
        let all = messages.len();
        messages.sort();
        messages.dedup();
        assert_eq!(messages.len(), all);
    }
}
