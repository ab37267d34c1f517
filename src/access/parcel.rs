//! What a user is known by, on its way from one hub of a site to another.
//!
//! A user is on record as commitments ([`super::KnownBy`]), which let nobody in: that takes the hash of the password,
//! the secret of the codes, the hashes of keys. The hub that has them seals them to the sealing key of the one that
//! asks, under a key that is made for this and forgotten, as a release is. Nothing in it is believed: what comes out
//! must be what the record commits to, whoever sent it.

use super::credentials::{Credentials, CredentialsError, MAX_KEYS, MAX_TEXT};
use crate::crypto::certificate::MAX_CERTIFICATE;
use crate::crypto::{EpochKey, OpenError, SealingPublicKey, SealingRing, WrappedKey};
use borsh::{BorshDeserialize, BorshSerialize};
use zeroize::Zeroizing;

/// Version of the format.
const VERSION: u8 = 1;
/// A key seals one message.
const EPOCH: u64 = 1;
/// Certificates of one user, at most.
const MAX_CERTIFICATES: usize = 2 * MAX_KEYS;
/// Longest parcel.
const MAX_PARCEL: usize = MAX_TEXT + MAX_CERTIFICATES * (MAX_CERTIFICATE + 4) + 1024;

/// Why a parcel cannot be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum ParcelError {
    /// It is no parcel.
    #[error("it is no parcel of credentials: {0}")]
    Form(String),
    /// It is of a version to come.
    #[error("the parcel is of version {0}; this program reads version {VERSION}")]
    Version(u8),
    /// It is not for this hub, or was changed.
    #[error("the parcel does not open: {0}")]
    Open(#[from] OpenError),
    /// There is no randomness.
    #[error("there is no randomness: {0}")]
    Random(#[from] getrandom::Error),
    /// What is in it.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

/// Credentials of a user, and the certificates (DER) that they name, as far as the hub keeps them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// The credentials.
    pub credentials: Credentials,
    /// The certificates.
    pub certificates: Vec<Vec<u8>>,
}

#[derive(BorshSerialize, BorshDeserialize)]
struct Form {
    version: u8,
    user: String,
    number: [u8; 16],
    enc: Vec<u8>,
    key: Vec<u8>,
    sealed: Vec<u8>,
}

impl Parcel {
    /// Sealed for the owner of `to`; `number` is random.
    ///
    /// # Errors
    /// When there is no randomness, or the key is none.
    pub fn seal(&self, to: &SealingPublicKey, number: [u8; 16]) -> Result<Vec<u8>, ParcelError> {
        let user = self.credentials.name().to_owned();
        let key = EpochKey::generate(to.suite(), &object(&user, &number), EPOCH)?;
        let wrapped = to.wrap(&key)?;
        let text = self.credentials.to_json();
        let certificates: Vec<&[u8]> = self
            .certificates
            .iter()
            .map(Vec::as_slice)
            .filter(|der| der.len() <= MAX_CERTIFICATE)
            .take(MAX_CERTIFICATES)
            .collect();
        // As long as it ever gets, so that it is not copied while it grows.
        let mut plain = Zeroizing::new(Vec::with_capacity(MAX_PARCEL));
        written(&mut plain, &(text.as_bytes(), certificates));
        let mut bytes = Vec::new();
        let form = Form {
            version: VERSION,
            user,
            number,
            enc: wrapped.enc,
            key: wrapped.ciphertext,
            sealed: key.seal(key.next_message(), &plain),
        };
        written(&mut bytes, &form);
        Ok(bytes)
    }

    /// Opens a parcel that was sealed for one of `keys`.
    ///
    /// # Errors
    /// At the first thing that does not hold.
    pub fn open(bytes: &[u8], keys: &SealingRing) -> Result<Self, ParcelError> {
        let form = |why: &dyn std::fmt::Display| ParcelError::Form(why.to_string());
        if bytes.len() > MAX_PARCEL {
            return Err(form(&"it is too long"));
        }
        match bytes.first() {
            Some(&VERSION) => {}
            Some(other) => return Err(ParcelError::Version(*other)),
            None => return Err(form(&"it is empty")),
        }
        let read: Form = borsh::from_slice(bytes).map_err(|e| form(&e))?;
        let wrapped = WrappedKey {
            enc: read.enc,
            ciphertext: read.key,
        };
        let key = keys.unwrap(&object(&read.user, &read.number), EPOCH, &wrapped)?;
        let (_, plain) = key.open(&read.sealed)?;
        let (text, certificates): (Secret, Vec<Vec<u8>>) =
            borsh::from_slice(&plain).map_err(|e| form(&e))?;
        let text = std::str::from_utf8(&text.0).map_err(|_| form(&"it is not UTF-8"))?;
        Ok(Self {
            credentials: Credentials::from_json(&read.user, text)?,
            certificates: certificates.into_iter().take(MAX_CERTIFICATES).collect(),
        })
    }
}

/// Bytes that are wiped from memory when dropped.
struct Secret(Zeroizing<Vec<u8>>);

impl BorshDeserialize for Secret {
    fn deserialize_reader<R: std::io::Read>(reader: &mut R) -> std::io::Result<Self> {
        Ok(Self(Zeroizing::new(Vec::deserialize_reader(reader)?)))
    }
}

/// What the key of a parcel belongs to.
fn object(user: &str, number: &[u8; 16]) -> String {
    let number = data_encoding::HEXLOWER.encode(number);
    format!("credentials:{user}/{number}")
}

fn written(into: &mut Vec<u8>, value: &impl BorshSerialize) {
    if let Err(error) = value.serialize(into) {
        unreachable!("memory takes what is written to it: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Totp;
    use crate::crypto::{PasswordHash, SealingKey, TotpHash, TotpSecret};
    use weighbridge_verifier::{Suite, sha256};

    fn ann() -> Parcel {
        let mut ann = Credentials::new("ann").unwrap();
        ann.password = Some(PasswordHash::with_salt(b"open sesame", &[7; 16]).unwrap());
        let secret = TotpSecret::from_bytes(&[1; 20], TotpHash::Sha1).unwrap();
        let last_step = Some(5);
        ann.totp = Some(Totp { secret, last_step });
        ann.add_key(sha256(&[b"key"])).unwrap();
        Parcel {
            credentials: ann,
            certificates: vec![vec![0x30, 1, 2], vec![0x30]],
        }
    }

    #[test]
    fn only_whom_it_is_for_opens_it_and_any_changed_byte_closes_it() {
        for suite in Suite::ALL {
            let hub = SealingKey::generate_of(suite);
            let sealed = ann().seal(hub.public(), [9; 16]).unwrap();
            let ring = SealingRing::from(hub);
            assert_eq!(Parcel::open(&sealed, &ring).unwrap(), ann());
            let other = SealingRing::from(SealingKey::generate_of(suite));
            assert!(Parcel::open(&sealed, &other).is_err());
            for at in 0..sealed.len() {
                let mut changed = sealed.clone();
                changed[at] ^= 1;
                assert!(Parcel::open(&changed, &ring).is_err(), "byte {at}");
            }
            for end in 0..sealed.len() {
                assert!(Parcel::open(&sealed[..end], &ring).is_err(), "cut at {end}");
            }
        }
    }

    #[test]
    fn nothing_of_it_is_readable_on_the_way() {
        let hub = SealingKey::generate();
        let sealed = ann().seal(hub.public(), [9; 16]).unwrap();
        let has = |what: &[u8]| sealed.windows(what.len()).any(|window| window == what);
        for secret in ["argon2", "AEAQCAIB", "password"] {
            assert!(!has(secret.as_bytes()), "{secret}");
        }
        assert!(has(b"ann"), "but for whose it is");
    }

    #[test]
    fn the_most_that_a_user_has_fits() {
        let mut most = ann();
        for i in 1..MAX_KEYS as u8 {
            most.credentials.add_key(sha256(&[&[i]])).unwrap();
        }
        most.certificates = vec![vec![7; MAX_CERTIFICATE]; MAX_CERTIFICATES];
        let hub = SealingKey::generate();
        let sealed = most.seal(hub.public(), [9; 16]).unwrap();
        assert_eq!(
            Parcel::open(&sealed, &SealingRing::from(hub)).unwrap(),
            most
        );
    }
}
