//! What the evidence of one sample costs: its bytes, and the time to read and verify it, in each suite.
//!
//! `cargo bench -p weighbridge-verifier`. The sample is one of 1,000 of its batch, whose record is one of
//! 64 of its block.

#![allow(clippy::unwrap_used)]

use p256::ecdsa::signature::hazmat::PrehashSigner;
use sm2::dsa::signature::Signer;
use sm2::elliptic_curve::sec1::ToSec1Point;
use std::hint::black_box;
use std::time::{Duration, Instant};
use weighbridge_verifier::block::{BLOCK_VERSION, commit_message};
use weighbridge_verifier::evidence::{Evidence, ProvenBlock, ProvenRecord, ProvenSample, Trust};
use weighbridge_verifier::record::RECORD_VERSION;
use weighbridge_verifier::signature::SM2_ID;
use weighbridge_verifier::{
    Action, BatchContent, Block, BlockHeader, CommitCertificate, CommitSignature, Content, Hash,
    PublicKey, Quality, Record, RecordBody, Response, Salt, SealedRef, Signature, Suite, TagDigest,
    ValidatorSet, Value, VerdictClass, VerdictSummary, merkle,
};

const SAMPLES: u32 = 1_000;
const RECORDS: u64 = 64;
const RUNS: usize = 2_000;
const SECRET: [u8; 32] = [7; 32];

fn key(suite: Suite) -> PublicKey {
    let point = match suite {
        Suite::Nist => {
            let key = p256::ecdsa::SigningKey::from_slice(&SECRET).unwrap();
            key.verifying_key().to_sec1_point(true).as_bytes().to_vec()
        }
        Suite::Guomi => {
            let key = sm2::dsa::SigningKey::from_slice(SM2_ID, &SECRET).unwrap();
            key.verifying_key().to_sec1_point(true).as_bytes().to_vec()
        }
    };
    PublicKey::from_sec1(suite, &point).unwrap()
}

fn sign(suite: Suite, message: Hash) -> Signature {
    Signature(match suite {
        Suite::Nist => {
            let key = p256::ecdsa::SigningKey::from_slice(&SECRET).unwrap();
            let signature: p256::ecdsa::Signature = key.sign_prehash(&message.0).unwrap();
            signature.normalize_s().to_bytes().into()
        }
        Suite::Guomi => {
            let key = sm2::dsa::SigningKey::from_slice(SM2_ID, &SECRET).unwrap();
            let signature: sm2::dsa::Signature = key.sign(&message.0);
            signature.to_bytes().into()
        }
    })
}

fn salt(position: u32) -> Salt {
    let mut salt = [9; 16];
    salt[..4].copy_from_slice(&position.to_le_bytes());
    salt
}

fn record(suite: Suite, sequence: u64, inner_root: Hash) -> Record {
    let content = Content::Batch(BatchContent {
        device: "press-1".to_owned(),
        epoch: 1,
        sequence,
        samples: SAMPLES,
        grade: 0,
        inner_root,
        sealed: Some(SealedRef {
            hash: suite.hash(&[b"sealed"]),
            length: 4_000,
            key_epoch: 1,
        }),
        verdict: VerdictSummary {
            class: VerdictClass::Accepted,
            chart: String::new(),
            rule: String::new(),
        },
        judged_by: suite.hash(&[b"limits"]),
        attester: None,
    });
    let body = RecordBody {
        version: suite.marked(RECORD_VERSION),
        chain: "main".to_owned(),
        hub: "hub-1".to_owned(),
        sequence,
        previous: suite.hash(&[&sequence.to_le_bytes()]),
        time: 1_700_000_000_000_000_000,
        subject: "device:press-1".to_owned(),
        action: Action::Store,
        object: "device:press-1".to_owned(),
        permit: None,
        content,
        response: Response::Accepted,
    };
    let signature = sign(suite, body.hash());
    Record { body, signature }
}

fn evidence(suite: Suite) -> Evidence {
    let tag = TagDigest::new(suite, "press-1", "force");
    let leaf = |i: u32| {
        let time = i64::from(i) * 100_000_000;
        tag.leaf_f64(&salt(i), i, time, Quality::GOOD, f64::from(i))
    };
    let leaves: Vec<Hash> = (0..SAMPLES).map(leaf).collect();
    let inner_root = merkle::root(suite, &leaves);
    let (at, shown) = (500, 40);
    let records: Vec<Record> = (1..=RECORDS)
        .map(|n| record(suite, n, inner_root))
        .collect();
    let outer: Vec<Hash> = records.iter().map(Record::leaf).collect();
    let validators = ValidatorSet::solo("hub-1", key(suite));
    let header = BlockHeader {
        version: suite.marked(BLOCK_VERSION),
        chain: "main".to_owned(),
        height: 123_456,
        previous_hash: suite.hash(&[b"before"]),
        time: 1_700_000_000_100_000_000,
        record_count: u32::try_from(RECORDS).unwrap(),
        merkle_root: Block::merkle_root(suite, &records),
        state_hash: suite.hash(&[b"state"]),
        validators_hash: validators.hash(suite),
        proposer: "hub-1".to_owned(),
    };
    let signature = CommitSignature {
        validator: "hub-1".to_owned(),
        signature: sign(suite, commit_message(&header)),
    };
    let proven = ProvenRecord {
        position: u32::try_from(shown).unwrap(),
        record: records[shown].clone(),
        samples: vec![ProvenSample {
            position: at,
            tag: "force".to_owned(),
            index: at,
            time: i64::from(at) * 100_000_000,
            value: Value::F64(f64::from(at)),
            quality: Quality::GOOD,
            salt: salt(at),
        }],
        path: merkle::multi_path(suite, &leaves, &[at as usize]).unwrap(),
        opened: None,
    };
    let block = ProvenBlock {
        header,
        certificate: CommitCertificate {
            signatures: vec![signature],
        }
        .into(),
        records: vec![proven],
        path: merkle::multi_path(suite, &outer, &[shown]).unwrap(),
    };
    Evidence {
        validators,
        blocks: vec![block],
    }
}

fn main() {
    for suite in Suite::ALL {
        let bytes = evidence(suite).to_bytes();
        let trusted = [key(suite)];
        let verify = || {
            let began = Instant::now();
            let read = Evidence::from_bytes(black_box(&bytes)).unwrap();
            assert_eq!(read.verify(&trusted).unwrap(), Trust::Key);
            began.elapsed()
        };
        let mut times: Vec<Duration> = (0..RUNS).map(|_| verify()).collect();
        times.sort_unstable();
        let at = |percent: usize| times[(RUNS - 1) * percent / 100].as_secs_f64() * 1e3;
        println!(
            "{suite}: {} bytes; read and verified in {:.3} ms (p50), {:.3} ms (p99)",
            bytes.len(),
            at(50),
            at(99)
        );
    }
}
