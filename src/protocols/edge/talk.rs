//! One connection of an edge node, at the hub: devices enter and leave by themselves, their batches go
//! through their gates, what is durable and what users ask for goes back.

use super::acting::Orders;
use super::asking::Questions;
use super::gate::{Asks, Backlog, Contact, Entrance, EntranceError, Gate};
use super::hub_side::{FACE, HubCard, Stream};
use super::keeper::Keeper;
use super::node::Node;
use super::wire::{
    self, DeviceHello, DeviceLink, DeviceWelcome, EDGE_PROTOCOL, FromEdge, FromHub, Hello,
    MAX_FRAME, Welcome,
};
use crate::access::{Flood, FloodGauge};
use crate::crypto::SealingWord;
use crate::model::{DeviceId, Nanos, now};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, BufReader, BufWriter, ReadHalf, WriteHalf, split};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a connection that another one replaces may still wait for outcomes.
const GIVES_WAY: Duration = Duration::from_millis(900);
/// How long an edge node may take to say what it wants.
const GREETING: Duration = Duration::from_secs(5);
/// How long a device that was here before waits until what it sent is in the ledger, or its pipeline is
/// built. Less than an edge node waits for an answer.
const SETTLING: Duration = Duration::from_secs(2);
/// An edge node says something every two seconds.
const SILENCE: Duration = Duration::from_secs(10);
/// Longest greeting, in bytes.
const MAX_HELLO: usize = 16 << 20;
/// Answers that wait for a slow connection.
const ANSWERS: usize = 64;

/// A device that the edge node said it reads.
enum Place {
    /// It is not in; ends its asking.
    Out(CancellationToken),
    /// It is in.
    In(Lane),
}

impl Place {
    fn lane(&self) -> Option<&Lane> {
        match self {
            Self::Out(_) => None,
            Self::In(lane) => Some(lane),
        }
    }
}

/// A device that is in.
struct Lane {
    gate: Arc<Gate>,
    entrance: Entrance,
    /// Ends it.
    out: CancellationToken,
}

/// One connection.
pub(super) struct Talk {
    node: Arc<Node>,
    hub: HubCard,
    keeper: Arc<dyn Keeper>,
    own: CancellationToken,
    /// What the edge node said it reads.
    places: Mutex<BTreeMap<String, Place>>,
    answers: mpsc::Sender<FromHub>,
    queue: Mutex<Option<mpsc::Receiver<FromHub>>>,
    orders: Arc<Orders>,
    /// One a device, and one a question.
    tasks: TaskTracker,
    questions: Questions,
    /// The connection has ended.
    over: CancellationToken,
}

impl Talk {
    pub(super) fn new(
        node: Arc<Node>,
        (hub, keeper): (HubCard, Arc<dyn Keeper>),
        own: CancellationToken,
    ) -> Arc<Self> {
        let (answers, queue) = mpsc::channel(ANSWERS);
        Arc::new(Self {
            node,
            hub,
            keeper,
            own,
            places: Mutex::default(),
            orders: Arc::new(Orders::new(answers.clone())),
            questions: Questions::new(answers.clone()),
            answers,
            queue: Mutex::new(Some(queue)),
            tasks: TaskTracker::new(),
            over: CancellationToken::new(),
        })
    }

    /// Talks with an edge node until one of the two ends it; why it ended.
    pub(super) async fn run(self: &Arc<Self>, stream: Stream, stop: &CancellationToken) -> String {
        let (reader, writer) = split(stream);
        let (mut reader, mut writer) = (BufReader::new(reader), BufWriter::new(writer));
        let hello = timeout(GREETING, wire::read(&mut reader, "greeting", MAX_HELLO));
        let hello = tokio::select! {
            () = stop.cancelled() => return "the hub is ending".to_owned(),
            () = self.own.cancelled() => return self.why_replaced(),
            hello = hello => hello,
        };
        let hello: Hello = match hello {
            Ok(Ok(hello)) => hello,
            Ok(Err(error)) => {
                self.keeper
                    .turned_away(FACE, "greeting that cannot be read");
                return error.to_string();
            }
            Err(_) => {
                self.keeper.turned_away(FACE, "no greeting in time");
                return "it did not say what it wants".to_owned();
            }
        };
        let Some(queue) = self.queue.lock().take() else {
            return "a connection has one greeting".to_owned();
        };
        if hello.version != EDGE_PROTOCOL {
            self.keeper
                .turned_away(FACE, "another version of the protocol");
        }
        // What is said later is news.
        let mut word = self.hub.word.clone();
        let Some(sealing) = word.borrow_and_update().as_deref().cloned() else {
            return "the hub is starting".to_owned();
        };
        let welcome = self.welcome(&hello).await;
        if let Err(error) = wire::write(&mut writer, &welcome).await {
            return error.to_string();
        }
        // An edge node of another version would not understand it.
        if hello.version == EDGE_PROTOCOL {
            let sealing = FromHub::Sealing(Box::new(sealing));
            if let Err(error) = wire::write(&mut writer, &sealing).await {
                return error.to_string();
            }
        }
        let mut sending = tokio::spawn(send(queue, writer));
        let this = self.clone();
        self.tasks.spawn(async move {
            let over = this.over.clone();
            let _ended = over.run_until_cancelled(this.tell_sealing(word)).await;
        });
        let reason = tokio::select! {
            reason = self.receive(&mut reader) => reason,
            _ = &mut sending => "it takes no answers".to_owned(),
            () = stop.cancelled() => "the hub is ending".to_owned(),
            () = self.own.cancelled() => self.why_replaced(),
        };
        self.end(&reason).await;
        if !sending.is_finished() {
            let _ = timeout(Duration::from_millis(500), &mut sending).await;
        }
        sending.abort();
        reason
    }

    /// Tells the edge node of every other sealing key.
    async fn tell_sealing(&self, mut word: watch::Receiver<Option<Arc<SealingWord>>>) {
        while word.changed().await.is_ok() {
            let said = word.borrow_and_update().as_deref().cloned();
            let Some(said) = said else { continue };
            let said = FromHub::Sealing(Box::new(said));
            if self.answers.send(said).await.is_err() {
                return;
            }
        }
    }

    /// Another connection is about to take its place: what was asked of the edge node is finished before.
    pub(super) async fn gives_way(&self) {
        self.orders.finish(GIVES_WAY).await;
    }

    fn why_replaced(&self) -> String {
        match self.node.is_dismissed() {
            true => "the hub's configuration does not name it any more".to_owned(),
            false => "it has connected again".to_owned(),
        }
    }

    /// Nothing goes in or out any more; whoever waits for something hears of it.
    async fn end(&self, reason: &str) {
        self.node.talks(None);
        self.over.cancel();
        let places = std::mem::take(&mut *self.places.lock());
        for place in places.values() {
            self.leave(place);
        }
        self.orders.end();
        // If there is no room for it, or nobody reads it, the connection ends without a word.
        let _ = self.answers.try_send(FromHub::Goodbye(reason.to_owned()));
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn leave(&self, place: &Place) {
        match place {
            Place::Out(asking) => asking.cancel(),
            Place::In(lane) => {
                lane.out.cancel();
                lane.gate.end_orders(&self.orders);
            }
        }
    }

    /// Answers the greeting: all devices enter at once.
    async fn welcome(self: &Arc<Self>, hello: &Hello) -> Welcome {
        self.node.talks(Some(self));
        let mut devices = Vec::with_capacity(hello.devices.len());
        let until = Instant::now() + SETTLING;
        for device in &hello.devices {
            let out = self.put_out(&device.id);
            let entered = self.node.enter(hello.version, device, until).await;
            devices.push(match entered {
                Ok((gate, entrance, standing)) => {
                    let follow = self.begin(gate, entrance, out);
                    self.tasks.spawn(follow);
                    DeviceWelcome::Standing(standing)
                }
                Err(reason) => {
                    self.refuse(&device.id, &reason);
                    DeviceWelcome::Refused(reason)
                }
            });
        }
        for gate in self.node.gates() {
            if hello.devices.iter().all(|asked| *gate.device != *asked.id) {
                let none = format!("the edge node `{}` has no such device", gate.edge);
                gate.set_contact(Contact::Away(none));
            }
        }
        Welcome {
            hub: self.hub.id.clone(),
            sealing: self.hub.sealing.public().compressed(),
            devices,
        }
    }

    fn refuse(&self, device: &str, reason: &str) {
        if let Some(gate) = self.node.gate(device) {
            gate.set_contact(Contact::Away(reason.to_owned()));
        }
    }

    /// Takes a device out, or says that it is read; what ends its next stay.
    fn put_out(&self, device: &str) -> CancellationToken {
        let next = CancellationToken::new();
        let place = Place::Out(next.clone());
        let before = self.places.lock().insert(device.to_owned(), place);
        if let Some(before) = before {
            self.leave(&before);
        }
        next
    }

    /// Puts a device in until `out`; the future looks after it until then.
    fn begin(
        self: &Arc<Self>,
        gate: Arc<Gate>,
        entrance: Entrance,
        out: CancellationToken,
    ) -> impl Future<Output = ()> + use<> {
        let device = gate.device.to_string();
        {
            let mut places = self.places.lock();
            // Under the lock: what comes in after the end would stay in.
            if self.over.is_cancelled() {
                out.cancel();
            }
            if !out.is_cancelled() {
                // Of one that only connects again the newest word stands until it says another.
                if !matches!(&*gate.contact().borrow(), Contact::Here(_)) {
                    let waiting = "the edge node has not reached it yet".to_owned();
                    gate.set_contact(Contact::Here(DeviceLink::Down(waiting)));
                }
                gate.set_orders(&self.orders);
                let lane = Lane {
                    gate: gate.clone(),
                    entrance: entrance.clone(),
                    out: out.clone(),
                };
                places.insert(device.clone(), Place::In(lane));
            }
        }
        let this = self.clone();
        async move {
            tokio::select! {
                () = out.cancelled() => return,
                () = report(&device, entrance, &this.answers) => {}
                () = ask(&gate, &this.answers) => return,
            }
            {
                let mut places = this.places.lock();
                if out.is_cancelled() {
                    return;
                }
                // The device's pipeline is gone; a new one will have a way in of its own.
                gate.end_orders(&this.orders);
                places.insert(device.clone(), Place::Out(out.clone()));
            }
            let reason = "the hub starts the device again, or has it no more".to_owned();
            let again = FromHub::Again(device, reason);
            tokio::select! {
                () = out.cancelled() => {}
                _ = this.answers.send(again) => {}
            }
        }
    }

    /// Asks the edge node for a device that the hub has anew.
    pub(super) fn ask_for(self: &Arc<Self>, device: &DeviceId) {
        let again = FromHub::Again(device.to_string(), "the hub has it anew".to_owned());
        let this = self.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = this.over.cancelled() => {}
                _ = this.answers.send(again) => {}
            }
        });
    }

    /// A device enters while the connection is there.
    fn enter(self: &Arc<Self>, hello: DeviceHello) {
        let out = self.put_out(&hello.id);
        let this = self.clone();
        self.tasks.spawn(async move {
            let until = Instant::now() + SETTLING;
            let entered = tokio::select! {
                () = out.cancelled() => return,
                entered = this.node.enter(EDGE_PROTOCOL, &hello, until) => entered,
            };
            let (answer, follow) = match entered {
                Ok((gate, entrance, standing)) => {
                    let follow = this.begin(gate, entrance, out.clone());
                    (DeviceWelcome::Standing(standing), Some(follow))
                }
                Err(reason) => {
                    this.refuse(&hello.id, &reason);
                    (DeviceWelcome::Refused(reason), None)
                }
            };
            let answer = FromHub::Entered(hello.id, answer);
            tokio::select! {
                () = out.cancelled() => return,
                _ = this.answers.send(answer) => {}
            }
            if let Some(follow) = follow {
                follow.await;
            }
        });
    }

    fn with_gate(&self, device: &str, what: impl FnOnce(&Gate)) {
        if let Some(lane) = self.places.lock().get(device).and_then(Place::lane) {
            what(&lane.gate);
        }
    }

    /// Counts what is said besides batches, which credits bound.
    fn count_word(&self, gauge: &mut Option<FloodGauge>) -> Option<Flood> {
        let (most, seconds) = self.keeper.most_words(self.places.lock().len())?;
        let window = Nanos::from(seconds) * 1_000_000_000;
        let gauge = gauge.get_or_insert_with(|| FloodGauge::new(window, now()));
        gauge.count(1, most, now())
    }

    /// Takes what the edge node sends, until it is not what it should be; why it ended.
    async fn receive(self: &Arc<Self>, reader: &mut BufReader<ReadHalf<Stream>>) -> String {
        let mut words = None;
        loop {
            let frame = timeout(SILENCE, wire::read(reader, "message", MAX_FRAME));
            let frame = match frame.await {
                Ok(Ok(frame)) => frame,
                Ok(Err(error)) => return error.to_string(),
                Err(_) => return format!("nothing was heard for {} s", SILENCE.as_secs()),
            };
            self.node.is_heard();
            // Batches are bounded by credits, and answers by what was asked.
            let by_itself = !matches!(
                frame,
                FromEdge::Upload(_) | FromEdge::Acted(..) | FromEdge::Proof(..)
            );
            if by_itself && let Some(flood) = self.count_word(&mut words) {
                let why = format!("it floods: {flood} words");
                self.keeper.flooded(&self.node.id, &why).await;
                return why;
            }
            match frame {
                FromEdge::Upload(upload) => {
                    let places = self.places.lock();
                    let Some(place) = places.get(&upload.device) else {
                        return format!("it sends batches of `{}` unasked", upload.device);
                    };
                    // A device that went out while this was on its way: the edge node has it still.
                    let Some(lane) = place.lane() else { continue };
                    match lane.entrance.offer(*upload) {
                        Ok(()) | Err(EntranceError::Closed) => {}
                        Err(error) => return format!("{}: {error}", lane.gate.device),
                    }
                }
                FromEdge::Link(device, link) => {
                    self.with_gate(&device, |gate| gate.set_contact(Contact::Here(link)));
                }
                FromEdge::Backlog(device, batches, bytes) => {
                    let backlog = Backlog { batches, bytes };
                    self.with_gate(&device, |gate| gate.set_backlog(backlog));
                }
                FromEdge::Enter(hello) => self.enter(hello),
                FromEdge::Leave(device) => {
                    self.put_out(&device);
                    let none = format!("the edge node `{}` reads it no more", self.node.id);
                    self.refuse(&device, &none);
                }
                FromEdge::Acted(id, outcome) => self.orders.acted(id, outcome),
                FromEdge::Newest(number, device, uncounted) => {
                    let mut recorded = None;
                    self.with_gate(&device, |gate| recorded = gate.recorded());
                    let question = (number, device);
                    let Some(answer) = self.questions.take(question, uncounted, recorded) else {
                        return "it asks for more than it may".to_owned();
                    };
                    let over = self.over.clone();
                    self.tasks.spawn(async move {
                        over.run_until_cancelled(answer).await;
                    });
                }
                FromEdge::Answers(device, peer) => {
                    self.with_gate(&device, |gate| gate.set_answers(peer));
                }
                FromEdge::Proof(device, nonce, signature) => {
                    self.with_gate(&device, |gate| gate.set_proof(nonce, signature));
                }
                FromEdge::SealsTo(key) => self.node.seals_to(key),
                FromEdge::Ping(number) => {
                    self.orders.heard(number);
                    if self.answers.send(FromHub::Pong).await.is_err() {
                        return "it takes no answers".to_owned();
                    }
                }
            }
        }
    }
}

/// Says what is durable, whenever more is; returns when the device's pipeline is gone.
async fn report(device: &str, mut entrance: Entrance, answers: &mpsc::Sender<FromHub>) {
    loop {
        let (epoch, sequence) = entrance.standing.borrow_and_update().own;
        let durable = FromHub::Durable(device.to_owned(), epoch, sequence);
        if answers.send(durable).await.is_err() {
            return;
        }
        let mut standing = entrance.standing.clone();
        tokio::select! {
            changed = standing.changed() => if changed.is_err() { return },
            () = entrance.closed() => return,
        }
        entrance.standing = standing;
    }
}

/// Tells the edge node what the device is known by, and asks it to sign, whenever that is news. Returns when
/// nobody hears it.
async fn ask(gate: &Gate, answers: &mpsc::Sender<FromHub>) {
    let mut asks = gate.asks();
    let mut told: Option<Asks> = None;
    loop {
        let now = asks.borrow_and_update().clone();
        let before = told.as_ref();
        let mut words = Vec::with_capacity(2);
        // Of nothing it is told only when it is to forget: another hub, or it itself, may know more.
        let known = before.and_then(|before| before.known.as_ref());
        if known != now.known.as_ref() {
            words.push(FromHub::Known(gate.device.to_string(), now.known.clone()));
        }
        if let Some(challenge) = &now.challenge
            && before.is_none_or(|before| before.challenge.as_ref() != Some(challenge))
        {
            words.push(FromHub::Prove(challenge.clone()));
        }
        told = Some(now);
        for word in words {
            if answers.send(word).await.is_err() {
                return;
            }
        }
        if asks.changed().await.is_err() {
            return;
        }
    }
}

async fn send(mut queue: mpsc::Receiver<FromHub>, mut writer: BufWriter<WriteHalf<Stream>>) {
    // The welcome is in the buffer.
    if writer.flush().await.is_err() {
        return;
    }
    while let Some(answer) = queue.recv().await {
        let last = matches!(answer, FromHub::Goodbye(_));
        let written = async {
            wire::write(&mut writer, &answer).await?;
            let mut last = last;
            while let Ok(more) = queue.try_recv() {
                last |= matches!(more, FromHub::Goodbye(_));
                wire::write(&mut writer, &more).await?;
            }
            writer.flush().await?;
            Ok::<_, wire::WireError>(last)
        };
        match timeout(SILENCE, written).await {
            Ok(Ok(false)) => {}
            _ => break,
        }
    }
    let _ = writer.shutdown().await;
}
