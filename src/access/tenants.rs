//! Two organisations on one hub: what the users of one can do, and that nothing of it reaches what the other's is.
//!
//! Nothing in the state says "organisation": names of devices, users and roles begin with it, and the patterns of roles
//! do the rest. So what is tested is that patterns are enough, for every right there is.

use super::*;
use crate::crypto::SealingKey;
use crate::model::Nanos;
use std::collections::BTreeSet;
use weighbridge_verifier::IdentityKind;

const NOON: Nanos = 1_794_830_400_000_000_000;
const HUB: &str = "hub:h";
const ORGANISATIONS: [&str; 2] = ["acme", "bolt"];

fn rule(rights: &[Right], objects: &[String]) -> Rule {
    Rule {
        rights: rights.iter().copied().collect(),
        objects: objects.iter().map(|o| Pattern::new(o).unwrap()).collect(),
        windows: Vec::new(),
    }
}

/// The roles of an organisation: who runs its machines, who checks what was recorded, who administers its people. Roles
/// they do not make: a rule names its own objects, and those could be the other's.
fn roles(org: &str) -> Vec<(String, Vec<Rule>)> {
    let machines = [format!("device:{org}-*"), format!("device:{org}-*/**")];
    let people = [format!("identity:user:{org}-*")];
    let use_them = [
        Right::Live,
        Right::History,
        Right::Write,
        Right::Call,
        Right::Acknowledge,
        Right::Shelve,
    ];
    let look = [Right::Live, Right::History, Right::Evidence];
    let given = [format!("role:{org}-*"), format!("grant:device:{org}-*")];
    let listed = [
        format!("list:extranet/user:{org}-*"),
        format!("permit:*/user:{org}-*"),
    ];
    vec![
        (format!("{org}-operator"), vec![rule(&use_them, &machines)]),
        (
            format!("{org}-auditor"),
            vec![rule(&look, &machines), rule(&[Right::Evidence], &people)],
        ),
        (
            format!("{org}-admin"),
            vec![
                rule(&[Right::Enrol], &people),
                rule(&[Right::Assign], &given),
                rule(&[Right::Admit], &listed),
                rule(&[Right::Configure, Right::Erase], &machines),
            ],
        ),
    ]
}

fn site() -> AccessState {
    let mut state = AccessState::default();
    let mut subjects = vec![(HUB.to_owned(), IdentityKind::Hub, None)];
    for org in ORGANISATIONS {
        subjects.push((format!("device:{org}-press"), IdentityKind::Device, None));
        for (role, rules) in roles(org) {
            state.apply(Change::Define(role.clone(), rules)).unwrap();
            subjects.push((format!("user:{role}"), IdentityKind::User, Some(role)));
        }
    }
    let always = Permit {
        from: 0,
        until: Nanos::MAX,
    };
    for (id, kind, role) in subjects {
        let mut subject = Subject::new(kind);
        subject.roles = role.into_iter().collect();
        let side = subject.side();
        let mut changes = vec![Change::Enrol(id.clone(), subject)];
        changes.push(Change::White(side, id.clone(), true));
        let permits = Mode::ALL.map(|mode| Change::Permit(id.clone(), mode, Some(always)));
        changes.extend(permits);
        for change in changes {
            state.apply(change).unwrap();
        }
    }
    state
}

/// All that an organisation has, as it is asked for.
fn things(org: &str) -> Vec<String> {
    [
        "device:ORG-press",
        "device:ORG-press/force",
        "identity:user:ORG-operator",
        "role:ORG-operator",
        "grant:device:ORG-press",
        "list:extranet/user:ORG-operator",
        "permit:read/user:ORG-operator",
    ]
    .map(|thing| thing.replace("ORG", org))
    .to_vec()
}

fn may(state: &AccessState, user: &str, right: Right, object: &str) -> bool {
    let request = Request {
        subject: user,
        right,
        object,
        time: NOON,
    };
    // What lies on the machines' level is reached by way of the hub, the rest is on the users' own.
    match object.starts_with("device:") {
        true => decide_passage(state, &request, HUB).is_ok(),
        false => decide(state, &request).is_ok(),
    }
}

/// Tags, history, alarms, evidence, orders, users, roles, lists, grants, erasure.
#[test]
fn each_has_its_own_and_nothing_of_the_other() {
    let state = site();
    let gate = Gate::new("h", state.clone());
    let table: [(&str, &[Right], &str); 11] = [
        (
            "operator",
            &[Right::Live, Right::History],
            "device:ORG-press/force",
        ),
        ("operator", &[Right::Write], "device:ORG-press/force"),
        ("operator", &[Right::Call], "device:ORG-press"),
        (
            "operator",
            &[Right::Acknowledge, Right::Shelve],
            "device:ORG-press/force",
        ),
        (
            "auditor",
            &[Right::Live, Right::History, Right::Evidence],
            "device:ORG-press/force",
        ),
        ("auditor", &[Right::Evidence], "identity:user:ORG-operator"),
        ("admin", &[Right::Enrol], "identity:user:ORG-operator"),
        ("admin", &[Right::Assign], "role:ORG-operator"),
        ("admin", &[Right::Assign], "grant:device:ORG-press"),
        ("admin", &[Right::Admit], "list:extranet/user:ORG-operator"),
        (
            "admin",
            &[Right::Configure, Right::Erase],
            "device:ORG-press",
        ),
    ];
    for org in ORGANISATIONS {
        for (role, rights, object) in table {
            let (user, object) = (format!("user:{org}-{role}"), object.replace("ORG", org));
            for right in rights {
                assert!(
                    may(&state, &user, *right, &object),
                    "{user} {right:?} {object}"
                );
            }
        }
    }
    for (org, other) in [("acme", "bolt"), ("bolt", "acme")] {
        for role in ["operator", "auditor", "admin"] {
            let (name, user) = (format!("{org}-{role}"), format!("user:{org}-{role}"));
            for right in Right::ALL {
                for object in things(other) {
                    assert!(
                        !may(&state, &user, right, &object),
                        "{user} {right:?} {object}"
                    );
                    assert!(
                        !gate.reaches(&name, right, &object, NOON),
                        "{user} {object}"
                    );
                }
                assert!(!gate.sight(None, &name, right, NOON).is_all());
            }
        }
    }
}

/// A wider name is not another's: `acme-*` says nothing of `acme`, `acmex-press` or `bolt/acme-press`.
#[test]
fn names_that_only_look_alike_are_not_theirs() {
    let state = site();
    for object in [
        "device:acme",
        "device:acmex-press",
        "device:bolt-acme-press",
        "device:bolt-press/acme-force",
        "edge:acme-press",
        "hub:acme-press",
    ] {
        assert!(
            !may(&state, "user:acme-operator", Right::Live, object),
            "{object}"
        );
    }
}

/// Who administers one organisation gives nobody the other's roles, and has nobody of theirs changed.
#[test]
fn who_administers_one_changes_nothing_of_the_other() {
    let state = site();
    let (by, bob) = ("user:acme-admin", || "user:bolt-operator".to_owned());
    let role = |name: &str| BTreeSet::from([name.to_owned()]);
    let key = SealingKey::generate().public().compressed();
    let all = ReadGrant {
        devices: Pattern::new("device:*").unwrap(),
        from: None,
        until: None,
    };
    let theirs = ReadGrant {
        devices: Pattern::new("device:bolt-*").unwrap(),
        ..all.clone()
    };
    let mut new = Subject::new(IdentityKind::User);
    new.roles = role("bolt-operator");
    let own = || "user:acme-operator".to_owned();
    for change in [
        Change::Revoke(bob()),
        Change::Renew(bob(), Some(1)),
        Change::Assign(bob(), BTreeSet::new()),
        Change::Assign(own(), role("bolt-operator")),
        Change::Assign(own(), role("supervisor")),
        Change::Enrol("user:acme-new".into(), new),
        Change::Enrol("user:bolt-new".into(), Subject::new(IdentityKind::User)),
        Change::Black(Side::Extranet, bob(), true),
        Change::White(Side::Extranet, bob(), false),
        Change::Permit(bob(), Mode::Read, None),
        Change::Credentials(bob(), None),
        Change::ReaderKey(bob(), Some(key)),
        Change::Grant(own(), all),
        Change::Grant(own(), theirs.clone()),
        Change::EndGrant(own(), theirs.devices),
        Change::Define("bolt-operator".into(), Vec::new()),
        Change::Define("acme-operator".into(), Vec::new()),
        Change::Classify("device:bolt-press".into(), Some(Level(9))),
        Change::SealingKey(HUB.into(), key),
    ] {
        let needs = change.needs(&state);
        assert!(!needs.is_empty(), "{change:?}");
        let all = needs
            .iter()
            .all(|(right, object)| may(&state, by, *right, object));
        assert!(!all, "{change:?}");
    }
    // And of its own it does.
    for change in [
        Change::Assign(own(), role("acme-auditor")),
        Change::Black(Side::Extranet, own(), true),
        Change::Revoke(own()),
    ] {
        let needs = change.needs(&state);
        assert!(
            needs
                .iter()
                .all(|(right, object)| may(&state, by, *right, object))
        );
    }
}

/// A grant to open sealed data reaches as far as it says.
#[test]
fn a_reader_of_one_takes_nothing_of_the_other_away() {
    let mut state = site();
    let reader = || "user:acme-auditor".to_owned();
    let key = SealingKey::generate().public().compressed();
    let grant = ReadGrant {
        devices: Pattern::new("device:acme-*").unwrap(),
        from: None,
        until: None,
    };
    state.apply(Change::ReaderKey(reader(), Some(key))).unwrap();
    state.apply(Change::Grant(reader(), grant)).unwrap();
    let sealed = |object| state.sealed_for(&reader(), object, (HUB, NOON)).map(drop);
    assert_eq!(sealed("device:acme-press"), Ok(()));
    assert_eq!(sealed("device:bolt-press"), Err(Denied::NoGrant));
}
