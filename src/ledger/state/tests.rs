use super::*;
use crate::crypto::Signer;
use crate::ledger::Draft;
use crate::ledger::assemble::{AssembleError, Tip, assemble};
use crate::ledger::testing::{TestSigner, batch_content, refuse_draft, store_draft};
use proptest::prelude::*;
use weighbridge_verifier::record::attestation_message;
use weighbridge_verifier::rotation::{RotationContent, RotationError, follow, rotation_message};
use weighbridge_verifier::signature::DirectCheck;
use weighbridge_verifier::{
    Attestation, MessageContent, Response, SealedRef, SignatureError, VerdictSummary,
};

fn signer() -> TestSigner {
    TestSigner::new(SUITE, "hub-1", 1)
}

fn enrol(id: &str, kind: IdentityKind, key: Option<PublicKey>) -> Draft {
    let id = id.to_owned();
    Draft::enrol(1, "hub:hub-1", IdentityContent { id, kind, key })
}

fn document(version: u64) -> Draft {
    let commitment = SUITE.hash(&[b"limits", &version.to_le_bytes()]);
    let document = DocumentContent {
        kind: "limits".to_owned(),
        version,
        commitment,
        sealed: SealedRef {
            hash: commitment,
            length: 9,
            key_epoch: 1,
        },
    };
    Draft::configure(5, "device:press-1", "limits:press-1", document)
}

/// The genesis and a body of records that all may stand, as signed records.
fn records(drafts: &[Draft]) -> Vec<Record> {
    let signer = signer();
    let genesis = enrol("hub-1", IdentityKind::Hub, Some(signer.public_key()));
    let mut all = vec![genesis];
    all.extend_from_slice(drafts);
    let (block, _) = assemble(
        &all,
        &State::new(SUITE, "plant"),
        &Tip::NONE,
        &signer,
        1_000,
    )
    .unwrap();
    block.records
}

fn apply_all(records: &[Record]) -> Result<State, ApplyError> {
    let mut state = State::new(SUITE, "plant");
    for record in records {
        state.apply(record)?;
    }
    Ok(state)
}

fn some_records() -> Vec<Record> {
    records(&[
        enrol("press-1", IdentityKind::Device, None),
        document(1),
        store_draft(SUITE, "press-1", 1, 10),
        refuse_draft(SUITE, "press-1", 2, 20),
        store_draft(SUITE, "robot-2", 1, 30),
        document(2),
        store_draft(SUITE, "press-1", 3, 40),
    ])
}

/// Why the hub may not record `draft` after the genesis.
fn refused(draft: Draft) -> ApplyError {
    let signer = signer();
    let genesis = enrol("hub-1", IdentityKind::Hub, Some(signer.public_key()));
    let drafts = [genesis, draft];
    match assemble(
        &drafts,
        &State::new(SUITE, "plant"),
        &Tip::NONE,
        &signer,
        1_000,
    ) {
        Err(AssembleError::Draft { index: 1, why }) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn records_add_up() {
    let state = apply_all(&some_records()).unwrap();
    let press = state.device("press-1");
    assert_eq!((press.epoch, press.sequence), (1, 3));
    assert_eq!(state.device("lathe-3"), Default::default());
    assert_eq!(
        state.document("limits:press-1", "limits").unwrap().version,
        2
    );
    let totals = state.totals();
    assert_eq!((totals.records, totals.accepted, totals.invalid), (8, 3, 1));
    assert_eq!(totals.samples, 9);
    assert_eq!(state.validators().unwrap().validators.len(), 1);
    assert_eq!(state.hubs()["hub-1"].sequence, 8);
}

#[test]
fn the_hash_depends_on_the_records_only() {
    let records = some_records();
    let mut hashes = std::collections::BTreeSet::new();
    let mut state = State::new(SUITE, "plant");
    hashes.insert(state.hash());
    for (done, record) in records.iter().enumerate() {
        state.apply(record).unwrap();
        assert_eq!(state.hash(), apply_all(&records[..=done]).unwrap().hash());
        assert!(
            hashes.insert(state.hash()),
            "record {done} changes the hash"
        );
    }
    assert_ne!(
        State::new(SUITE, "plant").hash(),
        State::new(SUITE, "plant-2").hash()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Of all orders, with or without repeats, only the right one can be applied.
    #[test]
    fn only_the_right_order_can_be_applied(picks in proptest::collection::vec(0usize..8, 1..9)) {
        let records = some_records();
        let mut state = State::new(SUITE, "plant");
        let mut next = 0;
        for pick in picks {
            let before = state.hash();
            match state.apply(&records[pick]) {
                Ok(()) => {
                    prop_assert_eq!(pick, next);
                    next += 1;
                }
                Err(_) => {
                    prop_assert_ne!(pick, next);
                    prop_assert_eq!(state.hash(), before);
                }
            }
        }
    }
}

#[test]
fn the_first_record_must_enrol_its_own_hub() {
    let records = some_records();
    let mut state = State::new(SUITE, "plant");
    assert_eq!(state.apply(&records[1]), Err(ApplyError::Genesis));
    let signer = signer();
    let key = Some(signer.public_key());
    for wrong in [
        enrol("hub-2", IdentityKind::Hub, key),
        enrol("hub-1", IdentityKind::User, key),
        enrol("hub-1", IdentityKind::Hub, None),
        store_draft(SUITE, "press-1", 1, 10),
    ] {
        let made = assemble(
            &[wrong],
            &State::new(SUITE, "plant"),
            &Tip::NONE,
            &signer,
            1_000,
        );
        assert!(made.is_err());
    }
}

#[test]
fn a_record_of_another_chain_hub_or_key_is_refused() {
    let records = some_records();
    let mut other_chain = State::new(SUITE, "plant-2");
    let refused = other_chain.apply(&records[0]);
    assert_eq!(refused, Err(ApplyError::Chain("plant".to_owned())));
    let mut state = apply_all(&records[..2]).unwrap();
    let mut stranger = records[2].clone();
    stranger.body.hub = "hub-2".to_owned();
    assert_eq!(
        state.apply(&stranger),
        Err(ApplyError::UnknownHub("hub-2".to_owned()))
    );
    let mut forged = records[2].clone();
    forged.signature = TestSigner::new(SUITE, "hub-1", 2).sign(&forged.body.hash());
    assert_eq!(state.apply(&forged), Err(SignatureError::Mismatch.into()));
    state.apply(&records[2]).unwrap();
}

#[test]
fn batches_come_one_after_the_other() {
    let mut state = apply_all(&some_records()).unwrap();
    let may_follow = |state: &State, epoch, sequence| {
        let content = batch_content(SUITE, "press-1", epoch, sequence);
        state.check_batch(&content).is_ok()
    };
    assert!(may_follow(&state, 1, 4));
    assert!(may_follow(&state, 2, 1));
    for (epoch, sequence) in [
        (1, 3),
        (1, 5),
        (0, 4),
        (0, 1),
        (2, 2),
        (2, 4),
        (1, u64::MAX),
    ] {
        assert!(!may_follow(&state, epoch, sequence), "{epoch}.{sequence}");
    }
    state.devices.change().insert(
        "press-1".to_owned(),
        DeviceTip {
            epoch: 1,
            sequence: u64::MAX,
        },
    );
    assert!(!may_follow(&state, 1, 0));
}

#[test]
fn action_content_and_response_must_fit() {
    let shape = |draft: Draft| matches!(refused(draft), ApplyError::Shape { .. });
    let with = |change: fn(&mut Draft)| {
        let mut draft = store_draft(SUITE, "press-1", 1, 10);
        change(&mut draft);
        draft
    };
    assert!(shape(with(|d| d.response = Response::Refused)));
    assert!(shape(with(|d| d.action = Action::Refuse)));
    assert!(shape(with(|d| d.action = Action::Configure)));
    assert!(shape(with(|d| d.action = Action::Membership)));
    assert!(shape(with(|d| d.subject = String::new())));
    assert!(shape(with(|d| d.object = "x".repeat(257))));
    let batch = |change: fn(&mut BatchContent)| {
        let mut content = batch_content(SUITE, "press-1", 1, 1);
        change(&mut content);
        Draft::store(10, content)
    };
    assert!(shape(batch(|b| b.sealed = None)));
    assert!(shape(batch(|b| b.samples = 0)));
    assert!(shape(batch(|b| b.device = String::new())));
    assert!(shape(batch(|b| b.verdict.class = VerdictClass::Invalid)));
    assert!(shape(batch(|b| b.verdict.rule = "x".repeat(257))));
    let refuse = Draft::refuse(10, batch_content(SUITE, "press-1", 1, 1));
    assert!(shape(refuse));
    let act = |action: Action, kind: &str| Draft {
        action,
        content: Content::Message(MessageContent {
            kind: kind.to_owned(),
            commitment: Hash([1; 32]),
            sealed: batch_content(SUITE, "press-1", 1, 1).sealed.unwrap(),
        }),
        ..store_draft(SUITE, "press-1", 1, 10)
    };
    assert!(shape(act(Action::Store, "control")));
    assert!(shape(act(Action::Configure, "control")));
    assert!(shape(act(Action::Control, "")));
    assert!(shape(act(Action::Refuse, "control")));
    let applied = apply_all(&records(&[act(Action::Control, "control")])).unwrap();
    assert!(applied.totals().sealed_bytes > 0);
}

#[test]
fn documents_are_counted_without_a_gap() {
    assert!(matches!(
        refused(document(2)),
        ApplyError::DocumentVersion {
            wanted: 1,
            got: 2,
            ..
        }
    ));
}

#[test]
fn identities_are_unique_and_can_be_revoked_once() {
    let taken = refused(enrol("hub-1", IdentityKind::User, None));
    assert_eq!(taken, ApplyError::IdentityTaken("hub-1".to_owned()));
    let revoke = |mut draft: Draft| {
        draft.action = Action::Revoke;
        draft
    };
    let hub = enrol("hub-1", IdentityKind::Hub, Some(signer().public_key()));
    assert_eq!(
        refused(revoke(hub)),
        ApplyError::RevokesValidator("hub-1".to_owned())
    );
    let user = enrol("anna", IdentityKind::User, None);
    let unknown = ApplyError::UnknownIdentity("anna".to_owned());
    assert_eq!(refused(revoke(user.clone())), unknown);
    let state = apply_all(&records(&[user.clone(), revoke(user)])).unwrap();
    assert!(state.identities()["anna"].revoked);
}

#[test]
fn only_the_device_itself_or_an_edge_node_attests() {
    let device = TestSigner::new(SUITE, "press-1", 5);
    let attested = |signer: &TestSigner| {
        let mut content = batch_content(SUITE, "press-1", 1, 1);
        content.attester = Some(Attestation {
            key: signer.public_key(),
            signature: signer.sign(&attestation_message(SUITE, &content)),
        });
        Draft::store(10, content)
    };
    let enrolled = enrol("press-1", IdentityKind::Device, Some(device.public_key()));
    apply_all(&records(&[enrolled.clone(), attested(&device)])).unwrap();
    let stranger = attested(&TestSigner::new(SUITE, "press-1", 6));
    assert_eq!(
        refused(stranger),
        ApplyError::Attester("press-1".to_owned())
    );
    // A signature over another batch is found when the record is verified.
    let mut moved = records(&[enrolled, attested(&device)]);
    let last = moved.last_mut().unwrap();
    if let Content::Batch(batch) = &mut last.body.content {
        batch.samples += 1;
    }
    last.signature = signer().sign(&last.body.hash());
    assert_eq!(
        apply_all(&moved),
        Err(ApplyError::Signature(SignatureError::Mismatch))
    );
}

#[test]
fn who_attested_a_batch_is_remembered_beside_its_number() {
    let edges = [
        TestSigner::new(SUITE, "edge-1", 5),
        TestSigner::new(SUITE, "edge-2", 6),
    ];
    let by = |edge: Option<usize>, epoch, sequence| {
        let mut content = batch_content(SUITE, "press-1", epoch, sequence);
        content.attester = edge.map(|edge| Attestation {
            key: edges[edge].public_key(),
            signature: edges[edge].sign(&attestation_message(SUITE, &content)),
        });
        Draft::store(10, content)
    };
    // A batch whose signature did not hold.
    let forged = |epoch, sequence| {
        let mut content = batch_content(SUITE, "press-1", epoch, sequence);
        content.sealed = None;
        content.verdict = VerdictSummary {
            class: VerdictClass::Invalid,
            chart: TRANSPORT.to_owned(),
            rule: "signature".to_owned(),
        };
        Draft::refuse(10, content)
    };
    let mut drafts: Vec<_> = ["edge-1", "edge-2"]
        .iter()
        .zip(&edges)
        .map(|(id, edge)| enrol(id, IdentityKind::Edge, Some(edge.public_key())))
        .collect();
    drafts.extend([
        by(Some(0), 1, 1),
        forged(1, 2),
        // The hub, in the epoch that it finds, then the other edge node, then nobody knows who.
        by(None, 1, 3),
        by(Some(1), 2, 1),
        forged(3, 1),
    ]);
    let state = apply_all(&records(&drafts)).unwrap();
    let tip = |epoch, sequence| DeviceTip { epoch, sequence };
    let attested = &state.attested()["press-1"];
    assert_eq!(attested[&edges[0].public_key()], tip(1, 2));
    assert_eq!(attested[&edges[1].public_key()], tip(2, 1));
    assert_eq!(attested.len(), 2);
    // It is in the bytes of the whole state, which are read in one way only.
    let image = state.to_image();
    assert_eq!(State::of_image(SUITE, &image).unwrap(), state);
    assert!(State::of_image(SUITE, &image[1..]).is_err());
    assert!(State::of_image(SUITE, &[&image[..], &[0]].concat()).is_err());
    assert_eq!(state.device("press-1"), tip(3, 1));
}

/// What a hub or a user recorded of an object that is remembered.
fn a_word(object: &str, action: Action, kind: &str, word: u8) -> Draft {
    let response = match action {
        Action::Refuse => Response::Refused,
        _ => Response::Accepted,
    };
    Draft {
        time: 50,
        subject: "user:anna".to_owned(),
        action,
        object: object.to_owned(),
        permit: None,
        content: Content::Message(MessageContent {
            kind: kind.to_owned(),
            commitment: Hash([word; 32]),
            sealed: SealedRef {
                hash: Hash([word; 32]),
                length: 9,
                key_epoch: 1,
            },
        }),
        response,
    }
}

#[test]
fn the_newest_word_on_an_alarm_is_kept_until_nothing_must_be_remembered() {
    use crate::ledger::words::{ALARM, ALARM_OVER};
    let (a, b) = ("alarm:press-1/pressure", "alarm:press-1");
    let mut drafts = vec![
        a_word(a, Action::Alarm, ALARM, 1),
        a_word(b, Action::Alarm, ALARM, 2),
        a_word(a, Action::Acknowledge, ALARM, 3),
        // Neither a refusal nor something about a device is the state of an alarm.
        a_word(a, Action::Refuse, "alarm-refused", 4),
        a_word("device:press-1", Action::Control, "control", 5),
    ];
    let words = |state: &State| {
        let words = state.alarms().iter();
        let words = words.map(|(id, word)| (id.clone(), word.message.commitment.0[0]));
        words.collect::<Vec<_>>()
    };
    let state = apply_all(&records(&drafts)).unwrap();
    assert_eq!(words(&state), [(b.to_owned(), 2), (a.to_owned(), 3)]);

    drafts.push(a_word(a, Action::Acknowledge, ALARM_OVER, 6));
    let rest = apply_all(&records(&drafts)).unwrap();
    assert_eq!(words(&rest), [(b.to_owned(), 2)]);
    drafts.push(a_word(b, Action::Alarm, ALARM_OVER, 7));
    let none = apply_all(&records(&drafts)).unwrap();
    assert!(none.alarms().is_empty());
}

#[test]
fn the_newest_word_on_access_is_kept_and_is_part_of_the_state() {
    use crate::ledger::words::{ACCESS, ACCESS_OVER};
    let (ann, permit) = ("access:subject/user:ann", "access:permit/read/user:ann");
    let mut drafts = vec![
        a_word(ann, Action::Enrol, ACCESS, 1),
        a_word(permit, Action::Grant, ACCESS, 2),
        a_word(ann, Action::Configure, ACCESS, 3),
        // What was refused, and what was only read, changes nothing.
        a_word(ann, Action::Refuse, ACCESS, 4),
        a_word(ann, Action::Read, ACCESS, 5),
    ];
    let words = |state: &State| {
        let words = state.access().iter();
        let words = words.map(|(id, word)| (id.clone(), word.message.commitment.0[0]));
        words.collect::<Vec<_>>()
    };
    let state = apply_all(&records(&drafts)).unwrap();
    assert_eq!(words(&state), [(permit.to_owned(), 2), (ann.to_owned(), 3)]);
    let without = apply_all(&records(&drafts[..2])).unwrap();
    assert_ne!(state.hash(), without.hash());
    drafts.push(a_word(permit, Action::Grant, ACCESS_OVER, 6));
    let rest = apply_all(&records(&drafts)).unwrap();
    assert_eq!(words(&rest), [(ann.to_owned(), 3)]);
    // Elsewhere nobody is enrolled, withdrawn or configured by sealed words.
    for action in [Action::Enrol, Action::Revoke, Action::Configure] {
        let mut hidden = records(&[a_word(ann, action, ACCESS, 7)]);
        let last = hidden.last_mut().unwrap();
        last.body.object = "identity:user:ann".to_owned();
        last.signature = signer().sign(&last.body.hash());
        let refused = apply_all(&hidden);
        assert!(
            matches!(refused, Err(ApplyError::Shape { .. })),
            "{action:?}"
        );
    }
}

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
