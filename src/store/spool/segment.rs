//! The segment files: where they are, what is in them, and how they begin and end.

use super::record::{Read1, Reader};
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// A segment file.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) first: u64,
    pub(super) bytes: u64,
    /// It holds only records that cannot become shorter.
    pub(super) shrunk: bool,
}

/// Where the segment is that begins with record `first`.
pub(super) fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.seg"))
}

/// Deletes what a process left that ended while it made room.
pub(super) fn sweep(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "tmp") {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// The segments in `dir`, oldest first.
pub(super) fn segments(dir: &Path) -> io::Result<VecDeque<Segment>> {
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
pub(super) fn end_of(path: &Path) -> io::Result<(Option<u64>, u64)> {
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
pub(super) fn reopen(dir: &Path, first: u64, bytes: u64) -> io::Result<File> {
    let file = OpenOptions::new()
        .append(true)
        .open(segment_path(dir, first))?;
    file.set_len(bytes)?;
    file.sync_all()?;
    Ok(file)
}

/// Makes an empty segment.
pub(super) fn create(dir: &Path, first: u64) -> io::Result<File> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(segment_path(dir, first))?;
    file.set_len(0)?;
    sync_directory(dir)?;
    Ok(file)
}

/// Makes what was made, renamed or deleted in `dir` durable.
pub(super) fn sync_directory(dir: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(dir)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = dir;
    Ok(())
}
