//! From a judged batch to its record and its ciphertext.
//!
//! Salted leaves and inner root, then the packed batch under the device's epoch key. An invalid batch
//! gets a record with its root but leaves no ciphertext: it was refused. The wraps of the epoch key
//! travel with the first value sealed under it, so no ciphertext is ever durable without its key.

use super::Draft;
use super::batch_format::{self, PackError};
use super::history::index::Span;
use super::inner_tree::{self, InnerTree, MalformedColumn};
use super::keys::sealed_key;
use super::store::{Put, Space};
use crate::crypto::{EpochKey, SaltSeed, Signer};
use crate::model::{Batch, Nanos, VerdictClass};
use crate::validation::Verdict;
use parking_lot::Mutex;
use std::sync::Arc;
use weighbridge_verifier::Suite;
use weighbridge_verifier::record::attestation_message;
use weighbridge_verifier::{
    Attestation, BatchContent, DocumentContent, Hash, SealedRef, VerdictSummary,
};

/// The document of validation settings and limits that a device's batches are judged by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InForce {
    /// Its commitment; zero while there is none.
    pub commitment: Hash,
    /// Its version; 0 while there is none.
    pub version: u64,
}

/// A batch that cannot be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Its columns do not fit together.
    #[error(transparent)]
    Columns(#[from] MalformedColumn),
    /// It cannot be packed.
    #[error(transparent)]
    Pack(#[from] PackError),
}

/// How a batch came to the hub.
#[derive(Clone, Debug)]
pub enum Origin {
    /// The hub read it.
    Read,
    /// An edge node read it, numbered it and signed it, and all of that was found to hold.
    Edge(Attested),
    /// An edge node sent word of it, and there is nothing in it that may be stored.
    Refused(RefusedBatch),
}

/// What an edge node said of a batch, and what was found to hold.
#[derive(Clone, Debug)]
pub struct Attested {
    /// Root of the inner tree over the edge's salts.
    pub inner_root: Hash,
    /// Where the salts come from.
    pub salts: SaltSeed,
    /// The edge's signature.
    pub attestation: Attestation,
}

/// A batch that is refused before it could be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedBatch {
    /// The samples it is said to have had, at least one.
    pub samples: u32,
    /// The root it is said to have had.
    pub inner_root: Hash,
    /// The signature over that, where it holds.
    pub attester: Option<Attestation>,
    /// Why, as the record names it.
    pub rule: &'static str,
    /// Why, for people.
    pub reason: String,
}

/// In the place of a chart's name: the record is about how a batch travelled, not what was in it.
pub const TRANSPORT: &str = "transport";

/// A batch with what validation said of it.
pub struct Judged<'a> {
    /// The batch.
    pub batch: &'a Batch,
    /// The verdict.
    pub verdict: &'a Verdict,
    /// The charts' state before it.
    pub state_before: &'a [u8],
    /// What an edge node said of it, where it came from one.
    pub attested: Option<&'a Attested>,
}

/// Seals one device's batches and documents under one epoch key.
pub struct BatchSealer {
    device: String,
    grade: u8,
    key: EpochKey,
    wraps: Vec<Put>,
    in_force: Arc<Mutex<InForce>>,
    attester: Option<Arc<dyn Signer>>,
    tree: Option<InnerTree>,
}

impl BatchSealer {
    /// A sealer under `key`, whose `wraps` become durable with the first sealed value.
    pub fn new(
        device: &str,
        grade: u8,
        key: EpochKey,
        wraps: Vec<Put>,
        in_force: Arc<Mutex<InForce>>,
    ) -> Self {
        Self {
            device: device.to_owned(),
            grade,
            key,
            wraps,
            in_force,
            attester: None,
            tree: None,
        }
    }

    /// Lets the device itself sign what is sealed, beside the hub.
    pub fn attested_by(mut self, attester: Option<Arc<dyn Signer>>) -> Self {
        self.attester = attester;
        self
    }

    /// What the device's batches are judged by, as far as it is sealed.
    pub fn in_force(&self) -> InForce {
        *self.in_force.lock()
    }

    /// The suite that it seals in.
    pub fn suite(&self) -> Suite {
        self.key.suite()
    }

    /// Messages counted under the key.
    pub fn used(&self) -> u64 {
        self.key.used()
    }

    /// Record and values of a batch.
    pub fn seal_batch(
        &mut self,
        judged: &Judged<'_>,
        time: Nanos,
    ) -> Result<(Draft, Vec<Put>), SealError> {
        let Judged {
            batch,
            verdict,
            state_before,
            attested,
        } = judged;
        let number = self.key.next_message();
        let samples = batch.samples();
        let inner_root = match attested {
            Some(attested) => attested.inner_root,
            None => self.inner_root(batch, number.get())?,
        };
        let refused = verdict.class == VerdictClass::Invalid;
        let mut puts = Vec::new();
        let sealed = if refused {
            None
        } else {
            let verdict = verdict.encode();
            let plain = match attested {
                Some(attested) => {
                    batch_format::pack_salted(batch, state_before, &verdict, &attested.salts)?
                }
                None => batch_format::pack(batch, state_before, &verdict)?,
            };
            let (sealed, put) = self.put(self.key.seal(number, &plain));
            puts.append(&mut self.wraps);
            puts.push(put);
            let spans = Span::of(batch, time, sealed);
            puts.extend(spans.iter().map(|span| span.put(&self.device)));
            Some(sealed)
        };
        let mut content = BatchContent {
            device: self.device.clone(),
            epoch: batch.epoch,
            sequence: batch.sequence,
            samples: u32::try_from(samples).unwrap_or(u32::MAX),
            grade: self.grade,
            inner_root,
            sealed,
            verdict: VerdictSummary {
                class: verdict.class,
                chart: verdict.chart_name().to_owned(),
                rule: verdict.rule_name().to_owned(),
            },
            judged_by: self.in_force.lock().commitment,
            attester: None,
        };
        let own = self.attester.as_ref().map(|attester| Attestation {
            key: attester.public_key(),
            signature: attester.sign(&attestation_message(self.key.suite(), &content)),
        });
        content.attester = attested.map(|a| a.attestation).or(own);
        let draft = if refused {
            Draft::refuse(time, content)
        } else {
            Draft::store(time, content)
        };
        Ok((draft, puts))
    }

    /// The record of a batch that is refused before it could be judged.
    pub fn refuse_batch(
        &self,
        (epoch, sequence): (u64, u64),
        refused: &RefusedBatch,
        time: Nanos,
    ) -> Draft {
        let content = BatchContent {
            device: self.device.clone(),
            epoch,
            sequence,
            samples: refused.samples.max(1),
            grade: self.grade,
            inner_root: refused.inner_root,
            sealed: None,
            verdict: VerdictSummary {
                class: VerdictClass::Invalid,
                chart: TRANSPORT.to_owned(),
                rule: refused.rule.to_owned(),
            },
            judged_by: self.in_force.lock().commitment,
            attester: refused.attester,
        };
        Draft::refuse(time, content)
    }

    fn inner_root(&mut self, batch: &Batch, number: u64) -> Result<Hash, MalformedColumn> {
        let salts = self.key.salts(number, batch.samples());
        let tree = self.tree.take().filter(|tree| tree.fits(batch));
        let tree = tree.unwrap_or_else(|| InnerTree::of(self.key.suite(), batch));
        let mut salts = salts.into_iter();
        let leaves = tree.leaves(batch, |_| salts.next().unwrap_or_default())?;
        self.tree = Some(tree);
        Ok(inner_tree::inner_root(self.key.suite(), leaves))
    }

    /// Record and values of a document about the device; from now on its batches refer to it.
    pub fn seal_document(&mut self, kind: &str, plain: &[u8], time: Nanos) -> (Draft, Vec<Put>) {
        let number = self.key.next_message();
        let salt = self.key.salts(number.get(), 1).remove(0);
        let commitment = self.key.suite().hash(&[&[0], &salt, plain]);
        let (sealed, put) = self.put(self.key.seal(number, plain));
        let mut puts = std::mem::take(&mut self.wraps);
        puts.push(put);
        let version = {
            let mut in_force = self.in_force.lock();
            in_force.commitment = commitment;
            in_force.version += 1;
            in_force.version
        };
        let object = format!("device:{}", self.device);
        let document = DocumentContent {
            kind: kind.to_owned(),
            version,
            commitment,
            sealed,
        };
        let draft = Draft::configure(time, &object, &object, document);
        (draft, puts)
    }

    fn put(&self, ciphertext: Vec<u8>) -> (SealedRef, Put) {
        let hash = self.key.suite().hash(&[&ciphertext]);
        let sealed = SealedRef {
            hash,
            length: ciphertext.len() as u64,
            key_epoch: self.key.epoch(),
        };
        let put = Put {
            space: Space::Sealed,
            key: sealed_key(&hash),
            value: ciphertext,
        };
        (sealed, put)
    }
}
