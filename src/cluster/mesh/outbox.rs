//! Which of the own records go to a hub next.

use super::Shared;
use super::bounded::{MAX_PUTS, MAX_RECORDS};
use super::ended::Ended;
use super::peer::Peer;
use super::window::Window;
use super::wire::{FromPublisher, MAX_FRAME};
use crate::cluster::ports::{Fault, MeshBook};
use crate::ledger::shared::Carried;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::Notify;
use weighbridge_verifier::encode;

/// What the other hub has said of the records that it wants: the newest only, so that no number of words costs memory.
#[derive(Default)]
pub(super) struct Asked {
    newest: Mutex<Newest>,
    more: Notify,
}

#[derive(Clone, Copy, Default)]
struct Newest {
    follow: Option<Follow>,
    took: Option<u64>,
}

#[derive(Clone, Copy)]
pub(super) struct Follow {
    pub(super) turn: u32,
    pub(super) from: u64,
    pub(super) generation: Option<u64>,
    pub(super) window: u32,
}

impl Asked {
    /// It wants other records. What it took of those before says nothing of these.
    pub(super) fn follow(&self, follow: Follow) {
        let follow = Some(follow);
        *self.newest.lock() = Newest { follow, took: None };
        self.more.notify_one();
    }

    /// It took all up to this number.
    pub(super) fn took(&self, sequence: u64) {
        self.newest.lock().took = Some(sequence);
        self.more.notify_one();
    }

    /// Wakes when it has said something.
    pub(super) async fn news(&self) {
        self.more.notified().await;
    }

    fn take(&self) -> Newest {
        std::mem::take(&mut *self.newest.lock())
    }
}

/// The records for one hub.
pub(super) struct Outbox<'a> {
    shared: &'a Arc<Shared>,
    peer: &'a Arc<Peer>,
    /// What it follows; `None` before it has asked, and after its records were signed anew.
    lane: Option<Lane>,
}

struct Lane {
    turn: u32,
    /// Number of the next record.
    next: u64,
    generation: Option<u64>,
    window: Window,
    /// A frame that is too long for what is free, with its last record.
    held: Option<(Vec<u8>, u64)>,
}

/// A frame of records.
struct Packed {
    generation: u64,
    /// The frame, and its last record; `None` when no record waits.
    frame: Option<(Vec<u8>, u64)>,
}

impl<'a> Outbox<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>, peer: &'a Arc<Peer>) -> Self {
        Self {
            shared,
            peer,
            lane: None,
        }
    }

    /// The next frame, if one may leave. `own` is the generation of the own records, and the number of the newest.
    pub(super) async fn next(
        &mut self,
        asked: &Asked,
        own: (u64, u64),
    ) -> Result<Option<Vec<u8>>, Ended> {
        self.hear(asked)?;
        let (generation, newest) = own;
        let follows = self.lane.as_ref().map(|lane| lane.generation);
        if follows.is_some_and(|of| of != Some(generation))
            && let Some(again) = self.again(newest).await?
        {
            return Ok(Some(again));
        }
        let Some(lane) = &mut self.lane else {
            return Ok(None);
        };
        let run = self.shared.pace.run;
        let (frame, last) = match lane.held.take() {
            Some(held) => held,
            None => {
                let room = lane.window.room(run).min(run);
                if room == 0 || newest < lane.next {
                    return Ok(None);
                }
                let (turn, from) = (lane.turn, lane.next);
                let pack = move |book: &dyn MeshBook| pack(book, turn, (from, room));
                let packed = self.shared.blocking(pack).await??;
                if lane.generation != Some(packed.generation) {
                    return self.again(newest).await;
                }
                match packed.frame {
                    Some(frame) => frame,
                    // A block took them.
                    None => return Ok(None),
                }
            }
        };
        if !lane.window.fits(frame.len()) {
            lane.held = Some((frame, last));
            return Ok(None);
        }
        lane.window.sent(last, frame.len());
        lane.next = last.saturating_add(1);
        self.peer.takes(None, lane.window.bytes());
        Ok(Some(frame))
    }

    fn hear(&mut self, asked: &Asked) -> Result<(), Ended> {
        let said = asked.take();
        if let Some(follow) = said.follow {
            let most = follow.window.min(self.shared.pace.window) as usize;
            self.lane = Some(Lane {
                turn: follow.turn,
                next: follow.from,
                generation: follow.generation,
                window: Window::new(most),
                held: None,
            });
            self.peer.takes(Some(follow.from.saturating_sub(1)), 0);
        }
        // What it took of records that were signed anew since is of no interest.
        if let (Some(took), Some(lane)) = (said.took, &mut self.lane) {
            if !lane.window.took(took) {
                return Err(Ended::lie("it takes records that it was not sent"));
            }
            self.peer.takes(Some(took), lane.window.bytes());
        }
        Ok(())
    }

    /// Says that records were signed anew, if they were, and waits for what the other hub wants now.
    async fn again(&mut self, newest: u64) -> Result<Option<Vec<u8>>, Ended> {
        let first = move |book: &dyn MeshBook| {
            let own = book.own(0, 1)?;
            let first = own.run.first().map(|carried| carried.record.body.sequence);
            Ok::<_, Fault>((first, own.generation))
        };
        let (first, generation) = self.shared.blocking(first).await??;
        // Whoever says that there is something new may be behind what is there.
        let stale = |lane: &mut Lane| lane.generation != Some(generation);
        let Some(lane) = self.lane.take_if(stale) else {
            return Ok(None);
        };
        let from = first.unwrap_or(newest.saturating_add(1));
        Ok(Some(encode(&FromPublisher::Again {
            turn: lane.turn,
            from,
            generation,
        })))
    }
}

/// Records from number `from` on as a frame.
fn pack(book: &dyn MeshBook, turn: u32, (from, most): (u64, usize)) -> Result<Packed, Fault> {
    let own = book.own(from, most)?;
    let (generation, mut run) = (own.generation, own.run);
    run.truncate(fitting(&run));
    let Some(last) = run.last().map(|carried| carried.record.body.sequence) else {
        let frame = None;
        return Ok(Packed { generation, frame });
    };
    let carried = run;
    let frame = encode(&FromPublisher::Run {
        turn,
        generation,
        carried,
    });
    if frame.len() > MAX_FRAME {
        let bytes = frame.len();
        return Err(Fault::failed(format!(
            "record {from} of this hub is {bytes} bytes with what belongs to it, and {MAX_FRAME} are the most that hubs \
             carry"
        )));
    }
    let frame = Some((frame, last));
    Ok(Packed { generation, frame })
}

/// How many of the records one frame may have.
fn fitting(run: &[Carried]) -> usize {
    let mut puts = 0;
    let fits = |carried: &&Carried| {
        puts += carried.puts.len();
        puts <= MAX_PUTS
    };
    let fitting = run.iter().take(MAX_RECORDS).take_while(fits).count();
    // One that does not fit by itself is refused at the other end, and said there.
    fitting.max(run.len().min(1))
}
