//! Opening a bundle on the reader's side: every proof is checked before anything is believed.

use super::{ReadingError, SealedBundle};
use crate::crypto::{EpochKey, SealingKey, WrappedKey};
use crate::ledger::batch_format;
use crate::ledger::history::reader::{PastSample, samples_of};
use crate::ledger::key_wrap::KeyWrap;
use crate::ledger::proof::inner_leaves;
use crate::model::{Batch, Nanos};
use std::collections::BTreeMap;
use weighbridge_verifier::evidence::{ProvenBlock, ProvenRecord, Trust};
use weighbridge_verifier::succession::SetChange;
use weighbridge_verifier::{BatchContent, Hash, KeyCache, PublicKey, SealedRef, VerdictClass};

/// What a reader has opened.
pub struct Reading {
    /// How far it can be trusted.
    pub trust: Trust,
    /// Id of the chain.
    pub chain: String,
    /// The hub that began the chain, with its key.
    pub hub: Option<(String, PublicKey)>,
    /// The device.
    pub device: String,
    /// The batches that opened, in the order of their records.
    pub batches: Vec<ReadBatch>,
    /// Batches under keys that are not wrapped to the reader.
    pub closed: u64,
}

/// An opened batch, which is what its record commits to.
pub struct ReadBatch {
    /// Height of its block.
    pub height: u64,
    /// When it was recorded.
    pub recorded: Nanos,
    /// What validation said of it.
    pub class: VerdictClass,
    /// The samples.
    pub batch: Batch,
    verdict: Vec<u8>,
}

impl ReadBatch {
    /// The samples of a tag, in the order of the batch, their quality worsened by the verdict.
    pub fn samples(&self, tag: &str) -> Result<Vec<PastSample>, ReadingError> {
        let samples = samples_of(&self.batch, &self.verdict, tag)?;
        Ok(samples.into_iter().map(|(_, sample)| sample).collect())
    }

    /// The names of its tags.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        self.batch.tags.iter().map(|tag| &*tag.name)
    }
}

impl SealedBundle {
    /// Checks the records, their blocks and signatures, that each sealed batch is the one its record names, and
    /// that what is inside has the record's inner root. With `trusted` keys the blocks must be signed under
    /// them.
    ///
    /// # Errors
    /// At the first thing that does not hold. Batches under keys that are not wrapped to the reader are
    /// counted, and no error as long as there are others.
    pub fn open(&self, key: &SealingKey, trusted: &[PublicKey]) -> Result<Reading, ReadingError> {
        let trust = self.evidence.verify(trusted)?;
        let keys = self.keys(key)?;
        let suite = self.evidence.suite();
        let by_hash: BTreeMap<Hash, &[u8]> = self
            .sealed
            .iter()
            .map(|bytes| (suite.hash(&[bytes]), bytes.as_slice()))
            .collect();
        let mut reading = Reading {
            trust,
            chain: String::new(),
            hub: None,
            device: self.device.clone(),
            batches: Vec::new(),
            closed: 0,
        };
        let hub = self.evidence.validators.validators.first();
        reading.hub = hub.map(|hub| (hub.id.clone(), hub.key));
        for block in &self.evidence.blocks {
            reading.chain.clone_from(&block.header.chain);
            for shown in &block.records {
                let Some((content, sealed)) = stored(shown, &self.device) else {
                    continue;
                };
                let bytes = by_hash.get(&sealed.hash);
                let bytes = bytes.ok_or(ReadingError::Sealed(sealed.hash))?;
                match keys.get(&sealed.key_epoch) {
                    Some(key) => reading
                        .batches
                        .push(opened(block, shown, content, key, bytes)?),
                    None => reading.closed += 1,
                }
            }
        }
        if reading.batches.is_empty() && reading.closed > 0 {
            return Err(ReadingError::OtherKey);
        }
        Ok(reading)
    }

    /// The keys of the wraps, each of which a hub of the chain signed.
    fn keys(&self, key: &SealingKey) -> Result<BTreeMap<u64, EpochKey>, ReadingError> {
        let chain = self.evidence.blocks.first().map(|b| &b.header.chain);
        let check = KeyCache::default();
        let signers = self.signers();
        let mut keys = BTreeMap::new();
        for wrap in &self.wraps {
            let epoch = wrap.key_epoch;
            let wrong = |why: String| ReadingError::Wrap { epoch, why };
            let KeyWrap { hub, device, .. } = wrap;
            let none = || wrong(format!("`{hub}` is no hub of the chain"));
            let of_hub = signers.iter().filter(|(id, _)| id == hub);
            let mut held = of_hub.map(|(_, key)| wrap.verify(key, &check));
            let first = held.next().ok_or_else(none)?;
            if let Err(why) = first
                && !held.any(|held| held.is_ok())
            {
                return Err(wrong(why.to_string()));
            }
            if *device != self.device || Some(&wrap.chain) != chain {
                return Err(wrong("it is of another device or chain".to_owned()));
            }
            let wrapped = WrappedKey {
                enc: wrap.enc.clone(),
                ciphertext: wrap.ciphertext.clone(),
            };
            let opened = key.unwrap(device, epoch, &wrapped);
            keys.insert(epoch, opened.map_err(|_| ReadingError::OtherKey)?);
        }
        Ok(keys)
    }
}

impl SealedBundle {
    /// The hubs of the chain, each with every key that it had, as far as the evidence shows them.
    fn signers(&self) -> Vec<(String, PublicKey)> {
        let first = self.evidence.validators.validators.iter();
        let first = first.map(|hub| (hub.id.clone(), hub.key));
        let later = self.evidence.set_changes().into_iter();
        let later = later.filter_map(|(_, change)| match change {
            SetChange::Key(change) => Some((change.hub, change.new)),
            SetChange::Admitted(hub) | SetChange::Replaced { by: hub, .. } => {
                Some((hub.id, hub.key))
            }
            SetChange::Dismissed(_) | SetChange::StandsBy(_) | SetChange::Unlisted(_) => None,
        });
        first.chain(later).collect()
    }
}

/// The stored batch of this device that a record is about.
fn stored<'a>(shown: &'a ProvenRecord, device: &str) -> Option<(&'a BatchContent, SealedRef)> {
    let batch = shown.record.body.batch().filter(|b| b.device == device)?;
    Some((batch, batch.sealed?))
}

fn opened(
    block: &ProvenBlock,
    shown: &ProvenRecord,
    content: &BatchContent,
    key: &EpochKey,
    bytes: &[u8],
) -> Result<ReadBatch, ReadingError> {
    let (number, plain) = key.open(bytes)?;
    let unpacked = batch_format::unpack(&plain)?;
    let samples = unpacked.batch.samples();
    let salts = match &unpacked.salts {
        Some(seed) => seed.salts(key.suite(), samples),
        None => key.salts(number, samples),
    };
    let mut salt = |position: u64| {
        let salt = usize::try_from(position).ok().and_then(|p| salts.get(p));
        salt.copied().unwrap_or_default()
    };
    let inner = inner_leaves(&shown.record, &unpacked.batch, &mut salt);
    inner.map_err(|_| ReadingError::Inner {
        epoch: content.epoch,
        sequence: content.sequence,
    })?;
    Ok(ReadBatch {
        height: block.header.height,
        recorded: shown.record.body.time,
        class: content.verdict.class,
        batch: unpacked.batch,
        verdict: unpacked.verdict,
    })
}
