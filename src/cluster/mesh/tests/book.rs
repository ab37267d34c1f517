//! A chain in memory, as far as the links need one.

use crate::cluster::ports::{Fault, LentWraps, MeshBook, OwnRun};
use crate::crypto::SealingWord;
use crate::ledger::shared::{Carried, Want};
use crate::ledger::store::{Put, Space};
use crate::ledger::testing::batch_content;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use tokio::sync::watch;
use weighbridge_verifier::record::{Action, Content, RECORD_VERSION, RecordBody, Response};
use weighbridge_verifier::{Hash, PublicKey, Record, Signature, Suite};

pub(super) const CHAIN: &str = "hall";

/// A record of `hub` after `previous`, with sealed bytes of this length.
pub(super) fn carried(hub: &str, sequence: u64, previous: Hash, bytes: usize) -> Carried {
    let mut batch = batch_content(Suite::Nist, hub, 1, sequence);
    let value = vec![sequence as u8; bytes];
    if let Some(sealed) = &mut batch.sealed {
        sealed.hash = Suite::Nist.hash(&[&value]);
        sealed.length = bytes as u64;
    }
    let key = batch.sealed.unwrap().hash.0.to_vec();
    let body = RecordBody {
        version: Suite::Nist.marked(RECORD_VERSION),
        chain: CHAIN.to_owned(),
        hub: hub.to_owned(),
        sequence,
        previous,
        time: sequence as i64,
        subject: format!("hub:{hub}"),
        action: Action::Store,
        object: format!("device:{hub}"),
        permit: None,
        content: Content::Batch(batch),
        response: Response::Accepted,
    };
    let record = Record {
        body,
        signature: Signature([0; 64]),
    };
    let space = Space::Sealed;
    let puts = vec![Put { space, key, value }];
    Carried { record, puts }
}

pub(super) fn want(value: &[u8]) -> Want {
    Want {
        hash: Suite::Nist.hash(&[value]),
        object: "device:press".to_owned(),
        key_epoch: 1,
        time: 0,
    }
}

/// What is kept of another hub.
pub(super) struct Pool {
    /// Up to this number they are in blocks.
    pub(super) committed: u64,
    /// Those after it.
    pub(super) records: Vec<Carried>,
    pub(super) room: usize,
    /// How often something was offered that was here.
    pub(super) twice: usize,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            committed: 0,
            records: Vec::new(),
            room: usize::MAX,
            twice: 0,
        }
    }
}

impl Pool {
    pub(super) fn wanted(&self) -> u64 {
        self.committed + self.records.len() as u64 + 1
    }
}

#[derive(Default)]
struct Own {
    generation: u64,
    /// Up to this number they are in blocks.
    committed: u64,
    open: Vec<Carried>,
    last: Option<Hash>,
}

/// The book of one hub.
pub(super) struct FakeBook {
    hub: String,
    own: Mutex<Own>,
    changed: watch::Sender<(u64, u64)>,
    tip: watch::Sender<(u64, Hash)>,
    pub(super) pools: Mutex<BTreeMap<String, Pool>>,
    pub(super) chain: Mutex<Vec<Vec<u8>>>,
    pub(super) missing: Mutex<Vec<Want>>,
    pub(super) sealed: Mutex<BTreeMap<Hash, Vec<u8>>>,
    pub(super) lent: Mutex<usize>,
    pub(super) heard: Mutex<BTreeMap<String, (u64, Hash)>>,
    pub(super) words: Mutex<BTreeMap<String, PublicKey>>,
    /// Wraps for others, by whom they are for, and whether those are all.
    pub(super) wraps: Mutex<BTreeMap<String, (Vec<Put>, bool)>>,
    /// Keys that are not wrapped to this hub.
    pub(super) lacking: Mutex<Vec<Vec<u8>>>,
    pub(super) pages: Mutex<usize>,
    pub(super) credentials: Mutex<BTreeMap<String, Vec<u8>>>,
    pub(super) wanted: watch::Sender<u64>,
    news: watch::Sender<u64>,
}

impl FakeBook {
    pub(super) fn new(hub: &str) -> Self {
        Self {
            hub: hub.to_owned(),
            own: Mutex::default(),
            changed: watch::Sender::new((0, 0)),
            tip: watch::Sender::new((0, Hash::ZERO)),
            pools: Mutex::default(),
            chain: Mutex::default(),
            missing: Mutex::default(),
            sealed: Mutex::default(),
            lent: Mutex::default(),
            heard: Mutex::default(),
            words: Mutex::default(),
            wraps: Mutex::default(),
            lacking: Mutex::default(),
            pages: Mutex::default(),
            credentials: Mutex::default(),
            wanted: watch::Sender::new(0),
            news: watch::Sender::new(0),
        }
    }

    fn tell(&self) {
        self.news.send_modify(|n| *n += 1);
    }

    /// Wakes when anything is another way than it was.
    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Records something.
    pub(super) fn append(&self, bytes: usize) {
        let mut own = self.own.lock();
        let sequence = own.committed + own.open.len() as u64 + 1;
        let previous = own.last.unwrap_or(Hash::ZERO);
        let carried = carried(&self.hub, sequence, previous, bytes);
        own.last = Some(carried.record.body.hash());
        own.open.push(carried);
        self.changed.send_replace((own.generation, sequence));
    }

    /// Own records, those that no block has.
    pub(super) fn open(&self) -> Vec<Carried> {
        self.own.lock().open.clone()
    }

    /// Signs its open records anew from number `from` on: others, and so many.
    pub(super) fn rebase(&self, from: u64, count: u64) {
        let mut own = self.own.lock();
        let keep = usize::try_from(from - own.committed - 1).unwrap();
        own.open.truncate(keep);
        let hash = |carried: &Carried| carried.record.body.hash();
        let mut previous = own.open.last().map_or(Hash::ZERO, hash);
        for sequence in from..from + count {
            let carried = carried(&self.hub, sequence, previous, 7);
            previous = hash(&carried);
            own.open.push(carried);
        }
        own.last = Some(previous);
        own.generation += 1;
        let newest = own.committed + own.open.len() as u64;
        self.changed.send_replace((own.generation, newest));
    }

    /// A block has the records of `hub` up to this number.
    pub(super) fn commit(&self, hub: &str, upto: u64) {
        if hub == self.hub {
            let mut own = self.own.lock();
            let gone = usize::try_from(upto - own.committed).unwrap();
            own.open.drain(..gone);
            own.committed = upto;
        } else {
            let mut pools = self.pools.lock();
            let pool = pools.entry(hub.to_owned()).or_default();
            let gone = usize::try_from(upto - pool.committed).unwrap();
            pool.records.drain(..gone.min(pool.records.len()));
            pool.committed = upto;
        }
        self.block(vec![0; 8]);
    }

    /// There is another block.
    pub(super) fn block(&self, block: Vec<u8>) {
        let mut chain = self.chain.lock();
        chain.push(block);
        let height = chain.len() as u64;
        drop(chain);
        self.tip.send_replace((height, Hash([height as u8; 32])));
        self.tell();
    }

    pub(super) fn set_room(&self, hub: &str, room: usize) {
        self.pools.lock().entry(hub.to_owned()).or_default().room = room;
    }

    /// What is here of `hub` and in no block.
    pub(super) fn of(&self, hub: &str) -> Vec<Carried> {
        let pools = self.pools.lock();
        pools
            .get(hub)
            .map(|pool| pool.records.clone())
            .unwrap_or_default()
    }
}

impl MeshBook for FakeBook {
    fn wanted(&self, hub: &str) -> u64 {
        self.pools.lock().get(hub).map_or(1, Pool::wanted)
    }

    fn own(&self, from: u64, max_bytes: usize) -> Result<OwnRun, Fault> {
        let own = self.own.lock();
        let skip = usize::try_from(from.saturating_sub(own.committed + 1)).unwrap();
        let mut room = max_bytes;
        let mut run = Vec::new();
        for carried in own.open.iter().skip(skip) {
            let fits = carried.size() <= room;
            if !fits && !run.is_empty() {
                break;
            }
            room = room.saturating_sub(carried.size());
            run.push(carried.clone());
        }
        let generation = own.generation;
        Ok(OwnRun { generation, run })
    }

    fn own_changed(&self) -> watch::Receiver<(u64, u64)> {
        self.changed.subscribe()
    }

    fn take(&self, hub: &str, run: Vec<Carried>) -> Result<usize, Fault> {
        let mut pools = self.pools.lock();
        let pool = pools.entry(hub.to_owned()).or_default();
        let mut taken = 0;
        for carried in run {
            let body = &carried.record.body;
            if body.sequence <= pool.committed {
                taken += 1;
                continue;
            }
            let at = usize::try_from(body.sequence - pool.committed - 1).unwrap();
            if at > pool.records.len() {
                break;
            }
            if pool.records.get(at) == Some(&carried) {
                pool.twice += 1;
                taken += 1;
                continue;
            }
            let before = at
                .checked_sub(1)
                .map(|before| pool.records[before].record.body.hash());
            if before.is_some_and(|before| before != body.previous) {
                return Err(Fault::lie("it does not point back"));
            }
            if at >= pool.room {
                break;
            }
            pool.records.truncate(at);
            pool.records.push(carried);
            taken += 1;
        }
        drop(pools);
        self.tell();
        Ok(taken)
    }

    fn tip(&self) -> watch::Receiver<(u64, Hash)> {
        self.tip.subscribe()
    }

    fn heard(&self, hub: &str, tip: (u64, Hash)) {
        self.heard.lock().insert(hub.to_owned(), tip);
        self.tell();
    }

    fn blocks(&self, from: u64, max_bytes: usize) -> Result<Vec<Vec<u8>>, Fault> {
        let chain = self.chain.lock();
        let skip = usize::try_from(from.saturating_sub(1)).unwrap_or(usize::MAX);
        let (mut blocks, mut bytes) = (Vec::new(), 0);
        for block in chain.iter().skip(skip) {
            bytes += block.len();
            if bytes > max_bytes && !blocks.is_empty() {
                break;
            }
            blocks.push(block.clone());
        }
        Ok(blocks)
    }

    /// A block is good when its first byte is 0.
    fn take_blocks(&self, blocks: Vec<Vec<u8>>) -> Result<(), Fault> {
        for block in blocks {
            if block.first() != Some(&0) {
                return Err(Fault::lie("a block does not hold"));
            }
            self.block(block);
        }
        Ok(())
    }

    fn missing(&self, limit: usize) -> Vec<Want> {
        let missing = self.missing.lock();
        missing.iter().take(limit).cloned().collect()
    }

    fn lend(&self, want: &Want) -> Result<Vec<Put>, Fault> {
        *self.lent.lock() += 1;
        let sealed = self.sealed.lock();
        let put = |value: &Vec<u8>| Put {
            space: Space::Sealed,
            key: want.hash.0.to_vec(),
            value: value.clone(),
        };
        Ok(sealed.get(&want.hash).map(put).into_iter().collect())
    }

    fn bring(&self, puts: Vec<Put>) -> Result<(), Fault> {
        for put in puts {
            let hash = Suite::Nist.hash(&[&put.value]);
            self.missing.lock().retain(|want| want.hash != hash);
            self.sealed.lock().insert(hash, put.value);
        }
        self.tell();
        Ok(())
    }

    fn lacks_wraps(&self) -> Result<bool, Fault> {
        Ok(!self.lacking.lock().is_empty())
    }

    fn wraps_wanted(&self) -> watch::Receiver<u64> {
        self.wanted.subscribe()
    }

    /// One at a time.
    fn lend_wraps(&self, hub: &str, from: &[u8]) -> Result<LentWraps, Fault> {
        *self.pages.lock() += 1;
        self.tell();
        let wraps = self.wraps.lock();
        let Some((puts, all)) = wraps.get(hub) else {
            return Ok(LentWraps::default());
        };
        let mut rest = puts.iter().filter(|put| *put.key >= *from);
        let puts = rest.next().cloned().into_iter().collect();
        let next = rest.next().map(|put| put.key.clone());
        let all = *all;
        Ok(LentWraps { puts, next, all })
    }

    fn bring_wraps(&self, puts: Vec<Put>) -> Result<usize, Fault> {
        let mut lacking = self.lacking.lock();
        let before = lacking.len();
        lacking.retain(|key| puts.iter().all(|put| put.key != *key));
        let taken = before - lacking.len();
        drop(lacking);
        self.tell();
        Ok(taken)
    }

    fn lend_credentials(&self, _hub: &str, user: &str) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.credentials.lock().get(user).cloned())
    }

    fn sealing(&self, hub: &str, word: SealingWord) {
        self.words.lock().insert(hub.to_owned(), word.sealing);
        self.tell();
    }
}
