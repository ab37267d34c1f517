//! What certifies a block that several hubs agreed on: the precommits of one round of consensus.
//!
//! A lone hub signs [`commit_message`](crate::block::commit_message); the hubs of a cluster sign votes,
//! and what they sign of a block says in which round. So the certificate of such a block has the round.
//! Everything else that a precommit is made of, the header has.

use crate::block::{BlockError, BlockHeader, CommitSignature, ValidatorSet};
use crate::signature::{DirectCheck, PublicKey, Signature, SignatureCheck};
use crate::vote::Vote;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// The precommits that decided a block.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuorumCertificate {
    /// The round in which they were given.
    pub round: u32,
    /// The signatures, each by another hub, in the order of the hubs' ids.
    pub signatures: Vec<CommitSignature>,
}

impl QuorumCertificate {
    /// The certificate that these signatures of `round` make; `None` where one is not by a hub of the
    /// set. An engine knows hubs by their keys, a set by their ids.
    pub fn of(
        round: u32,
        signatures: impl IntoIterator<Item = (PublicKey, Signature)>,
        set: &ValidatorSet,
    ) -> Option<Self> {
        let named = |(key, signature)| {
            let hub = set.validators.iter().find(|v| v.key == key)?;
            let validator = hub.id.clone();
            Some(CommitSignature {
                validator,
                signature,
            })
        };
        let signatures: Option<Vec<_>> = signatures.into_iter().map(named).collect();
        let mut signatures = signatures?;
        signatures.sort_by(|a, b| a.validator.cmp(&b.validator));
        Some(Self { round, signatures })
    }

    /// Checks that enough hubs of `set` decided `header`, each once, and that `set` is the header's.
    pub fn verify(&self, header: &BlockHeader, set: &ValidatorSet) -> Result<(), BlockError> {
        self.verify_with(header, set, &DirectCheck)
    }

    /// The same, with the caller's way of checking signatures.
    pub fn verify_with(
        &self,
        header: &BlockHeader,
        set: &ValidatorSet,
        check: &dyn SignatureCheck,
    ) -> Result<(), BlockError> {
        // Of hubs of which a half suffices, the other half could decide something else.
        if u64::from(set.threshold) * 2 <= set.validators.len() as u64 {
            return Err(BlockError::MalformedSet);
        }
        let vote = Vote::precommit(header.height, self.round, header.hash());
        let (suite, signed) = (header.suite(), vote.bytes(&header.chain));
        set.check_signatures(header, &self.signatures, |key, signature| {
            check.check_preimage(key, (suite, &signed), signature)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{BLOCK_VERSION, Validator};
    use crate::codec::encode;
    use crate::hash::{Hash, to_hex};
    use crate::suite::Suite;
    use p256::ecdsa::SigningKey;
    use p256::ecdsa::signature::hazmat::PrehashSigner;

    struct Hub(SigningKey);

    impl Hub {
        fn new(number: u8) -> Self {
            Self(SigningKey::from_slice(&[number; 32]).unwrap())
        }

        fn key(&self) -> PublicKey {
            let point = self.0.verifying_key().to_sec1_point(true);
            PublicKey::from_sec1(Suite::Nist, point.as_bytes()).unwrap()
        }

        fn precommit(&self, header: &BlockHeader, round: u32) -> (PublicKey, Signature) {
            let vote = Vote::precommit(header.height, round, header.hash());
            let message = vote.message(Suite::Nist, &header.chain);
            let signature: p256::ecdsa::Signature = self.0.sign_prehash(&message.0).unwrap();
            let low = Signature(signature.normalize_s().to_bytes().into());
            (self.key(), low)
        }
    }

    fn set(threshold: u32) -> ValidatorSet {
        let validator = |number: u8| Validator {
            id: format!("hub-{number}"),
            key: Hub::new(number).key(),
        };
        ValidatorSet {
            validators: (1..=4).map(validator).collect(),
            threshold,
            standbys: Vec::new(),
        }
    }

    fn header(set: &ValidatorSet) -> BlockHeader {
        BlockHeader {
            version: BLOCK_VERSION,
            chain: "hall".to_owned(),
            height: 7,
            previous_hash: Hash([1; 32]),
            time: 8,
            record_count: 1,
            merkle_root: Hash([2; 32]),
            state_hash: Hash([3; 32]),
            validators_hash: set.hash(Suite::Nist),
            proposer: "hub-1".to_owned(),
        }
    }

    fn decided(signers: &[u8], round: u32) -> QuorumCertificate {
        let set = set(3);
        let header = header(&set);
        let sign = |number: &u8| Hub::new(*number).precommit(&header, round);
        QuorumCertificate::of(round, signers.iter().map(sign), &set).unwrap()
    }

    #[test]
    fn three_of_four_hubs_decide_a_block() {
        let set = set(3);
        let header = header(&set);
        decided(&[4, 1, 2], 2).verify(&header, &set).unwrap();
        decided(&[1, 2, 3, 4], 0).verify(&header, &set).unwrap();
        let few = decided(&[1, 2], 2).verify(&header, &set);
        let (got, needed) = (2, 3);
        assert_eq!(few, Err(BlockError::Threshold { got, needed }));

        let mut other_round = decided(&[1, 2, 3], 2);
        other_round.round = 3;
        let mut other_block = header.clone();
        other_block.time += 1;
        let mut other_chain = header.clone();
        other_chain.chain = "yard".to_owned();
        for (certificate, header) in [
            (other_round, &header),
            (decided(&[1, 2, 3], 2), &other_block),
            (decided(&[1, 2, 3], 2), &other_chain),
        ] {
            let held = certificate.verify(header, &set);
            assert_eq!(held, Err(BlockError::Signature("hub-1".to_owned())));
        }
        let mut twice = decided(&[1, 2, 3], 2);
        twice.signatures[1] = twice.signatures[0].clone();
        let held = twice.verify(&header, &set);
        assert_eq!(held, Err(BlockError::Signer("hub-1".to_owned())));
    }

    #[test]
    fn sets_that_are_not_the_headers_or_could_decide_twice_do_not_count() {
        let three = header(&set(3));
        let held = decided(&[1, 2, 3], 2).verify(&three, &set(4));
        assert_eq!(held, Err(BlockError::ValidatorSet));
        let half = set(2);
        let held = decided(&[1, 2, 3], 2).verify(&header(&half), &half);
        assert_eq!(held, Err(BlockError::MalformedSet));
        let stranger = Hub::new(5).precommit(&three, 0);
        assert_eq!(QuorumCertificate::of(0, [stranger], &set(3)), None);
    }

    #[test]
    fn its_bytes_are_as_published() {
        let certificate = decided(&[2], 258);
        let signature = to_hex(&certificate.signatures[0].signature.0);
        let published = format!("02010000010000000500000068{}{signature}", "75622d32");
        assert_eq!(to_hex(&encode(&certificate)), published);
    }
}
