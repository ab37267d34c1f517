//! The format of a segment: a range of blocks with their bodies and the sealed values that their records name,
//! in one file. Wrapped keys are never in it: they lie where they can be destroyed, and only there.
//!
//! `magic`, then frames of kind (u8), length (u32, little-endian) and content: a head, then each block followed
//! by its values, then an end. A frame's place is hashed with it: the hash of the file is made of the hash
//! before and the next frame, from the head to the last value, and stands in the end, in the archive's manifest
//! and in the notice that the ledger records.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use weighbridge_verifier::{Block, DecodeError, Hash, Suite, decode, encode};

const MAGIC: &[u8; 8] = b"WBSEGMT\x01";
const VERSION: u8 = 1;
const DOMAIN: &[u8] = b"weighbridge/segment/v1\0";
const HEAD: u8 = b'h';
const BLOCK: u8 = b'b';
const VALUE: u8 = b'v';
const END: u8 = b'e';
/// Bytes of a frame before its content.
const FRAME: u64 = 5;
/// Longest content of a frame.
const LONGEST: u32 = 1 << 30;

/// A segment, as notices and manifests name it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentRef {
    /// Height of its first block.
    pub first: u64,
    /// Height of its last block.
    pub last: u64,
    /// Sealed values in it.
    pub values: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Its hash.
    pub hash: Hash,
}

impl SegmentRef {
    /// The name of its file in the archive; with a part of its hash, so that no file ever takes the place of
    /// another one.
    pub fn file(&self) -> String {
        let (first, last, hash) = (self.first, self.last, self.hash.short());
        format!("blocks-{first:012}-{last:012}-{hash}.segment")
    }
}

/// What a segment begins with.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SegmentHead {
    version: u8,
    /// Id of the chain.
    pub chain: String,
    /// Hash of its first block.
    pub genesis: Hash,
    /// Height of the first block here.
    pub first: u64,
}

impl SegmentHead {
    /// Of blocks from `first` on.
    pub fn new(suite: Suite, chain: &str, genesis: Hash, first: u64) -> Self {
        Self {
            version: suite.marked(VERSION),
            chain: chain.to_owned(),
            genesis,
            first,
        }
    }

    /// The suite of the chain.
    pub fn suite(&self) -> Suite {
        Suite::of_marked(self.version).0
    }
}

#[derive(BorshSerialize, BorshDeserialize)]
struct End {
    last: u64,
    values: u64,
    hash: Hash,
}

/// Why a segment is not what was written.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The file.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Something in it.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It does not fit together.
    #[error("{0}")]
    Damaged(String),
}

fn damaged<T>(what: impl Into<String>) -> Result<T, SegmentError> {
    Err(SegmentError::Damaged(what.into()))
}

/// Hash of everything so far.
struct Running {
    suite: Suite,
    hash: Hash,
}

impl Running {
    fn next(&mut self, kind: u8, content: &[u8]) {
        let length = (content.len() as u64).to_be_bytes();
        let parts: [&[u8]; 5] = [DOMAIN, &self.hash.0, &[kind], &length, content];
        self.hash = self.suite.hash(&parts);
    }
}

/// Writes a segment.
pub struct SegmentWriter<W> {
    out: W,
    running: Running,
    first: u64,
    last: u64,
    values: u64,
    bytes: u64,
}

impl<W: Write> SegmentWriter<W> {
    /// Begins one.
    pub fn begin(mut out: W, head: &SegmentHead) -> io::Result<Self> {
        out.write_all(MAGIC)?;
        let running = Running {
            suite: head.suite(),
            hash: Hash::ZERO,
        };
        let mut writer = Self {
            out,
            running,
            first: head.first,
            last: head.first.saturating_sub(1),
            values: 0,
            bytes: MAGIC.len() as u64,
        };
        writer.frame(HEAD, &encode(head))?;
        Ok(writer)
    }

    /// The next block.
    pub fn block(&mut self, block: &Block) -> io::Result<()> {
        self.last = block.header.height;
        self.frame(BLOCK, &encode(block))
    }

    /// A value that a record of the block before names.
    pub fn value(&mut self, value: &[u8]) -> io::Result<()> {
        self.values += 1;
        self.frame(VALUE, value)
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ends it.
    pub fn finish(mut self) -> io::Result<(W, SegmentRef)> {
        let end = End {
            last: self.last,
            values: self.values,
            hash: self.running.hash,
        };
        let hash = end.hash;
        self.frame(END, &encode(&end))?;
        let reference = SegmentRef {
            first: self.first,
            last: self.last,
            values: self.values,
            bytes: self.bytes,
            hash,
        };
        Ok((self.out, reference))
    }

    fn frame(&mut self, kind: u8, content: &[u8]) -> io::Result<()> {
        let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "a frame is too long");
        let length = u32::try_from(content.len()).ok().filter(|l| *l <= LONGEST);
        let length = length.ok_or_else(too_long)?;
        self.running.next(kind, content);
        self.out.write_all(&[kind])?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(content)?;
        self.bytes += FRAME + u64::from(length);
        Ok(())
    }
}

/// Something in a segment, and where its content is in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What.
    pub what: What,
    /// Where its content begins.
    pub at: u64,
    /// How long that is.
    pub length: u32,
}

/// What a part of a segment is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A block.
    Block(Box<Block>),
    /// The value of this hash, which the record of this number of the block before names.
    Value(Hash),
}

/// Reads a segment through, and checks all of it: each block has its body and follows the one before, each
/// value is one that its block names, and the hash is that of the end. Shows its parts to `see`.
pub fn read_segment(
    mut input: impl Read,
    mut see: impl FnMut(Part),
) -> Result<(SegmentHead, SegmentRef), SegmentError> {
    let mut magic = [0; MAGIC.len()];
    input.read_exact(&mut magic)?;
    if magic != *MAGIC {
        return damaged("it is no segment of an archive");
    }
    let mut at = MAGIC.len() as u64;
    let Some((HEAD, content)) = frame(&mut input)? else {
        return damaged("it has no head");
    };
    at += FRAME + content.len() as u64;
    let head: SegmentHead = decode("head of a segment", &content)?;
    if head.version != head.suite().marked(VERSION) {
        let version = head.version;
        return damaged(format!("the format version {version} is not known here"));
    }
    let mut running = Running {
        suite: head.suite(),
        hash: Hash::ZERO,
    };
    running.next(HEAD, &content);
    let mut seen = Seen::new(&head);
    while let Some((kind, content)) = frame(&mut input)? {
        let length = content.len() as u32;
        let what = match kind {
            BLOCK => What::Block(Box::new(seen.block(&content)?)),
            VALUE => What::Value(seen.value(&content)?),
            END => {
                let end: End = decode("end of a segment", &content)?;
                if (end.last, end.values, end.hash) != (seen.last, seen.values, running.hash) {
                    return damaged("it does not have the hash that its end says");
                }
                if input.read(&mut [0])? > 0 {
                    return damaged("it goes on after its end");
                }
                let reference = SegmentRef {
                    first: head.first,
                    last: end.last,
                    values: end.values,
                    bytes: at + FRAME + u64::from(length),
                    hash: end.hash,
                };
                return Ok((head, reference));
            }
            _ => return damaged(format!("there is no kind of frame {kind}")),
        };
        running.next(kind, &content);
        see(Part {
            what,
            at: at + FRAME,
            length,
        });
        at += FRAME + u64::from(length);
    }
    damaged("it has no end")
}

/// What was read so far.
struct Seen<'a> {
    head: &'a SegmentHead,
    last: u64,
    previous: Option<Hash>,
    values: u64,
    /// What the newest block names, with its length.
    named: BTreeMap<Hash, u64>,
}

impl<'a> Seen<'a> {
    fn new(head: &'a SegmentHead) -> Self {
        Self {
            head,
            last: head.first.saturating_sub(1),
            previous: None,
            values: 0,
            named: BTreeMap::new(),
        }
    }

    fn block(&mut self, content: &[u8]) -> Result<Block, SegmentError> {
        let block: Block = decode("block", content)?;
        let header = &block.header;
        let height = header.height;
        if Some(height) != self.last.checked_add(1) {
            return damaged(format!("block {height} is not the next one"));
        }
        if header.chain != self.head.chain || header.suite() != self.head.suite() {
            return damaged(format!("block {height} is of another chain"));
        }
        if self.previous.is_some_and(|p| p != header.previous_hash) {
            return damaged(format!("block {height} does not follow the one before"));
        }
        if let Err(why) = block.verify_body() {
            return damaged(format!("block {height}: {why}"));
        }
        self.last = height;
        self.previous = Some(header.hash());
        let sealed = block.records.iter().filter_map(|r| r.body.sealed());
        self.named = sealed.map(|s| (s.hash, s.length)).collect();
        Ok(block)
    }

    fn value(&mut self, content: &[u8]) -> Result<Hash, SegmentError> {
        let hash = self.head.suite().hash(&[content]);
        if self.named.remove(&hash) != Some(content.len() as u64) {
            let height = self.last;
            return damaged(format!("a value after block {height} is not one it names"));
        }
        self.values += 1;
        Ok(hash)
    }
}

/// The next frame; `None` at the end of the file.
fn frame(input: &mut impl Read) -> Result<Option<(u8, Vec<u8>)>, SegmentError> {
    let mut kind = [0];
    if input.read(&mut kind)? == 0 {
        return Ok(None);
    }
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > LONGEST {
        return damaged("a frame is too long");
    }
    // Grows as it is read: the length may be a lie.
    let mut content = Vec::new();
    input.take(length.into()).read_to_end(&mut content)?;
    match u32::try_from(content.len()) == Ok(length) {
        true => Ok(Some((kind[0], content))),
        false => damaged("it ends in the middle of a frame"),
    }
}
