//! Taking the records of another hub, as they come and as the rest of this hub has room.

use super::Shared;
use super::ended::Ended;
use super::inbox::{Again, Inbox, Next};
use super::peer::Peer;
use super::publisher::over;
use super::shape::check_run;
use super::wire::{FromPublisher, FromSubscriber};
use crate::cluster::ports::{Fault, MeshBook};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use weighbridge_verifier::decode;

/// The records of one link.
pub(super) struct Taking<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) peer: &'a Arc<Peer>,
    pub(super) inbox: &'a Inbox,
    pub(super) words: mpsc::Sender<FromSubscriber>,
    pub(super) incarnation: u64,
}

/// What is due next.
#[derive(Clone, Copy)]
struct Due {
    turn: u32,
    next: u64,
    generation: Option<u64>,
}

impl Due {
    /// From here on instead.
    fn again(self, next: u64, generation: Option<u64>) -> Self {
        Self {
            turn: self.turn.wrapping_add(1),
            next,
            generation,
        }
    }
}

/// What came of offering a frame.
struct Offered {
    /// Number of its first record, and how many it has.
    first: u64,
    records: usize,
    /// How many of them were taken by now.
    taken: usize,
    /// Number of the record that is needed next.
    wanted: u64,
}

/// What becomes of a frame.
enum Outcome {
    /// All of it was taken, this is its last record.
    Taken(u64),
    /// Its records were signed anew.
    Void,
    /// What was taken before it is not here any more: from this number on.
    Lost(u64),
}

impl Taking<'_> {
    /// Takes what comes until the link is to end.
    pub(super) async fn run(self) -> Ended {
        match self.follow().await {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    async fn follow(&self) -> Result<std::convert::Infallible, Ended> {
        let mut due = Due {
            turn: 1,
            next: self.wanted().await?,
            generation: self.peer.generation(self.incarnation),
        };
        self.ask(due).await?;
        loop {
            match self.inbox.next().await {
                Next::Again(Again { from, generation }) => {
                    self.peer.set_generation(self.incarnation, generation);
                    due = due.again(from, Some(generation));
                    self.ask(due).await?;
                }
                Next::Run(frame) => {
                    let bytes = frame.len();
                    let outcome = self.offer(Arc::new(frame), due).await?;
                    self.inbox.done(bytes);
                    match outcome {
                        Outcome::Taken(last) => {
                            due.next = last.saturating_add(1);
                            self.say(FromSubscriber::Took { sequence: last }).await?;
                        }
                        Outcome::Void => {}
                        Outcome::Lost(from) => {
                            due = due.again(from, due.generation);
                            self.ask(due).await?;
                        }
                    }
                }
            }
        }
    }

    /// Number of the record that is needed next, when nothing of an earlier link is under way any more.
    async fn wanted(&self) -> Result<u64, Ended> {
        let turn = self.peer.taking.clone().lock_owned().await;
        let hub = self.peer.id.clone();
        let wanted = move |book: &dyn MeshBook| {
            let _turn = turn;
            book.wanted(&hub)
        };
        Ok(self.shared.blocking(wanted).await?)
    }

    async fn ask(&self, due: Due) -> Result<(), Ended> {
        self.inbox.begin(due.turn);
        self.say(FromSubscriber::Follow {
            turn: due.turn,
            from: due.next,
            generation: due.generation,
            window: self.shared.pace.window,
        })
        .await
    }

    async fn say(&self, word: FromSubscriber) -> Result<(), Ended> {
        let said = self.words.send(word).await;
        said.map_err(|_| Ended::new("the link is over"))
    }

    /// Offers a frame until something becomes of it.
    async fn offer(&self, frame: Arc<Vec<u8>>, due: Due) -> Result<Outcome, Ended> {
        let mut tip = self.shared.book.tip();
        let mut taken = 0;
        loop {
            // What changes from here on is a reason to offer again.
            tip.borrow_and_update();
            let offered = self.once(frame.clone(), taken, due).await?;
            let next = offered.first.saturating_add(offered.taken as u64);
            let last = next.saturating_sub(1);
            if offered.taken == offered.records {
                return Ok(Outcome::Taken(last));
            }
            // Where a block has records in between, it will bring them here, too.
            let ahead = offered.taken == 0 && offered.first > due.next;
            if offered.wanted < next && !ahead {
                return Ok(Outcome::Lost(offered.wanted));
            }
            if offered.taken > taken {
                taken = offered.taken;
                self.say(FromSubscriber::Took { sequence: last }).await?;
            }
            let until = Instant::now() + self.shared.pace.offer;
            loop {
                if self.inbox.is_void() {
                    return Ok(Outcome::Void);
                }
                tokio::select! {
                    more = tip.changed() => {
                        over(more)?;
                        break;
                    }
                    () = self.inbox.news() => {}
                    () = sleep_until(until) => break,
                }
            }
        }
    }

    async fn once(&self, frame: Arc<Vec<u8>>, taken: usize, due: Due) -> Result<Offered, Ended> {
        let turn = self.peer.taking.clone().lock_owned().await;
        let (hub, chain) = (self.peer.id.clone(), self.shared.chain.clone());
        let offer = move |book: &dyn MeshBook| {
            let _turn = turn;
            offer(book, &frame, (&hub, &chain), (taken, due))
        };
        Ok(self.shared.blocking(offer).await??)
    }
}

fn offer(
    book: &dyn MeshBook,
    frame: &[u8],
    (hub, chain): (&str, &str),
    (taken, due): (usize, Due),
) -> Result<Offered, Fault> {
    let (generation, mut run) = match decode("records of a hub", frame).map_err(Fault::lie)? {
        FromPublisher::Run {
            generation,
            carried,
            ..
        } => (generation, carried),
        _ => return Err(Fault::lie("it sends something else than records")),
    };
    if due.generation != Some(generation) {
        return Err(Fault::lie("its records are not of the generation it said"));
    }
    let first = check_run(&run, hub, chain, due.next)?;
    let records = run.len();
    let rest = run.split_off(taken.min(records));
    let more = rest.len().min(book.take(hub, rest)?);
    Ok(Offered {
        first,
        records,
        taken: taken + more,
        wanted: book.wanted(hub),
    })
}
