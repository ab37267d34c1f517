//! Doing what the newest notice says, in steps that each take little: what is found by, before what finds it.
//! Every step can be done again, and whoever is interrupted begins anew.

use super::keys::keeps_body;
use super::notice::{Entry, Notice, pending_key, reach_key, snapshot_key};
use super::retired::{Retired, block_at};
use super::{RetentionError, is_stripped, strip};
use crate::ledger::history::index;
use crate::ledger::key_wrap::wrap_prefix;
use crate::ledger::keys::{height_key, sealed_key};
use crate::ledger::report::Progress;
use crate::ledger::store::{Put, Space, Store};
use crate::model::Nanos;
use std::collections::BTreeMap;
use weighbridge_verifier::{Hash, encode};

/// Entries, values or blocks of one commit.
const TOGETHER: usize = 256;

/// Does what is still to be done of the newest notice; `false` when that is nothing. `progress` ends it by
/// answering `false`.
pub fn resume(
    store: &dyn Store,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<bool, RetentionError> {
    let retired = Retired::load(store)?;
    let Some(notice) = retired.newest().filter(|_| retired.is_pending()) else {
        return Ok(false);
    };
    remove_entries(store, notice)?;
    remove_values(store, notice, retired.before_newest(), progress)?;
    strip_blocks(store, notice, progress)?;
    remove_snapshots(store, notice)?;
    let what = "compactions";
    step(progress, what, (0, 1))?;
    store.reclaim()?;
    store.remove(Space::Retention, &[pending_key(notice.number)])?;
    Ok(true)
}

fn step(
    progress: &mut dyn FnMut(Progress) -> bool,
    what: &'static str,
    (done, total): (u64, u64),
) -> Result<(), RetentionError> {
    match progress(Progress { what, done, total }) {
        true => Ok(()),
        false => Err(RetentionError::Stopped),
    }
}

/// Entries of the history go first, so that no reader is sent after what is not there. What they say of how
/// far back a key reaches is kept: an erasure must know which keys to destroy.
fn remove_entries(store: &dyn Store, notice: &Notice) -> Result<(), RetentionError> {
    let mut from = Vec::new();
    loop {
        let mut reach: BTreeMap<Vec<u8>, Nanos> = BTreeMap::new();
        let (mut entries, mut more) = (Vec::new(), false);
        for entry in store.scan(Space::History, &from) {
            let (key, value) = entry?;
            let Some((device, _, span)) = index::read(&key, &value) else {
                continue;
            };
            let which = (span.epoch, span.sequence);
            if !notice.takes_batch(&device, which) || notice.keeps(&span.sealed.hash) {
                continue;
            }
            let at = reach_key(&wrap_prefix(&device, span.sealed.key_epoch));
            let newest = reach.entry(at).or_insert(span.last);
            *newest = (*newest).max(span.last);
            from = [key.as_slice(), &[0]].concat();
            entries.push(key);
            if entries.len() == TOGETHER {
                more = true;
                break;
            }
        }
        if !entries.is_empty() {
            let mut puts = Vec::with_capacity(reach.len());
            for (key, last) in reach {
                let known = store.get(Space::Retention, &key)?;
                let known = known.and_then(|v| v.try_into().ok().map(Nanos::from_be_bytes));
                if known.is_none_or(|known| known < last) {
                    puts.push(put(key, last.to_be_bytes().to_vec()));
                }
            }
            if !puts.is_empty() {
                store.commit(&puts)?;
            }
            store.remove(Space::History, &entries)?;
        }
        if !more {
            return Ok(());
        }
    }
}

fn put(key: Vec<u8>, value: Vec<u8>) -> Put {
    Put {
        space: Space::Retention,
        key,
        value,
    }
}

/// Values go while the records that name them are still there.
fn remove_values(
    store: &dyn Store,
    notice: &Notice,
    before: Option<&Notice>,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<(), RetentionError> {
    let goes = |hash: &Hash| !notice.keeps(hash);
    let released = before.map_or(&[][..], |n| &n.kept).iter();
    let released = released.map(|kept| kept.sealed.hash).filter(goes);
    let mut keys: Vec<Vec<u8>> = released.map(|hash| sealed_key(&hash)).collect();
    let total = notice.batches.saturating_sub(notice.batches_before);
    for height in notice.batches_before + 1..=notice.batches {
        let block = block_at(store, height)?;
        let sealed = block.records.iter().filter_map(|r| r.body.sealed());
        let sealed = sealed.map(|sealed| sealed.hash).filter(goes);
        keys.extend(sealed.map(|hash| sealed_key(&hash)));
        if keys.len() >= TOGETHER {
            store.remove(Space::Sealed, &keys)?;
            keys.clear();
        }
        step(progress, "batches", (height - notice.batches_before, total))?;
    }
    Ok(store.remove(Space::Sealed, &keys)?)
}

fn strip_blocks(
    store: &dyn Store,
    notice: &Notice,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<(), RetentionError> {
    let total = notice.bodies.saturating_sub(notice.bodies_before);
    let mut puts = Vec::new();
    for height in notice.bodies_before.max(1) + 1..=notice.bodies {
        let block = block_at(store, height)?;
        if !is_stripped(&block) && !keeps_body(&block) {
            puts.push(Put {
                space: Space::Blocks,
                key: height_key(height),
                value: encode(&strip(block)),
            });
        }
        if puts.len() == TOGETHER {
            store.commit(&puts)?;
            puts.clear();
        }
        step(progress, "blocks", (height - notice.bodies_before, total))?;
    }
    match puts.is_empty() {
        true => Ok(()),
        false => Ok(store.commit(&puts)?),
    }
}

fn remove_snapshots(store: &dyn Store, notice: &Notice) -> Result<(), RetentionError> {
    let mut old = Vec::new();
    for entry in store.scan(Space::Retention, &snapshot_key(0)) {
        let (key, _) = entry?;
        match Entry::of(&key) {
            Some(Entry::Snapshot(height)) if height != notice.bodies => old.push(key),
            Some(Entry::Snapshot(_)) => {}
            _ => break,
        }
    }
    match old.is_empty() {
        true => Ok(()),
        false => Ok(store.remove(Space::Retention, &old)?),
    }
}
