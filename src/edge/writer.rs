//! The task that puts one device's batches into its lane: several at once where they wait, with one
//! sync.
//!
//! A batch's credit returns when it is on disk. While the buffer takes nothing, the credits stay, and the
//! device is read no more.

use super::EdgeError;
use super::lane::Lane;
use super::seals::Seals;
use crate::actors::credit::BATCHES_UNDER_WAY;
use crate::actors::device::BatchRead;
use crate::actors::reading::BatchSink;
use crate::protocols::edge::Packer;
use crate::store::spool::SpoolError;
use async_trait::async_trait;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How often a buffer that took nothing is asked again, though nobody said there was room.
const AGAIN: Duration = Duration::from_secs(1);

/// The way from a reading task to its lane.
pub(super) struct LaneSink(pub(super) mpsc::Sender<BatchRead>);

#[async_trait]
impl BatchSink for LaneSink {
    async fn take(&mut self, batch: BatchRead) -> bool {
        self.0.send(batch).await.is_ok()
    }
}

pub(super) struct Writer {
    lane: Arc<Lane>,
    packer: Option<Packer>,
    grade: u8,
    seals: Arc<Seals>,
    queue: mpsc::Receiver<BatchRead>,
}

impl Writer {
    pub(super) fn new(
        lane: Arc<Lane>,
        (packer, grade, seals): (Packer, u8, Arc<Seals>),
        queue: mpsc::Receiver<BatchRead>,
    ) -> Self {
        lane.packs_by(&packer);
        Self {
            lane,
            packer: Some(packer),
            grade,
            seals,
            queue,
        }
    }

    /// Writes until the reading task is gone and all of it is on disk.
    pub(super) async fn run(mut self) {
        let mut waiting = VecDeque::new();
        let mut refused = false;
        let mut changes = self.seals.changes();
        loop {
            self.seal_anew();
            if waiting.is_empty() {
                let mut taken = Vec::with_capacity(BATCHES_UNDER_WAY);
                tokio::select! {
                    received = self.queue.recv_many(&mut taken, BATCHES_UNDER_WAY) => {
                        if received == 0 {
                            return;
                        }
                    }
                    Ok(_) = changes.changed() => continue,
                }
                waiting.extend(taken);
                self.seal_anew();
            }
            let Some(mut packer) = self.packer.take() else {
                return;
            };
            let lane = self.lane.clone();
            let written = tokio::task::spawn_blocking(move || {
                let written = write(&lane, &mut packer, &mut waiting);
                (packer, waiting, written)
            });
            let written = match written.await {
                Ok((packer, left, written)) => {
                    self.packer = Some(packer);
                    waiting = left;
                    written
                }
                Err(error) => {
                    // Its credits are dropped with it, and count the samples as lost.
                    let device = &self.lane.live.id;
                    tracing::error!(%device, %error, "a batch cannot be written");
                    return;
                }
            };
            match written {
                Ok(()) => refused = false,
                Err(error) => {
                    let device = &self.lane.live.id;
                    if !refused {
                        tracing::error!(%device, %error, "the device is read no more until there is room");
                    }
                    refused = true;
                    // Either wakes it: room, or the clock.
                    let _ = tokio::time::timeout(AGAIN, self.lane.room()).await;
                }
            }
        }
    }

    /// Goes over to what the hubs' sealing keys are by now; what is in the buffer stays as it is.
    fn seal_anew(&mut self) {
        if self
            .packer
            .as_ref()
            .is_none_or(|packer| self.seals.is_current(packer))
        {
            return;
        }
        match self.seals.packer(self.grade) {
            Ok(packer) => {
                self.lane.packs_by(&packer);
                self.packer = Some(packer);
            }
            Err(error) => {
                let device = &self.lane.live.id;
                tracing::error!(%device, %error, "batches are still sealed to the hub's former key");
            }
        }
    }
}

/// Writes what waits, and gives back the credits of what is durable. After an error the rest waits; a
/// batch that can never be written is dropped, and its credit counts it.
fn write(
    lane: &Lane,
    packer: &mut Packer,
    waiting: &mut VecDeque<BatchRead>,
) -> Result<(), EdgeError> {
    let mut appended = 0;
    while let Some(read) = waiting.get(appended) {
        match lane.append(packer, &read.batch) {
            Ok(()) => appended += 1,
            Err(EdgeError::Spool(error)) if !matches!(error, SpoolError::TooLong(_)) => {
                settle(lane, waiting, appended)?;
                return Err(error.into());
            }
            Err(error) => {
                let device = &lane.live.id;
                tracing::error!(%device, %error, "a batch cannot be kept, and is lost");
                waiting.remove(appended);
            }
        }
    }
    settle(lane, waiting, appended)
}

fn settle(
    lane: &Lane,
    waiting: &mut VecDeque<BatchRead>,
    appended: usize,
) -> Result<(), EdgeError> {
    lane.sync()?;
    for read in waiting.drain(..appended) {
        read.credit.settled();
    }
    Ok(())
}
