//! Wrapped keys: each must be signed by an enrolled hub, and there must be one for whatever is sealed.

use super::open::place;
use super::{Verification, hex};
use crate::ledger::key_wrap::{KeyWrap, is_of_reader, read_wrap_key, wrap_prefix};
use crate::ledger::replay::Follower;
use crate::ledger::report::{Progress, Where};
use crate::ledger::store::{Space, StoreError};
use std::collections::BTreeSet;
use weighbridge_verifier::{IdentityKind, PublicKey};

impl Verification<'_> {
    pub(super) fn wraps(&mut self) -> Result<(), StoreError> {
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
                            self.hub(&key, &wrap.recipient);
                            seen.insert(wrap_prefix(&wrap.device, wrap.key_epoch));
                        }
                    }
                }
                Ok(None) => self.nobody(&key),
                Err(what) => self.report.find(Where::Keys { key: hex(&key) }, what),
            }
        }
        for ((device, epoch), (height, index)) in &self.wraps {
            let erased = self.erasures.takes_key(device, *epoch).is_some();
            // Where the sealed bytes have not come, their key may not have, either.
            let key = (device.clone(), *epoch);
            let comes = self.open.lacking_keys.contains(&key);
            if !erased && !comes && !seen.contains(&wrap_prefix(device, *epoch)) {
                let (height, index) = (*height, *index);
                let what =
                    format!("no hub holds key {epoch} of `{device}`, which it is sealed under");
                self.report.find(place(height, index), what);
            }
        }
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
}
