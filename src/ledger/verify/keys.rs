//! Which key counted when: hubs have others in the course of a chain.

use super::Verification;
use crate::ledger::head::Head;
use crate::ledger::replay::Follower;
use crate::ledger::report::{HubChanged, HubEvent, KeySince, MAX_FINDINGS};
use crate::ledger::state::State;
use weighbridge_verifier::{Block, Content, IdentityKind, PublicKey, ValidatorSet, rotation};

impl Verification<'_> {
    /// Notes the keys that `block`, which follows, gives to hubs.
    pub(super) fn note_keys(&mut self, height: u64, block: &Block) {
        for record in &block.records {
            if let Some((rotation, key)) = rotation::of_hub(record) {
                self.report.rotations.push(KeySince {
                    hub: rotation.identity.id.clone(),
                    key,
                    replaces: rotation.replaces,
                    height: height.saturating_add(1),
                });
            }
        }
    }

    /// Notes who came into the set and who left it by `block`, which follows; before it the set was `before`.
    pub(super) fn note_hubs(&mut self, height: u64, block: &Block, before: Option<&ValidatorSet>) {
        let Some(after) = self.follower.as_ref().and_then(Follower::validators) else {
            return;
        };
        let Some(before) = before else {
            self.begun = after.validators.first().map(|hub| hub.key);
            return;
        };
        let came = after.validators.iter();
        let came = came.filter(|hub| before.get(&hub.id).is_none());
        let since = height.saturating_add(1);
        self.joined.extend(came.map(|hub| (hub.key, since)));
        if before != after {
            let room = MAX_FINDINGS.saturating_sub(self.report.hubs.len());
            let changes = hub_changes(height, block, before, after);
            self.report.hubs.extend(changes.into_iter().take(room));
        }
    }

    /// Whether `key` has signed blocks of this chain: the one under which it was begun, one that took
    /// the place of another and was used, or one of a hub that came later.
    pub(super) fn has_signed(&self, key: &PublicKey) -> bool {
        let used = |since: &&KeySince| since.height <= self.report.height;
        let mut later = self.report.rotations.iter().filter(used);
        let mut joined = self.joined.iter();
        let height = self.report.height;
        self.report.key == Some(*key)
            || later.any(|since| since.key == *key)
            || joined.any(|(of_hub, since)| of_hub == key && *since <= height)
    }

    /// A head is signed by the key that its hub had when the block was durable, or had from the next on.
    pub(super) fn head_signature(&self, head: &Head, state: &State) -> Result<(), String> {
        // Also one that is not in the set yet, or was dismissed: its head is about its own store.
        let hub = state.identities().get(&head.hub);
        let key = hub
            .filter(|h| h.kind == IdentityKind::Hub)
            .and_then(|h| h.key);
        let current = key.ok_or_else(|| format!("`{}` is no hub of this chain", head.hub))?;
        let of_hub = |since: &&KeySince| since.hub == head.hub;
        let changes: Vec<_> = self.report.rotations.iter().filter(of_hub).collect();
        let from = |since: &&&KeySince| since.height <= head.height.saturating_add(1);
        let newest = changes.iter().rev().find(from);
        let key = match newest {
            Some(since) => since.key,
            None => changes.first().map_or(current, |since| since.replaces),
        };
        let Err(why) = head.verify(&key, self.check) else {
            return Ok(());
        };
        // The very block that gave it.
        let old = newest.filter(|since| since.height == head.height.saturating_add(1));
        match old.is_some_and(|since| head.verify(&since.replaces, self.check).is_ok()) {
            true => Ok(()),
            false => Err(why.to_string()),
        }
    }
}

/// What `block` changed about who decides, and who stands by.
fn hub_changes(
    height: u64,
    block: &Block,
    before: &ValidatorSet,
    after: &ValidatorSet,
) -> Vec<HubChanged> {
    let proven = |hub: &str| {
        let about = |object: &str| object.strip_prefix("hub:") == Some(hub);
        let mut records = block.records.iter().map(|record| &record.body);
        records.any(|body| matches!(body.content, Content::Equivocation(_)) && about(&body.object))
    };
    let ids = before.all().chain(after.all());
    let ids: std::collections::BTreeSet<&str> = ids.map(|hub| &*hub.id).collect();
    let stands = |set: &ValidatorSet, id: &str| set.standby(id).is_some();
    let mut changes = Vec::new();
    for id in ids {
        let event = match (before.get(id).is_some(), after.get(id).is_some()) {
            (true, false) if proven(id) => HubEvent::Proven,
            (true, false) => HubEvent::Dismissed,
            (false, true) if stands(before, id) => HubEvent::CameIn,
            (false, true) => HubEvent::Admitted,
            _ => match (stands(before, id), stands(after, id)) {
                (false, true) => HubEvent::StandsBy,
                (true, false) => HubEvent::Unlisted,
                _ => continue,
            },
        };
        let hub = id.to_owned();
        changes.push(HubChanged { hub, height, event });
    }
    changes
}
