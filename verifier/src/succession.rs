//! How the set of hubs that sign becomes another one: by records in blocks that the old set signed.
//!
//! The first block is signed by the hub that its first record enrols. From then on
//! - a rotation that a hub of the set records of itself puts another key in place of the one it had,
//! - a hub is admitted or dismissed when as many hubs of the set as its threshold voted the very same,
//! - a hub is dismissed by the proof that it signed two messages that exclude each other,
//! - hubs are let stand by in the same way, and the first of them takes the place of one that is dismissed.
//!
//! Each is in force for the records after it, and for the blocks after its own. So whoever trusts the first
//! set can follow the chain of records to any later one, with nothing but the records that count: a vote that
//! is left out can hide a change, but then nothing that the new set signs holds.
//!
//! [`Succession`] is the one counter of all this: what a hub may record ([`Succession::check`]) and what
//! follows from it ([`Succession::apply`]) is the same for a hub, a replay and an auditor.

use crate::block::{Validator, ValidatorSet};
use crate::equivocation::{self, check_evidence};
use crate::membership::{EquivocationContent, Faults, HubChange, HubVoteContent};
use crate::record::{Action, Content, IdentityKind, RecordBody, Response};
use crate::signature::PublicKey;
use crate::validators::MAX_STANDBYS;
use borsh::{BorshDeserialize, BorshSerialize};
use std::collections::BTreeMap;

/// Hubs in a set at most.
pub const MAX_HUBS: usize = 64;

/// Hubs that one hub has open votes on at most: a liar must not fill every other hub's memory.
pub const MAX_BALLOTS: usize = 64;

/// A hub of the set has another key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// Its id.
    pub hub: String,
    /// The key it had.
    pub old: PublicKey,
    /// The key it has from now on.
    pub new: PublicKey,
}

/// What a record changed about the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetChange {
    /// A hub has another key.
    Key(KeyChange),
    /// A hub came.
    Admitted(Validator),
    /// A hub left, with the key that it had.
    Dismissed(Validator),
    /// A hub left, and the first of those that stood by came in for it.
    Replaced {
        /// Who left.
        gone: Validator,
        /// Who came.
        by: Validator,
    },
    /// A hub stands by.
    StandsBy(Validator),
    /// A hub that stood by does so no longer.
    Unlisted(Validator),
}

/// What a hub said of another one, or of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Ballot {
    /// The key that it named.
    pub key: PublicKey,
    /// Which way it voted.
    pub change: HubChange,
    /// How the set that this makes is to be trusted.
    pub faults: Faults,
}

impl Ballot {
    fn of(vote: &HubVoteContent) -> Self {
        Self {
            key: vote.key,
            change: vote.change,
            faults: vote.faults,
        }
    }
}

/// Votes that have not made a change yet: by the hub that is voted on, then by the hub that votes.
pub type Votes = BTreeMap<String, BTreeMap<String, Ballot>>;

/// Why a hub may not record a vote, or a proof.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuccessionError {
    /// Only what was accepted counts.
    #[error("it is not an accepted record about membership")]
    Action,
    /// Who votes is not of the set.
    #[error("`{0}` is not in the set of hubs, and has no vote")]
    Stranger(String),
    /// It is in the set already.
    #[error("`{0}` is in the set of hubs already")]
    Member(String),
    /// It stands by already.
    #[error("`{0}` stands by already")]
    StandsBy(String),
    /// It stands by with another key.
    #[error("`{0}` stands by with another key")]
    OtherKey(String),
    /// Enough hubs stand by.
    #[error("{MAX_STANDBYS} hubs stand by at most")]
    TooManyStandbys,
    /// It is not in the set, or has another key there.
    #[error("`{0}` is not in the set of hubs with that key")]
    NoMember(String),
    /// The key is another hub's.
    #[error("the key of `{0}` is that of `{1}`")]
    KeyTaken(String, String),
    /// A set of that size cannot be trusted in that way.
    #[error("a set of {0} hubs cannot be decided by a majority: only one of three can")]
    Faults(usize),
    /// The set is as large as it can be.
    #[error("a set has {MAX_HUBS} hubs at most")]
    TooMany,
    /// Too many votes of one hub are open.
    #[error("`{0}` has votes on {MAX_BALLOTS} hubs open, and no more")]
    TooManyBallots(String),
    /// Somebody has to sign the next block.
    #[error("the last hub of the set cannot leave it")]
    Last,
    /// The evidence proves nothing.
    #[error("{0}")]
    Evidence(#[from] equivocation::EvidenceError),
}

/// What the record changes about keys of `set`, the set in force before it.
pub fn key_change(set: &ValidatorSet, body: &RecordBody) -> Option<KeyChange> {
    let Content::Rotation(rotation) = &body.content else {
        return None;
    };
    let identity = &rotation.identity;
    let own = identity.kind == IdentityKind::Hub && identity.id == body.hub;
    if !own || !is_said(body) {
        return None;
    }
    let known = set
        .get(&identity.id)
        .filter(|v| v.key == rotation.replaces)?;
    let new = identity.key.filter(|key| *key != known.key)?;
    Some(KeyChange {
        hub: identity.id.clone(),
        old: known.key,
        new,
    })
}

fn is_said(body: &RecordBody) -> bool {
    body.action == Action::Membership && body.response == Response::Accepted
}

impl ValidatorSet {
    /// Makes a change.
    pub fn change(&mut self, change: &KeyChange) {
        let hub = self.validators.iter_mut().find(|v| v.id == change.hub);
        if let Some(hub) = hub {
            hub.key = change.new;
        }
    }

    fn owner(&self, key: &PublicKey) -> Option<&str> {
        let owner = self.validators.iter().find(|v| v.key == *key);
        owner.map(|v| &*v.id)
    }

    /// The hubs that there are once one has left: the first that stands by comes for it.
    fn after_leaving(&self) -> usize {
        let comes = usize::from(!self.standbys.is_empty());
        (self.validators.len() + comes).saturating_sub(1)
    }

    fn enter(&mut self, hub: Validator) {
        let hubs = &mut self.validators;
        let place = hubs.partition_point(|v| v.id < hub.id);
        hubs.insert(place, hub);
    }
}

/// The set in force, and the votes that have not changed it yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Succession {
    set: ValidatorSet,
    votes: Votes,
}

impl Succession {
    /// From a set on, when no vote is open.
    pub fn new(set: ValidatorSet) -> Self {
        Self::from_parts(set, Votes::new())
    }

    /// From a set and open votes on.
    pub fn from_parts(set: ValidatorSet, votes: Votes) -> Self {
        Self { set, votes }
    }

    /// The set and the open votes.
    pub fn into_parts(self) -> (ValidatorSet, Votes) {
        (self.set, self.votes)
    }

    /// The set in force.
    pub fn set(&self) -> &ValidatorSet {
        &self.set
    }

    /// The open votes.
    pub fn votes(&self) -> &Votes {
        &self.votes
    }

    /// Whether records about such a thing can change the set, or the votes on it. Rotations are among them: open
    /// votes follow the key of the hub that they are on.
    pub fn concerns(content: &Content) -> bool {
        matches!(
            content,
            Content::Rotation(_) | Content::HubVote(_) | Content::Equivocation(_)
        )
    }

    /// Whether `body` may be recorded next, if it is a vote or a proof of a lie. Other records are not judged
    /// here.
    pub fn check(&self, body: &RecordBody) -> Result<(), SuccessionError> {
        match &body.content {
            Content::HubVote(vote) => {
                self.check_voter(body)?;
                self.check_vote(&body.hub, vote)
            }
            Content::Equivocation(proof) => {
                self.check_voter(body)?;
                self.liar(body, proof).map(|_| ())
            }
            _ => Ok(()),
        }
    }

    /// Counts the record, and says what it changes. One that may not be recorded changes nothing. Its
    /// signatures are not checked here, but for those that a proof consists of.
    pub fn apply(&mut self, body: &RecordBody) -> Option<SetChange> {
        if let Some(change) = key_change(&self.set, body) {
            self.set.change(&change);
            // Who is voted out cannot escape by another key.
            if let Some(ballots) = self.votes.get_mut(&change.hub) {
                ballots.values_mut().for_each(|b| b.key = change.new);
            }
            return Some(SetChange::Key(change));
        }
        self.check(body).ok()?;
        match &body.content {
            Content::HubVote(vote) => self.count(&body.hub, vote),
            Content::Equivocation(proof) => {
                let liar = self.liar(body, proof).ok()?;
                // Of two that are left of three, both decide, however they were trusted.
                self.dismiss(&liar, Faults::Byzantine)
            }
            _ => None,
        }
    }

    fn check_voter(&self, body: &RecordBody) -> Result<(), SuccessionError> {
        if !is_said(body) {
            return Err(SuccessionError::Action);
        }
        match self.set.get(&body.hub) {
            Some(_) => Ok(()),
            None => Err(SuccessionError::Stranger(body.hub.clone())),
        }
    }

    fn check_vote(&self, voter: &str, vote: &HubVoteContent) -> Result<(), SuccessionError> {
        let hubs = self.set.validators.len();
        let member = self.set.get(&vote.hub);
        let hub = || vote.hub.clone();
        let standby = self.set.standby(&vote.hub);
        let then = match vote.change {
            HubChange::Admit => {
                self.check_comer(vote)?;
                if standby.is_some_and(|v| v.key != vote.key) {
                    return Err(SuccessionError::OtherKey(hub()));
                }
                if hubs >= MAX_HUBS {
                    return Err(SuccessionError::TooMany);
                }
                hubs + 1
            }
            HubChange::Standby => {
                self.check_comer(vote)?;
                if standby.is_some() {
                    return Err(SuccessionError::StandsBy(hub()));
                }
                if self.set.standbys.len() >= MAX_STANDBYS {
                    return Err(SuccessionError::TooManyStandbys);
                }
                hubs
            }
            HubChange::Dismiss => match (member, standby) {
                (Some(v), _) if v.key == vote.key && hubs <= 1 => {
                    return Err(SuccessionError::Last);
                }
                (Some(v), _) if v.key == vote.key => self.set.after_leaving(),
                (None, Some(v)) if v.key == vote.key => hubs,
                _ => return Err(SuccessionError::NoMember(hub())),
            },
        };
        if vote.faults.threshold(then).is_none() {
            return Err(SuccessionError::Faults(then));
        }
        let others = self.votes.iter().filter(|(about, _)| **about != vote.hub);
        let open = others.filter(|(_, ballots)| ballots.contains_key(voter));
        match open.count() < MAX_BALLOTS {
            true => Ok(()),
            false => Err(SuccessionError::TooManyBallots(voter.to_owned())),
        }
    }

    /// Who comes is not in the set, and has a key of its own.
    fn check_comer(&self, vote: &HubVoteContent) -> Result<(), SuccessionError> {
        let hub = || vote.hub.clone();
        if self.set.get(&vote.hub).is_some() {
            return Err(SuccessionError::Member(hub()));
        }
        let mut others = self.set.all().filter(|v| v.id != vote.hub);
        match others.find(|v| v.key == vote.key) {
            Some(owner) => Err(SuccessionError::KeyTaken(hub(), owner.id.clone())),
            None => Ok(()),
        }
    }

    /// The hub of the set that `proof` is about.
    fn liar(
        &self,
        body: &RecordBody,
        proof: &EquivocationContent,
    ) -> Result<String, SuccessionError> {
        let offence = check_evidence(&body.chain, &proof.evidence)?;
        let named = body.object.strip_prefix("hub:").unwrap_or_default();
        match self.set.owner(&offence.key) {
            Some(owner) if owner == named && self.set.validators.len() > 1 => Ok(owner.to_owned()),
            Some(owner) if owner == named => Err(SuccessionError::Last),
            _ => Err(SuccessionError::NoMember(named.to_owned())),
        }
    }

    fn count(&mut self, voter: &str, vote: &HubVoteContent) -> Option<SetChange> {
        let ballot = Ballot::of(vote);
        let ballots = self.votes.entry(vote.hub.clone()).or_default();
        ballots.insert(voter.to_owned(), ballot);
        let same = ballots
            .iter()
            .filter(|(voter, said)| **said == ballot && self.set.get(voter).is_some())
            .count();
        if (same as u64) < u64::from(self.set.threshold) {
            return None;
        }
        match vote.change {
            HubChange::Admit => self.admit(vote),
            HubChange::Dismiss => self.dismiss(&vote.hub, vote.faults),
            HubChange::Standby => {
                let hub = comer(vote);
                self.set.standbys.push(hub.clone());
                self.votes.remove(&vote.hub);
                Some(SetChange::StandsBy(hub))
            }
        }
    }

    fn admit(&mut self, vote: &HubVoteContent) -> Option<SetChange> {
        let threshold = vote.faults.threshold(self.set.validators.len() + 1)?;
        let hub = comer(vote);
        self.set.standbys.retain(|v| v.id != hub.id);
        self.set.enter(hub.clone());
        self.set.threshold = threshold;
        self.votes.remove(&vote.hub);
        Some(SetChange::Admitted(hub))
    }

    fn dismiss(&mut self, id: &str, faults: Faults) -> Option<SetChange> {
        if let Some(place) = self.set.standbys.iter().position(|v| v.id == id) {
            self.votes.remove(id);
            return Some(SetChange::Unlisted(self.set.standbys.remove(place)));
        }
        let threshold = faults.threshold(self.set.after_leaving())?;
        let hubs = &mut self.set.validators;
        let place = hubs.iter().position(|v| v.id == id)?;
        let gone = hubs.remove(place);
        self.set.threshold = threshold;
        self.votes.remove(id);
        // Its word counts no more, also when it comes back.
        for ballots in self.votes.values_mut() {
            ballots.remove(id);
        }
        self.votes.retain(|_, ballots| !ballots.is_empty());
        if self.set.standbys.is_empty() {
            return Some(SetChange::Dismissed(gone));
        }
        let by = self.set.standbys.remove(0);
        self.votes.remove(&by.id);
        self.set.enter(by.clone());
        Some(SetChange::Replaced { gone, by })
    }
}

fn comer(vote: &HubVoteContent) -> Validator {
    Validator {
        id: vote.hub.clone(),
        key: vote.key,
    }
}

#[cfg(test)]
#[path = "succession_tests.rs"]
mod tests;
