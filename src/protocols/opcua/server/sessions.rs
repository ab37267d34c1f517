//! The sessions that are open: who is in them, what the registry of sessions is told, and their end.
//!
//! The stack tells nobody when a session ends, so it is looked for; and a message for each of ten
//! thousand reads a second would cost more than the reads, so requests are counted and told together.

use super::callers::{Callers, name_of};
use super::guard::Guard;
use super::shown::ShownProofs;
use super::users::FACE;
use crate::access::{Caller, Gate, Right, Sight};
use crate::model::now;
use crate::protocols::ports::{AccessError, SessionPort};
use chrono::Utc;
use opcua::server::authenticator::UserToken;
use opcua::server::node_manager::RequestContext;
use opcua::sync::RwLock;
use opcua::types::{ApplicationDescription, DateTimeUtc, NodeId, StatusCode, UAString};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often ends are looked for, and requests are told.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A look at the stack's session, whose type has no name outside of the stack: what it says of itself,
/// and until when it lives without a request; `None` when it is closed.
type Look = Arc<dyn Fn() -> (Description, Option<Instant>) + Send + Sync>;

/// What a session says of itself.
struct Description {
    id: NodeId,
    name: String,
    client: ApplicationDescription,
    endpoint: UAString,
    /// The secure channel that it is used over; `None` when it is not used now.
    channel: Option<u32>,
}

/// A session for the diagnostics.
pub(super) struct OpenSession {
    /// The stack's number of it.
    pub(super) number: u32,
    /// Its node id.
    pub(super) id: NodeId,
    /// The name that its client gave it.
    pub(super) name: String,
    /// The client.
    pub(super) client: ApplicationDescription,
    /// The endpoint that it uses.
    pub(super) endpoint: UAString,
    /// When it began.
    pub(super) since: DateTimeUtc,
    /// When something was asked last.
    pub(super) last: DateTimeUtc,
    /// Requests that were seen here.
    pub(super) requests: u64,
}

/// The open sessions of this server.
pub(super) struct Sessions {
    port: Arc<dyn SessionPort>,
    callers: Arc<Callers>,
    open: RwLock<HashMap<u32, Open>>,
    /// Of one user at a time.
    most_per_user: usize,
    refused: AtomicU64,
    /// By what they were begun.
    shown: ShownProofs,
}

struct Open {
    token: UserToken,
    caller: Arc<Caller>,
    look: Look,
    /// Until when it lived at the last look.
    until: Option<Instant>,
    since: DateTimeUtc,
    last: DateTimeUtc,
    /// Requests that were told.
    told: u64,
    /// Requests that were not told yet.
    asked: AtomicU64,
    /// What of the live values the user sees.
    sight: Mutex<Option<Sight>>,
    /// Its user may be in no more, and its connection was ended.
    out: AtomicBool,
}

impl Sessions {
    pub(super) fn new(
        port: Arc<dyn SessionPort>,
        callers: Arc<Callers>,
        most_per_user: usize,
    ) -> Self {
        Self {
            port,
            callers,
            open: RwLock::default(),
            most_per_user,
            refused: AtomicU64::new(0),
            shown: ShownProofs::default(),
        }
    }

    /// By what sessions are begun.
    pub(super) fn shown(&self) -> &ShownProofs {
        &self.shown
    }

    /// Whether a user may begin a session beside those that are open. One that goes on after a break
    /// counts as well: the stack asks the same for it.
    pub(super) fn admits(&self, token: &UserToken) -> bool {
        let open = self.open.read();
        let of_user = open.values();
        let of_user = of_user.filter(|open| name_of(&open.token) == name_of(token));
        let here = of_user.filter(|open| (open.look)().1.is_some()).count();
        // With those at other faces. Who did not log in is a user of this one alone.
        let elsewhere = || token.is_anonymous() || self.port.admits(&self.callers.user(token));
        let admitted = here < self.most_per_user && elsewhere();
        if !admitted {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    /// Who is told of users.
    pub(super) fn port(&self) -> &Arc<dyn SessionPort> {
        &self.port
    }

    /// Has it recorded that somebody may not see `object`.
    pub(super) async fn not_shown(&self, caller: &Caller, object: &str) -> Result<(), StatusCode> {
        let recorded = self.callers.access().refused(caller, Right::Live, object);
        recorded.await.map_err(|error| {
            tracing::warn!(user = caller.user, %error, "a refusal cannot be recorded");
            StatusCode::BadResourceUnavailable
        })
    }

    /// Sessions that were refused.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// A session was activated.
    pub(super) fn entered(&self, context: &RequestContext) {
        let known = |open: &Open| open.token == *context.user_token();
        if !self
            .open
            .read()
            .get(&context.session_id())
            .is_some_and(known)
        {
            self.asked(context);
        }
    }

    /// Who asks. The first request of a session is told at once.
    pub(super) fn asked(&self, context: &RequestContext) -> Arc<Caller> {
        let (id, token) = (context.session_id(), context.user_token());
        if let Some(open) = self.open.read().get(&id)
            && open.token == *token
        {
            open.asked.fetch_add(1, Ordering::Relaxed);
            if open.out.load(Ordering::Relaxed) {
                // Its user was let in again.
                open.out.store(false, Ordering::Relaxed);
            }
            return open.caller.clone();
        }
        let caller = Arc::new(self.callers.of(context));
        let session = context.session.clone();
        let look = move || {
            let session = session.read();
            let description = Description {
                id: session.session_id().clone(),
                name: session.session_name().to_owned(),
                client: session.application_description().clone(),
                endpoint: session.endpoint_url().clone(),
                channel: session.is_activated().then(|| session.secure_channel_id()),
            };
            let until = session.is_activated().then(|| session.deadline());
            (description, until)
        };
        let now = Utc::now();
        let open = Open {
            token: token.clone(),
            caller: caller.clone(),
            until: look().1,
            look: Arc::new(look),
            since: now,
            last: now,
            told: 1,
            asked: AtomicU64::new(0),
            sight: Mutex::new(None),
            out: AtomicBool::new(false),
        };
        self.open.write().insert(id, open);
        self.port.asked(&caller.session, &caller.user);
        caller
    }

    /// Whether a user asks no more often than they may, at all faces together. Who did not log in is on this
    /// machine, and has bounds of another kind.
    pub(super) fn spend(&self, context: &RequestContext) -> Result<(), StatusCode> {
        let token = context.user_token();
        if token.is_anonymous() {
            return Ok(());
        }
        let spent = self.port.spend(&self.callers.user(token));
        spent.map_err(|_| {
            context.info.diagnostics.inc_rejected_requests();
            StatusCode::BadTooManyOperations
        })
    }

    /// Who asks, as [`asked`](Self::asked), and whether they see all live values.
    pub(super) fn sees(&self, context: &RequestContext) -> (Arc<Caller>, bool) {
        let caller = self.asked(context);
        let open = self.open.read();
        let Some(open) = open.get(&context.session_id()) else {
            return (caller, false);
        };
        let mut sight = open.sight.lock();
        let gate = self.callers.access().gate();
        let now = gate.sight(*sight, &caller.user, Right::Live, now());
        *sight = Some(now);
        (caller, now.is_all())
    }

    /// What decides.
    pub(super) fn gate(&self) -> &Gate {
        self.callers.access().gate()
    }

    /// Repeats the admission of everybody who is in, before their permits end; returns the channels of
    /// those who may be in no more, and of sessions that were begun by what holds no more.
    async fn renew(&self) -> Vec<u32> {
        let mut out = BTreeSet::new();
        let users: BTreeSet<String> = {
            let open = self.open.read();
            let inside = open.values().filter(|o| !o.out.load(Ordering::Relaxed));
            inside.map(|o| o.caller.user.clone()).collect()
        };
        for user in users {
            match self.callers.access().admit(&user, FACE).await {
                Ok(()) => {}
                Err(AccessError::Denied(_)) => {
                    out.insert(user);
                }
                Err(error) => tracing::warn!(user, %error, "the user's admission is not renewed"),
            }
        }
        let tokens: BTreeSet<String> = {
            let open = self.open.read();
            let inside = open.values().filter(|o| !o.out.load(Ordering::Relaxed));
            inside.map(|open| open.token.0.clone()).collect()
        };
        let over = self.shown.over(&tokens).await;
        let open = self.open.read();
        let ends = |open: &&Open| over.contains(&open.token.0);
        for open in open.values().filter(ends) {
            let user = &open.caller.user;
            tracing::warn!(
                user,
                "the session ends: what it was begun by, a certificate or a password, holds no more"
            );
        }
        let open = open
            .values()
            .filter(|open| out.contains(&open.caller.user) || ends(open));
        let put_out = open.inspect(|open| open.out.store(true, Ordering::Relaxed));
        put_out.filter_map(|open| (open.look)().0.channel).collect()
    }

    /// Tells of requests and ends, again and again.
    pub(super) async fn watch(self: Arc<Self>, guard: Arc<Guard>) {
        let mut interval = tokio::time::interval(LOOK_EVERY);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            self.look();
            for channel in self.renew().await {
                guard.expel(channel);
            }
        }
    }

    fn look(&self) {
        self.open.write().retain(|_, open| {
            let (_, until) = (open.look)();
            let asked = open.asked.swap(0, Ordering::Relaxed);
            // Requests that only the stack sees, such as Publish, count as one.
            let asked = asked.max(u64::from(until != open.until));
            open.until = until;
            let (session, user) = (&open.caller.session, &open.caller.user);
            if asked > 0 {
                open.told += asked;
                open.last = Utc::now();
                self.port.asked_times(session, user, asked);
            }
            if until.is_none() {
                self.port.ended(session);
            }
            until.is_some()
        });
    }

    /// The sessions that are open.
    pub(super) fn open(&self) -> Vec<OpenSession> {
        let open = self.open.read();
        let session = |(number, open): (&u32, &Open)| {
            let (described, until) = (open.look)();
            until?;
            Some(OpenSession {
                number: *number,
                id: described.id,
                name: described.name,
                client: described.client,
                endpoint: described.endpoint,
                since: open.since,
                last: open.last,
                requests: open.told + open.asked.load(Ordering::Relaxed),
            })
        };
        open.iter().filter_map(session).collect()
    }

    /// Tells that all are over.
    pub(super) fn end_all(&self) {
        for (_, open) in self.open.write().drain() {
            self.port.ended(&open.caller.session);
        }
    }
}
