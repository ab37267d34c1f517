//! Another hub of the chain: by which keys it is known, what is asked of it, and how the links with it are.

use super::ended::Ended;
use super::status::{HubStatus, LinkStatus};
use super::wire::FromSubscriber;
use crate::crypto::mesh_tls::ClientConfig;
use crate::model::{Nanos, now};
use parking_lot::Mutex;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use weighbridge_verifier::{Hash, PublicKey};

/// Where a hub is, and by what it is known.
#[derive(Clone)]
pub(super) struct Target {
    /// Where it listens, host and port.
    pub(super) address: String,
    /// The keys that it may show: its own, and during a rotation the one before or after.
    pub(super) keys: Arc<[PublicKey]>,
    /// For connections to it.
    pub(super) tls: Arc<ClientConfig>,
}

/// A question to a hub.
pub(super) struct Question {
    /// It.
    pub(super) ask: FromSubscriber,
    /// Where the frame of the answer goes.
    pub(super) answer: oneshot::Sender<Vec<u8>>,
}

/// Which of the two links with a hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// This hub reads from it.
    Reading,
    /// It reads from this hub.
    Lending,
}

/// Another hub.
pub(super) struct Peer {
    pub(super) id: String,
    pub(super) target: watch::Sender<Target>,
    /// It is a hub of the chain no more.
    pub(super) gone: CancellationToken,
    /// Held by the connection that it reads over.
    pub(super) turn: tokio::sync::Mutex<()>,
    /// Held while something of it is taken: what an ended link still takes comes before what the next one asks for.
    pub(super) taking: Arc<tokio::sync::Mutex<()>>,
    state: Mutex<State>,
    news: Arc<News>,
}

/// What others wait for.
#[derive(Default)]
pub(super) struct News {
    /// A link came or went.
    pub(super) links: watch::Sender<u64>,
    /// A hub has said what its newest block is.
    pub(super) tips: watch::Sender<u64>,
}

/// Wakes all who wait.
pub(super) fn tell(news: &watch::Sender<u64>) {
    news.send_modify(|n| *n = n.wrapping_add(1));
}

struct State {
    reading: LinkStatus,
    lending: LinkStatus,
    heard: Option<Nanos>,
    tip: Option<(u64, Hash)>,
    lies: u64,
    /// It is not let in before, because of what it said.
    shunned: Option<Instant>,
    /// Of our records, what it took last, and bytes that are on their way to it.
    taken: u64,
    on_the_way: u64,
    /// Incarnation and generation of what came of it last.
    generation: Option<(u64, u64)>,
    /// Where it was reached.
    host: Option<IpAddr>,
    /// Asks it, while there is a link.
    desk: Option<mpsc::Sender<Question>>,
    /// Ends the link that this hub reads over, because of what it said.
    accusation: Option<mpsc::Sender<Ended>>,
    /// Ends the connection that it reads over.
    current: CancellationToken,
}

impl Peer {
    pub(super) fn new(id: &str, target: Target, news: Arc<News>) -> Self {
        let never = LinkStatus {
            connected: None,
            reason: "it has not connected yet".to_owned(),
        };
        Self {
            id: id.to_owned(),
            target: watch::Sender::new(target),
            gone: CancellationToken::new(),
            turn: tokio::sync::Mutex::new(()),
            taking: Arc::default(),
            state: Mutex::new(State {
                reading: never.clone(),
                lending: never,
                heard: None,
                tip: None,
                lies: 0,
                shunned: None,
                taken: 0,
                on_the_way: 0,
                generation: None,
                host: None,
                desk: None,
                accusation: None,
                current: CancellationToken::new(),
            }),
            news,
        }
    }

    pub(super) fn keys(&self) -> Arc<[PublicKey]> {
        self.target.borrow().keys.clone()
    }

    /// Begins a connection that it reads over, and ends the one before.
    pub(super) fn begin(&self) -> CancellationToken {
        let own = self.gone.child_token();
        std::mem::replace(&mut self.state.lock().current, own.clone()).cancel();
        own
    }

    /// A link is there.
    pub(super) fn connected(&self, side: Side) {
        {
            let mut state = self.state.lock();
            state.heard = Some(now());
            let link = state.link(side);
            link.connected = Some(now());
            link.reason.clear();
        }
        tracing::info!(hub = self.id, ?side, "link between hubs is up");
        tell(&self.news.links);
    }

    /// A link is over, or could not be made. Who lied is not let in for about as long as `liar`.
    pub(super) fn ended(&self, side: Side, ended: &Ended, liar: Duration) {
        let was = {
            let mut state = self.state.lock();
            if ended.lie {
                state.lies = state.lies.saturating_add(1);
                state.shunned = Some(Instant::now() + liar);
            }
            if side == Side::Reading {
                state.desk = None;
                state.accusation = None;
            } else {
                state.on_the_way = 0;
            }
            let link = state.link(side);
            let same = link.connected.is_none() && link.reason == ended.why && !ended.lie;
            link.connected = None;
            link.reason.clone_from(&ended.why);
            same
        };
        // A hub that is away for a day is said once.
        if !was {
            let (hub, why, lie) = (&self.id, &ended.why, ended.lie);
            tracing::warn!(hub, ?side, why, lie, "no link between hubs");
            tell(&self.news.links);
        }
    }

    /// Whether it lied a short time ago.
    pub(super) fn is_shunned(&self) -> bool {
        let shunned = self.state.lock().shunned;
        shunned.is_some_and(|until| Instant::now() < until)
    }

    /// Something came of it.
    pub(super) fn is_heard(&self) {
        self.state.lock().heard = Some(now());
    }

    /// It says that this is its newest block; whether that is news.
    pub(super) fn says(&self, tip: (u64, Hash)) -> bool {
        let mut state = self.state.lock();
        let news = state.tip.replace(tip) != Some(tip);
        drop(state);
        if news {
            tell(&self.news.tips);
        }
        news
    }

    pub(super) fn tip(&self) -> Option<(u64, Hash)> {
        self.state.lock().tip
    }

    /// How far it has taken this hub's records.
    pub(super) fn takes(&self, taken: Option<u64>, on_the_way: usize) {
        let mut state = self.state.lock();
        state.taken = taken.unwrap_or(state.taken);
        state.on_the_way = on_the_way as u64;
    }

    /// The generation of what came of it last, if that was in this incarnation.
    pub(super) fn generation(&self, incarnation: u64) -> Option<u64> {
        let last = self.state.lock().generation;
        let same = last.filter(|(of, _)| *of == incarnation);
        same.map(|(_, generation)| generation)
    }

    pub(super) fn set_generation(&self, incarnation: u64, generation: u64) {
        self.state.lock().generation = Some((incarnation, generation));
    }

    pub(super) fn host(&self) -> Option<IpAddr> {
        self.state.lock().host
    }

    pub(super) fn reached(&self, host: IpAddr) {
        self.state.lock().host = Some(host.to_canonical());
    }

    /// From now on it can be asked, and accused.
    pub(super) fn open_desk(&self, desk: mpsc::Sender<Question>, accused: mpsc::Sender<Ended>) {
        let mut state = self.state.lock();
        state.desk = Some(desk);
        state.accusation = Some(accused);
    }

    /// Whether it can be asked.
    pub(super) fn is_there(&self) -> bool {
        self.state.lock().desk.is_some()
    }

    /// Asks it; the frame of its answer, or none when there is no link, or none any more.
    pub(super) async fn ask(&self, ask: FromSubscriber) -> Option<Vec<u8>> {
        let desk = self.state.lock().desk.clone()?;
        let (answer, answered) = oneshot::channel();
        desk.send(Question { ask, answer }).await.ok()?;
        answered.await.ok()
    }

    /// It answered what cannot be, or this hub could not use it: the link ends.
    pub(super) fn accuse(&self, ended: Ended) {
        let accusation = self.state.lock().accusation.clone();
        if let Some(accusation) = accusation {
            // There is room for one, and one is enough.
            let _ = accusation.try_send(ended);
        }
    }

    pub(super) fn status(&self, own_tip: u64, own_newest: u64) -> HubStatus {
        let address = self.target.borrow().address.clone();
        let state = self.state.lock();
        let behind = state
            .tip
            .map_or(0, |(height, _)| height.saturating_sub(own_tip));
        HubStatus {
            id: self.id.clone(),
            address,
            reading: state.reading.clone(),
            lending: state.lending.clone(),
            heard: state.heard,
            tip: state.tip,
            behind,
            lacks: own_newest.saturating_sub(state.taken),
            on_the_way: state.on_the_way,
            lies: state.lies,
        }
    }
}

impl State {
    fn link(&mut self, side: Side) -> &mut LinkStatus {
        match side {
            Side::Reading => &mut self.reading,
            Side::Lending => &mut self.lending,
        }
    }
}
