//! Following a chain block by block: what must hold between a block and what came before it.

use super::assemble::Tip;
use super::shape::ApplyError;
use super::state::State;
use weighbridge_verifier::block::BlockError;
use weighbridge_verifier::succession::{KeyChange, key_change};
use weighbridge_verifier::{Block, Record, SignatureCheck, Suite, ValidatorSet, rotation};

/// Why a block may not come next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// The block does not hold on its own.
    #[error("{0}")]
    Block(#[from] BlockError),
    /// It is of another suite than the blocks before.
    #[error("it is of suite `{0}`, the chain is not")]
    Suite(Suite),
    /// It belongs to another chain.
    #[error("it belongs to the chain `{0}`")]
    Chain(String),
    /// Not the next height.
    #[error("its height is {got} where {wanted} was due")]
    Height {
        /// The height that was due.
        wanted: u64,
        /// The height that came.
        got: u64,
    },
    /// It does not point back to the block before.
    #[error("its previous hash is not the hash of the block before")]
    PreviousHash,
    /// It is not younger than the block before.
    #[error("its time is not after that of the block before")]
    Time,
    /// A record is younger than the block.
    #[error("record {0} is younger than the block")]
    RecordTime(usize),
    /// A record may not come next.
    #[error("record {index} does not hold: {why}")]
    Record {
        /// Which record, from 0.
        index: usize,
        /// Why not.
        why: ApplyError,
    },
    /// The records give another state.
    #[error("the records do not give the header's state hash")]
    StateHash,
    /// Only the hubs of a set decide, once they have.
    #[error("a lone hub signed it, although several hubs share the chain since before")]
    Alone,
    /// More records than a block of this chain may have.
    #[error("it has more than {0} records")]
    TooMany(usize),
    /// The hub that made it may not.
    #[error("its proposer `{0}` is not of the validator set")]
    Proposer(String),
}

/// The records of `block` by which hubs change their keys.
pub(in crate::ledger) fn rotations_in(block: &Block) -> impl Iterator<Item = Record> {
    let rotations = block.records.iter();
    rotations.filter(|r| rotation::of_hub(r).is_some()).cloned()
}

/// What `record` changes about `set`, if its signatures hold.
fn change_by(
    record: &Record,
    set: &ValidatorSet,
    check: Option<&dyn SignatureCheck>,
) -> Result<Option<KeyChange>, ApplyError> {
    let Some(change) = key_change(set, &record.body) else {
        return Ok(None);
    };
    if let Some(check) = check {
        record.verify_with(&change.old, check)?;
        if let Some((rotation, _)) = rotation::of_hub(record) {
            rotation.verify_with(record.body.suite(), &record.body.chain, check)?;
        }
    }
    Ok(Some(change))
}

/// A chain as far as it was followed.
#[derive(Clone, Debug)]
pub struct Follower {
    state: State,
    tip: Tip,
    rotations: Vec<Record>,
    /// Who signs the next block, while the state is behind.
    passed: Option<ValidatorSet>,
    /// The first block that the hubs of a set decided.
    shared: Option<u64>,
}

impl Follower {
    /// At the beginning of chain `chain`, which is of `suite`.
    pub fn new(suite: Suite, chain: &str) -> Self {
        Self {
            state: State::new(suite, chain),
            tip: Tip::NONE,
            rotations: Vec::new(),
            passed: None,
            shared: None,
        }
    }

    /// From the block at `tip` on, after which the state is `state`, when hubs had changed their keys by
    /// `rotations`.
    pub fn from(state: State, tip: Tip, rotations: Vec<Record>) -> Self {
        Self {
            state,
            tip,
            rotations,
            passed: None,
            shared: None,
        }
    }

    /// Goes on past a block whose body may be gone: its place, its proposer and its certificate are checked, and
    /// keys of hubs that it changes. The state stays behind until it is [`adopt`](Self::adopt)ed. After an error
    /// nothing has changed.
    pub fn pass(
        &mut self,
        block: &Block,
        check: Option<&dyn SignatureCheck>,
    ) -> Result<(), FollowError> {
        self.check_place(block)?;
        self.check_commit(block, self.validators(), check)?;
        if rotations_in(block).next().is_some() {
            block.verify_body()?;
            let mut set = self.validators().cloned().ok_or(BlockError::MalformedSet)?;
            for (index, record) in block.records.iter().enumerate() {
                let change = change_by(record, &set, check);
                let change = change.map_err(|why| FollowError::Record { index, why })?;
                change.iter().for_each(|change| set.change(change));
            }
            self.passed = Some(set);
            self.rotations.extend(rotations_in(block));
        }
        self.go_to(block);
        Ok(())
    }

    /// Takes over the state after the newest block followed, if it has the hubs that sign the next one; whether it
    /// has.
    pub fn adopt(&mut self, state: State) -> bool {
        if state.validators() != self.validators() {
            return false;
        }
        (self.state, self.passed) = (state, None);
        true
    }

    /// The hubs that sign the next block; `None` before the first.
    pub fn validators(&self) -> Option<&ValidatorSet> {
        self.passed.as_ref().or(self.state.validators())
    }

    /// The state after the newest block followed.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The newest block followed.
    pub fn tip(&self) -> &Tip {
        &self.tip
    }

    /// Height of the first block that the hubs of a set decided; `None` as long as one hub decides alone.
    pub fn shared_from(&self) -> Option<u64> {
        self.shared
    }

    /// The records by which hubs changed their keys, in order.
    pub fn rotations(&self) -> &[Record] {
        &self.rotations
    }

    /// State, tip, and the records by which hubs changed their keys.
    pub fn into_parts(self) -> (State, Tip, Vec<Record>) {
        (self.state, self.tip, self.rotations)
    }

    /// Follows one block. With `check` all signatures are verified. Without it they are taken as
    /// holding: for blocks under a hash that this hub itself has signed. After an error nothing has
    /// changed.
    pub fn follow(
        &mut self,
        block: &Block,
        check: Option<&dyn SignatureCheck>,
    ) -> Result<(), FollowError> {
        let state = self.judge(block, &|_| check, check)?;
        self.step(block, state);
        Ok(())
    }

    /// The state after `block`, if it may come next. `records` says by what the signatures of a record are
    /// verified, where they are; `commit` by what the block's certificate is.
    pub(in crate::ledger) fn judge<'c>(
        &self,
        block: &Block,
        records: &dyn Fn(&Record) -> Option<&'c dyn SignatureCheck>,
        commit: Option<&dyn SignatureCheck>,
    ) -> Result<State, FollowError> {
        self.check_place(block)?;
        block.verify_body()?;
        let mut state = self.state.clone();
        for (index, record) in block.records.iter().enumerate() {
            if record.body.time > block.header.time {
                return Err(FollowError::RecordTime(index));
            }
            match records(record) {
                Some(check) => state.apply_with(record, check),
                None => state.apply_signed(&record.body, record.body.hash()),
            }
            .map_err(|why| FollowError::Record { index, why })?;
        }
        // The first block is signed by the set that it makes, every other one by the set before it.
        let set = self.state.validators().or(state.validators());
        self.check_commit(block, set, commit)?;
        if state.hash() != block.header.state_hash {
            return Err(FollowError::StateHash);
        }
        Ok(state)
    }

    /// Goes on to `block`, after which the state is `state`: what [`judge`](Self::judge) said.
    pub(in crate::ledger) fn step(&mut self, block: &Block, state: State) {
        self.state = state;
        self.rotations.extend(rotations_in(block));
        self.go_to(block);
    }

    fn go_to(&mut self, block: &Block) {
        self.tip = Tip::of(&block.header);
        if block.header.is_shared() {
            self.shared = self.shared.or(Some(self.tip.height));
        }
    }

    fn check_place(&self, block: &Block) -> Result<(), FollowError> {
        let header = &block.header;
        header.check_version()?;
        if header.suite() != self.state.suite() {
            return Err(FollowError::Suite(header.suite()));
        }
        if header.chain != self.state.chain() {
            return Err(FollowError::Chain(header.chain.clone()));
        }
        if Some(header.height) != self.tip.height.checked_add(1) {
            return Err(FollowError::Height {
                wanted: self.tip.height.saturating_add(1),
                got: header.height,
            });
        }
        if self.shared.is_some() && !header.is_shared() {
            return Err(FollowError::Alone);
        }
        if header.previous_hash != self.tip.hash {
            return Err(FollowError::PreviousHash);
        }
        if header.time <= self.tip.time {
            return Err(FollowError::Time);
        }
        Ok(())
    }

    pub(in crate::ledger) fn check_commit(
        &self,
        block: &Block,
        set: Option<&ValidatorSet>,
        check: Option<&dyn SignatureCheck>,
    ) -> Result<(), FollowError> {
        let set = set.ok_or(BlockError::MalformedSet)?;
        let proposer = &block.header.proposer;
        if set.get(proposer).is_none() {
            return Err(FollowError::Proposer(proposer.clone()));
        }
        match check {
            Some(check) => block
                .certificate
                .verify_with(&block.header, set, check)
                .map_err(FollowError::from),
            None if set.hash(self.state.suite()) != block.header.validators_hash => {
                Err(BlockError::ValidatorSet.into())
            }
            None => Ok(()),
        }
    }
}
