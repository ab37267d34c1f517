//! Who attests, and what is remembered of it.

use super::*;
use crate::ledger::seal::TRANSPORT;

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
