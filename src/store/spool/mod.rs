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
mod position;
mod record;

pub use audit::{Audit, Damage, Look, audit};
pub use record::MAX_PAYLOAD;

use super::lock::DirectoryLock;
use super::small_file;
use crate::ledger::store::StoreError;
use position::{Position, PositionFile};
use record::{HEAD, Read1, Reader, record};
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
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

/// What was found when a spool was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Bytes of records that were being written when the process before ended; nobody was told that
    /// they were durable.
    pub torn: u64,
    /// Records at the end that had been durable, and are not there any more.
    pub lost: u64,
}

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

/// What was given up to make room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shrunk {
    /// Records that are shorter now.
    pub records: u64,
    /// Bytes won.
    pub bytes: u64,
}

#[derive(Debug)]
struct Segment {
    first: u64,
    bytes: u64,
    /// It holds only records that cannot become shorter.
    shrunk: bool,
}

/// An open segment.
struct At {
    /// The first index of the segment.
    first: u64,
    /// No record before this one comes any more.
    from: u64,
    reader: Reader,
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

    /// Opens the spool in `dir` to read what waits in it, and changes nothing; `None` when there was never
    /// anything in it. Appending and acknowledging fail.
    pub fn look(dir: &Path) -> Result<Option<(Self, Opened)>, SpoolError> {
        let failed = |source| SpoolError::Io {
            dir: dir.to_owned(),
            what: "read",
            source,
        };
        let lock = DirectoryLock::take(dir).map_err(SpoolError::Lock)?;
        let Some((position, known)) = PositionFile::look(dir).map_err(failed)? else {
            return Ok(None);
        };
        let segments = segments(dir).map_err(failed)?;
        let Some((first, length)) = segments.back().map(|s| (s.first, s.bytes)) else {
            return Ok(None);
        };
        let path = segment_path(dir, first);
        let (end, bytes) = end_of(&path).map_err(failed)?;
        let end = end.unwrap_or(first);
        let opened = Opened {
            torn: length - bytes,
            lost: known.synced.saturating_sub(end.max(known.head)),
        };
        let next = end.max(known.synced);
        let head = known.head.max(segments.front().map_or(0, |s| s.first));
        let spool = Self {
            dir: dir.to_owned(),
            limits: SpoolLimits::of(0),
            segments,
            active: File::open(&path).map_err(failed)?,
            position,
            head,
            synced: next,
            next,
            cursor: head,
            reader: None,
            looker: None,
            _lock: lock,
        };
        Ok(Some((spool, opened)))
    }

    /// Opens the spool in `dir`, or makes an empty one.
    pub fn open(dir: &Path, limits: SpoolLimits) -> Result<(Self, Opened), SpoolError> {
        let failed = |what: &'static str| {
            let dir = dir.to_owned();
            move |source| SpoolError::Io { dir, what, source }
        };
        small_file::make_directory(dir, true).map_err(failed("made"))?;
        let lock = DirectoryLock::take(dir).map_err(SpoolError::Lock)?;
        let (position, known) = PositionFile::open(dir).map_err(failed("read"))?;
        sweep(dir).map_err(failed("read"))?;
        let mut segments = segments(dir).map_err(failed("read"))?;
        let mut opened = Opened::default();
        let mut next = known.synced;
        let mut go_on = None;
        if let Some(last) = segments.back_mut() {
            let (end, bytes) = end_of(&segment_path(dir, last.first)).map_err(failed("read"))?;
            let end = end.unwrap_or(last.first);
            opened.torn = last.bytes - bytes;
            opened.lost = known.synced.saturating_sub(end.max(known.head));
            last.bytes = bytes;
            next = end.max(known.synced);
            // Numbers that were given are not given again: what is missing leaves a hole between two
            // segments.
            go_on = (end == next).then_some((last.first, bytes));
        }
        let active = match go_on {
            Some((first, bytes)) => reopen(dir, first, bytes),
            None => {
                segments.push_back(Segment {
                    first: next,
                    bytes: 0,
                    shrunk: false,
                });
                create(dir, next)
            }
        }
        .map_err(failed("opened"))?;
        let mut spool = Self {
            dir: dir.to_owned(),
            limits,
            segments,
            active,
            position,
            head: known.head,
            synced: next,
            next,
            cursor: known.head,
            reader: None,
            looker: None,
            _lock: lock,
        };
        let first = spool.segments.front().map_or(next, |s| s.first);
        spool.head = spool.head.max(first);
        spool.cursor = spool.head;
        spool.drop_acknowledged();
        Ok((spool, opened))
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

    /// Makes room: rewrites the oldest segment that was not yet, with what `shrink` leaves of each
    /// record. [`SpoolError::Full`] when nothing can become shorter any more.
    pub fn shrink_oldest(
        &mut self,
        shrink: impl Fn(&[u8]) -> Vec<u8>,
    ) -> Result<Shrunk, SpoolError> {
        if self.active_bytes() > 0 && self.segments.iter().rev().skip(1).all(|s| s.shrunk) {
            self.roll()?;
        }
        let active = self.segments.len().saturating_sub(1);
        let oldest = self.segments.iter().take(active).position(|s| !s.shrunk);
        let Some(at) = oldest else {
            return Err(SpoolError::Full {
                dir: self.dir.clone(),
                why: "nothing in it can be dropped any more".to_owned(),
            });
        };
        self.rewrite(at, shrink)
            .map_err(|e| self.error("shrunk", e))
    }

    fn rewrite(&mut self, at: usize, shrink: impl Fn(&[u8]) -> Vec<u8>) -> io::Result<Shrunk> {
        let Some(segment) = self.segments.get(at) else {
            return Ok(Shrunk::default());
        };
        let (first, before) = (segment.first, segment.bytes);
        let path = segment_path(&self.dir, first);
        let temporary = path.with_extension("tmp");
        let mut file = File::create(&temporary)?;
        let mut reader = Reader::open(&path)?;
        let mut shrunk = Shrunk::default();
        let mut bytes = 0;
        loop {
            match reader.next(self.head)? {
                Read1::Record(index, payload, _) => {
                    let less = shrink(&payload);
                    shrunk.records += u64::from(less.len() < payload.len());
                    let less = record(index, &less);
                    file.write_all(&less)?;
                    bytes += less.len() as u64;
                }
                Read1::Spoiled(_) => {}
                Read1::End => break,
            }
        }
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        sync_directory(&self.dir)?;
        shrunk.bytes = before.saturating_sub(bytes);
        if let Some(segment) = self.segments.get_mut(at) {
            segment.bytes = bytes;
            segment.shrunk = true;
        }
        // They would go on in the file that was replaced.
        (self.reader, self.looker) = (None, None);
        Ok(shrunk)
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

fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.seg"))
}

/// Deletes what a process left that ended while it made room.
fn sweep(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "tmp") {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// The segments in `dir`, oldest first.
fn segments(dir: &Path) -> io::Result<VecDeque<Segment>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        if path.extension().is_none_or(|e| e != "seg") {
            continue;
        }
        let stem = path.file_stem().and_then(|s| s.to_str());
        if let Some(first) = stem.and_then(|s| s.parse().ok()) {
            segments.push(Segment {
                first,
                bytes: entry.metadata()?.len(),
                shrunk: false,
            });
        }
    }
    segments.sort_by_key(|s| s.first);
    Ok(segments.into())
}

/// The number after the newest sound record, if there is one, and where that record ends.
fn end_of(path: &Path) -> io::Result<(Option<u64>, u64)> {
    let mut reader = Reader::open(path)?;
    let (mut next, mut bytes) = (None, 0);
    loop {
        match reader.next(0)? {
            Read1::Record(index, _, end) => {
                next = Some(index + 1);
                bytes = end;
            }
            Read1::Spoiled(_) => {}
            Read1::End => return Ok((next, bytes)),
        }
    }
}

/// Opens a segment to go on with, without what is behind `bytes`.
fn reopen(dir: &Path, first: u64, bytes: u64) -> io::Result<File> {
    let file = OpenOptions::new()
        .append(true)
        .open(segment_path(dir, first))?;
    file.set_len(bytes)?;
    file.sync_all()?;
    Ok(file)
}

fn create(dir: &Path, first: u64) -> io::Result<File> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(segment_path(dir, first))?;
    file.set_len(0)?;
    sync_directory(dir)?;
    Ok(file)
}

fn sync_directory(dir: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(dir)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = dir;
    Ok(())
}

#[cfg(test)]
mod tests;
