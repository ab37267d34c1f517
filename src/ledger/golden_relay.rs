//! The formats of a relay, bit by bit: see `golden`.

use super::SUITE;
use super::golden::golden;
use crate::crypto::Signer;
use crate::ledger::Draft;
use crate::ledger::assemble::{Tip, assemble};
use crate::ledger::proof::{Exhibits, genesis_validators};
use crate::ledger::state::State;
use crate::ledger::testing::TestSigner;
use crate::ledger::testing_hubs::Hubs;
use crate::ledger::testing_relay::{RELAY, signed, step};
use weighbridge_verifier::evidence::{Evidence, Trust};
use weighbridge_verifier::relay::vouched;
use weighbridge_verifier::signature::DirectCheck;
use weighbridge_verifier::{
    Action, Block, Content, ExchangeStep, IdentityContent, IdentityKind, Response, decode, encode,
};

/// Of every content one: an anchor of a chain that one hub writes, two that several decided, the steps of an exchange.
fn said() -> Vec<(&'static str, Content)> {
    let chain = |name| {
        let mut hubs = Hubs::begin_chain(name, SUITE, "a");
        for _ in 0..2 {
            let read = vec![hubs.read("a")];
            hubs.decide(3, read);
        }
        hubs
    };
    let (mut acme, mut bolt) = (chain("acme"), chain("bolt"));
    let mut answer = step(1, ExchangeStep::Answer);
    answer.header = Some(bolt.blocks[1].header.hash());
    let request = signed(step(1, ExchangeStep::Request), (&mut acme, SUITE, "a"));
    let answer = signed(answer, (&mut bolt, SUITE, "a"));
    let confirm = signed(step(1, ExchangeStep::Confirm), (&mut acme, SUITE, "a"));
    vec![
        ("anchor_first_v1", Content::Anchor(acme.anchor(2, true))),
        ("anchor_v1", Content::Anchor(acme.anchor(3, false))),
        ("anchor_other_v1", Content::Anchor(bolt.anchor(2, true))),
        ("exchange_request_v1", Content::Exchange(request)),
        ("exchange_answer_v1", Content::Exchange(answer)),
        ("exchange_confirm_v1", Content::Exchange(confirm)),
    ]
}

#[test]
fn what_a_relay_records() {
    for (name, content) in said() {
        let stored = golden(name, &encode(&content));
        assert_eq!(decode::<Content>("content", &stored).unwrap(), content);
        assert_eq!(encode(&content), stored);
    }
}

/// Evidence of a chain's block at `height`, that begins at its first block.
fn of_chain(hubs: &Hubs, height: usize) -> Evidence {
    let mut exhibits = Exhibits::new(genesis_validators(&hubs.blocks[0]).unwrap());
    exhibits.show_record(&hubs.blocks[0], 0).unwrap();
    exhibits.show_record(&hubs.blocks[height - 1], 0).unwrap();
    exhibits.into_evidence().unwrap()
}

/// The relay's own chain, of one hub: who began it, and everything that is said.
fn relay(signer: &TestSigner) -> Vec<Block> {
    let hub = IdentityContent {
        id: "hub-1".to_owned(),
        kind: IdentityKind::Hub,
        key: Some(signer.public_key()),
    };
    let draft = |(_, content): (&str, Content)| Draft {
        time: 2_000,
        subject: "hub:hub-1".to_owned(),
        action: Action::Exchange,
        object: match &content {
            Content::Anchor(anchor) => anchor.object(),
            Content::Exchange(step) => step.object(),
            other => panic!("{other:?}"),
        },
        permit: None,
        content,
        response: Response::Accepted,
    };
    let enrol = [Draft::enrol(1, "hub:hub-1", hub)];
    let state = State::new(SUITE, RELAY);
    let (genesis, state) = assemble(&enrol, &state, &Tip::NONE, signer, 1_000).unwrap();
    let drafts: Vec<_> = said().into_iter().map(draft).collect();
    let tip = Tip::of(&genesis.header);
    let (block, state) = assemble(&drafts, &state, &tip, signer, 3_000).unwrap();
    assert!(state.exchanges().is_empty());
    vec![genesis, block]
}

#[test]
fn evidence_of_a_relay() {
    let signer = TestSigner::new(SUITE, "hub-1", 1);
    let blocks = relay(&signer);
    let mut exhibits = Exhibits::new(genesis_validators(&blocks[0]).unwrap());
    exhibits.show_record(&blocks[0], 0).unwrap();
    for index in 0..blocks[1].records.len() {
        exhibits.show_record(&blocks[1], index).unwrap();
    }
    let evidence = exhibits.into_evidence().unwrap();
    let stored = golden("evidence_relay_v2", &evidence.to_bytes());
    let read = Evidence::from_bytes(&stored).unwrap();
    assert_eq!(read, evidence);
    assert_eq!(read.to_bytes(), stored);
    assert_eq!(read.verify(&[signer.public_key()]).unwrap(), Trust::Key);
}

#[test]
fn a_chain_is_trusted_through_the_relay_alone() {
    let signer = TestSigner::new(SUITE, "hub-1", 1);
    let blocks = relay(&signer);
    let of_relay = |index: usize| {
        let mut exhibits = Exhibits::new(genesis_validators(&blocks[0]).unwrap());
        exhibits.show_record(&blocks[0], 0).unwrap();
        exhibits.show_record(&blocks[1], index).unwrap();
        exhibits.into_evidence().unwrap()
    };
    let vouches = |index: usize, evidence: &Evidence| {
        let relay = of_relay(index);
        assert_eq!(relay.verify(&[signer.public_key()]).unwrap(), Trust::Key);
        let keys = vouched(&relay, evidence, &DirectCheck);
        !keys.is_empty() && matches!(evidence.verify(&keys), Ok(Trust::Key))
    };
    let chain = |name| {
        let mut hubs = Hubs::begin_chain(name, SUITE, "a");
        for _ in 0..3 {
            let read = vec![hubs.read("a")];
            hubs.decide(3, read);
        }
        hubs
    };
    let acme = of_chain(&chain("acme"), 4);
    assert!(vouches(0, &acme), "its first anchor shows who began it");
    assert!(
        vouches(1, &acme),
        "a later one is signed by those who sign now"
    );
    assert!(!vouches(2, &acme), "that is another chain's");
    assert!(!vouches(3, &acme), "that is no anchor");
    // The same name and another key.
    let mut stranger = Hubs::begin_chain("acme", SUITE, "x");
    let read = vec![stranger.read("x")];
    stranger.decide(0, read);
    for index in 0..4 {
        assert!(!vouches(index, &of_chain(&stranger, 2)));
    }
}
