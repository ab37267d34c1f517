//! Who signs, on chains whose hub changes its key.

use super::*;
use crate::crypto::Signer;
use crate::ledger::keys::height_key;
use crate::ledger::proof::Exhibits;
use crate::ledger::store::{Put, Space, Store};
use crate::ledger::testing::{Memory, TestSigner};
use std::sync::Arc;
use weighbridge_verifier::block::{BLOCK_VERSION, commit_message};
use weighbridge_verifier::evidence::{Evidence, EvidenceError, Trust};
use weighbridge_verifier::record::RECORD_VERSION;
use weighbridge_verifier::rotation::{RotationContent, rotation_message};
use weighbridge_verifier::{
    Action, CommitCertificate, CommitSignature, Content, Hash, IdentityContent, IdentityKind,
    Record, RecordBody, Response, Suite, encode,
};

const SUITE: Suite = Suite::Nist;

/// What block `height` records, when the hub's key is made of `byte` before it.
fn content(height: u64, changes: &[(u64, u8)], byte: u8) -> (Action, Content) {
    let hub = |key| IdentityContent {
        id: "hub-1".to_owned(),
        kind: IdentityKind::Hub,
        key: Some(key),
    };
    if let Some((_, next)) = changes.iter().find(|(at, _)| *at == height) {
        let (replaces, next) = (key(byte), TestSigner::new(SUITE, "hub-1", *next));
        let identity = hub(next.public_key());
        let message = rotation_message(SUITE, "plant", &identity, &replaces);
        let rotation = RotationContent {
            identity,
            replaces,
            proof: next.sign(&message),
            consent: None,
        };
        return (Action::Membership, Content::Rotation(rotation));
    }
    match height {
        1 => (Action::Enrol, Content::Identity(hub(key(byte)))),
        _ => (Action::Read, Content::Commitment(Hash([9; 32]))),
    }
}

/// A chain of `blocks` blocks, each of one record, whose hub's key changes after the blocks named.
/// The ledger's own rules are not asked: this is about who signs.
fn chain(blocks: u64, changes: &[(u64, u8)]) -> Explorer {
    let store = Memory::default();
    let (mut byte, mut before) = (1, Hash::ZERO);
    for height in 1..=blocks {
        let signer = TestSigner::new(SUITE, "hub-1", byte);
        let time = i64::try_from(height).unwrap();
        let (action, content) = content(height, changes, byte);
        let body = RecordBody {
            version: SUITE.marked(RECORD_VERSION),
            chain: "plant".to_owned(),
            hub: "hub-1".to_owned(),
            sequence: height,
            previous: Hash::ZERO,
            time,
            subject: "hub:hub-1".to_owned(),
            action,
            object: "identity:hub-1".to_owned(),
            permit: None,
            content,
            response: Response::Accepted,
        };
        let signature = signer.sign(&body.hash());
        let records = vec![Record { body, signature }];
        let set = ValidatorSet::solo("hub-1", signer.public_key());
        let header = BlockHeader {
            version: SUITE.marked(BLOCK_VERSION),
            chain: "plant".to_owned(),
            height,
            previous_hash: before,
            time,
            record_count: 1,
            merkle_root: Block::merkle_root(SUITE, &records),
            state_hash: Hash::ZERO,
            validators_hash: set.hash(SUITE),
            proposer: "hub-1".to_owned(),
        };
        before = header.hash();
        let signature = signer.sign(&commit_message(&header));
        let validator = "hub-1".to_owned();
        let signatures = vec![CommitSignature {
            validator,
            signature,
        }];
        let block = Block {
            header,
            records,
            certificate: CommitCertificate { signatures }.into(),
        };
        let put = Put {
            space: Space::Blocks,
            key: height_key(height),
            value: encode(&block),
        };
        store.commit(&[put]).unwrap();
        if let Some((_, next)) = changes.iter().find(|(at, _)| *at == height) {
            byte = *next;
        }
    }
    Explorer::new(Arc::new(store))
}

/// The evidence of the records of these blocks, and of who signed them.
fn shown(explorer: &Explorer, heights: &[u64]) -> Evidence {
    let mut succession = Succession::begin(explorer).unwrap();
    let mut exhibits = Exhibits::new(succession.set().clone());
    for height in heights {
        let block = explorer.block(*height).unwrap().unwrap();
        exhibits.show_record(&block, 0).unwrap();
        for (block, index) in succession.until(*height).unwrap() {
            exhibits.show_record(&block, index).unwrap();
        }
    }
    exhibits.into_evidence().unwrap()
}

fn key(byte: u8) -> weighbridge_verifier::PublicKey {
    TestSigner::new(SUITE, "hub-1", byte).public_key()
}

#[test]
fn every_block_is_proven_from_the_first_set() {
    // The hub comes back to a key that it had, changes twice in a row, and in the last block.
    let changes = [(3, 2), (20, 1), (21, 3), (40, 4)];
    let explorer = chain(40, &changes);
    for heights in [
        vec![1, 2],
        vec![1, 4],
        vec![1, 10, 30],
        vec![1, 39],
        (1..=40).collect(),
    ] {
        let evidence = shown(&explorer, &heights);
        assert_eq!(evidence.verify(&[key(1)]).unwrap(), Trust::Key);
        let bytes = evidence.to_bytes();
        assert_eq!(Evidence::from_bytes(&bytes).unwrap(), evidence);
        for stranger in [7, 4] {
            let refused = evidence.verify(&[key(stranger)]).unwrap_err();
            assert!(matches!(refused, EvidenceError::Untrusted), "{refused}");
        }
    }
}

#[test]
fn a_change_that_is_left_out_is_missed() {
    let explorer = chain(9, &[(3, 2), (6, 3)]);
    let whole = shown(&explorer, &[1, 5, 8]);
    assert_eq!(whole.blocks.len(), 5);
    for height in [3, 6] {
        let mut less = whole.clone();
        less.blocks.retain(|block| block.header.height != height);
        let refused = less.verify(&[key(1)]);
        assert!(
            matches!(refused, Err(EvidenceError::RecordSignature(_))),
            "{refused:?}"
        );
    }
}

#[test]
fn a_trusted_key_does_not_speak_for_what_was_before_it() {
    let explorer = chain(9, &[(3, 2)]);
    let mut succession = Succession::begin(&explorer).unwrap();
    succession.until(9).unwrap();
    let mut exhibits = Exhibits::new(succession.set().clone());
    let newest = explorer.block(9).unwrap().unwrap();
    exhibits.show_record(&newest, 0).unwrap();
    let evidence = exhibits.into_evidence().unwrap();
    assert_eq!(evidence.verify(&[key(2)]).unwrap(), Trust::Key);
    assert!(evidence.verify(&[key(1)]).is_err());
    let from_the_first = shown(&explorer, &[1, 9]);
    assert!(from_the_first.verify(&[key(2)]).is_err());
}

#[test]
fn a_set_that_no_record_made_is_an_error() {
    // A block that says of itself that another key signs it.
    let odd = chain(6, &[]);
    let other = chain(6, &[(3, 2)]);
    let store = Memory::default();
    for height in 1..=6 {
        let from = if height < 4 { &odd } else { &other };
        let block = from.block(height).unwrap().unwrap();
        let put = Put {
            space: Space::Blocks,
            key: height_key(height),
            value: encode(&block),
        };
        store.commit(&[put]).unwrap();
    }
    let explorer = Explorer::new(Arc::new(store));
    let mut succession = Succession::begin(&explorer).unwrap();
    let error = succession.until(6).unwrap_err();
    assert!(matches!(error, PastError::Succession(4)), "{error}");
}
