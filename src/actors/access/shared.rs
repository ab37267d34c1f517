//! The desk of a hub that shares its chain: what others recorded comes into force here, too.

use super::{ACCESS_OBJECT, AccessDesk, details, kind, object, recorded_entry};
use crate::access::{Entry, EntryError, SharedAccess, Told};
use crate::ledger::act::Act;
use serde_json::{Value as Json, json};
use weighbridge_verifier::Action;

/// Why the hub says once more what an entry says.
const CROSSED: &str = "what this hub recorded was crossed by what another one had recorded before";

/// The entry that a record of the chain makes anew; `None` when it makes none, or another version wrote it. `object` and
/// `details` are those of the record, and `own` says whether this hub recorded it.
pub fn told(object: &str, details: &Json, own: bool) -> Option<Told> {
    let entry = Entry {
        name: object.strip_prefix(ACCESS_OBJECT)?.to_owned(),
        says: recorded_entry(details)?.clone(),
    };
    Some(Told::new(entry, own))
}

impl AccessDesk {
    /// The hub shares its chain from now on, of which this is `told`, the newest entry of each name at least; `open` is
    /// what the hub recorded since. To be called before anything changes; what the two come to is in force then.
    ///
    /// # Errors
    /// When an entry cannot be read.
    pub fn share(
        &self,
        told: impl IntoIterator<Item = Told>,
        open: Vec<Entry>,
    ) -> Result<(), EntryError> {
        let shared = SharedAccess::new(told, open)?;
        let state = shared.in_force();
        *self.0.shared.lock() = Some(shared);
        if state != *self.0.gate.state() {
            self.show(state);
        }
        Ok(())
    }

    /// Whether the hub shares its chain with others.
    pub fn is_shared(&self) -> bool {
        self.0.shared.lock().is_some()
    }

    /// Whether what is in force under the name of an entry was recorded by another hub.
    pub fn is_elsewhere(&self, name: &str) -> bool {
        let shared = self.0.shared.lock();
        shared
            .as_ref()
            .is_some_and(|shared| shared.is_elsewhere(name))
    }

    /// Takes in the entries that the chain has next, those of this hub among them, in its order. They are durable
    /// already. What follows from a change follows from them: sessions of who was put out end, keys are wrapped to
    /// other readers. Where another hub crossed what this one recorded, what comes of both is recorded.
    ///
    /// One change at a time: it waits until one that is just being recorded is durable. So nothing that this needs in
    /// order to become durable may wait for it.
    ///
    /// # Errors
    /// When an entry cannot be read: then nothing was taken in, and whoever is on a blacklist that this hub cannot read
    /// must not come in by it.
    pub async fn take_in(&self, told: &[Told]) -> Result<(), EntryError> {
        self.take(|shared| shared.take_in(told)).await
    }

    /// The same with an entry that the chain has had for longer, and that could not be read here before.
    ///
    /// # Errors
    /// As [`Self::take_in`].
    pub async fn take_in_late(&self, told: &Told) -> Result<(), EntryError> {
        self.take(|shared| shared.take_in_late(told)).await
    }

    async fn take(
        &self,
        take: impl FnOnce(&mut SharedAccess) -> Result<Vec<Entry>, EntryError>,
    ) -> Result<(), EntryError> {
        let desk = &*self.0;
        let _one_at_a_time = desk.changing.lock().await;
        let (state, corrections) = {
            let mut shared = desk.shared.lock();
            let Some(shared) = &mut *shared else {
                return Ok(());
            };
            let corrections = take(shared)?;
            (shared.in_force(), corrections)
        };
        if state != *desk.gate.state() {
            self.show(state);
        }
        for entry in corrections {
            tracing::warn!(entry = entry.name, "another hub crossed a change of access");
            let details = details(&entry, &json!({ "why": CROSSED }));
            let object = object(&entry.name);
            let act = Act {
                kind: kind(&entry),
                ..super::act(desk.gate.hub(), (Action::Configure, &object), &details)
            };
            if let Err(error) = desk.journal.note(&act).await {
                tracing::error!(entry = entry.name, %error, "what comes of a crossed change cannot be recorded");
            }
        }
        Ok(())
    }
}
