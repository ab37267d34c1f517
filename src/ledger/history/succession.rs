//! Who signs which block: the set of the first block, and the records that changed it.

use super::PastError;
use crate::ledger::proof::genesis_validators;
use crate::ledger::query::{Explorer, block_at};
use crate::ledger::store::Store;
use std::collections::BTreeMap;
use weighbridge_verifier::succession::{Succession as Counter, key_change};
use weighbridge_verifier::{Block, BlockHeader, Content, Hash, RecordBody, ValidatorSet};

/// Follows the set of a chain from its first block upwards.
///
/// Every header names the set that signs it by a hash. So between a block of one set and a later one
/// of another a change is found in as many steps as the distance has bits, and no index is needed. Votes that
/// made it are looked for from there downwards: hubs vote within a time that people need to agree.
pub struct Succession<'a> {
    store: &'a dyn Store,
    genesis: ValidatorSet,
    /// The records that made the set, and the votes that counted.
    steps: Steps,
    /// What they lead to.
    counter: Counter,
    /// A block that this set signs.
    at: u64,
}

/// Records by height and index.
type Steps = BTreeMap<(u64, usize), Step>;

#[derive(Clone)]
struct Step {
    body: RecordBody,
    /// The set that the block names.
    signed_by: Hash,
}

impl<'a> Succession<'a> {
    /// At the first block.
    pub fn begin(explorer: &'a Explorer) -> Result<Self, PastError> {
        Self::over(explorer.store())
    }

    /// At the first block of the chain in `store`.
    pub fn over(store: &'a dyn Store) -> Result<Self, PastError> {
        let genesis = block_at(store, 1)?.ok_or(PastError::Genesis)?;
        let genesis = genesis_validators(&genesis).ok_or(PastError::Genesis)?;
        Ok(Self {
            store,
            counter: Counter::new(genesis.clone()),
            genesis,
            steps: Steps::new(),
            at: 1,
        })
    }

    /// The set that signs the block that was last asked for.
    pub fn set(&self) -> &ValidatorSet {
        self.counter.set()
    }

    /// Goes on to block `height`; the records that changed the set on the way, and the votes that counted, by
    /// block and index. Votes can be of blocks before the one asked for last.
    pub fn until(&mut self, height: u64) -> Result<Vec<(Block, usize)>, PastError> {
        let mut changes = Vec::new();
        while self.at < height && !self.signs(&self.block(height)?.header) {
            let last = self.last_before(height)?;
            let wanted = self.block(last + 1)?.header.validators_hash;
            let found = match self.steps_to(last, wanted)? {
                Some(found) => found,
                None => self.all_steps_to(last)?,
            };
            self.take(found, &mut changes)?;
            self.at = last + 1;
            if !self.signs(&self.block(self.at)?.header) {
                return Err(PastError::Succession(self.at));
            }
        }
        self.at = self.at.max(height);
        Ok(changes)
    }

    /// Goes on to block `height` and to each record in it: where several hubs decided it, whoever came by one of
    /// its records may have made others. [`set`](Self::set) is then the one after it.
    pub fn through(&mut self, height: u64) -> Result<Vec<(Block, usize)>, PastError> {
        match self.block(height)?.header.is_shared() {
            true => self.to_the_end(height),
            false => self.until(height),
        }
    }

    /// Goes on to the end of the chain, whose newest block is at `tip`: also over what that one changed.
    pub fn to_the_end(&mut self, tip: u64) -> Result<Vec<(Block, usize)>, PastError> {
        let mut changes = self.until(tip)?;
        let newest = self.block(tip)?;
        let here = steps_of(&newest);
        if here.is_empty() {
            return Ok(changes);
        }
        let voted = here.values().any(|step| voted_on(&step.body).is_some());
        let found = match block_at(self.store, tip.saturating_add(1))? {
            _ if !voted => Some(here),
            Some(next) => self.steps_to(tip, next.header.validators_hash)?,
            // No header says yet what the votes led to.
            None => None,
        };
        let found = match found {
            Some(found) => found,
            None => self.all_steps_to(tip)?,
        };
        self.take(found, &mut changes)?;
        Ok(changes)
    }

    /// The records that lead from the set to the one with the hash `wanted`, which signs the block after
    /// `last`; `None` where they are not found by looking at the votes alone.
    fn steps_to(&self, last: u64, wanted: Hash) -> Result<Option<Steps>, PastError> {
        let block = self.block(last)?;
        let suite = block.header.suite();
        let mut found = steps_of(&block);
        let on: Vec<String> = found.values().filter_map(|s| voted_on(&s.body)).collect();
        let mut below = last;
        loop {
            match self.count(&found) {
                Some((counter, counted)) if counter.set().hash(suite) == wanted => {
                    return Ok(Some(counted));
                }
                // A vote is of a time that was passed over, because the set came back to what it was.
                None => return Ok(None),
                Some(_) => {}
            }
            // An earlier vote on one of the hubs that were voted on here.
            let before = found.len();
            while found.len() == before {
                below -= 1;
                if on.is_empty() || below < 2 {
                    return Ok(None);
                }
                let earlier = steps_of(&self.block(below)?).into_iter();
                found.extend(
                    earlier.filter(|(_, step)| {
                        voted_on(&step.body).is_some_and(|hub| on.contains(&hub))
                    }),
                );
            }
        }
    }

    /// Every record up to block `last` that counted, one block after the other.
    fn all_steps_to(&self, last: u64) -> Result<Steps, PastError> {
        let mut counter = Counter::new(self.genesis.clone());
        let mut all = Steps::new();
        for height in 1..=last {
            for (place, step) in steps_of(&self.block(height)?) {
                if counts(&counter, &step.body) {
                    counter.apply(&step.body);
                    all.insert(place, step);
                }
            }
        }
        Ok(all)
    }

    /// What the steps so far and those that were `found` lead to, and which of the latter counted. `None`
    /// where one of them is in a block that another set signed than they lead to.
    fn count(&self, found: &Steps) -> Option<(Counter, Steps)> {
        let mut counter = Counter::new(self.genesis.clone());
        // The set signs a block as it was before it.
        let (mut height, mut signers) = (0, Hash::ZERO);
        let mut counted = Steps::new();
        let mut all = self.steps.clone();
        all.extend(found.clone());
        for (place, step) in all {
            if height != place.0 {
                let suite = step.body.suite();
                (height, signers) = (place.0, counter.set().hash(suite));
            }
            if !counts(&counter, &step.body) {
                continue;
            }
            if step.signed_by != signers {
                return None;
            }
            counter.apply(&step.body);
            counted.insert(place, step);
        }
        Some((counter, counted))
    }

    /// Makes the steps that were found.
    fn take(&mut self, found: Steps, changes: &mut Vec<(Block, usize)>) -> Result<(), PastError> {
        let height = found
            .keys()
            .next_back()
            .map_or(self.at, |(height, _)| *height);
        let counted = self.count(&found);
        let (counter, counted) = counted.ok_or(PastError::Succession(height))?;
        for place in counted.keys() {
            if !self.steps.contains_key(place) {
                changes.push((self.block(place.0)?, place.1));
            }
        }
        (self.counter, self.steps) = (counter, counted);
        Ok(())
    }

    /// The last block that the set signs before one of another set, below `height`, which has another.
    fn last_before(&self, height: u64) -> Result<u64, PastError> {
        let (mut own, mut other) = (self.at, height);
        while other - own > 1 {
            let middle = own + (other - own) / 2;
            match self.signs(&self.block(middle)?.header) {
                true => own = middle,
                false => other = middle,
            }
        }
        Ok(own)
    }

    fn signs(&self, header: &BlockHeader) -> bool {
        self.set().hash(header.suite()) == header.validators_hash
    }

    fn block(&self, height: u64) -> Result<Block, PastError> {
        let block = block_at(self.store, height)?;
        block.ok_or(PastError::Succession(height))
    }
}

/// The records of a block that may have to do with the set.
fn steps_of(block: &Block) -> Steps {
    let of_set = block.records.iter().enumerate();
    let of_set = of_set.filter(|(_, record)| Counter::concerns(&record.body.content));
    let step = |body: &RecordBody| Step {
        body: body.clone(),
        signed_by: block.header.validators_hash,
    };
    of_set
        .map(|(index, record)| ((block.header.height, index), step(&record.body)))
        .collect()
}

/// Whether a record is one that the counter takes.
fn counts(counter: &Counter, body: &RecordBody) -> bool {
    match &body.content {
        Content::Rotation(_) => key_change(counter.set(), body).is_some(),
        _ => counter.check(body).is_ok(),
    }
}

fn voted_on(body: &RecordBody) -> Option<String> {
    match &body.content {
        Content::HubVote(vote) => Some(vote.hub.clone()),
        _ => None,
    }
}

#[cfg(test)]
#[path = "succession_tests.rs"]
mod tests;
#[cfg(test)]
#[path = "succession_votes_tests.rs"]
mod votes_tests;
