//! Who asks, and what they see. Where users log in, it is whoever the session's token is for. Where they do not,
//! the face listens on loopback only, and whoever is on this machine is the user `local`, with the roles
//! that `[http]` gives.

use super::problem::Problem;
use super::query::shortened;
use super::server::Api;
use super::{access, log_in, metrics, own, page, readers, status, users};
use crate::access::{Caller, Gate, Method, Right};
use crate::model::{Nanos, now};
use crate::protocols::ports::AccessError;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, HttpRequest, web};
use weighbridge_verifier::Hash;

/// The user of a face at which nobody logs in.
pub const LOCAL: &str = "local";
/// The face's name in records of who came in.
pub const FACE: &str = "http";
/// Where a client says what it calls its request; that is in the request's record.
const REQUEST_ID: &str = "x-request-id";
/// Longest such name.
const MAX_REQUEST_ID: usize = 64;

/// Whether whoever asks showed more than a password when their session began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proven(pub(super) bool);

/// Middleware: what the hub shows is for those who may see it. Only what is known to be for everybody is
/// let through, so that an address written otherwise is no way around.
pub(super) async fn look(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let path = request.path();
    let open = page::is_part(path)
        || path == status::HEALTH
        || log_in::is_open(path)
        || own::is_open(path);
    if !open && let Some(api) = request.app_data::<web::Data<Api>>().cloned() {
        match onlooker(&api, &request).await {
            Ok(Some((caller, proven))) => {
                request.extensions_mut().insert(caller);
                request.extensions_mut().insert(proven);
            }
            Ok(None) => {}
            Err(problem) => return Ok(request.error_response(problem).map_into_right_body()),
        }
    }
    Ok(next.call(request).await?.map_into_left_body())
}

/// Who asks, when they may see something of the hub. How it is itself is not asked about by those on this
/// machine: when nobody can be let in because nothing can be recorded, that is where it says so.
async fn onlooker(
    api: &Api,
    request: &ServiceRequest,
) -> Result<Option<(Caller, Proven)>, Problem> {
    // Where nobody logs in there is nothing that they could have shown.
    let mut proven = Proven(true);
    let itself = [status::PATH, metrics::PATH].contains(&request.path());
    let caller = match &api.log_in {
        None if itself => return Ok(None),
        None => {
            let_in(api, LOCAL).await?;
            Caller::new(LOCAL, FACE)
        }
        Some(log_in) => {
            let stranger = || {
                api.context.sessions.turned_away(FACE, "no session");
                nobody()
            };
            let token = log_in.shown(request.headers()).ok_or_else(stranger)?;
            let session = log_in.asked(&token).ok_or_else(stranger)?;
            if let Err(wait) = api.context.sessions.spend(&session.user) {
                let seconds = wait.as_secs().saturating_add(1);
                let detail = "you ask too often: wait, and ask for less at a time";
                let seconds = u16::try_from(seconds).unwrap_or(u16::MAX);
                return Err(Problem::too_early(detail, seconds));
            }
            if !is_admitted(api.context.access.gate(), &session.user) {
                log_in.end(&token);
                // They were put out. That they came again is recorded; what they are told is the same.
                return Err(match api.context.access.admit(&session.user, FACE).await {
                    Err(error @ AccessError::NotRecorded(_)) => problem(error),
                    _ => nobody(),
                });
            }
            if !itself {
                // Within the life of their permits it costs nothing; after it they are renewed.
                let_in(api, &session.user).await?;
            }
            proven = Proven(session.method != Method::Password.name());
            Caller::new(session.user, session.name)
        }
    };
    let caller = Caller {
        request: request_id(request)?,
        ..caller
    };
    let entered = api.context.sessions.enter(&caller).await;
    entered.map_err(|error| Problem::busy(error.to_string()))?;
    let gate = api.context.access.gate();
    let reads = readers::is_theirs(request.path()) && gate.reads(&caller.user);
    // Where the rights are looked at by what is asked for.
    let other = [access::PATH, users::PATH].contains(&request.path());
    let own = other || own::is_theirs(request.path());
    match own || reads || gate.somewhere(&caller.user, Right::Live, now()) {
        true => Ok(Some((caller, proven))),
        false => {
            let why = Problem::forbidden(format!(
                "`{}` may not see this hub: none of the user's roles lets them",
                caller.user
            ));
            Err(refused(api, &caller, gate.hub(), why).await)
        }
    }
}

/// What the client calls its request, if it says so.
pub(super) fn name_of(header: Option<&[u8]>) -> Result<Option<String>, Problem> {
    let Some(given) = header else {
        return Ok(None);
    };
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_.:".contains(b);
    let fits = (1..=MAX_REQUEST_ID).contains(&given.len()) && given.iter().all(plain);
    let given = String::from_utf8_lossy(given);
    match fits {
        true => Ok(Some(given.into_owned())),
        false => Err(Problem::parameter(
            "X-Request-Id",
            format!(
                "`X-Request-Id` has 1 to {MAX_REQUEST_ID} letters, digits and `-_.:`, and this is `{}`",
                shortened(&given)
            ),
        )),
    }
}

fn request_id(request: &ServiceRequest) -> Result<Option<String>, Problem> {
    let header = request.headers().get(REQUEST_ID);
    name_of(header.map(|value| value.as_bytes()))
}

/// Records that something is not shown to somebody, and returns the answer: `why`, unless it cannot be
/// recorded.
pub(super) async fn refused(api: &Api, caller: &Caller, object: &str, why: Problem) -> Problem {
    let recorded = api.context.access.refused(caller, Right::Live, object);
    match recorded.await {
        Ok(()) => why,
        Err(error) => problem(error),
    }
}

/// What is said to who has no session, or none any more.
fn nobody() -> Problem {
    Problem::unauthorized(
        "nobody is logged in, or no longer: log in on the page at /, or POST {\"user\": …, \"password\": …, \
         \"code\": …, \"token\": true} to /api/v1/login and send `Authorization: Bearer` with the token",
    )
}

/// Whether `user` may be here at all, now.
fn is_admitted(gate: &Gate, user: &str) -> bool {
    gate.state().admits(&format!("user:{user}"), now()).is_ok()
}

/// Lets `user` in, who is who they say.
pub(super) async fn let_in(api: &Api, user: &str) -> Result<(), Problem> {
    api.context.access.admit(user, FACE).await.map_err(problem)
}

/// Who asks, as [`look`] found it.
pub(super) fn caller(request: &HttpRequest) -> Result<Caller, Problem> {
    let found = request.extensions().get::<Caller>().cloned();
    found.ok_or_else(|| Problem::internal("nobody was asked who they are"))
}

/// Whether whoever began something may go on with it: their session is open, and they are admitted.
pub(super) fn may_stay(api: &Api, token: Option<&Hash>, user: &str) -> bool {
    let held = match (&api.log_in, token) {
        (None, _) => true,
        (Some(log_in), Some(token)) => log_in.holds(token),
        (Some(_), None) => false,
    };
    held && is_admitted(api.context.access.gate(), user)
}

/// What somebody sees of the machines.
#[derive(Clone)]
pub(super) struct Viewer {
    gate: Gate,
    caller: Caller,
    time: Nanos,
    all: bool,
}

impl Viewer {
    /// What `caller` sees now.
    pub(super) fn new(gate: &Gate, caller: Caller) -> Self {
        let time = now();
        Self {
            gate: gate.clone(),
            time,
            all: gate.sight(None, &caller.user, Right::Live, time).is_all(),
            caller,
        }
    }

    /// Records that they do not see `object`, and returns the answer: `why`, unless it cannot be recorded.
    pub(super) async fn refused(&self, api: &Api, object: &str, why: Problem) -> Problem {
        refused(api, &self.caller, object, why).await
    }

    /// What whoever asks sees.
    pub(super) fn of(request: &HttpRequest, api: &Api) -> Result<Self, Problem> {
        Ok(Self::new(api.context.access.gate(), caller(request)?))
    }

    /// Whether that is everything.
    pub(super) fn sees_all(&self) -> bool {
        self.all
    }

    /// Whether they see an object of a machine.
    pub(super) fn sees(&self, object: &str) -> bool {
        let passage = |object| {
            self.gate
                .passage(&self.caller.user, Right::Live, object, self.time)
        };
        self.all || passage(object).is_ok()
    }

    /// Whether they see a device.
    pub(super) fn sees_device(&self, device: &str) -> bool {
        self.all || self.sees(&format!("device:{device}"))
    }

    /// Whether they see a tag.
    pub(super) fn sees_tag(&self, device: &str, tag: &str) -> bool {
        self.all || self.sees(&format!("device:{device}/{tag}"))
    }
}

/// Why somebody was not let in, or a change of access was not made, as an answer.
pub(super) fn problem(error: AccessError) -> Problem {
    let detail = error.to_string();
    match error {
        AccessError::Denied(_) => Problem::forbidden(detail),
        AccessError::Impossible(_) => Problem::not_done(detail),
        AccessError::NotRecorded(_) | AccessError::Busy => Problem::busy(detail),
    }
}
