//! Following a chain block by block: what must hold between a block and what came before it.

use super::assemble::Tip;
use super::shape::ApplyError;
use super::state::State;
use weighbridge_verifier::block::{BlockError, verify_body};
use weighbridge_verifier::succession::{KeyChange, key_change};
use weighbridge_verifier::{
    Block, BlockHeader, Record, SignatureCheck, Suite, ValidatorSet, rotation,
};

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
    /// A chain of several hubs never becomes one of a lone hub again: that one's word alone would count.
    #[error("it is signed by a hub for itself, after blocks that several hubs decided")]
    Alone,
    /// The body of a block by several hubs is not retired: votes in it say who signs the next ones.
    #[error("several hubs decided it, and its body is gone")]
    SharedBody,
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

    /// From the block at `tip` on, which a lone hub signed and after which the state is `state`, when it had
    /// changed its key by `rotations`.
    pub fn from(state: State, tip: Tip, rotations: Vec<Record>) -> Self {
        Self {
            state,
            tip,
            rotations,
            passed: None,
            shared: None,
        }
    }

    /// From the block with `header` on, after which the state is `state`. Earlier changes of keys are not
    /// kept.
    pub fn at(state: State, header: &BlockHeader) -> Self {
        Self {
            state,
            tip: Tip::of(header),
            rotations: Vec::new(),
            passed: None,
            shared: header.is_shared().then_some(header.height),
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
        self.check_place(&block.header)?;
        if block.header.is_shared() {
            return Err(FollowError::SharedBody);
        }
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

    /// Whether several hubs decided the newest block followed, and so decide all that come.
    pub fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// The newest block followed.
    pub fn tip(&self) -> &Tip {
        &self.tip
    }

    /// Height of the first block followed that the hubs of a set decided; `None` as long as one hub decides alone.
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
        let header = &block.header;
        let state = self.apply(header, &block.records, &|_| check)?;
        self.check_commit(block, self.signers(&state), check)?;
        if state.hash() != header.state_hash {
            return Err(FollowError::StateHash);
        }
        self.step(block, state);
        Ok(())
    }

    /// The state after a block that nobody has certified yet, if it may come next: everything about it is
    /// checked but a certificate.
    pub fn state_after(
        &self,
        header: &BlockHeader,
        records: &[Record],
        check: Option<&dyn SignatureCheck>,
    ) -> Result<State, FollowError> {
        self.judge(header, records, &|_| check)
    }

    /// The same, where `check` says by what the signatures of a record are verified, if they are.
    pub(in crate::ledger) fn judge<'c>(
        &self,
        header: &BlockHeader,
        records: &[Record],
        check: &dyn Fn(&Record) -> Option<&'c dyn SignatureCheck>,
    ) -> Result<State, FollowError> {
        let state = self.apply(header, records, check)?;
        self.check_set(header, self.signers(&state))?;
        match state.hash() == header.state_hash {
            true => Ok(state),
            false => Err(FollowError::StateHash),
        }
    }

    /// Goes on to `block`, which may come next, and after which the state is `state`.
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

    /// The first block is signed by the set that it makes, every other one by the set before it.
    fn signers<'a>(&'a self, after: &'a State) -> Option<&'a ValidatorSet> {
        self.state.validators().or(after.validators())
    }

    fn apply<'c>(
        &self,
        header: &BlockHeader,
        records: &[Record],
        check: &dyn Fn(&Record) -> Option<&'c dyn SignatureCheck>,
    ) -> Result<State, FollowError> {
        self.check_place(header)?;
        verify_body(header, records)?;
        let mut state = self.state.clone();
        for (index, record) in records.iter().enumerate() {
            if record.body.time > header.time {
                return Err(FollowError::RecordTime(index));
            }
            match check(record) {
                Some(check) => state.apply_with(record, check),
                None => state.apply_signed(&record.body, record.body.hash()),
            }
            .map_err(|why| FollowError::Record { index, why })?;
        }
        Ok(state)
    }

    fn check_place(&self, header: &BlockHeader) -> Result<(), FollowError> {
        header.check_version()?;
        if self.is_shared() && !header.is_shared() {
            return Err(FollowError::Alone);
        }
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
        block.certificate.check_kind(&block.header)?;
        let set = self.check_set(&block.header, set)?;
        match check {
            Some(check) => {
                let held = block.certificate.verify_with(&block.header, set, check);
                held.map_err(FollowError::from)
            }
            None => Ok(()),
        }
    }

    /// Whether `set` is the one that the block names, and who made it is of it.
    fn check_set<'a>(
        &self,
        header: &BlockHeader,
        set: Option<&'a ValidatorSet>,
    ) -> Result<&'a ValidatorSet, FollowError> {
        let set = set.ok_or(BlockError::MalformedSet)?;
        let proposer = &header.proposer;
        if set.get(proposer).is_none() {
            return Err(FollowError::Proposer(proposer.clone()));
        }
        match set.hash(self.state.suite()) == header.validators_hash {
            true => Ok(set),
            false => Err(BlockError::ValidatorSet.into()),
        }
    }
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
