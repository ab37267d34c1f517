//! A batch on its way from an edge node to a hub: numbered, signed, and sealed to the hubs.
//!
//! The edge signs what a record will say of the batch: device, number, count, grade, and the root of the
//! salted samples. Samples and salts are sealed under a key of the edge's process, which is wrapped to
//! every hub of its list. So a disk that is stolen shows counts and roots, and the edge itself cannot
//! read what it wrote before it was started.

use crate::crypto::{
    EpochKey, OpenError, SaltSeed, SealingPublicKey, SealingRing, Signer, WrappedKey,
};
use crate::ledger::batch_format;
use crate::ledger::inner_tree::{self, InnerTree};
use crate::ledger::seal::{Attested, DROPPED, RefusedBatch};
use crate::model::{Batch, TagSpec};
use borsh::{BorshDeserialize, BorshSerialize};
use weighbridge_verifier::record::attestation_message;
use weighbridge_verifier::{
    Attestation, BatchContent, DecodeError, Hash, PublicKey, Salt, Suite, VerdictClass,
    VerdictSummary, decode, encode,
};

/// Version of the format this code writes.
pub const UPLOAD_VERSION: u8 = 1;

/// What the edge's key is bound to besides its number.
const KEY_OBJECT: &str = "edge-upload";

/// A batch on its way.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Upload {
    /// [`UPLOAD_VERSION`].
    pub version: u8,
    /// The device.
    pub device: String,
    /// Fencing epoch.
    pub epoch: u64,
    /// Sequence number in the epoch, from 1.
    pub sequence: u64,
    /// Privacy grade.
    pub grade: u8,
    /// Its samples.
    pub samples: u32,
    /// Root of the salted samples.
    pub inner_root: Hash,
    /// The edge's signature over all that.
    pub attestation: Attestation,
    /// What is left of it.
    pub content: Content,
}

/// What is left of a batch.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Content {
    /// All.
    Sealed(SealedContent),
    /// The edge had to drop the samples to make room for younger ones.
    Dropped,
    /// The edge's disk has lost it.
    Damaged,
}

/// Samples and salts, sealed.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SealedContent {
    /// Number of the key, one a process of the edge.
    pub key: u64,
    /// The key, for every hub.
    pub wraps: Vec<Wrap>,
    /// The batch with the secret of its salts.
    pub ciphertext: Vec<u8>,
}

/// The key of an edge node's process, wrapped to one hub.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Wrap {
    /// The hub's sealing key.
    pub recipient: PublicKey,
    /// Encapsulated key.
    pub enc: Vec<u8>,
    /// The wrapped key.
    pub ciphertext: Vec<u8>,
}

/// Why a batch cannot be made ready for its way.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The operating system has no randomness.
    #[error("there is no randomness: {0}")]
    Randomness(#[from] getrandom::Error),
    /// Its columns do not fit.
    #[error(transparent)]
    Columns(#[from] inner_tree::MalformedColumn),
    /// It cannot be packed.
    #[error(transparent)]
    Pack(#[from] batch_format::PackError),
    /// The key cannot be wrapped.
    #[error("the key cannot be wrapped to a hub: {0}")]
    Wrap(OpenError),
}

/// Why an upload is refused.
#[derive(Debug, thiserror::Error)]
pub enum UploadFault {
    /// Signed by another key.
    #[error("it is signed by another key than the edge node's")]
    Key,
    /// The signature does not hold.
    #[error("the edge node's signature does not hold: {0}")]
    Signature(#[from] weighbridge_verifier::SignatureError),
    /// It does not open.
    #[error("what is sealed in it cannot be opened: {0}")]
    Sealed(#[from] OpenError),
    /// What is inside cannot be read.
    #[error("what is sealed in it cannot be read: {0}")]
    Form(#[from] DecodeError),
    /// Other tags than the device has.
    #[error("its tags are not those of the device")]
    Tags,
    /// The root is not that of the samples.
    #[error("the signed root is not that of its samples")]
    Root,
    /// Dropped on purpose.
    #[error("the edge node's buffer was full, and it dropped the samples")]
    Dropped,
    /// Lost on disk.
    #[error("the edge node's disk has lost the samples")]
    Damaged,
}

impl UploadFault {
    /// As a record names it.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Key | Self::Signature(_) => "signature",
            Self::Sealed(_) | Self::Form(_) => "unreadable",
            Self::Tags => "tags",
            Self::Root => "root",
            Self::Dropped => DROPPED,
            Self::Damaged => "damaged",
        }
    }
}

/// Makes a device's batches ready for their way: one a device and process.
pub struct Packer {
    grade: u8,
    key: EpochKey,
    wraps: Vec<Wrap>,
    tree: Option<InnerTree>,
}

impl Packer {
    /// Under a new key, which only the owners of `hubs` can open; `number` tells it from the keys of
    /// other processes.
    pub fn new(grade: u8, number: u64, hubs: &[SealingPublicKey]) -> Result<Self, UploadError> {
        let suite = hubs.first().map_or(Suite::Nist, SealingPublicKey::suite);
        let key = EpochKey::generate(suite, KEY_OBJECT, number)?;
        let wrap = |hub: &SealingPublicKey| {
            let wrapped = hub.wrap(&key).map_err(UploadError::Wrap)?;
            Ok(Wrap {
                recipient: hub.compressed(),
                enc: wrapped.enc,
                ciphertext: wrapped.ciphertext,
            })
        };
        let wraps = hubs.iter().map(wrap).collect::<Result<_, UploadError>>()?;
        Ok(Self {
            grade,
            key,
            wraps,
            tree: None,
        })
    }

    /// The keys whose owners can open what it packs.
    pub fn recipients(&self) -> impl Iterator<Item = &PublicKey> {
        self.wraps.iter().map(|wrap| &wrap.recipient)
    }

    /// The batch as number `epoch`, `sequence`, signed by `signer`.
    pub fn pack(
        &mut self,
        batch: &Batch,
        (epoch, sequence): (u64, u64),
        signer: &dyn Signer,
    ) -> Result<Upload, UploadError> {
        let salts = SaltSeed::generate()?;
        let tree = self.tree.take().filter(|tree| tree.fits(batch));
        let tree = tree.unwrap_or_else(|| InnerTree::of(self.key.suite(), batch));
        let inner_root = root(&tree, batch, &salts)?;
        self.tree = Some(tree);
        let plain = batch_format::pack_salted(batch, &[], &[], &salts)?;
        let number = self.key.next_message();
        let content = Content::Sealed(SealedContent {
            key: self.key.epoch(),
            wraps: self.wraps.clone(),
            ciphertext: self.key.seal(number, &plain),
        });
        let mut upload = Upload {
            version: UPLOAD_VERSION,
            device: batch.device.to_string(),
            epoch,
            sequence,
            grade: self.grade,
            samples: u32::try_from(batch.samples()).unwrap_or(u32::MAX),
            inner_root,
            attestation: Attestation {
                key: signer.public_key(),
                signature: weighbridge_verifier::Signature([0; 64]),
            },
            content,
        };
        upload.sign(signer);
        Ok(upload)
    }
}

fn root(
    tree: &InnerTree,
    batch: &Batch,
    salts: &SaltSeed,
) -> Result<Hash, inner_tree::MalformedColumn> {
    let mut salts = salts.salts(tree.suite(), batch.samples()).into_iter();
    let salt = |_| -> Salt { salts.next().unwrap_or_default() };
    Ok(inner_tree::inner_root(
        tree.suite(),
        tree.leaves(batch, salt)?,
    ))
}

impl Upload {
    /// In the place of a batch that the edge's disk has lost: nothing is known of it but its number.
    pub fn damaged(
        device: &str,
        grade: u8,
        (epoch, sequence): (u64, u64),
        signer: &dyn Signer,
    ) -> Self {
        let mut upload = Self {
            version: UPLOAD_VERSION,
            device: device.to_owned(),
            epoch,
            sequence,
            grade,
            // Every batch has at least one.
            samples: 1,
            inner_root: Hash::ZERO,
            attestation: Attestation {
                key: signer.public_key(),
                signature: weighbridge_verifier::Signature([0; 64]),
            },
            content: Content::Damaged,
        };
        upload.sign(signer);
        upload
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads an upload.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let upload: Self = decode("upload", bytes)?;
        if upload.version == UPLOAD_VERSION {
            return Ok(upload);
        }
        Err(DecodeError {
            what: "upload",
            reason: format!("the format version {} is not known here", upload.version),
        })
    }

    /// The same without its samples: what is left when an edge's buffer must make room.
    pub fn without_samples(mut self) -> Self {
        if matches!(self.content, Content::Sealed(_)) {
            self.content = Content::Dropped;
        }
        self
    }

    /// Gives it another number; the signature over the old one must hold, so that nobody has something
    /// signed by writing to the edge's disk.
    pub fn renumber(
        &mut self,
        (epoch, sequence): (u64, u64),
        signer: &dyn Signer,
    ) -> Result<(), UploadFault> {
        self.check_signature(&signer.public_key())?;
        (self.epoch, self.sequence) = (epoch, sequence);
        self.sign(signer);
        Ok(())
    }

    /// Whether the owner of these keys can open it.
    pub fn opens_for(&self, sealing: &[PublicKey]) -> bool {
        match &self.content {
            Content::Sealed(sealed) => {
                let mut wraps = sealed.wraps.iter();
                wraps.any(|wrap| sealing.contains(&wrap.recipient))
            }
            Content::Dropped | Content::Damaged => true,
        }
    }

    /// Whether the signature is `key`'s, and holds.
    pub fn check_signature(&self, key: &PublicKey) -> Result<(), UploadFault> {
        if self.attestation.key != *key {
            return Err(UploadFault::Key);
        }
        Ok(key.verify(&self.message(), &self.attestation.signature)?)
    }

    fn sign(&mut self, signer: &dyn Signer) {
        self.attestation = Attestation {
            key: signer.public_key(),
            signature: signer.sign(&self.message()),
        };
    }

    fn message(&self) -> Hash {
        let content = BatchContent {
            device: self.device.clone(),
            epoch: self.epoch,
            sequence: self.sequence,
            samples: self.samples,
            grade: self.grade,
            inner_root: self.inner_root,
            sealed: None,
            verdict: VerdictSummary {
                class: VerdictClass::Accepted,
                chart: String::new(),
                rule: String::new(),
            },
            judged_by: Hash::ZERO,
            attester: None,
        };
        attestation_message(self.attestation.key.suite(), &content)
    }
}

/// The keys of an edge node: the one in use, and those before it, under which batches may still wait in its
/// buffer. They may change while its devices are read.
#[derive(Clone)]
pub struct EdgeKeys(std::sync::Arc<parking_lot::RwLock<(PublicKey, Vec<PublicKey>)>>);

impl EdgeKeys {
    /// One that has this key, and had those.
    pub fn new(key: PublicKey, former: Vec<PublicKey>) -> Self {
        Self(std::sync::Arc::new(parking_lot::RwLock::new((key, former))))
    }

    /// From now on it has this key, and had those.
    pub fn set(&self, key: PublicKey, former: Vec<PublicKey>) {
        *self.0.write() = (key, former);
    }

    /// The key in use.
    pub fn current(&self) -> PublicKey {
        self.0.read().0
    }

    /// The key that should have signed `upload`.
    fn of(&self, upload: &Upload) -> PublicKey {
        let keys = self.0.read();
        let signed = keys.1.iter().find(|key| **key == upload.attestation.key);
        signed.copied().unwrap_or(keys.0)
    }
}

/// Opens and checks the uploads of one device on a hub.
pub struct Unpacker {
    tags: std::sync::Arc<[TagSpec]>,
    grade: u8,
    edge: EdgeKeys,
    sealing: SealingRing,
    /// The key of the edge's process, and what it came out of: opening one costs a millisecond.
    key: Option<(Vec<u8>, EpochKey)>,
    tree: Option<InnerTree>,
}

impl Unpacker {
    /// For a device with these tags and grade, read by the edge node with the keys `edge`.
    pub fn new(
        tags: std::sync::Arc<[TagSpec]>,
        grade: u8,
        edge: EdgeKeys,
        sealing: impl Into<SealingRing>,
    ) -> Self {
        Self {
            tags,
            grade,
            edge,
            sealing: sealing.into(),
            key: None,
            tree: None,
        }
    }

    /// The batch, with what the edge signed; or why it is refused, as its record will say.
    pub fn unpack(&mut self, upload: &Upload) -> Result<(Batch, Attested), Box<RefusedBatch>> {
        let signed = upload.check_signature(&self.edge.of(upload));
        let holds = signed.is_ok() && upload.grade == self.grade;
        let opened = signed.and_then(|()| self.open(upload));
        opened.map_err(|fault| {
            Box::new(RefusedBatch {
                samples: upload.samples,
                inner_root: upload.inner_root,
                attester: holds.then_some(upload.attestation),
                rule: fault.rule(),
                reason: fault.to_string(),
            })
        })
    }

    fn open(&mut self, upload: &Upload) -> Result<(Batch, Attested), UploadFault> {
        let sealed = match &upload.content {
            Content::Sealed(sealed) => sealed,
            Content::Dropped => return Err(UploadFault::Dropped),
            Content::Damaged => return Err(UploadFault::Damaged),
        };
        let (_, plain) = self.key(sealed)?.open(&sealed.ciphertext)?;
        let unpacked = batch_format::unpack(&plain)?;
        let (mut batch, Some(salts)) = (unpacked.batch, unpacked.salts) else {
            return Err(UploadFault::Root);
        };
        let same = |(a, b): (&TagSpec, &TagSpec)| a.name == b.name && a.kind == b.kind;
        let fits = batch.tags.len() == self.tags.len()
            && batch.tags.iter().zip(&*self.tags).all(same)
            && *batch.device == *upload.device
            && upload.grade == self.grade;
        if !fits {
            return Err(UploadFault::Tags);
        }
        // The hub knows more of its tags (ranges, who may write), and has them once for all batches.
        batch.tags = self.tags.clone();
        (batch.epoch, batch.sequence) = (upload.epoch, upload.sequence);
        let tree = self.tree.take().filter(|tree| tree.fits(&batch));
        let tree = tree.unwrap_or_else(|| InnerTree::of(self.sealing.suite(), &batch));
        let root = root(&tree, &batch, &salts);
        self.tree = Some(tree);
        let counted = u32::try_from(batch.samples()) == Ok(upload.samples);
        if root != Ok(upload.inner_root) || !counted || upload.samples == 0 {
            return Err(UploadFault::Root);
        }
        let attested = Attested {
            inner_root: upload.inner_root,
            salts,
            attestation: upload.attestation,
        };
        Ok((batch, attested))
    }

    fn key(&mut self, sealed: &SealedContent) -> Result<&EpochKey, UploadFault> {
        // What waited at the edge node may be for a key that the hub had before.
        let wraps = sealed.wraps.iter();
        let mut own = wraps.filter_map(|w| Some((w, self.sealing.find(&w.recipient)?)));
        let (wrap, own) = own.next().ok_or(OpenError::Authentication)?;
        let known = self.key.as_ref().is_some_and(|(enc, _)| *enc == wrap.enc);
        if !known {
            let wrapped = WrappedKey {
                enc: wrap.enc.clone(),
                ciphertext: wrap.ciphertext.clone(),
            };
            let key = own.unwrap(KEY_OBJECT, sealed.key, &wrapped)?;
            self.key = Some((wrap.enc.clone(), key));
        }
        match &self.key {
            Some((_, key)) => Ok(key),
            None => Err(OpenError::Form.into()),
        }
    }
}

// The same tests, once for each suite.
#[cfg(test)]
#[path = "."]
mod nist {
    use super::*;
    const SUITE: Suite = Suite::Nist;
    #[path = "upload_tests.rs"]
    mod tests;
}
#[cfg(test)]
#[allow(clippy::duplicate_mod)]
#[path = "."]
mod guomi {
    use super::*;
    const SUITE: Suite = Suite::Guomi;
    #[path = "upload_tests.rs"]
    mod tests;
}
