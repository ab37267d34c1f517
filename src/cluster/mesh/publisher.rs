//! The side of a link whose records go over it: a hub has connected, and reads.
//!
//! What it asks is read, what it is told is written, and what it wants to have is looked up, each by itself: no record
//! waits for sealed bytes or for blocks, which come one at a time.

use super::Shared;
use super::ended::Ended;
use super::greeting::OwnWord;
use super::outbox::{Asked, Follow, Outbox};
use super::peer::{Peer, Side};
use super::wire::{Frames, FromPublisher, FromSubscriber, MAX_HELLO, MAX_QUESTION, Writing};
use crate::access::FloodGauge;
use crate::cluster::ports::{Fault, LentWraps, MeshBook};
use crate::model::{Nanos, now};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use weighbridge_verifier::{PublicKey, decode, encode};

pub(super) type Stream = TlsStream<TcpStream>;
/// Questions that wait: who asks waits for the answer.
const QUESTIONS: usize = 1;
/// Words are counted in windows of this length.
pub(super) const FLOOD_WINDOW: Nanos = 10_000_000_000;
/// Small words that a word for a sealing key counts for: its signatures are checked.
pub(super) const WORD: u64 = 50;
/// For the last word.
const FAREWELL: Duration = Duration::from_millis(500);

/// Tells a hub what it asks for until one of the two ends it; why it ended.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    (stream, shown): (Stream, PublicKey),
    own: &CancellationToken,
) -> Ended {
    let mut target = peer.target.subscribe();
    let (reader, writer) = split(stream);
    let mut frames = Frames::new(reader, shared.pace.silence);
    let mut writing = Writing::new(writer, shared.pace.silence);
    let ended = tokio::select! {
        () = shared.stop.cancelled() => Ended::new("this hub is ending"),
        () = own.cancelled() => replaced(peer),
        _ = target.wait_for(|target| !target.keys.contains(&shown)) => {
            Ended::new("its key is another one by now")
        }
        ended = talk(shared, peer, &mut frames, &mut writing) => ended,
    };
    let goodbye = FromPublisher::Goodbye(ended.why.clone());
    // If nobody reads it, the link ends without a word.
    let _ = timeout(FAREWELL, writing.close(&goodbye)).await;
    ended
}

fn replaced(peer: &Peer) -> Ended {
    Ended::new(match peer.gone.is_cancelled() {
        true => "it is a hub of this chain no more",
        false => "it has connected again",
    })
}

async fn talk(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    frames: &mut Frames<ReadHalf<Stream>>,
    writing: &mut Writing<WriteHalf<Stream>>,
) -> Ended {
    let mut word = shared.word.clone();
    match meet(shared, peer, (frames, writing), &mut word).await {
        Ok(()) => peer.connected(Side::Lending),
        Err(ended) => return ended,
    }
    let asked = Asked::default();
    let (questions, mut asks) = mpsc::channel(QUESTIONS);
    let (answers, queue) = mpsc::channel(1);
    let looking_up = async {
        while let Some(question) = asks.recv().await {
            let sent = match look_up(shared, peer, question).await {
                Ok(answer) => answers.send(answer).await,
                Err(fault) => return fault.into(),
            };
            if sent.is_err() {
                break;
            }
        }
        Ended::new("the link is over")
    };
    tokio::select! {
        ended = listen(shared, peer, frames, (&asked, questions)) => ended,
        ended = tell(shared, peer, writing, (&asked, queue, word)) => ended,
        ended = looking_up => ended,
    }
}

/// Both sides say who they are.
async fn meet(
    shared: &Shared,
    peer: &Peer,
    (frames, writing): (
        &mut Frames<ReadHalf<Stream>>,
        &mut Writing<WriteHalf<Stream>>,
    ),
    word: &mut OwnWord,
) -> Result<(), Ended> {
    let hello = timeout(shared.pace.handshake, frames.next(MAX_HELLO)).await;
    let hello = hello.map_err(|_| Ended::new("it did not say hello in time"))??;
    let own = shared.hello(word)?;
    // Whoever speaks another version is to see which one is spoken here.
    writing.say(&own).await?;
    writing.flush().await?;
    let met = shared.judge(peer, &hello)?;
    shared.hear_word(peer, *met.word).await
}

/// Takes what the other hub says, until it is not what it should be.
async fn listen(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    frames: &mut Frames<ReadHalf<Stream>>,
    (asked, questions): (&Asked, mpsc::Sender<FromSubscriber>),
) -> Ended {
    let mut words = FloodGauge::new(FLOOD_WINDOW, now());
    loop {
        let said = match frames.next(MAX_QUESTION).await {
            Ok(frame) => decode("question of a hub", &frame),
            Err(error) => return error.into(),
        };
        peer.is_heard();
        let said = match said {
            Ok(said) => said,
            Err(error) => return Ended::lie(error.to_string()),
        };
        // What was taken was sent before, and answers wait for each other.
        let by_itself = match said {
            FromSubscriber::Follow { .. } | FromSubscriber::Tip { .. } => 1,
            FromSubscriber::Word(_) => WORD,
            _ => 0,
        };
        if let Some(flood) = words.count(by_itself, shared.pace.words, now()) {
            return Ended::lie(format!("it floods: {flood} words"));
        }
        match said {
            FromSubscriber::Follow {
                turn,
                from,
                generation,
                window,
            } => asked.follow(Follow {
                turn,
                from,
                generation,
                window,
            }),
            FromSubscriber::Took { sequence } => asked.took(sequence),
            FromSubscriber::WantSealed(_)
            | FromSubscriber::WantBlocks { .. }
            | FromSubscriber::WantWraps { .. }
            | FromSubscriber::WantCredentials { .. } => {
                if questions.try_send(said).is_err() {
                    return Ended::lie("it asks before it has its answer");
                }
            }
            FromSubscriber::Tip { height, hash } => {
                if let Err(ended) = shared.hear_tip(peer, (height, hash)).await {
                    return ended;
                }
            }
            FromSubscriber::Word(word) => {
                if let Err(ended) = shared.hear_word(peer, *word).await {
                    return ended;
                }
            }
            FromSubscriber::Goodbye(why) => return Ended::goodbye(&why),
        }
    }
}

/// The answer to a question, encoded.
async fn look_up(
    shared: &Arc<Shared>,
    peer: &Peer,
    question: FromSubscriber,
) -> Result<Vec<u8>, Fault> {
    let (most, hub) = (shared.pace.blocks, peer.id.clone());
    let answer = move |book: &dyn MeshBook| {
        let answer = match question {
            FromSubscriber::WantSealed(want) => FromPublisher::Sealed(book.lend(&want)?),
            FromSubscriber::WantBlocks { from } => FromPublisher::Blocks(book.blocks(from, most)?),
            FromSubscriber::WantWraps { from } => {
                let LentWraps { puts, next, all } = book.lend_wraps(&hub, &from)?;
                FromPublisher::Wraps { puts, next, all }
            }
            FromSubscriber::WantCredentials { user } => match book.lend_credentials(&hub, &user)? {
                Some(sealed) => FromPublisher::Credentials(sealed),
                None => FromPublisher::No,
            },
            _ => FromPublisher::No,
        };
        Ok(match &answer {
            FromPublisher::Sealed(none) if none.is_empty() => encode(&FromPublisher::No),
            FromPublisher::Blocks(none) if none.is_empty() => encode(&FromPublisher::No),
            some => encode(some),
        })
    };
    shared.blocking(answer).await?
}

/// Says what there is to say, as far as the window lets it.
async fn tell(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    writing: &mut Writing<WriteHalf<Stream>>,
    (asked, mut queue, mut word): (&Asked, mpsc::Receiver<Vec<u8>>, OwnWord),
) -> Ended {
    let (mut changed, mut tip) = (shared.book.own_changed(), shared.book.tip());
    let mut beats = interval(shared.pace.beat);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut outbox = Outbox::new(shared, peer);
    let told: Result<(), Ended> = async {
        loop {
            // Whatever else there is to say goes between two frames of records, not behind all of them.
            if tip.has_changed().unwrap_or(false) {
                let (height, hash) = *tip.borrow_and_update();
                writing.say(&FromPublisher::Tip { height, hash }).await?;
            }
            if word.has_changed().unwrap_or(false) {
                let said = word.borrow_and_update().as_deref().cloned();
                if let Some(said) = said {
                    let said = FromPublisher::Word(Box::new(said));
                    writing.say(&said).await?;
                }
            }
            if let Ok(answer) = queue.try_recv() {
                writing.frame(&answer).await?;
            }
            let own = *changed.borrow_and_update();
            if let Some(frame) = outbox.next(asked, own).await? {
                writing.frame(&frame).await?;
                continue;
            }
            writing.flush().await?;
            tokio::select! {
                () = asked.news() => {}
                more = changed.changed() => over(more)?,
                more = tip.changed() => {
                    over(more)?;
                    tip.mark_changed();
                }
                more = word.changed() => {
                    over(more)?;
                    word.mark_changed();
                }
                answer = queue.recv() => match answer {
                    Some(answer) => writing.frame(&answer).await?,
                    None => return Err(Ended::new("the link is over")),
                },
                _ = beats.tick() => tip.mark_changed(),
            }
        }
    }
    .await;
    match told {
        Ok(()) => Ended::new("the link is over"),
        Err(ended) => ended,
    }
}

/// What is watched is there no more: the hub ends.
pub(super) fn over(changed: Result<(), watch::error::RecvError>) -> Result<(), Ended> {
    changed.map_err(|_| Ended::new("this hub is ending"))
}
