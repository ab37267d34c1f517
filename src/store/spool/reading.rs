//! Reading: one after the other, or a single one beside that.

use super::record::{Read1, Reader};
use super::segment::segment_path;
use super::{Spool, SpoolError};
use std::io;

/// The next record of a spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Its number and its bytes.
    Record(u64, Vec<u8>),
    /// The record of this number was damaged on disk.
    Lost(u64),
}

impl Next {
    /// The record's number.
    pub fn index(&self) -> u64 {
        match self {
            Self::Record(index, _) | Self::Lost(index) => *index,
        }
    }
}

/// An open segment.
pub(super) struct At {
    /// The first index of the segment.
    first: u64,
    /// No record before this one comes any more.
    from: u64,
    reader: Reader,
}

impl Spool {
    /// The next record for the reader; `None` when it has read all that is durable.
    pub fn read(&mut self) -> Result<Option<Next>, SpoolError> {
        if self.cursor >= self.synced {
            return Ok(None);
        }
        let found = self.find(self.cursor).map_err(|e| self.error("read", e))?;
        self.cursor += 1;
        Ok(Some(found))
    }

    /// Reads from record `index` on again.
    pub fn read_from(&mut self, index: u64) {
        self.cursor = index.clamp(self.head, self.synced);
    }

    /// The number of the record that [`Self::read`] returns next.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// The record `index`, without moving the reader; `None` when it is not (or no more) here.
    pub fn get(&mut self, index: u64) -> Result<Option<Next>, SpoolError> {
        if !(self.head..self.synced).contains(&index) {
            return Ok(None);
        }
        std::mem::swap(&mut self.reader, &mut self.looker);
        let found = self.find(index);
        std::mem::swap(&mut self.reader, &mut self.looker);
        found.map(Some).map_err(|e| self.error("read", e))
    }

    /// The record `index`, which is synced.
    fn find(&mut self, index: u64) -> io::Result<Next> {
        let segment = self.segments.iter().rev().find(|s| s.first <= index);
        let first = segment.map_or(0, |s| s.first);
        let known = self.reader.take();
        let known = known.filter(|at| at.first == first && at.from <= index);
        let mut at = match known {
            Some(at) => at,
            None => At {
                first,
                from: first,
                reader: Reader::open(&segment_path(&self.dir, first))?,
            },
        };
        at.reader.refresh()?;
        let found = at.reader.next(index)?;
        at.from = index + 1;
        match found {
            Read1::Record(of, payload, _) if of == index => {
                self.reader = Some(at);
                Ok(Next::Record(index, payload))
            }
            Read1::Spoiled(of) if of == index => {
                self.reader = Some(at);
                Ok(Next::Lost(index))
            }
            // The one after it, or none: it is looked for again from the beginning.
            _ => Ok(Next::Lost(index)),
        }
    }
}
