use super::*;
use crate::crypto::Identity;
use crate::crypto::SealingKey;
use crate::model::{BatchBuilder, ValueKind};
use std::sync::Arc;

fn tags(names: &[&str]) -> Arc<[TagSpec]> {
    let tag = |name: &&str| TagSpec {
        name: (*name).into(),
        kind: ValueKind::F64,
        unit: String::new(),
        description: String::new(),
        range: None,
        writable: false,
    };
    names.iter().map(tag).collect()
}

fn batch(names: &[&str]) -> Batch {
    let mut builder = BatchBuilder::scanning("press-1".into(), tags(names));
    for scan in 0..20 {
        builder.begin_scan(1_000 + scan);
        builder.scan_f64s(0, names.iter().map(|_| scan as f64 / 7.0));
    }
    builder.take(0, 0).unwrap()
}

struct Pair {
    edge: Identity,
    hubs: [Arc<SealingKey>; 2],
}

impl Pair {
    fn new() -> Self {
        Self {
            edge: Identity::generate_of(SUITE, "edge-1"),
            hubs: std::array::from_fn(|_| Arc::new(SealingKey::generate_of(SUITE))),
        }
    }

    fn upload(&self) -> Upload {
        let hubs = self.hubs.each_ref().map(|hub| hub.public().clone());
        let mut packer = Packer::new(3, 77, &hubs).unwrap();
        packer.pack(&batch(&["force"]), (1, 1), &self.edge).unwrap();
        packer.pack(&batch(&["force"]), (1, 2), &self.edge).unwrap()
    }

    fn unpacker(&self, hub: usize) -> Unpacker {
        let edge = self.edge.public_key();
        let edge = EdgeKeys::new(edge, Vec::new());
        Unpacker::new(tags(&["force"]), 3, edge, self.hubs[hub].clone())
    }

    fn refused(&self, upload: &Upload) -> RefusedBatch {
        *self.unpacker(0).unpack(upload).unwrap_err()
    }
}

#[test]
fn every_hub_of_the_list_opens_it_and_finds_what_was_signed() {
    let pair = Pair::new();
    let upload = Upload::from_bytes(&pair.upload().to_bytes()).unwrap();
    for hub in 0..2 {
        let (read, attested) = pair.unpacker(hub).unpack(&upload).unwrap();
        assert_eq!((read.epoch, read.sequence), (1, 2));
        assert_eq!(read.columns, batch(&["force"]).columns);
        assert_eq!(attested.inner_root, upload.inner_root);
        assert_eq!(attested.attestation, upload.attestation);
        assert!(upload.opens_for(&[pair.hubs[hub].public().compressed()]));
    }
    let stranger = Arc::new(SealingKey::generate_of(SUITE));
    assert!(!upload.opens_for(&[stranger.public().compressed()]));
    let key = pair.edge.public_key();
    let mut unpacker = Unpacker::new(
        tags(&["force"]),
        3,
        EdgeKeys::new(key, Vec::new()),
        stranger,
    );
    assert_eq!(unpacker.unpack(&upload).unwrap_err().rule, "unreadable");
}

#[test]
fn nothing_of_the_samples_can_be_read_on_its_way() {
    let pair = Pair::new();
    let bytes = pair.upload().to_bytes();
    let number = 1.0_f64.to_le_bytes();
    assert!(!bytes.windows(8).any(|w| w == number));
    assert!(!bytes.windows(5).any(|w| w == b"force"));
}

#[test]
fn what_was_changed_is_refused_and_the_record_can_say_why() {
    let pair = Pair::new();
    let good = pair.upload();
    let mut changed = good.clone();
    changed.sequence = 3;
    let refused = pair.refused(&changed);
    assert_eq!((refused.rule, refused.attester), ("signature", None));

    let mut changed = good.clone();
    changed.inner_root.0[0] ^= 1;
    changed.sign(&pair.edge);
    let refused = pair.refused(&changed);
    assert_eq!(
        (refused.rule, refused.attester),
        ("root", Some(changed.attestation))
    );

    let mut changed = good.clone();
    changed.samples += 1;
    changed.sign(&pair.edge);
    assert_eq!(pair.refused(&changed).rule, "root");

    let mut changed = good.clone();
    let Content::Sealed(sealed) = &mut changed.content else {
        panic!("{changed:?}");
    };
    let last = sealed.ciphertext.len() - 1;
    sealed.ciphertext[last] ^= 1;
    assert_eq!(pair.refused(&changed).rule, "unreadable");

    let mut changed = good.clone();
    changed.sign(&Identity::generate_of(SUITE, "edge-1"));
    assert_eq!(pair.refused(&changed).rule, "signature");

    let mut changed = good.clone();
    changed.grade = 4;
    changed.sign(&pair.edge);
    let refused = pair.refused(&changed);
    assert_eq!((refused.rule, refused.attester), ("tags", None));

    let hubs = pair.hubs.each_ref().map(|hub| hub.public().clone());
    let mut packer = Packer::new(3, 78, &hubs).unwrap();
    let other = packer.pack(&batch(&["power"]), (1, 2), &pair.edge).unwrap();
    assert_eq!(pair.refused(&other).rule, "tags");
    // A batch of one device is not taken for another's.
    let mut moved = good.clone();
    moved.device = "press-2".to_owned();
    moved.sign(&pair.edge);
    assert_eq!(pair.refused(&moved).rule, "tags");
}

#[test]
fn what_is_gone_is_told_as_gone() {
    let pair = Pair::new();
    let good = pair.upload();
    let dropped = good.clone().without_samples();
    assert!(dropped.to_bytes().len() < 300);
    let refused = pair.refused(&dropped);
    assert_eq!((refused.rule, refused.samples), ("dropped", 20));
    assert_eq!(refused.inner_root, good.inner_root);
    assert_eq!(refused.attester, Some(good.attestation));
    let damaged = Upload::damaged("press-1", 3, (1, 2), &pair.edge);
    assert_eq!(pair.refused(&damaged).rule, "damaged");
}

#[test]
fn a_new_number_is_signed_only_over_an_old_signature_that_holds() {
    let pair = Pair::new();
    let mut upload = pair.upload();
    upload.renumber((2, 1), &pair.edge).unwrap();
    let (read, _) = pair.unpacker(0).unpack(&upload).unwrap();
    assert_eq!((read.epoch, read.sequence), (2, 1));
    // Whoever writes to the edge's disk could seal samples of his own, but not sign them.
    upload.inner_root.0[0] ^= 1;
    assert!(upload.renumber((3, 1), &pair.edge).is_err());
}
