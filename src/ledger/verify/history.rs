//! The index of the history: what it says must be what records say.

use super::sealed::Named;
use super::{Verification, hex};
use crate::ledger::history::index;
use crate::ledger::report::{Progress, Where};
use crate::ledger::store::{Space, StoreError};

impl Verification<'_> {
    /// The index of the history says nothing that cannot be made up again, but what it does say must be
    /// so: whoever reads through it would miss samples.
    pub(super) fn history(&mut self) -> Result<(), StoreError> {
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
        let here = self.sealed.iter();
        let here = here.filter(|(hash, _)| !self.open.lacking.contains(*hash));
        let missing = here.map(|(_, named)| named).filter(incomplete).count();
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
            let leaves = self.open.dropped.contains(&(Space::History, key.to_vec()));
            return match self.unreadable || leaves {
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
}
