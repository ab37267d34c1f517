//! How far a spool was acknowledged and made durable, in a small file of two slots written in turn.
//!
//! It is not synced by itself: an older position after a power failure only means that what was
//! acknowledged is offered again, and whoever takes it knows what it has.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use xxhash_rust::xxh3::xxh3_64;

const FILE: &str = "position";
const SLOT: usize = 24;

/// What the file says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// The first record that is not acknowledged.
    pub(super) head: u64,
    /// The first record that is not known to be durable.
    pub(super) synced: u64,
}

pub(super) struct PositionFile {
    file: File,
    second: bool,
}

/// Name of the file in a spool's directory.
pub(super) const POSITION: &str = FILE;

impl PositionFile {
    /// Reads the newest position in `dir` from a file that is never written; `None` when there is none.
    pub(super) fn look(dir: &Path) -> io::Result<Option<(Self, Position)>> {
        let mut file = match File::open(dir.join(FILE)) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let position = newest(&mut file)?.map_or(Position::default(), |(_, p)| p);
        let second = false;
        Ok(Some((Self { file, second }, position)))
    }

    /// Whether the file in `dir` says something, and nothing of it can be read.
    pub(super) fn is_damaged(dir: &Path) -> io::Result<bool> {
        match File::open(dir.join(FILE)) {
            Ok(mut file) => {
                let empty = file.metadata()?.len() == 0;
                Ok(!empty && newest(&mut file)?.is_none())
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Opens the file in `dir`, and reads the newest position in it.
    pub(super) fn open(dir: &Path) -> io::Result<(Self, Position)> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join(FILE))?;
        let (second, position) = match newest(&mut file)? {
            Some((at, position)) => (at == 0, position),
            None => (false, Position::default()),
        };
        Ok((Self { file, second }, position))
    }

    pub(super) fn write(&mut self, position: Position) -> io::Result<()> {
        let mut slot = Vec::with_capacity(SLOT);
        slot.extend(position.head.to_le_bytes());
        slot.extend(position.synced.to_le_bytes());
        slot.extend(xxh3_64(&slot).to_le_bytes());
        let at = if self.second { SLOT as u64 } else { 0 };
        self.file.seek(SeekFrom::Start(at))?;
        self.file.write_all(&slot)?;
        self.second = !self.second;
        Ok(())
    }
}

/// The newest position in the file, and in which slot it is.
fn newest(file: &mut File) -> io::Result<Option<(usize, Position)>> {
    let mut bytes = Vec::new();
    file.take(2 * SLOT as u64).read_to_end(&mut bytes)?;
    let slots = bytes.chunks(SLOT).map(parse).enumerate();
    let sound = slots.filter_map(|(at, slot)| Some((at, slot?)));
    // Both numbers only ever rise.
    Ok(sound.max_by_key(|(_, p)| (p.head, p.synced)))
}

fn parse(slot: &[u8]) -> Option<Position> {
    let number = |at: usize| {
        let bytes = slot.get(at..at + 8)?.try_into().ok()?;
        Some(u64::from_le_bytes(bytes))
    };
    let sound = xxh3_64(slot.get(..16)?) == number(16)?;
    let position = Position {
        head: number(0)?,
        synced: number(8)?,
    };
    // A file of zeros is none.
    (sound && position.head <= position.synced).then_some(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_position_is_read_and_a_torn_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, first) = PositionFile::open(dir.path()).unwrap();
        assert_eq!(first, Position::default());
        for head in 1..=5 {
            let written = Position {
                head,
                synced: head + 2,
            };
            file.write(written).unwrap();
            let (again, read) = PositionFile::open(dir.path()).unwrap();
            assert_eq!(read, written);
            file = again;
        }
        let path = dir.path().join(FILE);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..SLOT {
            let mut torn = whole.clone();
            torn[at] ^= 1;
            std::fs::write(&path, &torn).unwrap();
            // The fifth is in the first slot.
            let (_, read) = PositionFile::open(dir.path()).unwrap();
            assert_eq!(read.head, 4, "byte {at}");
        }
    }
}
