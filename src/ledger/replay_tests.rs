//! A chain that one hub began and that goes on as one of several.

use super::*;
use crate::crypto::Signer;
use crate::ledger::assemble::{AssembleError, assemble};
use crate::ledger::draft::Draft;
use crate::ledger::testing::{TestSigner, refuse_draft};
use crate::ledger::testing_hubs::{self, Hubs};
use weighbridge_verifier::block::commit_message;
use weighbridge_verifier::{
    Certificate, CommitCertificate, CommitSignature, Faults, IdentityContent, IdentityKind,
    KeyCache, QuorumCertificate, Response,
};

const SUITE: Suite = Suite::Nist;

fn signer() -> TestSigner {
    TestSigner::new(SUITE, "hub-1", 1)
}

fn hub() -> Draft {
    let hub = IdentityContent {
        id: "hub-1".to_owned(),
        kind: IdentityKind::Hub,
        key: Some(signer().public_key()),
    };
    Draft::enrol(1, "hub:hub-1", hub)
}

/// The next block that the hub signs for itself.
fn alone(follower: &Follower, draft: Draft) -> Block {
    let now = follower.tip().time + 10;
    let made = assemble(&[draft], follower.state(), follower.tip(), &signer(), now);
    made.unwrap().0
}

fn decided(block: Block, round: u32) -> Block {
    testing_hubs::decided(block, round, &signer())
}

fn refused(sequence: u64) -> Draft {
    refuse_draft(SUITE, "press-1", sequence, 1)
}

/// Two blocks of the lone hub.
fn begun() -> Follower {
    let mut follower = Follower::new(SUITE, "plant");
    for draft in [hub(), refused(1)] {
        let block = alone(&follower, draft);
        follower.follow(&block, Some(&KeyCache::default())).unwrap();
    }
    follower
}

#[test]
fn a_chain_of_one_hub_becomes_one_of_several_and_never_goes_back() {
    let check = KeyCache::default();
    let mut follower = begun();
    let block = decided(alone(&follower, refused(2)), 3);
    let (header, records) = (&block.header, &block.records);
    let state = follower.state_after(header, records, Some(&check)).unwrap();
    assert!(!follower.is_shared());
    follower.follow(&block, Some(&check)).unwrap();
    assert!(follower.is_shared());
    assert_eq!(*follower.state(), state);

    let next = alone(&follower, refused(3));
    let back = [
        follower.clone().follow(&next, Some(&check)),
        follower.clone().follow(&next, None),
        follower
            .state_after(&next.header, &next.records, None)
            .map(|_| ()),
        Follower::at(state.clone(), &block.header).follow(&next, None),
    ];
    assert_eq!(back, [const { Err(FollowError::Alone) }; 4]);
    let next = decided(next, 0);
    Follower::at(state, &block.header)
        .follow(&next, Some(&check))
        .unwrap();
    follower.follow(&next, Some(&check)).unwrap();

    // Nor is anything passed over in which there could be votes.
    let mut bare = decided(alone(&follower, refused(4)), 0);
    bare.records.clear();
    let passed = follower.pass(&bare, Some(&check));
    assert_eq!(passed, Err(FollowError::SharedBody));
}

#[test]
fn a_certificate_is_of_its_blocks_kind() {
    let check = KeyCache::default();
    let follower = begun();
    let block = alone(&follower, refused(2));
    let several = decided(block.clone(), 0);
    let quorum = |round| match &several.certificate {
        Certificate::Quorum(quorum) => Certificate::Quorum(QuorumCertificate {
            round,
            ..quorum.clone()
        }),
        Certificate::Solo(_) => unreachable!("several decided it"),
    };
    let signatures = |message| {
        let validator = "hub-1".to_owned();
        let signature = signer().sign(&message);
        vec![CommitSignature {
            validator,
            signature,
        }]
    };
    let message = commit_message(&several.header);
    let solo = CommitCertificate {
        signatures: signatures(message),
    };
    let as_solo = QuorumCertificate {
        round: 0,
        signatures: signatures(message),
    };
    let nobody = QuorumCertificate {
        round: 0,
        signatures: Vec::new(),
    };
    let hub = || "hub-1".to_owned();
    let (got, needed) = (0, 1);
    let cases = [
        (&block, quorum(0), BlockError::CertificateKind),
        (&several, solo.into(), BlockError::CertificateKind),
        (&several, quorum(1), BlockError::Signature(hub())),
        (&several, as_solo.into(), BlockError::Signature(hub())),
        (
            &several,
            nobody.into(),
            BlockError::Threshold { got, needed },
        ),
    ];
    for (block, certificate, wanted) in cases {
        let changed = Block {
            certificate,
            ..block.clone()
        };
        let followed = follower.clone().follow(&changed, Some(&check));
        assert_eq!(followed, Err(FollowError::Block(wanted.clone())));
        let unchecked = follower.clone().follow(&changed, None);
        assert_eq!(unchecked.is_err(), wanted == BlockError::CertificateKind);
    }
    for good in [&block, &several] {
        follower.clone().follow(good, Some(&check)).unwrap();
    }
}

#[test]
fn a_block_without_a_certificate_is_judged_by_everything_else() {
    let follower = begun();
    let good = decided(alone(&follower, refused(2)), 0);
    let of = |change: &dyn Fn(&mut Block)| {
        let mut changed = good.clone();
        change(&mut changed);
        let judged = follower.state_after(&changed.header, &changed.records, None);
        judged.map(|_| ()).unwrap_err()
    };
    let state = of(&|b| b.header.state_hash = weighbridge_verifier::Hash::ZERO);
    assert_eq!(state, FollowError::StateHash);
    let set = of(&|b| b.header.validators_hash = weighbridge_verifier::Hash::ZERO);
    assert_eq!(set, FollowError::Block(BlockError::ValidatorSet));
    let proposer = of(&|b| b.header.proposer = "hub-2".to_owned());
    assert_eq!(proposer, FollowError::Proposer("hub-2".to_owned()));
    let place = of(&|b| b.header.height += 1);
    assert_eq!(place, FollowError::Height { wanted: 3, got: 4 });
    let body = of(&|b| b.records.clear());
    assert_eq!(body, FollowError::Block(BlockError::Empty));
}

/// A vote that lets somebody else in would be the last thing that a lone hub ever says.
#[test]
fn a_lone_hub_does_not_vote() {
    let follower = begun();
    let mut hubs = Hubs::begin(SUITE, "a");
    let votes = [
        hubs.vote("1", "+b", Faults::Byzantine),
        hubs.lease("1", "press-1", 1),
        hubs.lie("1", "b"),
    ];
    for (_, action, object, content) in votes {
        let draft = Draft {
            time: 1,
            subject: "hub:hub-1".to_owned(),
            action,
            object,
            permit: None,
            content,
            response: Response::Accepted,
        };
        let made = assemble(
            &[refused(2), draft.clone()],
            follower.state(),
            follower.tip(),
            &signer(),
            100,
        );
        assert_eq!(made.unwrap_err(), AssembleError::OfSeveral(1));
        // Nor does anybody take it from one.
        let mut block = alone(&follower, refused(2));
        block.records[0].body.content = draft.content;
        let followed = follower.clone().follow(&block, None);
        let wanted = BlockError::OfSeveral(0);
        assert_eq!(followed, Err(FollowError::Block(wanted)));
    }
}
