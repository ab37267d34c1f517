//! The ledger of a hub that shares its chain, and whoever uses it at once: the hub's own actors record, the links
//! bring what other hubs recorded, consensus proposes, checks and decides.
//!
//! One lock, held as long as a disk takes for a block; nobody waits for it on an asynchronous thread. What is asked
//! often or from such a thread is kept beside it. While the disk takes own records it is free, so that a vote does not
//! wait for them: another lock keeps what writes apart.

use super::keys::Keys;
use super::ports::CredentialLender;
use super::standing::Standing;
use crate::crypto::SealingWord;
use crate::ledger::assemble::AssembleError;
use crate::ledger::facts::Word;
use crate::ledger::keys::sealed_key;
use crate::ledger::shared::{LeftOut, SharedLedger};
use crate::ledger::store::{Put, Space, StoreError};
use crate::ledger::{Draft, LedgerError, State, Tip};
use crate::model::{Nanos, now};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::{mpsc, watch};
use weighbridge_verifier::{Block, Hash, PublicKey, Record, SignatureCheck, ValidatorSet};

/// Blocks that whoever hears of them may be behind, before deciding waits for them.
const HEARD_BEHIND: usize = 256;

/// The ledger of a hub that shares its chain.
pub struct SharedBook {
    pub(super) hub: String,
    ledger: Mutex<SharedLedger>,
    pub(super) check: Arc<dyn SignatureCheck>,
    /// Held by whoever writes own records or blocks, and taken before the ledger: one of them at a time, and while the
    /// disk takes own records others propose and check.
    writing: Mutex<()>,
    /// Records of others came, or a block.
    pub(super) came: Condvar,
    /// Whether there may be something to decide.
    pub(super) data: AtomicBool,
    /// Rises whenever somebody should look whether there is something to decide.
    woken: watch::Sender<u64>,
    pub(super) own: watch::Sender<(u64, u64)>,
    pub(super) tip: watch::Sender<(u64, Hash)>,
    committed: mpsc::Sender<Committed>,
    /// Taken by whoever listens.
    listening: Mutex<Option<mpsc::Receiver<Committed>>>,
    pub(super) standing: Mutex<Standing>,
    /// What other hubs say that their sealing keys are.
    pub(super) words: watch::Sender<BTreeMap<String, SealingWord>>,
    /// Rises with every word of another hub about its newest block.
    pub(super) heard: watch::Sender<u64>,
    /// Who decided the newest block.
    pub(super) decided_by: Mutex<Option<ValidatorSet>>,
    /// Consensus runs: blocks come from it alone.
    pub(super) deciding: AtomicBool,
    pub(super) ending: AtomicBool,
    /// What opens here, once that is known.
    pub(super) keys: OnceLock<Keys>,
    /// What users log in by, for the other hubs.
    pub(super) lender: Mutex<Option<Arc<dyn CredentialLender>>>,
    /// What is not taken before the other hubs have agreed to more.
    stalled: Mutex<Option<(Vec<Draft>, Vec<Put>)>>,
}

/// A block that the hubs decided.
#[derive(Clone, Debug)]
pub struct Committed {
    /// It.
    pub block: Arc<Block>,
    /// Records in the whole chain.
    pub records: u64,
    /// Whether records of this hub had to be signed anew, at other places, or were left out.
    pub rebased: bool,
    /// Records of this hub that found no place any more.
    pub left_out: Vec<LeftOut>,
    /// What the chain has of the devices whose batches are in it.
    pub attested: crate::ledger::state::AttestedBy,
}

/// What was made durable in this hub's own chain of records.
pub struct Recorded {
    /// The records.
    pub records: Vec<Record>,
    /// What the ledger has of the devices whose batches are among them.
    pub attested: crate::ledger::state::AttestedBy,
    /// Why what was to come last is not among them, if so.
    pub refused: Option<String>,
}

impl SharedBook {
    /// The book over an opened ledger of the hub with this id.
    pub fn new(hub: &str, ledger: SharedLedger) -> Arc<Self> {
        let (committed, listening) = mpsc::channel(HEARD_BEHIND);
        let this = Self {
            hub: hub.to_owned(),
            data: AtomicBool::new(false),
            came: Condvar::new(),
            woken: watch::Sender::new(0),
            own: watch::Sender::new((0, 0)),
            tip: watch::Sender::new((0, Hash::ZERO)),
            committed,
            listening: Mutex::new(Some(listening)),
            standing: Mutex::default(),
            words: watch::Sender::default(),
            heard: watch::Sender::new(0),
            decided_by: Mutex::default(),
            deciding: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            stalled: Mutex::default(),
            keys: OnceLock::new(),
            lender: Mutex::default(),
            writing: Mutex::default(),
            check: ledger.signature_check().clone(),
            ledger: Mutex::new(ledger),
        };
        this.changed(&this.ledger.lock());
        Arc::new(this)
    }

    /// Id of the hub.
    pub fn hub(&self) -> &str {
        &self.hub
    }

    /// Where blocks can be heard of, for the first who asks.
    pub fn committed(&self) -> Option<mpsc::Receiver<Committed>> {
        self.listening.lock().take()
    }

    /// Told whenever there may be something to decide.
    pub fn woken(&self) -> watch::Receiver<u64> {
        self.woken.subscribe()
    }

    /// What other hubs say that their sealing keys are, by hub; each word was checked.
    pub fn sealing_words(&self) -> watch::Receiver<BTreeMap<String, SealingWord>> {
        self.words.subscribe()
    }

    /// Height and hash of the newest block.
    pub fn tip(&self) -> watch::Receiver<(u64, Hash)> {
        self.tip.subscribe()
    }

    /// Rises whenever another hub says that it has a newer block.
    pub fn heard_of(&self) -> watch::Receiver<u64> {
        self.heard.subscribe()
    }

    /// Whether this hub is one of those that decide. Blocking.
    pub fn is_member(&self) -> bool {
        self.ledger.lock().is_member()
    }

    /// How it stands. Never blocks for long.
    pub fn standing(&self) -> Standing {
        self.standing.lock().clone()
    }

    /// Has a look at it: the state after everything that this hub recorded, the newest block, and the records by
    /// which hubs changed their keys. Blocking.
    pub fn look<T>(&self, look: impl FnOnce(&State, Tip, &[Record]) -> T) -> T {
        let ledger = self.ledger.lock();
        let tip = *ledger.committed().1;
        look(ledger.state(), tip, ledger.rotations())
    }

    /// Has a look at what the hubs have agreed upon, at that with all that this hub recorded since, and at the newest
    /// block. Blocking.
    pub fn look_agreed<T>(&self, look: impl FnOnce(&State, &State, Tip) -> T) -> T {
        let ledger = self.ledger.lock();
        let (agreed, tip) = ledger.committed();
        look(agreed, ledger.state(), *tip)
    }

    /// The newest record of every entry about access, as blocks have it. Blocking.
    pub fn committed_access(&self) -> BTreeMap<String, Word> {
        self.ledger.lock().committed().0.access().clone()
    }

    /// The newest record of every alarm that is not at rest, as blocks have it. Blocking.
    pub fn committed_alarms(&self) -> BTreeMap<String, Word> {
        self.ledger.lock().committed().0.alarms().clone()
    }

    /// This hub's own records that no block has yet, in order; nothing when they cannot be read. Blocking.
    pub fn open_records(&self) -> Vec<Record> {
        let ledger = self.ledger.lock();
        let (first, ..) = ledger.own_open();
        match ledger.own_run(first, usize::MAX) {
            Ok(run) => run.into_iter().map(|carried| carried.record).collect(),
            Err(error) => {
                tracing::error!(%error, "open records cannot be read");
                Vec::new()
            }
        }
    }

    /// Makes these durable in this hub's own chain of records, with what belongs to them; what is to be `last` is
    /// looked at first, and may be refused. What another hub's records have made impossible meanwhile is left
    /// out, and said. Blocking.
    pub fn append(
        &self,
        mut drafts: Vec<Draft>,
        last: Option<Draft>,
        puts: Vec<Put>,
        now: Nanos,
    ) -> Result<Recorded, LedgerError> {
        let _writing = self.writing.lock();
        let mut ledger = self.ledger.lock();
        let mut refused = None;
        let mut has_last = false;
        if let Some(last) = last {
            match ledger.takes(&last, now) {
                Ok(()) => {
                    drafts.push(last);
                    has_last = true;
                }
                Err(why) => refused = Some(why),
            }
        }
        // Only of use as long as what they belong to is recorded.
        let mut puts = puts;
        loop {
            if drafts.is_empty() {
                return Ok(Recorded {
                    records: Vec::new(),
                    attested: Vec::new(),
                    refused,
                });
            }
            match ledger.prepare(&drafts, puts.clone(), now) {
                Ok(due) => {
                    let store = ledger.store().clone();
                    let written = MutexGuard::unlocked(&mut ledger, || store.commit(&due));
                    let records = ledger.written(written)?;
                    return Ok(self.recorded(&ledger, records, refused));
                }
                Err(LedgerError::Assemble(AssembleError::Draft { index, why }))
                    if index < drafts.len() =>
                {
                    let draft = drafts.remove(index);
                    if let Some(sealed) = draft.content.sealed() {
                        let key = sealed_key(&sealed.hash);
                        puts.retain(|put| put.space != Space::Sealed || put.key != key);
                    }
                    tracing::error!(
                        object = draft.object, %why,
                        "what other hubs recorded leaves no place for a record of this hub: it is left out"
                    );
                    if has_last && index == drafts.len() {
                        refused = Some(why.to_string());
                    }
                }
                Err(error @ LedgerError::TooManyOpen(_)) => {
                    // As of a full disk: they wait, and so do the devices.
                    *self.stalled.lock() = Some((drafts, puts));
                    return Err(LedgerError::Store(StoreError::Io(error.to_string())));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Tries again what the disk refused. Blocking.
    pub fn retry(&self) -> Result<Recorded, LedgerError> {
        let stalled = self.stalled.lock().take();
        if let Some((drafts, puts)) = stalled {
            return self.append(drafts, None, puts, now());
        }
        let _writing = self.writing.lock();
        let mut ledger = self.ledger.lock();
        let records = ledger.retry()?;
        Ok(self.recorded(&ledger, records, None))
    }

    fn recorded(
        &self,
        ledger: &SharedLedger,
        records: Vec<Record>,
        refused: Option<String>,
    ) -> Recorded {
        self.changed(ledger);
        Recorded {
            attested: ledger.state().attested_by(&records),
            records,
            refused,
        }
    }

    /// The key that a hub of the set signs by.
    pub(super) fn key_of(&self, hub: &str) -> Option<PublicKey> {
        let standing = self.standing.lock();
        let known = standing.members.iter().find(|(id, _)| id == hub);
        known.map(|(_, key)| *key)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, SharedLedger> {
        self.ledger.lock()
    }

    /// The ledger, for whoever writes more than own records. Nothing else writes meanwhile.
    pub(super) fn lock_to_write(&self) -> (MutexGuard<'_, SharedLedger>, MutexGuard<'_, ()>) {
        let writing = self.writing.lock();
        (self.ledger.lock(), writing)
    }

    /// Says what is different in `ledger`, wherever that is looked at, and wakes consensus where there is something to
    /// decide.
    pub(super) fn changed(&self, ledger: &SharedLedger) {
        let (first, newest, generation) = ledger.own_open();
        let (state, tip) = ledger.committed();
        let tip = (tip.height, tip.hash);
        let open = (newest + 1).saturating_sub(first);
        // First, so that whoever hears of a block finds it as it is after that.
        self.standing.lock().follow(state, tip.0, open);
        self.own
            .send_if_modified(|own| std::mem::replace(own, (generation, newest)) != *own);
        self.tip.send_if_modified(|old| {
            let differs = *old != tip;
            *old = tip;
            differs
        });
        let data = ledger.has_data();
        self.data.store(data, Ordering::Release);
        if data {
            self.woken.send_modify(|times| *times += 1);
        }
    }

    /// Tells the rest of the hub of a block. Waits for those who are behind; whoever has ended hears nothing.
    pub(super) fn tell(&self, committed: Committed) {
        let _ = self.committed.blocking_send(committed);
    }

    /// The chain is about to be left: nothing that waits goes on waiting.
    pub fn end(&self) {
        self.ending.store(true, Ordering::Release);
        self.came.notify_all();
    }

    /// The set that decides the next block.
    pub fn members(&self) -> Option<ValidatorSet> {
        self.ledger.lock().committed().0.validators().cloned()
    }

    /// What users log in by is handed out by this from now on.
    pub fn lend_credentials_of(&self, lender: Arc<dyn CredentialLender>) {
        *self.lender.lock() = Some(lender);
    }

    /// Entries of access that are on the chain and cannot be read here.
    pub fn unread(&self, entries: usize) {
        self.standing.lock().unread = entries;
    }

    /// Somebody should look.
    pub fn alarm(&self, what: String) {
        tracing::error!(what, "the cluster needs somebody to look at it");
        self.standing.lock().alarm(what);
    }

    /// Records what consensus found out, if that may still be recorded.
    pub(super) fn note(&self, draft: Draft) {
        let (object, time) = (draft.object.clone(), now());
        match self.append(Vec::new(), Some(draft), Vec::new(), time) {
            Ok(Recorded { refused: None, .. }) => {}
            Ok(Recorded {
                refused: Some(why), ..
            }) => tracing::warn!(object, why, "what was found of a hub is not recorded"),
            Err(error) => {
                tracing::error!(object, %error, "what was found of a hub is not recorded")
            }
        }
    }
}
