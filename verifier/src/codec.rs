//! The canonical encoding of everything that is hashed or stored: borsh, with strict reading.
//!
//! borsh has exactly one encoding for a value; reading here also refuses trailing bytes, so two
//! different byte strings never decode to the same value.

use borsh::{BorshDeserialize, BorshSerialize};

/// Bytes that are not the one encoding of a value of the wanted type.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot be decoded: {reason}")]
pub struct DecodeError {
    /// What was expected, in plain words ("block", "record").
    pub what: &'static str,
    /// Why it is not that.
    pub reason: String,
}

/// The canonical bytes of `value`.
pub fn encode<T: BorshSerialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    match value.serialize(&mut out) {
        Ok(()) => out,
        // Writing to a Vec cannot fail, and no format type holds a NaN or a collection past u32::MAX.
        Err(e) => unreachable!("encoding into memory failed: {e}"),
    }
}

/// Reads exactly one `T` from `bytes`; `what` names it in the error.
pub fn decode<T: BorshDeserialize>(what: &'static str, bytes: &[u8]) -> Result<T, DecodeError> {
    T::try_from_slice(bytes).map_err(|e| DecodeError {
        what,
        reason: e.to_string(),
    })
}

/// Reads a `T` that `bytes` begin with; `what` names the whole in the error.
pub fn decode_first<T: BorshDeserialize>(
    what: &'static str,
    mut bytes: &[u8],
) -> Result<T, DecodeError> {
    T::deserialize(&mut bytes).map_err(|e| DecodeError {
        what,
        reason: e.to_string(),
    })
}
