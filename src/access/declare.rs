//! What a hub's configuration says of who is there, brought into force.

use super::change::Change;
use super::state::{AccessState, Subject};
use std::collections::{BTreeMap, BTreeSet};
use weighbridge_verifier::IdentityKind;

/// Whom a configuration names, by id, with kind and roles.
pub type Declared = BTreeMap<String, (IdentityKind, BTreeSet<String>)>;

/// The changes after which `declared` is in force for subjects of `kinds`, and those it named before and
/// names no more are withdrawn.
///
/// What was done by command since then stays: whoever was withdrawn, taken off a list or given other
/// roles is not let in or given them back by a restart, but by a changed configuration at most.
pub fn reconcile(state: &AccessState, kinds: &[IdentityKind], declared: &Declared) -> Vec<Change> {
    let mut changes = Vec::new();
    for (id, (kind, roles)) in declared {
        match state.subjects.get(id) {
            Some(known) if known.declared.as_ref() == Some(roles) => {}
            Some(known) if !known.revoked => {
                changes.push(Change::Declare(id.clone(), Some(roles.clone())));
            }
            // Withdrawn by command: the configuration is not asked.
            Some(known) if known.declared.is_some() => {}
            _ => {
                let mut subject = Subject::new(*kind);
                subject.roles.clone_from(roles);
                subject.declared = Some(roles.clone());
                let side = subject.side();
                changes.push(Change::Enrol(id.clone(), subject));
                if !state.lists(side).white.contains(id) {
                    changes.push(Change::White(side, id.clone(), true));
                }
            }
        }
    }
    for (id, known) in &state.subjects {
        let named_before = known.declared.is_some() && kinds.contains(&known.kind);
        if named_before && !known.revoked && !declared.contains_key(id) {
            changes.push(Change::Declare(id.clone(), None));
            changes.push(Change::White(known.side(), id.clone(), false));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Side;

    fn declared(users: &[(&str, &str)]) -> Declared {
        let one = |(user, role): &(&str, &str)| {
            let roles = BTreeSet::from([(*role).to_owned()]);
            (format!("user:{user}"), (IdentityKind::User, roles))
        };
        users.iter().map(one).collect()
    }

    fn bring(state: &mut AccessState, users: &[(&str, &str)]) {
        for change in reconcile(state, &[IdentityKind::User], &declared(users)) {
            state.apply(change).unwrap();
        }
        let again = reconcile(state, &[IdentityKind::User], &declared(users));
        assert_eq!(again, [], "once is enough");
    }

    fn roles(state: &AccessState, user: &str) -> Vec<String> {
        state.subjects[user].roles.iter().cloned().collect()
    }

    #[test]
    fn what_is_declared_comes_changes_and_goes() {
        let mut state = AccessState::default();
        bring(&mut state, &[("ann", "operator"), ("bob", "auditor")]);
        assert!(state.lists(Side::Extranet).white.contains("user:ann"));
        bring(&mut state, &[("ann", "engineer")]);
        assert_eq!(roles(&state, "user:ann"), ["engineer"]);
        assert!(state.subjects["user:bob"].revoked);
        assert!(!state.lists(Side::Extranet).white.contains("user:bob"));
        bring(&mut state, &[("ann", "engineer"), ("bob", "observer")]);
        assert!(!state.subjects["user:bob"].revoked);
        assert_eq!(roles(&state, "user:bob"), ["observer"]);
    }

    #[test]
    fn a_restart_undoes_no_command() {
        let mut state = AccessState::default();
        let users = [
            ("ann", "operator"),
            ("bob", "operator"),
            ("cyd", "operator"),
        ];
        bring(&mut state, &users);
        let to = |name: &str| BTreeSet::from([name.to_owned()]);
        for change in [
            Change::Revoke("user:ann".into()),
            Change::Assign("user:bob".into(), to("auditor")),
            Change::White(Side::Extranet, "user:cyd".into(), false),
        ] {
            state.apply(change).unwrap();
        }
        let before = state.clone();
        bring(&mut state, &users);
        assert_eq!(state, before);
        // Whoever was let in by command is nobody of the configuration's.
        let zoe = Change::Enrol("user:zoe".into(), Subject::new(IdentityKind::User));
        state.apply(zoe).unwrap();
        bring(&mut state, &[("bob", "operator"), ("cyd", "operator")]);
        assert!(!state.subjects["user:zoe"].revoked);
        // Ann is named no more, and may be named again one day: still it took a command to put her out.
        assert!(state.subjects["user:ann"].revoked);
    }
}
