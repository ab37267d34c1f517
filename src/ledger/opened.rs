//! Opening a ledger: the chain in the store, as far as the signed head and the signatures in it vouch for it.

use super::error::LedgerError;
use super::following::follow_store;
use super::head::{Head, HeadReading, HeadSlot, MAX_ID};
use super::keys::height_of;
use super::replay::Follower;
use super::state::State;
use super::store::{Space, Store};
use super::writer::ChainConfig;
use crate::crypto::Signer;
use weighbridge_verifier::KeyCache;

/// What was found where a ledger is kept.
pub(super) struct Opened {
    /// The chain as far as it goes.
    pub(super) chain: Follower,
    /// Whether the head must be written anew: it is behind or torn, after a crash between block and head or in
    /// the middle of writing the head.
    pub(super) repair: bool,
}

/// Reads head and store of this chain, and checks that the one does not end before the other.
pub(super) fn open_chain(
    store: &dyn Store,
    head: &mut dyn HeadSlot,
    chain: &ChainConfig,
    signer: &dyn Signer,
) -> Result<Opened, LedgerError> {
    for id in [&*chain.id, signer.id()] {
        if id.is_empty() || id.len() > MAX_ID {
            return Err(LedgerError::Id(id.to_owned()));
        }
    }
    let reading = head.read()?;
    let (newest, by_own) = match read_head(&reading, chain, signer) {
        Err(LedgerError::HeadSignature(why)) => {
            return Err(replaced(store, chain, signer).unwrap_or(why.into()));
        }
        read => read?,
    };
    let vouching = newest.as_ref().map(|head| (head, by_own));
    let chain = follow_store(store, chain, signer.suite(), vouching)?;
    let height = chain.tip().height;
    match &newest {
        // The very first block may be there without its head: a crash between the two.
        None if height > 1 => return Err(LedgerError::HeadMissing(height)),
        Some(head) if head.height > height => {
            return Err(LedgerError::Behind {
                store: height,
                head: head.height,
            });
        }
        _ => {}
    }
    let behind = newest.is_none_or(|head| head.height < height);
    let repair = behind || !reading.damaged.is_empty();
    Ok(Opened { chain, repair })
}

/// Checks that no record of `hub` waits in `store` for other hubs, when blocks have what `state` has.
pub(super) fn check_nothing_open(
    store: &dyn Store,
    state: &State,
    hub: &str,
) -> Result<(), LedgerError> {
    let recorded = state.hubs().get(hub).map_or(0, |tip| tip.sequence);
    let newest = store.last(Space::Own)?;
    match newest.and_then(|(key, _)| height_of(&key)) {
        Some(open) if open > recorded => Err(LedgerError::OpenRecords(open)),
        _ => Ok(()),
    }
}

/// The newest head, and whether it is signed by the hub's own key, not by the one that is to follow: that one
/// vouches for nothing before the chain has said so itself.
fn read_head(
    reading: &HeadReading,
    chain: &ChainConfig,
    signer: &dyn Signer,
) -> Result<(Option<Head>, bool), LedgerError> {
    let Some(bytes) = reading.heads.first() else {
        // A first head that was torn leaves one damaged slot; then only the first block can be there.
        return Ok((None, true));
    };
    let head = Head::from_bytes(bytes).map_err(|e| LedgerError::Head(e.to_string()))?;
    if head.chain != chain.id {
        let why = format!("it is of the chain `{}`, not `{}`", head.chain, chain.id);
        return Err(LedgerError::Head(why));
    }
    let (chain, keys) = (head.suite(), signer.suite());
    if chain != keys {
        return Err(LedgerError::Suite { chain, keys });
    }
    let check = KeyCache::default();
    if let Err(why) = head.verify(&signer.public_key(), &check) {
        // Or by the key that was to follow, when the hub ended before its file had taken its place.
        let next = signer.successor().ok_or(why)?;
        head.verify(&next, &check).map_err(|_| why)?;
        return Ok((Some(head), false));
    }
    Ok((Some(head), true))
}

/// Whether `signer` has the key that `state` has of it; goes over to its next one where that is it.
pub(super) fn signs(state: &State, signer: &dyn Signer) -> bool {
    let known = state.validators().and_then(|v| v.get(signer.id()));
    known.is_some_and(|v| v.key == signer.public_key() || signer.succeed(&v.key))
}

/// Whether `signer` has the key that the chain has of it; why not is the error.
pub(super) fn check_signer(state: &State, signer: &dyn Signer) -> Result<(), LedgerError> {
    if signs(state, signer) {
        return Ok(());
    }
    let (id, given) = (signer.id(), signer.public_key());
    let known = state.validators().and_then(|v| v.get(id));
    if let Some(known) = known.filter(|_| state.former_keys(id).contains(&given)) {
        return Err(LedgerError::FormerKey {
            hub: id.to_owned(),
            given,
            current: known.key,
        });
    }
    let hub = state.validators().and_then(|v| v.validators.first());
    Err(LedgerError::Signer {
        hub: hub.map_or_else(String::new, |v| v.id.clone()),
    })
}

/// What is wrong when the head is signed by a key that took the place of `signer`'s.
fn replaced(store: &dyn Store, chain: &ChainConfig, signer: &dyn Signer) -> Option<LedgerError> {
    let followed = follow_store(store, chain, signer.suite(), None).ok()?;
    let state = followed.state();
    let (hub, given) = (signer.id(), signer.public_key());
    let current = state.validators()?.get(hub)?.key;
    let was = state.former_keys(hub).contains(&given);
    was.then(|| LedgerError::FormerKey {
        hub: hub.to_owned(),
        given,
        current,
    })
}
