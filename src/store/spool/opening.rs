//! Opening a spool, also one that nothing may change.

use super::position::PositionFile;
use super::segment::{Segment, create, end_of, reopen, segment_path, segments, sweep};
use super::{Spool, SpoolError, SpoolLimits};
use crate::store::lock::DirectoryLock;
use crate::store::small_file;
use std::fs::File;
use std::path::Path;

/// What was found when a spool was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Bytes of records that were being written when the process before ended; nobody was told that
    /// they were durable.
    pub torn: u64,
    /// Records at the end that had been durable, and are not there any more.
    pub lost: u64,
}

impl Spool {
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
}
