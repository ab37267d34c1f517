//! One record in a segment file: `magic(4) ‖ index(u64) ‖ length(u32) ‖ sum of the payload(u64) ‖ sum
//! of all before(u64) ‖ payload`, numbers little-endian, sums XXH3-64.
//!
//! The head has a sum of its own, so that a changed payload costs one record, and a changed head is
//! not mistaken for a length.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: [u8; 4] = *b"WBS\x01";
/// Bytes of a record beside its payload.
pub(super) const HEAD: usize = 32;
/// Longest payload, in bytes.
pub const MAX_PAYLOAD: usize = 256 << 20;

/// The bytes of record `index`.
pub(super) fn record(index: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + payload.len());
    bytes.extend(MAGIC);
    bytes.extend(index.to_le_bytes());
    bytes.extend((payload.len() as u32).to_le_bytes());
    bytes.extend(xxh3_64(payload).to_le_bytes());
    bytes.extend(xxh3_64(&bytes).to_le_bytes());
    bytes.extend(payload);
    bytes
}

#[derive(Clone, Copy, Debug)]
struct Head {
    index: u64,
    length: u32,
    sum: u64,
}

fn parse_head(bytes: &[u8; HEAD]) -> Option<Head> {
    let number = |at: usize| {
        let bytes = bytes.get(at..at + 8)?.try_into().ok()?;
        Some(u64::from_le_bytes(bytes))
    };
    let length = u32::from_le_bytes(bytes.get(12..16)?.try_into().ok()?);
    let sound = bytes.starts_with(&MAGIC)
        && length as usize <= MAX_PAYLOAD
        && xxh3_64(bytes.get(..24)?) == number(24)?;
    sound.then_some(Head {
        index: number(4)?,
        length,
        sum: number(16)?,
    })
}

/// What comes next in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read1 {
    /// A sound record: its index and payload; and where it ends in the file.
    Record(u64, Vec<u8>, u64),
    /// A record whose payload was changed.
    Spoiled(u64),
    /// Nothing sound until the end of the file.
    End,
}

/// Reads the records of one segment file in order.
pub(super) struct Reader {
    file: BufReader<File>,
    at: u64,
    length: u64,
    /// Where the record begins that was read last.
    began: u64,
}

impl Reader {
    /// From the beginning of the file at `path`.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self {
            file: BufReader::with_capacity(64 << 10, file),
            at: 0,
            length,
            began: 0,
        })
    }

    /// Where the record begins that was read last, and where it ends.
    pub(super) fn extent(&self) -> (u64, u64) {
        (self.began, self.at)
    }

    /// How long the file is.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Lets it see what was written since it was opened.
    pub(super) fn refresh(&mut self) -> io::Result<()> {
        self.length = self.file.get_ref().metadata()?.len();
        Ok(())
    }

    /// The next record with an index of at least `from`; payloads before it are not read.
    pub(super) fn next(&mut self, from: u64) -> io::Result<Read1> {
        while let Some(head) = self.find_head()? {
            let end = self.at + u64::from(head.length);
            if head.index < from {
                self.seek(end)?;
                continue;
            }
            if end > self.length {
                // Cut short, unless the length itself is part of something older: look behind the head.
                continue;
            }
            let mut payload = vec![0; head.length as usize];
            self.file.read_exact(&mut payload)?;
            self.at = end;
            if xxh3_64(&payload) != head.sum {
                return Ok(Read1::Spoiled(head.index));
            }
            return Ok(Read1::Record(head.index, payload, end));
        }
        Ok(Read1::End)
    }

    /// The next sound head, wherever it begins; then the reader stands behind it.
    fn find_head(&mut self) -> io::Result<Option<Head>> {
        let mut window = [0; HEAD];
        while self.at + HEAD as u64 <= self.length {
            let begin = self.at;
            self.file.read_exact(&mut window)?;
            self.at = begin + HEAD as u64;
            if let Some(head) = parse_head(&window) {
                self.began = begin;
                return Ok(Some(head));
            }
            // Something is damaged: every byte may be the beginning of the next head.
            let skip = (1..HEAD)
                .find(|at| window.get(*at) == MAGIC.first())
                .unwrap_or(HEAD);
            self.seek(begin + skip as u64)?;
        }
        Ok(None)
    }

    fn seek(&mut self, at: u64) -> io::Result<()> {
        let by = i64::try_from(at).unwrap_or(i64::MAX) - i64::try_from(self.at).unwrap_or(0);
        self.file.seek_relative(by)?;
        self.at = at;
        Ok(())
    }
}
