//! The signed head in a small file outside fjall.
//!
//! Two slots of one page each, written in turn and in place, each with a checksum over the whole
//! page: a write that is cut short spoils the older slot only, and every changed bit of the file is
//! noticed. A slot is `magic(5) ‖ number(u64) ‖ length(u16) ‖ head ‖ zeros ‖ SHA-256 of all before`,
//! numbers little-endian.

use crate::ledger::head::{HeadReading, HeadSlot, MAX_HEAD};
use crate::ledger::store::StoreError;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use weighbridge_verifier::sha256;

/// Bytes of a slot: a page, so that no disk tears both slots in one write.
pub const SLOT_BYTES: usize = 4096;
/// Name of the file inside the data directory.
const FILE: &str = "head";
const MAGIC: &[u8; 5] = b"WBHD\x01";
const SUM_AT: usize = SLOT_BYTES - 32;
const HEAD_AT: usize = 15;

/// What a slot holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// Never written.
    Empty,
    /// The head written by the `number`th write.
    Head { number: u64, head: Vec<u8> },
    /// Neither.
    Damaged,
}

/// The bytes of a slot.
pub(super) fn write_slot(number: u64, head: &[u8]) -> Vec<u8> {
    let mut slot = Vec::with_capacity(SLOT_BYTES);
    slot.extend(MAGIC);
    slot.extend(number.to_le_bytes());
    slot.extend((head.len() as u16).to_le_bytes());
    slot.extend(head);
    slot.resize(SUM_AT, 0);
    let sum = sha256(&[&slot]);
    slot.extend(sum.0);
    slot
}

/// Reads the bytes of a slot.
pub(super) fn read_slot(slot: &[u8]) -> Slot {
    if slot.iter().all(|b| *b == 0) {
        return Slot::Empty;
    }
    parse_slot(slot).unwrap_or(Slot::Damaged)
}

fn parse_slot(slot: &[u8]) -> Option<Slot> {
    if slot.len() != SLOT_BYTES {
        return None;
    }
    let (content, sum) = slot.split_at_checked(SUM_AT)?;
    if sha256(&[content]).0 != sum {
        return None;
    }
    let (head, rest) = content.split_at_checked(HEAD_AT)?;
    let number = u64::from_le_bytes(head.get(5..13)?.try_into().ok()?);
    let length = u16::from_le_bytes(head.get(13..15)?.try_into().ok()?);
    let (head_bytes, padding) = rest.split_at_checked(usize::from(length))?;
    let plain = head.starts_with(MAGIC) && padding.iter().all(|b| *b == 0);
    plain.then(|| Slot::Head {
        number,
        head: head_bytes.to_vec(),
    })
}

/// Sums up two slots: the heads, newest first, what is damaged, and where the next head goes with
/// which number.
pub(super) fn read_slots(slots: &[Slot; 2]) -> (HeadReading, usize, u64) {
    let mut found: Vec<(u64, usize, &Vec<u8>)> = Vec::new();
    let mut reading = HeadReading::default();
    for (at, slot) in slots.iter().enumerate() {
        match slot {
            Slot::Empty => {}
            Slot::Head { number, head } => found.push((*number, at, head)),
            Slot::Damaged => reading.damaged.push(format!("slot {}", at + 1)),
        }
    }
    found.sort_unstable_by_key(|(number, ..)| std::cmp::Reverse(*number));
    let (number, next) = match found.first() {
        Some((number, at, _)) => (number.saturating_add(1), 1 - *at),
        None => (1, 0),
    };
    reading.heads = found.into_iter().map(|(.., head)| head.clone()).collect();
    (reading, next, number)
}

/// The head's file.
#[derive(Debug)]
pub struct HeadFile {
    path: PathBuf,
    file: Option<File>,
    /// Which slot is next, and the number of that write; known once it was read.
    next: Option<(usize, u64)>,
}

impl HeadFile {
    /// The head of data directory `dir`. Nothing is created before the first write.
    pub fn new(dir: &Path) -> Self {
        Self {
            path: dir.join(FILE),
            file: None,
            next: None,
        }
    }

    fn error(&self, what: &str, error: &std::io::Error) -> StoreError {
        if error.kind() == std::io::ErrorKind::StorageFull {
            return StoreError::Full;
        }
        StoreError::Io(format!("{} cannot be {what}: {error}", self.path.display()))
    }

    fn load(&self) -> std::io::Result<Option<Vec<u8>>> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let mut bytes = Vec::new();
        // One byte more than there should be shows that there is more.
        let limit = 2 * SLOT_BYTES as u64 + 1;
        (&mut file).take(limit).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// The open file, created at its full size where it is not there.
    fn open(&mut self) -> std::io::Result<&mut File> {
        if self.file.is_none() {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&self.path)?;
            let full = 2 * SLOT_BYTES as u64;
            if file.metadata()?.len() != full {
                // Written out, so that a later write in place needs no room.
                let length = file.metadata()?.len().min(full);
                file.set_len(length)?;
                file.seek(SeekFrom::End(0))?;
                file.write_all(&vec![0; (full - length) as usize])?;
                file.sync_all()?;
                sync_parent(&self.path)?;
            }
            self.file = Some(file);
        }
        self.file
            .as_mut()
            .ok_or_else(|| std::io::Error::other("not open"))
    }

    fn write_at(&mut self, slot: usize, bytes: &[u8]) -> std::io::Result<()> {
        let file = self.open()?;
        file.seek(SeekFrom::Start((slot * SLOT_BYTES) as u64))?;
        file.write_all(bytes)?;
        file.sync_data()
    }
}

impl HeadSlot for HeadFile {
    fn read(&mut self) -> Result<HeadReading, StoreError> {
        let bytes = self.load().map_err(|e| self.error("read", &e))?;
        let Some(bytes) = bytes else {
            self.next = Some((0, 1));
            return Ok(HeadReading::default());
        };
        let (first, rest) = bytes.split_at(bytes.len().min(SLOT_BYTES));
        let slots = [read_slot(first), read_slot(rest)];
        let (mut reading, next, number) = read_slots(&slots);
        if bytes.len() != 2 * SLOT_BYTES {
            let what = format!("its length ({} bytes)", bytes.len());
            reading.damaged.push(what);
        }
        self.next = Some((next, number));
        Ok(reading)
    }

    fn write(&mut self, head: &[u8]) -> Result<(), StoreError> {
        if head.len() > MAX_HEAD {
            return Err(StoreError::Io("the head is too long".to_owned()));
        }
        let (slot, number) = match self.next {
            Some(next) => next,
            None => {
                self.read()?;
                self.next.unwrap_or((0, 1))
            }
        };
        // Until it is known to be written, this slot may be torn, and stays the next one.
        self.write_at(slot, &write_slot(number, head))
            .map_err(|e| self.error("written", &e))?;
        self.next = Some((1 - slot, number.saturating_add(1)));
        Ok(())
    }
}

#[cfg(unix)]
fn sync_parent(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(not(unix))]
fn sync_parent(_path: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_newest_head_is_read_and_the_one_before_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = HeadFile::new(dir.path());
        assert_eq!(file.read().unwrap(), HeadReading::default());
        for n in 1..=5u8 {
            file.write(&[n; 100]).unwrap();
            let reading = HeadFile::new(dir.path()).read().unwrap();
            assert_eq!(reading.damaged, Vec::<String>::new());
            assert_eq!(reading.heads[0], [n; 100]);
            assert_eq!(
                reading.heads.get(1),
                (n > 1).then(|| vec![n - 1; 100]).as_ref()
            );
        }
        // Another process goes on in the right slot.
        let mut again = HeadFile::new(dir.path());
        again.write(&[6; 100]).unwrap();
        let reading = again.read().unwrap();
        assert_eq!(reading.heads, [vec![6; 100], vec![5; 100]]);
    }

    #[test]
    fn a_torn_write_leaves_the_newest_head_readable() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = HeadFile::new(dir.path());
        for n in 1..=2u8 {
            file.write(&[n; 100]).unwrap();
        }
        let path = dir.path().join(FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        // The third head goes to the first slot; half of it arrives.
        bytes[..50].copy_from_slice(&write_slot(3, &[3; 100])[..50]);
        std::fs::write(&path, &bytes).unwrap();
        let mut file = HeadFile::new(dir.path());
        let reading = file.read().unwrap();
        assert_eq!(
            (reading.heads, reading.damaged.len()),
            (vec![vec![2; 100]], 1)
        );
        file.write(&[3; 100]).unwrap();
        let reading = file.read().unwrap();
        assert_eq!(reading.heads, [vec![3; 100], vec![2; 100]]);
        assert_eq!(reading.damaged, Vec::<String>::new());
    }

    #[test]
    fn a_file_of_another_length_is_said_to_be_damaged() {
        for length in [
            0,
            1,
            SLOT_BYTES,
            SLOT_BYTES + 20,
            2 * SLOT_BYTES - 1,
            2 * SLOT_BYTES + 1,
        ] {
            let dir = tempfile::tempdir().unwrap();
            let mut file = HeadFile::new(dir.path());
            file.write(&[1; 100]).unwrap();
            let path = dir.path().join(FILE);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes.resize(length, 0);
            std::fs::write(&path, &bytes).unwrap();
            let reading = HeadFile::new(dir.path()).read().unwrap();
            assert!(!reading.damaged.is_empty(), "{length} bytes");
            // Writing heals it.
            HeadFile::new(dir.path()).write(&[2; 100]).unwrap();
            let reading = HeadFile::new(dir.path()).read().unwrap();
            assert_eq!(reading.damaged, Vec::<String>::new(), "{length} bytes");
            assert_eq!(reading.heads[0], [2; 100], "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn rubbish_slots_are_never_heads(bytes: Vec<u8>) {
            let head = matches!(read_slot(&bytes), Slot::Head { .. });
            prop_assert!(!head);
        }

        #[test]
        fn a_slot_holds_what_was_written(number: u64, head in proptest::collection::vec(any::<u8>(), 0..MAX_HEAD)) {
            let slot = write_slot(number, &head);
            prop_assert_eq!(slot.len(), SLOT_BYTES);
            prop_assert_eq!(read_slot(&slot), Slot::Head { number, head });
        }
    }
}
