//! What the other hubs of a shared chain decide and record comes into force here: who the hubs are, by which keys they
//! sign, what they recorded of access and of alarms.

use super::cluster::ClusterPeer;
use super::fellows::Fellows;
use super::unread::{Read, Unread};
use crate::access::{Entry, Told};
use crate::actors::access::{AccessDesk, told};
use crate::actors::alarms::{AlarmDesk, ToldAlarm, recorded_alarm, told_alarm};
use crate::actors::ledger::BlockCommitted;
use crate::cluster::SharedBook;
use crate::crypto::SealingWord;
use crate::ledger::facts::Word;
use crate::ledger::opening::Opener;
use crate::ledger::signers::Signers;
use crate::ledger::words::{ACCESS, ACCESS_OBJECT, ACCESS_OVER, ALARM, ALARM_OBJECT, ALARM_OVER};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use weighbridge_verifier::{Action, Content, PublicKey, Record};

/// What the chain says of access, and what this hub has recorded of it since.
pub(super) type SharedSays = (Vec<Told>, Vec<Entry>);

/// What is followed.
pub(super) struct Following {
    pub(super) book: Arc<SharedBook>,
    pub(super) fellows: Fellows,
    pub(super) signers: Signers,
    pub(super) opener: Opener,
    pub(super) access: AccessDesk,
    pub(super) alarms: AlarmDesk,
    /// The sealing keys that the configuration names, by hub.
    pub(super) sealing: BTreeMap<String, PublicKey>,
    /// What cannot be read here yet.
    pub(super) unread: Mutex<Unread>,
}

/// The sealing keys of other hubs.
pub(super) fn sealing_keys(hubs: &[ClusterPeer]) -> BTreeMap<String, PublicKey> {
    let keys = hubs.iter().map(|hub| (hub.id.clone(), hub.sealing));
    keys.collect()
}

/// Everything is sealed for the hubs that decide from now on and for those that stand by, and for no other one.
pub(super) fn name_fellows(
    fellows: &Fellows,
    book: &SharedBook,
    sealing: &BTreeMap<String, PublicKey>,
    words: &BTreeMap<String, SealingWord>,
) {
    let standing = book.standing();
    let members = standing.members.iter().chain(&standing.standbys);
    let members: BTreeSet<&str> = members.map(|(id, _)| &**id).collect();
    for gone in fellows.keys().keys().filter(|id| !members.contains(&***id)) {
        fellows.remove(gone);
    }
    for id in members.into_iter().filter(|id| *id != book.hub()) {
        // A hub's own word is newer than any file.
        let said = words.get(id).map(|word| word.sealing);
        let Some(key) = said.or(sealing.get(id).copied()) else {
            book.alarm(format!(
                "the sealing key of `{id}` is not known here: what is recorded is not sealed for it"
            ));
            continue;
        };
        if let Err(error) = fellows.set(id, key) {
            book.alarm(format!("the sealing key of `{id}` is none: {error}"));
        }
    }
}

/// What the chain and this hub's own open records say of access; of what cannot be opened here that it is there. And
/// all of that. Blocking.
pub(super) fn recorded(book: &SharedBook, opener: &Opener) -> (SharedSays, Unread) {
    let own = book.hub();
    let mut unread = Unread::default();
    let mut says = Vec::new();
    for (object, word) in book.committed_access() {
        match opener.open_act(&word.hub, &word.message) {
            Ok(details) => says.extend(told(&object, &details, word.hub == own)),
            Err(_) if word.hub == own => {}
            Err(_) => {
                says.push(Told::unread(entry_name(&object)));
                unread.note(&object, None, word);
            }
        }
    }
    for (object, word) in book.committed_alarms() {
        if word.hub != own && opener.open_act(&word.hub, &word.message).is_err() {
            unread.note(&object, None, word);
        }
    }
    book.unread(unread.access());
    let open = book.open_records();
    let open = open.iter().filter_map(|record| {
        let (object, details) = opened(record, ACCESS_OBJECT, opener)?.ok()?;
        told_entry(object, &details)
    });
    ((says, open.collect()), unread)
}

fn entry_name(object: &str) -> &str {
    object.strip_prefix(ACCESS_OBJECT).unwrap_or(object)
}

fn told_entry(object: &str, details: &serde_json::Value) -> Option<Entry> {
    told(object, details, true).map(|told| told.entry)
}

/// Object and details of a record about something that begins like this; why they cannot be opened.
fn opened<'a>(
    record: &'a Record,
    about: &str,
    opener: &Opener,
) -> Option<Result<(&'a str, serde_json::Value), String>> {
    let body = &record.body;
    let Content::Message(message) = &body.content else {
        return None;
    };
    if body.action == Action::Refuse || !body.object.starts_with(about) {
        return None;
    }
    let details = opener.open_act(&body.hub, message);
    Some(
        details
            .map(|d| (&*body.object, d))
            .map_err(|e| e.to_string()),
    )
}

impl Following {
    /// Follows every block until the hub ends.
    pub(super) async fn follow(self, mut committed: broadcast::Receiver<Arc<BlockCommitted>>) {
        let this = Arc::new(self);
        let (mut words, mut more) = (this.book.sealing_words(), this.book.opened());
        // What came since the start.
        more.mark_changed();
        loop {
            let (heard, late) = tokio::select! {
                heard = committed.recv() => (Some(heard), false),
                changed = words.changed() => match changed {
                    Ok(()) => (None, false),
                    Err(_) => return,
                },
                changed = more.changed() => match changed {
                    Ok(()) => (None, true),
                    Err(_) => return,
                },
            };
            let said = words.borrow_and_update().clone();
            name_fellows(&this.fellows, &this.book, &this.sealing, &said);
            if late {
                this.fellows.opened();
                this.read_late().await;
            }
            let read = this.clone();
            match heard {
                None => {}
                Some(Ok(block)) => {
                    let read = tokio::task::spawn_blocking(move || read.read(&block)).await;
                    let Ok((access, alarms)) = read else { return };
                    this.take_in(&access, &alarms).await;
                }
                Some(Err(RecvError::Lagged(missed))) => {
                    tracing::error!(missed, "blocks went by unheard: access is read anew");
                    let read =
                        tokio::task::spawn_blocking(move || recorded(&read.book, &read.opener));
                    let Ok(((told, open), unread)) = read.await else {
                        return;
                    };
                    *this.unread.lock() = unread;
                    if let Err(error) = this.access.share(told, open) {
                        this.book
                            .alarm(format!("what is recorded of access: {error}"));
                    }
                }
                Some(Err(RecvError::Closed)) => return,
            }
        }
    }

    /// What a block says of access, and other hubs' records in it of alarms.
    fn read(&self, block: &BlockCommitted) -> (Vec<Told>, Vec<ToldAlarm>) {
        self.book.look(|state, _, _| self.signers.follow(state));
        let own = self.book.hub();
        let (mut access, mut alarms) = (Vec::new(), Vec::new());
        let records = block.decided.iter().flat_map(|block| &block.records);
        let mut unread = self.unread.lock();
        let before = unread.access();
        for record in records {
            let body = &record.body;
            let (hub, object) = (&body.hub, &body.object);
            match opened(record, ACCESS_OBJECT, &self.opener) {
                Some(Ok((object, details))) => {
                    if hub != own {
                        unread.forget(object);
                    }
                    access.extend(told(object, &details, hub == own));
                }
                Some(Err(error)) if hub == own => self.book.alarm(format!(
                    "what this hub recorded of {object} cannot be read here, and is not in force: {error}"
                )),
                Some(Err(error)) => {
                    if let Some(word) = word_of(record, [ACCESS, ACCESS_OVER]) {
                        tracing::warn!(hub, object, %error, "what another hub recorded of access cannot be read yet");
                        access.push(Told::unread(entry_name(object)));
                        unread.note(object, None, word);
                    }
                }
                None => {}
            }
            match opened(record, ALARM_OBJECT, &self.opener).filter(|_| hub != own) {
                Some(Ok((_, details))) => {
                    unread.forget(object);
                    alarms.extend(told_alarm(&body.subject, &details));
                }
                Some(Err(_)) => {
                    if let Some(word) = word_of(record, [ALARM, ALARM_OVER]) {
                        unread.note(object, Some(&body.subject), word);
                    }
                }
                None => {}
            }
        }
        if unread.access() != before {
            self.book.unread(unread.access());
        }
        if unread.access() > before {
            unread.wants(&self.book, &self.opener);
        }
        (access, alarms)
    }

    async fn take_in(&self, access: &[Told], alarms: &[ToldAlarm]) {
        if !access.is_empty()
            && let Err(error) = self.access.take_in(access).await
        {
            self.book
                .alarm(format!("what other hubs recorded of access: {error}"));
        }
        self.alarms.take_in(alarms);
    }

    /// Takes in what could not be read when it came, as far as it can be by now.
    async fn read_late(self: &Arc<Self>) {
        if self.unread.lock().is_empty() {
            return;
        }
        let this = self.clone();
        let read = tokio::task::spawn_blocking(move || {
            this.book.look(|state, _, _| this.signers.follow(state));
            this.unread.lock().take_read(&this.opener)
        });
        let Ok(read) = read.await else { return };
        for late in &read {
            let Read { object, hub, .. } = late;
            if object.starts_with(ALARM_OBJECT) {
                let alarm = match &late.subject {
                    Some(subject) => told_alarm(subject, &late.details),
                    None => {
                        recorded_alarm(&late.details).map(|alarm| ToldAlarm { alarm, did: None })
                    }
                };
                self.alarms.take_in(alarm.as_slice());
            }
            let Some(told) = told(object, &late.details, false) else {
                continue;
            };
            tracing::info!(
                hub,
                object,
                "what another hub recorded of access is read now"
            );
            if let Err(error) = self.access.take_in_late(&told).await {
                self.book
                    .alarm(format!("what other hubs recorded of access: {error}"));
            }
        }
        let left = self.unread.lock().access();
        self.book.unread(left);
    }
}

/// What a record says of its object, if it is of one of these kinds.
fn word_of(record: &Record, kinds: [&str; 2]) -> Option<Word> {
    match &record.body.content {
        Content::Message(message) if kinds.contains(&&*message.kind) => Some(Word {
            hub: record.body.hub.clone(),
            message: message.clone(),
        }),
        _ => None,
    }
}
