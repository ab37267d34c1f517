//! Reading and writing of chart state: little-endian numbers, floats as their bits, counts as LEB128.

use super::ValidationError;
use std::io::{Error, Read, Result, Write};

pub(super) fn put_f64(out: &mut Vec<u8>, x: f64) {
    out.extend_from_slice(&x.to_bits().to_le_bytes());
}

pub(super) fn put_u64(out: &mut Vec<u8>, x: u64) {
    out.extend_from_slice(&x.to_le_bytes());
}

pub(super) fn put_count(out: &mut Vec<u8>, mut x: u32) {
    while x >= 0x80 {
        out.push(x as u8 | 0x80);
        x >>= 7;
    }
    out.push(x as u8);
}

/// The rest of a state document.
pub(super) struct Reader<'a>(pub &'a [u8]);

impl Reader<'_> {
    pub fn u8(&mut self) -> std::result::Result<u8, ValidationError> {
        self.array::<1>().map(|[b]| b)
    }

    pub fn u64(&mut self) -> std::result::Result<u64, ValidationError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A float; NaN is refused, for no chart ever holds one that judged finite samples.
    pub fn f64(&mut self) -> std::result::Result<f64, ValidationError> {
        let x = f64::from_bits(self.u64()?);
        if x.is_nan() {
            return Err(ValidationError::State("a number in it is not one".into()));
        }
        Ok(x)
    }

    pub fn count(&mut self) -> std::result::Result<u32, ValidationError> {
        let mut x: u64 = 0;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.u8()?;
            x |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        u32::try_from(x).map_err(|_| ValidationError::State("a count in it is too large".into()))
    }

    fn array<const N: usize>(&mut self) -> std::result::Result<[u8; N], ValidationError> {
        match self.0.split_first_chunk::<N>() {
            Some((head, rest)) => {
                self.0 = rest;
                Ok(*head)
            }
            None => Err(ValidationError::State("it is too short".into())),
        }
    }
}

/// For borsh, which has no NaN: the float's bits.
pub(super) fn write_f64<W: Write>(x: &f64, out: &mut W) -> Result<()> {
    out.write_all(&x.to_bits().to_le_bytes())
}

/// The reverse of [`write_f64`].
pub(super) fn read_f64<R: Read>(from: &mut R) -> std::result::Result<f64, Error> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(f64::from_bits(u64::from_le_bytes(bytes)))
}
