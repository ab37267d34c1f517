//! Doing what a notice says. Every step can be done again: whoever is interrupted begins anew.

use super::ErasureError;
use super::erased::Erased;
use super::notice::{Notice, pending_key};
use crate::ledger::history::index::{from_device, span_of_device};
use crate::ledger::key_wrap::keys_of;
use crate::ledger::keys::sealed_key;
use crate::ledger::report::Progress;
use crate::ledger::store::{Space, Store};

/// Batches removed in one commit.
const TOGETHER: usize = 1_024;

/// Destroys the keys, removes the batches and their entries, gives back the room, and notes that this is
/// done. The notice must be durable.
pub fn carry_out(
    store: &dyn Store,
    notice: &Notice,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), ErasureError> {
    destroy_keys(store, notice)?;
    remove_batches(store, notice, progress)?;
    let what = "compactions";
    progress(Progress {
        what,
        done: 0,
        total: 1,
    });
    store.reclaim()?;
    Ok(store.remove(Space::Erasures, &[pending_key(&notice.hash())])?)
}

/// The first part of it, after which nobody opens what was under the keys.
pub fn destroy_keys(store: &dyn Store, notice: &Notice) -> Result<(), ErasureError> {
    let keys: Vec<Vec<u8>> = keys_of(store, &notice.device)?
        .into_iter()
        .filter(|key| notice.takes_key(key.epoch))
        .map(|key| key.at)
        .collect();
    Ok(store.remove(Space::Keys, &keys)?)
}

fn remove_batches(
    store: &dyn Store,
    notice: &Notice,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), ErasureError> {
    let (mut from, mut done) = (from_device(&notice.device), 0);
    loop {
        let (mut sealed, mut entries, mut more) = (Vec::new(), Vec::new(), false);
        for entry in store.scan(Space::History, &from) {
            let (key, value) = entry?;
            let Some(span) = span_of_device(&notice.device, &key, &value)? else {
                break;
            };
            from = [key.as_slice(), &[0]].concat();
            let Some(span) = span else { continue };
            if notice.takes_batch(span.sealed.key_epoch, (span.epoch, span.sequence)) {
                done += u64::from(span.part == 0);
                sealed.push(sealed_key(&span.sealed.hash));
                entries.push(key);
            }
            if entries.len() == TOGETHER {
                more = true;
                break;
            }
        }
        // While an entry is there its batch can be found.
        if !entries.is_empty() {
            store.remove(Space::Sealed, &sealed)?;
            store.remove(Space::History, &entries)?;
        }
        progress(Progress {
            what: "batches",
            done,
            total: notice.batches.max(done),
        });
        if !more {
            return Ok(());
        }
    }
}

/// Finishes what was begun before; returns how many erasures that were.
pub fn resume(store: &dyn Store) -> Result<usize, ErasureError> {
    let erased = Erased::load(store)?;
    let mut finished = 0;
    for notice in erased.pending() {
        tracing::info!(
            device = notice.device,
            "an erasure was interrupted, and is finished now"
        );
        carry_out(store, notice, &mut |_| {})?;
        finished += 1;
    }
    Ok(finished)
}
