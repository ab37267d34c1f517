//! From drafts to a signed block: a pure function of the state, the tip and the clock.

use super::draft::Draft;
use super::facts::HubTip;
use super::shape::ApplyError;
use super::state::State;
use crate::crypto::Signer;
use crate::model::Nanos;
use weighbridge_verifier::block::{BLOCK_VERSION, commit_preimage};
use weighbridge_verifier::record::RECORD_VERSION;
use weighbridge_verifier::{
    Block, BlockHeader, CommitCertificate, CommitSignature, Hash, Record, RecordBody,
};

/// The newest block of a chain, as the next one needs to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// Its height; 0 before the first block.
    pub height: u64,
    /// Its hash; [`Hash::ZERO`] before the first block.
    pub hash: Hash,
    /// Its time, ns since 1970.
    pub time: Nanos,
}

impl Tip {
    /// Before the first block.
    pub const NONE: Self = Self {
        height: 0,
        hash: Hash::ZERO,
        time: 0,
    };

    /// The tip that `header` makes.
    pub fn of(header: &BlockHeader) -> Self {
        Self {
            height: header.height,
            hash: header.hash(),
            time: header.time,
        }
    }
}

/// Why drafts do not make a block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssembleError {
    /// There is nothing to record, and blocks are never empty.
    #[error("there is nothing to record")]
    Empty,
    /// More drafts than a block can count.
    #[error("a block cannot hold {0} records")]
    TooMany(usize),
    /// A draft may not come next.
    #[error("draft {index} cannot be recorded: {why}")]
    Draft {
        /// Which draft, from 0.
        index: usize,
        /// Why not.
        why: ApplyError,
    },
    /// After its own new key a hub can sign nothing more in the same block.
    #[error("draft {0} gives the hub another key, and is not the last one")]
    NotLast(usize),
    /// Who is in the set is voted on in blocks that the hubs of a set decide.
    #[error("draft {0} is of a kind that only blocks of several hubs hold")]
    OfSeveral(usize),
    /// A height or a time cannot be counted further.
    #[error("the chain has reached its end")]
    Exhausted,
}

/// The block after `tip` that records `drafts` in order, signed by `signer` for itself, and the state after it.
///
/// `state` is the state after `tip`; it is not changed. `now` is the hub's clock: a clock that stands
/// still or goes back moves on with the smallest step, because the chain's time only rises.
pub fn assemble(
    drafts: &[Draft],
    state: &State,
    tip: &Tip,
    signer: &dyn Signer,
    now: Nanos,
) -> Result<(Block, State), AssembleError> {
    if drafts.is_empty() {
        return Err(AssembleError::Empty);
    }
    let record_count =
        u32::try_from(drafts.len()).map_err(|_| AssembleError::TooMany(drafts.len()))?;
    let mut after = state.clone();
    let mut records = Vec::with_capacity(drafts.len());
    for (index, draft) in drafts.iter().enumerate() {
        if draft.rotates(signer.id()) && index + 1 < drafts.len() {
            return Err(AssembleError::NotLast(index));
        }
        if draft.content.is_of_several() {
            return Err(AssembleError::OfSeveral(index));
        }
        let (record, hash) = sign_record(draft, &after, signer, now);
        after
            .apply_signed(&record.body, hash)
            .map_err(|why| AssembleError::Draft { index, why })?;
        records.push(record);
    }
    let newest = records.last().map_or(now, |r| r.body.time);
    let earliest = tip.time.checked_add(1).ok_or(AssembleError::Exhausted)?;
    // The set that a block makes signs from the next one on; only the first makes its own.
    let validators = state.validators().or(after.validators());
    let validators = validators.ok_or(AssembleError::Exhausted)?;
    let header = BlockHeader {
        version: after.suite().marked(BLOCK_VERSION),
        chain: after.chain().to_owned(),
        height: tip.height.checked_add(1).ok_or(AssembleError::Exhausted)?,
        previous_hash: tip.hash,
        time: now.max(earliest).max(newest),
        record_count,
        merkle_root: Block::merkle_root(after.suite(), &records),
        state_hash: after.hash(),
        validators_hash: validators.hash(after.suite()),
        proposer: signer.id().to_owned(),
    };
    let signature = CommitSignature {
        validator: signer.id().to_owned(),
        signature: signer.sign_preimage(&commit_preimage(&header)),
    };
    let certificate = CommitCertificate {
        signatures: vec![signature],
    };
    let block = Block {
        header,
        records,
        certificate: certificate.into(),
    };
    Ok((block, after))
}

/// The next record of the signer's own chain, which has come to where `state` has it, and its hash.
pub(crate) fn sign_record(
    draft: &Draft,
    state: &State,
    signer: &dyn Signer,
    now: Nanos,
) -> (Record, Hash) {
    let tip = state.hubs().get(signer.id()).unwrap_or(&HubTip::NONE);
    let body = RecordBody {
        version: state.suite().marked(RECORD_VERSION),
        chain: state.chain().to_owned(),
        hub: signer.id().to_owned(),
        sequence: tip.sequence.saturating_add(1),
        previous: tip.hash,
        // Not in the future, where a wrong clock may have put it, and not before the record before.
        time: draft.time.min(now).max(tip.time),
        subject: draft.subject.clone(),
        action: draft.action,
        object: draft.object.clone(),
        permit: draft.permit,
        content: draft.content.clone(),
        response: draft.response,
    };
    let preimage = body.preimage();
    let hash = body.suite().hash(&[&preimage]);
    let signature = signer.sign_preimage(&preimage);
    (Record { body, signature }, hash)
}
