//! A simulated disk under a store and a signed head: it loses power, tears writes, runs full, and on
//! demand breaks its promises. Everything it does follows from its seed, so that a failure can be
//! replayed.
//!
//! What it promises, like fjall and the operating system under it: a commit that returned `Ok` is
//! durable; one that was cut short is there as a whole or not at all; one that failed may be either.
//! A head write that was cut short leaves any mixture of old and new sectors in its slot.

use super::head::{SLOT_BYTES, read_slot, read_slots, write_slot};
use crate::ledger::head::{HeadReading, HeadSlot};
use crate::ledger::store::{Entry, Pair, Put, Space, Store, StoreError};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes that a disk writes at once.
const SECTOR: usize = 512;

/// The disk. Clones are handles on the same one.
#[derive(Clone)]
pub struct FaultyDisk {
    disk: Arc<Mutex<Disk>>,
}

/// A key, and what was under it before.
type Replaced = ((Space, Vec<u8>), Option<Vec<u8>>);

struct Disk {
    random: u64,
    values: BTreeMap<(Space, Vec<u8>), Vec<u8>>,
    slots: [Vec<u8>; 2],
    /// What every commit replaced, so that it can be undone.
    undo: Vec<Vec<Replaced>>,
    /// Steps (commits and head writes) begun so far.
    steps: u64,
    power_fails_at: Option<u64>,
    powered: bool,
    full: bool,
}

impl FaultyDisk {
    /// An empty disk without faults; `seed` decides what becomes of writes that are cut short.
    pub fn new(seed: u64) -> Self {
        let disk = Disk {
            // xorshift must not start at zero.
            random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            values: BTreeMap::new(),
            slots: [vec![0; SLOT_BYTES], vec![0; SLOT_BYTES]],
            undo: Vec::new(),
            steps: 0,
            power_fails_at: None,
            powered: true,
            full: false,
        };
        Self {
            disk: Arc::new(Mutex::new(disk)),
        }
    }

    /// The store on this disk.
    pub fn store(&self) -> FaultyStore {
        FaultyStore { disk: self.clone() }
    }

    /// The signed head on this disk.
    pub fn head(&self) -> FaultyHead {
        FaultyHead { disk: self.clone() }
    }

    /// Cuts the power in the middle of a later step: 0 is the next commit or head write.
    pub fn cut_power_in(&self, steps: u64) {
        let mut disk = self.disk.lock();
        disk.power_fails_at = Some(disk.steps + steps);
    }

    /// Turns the power on again. What was promised to be there is there.
    pub fn restart(&self) {
        let mut disk = self.disk.lock();
        disk.powered = true;
        disk.power_fails_at = None;
    }

    /// Whether the power is on.
    pub fn powered(&self) -> bool {
        self.disk.lock().powered
    }

    /// Fills the disk, or makes room again.
    pub fn set_full(&self, full: bool) {
        self.disk.lock().full = full;
    }

    /// Breaks the promise: the last `commits` acknowledged commits are gone, the head is not.
    pub fn lose_tail(&self, commits: usize) {
        let mut disk = self.disk.lock();
        for _ in 0..commits {
            for (key, old) in disk.undo.pop().into_iter().flatten() {
                match old {
                    Some(value) => disk.values.insert(key, value),
                    None => disk.values.remove(&key),
                };
            }
        }
    }

    /// All values of a keyspace, for comparing.
    pub fn contents(&self, space: Space) -> Vec<Pair> {
        let disk = self.disk.lock();
        let entries = disk.values.iter().filter(|((s, _), _)| *s == space);
        entries.map(|((_, k), v)| (k.clone(), v.clone())).collect()
    }

    /// Puts `value` in place of what is there, without any of the promises; `None` removes it.
    pub fn tamper(&self, space: Space, key: &[u8], value: Option<Vec<u8>>) {
        let mut disk = self.disk.lock();
        match value {
            Some(value) => disk.values.insert((space, key.to_vec()), value),
            None => disk.values.remove(&(space, key.to_vec())),
        };
    }

    /// The bytes of the head's two slots.
    pub fn head_bytes(&self) -> Vec<u8> {
        self.disk.lock().slots.concat()
    }

    /// Puts other bytes in place of the head's two slots.
    pub fn tamper_head(&self, bytes: &[u8]) {
        let (first, second) = bytes.split_at(bytes.len().min(SLOT_BYTES));
        self.disk.lock().slots = [first.to_vec(), second.to_vec()];
    }
}

/// How a step goes.
enum Step {
    /// As it should.
    Whole,
    /// The power fails in the middle.
    Cut,
    /// There is no room.
    Full,
    /// There is no power.
    Dark,
}

impl Disk {
    fn next(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 11
    }

    fn step(&mut self) -> Step {
        if !self.powered {
            return Step::Dark;
        }
        let now = self.steps;
        self.steps += 1;
        if self.power_fails_at == Some(now) {
            self.powered = false;
            return Step::Cut;
        }
        if self.full { Step::Full } else { Step::Whole }
    }

    fn write(&mut self, puts: &[Put]) {
        let mut undo = Vec::with_capacity(puts.len());
        for put in puts {
            let key = (put.space, put.key.clone());
            let old = self.values.insert(key.clone(), put.value.clone());
            undo.push((key, old));
        }
        undo.reverse();
        self.undo.push(undo);
    }

    fn check_power(&self) -> Result<(), StoreError> {
        if self.powered {
            return Ok(());
        }
        Err(StoreError::Io("there is no power".to_owned()))
    }

    fn remove(&mut self, space: Space, key: &[u8]) {
        let key = (space, key.to_vec());
        if space == Space::Keys {
            self.values.entry(key).and_modify(Vec::clear);
        } else {
            self.values.remove(&key);
        }
    }

    fn read_head(&self) -> (HeadReading, usize, u64) {
        let [first, second] = &self.slots;
        read_slots(&[read_slot(first), read_slot(second)])
    }

    fn write_head(&mut self, head: &[u8], keep: impl Fn(&mut Self) -> bool) {
        let (_, slot, number) = self.read_head();
        let bytes = write_slot(number, head);
        for (i, sector) in bytes.chunks(SECTOR).enumerate() {
            if !keep(self) {
                continue;
            }
            let at = i * SECTOR;
            if let Some(old) = self.slots[slot].get_mut(at..at + sector.len()) {
                old.copy_from_slice(sector);
            }
        }
    }
}

/// The store on a [`FaultyDisk`].
pub struct FaultyStore {
    disk: FaultyDisk,
}

impl Store for FaultyStore {
    fn commit(&self, puts: &[Put]) -> Result<(), StoreError> {
        let mut disk = self.disk.disk.lock();
        match disk.step() {
            Step::Whole => {
                disk.write(puts);
                Ok(())
            }
            Step::Cut => {
                if disk.next().is_multiple_of(2) {
                    disk.write(puts);
                }
                Err(StoreError::Io("the power failed".to_owned()))
            }
            // Written in place: they need no room.
            Step::Full if puts.iter().all(|put| put.space == Space::Keys) => {
                disk.write(puts);
                Ok(())
            }
            Step::Full => {
                // Sometimes all of it was written, and only the last word of it went wrong.
                if disk.next().is_multiple_of(4) {
                    disk.write(puts);
                }
                Err(StoreError::Full)
            }
            Step::Dark => disk.check_power(),
        }
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let disk = self.disk.disk.lock();
        disk.check_power()?;
        Ok(disk.values.get(&(space, key.to_vec())).cloned())
    }

    fn last(&self, space: Space) -> Result<Option<Pair>, StoreError> {
        let disk = self.disk.disk.lock();
        disk.check_power()?;
        let mut newest_first = disk.values.iter().rev();
        let last = newest_first.find(|((s, _), _)| *s == space);
        Ok(last.map(|((_, k), v)| (k.clone(), v.clone())))
    }

    fn scan<'a>(&'a self, space: Space, from: &[u8]) -> Box<dyn Iterator<Item = Entry> + 'a> {
        let disk = self.disk.disk.lock();
        if let Err(e) = disk.check_power() {
            return Box::new(std::iter::once(Err(e)));
        }
        let range = disk.values.range((space, from.to_vec())..);
        let own = range.take_while(|((s, _), _)| *s == space);
        let entries: Vec<Entry> = own.map(|((_, k), v)| Ok((k.clone(), v.clone()))).collect();
        Box::new(entries.into_iter())
    }

    /// One that is cut short removes some.
    fn remove(&self, space: Space, keys: &[Vec<u8>]) -> Result<(), StoreError> {
        let mut disk = self.disk.disk.lock();
        match disk.step() {
            Step::Whole | Step::Full => {
                keys.iter().for_each(|key| disk.remove(space, key));
                Ok(())
            }
            Step::Cut => {
                for key in keys {
                    if disk.next().is_multiple_of(2) {
                        disk.remove(space, key);
                    }
                }
                Err(StoreError::Io("the power failed".to_owned()))
            }
            Step::Dark => disk.check_power(),
        }
    }

    fn reclaim(&self) -> Result<(), StoreError> {
        let mut disk = self.disk.disk.lock();
        match disk.step() {
            Step::Whole => Ok(()),
            Step::Cut => Err(StoreError::Io("the power failed".to_owned())),
            Step::Full => Err(StoreError::Full),
            Step::Dark => disk.check_power(),
        }
    }
}

/// The signed head on a [`FaultyDisk`].
pub struct FaultyHead {
    disk: FaultyDisk,
}

impl HeadSlot for FaultyHead {
    fn read(&mut self) -> Result<HeadReading, StoreError> {
        let disk = self.disk.disk.lock();
        disk.check_power()?;
        Ok(disk.read_head().0)
    }

    fn write(&mut self, head: &[u8]) -> Result<(), StoreError> {
        let mut disk = self.disk.disk.lock();
        match disk.step() {
            Step::Whole => {
                disk.write_head(head, |_| true);
                Ok(())
            }
            Step::Cut => {
                disk.write_head(head, |disk| disk.next().is_multiple_of(2));
                Err(StoreError::Io("the power failed".to_owned()))
            }
            // Written in place: it needs no room.
            Step::Full => {
                disk.write_head(head, |_| true);
                Ok(())
            }
            Step::Dark => disk.check_power(),
        }
    }
}
