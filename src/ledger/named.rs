//! What a record names by its hash, and the store keeps as plain bytes: the notices of erasures and retirements.

use borsh::{BorshDeserialize, BorshSerialize};
use weighbridge_verifier::{DecodeError, Hash, Suite, decode, encode};

/// What a record names of `it`, which has this version with the mark of its suite.
pub(super) fn hash(domain: &[u8], version: u8, it: &impl BorshSerialize) -> Hash {
    let (suite, _) = Suite::of_marked(version);
    suite.hash(&[domain, &encode(it)])
}

/// How such a thing is read.
pub(super) struct Form<T> {
    /// What it is, in plain words.
    pub(super) what: &'static str,
    /// The version that is known here.
    pub(super) version: u8,
    /// Its version, with the mark of its suite.
    pub(super) version_of: fn(&T) -> u8,
    /// Whether what it says fits together; if not, why.
    pub(super) check: fn(&T) -> Result<(), &'static str>,
}

impl<T: BorshDeserialize> Form<T> {
    /// Reads it.
    pub(super) fn read(&self, bytes: &[u8]) -> Result<T, DecodeError> {
        let what = self.what;
        let it: T = decode(what, bytes)?;
        let wrong = |reason| DecodeError { what, reason };
        let version = (self.version_of)(&it);
        if Suite::of_marked(version).1 != self.version {
            let reason = format!("the format version {version} is not known here");
            return Err(wrong(reason));
        }
        (self.check)(&it).map_err(|why| wrong(why.to_owned()))?;
        Ok(it)
    }
}
