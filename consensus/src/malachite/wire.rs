//! Fixed forms of integers, hashes and lengths: little-endian, every length bounded before anything is
//! taken, nothing left over at the end.

use bytes::Bytes;

/// Bytes that are not the one form of what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of the consensus engine is malformed: {0}")]
pub struct Malformed(pub &'static str);

/// Reads from the front.
pub struct Reader(Bytes);

impl Reader {
    /// Over all of these bytes.
    pub fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The next `count` bytes, without copying them.
    pub fn take(&mut self, count: usize) -> Result<Bytes, Malformed> {
        match count <= self.0.len() {
            true => Ok(self.0.split_to(count)),
            false => Err(Malformed("it ends too early")),
        }
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let bytes = self.take(N)?;
        let array = <[u8; N]>::try_from(&bytes[..]);
        array.map_err(|_| Malformed("it ends too early"))
    }

    /// A byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// A count that is at most `most`.
    pub fn count(&mut self, most: usize) -> Result<usize, Malformed> {
        let count = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        match count <= most {
            true => Ok(count),
            false => Err(Malformed("something in it is too long")),
        }
    }

    /// Bytes with their length, which is at most `most`, before them.
    pub fn sized(&mut self, most: usize) -> Result<Bytes, Malformed> {
        let count = self.count(most)?;
        self.take(count)
    }

    /// Nothing may be left.
    pub fn finish(self) -> Result<(), Malformed> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(Malformed("something follows it")),
        }
    }
}

/// Writes to the end.
#[derive(Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// With room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.raw(&[value])
    }

    /// Four bytes.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// Eight bytes.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// A count, which is refused above `most` as it would be when it is read.
    pub fn count(&mut self, count: usize, most: usize) -> Result<&mut Self, Malformed> {
        match u32::try_from(count) {
            Ok(short) if count <= most => Ok(self.u32(short)),
            _ => Err(Malformed("something in it is too long")),
        }
    }

    /// Bytes with their length before them.
    pub fn sized(&mut self, bytes: &[u8], most: usize) -> Result<&mut Self, Malformed> {
        Ok(self.count(bytes.len(), most)?.raw(bytes))
    }

    /// What was written.
    pub fn finish(self) -> Bytes {
        self.0.into()
    }
}
