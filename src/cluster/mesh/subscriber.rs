//! The side of a link that reads: this hub has dialled another one.
//!
//! What comes is read, what is asked is written, records are taken, and questions are asked one at a time, each by
//! itself: a hub whose pool is full still hears where the others stand.

use super::Shared;
use super::ended::Ended;
use super::greeting::OwnWord;
use super::inbox::{Again, Inbox};
use super::peer::{Peer, Question, Side, Target};
use super::publisher::{FLOOD_WINDOW, WORD, over};
use super::taking::Taking;
use super::wire::{
    Frames, FromPublisher, FromSubscriber, Kind, MAX_FRAME, MAX_HELLO, Writing, kind, turn_of,
};
use crate::access::FloodGauge;
use crate::crypto::mesh_tls;
use crate::model::now;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use weighbridge_verifier::{PublicKey, decode};

type Stream = TlsStream<TcpStream>;
/// Words that wait for a slow connection.
const WORDS: usize = 16;
/// Questions that wait for their turn.
const QUESTIONS: usize = 8;
/// For the last word.
const FAREWELL: Duration = Duration::from_millis(500);

/// Who waits for an answer.
type Pending = Mutex<Option<oneshot::Sender<Vec<u8>>>>;

/// Reads from a hub until one of the two ends it; why it ended. `met` is since when both sides know each other.
pub(super) async fn read(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    target: &Target,
    met: &mut Option<Instant>,
) -> Ended {
    let mut changes = peer.target.subscribe();
    let (stream, shown) = match reach(shared, peer, target).await {
        Ok(reached) => reached,
        Err(ended) => return ended,
    };
    let (reader, writer) = split(stream);
    let mut frames = Frames::new(reader, shared.pace.silence);
    let mut writing = Writing::new(writer, shared.pace.silence);
    let moved = |now: &Target| now.address != target.address || !now.keys.contains(&shown);
    let ended = tokio::select! {
        () = shared.stop.cancelled() => Ended::new("this hub is ending"),
        () = peer.gone.cancelled() => Ended::new("it is a hub of this chain no more"),
        _ = changes.wait_for(moved) => Ended::new("its address or its key is another one by now"),
        ended = talk(shared, peer, (&mut frames, &mut writing), met) => ended,
    };
    let goodbye = FromSubscriber::Goodbye(ended.why.clone());
    // If nobody reads it, the link ends without a word.
    let _ = timeout(FAREWELL, writing.close(&goodbye)).await;
    ended
}

/// Connects; the key that the other hub has shown.
async fn reach(
    shared: &Shared,
    peer: &Peer,
    target: &Target,
) -> Result<(Stream, PublicKey), Ended> {
    let patience = shared.pace.handshake;
    let late = |_| Ended::new("it cannot be reached: it does not answer");
    let stream = timeout(patience, TcpStream::connect(&target.address)).await;
    let stream = stream.map_err(late)?;
    let stream = stream.map_err(|e| Ended::new(format!("it cannot be reached: {e}")))?;
    // Small words should not wait for others.
    let _ = stream.set_nodelay(true);
    let host = stream.peer_addr().map(|address| address.ip());
    let connector = TlsConnector::from(target.tls.clone());
    let shaken = timeout(patience, connector.connect(mesh_tls::any_name(), stream)).await;
    let stream = match shaken {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if mesh_tls::is_other_key(&error) => {
            return Err(Ended::new("somebody answers there who has another key"));
        }
        Ok(Err(error)) => return Err(Ended::new(format!("no connection by TLS: {error}"))),
        Err(_) => return Err(Ended::new("it does not finish the handshake")),
    };
    let shown = mesh_tls::shown(stream.get_ref().1, &target.keys);
    let shown = shown.ok_or_else(|| Ended::new("whoever answers there is no hub"))?;
    if let Ok(host) = host {
        peer.reached(host);
    }
    Ok((stream, shown))
}

async fn talk(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    (frames, writing): (
        &mut Frames<ReadHalf<Stream>>,
        &mut Writing<WriteHalf<Stream>>,
    ),
    met: &mut Option<Instant>,
) -> Ended {
    let mut word = shared.word.clone();
    let incarnation = match meet(shared, peer, (frames, writing), &mut word).await {
        Ok(incarnation) => incarnation,
        Err(ended) => return ended,
    };
    *met = Some(Instant::now());
    let (words, queue) = mpsc::channel(WORDS);
    let (desk, questions) = mpsc::channel(QUESTIONS);
    let (accusation, mut accused) = mpsc::channel(1);
    let (inbox, pending) = (Inbox::new(shared.pace.window as usize), Pending::default());
    peer.open_desk(desk, accusation);
    peer.connected(Side::Reading);
    let taking = Taking {
        shared,
        peer,
        inbox: &inbox,
        words: words.clone(),
        incarnation,
    };
    tokio::select! {
        ended = listen(shared, peer, frames, (&inbox, &pending)) => ended,
        ended = speak(shared, writing, (queue, word)) => ended,
        ended = taking.run() => ended,
        ended = ask(shared, questions, (&words, &pending)) => ended,
        Some(ended) = accused.recv() => ended,
    }
}

/// Both sides say who they are; the other's incarnation.
async fn meet(
    shared: &Shared,
    peer: &Peer,
    (frames, writing): (
        &mut Frames<ReadHalf<Stream>>,
        &mut Writing<WriteHalf<Stream>>,
    ),
    word: &mut OwnWord,
) -> Result<u64, Ended> {
    let own = shared.hello(word)?;
    writing.say(&own).await?;
    writing.flush().await?;
    let hello = timeout(shared.pace.handshake, frames.next(MAX_HELLO)).await;
    let hello = hello.map_err(|_| Ended::new("it did not answer the hello"))??;
    let met = shared.judge(peer, &hello)?;
    shared.hear_word(peer, *met.word).await?;
    Ok(met.incarnation)
}

/// Takes what the other hub says, until it is not what it should be.
async fn listen(
    shared: &Shared,
    peer: &Peer,
    frames: &mut Frames<ReadHalf<Stream>>,
    (inbox, pending): (&Inbox, &Pending),
) -> Ended {
    let mut words = FloodGauge::new(FLOOD_WINDOW, now());
    let mut rebases = FloodGauge::new(FLOOD_WINDOW, now());
    loop {
        let frame = match frames.next(MAX_FRAME).await {
            Ok(frame) => frame,
            Err(error) => return error.into(),
        };
        peer.is_heard();
        match kind(&frame) {
            Kind::Run => match inbox.run(turn_of(&frame), frame) {
                true => continue,
                false => return Ended::lie("it sends more records than it was asked for"),
            },
            Kind::Answer => match pending.lock().take() {
                Some(asked) => {
                    // Who asked may have given up.
                    let _ = asked.send(frame);
                    continue;
                }
                None => return Ended::lie("it answers what nobody asked"),
            },
            Kind::Word if frame.len() > MAX_HELLO => return Ended::lie("it says too much at once"),
            Kind::Word => {}
        }
        let word = decode("word of a hub", &frame);
        let count = match word {
            Ok(FromPublisher::Word(_)) => WORD,
            _ => 1,
        };
        if let Some(flood) = words.count(count, shared.pace.words, now()) {
            return Ended::lie(format!("it floods: {flood} words"));
        }
        let heard = match word {
            Ok(FromPublisher::Again {
                turn,
                from,
                generation,
            }) => {
                if let Some(flood) = rebases.count(1, shared.pace.rebases, now()) {
                    let why = format!("it signs its records anew without end: {flood} times");
                    return Ended::lie(why);
                }
                match inbox.again(turn, Again { from, generation }) {
                    true => Ok(()),
                    false => Err(Ended::lie("it answers what nobody asked")),
                }
            }
            Ok(FromPublisher::Tip { height, hash }) => shared.hear_tip(peer, (height, hash)).await,
            Ok(FromPublisher::Word(word)) => shared.hear_word(peer, *word).await,
            Ok(FromPublisher::Goodbye(why)) => return Ended::goodbye(&why),
            Ok(_) => Err(Ended::lie("it answers what nobody asked")),
            Err(error) => Err(Ended::lie(error.to_string())),
        };
        if let Err(ended) = heard {
            return ended;
        }
    }
}

/// Says what there is to say, and that somebody is there.
async fn speak(
    shared: &Shared,
    writing: &mut Writing<WriteHalf<Stream>>,
    (mut queue, mut own): (mpsc::Receiver<FromSubscriber>, OwnWord),
) -> Ended {
    let tip = shared.book.tip();
    let mut beats = interval(shared.pace.beat);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let word = tokio::select! {
            word = queue.recv() => match word {
                Some(word) => word,
                None => return Ended::new("the link is over"),
            },
            more = own.changed() => {
                let word = own.borrow_and_update().as_deref().cloned();
                match (over(more), word) {
                    (Ok(()), Some(word)) => FromSubscriber::Word(Box::new(word)),
                    (Ok(()), None) => continue,
                    (Err(ended), _) => return ended,
                }
            }
            _ = beats.tick() => {
                let (height, hash) = *tip.borrow();
                FromSubscriber::Tip { height, hash }
            }
        };
        let said = async {
            writing.say(&word).await?;
            while let Ok(more) = queue.try_recv() {
                writing.say(&more).await?;
            }
            writing.flush().await
        };
        if let Err(error) = said.await {
            return error.into();
        }
    }
}

/// Asks what others want to know, one after the other.
async fn ask(
    shared: &Shared,
    mut questions: mpsc::Receiver<Question>,
    (words, pending): (&mpsc::Sender<FromSubscriber>, &Pending),
) -> Ended {
    while let Some(Question { ask, answer }) = questions.recv().await {
        if answer.is_closed() {
            continue;
        }
        let (frame, answered) = oneshot::channel();
        *pending.lock() = Some(frame);
        if words.send(ask).await.is_err() {
            break;
        }
        match timeout(shared.pace.answer, answered).await {
            Ok(Ok(frame)) => {
                let _ = answer.send(frame);
            }
            Ok(Err(_)) => break,
            Err(_) => return Ended::new("it does not answer what it is asked"),
        }
    }
    Ended::new("the link is over")
}
