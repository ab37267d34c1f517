//! The wrapped keys, in a file whose places are overwritten.
//!
//! A log-structured store keeps what was deleted, in old tables and in its journal, until it happens to
//! write them anew. A key that must be destroyed cannot live there. So each wrap has a slot of its own in
//! one file: written in place, synced, and when it is destroyed overwritten in place and synced again. The
//! slot then says only which key was in it.
//!
//! A slot is one or more sectors of 512 bytes: `magic(4) ‖ state(1) ‖ sectors(2) ‖ key length(2) ‖ value
//! length(2) ‖ SHA-256 of the slot without this field ‖ key ‖ value ‖ zeros`, numbers little-endian. What is
//! longer than a sector has its first one written last, so a write that is cut short leaves no slot.
//! A live value that another one replaces stays where it is until that one is durable in a place of its own; then
//! it is overwritten. Of two slots of one key, which a cut between leaves, one counts and the other is overwritten
//! with the next key that is destroyed: whoever replaces a value can still use both until they know that it is done.
//! Sectors that are neither zero nor of a slot are what such a write left, or were changed; nothing is read
//! from them, and whoever misses a key there notices by the records that need it.

use crate::ledger::store::{Pair, StoreError};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use weighbridge_verifier::sha256;

/// Name of the file inside the data directory.
pub(super) const FILE: &str = "wraps";
const SECTOR: usize = 512;
const MAGIC: &[u8; 4] = b"WBK\x01";
const SUM_AT: usize = 11;
const SUM_END: usize = SUM_AT + 32;
/// Sectors by which the file grows, written out: later writes in place need no room.
const GROW: u64 = 128;
/// Free sectors that there should always be.
const SPARE: u64 = 64;
/// Longest key, and longest value.
const MAX_LENGTH: usize = 16 << 10;

const LIVE: u8 = 1;
const DESTROYED: u8 = 2;

/// Where a key's slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// Its first sector.
    at: u64,
    sectors: u16,
    destroyed: bool,
}

impl Place {
    /// Its sectors.
    fn all(self) -> impl Iterator<Item = u64> {
        self.at..self.at + u64::from(self.sectors)
    }
}

/// The file of wrapped keys.
pub(super) struct KeySlots {
    path: PathBuf,
    file: File,
    /// Sectors of the file.
    length: u64,
    places: BTreeMap<Vec<u8>, Place>,
    /// Runs of free sectors: where each begins, and how many there are.
    free: BTreeMap<u64, u64>,
    /// Sectors that are neither free nor of a slot.
    torn: Vec<u64>,
}

impl KeySlots {
    /// Opens the file in data directory `dir`; makes it where it is not there.
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let opened = options.open(&path);
        let file = opened.map_err(|e| failed(&path, "opened", &e))?;
        let mut slots = Self {
            path,
            file,
            length: 0,
            places: BTreeMap::new(),
            free: BTreeMap::new(),
            torn: Vec::new(),
        };
        let read = slots.load();
        read.map_err(|e| slots.failed("read", &e))?;
        if !slots.torn.is_empty() {
            tracing::warn!(file = %slots.path.display(), sectors = slots.torn.len(),
                "some of the file of wrapped keys was written in part, or changed");
        }
        Ok(slots)
    }

    fn load(&mut self) -> std::io::Result<()> {
        self.length = self.file.metadata()?.len().div_ceil(SECTOR as u64);
        self.file.seek(SeekFrom::Start(0))?;
        let mut reader = std::io::BufReader::with_capacity(1 << 16, &self.file);
        let mut found: Vec<(Vec<u8>, Place)> = Vec::new();
        let (mut free, mut torn) = (Vec::new(), Vec::new());
        let mut at = 0;
        while at < self.length {
            let first = read_sectors(&mut reader, 1)?;
            if first.iter().all(|b| *b == 0) {
                free.push(at);
                at += 1;
                continue;
            }
            let sectors = sectors_of(&first).unwrap_or(1);
            let mut slot = first;
            // A changed length must not swallow the slots behind it.
            if sectors > 1 && u64::from(sectors) <= self.length - at {
                slot.extend(read_sectors(&mut reader, usize::from(sectors) - 1)?);
            }
            match parse(&slot) {
                Some((key, _, destroyed)) => {
                    let place = Place {
                        at,
                        sectors,
                        destroyed,
                    };
                    found.push((key.to_vec(), place));
                    at += u64::from(sectors);
                }
                None => {
                    torn.push(at);
                    at += 1;
                    reader.seek(SeekFrom::Start(at * SECTOR as u64))?;
                }
            }
        }
        self.torn = torn;
        for at in free {
            self.release(at, 1);
        }
        for (key, place) in found {
            // Of two one was about to be overwritten. One that lives counts: whoever destroys a key goes on where
            // they were interrupted.
            let other = match self.places.get(&key) {
                Some(known) if place.destroyed && !known.destroyed => Some(place),
                _ => self.places.insert(key, place),
            };
            self.torn.extend(other.into_iter().flat_map(Place::all));
        }
        Ok(())
    }

    /// Writes `pairs`, each into its slot, and returns once they are durable. What was there before is overwritten
    /// after that.
    pub(super) fn put(&mut self, pairs: &[(&[u8], &[u8])]) -> Result<(), StoreError> {
        let mut replaced = Vec::new();
        let written = pairs.iter().try_for_each(|(key, value)| {
            let slot = slot(key, value, LIVE, 0)?;
            let before = self.places.get(*key).copied();
            let place = match before.filter(|place| !place.destroyed) {
                Some(_) => self.free_place(slot.len() / SECTOR)?,
                None => self.place(key, slot.len() / SECTOR)?,
            };
            let slot = padded(slot, place.sectors);
            let written = self.write(place.at, &slot);
            if let Some(before) = before.filter(|place| !place.destroyed) {
                // Until the sync it is not known which of the two is there: both are of no slot, or one is.
                replaced.push((key.to_vec(), before));
            }
            self.places.insert(key.to_vec(), place);
            written
        });
        let written = written.and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            self.go_back(replaced);
            return Err(self.failed("written", &error));
        }
        let gone = self.overwrite_places(replaced);
        gone.map_err(|e| self.failed("overwritten", &e))?;
        // Ahead of need, so that a disk that is full by then does not matter.
        if self.free.values().sum::<u64>() < SPARE {
            let grown = self.grow();
            if let Err(error) = grown {
                tracing::warn!(%error, "the file of wrapped keys cannot grow");
            }
        }
        Ok(())
    }

    /// The places that were to be replaced count again; those that were written are overwritten with the next key that
    /// is destroyed.
    fn go_back(&mut self, replaced: Vec<(Vec<u8>, Place)>) {
        // Backwards: of a key that was written twice the first place counts.
        for (key, before) in replaced.into_iter().rev() {
            if let Some(new) = self.places.insert(key, before) {
                self.torn.extend(new.all());
            }
        }
    }

    /// Overwrites what was replaced, durably, and frees its places.
    fn overwrite_places(&mut self, replaced: Vec<(Vec<u8>, Place)>) -> std::io::Result<()> {
        if replaced.is_empty() {
            return Ok(());
        }
        let places: Vec<Place> = replaced.into_iter().map(|(_, place)| place).collect();
        let zeros = |slots: &mut Self| {
            for place in &places {
                let zeros = vec![0; usize::from(place.sectors) * SECTOR];
                slots.write_at(place.at, &zeros)?;
            }
            slots.file.sync_data()
        };
        let done = zeros(self);
        for place in places {
            match done {
                Ok(()) => self.release(place.at, place.sectors.into()),
                Err(_) => self.torn.extend(place.all()),
            }
        }
        done
    }

    /// The value under `key`; of one that was destroyed an empty one.
    pub(super) fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(place) = self.places.get(key).copied() else {
            return Ok(None);
        };
        let read = self.read(place);
        let slot = read.map_err(|e| self.failed("read", &e))?;
        match parse(&slot) {
            Some((_, value, _)) => Ok(Some(value.to_vec())),
            None => Err(StoreError::Damaged(format!(
                "a slot of {} has changed",
                self.path.display()
            ))),
        }
    }

    /// The keys from `from` on.
    pub(super) fn keys(&self, from: &[u8]) -> Vec<Vec<u8>> {
        let keys = self.places.range(from.to_vec()..);
        keys.map(|(key, _)| key.clone()).collect()
    }

    /// The greatest key, and its value.
    pub(super) fn last(&mut self) -> Result<Option<Pair>, StoreError> {
        let Some(key) = self.places.keys().next_back().cloned() else {
            return Ok(None);
        };
        let value = self.get(&key)?;
        Ok(value.map(|value| (key, value)))
    }

    /// Overwrites the values under `keys` and whatever lies in sectors that are of no slot, and returns
    /// once that is durable. What is not there or was destroyed before is left as it is.
    pub(super) fn destroy(&mut self, keys: &[Vec<u8>]) -> Result<(), StoreError> {
        let destroyed = self.overwrite(keys);
        destroyed.map_err(|e| self.failed("overwritten", &e))
    }

    fn overwrite(&mut self, keys: &[Vec<u8>]) -> std::io::Result<()> {
        for key in keys {
            let Some(place) = self.places.get(key).copied() else {
                continue;
            };
            if !place.destroyed {
                self.write_at(place.at, &slot(key, &[], DESTROYED, place.sectors)?)?;
            }
        }
        for at in self.torn.clone() {
            self.write_at(at, &[0; SECTOR])?;
        }
        self.file.sync_data()?;
        for key in keys {
            if let Some(place) = self.places.get_mut(key) {
                place.destroyed = true;
            }
        }
        for at in std::mem::take(&mut self.torn) {
            self.release(at, 1);
        }
        Ok(())
    }

    /// A place for a slot of `sectors`: the one that the key has, or a free one.
    fn place(&mut self, key: &[u8], sectors: usize) -> std::io::Result<Place> {
        let sectors = sectors as u16;
        if let Some(known) = self.places.get(key).copied() {
            if known.sectors >= sectors {
                let destroyed = false;
                return Ok(Place { destroyed, ..known });
            }
            self.write_at(known.at, &vec![0; usize::from(known.sectors) * SECTOR])?;
            self.places.remove(key);
            self.release(known.at, u64::from(known.sectors));
        }
        self.free_place(usize::from(sectors))
    }

    /// A free place for a slot of `sectors`.
    fn free_place(&mut self, sectors: usize) -> std::io::Result<Place> {
        let sectors = sectors as u16;
        let wanted = u64::from(sectors);
        let fits = |free: &BTreeMap<u64, u64>| {
            let mut runs = free.iter();
            runs.find(|(_, run)| **run >= wanted).map(|(at, _)| *at)
        };
        let at = match fits(&self.free) {
            Some(at) => at,
            None => {
                self.grow()?;
                fits(&self.free).ok_or_else(|| std::io::Error::other("no place was made"))?
            }
        };
        let run = self.free.remove(&at).unwrap_or(wanted);
        if run > wanted {
            self.free.insert(at + wanted, run - wanted);
        }
        Ok(Place {
            at,
            sectors,
            destroyed: false,
        })
    }

    fn grow(&mut self) -> std::io::Result<()> {
        let from = self.length;
        self.write_at(from, &vec![0; GROW as usize * SECTOR])?;
        self.file.sync_all()?;
        self.length += GROW;
        self.release(from, GROW);
        Ok(())
    }

    /// These sectors are free from now on.
    fn release(&mut self, at: u64, sectors: u64) {
        let mut run = (at, sectors);
        if let Some((before, length)) = self.free.range(..at).next_back()
            && before + length == at
        {
            run = (*before, length + sectors);
        }
        if let Some(length) = self.free.remove(&(at + sectors)) {
            run.1 += length;
        }
        self.free.insert(run.0, run.1);
    }

    /// Writes a slot so that it is there as a whole or not at all.
    fn write(&mut self, at: u64, slot: &[u8]) -> std::io::Result<()> {
        let (head, rest) = slot.split_at(SECTOR.min(slot.len()));
        if !rest.is_empty() {
            self.write_at(at, &[0; SECTOR])?;
            self.write_at(at + 1, rest)?;
            self.file.sync_data()?;
        }
        self.write_at(at, head)
    }

    fn write_at(&mut self, sector: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.file.seek(SeekFrom::Start(sector * SECTOR as u64))?;
        self.file.write_all(bytes)
    }

    fn read(&mut self, place: Place) -> std::io::Result<Vec<u8>> {
        self.file.seek(SeekFrom::Start(place.at * SECTOR as u64))?;
        let mut slot = vec![0; usize::from(place.sectors) * SECTOR];
        self.file.read_exact(&mut slot)?;
        Ok(slot)
    }

    fn failed(&self, what: &str, error: &std::io::Error) -> StoreError {
        failed(&self.path, what, error)
    }
}

fn failed(path: &Path, what: &str, error: &std::io::Error) -> StoreError {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full,
        _ => StoreError::Io(format!("{} cannot be {what}: {error}", path.display())),
    }
}

/// So many sectors; what lacks at the end of the file is zero.
fn read_sectors(reader: &mut impl Read, sectors: usize) -> std::io::Result<Vec<u8>> {
    let wanted = sectors * SECTOR;
    let mut bytes = Vec::with_capacity(wanted);
    reader.take(wanted as u64).read_to_end(&mut bytes)?;
    bytes.resize(wanted, 0);
    Ok(bytes)
}

/// How many sectors the slot that begins so says that it has.
fn sectors_of(first: &[u8]) -> Option<u16> {
    let rest = first.strip_prefix(MAGIC)?;
    let sectors = u16::from_le_bytes(*rest.get(1..)?.first_chunk()?);
    (sectors > 0).then_some(sectors)
}

/// The bytes of a slot, of at least `sectors`.
fn slot(key: &[u8], value: &[u8], state: u8, sectors: u16) -> std::io::Result<Vec<u8>> {
    if key.len() > MAX_LENGTH || value.len() > MAX_LENGTH {
        return Err(std::io::Error::other("the wrapped key is too long"));
    }
    let needed = (SUM_END + key.len() + value.len()).div_ceil(SECTOR) as u16;
    let mut slot = MAGIC.to_vec();
    slot.push(state);
    slot.extend(needed.max(sectors).to_le_bytes());
    slot.extend((key.len() as u16).to_le_bytes());
    slot.extend((value.len() as u16).to_le_bytes());
    slot.extend([0; 32]);
    slot.extend(key);
    slot.extend(value);
    slot.resize(usize::from(needed.max(sectors)) * SECTOR, 0);
    seal(&mut slot);
    Ok(slot)
}

/// The same slot in the `sectors` that it has.
fn padded(mut slot: Vec<u8>, sectors: u16) -> Vec<u8> {
    if slot.len() < usize::from(sectors) * SECTOR {
        slot.resize(usize::from(sectors) * SECTOR, 0);
        if let Some(place) = slot.get_mut(5..7) {
            place.copy_from_slice(&sectors.to_le_bytes());
        }
        seal(&mut slot);
    }
    slot
}

fn seal(slot: &mut [u8]) {
    let sum = sum(slot);
    if let Some(place) = slot.get_mut(SUM_AT..SUM_END) {
        place.copy_from_slice(&sum);
    }
}

fn sum(slot: &[u8]) -> [u8; 32] {
    let (head, rest) = slot.split_at(SUM_AT.min(slot.len()));
    let rest = rest.get(32..).unwrap_or_default();
    sha256(&[b"weighbridge/key-slot/v1\0", head, rest]).0
}

/// Key and value of a slot, and whether it was destroyed; `None` when it is none.
fn parse(slot: &[u8]) -> Option<(&[u8], &[u8], bool)> {
    let sectors = sectors_of(slot)?;
    let whole = slot.len() == usize::from(sectors) * SECTOR;
    if !whole || slot.get(SUM_AT..SUM_END)? != sum(slot) {
        return None;
    }
    let length = |at: usize| {
        Some(usize::from(u16::from_le_bytes(
            *slot.get(at..)?.first_chunk()?,
        )))
    };
    let content = slot.get(SUM_END..)?;
    let (key, rest) = content.split_at_checked(length(7)?)?;
    let value = rest.get(..length(9)?)?;
    match *slot.get(4)? {
        LIVE => Some((key, value, false)),
        DESTROYED if value.is_empty() => Some((key, value, true)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn raw(dir: &Path) -> Vec<u8> {
        std::fs::read(dir.join(FILE)).unwrap()
    }

    fn holds(bytes: &[u8], what: &[u8]) -> bool {
        bytes.windows(what.len()).any(|w| w == what)
    }

    #[test]
    fn what_is_destroyed_is_gone_from_the_file_and_its_key_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let mut slots = KeySlots::open(dir.path()).unwrap();
        let (short, long) = ([7; 300], [9; 1_700]);
        slots
            .put(&[(b"a", &short), (b"b", &long), (b"c", &[5; 300])])
            .unwrap();
        assert!(holds(&raw(dir.path()), &short) && holds(&raw(dir.path()), &long));
        slots
            .destroy(&[b"a".to_vec(), b"b".to_vec(), b"no".to_vec()])
            .unwrap();
        for mut slots in [slots, KeySlots::open(dir.path()).unwrap()] {
            assert!(!holds(&raw(dir.path()), &[7; 4]) && !holds(&raw(dir.path()), &[9; 4]));
            assert_eq!(slots.get(b"a").unwrap(), Some(vec![]));
            assert_eq!(slots.get(b"b").unwrap(), Some(vec![]));
            assert_eq!(slots.get(b"c").unwrap(), Some(vec![5; 300]));
            assert_eq!(slots.get(b"no").unwrap(), None);
            assert_eq!(slots.keys(b"b"), [b"b".to_vec(), b"c".to_vec()]);
            assert_eq!(slots.last().unwrap(), Some((b"c".to_vec(), vec![5; 300])));
        }
    }

    #[test]
    fn a_write_that_is_cut_short_leaves_no_slot_and_spoils_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let mut slots = KeySlots::open(dir.path()).unwrap();
        slots.put(&[(b"first", &[1; 300])]).unwrap();
        let before = raw(dir.path());
        slots.put(&[(b"second", &[2; 1_700])]).unwrap();
        let after = raw(dir.path());
        // Every mixture of old and new sectors that has not the first of the new ones.
        for arrived in 0..8_usize {
            let mut mixed = before.clone();
            for sector in (0..3).filter(|s| arrived >> s & 1 == 1) {
                let at = (2 + sector) * SECTOR;
                mixed[at..at + SECTOR].copy_from_slice(&after[at..at + SECTOR]);
            }
            std::fs::write(dir.path().join(FILE), &mixed).unwrap();
            let mut slots = KeySlots::open(dir.path()).unwrap();
            assert_eq!(slots.keys(b""), [b"first".to_vec()]);
            // What is left there is overwritten with the next key that is destroyed.
            slots.put(&[(b"third", &[3; 900])]).unwrap();
            slots.destroy(&[]).unwrap();
            let mut slots = KeySlots::open(dir.path()).unwrap();
            assert_eq!(slots.get(b"first").unwrap(), Some(vec![1; 300]));
            assert_eq!(slots.get(b"third").unwrap(), Some(vec![3; 900]));
            assert!(!holds(&raw(dir.path()), &[2; 4]));
        }
    }

    #[test]
    fn a_changed_byte_takes_its_own_slot_at_most() {
        let dir = tempfile::tempdir().unwrap();
        let mut slots = KeySlots::open(dir.path()).unwrap();
        slots
            .put(&[(b"a", &[1; 300]), (b"b", &[2; 700]), (b"c", &[3; 300])])
            .unwrap();
        let whole = raw(dir.path());
        for at in 0..4 * SECTOR {
            let mut changed = whole.clone();
            changed[at] ^= 0x41;
            std::fs::write(dir.path().join(FILE), &changed).unwrap();
            let left = KeySlots::open(dir.path()).unwrap().keys(b"");
            let lost = [0, 1, 1, 2][at / SECTOR];
            let wanted: Vec<_> = (0..3)
                .filter(|n| *n != lost)
                .map(|n| vec![b'a' + n])
                .collect();
            assert_eq!(left, wanted, "byte {at}");
        }
    }

    #[test]
    fn what_is_replaced_is_there_before_or_after_whenever_the_power_fails() {
        let dir = tempfile::tempdir().unwrap();
        let mut slots = KeySlots::open(dir.path()).unwrap();
        for (old, new) in [1_u8, 3].map(|n| {
            let length = if n == 1 { 300 } else { 1_700 };
            (vec![n; length], vec![n + 1; length])
        }) {
            let key = [old[0]];
            slots.put(&[(&key, &old), (b"other", &[9; 300])]).unwrap();
            let before = raw(dir.path());
            slots.put(&[(&key, &new)]).unwrap();
            let after = raw(dir.path());
            assert!(holds(&after, &new[..4]) && !holds(&after, &old[..4]));
            let changed = |at: &usize| {
                before.get(at * SECTOR..(at + 1) * SECTOR)
                    != after.get(at * SECTOR..(at + 1) * SECTOR)
            };
            let sectors: Vec<usize> = (0..after.len() / SECTOR).filter(changed).collect();
            let (olds, news): (Vec<_>, Vec<_>) = sectors
                .iter()
                .partition(|at| holds(&before[**at * SECTOR..][..SECTOR], &old[..4]));
            let copy = |to: &mut Vec<u8>, at: &usize| {
                to[at * SECTOR..][..SECTOR].copy_from_slice(&after[at * SECTOR..][..SECTOR]);
            };
            assert!(!olds.is_empty() && !news.is_empty());
            // Any of the new sectors while all of the old ones are there; any of the old ones gone once all of
            // the new ones are.
            for (of, all_new) in [(&news, false), (&olds, true)] {
                for arrived in 0..1_usize << of.len() {
                    let mut mixed = before.clone();
                    mixed.resize(after.len(), 0);
                    if all_new {
                        news.iter().for_each(|at| copy(&mut mixed, at));
                    }
                    let these = of.iter().enumerate().filter(|(n, _)| arrived >> n & 1 == 1);
                    these.for_each(|(_, at)| copy(&mut mixed, at));
                    std::fs::write(dir.path().join(FILE), &mixed).unwrap();
                    let mut slots = KeySlots::open(dir.path()).unwrap();
                    let found = slots.get(&key).unwrap().unwrap();
                    assert!(found == old || found == new);
                    assert_eq!(slots.get(b"other").unwrap(), Some(vec![9; 300]));
                    // And it is replaced again, and nothing of either stays.
                    slots.put(&[(&key, &[8; 700])]).unwrap();
                    slots.destroy(&[]).unwrap();
                    let left = raw(dir.path());
                    assert!(!holds(&left, &old[..4]) && !holds(&left, &new[..4]));
                    let mut again = KeySlots::open(dir.path()).unwrap();
                    assert_eq!(again.get(&key).unwrap(), Some(vec![8; 700]));
                    assert_eq!(again.torn, Vec::<u64>::new());
                }
            }
            std::fs::write(dir.path().join(FILE), &after).unwrap();
            slots = KeySlots::open(dir.path()).unwrap();
        }
    }

    #[test]
    fn of_a_destroyed_key_and_one_that_lives_the_living_one_counts_until_it_is_destroyed_again() {
        let dir = tempfile::tempdir().unwrap();
        for destroyed_first in [true, false] {
            let mut states = [DESTROYED, LIVE];
            if !destroyed_first {
                states.reverse();
            }
            let bytes = states.map(|state| match state {
                LIVE => slot(b"a", &[7; 300], LIVE, 1).unwrap(),
                _ => slot(b"a", &[], DESTROYED, 1).unwrap(),
            });
            std::fs::write(dir.path().join(FILE), bytes.concat()).unwrap();
            let mut slots = KeySlots::open(dir.path()).unwrap();
            assert_eq!(slots.get(b"a").unwrap(), Some(vec![7; 300]));
            slots.destroy(&[b"a".to_vec()]).unwrap();
            assert!(!holds(&raw(dir.path()), &[7; 4]));
            let mut again = KeySlots::open(dir.path()).unwrap();
            assert_eq!(again.get(b"a").unwrap(), Some(vec![]));
        }
    }

    proptest! {
        /// Whatever is written and destroyed, in whatever order, is what is read, by another process too.
        #[test]
        fn it_is_a_map(steps in proptest::collection::vec(
            (0u8..6, prop_oneof![Just(None), (1usize..2_000).prop_map(Some)]), 1..40,
        )) {
            let dir = tempfile::tempdir().unwrap();
            let mut slots = KeySlots::open(dir.path()).unwrap();
            let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
            for (n, (key, length)) in steps.into_iter().enumerate() {
                let key = vec![key; 3];
                match length {
                    Some(length) => {
                        let value = vec![n as u8 + 1; length];
                        slots.put(&[(&key, &value)]).unwrap();
                        model.insert(key, value);
                    }
                    None => {
                        slots.destroy(std::slice::from_ref(&key)).unwrap();
                        model.entry(key).and_modify(Vec::clear);
                    }
                }
            }
            for slots in [&mut slots, &mut KeySlots::open(dir.path()).unwrap()] {
                let keys = slots.keys(b"");
                prop_assert_eq!(&keys, &model.keys().cloned().collect::<Vec<_>>());
                for key in keys {
                    prop_assert_eq!(slots.get(&key).unwrap(), model.get(&key).cloned());
                }
            }
        }
    }
}
