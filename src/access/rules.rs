//! Roles: what their rules let them do, on which objects, and when.

use super::pattern::Pattern;
use super::role::{Right, Role};
use super::window::Window;
use crate::model::Nanos;
use borsh::BorshSerialize;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One rule of a role.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What.
    pub rights: BTreeSet<Right>,
    /// On what: one of these must match.
    pub objects: Vec<Pattern>,
    /// When: within one of these; at any time when there is none.
    #[serde(default)]
    pub windows: Vec<Window>,
}

/// How near the rules of some roles came to letting a request through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// No rule carries the right.
    Nothing,
    /// One does, but not on this object.
    Right,
    /// One does on this object, but not now.
    Object,
    /// One lets it through.
    Through,
}

/// The rules of every role.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, Serialize)]
pub struct Rules(BTreeMap<String, Vec<Rule>>);

impl Default for Rules {
    /// The roles that every site has.
    fn default() -> Self {
        let rule = |role: &Role| Rule {
            rights: Right::ALL
                .into_iter()
                .filter(|right| role.carries(*right))
                .collect(),
            objects: Pattern::new("**").into_iter().collect(),
            windows: Vec::new(),
        };
        let named = |role: Role| (role.name().to_owned(), vec![rule(&role)]);
        Self(Role::ALL.into_iter().map(named).collect())
    }
}

impl Rules {
    /// Whether there is a role of this name.
    pub fn has(&self, role: &str) -> bool {
        self.0.contains_key(role)
    }

    /// The rules of a role; `None` when there is no such role.
    pub fn of(&self, role: &str) -> Option<&Vec<Rule>> {
        self.0.get(role)
    }

    /// How many roles there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Every role and its rules.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Vec<Rule>)> {
        self.0.iter()
    }

    /// Gives a role other rules, or makes it; without rules it is no more.
    pub(super) fn define(&mut self, role: &str, rules: Vec<Rule>) {
        match rules.is_empty() {
            true => self.0.remove(role),
            false => self.0.insert(role.to_owned(), rules),
        };
    }

    /// How near these roles come to `right` on `object` at `time`.
    pub(super) fn reach<'a>(
        &self,
        roles: impl IntoIterator<Item = &'a String>,
        right: Right,
        object: &str,
        time: Nanos,
    ) -> Reach {
        let rules = roles.into_iter().filter_map(|role| self.0.get(role));
        let reach = |rule: &Rule| {
            if !rule.rights.contains(&right) {
                Reach::Nothing
            } else if !rule.objects.iter().any(|o| o.matches(object)) {
                Reach::Right
            } else if !rule.windows.is_empty() && !rule.windows.iter().any(|w| w.contains(time)) {
                Reach::Object
            } else {
                Reach::Through
            }
        };
        rules.flatten().map(reach).max().unwrap_or(Reach::Nothing)
    }

    /// Whether one of these roles carries `right` on anything at any time.
    pub(super) fn reach_all<'a>(
        &self,
        roles: impl IntoIterator<Item = &'a String>,
        right: Right,
    ) -> bool {
        let rules = roles.into_iter().filter_map(|role| self.0.get(role));
        let all = |rule: &Rule| {
            rule.windows.is_empty()
                && rule.rights.contains(&right)
                && rule.objects.iter().any(Pattern::is_all)
        };
        rules.flatten().any(all)
    }
}
