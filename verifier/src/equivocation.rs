//! Two messages of one key that no honest hub signs both: the evidence on which a hub is voted out.
//!
//! Evidence is self-contained: both messages as they were signed, the key, both signatures. Whoever
//! has the chain's name can check it, years later and without having been there.

use crate::codec::{decode, encode};
use crate::signature::{PublicKey, Signature, SignatureError};
use crate::vote::{Proposal, Vote};
use borsh::{BorshDeserialize, BorshSerialize};

/// A message with its signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Signed<T> {
    /// The message.
    pub message: T,
    /// The signature over its hash.
    pub signature: Signature,
}

/// Two messages that exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Pair {
    /// Two votes of one kind in one round, for different blocks, or for one and for none.
    Votes(Signed<Vote>, Signed<Vote>),
    /// Two proposals of one round.
    Proposals(Signed<Proposal>, Signed<Proposal>),
}

/// Evidence that a hub said two things where it may say one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Equivocation {
    /// The key that signed both.
    pub key: PublicKey,
    /// What it signed.
    pub pair: Pair,
}

/// What evidence proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offence {
    /// The key of the hub.
    pub key: PublicKey,
    /// At which height.
    pub height: u64,
    /// In which round.
    pub round: u32,
}

/// Why evidence proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// The bytes are no evidence.
    #[error("the bytes are no evidence of equivocation: {0}")]
    Form(String),
    /// An honest hub may have signed both.
    #[error("the two messages do not exclude each other")]
    Compatible,
    /// The pair is in the other order: one offence has one form.
    #[error("the two messages are not in their order")]
    Order,
    /// A signature is wrong.
    #[error("a signature does not hold: {0}")]
    Signature(#[from] SignatureError),
}

impl Equivocation {
    /// Two votes, in the order that evidence has them in.
    pub fn votes(key: PublicKey, a: Signed<Vote>, b: Signed<Vote>) -> Self {
        let swap = encode(&a.message) > encode(&b.message);
        let (a, b) = if swap { (b, a) } else { (a, b) };
        let pair = Pair::Votes(a, b);
        Self { key, pair }
    }

    /// Two proposals, in the order that evidence has them in.
    pub fn proposals(key: PublicKey, a: Signed<Proposal>, b: Signed<Proposal>) -> Self {
        let swap = encode(&a.message) > encode(&b.message);
        let (a, b) = if swap { (b, a) } else { (a, b) };
        let pair = Pair::Proposals(a, b);
        Self { key, pair }
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Checks everything that evidence can be checked for on its own; whether the key is a hub's that
    /// could vote at that height is for the chain to say.
    pub fn check(&self, chain: &str) -> Result<Offence, EvidenceError> {
        let key = self.key;
        let suite = key.suite();
        let (slots, contents, messages, signatures) = match &self.pair {
            Pair::Votes(a, b) => {
                let slot = |v: &Vote| (Some(v.kind), v.height, v.round);
                (
                    [slot(&a.message), slot(&b.message)],
                    [encode(&a.message), encode(&b.message)],
                    [&a.message, &b.message].map(|m| m.message(suite, chain)),
                    [a.signature, b.signature],
                )
            }
            Pair::Proposals(a, b) => {
                let slot = |p: &Proposal| (None, p.height, p.round);
                (
                    [slot(&a.message), slot(&b.message)],
                    [encode(&a.message), encode(&b.message)],
                    [&a.message, &b.message].map(|m| m.message(suite, chain)),
                    [a.signature, b.signature],
                )
            }
        };
        if slots[0] != slots[1] || contents[0] == contents[1] {
            return Err(EvidenceError::Compatible);
        }
        if contents[0] > contents[1] {
            return Err(EvidenceError::Order);
        }
        let verifier = key.verifier()?;
        for (message, signature) in messages.iter().zip(&signatures) {
            verifier.verify(message, signature)?;
        }
        let [(_, height, round), _] = slots;
        Ok(Offence { key, height, round })
    }
}

/// Reads and checks evidence that somebody hands over, for this chain.
pub fn check_evidence(chain: &str, bytes: &[u8]) -> Result<Offence, EvidenceError> {
    let evidence: Equivocation =
        decode("evidence", bytes).map_err(|e| EvidenceError::Form(e.to_string()))?;
    evidence.check(chain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Hash;
    use crate::suite::Suite;
    use crate::vote::VoteKind;
    use p256::ecdsa::SigningKey;
    use p256::ecdsa::signature::hazmat::PrehashSigner;

    fn key(seed: u8) -> (SigningKey, PublicKey) {
        let key = SigningKey::from_slice(&[seed; 32]).unwrap();
        let point = key.verifying_key().to_sec1_point(true);
        let public = PublicKey::from_sec1(Suite::Nist, point.as_bytes()).unwrap();
        (key, public)
    }

    fn sign(key: &SigningKey, message: Hash) -> Signature {
        let signature: p256::ecdsa::Signature = key.sign_prehash(&message.0).unwrap();
        Signature(signature.normalize_s().to_bytes().into())
    }

    fn vote(key: &SigningKey, vote: Vote) -> Signed<Vote> {
        Signed {
            message: vote,
            signature: sign(key, vote.message(Suite::Nist, "hall")),
        }
    }

    fn proposal(key: &SigningKey, proposal: Proposal) -> Signed<Proposal> {
        Signed {
            message: proposal,
            signature: sign(key, proposal.message(Suite::Nist, "hall")),
        }
    }

    const FOR_A: Vote = Vote {
        kind: VoteKind::Precommit,
        height: 5,
        round: 1,
        block: Some(Hash([1; 32])),
    };
    const FOR_NONE: Vote = Vote {
        block: None,
        ..FOR_A
    };
    const A: Proposal = Proposal {
        height: 5,
        round: 1,
        block: Hash([1; 32]),
        polka_round: None,
    };

    #[test]
    fn two_votes_of_one_round_are_an_offence() {
        let (secret, public) = key(7);
        let (a, none) = (vote(&secret, FOR_A), vote(&secret, FOR_NONE));
        let evidence = Equivocation::votes(public, a, none);
        assert_eq!(evidence, Equivocation::votes(public, none, a));
        let offence = check_evidence("hall", &evidence.to_bytes()).unwrap();
        let (height, round) = (5, 1);
        let key = public;
        assert_eq!(offence, Offence { key, height, round });
        assert!(check_evidence("another", &evidence.to_bytes()).is_err());
    }

    #[test]
    fn two_proposals_of_one_round_are_an_offence() {
        let (secret, public) = key(7);
        let other = Proposal {
            polka_round: Some(0),
            ..A
        };
        let evidence =
            Equivocation::proposals(public, proposal(&secret, A), proposal(&secret, other));
        assert!(check_evidence("hall", &evidence.to_bytes()).is_ok());
    }

    #[test]
    fn what_an_honest_hub_signs_is_no_offence() {
        let (secret, public) = key(7);
        let honest = [
            FOR_A,
            Vote {
                height: 6,
                ..FOR_NONE
            },
            Vote {
                round: 2,
                ..FOR_NONE
            },
            Vote {
                kind: VoteKind::Prevote,
                ..FOR_NONE
            },
        ];
        for other in honest {
            let (a, b) = (vote(&secret, FOR_A), vote(&secret, other));
            let checked = Equivocation::votes(public, a, b).check("hall");
            assert_eq!(checked, Err(EvidenceError::Compatible));
        }
        let next = Proposal { round: 2, ..A };
        let (a, b) = (proposal(&secret, A), proposal(&secret, next));
        let checked = Equivocation::proposals(public, a, b).check("hall");
        assert_eq!(checked, Err(EvidenceError::Compatible));
    }

    #[test]
    fn nobody_is_framed() {
        let (secret, public) = key(7);
        let (liar, _) = key(8);
        let (a, none) = (vote(&secret, FOR_A), vote(&secret, FOR_NONE));
        let framed = Equivocation::votes(public, a, vote(&liar, FOR_NONE));
        assert!(matches!(
            framed.check("hall"),
            Err(EvidenceError::Signature(_))
        ));
        let bytes = Equivocation::votes(public, a, none).to_bytes();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(check_evidence("hall", &changed).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(check_evidence("hall", &bytes[..length]).is_err());
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(check_evidence("hall", &longer).is_err());
        let swapped = Equivocation {
            key: public,
            pair: match Equivocation::votes(public, a, none).pair {
                Pair::Votes(a, b) => Pair::Votes(b, a),
                other => other,
            },
        };
        assert_eq!(swapped.check("hall"), Err(EvidenceError::Order));
    }
}
