//! Reading with a key of one's own: what a hub hands to readers, and what they make of it.
//!
//! [`SealedBundle`] holds batches as they lie in the store, the records that answer for them with their proofs, and
//! the keys wrapped to one reader. [`Release`] holds a copy of some samples that a hub made for one user. Both are
//! files; opening them takes the reader's private key and no hub:
//!
//! ```no_run
//! use std::path::Path;
//! use weighbridge::crypto::SealingKey;
//! use weighbridge::ledger::reading::{ReadingError, SealedBundle};
//!
//! fn force(file: &Path, key: &Path) -> Result<Vec<(i64, String)>, Box<dyn std::error::Error>> {
//!     let bundle = SealedBundle::from_bytes(&std::fs::read(file)?)?;
//!     let key = SealingKey::load(key)?;
//!     // Every proof, signature and root is checked; without trusted keys it says who signed.
//!     let read = bundle.open(&key, &[])?;
//!     let samples = read.batches.iter().map(|batch| batch.samples("force"));
//!     let samples = samples.collect::<Result<Vec<_>, ReadingError>>()?;
//!     let samples = samples.concat();
//!     Ok(samples.iter().map(|s| (s.time, s.value.to_string())).collect())
//! }
//! ```

mod bundle;
mod copy;
mod gather;
mod open;
mod release;

pub use bundle::SealedBundle;
pub use copy::{Copied, CopiedSample, CopiedTag, MAX_SAMPLES, copy};
pub use gather::{Page, Wanted, gather, select};
pub use open::{ReadBatch, Reading};
pub use release::{RELEASE, Release, Released, Releasing, SealedCopy, Told};

use crate::crypto::OpenError;
use weighbridge_verifier::evidence::EvidenceError;
use weighbridge_verifier::{DecodeError, Hash};

/// Longest file of either kind, in bytes.
pub const MAX_BYTES: usize = 64 << 20;

/// Why a reader cannot open what they have.
#[derive(Debug, thiserror::Error)]
pub enum ReadingError {
    /// It is no such file.
    #[error("this is not such a file: {0}")]
    Form(String),
    /// Records, blocks or signatures do not hold.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// A wrap is not what a hub of the chain signed.
    #[error("the wrapped key of epoch {epoch} does not hold: {why}")]
    Wrap {
        /// Which key.
        epoch: u64,
        /// Why.
        why: String,
    },
    /// The key is another one.
    #[error("it is not wrapped to this key")]
    OtherKey,
    /// A record's sealed bytes are not there, or were changed.
    #[error("the sealed bytes {0} that a record names are missing or changed")]
    Sealed(Hash),
    /// The bytes do not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What was inside cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// What was inside is not what the record commits to.
    #[error("what is inside batch {epoch}.{sequence} is not what its record commits to")]
    Inner {
        /// Its fencing epoch.
        epoch: u64,
        /// Its sequence number.
        sequence: u64,
    },
    /// No record tells of the release.
    #[error("no record that is shown tells of this release")]
    Untold,
}

fn form(why: impl std::fmt::Display) -> ReadingError {
    ReadingError::Form(why.to_string())
}

/// Writes a form as one line of JSON.
fn written(form: &impl serde::Serialize) -> Vec<u8> {
    match serde_json::to_vec(form) {
        Ok(mut bytes) => {
            bytes.push(b'\n');
            bytes
        }
        Err(error) => unreachable!("strings and numbers have a form in JSON: {error}"),
    }
}

/// What a file calls itself.
#[derive(serde::Deserialize)]
struct Called {
    format: String,
}

fn calls_itself(bytes: &[u8], format: &str) -> bool {
    serde_json::from_slice::<Called>(bytes).is_ok_and(|called| called.format == format)
}

/// Reads a form that calls itself `format`.
fn read<T: serde::de::DeserializeOwned>(bytes: &[u8], format: &str) -> Result<T, ReadingError> {
    if bytes.len() > MAX_BYTES {
        return Err(form(format!("it is longer than {MAX_BYTES} bytes")));
    }
    let called: Called = serde_json::from_slice(bytes).map_err(form)?;
    if called.format != format {
        return Err(form(format!("it calls itself `{}`", called.format)));
    }
    serde_json::from_slice(bytes).map_err(form)
}
