//! A ledger that one hub began and that goes on as one of several, verified as a whole.

use super::*;
use crate::crypto::Signer;
use crate::ledger::assemble::assemble;
use crate::ledger::draft::Draft;
use crate::ledger::head::Head;
use crate::ledger::keys::height_key;
use crate::ledger::replay::Follower;
use crate::ledger::store::Put;
use crate::ledger::testing::{Memory, TestSigner, refuse_draft};
use crate::ledger::testing_hubs::decided;
use weighbridge_verifier::{
    Block, Certificate, IdentityContent, IdentityKind, PublicKey, Suite, encode,
};

const SUITE: Suite = Suite::Nist;

fn signer() -> TestSigner {
    TestSigner::new(SUITE, "hub-1", 1)
}

/// Two blocks of the lone hub, and three that its set decided.
fn chain() -> Vec<Block> {
    let hub = IdentityContent {
        id: "hub-1".to_owned(),
        kind: IdentityKind::Hub,
        key: Some(signer().public_key()),
    };
    let mut drafts = vec![Draft::enrol(1, "hub:hub-1", hub)];
    drafts.extend((1..5).map(|number| refuse_draft(SUITE, "press-1", number, 1)));
    let mut follower = Follower::new(SUITE, "plant");
    let mut blocks = Vec::new();
    for (at, draft) in (0..).zip(drafts) {
        let now = follower.tip().time + 10;
        let made = assemble(&[draft], follower.state(), follower.tip(), &signer(), now);
        let block = match made.unwrap().0 {
            block if at < 2 => block,
            block => decided(block, at, &signer()),
        };
        follower.follow(&block, None).unwrap();
        blocks.push(block);
    }
    blocks
}

/// What is wrong with these blocks, with heads over the last two.
fn verified(blocks: &[Block], trust: PublicKey) -> Report {
    let store = Memory::default();
    for block in blocks {
        let put = Put {
            space: Space::Blocks,
            key: height_key(block.header.height),
            value: encode(block),
        };
        store.commit(&[put]).unwrap();
    }
    let newest = blocks.iter().rev().take(2).map(|block| &block.header);
    let heads = newest.map(|h| Head::sign("plant", h.height, h.hash(), &signer()).to_bytes());
    let head = HeadReading {
        heads: heads.collect(),
        damaged: Vec::new(),
    };
    verify_store(&store, &head, Some(&trust), &mut |_| ()).unwrap()
}

fn findings(blocks: &[Block]) -> Vec<String> {
    let report = verified(blocks, signer().public_key());
    let say =
        |finding: &crate::ledger::report::Finding| format!("{}: {}", finding.place, finding.what);
    report.findings.iter().map(say).collect()
}

#[test]
fn a_ledger_that_goes_over_to_blocks_of_several_is_clean() {
    let report = verified(&chain(), signer().public_key());
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!(report.height, 5);
    assert_eq!(report.key, Some(signer().public_key()));
    let stranger = TestSigner::new(SUITE, "hub-1", 2).public_key();
    assert!(!verified(&chain(), stranger).is_clean());
}

#[test]
fn what_is_wrong_with_blocks_of_several_is_named() {
    let good = chain();
    let mut round = good.clone();
    if let Certificate::Quorum(quorum) = &mut round[3].certificate {
        quorum.round += 1;
    }
    let wrong = "the signature of `hub-1` does not hold";
    assert!(
        findings(&round)[0].ends_with(wrong),
        "{:?}",
        findings(&round)
    );

    let mut kind = good.clone();
    kind[3].certificate = good[1].certificate.clone();
    // Its bytes are those of another kind of block.
    assert!(
        findings(&kind)[0].starts_with("block 4"),
        "{:?}",
        findings(&kind)
    );

    let mut nobody = good.clone();
    if let Certificate::Quorum(quorum) = &mut nobody[3].certificate {
        quorum.signatures.clear();
    }
    let wrong = "0 of 1 needed signatures";
    assert!(
        findings(&nobody)[0].ends_with(wrong),
        "{:?}",
        findings(&nobody)
    );

    // The hub signs the newest block for itself again.
    let mut follower = Follower::new(SUITE, "plant");
    for block in &good[..4] {
        follower.follow(block, None).unwrap();
    }
    let draft = refuse_draft(SUITE, "press-1", 4, 1);
    let now = follower.tip().time + 10;
    let made = assemble(&[draft], follower.state(), follower.tip(), &signer(), now);
    let mut back = good.clone();
    back[4] = made.unwrap().0;
    let wrong = "block 5: it is signed by a hub for itself, after blocks that several hubs decided";
    assert_eq!(findings(&back)[0], wrong);
}
