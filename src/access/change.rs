//! The changes of the state: what each needs, and what goes with it.

use super::binding::Binding;
use super::known_by::KnownBy;
use super::level::{Level, Mode};
use super::lists::Side;
use super::pattern::Pattern;
use super::permit::Permit;
use super::reader::{MAX_GRANTS, MAX_READERS, ReadGrant, escrow_name};
use super::role::Right;
use super::rules::Rule;
use super::state::{AccessState, MAX_ENTRIES, MAX_NAME, Subject};
use crate::model::Nanos;
use std::collections::BTreeSet;
use weighbridge_verifier::PublicKey;

/// One change of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Somebody enters, or enters again after having been withdrawn.
    Enrol(String, Subject),
    /// Somebody is withdrawn.
    Revoke(String),
    /// Somebody lives longer, or for ever.
    Renew(String, Option<Nanos>),
    /// Somebody gets these roles instead of those they had.
    Assign(String, BTreeSet<String>),
    /// The hub's configuration gives somebody these roles, or names them no more, which withdraws them.
    Declare(String, Option<BTreeSet<String>>),
    /// A role gets other rules; without rules it is no more.
    Define(String, Vec<Rule>),
    /// An object gets a level; `None` for that of its kind.
    Classify(String, Option<Level>),
    /// Somebody comes on a whitelist, or off it.
    White(Side, String, bool),
    /// Somebody comes on a blacklist, or off it.
    Black(Side, String, bool),
    /// Somebody may store, read or control for a while; `None` ends it.
    Permit(String, Mode, Option<Permit>),
    /// A device is known by this from now on; `None`: by what answers next.
    Bind(String, Option<Binding>),
    /// Somebody becomes a reader with this key, or gets another; `None`: is one no more.
    ReaderKey(String, Option<PublicKey>),
    /// A reader may open a span of some devices with their own key.
    Grant(String, ReadGrant),
    /// The grants to a reader over these devices end.
    EndGrant(String, Pattern),
    /// A user logs in by these from now on; `None`: by nothing any more.
    Credentials(String, Option<KnownBy>),
    /// Every epoch's key is wrapped to this key as well from now on, or no more.
    Escrow(PublicKey, bool),
    /// A hub wraps its own keys to this key of its own from now on.
    SealingKey(String, PublicKey),
    /// Somebody logged in by the one-time code of this step; it, and those before it, count no more at any hub.
    UsedCode(String, u64),
}

/// Why a change cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// There is no such subject.
    #[error("nobody of the name {0:?} is enrolled")]
    Unknown(String),
    /// The subject is there already.
    #[error("{0:?} is enrolled already; withdraw it first")]
    Taken(String),
    /// There is no such role.
    #[error("there is no role {0:?}")]
    NoRole(String),
    /// Somebody has the role.
    #[error("the role {0:?} cannot go while {1:?} has it")]
    InUse(String, String),
    /// A name is empty or too long.
    #[error("the name {0:?} is empty or longer than {MAX_NAME} bytes")]
    Name(String),
    /// A permit ends before it begins.
    #[error("the permit ends before it begins")]
    Permit,
    /// Somebody has no key that could be wrapped to.
    #[error("{0:?} is no reader: enrol a public key of theirs first")]
    NoKey(String),
    /// A key is none, or of another suite than the chain.
    #[error("the key is no public key of the chain's suite")]
    Key,
    /// A grant ends before it begins.
    #[error("the span ends before it begins")]
    Span,
    /// There is no such grant.
    #[error("{0:?} has no grant over {1:?}")]
    NoGrant(String, String),
    /// There are too many grants already.
    #[error("a reader has at most {MAX_GRANTS} grants")]
    Grants,
    /// There are too many readers already.
    #[error("there are {MAX_READERS} readers already, which is the most")]
    Readers,
    /// The one-time code was used, or a later one.
    #[error("this one-time code, or a later one, was used before")]
    UsedCode,
    /// What is on record of it cannot be read here yet.
    #[error("what is on record as {0:?} cannot be read here yet: ask at another hub")]
    Unread(String),
    /// There are too many already.
    #[error("there are {MAX_ENTRIES} already, which is the most")]
    Full,
}

impl Change {
    /// The rights that are needed to make it, and on what. Who may give the role of an operator need
    /// not be one who may give that of a supervisor, so it depends on what there is.
    pub fn needs(&self, state: &AccessState) -> Vec<(Right, String)> {
        match self {
            Self::Enrol(id, subject) => {
                let roles = subject.roles.iter();
                let own = (Right::Enrol, format!("identity:{id}"));
                std::iter::once(own).chain(roles.map(assign)).collect()
            }
            Self::Revoke(id) | Self::Renew(id, _) | Self::Bind(id, _) => {
                vec![(Right::Enrol, format!("identity:{id}"))]
            }
            Self::Assign(id, roles) => {
                let none = BTreeSet::new();
                let had = state.subjects.get(id).map_or(&none, |s| &s.roles);
                had.symmetric_difference(roles).map(assign).collect()
            }
            // Whoever writes the configuration has the hub in hand, but no user is that.
            Self::Declare(id, _) => vec![(Right::Configure, format!("identity:{id}"))],
            Self::Define(role, _) => vec![(Right::Configure, format!("role:{role}"))],
            Self::Classify(object, _) => vec![(Right::Configure, format!("level:{object}"))],
            Self::White(side, id, _) | Self::Black(side, id, _) => {
                vec![(Right::Admit, format!("list:{}/{id}", side.name()))]
            }
            Self::Permit(id, mode, _) => {
                vec![(Right::Admit, format!("permit:{}/{id}", mode.name()))]
            }
            Self::ReaderKey(id, _) => vec![(Right::Enrol, format!("identity:{id}"))],
            // As a role over these devices would be given.
            Self::Grant(_, ReadGrant { devices, .. }) | Self::EndGrant(_, devices) => {
                vec![(Right::Assign, format!("grant:{}", devices.as_str()))]
            }
            // Who gives somebody credentials could use them, and then has every role of theirs.
            Self::Credentials(id, known) => {
                let own = (Right::Enrol, format!("identity:{id}"));
                let owner = state.subjects.get(id).filter(|_| known.is_some());
                let roles = owner.into_iter().flat_map(|owner| &owner.roles);
                std::iter::once(own).chain(roles.map(assign)).collect()
            }
            // The configuration's alone, and it has the hub in hand.
            Self::Escrow(key, _) => vec![(Right::Configure, escrow_name(key))],
            Self::SealingKey(id, _) | Self::UsedCode(id, _) => {
                vec![(Right::Enrol, format!("identity:{id}"))]
            }
        }
    }
}

impl AccessState {
    /// A change with those that go with it, in the order in which they are to be made and recorded: who is
    /// withdrawn keeps no permit and no grant, not even for when they come again, and is known by nothing any more.
    pub fn unfold(&self, change: Change) -> Vec<Change> {
        let (Change::Revoke(id) | Change::Declare(id, None)) = &change else {
            return vec![change];
        };
        let held = Mode::ALL
            .into_iter()
            .filter(|mode| self.permit(id, *mode).is_some());
        let reads = self.readers.contains_key(id);
        let ended: Vec<_> = held
            .map(|mode| Change::Permit(id.clone(), mode, None))
            .chain(reads.then(|| Change::ReaderKey(id.clone(), None)))
            .collect();
        let known = self.bindings.get(id);
        let unbound = known.map(|_| Change::Bind(id.clone(), None));
        let uninvited = self.uninvited(id);
        let uninvited = uninvited.map(|known| Change::Credentials(id.clone(), Some(known)));
        let unbound = unbound.into_iter().chain(uninvited);
        ended.into_iter().chain(unbound).chain([change]).collect()
    }
}

fn assign(role: &String) -> (Right, String) {
    (Right::Assign, format!("role:{role}"))
}
