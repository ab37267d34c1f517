mod attested;
mod hubs;
mod keys;
mod leases;
mod relay;
mod words;

use super::*;
use crate::crypto::Signer;
use crate::ledger::Draft;
use crate::ledger::assemble::{AssembleError, Tip, assemble, sign_record};
use crate::ledger::testing::{TestSigner, batch_content, refuse_draft, store_draft};
use proptest::prelude::*;
use weighbridge_verifier::record::attestation_message;
use weighbridge_verifier::rotation::{RotationContent, RotationError, follow, rotation_message};
use weighbridge_verifier::signature::DirectCheck;
use weighbridge_verifier::{
    Action, Attestation, BatchContent, Content, DocumentContent, IdentityContent, MessageContent,
    Response, SealedRef, SignatureError, VerdictClass, VerdictSummary,
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
        state.check_batch("hub-1", &content).is_ok()
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
