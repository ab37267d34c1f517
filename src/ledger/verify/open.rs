//! What a hub that shares its chain keeps beside it: its own records that no block has yet, and what is named by records
//! of others and has not come. Neither is damage, and both are said.

use super::sealed::Named;
use super::{Verification, hex};
use crate::ledger::key_wrap::sealing_key;
use crate::ledger::keys::{height_key, height_of};
use crate::ledger::replay::Follower;
use crate::ledger::report::Where;
use crate::ledger::shared::Lacking;
use crate::ledger::shared::own::Entry;
use crate::ledger::state::State;
use crate::ledger::store::{Space, StoreError};
use std::collections::BTreeSet;
use weighbridge_verifier::{Block, Hash, decode};

/// What stands for the height of a block where a record is in none.
pub(super) const OPEN: u64 = u64::MAX;

/// The place of a record: in a block, or among the open ones.
pub(super) fn place(height: u64, index: usize) -> Where {
    match height {
        OPEN => Where::Own {
            sequence: index as u64,
        },
        height => Where::Record { height, index },
    }
}

/// What is open and what is missing.
#[derive(Default)]
pub(super) struct Open {
    /// Values of records that were left out, on their way out.
    pub(super) dropped: BTreeSet<(Space, Vec<u8>)>,
    /// Sealed bytes that are missing and known to be.
    pub(super) lacking: BTreeSet<Hash>,
    /// The keys that these are sealed under.
    pub(super) lacking_keys: BTreeSet<(String, u64)>,
}

impl Verification<'_> {
    /// Reads the open records; after the blocks, which they follow.
    pub(super) fn open_records(&mut self) -> Result<(), StoreError> {
        let store = self.store;
        let state = self.follower.as_ref().map(|f| f.state().clone());
        let (mut state, mut hub) = (state.filter(|_| !self.broken), None);
        for pair in store.scan(Space::Own, &[]) {
            let (key, value) = match pair {
                Ok(pair) => pair,
                Err(e) => return self.unreadable_space(Space::Own, e),
            };
            let sequence = height_of(&key).unwrap_or(0);
            if let Err(what) = self.open_record(sequence, &value, &mut state, &mut hub) {
                self.report.find(Where::Own { sequence }, what);
                // What comes after it cannot be judged.
                state = None;
            }
        }
        Ok(())
    }

    fn open_record(
        &mut self,
        sequence: u64,
        value: &[u8],
        after: &mut Option<State>,
        hub: &mut Option<String>,
    ) -> Result<(), String> {
        let entry = Entry::from_bytes(value).map_err(|e| e.to_string())?;
        let record = &entry.record;
        let body = &record.body;
        if body.sequence != sequence {
            return Err("it is kept in another one's place".to_owned());
        }
        if *hub.get_or_insert_with(|| body.hub.clone()) != body.hub {
            return Err("it is of another hub than the others".to_owned());
        }
        let chain = self.follower.as_ref().ok_or("there is no chain")?;
        let recorded = chain.state().hubs().get(&body.hub);
        let recorded = recorded.map_or(0, |tip| tip.sequence);
        self.open.dropped.extend(entry.drop.iter().cloned());
        let member = chain.state().is_member(&body.hub);
        if sequence <= recorded && chain.shared_from().is_none() {
            return Err("a block has it, and nobody shares this chain".to_owned());
        }
        if sequence <= recorded || !member {
            // A block has it by now, or its hub was dismissed before one could.
            let state = chain.state();
            let current = state.identities().get(&body.hub).and_then(|i| i.key);
            let mut keys = current.iter().chain(state.former_keys(&body.hub));
            let held = keys.any(|key| record.verify_with(key, self.check).is_ok());
            if !held {
                return Err("it is not signed by its hub".to_owned());
            }
        }
        if sequence <= recorded {
            return Ok(());
        }
        self.report.open += 1;
        if let Some(state) = after.as_mut().filter(|_| member) {
            let applied = state.apply_with(record, self.check);
            applied.map_err(|why| why.to_string())?;
        }
        for (space, key) in &entry.puts {
            if self.store.get(*space, key).ok().flatten().is_none() {
                return Err(format!("what belongs to it is missing in {space}"));
            }
        }
        self.name_open(&entry);
        Ok(())
    }

    fn name_open(&mut self, entry: &Entry) {
        let record = &entry.record;
        let Some(sealed) = record.body.sealed() else {
            return;
        };
        let index = usize::try_from(record.body.sequence).unwrap_or(usize::MAX);
        let batch = record.body.batch();
        let named = Named {
            length: sealed.length,
            height: OPEN,
            index,
            seen: false,
            indexed: batch.map(|_| (0, 1)),
            erased: None,
            retired: false,
        };
        self.sealed.insert(sealed.hash, named);
        if let Some((owner, epoch)) = sealing_key(record) {
            let key = (owner.into_owned(), epoch);
            self.wraps.entry(key).or_insert((OPEN, index));
        }
    }

    /// Reads what is missing and known to be; after all that names something.
    pub(super) fn lacking(&mut self) -> Result<(), StoreError> {
        let store = self.store;
        for pair in store.scan(Space::Missing, &[]) {
            let (key, value) = match pair {
                Ok(pair) => pair,
                Err(e) => return self.unreadable_space(Space::Missing, e),
            };
            if let Err(what) = self.lacking_value(&key, &value) {
                let key = hex(&key);
                self.report.find(Where::Missing { key }, what);
            }
        }
        Ok(())
    }

    fn lacking_value(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let hash = key.try_into().ok().map(Hash);
        let named = hash.and_then(|hash| self.sealed.get(&hash));
        let named = named.filter(|named| named.height != OPEN);
        let named = match (named, self.unreadable) {
            (Some(named), _) => named,
            // What an unreadable block names is not known.
            (None, true) => return Ok(()),
            (None, false) => return Err("no record in a block names these bytes".to_owned()),
        };
        let shared = self.follower.as_ref().and_then(Follower::shared_from);
        if shared.is_none() {
            return Err("nobody shares this chain: nobody else has these bytes".to_owned());
        }
        if value.is_empty() {
            // They have come; if not, they are lost.
            return Ok(());
        }
        let (height, index) = (named.height, named.index);
        let stored = self.store.get(Space::Blocks, &height_key(height));
        let block: Option<Block> = stored.ok().flatten().and_then(|b| decode("block", &b).ok());
        let record = block.as_ref().and_then(|block| block.records.get(index));
        let lacking = record.and_then(Lacking::of);
        let lacking = lacking.filter(|lacking| lacking.put().value == value);
        let lacking = lacking.ok_or("it is not what the record names")?;
        self.open.lacking.insert(lacking.hash());
        self.open.lacking_keys.insert(lacking.sealing_key());
        Ok(())
    }
}
