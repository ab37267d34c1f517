//! Whether another hub's value may be decided.

use super::SharedLedger;
use super::carried::Want;
use crate::ledger::keys::sealed_key;
use crate::ledger::replay::FollowError;
use crate::ledger::state::State;
use crate::ledger::store::{Space, StoreError};
use crate::model::Nanos;
use std::collections::BTreeSet;
use weighbridge_verifier::block::{BlockError, verify_body};
use weighbridge_verifier::{BlockValue, Hash, Record};

/// What is to be said of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// It holds, and the sealed bytes of every record in it are here.
    Valid(Hash),
    /// It can be read, and does not hold: whoever proposes it says what no honest hub says.
    Invalid(Hash, String),
    /// It is not taken here, but a hub whose clock, limits or version are others may propose it.
    Refused(Hash, String),
    /// The bytes are no value, or not those that the header is of: whoever sent them is at fault, who need not be its
    /// proposer.
    Unreadable,
    /// It holds, but these sealed bytes are not here: whoever votes for it must have them.
    Missing(Hash, Vec<Want>),
    /// It cannot be said: another height is due here, or the store cannot be read.
    Unknown(Hash, String),
}

impl SharedLedger {
    /// Whether `bytes` are a value that may be decided at `height`, by this hub's clock.
    pub fn check(&self, height: u64, bytes: &[u8], now: Nanos) -> Checked {
        let Ok(value) = BlockValue::from_bytes(bytes) else {
            return Checked::Unreadable;
        };
        // Also where a value with this header was judged before: whoever hands it on may have changed the rest.
        if let Err(BlockError::MerkleRoot | BlockError::RecordCount { .. }) =
            verify_body(&value.header, &value.records)
        {
            return Checked::Unreadable;
        }
        let hash = value.header.hash();
        let due = self.tip().height.checked_add(1);
        if value.header.height != height {
            let why = format!("its height is {}", value.header.height);
            return Checked::Invalid(hash, why);
        }
        if due != Some(height) {
            return Checked::Unknown(hash, "another height is due here".to_owned());
        }
        if value.header.time > now.saturating_add(self.limits.ahead) {
            let why = "its time is too far in the future".to_owned();
            return Checked::Refused(hash, why);
        }
        if self.remembered(&hash).is_none() {
            match self.judge(&value) {
                Ok(state) => self.remember(hash, state),
                Err(
                    why @ (FollowError::TooMany(_) | FollowError::Block(BlockError::Version(_))),
                ) => {
                    return Checked::Refused(hash, why.to_string());
                }
                Err(why) => return Checked::Invalid(hash, why.to_string()),
            }
        }
        match self.wants(&value.records) {
            Ok(wants) if wants.is_empty() => Checked::Valid(hash),
            Ok(wants) => Checked::Missing(hash, wants),
            Err(why) => Checked::Unknown(hash, why.to_string()),
        }
    }

    /// The state after `block`, if it may come next. Signatures of records that are here with the very same
    /// ones were verified when they came.
    pub(super) fn judge(&self, block: &BlockValue) -> Result<State, FollowError> {
        block.header.check_version()?;
        if !block.header.is_shared() {
            return Err(FollowError::Alone);
        }
        let most = self.limits.block_records;
        if block.records.len() > most {
            return Err(FollowError::TooMany(most));
        }
        let check = &*self.check;
        let unknown = |record: &Record| (!self.has(record)).then_some(check);
        let (header, records) = (&block.header, &block.records);
        self.chain.judge(header, records, &unknown)
    }

    /// Whether it is one of this hub's own open records.
    pub(super) fn is_open(&self, record: &Record) -> bool {
        let first = self.open.front().map_or(u64::MAX, |open| open.sequence());
        let at = record.body.sequence.checked_sub(first);
        let at = at.and_then(|at| usize::try_from(at).ok());
        let open = at.and_then(|at| self.open.get(at));
        open.is_some_and(|open| open.record() == record)
    }

    /// Whether this very record is here.
    fn has(&self, record: &Record) -> bool {
        let body = &record.body;
        if body.hub == self.hub() {
            return self.is_open(record);
        }
        let pooled = self.pool.get(&body.hub, body.sequence);
        pooled.is_some_and(|pooled| pooled.carried.record == *record)
    }

    /// The sealed bytes that these records name and that are not here.
    fn wants(&self, records: &[Record]) -> Result<Vec<Want>, StoreError> {
        let mut seen = BTreeSet::new();
        let mut wants = Vec::new();
        for record in records {
            let Some(want) = Want::of(record) else {
                continue;
            };
            if self.has(record) || !seen.insert(want.hash) {
                continue;
            }
            let key = sealed_key(&want.hash);
            if self.store.get(Space::Sealed, &key)?.is_none() {
                wants.push(want);
            }
        }
        Ok(wants)
    }
}
