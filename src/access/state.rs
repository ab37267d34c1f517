//! What decisions rest on: subjects, lists, roles, levels, permits. Changed only by [`Change`]s, each
//! of which is a record, so that every hub has the same.

use super::binding::Binding;
use super::change::{Change, ChangeError};
use super::known_by::KnownBy;
use super::level::{Level, Mode};
use super::lists::{Lists, Side};
use super::permit::Permit;
use super::reader::{Reader, escrow_name};
use super::rules::Rules;
use crate::model::Nanos;
use borsh::BorshSerialize;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use weighbridge_verifier::{IdentityKind, PublicKey};

/// Entries of each kind that a site can have; far more than any factory, far less than memory.
pub(super) const MAX_ENTRIES: usize = 100_000;
/// Longest name of a subject, an object or a role.
pub(super) const MAX_NAME: usize = 128;
/// Longest address of a device as a configuration has it.
const MAX_DIALLED: usize = 4_096;

/// Somebody or something that acts.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// What it is.
    pub kind: IdentityKind,
    /// How trusted it is.
    pub level: Level,
    /// Its roles; devices and hubs need none.
    pub roles: BTreeSet<String>,
    /// From when on it is nobody; `None` for never.
    pub expires: Option<Nanos>,
    /// Whether it was withdrawn.
    pub revoked: bool,
    /// The roles that the hub's configuration gave it last; `None` when the configuration does not name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<BTreeSet<String>>,
}

impl Subject {
    /// One that was just enrolled: of the level of its kind, without roles.
    pub fn new(kind: IdentityKind) -> Self {
        let level = match kind {
            IdentityKind::User => Level::LOW,
            _ => Level::HIGH,
        };
        Self {
            kind,
            level,
            roles: BTreeSet::new(),
            expires: None,
            revoked: false,
            declared: None,
        }
    }

    /// The side that it comes from.
    pub fn side(&self) -> Side {
        match self.kind {
            IdentityKind::User => Side::Extranet,
            _ => Side::Intranet,
        }
    }
}

/// The state.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, Serialize)]
pub struct AccessState {
    pub(super) subjects: BTreeMap<String, Subject>,
    pub(super) levels: BTreeMap<String, Level>,
    pub(super) rules: Rules,
    pub(super) intranet: Lists,
    pub(super) extranet: Lists,
    pub(super) permits: BTreeMap<(String, Mode), Permit>,
    pub(super) bindings: BTreeMap<String, Binding>,
    pub(super) readers: BTreeMap<String, Reader>,
    pub(super) escrow: BTreeMap<String, PublicKey>,
    pub(super) credentials: BTreeMap<String, KnownBy>,
    pub(super) sealing: BTreeMap<String, PublicKey>,
    /// The step of the one-time code that each used last, as far as it is on record.
    pub(super) codes: BTreeMap<String, u64>,
    /// Names of entries that are on record and cannot be read here yet.
    #[borsh(skip)]
    #[serde(skip)]
    pub(super) unread: BTreeSet<String>,
}

impl AccessState {
    /// Everybody who was ever enrolled, by id.
    pub fn subjects(&self) -> &BTreeMap<String, Subject> {
        &self.subjects
    }

    /// The roles.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The lists of a side.
    pub fn lists(&self, side: Side) -> &Lists {
        match side {
            Side::Intranet => &self.intranet,
            Side::Extranet => &self.extranet,
        }
    }

    /// The permit of somebody.
    pub fn permit(&self, subject: &str, mode: Mode) -> Option<&Permit> {
        self.permits.get(&(subject.to_owned(), mode))
    }

    /// What each device is known by.
    pub fn bindings(&self) -> &BTreeMap<String, Binding> {
        &self.bindings
    }

    /// The sealing key of a hub, as `hub:` and its id, that is on record; none for one that was never replaced.
    pub fn sealing(&self, hub: &str) -> Option<&PublicKey> {
        self.sealing.get(hub)
    }

    /// The step of the one-time code that `id` used last, at whichever hub of the site; none where that is not recorded.
    pub fn used_code(&self, id: &str) -> Option<u64> {
        self.codes.get(id).copied()
    }

    /// The level of an object: its own, or that of the device, edge node or hub it belongs to, or low.
    pub fn level(&self, object: &str) -> Level {
        let own = object.split('/').next().unwrap_or(object);
        let said = self.levels.get(object).or_else(|| self.levels.get(own));
        said.copied().unwrap_or_else(|| match own.split_once(':') {
            Some(("device" | "edge" | "hub", _)) => Level::HIGH,
            _ => Level::LOW,
        })
    }

    /// Makes a change. After an error the state is as it was.
    pub fn apply(&mut self, change: Change) -> Result<(), ChangeError> {
        match change {
            Change::Enrol(id, subject) => {
                let known = self.subjects.get(&id);
                if known.is_some_and(|known| !known.revoked) {
                    return Err(ChangeError::Taken(id));
                }
                self.check_roles(&subject.roles)?;
                enter(&mut self.subjects, named(id)?, subject)
            }
            Change::Revoke(id) => {
                self.subject(&id)?.revoked = true;
                for mode in Mode::ALL {
                    self.permits.remove(&(id.clone(), mode));
                }
                self.bindings.remove(&id);
                self.readers.remove(&id);
                if let Some(known) = self.credentials.get_mut(&id) {
                    known.invitation = None;
                }
                Ok(())
            }
            Change::Renew(id, expires) => {
                self.subject(&id)?.expires = expires;
                Ok(())
            }
            Change::Assign(id, roles) => {
                self.check_roles(&roles)?;
                self.subject(&id)?.roles = roles;
                Ok(())
            }
            Change::Declare(id, Some(roles)) => {
                self.check_roles(&roles)?;
                let subject = self.subject(&id)?;
                subject.declared = Some(roles.clone());
                subject.roles = roles;
                Ok(())
            }
            Change::Declare(id, None) => {
                self.subject(&id)?.declared = None;
                self.apply(Change::Revoke(id))
            }
            Change::Define(role, rules) => {
                if rules.is_empty() {
                    let has = |(_, s): &(&String, &Subject)| !s.revoked && s.roles.contains(&role);
                    if let Some((id, _)) = self.subjects.iter().find(has) {
                        return Err(ChangeError::InUse(role, id.clone()));
                    }
                } else if !self.rules.has(&role) && self.rules.count() >= MAX_ENTRIES {
                    return Err(ChangeError::Full);
                }
                self.rules.define(&named(role)?, rules);
                Ok(())
            }
            Change::Classify(object, level) => match level {
                Some(level) => enter(&mut self.levels, named(object)?, level),
                None => {
                    self.levels.remove(&object);
                    Ok(())
                }
            },
            Change::White(side, id, on) => list(&mut self.lists_mut(side).white, id, on),
            Change::Black(side, id, on) => list(&mut self.lists_mut(side).black, id, on),
            Change::Permit(id, mode, permit) => {
                self.subject(&id)?;
                match permit {
                    Some(permit) if permit.until <= permit.from => Err(ChangeError::Permit),
                    Some(permit) => enter(&mut self.permits, (id, mode), permit),
                    None => {
                        self.permits.remove(&(id, mode));
                        Ok(())
                    }
                }
            }
            Change::Bind(id, binding) => {
                self.subject(&id)?;
                match binding {
                    Some(binding) if binding.dialled.len() > MAX_DIALLED => {
                        Err(ChangeError::Name(binding.dialled))
                    }
                    Some(binding) => enter(&mut self.bindings, id, binding),
                    None => {
                        self.bindings.remove(&id);
                        Ok(())
                    }
                }
            }
            Change::ReaderKey(id, key) => self.reader_key(id, key),
            Change::Grant(id, grant) => self.grant(&id, grant),
            Change::EndGrant(id, devices) => self.end_grant(&id, &devices),
            Change::Credentials(id, known) => self.know_by(named(id)?, known),
            Change::Escrow(key, on) => {
                match on {
                    true => self.escrow.insert(escrow_name(&key), key),
                    false => self.escrow.remove(&escrow_name(&key)),
                };
                Ok(())
            }
            Change::SealingKey(id, key) => {
                self.subject(&id)?;
                enter(&mut self.sealing, id, key)
            }
            Change::UsedCode(id, step) => {
                self.subject(&id)?;
                if self.used_code(&id).is_some_and(|last| last >= step) {
                    return Err(ChangeError::UsedCode);
                }
                enter(&mut self.codes, id, step)
            }
        }
    }

    pub(super) fn subject(&mut self, id: &str) -> Result<&mut Subject, ChangeError> {
        let known = self.subjects.get_mut(id).filter(|s| !s.revoked);
        known.ok_or_else(|| ChangeError::Unknown(id.to_owned()))
    }

    fn check_roles(&self, roles: &BTreeSet<String>) -> Result<(), ChangeError> {
        match roles.iter().find(|role| !self.rules.has(role)) {
            Some(role) => Err(ChangeError::NoRole(role.clone())),
            None => Ok(()),
        }
    }

    fn lists_mut(&mut self, side: Side) -> &mut Lists {
        match side {
            Side::Intranet => &mut self.intranet,
            Side::Extranet => &mut self.extranet,
        }
    }
}

fn named(name: String) -> Result<String, ChangeError> {
    match name.is_empty() || name.len() > MAX_NAME {
        true => Err(ChangeError::Name(name)),
        false => Ok(name),
    }
}

fn enter<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: V) -> Result<(), ChangeError> {
    if map.len() >= MAX_ENTRIES && !map.contains_key(&key) {
        return Err(ChangeError::Full);
    }
    map.insert(key, value);
    Ok(())
}

fn list(list: &mut BTreeSet<String>, id: String, on: bool) -> Result<(), ChangeError> {
    if !on {
        list.remove(&id);
        return Ok(());
    }
    if list.len() >= MAX_ENTRIES && !list.contains(&id) {
        return Err(ChangeError::Full);
    }
    list.insert(named(id)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Right;

    fn with_ann() -> AccessState {
        let mut state = AccessState::default();
        let ann = Subject::new(IdentityKind::User);
        state.apply(Change::Enrol("user:ann".into(), ann)).unwrap();
        state
    }

    #[test]
    fn what_cannot_be_changes_nothing() {
        let ann = || "user:ann".to_owned();
        let roles = |name: &str| BTreeSet::from([name.to_owned()]);
        let permit = Permit { from: 5, until: 5 };
        let cases = [
            Change::Enrol(ann(), Subject::new(IdentityKind::User)),
            Change::Enrol(String::new(), Subject::new(IdentityKind::User)),
            Change::Enrol("x".repeat(129), Subject::new(IdentityKind::User)),
            Change::Revoke("user:bob".into()),
            Change::Renew("user:bob".into(), None),
            Change::Assign(ann(), roles("king")),
            Change::Assign("user:bob".into(), roles("operator")),
            Change::Permit(ann(), Mode::Read, Some(permit)),
            Change::Permit("user:bob".into(), Mode::Read, None),
            Change::Bind("device:press-1".into(), None),
            Change::White(Side::Extranet, String::new(), true),
        ];
        let mut state = with_ann();
        for change in cases {
            let before = state.clone();
            assert!(state.apply(change.clone()).is_err(), "{change:?}");
            assert_eq!(state, before, "{change:?}");
        }
    }

    #[test]
    fn who_was_withdrawn_has_no_permit_and_can_come_again() {
        let mut state = with_ann();
        let permit = Permit { from: 0, until: 9 };
        let ann = || "user:ann".to_owned();
        let give = Change::Permit(ann(), Mode::Read, Some(permit));
        state.apply(give.clone()).unwrap();
        state.apply(Change::Revoke(ann())).unwrap();
        assert_eq!(state.permit("user:ann", Mode::Read), None);
        assert_eq!(state.apply(give), Err(ChangeError::Unknown(ann())));
        let again = Change::Enrol(ann(), Subject::new(IdentityKind::User));
        state.apply(again).unwrap();
    }

    #[test]
    fn a_role_goes_only_when_nobody_has_it() {
        let mut state = with_ann();
        let roles = BTreeSet::from(["operator".to_owned()]);
        let ann = || "user:ann".to_owned();
        state.apply(Change::Assign(ann(), roles)).unwrap();
        let gone = || Change::Define("operator".into(), Vec::new());
        let refused = Err(ChangeError::InUse("operator".into(), ann()));
        assert_eq!(state.apply(gone()), refused);
        state.apply(Change::Revoke(ann())).unwrap();
        state.apply(gone()).unwrap();
        assert!(!state.rules().has("operator"));
    }

    #[test]
    fn who_gives_a_role_needs_the_right_to_that_one() {
        let mut state = with_ann();
        let roles = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        let ann = || "user:ann".to_owned();
        let first = Change::Assign(ann(), roles(&["operator", "auditor"]));
        state.apply(first).unwrap();
        let change = Change::Assign(ann(), roles(&["operator", "supervisor"]));
        let wanted = ["role:auditor", "role:supervisor"].map(|r| (Right::Assign, r.to_owned()));
        assert_eq!(change.needs(&state), wanted);
        let mut bob = Subject::new(IdentityKind::User);
        bob.roles = roles(&["observer"]);
        let change = Change::Enrol("user:bob".into(), bob);
        let wanted = [
            (Right::Enrol, "identity:user:bob".to_owned()),
            (Right::Assign, "role:observer".to_owned()),
        ];
        assert_eq!(change.needs(&state), wanted);
    }

    #[test]
    fn things_are_as_high_as_what_they_belong_to() {
        let mut state = AccessState::default();
        assert_eq!(state.level("device:press-1/temp"), Level::HIGH);
        assert_eq!(state.level("request:user:ann"), Level::LOW);
        let lab = Change::Classify("device:lab".into(), Some(Level(7)));
        state.apply(lab).unwrap();
        assert_eq!(state.level("device:lab/temp"), Level(7));
        let one = Change::Classify("device:lab/temp".into(), Some(Level(3)));
        state.apply(one).unwrap();
        assert_eq!(state.level("device:lab/temp"), Level(3));
        assert_eq!(state.level("device:lab/force"), Level(7));
    }
}
