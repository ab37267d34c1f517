//! What a relay takes, and what it refuses.

use super::*;
use crate::ledger::testing_hubs::Hubs;
use crate::ledger::testing_relay::{RELAY, signed, step};
use weighbridge_verifier::record::RECORD_VERSION;
use weighbridge_verifier::relay::{MAX_HEADERS, MAX_LEADS, MAX_OPEN};
use weighbridge_verifier::{AnchorContent, ExchangeContent, ExchangeStep, Faults};

/// The relay, with whatever was taken.
struct Told {
    state: State,
    signer: TestSigner,
    records: Vec<Record>,
}

impl Told {
    fn new() -> Self {
        let mut told = Self {
            state: State::new(SUITE, RELAY),
            signer: signer(),
            records: Vec::new(),
        };
        let key = Some(told.signer.public_key());
        let hub = IdentityContent {
            id: "hub-1".to_owned(),
            kind: IdentityKind::Hub,
            key,
        };
        let said = (Action::Enrol, "identity:hub-1".to_owned());
        told.record(said, Content::Identity(hub)).unwrap();
        told
    }

    fn record(
        &mut self,
        (action, object): (Action, String),
        content: Content,
    ) -> Result<(), ApplyError> {
        let tip = self.state.hubs().get("hub-1").cloned();
        let (sequence, previous) = tip.map_or((0, Hash::ZERO), |tip| (tip.sequence, tip.hash));
        let body = RecordBody {
            version: SUITE.marked(RECORD_VERSION),
            chain: RELAY.to_owned(),
            hub: "hub-1".to_owned(),
            sequence: sequence + 1,
            previous,
            time: 1,
            subject: "hub:hub-1".to_owned(),
            action,
            object,
            permit: None,
            content,
            response: match action {
                Action::Refuse => Response::Refused,
                _ => Response::Accepted,
            },
        };
        let signature = self.signer.sign(&body.hash());
        let record = Record { body, signature };
        self.state.apply(&record)?;
        self.records.push(record);
        Ok(())
    }

    fn anchor(&mut self, anchor: AnchorContent) -> Result<(), String> {
        let said = (Action::Exchange, anchor.object());
        let taken = self.record(said, Content::Anchor(anchor));
        taken.map_err(|e| e.to_string())
    }

    fn step(&mut self, said: ExchangeContent) -> Result<(), String> {
        let action = match said.step {
            ExchangeStep::Refuse => Action::Refuse,
            _ => Action::Exchange,
        };
        let taken = self.record((action, said.object()), Content::Exchange(said));
        taken.map_err(|e| e.to_string())
    }

    /// The same records make the same state, and it survives a snapshot.
    fn replays(&self) {
        let mut again = State::new(SUITE, RELAY);
        for record in &self.records {
            again.apply(record).unwrap();
        }
        assert_eq!((&again, again.hash()), (&self.state, self.state.hash()));
        let image = self.state.to_image();
        assert_eq!(State::of_image(SUITE, &image).unwrap(), self.state);
        assert!(State::of_image(SUITE, &image[..image.len() - 1]).is_err());
        assert!(State::of_image(SUITE, &[&image[..], &[0]].concat()).is_err());
    }
}

/// A chain of this suite that one hub writes.
fn alone(chain: &'static str, suite: Suite, hub: &str) -> Hubs {
    let mut hubs = Hubs::begin_chain(chain, suite, hub);
    let said = vec![hubs.read(hub)];
    hubs.decide(0, said);
    hubs
}

/// The other suite: a relay takes chains of both.
fn other_suite() -> Suite {
    match SUITE {
        Suite::Nist => Suite::Guomi,
        Suite::Guomi => Suite::Nist,
    }
}

/// `acme` of hubs a, b and c, of which b lied and is gone.
fn acme() -> Hubs {
    let mut hubs = alone("acme", SUITE, "a");
    let said = vec![hubs.vote("a", "+b", Faults::Byzantine)];
    hubs.decide(0, said);
    let said = vec![
        hubs.vote("a", "+c", Faults::Byzantine),
        hubs.vote("b", "+c", Faults::Byzantine),
    ];
    hubs.decide(0, said);
    let said = vec![hubs.read("c")];
    hubs.decide(0, said);
    let said = vec![hubs.lie("a", "b")];
    hubs.decide(0, said);
    for _ in 0..3 {
        let said = vec![hubs.read("c")];
        hubs.decide(1, said);
    }
    hubs
}

#[test]
fn a_chains_hubs_are_followed_through_its_anchors() {
    let (mut relay, acme) = (Told::new(), acme());
    let set = |relay: &Told| {
        let set = &relay.state.chains()["acme"].set.validators;
        set.iter().map(|hub| hub.id.clone()).collect::<Vec<_>>()
    };
    relay.anchor(acme.anchor(2, true)).unwrap();
    assert_eq!(set(&relay), ["hub-a"]);
    // The same hubs: nothing more is needed.
    relay.anchor(acme.anchor(3, false)).unwrap();
    let other = relay.anchor(acme.anchor(5, false)).unwrap_err();
    assert!(other.contains("not the one the header names"), "{other}");
    relay.anchor(acme.anchor(5, true)).unwrap();
    assert_eq!(set(&relay), ["hub-a", "hub-b", "hub-c"]);
    // Also past the anchor before, and where it is the last block that is shown.
    relay.anchor(acme.anchor(7, true)).unwrap();
    assert_eq!(set(&relay), ["hub-a", "hub-c"]);
    relay.anchor(acme.anchor(8, false)).unwrap();
    let known = &relay.state.chains()["acme"];
    let wanted: Vec<_> = [2, 3, 5, 7, 8]
        .map(|h| acme.blocks[h - 1].header.hash())
        .into();
    assert_eq!((known.height, &known.headers), (8, &wanted));
    relay.replays();
}

#[test]
fn hubs_of_long_ago_cannot_begin_another_history() {
    let (mut relay, acme) = (Told::new(), acme());
    let mut fork = acme.clone();
    relay.anchor(acme.anchor(7, true)).unwrap();
    // The three hubs of block 5 go on as if the lie had never been shown.
    fork.rewind(5);
    for _ in 0..5 {
        let said = vec![fork.read("c")];
        fork.decide(0, said);
    }
    let refused = relay.anchor(fork.anchor(10, true)).unwrap_err();
    assert!(
        refused.contains("does not lead through the hubs"),
        "{refused}"
    );
    // Nor as if another one had left after the anchor.
    let said = vec![fork.lie("a", "c")];
    fork.decide(0, said);
    let said = vec![fork.read("a")];
    fork.decide(0, said);
    let refused = relay.anchor(fork.anchor(12, true)).unwrap_err();
    assert!(
        refused.contains("does not lead through the hubs"),
        "{refused}"
    );
}

#[test]
fn anchors_that_do_not_count() {
    let acme = acme();
    let stranger = {
        let mut hubs = alone("acme", SUITE, "x");
        for _ in 0..8 {
            let said = vec![hubs.read("x")];
            hubs.decide(0, said);
        }
        hubs
    };
    let first = || acme.anchor(2, true);
    let with = |height: usize, change: &dyn Fn(&mut AnchorContent)| {
        let mut anchor = acme.anchor(height, true);
        change(&mut anchor);
        anchor
    };
    let chatty = {
        let set = acme.blocks[0].clone();
        let genesis = crate::ledger::proof::genesis_validators(&set).unwrap();
        let mut exhibits = crate::ledger::proof::Exhibits::new(genesis);
        exhibits.show_record(&acme.blocks[0], 0).unwrap();
        exhibits.show_record(&acme.blocks[1], 0).unwrap();
        exhibits.into_evidence().unwrap().to_bytes()
    };
    let before = [
        (acme.anchor(2, false), "does not hold"),
        (
            alone(RELAY, SUITE, "a").anchor(2, true),
            "is the relay itself",
        ),
        (with(2, &|a| a.header.version = 9), "the format version 9"),
        (
            with(3, &|a| a.leads = chatty.clone()),
            "shows more than who signs",
        ),
        (
            with(3, &|a| a.leads = acme.leads(5)),
            "does not end before the header",
        ),
        (with(2, &|a| a.header.time += 1), "does not hold"),
        (
            with(2, &|a| a.certificate = acme.blocks[2].certificate.clone()),
            "does not hold",
        ),
    ];
    for (anchor, why) in before {
        let refused = Told::new().anchor(anchor).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
    let mut relay = Told::new();
    relay.anchor(first()).unwrap();
    let after = [
        (first(), "not after the one that is anchored"),
        (acme.anchor(1, false), "not after the one that is anchored"),
        (with(3, &|a| a.grade = 1), "the grade of `acme` is 2"),
        (stranger.anchor(9, false), "not the one the header names"),
        (stranger.anchor(9, true), "begins with another first block"),
    ];
    let before = relay.state.hash();
    for (anchor, why) in after {
        let refused = relay.anchor(anchor).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
    let long = relay.anchor(with(3, &|a| a.leads = vec![b' '; MAX_LEADS + 1]));
    assert!(long.unwrap_err().contains("something is too long"));
    assert_eq!(relay.state.hash(), before);
}

/// A relay with two chains, each of a suite of its own.
fn between() -> (Told, Hubs, Hubs) {
    let acme = alone("acme", SUITE, "a");
    let bolt = alone("bolt", other_suite(), "b");
    let mut relay = Told::new();
    relay.anchor(acme.anchor(2, true)).unwrap();
    relay.anchor(bolt.anchor(2, true)).unwrap();
    (relay, acme, bolt)
}

fn answer(bolt: &Hubs, number: u64) -> ExchangeContent {
    let mut said = step(number, ExchangeStep::Answer);
    said.header = Some(bolt.blocks[1].header.hash());
    said
}

#[test]
fn an_exchange_is_asked_answered_and_confirmed() {
    let (mut relay, mut acme, mut bolt) = between();
    let said = signed(step(1, ExchangeStep::Request), (&mut acme, SUITE, "a"));
    relay.step(said).unwrap();
    let key = ("acme".to_owned(), 1);
    assert!(!relay.state.exchanges()[&key].answered);
    relay.replays();
    let said = signed(answer(&bolt, 1), (&mut bolt, other_suite(), "b"));
    relay.step(said).unwrap();
    assert!(relay.state.exchanges()[&key].answered);
    let said = signed(step(1, ExchangeStep::Confirm), (&mut acme, SUITE, "a"));
    relay.step(said.clone()).unwrap();
    assert!(relay.state.exchanges().is_empty());
    assert!(
        relay
            .step(said)
            .unwrap_err()
            .contains("no exchange 1 of `acme`")
    );
    // The next one is refused at once, the one after it when it was answered.
    for number in [2, 3] {
        let said = step(number, ExchangeStep::Request);
        relay.step(signed(said, (&mut acme, SUITE, "a"))).unwrap();
    }
    let refuse = |number| step(number, ExchangeStep::Refuse);
    let said = signed(refuse(2), (&mut bolt, other_suite(), "b"));
    relay.step(said).unwrap();
    let said = signed(answer(&bolt, 3), (&mut bolt, other_suite(), "b"));
    relay.step(said).unwrap();
    let said = signed(refuse(3), (&mut acme, SUITE, "a"));
    relay.step(said).unwrap();
    assert!(relay.state.exchanges().is_empty());
    assert_eq!(relay.state.chains()["acme"].asked, 3);
    relay.replays();
}

#[test]
fn steps_that_are_not_due_or_not_theirs() {
    let (mut relay, mut acme, mut bolt) = between();
    let by_a = |acme: &mut Hubs, said| signed(said, (acme, SUITE, "a"));
    let by_b = |bolt: &mut Hubs, said| signed(said, (bolt, other_suite(), "b"));
    let with = |mut said: ExchangeContent, change: &dyn Fn(&mut ExchangeContent)| {
        change(&mut said);
        said
    };
    let ask = || step(1, ExchangeStep::Request);
    let answers = answer(&bolt, 1);
    let answered = || answers.clone();
    let confirm = || step(1, ExchangeStep::Confirm);
    let header = Some(Hash([1; 32]));
    let mut forged = by_a(&mut acme, ask());
    forged.sealed = Hash([8; 32]);
    let elsewhere = {
        let mut said = by_a(&mut acme, ask());
        said.signature = acme.sign("a", &said.message(SUITE, "another-relay"));
        said
    };
    let unasked = [
        (
            by_a(&mut acme, with(ask(), &|s| s.ceid = "acme".to_owned())),
            "asks itself",
        ),
        (
            by_a(&mut acme, with(ask(), &|s| s.ceid = "coil".to_owned())),
            "`coil` has no anchor",
        ),
        (
            by_a(&mut acme, with(ask(), &|s| s.acid = "coil".to_owned())),
            "`coil` has no anchor",
        ),
        (
            by_a(&mut acme, with(ask(), &|s| s.number = 2)),
            "where its exchange 1 was due",
        ),
        (
            by_a(&mut acme, with(ask(), &|s| s.header = header)),
            "names no header",
        ),
        (
            by_a(&mut acme, with(ask(), &|s| s.t_confirm = Some(9))),
            "confirms nothing",
        ),
        (by_b(&mut bolt, ask()), "`hub-b` is no hub of `acme`"),
        (by_a(&mut acme, answered()), "no exchange 1 of `acme`"),
        (by_a(&mut acme, confirm()), "no exchange 1 of `acme`"),
        (forged, "the signature of `hub-a` of `acme` does not hold"),
        (
            elsewhere,
            "the signature of `hub-a` of `acme` does not hold",
        ),
    ];
    for (said, why) in unasked {
        let refused = relay.step(said).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
    relay.step(by_a(&mut acme, ask())).unwrap();
    let refuse = || step(1, ExchangeStep::Refuse);
    let asked = [
        (by_a(&mut acme, ask()), "where its exchange 2 was due"),
        (by_a(&mut acme, answered()), "`hub-a` is no hub of `bolt`"),
        (by_a(&mut acme, refuse()), "`hub-a` is no hub of `bolt`"),
        (by_a(&mut acme, confirm()), "was not answered yet"),
        (
            by_b(&mut bolt, with(answered(), &|s| s.grade = 2)),
            "of this grade",
        ),
        (
            by_b(&mut bolt, with(answered(), &|s| s.t_timestamp = 9)),
            "and time open",
        ),
        (
            by_b(&mut bolt, with(answered(), &|s| s.header = header)),
            "none of the newest",
        ),
        (
            by_b(&mut bolt, with(answered(), &|s| s.header = None)),
            "an answer names a header",
        ),
        (
            by_b(&mut bolt, with(refuse(), &|s| s.header = header)),
            "a refusal names no header",
        ),
    ];
    for (said, why) in asked {
        let refused = relay.step(said).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
    let said = by_b(&mut bolt, answered());
    relay.step(said.clone()).unwrap();
    let late = [
        (said, "answered already"),
        (by_b(&mut bolt, confirm()), "`hub-b` is no hub of `acme`"),
        (by_b(&mut bolt, refuse()), "`hub-b` is no hub of `acme`"),
        (
            by_a(&mut acme, with(confirm(), &|s| s.t_confirm = None)),
            "says when",
        ),
        (
            by_a(&mut acme, with(confirm(), &|s| s.t_confirm = Some(999))),
            "before it was asked",
        ),
        (
            by_a(&mut acme, with(confirm(), &|s| s.header = header)),
            "names no header",
        ),
    ];
    for (said, why) in late {
        let refused = relay.step(said).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
}

#[test]
fn a_relay_is_bounded() {
    let (mut relay, mut acme, mut bolt) = between();
    for number in 1..=MAX_OPEN as u64 {
        let said = step(number, ExchangeStep::Request);
        relay.step(signed(said, (&mut acme, SUITE, "a"))).unwrap();
    }
    let one_more = step(MAX_OPEN as u64 + 1, ExchangeStep::Request);
    let one_more = signed(one_more, (&mut acme, SUITE, "a"));
    let refused = relay.step(one_more.clone()).unwrap_err();
    assert!(refused.contains("exchanges open, and no more"), "{refused}");
    let said = signed(
        step(7, ExchangeStep::Refuse),
        (&mut bolt, other_suite(), "b"),
    );
    relay.step(said).unwrap();
    relay.step(one_more).unwrap();
    for _ in 0..MAX_HEADERS {
        let said = vec![bolt.read("b")];
        let height = bolt.decide(0, said).header.height;
        relay
            .anchor(bolt.anchor(usize::try_from(height).unwrap(), false))
            .unwrap();
    }
    let known = &relay.state.chains()["bolt"].headers;
    assert_eq!(known.len(), MAX_HEADERS);
    assert!(!known.contains(&bolt.blocks[1].header.hash()));
}

#[test]
fn a_relay_holds_nothing_else_and_nothing_else_is_a_relay() {
    let (mut relay, acme, _) = between();
    let batch = Content::Batch(batch_content(SUITE, "press-1", 1, 1));
    let store = (Action::Store, "device:press-1".to_owned());
    let refused = relay.record(store.clone(), batch.clone()).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("neither batches nor documents")
    );
    let mut plant = Told::new();
    plant.record(store, batch).unwrap();
    let refused = plant.anchor(acme.anchor(2, true)).unwrap_err();
    assert!(refused.contains("is no relay"), "{refused}");
}

#[test]
fn records_of_a_relay_have_one_shape() {
    let (mut relay, mut acme, _) = between();
    let request = signed(step(1, ExchangeStep::Request), (&mut acme, SUITE, "a"));
    let said = Content::Exchange(request.clone());
    let anchor = Content::Anchor(acme.anchor(2, false));
    let wrong = [
        (Action::Exchange, "exchange:acme/2", said.clone()),
        (Action::Exchange, "exchange:bolt/1", said.clone()),
        (Action::Refuse, "exchange:acme/1", said.clone()),
        (Action::Store, "exchange:acme/1", said),
        (Action::Exchange, "chain:bolt", anchor.clone()),
        (Action::Refuse, "chain:acme", anchor),
    ];
    for (action, object, content) in wrong {
        let refused = relay.record((action, object.to_owned()), content);
        assert!(
            matches!(refused, Err(ApplyError::Shape { .. })),
            "{action:?} {object}: {refused:?}"
        );
    }
    relay.step(request).unwrap();
}
