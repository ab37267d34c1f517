//! Decisions: what the hubs agreed on becomes durable here.

use super::elsewhere::Lacking;
use super::own::{Replayed, replay};
use super::touched::Touched;
use super::{SharedLedger, Slot};
use crate::ledger::LedgerError;
use crate::ledger::assemble::Tip;
use crate::ledger::keys::{height_key, sealed_key};
use crate::ledger::replay::FollowError;
use crate::ledger::state::State;
use crate::ledger::store::{Put, Space, Store, StoreError};
use crate::model::Nanos;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use weighbridge_verifier::{Block, BlockValue, Hash, QuorumCertificate, Record, encode};

/// What is open after a block.
enum Next {
    /// As many of the open records less, and the same ones as before: with this state after them.
    Apart { own: usize, state: State },
    /// They were applied again.
    Replayed(Replayed),
}

/// A decision on its way to the disk.
pub struct Settling {
    block: Block,
    after: State,
    next: Next,
    tip: Tip,
    puts: Vec<Put>,
    head: Vec<u8>,
    /// Where both go.
    store: Arc<dyn Store>,
    slot: Slot,
}

/// What becomes of a decision.
pub enum Deciding {
    /// It is durable already.
    Told(Box<Committed>),
    /// It is to be written.
    New(Box<Settling>),
}

impl Settling {
    /// Writes it: the block and what belongs to it in one commit, then the head. Needs no ledger.
    pub fn write(&self) -> Result<(), StoreError> {
        self.store.commit(&self.puts)?;
        self.slot.lock().write(&self.head)
    }
}

/// A block that is durable here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The block.
    pub block: Block,
    /// Numbers of this hub's own records that are in it.
    pub own: Range<u64>,
    /// Which of its records are other hubs', from 0.
    pub foreign: Vec<usize>,
    /// Whether open records of this hub were signed anew, or left out, because of it.
    pub rebased: bool,
}

impl SharedLedger {
    /// Makes a decision durable: the block with its certificate, and what belongs to others' records in it that is not
    /// in the store yet, in one commit; then the head. Own open records go on from there.
    ///
    /// After an error nothing has changed, and the very same decision can be made durable again; of one that is
    /// durable already is told again.
    pub fn decide(
        &mut self,
        bytes: &[u8],
        certificate: QuorumCertificate,
        now: Nanos,
    ) -> Result<Committed, LedgerError> {
        match self.prepare_decision(bytes, certificate, now)? {
            Deciding::Told(told) => Ok(*told),
            Deciding::New(settling) => {
                settling.write()?;
                Ok(self.decided(*settling))
            }
        }
    }

    /// The first half of [`decide`](Self::decide), for whoever does not keep the ledger to himself while the disk
    /// [writes](Settling::write): others may look at it, take records and check values meanwhile. Until it is
    /// [decided](Self::decided), or given up after an error, nothing else may be appended or decided.
    pub fn prepare_decision(
        &mut self,
        bytes: &[u8],
        certificate: QuorumCertificate,
        now: Nanos,
    ) -> Result<Deciding, LedgerError> {
        let height = self.tip().height.saturating_add(1);
        let value = BlockValue::from_bytes(bytes);
        let value = value.map_err(|why| LedgerError::Value { height, why })?;
        let hash = value.header.hash();
        if let Some((_, told)) = self.told.as_ref().filter(|(known, _)| *known == hash) {
            return Ok(Deciding::Told(Box::new(told.clone())));
        }
        let follow = |why: FollowError| LedgerError::Follow { height, why };
        let judged = match self.remembered(&hash) {
            Some(state) => state,
            None => self.judge(&value).map_err(follow)?,
        };
        let block = value.certified(certificate);
        let set = self.chain.state().validators();
        let certified = self.chain.check_commit(&block, set, Some(&*self.check));
        certified.map_err(follow)?;
        let settling = self.settle(block, judged, now)?;
        Ok(Deciding::New(Box::new(settling)))
    }

    /// Takes a block that was decided long ago, with everything in it verified: for a hub that comes to a chain, or
    /// back to it, before its engine runs.
    pub fn follow(&mut self, block: Block, now: Nanos) -> Result<Committed, LedgerError> {
        let height = self.tip().height.saturating_add(1);
        if height == 1 {
            self.check_genesis(&block)?;
        }
        let check = Some(&*self.check);
        let follow = |why: FollowError| LedgerError::Follow { height, why };
        let judged = self
            .chain
            .state_after(&block.header, &block.records, check)
            .map_err(follow)?;
        let set = self.chain.state().validators().or(judged.validators());
        let certified = self.chain.check_commit(&block, set, check);
        certified.map_err(follow)?;
        let settling = self.settle(block, judged, now)?;
        settling.write()?;
        Ok(self.decided(settling))
    }

    /// More signatures under a block that is durable, which came late. Those that it has stay. They are written with
    /// the next block: the certificate is one without them, so no write of their own is worth its time.
    pub fn improve(
        &mut self,
        height: u64,
        certificate: QuorumCertificate,
    ) -> Result<(), LedgerError> {
        let set = match height == self.tip().height {
            // Only of the newest block it is known who signed it.
            true => self.signed_by.clone(),
            false => None,
        };
        let (Some(mut block), Some(set)) = (self.block(height)?, set) else {
            return Ok(());
        };
        let known = block.certificate.signatures().len();
        let better = certificate.signatures.len() > known
            && block
                .certificate
                .quorum()
                .is_some_and(|known| known.round == certificate.round)
            && certificate
                .verify_with(&block.header, &set, &*self.check)
                .is_ok();
        if !better {
            return Ok(());
        }
        block.certificate = certificate.into();
        self.late = Some(Put {
            space: Space::Blocks,
            key: height_key(height),
            value: encode(&block),
        });
        Ok(())
    }

    fn settle(&mut self, block: Block, after: State, now: Nanos) -> Result<Settling, LedgerError> {
        let next = self.next_open(&block, &after, now)?;
        let mut puts = self.puts_of(&block)?;
        puts.extend(self.late.clone());
        puts.extend(self.puts_of_open(&next));
        puts.push(Put {
            space: Space::Blocks,
            key: height_key(block.header.height),
            value: encode(&block),
        });
        let tip = Tip::of(&block.header);
        Ok(Settling {
            block,
            after,
            next,
            tip,
            puts,
            head: self.head_of(&tip),
            store: self.store.clone(),
            slot: self.head.clone(),
        })
    }

    /// The second half: it is durable, and the ledger goes on from it.
    pub fn decided(&mut self, settling: Settling) -> Committed {
        let Settling {
            block,
            after,
            next,
            tip,
            ..
        } = settling;
        let hub = self.hub().to_owned();
        let own = own_range(&block.records, &hub);
        let foreign = |(at, record): (usize, &Record)| (record.body.hub != hub).then_some(at);
        let foreign = block.records.iter().enumerate().filter_map(foreign);
        let foreign: Vec<usize> = foreign.collect();

        self.late = None;
        self.signed_by = self.chain.state().validators().cloned();
        self.chain.step(&block, after);
        self.pool.advance(self.chain.state());
        self.judged.lock().clear();
        self.stuck.clear();
        self.leftover.1 = self.recorded();
        let named: BTreeSet<Hash> = named_in(&block.records).collect();
        self.drops
            .retain(|(_, key)| !named.iter().any(|hash| hash.0[..] == key[..]));
        let rebased = matches!(&next, Next::Replayed(r) if r.changed.is_some());
        self.go_on(next);
        self.clear();
        let committed = Committed {
            block,
            own,
            foreign,
            rebased,
        };
        self.told = Some((tip.hash, committed.clone()));
        committed
    }

    /// What is open after `block`, after which the state is `after`.
    fn next_open(&self, block: &Block, after: &State, now: Nanos) -> Result<Next, LedgerError> {
        match self.apart(block) {
            Some((own, state)) => {
                #[cfg(test)]
                assert!(
                    self.replay_open(after, now)
                        .is_ok_and(|slow| slow.changed.is_none() && slow.state == state)
                );
                Ok(Next::Apart { own, state })
            }
            None => self.replay_open(after, now).map(Next::Replayed),
        }
    }

    /// The state after the open records and then others' in `block`, where these touch other parts of the state: it is
    /// the same as in the order of the chain. Also how many of the open ones `block` has.
    fn apart(&self, block: &Block) -> Option<(usize, State)> {
        let waits = self.pending.as_ref().is_some_and(|p| !p.durable);
        let is_own = |record: &&Record| record.body.hub == self.hub();
        let (own, others): (Vec<&Record>, Vec<&Record>) = block.records.iter().partition(is_own);
        let all_open = own.iter().all(|record| self.is_open(record));
        let bodies = others.iter().map(|record| &record.body);
        if waits || !all_open || !self.is_member() || !self.touched.is_apart(bodies) {
            return None;
        }
        let mut state = self.state.clone();
        for record in others {
            let body = &record.body;
            state.apply_signed(body, body.hash()).ok()?;
        }
        Some((own.len(), state))
    }

    /// What is to be written of open records: those on their way to the disk, and those that are other ones now.
    fn puts_of_open(&self, next: &Next) -> Vec<Put> {
        let pending = self.pending.as_ref().filter(|pending| !pending.durable);
        let mut puts = pending.map_or_else(Vec::new, |pending| pending.puts.clone());
        let mut open = BTreeMap::new();
        for waits in pending.iter().flat_map(|pending| &pending.open) {
            open.insert(waits.sequence(), waits.put());
        }
        if let Next::Replayed(replayed) = next {
            let from = replayed.changed.unwrap_or(replayed.open.len());
            for anew in replayed.open.iter().skip(from) {
                open.insert(anew.sequence(), anew.put());
            }
        }
        puts.extend(open.into_values());
        puts
    }

    /// What is open, with what is on its way to the disk, after blocks have come to `after`.
    fn replay_open(&self, after: &State, now: Nanos) -> Result<Replayed, LedgerError> {
        let recorded = after.hubs().get(self.hub()).map_or(0, |tip| tip.sequence);
        let pending = self.pending.iter().filter(|pending| !pending.durable);
        let open = self.open.iter().chain(pending.flat_map(|p| &p.open));
        let open = open.filter(|open| open.sequence() > recorded);
        match after.is_member(self.hub()) {
            true => replay(after, open, &*self.signer, self.loose.clone(), now),
            // It is lost to the chain.
            false => Ok(Replayed {
                state: after.clone(),
                open: Vec::new(),
                changed: None,
                left_out: Vec::new(),
                loose: Vec::new(),
            }),
        }
    }

    /// Open records are other ones now, or less of them.
    fn go_on(&mut self, next: Next) {
        let replayed = match next {
            Next::Replayed(replayed) => replayed,
            Next::Apart { own, state } => {
                self.state = state;
                for gone in self.open.drain(..own.min(self.open.len())) {
                    self.touched.remove(&gone.record().body);
                }
                return;
            }
        };
        self.touched = Touched::of(replayed.open.iter().map(|open| &open.record().body));
        self.state = replayed.state;
        if let Some(from) = replayed.changed {
            self.generation = self.generation.saturating_add(1);
            let anew = replayed.open.iter().skip(from);
            self.drops
                .extend(anew.flat_map(|open| open.entry.drop.clone()));
        }
        self.left_out.extend(replayed.left_out);
        self.loose = replayed.loose;
        if let Some(pending) = &mut self.pending {
            // Durable now, with the block; who appended them hears of it when they ask.
            pending.durable = true;
            pending.puts.clear();
            for open in &mut pending.open {
                let sequence = open.sequence();
                let now = replayed.open.iter().find(|o| o.sequence() == sequence);
                if let Some(now) = now {
                    *open = now.clone();
                }
            }
        }
        self.open = replayed.open.into();
    }

    /// What belongs to records of `block` and is not in the store: of others' records what came with them, or that it
    /// is missing.
    fn puts_of(&self, block: &Block) -> Result<Vec<Put>, StoreError> {
        let mut puts: Vec<Put> = Vec::new();
        for record in &block.records {
            let pooled = self.pool.get(&record.body.hub, record.body.sequence);
            let pooled = pooled.filter(|pooled| pooled.carried.record == *record);
            if let Some(pooled) = pooled {
                for put in &pooled.carried.puts {
                    // A slot that is filled is never written from outside.
                    let free = put.space != Space::Keys
                        || self.store.get(Space::Keys, &put.key)?.is_none();
                    if free {
                        puts.push(put.clone());
                    }
                }
            } else if let Some(lacking) = Lacking::of(record) {
                let key = sealed_key(&lacking.hash());
                let waits = self.pending.iter().flat_map(|pending| &pending.puts);
                let mut waits = waits.filter(|put| put.space == Space::Sealed);
                let here = waits.any(|put| put.key == key)
                    || self.is_open(record)
                    || self.store.get(Space::Sealed, &key)?.is_some();
                if !here {
                    puts.push(lacking.put());
                }
            }
        }
        Ok(puts)
    }
}

/// The hashes of the sealed bytes that records name.
fn named_in(records: &[Record]) -> impl Iterator<Item = Hash> {
    records
        .iter()
        .filter_map(|r| r.body.sealed().map(|s| s.hash))
}

/// Numbers of records of `hub`.
fn own_range(records: &[Record], hub: &str) -> Range<u64> {
    let own = records.iter().filter(|record| record.body.hub == hub);
    let mut numbers = own.map(|record| record.body.sequence);
    let Some(first) = numbers.next() else {
        return 0..0;
    };
    let last = numbers.next_back().unwrap_or(first);
    first..last.saturating_add(1)
}
