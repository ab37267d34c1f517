//! Version 1 of the evidence file: one sample, in borsh behind five bytes. It is read, never written.

use super::{ProvenBlock, ProvenRecord, ProvenSample};
use crate::block::{BlockHeader, CommitCertificate, ValidatorSet};
use crate::hash::Hash;
use crate::record::Record;
use crate::sample::{Quality, Salt, Value};
use borsh::BorshDeserialize;

/// First bytes of the file: magic and format version.
pub(super) const MAGIC: &[u8; 5] = b"WBEV\x01";

#[derive(BorshDeserialize)]
struct Sample {
    tag: String,
    index: u32,
    time: i64,
    value: Value,
    quality: Quality,
    salt: Salt,
    position: u32,
    path: Vec<Hash>,
}

#[derive(BorshDeserialize)]
pub(super) struct Evidence {
    sample: Sample,
    record: Record,
    position: u32,
    path: Vec<Hash>,
    header: BlockHeader,
    certificate: CommitCertificate,
    validators: ValidatorSet,
}

impl From<Evidence> for super::Evidence {
    /// The path of one leaf is what version 2 has for many, so nothing but the places changes.
    fn from(old: Evidence) -> Self {
        let sample = ProvenSample {
            position: old.sample.position,
            tag: old.sample.tag,
            index: old.sample.index,
            time: old.sample.time,
            value: old.sample.value,
            quality: old.sample.quality,
            salt: old.sample.salt,
        };
        let record = ProvenRecord {
            position: old.position,
            record: old.record,
            samples: vec![sample],
            path: old.sample.path,
            opened: None,
        };
        let block = ProvenBlock {
            header: old.header,
            certificate: old.certificate.into(),
            records: vec![record],
            path: old.path,
        };
        Self {
            validators: old.validators,
            blocks: vec![block],
        }
    }
}
