//! User sessions: one actor each, and the registry that holds them.
//!
//! A face tells of every request through [`SessionPort`]; the registry starts a [`SessionActor`] for a
//! session it has not seen, and passes on that something was asked. A session ends when its face says
//! so, or when it has asked for nothing for a while. Live values are read too often for a record each: a
//! session's beginning is durable before anything is shown in it ([`SessionPort::enter`]), and now and
//! then, and at its end, it is recorded how much was asked.

use super::access::AccessDesk;
use super::allowance::Allowance;
use super::journal::Journal;
use super::sums::Sums;
use crate::access::{Caller, FloodGauge, Side, Usage, UsageLimits};
use crate::ledger::act::{Act, name};
use crate::model::{Nanos, now};
use crate::protocols::ports::{AccessPort, NotRecorded, SessionPort};
use actix::prelude::*;
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;
use weighbridge_verifier::{Action, Response};

/// How often it is recorded how much was asked.
const SUMMARY: Duration = Duration::from_secs(10 * 60);
/// A session that asks for nothing ends after this time.
const IDLE: Duration = Duration::from_secs(30 * 60);
/// Sessions held at most; the faces have lower bounds of their own.
const MOST_SESSIONS: usize = 1024;
/// Requests told of that may wait for the registry.
const MAILBOX: usize = 4096;
/// How often it is recorded how many were refused before they were known.
const SUMS: Duration = Duration::from_secs(10);

/// Sessions whose beginning is durable, or on its way there.
type Begun = Arc<Mutex<HashMap<String, Arc<OnceCell<()>>>>>;

/// Something was asked in a session.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
struct Asked {
    session: String,
    user: String,
    times: u64,
}

/// A session is over.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
struct Ended(String);

/// So many requests of the session.
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "()")]
struct Touch(u64);

/// Something that was no request was sent in a session, of this kind.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
struct Malformed(String, &'static str);

/// The session ends now.
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "()")]
struct End;

/// Kind of the record of a session's beginning.
const SESSION_BEGIN: &str = "session-begin";

/// One user session.
struct SessionActor {
    session: String,
    user: String,
    since: Nanos,
    requests: u64,
    /// Those that were recorded.
    summed: u64,
    /// What was no request, by its kind; words of the program.
    malformed: BTreeMap<&'static str, u64>,
    idle: Option<SpawnHandle>,
    registry: Addr<SessionRegistry>,
    /// Whether its beginning is in the record already.
    told: bool,
    book: Option<Book>,
    gauge: FloodGauge,
}

/// Where sessions are recorded. What is not, because there were too many of late, is counted.
#[derive(Clone)]
pub struct Book {
    journal: Journal,
    allowance: Arc<Allowance>,
    desk: AccessDesk,
}

impl Book {
    /// One that writes to `journal`, of users whom `desk` cuts off when they flood.
    pub fn new(journal: Journal, desk: AccessDesk) -> Self {
        let allowance = Arc::new(Allowance::new(Instant::now()));
        Self {
            journal,
            allowance,
            desk,
        }
    }

    /// Counts requests of a session; a flood of them cuts the user off.
    fn count(&self, (session, user): (&str, &str), gauge: &mut FloodGauge, times: u64) {
        let Some(most) = self.desk.config().flood_of_requests() else {
            return;
        };
        let Some(flood) = gauge.count(times, most, now()) else {
            return;
        };
        let (desk, user) = (self.desk.clone(), name("user", user));
        let why = format!("session {session} floods: {flood} requests");
        if desk.gate().state().admits(&user, now()).is_ok() {
            actix::spawn(async move { desk.cut_off(Side::Extranet, &user, &why).await });
        }
    }

    /// Makes it durable that a session began, or somebody proved who they are.
    async fn begin(
        &self,
        (session, user): (&str, &str),
        kind: &'static str,
        details: Json,
    ) -> Result<(), NotRecorded> {
        let act = Act {
            time: now(),
            subject: &name("user", user),
            action: Action::Session,
            object: &name("session", session),
            kind,
            details: &details,
            response: Response::Accepted,
        };
        let recorded = self.journal.record(&act).await;
        recorded.map(|_| ()).map_err(|e| NotRecorded(e.to_string()))
    }

    /// Hands the sums to the ledger, if there is anything to be told.
    async fn sum_up(&self, sums: &Sums, hub: &str) {
        let Some(details) = sums.take(now()) else {
            return;
        };
        let act = Act {
            time: now(),
            subject: hub,
            action: Action::Summary,
            object: hub,
            kind: "turned-away",
            details: &details,
            response: Response::Accepted,
        };
        if let Err(error) = self.journal.note(&act).await {
            tracing::error!(%error, "how many were turned away is not in the record");
        }
    }

    /// Hands what is to be told of a session to the ledger.
    fn write(
        &self,
        (session, user): (&str, &str),
        (action, kind): (Action, &'static str),
        mut details: Json,
    ) {
        let Some(left_out) = self.allowance.take(Instant::now()) else {
            return;
        };
        if left_out > 0 {
            details["records_left_out_before"] = left_out.into();
        }
        let (subject, object) = (name("user", user), name("session", session));
        let journal = self.journal.clone();
        actix::spawn(async move {
            let act = Act {
                time: now(),
                subject: &subject,
                action,
                object: &object,
                kind,
                details: &details,
                response: Response::Accepted,
            };
            if let Err(error) = journal.note(&act).await {
                tracing::error!(object, kind, %error, "a session is not in the record");
            }
        });
    }
}

impl SessionActor {
    fn tell(&self, action: Action, kind: &'static str, details: Json) {
        if let Some(book) = &self.book {
            book.write((&self.session, &self.user), (action, kind), details);
        }
    }

    fn sum(&mut self) {
        let since = self.requests - self.summed;
        if since > 0 {
            self.summed = self.requests;
            let mut details = json!({"requests": since, "in_all": self.requests});
            self.tell_malformed(&mut details);
            self.tell(Action::Summary, "session-summary", details);
        }
    }

    /// What was no request since the session began, if anything.
    fn tell_malformed(&self, details: &mut Json) {
        if !self.malformed.is_empty() {
            details["malformed"] = json!(self.malformed);
        }
    }

    fn wait_for_idleness(&mut self, ctx: &mut Context<Self>) {
        if let Some(idle) = self.idle.take() {
            ctx.cancel_future(idle);
        }
        self.idle = Some(ctx.run_later(IDLE, |actor, ctx| {
            // A full mailbox keeps the session for another while.
            if actor
                .registry
                .try_send(Ended(actor.session.clone()))
                .is_err()
            {
                actor.wait_for_idleness(ctx);
            }
        }));
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        tracing::info!(session = self.session, user = self.user, "session began");
        if !self.told {
            self.tell(Action::Session, SESSION_BEGIN, json!({}));
        }
        ctx.run_interval(SUMMARY, |actor, _| actor.sum());
        self.wait_for_idleness(ctx);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        let seconds = (now() - self.since) / 1_000_000_000;
        let (session, user, requests) = (&self.session, &self.user, self.requests);
        tracing::info!(session, user, requests, seconds, "session ended");
        let mut details = json!({"requests": requests, "seconds": seconds});
        self.tell_malformed(&mut details);
        self.tell(Action::Session, "session-end", details);
    }
}

impl Handler<Touch> for SessionActor {
    type Result = ();

    fn handle(&mut self, Touch(times): Touch, ctx: &mut Self::Context) {
        self.requests += times;
        if let Some(book) = &self.book {
            book.count((&self.session, &self.user), &mut self.gauge, times);
        }
        self.wait_for_idleness(ctx);
    }
}

impl Handler<Malformed> for SessionActor {
    type Result = ();

    fn handle(&mut self, Malformed(_, kind): Malformed, _: &mut Self::Context) {
        *self.malformed.entry(kind).or_default() += 1;
    }
}

impl Handler<End> for SessionActor {
    type Result = ();

    fn handle(&mut self, _: End, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

/// Holds the sessions of all faces.
pub struct SessionRegistry {
    sessions: HashMap<String, Addr<SessionActor>>,
    open: Arc<AtomicUsize>,
    begun: Begun,
    sums: Arc<Sums>,
    hub: String,
    usage: Arc<Mutex<Usage>>,
    book: Option<Book>,
}

impl Actor for SessionRegistry {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.run_interval(SUMS, |registry, _| {
            let Some(book) = registry.book.clone() else {
                return;
            };
            let (sums, hub) = (registry.sums.clone(), registry.hub.clone());
            actix::spawn(async move { book.sum_up(&sums, &hub).await });
        });
    }
}

impl SessionRegistry {
    fn window(&self) -> Nanos {
        let book = self.book.as_ref();
        book.map_or(0, |book| book.desk.config().flood_window())
    }

    /// Starts the registry of hub `hub`; what it returns is given to the faces. Sessions are told to
    /// `book`, and each user has so many.
    pub fn open(hub: &str, book: Option<Book>, limits: UsageLimits) -> Arc<SessionDoor> {
        let hub = name("hub", hub);
        let usage = Arc::new(Mutex::new(Usage::new(limits)));
        let (open, begun, sums) = (
            Arc::<AtomicUsize>::default(),
            Begun::default(),
            Arc::<Sums>::default(),
        );
        let registry = Self {
            sessions: HashMap::new(),
            open: open.clone(),
            begun: begun.clone(),
            sums: sums.clone(),
            hub: hub.clone(),
            usage: usage.clone(),
            book: book.clone(),
        };
        Arc::new(SessionDoor {
            registry: registry.start(),
            open,
            begun,
            sums,
            hub,
            usage,
            book,
            untold: AtomicU64::new(0),
        })
    }
}

impl Handler<Asked> for SessionRegistry {
    type Result = ();

    fn handle(&mut self, asked: Asked, ctx: &mut Self::Context) {
        let Asked {
            session,
            user,
            times,
        } = asked;
        if !self.sessions.contains_key(&session) {
            if self.sessions.len() >= MOST_SESSIONS {
                tracing::warn!(session, user, "too many sessions, this one is not followed");
                return;
            }
            let begun = self.begun.lock().get(&session).cloned();
            let actor = SessionActor {
                told: begun.is_some_and(|begun| begun.initialized()),
                session: session.clone(),
                user,
                since: now(),
                requests: 0,
                summed: 0,
                malformed: BTreeMap::new(),
                idle: None,
                registry: ctx.address(),
                gauge: FloodGauge::new(self.window(), now()),
                book: self.book.clone(),
            };
            self.sessions.insert(session.clone(), actor.start());
            self.open.store(self.sessions.len(), Ordering::Relaxed);
        }
        if let Some(actor) = self.sessions.get(&session) {
            // A session whose mailbox is full is anything but idle; only its count suffers.
            let _ = actor.try_send(Touch(times));
        }
    }
}

impl Handler<Malformed> for SessionRegistry {
    type Result = ();

    fn handle(&mut self, malformed: Malformed, _: &mut Self::Context) {
        if let Some(actor) = self.sessions.get(&malformed.0) {
            let _ = actor.try_send(malformed);
        }
    }
}

impl Handler<Ended> for SessionRegistry {
    type Result = ();

    fn handle(&mut self, Ended(session): Ended, _: &mut Self::Context) {
        // Also of one that rested too long, of which no face told.
        self.usage.lock().ended(&session);
        if let Some(actor) = self.sessions.remove(&session) {
            actor.do_send(End);
        }
        self.begun.lock().remove(&session);
        self.open.store(self.sessions.len(), Ordering::Relaxed);
    }
}

/// The faces' way to the registry.
pub struct SessionDoor {
    registry: Addr<SessionRegistry>,
    open: Arc<AtomicUsize>,
    begun: Begun,
    sums: Arc<Sums>,
    hub: String,
    usage: Arc<Mutex<Usage>>,
    book: Option<Book>,
    untold: AtomicU64,
}

impl SessionDoor {
    /// Hands what was counted to the ledger now; for the end of the hub.
    pub async fn sum_up(&self) {
        if let Some(book) = &self.book {
            book.sum_up(&self.sums, &self.hub).await;
        }
    }

    /// Whether the session's beginning is durable; else what makes it so. `None` when there are too many
    /// sessions to remember this one.
    fn begun(&self, session: &str) -> Option<Arc<OnceCell<()>>> {
        let mut begun = self.begun.lock();
        if let Some(begun) = begun.get(session) {
            return Some(begun.clone());
        }
        let room = begun.len() < MOST_SESSIONS;
        room.then(|| begun.entry(session.to_owned()).or_default().clone())
    }
}

#[async_trait]
impl SessionPort for SessionDoor {
    async fn enter(&self, caller: &Caller) -> Result<(), NotRecorded> {
        let (session, user) = (caller.session.as_str(), caller.user.as_str());
        if let Some(book) = &self.book {
            let mut details = json!({});
            caller.tell(&mut details);
            let begin = || book.begin((session, user), SESSION_BEGIN, details);
            match self.begun(session) {
                Some(begun) => begun.get_or_try_init(begin).await.map(|_| ())?,
                None => begin().await?,
            }
        }
        self.asked(session, user);
        Ok(())
    }

    async fn logged_in(&self, face: &str, user: &str) -> Result<(), NotRecorded> {
        match &self.book {
            Some(book) => {
                book.begin((face, user), "log-in", json!({"face": face}))
                    .await
            }
            None => Ok(()),
        }
    }

    fn turned_away(&self, face: &'static str, why: &'static str) {
        self.sums.count(face, why, now());
    }

    fn malformed(&self, face: &'static str, kind: &'static str, session: Option<&str>) {
        self.turned_away(face, kind);
        let session = session.map(|session| Malformed(session.to_owned(), kind));
        if session.is_some_and(|malformed| self.registry.try_send(malformed).is_err()) {
            self.untold.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn asked(&self, session: &str, user: &str) {
        self.asked_times(session, user, 1);
    }

    fn asked_times(&self, session: &str, user: &str, times: u64) {
        self.usage.lock().began(session, user);
        let asked = Asked {
            session: session.to_owned(),
            user: user.to_owned(),
            times,
        };
        if self.registry.try_send(asked).is_err() {
            self.untold.fetch_add(times, Ordering::Relaxed);
        }
    }

    fn ended(&self, session: &str) {
        self.usage.lock().ended(session);
        // Sessions end rarely, and each once: the bound of the mailbox need not hold for them.
        self.registry.do_send(Ended(session.to_owned()));
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn admits(&self, user: &str) -> bool {
        self.usage.lock().admits(user)
    }

    fn spend(&self, user: &str) -> Result<(), Duration> {
        let spent = self.usage.lock().spend(user, now());
        spent.map_err(|wait| Duration::from_nanos(u64::try_from(wait).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix::test]
    async fn a_session_is_there_from_its_first_request_to_its_end() {
        let limits = crate::access::AccessConfig::default().usage();
        let door = SessionRegistry::open("hub-1", None, limits);
        door.asked("opc.tcp 1", "anna");
        door.asked("opc.tcp 1", "anna");
        door.asked("http 1", "local");
        // The registry answers in order, so a question behind the others waits for them.
        let settle = || async {
            door.registry.send(Ended("none".to_owned())).await.unwrap();
        };
        settle().await;
        assert_eq!(door.open(), 2);
        door.ended("opc.tcp 1");
        settle().await;
        assert_eq!(door.open(), 1);
    }
}
