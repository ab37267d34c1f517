//! What the engine saw of liars, as bytes that anybody can check again.

use super::context::{Context, Proposal, Vote, core_types};
use arc_malachitebft_app::types::MisbehaviorEvidence;
use core_types::SignedMessage;
use weighbridge_verifier::equivocation::{Equivocation, Signed};

fn vote(vote: &SignedMessage<Context, Vote>) -> Option<Signed<weighbridge_verifier::vote::Vote>> {
    Some(Signed {
        message: vote.message.signed()?,
        signature: vote.signature.0,
    })
}

fn proposal(
    proposal: &SignedMessage<Context, Proposal>,
) -> Option<Signed<weighbridge_verifier::vote::Proposal>> {
    Some(Signed {
        message: proposal.message.signed()?,
        signature: proposal.signature.0,
    })
}

/// One piece of evidence for each pair that is an offence. What does not hold when it is checked, as
/// everybody else would check it, is left out: nobody is accused of what cannot be proved.
pub fn pieces(chain: &str, seen: &MisbehaviorEvidence<Context>) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for (address, pairs) in &seen.votes {
        for (a, b) in pairs {
            if let (Some(a), Some(b)) = (vote(a), vote(b)) {
                found.push(Equivocation::votes(address.0, a, b));
            }
        }
    }
    for (address, pairs) in seen.proposals.iter() {
        for (a, b) in pairs {
            if let (Some(a), Some(b)) = (proposal(a), proposal(b)) {
                found.push(Equivocation::proposals(address.0, a, b));
            }
        }
    }
    found.retain(|piece| piece.check(chain).is_ok());
    found.iter().map(Equivocation::to_bytes).collect()
}
