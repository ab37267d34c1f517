//! Looking whether a spool is whole, without opening it for work: every record's place, sums and order,
//! and what is missing. Damage is named by file and offset. Nothing is changed.

use super::SpoolError;
use super::position::{POSITION, PositionFile};
use super::record::{Read1, Reader};
use super::segment::{segment_path, segments};
use crate::store::lock::DirectoryLock;
use serde::Serialize;
use std::io;
use std::path::{Path, PathBuf};

/// Damage that is listed; more is counted.
const LISTED: usize = 100;

/// Something in a spool that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Where.
    pub file: PathBuf,
    /// From which byte on.
    pub offset: u64,
    /// What.
    pub what: String,
}

/// What was found in a spool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Segment files.
    pub segments: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Records that wait and are sound.
    pub waiting: u64,
    /// The first record that waits.
    pub head: u64,
    /// The number after the last one.
    pub end: u64,
    /// Bytes at the end that were being written when the process ended: nobody was told that they were
    /// durable, and the next start cuts them off.
    pub torn: u64,
    /// What is wrong, as far as it is listed.
    pub damage: Vec<Damage>,
    /// How much is wrong in all.
    pub damage_count: u64,
}

impl Audit {
    fn found(&mut self, file: &Path, offset: u64, what: String) {
        self.damage_count += 1;
        if self.damage.len() < LISTED {
            self.damage.push(Damage {
                file: file.to_owned(),
                offset,
                what,
            });
        }
    }
}

pub(super) fn is_in(dir: &Path) -> bool {
    dir.join(POSITION).is_file() || segments(dir).is_ok_and(|s| !s.is_empty())
}

/// Is shown the number and the bytes of a record, and says what is wrong with it.
pub type Look<'a> = dyn FnMut(u64, &[u8]) -> Result<(), String> + 'a;

/// Audits the spool in `dir`, which nobody may have open. `look` is shown the number and the bytes of every
/// sound record that waits, in order, and says what is wrong with them.
pub fn audit(dir: &Path, look: &mut Look<'_>) -> Result<Audit, SpoolError> {
    let _lock = DirectoryLock::take(dir).map_err(SpoolError::Lock)?;
    whole(dir, look).map_err(|source| SpoolError::Io {
        dir: dir.to_owned(),
        what: "read",
        source,
    })
}

fn whole(dir: &Path, look: &mut Look<'_>) -> io::Result<Audit> {
    let known = PositionFile::look(dir)?.map(|(_, position)| position);
    let known = known.unwrap_or_default();
    let mut audit = Audit {
        head: known.head,
        ..Audit::default()
    };
    if PositionFile::is_damaged(dir)? {
        let what = "what is acknowledged cannot be read: everything is offered again";
        audit.found(&dir.join(POSITION), 0, what.to_owned());
    }
    let segments = segments(dir)?;
    let mut due = known.head;
    let last = segments.len().saturating_sub(1);
    for (at, segment) in segments.iter().enumerate() {
        audit.segments += 1;
        audit.bytes += segment.bytes;
        let file = segment_path(dir, segment.first);
        let mut reader = Reader::open(&file)?;
        let mut sound_until = 0;
        loop {
            let read = reader.next(0)?;
            let (begin, end) = match read {
                Read1::End => (reader.length(), reader.length()),
                _ => reader.extent(),
            };
            let unknown = begin - sound_until;
            if unknown > 0 {
                if matches!(read, Read1::End) && at == last && due >= known.synced {
                    audit.torn = unknown;
                } else {
                    let what = format!("{unknown} bytes that are no record");
                    audit.found(&file, sound_until, what);
                }
            }
            sound_until = end;
            let (index, payload) = match &read {
                Read1::End => break,
                Read1::Record(index, payload, _) => (*index, Some(payload)),
                Read1::Spoiled(index) => (*index, None),
            };
            // What is acknowledged is needed no more.
            if index < known.head {
                continue;
            }
            if index > due {
                let what = format!("records {due} to {} are missing before this", index - 1);
                audit.found(&file, begin, what);
            } else if index < due {
                audit.found(&file, begin, format!("record {index} comes twice"));
                continue;
            }
            due = index + 1;
            match payload.map(|payload| look(index, payload)) {
                Some(Ok(())) => audit.waiting += 1,
                Some(Err(what)) => audit.found(&file, begin, format!("record {index}: {what}")),
                None => audit.found(&file, begin, format!("record {index} was changed")),
            }
        }
    }
    if due < known.synced {
        let file = segments.back().map(|s| segment_path(dir, s.first));
        let offset = segments.back().map_or(0, |s| s.bytes);
        let end = known.synced - 1;
        let what = format!("records {due} to {end} had been durable and are missing");
        audit.found(file.as_deref().unwrap_or(dir), offset, what);
        due = known.synced;
    }
    audit.end = due;
    Ok(audit)
}
