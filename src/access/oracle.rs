//! The decision, once more and otherwise: over flat lists of facts, by brute force, with a calendar.
//! Random sites and requests must get the same answer from both.

use super::*;
use crate::model::Nanos;
use chrono::{DateTime, Datelike, Timelike};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::collections::BTreeSet;
use weighbridge_verifier::IdentityKind;

const SUBJECTS: [&str; 6] = [
    "user:ann",
    "user:bob",
    "device:press-1",
    "device:press-12",
    "edge:pi",
    "hub:h",
];
const OBJECTS: [&str; 8] = [
    "device:press-1",
    "device:press-1/force",
    "device:press-12/temp/inner",
    "device:robot/axis-1",
    "hub:h",
    "role:operator",
    "identity:user:ann",
    "job:7/part",
];
const PATTERNS: [&str; 8] = [
    "**",
    "device:press-1",
    "device:press-*",
    "device:press-*/**",
    "device:*/*",
    "**/t*p/**",
    "*:*",
    "role:operator",
];
const ROLES: [&str; 3] = ["r1", "r2", "r3"];
const HOUR: Nanos = 3_600_000_000_000;
/// A Sunday, 2026-11-15T00:00:00Z.
const SUNDAY: Nanos = 1_794_700_800_000_000_000;

/// Days, minutes from and to, and the offset from UTC in minutes.
type Hours = ([bool; 7], u16, u16, i16);

#[derive(Clone, Debug)]
struct FlatRule {
    role: usize,
    rights: Vec<Right>,
    patterns: Vec<usize>,
    windows: Vec<Hours>,
}

#[derive(Clone, Debug)]
struct FlatSubject {
    enrolled: bool,
    level: u8,
    roles: Vec<usize>,
    expires: Option<Nanos>,
    revoked: bool,
    white: bool,
    black: bool,
    /// Store, read, control.
    permits: [Option<(Nanos, Nanos)>; 3],
}

#[derive(Clone, Debug)]
struct Site {
    subjects: Vec<FlatSubject>,
    rules: Vec<FlatRule>,
    levels: Vec<(usize, u8)>,
}

fn kind(id: &str) -> IdentityKind {
    match id.split(':').next().unwrap() {
        "user" => IdentityKind::User,
        "device" => IdentityKind::Device,
        "edge" => IdentityKind::Edge,
        _ => IdentityKind::Hub,
    }
}

impl Site {
    fn state(&self) -> AccessState {
        let mut state = AccessState::default();
        for (role, name) in ROLES.iter().enumerate() {
            let of_role = self.rules.iter().filter(|rule| rule.role == role);
            let rules: Vec<_> = of_role
                .map(|rule| Rule {
                    rights: rule.rights.iter().copied().collect(),
                    objects: rule
                        .patterns
                        .iter()
                        .map(|p| Pattern::new(PATTERNS[*p]).unwrap())
                        .collect(),
                    windows: rule
                        .windows
                        .iter()
                        .map(|w| Window::new(w.0, w.1, w.2, w.3).unwrap())
                        .collect(),
                })
                .collect();
            // A role without rules would be none; give it one that reaches nothing.
            let nothing = Rule {
                rights: BTreeSet::new(),
                objects: Vec::new(),
                windows: Vec::new(),
            };
            let rules = if rules.is_empty() {
                vec![nothing]
            } else {
                rules
            };
            state.apply(Change::Define((*name).into(), rules)).unwrap();
        }
        for (object, level) in &self.levels {
            let change = Change::Classify(OBJECTS[*object].into(), Some(Level(*level)));
            state.apply(change).unwrap();
        }
        for (flat, id) in self.subjects.iter().zip(SUBJECTS) {
            let mut subject = Subject::new(kind(id));
            let side = subject.side();
            for (on, change) in [
                (flat.white, Change::White(side, id.into(), true)),
                (flat.black, Change::Black(side, id.into(), true)),
            ] {
                if on {
                    state.apply(change).unwrap();
                }
            }
            if !flat.enrolled {
                continue;
            }
            subject.level = Level(flat.level);
            subject.roles = flat.roles.iter().map(|r| ROLES[*r].to_owned()).collect();
            subject.expires = flat.expires;
            state.apply(Change::Enrol(id.into(), subject)).unwrap();
            for (mode, permit) in Mode::ALL.into_iter().zip(flat.permits) {
                let permit = permit.map(|(from, until)| Permit { from, until });
                state
                    .apply(Change::Permit(id.into(), mode, permit))
                    .unwrap();
            }
            if flat.revoked {
                state.apply(Change::Revoke(id.into())).unwrap();
            }
        }
        state
    }

    /// Who, which half of a passage it is (`None`: neither), what, on what, when.
    fn allows(&self, id: &str, half: bool, right: Right, object: &str, time: Nanos) -> bool {
        let Some(at) = SUBJECTS.iter().position(|s| *s == id) else {
            return false;
        };
        let s = &self.subjects[at];
        let in_force = s.enrolled && !s.revoked && s.expires.is_none_or(|at| at > time);
        if !in_force || !s.white || s.black {
            return false;
        }
        let letter = match right {
            Right::Store => 'w',
            Right::Live | Right::History | Right::Evidence => 'r',
            _ => 'c',
        };
        // On their own level everybody may everything, and a half is on one's own level.
        let wanted = self.level_of(object);
        let by_level = half
            || match s.level.cmp(&wanted) {
                std::cmp::Ordering::Less => "",
                std::cmp::Ordering::Equal => "wrc",
                std::cmp::Ordering::Greater => "rc",
            }
            .contains(letter);
        if !by_level {
            return false;
        }
        if id.starts_with("hub:") {
            return true;
        }
        let own = object == id || object.starts_with(&format!("{id}/"));
        let exempt = id.starts_with("device:") && own && right == Right::Store;
        let by_role = self.rules.iter().any(|rule| {
            s.roles.contains(&rule.role)
                && rule.rights.contains(&right)
                && rule.patterns.iter().any(|p| glob(PATTERNS[*p], object))
                && (rule.windows.is_empty() || rule.windows.iter().any(|w| within(*w, time)))
        });
        let permit = s.permits["wrc".find(letter).unwrap()];
        (exempt || by_role) && permit.is_some_and(|(from, until)| from <= time && time < until)
    }

    fn level_of(&self, object: &str) -> u8 {
        let said = |name: &str| {
            let found = self.levels.iter().rev().find(|(o, _)| OBJECTS[*o] == name);
            found.map(|(_, level)| *level)
        };
        let owner = &object[..object.find('/').unwrap_or(object.len())];
        let high = ["device:", "edge:", "hub:"]
            .iter()
            .any(|kind| owner.starts_with(kind));
        let usual = if high { 2 } else { 1 };
        said(object).or_else(|| said(owner)).unwrap_or(usual)
    }
}

/// Tries every way.
fn glob(pattern: &str, object: &str) -> bool {
    fn parts(pattern: &[&str], object: &[&str]) -> bool {
        match (pattern, object) {
            ([], []) => true,
            (["**", rest @ ..], _) => (0..=object.len()).any(|n| parts(rest, &object[n..])),
            ([p, p_rest @ ..], [o, o_rest @ ..]) => {
                letters(p.as_bytes(), o.as_bytes()) && parts(p_rest, o_rest)
            }
            _ => false,
        }
    }
    fn letters(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|n| letters(rest, &text[n..])),
            ([p, p_rest @ ..], [t, t_rest @ ..]) => p == t && letters(p_rest, t_rest),
            _ => false,
        }
    }
    let split = |text: &'static str| -> Vec<&'static str> { text.split('/').collect() };
    let pattern: Vec<_> = split(PATTERNS.iter().find(|p| **p == pattern).unwrap());
    parts(&pattern, &object.split('/').collect::<Vec<_>>())
}

/// By the calendar: when the window that may hold `time` began, today or yesterday.
fn within((days, from, to, offset): Hours, time: Nanos) -> bool {
    let local = DateTime::from_timestamp_nanos(time + i64::from(offset) * 60_000_000_000);
    let length = match i64::from(to) - i64::from(from) {
        length if length <= 0 => length + 1_440,
        length => length,
    };
    [0, 1].into_iter().any(|ago| {
        let day = local.date_naive() - chrono::Days::new(ago);
        let weekday = day.weekday().num_days_from_monday() as usize;
        let minute = i64::from(local.hour() * 60 + local.minute()) + 1_440 * ago as i64;
        days[weekday] && (0..length).contains(&(minute - i64::from(from)))
    })
}

fn site() -> impl Strategy<Value = Site> {
    let time = || (0..40_i64).prop_map(|h| SUNDAY + h * HOUR);
    let permit = || {
        let permit = (time(), 1..60_i64).prop_map(|(from, hours)| (from, from + hours * HOUR));
        proptest::option::weighted(0.85, permit)
    };
    let often = || proptest::bool::weighted(0.9);
    let subject = (
        (
            often(),
            1..4_u8,
            proptest::collection::vec(0..ROLES.len(), 0..3),
        ),
        proptest::option::weighted(0.2, time()),
        (
            proptest::bool::weighted(0.07),
            often(),
            proptest::bool::weighted(0.07),
        ),
        [permit(), permit(), permit()],
    );
    let subject = subject.prop_map(|((enrolled, level, roles), expires, lists, permits)| {
        let (revoked, white, black) = lists;
        FlatSubject {
            enrolled,
            level,
            roles,
            expires,
            revoked,
            white,
            black,
            permits,
        }
    });
    let hours = (
        any::<[bool; 7]>(),
        0..=1_440_u16,
        0..=1_440_u16,
        -840..=840_i16,
    );
    let rule = (
        0..ROLES.len(),
        proptest::collection::vec(proptest::sample::select(Right::ALL.to_vec()), 0..10),
        proptest::collection::vec(0..PATTERNS.len(), 0..4),
        proptest::collection::vec(hours, 0..3),
    );
    let rule = rule.prop_map(|(role, rights, patterns, windows)| FlatRule {
        role,
        rights,
        patterns,
        windows,
    });
    (
        proptest::collection::vec(subject, SUBJECTS.len()),
        proptest::collection::vec(rule, 1..7),
        proptest::collection::vec((0..OBJECTS.len(), 1..4_u8), 0..4),
    )
        .prop_map(|(subjects, rules, levels)| Site {
            subjects,
            rules,
            levels,
        })
}

#[test]
fn a_hundred_thousand_requests_are_decided_as_the_oracle_does() {
    const SITES: u32 = 1_000;
    let config = Config {
        cases: SITES,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = match std::env::var("WEIGHBRIDGE_SEED") {
        Ok(seed) => {
            let seed: u64 = seed.parse().unwrap();
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&seed.to_le_bytes());
            TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
        }
        Err(_) => TestRunner::new(config),
    };
    let request = (
        0..SUBJECTS.len(),
        proptest::sample::select(Right::ALL.to_vec()),
        0..OBJECTS.len(),
        (0..44 * 60_i64).prop_map(|minutes| SUNDAY + minutes * HOUR / 60 + 7),
        any::<bool>(),
    );
    let requests = proptest::collection::vec(request, 100);
    let (mut asked, mut allowed) = (0_u32, [0_u32; 2]);
    let counted = std::cell::RefCell::new((&mut asked, &mut allowed));
    runner
        .run(&(site(), requests), |(site, requests)| {
            let state = site.state();
            for (subject, right, object, time, by_way_of_a_hub) in requests {
                let (subject, object) = (SUBJECTS[subject], OBJECTS[object]);
                let request = Request {
                    subject,
                    right,
                    object,
                    time,
                };
                let (got, wanted) = match by_way_of_a_hub {
                    false => (
                        decide(&state, &request).map(|_| ()),
                        site.allows(subject, false, right, object, time),
                    ),
                    true => (
                        decide_passage(&state, &request, "hub:h").map(|_| ()),
                        site.allows(subject, true, right, object, time)
                            && site.allows("hub:h", false, right, object, time),
                    ),
                };
                prop_assert_eq!(
                    got.is_ok(),
                    wanted,
                    "{:?} by way of a hub: {}: {:?}",
                    request,
                    by_way_of_a_hub,
                    got
                );
                let mut counted = counted.borrow_mut();
                *counted.0 += 1;
                counted.1[usize::from(by_way_of_a_hub)] += u32::from(wanted);
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(asked, SITES * 100);
    // A test in which everything is refused would show nothing.
    for allowed in allowed {
        assert!(allowed > asked / 100, "{allowed} of {asked} were allowed");
    }
}
