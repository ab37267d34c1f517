//! Opening what was sealed: the reader's side of [`super::seal`].

use super::batch_format::{self, UnpackedBatch};
use super::key_epochs::{self, UsedUp};
use super::key_wrap::{KeyWrap, hub_object, keys_of, wrap_key};
use super::keys::sealed_key;
use super::signers::{SignerError, Signers};
use super::store::{Space, Store, StoreError};
use crate::crypto::{EpochKey, OpenError, SealingRing, WrappedKey};
use serde_json::Value as Json;
use std::sync::Arc;
use weighbridge_verifier::evidence::Opened;
use weighbridge_verifier::{DecodeError, Hash, MessageContent, Salt, SealedRef};
use zeroize::Zeroizing;

/// Why sealed bytes cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpeningError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ciphertext is not there.
    #[error("the store does not hold the sealed bytes {0}")]
    Missing(Hash),
    /// The key is not there, for this reader.
    #[error(
        "the key of epoch {key_epoch} of `{device}` was not wrapped to `{recipient}`, or was erased"
    )]
    NoKey {
        /// Whose key.
        device: String,
        /// Which.
        key_epoch: u64,
        /// Who asked.
        recipient: String,
    },
    /// The bytes do not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What was inside cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// What was inside is not what the record commits to.
    #[error("the sealed bytes {0} are not what the record commits to")]
    Commitment(Hash),
    /// The details of an act are no JSON.
    #[error("the details cannot be read: {0}")]
    Details(String),
    /// Another hub is said to have wrapped the key, and did not.
    #[error("the wrap of key {key_epoch} of `{device}` is not taken: {source}")]
    Signer {
        /// Whose key.
        device: String,
        /// Which.
        key_epoch: u64,
        /// Why.
        source: SignerError,
    },
    /// There is no number for another key.
    #[error(transparent)]
    UsedUp(#[from] UsedUp),
}

/// Opens sealed values with a reader's key.
#[derive(Clone)]
pub struct Opener {
    store: Arc<dyn Store>,
    keys: SealingRing,
    recipient: String,
    /// What wraps of other hubs are judged by; `None` where nobody else makes any.
    signers: Option<Signers>,
}

/// An opened batch.
pub struct OpenedBatch {
    /// The batch, the charts' state before it, the verdict.
    pub content: UnpackedBatch,
    /// The salts of its leaves.
    pub salts: Vec<Salt>,
}

/// Opens the acts of one hub, one after the other: keeps the key of the epoch that was opened last.
pub struct ActOpener {
    opener: Opener,
    hub: String,
    last: Option<(u64, EpochKey)>,
}

impl ActOpener {
    /// For the acts of `hub`.
    pub fn new(opener: Opener, hub: &str) -> Self {
        Self {
            opener,
            hub: hub.to_owned(),
            last: None,
        }
    }

    /// Opens the details of an act.
    pub fn open(&mut self, message: &MessageContent) -> Result<Json, OpeningError> {
        let epoch = message.sealed.key_epoch;
        let key = match self.last.take() {
            Some((last, key)) if last == epoch => key,
            _ => self.opener.epoch_key(&hub_object(&self.hub), epoch)?,
        };
        let opened = self.opener.open_act_by(&key, message);
        self.last = Some((epoch, key));
        opened
    }
}

impl Opener {
    /// For reader `recipient`, who has `keys`: one, or those of a hub.
    pub fn new(store: Arc<dyn Store>, keys: impl Into<SealingRing>, recipient: &str) -> Self {
        Self {
            store,
            keys: keys.into(),
            recipient: recipient.to_owned(),
            signers: None,
        }
    }

    /// The same, for a hub among others: a key that another one wrapped is taken only if `signers` say that it
    /// did. What is sealed under it is judged by the records in any case; this says whom to ask about a wrong one.
    pub fn judging(self, signers: Signers) -> Self {
        Self {
            signers: Some(signers),
            ..self
        }
    }

    /// Opens a sealed document about `device`.
    pub fn open_document(
        &self,
        device: &str,
        sealed: &SealedRef,
    ) -> Result<Zeroizing<Vec<u8>>, OpeningError> {
        let key = self.epoch_key(device, sealed.key_epoch)?;
        Ok(key.open(&self.ciphertext(sealed)?)?.1)
    }

    /// The same, with the salt of its commitment: what it takes to show the document to somebody else.
    pub fn open_to_show(&self, device: &str, sealed: &SealedRef) -> Result<Opened, OpeningError> {
        let key = self.epoch_key(device, sealed.key_epoch)?;
        let (number, plain) = key.open(&self.ciphertext(sealed)?)?;
        let salts = key.salts(number, 1);
        Ok(Opened {
            salt: salts.first().copied().unwrap_or_default(),
            content: plain.to_vec(),
        })
    }

    /// Opens a sealed batch of `device`.
    pub fn open_batch(
        &self,
        device: &str,
        sealed: &SealedRef,
    ) -> Result<OpenedBatch, OpeningError> {
        let key = self.epoch_key(device, sealed.key_epoch)?;
        let (number, plain) = key.open(&self.ciphertext(sealed)?)?;
        let content = batch_format::unpack(&plain)?;
        let samples = content.batch.samples();
        let salts = match &content.salts {
            Some(seed) => seed.salts(key.suite(), samples),
            None => key.salts(number, samples),
        };
        Ok(OpenedBatch { content, salts })
    }

    /// Opens the details of an act that `hub` recorded.
    pub fn open_act(&self, hub: &str, message: &MessageContent) -> Result<Json, OpeningError> {
        let key = self.epoch_key(&hub_object(hub), message.sealed.key_epoch)?;
        self.open_act_by(&key, message)
    }

    fn open_act_by(&self, key: &EpochKey, message: &MessageContent) -> Result<Json, OpeningError> {
        let sealed = &message.sealed;
        let (number, plain) = key.open(&self.ciphertext(sealed)?)?;
        let salts = key.salts(number, 1);
        let salt = salts.first().map_or(&[][..], |salt| &salt[..]);
        if key.suite().hash(&[&[0], salt, &plain]) != message.commitment {
            return Err(OpeningError::Commitment(sealed.hash));
        }
        serde_json::from_slice(&plain).map_err(|e| OpeningError::Details(e.to_string()))
    }

    /// The first key epoch of `device` that was never used.
    pub fn next_key_epoch(&self, device: &str) -> Result<u64, OpeningError> {
        self.next_key_epoch_of(device, None)
    }

    /// The same under the lease of fencing epoch `lease`.
    pub fn next_key_epoch_of(&self, device: &str, lease: Option<u64>) -> Result<u64, OpeningError> {
        // Keys that were destroyed count: their epochs are named by records.
        let used = keys_of(&*self.store, device)?;
        let used = used.into_iter().map(|key| key.epoch);
        Ok(key_epochs::next(used, lease)?)
    }

    /// What is in a sealed batch, without the salts of its leaves; `key` is its epoch's.
    pub(super) fn open_content(
        &self,
        key: &EpochKey,
        sealed: &SealedRef,
    ) -> Result<UnpackedBatch, OpeningError> {
        let (_, plain) = key.open(&self.ciphertext(sealed)?)?;
        Ok(batch_format::unpack(&plain)?)
    }

    fn ciphertext(&self, sealed: &SealedRef) -> Result<Vec<u8>, OpeningError> {
        let found = self.store.get(Space::Sealed, &sealed_key(&sealed.hash))?;
        found.ok_or(OpeningError::Missing(sealed.hash))
    }

    /// The key of epoch `key_epoch` of `device`.
    pub fn epoch_key(&self, device: &str, key_epoch: u64) -> Result<EpochKey, OpeningError> {
        let at = wrap_key(device, key_epoch, &self.recipient);
        let no_key = || OpeningError::NoKey {
            device: device.to_owned(),
            key_epoch,
            recipient: self.recipient.clone(),
        };
        let wrap = self.store.get(Space::Keys, &at)?;
        let wrap = wrap.filter(|wrap| !wrap.is_empty()).ok_or_else(no_key)?;
        let wrap = KeyWrap::from_bytes(&wrap)?;
        if let Some(signers) = self.signers.as_ref().filter(|_| wrap.hub != self.recipient) {
            signers
                .check(&wrap)
                .map_err(|source| OpeningError::Signer {
                    device: device.to_owned(),
                    key_epoch,
                    source,
                })?;
        }
        let wrapped = WrappedKey {
            enc: wrap.enc,
            ciphertext: wrap.ciphertext,
        };
        Ok(self.keys.unwrap(device, key_epoch, &wrapped)?)
    }
}
