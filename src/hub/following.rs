//! What the other hubs of a shared chain decide and record comes into force here: who the hubs are, by which keys they
//! sign, what they recorded of access and of alarms.

use super::cluster::ClusterPeer;
use super::fellows::Fellows;
use crate::access::{Entry, Told};
use crate::actors::access::{AccessDesk, told};
use crate::actors::alarms::{AlarmDesk, ToldAlarm, told_alarm};
use crate::actors::ledger::BlockCommitted;
use crate::cluster::SharedBook;
use crate::crypto::SealingWord;
use crate::ledger::opening::Opener;
use crate::ledger::signers::Signers;
use crate::ledger::words::{ACCESS_OBJECT, ALARM_OBJECT};
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

/// What the chain and this hub's own open records say of access, as far as it can be opened here. Blocking.
pub(super) fn recorded(book: &SharedBook, opener: &Opener) -> SharedSays {
    let own = book.hub();
    let words = book.committed_access();
    let told = words.iter().filter_map(|(object, word)| {
        let details = opener.open_act(&word.hub, &word.message).ok()?;
        told(object, &details, word.hub == own)
    });
    let told = told.collect();
    let open = book.open_records();
    let open = open.iter().filter_map(|record| {
        let (object, details) = opened(record, ACCESS_OBJECT, opener)?.ok()?;
        told_entry(object, &details)
    });
    (told, open.collect())
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
        let mut words = this.book.sealing_words();
        loop {
            let heard = tokio::select! {
                heard = committed.recv() => Some(heard),
                changed = words.changed() => match changed {
                    Ok(()) => None,
                    Err(_) => return,
                },
            };
            let said = words.borrow_and_update().clone();
            name_fellows(&this.fellows, &this.book, &this.sealing, &said);
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
                    let Ok((told, open)) = read.await else { return };
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
        for record in records {
            let hub = &record.body.hub;
            match opened(record, ACCESS_OBJECT, &self.opener) {
                Some(Ok((object, details))) => access.extend(told(object, &details, hub == own)),
                Some(Err(error)) => {
                    let object = &record.body.object;
                    self.book.alarm(format!(
                        "what `{hub}` recorded of {object} cannot be read here, and is not in force: {error}"
                    ));
                }
                None => {}
            }
            if hub != own
                && let Some(Ok((_, details))) = opened(record, ALARM_OBJECT, &self.opener)
            {
                alarms.extend(told_alarm(&record.body.subject, &details));
            }
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
}
