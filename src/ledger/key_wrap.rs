//! The key store's entries: a device's epoch key, wrapped to one recipient, signed by the hub.
//!
//! The wrap itself says nothing to whoever cannot open it; the signature lets anyone notice a changed
//! bit without any secret.

use super::store::{Space, Store, StoreError};
use crate::crypto::Signer;
use borsh::{BorshDeserialize, BorshSerialize};
use std::borrow::Cow;
use weighbridge_verifier::{
    Content, DecodeError, Hash, PublicKey, Record, Signature, SignatureCheck, SignatureError,
    Suite, decode, encode,
};

/// Version of the format this code writes; a wrap carries it with its suite's mark.
pub const KEY_WRAP_VERSION: u8 = 1;

const KEY_WRAP_DOMAIN: &[u8] = b"weighbridge/key-wrap/v1\0";

/// An epoch key, wrapped to one recipient.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct KeyWrap {
    /// [`KEY_WRAP_VERSION`], with the mark of its suite ([`Suite::marked`]).
    pub version: u8,
    /// Id of the chain.
    pub chain: String,
    /// The device whose data the key seals; `hub:` and the hub's id for what users did.
    pub device: String,
    /// Which of the device's keys.
    pub key_epoch: u64,
    /// Id of whom it is wrapped to.
    pub recipient: String,
    /// Encapsulated key: HPKE's `enc`, or SM2's C1.
    pub enc: Vec<u8>,
    /// The wrapped key.
    pub ciphertext: Vec<u8>,
    /// Id of the hub that wrapped it.
    pub hub: String,
    /// Its signature over everything above.
    pub signature: Signature,
}

impl KeyWrap {
    /// A wrap signed by `signer`.
    pub fn sign(
        chain: &str,
        device: &str,
        key_epoch: u64,
        recipient: &str,
        (enc, ciphertext): (Vec<u8>, Vec<u8>),
        signer: &dyn Signer,
    ) -> Self {
        let mut wrap = Self {
            version: signer.suite().marked(KEY_WRAP_VERSION),
            chain: chain.to_owned(),
            device: device.to_owned(),
            key_epoch,
            recipient: recipient.to_owned(),
            enc,
            ciphertext,
            hub: signer.id().to_owned(),
            signature: Signature([0; 64]),
        };
        wrap.signature = signer.sign(&wrap.message());
        wrap
    }

    /// The suite of its chain.
    pub fn suite(&self) -> Suite {
        Suite::of_marked(self.version).0
    }

    fn message(&self) -> Hash {
        let key = (self.version, &self.chain, &self.device, self.key_epoch);
        let what = (&self.recipient, &self.enc, &self.ciphertext, &self.hub);
        self.suite().hash(&[KEY_WRAP_DOMAIN, &encode(&(key, what))])
    }

    /// Checks the signature.
    pub fn verify(
        &self,
        key: &PublicKey,
        check: &dyn SignatureCheck,
    ) -> Result<(), SignatureError> {
        check.check(key, &self.message(), &self.signature)
    }

    /// The key under which the store keeps it.
    pub fn key(&self) -> Vec<u8> {
        wrap_key(&self.device, self.key_epoch, &self.recipient)
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a wrap.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let wrap: Self = decode("wrapped key", bytes)?;
        if wrap.version == wrap.suite().marked(KEY_WRAP_VERSION) {
            return Ok(wrap);
        }
        Err(DecodeError {
            what: "wrapped key",
            reason: format!("the format version {} is not known here", wrap.version),
        })
    }
}

/// Where the store keeps the wrap of a device's key for one recipient: device, key epoch, recipient.
pub fn wrap_key(device: &str, key_epoch: u64, recipient: &str) -> Vec<u8> {
    let mut key = wrap_prefix(device, key_epoch);
    key.extend(recipient.as_bytes());
    key
}

/// What the keys of all wraps of one of a device's keys begin with: the device's length (u32,
/// big-endian) and id, and the key epoch (u64, big-endian).
pub fn wrap_prefix(device: &str, key_epoch: u64) -> Vec<u8> {
    let mut key = (device.len() as u32).to_be_bytes().to_vec();
    key.extend(device.as_bytes());
    key.extend(key_epoch.to_be_bytes());
    key
}

/// Device, key epoch and recipient of a wrap, from the key under which it is kept.
pub fn read_wrap_key(key: &[u8]) -> Option<(String, u64, String)> {
    let (length, rest) = key.split_first_chunk::<4>()?;
    let (device, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    let (epoch, recipient) = rest.split_first_chunk()?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    Some((text(device)?, u64::from_be_bytes(*epoch), text(recipient)?))
}

/// Under which name a key is wrapped to reader `id`, who has `key`: with the beginning of its digits, so that
/// a wrap to a key that they had before is told from one to this.
pub fn reader_recipient(id: &str, key: &PublicKey) -> String {
    let digits = key.suite().hash(&[b"weighbridge/reader/v1\0", &key.0]);
    let digits = digits.to_string();
    format!("{id}/{}", digits.get(..16).unwrap_or(&digits))
}

/// Whether a wrap of this name is for a reader or for escrow, and not for a hub. No hub has an id with a colon
/// in it.
pub fn is_of_reader(recipient: &str) -> bool {
    recipient.contains(':')
}

/// Of whom the record of access must tell to whom a wrap of this name is: of the reader, without the digits of
/// their key; or of the key of escrow.
pub fn told_as(recipient: &str) -> &str {
    match recipient.starts_with("user:") {
        true => recipient.rsplit_once('/').map_or(recipient, |(id, _)| id),
        false => recipient,
    }
}

/// A wrap that is there, or was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptKey {
    /// Its key in the store.
    pub at: Vec<u8>,
    /// Which of the device's keys it wraps.
    pub epoch: u64,
    /// Whether it was overwritten.
    pub destroyed: bool,
}

/// All wraps of a device's keys, in order of their epochs.
pub fn keys_of(store: &dyn Store, device: &str) -> Result<Vec<KeptKey>, StoreError> {
    let from = wrap_prefix(device, 0);
    let (of_device, _) = from.split_at(from.len() - size_of::<u64>());
    let mut keys = Vec::new();
    for entry in store.scan(Space::Keys, of_device) {
        let (at, value) = entry?;
        let Some(rest) = at.strip_prefix(of_device) else {
            break;
        };
        if let Some((epoch, _)) = rest.split_first_chunk() {
            keys.push(KeptKey {
                epoch: u64::from_be_bytes(*epoch),
                destroyed: value.is_empty(),
                at,
            });
        }
    }
    Ok(keys)
}

/// Whose epoch key a record's sealed bytes are sealed under, and which of its keys: the device's, or
/// for a message the hub's own. A document's object is `kind:device`.
pub fn sealing_key(record: &Record) -> Option<(Cow<'_, str>, u64)> {
    let body = &record.body;
    let sealed = body.sealed()?;
    let owner = match &body.content {
        Content::Batch(batch) => Cow::from(&*batch.device),
        Content::Message(_) => Cow::from(hub_object(&body.hub)),
        _ => {
            let of_object = body.object.split_once(':');
            Cow::from(of_object.map_or(&*body.object, |(_, d)| d))
        }
    };
    Some((owner, sealed.key_epoch))
}

/// What a hub's own epoch keys belong to. No device has an id with a colon in it.
pub fn hub_object(hub: &str) -> String {
    format!("hub:{hub}")
}
