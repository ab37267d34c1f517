//! Records of other hubs that are not in a block yet: of each hub a run without a gap after what blocks have.
//!
//! Memory only: whoever made a record has it on disk. Bounded in bytes and number for each hub.

use super::carried::{Carried, Misfit};
use crate::ledger::facts::HubTip;
use crate::ledger::state::State;
use std::collections::{BTreeMap, VecDeque};
use weighbridge_verifier::record::RECORD_VERSION;
use weighbridge_verifier::{Hash, PublicKey, SignatureCheck, SignatureError, rotation};

/// How much of one hub is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Bytes of its records and what belongs to them.
    pub bytes: usize,
    /// Records.
    pub records: usize,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            bytes: 32 << 20,
            records: 16_384,
        }
    }
}

/// Why records of another hub were not taken, or not all of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// It is no hub of the set.
    #[error("`{0}` is no hub of the set")]
    Hub(String),
    /// They are this hub's own.
    #[error("these are this hub's own records")]
    Own,
    /// They do not follow what is here.
    #[error("record {got} of `{hub}` came where its record {wanted} was due")]
    Gap {
        /// The hub.
        hub: String,
        /// The number that was due.
        wanted: u64,
        /// The number that came.
        got: u64,
    },
    /// One does not hold. Those before it were taken.
    #[error("record {sequence} of `{hub}` does not hold: {why}")]
    Record {
        /// The hub.
        hub: String,
        /// The number that it says it has.
        sequence: u64,
        /// Why.
        why: Wrong,
        /// How many were taken.
        taken: usize,
    },
    /// There is no more room; the rest can come later.
    #[error("there is no room for more than {taken} of them")]
    Full {
        /// How many were taken.
        taken: usize,
    },
}

/// What is wrong with a record of another hub, without regard to the state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// Another hub's, chain's, suite's or version's.
    #[error("it is of another hub, chain, suite or version")]
    Kind,
    /// Out of turn within the run.
    #[error("it is out of turn")]
    Turn,
    /// It does not point back to the one before.
    #[error("it does not point back to the one before")]
    Previous,
    /// It is older than the one before.
    #[error("it is older than the one before")]
    Time,
    /// A signature is wrong.
    #[error("{0}")]
    Signature(#[from] SignatureError),
    /// What came with it.
    #[error("{0}")]
    Puts(#[from] Misfit),
}

/// A record of another hub with what came with it.
#[derive(Debug)]
pub(super) struct Pooled {
    pub(super) carried: Carried,
    pub(super) hash: Hash,
    size: usize,
    /// The key that its hub signs by after it.
    key: PublicKey,
}

/// What one hub said.
#[derive(Debug, Default)]
struct Run {
    /// Number of the first.
    first: u64,
    records: VecDeque<Pooled>,
    bytes: usize,
}

impl Run {
    fn next(&self) -> u64 {
        self.first.saturating_add(self.records.len() as u64)
    }

    fn at(&self, sequence: u64) -> Option<&Pooled> {
        let at = sequence.checked_sub(self.first)?;
        self.records.get(usize::try_from(at).ok()?)
    }

    fn truncate(&mut self, sequence: u64) {
        let keep = usize::try_from(sequence.saturating_sub(self.first)).unwrap_or(usize::MAX);
        while self.records.len() > keep {
            self.bytes -= self.records.pop_back().map_or(0, |gone| gone.size);
        }
    }

    fn push(&mut self, pooled: Pooled) {
        self.bytes += pooled.size;
        self.records.push_back(pooled);
    }
}

/// The records of others.
#[derive(Debug, Default)]
pub(super) struct Pool {
    hubs: BTreeMap<String, Run>,
    limits: PoolLimits,
}

impl Pool {
    pub(super) fn new(limits: PoolLimits) -> Self {
        Self {
            hubs: BTreeMap::new(),
            limits,
        }
    }

    /// The number of the next record that is needed of `hub`, of which blocks have records up to `committed`.
    pub(super) fn wanted(&self, hub: &str, committed: u64) -> u64 {
        let pooled = self.hubs.get(hub).filter(|run| !run.records.is_empty());
        pooled.map_or(committed.saturating_add(1), Run::next)
    }

    /// The hubs of which there are records.
    pub(super) fn hubs(&self) -> impl Iterator<Item = &str> {
        let filled = self.hubs.iter().filter(|(_, run)| !run.records.is_empty());
        filled.map(|(hub, _)| &**hub)
    }

    /// The records of `hub`, in order.
    pub(super) fn of<'a>(&'a self, hub: &str) -> Box<dyn Iterator<Item = &'a Pooled> + 'a> {
        match self.hubs.get(hub) {
            Some(run) => Box::new(run.records.iter()),
            None => Box::new(std::iter::empty()),
        }
    }

    /// Record `sequence` of `hub`.
    pub(super) fn get(&self, hub: &str, sequence: u64) -> Option<&Pooled> {
        self.hubs.get(hub)?.at(sequence)
    }

    /// Takes a run of records of `hub`, whose records in blocks are as `state` has them. From where they differ
    /// from what is here, they take its place: a hub's newest word about what is in no block counts.
    pub(super) fn receive(
        &mut self,
        hub: &str,
        run: Vec<Carried>,
        state: &State,
        check: &dyn SignatureCheck,
    ) -> Result<usize, PoolError> {
        let stranger = || PoolError::Hub(hub.to_owned());
        let member = state.validators().and_then(|set| set.get(hub));
        let known = member.ok_or_else(stranger)?;
        let tip = state.hubs().get(hub).unwrap_or(&HubTip::NONE);
        let limits = self.limits;
        let kept = self.hubs.entry(hub.to_owned()).or_default();
        if kept.records.is_empty() {
            kept.first = tip.sequence.saturating_add(1);
        }
        let mut former = state.former_keys(hub).to_vec();
        former.push(known.key);
        let mut taken = 0;
        let mut wanted = None;
        for carried in run {
            let body = &carried.record.body;
            let sequence = body.sequence;
            let wrong = |why: Wrong| PoolError::Record {
                hub: hub.to_owned(),
                sequence,
                why,
                taken,
            };
            if wanted.is_some_and(|wanted| wanted != sequence) {
                return Err(wrong(Wrong::Turn));
            }
            wanted = sequence.checked_add(1);
            if sequence <= tip.sequence {
                taken += 1;
                continue;
            }
            if sequence > kept.next() {
                return Err(PoolError::Gap {
                    hub: hub.to_owned(),
                    wanted: kept.next(),
                    got: sequence,
                });
            }
            if kept
                .at(sequence)
                .is_some_and(|here| here.carried == carried)
            {
                taken += 1;
                continue;
            }
            let own = body.hub == hub && body.chain == state.chain();
            if !own || body.version != state.suite().marked(RECORD_VERSION) {
                return Err(wrong(Wrong::Kind));
            }
            let before = sequence.checked_sub(1).and_then(|before| kept.at(before));
            let (hash, time, key) = match before {
                Some(before) => (before.hash, before.carried.record.body.time, before.key),
                None => (tip.hash, tip.time, known.key),
            };
            if body.previous != hash {
                // What is here of it is from before it signed anew: it has to begin again.
                kept.truncate(kept.first);
                return Err(wrong(Wrong::Previous));
            }
            if body.time < time {
                return Err(wrong(Wrong::Time));
            }
            let signed = carried.record.verify_with(&key, check);
            signed.map_err(|why| wrong(why.into()))?;
            if !former.contains(&key) {
                former.push(key);
            }
            let belongs = carried.check_puts(&former, check);
            belongs.map_err(|why| wrong(why.into()))?;
            let size = carried.size();
            kept.truncate(sequence);
            let full = kept.bytes.saturating_add(size) > limits.bytes && !kept.records.is_empty();
            if full || kept.records.len() >= limits.records {
                return Err(PoolError::Full { taken });
            }
            let hash = body.hash();
            let key = rotation::of_hub(&carried.record).map_or(key, |(_, new)| new);
            kept.push(Pooled {
                carried,
                hash,
                size,
                key,
            });
            taken += 1;
        }
        Ok(taken)
    }

    /// Lets go of what blocks have by now, and of what does not follow from it.
    pub(super) fn advance(&mut self, state: &State) {
        let set = state.validators();
        self.hubs
            .retain(|hub, _| set.is_some_and(|set| set.get(hub).is_some()));
        for (hub, run) in &mut self.hubs {
            let Some(tip) = state.hubs().get(hub) else {
                continue;
            };
            while run.first <= tip.sequence {
                let Some(gone) = run.records.pop_front() else {
                    break;
                };
                run.bytes -= gone.size;
                run.first += 1;
            }
            let first = run.records.front();
            if first.is_some_and(|first| first.carried.record.body.previous != tip.hash) {
                run.truncate(run.first);
            }
        }
    }
}
