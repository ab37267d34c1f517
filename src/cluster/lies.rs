//! What other hubs proposed and does not hold: whoever signed such a proposal is voted out.
//!
//! Nobody else's word is needed for that, and none is taken: the vote of a hub says what it found itself. Every honest
//! hub finds the same of the same bytes, so there are as many votes as decide.

use super::drafts;
use crate::ledger::{Draft, State};
use crate::model::Nanos;
use parking_lot::Mutex;
use std::collections::VecDeque;
use weighbridge_verifier::vote::Proposal;
use weighbridge_verifier::{Faults, Hash, HubChange, HubVoteContent, PublicKey, ValidatorSet};

/// Values that do not hold, of which it is kept why.
const KEPT: usize = 64;

/// Values that do not hold, and why, oldest first.
#[derive(Default)]
pub(super) struct Lies(Mutex<VecDeque<(Hash, String)>>);

impl Lies {
    /// A value that no honest hub proposes.
    pub(super) fn note(&self, id: Hash, why: &str) {
        let mut lies = self.0.lock();
        if lies.iter().any(|(known, _)| *known == id) {
            return;
        }
        if lies.len() >= KEPT {
            lies.pop_front();
        }
        lies.push_back((id, why.to_owned()));
    }

    /// Why no honest hub proposes it, if that is so.
    pub(super) fn why(&self, id: &Hash) -> Option<String> {
        let lies = self.0.lock();
        let known = lies.iter().find(|(known, _)| known == id);
        known.map(|(_, why)| why.clone())
    }
}

/// Who is voted out, and the vote of `own` for that: once, and as long as `key` is that of another hub of the set.
pub(super) fn dismissal(
    state: &State,
    own: &str,
    key: &PublicKey,
    lie: &Proposal,
    time: Nanos,
) -> Option<(String, Draft)> {
    let set = state.validators()?;
    let liar = set.validators.iter().find(|hub| hub.key == *key)?;
    let vote = HubVoteContent {
        hub: liar.id.clone(),
        key: *key,
        change: HubChange::Dismiss,
        faults: then(set),
    };
    let said = state.votes().get(&liar.id).and_then(|said| said.get(own));
    let again = said.is_some_and(|said| said.key == *key && said.change == vote.change);
    if again || liar.id == own || set.get(own).is_none() {
        return None;
    }
    let rule = format!("rule:proposal/{}/{}/{}", lie.height, lie.round, lie.block);
    Some((liar.id.clone(), drafts::vote(time, &rule, vote)))
}

/// How those are trusted that there are then: as now, where they are as many. It follows from the set alone, for only the
/// very same votes count together.
fn then(set: &ValidatorSet) -> Faults {
    match set.standbys.is_empty() {
        true => Faults::Byzantine,
        false => Faults::of(set),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_value_does_not_hold_is_kept_for_a_while() {
        let lies = Lies::default();
        for number in 0..=KEPT {
            lies.note(Hash([number as u8; 32]), &number.to_string());
            lies.note(Hash([number as u8; 32]), "again");
        }
        assert_eq!(lies.why(&Hash([0; 32])), None);
        assert_eq!(lies.why(&Hash([1; 32])).as_deref(), Some("1"));
        assert_eq!(lies.0.lock().len(), KEPT);
    }
}
