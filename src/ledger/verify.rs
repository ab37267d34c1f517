//! Verifies a whole ledger offline: every stored byte is either vouched for or named as wrong.
//!
//! Blocks are followed in order (form, place, Merkle root, every record against the state so far,
//! certificate, state hash). Then every sealed value must hash to what a record names, every record's
//! sealed value must be there, every wrapped key must be signed, the index of the history must name
//! what records name, and the signed head must agree. What an erasure took must be gone instead.

mod erasures;
mod keys;
mod recipients;
mod retirement;

use super::head::{Head, HeadReading};
use super::history::index;
use super::key_wrap::{KeyWrap, is_of_reader, read_wrap_key, sealing_key, wrap_prefix};
use super::keys::height_of;
use super::replay::{FollowError, Follower};
use super::report::{Progress, Report, Where};
use super::retention::is_stripped;
use super::store::{Space, Store, StoreError};
use erasures::Erasures;
use recipients::Recipients;
use retirement::Retirement;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use weighbridge_verifier::block::BlockError;
use weighbridge_verifier::{
    Block, Hash, IdentityKind, KeyCache, PublicKey, Record, SignatureCheck, Suite, decode,
};

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
        broken: false,
        unreadable: false,
        previous: None,
        sealed: HashMap::new(),
        wraps: BTreeMap::new(),
        erasures: Erasures::default(),
        retirement: Retirement::default(),
        recipients: Recipients::default(),
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
    verification.sealed()?;
    verification.wraps()?;
    verification.list_recipients();
    verification.history()?;
    verification.heads(&heads, head);
    Ok(verification.report)
}

/// What a record says of a sealed value.
struct Named {
    length: u64,
    height: u64,
    index: usize,
    seen: bool,
    /// Of a batch, how many entries the history's index has for it, and should; of anything else nothing.
    indexed: Option<(u8, u8)>,
    /// Which erasure took it, or its key.
    erased: Option<u32>,
    /// Whether it was retired on record.
    retired: bool,
}

impl Named {
    /// Whether an erasure that was recorded after it took it.
    fn is_erased(&self, erasures: &Erasures) -> bool {
        let place = Some((self.height, self.index));
        self.erased.is_some_and(|at| erasures.holds(at, place))
    }

    /// Whether it is erased, and that is done.
    fn is_gone(&self, erasures: &Erasures) -> bool {
        self.is_erased(erasures) && self.erased.is_some_and(|at| erasures.is_done(at))
    }
}

struct Verification<'a> {
    store: &'a dyn Store,
    check: &'a dyn SignatureCheck,
    progress: &'a mut dyn FnMut(Progress),
    report: Report,
    /// The chain as far as it follows; `None` before the first block.
    follower: Option<Follower>,
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
    /// Hashes of the blocks that the heads name.
    head_blocks: BTreeMap<u64, Option<Hash>>,
}

impl Verification<'_> {
    fn blocks(&mut self) -> Result<(), StoreError> {
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
        let followed = follower.follow(block, Some(self.check));
        let Err(e) = followed else {
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
    fn judge_header(&mut self, height: u64, block: &Block) {
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

    fn name_sealed(&mut self, height: u64, block: &Block) {
        for (index, record) in block.records.iter().enumerate() {
            let Some(sealed) = record.body.sealed() else {
                continue;
            };
            let key = sealing_key(record);
            let batch = record.body.batch();
            let erased = key.as_ref().and_then(|(owner, key_epoch)| match batch {
                Some(batch) => {
                    let which = (batch.epoch, batch.sequence);
                    self.erasures.of_batch(owner, *key_epoch, which)
                }
                None => self.erasures.of_key(owner, *key_epoch),
            });
            let named = Named {
                length: sealed.length,
                height,
                index,
                seen: false,
                indexed: batch.map(|_| (0, 1)),
                erased,
                retired: self.retirement.takes_value(height, &sealed.hash),
            };
            let retired = named.retired;
            self.sealed.insert(sealed.hash, named);
            if let Some((device, epoch)) = key.filter(|_| !retired) {
                let key = (device.into_owned(), epoch);
                self.wraps.entry(key).or_insert((height, index));
            }
        }
    }

    fn trust(&mut self, trust: Option<&PublicKey>) {
        let Some(follower) = &self.follower else {
            return;
        };
        let state = follower.state();
        self.report.chain = state.chain().to_owned();
        self.report.suite = Some(state.suite());
        let first = state.validators().and_then(|v| v.validators.first());
        let begun = self.report.rotations.first().map(|first| first.replaces);
        self.report.key = begun.or(first.map(|v| v.key));
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

    fn sealed(&mut self) -> Result<(), StoreError> {
        let (what, total) = ("sealed bytes", self.sealed.len() as u64);
        let store = self.store;
        for (done, entry) in (0u64..).zip(store.scan(Space::Sealed, &[])) {
            (self.progress)(Progress { what, done, total });
            match entry {
                Ok((key, value)) => self.sealed_value(&key, &value),
                Err(e) => {
                    self.unreadable_space(Space::Sealed, e)?;
                    break;
                }
            }
        }
        let lost = |n: &Named| !n.seen && !n.retired && !n.is_erased(&self.erasures);
        let mut missing: Vec<_> = self.sealed.iter().filter(|(_, n)| lost(n)).collect();
        missing.sort_unstable_by_key(|(_, n)| (n.height, n.index));
        for (hash, named) in missing {
            let place = Where::Record {
                height: named.height,
                index: named.index,
            };
            let what = format!("its sealed bytes {hash} are missing");
            self.report.find(place, what);
        }
        Ok(())
    }

    fn sealed_value(&mut self, key: &[u8], value: &[u8]) {
        self.report.sealed += 1;
        self.report.sealed_bytes += value.len() as u64;
        let place = Where::Sealed { key: hex(key) };
        let follower = self.follower.as_ref();
        let suite = follower.map_or(Suite::Nist, |f| f.state().suite());
        let named = key.try_into().ok().map(Hash);
        let Some(named) = named.and_then(|h| self.sealed.get_mut(&h)) else {
            // What an unreadable block names is not known.
            if !self.unreadable {
                self.report.find(place, "no record names these bytes");
            }
            return;
        };
        named.seen = true;
        // What is no batch may stay: nobody can open it.
        if named.indexed.is_some() && named.is_gone(&self.erasures) {
            let what =
                "these bytes are there although their erasure is recorded: they were put back";
            self.report.find(place.clone(), what);
        }
        if named.retired && self.retirement.is_done() {
            let what =
                "these bytes are there although their retirement is recorded: they were put back";
            self.report.find(place.clone(), what);
        }
        let of = format!("of block {}, record {}", named.height, named.index);
        let length = value.len() as u64;
        if suite.hash(&[value]).0 != key {
            let what = format!("the sealed bytes {of} are changed: their hash is another");
            self.report.find(place, what);
        } else if length != named.length {
            let what = format!(
                "the sealed bytes {of} are {length} bytes long, not {}",
                named.length
            );
            self.report.find(place, what);
        }
    }

    fn wraps(&mut self) -> Result<(), StoreError> {
        let (what, total) = ("wrapped keys", self.wraps.len() as u64);
        let mut seen = BTreeSet::new();
        let store = self.store;
        for (done, entry) in (0u64..).zip(store.scan(Space::Keys, &[])) {
            (self.progress)(Progress { what, done, total });
            let (key, value) = match entry {
                Ok(pair) => pair,
                Err(e) => {
                    self.unreadable_space(Space::Keys, e)?;
                    break;
                }
            };
            self.report.wraps += 1;
            if value.is_empty() {
                self.report.destroyed_keys += 1;
                let place = Where::Keys { key: hex(&key) };
                match read_wrap_key(&key) {
                    None => self
                        .report
                        .find(place, "it is no key that a wrap is kept under"),
                    // Whoever reads no more loses their wraps: what is sealed stays with the hub's.
                    Some((_, _, name)) if is_of_reader(&name) => {
                        self.recipient(&key, &name, false);
                    }
                    Some((device, epoch, _)) => {
                        if self.erasures.takes_key(&device, epoch).is_none() {
                            let what = "it was overwritten, and no record says so";
                            self.report.find(place, what);
                        }
                    }
                }
                continue;
            }
            match self.wrap(&key, &value) {
                Ok(Some(wrap)) => {
                    let taken = self.erasures.takes_key(&wrap.device, wrap.key_epoch);
                    if taken.is_some_and(|at| self.erasures.is_done(at)) {
                        let what = "it is there although its erasure is recorded: it was put back";
                        self.report.find(Where::Keys { key: hex(&key) }, what);
                    }
                    match is_of_reader(&wrap.recipient) {
                        true => self.recipient(&key, &wrap.recipient, true),
                        false => {
                            seen.insert(wrap_prefix(&wrap.device, wrap.key_epoch));
                        }
                    }
                }
                Ok(None) => {}
                Err(what) => self.report.find(Where::Keys { key: hex(&key) }, what),
            }
        }
        for ((device, epoch), (height, index)) in &self.wraps {
            let erased = self.erasures.takes_key(device, *epoch).is_some();
            if !erased && !seen.contains(&wrap_prefix(device, *epoch)) {
                let (height, index) = (*height, *index);
                let what =
                    format!("no hub holds key {epoch} of `{device}`, which it is sealed under");
                self.report.find(Where::Record { height, index }, what);
            }
        }
        Ok(())
    }

    /// The index of the history says nothing that cannot be made up again, but what it does say must be
    /// so: whoever reads through it would miss samples.
    fn history(&mut self) -> Result<(), StoreError> {
        let batches = self.sealed.values().filter(|n| n.indexed.is_some());
        let (what, total) = ("entries of the history", batches.count() as u64);
        let store = self.store;
        let mut entries = 0;
        for (done, entry) in (0u64..).zip(store.scan(Space::History, &[])) {
            (self.progress)(Progress { what, done, total });
            let (key, value) = match entry {
                Ok(pair) => pair,
                Err(e) => return self.unreadable_space(Space::History, e),
            };
            entries += 1;
            if let Err(what) = self.history_entry(&key, &value) {
                let place = Where::History { key: hex(&key) };
                self.report.find(place, what);
            }
        }
        let incomplete = |n: &&Named| {
            let lacks = n.indexed.is_some_and(|(there, of)| there < of);
            lacks && !n.retired && !n.is_erased(&self.erasures)
        };
        let missing = self.sealed.values().filter(incomplete);
        let missing = missing.count();
        // A ledger that an earlier version wrote has none until its hub starts.
        if entries > 0 && missing > 0 {
            let name = Space::History.name();
            let what = format!(
                "{missing} of {total} stored batches lack entries; the hub makes them up when it starts"
            );
            self.report.find(Where::Store { name }, what);
        }
        Ok(())
    }

    fn history_entry(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if index::is_void(key, value) {
            return Ok(());
        }
        let (_, _, span) = index::read(key, value).ok_or("the entry is changed")?;
        let named = self.sealed.get_mut(&span.sealed.hash);
        let Some(named) = named.filter(|n| n.length == span.sealed.length) else {
            // What an unreadable block names is not known.
            return match self.unreadable {
                true => Ok(()),
                false => Err("no record names the batch that the entry names"),
            };
        };
        let Some((there, of)) = &mut named.indexed else {
            return Err("the entry names what is no batch");
        };
        if named.erased.is_some_and(|at| self.erasures.is_done(at)) {
            return Err("the batch that the entry names is erased");
        }
        if named.retired && self.retirement.is_done() {
            return Err("the batch that the entry names is retired");
        }
        if *there > 0 && *of != span.parts || *there >= span.parts {
            return Err("the batch has other entries");
        }
        (*there, *of) = (*there + 1, span.parts);
        Ok(())
    }

    /// Checks one wrap and returns it if it is wrapped to a hub, a reader or escrow; what is wrong with it is the
    /// error.
    fn wrap(&self, key: &[u8], value: &[u8]) -> Result<Option<KeyWrap>, String> {
        let wrap = KeyWrap::from_bytes(value).map_err(|e| e.to_string())?;
        if wrap.key() != key {
            return Err("it is kept under another key than its own".to_owned());
        }
        let Some(state) = self.follower.as_ref().map(Follower::state) else {
            return Err("there is no ledger to judge it by".to_owned());
        };
        if wrap.chain != state.chain() {
            return Err(format!("it belongs to the chain `{}`", wrap.chain));
        }
        let identity = |id: &str| state.identities().get(id);
        let hub = |id: &str| identity(id).filter(|i| i.kind == IdentityKind::Hub);
        let signer = hub(&wrap.hub).and_then(|i| i.key);
        let signer = signer.ok_or_else(|| format!("`{}` is not an enrolled hub", wrap.hub))?;
        // A key that was replaced had signed wraps that are there still.
        let former = state.former_keys(&wrap.hub);
        let before = |key: &PublicKey| wrap.verify(key, self.check).is_ok();
        match wrap.verify(&signer, self.check) {
            Err(why) if !former.iter().any(before) => return Err(why.to_string()),
            _ => {}
        }
        let known = is_of_reader(&wrap.recipient) || hub(&wrap.recipient).is_some();
        Ok(known.then_some(wrap))
    }

    /// Reads the heads, and reports what is damaged.
    fn read_heads(&mut self, reading: &HeadReading) -> Vec<Head> {
        for damaged in &reading.damaged {
            let what = format!(
                "{damaged} is damaged: changed, or torn by a power loss (then the hub repairs it when \
                 it starts)"
            );
            self.report.find(Where::Head, what);
        }
        let mut heads = Vec::new();
        for bytes in &reading.heads {
            match Head::from_bytes(bytes) {
                Ok(head) => heads.push(head),
                Err(e) => self.report.find(Where::Head, e),
            }
        }
        heads
    }

    fn heads(&mut self, heads: &[Head], reading: &HeadReading) {
        let end = self.previous.map_or(0, |(h, _)| h);
        for head in heads {
            if let Err(what) = self.head(head, end) {
                self.report.find(Where::Head, what);
            }
        }
        let newest = heads.first().map_or(0, |h| h.height);
        // One block ahead is a crash between the block and the head.
        if end > newest.saturating_add(1) && reading.damaged.is_empty() {
            let what = match heads.is_empty() {
                true => format!("there is no signed head, but {end} blocks"),
                false => format!("it stands at block {newest}, the store ends at block {end}"),
            };
            self.report.find(Where::Head, what);
        }
        // Every block writes one of the two slots, in turn.
        if end > 1 && heads.len() == 1 && reading.damaged.is_empty() {
            let what = format!("one of its two slots is empty, though there are {end} blocks");
            self.report.find(Where::Head, what);
        }
    }

    fn head(&self, head: &Head, end: u64) -> Result<(), String> {
        if head.height > end {
            return Err(format!(
                "block {} was acknowledged, but the store ends at block {end}",
                head.height
            ));
        }
        let Some(state) = self.follower.as_ref().map(Follower::state) else {
            return Err("there is no ledger to judge it by".to_owned());
        };
        if head.chain != state.chain() {
            return Err(format!("it is of the chain `{}`", head.chain));
        }
        self.head_signature(head, state)?;
        let block = self.head_blocks.get(&head.height).copied().flatten();
        if block.is_some_and(|b| b != head.block_hash) {
            return Err(format!(
                "block {} in the store is not the one it names",
                head.height
            ));
        }
        Ok(())
    }

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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
