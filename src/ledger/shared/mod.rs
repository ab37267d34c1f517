//! The ledger of a hub that shares its chain with others (docs/adr/033).
//!
//! There are two orders of records. Each hub's own records follow one another, and are durable on it before anything
//! is acknowledged: that waits for nobody. The blocks of the chain take of each hub a run of its records; what is in
//! a block the hubs decide, by an engine that is not known here. So what this hub has recorded and no block has yet
//! is *open*: the state it goes on from ([`SharedLedger::state`]) is that of the newest block
//! ([`SharedLedger::committed`]) with its own open records after it.
//!
//! Order of durability: own records with what belongs to them in one commit, then the answer; a decided block with
//! what of it is not here yet in one commit, then the signed head outside the store, then the answer.

mod append;
mod begin;
mod carried;
mod check;
mod decide;
mod elsewhere;
mod known;
pub(in crate::ledger) mod own;
mod pool;
mod propose;
mod touched;

pub use carried::{Carried, MAX_PUTS, Misfit, Want};
pub use check::Checked;
pub use decide::{Committed, Deciding, Settling};
pub(in crate::ledger) use elsewhere::Lacking;
pub use known::Known;
pub use own::LeftOut;
pub use pool::{PoolError, PoolLimits, Wrong};

use super::error::LedgerError;
use super::head::{Head, HeadSlot};
use super::keys::height_key;
use super::replay::Follower;
use super::state::State;
use super::store::{Put, Space, Store, StoreError};
use super::{ChainConfig, Tip};
use crate::crypto::Signer;
use append::Pending;
use own::{Open, Place};
use parking_lot::Mutex;
use pool::Pool;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use touched::Touched;
use weighbridge_verifier::{Block, Hash, PublicKey, Record, SignatureCheck, ValidatorSet, decode};

/// Which chain is shared, and within which bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedConfig {
    /// Its id, 1 to 64 bytes.
    pub id: String,
    /// The hub that began it, and its key then. An empty store of that hub, or where it is not said, begins the
    /// chain; of any other it waits for its blocks.
    pub genesis: Option<(String, PublicKey)>,
    /// Bounds.
    pub limits: SharedLimits,
}

impl SharedConfig {
    /// The chain with this id, within the usual bounds.
    pub fn new(id: &str, genesis: Option<(String, PublicKey)>) -> Self {
        Self {
            id: id.to_owned(),
            genesis,
            limits: SharedLimits::default(),
        }
    }
}

/// Bounds of a shared chain. All hubs of a chain should have the same of blocks and clocks: what one proposes another
/// must take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedLimits {
    /// Records of a block.
    pub block_records: usize,
    /// Bytes of the records of a block; one record may be larger.
    pub block_bytes: usize,
    /// How far the time of a block may be ahead of this hub's clock when it is proposed, ns.
    pub ahead: i64,
    /// What is kept of each other hub.
    pub pool: PoolLimits,
    /// Own records that wait for a block, at most.
    pub open: usize,
}

impl Default for SharedLimits {
    fn default() -> Self {
        Self {
            block_records: 4_096,
            block_bytes: 1 << 20,
            ahead: 10_000_000_000,
            pool: PoolLimits::default(),
            open: 131_072,
        }
    }
}

/// Values that were found to hold and may be decided next: that need not be found out again.
const JUDGED: usize = 8;

/// Where the signed head goes.
type Slot = Arc<Mutex<Box<dyn HeadSlot>>>;

/// The ledger of a hub that shares its chain with others.
pub struct SharedLedger {
    store: Arc<dyn Store>,
    head: Slot,
    signer: Arc<dyn Signer>,
    limits: SharedLimits,
    genesis: Option<(String, PublicKey)>,
    check: Arc<dyn SignatureCheck>,
    /// The chain up to the newest block.
    chain: Follower,
    /// Own records that no block has, in order.
    open: VecDeque<Arc<Open>>,
    /// The state after them.
    state: State,
    /// What of the state they touch.
    touched: Touched,
    /// Rises when open records become other ones.
    generation: u64,
    /// Own records that are not known to be durable.
    pending: Option<Pending>,
    /// Own records up to this number are in blocks and still kept beside them, from that number on.
    leftover: (u64, u64),
    /// What belonged to records that were left out, and is not removed yet.
    drops: Vec<Place>,
    left_out: Vec<LeftOut>,
    /// Wraps of keys whose first record was left out: they go with the next one.
    loose: Vec<Place>,
    pool: Pool,
    /// Hubs whose next record does not go into the next block.
    stuck: BTreeSet<String>,
    /// Values for the next height that hold, with the state after each.
    judged: Mutex<VecDeque<(Hash, State)>>,
    /// The set that decided the newest block, if that was since this hub began.
    signed_by: Option<ValidatorSet>,
    /// The newest block with signatures that came late: it is written with the next one.
    late: Option<Put>,
    /// The newest decision, to be told again.
    told: Option<(Hash, Committed)>,
}

impl SharedLedger {
    /// The state after everything that is durable here: the newest block and this hub's own open records.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The state after the newest block, and that block.
    pub fn committed(&self) -> (&State, &Tip) {
        (self.chain.state(), self.chain.tip())
    }

    /// The newest block.
    pub fn tip(&self) -> &Tip {
        self.chain.tip()
    }

    /// The records by which hubs changed their keys, in order.
    pub fn rotations(&self) -> &[Record] {
        self.chain.rotations()
    }

    /// Height of the first block that hubs decided; `None` before it.
    pub fn shared_from(&self) -> Option<u64> {
        self.chain.shared_from()
    }

    /// This hub's id.
    pub fn hub(&self) -> &str {
        self.signer.id()
    }

    /// Whether this hub is in the set.
    pub fn is_member(&self) -> bool {
        self.chain.state().is_member(self.hub())
    }

    /// What signatures are checked by.
    pub fn signature_check(&self) -> &Arc<dyn SignatureCheck> {
        &self.check
    }

    /// The store, for readers.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The block of a height.
    pub fn block(&self, height: u64) -> Result<Option<Block>, StoreError> {
        let stored = self.store.get(Space::Blocks, &height_key(height))?;
        let read = |bytes: Vec<u8>| decode("block", &bytes);
        let block = stored.map(read).transpose();
        block.map_err(|why| StoreError::Damaged(format!("block {height}: {why}")))
    }

    /// The number of the first of this hub's own records that no block has, that of the newest, and which
    /// generation of them it is. Without any the first is one more than the newest.
    pub fn own_open(&self) -> (u64, u64, u64) {
        let recorded = self.recorded();
        let newest = recorded + self.open.len() as u64;
        (recorded + 1, newest, self.generation)
    }

    /// Open records from number `from` on, with what belongs to them: as many as take `max_bytes`, and one where there
    /// is one.
    pub fn own_run(&self, from: u64, max_bytes: usize) -> Result<Vec<Carried>, LedgerError> {
        let skip = from.saturating_sub(self.recorded() + 1);
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let (mut run, mut bytes) = (Vec::new(), 0usize);
        for open in self.open.iter().skip(skip) {
            let carried = open.carried(&*self.store)?;
            bytes = bytes.saturating_add(carried.size());
            if bytes > max_bytes && !run.is_empty() {
                break;
            }
            run.push(carried);
        }
        Ok(run)
    }

    /// The number of the next record that is needed of `hub`.
    pub fn wanted(&self, hub: &str) -> u64 {
        self.pool.wanted(hub, self.committed_of(hub))
    }

    /// The number of the newest record of `hub` that a block has.
    pub fn committed_of(&self, hub: &str) -> u64 {
        let tip = self.chain.state().hubs().get(hub);
        tip.map_or(0, |tip| tip.sequence)
    }

    /// Takes records of another hub, in order, from one on that is not later than [`wanted`](Self::wanted). From
    /// where they differ from what came before they take its place; how many were taken is told.
    pub fn receive(&mut self, hub: &str, run: Vec<Carried>) -> Result<usize, PoolError> {
        let check = self.check.clone();
        self.receive_checked(hub, run, &*check)
    }

    /// The same, with signatures checked by what knows some of them already.
    pub fn receive_checked(
        &mut self,
        hub: &str,
        run: Vec<Carried>,
        check: &dyn SignatureCheck,
    ) -> Result<usize, PoolError> {
        if hub == self.hub() {
            return Err(PoolError::Own);
        }
        self.stuck.remove(hub);
        let state = self.chain.state();
        self.pool.receive(hub, run, state, check)
    }

    /// Whether there is a record that the next block may have.
    pub fn has_data(&self) -> bool {
        if !self.is_member() {
            return false;
        }
        let moves = |hub: &str| !self.stuck.contains(hub);
        (!self.open.is_empty() && moves(self.hub())) || self.pool.hubs().any(moves)
    }

    /// What was left out of this hub's open records since this was asked last: it is durable, and will not be on
    /// the chain.
    pub fn take_left_out(&mut self) -> Vec<LeftOut> {
        std::mem::take(&mut self.left_out)
    }

    /// The number of this hub's newest record in a block.
    fn recorded(&self) -> u64 {
        self.committed_of(self.hub())
    }

    /// The signed head of a tip.
    fn head_of(&self, tip: &Tip) -> Vec<u8> {
        let chain = self.chain.state().chain();
        Head::sign(chain, tip.height, tip.hash, &*self.signer).to_bytes()
    }

    fn write_head(&self, tip: &Tip) -> Result<(), LedgerError> {
        Ok(self.head.lock().write(&self.head_of(tip))?)
    }
}

impl From<&SharedConfig> for ChainConfig {
    fn from(config: &SharedConfig) -> Self {
        let id = config.id.clone();
        Self { id }
    }
}
