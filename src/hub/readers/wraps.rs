//! The wraps of those who may read, made to be what the state says: missing ones are made from the hub's own,
//! others are overwritten. It can be done again at any time, and finishes what was interrupted.

use super::keys::{KeyMaker, Recipients};
use crate::access::AccessState;
use crate::ledger::history::PastError;
use crate::ledger::history::index::of_device;
use crate::ledger::key_wrap::{is_of_reader, read_wrap_key, reader_recipient, wrap_key};
use crate::ledger::opening::{Opener, OpeningError};
use crate::ledger::store::{Put, Space, Store};
use crate::model::Nanos;
use std::collections::{BTreeMap, BTreeSet};

/// Wraps written in one commit.
const TOGETHER: usize = 64;

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    /// Wraps that were made.
    pub made: usize,
    /// Wraps that were overwritten.
    pub removed: usize,
}

/// Where keys are, and how they are made.
pub(super) struct Wraps<'a> {
    pub store: &'a dyn Store,
    pub opener: &'a Opener,
    pub maker: &'a KeyMaker,
}

/// The wraps of one device's keys: of each epoch to whom, and whether it was not overwritten.
type Epochs = BTreeMap<u64, BTreeMap<String, bool>>;

impl Wraps<'_> {
    /// Brings all wraps to what `state` says at `time`; what was done, and of which devices the key in use has to go out of
    /// use before it can be somebody's who may read samples that were sealed under it.
    pub(super) fn bring(
        &self,
        state: &AccessState,
        time: Nanos,
    ) -> Result<(Done, Vec<String>), PastError> {
        let (mut done, mut held_at) = (Done::default(), Vec::new());
        let made = self.maker.made();
        for (device, epochs) in self.kept()? {
            let newest = made.get(&device);
            let (wanted, held) = self.wanted((state, time), &device, &epochs, newest)?;
            if held {
                held_at.push(device.clone());
            }
            let unwanted = |epoch: &u64, name: &String| {
                let wanted = wanted
                    .get(epoch)
                    .is_some_and(|w| w.iter().any(|(n, _)| n == name));
                is_of_reader(name) && !wanted
            };
            let mut gone = Vec::new();
            for (epoch, of) in &epochs {
                let live = of.iter().filter(|(_, live)| **live).map(|(name, _)| name);
                let gone_here = live.filter(|name| unwanted(epoch, name));
                gone.extend(gone_here.map(|name| wrap_key(&device, *epoch, name)));
            }
            if !gone.is_empty() {
                self.store.remove(Space::Keys, &gone)?;
                done.removed += gone.len();
            }
            done.made += self.make(&device, &epochs, &wanted)?;
        }
        Ok((done, held_at))
    }

    /// Makes the wraps of these epochs of a device for one recipient, as far as they are not there.
    pub(super) fn ensure(
        &self,
        device: &str,
        epochs: &BTreeSet<u64>,
        to: &Recipients,
    ) -> Result<usize, PastError> {
        let kept = self.kept_of(device)?;
        let wanted = epochs.iter().map(|epoch| (*epoch, to.clone())).collect();
        self.make(device, &kept, &wanted)
    }

    fn make(
        &self,
        device: &str,
        epochs: &Epochs,
        wanted: &BTreeMap<u64, Recipients>,
    ) -> Result<usize, PastError> {
        let (mut puts, mut made): (Vec<Put>, usize) = (Vec::new(), 0);
        for (epoch, wanted) in wanted {
            let is_there = |name: &String| {
                let of = epochs.get(epoch);
                of.and_then(|of| of.get(name)).copied().unwrap_or(false)
            };
            let missing: Vec<_> = wanted.iter().filter(|(name, _)| !is_there(name)).collect();
            if missing.is_empty() {
                continue;
            }
            let key = match self.opener.epoch_key(device, *epoch) {
                Ok(key) => key,
                // Erased, or not durable yet: then it comes with its own wraps.
                Err(OpeningError::NoKey { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            puts.extend(
                missing
                    .into_iter()
                    .filter_map(|to| self.maker.wrap_to(&key, to)),
            );
            if puts.len() >= TOGETHER {
                made += self.write(&mut puts)?;
            }
        }
        Ok(made + self.write(&mut puts)?)
    }

    fn write(&self, puts: &mut Vec<Put>) -> Result<usize, PastError> {
        let count = puts.len();
        if count > 0 {
            self.store.commit(puts)?;
            puts.clear();
        }
        Ok(count)
    }

    /// To whom each key of a device should be wrapped besides the hub; and whether somebody waits for the key in use.
    fn wanted(
        &self,
        (state, time): (&AccessState, Nanos),
        device: &str,
        epochs: &Epochs,
        newest: Option<&(u64, Recipients)>,
    ) -> Result<(BTreeMap<u64, Recipients>, bool), PastError> {
        let mut wanted: BTreeMap<u64, Recipients> = BTreeMap::new();
        let mut held = false;
        let object = format!("device:{device}");
        let readers = state.readers_in(time).filter(|_| !device.contains(':'));
        let mut times = None;
        for (id, reader) in readers {
            let to = (reader_recipient(id, &reader.key), reader.key);
            let by = (self.maker.hub(), time);
            for (from, until) in state.spans_by(reader, &object, by) {
                if (from, until) == (Nanos::MIN, Nanos::MAX) {
                    for epoch in epochs.keys() {
                        wanted.entry(*epoch).or_default().insert(to.clone());
                    }
                    continue;
                }
                let times = match &mut times {
                    Some(times) => times,
                    none => none.insert(self.times(device)?),
                };
                let overlap =
                    |(_, (first, last)): &(&u64, &(Nanos, Nanos))| *first < until && *last >= from;
                for (epoch, _) in times.iter().filter(overlap) {
                    // A sample of an old time must not make all that is still to come theirs.
                    if newest.is_some_and(|(n, made_for)| n == epoch && !made_for.contains(&to)) {
                        held = true;
                        continue;
                    }
                    wanted.entry(*epoch).or_default().insert(to.clone());
                }
            }
            // The key in use was wrapped for what is still to come.
            if let Some((epoch, _)) = newest.filter(|(_, recipients)| recipients.contains(&to)) {
                wanted.entry(*epoch).or_default().insert(to);
            }
        }
        // Escrow reaches what was sealed while it was on, and nothing before.
        for (name, key) in state.escrow() {
            let held = epochs.iter().filter(|(_, of)| of.contains_key(name));
            for (epoch, _) in held {
                wanted
                    .entry(*epoch)
                    .or_default()
                    .insert((name.clone(), *key));
            }
        }
        Ok((wanted, held))
    }

    /// From when until when there are samples under each key.
    fn times(&self, device: &str) -> Result<BTreeMap<u64, (Nanos, Nanos)>, PastError> {
        let mut times: BTreeMap<u64, (Nanos, Nanos)> = BTreeMap::new();
        of_device(self.store, device, |span| {
            let of = times.entry(span.sealed.key_epoch);
            let of = of.or_insert((span.first, span.last));
            *of = (of.0.min(span.first), of.1.max(span.last));
        })?;
        Ok(times)
    }

    /// All wraps, by device.
    fn kept(&self) -> Result<BTreeMap<String, Epochs>, PastError> {
        let mut kept: BTreeMap<String, Epochs> = BTreeMap::new();
        for entry in self.store.scan(Space::Keys, &[]) {
            let (key, value) = entry?;
            if let Some((device, epoch, name)) = read_wrap_key(&key) {
                let epochs = kept.entry(device).or_default();
                let of = epochs.entry(epoch).or_default();
                of.insert(name, !value.is_empty());
            }
        }
        Ok(kept)
    }

    fn kept_of(&self, device: &str) -> Result<Epochs, PastError> {
        let mut epochs = Epochs::new();
        for key in crate::ledger::key_wrap::keys_of(self.store, device)? {
            if let Some((_, epoch, name)) = read_wrap_key(&key.at) {
                epochs
                    .entry(epoch)
                    .or_default()
                    .insert(name, !key.destroyed);
            }
        }
        Ok(epochs)
    }
}

/// Whether a wrap to somebody else than the hub is there.
pub(super) fn any(store: &dyn Store) -> Result<bool, PastError> {
    for entry in store.scan(Space::Keys, &[]) {
        let (key, value) = entry?;
        let of_reader = read_wrap_key(&key).is_some_and(|(_, _, name)| is_of_reader(&name));
        if of_reader && !value.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}
