//! Old files stay readable: every format that is hashed or stored has a file under
//! `tests/golden/formats`, which is read and compared bit by bit.
//!
//! A format that changes gets a new version and a new file; the old file stays. `GOLDEN=write` writes
//! files that are not there yet, and never changes one that is.

use super::assemble::{Tip, assemble};
use super::batch_format::{pack, unpack};
use super::head::Head;
use super::inner_tree::{InnerTree, inner_root};
use super::key_wrap::KeyWrap;
use super::proof::{SampleAt, genesis_validators, prove};
use super::replay::Follower;
use super::retention::notice::{ErasureRecord, Kept, Notice};
use super::retention::segment::{SegmentHead, SegmentWriter, read_segment};
use super::retention::snapshot::Snapshot;
use super::state::State;
use super::testing::{TestSigner, batch_content, refuse_draft};
use super::{Draft, SUITE, inner_tree};
use crate::crypto::Signer;
use crate::model::{Batch, BatchBuilder, Quality, TagSpec, Value, ValueKind};
use std::path::PathBuf;
use std::sync::Arc;
use weighbridge_verifier::centres::derived_message;
use weighbridge_verifier::evidence::Evidence;
use weighbridge_verifier::rotation::rotation_message;
use weighbridge_verifier::{
    Action, Block, CentreShare, CentresContent, Content, DerivedContent, DocumentContent,
    IdentityContent, IdentityKind, MessageContent, Record, Response, RotationContent, Salt,
    SealedRef, Signature, Suite, decode, encode,
};

/// What is written otherwise in each suite.
pub(super) fn golden(name: &str, written_now: &[u8]) -> Vec<u8> {
    match SUITE {
        Suite::Nist => shared(name, written_now),
        Suite::Guomi => shared(&format!("guomi_{name}"), written_now),
    }
}

fn shared(name: &str, written_now: &[u8]) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/formats");
    let path = folder.join(format!("{name}.hex"));
    if !path.exists() && std::env::var("GOLDEN").is_ok_and(|v| v == "write") {
        let hex = |line: &[u8]| line.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let lines: Vec<String> = written_now.chunks(48).map(hex).collect();
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    }
    let text = std::fs::read_to_string(&path);
    let text = text.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&String::from_iter(pair), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn batch() -> Batch {
    let kinds = [
        ("running", ValueKind::Bool),
        ("count", ValueKind::I64),
        ("serial", ValueKind::U64),
        ("force", ValueKind::F64),
        ("recipe", ValueKind::Text),
        ("frame", ValueKind::Bytes),
    ];
    let tag = |(name, kind): (&str, ValueKind)| TagSpec {
        name: name.into(),
        kind,
        unit: "kN".to_owned(),
        description: format!("the {name}"),
        range: (kind == ValueKind::F64).then_some((-0.0, 120.5)),
        writable: false,
    };
    let tags: Arc<[TagSpec]> = kinds.into_iter().map(tag).collect();
    let mut builder = BatchBuilder::scanning("press-1".into(), tags);
    for scan in 0..20i64 {
        builder.begin_scan(1_700_000_000_000_000_000 + scan * 100_000_000);
        builder.scan(0, Value::Bool(scan % 3 == 0), Quality::GOOD);
        builder.scan(1, Value::I64(-scan), Quality::GOOD);
        builder.scan(2, Value::U64(u64::MAX - scan as u64), Quality::GOOD);
        let force = [f64::NAN, -0.0, 0.1, f64::NEG_INFINITY][scan as usize % 4];
        builder.scan(3, Value::F64(force), Quality::UNCERTAIN);
        builder.scan(4, Value::Text(format!("Schritt {scan} °C")), Quality::GOOD);
        if scan != 7 {
            builder.scan(5, Value::Bytes(vec![scan as u8; 3]), Quality(0x8031_0001));
        }
    }
    builder.take(2, 41).unwrap()
}

fn salt(position: u64) -> Salt {
    let mut salt = [3; 16];
    salt[..8].copy_from_slice(&position.to_le_bytes());
    salt
}

fn signer() -> TestSigner {
    TestSigner::new(SUITE, "hub-1", 1)
}

/// A first block with records of several kinds; record 2 is the batch's.
fn block() -> Block {
    let batch = batch();
    let leaves = InnerTree::of(SUITE, &batch).leaves(&batch, salt).unwrap();
    let mut content = batch_content(SUITE, "press-1", 2, 1);
    content.sequence = batch.sequence;
    content.samples = leaves.len() as u32;
    content.inner_root = inner_root(SUITE, leaves);
    let hub = IdentityContent {
        id: "hub-1".to_owned(),
        kind: IdentityKind::Hub,
        key: Some(signer().public_key()),
    };
    let document = DocumentContent {
        kind: "limits".to_owned(),
        version: 1,
        commitment: SUITE.hash(&[b"limits"]),
        sealed: SealedRef {
            hash: SUITE.hash(&[b"sealed limits"]),
            length: 13,
            key_epoch: 1,
        },
    };
    // The device's earlier batches are not of this chain: its first one begins an epoch.
    content.sequence = 1;
    let drafts = [
        Draft::enrol(1, "hub:hub-1", hub),
        Draft::configure(2, "device:press-1", "limits:press-1", document),
        Draft::store(3, content),
        refuse_draft(SUITE, "robot-2", 1, 4),
    ];
    let now = 1_700_000_000_000_000_000;
    assemble(
        &drafts,
        &State::new(SUITE, "plant"),
        &Tip::NONE,
        &signer(),
        now,
    )
    .unwrap()
    .0
}

#[test]
fn blocks_and_records() {
    let block = block();
    let stored = golden("block_v1", &encode(&block));
    assert_eq!(decode::<Block>("block", &stored).unwrap(), block);
    assert_eq!(encode(&block), stored);
    for (index, record) in block.records.iter().enumerate() {
        let stored = golden(&format!("record_{index}_v1"), &encode(record));
        assert_eq!(&decode::<Record>("record", &stored).unwrap(), record);
        assert_eq!(encode(record), stored);
    }
    // The hashes are part of the format.
    let hashes = [
        block.header.hash(),
        block.header.merkle_root,
        block.header.state_hash,
        block.header.validators_hash,
        block.records[2].body.hash(),
    ];
    assert_eq!(
        hashes.map(|h| h.0).concat(),
        golden("hashes_v1", &hashes.map(|h| h.0).concat())
    );
}

/// A record of a user's act: a content that came later than the others.
#[test]
fn acts() {
    let content = Content::Message(MessageContent {
        kind: "control".to_owned(),
        commitment: SUITE.hash(&[b"act"]),
        sealed: SealedRef {
            hash: SUITE.hash(&[b"sealed act"]),
            length: 281,
            key_epoch: 1,
        },
    });
    let hub = IdentityContent {
        id: "hub-1".to_owned(),
        kind: IdentityKind::Hub,
        key: Some(signer().public_key()),
    };
    let act = Draft {
        time: 5,
        subject: "user:anna".to_owned(),
        action: Action::Acknowledge,
        object: "device:press-1".to_owned(),
        permit: None,
        content,
        response: Response::Accepted,
    };
    let drafts = [Draft::enrol(1, "hub:hub-1", hub), act];
    let state = State::new(SUITE, "plant");
    let (block, _) = assemble(&drafts, &state, &Tip::NONE, &signer(), 10).unwrap();
    let record = &block.records[1];
    let stored = golden("record_act_v1", &encode(record));
    assert_eq!(&decode::<Record>("record", &stored).unwrap(), record);
    assert_eq!(encode(record), stored);
}

#[test]
fn evidence() {
    let mut batch = batch();
    batch.sequence = 1;
    let block = block();
    let set = genesis_validators(&block).unwrap();
    let sample = SampleAt {
        column: 4,
        index: 11,
    };
    assert_eq!(inner_tree::position(&batch, 4, 11), Some(91));
    let evidence = prove(&block, 2, &set, &batch, sample, salt).unwrap();
    let stored = golden("evidence_v2", &evidence.to_bytes());
    let read = Evidence::from_bytes(&stored).unwrap();
    assert_eq!(read, evidence);
    assert_eq!(evidence.to_bytes(), stored);
    read.verify(&[signer().public_key()]).unwrap();
    // Version 1 is written no more, and says the same.
    if SUITE != Suite::Nist {
        return;
    }
    let old = Evidence::from_bytes(&golden("evidence_v1", &[])).unwrap();
    assert_eq!(old, evidence);
}

#[test]
fn head_and_key_wrap() {
    let head = Head::sign("plant", 7, SUITE.hash(&[b"block 7"]), &signer());
    let stored = golden("head_v1", &head.to_bytes());
    assert_eq!(Head::from_bytes(&stored).unwrap(), head);
    assert_eq!(head.to_bytes(), stored);
    let wrapped = (vec![4; 65], vec![7; 48]);
    let wrap = KeyWrap::sign("plant", "press-1", 3, "hub-1", wrapped, &signer());
    let stored = golden("key_wrap_v1", &wrap.to_bytes());
    assert_eq!(KeyWrap::from_bytes(&stored).unwrap(), wrap);
    assert_eq!(wrap.to_bytes(), stored);
}

#[test]
fn what_retiring_writes() {
    let block = block();
    let mut follower = Follower::new(SUITE, "plant");
    follower.follow(&block, None).unwrap();
    let state = follower.state();
    let snapshot = Snapshot::of(state, 1, block.header.hash());
    let stored = golden("snapshot_v1", &snapshot.to_bytes());
    let read = Snapshot::from_bytes(&stored).unwrap();
    assert_eq!((&read, read.to_bytes()), (&snapshot, stored));
    assert_eq!(read.state(&block.header).unwrap(), *state);
    let mut other = block.header.clone();
    other.state_hash = SUITE.hash(&[b"another"]);
    assert!(read.state(&other).is_err());

    let mut file = SegmentWriter::begin(
        Vec::new(),
        &SegmentHead::new(SUITE, "plant", block.header.hash(), 1),
    )
    .unwrap();
    file.block(&block).unwrap();
    file.value(b"sealed limits").unwrap();
    let (file, segment) = file.finish().unwrap();
    let stored = golden("segment_v1", &file);
    assert_eq!(stored, file);
    let mut parts = Vec::new();
    let (_, found) = read_segment(&*stored, |part| parts.push(part)).unwrap();
    assert_eq!((&found, parts.len()), (&segment, 2));
    let value = parts[1].at as usize..parts[1].at as usize + parts[1].length as usize;
    assert_eq!(&stored[value], b"sealed limits");
    for at in 0..stored.len() {
        let mut changed = stored.clone();
        changed[at] ^= 0x10;
        let read = read_segment(&*changed, |_| ());
        assert!(read.map_or(true, |(_, read)| read != segment), "byte {at}");
        assert!(read_segment(&stored[..at], |_| ()).is_err(), "cut at {at}");
    }

    let mut notice = Notice::after(SUITE, None, 7);
    (notice.bodies, notice.batches, notice.snapshot) = (1, 2, Some(snapshot.hash()));
    notice.kept.push(Kept {
        sealed: SealedRef {
            hash: SUITE.hash(&[b"sealed limits"]),
            length: 13,
            key_epoch: 1,
        },
        owner: "press-1".to_owned(),
        batch: Some((2, 1)),
        recorded: 5,
        height: 1,
        index: 1,
    });
    notice.devices.push(("press-1".to_owned(), (2, 1)));
    notice.erasures.push(ErasureRecord {
        notice: SUITE.hash(&[b"erased"]),
        device: "press-1".to_owned(),
        subject: "user:anna".to_owned(),
        height: 1,
        index: 3,
    });
    notice.archive = "archive".to_owned();
    notice.segments.push(segment);
    let next = Notice::after(SUITE, Some(&notice), 8);
    for (name, notice) in [("notice", notice), ("notice_next", next)] {
        let stored = golden(&format!("retention_{name}_v1"), &encode(&notice));
        assert_eq!(Notice::from_bytes(&stored).unwrap(), notice);
        assert_eq!(encode(&notice), stored);
        let hash = golden(&format!("retention_{name}_hash_v1"), &notice.hash().0);
        assert_eq!(hash, notice.hash().0);
    }
}

#[test]
fn batches() {
    let batch = batch();
    let stored = shared("batch_v1", &pack(&batch, b"charts", b"verdict").unwrap());
    // Packing may improve; what was packed once must read the same for ever.
    let read = unpack(&stored).unwrap();
    assert_eq!(read.state_before, b"charts");
    assert_eq!(read.verdict, b"verdict");
    assert_eq!(read.batch.tags, batch.tags);
    let leaves = |batch: &Batch| InnerTree::of(SUITE, batch).leaves(batch, salt).unwrap();
    assert_eq!(leaves(&read.batch), leaves(&batch));
    let place = |batch: &Batch| (batch.device.clone(), batch.epoch, batch.sequence);
    assert_eq!(place(&read.batch), place(&batch));
}

#[test]
fn keys_that_take_the_place_of_others() {
    let key = |byte| TestSigner::new(SUITE, "edge-1", byte).public_key();
    let identity = IdentityContent {
        id: "edge-1".to_owned(),
        kind: IdentityKind::Edge,
        key: Some(key(2)),
    };
    let said = |byte| Signature([byte; 64]);
    let rotation = RotationContent {
        identity: identity.clone(),
        replaces: key(1),
        proof: said(7),
        consent: Some(said(8)),
    };
    let derived = DerivedContent {
        identity: identity.clone(),
        version: 3,
        declared: key(4),
        replaces: Some(key(1)),
        proof: said(7),
        consent: None,
    };
    let share = |name: &str, byte| CentreShare {
        name: name.to_owned(),
        public: key(byte),
        commitment: key(byte + 1),
        response: SUITE.hash(&[&[byte]]),
    };
    let centres = CentresContent {
        version: 3,
        members: vec![share("north", 5), share("south", 7)],
    };
    // What is signed is part of the format.
    let signed = [
        rotation_message(SUITE, "plant", &identity, &key(1)),
        derived_message(SUITE, "plant", &derived),
    ];
    assert_eq!(golden("key_messages_v1", &encode(&signed)), encode(&signed));
    let contents = [
        ("rotation_v1", Content::Rotation(rotation)),
        ("derived_v1", Content::Derived(derived)),
        ("centres_v1", Content::Centres(centres)),
    ];
    for (name, content) in contents {
        let stored = golden(name, &encode(&content));
        assert_eq!(decode::<Content>("content", &stored).unwrap(), content);
        assert_eq!(encode(&content), stored);
    }
}
