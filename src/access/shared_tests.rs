//! Two hubs that share a chain: whatever each of them does and whenever it hears of the other, in the end both have the
//! state that a fresh start reads from the chain; and no change undoes another that it knew nothing of.

use super::*;
use crate::access::{Level, Mode, Permit, Right, Rule, Side, Subject};
use proptest::prelude::*;
use std::collections::BTreeMap;
use weighbridge_verifier::IdentityKind;

const ANN: &str = "user:ann";

/// The chain, and two hubs at it.
struct Site {
    chain: Vec<(usize, Entry)>,
    hubs: [Hub; 2],
}

#[derive(Default)]
struct Hub {
    access: SharedAccess,
    /// What it recorded and the chain does not have yet.
    own: VecDeque<Entry>,
    /// How much of the chain it has taken in.
    taken: usize,
}

impl Site {
    fn new() -> Self {
        let mut site = Self {
            chain: Vec::new(),
            hubs: Default::default(),
        };
        let role = Rule {
            rights: BTreeSet::from([Right::Live]),
            objects: Vec::new(),
            windows: Vec::new(),
        };
        let begin = [
            Change::Define("presses".into(), vec![role]),
            Change::Enrol(ANN.into(), Subject::new(IdentityKind::User)),
            Change::White(Side::Extranet, ANN.into(), true),
        ];
        site.ask(0, begin.to_vec()).unwrap();
        site.settle();
        site
    }

    /// Somebody asks a hub for changes, all or none.
    fn ask(&mut self, hub: usize, changes: Vec<Change>) -> Option<()> {
        let hub = &mut self.hubs[hub];
        let mut state = hub.access.in_force();
        let mut made = Vec::new();
        for change in changes {
            for change in state.unfold(change) {
                state.apply(change.clone()).ok()?;
                let entry = state.entry(&change);
                made.push((change, entry));
            }
        }
        hub.own.extend(made.iter().map(|(_, entry)| entry.clone()));
        hub.access.recorded(made);
        assert_eq!(hub.access.in_force(), state);
        Some(())
    }

    /// The next block has this many of a hub's records.
    fn order(&mut self, hub: usize, most: usize) {
        let own = &mut self.hubs[hub].own;
        let records = own.drain(..own.len().min(most));
        self.chain.extend(records.map(|entry| (hub, entry)));
    }

    /// A hub takes in this much of the chain, in one piece.
    fn hear(&mut self, hub: usize, most: usize) {
        let this = &mut self.hubs[hub];
        let end = self.chain.len().min(this.taken.saturating_add(most));
        let told: Vec<Told> = self.chain[this.taken..end]
            .iter()
            .map(|(by, entry)| Told::new(entry.clone(), *by == hub))
            .collect();
        this.taken = end;
        this.own.extend(this.access.take_in(&told).unwrap());
    }

    /// Everything comes onto the chain, and both hear of it.
    fn settle(&mut self) {
        for _ in 0..100 {
            for hub in 0..2 {
                self.hear(hub, usize::MAX);
                self.order(hub, usize::MAX);
            }
            let heard = self.hubs.iter().all(|hub| hub.taken == self.chain.len());
            if heard && self.hubs.iter().all(|hub| hub.own.is_empty()) {
                return;
            }
        }
        panic!("the hubs correct each other for ever");
    }

    /// What a start reads from the chain.
    fn fresh(&self) -> AccessState {
        let newest: BTreeMap<&String, &Entry> = self
            .chain
            .iter()
            .map(|(_, entry)| (&entry.name, entry))
            .collect();
        let mut state = AccessState::default();
        for entry in newest.into_values() {
            state.load(entry).unwrap();
        }
        state
    }

    fn check(&self) {
        let fresh = self.fresh();
        for hub in &self.hubs {
            assert_eq!(hub.access.open(), 0);
            assert_eq!(hub.access.in_force(), fresh);
        }
    }
}

fn roles(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Both at once, in either order on the chain: what the second knew nothing of stands.
#[test]
fn nobody_is_let_in_again_by_a_hub_that_had_not_heard() {
    let ann = || ANN.to_owned();
    let put_out = || vec![Change::Revoke(ann())];
    let listed = || vec![Change::Black(Side::Extranet, ann(), true)];
    let permit = Permit { from: 1, until: 9 };
    let table: [(Vec<Change>, Vec<Change>); 5] = [
        (put_out(), vec![Change::Assign(ann(), roles(&["presses"]))]),
        (put_out(), vec![Change::Renew(ann(), Some(7))]),
        (listed(), vec![Change::White(Side::Extranet, ann(), true)]),
        (listed(), vec![Change::White(Side::Extranet, ann(), false)]),
        (
            put_out(),
            vec![Change::Permit(ann(), Mode::Read, Some(permit))],
        ),
    ];
    for (first, second) in table {
        for case in 0..8 {
            let (out, other) = (case % 2, 1 - case % 2);
            let (is_first, in_pieces) = (case & 2 == 0, case & 4 == 0);
            let mut site = Site::new();
            site.ask(out, first.clone()).unwrap();
            site.ask(other, second.clone()).unwrap();
            site.order(if is_first { out } else { other }, 9);
            if in_pieces {
                // Heard of before the other is on the chain.
                site.hear(0, 9);
                site.hear(1, 9);
                let last = if is_first { other } else { out };
                let state = site.hubs[last].access.in_force();
                assert!(state.admits(ANN, 5).is_err(), "{first:?} {second:?}");
            }
            site.order(if is_first { other } else { out }, 9);
            site.settle();
            site.check();
            assert!(site.fresh().admits(ANN, 5).is_err(), "{first:?} {second:?}");
        }
    }
}

/// What does not contradict is both: each hub's part of one entry.
#[test]
fn changes_of_one_entry_that_go_together_are_both_made() {
    let ann = || ANN.to_owned();
    for (a, b) in [(0, 1), (1, 0)] {
        let mut site = Site::new();
        site.ask(a, vec![Change::Assign(ann(), roles(&["presses"]))])
            .unwrap();
        site.ask(b, vec![Change::Renew(ann(), Some(77))]).unwrap();
        site.order(a, 9);
        site.order(b, 9);
        site.settle();
        site.check();
        let fresh = site.fresh();
        let ann = &fresh.subjects()[ANN];
        assert_eq!((&ann.roles, ann.expires), (&roles(&["presses"]), Some(77)));
    }
}

/// What was asked for together is taken back together.
#[test]
fn a_request_of_which_one_part_cannot_be_is_taken_back() {
    let mut site = Site::new();
    let bob = || "user:bob".to_owned();
    let mut low = Subject::new(IdentityKind::User);
    low.level = Level::LOW;
    site.ask(0, vec![Change::Enrol(bob(), low.clone())])
        .unwrap();
    let mut other = Subject::new(IdentityKind::User);
    other.roles = roles(&["presses"]);
    let both = vec![
        Change::White(Side::Extranet, bob(), true),
        Change::Classify("device:lab".into(), Some(Level(9))),
        Change::Enrol(bob(), other),
    ];
    site.ask(1, both).unwrap();
    site.order(0, 9);
    site.order(1, 9);
    site.settle();
    site.check();
    let state = site.fresh();
    assert_eq!(state.subjects()["user:bob"], low);
    assert!(!state.lists(Side::Extranet).white.contains("user:bob"));
    assert_eq!(state.level("device:lab"), Level::HIGH);
}

/// A start knows what it recorded last, and not what was asked for: what was crossed is taken back.
#[test]
fn after_a_restart_what_is_open_is_in_force_and_gives_way_to_others() {
    let mut site = Site::new();
    site.ask(0, vec![Change::Renew(ANN.into(), Some(7))])
        .unwrap();
    site.ask(1, vec![Change::Revoke(ANN.into())]).unwrap();
    let hub = &mut site.hubs[0];
    let told = site.chain.iter();
    let told = told.map(|(_, entry)| Told::new(entry.clone(), true));
    hub.access = SharedAccess::new(told, hub.own.iter().cloned().collect()).unwrap();
    assert_eq!(hub.access.in_force().subjects()[ANN].expires, Some(7));
    site.order(1, 9);
    site.order(0, 9);
    site.settle();
    site.check();
    assert!(site.fresh().subjects()[ANN].revoked);
}

#[test]
fn whose_word_an_entry_is_is_known() {
    let mut site = Site::new();
    let name = "subject/user:ann";
    assert!(!site.hubs[0].access.is_elsewhere(name) && site.hubs[1].access.is_elsewhere(name));
    site.ask(1, vec![Change::Renew(ANN.into(), Some(7))])
        .unwrap();
    assert!(!site.hubs[1].access.is_elsewhere(name));
    site.settle();
    assert!(site.hubs[0].access.is_elsewhere(name) && !site.hubs[1].access.is_elsewhere(name));
}

#[test]
fn what_cannot_be_read_changes_nothing() {
    let mut site = Site::new();
    let before = site.hubs[0].access.in_force();
    let good = Entry {
        name: "level/device:lab".into(),
        says: serde_json::json!(7),
    };
    let bad = Entry {
        name: "king/ann".into(),
        says: serde_json::Value::Null,
    };
    let told = [good, bad].map(|entry| Told::new(entry, false));
    site.hubs[0].access.take_in(&told).unwrap_err();
    assert_eq!(site.hubs[0].access.in_force(), before);
}

/// What hub 1 recorded of a name, as hub 0 hears of it while it cannot read it.
fn unread(site: &mut Site, name: &str) -> Told {
    let this = &mut site.hubs[0];
    let new = &site.chain[this.taken..];
    let at = new
        .iter()
        .position(|(by, entry)| *by == 1 && entry.name == name);
    let late = Told::new(new[at.unwrap()].1.clone(), false);
    let told: Vec<Told> = new
        .iter()
        .map(|(by, entry)| match *by == 1 && entry.name == name {
            true => Told::unread(name),
            false => Told::new(entry.clone(), *by == 0),
        })
        .collect();
    this.taken = site.chain.len();
    this.own.extend(this.access.take_in(&told).unwrap());
    late
}

#[test]
fn what_cannot_be_read_yet_refuses_and_is_in_force_when_it_can() {
    let mut site = Site::new();
    let (name, admits) = ("subject/user:ann", |site: &Site| {
        let denied = site.hubs[0].access.in_force().admits(ANN, 5).err();
        denied.map(|denied| denied.rule())
    });
    site.ask(1, vec![Change::Revoke(ANN.into())]).unwrap();
    site.order(1, 9);
    let late = unread(&mut site, name);
    assert_eq!(admits(&site), Some("unread"));
    let this = &mut site.hubs[0].access;
    assert!(this.take_in_late(&late).unwrap().is_empty());
    assert!(this.in_force().unread().is_empty());
    assert_ne!(admits(&site), Some("unread"));
    site.settle();
    site.check();
    assert!(site.fresh().subjects()[ANN].revoked);
}

/// Hub 0 gives Ann a role while it cannot see that she was put out: its entry is the later one, and is no way in.
#[test]
fn what_was_changed_without_seeing_what_came_before_gives_way_to_it() {
    for late_first in [true, false] {
        let mut site = Site::new();
        site.ask(0, vec![Change::Renew(ANN.into(), Some(7))])
            .unwrap();
        site.ask(1, vec![Change::Revoke(ANN.into())]).unwrap();
        site.order(1, 9);
        let late = unread(&mut site, "subject/user:ann");
        if !late_first {
            // Its own is on the chain, too, by then.
            site.order(0, 9);
            site.hear(0, usize::MAX);
        }
        let of = |site: &Site| site.hubs[0].access.in_force();
        assert_eq!(of(&site).admits(ANN, 5).unwrap_err().rule(), "unread");
        let this = &mut site.hubs[0];
        let corrections = this.access.take_in_late(&late).unwrap();
        this.own.extend(corrections);
        assert!(of(&site).subjects()[ANN].revoked && of(&site).unread().is_empty());
        site.settle();
        site.check();
        assert!(site.fresh().subjects()[ANN].revoked, "{late_first}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Ask(usize, Vec<Change>),
    Order(usize, usize),
    Hear(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let id = || prop_oneof![Just(ANN.to_owned()), Just("user:bob".to_owned())];
    let some_roles = prop_oneof![Just(roles(&[])), Just(roles(&["presses"]))];
    prop_oneof![
        id().prop_map(|id| Change::Enrol(id, Subject::new(IdentityKind::User))),
        id().prop_map(Change::Revoke),
        (id(), some_roles).prop_map(|(id, roles)| Change::Assign(id, roles)),
        (id(), 1..9i64).prop_map(|(id, at)| Change::Renew(id, Some(at))),
        (id(), any::<bool>()).prop_map(|(id, on)| Change::White(Side::Extranet, id, on)),
        (id(), any::<bool>()).prop_map(|(id, on)| Change::Black(Side::Extranet, id, on)),
        (id(), 1..9i64).prop_map(|(id, until)| {
            Change::Permit(id, Mode::Read, Some(Permit { from: 0, until }))
        }),
        Just(Change::Define("presses".into(), Vec::new())),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..2usize, proptest::collection::vec(change(), 1..4))
            .prop_map(|(hub, changes)| Step::Ask(hub, changes)),
        2 => (0..2usize, 1..5usize).prop_map(|(hub, most)| Step::Order(hub, most)),
        2 => (0..2usize, 1..7usize).prop_map(|(hub, most)| Step::Hear(hub, most)),
    ]
}

proptest! {
    /// However the changes of two hubs and what each hears are interleaved: with the same chain, and nothing still to
    /// come, both have the state of a fresh start.
    #[test]
    fn hubs_with_the_same_chain_have_the_same_state(
        steps in proptest::collection::vec(step(), 1..60)
    ) {
        let mut site = Site::new();
        for step in steps {
            match step {
                Step::Ask(hub, changes) => drop(site.ask(hub, changes)),
                Step::Order(hub, most) => site.order(hub, most),
                Step::Hear(hub, most) => site.hear(hub, most),
            }
        }
        site.settle();
        site.check();
    }
}
