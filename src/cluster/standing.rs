//! How the chain stands at this hub, kept for those who must not wait for its lock.

use crate::ledger::State;
use std::collections::{BTreeMap, VecDeque};
use weighbridge_verifier::{HubChange, PublicKey, ValidatorSet};

/// Alarms that are kept.
const ALARMS: usize = 16;

/// How the chain stands.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Height of the newest block.
    pub height: u64,
    /// The hubs that decide.
    pub members: Vec<(String, PublicKey)>,
    /// The hubs that stand by, in the order in which they come in.
    pub standbys: Vec<(String, PublicKey)>,
    /// How many hubs must agree.
    pub threshold: u32,
    /// Records of this hub that no block has yet.
    pub open: u64,
    /// Sealed values that are not here, counted up to a bound.
    pub missing: usize,
    /// Entries of access that are on the chain and cannot be read here yet.
    pub unread: usize,
    /// Votes that do not count yet: on whom, which way, by whom.
    pub votes: Vec<(String, HubChange, Vec<String>)>,
    /// What somebody should look at, oldest first.
    pub alarms: VecDeque<String>,
    /// The heights that other hubs say they have.
    pub heard: BTreeMap<String, u64>,
}

impl Standing {
    pub(super) fn follow(&mut self, state: &State, height: u64, open: u64) {
        let nobody = ValidatorSet::default();
        let set = state.validators().unwrap_or(&nobody);
        if self.height != height || self.members.is_empty() {
            let members = set.validators.iter();
            self.members = members.map(|hub| (hub.id.clone(), hub.key)).collect();
            let standbys = set.standbys.iter();
            self.standbys = standbys.map(|hub| (hub.id.clone(), hub.key)).collect();
        }
        if self.height != height {
            self.votes = votes(state);
        }
        self.threshold = set.threshold;
        (self.height, self.open) = (height, open);
    }

    pub(super) fn alarm(&mut self, what: String) {
        if self.alarms.back() == Some(&what) {
            return;
        }
        if self.alarms.len() >= ALARMS {
            self.alarms.pop_front();
        }
        self.alarms.push_back(what);
    }
}

/// Votes that do not count yet: those that say the very same, together.
fn votes(state: &State) -> Vec<(String, HubChange, Vec<String>)> {
    let mut votes = Vec::new();
    for (on, ballots) in state.votes() {
        for change in [HubChange::Admit, HubChange::Dismiss, HubChange::Standby] {
            let by = ballots.iter().filter(|(_, ballot)| ballot.change == change);
            let by: Vec<String> = by.map(|(by, _)| by.clone()).collect();
            if !by.is_empty() {
                votes.push((on.clone(), change, by));
            }
        }
    }
    votes
}
