//! The part of readers, escrow and fellow hubs in the verification of a ledger: every wrap is for somebody of whom a
//! record tells, so that nobody reads along whom the chain does not name.

use super::Verification;
use crate::access::{ESCROW_ENTRY, READER_ENTRY};
use crate::ledger::key_wrap::{read_wrap_key, told_as};
use crate::ledger::report::{MAX_FINDINGS, RecipientFound, Where};
use crate::ledger::words::ACCESS_OBJECT;
use std::collections::{BTreeMap, BTreeSet};
use weighbridge_verifier::{Block, Content, HubChange, IdentityKind, Response};

/// To whom keys are wrapped besides the hub.
#[derive(Default)]
pub(super) struct Recipients {
    /// Of whom records tell, with the first one.
    told: BTreeMap<String, (u64, usize)>,
    /// The hubs of whom records tell, with the first one.
    told_hubs: BTreeMap<String, (u64, usize)>,
    /// The wraps of each, and those that were overwritten.
    found: BTreeMap<String, (u64, u64)>,
    /// The wraps of each hub.
    hubs: BTreeMap<String, u64>,
}

impl Recipients {
    /// Counts a wrap to `told`, or the place of one that was overwritten.
    fn count(&mut self, told: &str, live: bool) {
        let (wraps, removed) = self.found.entry(told.to_owned()).or_default();
        match live {
            true => *wraps += 1,
            false => *removed += 1,
        }
    }
}

impl Verification<'_> {
    /// Notes the records in a block that tell to whom keys are wrapped.
    pub(super) fn name_recipients(&mut self, height: u64, block: &Block) {
        for (index, record) in block.records.iter().enumerate() {
            let hub = match &record.body.content {
                Content::Identity(identity) if identity.kind == IdentityKind::Hub => {
                    Some(&identity.id)
                }
                Content::HubVote(vote) if vote.change != HubChange::Dismiss => Some(&vote.hub),
                _ => None,
            };
            if let Some(hub) = hub {
                let told = self.recipients.told_hubs.entry(hub.clone());
                told.or_insert((height, index));
            }
            let entry = record.body.object.strip_prefix(ACCESS_OBJECT);
            let told = entry.and_then(|entry| {
                let prefixes = [READER_ENTRY, ESCROW_ENTRY];
                prefixes.iter().find_map(|p| entry.strip_prefix(p))
            });
            if let Some(told) = told
                && record.body.response == Response::Accepted
            {
                let told = self.recipients.told.entry(told.to_owned());
                told.or_insert((height, index));
            }
        }
    }

    /// Whether `recipient` is one according to the newest state.
    pub(super) fn still_reads(&self, recipient: &str) -> bool {
        let state = self.follower.as_ref().map(|f| f.state());
        let told = told_as(recipient);
        state.is_some_and(|state| {
            [READER_ENTRY, ESCROW_ENTRY].iter().any(|entry| {
                let object = format!("{ACCESS_OBJECT}{entry}{told}");
                state.access().contains_key(&object)
            })
        })
    }

    /// Lists those to whom keys are wrapped, and those of whom records tell that they were.
    pub(super) fn list_recipients(&mut self) {
        let Recipients {
            told,
            told_hubs,
            found,
            hubs,
        } = &self.recipients;
        let names: BTreeSet<&String> = told.keys().chain(found.keys()).collect();
        for name in names.into_iter().take(MAX_FINDINGS) {
            let (wraps, removed) = found.get(name).copied().unwrap_or_default();
            let (height, index) = told.get(name).copied().unwrap_or_default();
            self.report.recipients.push(RecipientFound {
                name: name.clone(),
                wraps,
                removed,
                height,
                index,
            });
        }
        // One hub opens what it records; that others do, too, is to be said.
        for (name, wraps) in hubs.iter().filter(|_| hubs.len() > 1) {
            let (height, index) = told_hubs.get(name).copied().unwrap_or_default();
            self.report.recipients.push(RecipientFound {
                name: name.clone(),
                wraps: *wraps,
                removed: 0,
                height,
                index,
            });
        }
    }

    /// Whether something is sealed under the key that a wrap is of. A wrap is written before the block that needs it:
    /// one of a key under which nothing is sealed wraps nothing.
    fn is_needed(&self, key: &[u8]) -> bool {
        read_wrap_key(key)
            .is_some_and(|(device, epoch, _)| self.wraps.contains_key(&(device, epoch)))
    }

    /// Counts a wrap to a hub.
    pub(super) fn hub(&mut self, key: &[u8], hub: &str) {
        if self.is_needed(key) {
            *self.recipients.hubs.entry(hub.to_owned()).or_default() += 1;
        }
    }

    /// A wrap to somebody who is named as a hub is, and is none of the chain.
    pub(super) fn nobody(&mut self, key: &[u8]) {
        // What an unreadable block tells is not known.
        if self.unreadable || self.broken || !self.is_needed(key) {
            return;
        }
        let name = read_wrap_key(key).map(|(_, _, name)| name);
        let what = format!(
            "it is wrapped to `{}`, which no record makes a hub",
            name.unwrap_or_default()
        );
        let place = Where::Keys {
            key: super::hex(key),
        };
        self.report.find(place, what);
    }

    /// A wrap to somebody else than a hub: names what is wrong with it.
    pub(super) fn recipient(&mut self, key: &[u8], recipient: &str, live: bool) {
        // What an unreadable block tells is not known.
        if self.unreadable || !self.is_needed(key) {
            return;
        }
        let told = told_as(recipient);
        self.recipients.count(told, live);
        // What was overwritten gives nothing away. A record may be retired; the state goes on to tell.
        if !live || self.still_reads(recipient) {
            return;
        }
        let what = match self.recipients.told.contains_key(told) {
            true => format!(
                "it is wrapped to `{told}`, which is over; the hub removes it when it starts"
            ),
            false => format!("it is wrapped to `{told}`, of whom no record tells"),
        };
        let place = Where::Keys {
            key: super::hex(key),
        };
        self.report.find(place, what);
    }
}
