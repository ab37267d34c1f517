//! The ledger of a running hub: it appends blocks, and follows the whole chain when it opens.
//!
//! Order of durability: the block with its sealed bytes and key wraps in one commit of the store,
//! then the signed head outside it, then the answer. Whoever has the answer can rely on the block.

use super::assemble::{AssembleError, Tip, assemble};
use super::draft::Draft;
use super::head::{Head, HeadReading, HeadSlot, MAX_ID};
use super::keys::height_key;
use super::replay::{FollowError, Follower, rotations_in};
use super::retention::RetentionError;
use super::retention::keys::rotations;
use super::retention::notice::{Notice, of_record};
use super::retention::retired::Retired;
use super::state::State;
use super::store::{Put, Space, Store, StoreError};
use crate::crypto::Signer;
use crate::model::Nanos;
use std::collections::BTreeMap;
use std::sync::Arc;
use weighbridge_verifier::{
    Block, Content, DecodeError, Hash, IdentityContent, IdentityKind, KeyCache, PublicKey, Record,
    SignatureError, Suite, decode, encode,
};

/// Which chain a ledger keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainConfig {
    /// Its id, 1 to 64 bytes.
    pub id: String,
}

/// Why a ledger cannot be opened or appended to.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The store failed. Nothing was acknowledged; the same drafts can be appended again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The drafts do not make a block. Nothing has changed.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// An earlier block may or may not be in the store: it must be written again first.
    #[error("block {0} is not yet known to be durable: retry it before other drafts are appended")]
    Pending(u64),
    /// There is no block to be written again.
    #[error("there is no block that waits to be written again")]
    NothingPending,
    /// A draft names sealed bytes that did not come with it.
    #[error("the sealed bytes {hash} of draft {index} did not come with it")]
    SealedMissing {
        /// Which draft, from 0.
        index: usize,
        /// What their hash should be.
        hash: Hash,
    },
    /// An id is empty or too long.
    #[error("the id `{0}` must have 1 to 64 bytes")]
    Id(String),
    /// A stored block cannot be read.
    #[error("the ledger is damaged: block {height}: {why}")]
    Decode {
        /// Its height.
        height: u64,
        /// Why.
        why: DecodeError,
    },
    /// A stored block does not follow from the one before.
    #[error("the ledger is damaged: block {height}: {why}")]
    Follow {
        /// Its height.
        height: u64,
        /// Why.
        why: FollowError,
    },
    /// What was retired is not known, or the state that it left cannot be used.
    #[error("the ledger is damaged: {0}")]
    Retention(#[from] RetentionError),
    /// The keyspace of blocks holds a key that is no height.
    #[error("the ledger is damaged: the store holds a block under a key that is no height")]
    Key,
    /// The head cannot be read.
    #[error("the signed head is damaged: {0}")]
    Head(String),
    /// The head's signature is not this hub's.
    #[error("the signed head is not signed by this hub's key: {0}")]
    HeadSignature(#[from] SignatureError),
    /// The chain is of another suite than the keys.
    #[error(
        "the ledger is of suite `{chain}` and the keys are of suite `{keys}`: the first block fixes the \
         suite; another one needs another data directory"
    )]
    Suite {
        /// The chain's.
        chain: Suite,
        /// The keys'.
        keys: Suite,
    },
    /// The store ends before the head.
    #[error(
        "the store is damaged: it ends at block {store}, but block {head} was acknowledged; restore \
         the data directory from a backup, with a new signing key"
    )]
    Behind {
        /// Newest height in the store.
        store: u64,
        /// Height of the head.
        head: u64,
    },
    /// Store and head disagree about a block.
    #[error("the ledger is damaged: block {0} in the store is not the one that was acknowledged")]
    Differs(u64),
    /// There are blocks but no head.
    #[error(
        "the signed head is missing although the store holds {0} blocks: whether its end was lost \
         cannot be told"
    )]
    HeadMissing(u64),
    /// The hub has another key by now.
    #[error(
        "the ledger has given `{hub}` another key than {given}: since then it signs by {current}; put the \
         file of that key where `signing_key` says (the one from before is of no use any more); where a file \
         of the same name with `.next` lies beside it, start the hub, which puts it there"
    )]
    FormerKey {
        /// The hub.
        hub: String,
        /// The key that it had.
        given: PublicKey,
        /// The key that it has.
        current: PublicKey,
    },
    /// A key is on record that is not here.
    #[error("the ledger gives `{0}` a key that it does not have")]
    KeyLost(String),
    /// The ledger was written under another key.
    #[error("the ledger was begun by `{hub}` under another key than the one given")]
    Signer {
        /// The hub of the ledger.
        hub: String,
    },
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
    /// head. An empty store begins with a block that enrols the hub.
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
        for id in [&*chain.id, signer.id()] {
            if id.is_empty() || id.len() > MAX_ID {
                return Err(LedgerError::Id(id.to_owned()));
            }
        }
        let reading = head.read()?;
        let (newest, by_own) = match read_head(&reading, &chain, &*signer) {
            Err(LedgerError::HeadSignature(why)) => {
                return Err(replaced(&*store, &chain, &*signer).unwrap_or(why.into()));
            }
            read => read?,
        };
        let vouching = newest.as_ref().map(|head| (head, by_own));
        let followed = follow_store(&*store, &chain, signer.suite(), vouching)?;
        let (state, tip, rotations) = followed.into_parts();
        let mut ledger = Self {
            store,
            head,
            signer,
            state,
            tip,
            rotations,
            pending: None,
        };
        ledger.check_head(newest.as_ref())?;
        if ledger.tip.height == 0 {
            ledger.begin(now)?;
            return Ok(ledger);
        }
        ledger.check_signer()?;
        // A crash between block and head, or in the middle of writing the head.
        let behind = newest.is_none_or(|h| h.height < ledger.tip.height);
        if behind || !reading.damaged.is_empty() {
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
        let identity = IdentityContent {
            id: self.signer.id().to_owned(),
            kind: IdentityKind::Hub,
            key: Some(self.signer.public_key()),
        };
        let subject = format!("hub:{}", self.signer.id());
        self.append(&[Draft::enrol(now, &subject, identity)], Vec::new(), now)?;
        Ok(())
    }

    fn check_head(&self, head: Option<&Head>) -> Result<(), LedgerError> {
        match head {
            // The very first block may be there without its head: a crash between the two.
            None if self.tip.height > 1 => Err(LedgerError::HeadMissing(self.tip.height)),
            Some(head) if head.height > self.tip.height => Err(LedgerError::Behind {
                store: self.tip.height,
                head: head.height,
            }),
            _ => Ok(()),
        }
    }

    fn check_signer(&self) -> Result<(), LedgerError> {
        let id = self.signer.id();
        let known = self.state.validators().and_then(|v| v.get(id));
        if signs(&self.state, &*self.signer) {
            return Ok(());
        }
        let given = self.signer.public_key();
        if let Some(known) = known.filter(|_| self.state.former_keys(id).contains(&given)) {
            return Err(LedgerError::FormerKey {
                hub: id.to_owned(),
                given,
                current: known.key,
            });
        }
        let hub = self.state.validators().and_then(|v| v.validators.first());
        Err(LedgerError::Signer {
            hub: hub.map_or_else(String::new, |v| v.id.clone()),
        })
    }
}

/// Every draft's sealed bytes must come with it: a block must not name what the store does not hold.
fn check_sealed(drafts: &[Draft], puts: &[Put]) -> Result<(), LedgerError> {
    let of = |p: &Put| (p.space == Space::Sealed).then(|| (p.key.clone(), p.value.len() as u64));
    let there: BTreeMap<Vec<u8>, u64> = puts.iter().filter_map(of).collect();
    for (index, draft) in drafts.iter().enumerate() {
        let Some(sealed) = draft.content.sealed() else {
            continue;
        };
        if there.get(sealed.hash.0.as_slice()) != Some(&sealed.length) {
            let hash = sealed.hash;
            return Err(LedgerError::SealedMissing { index, hash });
        }
    }
    Ok(())
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
fn signs(state: &State, signer: &dyn Signer) -> bool {
    let known = state.validators().and_then(|v| v.get(signer.id()));
    known.is_some_and(|v| v.key == signer.public_key() || signer.succeed(&v.key))
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

/// Follows all blocks of `store`, one at a time; where bodies were retired, from the state that they left.
fn follow_store(
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
            let got = super::keys::height_of(&key).ok_or(LedgerError::Key)?;
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
