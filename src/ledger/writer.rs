//! The ledger of a running hub: it appends blocks, and follows the whole chain when it opens.
//!
//! Order of durability: the block with its sealed bytes and key wraps in one commit of the store,
//! then the signed head outside it, then the answer. Whoever has the answer can rely on the block.

use super::assemble::{AssembleError, Tip, assemble};
use super::draft::Draft;
use super::error::LedgerError;
use super::head::{Head, HeadSlot};
use super::keys::height_key;
use super::opened::{check_nothing_open, check_signer, open_chain, signs};
use super::puts::check_sealed;
use super::replay::rotations_in;
use super::state::State;
use super::store::{Put, Space, Store};
use crate::crypto::Signer;
use crate::model::Nanos;
use std::sync::Arc;
use weighbridge_verifier::{Block, Content, Record, encode};

/// Which chain a ledger keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainConfig {
    /// Its id, 1 to 64 bytes.
    pub id: String,
}

/// The ledger of a hub that signs its blocks itself.
pub struct Ledger {
    store: Arc<dyn Store>,
    head: Box<dyn HeadSlot>,
    signer: Arc<dyn Signer>,
    state: State,
    tip: Tip,
    /// The records by which hubs changed their keys.
    rotations: Vec<Record>,
    /// A block that was signed but is not known to be durable. It is kept, so that the hub never
    /// signs two blocks of one height.
    pending: Option<Pending>,
}

/// A signed block on its way to the disk.
struct Pending {
    block: Block,
    /// The state after it.
    state: State,
    /// What belongs to it; the last one is the block itself, once it was tried.
    puts: Vec<Put>,
}

impl Ledger {
    /// Opens the ledger in `store`: follows the whole chain and compares its end with the signed
    /// head. An empty store begins with a block that enrols the hub. A chain that several hubs share is
    /// refused: it is [`SharedLedger`](super::shared::SharedLedger) that goes on with it.
    ///
    /// Blocks up to the head are vouched for by this hub's own signature over their hash chain; the
    /// signatures inside them are left to `verify`. What is beyond the head is verified in full.
    pub fn open(
        store: Arc<dyn Store>,
        mut head: Box<dyn HeadSlot>,
        chain: ChainConfig,
        signer: Arc<dyn Signer>,
        now: Nanos,
    ) -> Result<Self, LedgerError> {
        let opened = open_chain(&*store, &mut *head, &chain, &*signer)?;
        if let Some(height) = opened.chain.shared_from() {
            return Err(LedgerError::Shared(height));
        }
        check_nothing_open(&*store, opened.chain.state(), signer.id())?;
        let (state, tip, rotations) = opened.chain.into_parts();
        let mut ledger = Self {
            store,
            head,
            signer,
            state,
            tip,
            rotations,
            pending: None,
        };
        if ledger.tip.height == 0 {
            ledger.begin(now)?;
            return Ok(ledger);
        }
        check_signer(&ledger.state, &*ledger.signer)?;
        if opened.repair {
            let tip = ledger.tip;
            ledger.write_head(&tip)?;
        }
        Ok(ledger)
    }

    /// Appends a block that records `drafts`, together with `puts` (sealed bytes, key wraps), and
    /// returns it once it is durable and the head is written.
    ///
    /// After an error nothing is acknowledged, and state and tip are as they were. If the error was
    /// the store's, the block may or may not have landed: the signed block is kept, and
    /// [`retry`](Self::retry), or `append` with the very same drafts, writes it again until that
    /// succeeds. Meanwhile other drafts are answered by [`LedgerError::Pending`].
    pub fn append(
        &mut self,
        drafts: &[Draft],
        puts: Vec<Put>,
        now: Nanos,
    ) -> Result<Block, LedgerError> {
        if let Some(pending) = &self.pending {
            let records = &pending.block.records;
            let same = records.len() == drafts.len()
                && drafts.iter().zip(records).all(|(d, r)| d.became(r));
            if !same {
                return Err(LedgerError::Pending(pending.block.header.height));
            }
            return self.retry();
        }
        check_sealed(drafts, &puts)?;
        let (block, state) = assemble(drafts, &self.state, &self.tip, &*self.signer, now)?;
        self.make_durable(Pending { block, state, puts })
    }

    /// Writes the block of a failed [`append`](Self::append) again.
    pub fn retry(&mut self) -> Result<Block, LedgerError> {
        let pending = self.pending.take().ok_or(LedgerError::NothingPending)?;
        self.make_durable(pending)
    }

    /// Height of a block that was signed but is not known to be durable, if there is one.
    pub fn pending(&self) -> Option<u64> {
        self.pending.as_ref().map(|p| p.block.header.height)
    }

    /// Whether `draft` gives this hub the key that is to follow its own.
    pub fn may_rotate(&self, draft: &Draft) -> bool {
        let Content::Rotation(rotation) = &draft.content else {
            return false;
        };
        let next = self.signer.successor();
        draft.rotates(self.signer.id())
            && rotation.replaces == self.signer.public_key()
            && next.is_some()
            && rotation.identity.key == next
    }

    /// Whether `draft` alone may be recorded next, with all that is signed in it.
    ///
    /// # Errors
    /// Why not.
    pub fn takes(&self, draft: &Draft, now: Nanos) -> Result<(), String> {
        if draft.rotates(self.signer.id()) && !self.may_rotate(draft) {
            return Err("the key that was to be replaced is not in use any more".to_owned());
        }
        let drafts = std::slice::from_ref(draft);
        let made = assemble(drafts, &self.state, &self.tip, &*self.signer, now);
        let (block, _) = made.map_err(|error| match error {
            AssembleError::Draft { why, .. } => why.to_string(),
            error => error.to_string(),
        })?;
        let key = self.signer.public_key();
        let signed = block.records.iter().try_for_each(|r| r.verify(&key));
        signed.map_err(|e| e.to_string())
    }

    /// The state after the newest durable block.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The records by which hubs changed their keys, in order.
    pub fn rotations(&self) -> &[Record] {
        &self.rotations
    }

    /// The newest durable block.
    pub fn tip(&self) -> &Tip {
        &self.tip
    }

    /// The store, for readers.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Writes the block, then goes over to the key that it may give the hub, then writes the head: so the
    /// newest head is never signed by a key that is gone.
    fn make_durable(&mut self, mut next: Pending) -> Result<Block, LedgerError> {
        let tip = Tip::of(&next.block.header);
        let key = height_key(tip.height);
        if next.puts.last().is_none_or(|p| p.key != key) {
            next.puts.push(Put {
                space: Space::Blocks,
                key,
                value: encode(&next.block),
            });
        }
        let written = match self.store.commit(&next.puts) {
            Ok(()) => {
                signs(&next.state, &*self.signer);
                self.write_head(&tip)
            }
            Err(e) => Err(e.into()),
        };
        if let Err(e) = written {
            self.pending = Some(next);
            return Err(e);
        }
        if !signs(&next.state, &*self.signer) {
            return Err(LedgerError::KeyLost(self.signer.id().to_owned()));
        }
        self.tip = tip;
        self.rotations.extend(rotations_in(&next.block));
        self.state = next.state;
        Ok(next.block)
    }

    fn write_head(&mut self, tip: &Tip) -> Result<(), LedgerError> {
        let head = Head::sign(self.state.chain(), tip.height, tip.hash, &*self.signer);
        Ok(self.head.write(&head.to_bytes())?)
    }

    /// The first block: the hub enrols itself.
    fn begin(&mut self, now: Nanos) -> Result<(), LedgerError> {
        let first = Draft::first(now, self.signer.id(), self.signer.public_key());
        self.append(&[first], Vec::new(), now)?;
        Ok(())
    }
}
