//! The tree over a ledger's blocks, and the notes of its head.

use super::*;
use crate::crypto::{CheckpointKey, Signer, ed25519_holds};
use crate::ledger::checkpoint::{CheckpointError, LedgerTree, hub_key, submission_of};
use crate::ledger::query::Explorer;
use weighbridge_verifier::checkpoint::{Checkpoint, Submission};
use weighbridge_verifier::note::Stamp;
use weighbridge_verifier::tree::{LOG, is_consistent};
use weighbridge_verifier::{Hash, merkle};

/// Appends blocks until there are `height`.
fn grow(ledger: &mut Ledger, height: u64) {
    while ledger.tip().height < height {
        let sequence = ledger.state().device("press-1").sequence + 1;
        let time = ledger.tip().time + 1_000;
        let drafts = [refuse_draft(SUITE, "press-1", sequence, time)];
        ledger.append(&drafts, Vec::new(), time).unwrap();
    }
}

/// The root as the definition has it: over the leaves of all blocks.
fn root(ledger: &Ledger, size: u64) -> Hash {
    let explorer = Explorer::new(ledger.store().clone());
    let leaf = |height| explorer.block(height).unwrap().unwrap().header.leaf();
    merkle::root_of(LOG, (1..=size).map(leaf).collect())
}

#[test]
fn the_tree_grows_with_the_ledger_and_every_proof_holds() {
    let disk = FaultyDisk::new(1);
    let mut ledger = open(&disk, 1_000).unwrap();
    let mut kept = LedgerTree::open(ledger.store().clone()).unwrap();
    for height in [1, 2, 3, 7, 8, 20] {
        grow(&mut ledger, height);
        for old in 0..=height {
            // One that remembers and one that has just begun say the same.
            let mut fresh = LedgerTree::open(ledger.store().clone()).unwrap();
            let (head, proof) = kept.extending(old, None).unwrap();
            assert_eq!(
                fresh.extending(old, None).unwrap(),
                (head.clone(), proof.clone())
            );
            assert_eq!((head.size, head.root), (height, root(&ledger, height)));
            let before = fresh.at_size(old).unwrap();
            assert_eq!(before.root, root(&ledger, old));
            let consistent = is_consistent((old, &before.root), (height, &head.root), &proof);
            assert!(consistent, "{old} to {height}");
            let (middle, proof) = kept.extending(old, Some(height.min(old + 2))).unwrap();
            let middle = (middle.size, &middle.root);
            assert!(is_consistent((old, &before.root), middle, &proof));
        }
        let more = kept.extending(height + 1, None);
        assert!(matches!(more, Err(CheckpointError::Short { .. })));
    }
}

#[test]
fn a_note_is_signed_by_both_keys_and_names_the_log() {
    let disk = FaultyDisk::new(1);
    let mut ledger = open(&disk, 1_000).unwrap();
    let mut tree = LedgerTree::open(ledger.store().clone()).unwrap();
    let key = CheckpointKey::generate();
    let old = tree.head().unwrap();
    grow(&mut ledger, 5);
    let sent = submission_of(&mut tree, (1, None), &key, &*signer()).unwrap();
    let sent = Submission::parse(sent.to_string().as_bytes()).unwrap();
    let head = Checkpoint::parse(&sent.note.text).unwrap();
    assert_eq!((head.size, sent.old, &head.origin), (5, 1, &old.origin));
    assert!(is_consistent((1, &old.root), (5, &head.root), &sent.proof));
    let hub = hub_key(&head.origin, signer().public_key());
    assert_eq!(tree.hub_key(), hub);
    for key in [hub, key.note_key(&head.origin)] {
        // Keys are handed around as text.
        let key = key.to_string().parse().unwrap();
        assert_eq!(sent.note.verify(&key, ed25519_holds), Ok(Stamp(None)));
    }
    // A chain that is begun anew is another log, also under the same keys.
    let other = FaultyDisk::new(1);
    let ledger = open(&other, 2_000).unwrap();
    let other = LedgerTree::open(ledger.store().clone()).unwrap();
    assert_ne!(other.origin(), head.origin);
}

#[test]
fn a_ledger_without_a_block_or_with_one_missing_has_no_checkpoint() {
    let disk = FaultyDisk::new(1);
    let empty = LedgerTree::open(Arc::new(disk.store())).err();
    assert!(matches!(empty, Some(CheckpointError::Empty)));
}
