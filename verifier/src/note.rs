//! Signed notes (c2sp.org/signed-note): text, a blank line, and one line for each signature.
//!
//! The format is strict, so that a note has one meaning: no control characters, canonical base64, key
//! names without spaces or `+`. Signatures of unknown keys are carried along and believed by nobody.

use crate::hash::sha256;
use crate::signature::{PublicKey, Signature};
use crate::suite::Suite;
use base64ct::{Base64, Encoding};
use std::fmt;
use std::str::FromStr;

/// Longest note that is read, in bytes.
pub const MAX_NOTE: usize = 64 << 10;
/// Most signatures of a note that is read; the specification wants at least 16.
pub const MAX_SIGNATURES: usize = 64;

/// What begins every signature line.
const DASH: &str = "\u{2014} ";

/// Why something is not a note or a key, or not signed by a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It is longer than [`MAX_NOTE`].
    #[error("it is longer than {MAX_NOTE} bytes")]
    Long,
    /// It is not UTF-8, or has control characters.
    #[error("it is not plain text: UTF-8 without control characters")]
    Text,
    /// There is no blank line with signatures after it.
    #[error("it is no signed note: a text, a blank line, and signature lines")]
    Shape,
    /// A line after the blank one is no signature.
    #[error("line {0} after the text is no signature line: `— NAME BASE64`")]
    Line(usize),
    /// There are more than [`MAX_SIGNATURES`].
    #[error("it has more than {MAX_SIGNATURES} signatures")]
    Many,
    /// The text of a key.
    #[error("a key is written NAME+ID+BASE64, and this is none: {0}")]
    Key(&'static str),
    /// A known key's signature is wrong.
    #[error("the signature of {0} does not hold")]
    Signature(String),
    /// There is no signature of the key.
    #[error("it is not signed by {0}")]
    Unsigned(String),
}

/// One signature line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    /// Name of the key.
    pub name: String,
    /// Id of the key, the first four bytes of a hash.
    pub key_id: [u8; 4],
    /// What the algorithm makes.
    pub signature: Vec<u8>,
}

impl NoteSignature {
    /// Reads a line without its end.
    pub fn parse(line: &str) -> Option<Self> {
        let (name, blob) = line.strip_prefix(DASH)?.split_once(' ')?;
        let blob = is_name(name).then(|| Base64::decode_vec(blob).ok())??;
        let (key_id, signature) = blob.split_first_chunk()?;
        (!signature.is_empty()).then(|| Self {
            name: name.to_owned(),
            key_id: *key_id,
            signature: signature.to_vec(),
        })
    }
}

impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blob = [&self.key_id[..], &self.signature].concat();
        writeln!(f, "{DASH}{} {}", self.name, Base64::encode_string(&blob))
    }
}

/// Text with signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What is signed, up to and with the last line end before the blank line.
    pub text: String,
    /// The signatures, in order.
    pub signatures: Vec<NoteSignature>,
}

impl Note {
    /// Reads a note.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > MAX_NOTE {
            return Err(NoteError::Long);
        }
        let whole = str::from_utf8(bytes).map_err(|_| NoteError::Text)?;
        if whole.bytes().any(|b| b < b' ' && b != b'\n') {
            return Err(NoteError::Text);
        }
        // The text may have blank lines: the last one ends it.
        let end = whole.rfind("\n\n").ok_or(NoteError::Shape)?;
        let (text, rest) = whole.split_at(end + 1);
        let lines = rest.strip_prefix('\n').and_then(|r| r.strip_suffix('\n'));
        let lines = lines.ok_or(NoteError::Shape)?;
        let signatures = lines.split('\n').enumerate().map(|(i, line)| {
            if i == MAX_SIGNATURES {
                return Err(NoteError::Many);
            }
            NoteSignature::parse(line).ok_or(NoteError::Line(i + 1))
        });
        Ok(Self {
            text: text.to_owned(),
            signatures: signatures.collect::<Result<_, _>>()?,
        })
    }

    /// What `key` says of the note. A signature of this key that does not hold spoils the whole note.
    pub fn verify(&self, key: &NoteKey, ed25519: Ed25519Check) -> Result<Stamp, NoteError> {
        let id = key.id();
        let mut stamp = None;
        for one in &self.signatures {
            if one.name != key.name || one.key_id != id {
                continue;
            }
            let held = key.key.check(&self.text, &one.signature, ed25519);
            let held = held.ok_or_else(|| NoteError::Signature(key.name.clone()))?;
            stamp = stamp.max(Some(held));
        }
        stamp.ok_or_else(|| NoteError::Unsigned(key.name.clone()))
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|s| s.fmt(f))
    }
}

/// That a signature holds; of a cosignature with the time it was made, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(pub Option<u64>);

/// Checks an Ed25519 signature (RFC 8032): key, message, signature. It is an argument because the
/// hub's TLS library has it, and an auditor may take any other.
pub type Ed25519Check = fn(&[u8; 32], &[u8], &[u8; 64]) -> bool;

/// A key of one of the kinds that are known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// Ed25519 over the text: a log's key.
    Ed25519([u8; 32]),
    /// ECDSA over P-256 and SHA-256: the own key of a hub of suite `nist`.
    Ecdsa(PublicKey),
    /// SM2 over SM3 of the text: the own key of a hub of suite `guomi`.
    Sm2(PublicKey),
    /// Ed25519 with a time: a witness's key (c2sp.org/tlog-cosignature).
    Cosignature([u8; 32]),
}

/// A key that may sign notes, with its name; written `NAME+ID+BASE64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteKey {
    /// Its name.
    pub name: String,
    /// The key itself.
    pub key: KeyKind,
}

/// c2sp.org/signed-note has no number for SM2: type 0xff is for algorithms that name themselves.
const SM2_TYPE: &[u8; 22] = b"weighbridge/sm2-sm3/v1";

/// SubjectPublicKeyInfo (RFC 5480) of a P-256 key up to its point.
const P256_INFO: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

impl NoteKey {
    /// A hub's own key, under the name `name`.
    pub fn of_hub(name: &str, key: PublicKey) -> Self {
        let kind = match key.suite() {
            Suite::Nist => KeyKind::Ecdsa(key),
            Suite::Guomi => KeyKind::Sm2(key),
        };
        Self {
            name: name.to_owned(),
            key: kind,
        }
    }

    /// The line of a signature that a hub made over the hash of the text, in its suite.
    pub fn line_of_hub(&self, signature: &Signature) -> Option<NoteSignature> {
        let bytes = match self.key {
            KeyKind::Sm2(_) => signature.0.to_vec(),
            _ => signature.to_der()?,
        };
        Some(self.line(&bytes))
    }

    /// Which key of this name: four bytes of a hash over name, algorithm and key.
    pub fn id(&self) -> [u8; 4] {
        let encoded = self.key.encode();
        let hash = match self.key {
            // ECDSA keys are hashed alone, as c2sp.org/signed-note has it.
            KeyKind::Ecdsa(_) => sha256(&[&encoded]),
            _ => sha256(&[
                self.name.as_bytes(),
                b"\n",
                &[self.key.algorithm()],
                &encoded,
            ]),
        };
        let [a, b, c, d, ..] = hash.0;
        [a, b, c, d]
    }

    /// The line of a signature that was made with this key.
    pub fn line(&self, signature: &[u8]) -> NoteSignature {
        NoteSignature {
            name: self.name.clone(),
            key_id: self.id(),
            signature: signature.to_vec(),
        }
    }
}

impl KeyKind {
    /// The signature type of c2sp.org/signed-note.
    fn algorithm(&self) -> u8 {
        match self {
            Self::Ed25519(_) => 1,
            Self::Ecdsa(_) => 2,
            Self::Cosignature(_) => 4,
            Self::Sm2(_) => 0xff,
        }
    }

    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Ed25519(key) | Self::Cosignature(key) => key.to_vec(),
            // A key that is no point has no other form; nothing verifies under it.
            Self::Ecdsa(key) => {
                let point = key.uncompressed().unwrap_or_default();
                [&P256_INFO[..], &point].concat()
            }
            Self::Sm2(key) => {
                let point = key.uncompressed().unwrap_or_default();
                [&SM2_TYPE[..], &point].concat()
            }
        }
    }

    fn decode(algorithm: u8, bytes: &[u8]) -> Option<Self> {
        match algorithm {
            1 => Some(Self::Ed25519(bytes.try_into().ok()?)),
            2 => {
                let point = bytes.strip_prefix(&P256_INFO)?;
                PublicKey::from_uncompressed(Suite::Nist, point).map(Self::Ecdsa)
            }
            4 => Some(Self::Cosignature(bytes.try_into().ok()?)),
            0xff => {
                let point = bytes.strip_prefix(SM2_TYPE)?;
                PublicKey::from_uncompressed(Suite::Guomi, point).map(Self::Sm2)
            }
            _ => None,
        }
    }

    fn check(&self, text: &str, signature: &[u8], ed25519: Ed25519Check) -> Option<Stamp> {
        match self {
            Self::Ed25519(key) => {
                let signature = signature.try_into().ok()?;
                ed25519(key, text.as_bytes(), signature).then_some(Stamp(None))
            }
            Self::Ecdsa(key) => {
                let signature = Signature::from_der(signature)?;
                let held = key.verify(&sha256(&[text.as_bytes()]), &signature);
                held.is_ok().then_some(Stamp(None))
            }
            Self::Sm2(key) => {
                let signature = Signature(signature.try_into().ok()?);
                let held = key.verify(&Suite::Guomi.hash(&[text.as_bytes()]), &signature);
                held.is_ok().then_some(Stamp(None))
            }
            Self::Cosignature(key) => {
                let (time, signature) = signature.split_first_chunk()?;
                let time = u64::from_be_bytes(*time);
                let message = cosigned(time, text);
                let signature = signature.try_into().ok()?;
                let held = time <= i64::MAX as u64 && ed25519(key, message.as_bytes(), signature);
                held.then_some(Stamp(Some(time)))
            }
        }
    }
}

/// What a witness signs (c2sp.org/tlog-cosignature): that at `time`, in seconds since 1970, this was
/// the largest tree it had seen.
pub fn cosigned(time: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

impl fmt::Display for NoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let material = [&[self.key.algorithm()][..], &self.key.encode()].concat();
        let id = u32::from_be_bytes(self.id());
        let (name, key) = (&self.name, Base64::encode_string(&material));
        write!(f, "{name}+{id:08x}+{key}")
    }
}

impl FromStr for NoteKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key("it has no two `+`"));
        };
        if !is_name(name) {
            return Err(NoteError::Key("its name is empty or has spaces"));
        }
        let key = Base64::decode_vec(key).map_err(|_| NoteError::Key("its end is no base64"))?;
        let key = key.split_first().and_then(|(a, k)| KeyKind::decode(*a, k));
        let key = key.ok_or(NoteError::Key(
            "it is neither Ed25519, nor ECDSA over P-256, nor SM2, nor a witness's",
        ))?;
        let name = name.to_owned();
        let key = Self { name, key };
        if id.len() == 8 && u32::from_str_radix(id, 16) == Ok(u32::from_be_bytes(key.id())) {
            return Ok(key);
        }
        Err(NoteError::Key("its id is not the one of name and key"))
    }
}

/// Whether a key may be named so.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+')
}

#[cfg(test)]
#[path = "note_tests.rs"]
mod tests;
