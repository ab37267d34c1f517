use super::*;
use crate::crypto::Signer;
use crate::ledger::Draft;
use crate::ledger::assemble::{Tip, assemble};
use crate::ledger::state::State;
use crate::ledger::testing::{TestSigner, batch_content, refuse_draft, store_draft};
use crate::model::{BatchBuilder, Quality, TagSpec, Value, ValueKind};
use std::sync::Arc;
use weighbridge_verifier::evidence::Trust;
use weighbridge_verifier::{IdentityContent, IdentityKind, PublicKey};

fn salt(position: u64) -> Salt {
    let mut salt = [9; 16];
    salt[..8].copy_from_slice(&position.to_le_bytes());
    salt
}

fn batch() -> Batch {
    let tag = |name: &str| TagSpec {
        name: name.into(),
        kind: ValueKind::F64,
        unit: String::new(),
        description: String::new(),
        range: None,
        writable: false,
    };
    let tags: Arc<[TagSpec]> = ["force", "heat"].map(tag).into();
    let mut builder = BatchBuilder::scanning("press-1".into(), tags);
    for scan in 0..7 {
        builder.begin_scan(100 * scan);
        builder.scan_f64(0, scan as f64);
        builder.scan(1, Value::F64(-(scan as f64)), Quality::UNCERTAIN);
    }
    builder.take(1, 1).unwrap()
}

/// A chain of two blocks; the batch is record 1 of the second.
fn chain() -> (Block, Block, TestSigner) {
    let signer = TestSigner::new(SUITE, "hub-1", 1);
    let hub = IdentityContent {
        id: "hub-1".to_owned(),
        kind: IdentityKind::Hub,
        key: Some(signer.public_key()),
    };
    let enrol = [Draft::enrol(1, "hub:hub-1", hub)];
    let (state, tip) = (State::new(SUITE, "plant"), Tip::NONE);
    let (genesis, state) = assemble(&enrol, &state, &tip, &signer, 1_000).unwrap();
    let batch = batch();
    let leaves = InnerTree::of(SUITE, &batch).leaves(&batch, salt).unwrap();
    let mut content = batch_content(SUITE, "press-1", 1, 1);
    content.samples = leaves.len() as u32;
    content.inner_root = inner_root(SUITE, leaves);
    let drafts = [
        store_draft(SUITE, "robot-2", 1, 2_000),
        Draft::store(2_000, content),
        refuse_draft(SUITE, "robot-2", 2, 2_000),
    ];
    let tip = Tip::of(&genesis.header);
    let (block, _) = assemble(&drafts, &state, &tip, &signer, 3_000).unwrap();
    (genesis, block, signer)
}

fn evidence_of(sample: SampleAt) -> (Evidence, PublicKey) {
    let (genesis, block, signer) = chain();
    let set = genesis_validators(&genesis).unwrap();
    let evidence = prove(&block, 1, &set, &batch(), sample, salt).unwrap();
    (evidence, signer.public_key())
}

#[test]
fn every_sample_can_be_proven_to_whoever_trusts_the_key() {
    let batch = batch();
    for (column, index) in [(0, 0), (0, 6), (1, 3), (1, 6)] {
        let (evidence, key) = evidence_of(SampleAt { column, index });
        let read = Evidence::from_bytes(&evidence.to_bytes()).unwrap();
        assert_eq!(read, evidence);
        assert_eq!(read.verify(&[key]).unwrap(), Trust::Key);
        assert_eq!(read.verify(&[]).unwrap(), Trust::SelfConsistentOnly);
        assert_eq!(
            Some(read.samples().next().unwrap().2.value.clone()),
            batch.columns[column].values.get(index)
        );
        let stranger = TestSigner::new(SUITE, "hub-1", 2).public_key();
        let refused = read_again(&evidence).verify(&[stranger]);
        assert!(matches!(refused, Err(EvidenceError::Untrusted)));
        assert!(evidence.to_bytes().len() < 4096);
    }
}

fn read_again(evidence: &Evidence) -> Evidence {
    Evidence::from_bytes(&evidence.to_bytes()).unwrap()
}

#[test]
fn no_changed_bit_of_an_evidence_verifies() {
    let (evidence, key) = evidence_of(SampleAt {
        column: 1,
        index: 3,
    });
    let bytes = evidence.to_bytes();
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let verified = Evidence::from_bytes(&changed).and_then(|e| e.verify(&[key]));
        assert!(verified.is_err(), "bit {bit}");
    }
}

#[test]
fn the_newest_sample_at_or_before_a_time_is_found() {
    let batch = batch();
    let found = |time| last_sample(&batch, "heat", time).map(|s| (s.column, s.index));
    assert_eq!(found(-1), None);
    assert_eq!(found(0), Some((1, 0)));
    assert_eq!(found(299), Some((1, 2)));
    assert_eq!(found(i64::MAX), Some((1, 6)));
    assert_eq!(last_sample(&batch, "speed", 5), None);
}

#[test]
fn what_is_not_in_the_record_is_not_proven() {
    let (genesis, block, _) = chain();
    let set = genesis_validators(&genesis).unwrap();
    let at = |column, index| SampleAt { column, index };
    let refused = |record, batch: &Batch, sample, salt: fn(u64) -> Salt| {
        prove(&block, record, &set, batch, sample, salt).unwrap_err()
    };
    let own = batch();
    let sample = at(0, 0);
    assert!(matches!(
        refused(9, &own, sample, salt),
        ProofError::NoRecord { .. }
    ));
    assert!(matches!(
        refused(0, &own, sample, salt),
        ProofError::OtherBatch { .. }
    ));
    assert!(matches!(
        refused(1, &own, at(0, 7), salt),
        ProofError::NoSample { .. }
    ));
    assert!(matches!(
        refused(1, &own, at(2, 0), salt),
        ProofError::NoSample { .. }
    ));
    let other_salts = |_| [1; 16];
    assert!(matches!(
        refused(1, &own, sample, other_salts),
        ProofError::InnerRoot
    ));
    let mut changed = batch();
    changed.timelines[0][2] += 1;
    assert!(matches!(
        refused(1, &changed, sample, salt),
        ProofError::InnerRoot
    ));
}

/// Several samples, the batch's neighbour and the chain's first record in one evidence.
fn much() -> (Evidence, PublicKey) {
    let (genesis, block, signer) = chain();
    let mut exhibits = Exhibits::new(genesis_validators(&genesis).unwrap());
    let at = |column, index| SampleAt { column, index };
    let samples = [at(1, 2), at(0, 0), at(0, 1), at(1, 6)];
    exhibits
        .show_samples(&block, 1, &batch(), &samples, salt)
        .unwrap();
    exhibits.show_record(&block, 2).unwrap();
    exhibits.show_record(&genesis, 0).unwrap();
    (exhibits.into_evidence().unwrap(), signer.public_key())
}

#[test]
fn samples_and_records_of_several_blocks_are_one_evidence() {
    let (evidence, key) = much();
    let bytes = evidence.to_bytes();
    let read = Evidence::from_bytes(&bytes).unwrap();
    assert_eq!(read, evidence);
    assert_eq!(read.verify(&[key]).unwrap(), Trust::Key);
    assert!(read.from_genesis());
    let positions: Vec<u32> = read.samples().map(|(.., s)| s.position).collect();
    assert_eq!(positions, [0, 1, 9, 13]);
    // The block's three records are shown but for one, so one hash is enough.
    assert_eq!(read.blocks[1].path.len(), 1);
}

#[test]
fn what_is_shown_of_blocks_must_fit_together() {
    let (evidence, _) = much();
    let changed = |change: &dyn Fn(&mut Evidence)| {
        let mut changed = evidence.clone();
        change(&mut changed);
        changed.verify(&[]).unwrap_err()
    };
    let error = changed(&|e| e.blocks.clear());
    assert!(matches!(error, EvidenceError::Empty), "{error}");
    let error = changed(&|e| e.blocks.reverse());
    assert!(matches!(error, EvidenceError::Order(1)), "{error}");
    let error = changed(&|e| e.blocks.push(e.blocks[1].clone()));
    assert!(matches!(error, EvidenceError::Order(2)), "{error}");
    let error = changed(&|e| e.blocks[1].records.clear());
    assert!(matches!(error, EvidenceError::Empty), "{error}");
    let error = changed(&|e| e.blocks[1].records.reverse());
    assert!(matches!(error, EvidenceError::Record), "{error}");
    let error = changed(&|e| e.blocks[1].records[0].samples.swap(0, 1));
    assert!(matches!(error, EvidenceError::Sample), "{error}");
    let error = changed(&|e| e.blocks[1].records[0].samples.clear());
    assert!(matches!(error, EvidenceError::Sample), "{error}");
    let shown = Opened {
        salt: [0; 16],
        content: Vec::new(),
    };
    let error = changed(&|e| e.blocks[1].records[0].opened = Some(shown.clone()));
    assert!(matches!(error, EvidenceError::Opened), "{error}");
}

#[test]
fn a_file_has_one_form_only() {
    let (evidence, _) = much();
    let text = String::from_utf8(evidence.to_bytes()).unwrap();
    let first = r#""height":"1""#;
    let others = [
        text.trim_end().to_owned(),
        format!("{text}\n"),
        text.replacen(r#""blocks""#, r#" "blocks""#, 1),
        text.replacen(first, r#""height":1"#, 1),
        text.replacen(first, r#""height":"+1""#, 1),
        text.replacen(first, r#""height":"01""#, 1),
        text.replacen(first, r#""height":"1","height":"1""#, 1),
        text.replacen(r#""format":"#, r#""more":0,"format":"#, 1),
        text.replacen(r#","opened":null"#, "", 1),
        text.replacen("plant", r"\u0070lant", 1),
        text.replacen(r#""record_count":1"#, r#""record_count":1.0"#, 1),
        text.replacen(r#""action":"enrol""#, r#""action":{"enrol":null}"#, 1),
        text.replacen(r#""key":""#, r#""key":" "#, 1),
        text.replace('a', "A"),
        text.replacen("evidence/2", "evidence/3", 1),
    ];
    for other in others {
        assert_ne!(other, text);
        assert!(Evidence::from_bytes(other.as_bytes()).is_err(), "{other}");
    }
}

/// Whatever a batch and a block hold: the paths grow by one hash when those double.
#[test]
fn evidence_of_one_sample_is_at_most_4_kib() {
    let (mut evidence, key) = evidence_of(SampleAt {
        column: 1,
        index: 3,
    });
    let block = &mut evidence.blocks[0];
    block.header.height = 10_000_000;
    // A thousand records a block, 131,072 samples a batch, and an edge node that attests it.
    block.path = vec![Hash::ZERO; 10];
    let shown = &mut block.records[0];
    shown.path = vec![Hash::ZERO; 17];
    let body = &mut shown.record.body;
    body.time = i64::MAX;
    body.sequence = 10_000_000;
    let weighbridge_verifier::Content::Batch(batch) = &mut body.content else {
        unreachable!("it is of a batch");
    };
    batch.attester = Some(weighbridge_verifier::Attestation {
        key,
        signature: shown.record.signature,
    });
    let bytes = evidence.to_bytes().len();
    assert!(bytes <= 4096, "{bytes} bytes");
}

/// The sibling of a shown leaf is the neighbour's own leaf: it must not tell its value.
#[test]
fn no_value_of_a_neighbour_can_be_guessed_from_its_leaf() {
    let (evidence, _) = evidence_of(SampleAt {
        column: 0,
        index: 2,
    });
    let (_, record, shown) = evidence.samples().next().unwrap();
    let sibling = record.path[0];
    let tag = weighbridge_verifier::TagDigest::new(SUITE, "press-1", "force");
    let leaf = |salt, value| tag.leaf_f64(&salt, 3, 300, Quality::GOOD, value);
    // Whoever has the salt finds it at once.
    assert_eq!(leaf(salt(3), 3.0), sibling);
    // Whoever has not may try every value of a 16-bit register, with any salt that the file holds.
    for value in i16::MIN..=i16::MAX {
        for salt in [[0; 16], shown.salt] {
            assert_ne!(leaf(salt, f64::from(value)), sibling, "{value}");
        }
    }
}
