//! Streams of numbers and switches inside a sealed batch.

use pco::ChunkConfig;
use pco::data_types::Number;
use pco::errors::PcoError;
use pco::standalone::{simple_compress, simple_decompress_into};
use weighbridge_verifier::DecodeError;

/// Level 4 packs 16,000 numbers at 35 to 40 M/s a core, and to within 3 to 13 % of the size that
/// level 8 reaches at 11 to 28 M/s (noisy, single-precision, scaled and integer sensor values).
const LEVEL: usize = 4;

/// Packs numbers; none gives no bytes.
pub(super) fn pack_numbers<T: Number>(numbers: &[T]) -> Vec<u8> {
    if numbers.is_empty() {
        return Vec::new();
    }
    let config = ChunkConfig::default().with_compression_level(LEVEL);
    match simple_compress(numbers, &config) {
        Ok(bytes) => bytes,
        // pco fails on an impossible configuration or a failing writer only; there is neither.
        Err(e) => unreachable!("packing into memory failed: {e}"),
    }
}

/// Reads exactly `count` numbers. The caller has bounded `count`.
pub(super) fn unpack_numbers<T: Number + Default>(
    bytes: &[u8],
    count: usize,
) -> Result<Vec<T>, DecodeError> {
    if count == 0 && bytes.is_empty() {
        return Ok(Vec::new());
    }
    let mut numbers = vec![T::default(); count];
    let progress = simple_decompress_into(bytes, &mut numbers).map_err(|e| unreadable(&e))?;
    if progress.n_processed != count || !progress.finished {
        return wrong(format!("a stream does not hold {count} numbers"));
    }
    Ok(numbers)
}

/// Packs switches, eight a byte, lowest bit first.
pub(super) fn pack_bits(bits: &[bool]) -> Vec<u8> {
    let byte = |chunk: &[bool]| {
        let set = chunk.iter().enumerate().filter(|(_, b)| **b);
        set.fold(0u8, |byte, (i, _)| byte | 1 << i)
    };
    bits.chunks(8).map(byte).collect()
}

/// Reads exactly `count` switches; unused bits must be zero.
pub(super) fn unpack_bits(bytes: &[u8], count: usize) -> Result<Vec<bool>, DecodeError> {
    let bit = |i: usize| bytes.get(i / 8).is_some_and(|b| b >> (i % 8) & 1 == 1);
    let spare = count..bytes.len().saturating_mul(8);
    if bytes.len() != count.div_ceil(8) || spare.into_iter().any(bit) {
        return wrong(format!("a stream does not hold {count} switches"));
    }
    Ok((0..count).map(bit).collect())
}

fn unreadable(error: &PcoError) -> DecodeError {
    DecodeError {
        what: "batch",
        reason: format!("a stream of numbers cannot be read: {error}"),
    }
}

fn wrong<T>(reason: String) -> Result<T, DecodeError> {
    Err(DecodeError {
        what: "batch",
        reason,
    })
}
