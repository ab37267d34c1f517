//! The state as entries: one a subject, a role, a level, a place on a list, a permit, a binding. A change makes one
//! entry anew; the newest of each is recorded, and from all of them the state is made up again.
//!
//! | name | what it says |
//! | --- | --- |
//! | `subject/user:ann` | kind, level, roles, expiry, whether withdrawn |
//! | `role/presses` | the role's rules; none: no such role |
//! | `level/device:lab` | the object's level |
//! | `list/extranet/user:ann` | whether on the whitelist, and on the blacklist |
//! | `permit/control/user:ann` | from when until when |
//! | `binding/device:press-1` | address, MAC address and key that it is known by |
//! | `reader/user:ann` | the public key that keys are wrapped to, and the spans that were granted |
//! | `credentials/user:ann` | commitments to what they log in by, and the open invitation |
//! | `escrow/escrow:5f3c…` | a public key that every key is wrapped to as well |
//! | `sealing/hub:hub-1` | the public key that the hub's own keys are wrapped to, once it was replaced |
//! | `code/user:ann` | the step of the one-time code used last, in a site of several hubs |

use super::binding::Binding;
use super::change::Change;
use super::known_by::KnownBy;
use super::level::{Level, Mode};
use super::lists::Side;
use super::permit::Permit;
use super::reader::{Reader, escrow_name};
use super::rules::Rule;
use super::state::{AccessState, Subject};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use weighbridge_verifier::PublicKey;

/// What the names of entries about readers begin with; the rest is to whom keys are wrapped.
pub const READER_ENTRY: &str = "reader/";
/// What the names of entries about keys of escrow begin with; the rest is to whom keys are wrapped.
pub const ESCROW_ENTRY: &str = "escrow/";

/// A part of the state under its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// What it says; null: nothing any more.
    pub says: Json,
}

/// Why an entry cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// It is named as none is.
    #[error("there is no entry of the name {0:?}")]
    Name(String),
    /// It says something else than it should.
    #[error("{name:?} cannot be read: {reason}")]
    Form {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
}

/// Somebody's place on the lists of a side.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    white: bool,
    black: bool,
}

impl AccessState {
    /// The entry that `change` made anew; to be asked after it was made.
    pub fn entry(&self, change: &Change) -> Entry {
        let name = match change {
            Change::Enrol(id, _)
            | Change::Revoke(id)
            | Change::Renew(id, _)
            | Change::Declare(id, _)
            | Change::Assign(id, _) => format!("subject/{id}"),
            Change::Define(role, _) => format!("role/{role}"),
            Change::Classify(object, _) => format!("level/{object}"),
            Change::White(side, id, _) | Change::Black(side, id, _) => {
                format!("list/{}/{id}", side.name())
            }
            Change::Permit(id, mode, _) => format!("permit/{}/{id}", mode.name()),
            Change::Bind(id, _) => format!("binding/{id}"),
            Change::ReaderKey(id, _) | Change::Grant(id, _) | Change::EndGrant(id, _) => {
                format!("{READER_ENTRY}{id}")
            }
            Change::Credentials(id, _) => format!("credentials/{id}"),
            Change::Escrow(key, _) => format!("{ESCROW_ENTRY}{}", escrow_name(key)),
            Change::SealingKey(id, _) => format!("sealing/{id}"),
            Change::UsedCode(id, _) => format!("code/{id}"),
        };
        self.entry_named(&name)
    }

    /// What the state says now under the name of an entry, which it says nothing under when there is none.
    pub fn entry_named(&self, name: &str) -> Entry {
        let (kind, rest) = name.split_once('/').unwrap_or((name, ""));
        let says = match kind {
            "subject" => said(self.subjects.get(rest)),
            "role" => said(self.rules.of(rest)),
            "level" => said(self.levels.get(rest)),
            "list" => {
                let side = rest
                    .split_once('/')
                    .and_then(|(s, id)| Some((side(s)?, id)));
                said(side.and_then(|(side, id)| self.place(side, id)).as_ref())
            }
            "permit" => {
                let mode = rest
                    .split_once('/')
                    .and_then(|(m, id)| Some((mode(m)?, id)));
                said(mode.and_then(|(mode, id)| self.permit(id, mode)))
            }
            "binding" => said(self.bindings.get(rest)),
            "reader" => said(self.readers.get(rest)),
            "credentials" => said(self.credentials.get(rest)),
            "escrow" => said(self.escrow.get(rest)),
            "sealing" => said(self.sealing.get(rest)),
            "code" => said(self.codes.get(rest)),
            _ => Json::Null,
        };
        Entry {
            name: name.to_owned(),
            says,
        }
    }

    fn place(&self, side: Side, id: &str) -> Option<Place> {
        let lists = self.lists(side);
        let (white, black) = (lists.white.contains(id), lists.black.contains(id));
        (white || black).then_some(Place { white, black })
    }

    /// Takes in a recorded entry; what the state had under its name before counts no more.
    pub fn load(&mut self, entry: &Entry) -> Result<(), EntryError> {
        let unknown = || EntryError::Name(entry.name.clone());
        let (kind, rest) = entry.name.split_once('/').ok_or_else(unknown)?;
        match kind {
            "subject" => put(
                &mut self.subjects,
                rest.to_owned(),
                entry.read::<Subject>()?,
            ),
            "role" => {
                let rules = entry.read::<Vec<Rule>>()?;
                self.rules.define(rest, rules.unwrap_or_default());
            }
            "level" => put(&mut self.levels, rest.to_owned(), entry.read::<Level>()?),
            "binding" => put(
                &mut self.bindings,
                rest.to_owned(),
                entry.read::<Binding>()?,
            ),
            "list" => {
                let (name, id) = rest.split_once('/').ok_or_else(unknown)?;
                let lists = match side(name).ok_or_else(unknown)? {
                    Side::Intranet => &mut self.intranet,
                    Side::Extranet => &mut self.extranet,
                };
                let place = entry.read::<Place>()?;
                let (white, black) = place.map_or((false, false), |p| (p.white, p.black));
                for (list, on) in [(&mut lists.white, white), (&mut lists.black, black)] {
                    match on {
                        true => list.insert(id.to_owned()),
                        false => list.remove(id),
                    };
                }
            }
            "permit" => {
                let (name, id) = rest.split_once('/').ok_or_else(unknown)?;
                let key = (id.to_owned(), mode(name).ok_or_else(unknown)?);
                put(&mut self.permits, key, entry.read::<Permit>()?);
            }
            "reader" => put(&mut self.readers, rest.to_owned(), entry.read::<Reader>()?),
            "credentials" => {
                let known = entry.read::<KnownBy>()?;
                put(&mut self.credentials, rest.to_owned(), known);
            }
            "sealing" => put(
                &mut self.sealing,
                rest.to_owned(),
                entry.read::<PublicKey>()?,
            ),
            "code" => put(&mut self.codes, rest.to_owned(), entry.read::<u64>()?),
            "escrow" => put(
                &mut self.escrow,
                rest.to_owned(),
                entry.read::<PublicKey>()?,
            ),
            _ => return Err(unknown()),
        }
        self.unread.remove(&entry.name);
        Ok(())
    }
}

impl Entry {
    fn read<T: DeserializeOwned>(&self) -> Result<Option<T>, EntryError> {
        serde_json::from_value(self.says.clone()).map_err(|error| EntryError::Form {
            name: self.name.clone(),
            reason: error.to_string(),
        })
    }
}

fn side(name: &str) -> Option<Side> {
    let sides = [Side::Intranet, Side::Extranet];
    sides.into_iter().find(|side| side.name() == name)
}

fn mode(name: &str) -> Option<Mode> {
    Mode::ALL.into_iter().find(|mode| mode.name() == name)
}

fn put<K: Ord, V>(map: &mut std::collections::BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

fn said<T: Serialize>(value: Option<&T>) -> Json {
    match serde_json::to_value(value) {
        Ok(json) => json,
        Err(error) => unreachable!("what is said of access has a form in JSON: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Credentials, Invitation, Pattern, ReadGrant, Right, Window};
    use crate::crypto::SealingKey;
    use std::collections::{BTreeMap, BTreeSet};
    use weighbridge_verifier::{Hash, IdentityKind};

    fn binding(key: Option<Hash>) -> Binding {
        Binding {
            dialled: "plc:502".to_owned(),
            address: ([192, 0, 2, 7], 502).into(),
            mac: key.map(|_| crate::model::Mac([2; 6])),
            key,
        }
    }

    fn known(invitation: Option<Invitation>) -> KnownBy {
        let mut ann = Credentials::new("ann").unwrap();
        ann.add_key(Hash([5; 32])).unwrap();
        KnownBy::new(&ann, [3; 32], invitation)
    }

    /// One change of each kind, and what undoes it.
    fn changes() -> Vec<Change> {
        let ann = || "user:ann".to_owned();
        let rule = Rule {
            rights: BTreeSet::from([Right::Write, Right::Live]),
            objects: vec![Pattern::new("device:press-*/**").unwrap()],
            windows: vec![Window::new([true; 7], 360, 1_320, -60).unwrap()],
        };
        let permit = Permit { from: 1, until: 2 };
        let key = SealingKey::generate().public().compressed();
        let grant = ReadGrant {
            devices: Pattern::new("device:press-*").unwrap(),
            from: Some(7),
            until: None,
        };
        let pattern = grant.devices.clone();
        vec![
            Change::Enrol(ann(), Subject::new(IdentityKind::User)),
            Change::Define("presses".into(), vec![rule]),
            Change::Assign(ann(), BTreeSet::from(["presses".to_owned()])),
            Change::Renew(ann(), Some(77)),
            Change::Declare(ann(), Some(BTreeSet::from(["observer".to_owned()]))),
            Change::Classify("device:lab/x".into(), Some(Level(5))),
            Change::White(Side::Extranet, ann(), true),
            Change::Black(Side::Extranet, ann(), true),
            Change::Permit(ann(), Mode::Control, Some(permit)),
            Change::Permit(ann(), Mode::Control, None),
            Change::Permit(ann(), Mode::Read, Some(permit)),
            Change::Bind(ann(), Some(binding(None))),
            Change::Bind(ann(), None),
            Change::Bind(ann(), Some(binding(Some(Hash([7; 32]))))),
            Change::ReaderKey(ann(), Some(key)),
            Change::Grant(ann(), grant.clone()),
            Change::EndGrant(ann(), pattern),
            Change::Grant(ann(), grant),
            Change::Credentials(ann(), Some(known(None))),
            Change::Credentials(ann(), Some(known(Some(Invitation::new("s", 9, true))))),
            Change::Escrow(key, true),
            Change::Escrow(key, false),
            Change::UsedCode(ann(), 59_000_001),
            Change::Black(Side::Extranet, ann(), false),
            Change::White(Side::Extranet, ann(), false),
            Change::Classify("device:lab/x".into(), None),
            Change::Assign(ann(), BTreeSet::new()),
            Change::Define("presses".into(), Vec::new()),
            Change::Define("observer".into(), Vec::new()),
            Change::Declare(ann(), None),
            Change::Enrol(ann(), Subject::new(IdentityKind::User)),
            Change::Revoke(ann()),
            Change::Credentials(ann(), None),
        ]
    }

    #[test]
    fn the_newest_entries_make_up_the_state_after_every_change() {
        let mut state = AccessState::default();
        let mut newest = BTreeMap::new();
        for change in changes() {
            for change in state.unfold(change) {
                state.apply(change.clone()).unwrap();
                let entry = state.entry(&change);
                // As it comes back from a record.
                let says = serde_json::from_str(&entry.says.to_string()).unwrap();
                newest.insert(entry.name, says);
            }
            let mut again = AccessState::default();
            for (name, says) in newest.clone() {
                again.load(&Entry { name, says }).unwrap();
            }
            assert_eq!(again, state);
        }
    }

    #[test]
    fn what_is_no_entry_is_said() {
        let mut state = AccessState::default();
        for name in [
            "subject",
            "king/ann",
            "list/moon/user:ann",
            "permit/fly/user:ann",
        ] {
            let entry = Entry {
                name: name.into(),
                says: Json::Null,
            };
            assert_eq!(state.load(&entry), Err(EntryError::Name(name.into())));
        }
        let entry = Entry {
            name: "subject/user:ann".into(),
            says: serde_json::json!({"level": "high"}),
        };
        assert!(matches!(state.load(&entry), Err(EntryError::Form { .. })));
        assert_eq!(state, AccessState::default());
    }
}
