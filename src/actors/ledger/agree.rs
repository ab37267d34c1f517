//! Blocks that several hubs decided: what this hub had recorded is in them, and what others recorded is heard of.

use super::messages::{BlockCommitted, LedgerTip, RecordFault};
use super::{ActDone, LedgerActor, answer};
use crate::cluster::Committed;
use crate::ledger::{Draft, Tip};
use crate::model::DeviceId;
use actix::prelude::*;
use std::sync::Arc;
use std::time::Duration;

/// How long what needs the agreement of the other hubs waits for it.
const PATIENCE: Duration = Duration::from_secs(4);
/// What may wait for it.
const WAITING: usize = 64;

/// What waits for the agreement of the other hubs.
pub(super) struct Agreeing {
    number: u64,
    draft: Draft,
    done: ActDone,
}

impl LedgerActor {
    /// Begins to hear of blocks.
    pub(super) fn listen(&self, ctx: &mut Context<Self>) {
        let shared = self.book.as_ref().and_then(|book| book.shared());
        let Some(blocks) = shared.and_then(|shared| shared.committed()) else {
            return;
        };
        let blocks = futures_util::stream::unfold(blocks, async |mut blocks| {
            let block = blocks.recv().await?;
            Some((block, blocks))
        });
        ctx.add_stream(Box::pin(blocks));
    }

    /// Waits until a block has what became of `draft`, which is durable here; not for ever.
    pub(super) fn wait_for(&mut self, draft: Draft, done: ActDone, ctx: &mut Context<Self>) {
        if self.agreeing.len() >= WAITING {
            return answer(vec![done], &Err(RecordFault::NotAgreed));
        }
        self.asked += 1;
        let number = self.asked;
        self.agreeing.push(Agreeing {
            number,
            draft,
            done,
        });
        ctx.run_later(PATIENCE, move |actor, _| {
            let late = |one: &mut Agreeing| one.number == number;
            for one in actor.agreeing.extract_if(.., late) {
                answer(vec![one.done], &Err(RecordFault::NotAgreed));
            }
        });
    }
}

impl StreamHandler<Committed> for LedgerActor {
    fn handle(&mut self, committed: Committed, _: &mut Self::Context) {
        let block = &committed.block;
        self.tip = LedgerTip::of(&Tip::of(&block.header), committed.records);
        self.count(&block.records);
        let hub = self.book_of.as_deref();
        let (own, foreign): (Vec<_>, Vec<_>) = block
            .records
            .iter()
            .partition(|record| Some(&*record.body.hub) == hub);
        for batch in foreign.iter().filter_map(|record| record.body.batch()) {
            let at = (batch.epoch, batch.sequence);
            let newest = self.newest.entry(batch.device.as_str().into());
            let newest = newest.or_default();
            *newest = at.max(*newest);
        }
        let batches = block.records.iter().filter_map(|record| {
            let batch = record.body.batch()?;
            let device: DeviceId = batch.device.as_str().into();
            Some((device, batch.epoch, batch.sequence, batch.verdict.class))
        });
        let batches: Vec<_> = batches.collect();
        let height = self.tip.height;
        let agreed = |one: &mut Agreeing| own.iter().any(|record| one.draft.became(record));
        for one in self.agreeing.extract_if(.., agreed) {
            answer(vec![one.done], &Ok(height));
        }
        for left in &committed.left_out {
            let (subject, object) = &left.about;
            tracing::error!(
                subject, object, why = %left.why,
                "what other hubs recorded leaves no place for a record of this hub: it is not on the chain"
            );
            let gone =
                |one: &mut Agreeing| one.draft.subject == *subject && one.draft.object == *object;
            for one in self.agreeing.extract_if(.., gone) {
                answer(
                    vec![one.done],
                    &Err(RecordFault::Refused(left.why.to_string())),
                );
            }
        }
        let foreign = foreign.into_iter().cloned().collect();
        self.show_standing(
            batches.iter().map(|(device, ..)| device),
            &committed.attested,
        );
        let tip = self.tip;
        self.status.send_modify(|status| status.tip = tip);
        let committed = BlockCommitted {
            tip,
            batches,
            foreign,
            decided: Some(committed.block.clone()),
        };
        // Nobody listening is fine.
        let _ = self.committed.send(Arc::new(committed));
    }

    fn finished(&mut self, _: &mut Self::Context) {
        // The chain was left: the hub ends.
    }
}
