//! Following the blocks that a store holds.

use super::error::LedgerError;
use super::head::Head;
use super::keys::{height_key, height_of};
use super::replay::{FollowError, Follower};
use super::retention::RetentionError;
use super::retention::keys::rotations;
use super::retention::notice::{Notice, of_record};
use super::retention::retired::Retired;
use super::store::{Space, Store};
use super::writer::ChainConfig;
use weighbridge_verifier::{Block, KeyCache, Suite, decode};

/// Follows all blocks of `store`, one at a time; where bodies were retired, from the state that they left.
pub(super) fn follow_store(
    store: &dyn Store,
    chain: &ChainConfig,
    suite: Suite,
    head: Option<(&Head, bool)>,
) -> Result<Follower, LedgerError> {
    let check = KeyCache::default();
    let retired = Retired::load(store)?;
    let mut follower = match retired.start(store)? {
        Some((state, tip)) => {
            let rotations = rotations(store, tip.height, &state)?;
            Follower::from(state, tip, rotations)
        }
        None => Follower::new(suite, &chain.id),
    };
    // What vouches for that state, and for what else is gone.
    let mut unnamed = retired.newest().map(Notice::hash);
    if follower.state().suite() != suite || follower.state().chain() != chain.id {
        let other = FollowError::Chain(follower.state().chain().to_owned());
        return Err(LedgerError::Follow {
            height: follower.tip().height,
            why: other,
        });
    }
    for entry in store.scan(Space::Blocks, &height_key(follower.tip().height + 1)) {
        let (key, value) = entry?;
        let height = follower.tip().height + 1;
        if key != height_key(height) {
            let got = height_of(&key).ok_or(LedgerError::Key)?;
            let why = FollowError::Height {
                wanted: height,
                got,
            };
            return Err(LedgerError::Follow { height, why });
        }
        let block: Block =
            decode("block", &value).map_err(|why| LedgerError::Decode { height, why })?;
        let vouched = head.is_some_and(|(h, by_own)| by_own && height <= h.height);
        let check = (!vouched).then_some(&check as &dyn weighbridge_verifier::SignatureCheck);
        follower
            .follow(&block, check)
            .map_err(|why| LedgerError::Follow { height, why })?;
        let mut named = block.records.iter().filter_map(|r| of_record(&r.body));
        if named.any(|hash| Some(hash) == unnamed) {
            unnamed = None;
        }
        let newest = head.filter(|(h, _)| h.height == height);
        if newest.is_some_and(|(h, _)| h.block_hash != follower.tip().hash) {
            return Err(LedgerError::Differs(height));
        }
    }
    if unnamed.is_some() {
        let what = "no record names the newest notice of a retirement".to_owned();
        return Err(RetentionError::Damaged(what).into());
    }
    Ok(follower)
}
