//! Making room: the oldest segments are written again with less in them.

use super::record::{Read1, Reader, record};
use super::segment::{segment_path, sync_directory};
use super::{Spool, SpoolError};
use std::fs::{self, File};
use std::io::{self, Write};

/// What was given up to make room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shrunk {
    /// Records that are shorter now.
    pub records: u64,
    /// Bytes won.
    pub bytes: u64,
}

impl Spool {
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
}
