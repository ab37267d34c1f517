//! What a hub records about the hubs that it shares its chain with.

use crate::ledger::Draft;
use crate::model::{Nanos, now};
use weighbridge_verifier::equivocation::check_evidence;
use weighbridge_verifier::{
    Action, Content, EquivocationContent, HubVoteContent, LeaseContent, Response, Validator,
};

/// A vote on who is in the set, because `subject` asked for it.
pub fn vote(time: Nanos, subject: &str, vote: HubVoteContent) -> Draft {
    let object = format!("hub:{}", vote.hub);
    membership(time, subject, object, Content::HubVote(vote))
}

/// `hub` reads `device` from now on, under fencing epoch `epoch`: it says so itself.
pub fn lease(time: Nanos, hub: &str, device: &str, epoch: u64) -> Draft {
    Draft {
        time,
        subject: format!("hub:{hub}"),
        action: Action::Grant,
        object: format!("device:{device}"),
        permit: None,
        content: Content::Lease(LeaseContent {
            device: device.to_owned(),
            epoch,
            hub: hub.to_owned(),
        }),
        response: Response::Accepted,
    }
}

/// Proof that one of `members` lied, if it is one.
pub(super) fn equivocation<'a>(
    mut members: impl Iterator<Item = &'a Validator>,
    chain: &str,
    evidence: Vec<u8>,
) -> Option<Draft> {
    let proven = check_evidence(chain, &evidence).ok()?.key;
    let liar = members.find(|hub| hub.key == proven)?;
    let object = format!("hub:{}", liar.id);
    let content = Content::Equivocation(EquivocationContent { evidence });
    Some(membership(now(), &object, object.clone(), content))
}

fn membership(time: Nanos, subject: &str, object: String, content: Content) -> Draft {
    Draft {
        time,
        subject: subject.to_owned(),
        action: Action::Membership,
        object,
        permit: None,
        content,
        response: Response::Accepted,
    }
}
