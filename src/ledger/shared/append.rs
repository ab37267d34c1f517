//! Own records: signed at once, durable before they are acknowledged.

use super::SharedLedger;
use super::own::{Open, Place, needed_by, places};
use crate::ledger::LedgerError;
use crate::ledger::assemble::{AssembleError, sign_record};
use crate::ledger::draft::Draft;
use crate::ledger::puts::check_sealed;
use crate::ledger::state::State;
use crate::ledger::store::{Put, Space, StoreError};
use crate::model::Nanos;
use std::sync::Arc;
use weighbridge_verifier::{Hash, Record};

/// Own records on their way to the disk.
pub(super) struct Pending {
    pub(super) drafts: Vec<Draft>,
    pub(super) open: Vec<Arc<Open>>,
    /// The state after them.
    pub(super) state: State,
    /// What belongs to them.
    pub(super) puts: Vec<Put>,
    /// Wraps that no record has taken along yet.
    loose: Vec<Place>,
    /// Their number once they are durable, and nobody was told: a block was decided meanwhile.
    pub(super) durable: bool,
}

impl SharedLedger {
    /// Records `drafts` as this hub's own, together with `puts` (sealed bytes, key wraps, entries of the history),
    /// and returns the records once they are durable here. Blocks have them later.
    ///
    /// After an error nothing is acknowledged. If the error was the store's, they may or may not have landed: they are
    /// kept, and [`retry`](Self::retry), or `append` with the very same drafts, writes them again. Meanwhile other
    /// drafts are answered by [`LedgerError::Pending`].
    pub fn append(
        &mut self,
        drafts: &[Draft],
        puts: Vec<Put>,
        now: Nanos,
    ) -> Result<Vec<Record>, LedgerError> {
        self.prepare(drafts, puts, now)?;
        self.retry()
    }

    /// The first half of [`append`](Self::append): signs, and returns what is to be written. For whoever does not keep
    /// the ledger to himself meanwhile: others may look at it, take records, propose and check, and find it as it was.
    /// Until [`written`](Self::written) is told what came of it nothing else may be appended or decided.
    pub fn prepare(
        &mut self,
        drafts: &[Draft],
        puts: Vec<Put>,
        now: Nanos,
    ) -> Result<Vec<Put>, LedgerError> {
        if let Some(pending) = &self.pending {
            if pending.drafts != drafts {
                return Err(LedgerError::Pending(self.tip().height.saturating_add(1)));
            }
            return self.unwritten();
        }
        if drafts.is_empty() {
            return Err(AssembleError::Empty.into());
        }
        check_sealed(drafts, &puts)?;
        let shared = [Space::Sealed, Space::Keys, Space::History];
        if let Some(other) = puts.iter().find(|put| !shared.contains(&put.space)) {
            return Err(LedgerError::NotShared(other.space));
        }
        if drafts.iter().any(|draft| draft.rotates(self.hub())) {
            return Err(LedgerError::RotatesMember);
        }
        if self.open.len().saturating_add(drafts.len()) > self.limits.open {
            return Err(LedgerError::TooManyOpen(self.open.len()));
        }
        let mut state = self.state.clone();
        let mut signed = Vec::with_capacity(drafts.len());
        for (index, draft) in drafts.iter().enumerate() {
            signed.push(self.sign(draft, &mut state, index, now)?);
        }
        let (records, hashes): (Vec<Record>, Vec<Hash>) = signed.into_iter().unzip();
        let mut places = places(&records, &puts);
        let mut loose = self.loose.clone();
        for (record, of) in records.iter().zip(&mut places) {
            of.extend(needed_by(record, &mut loose));
        }
        let open = records.into_iter().zip(hashes).zip(places);
        let open = open.map(|((record, hash), puts)| Open::new(record, hash, puts));
        self.pending = Some(Pending {
            drafts: drafts.to_vec(),
            open: open.collect(),
            state,
            puts,
            loose,
            durable: false,
        });
        self.unwritten()
    }

    /// What is still to be written of the records of an [`append`](Self::append) that has not ended well, or not yet.
    pub fn unwritten(&self) -> Result<Vec<Put>, LedgerError> {
        let pending = self.pending.as_ref();
        let pending = pending.ok_or(LedgerError::NothingPending)?;
        Ok(match pending.durable {
            true => Vec::new(),
            false => pending.all_puts(),
        })
    }

    /// Writes the records of a failed [`append`](Self::append) again, and returns them as they are now.
    pub fn retry(&mut self) -> Result<Vec<Record>, LedgerError> {
        let due = self.unwritten()?;
        let written = match due.is_empty() {
            true => Ok(()),
            false => self.store.commit(&due),
        };
        self.written(written)
    }

    /// What [`prepare`](Self::prepare) gave was written, or was not: the records, durable by now.
    pub fn written(&mut self, written: Result<(), StoreError>) -> Result<Vec<Record>, LedgerError> {
        let Some(mut pending) = self.pending.take() else {
            return Err(LedgerError::NothingPending);
        };
        if let Err(error) = written {
            self.pending = Some(pending);
            return Err(error.into());
        }
        if !pending.durable {
            for open in &pending.open {
                self.touched.add(&open.record().body);
            }
            self.open.extend(pending.open.iter().cloned());
            self.stuck.remove(self.signer.id());
            self.state = pending.state;
            self.loose = pending.loose;
        }
        let records = pending.open.drain(..).map(|open| open.record().clone());
        Ok(records.collect())
    }

    /// Whether there are records that are not known to be durable.
    pub fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether `draft` may be recorded next, with all that is signed in it.
    ///
    /// # Errors
    /// Why not.
    pub fn takes(&self, draft: &Draft, now: Nanos) -> Result<(), String> {
        if draft.rotates(self.hub()) {
            return Err(LedgerError::RotatesMember.to_string());
        }
        let state = self.pending.as_ref().map_or(&self.state, |p| &p.state);
        let mut state = state.clone();
        let (record, _) = self
            .sign(draft, &mut state, 0, now)
            .map_err(|error| match error {
                AssembleError::Draft { why, .. } => why.to_string(),
                error => error.to_string(),
            })?;
        let key = self.signer.public_key();
        record
            .verify_with(&key, &*self.check)
            .map_err(|e| e.to_string())
    }

    fn sign(
        &self,
        draft: &Draft,
        state: &mut State,
        index: usize,
        now: Nanos,
    ) -> Result<(Record, Hash), AssembleError> {
        let (record, hash) = sign_record(draft, state, &*self.signer, now);
        state
            .apply_signed(&record.body, hash)
            .map_err(|why| AssembleError::Draft { index, why })?;
        Ok((record, hash))
    }
}

impl Pending {
    /// What is to be written: what belongs to the records, and the records.
    pub(super) fn all_puts(&self) -> Vec<Put> {
        let records = self.open.iter().map(|open| open.put());
        self.puts.iter().cloned().chain(records).collect()
    }
}
