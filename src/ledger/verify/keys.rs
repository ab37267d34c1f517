//! Which key counted when: hubs have others in the course of a chain.

use super::Verification;
use crate::ledger::head::Head;
use crate::ledger::report::KeySince;
use crate::ledger::state::State;
use weighbridge_verifier::{Block, PublicKey, rotation};

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

    /// Whether `key` has signed blocks of this chain: the one under which it was begun, or one that took
    /// the place of another and was used.
    pub(super) fn has_signed(&self, key: &PublicKey) -> bool {
        let used = |since: &&KeySince| since.height <= self.report.height;
        let mut later = self.report.rotations.iter().filter(used);
        self.report.key == Some(*key) || later.any(|since| since.key == *key)
    }

    /// A head is signed by the key that its hub had when the block was durable, or had from the next on.
    pub(super) fn head_signature(&self, head: &Head, state: &State) -> Result<(), String> {
        let hub = state.validators().and_then(|v| v.get(&head.hub));
        let current = hub.ok_or_else(|| format!("`{}` does not sign blocks here", head.hub))?;
        let of_hub = |since: &&KeySince| since.hub == head.hub;
        let changes: Vec<_> = self.report.rotations.iter().filter(of_hub).collect();
        let from = |since: &&&KeySince| since.height <= head.height.saturating_add(1);
        let newest = changes.iter().rev().find(from);
        let key = match newest {
            Some(since) => since.key,
            None => changes.first().map_or(current.key, |since| since.replaces),
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
