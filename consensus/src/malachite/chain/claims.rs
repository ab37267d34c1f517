//! Who signed which proposal, and which values do not hold: where the two meet, a hub has said what is not so.

use super::Task;
use crate::malachite::actors::Claim;
use crate::validators::Validators;
use std::collections::{BTreeMap, BTreeSet};
use weighbridge_verifier::equivocation::Signed;
use weighbridge_verifier::vote::Proposal;
use weighbridge_verifier::{Hash, PublicKey};

/// Values that do not hold, of one height; more of them than there are proposers are a flood.
const MAX_WRONG: usize = 64;
/// Rounds of one height whose proposals are kept.
const MAX_ROUNDS: usize = 64;
/// Proposals of one hub in one round: two contradict each other, which is proof enough.
const MAX_OF_ROUND: usize = 2;

/// What is known of the height that is being decided.
#[derive(Default)]
pub struct Claims {
    height: u64,
    proposals: BTreeMap<u32, Vec<Signed<Proposal>>>,
    wrong: BTreeSet<Hash>,
}

impl Claims {
    fn at(&mut self, height: u64) -> &mut Self {
        if self.height != height {
            *self = Self {
                height,
                ..Self::default()
            };
        }
        self
    }

    /// Takes a proposal whose signature holds, of whoever's turn it was; whether its value does not hold.
    fn propose(&mut self, signed: Signed<Proposal>) -> bool {
        let Proposal { round, block, .. } = signed.message;
        if self.wrong.contains(&block) {
            return true;
        }
        if self.proposals.len() < MAX_ROUNDS || self.proposals.contains_key(&round) {
            let known = self.proposals.entry(round).or_default();
            let new = known.iter().all(|one| one.message != signed.message);
            if new && known.len() < MAX_OF_ROUND {
                known.push(signed);
            }
        }
        false
    }

    /// Takes a value that does not hold; the proposals of it.
    fn wrong(&mut self, id: Hash) -> Vec<Signed<Proposal>> {
        if self.wrong.len() < MAX_WRONG {
            self.wrong.insert(id);
        }
        let mut of_it = Vec::new();
        for known in self.proposals.values_mut() {
            let (wrong, others) = known.iter().partition(|one| one.message.block == id);
            let wrong: Vec<_> = wrong;
            of_it.extend(wrong);
            *known = others;
        }
        of_it
    }
}

/// Whose turn it was.
fn turn(validators: &Validators, proposal: &Proposal) -> PublicKey {
    validators.proposer(proposal.height, proposal.round).key
}

impl Task {
    /// Somebody is heard to propose something.
    pub(super) fn claimed(&mut self, claim: &Claim) {
        let next = self.tip.saturating_add(1);
        let due = claim.message.height.0 == next && self.storing != Some(next);
        if !due || claim.message.address == self.fixed.address {
            return;
        }
        let Some(signed) = self.fixed.signing.claimed(claim) else {
            return;
        };
        let whose = turn(&self.validators, &signed.message);
        if claim.message.address.0 == whose && self.claims.at(next).propose(signed) {
            self.refuted(signed);
        }
    }

    /// A value of a height does not hold.
    pub(super) fn wrong(&mut self, height: u64, id: Hash) {
        if height == self.tip.saturating_add(1) {
            let lies = self.claims.at(height).wrong(id);
            lies.into_iter().for_each(|lie| self.refuted(lie));
        }
    }

    fn refuted(&mut self, lie: Signed<Proposal>) {
        let by = turn(&self.validators, &lie.message);
        self.job(move |application| {
            application.refuted(by, lie);
            super::Done::Answered
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weighbridge_verifier::Signature;

    fn signed(round: u32, block: u8) -> Signed<Proposal> {
        Signed {
            message: Proposal {
                height: 7,
                round,
                block: Hash([block; 32]),
                polka_round: None,
            },
            signature: Signature([1; 64]),
        }
    }

    #[test]
    fn a_lie_is_known_in_whichever_order_it_is_heard() {
        let wrong = Hash([9; 32]);
        let mut claims = Claims::default();
        assert!(!claims.at(7).propose(signed(0, 9)));
        assert!(!claims.at(7).propose(signed(1, 8)));
        assert_eq!(claims.at(7).wrong(wrong), [signed(0, 9)]);
        // Once, and again when it is proposed again.
        assert_eq!(claims.at(7).wrong(wrong), []);
        assert!(claims.at(7).propose(signed(2, 9)));
        // What was of another height says nothing.
        assert!(!claims.at(8).propose(signed(0, 9)));
        assert_eq!(claims.at(7).wrong(Hash([8; 32])), []);
    }

    #[test]
    fn nobody_fills_the_memory() {
        let mut claims = Claims::default();
        for round in 0..1_000 {
            for block in 0..10 {
                assert!(!claims.at(7).propose(signed(round, block)));
                claims.at(7).wrong(Hash([100 + block; 32]));
            }
        }
        assert_eq!(claims.proposals.len(), MAX_ROUNDS);
        assert!(
            claims
                .proposals
                .values()
                .all(|known| known.len() == MAX_OF_ROUND)
        );
        for number in 0..1_000_u64 {
            let mut id = Hash::ZERO;
            id.0[..8].copy_from_slice(&number.to_le_bytes());
            claims.at(7).wrong(id);
        }
        assert_eq!(claims.wrong.len(), MAX_WRONG);
    }
}
