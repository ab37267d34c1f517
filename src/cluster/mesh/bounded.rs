//! Reading lists of which somebody else says how long they are: so many entries and no more, because an entry costs more
//! memory than the few bytes that it may be said in.

use crate::ledger::shared::Carried;
use crate::ledger::store::Put;
use borsh::BorshDeserialize;
use std::io::{Error, ErrorKind, Read, Result};
use weighbridge_verifier::Record;

/// Most values in one frame: sealed bytes, wraps for every reader, places in the history.
pub(super) const MAX_PUTS: usize = 64 << 10;
/// Most wraps in one frame that answers who wants those for itself.
pub(super) const MAX_WRAPS: usize = 4 << 10;
/// Most records in one frame.
pub(super) const MAX_RECORDS: usize = 16 << 10;
/// Most blocks in one frame.
pub(super) const MAX_BLOCKS: usize = 16 << 10;

fn count(from: &mut impl Read, most: usize) -> Result<usize> {
    let count = u32::deserialize_reader(from)? as usize;
    if count > most {
        let why = format!("a list of {count} entries, where {most} are the most");
        return Err(Error::new(ErrorKind::InvalidData, why));
    }
    Ok(count)
}

fn list<T: BorshDeserialize>(from: &mut impl Read, most: usize) -> Result<Vec<T>> {
    let count = count(from, most)?;
    // Memory comes with the entries.
    let mut read = Vec::new();
    for _ in 0..count {
        read.push(T::deserialize_reader(from)?);
    }
    Ok(read)
}

/// The records of a run.
pub(super) fn carried<R: Read>(from: &mut R) -> Result<Vec<Carried>> {
    let count = count(from, MAX_RECORDS)?;
    let (mut run, mut room) = (Vec::new(), MAX_PUTS);
    for _ in 0..count {
        let record = Record::deserialize_reader(from)?;
        let puts: Vec<Put> = list(from, room)?;
        room -= puts.len();
        run.push(Carried { record, puts });
    }
    Ok(run)
}

/// Values.
pub(super) fn puts<R: Read>(from: &mut R) -> Result<Vec<Put>> {
    list(from, MAX_PUTS)
}

/// Wraps.
pub(super) fn wraps<R: Read>(from: &mut R) -> Result<Vec<Put>> {
    list(from, MAX_WRAPS)
}

/// Blocks.
pub(super) fn blocks<R: Read>(from: &mut R) -> Result<Vec<Vec<u8>>> {
    list(from, MAX_BLOCKS)
}
