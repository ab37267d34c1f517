//! What a retirement takes: what is older than two horizons.

use super::RetentionError;
use super::keys::keeps_body;
use super::notice::{ErasureRecord, Kept, Notice, of_record};
use super::retired::{Retired, whole_block_at};
use super::snapshot::Snapshot;
use crate::ledger::erasure::erased::Erased;
use crate::ledger::erasure::notice::of_record as erasure_of_record;
use crate::ledger::history::index;
use crate::ledger::key_wrap::sealing_key;
use crate::ledger::replay::Follower;
use crate::ledger::state::State;
use crate::ledger::store::{Space, Store};
use crate::model::Nanos;
use std::collections::{BTreeMap, BTreeSet};
use weighbridge_verifier::{Block, Hash, SealedRef};

/// Up to which heights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Horizons {
    /// The bodies of blocks go.
    pub bodies: u64,
    /// What records name goes.
    pub batches: u64,
}

/// What would be retired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The notice; where it is archived is for the caller to fill in.
    pub notice: Notice,
    /// The snapshot that it names, if bodies go.
    pub snapshot: Option<Vec<u8>>,
    /// Blocks that go, in whole or in part, and are in no segment yet.
    pub unarchived: Vec<u64>,
}

/// What may be retired at `time` up to `horizons`, of a chain whose newest block, at height `tip`, has made `state`. Nothing where it
/// is nothing more than before.
pub fn plan(
    store: &dyn Store,
    (state, tip): (&State, u64),
    horizons: Horizons,
    time: Nanos,
) -> Result<Option<Plan>, RetentionError> {
    let retired = Retired::load(store)?;
    if retired.is_pending() {
        return Err(RetentionError::Pending);
    }
    // The newest block stays whole.
    let most = tip.saturating_sub(1);
    let mut notice = Notice::after(state.suite(), retired.newest(), time);
    notice.bodies = horizons.bodies.min(most).max(notice.bodies);
    if notice.bodies < 2 {
        notice.bodies = 0;
    }
    notice.batches = horizons.batches.min(most).max(notice.batches);
    notice.batches = notice.batches.max(notice.bodies);
    let (bodies, batches) = (notice.bodies, notice.batches);
    if (bodies, batches) == (notice.bodies_before, notice.batches_before) || batches < 2 {
        return Ok(None);
    }
    let mut others = 0;
    let snapshot = match bodies > notice.bodies_before {
        true => Some(follow(store, &retired, &mut notice, &mut others)?),
        false => None,
    };
    take_values(store, &retired, state, &mut notice)?;
    // The record of one retirement alone is no reason for the next.
    if others == 0 && notice.values == 0 {
        return Ok(None);
    }
    let from = notice.bodies_before.min(notice.batches_before) + 1;
    let archived = retired.archived();
    let unarchived = (from..=batches).filter(|height| {
        let goes = *height > notice.batches_before || notice.takes_body(*height);
        goes && !archived.contains(*height)
    });
    Ok(Some(Plan {
        unarchived: unarchived.collect(),
        snapshot: snapshot.map(|s| s.to_bytes()),
        notice,
    }))
}

/// Follows the blocks whose bodies go, to the state after them; counts records that are not of retirements.
fn follow(
    store: &dyn Store,
    retired: &Retired,
    notice: &mut Notice,
    others: &mut u64,
) -> Result<Snapshot, RetentionError> {
    let mut follower = None;
    if let Some((state, tip)) = retired.start(store)? {
        follower = Some(Follower::from(state, tip, Vec::new()));
    }
    let from = follower.as_ref().map_or(0, |f| f.tip().height);
    for height in from + 1..=notice.bodies {
        let block = whole_block_at(store, height)?;
        let header = &block.header;
        let follower = follower.get_or_insert_with(|| Follower::new(header.suite(), &header.chain));
        // The hub that is asked follows a chain that it has signed.
        follower
            .follow(&block, None)
            .map_err(|why| RetentionError::Follow { height, why })?;
        if height > 1 && !keeps_body(&block) {
            let records = block.records.iter().map(|r| of_record(&r.body).is_none());
            notice.records += block.records.len() as u64;
            *others += records.map(u64::from).sum::<u64>();
            note_erasures(&block, notice);
        }
    }
    let follower = follower.ok_or(RetentionError::Missing(1))?;
    let (state, tip, _) = follower.into_parts();
    let totals = state.totals();
    notice.stored = totals.accepted + totals.out_of_control;
    let snapshot = Snapshot::of(&state, tip.height, tip.hash);
    notice.snapshot = Some(snapshot.hash());
    Ok(snapshot)
}

fn note_erasures(block: &Block, notice: &mut Notice) {
    for (index, record) in (0u32..).zip(&block.records) {
        if let Some((hash, device)) = erasure_of_record(&record.body) {
            notice.erasures.push(ErasureRecord {
                notice: hash,
                device: device.to_owned(),
                subject: record.body.subject.clone(),
                height: block.header.height,
                index,
            });
        }
    }
}

/// Decides of everything sealed up to the horizon whether it goes.
fn take_values(
    store: &dyn Store,
    retired: &Retired,
    state: &State,
    notice: &mut Notice,
) -> Result<(), RetentionError> {
    let mut needed = in_force(state);
    needed.extend(newest_batches(store)?);
    let erased = Erased::load(store)?;
    let mut devices: BTreeMap<String, (u64, u64)> =
        std::mem::take(&mut notice.devices).into_iter().collect();
    let mut kept = Vec::new();
    let mut take = |candidate: Kept, notice: &mut Notice| {
        let Kept {
            owner,
            batch,
            sealed,
            ..
        } = &candidate;
        if let Some(which) = batch
            && erased.takes_batch(owner, sealed.key_epoch, *which)
        {
            return;
        }
        if needed.contains(&sealed.hash) {
            kept.push(candidate);
            return;
        }
        notice.gone += u64::from(batch.is_some());
        notice.values += 1;
        notice.bytes = notice.bytes.saturating_add(sealed.length);
    };
    let before = retired.newest().map_or(&[][..], |n| &n.kept);
    for candidate in before.iter().cloned() {
        take(candidate, notice);
    }
    for height in notice.batches_before + 1..=notice.batches {
        let block = whole_block_at(store, height)?;
        for (index, record) in (0u32..).zip(&block.records) {
            let batch = record.body.batch();
            if let Some(batch) = batch {
                let newest = devices.entry(batch.device.clone()).or_default();
                *newest = (*newest).max((batch.epoch, batch.sequence));
            }
            let Some((owner, _)) = sealing_key(record) else {
                continue;
            };
            let Some(sealed) = record.body.sealed() else {
                continue;
            };
            let candidate = Kept {
                sealed: *sealed,
                owner: owner.into_owned(),
                batch: batch.map(|b| (b.epoch, b.sequence)),
                recorded: record.body.time,
                height,
                index,
            };
            take(candidate, notice);
        }
    }
    kept.sort_unstable_by_key(|kept: &Kept| kept.sealed.hash);
    kept.dedup_by_key(|kept| kept.sealed.hash);
    notice.kept = kept;
    notice.devices = devices.into_iter().collect();
    Ok(())
}

/// What the state says is in force.
fn in_force(state: &State) -> BTreeSet<Hash> {
    let documents = state.documents().values().map(|d| &d.sealed);
    let words = state.alarms().values().chain(state.access().values());
    let words = words.map(|word| &word.message.sealed);
    documents
        .chain(words)
        .map(|sealed: &SealedRef| sealed.hash)
        .collect()
}

/// The newest batch of each device that is in the index of the history.
fn newest_batches(store: &dyn Store) -> Result<BTreeSet<Hash>, RetentionError> {
    let mut newest: BTreeMap<String, ((u64, u64), Hash)> = BTreeMap::new();
    for entry in store.scan(Space::History, &[]) {
        let (key, value) = entry?;
        let Some((device, _, span)) = index::read(&key, &value) else {
            continue;
        };
        let this = ((span.epoch, span.sequence), span.sealed.hash);
        match newest.get_mut(&device) {
            Some(known) if *known >= this => {}
            Some(known) => *known = this,
            None => {
                newest.insert(device, this);
            }
        }
    }
    Ok(newest.into_values().map(|(_, hash)| hash).collect())
}
