//! Verifies a whole ledger offline: every stored byte is either vouched for or named as wrong.
//!
//! Blocks are followed in order (form, place, Merkle root, every record against the state so far,
//! certificate, state hash). Then every sealed value must hash to what a record names, every record's
//! sealed value must be there, every wrapped key must be signed, the index of the history must name
//! what records name, and the signed head must agree. What an erasure took must be gone instead.

mod blocks;
mod erasures;
mod heads;
mod history;
mod keys;
mod open;
mod recipients;
mod retirement;
mod sealed;
mod wraps;

use super::head::HeadReading;
use super::replay::Follower;
use super::report::{Progress, Report, Where};
use super::store::{Space, Store, StoreError};
use erasures::Erasures;
use open::Open;
use recipients::Recipients;
use retirement::Retirement;
use sealed::Named;
use std::collections::{BTreeMap, HashMap};
use weighbridge_verifier::{Hash, KeyCache, PublicKey, SignatureCheck};

/// Verifies the ledger in `store` against its `head`; with `trust`, also that it was begun under this
/// key. What is wrong is in the report; an error means that it could not be verified at all.
pub fn verify_store(
    store: &dyn Store,
    head: &HeadReading,
    trust: Option<&PublicKey>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, StoreError> {
    verify_store_with(store, head, trust, progress, &KeyCache::default())
}

/// The same, with the caller's way of checking signatures.
pub fn verify_store_with(
    store: &dyn Store,
    head: &HeadReading,
    trust: Option<&PublicKey>,
    progress: &mut dyn FnMut(Progress),
    check: &dyn SignatureCheck,
) -> Result<Report, StoreError> {
    let mut verification = Verification {
        store,
        check,
        progress,
        report: Report::new(trust),
        follower: None,
        begun: None,
        joined: Vec::new(),
        broken: false,
        unreadable: false,
        previous: None,
        sealed: HashMap::new(),
        wraps: BTreeMap::new(),
        erasures: Erasures::default(),
        retirement: Retirement::default(),
        recipients: Recipients::default(),
        open: Open::default(),
        head_blocks: BTreeMap::new(),
    };
    let heads = verification.read_heads(head);
    verification.notices()?;
    verification.retirements()?;
    verification.head_blocks = heads.iter().map(|h| (h.height, None)).collect();
    verification.blocks()?;
    verification.trust(trust);
    verification.list_erasures();
    verification.list_retirements();
    verification.open_records()?;
    verification.lacking()?;
    verification.sealed()?;
    verification.wraps()?;
    verification.list_recipients();
    verification.history()?;
    verification.heads(&heads, head);
    Ok(verification.report)
}

struct Verification<'a> {
    store: &'a dyn Store,
    check: &'a dyn SignatureCheck,
    progress: &'a mut dyn FnMut(Progress),
    report: Report,
    /// The chain as far as it follows; `None` before the first block.
    follower: Option<Follower>,
    /// The key under which the chain was begun.
    begun: Option<PublicKey>,
    /// The keys with which hubs came into the set later, and the first block that each could sign.
    joined: Vec<(PublicKey, u64)>,
    /// Whether a block did not follow: the state is not known beyond it.
    broken: bool,
    /// Whether a block could not be read: what it names is not known.
    unreadable: bool,
    /// Height and hash of the block before.
    previous: Option<(u64, Hash)>,
    /// All sealed values that records name.
    sealed: HashMap<Hash, Named>,
    /// All keys that sealed values need, with the first record that needs them.
    wraps: BTreeMap<(String, u64), (u64, usize)>,
    /// What was erased.
    erasures: Erasures,
    /// What was retired.
    retirement: Retirement,
    /// To whom keys are wrapped besides the hub.
    recipients: Recipients,
    /// What no block has yet, and what has not come.
    open: Open,
    /// Hashes of the blocks that the heads name.
    head_blocks: BTreeMap<u64, Option<Hash>>,
}

impl Verification<'_> {
    fn unreadable_space(&mut self, space: Space, error: StoreError) -> Result<(), StoreError> {
        let StoreError::Damaged(why) = error else {
            return Err(error);
        };
        let name = space.name();
        self.report.find(Where::Store { name }, why);
        self.unreadable = true;
        Ok(())
    }
}

#[cfg(test)]
mod several_tests;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
