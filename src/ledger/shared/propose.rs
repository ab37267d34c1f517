//! A block of what is open: of each hub a run of its records from where blocks have them.

use super::{JUDGED, SharedLedger};
use crate::ledger::state::State;
use crate::model::Nanos;
use weighbridge_verifier::block::SHARED_BLOCK_VERSION;
use weighbridge_verifier::{Block, BlockHeader, BlockValue, Hash, Record};

/// What one hub has for the next block.
struct Source<'a> {
    hub: &'a str,
    records: Box<dyn Iterator<Item = (&'a Record, Hash)> + 'a>,
    /// The next one, when it was looked at and there was no more room for it.
    next: Option<(&'a Record, Hash)>,
    taken: usize,
    /// Whether nothing more of it can go into this block.
    over: bool,
}

/// A block to be.
struct Draft {
    state: State,
    records: Vec<Record>,
    bytes: usize,
    newest: Nanos,
}

impl SharedLedger {
    /// A value for the next height, with its id; `None` when nothing can be recorded, or another height is due. A
    /// hub's record that does not hold now, or is from the future, stays out with all that come after it.
    pub fn propose(&mut self, height: u64, now: Nanos) -> Option<(Hash, Vec<u8>)> {
        self.propose_of(height, now, false)
    }

    /// The same of this hub's own records alone; of all, when it has none. What came from a hub that is gone since may
    /// have reached this hub and no other, and nobody votes for what they cannot get; this hub's own they can.
    pub fn propose_own(&mut self, height: u64, now: Nanos) -> Option<(Hash, Vec<u8>)> {
        let own = self.propose_of(height, now, true);
        own.or_else(|| self.propose_of(height, now, false))
    }

    fn propose_of(&mut self, height: u64, now: Nanos, own: bool) -> Option<(Hash, Vec<u8>)> {
        let tip = *self.tip();
        if tip.height.checked_add(1) != Some(height) || !self.is_member() {
            return None;
        }
        let (draft, stuck) = self.gather(now, own);
        self.stuck.extend(stuck);
        if draft.records.is_empty() {
            return None;
        }
        let before = self.chain.state();
        let suite = before.suite();
        let header = BlockHeader {
            version: suite.marked(SHARED_BLOCK_VERSION),
            chain: before.chain().to_owned(),
            height,
            previous_hash: tip.hash,
            time: now.max(tip.time.checked_add(1)?).max(draft.newest),
            record_count: u32::try_from(draft.records.len()).ok()?,
            merkle_root: Block::merkle_root(suite, &draft.records),
            state_hash: draft.state.hash(),
            validators_hash: before.validators()?.hash(suite),
            proposer: self.hub().to_owned(),
        };
        let hash = header.hash();
        let records = draft.records;
        let bytes = BlockValue { header, records }.to_bytes();
        self.remember(hash, draft.state);
        Some((hash, bytes))
    }

    /// The records of the next block, and the hubs of which none can go into it.
    fn gather(&self, now: Nanos, own: bool) -> (Draft, Vec<String>) {
        let mut draft = Draft {
            state: self.chain.state().clone(),
            records: Vec::new(),
            bytes: 0,
            newest: Nanos::MIN,
        };
        let mut sources = self.sources();
        sources.retain(|source| !own || source.hub == self.hub());
        let share = self.limits.block_records / sources.len().max(1);
        // First to each its share, then what is left to whoever has more.
        for most in [share.max(1), self.limits.block_records] {
            for source in &mut sources {
                self.take(source, most, &mut draft, now);
            }
        }
        let none = sources
            .iter()
            .filter(|source| source.taken == 0 && source.over);
        let stuck = none.map(|source| source.hub.to_owned()).collect();
        (draft, stuck)
    }

    /// Hubs in turns: each height begins with another one.
    fn sources(&self) -> Vec<Source<'_>> {
        let source = |hub, records| Source {
            hub,
            records,
            next: None,
            taken: 0,
            over: false,
        };
        let own = self.open.iter().map(|open| (open.record(), open.hash));
        let mut sources = vec![source(self.hub(), Box::new(own))];
        for hub in self.pool.hubs() {
            let pooled = self.pool.of(hub).map(|p| (&p.carried.record, p.hash));
            sources.push(source(hub, Box::new(pooled)));
        }
        sources.sort_by_key(|source| source.hub);
        let turn = self.tip().height % sources.len() as u64;
        sources.rotate_left(usize::try_from(turn).unwrap_or(0));
        sources
    }

    fn take(&self, source: &mut Source<'_>, most: usize, draft: &mut Draft, now: Nanos) {
        let latest = now.saturating_add(self.limits.ahead / 2);
        while !source.over && source.taken < most {
            let Some((record, hash)) = source.next.take().or_else(|| source.records.next()) else {
                return;
            };
            let size = size_of_record(record);
            let full = draft.records.len() >= self.limits.block_records
                || draft.bytes.saturating_add(size) > self.limits.block_bytes;
            if full && !draft.records.is_empty() {
                source.next = Some((record, hash));
                return;
            }
            let body = &record.body;
            if body.time > latest || draft.state.apply_signed(body, hash).is_err() {
                source.over = true;
                return;
            }
            draft.records.push(record.clone());
            draft.bytes += size;
            draft.newest = draft.newest.max(body.time);
            source.taken += 1;
        }
    }

    /// Keeps what a value that holds leads to: it may be decided.
    pub(super) fn remember(&self, hash: Hash, state: State) {
        let mut judged = self.judged.lock();
        if judged.iter().any(|(known, _)| *known == hash) {
            return;
        }
        if judged.len() >= JUDGED {
            judged.pop_front();
        }
        judged.push_back((hash, state));
    }

    /// The state after a value that was found to hold.
    pub(super) fn remembered(&self, hash: &Hash) -> Option<State> {
        let judged = self.judged.lock();
        let found = judged.iter().find(|(known, _)| known == hash);
        found.map(|(_, state)| state.clone())
    }
}

fn size_of_record(record: &Record) -> usize {
    weighbridge_verifier::encode(record).len()
}
