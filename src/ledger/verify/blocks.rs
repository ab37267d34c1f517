//! The blocks in their order: form, place, Merkle root, every record against the state so far, certificate,
//! state hash; and by whom the ledger was begun.

use super::{Verification, hex};
use crate::ledger::keys::height_of;
use crate::ledger::replay::{FollowError, Follower};
use crate::ledger::report::{Progress, Where};
use crate::ledger::retention::is_stripped;
use crate::ledger::store::{Space, StoreError};
use weighbridge_verifier::block::BlockError;
use weighbridge_verifier::{Block, Hash, PublicKey, Record, decode};

impl Verification<'_> {
    pub(super) fn blocks(&mut self) -> Result<(), StoreError> {
        let last = self.store.last(Space::Blocks);
        let total = match last {
            Ok(last) => last.and_then(|(k, _)| height_of(&k)).unwrap_or(0),
            Err(e) => return self.unreadable_space(Space::Blocks, e),
        };
        let what = "blocks";
        let store = self.store;
        for (done, entry) in (0u64..).zip(store.scan(Space::Blocks, &[])) {
            (self.progress)(Progress { what, done, total });
            match entry {
                Ok((key, value)) => self.stored_block(&key, &value),
                Err(e) => {
                    self.unreadable_space(Space::Blocks, e)?;
                    break;
                }
            }
        }
        if self.previous.is_none() && !self.unreadable {
            let name = Space::Blocks.name();
            self.report.find(Where::Store { name }, "there is no block");
        }
        if let Some(follower) = &self.follower {
            let tip = follower.tip();
            self.report.height = tip.height;
            self.report.block_hash = tip.hash;
            self.report.state_hash = follower.state().hash();
            self.report.totals = *follower.state().totals();
        }
        Ok(())
    }

    fn stored_block(&mut self, key: &[u8], value: &[u8]) {
        let Some(height) = height_of(key) else {
            let name = Space::Blocks.name();
            let what = format!("the key {} is no height", hex(key));
            self.report.find(Where::Store { name }, what);
            return;
        };
        let place = Where::Block { height };
        let wanted = self.previous.map_or(1, |(h, _)| h.saturating_add(1));
        if height != wanted {
            let what = format!("block {wanted} is missing before it");
            self.report.find(place.clone(), what);
            self.broken = true;
        }
        let block: Block = match decode("block", value) {
            Ok(block) => block,
            Err(e) => {
                self.report.find(place, e);
                self.broken = true;
                self.unreadable = true;
                // Its hash is what the next block says it is; that one can still be judged alone.
                self.previous = Some((height, Hash::ZERO));
                return;
            }
        };
        self.name_sealed(height, &block);
        self.name_erasures(height, &block);
        self.name_retirements(height, &block);
        self.name_recipients(height, &block);
        let hash = block.header.hash();
        if let Some(slot) = self.head_blocks.get_mut(&height) {
            *slot = Some(hash);
        }
        if self.retirement.takes_body(height) {
            self.retired_block(height, &block);
        } else if is_stripped(&block) {
            let what = "its body is missing, and no record says that it was retired: it is lost";
            self.report.find(Where::Block { height }, what);
            self.broken = true;
            self.unreadable = true;
        } else if self.broken {
            self.judge_alone(height, &block);
        } else {
            self.follow(height, &block);
        }
        self.previous = Some((height, hash));
    }

    /// A block whose place in the chain can be judged.
    fn follow(&mut self, height: u64, block: &Block) {
        let follower = self
            .follower
            .get_or_insert_with(|| Follower::new(block.header.suite(), &block.header.chain));
        let before = follower.validators().cloned();
        let followed = follower.follow(block, Some(self.check));
        let Err(e) = followed else {
            self.note_hubs(height, block, before.as_ref());
            return self.note_keys(height, block);
        };
        self.broken = true;
        match e {
            FollowError::Record { index, why } => {
                self.report.find(Where::Record { height, index }, why);
            }
            FollowError::Block(BlockError::MerkleRoot) => {
                self.report
                    .find(Where::Block { height }, BlockError::MerkleRoot);
                self.blame_records(height, block);
            }
            other => self.report.find(Where::Block { height }, other),
        }
    }

    /// A block after one that does not follow: what can be said of it without the state before it.
    fn judge_alone(&mut self, height: u64, block: &Block) {
        if let Err(e) = block.verify_body() {
            self.report.find(Where::Block { height }, &e);
            self.blame_records(height, block);
        }
        self.judge_header(height, block);
    }

    /// The same of its header and certificate.
    pub(super) fn judge_header(&mut self, height: u64, block: &Block) {
        let place = Where::Block { height };
        if block.header.height != height {
            let what = format!("it says that its height is {}", block.header.height);
            self.report.find(place.clone(), what);
        }
        let before = self.previous.map(|(_, hash)| hash);
        if before.is_some_and(|b| b != Hash::ZERO && b != block.header.previous_hash) {
            self.report.find(place.clone(), FollowError::PreviousHash);
        }
        let set = self.follower.as_ref().and_then(Follower::validators);
        if let Some(set) = set
            && let Err(e) = block
                .certificate
                .verify_with(&block.header, set, self.check)
        {
            self.report.find(place, e);
        }
    }

    /// Names the records of a block whose Merkle root is wrong that do not hold on their own.
    fn blame_records(&mut self, height: u64, block: &Block) {
        let Some(state) = self.follower.as_ref().map(Follower::state) else {
            return;
        };
        let key_of = |record: &Record| state.signing_key(record).ok();
        for (index, record) in block.records.iter().enumerate() {
            let Some(key) = key_of(record) else { continue };
            if let Err(e) = record.verify_with(&key, self.check) {
                self.report.find(Where::Record { height, index }, e);
            }
        }
    }

    pub(super) fn trust(&mut self, trust: Option<&PublicKey>) {
        let Some(follower) = &self.follower else {
            return;
        };
        let state = follower.state();
        self.report.chain = state.chain().to_owned();
        self.report.suite = Some(state.suite());
        let first = state.validators().and_then(|v| v.validators.first());
        self.report.key = self.begun.or(first.map(|v| v.key));
        if let (Some(trust), Some(key)) = (trust, self.report.key)
            && !self.has_signed(trust)
        {
            let what = match self.report.rotations.is_empty() {
                true => format!("the ledger was begun under the key {key}, not the trusted one"),
                false => format!(
                    "the ledger was begun under the key {key}, and the trusted one has signed nothing of it"
                ),
            };
            self.report.find(Where::Block { height: 1 }, what);
        }
    }
}
