//! Opening: what a crash at any point has left.

use super::own::{Entry, Open, replay};
use super::pool::Pool;
use super::touched::Touched;
use super::{SharedConfig, SharedLedger};
use crate::crypto::Signer;
use crate::ledger::LedgerError;
use crate::ledger::assemble::{Tip, assemble};
use crate::ledger::draft::Draft;
use crate::ledger::head::HeadSlot;
use crate::ledger::keys::{height_key, height_of};
use crate::ledger::opened::open_chain;
use crate::ledger::store::{Put, Space, Store};
use crate::model::Nanos;
use parking_lot::Mutex;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use weighbridge_verifier::{Block, Content, Hash, KeyCache, PublicKey, SignatureCheck, encode};

impl SharedLedger {
    /// Opens the ledger in `store`: follows the chain as a lone hub's ledger does, then its own open records. What
    /// does not stand any more of those, because another hub's record came between, is signed anew or left out
    /// ([`take_left_out`](Self::take_left_out)).
    pub fn open(
        store: Arc<dyn Store>,
        head: Box<dyn HeadSlot>,
        config: SharedConfig,
        signer: Arc<dyn Signer>,
        now: Nanos,
    ) -> Result<Self, LedgerError> {
        Self::open_with(
            store,
            head,
            config,
            signer,
            now,
            Arc::new(KeyCache::default()),
        )
    }

    /// The same, with the caller's way of checking signatures.
    pub fn open_with(
        store: Arc<dyn Store>,
        mut head: Box<dyn HeadSlot>,
        config: SharedConfig,
        signer: Arc<dyn Signer>,
        now: Nanos,
        check: Arc<dyn SignatureCheck>,
    ) -> Result<Self, LedgerError> {
        let opened = open_chain(&*store, &mut *head, &(&config).into(), &*signer)?;
        let state = opened.chain.state().clone();
        let mut ledger = Self {
            store,
            head: Arc::new(Mutex::new(head)),
            signer,
            limits: config.limits,
            genesis: config.genesis,
            check,
            chain: opened.chain,
            open: VecDeque::new(),
            state,
            touched: Touched::default(),
            // Another one than in the life before.
            generation: now.unsigned_abs(),
            pending: None,
            leftover: (1, 0),
            drops: Vec::new(),
            left_out: Vec::new(),
            loose: Vec::new(),
            pool: Pool::new(config.limits.pool),
            stuck: BTreeSet::new(),
            judged: Mutex::default(),
            signed_by: None,
            late: None,
            told: None,
        };
        if ledger.tip().height == 0 {
            let begins = ledger
                .genesis
                .as_ref()
                .is_none_or(|(hub, key)| hub == ledger.hub() && *key == ledger.signer.public_key());
            if begins {
                ledger.begin(now)?;
            }
            ledger.leftover = (ledger.recorded() + 1, ledger.recorded());
            return Ok(ledger);
        }
        let first = ledger.block(1)?;
        first.map_or(Ok(()), |first| ledger.check_genesis(&first))?;
        ledger.check_own_key()?;
        if opened.repair {
            let tip = *ledger.tip();
            ledger.write_head(&tip)?;
        }
        ledger.load_open(now)?;
        Ok(ledger)
    }

    /// The first block, which this hub signs alone: it enrols itself.
    fn begin(&mut self, now: Nanos) -> Result<(), LedgerError> {
        let first = Draft::first(now, self.hub(), self.signer.public_key());
        let state = self.chain.state();
        let (block, state) = assemble(&[first], state, &Tip::NONE, &*self.signer, now)?;
        self.store.commit(&[Put {
            space: Space::Blocks,
            key: height_key(block.header.height),
            value: encode(&block),
        }])?;
        self.write_head(&Tip::of(&block.header))?;
        self.state = state.clone();
        self.chain.step(&block, state);
        Ok(())
    }

    /// Whether `first` is the first block of the chain that was to be joined.
    pub(super) fn check_genesis(&self, first: &Block) -> Result<(), LedgerError> {
        let Some((hub, key)) = &self.genesis else {
            return Ok(());
        };
        let Some(record) = first.records.first() else {
            return Ok(());
        };
        let begun = match &record.body.content {
            Content::Identity(identity) => identity.key,
            _ => None,
        };
        match begun {
            Some(begun) if begun != *key || record.body.hub != *hub => Err(LedgerError::Genesis {
                hub: record.body.hub.clone(),
                key: begun,
            }),
            _ => Ok(()),
        }
    }

    /// The chain may not know this hub yet; if it does, by its key.
    fn check_own_key(&self) -> Result<(), LedgerError> {
        let (id, given) = (self.hub(), self.signer.public_key());
        let state = self.chain.state();
        let known = state.identities().get(id).filter(|known| !known.revoked);
        match known.and_then(|known| known.key) {
            Some(current) if current == given => Ok(()),
            Some(current) if state.former_keys(id).contains(&given) => {
                Err(LedgerError::FormerKey {
                    hub: id.to_owned(),
                    given,
                    current,
                })
            }
            Some(_) => Err(LedgerError::OwnKey(id.to_owned())),
            None => Ok(()),
        }
    }

    /// Reads the open records, and goes on from them.
    fn load_open(&mut self, now: Nanos) -> Result<(), LedgerError> {
        let recorded = self.recorded();
        let mut left = Vec::new();
        let mut open = Vec::new();
        let store = self.store.clone();
        for entry in store.scan(Space::Own, &[]) {
            let (key, value) = entry?;
            let sequence = height_of(&key).ok_or(LedgerError::Key)?;
            let damaged = |why: String| LedgerError::Own { sequence, why };
            let entry = Entry::from_bytes(&value).map_err(|e| damaged(e.to_string()))?;
            let body = &entry.record.body;
            if body.sequence != sequence || body.hub != self.hub() {
                return Err(damaged("it is kept in another one's place".to_owned()));
            }
            if sequence <= recorded {
                left.push((sequence, entry));
                continue;
            }
            if sequence != recorded + 1 + open.len() as u64 {
                return Err(damaged("the one before it is missing".to_owned()));
            }
            self.check_signed(&entry).map_err(damaged)?;
            open.push(Open::of(entry));
        }
        self.drop_of_left(&left)?;
        let first = left.first().map_or(recorded + 1, |(first, _)| *first);
        self.leftover = (first, recorded);
        self.drops
            .extend(open.iter().flat_map(|open| open.entry.drop.clone()));
        if !self.is_member() {
            // What was open stays here, and is lost to the chain: the hub's status says so.
            self.open = VecDeque::new();
            return Ok(());
        }
        let replayed = replay(
            self.chain.state(),
            open.iter(),
            &*self.signer,
            Vec::new(),
            now,
        )?;
        if let Some(from) = replayed.changed {
            let anew = replayed.open.iter().skip(from);
            let puts: Vec<Put> = anew.map(|open| open.put()).collect();
            self.store.commit(&puts)?;
            let anew = replayed.open.iter().skip(from);
            self.drops
                .extend(anew.flat_map(|open| open.entry.drop.clone()));
        }
        self.state = replayed.state;
        self.touched = Touched::of(replayed.open.iter().map(|open| &open.record().body));
        self.open = replayed.open.into();
        self.left_out = replayed.left_out;
        self.loose = replayed.loose;
        self.clear();
        Ok(())
    }

    /// Whether an open record is signed by a key that this hub has or had.
    fn check_signed(&self, entry: &Entry) -> Result<(), String> {
        let state = self.chain.state();
        let mut keys: Vec<PublicKey> = state.former_keys(self.hub()).to_vec();
        keys.push(self.signer.public_key());
        let mut held = Ok(());
        for key in keys.iter().rev() {
            held = entry.record.verify_with(key, &*self.check);
            if held.is_ok() {
                break;
            }
        }
        held.map_err(|why| why.to_string())
    }

    /// What is still to be removed of records that were left out, where blocks have by now what took their place. Where
    /// a block has the record after all (it was decided before the others had heard of it), its bytes stay.
    fn drop_of_left(&mut self, left: &[(u64, Entry)]) -> Result<(), LedgerError> {
        for (sequence, entry) in left.iter().filter(|(_, entry)| !entry.drop.is_empty()) {
            if self.recorded_hash(*sequence)? == Some(entry.record.body.hash()) {
                self.drops.extend(entry.drop.iter().cloned());
            }
        }
        Ok(())
    }

    /// The hash of this hub's own record of that number, by the newest blocks.
    fn recorded_hash(&self, sequence: u64) -> Result<Option<Hash>, LedgerError> {
        for height in (1..=self.tip().height).rev() {
            let Some(block) = self.block(height)? else {
                break;
            };
            let mut own = block.records.iter().filter(|r| r.body.hub == self.hub());
            if let Some(found) = own.find(|record| record.body.sequence == sequence) {
                return Ok(Some(found.body.hash()));
            }
        }
        Ok(None)
    }

    /// Removes what is not needed any more: open records that blocks have, when there are some, and what belonged to
    /// records that were left out. What cannot be removed now is later.
    pub(super) fn clear(&mut self) {
        for space in [Space::Sealed, Space::History] {
            let of_space = self.drops.iter().filter(|(of, _)| *of == space);
            let keys: Vec<Vec<u8>> = of_space.map(|(_, key)| key.clone()).collect();
            if keys.is_empty() || self.store.remove(space, &keys).is_ok() {
                self.drops.retain(|(of, _)| *of != space);
            }
        }
        let (first, last) = self.leftover;
        if last.saturating_sub(first).saturating_add(1) < CLEAR_AT || !self.drops.is_empty() {
            return;
        }
        let keys: Vec<Vec<u8>> = (first..=last).map(height_key).collect();
        if self.store.remove(Space::Own, &keys).is_ok() {
            self.leftover = (last.saturating_add(1), last);
        }
    }
}

/// Open records that blocks have are removed this many at a time: each time is a synced write.
const CLEAR_AT: u64 = 256;
