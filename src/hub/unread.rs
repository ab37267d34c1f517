//! What other hubs have on the chain about access and alarms, and what cannot be read here yet: its key or its bytes are
//! still to come.

use crate::cluster::SharedBook;
use crate::ledger::facts::Word;
use crate::ledger::key_wrap::hub_object;
use crate::ledger::opening::{Opener, OpeningError};
use crate::ledger::shared::Want;
use crate::ledger::words::ACCESS_OBJECT;
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// The newest record of each object that cannot be read, as far as none that can came after it.
#[derive(Default)]
pub(super) struct Unread(BTreeMap<String, Late>);

/// A record that cannot be read.
struct Late {
    /// Whose act it is; unknown for what is only known to be the newest.
    subject: Option<String>,
    word: Word,
}

/// The same, once it can be read.
pub(super) struct Read {
    pub(super) object: String,
    pub(super) subject: Option<String>,
    pub(super) hub: String,
    pub(super) details: Json,
}

impl Unread {
    /// What the chain says of access, as far as it cannot be opened here. Blocking.
    pub(super) fn of(book: &SharedBook, opener: &Opener) -> Self {
        let mut unread = Self::default();
        for (object, word) in book.committed_access() {
            if word.hub != book.hub() && opener.open_act(&word.hub, &word.message).is_err() {
                unread.note(&object, None, word);
            }
        }
        unread
    }

    /// This is the newest of the object, and cannot be read.
    pub(super) fn note(&mut self, object: &str, subject: Option<&str>, word: Word) {
        let subject = subject.map(str::to_owned);
        self.0.insert(object.to_owned(), Late { subject, word });
    }

    /// Something newer can be read.
    pub(super) fn forget(&mut self, object: &str) {
        self.0.remove(object);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many of them are entries of access.
    pub(super) fn access(&self) -> usize {
        let access = self.0.keys().filter(|o| o.starts_with(ACCESS_OBJECT));
        access.count()
    }

    /// Takes out those that can be read by now.
    pub(super) fn take_read(&mut self, opener: &Opener) -> Vec<Read> {
        let mut read = Vec::new();
        self.0.retain(|object, late| {
            let details = opener.open_act(&late.word.hub, &late.word.message);
            let unread = details.is_err();
            read.extend(details.ok().map(|details| Read {
                object: object.clone(),
                subject: late.subject.take(),
                hub: late.word.hub.clone(),
                details,
            }));
            unread
        });
        read
    }

    /// Says of each what it lacks: the sealed bytes that are not here, and to `book` the keys that do not open.
    pub(super) fn wants(&self, book: &SharedBook, opener: &Opener) -> Vec<Want> {
        let mut wants = Vec::new();
        for Late { word, .. } in self.0.values() {
            let (object, sealed) = (hub_object(&word.hub), &word.message.sealed);
            match opener.open_act(&word.hub, &word.message) {
                // The key opens.
                Err(OpeningError::Missing(_)) => {}
                Err(_) => book.want_key(&object, sealed.key_epoch),
                Ok(_) => continue,
            }
            wants.push(Want {
                hash: sealed.hash,
                object,
                key_epoch: sealed.key_epoch,
                time: 0,
            });
        }
        wants
    }
}
