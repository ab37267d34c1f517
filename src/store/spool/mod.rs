//! A durable queue of byte records in segment files: appended at the end, read from the head, cut off
//! behind what is acknowledged (ADR 12).
//!
//! Records are numbered from 0 without gaps, and a number is never given twice. What was synced is there after a
//! crash; what was not may be, and is cut off if it is torn. A record in the middle that was damaged is
//! reported in its place as [`Next::Lost`]. Only synced records are read: what a reader hands on, it
//! will hand on under the same number after a crash.
//!
//! The size is bounded. At the bound [`Spool::append`] says [`SpoolError::Full`]; the caller stops, or
//! makes room with [`Spool::shrink_oldest`]. Blocking: never call it from an async thread.

mod audit;
mod opening;
mod position;
mod reading;
mod record;
mod segment;
mod shrinking;

pub use audit::{Audit, Damage, Look, audit};
pub use opening::Opened;
pub use reading::Next;
pub use record::MAX_PAYLOAD;
pub use shrinking::Shrunk;

use super::lock::DirectoryLock;
use crate::ledger::store::StoreError;
use position::{Position, PositionFile};
use reading::At;
use record::{HEAD, Read1, Reader, record};
use segment::{Segment, create, segment_path};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// How large a spool may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpoolLimits {
    /// All segments together, in bytes.
    pub bytes: u64,
    /// One segment, in bytes, but for a single larger record.
    pub segment: u64,
}

impl SpoolLimits {
    /// Segments of a sensible size for a spool of `bytes`: small enough to be given back soon.
    pub fn of(bytes: u64) -> Self {
        let segment = (bytes / 16).clamp(64 << 10, 4 << 20);
        Self { bytes, segment }
    }
}

/// Why a spool cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// It holds as much as it may, or the disk is full.
    #[error("the buffer {} is full: {why}", dir.display())]
    Full {
        /// Where it is.
        dir: PathBuf,
        /// Which bound was reached.
        why: String,
    },
    /// The record is longer than any may be.
    #[error("a record of {0} bytes is too long for a buffer")]
    TooLong(usize),
    /// Another process has it open.
    #[error(transparent)]
    Lock(StoreError),
    /// The operating system failed.
    #[error("the buffer {} cannot be {what}: {source}", dir.display())]
    Io {
        /// Where it is.
        dir: PathBuf,
        /// What failed.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// The queue.
pub struct Spool {
    dir: PathBuf,
    limits: SpoolLimits,
    /// Oldest first; the last one is appended to.
    segments: VecDeque<Segment>,
    active: File,
    position: PositionFile,
    head: u64,
    synced: u64,
    next: u64,
    cursor: u64,
    /// The file that the cursor is in.
    reader: Option<At>,
    /// The file that was last looked into beside it.
    looker: Option<At>,
    _lock: DirectoryLock,
}

impl Spool {
    /// Whether there is a spool in `dir`.
    pub fn is_in(dir: &Path) -> bool {
        audit::is_in(dir)
    }

    /// The first record that is not acknowledged.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// The number that the next record gets.
    pub fn next_index(&self) -> u64 {
        self.next
    }

    /// Records that are not acknowledged.
    pub fn pending(&self) -> u64 {
        self.next - self.head
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.bytes).sum()
    }

    /// The bounds.
    pub fn limits(&self) -> SpoolLimits {
        self.limits
    }

    /// Changes the bounds. What is there stays, also if it is more than fits.
    pub fn set_limits(&mut self, limits: SpoolLimits) {
        self.limits = limits;
    }

    /// Appends a record, and returns its number. It is durable, and can be read, after [`Self::sync`].
    /// After an error nothing was appended.
    pub fn append(&mut self, payload: &[u8]) -> Result<u64, SpoolError> {
        if payload.len() > MAX_PAYLOAD {
            return Err(SpoolError::TooLong(payload.len()));
        }
        let length = (HEAD + payload.len()) as u64;
        if self.head == self.next && self.active_bytes() + length > self.limits.segment {
            // Nobody needs what is there any more.
            self.roll()?;
            self.drop_acknowledged();
        }
        let bytes = self.bytes();
        if bytes + length > self.limits.bytes {
            let why = format!("it holds {bytes} of {} bytes", self.limits.bytes);
            let dir = self.dir.clone();
            return Err(SpoolError::Full { dir, why });
        }
        if self.active_bytes() > 0 && self.active_bytes() + length > self.limits.segment {
            self.roll()?;
        }
        let written = self.active.write_all(&record(self.next, payload));
        if let Err(error) = written {
            // Half a record must not stand before the next one.
            self.cut_active().map_err(|e| self.error("written", e))?;
            return Err(self.error("written", error));
        }
        if let Some(active) = self.segments.back_mut() {
            active.bytes += length;
        }
        let index = self.next;
        self.next += 1;
        Ok(index)
    }

    /// Makes everything appended so far durable. After an error it is not known what is, and all that
    /// was appended since the last sync is taken back: append it again.
    pub fn sync(&mut self) -> Result<(), SpoolError> {
        if self.synced == self.next {
            return Ok(());
        }
        if let Err(error) = self.active.sync_data() {
            self.take_back().map_err(|e| self.error("written", e))?;
            return Err(self.error("written", error));
        }
        self.synced = self.next;
        self.write_position()
    }

    /// Everything before record `to` has arrived where it should; segments that hold nothing else are
    /// deleted.
    pub fn acknowledge(&mut self, to: u64) -> Result<(), SpoolError> {
        let to = to.min(self.synced);
        if to <= self.head {
            return Ok(());
        }
        self.head = to;
        self.cursor = self.cursor.max(to);
        self.write_position()?;
        self.drop_acknowledged();
        Ok(())
    }

    fn active_bytes(&self) -> u64 {
        self.segments.back().map_or(0, |s| s.bytes)
    }

    fn roll(&mut self) -> Result<(), SpoolError> {
        if self.segments.back().is_some_and(|s| s.first == self.next) {
            // It is new: another one would have the same name.
            return Ok(());
        }
        self.sync()?;
        self.active = create(&self.dir, self.next).map_err(|e| self.error("extended", e))?;
        self.segments.push_back(Segment {
            first: self.next,
            bytes: 0,
            shrunk: false,
        });
        Ok(())
    }

    fn cut_active(&mut self) -> io::Result<()> {
        self.active.set_len(self.active_bytes())
    }

    /// Gives up what was appended since the last sync: all of it is in the active segment.
    fn take_back(&mut self) -> io::Result<()> {
        let Some(active) = self.segments.back() else {
            return Ok(());
        };
        let mut reader = Reader::open(&segment_path(&self.dir, active.first))?;
        let mut bytes = 0;
        loop {
            match reader.next(0)? {
                Read1::Record(index, _, end) if index < self.synced => bytes = end,
                Read1::Spoiled(index) if index < self.synced => {}
                _ => break,
            }
        }
        // They may hold bytes of what is taken back.
        (self.reader, self.looker) = (None, None);
        if let Some(active) = self.segments.back_mut() {
            active.bytes = bytes;
        }
        self.next = self.synced;
        self.cut_active()
    }

    fn drop_acknowledged(&mut self) {
        while let (Some(oldest), Some(after)) = (self.segments.front(), self.segments.get(1)) {
            if after.first > self.head {
                break;
            }
            let path = segment_path(&self.dir, oldest.first);
            // A file that stays is deleted when the spool is opened the next time.
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "a used segment cannot be deleted");
            }
            self.segments.pop_front();
        }
    }

    fn write_position(&mut self) -> Result<(), SpoolError> {
        let position = Position {
            head: self.head,
            synced: self.synced,
        };
        self.position
            .write(position)
            .map_err(|e| self.error("written", e))
    }

    fn error(&self, what: &'static str, source: io::Error) -> SpoolError {
        let dir = self.dir.clone();
        if source.kind() == io::ErrorKind::StorageFull {
            let why = "the disk is full".to_owned();
            return SpoolError::Full { dir, why };
        }
        SpoolError::Io { dir, what, source }
    }
}

#[cfg(test)]
mod tests;
