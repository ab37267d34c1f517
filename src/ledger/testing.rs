//! What the ledger's tests are made of: a signer with a fixed key, drafts, and a store in memory.

use super::draft::Draft;
use super::history::index::Span;
use super::key_wrap::KeyWrap;
use super::store::{Entry, Pair, Put, Space, Store, StoreError};
use crate::crypto::{Identity, Signer};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use weighbridge_verifier::{
    BatchContent, Content, Hash, PublicKey, SealedRef, Signature, SignatureCheck, SignatureError,
    Suite, VerdictClass, VerdictSummary,
};

/// A signer whose key is made of one byte. It remembers what it has signed, and as a check of
/// signatures takes that as verified: tests that make thousands of blocks are not about ECDSA.
pub(crate) struct TestSigner {
    identity: Identity,
    issued: Mutex<HashMap<Hash, Signature>>,
}

impl TestSigner {
    pub(crate) fn new(suite: Suite, id: &str, byte: u8) -> Self {
        let issued = Mutex::default();
        let identity = Identity::from_byte_of(suite, id, byte);
        Self { identity, issued }
    }
}

impl Signer for TestSigner {
    fn id(&self) -> &str {
        self.identity.id()
    }

    fn public_key(&self) -> PublicKey {
        self.identity.public_key()
    }

    fn sign(&self, message: &Hash) -> Signature {
        let sign = || self.identity.sign(message);
        *self.issued.lock().entry(*message).or_insert_with(sign)
    }
}

impl SignatureCheck for TestSigner {
    fn check(
        &self,
        key: &PublicKey,
        message: &Hash,
        signature: &Signature,
    ) -> Result<(), SignatureError> {
        let issued = self.issued.lock().get(message) == Some(signature);
        if issued && *key == self.public_key() {
            return Ok(());
        }
        key.verify(message, signature)
    }
}

/// Ciphertext of a batch, as far as the ledger can tell.
pub(crate) fn sealed_bytes(device: &str, epoch: u64, sequence: u64) -> Vec<u8> {
    format!("sealed {device} {epoch} {sequence}").into_bytes()
}

/// The content of a stored batch.
pub(crate) fn batch_content(suite: Suite, device: &str, epoch: u64, sequence: u64) -> BatchContent {
    let sealed = sealed_bytes(device, epoch, sequence);
    BatchContent {
        device: device.to_owned(),
        epoch,
        sequence,
        samples: 3,
        grade: 0,
        inner_root: suite.hash(&[b"root", &sealed]),
        sealed: Some(SealedRef {
            hash: suite.hash(&[&sealed]),
            length: sealed.len() as u64,
            key_epoch: 1,
        }),
        verdict: VerdictSummary {
            class: VerdictClass::Accepted,
            chart: String::new(),
            rule: String::new(),
        },
        judged_by: suite.hash(&[b"limits"]),
        attester: None,
    }
}

/// A draft that stores a batch.
pub(crate) fn store_draft(suite: Suite, device: &str, sequence: u64, time: i64) -> Draft {
    Draft::store(time, batch_content(suite, device, 1, sequence))
}

/// A draft that refuses a batch.
pub(crate) fn refuse_draft(suite: Suite, device: &str, sequence: u64, time: i64) -> Draft {
    let mut batch = batch_content(suite, device, 1, sequence);
    batch.sealed = None;
    batch.verdict = VerdictSummary {
        class: VerdictClass::Invalid,
        chart: "sensor".to_owned(),
        rule: "not_a_number".to_owned(),
    };
    Draft::refuse(time, batch)
}

/// The sealed bytes that the drafts name.
pub(crate) fn sealed_puts(suite: Suite, drafts: &[Draft]) -> Vec<Put> {
    let batches = drafts.iter().filter_map(|d| match &d.content {
        Content::Batch(batch) if batch.sealed.is_some() => Some(batch),
        _ => None,
    });
    let put = |b: &BatchContent| {
        let value = sealed_bytes(&b.device, b.epoch, b.sequence);
        let key = suite.hash(&[&value]).0.to_vec();
        let space = Space::Sealed;
        let time = i64::try_from(b.sequence).unwrap_or(i64::MAX);
        let span = b.sealed.map(|sealed| Span {
            first: time,
            last: time,
            part: 0,
            parts: 1,
            epoch: b.epoch,
            sequence: b.sequence,
            recorded: time,
            sealed,
        });
        let entry = span.map(|span| span.put(&b.device));
        [Put { space, key, value }].into_iter().chain(entry)
    };
    batches.flat_map(put).collect()
}

/// The wrapped key that the drafts' batches need.
pub(crate) fn wrap_put(chain: &str, device: &str, signer: &TestSigner) -> Put {
    let wrapped = (vec![4; 65], vec![7; 48]);
    let wrap = KeyWrap::sign(chain, device, 1, signer.id(), wrapped, signer);
    Put {
        space: Space::Keys,
        key: wrap.key(),
        value: wrap.to_bytes(),
    }
}

type Question = (PublicKey, Hash, [u8; 64]);

/// Checks signatures like any other, but keeps the answers: a test that changes one bit after the
/// other asks the same question again and again.
#[derive(Default)]
pub(crate) struct RememberingCheck {
    answers: Mutex<HashMap<Question, Result<(), SignatureError>>>,
}

impl SignatureCheck for RememberingCheck {
    fn check(
        &self,
        key: &PublicKey,
        message: &Hash,
        signature: &Signature,
    ) -> Result<(), SignatureError> {
        let question = (*key, *message, signature.0);
        let mut answers = self.answers.lock();
        let answer = || key.verify(message, signature);
        *answers.entry(question).or_insert_with(answer)
    }
}

pub(crate) type Values = BTreeMap<(Space, Vec<u8>), Vec<u8>>;

/// A store in memory that counts what is read of it.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) values: Mutex<Values>,
    pub(crate) reads: AtomicUsize,
}

impl Store for Memory {
    fn commit(&self, puts: &[Put]) -> Result<(), StoreError> {
        let mut values = self.values.lock();
        for put in puts {
            values.insert((put.space, put.key.clone()), put.value.clone());
        }
        Ok(())
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        Ok(self.values.lock().get(&(space, key.to_vec())).cloned())
    }

    fn last(&self, space: Space) -> Result<Option<Pair>, StoreError> {
        let values = self.values.lock();
        let mut of_space = values.iter().filter(|((s, _), _)| *s == space);
        Ok(of_space
            .next_back()
            .map(|((_, k), v)| (k.clone(), v.clone())))
    }

    fn scan<'a>(&'a self, space: Space, from: &[u8]) -> Box<dyn Iterator<Item = Entry> + 'a> {
        let mut at = Some(from.to_vec());
        Box::new(std::iter::from_fn(move || {
            let from = (space, at.take()?);
            let values = self.values.lock();
            let ((_, key), value) = values.range(from..).find(|((s, _), _)| *s == space)?;
            self.reads.fetch_add(1, Ordering::Relaxed);
            at = Some([key.as_slice(), &[0]].concat());
            Some(Ok((key.clone(), value.clone())))
        }))
    }

    fn remove(&self, space: Space, keys: &[Vec<u8>]) -> Result<(), StoreError> {
        let mut values = self.values.lock();
        keys.iter()
            .for_each(|key| drop(values.remove(&(space, key.clone()))));
        Ok(())
    }

    fn reclaim(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
