//! What judged a batch: the readable beginning of a sealed document of kind `validation`.
//!
//! The rest of the document is the settings and limits as the hub's validation writes them; whoever
//! wants to judge again needs the hub. What they were made from, an auditor can compare with files.

use crate::codec::{DecodeError, decode_first};
use crate::hash::Hash;
use borsh::{BorshDeserialize, BorshSerialize};

/// Version of a document that says what it was made from. Version 1 did not.
pub const WITH_ORIGINS: u8 = 2;

/// One file that settings were made from.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Origin {
    /// What kind of file: `profile`.
    pub kind: String,
    /// The id it has inside.
    pub id: String,
    /// The version it has inside.
    pub version: String,
    /// SHA-256 of the file's bytes, in every suite: what `sha256sum` prints.
    pub sha256: Hash,
}

/// The files that a document was made from, the first ancestor first; empty where it says nothing of
/// them, because nothing but the configuration made it or because it is older.
pub fn origins(document: &[u8]) -> Result<Vec<Origin>, DecodeError> {
    match document.first() {
        Some(&WITH_ORIGINS) => Ok(decode_first::<(u8, Vec<Origin>)>("settings", document)?.1),
        _ => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::encode;

    #[test]
    fn what_follows_does_not_matter_and_older_documents_say_nothing() {
        let origin = Origin {
            kind: "profile".to_owned(),
            id: "pump".to_owned(),
            version: "1.2".to_owned(),
            sha256: Hash([7; 32]),
        };
        let known = vec![origin];
        for rest in ["", "settings and limits"] {
            let bytes = encode(&(WITH_ORIGINS, &known, rest.as_bytes()));
            assert_eq!(origins(&bytes).unwrap(), known);
        }
        assert_eq!(origins(&encode(&(1u8, 9u32))).unwrap(), []);
        assert_eq!(origins(b"").unwrap(), []);
        let whole = encode(&(WITH_ORIGINS, &known));
        for short in 1..whole.len() {
            assert!(origins(&whole[..short]).is_err(), "{short} bytes");
        }
    }
}
