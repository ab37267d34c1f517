//! One device's actor.
//!
//! Receives [`BatchRead`] from the device's reading task and [`BatchSettled`] from the ledger; numbers
//! the batches and sends them on to the device's validator. Holds the next sequence number and the
//! reading task. When it dies, the hub's watchdog builds the device's whole pipeline anew, numbering
//! from what the ledger holds.

use super::credit::Credit;
use super::validator::{JudgeBatch, ValidatorActor};
use super::work::Workers;
use crate::ledger::seal::Origin;
use crate::live_view::DeviceLive;
use crate::model::{Batch, VerdictClass};
use actix::prelude::*;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use tokio_util::task::TaskTracker;

/// A batch came off the wire.
#[derive(Message)]
#[rtype(result = "()")]
pub struct BatchRead {
    /// The batch; numbered only if an edge node has read it.
    pub batch: Batch,
    /// How it came.
    pub origin: Origin,
    /// Leave to have it under way.
    pub credit: Credit,
}

/// A batch's record is durable.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub struct BatchSettled {
    /// Which batch.
    pub sequence: u64,
    /// What validation had said of it.
    pub class: VerdictClass,
    /// Height of the block with its record.
    pub height: u64,
}

/// The device is taken out of the hub: nothing of it is under way any more. With its actor the rest of
/// its pipeline ends.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Leave;

/// Makes the reading task, once the actor's address is known.
pub type MakeReading = Box<dyn FnOnce(Recipient<BatchRead>) -> BoxFuture<'static, ()> + Send>;

/// One device.
pub struct DeviceActor {
    live: Arc<DeviceLive>,
    epoch: u64,
    next_sequence: u64,
    validator: Addr<ValidatorActor>,
    reading: Option<MakeReading>,
    readers: TaskTracker,
    workers: Workers,
}

impl DeviceActor {
    /// A device that goes on with batch `next_sequence` of `epoch`; its reading task is one of
    /// `readers`.
    pub fn new(
        live: Arc<DeviceLive>,
        (epoch, next_sequence): (u64, u64),
        validator: Addr<ValidatorActor>,
        reading: MakeReading,
        (readers, workers): (TaskTracker, Workers),
    ) -> Self {
        Self {
            live,
            epoch,
            next_sequence,
            validator,
            reading: Some(reading),
            readers,
            workers,
        }
    }
}

impl Actor for DeviceActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(make) = self.reading.take() else {
            return;
        };
        let reading = make(ctx.address().recipient());
        let runtime = self.workers.runtime();
        let task = self.readers.spawn_on(reading, runtime);
        // A source that panics takes its actor with it, and the watchdog builds both anew.
        let watch = task.into_actor(self);
        ctx.spawn(watch.map(|ended, actor, ctx| {
            if let Err(error) = ended {
                tracing::error!(device = %actor.live.id, %error, "the reading task died");
                ctx.stop();
            }
        }));
    }
}

impl Handler<BatchRead> for DeviceActor {
    type Result = AtomicResponse<Self, ()>;

    fn handle(
        &mut self,
        BatchRead {
            mut batch,
            origin,
            credit,
        }: BatchRead,
        _: &mut Self::Context,
    ) -> Self::Result {
        if matches!(origin, Origin::Read) {
            batch.epoch = self.epoch;
            batch.sequence = self.next_sequence;
            self.next_sequence += 1;
        }
        let sent = self.validator.send(JudgeBatch {
            batch,
            origin,
            credit,
        });
        let sent = sent.into_actor(self);
        AtomicResponse::new(Box::pin(sent.map(|sent, actor, ctx| {
            if let Err(error) = sent {
                tracing::error!(device = %actor.live.id, %error, "the device's validator is gone");
                ctx.stop();
            }
        })))
    }
}

impl Handler<BatchSettled> for DeviceActor {
    type Result = ();

    fn handle(&mut self, settled: BatchSettled, _: &mut Self::Context) {
        tracing::trace!(device = %self.live.id, sequence = settled.sequence, height = settled.height, "durable");
    }
}

impl Handler<Leave> for DeviceActor {
    type Result = ();

    fn handle(&mut self, _: Leave, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
