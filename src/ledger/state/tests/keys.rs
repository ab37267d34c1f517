//! Another key for an identity that has one.

use super::*;

/// The rotation of `id` from the key of byte `from` to that of byte `to`, of which `consents` has the old one
/// sign as well.
fn rotation(
    (id, kind): (&str, IdentityKind),
    (from, to): (u8, u8),
    consents: bool,
) -> RotationContent {
    let (old, new) = (
        TestSigner::new(SUITE, id, from),
        TestSigner::new(SUITE, id, to),
    );
    let identity = IdentityContent {
        id: id.to_owned(),
        kind,
        key: Some(new.public_key()),
    };
    let replaces = old.public_key();
    let message = rotation_message(SUITE, "plant", &identity, &replaces);
    RotationContent {
        identity,
        replaces,
        proof: new.sign(&message),
        consent: consents.then(|| old.sign(&message)),
    }
}

#[test]
fn a_hubs_new_key_signs_from_the_next_record_on() {
    let hub = ("hub-1", IdentityKind::Hub);
    let change = Draft::rotate(5, "user:anna", rotation(hub, (1, 2), false));
    let drafts = records(std::slice::from_ref(&change));
    let mut state = apply_all(&drafts).unwrap();
    let (old, new) = (signer(), TestSigner::new(SUITE, "hub-1", 2));
    assert_eq!(state.former_keys("hub-1"), [old.public_key()]);
    assert_eq!(
        state.validators().unwrap().validators[0].key,
        new.public_key()
    );
    let before = apply_all(&drafts[..1]).unwrap();
    assert_ne!(state.hash(), before.hash());
    // The block is the old set's, the next one the new set's.
    let tip = Tip {
        height: 1,
        hash: SUITE.hash(&[b"block"]),
        time: 2_000,
    };
    let next = [store_draft(SUITE, "press-1", 1, 10)];
    let (block, _) = assemble(std::slice::from_ref(&change), &before, &tip, &old, 3_000).unwrap();
    let set = before.validators().unwrap();
    assert_eq!(block.header.validators_hash, set.hash(SUITE));
    block.verify(set).unwrap();
    let (block, _) = assemble(&next, &state, &tip, &new, 3_000).unwrap();
    block.verify(state.validators().unwrap()).unwrap();
    // Whoever signs on by the old key is nobody.
    let (stale, _) = assemble(&next, &state, &tip, &old, 3_000).unwrap();
    assert_eq!(
        state.apply(&stale.records[0]),
        Err(ApplyError::Signature(SignatureError::Mismatch))
    );
    state.apply(&block.records[0]).unwrap();
    // Nothing of the hub's comes after it in its block.
    let both = [change, next[0].clone()];
    assert_eq!(
        assemble(&both, &before, &tip, &old, 3_000).unwrap_err(),
        AssembleError::NotLast(0)
    );
}

#[test]
fn only_the_owner_of_both_keys_replaces_one() {
    let (hub, edge) = (("hub-1", IdentityKind::Hub), ("edge-1", IdentityKind::Edge));
    let state = |drafts: &[Draft]| apply_all(&records(drafts));
    let key = |byte| Some(TestSigner::new(SUITE, "edge-1", byte).public_key());
    let enrolled = enrol("edge-1", IdentityKind::Edge, key(3));
    let of_edge = |keys, consents| {
        let draft = Draft::rotate(5, "user:anna", rotation(edge, keys, consents));
        state(&[enrolled.clone(), draft])
    };
    // With its own word, or by the hub's, where it has lost its key.
    for consents in [true, false] {
        let state = of_edge((3, 4), consents).unwrap();
        assert_eq!(state.identities()["edge-1"].key, key(4));
        assert_eq!(state.former_keys("edge-1"), [key(3).unwrap()]);
    }
    let refused = |draft: Draft| refused(draft);
    let of_hub = |keys, consents| Draft::rotate(5, "user:anna", rotation(hub, keys, consents));
    assert_eq!(
        refused(of_hub((9, 2), false)),
        ApplyError::Replaced("hub-1".into())
    );
    assert_eq!(
        refused(of_hub((1, 1), false)),
        ApplyError::KeyTaken("hub-1".into(), "hub-1".into())
    );
    assert_eq!(
        refused(of_hub((1, 2), true)),
        ApplyError::Rotates("hub-1".into())
    );
    let unknown = Draft::rotate(5, "user:anna", rotation(edge, (3, 4), true));
    assert_eq!(
        refused(unknown),
        ApplyError::UnknownIdentity("edge-1".into())
    );
    // A device is no edge node.
    let other = ("edge-1", IdentityKind::Device);
    let other = Draft::rotate(5, "user:anna", rotation(other, (3, 4), true));
    assert!(matches!(
        assembled(&[enrolled.clone(), other]),
        Err(AssembleError::Draft {
            why: ApplyError::UnknownIdentity(_),
            ..
        })
    ));
    // Somebody else's key, of now or of before.
    for taken in [1, 3] {
        let again = Draft::rotate(6, "user:anna", rotation(edge, (4, taken), true));
        let first = Draft::rotate(5, "user:anna", rotation(edge, (3, 4), true));
        assert!(matches!(
            assembled(&[enrolled.clone(), first, again]),
            Err(AssembleError::Draft {
                index: 3,
                why: ApplyError::KeyTaken(..)
            })
        ));
    }
    let former = enrol("edge-2", IdentityKind::Edge, key(3));
    let first = Draft::rotate(5, "user:anna", rotation(edge, (3, 4), true));
    assert!(matches!(
        assembled(&[enrolled, first, former]),
        Err(AssembleError::Draft {
            index: 3,
            why: ApplyError::KeyTaken(..)
        })
    ));
}

#[test]
fn a_rotation_without_both_signatures_does_not_hold() {
    let edge = ("edge-1", IdentityKind::Edge);
    let key = TestSigner::new(SUITE, "edge-1", 3).public_key();
    let enrolled = enrol("edge-1", IdentityKind::Edge, Some(key));
    let stranger = TestSigner::new(SUITE, "edge-1", 9);
    let good = rotation(edge, (3, 4), true);
    let wrong = stranger.sign(&SUITE.hash(&[b"whatever"]));
    let no_proof = RotationContent {
        proof: wrong,
        ..good.clone()
    };
    let no_consent = RotationContent {
        consent: Some(wrong),
        ..good
    };
    for bad in [no_proof, no_consent] {
        let drafts = [enrolled.clone(), Draft::rotate(5, "user:anna", bad)];
        let refused = apply_all(&records(&drafts)).unwrap_err();
        assert_eq!(refused, ApplyError::Signature(SignatureError::Mismatch));
    }
}

#[test]
fn the_records_lead_from_each_key_to_the_newest() {
    let hub = ("hub-1", IdentityKind::Hub);
    let mut state = apply_all(&records(&[])).unwrap();
    let mut changes = Vec::new();
    let tip = Tip {
        height: 1,
        hash: SUITE.hash(&[b"block"]),
        time: 2_000,
    };
    for byte in 1..=3 {
        let signer = TestSigner::new(SUITE, "hub-1", byte);
        let change = Draft::rotate(5, "user:anna", rotation(hub, (byte, byte + 1), false));
        let (block, after) = assemble(&[change], &state, &tip, &signer, 3_000).unwrap();
        state = after;
        changes.extend(block.records);
    }
    let key = |byte| TestSigner::new(SUITE, "hub-1", byte).public_key();
    for byte in 1..=3 {
        assert_eq!(follow(key(byte), &changes, &DirectCheck), Ok(key(4)));
    }
    assert_eq!(follow(key(9), &[], &DirectCheck), Ok(key(9)));
    let unknown = Err(RotationError::Unknown(key(9)));
    assert_eq!(follow(key(9), &changes, &DirectCheck), unknown);
    // A link that is missing, and one that somebody else has made.
    assert_eq!(
        follow(key(1), &changes[1..], &DirectCheck),
        Err(RotationError::Unknown(key(1)))
    );
    let mut forged = changes.clone();
    forged[1].signature = changes[0].signature;
    assert!(matches!(
        follow(key(1), &forged, &DirectCheck),
        Err(RotationError::Signature { index: 1, .. })
    ));
    let other = apply_all(&records(&[]))
        .map(|_| records(&[]).remove(0))
        .unwrap();
    assert_eq!(
        follow(key(1), &[other], &DirectCheck),
        Err(RotationError::Other(0))
    );
}

fn assembled(drafts: &[Draft]) -> Result<(), AssembleError> {
    let signer = signer();
    let genesis = enrol("hub-1", IdentityKind::Hub, Some(signer.public_key()));
    let mut all = vec![genesis];
    all.extend_from_slice(drafts);
    let state = State::new(SUITE, "plant");
    assemble(&all, &state, &Tip::NONE, &signer, 1_000).map(drop)
}

#[test]
fn what_was_signed_before_a_key_was_replaced_may_come_after_and_counts_for_its_owner() {
    let edge = ("edge-1", IdentityKind::Edge);
    let key = |byte| TestSigner::new(SUITE, "edge-1", byte);
    let enrolled = enrol("edge-1", IdentityKind::Edge, Some(key(3).public_key()));
    let batch = |sequence: u64, byte: u8| {
        let mut batch = batch_content(SUITE, "press-1", 1, sequence);
        let signature = key(byte).sign(&attestation_message(SUITE, &batch));
        let key = key(byte).public_key();
        batch.attester = Some(Attestation { key, signature });
        Draft::store(10, batch)
    };
    let change = Draft::rotate(5, "user:anna", rotation(edge, (3, 4), true));
    let drafts = [
        enrolled.clone(),
        batch(1, 3),
        change,
        batch(2, 3),
        batch(3, 4),
    ];
    for upto in 3..=drafts.len() {
        let state = apply_all(&records(&drafts[..upto])).unwrap();
        let of_device = &state.attested()["press-1"];
        let newest = of_device[&key(4).public_key()];
        assert_eq!(newest.sequence, [1, 2, 3][upto - 3]);
    }
    let stranger = [enrolled, batch(1, 9)];
    assert!(matches!(
        assembled(&stranger),
        Err(AssembleError::Draft {
            why: ApplyError::Attester(_),
            ..
        })
    ));
}
