//! The signed heads: they must name the newest blocks of the store.

use super::Verification;
use crate::ledger::head::{Head, HeadReading};
use crate::ledger::replay::Follower;
use crate::ledger::report::Where;

impl Verification<'_> {
    /// Reads the heads, and reports what is damaged.
    pub(super) fn read_heads(&mut self, reading: &HeadReading) -> Vec<Head> {
        for damaged in &reading.damaged {
            let what = format!(
                "{damaged} is damaged: changed, or torn by a power loss (then the hub repairs it when \
                 it starts)"
            );
            self.report.find(Where::Head, what);
        }
        let mut heads = Vec::new();
        for bytes in &reading.heads {
            match Head::from_bytes(bytes) {
                Ok(head) => heads.push(head),
                Err(e) => self.report.find(Where::Head, e),
            }
        }
        heads
    }

    pub(super) fn heads(&mut self, heads: &[Head], reading: &HeadReading) {
        let end = self.previous.map_or(0, |(h, _)| h);
        for head in heads {
            if let Err(what) = self.head(head, end) {
                self.report.find(Where::Head, what);
            }
        }
        let newest = heads.first().map_or(0, |h| h.height);
        // One block ahead is a crash between the block and the head.
        if end > newest.saturating_add(1) && reading.damaged.is_empty() {
            let what = match heads.is_empty() {
                true => format!("there is no signed head, but {end} blocks"),
                false => format!("it stands at block {newest}, the store ends at block {end}"),
            };
            self.report.find(Where::Head, what);
        }
        // Every block writes one of the two slots, in turn.
        if end > 1 && heads.len() == 1 && reading.damaged.is_empty() {
            let what = format!("one of its two slots is empty, though there are {end} blocks");
            self.report.find(Where::Head, what);
        }
    }

    fn head(&self, head: &Head, end: u64) -> Result<(), String> {
        if head.height > end {
            return Err(format!(
                "block {} was acknowledged, but the store ends at block {end}",
                head.height
            ));
        }
        let Some(state) = self.follower.as_ref().map(Follower::state) else {
            return Err("there is no ledger to judge it by".to_owned());
        };
        if head.chain != state.chain() {
            return Err(format!("it is of the chain `{}`", head.chain));
        }
        self.head_signature(head, state)?;
        let block = self.head_blocks.get(&head.height).copied().flatten();
        if block.is_some_and(|b| b != head.block_hash) {
            return Err(format!(
                "block {} in the store is not the one it names",
                head.height
            ));
        }
        Ok(())
    }
}
