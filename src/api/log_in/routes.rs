//! `/api/v1/login`, `/api/v1/challenge`, `/api/v1/logout`, `/api/v1/session`.

use super::{LogIn, Session, shown, token};
use crate::access::Caller;
use crate::access::Refused;
use crate::api::caller::{FACE, LOCAL, let_in, name_of};
use crate::api::problem::Problem;
use crate::api::server::Api;
use crate::model::{now, rfc3339};
use crate::protocols::log_in::{NotIn, Proof};
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr};
use weighbridge_verifier::PublicKey;
use zeroize::Zeroizing;

/// Longest body of a request, in bytes.
const MAX_BODY: usize = 4 << 10;
/// Longest password, in bytes: hashing takes as long as it is.
const MAX_PASSWORD: usize = 1 << 10;

const LOGIN: &str = "/api/v1/login";
const CHALLENGE: &str = "/api/v1/challenge";
const LOGOUT: &str = "/api/v1/logout";
const SESSION: &str = "/api/v1/session";

pub(in crate::api) fn routes(config: &mut web::ServiceConfig) {
    let acting = |path: &str| web::resource(path).app_data(web::PayloadConfig::new(MAX_BODY));
    config
        .service(acting(LOGIN).route(web::post().to(login)))
        .service(acting(CHALLENGE).route(web::post().to(challenge)))
        .service(acting(LOGOUT).route(web::post().to(logout)))
        .route(SESSION, web::to(session));
}

/// Whether `path` is one of these that is posted to.
pub(in crate::api) fn acts(path: &str) -> bool {
    [LOGIN, CHALLENGE, LOGOUT].contains(&path)
}

/// Whether `path` is for those who have no session, too.
pub(in crate::api) fn is_open(path: &str) -> bool {
    acts(path) || path == SESSION
}

/// What somebody sends to log in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    user: Option<String>,
    password: Option<String>,
    code: Option<String>,
    challenge: Option<String>,
    key: Option<String>,
    signature: Option<String>,
    /// By the certificate that the connection showed.
    #[serde(default)]
    certificate: bool,
    /// Whether the token is to be in the answer.
    #[serde(default)]
    token: bool,
}

const EXAMPLE: &str = "{\"user\": \"ann\", \"password\": \"…\", \"code\": \"123456\"}, or \
     {\"user\": \"ann\", \"challenge\": \"…\", \"key\": \"…\", \"signature\": \"…\"} after POST /api/v1/challenge, or \
     {\"certificate\": true} over a connection that shows one";

impl Wish {
    /// Who they say they are, and what they show; `certificates` are those that their connection did.
    fn shown(self, certificates: Option<&[Vec<u8>]>) -> Result<(Option<String>, Proof), Problem> {
        let password = self.password.map(Zeroizing::new);
        if self.certificate {
            let alone = password.is_none() && self.code.is_none() && self.signature.is_none();
            return match certificates {
                Some(chain) if alone => Ok((self.user, Proof::Certificate(chain.to_vec()))),
                Some(_) => Err(Problem::body(format!("write {EXAMPLE}"))),
                None => Err(Problem::body(
                    "this connection shows no certificate: give your browser or program one, and see that \
                     `client_certificates = true` stands in [http]",
                )),
            };
        }
        if self.user.is_none() {
            return Err(Problem::body(format!("write {EXAMPLE}")));
        }
        match (password, self.challenge, self.key, self.signature) {
            (Some(password), None, None, None) if password.len() <= MAX_PASSWORD => {
                Ok((self.user, Proof::Password(password, self.code)))
            }
            (None, Some(challenge), Some(key), Some(signature)) if self.code.is_none() => {
                let bytes = |text: &str| HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
                let shown = bytes(&challenge).and_then(|nonce| {
                    let (nonce, key) = (nonce.try_into().ok()?, bytes(&key)?.try_into().ok()?);
                    Some(Proof::Signature(nonce, PublicKey(key), bytes(&signature)?))
                });
                let shown = shown.ok_or_else(|| {
                    Problem::body(
                        "`challenge` (32 bytes), `key` (compressed, 33 bytes) and `signature` are \
                         hexadecimal",
                    )
                })?;
                Ok((self.user, shown))
            }
            _ => Err(Problem::body(format!("write {EXAMPLE}"))),
        }
    }
}

pub(in crate::api) type Body = Result<web::Bytes, actix_web::Error>;

/// Reads a body. What stands in it is not repeated: it may be a secret.
pub(in crate::api) fn read<T: for<'a> Deserialize<'a>>(
    body: Body,
    example: &str,
) -> Result<T, Problem> {
    let wrong = || format!("the body is not what is expected here: write {example}");
    let body = body.map_err(|error| Problem::unread(Some(&error), wrong()))?;
    serde_json::from_slice(&body).map_err(|_| Problem::unread(None, wrong()))
}

/// How users log in here.
pub(in crate::api) fn log_in(api: &Api) -> Result<&LogIn, Problem> {
    api.log_in.as_ref().ok_or_else(|| {
        Problem::not_found(
            "nobody logs in here: whoever is on this machine is the user `local`; \
             `log_in = true` in [http] changes that",
        )
    })
}

/// Where a request is from.
pub(in crate::api) fn from(request: &HttpRequest) -> IpAddr {
    let peer = request.peer_addr();
    peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip())
}

/// Who is logged in, as the page shows it.
#[derive(Serialize)]
struct SessionView<'a> {
    /// Whether users log in here at all.
    log_in: bool,
    user: Option<&'a str>,
    roles: Vec<String>,
    /// "password", "password_and_code", "certificate" or "signature".
    method: Option<&'static str>,
    since: Option<String>,
    /// When it ends at the latest.
    expires: Option<String>,
    /// Whether this connection showed a certificate, by which somebody might log in.
    certificate: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
}

impl<'a> SessionView<'a> {
    fn new(api: &Api, log_in: &LogIn, session: &'a Session) -> Self {
        Self {
            log_in: true,
            user: Some(&session.user),
            roles: api.context.access.gate().roles(&session.user),
            method: Some(session.method),
            since: Some(rfc3339(session.since)),
            expires: Some(rfc3339(log_in.until(session))),
            certificate: false,
            token: None,
        }
    }
}

/// What is answered to who is not let in.
pub(in crate::api) fn not_in(why: NotIn) -> Problem {
    match why {
        NotIn::TooEarly(early) => {
            let wait = early.until.saturating_sub(now()).max(0) / 1_000_000_000 + 1;
            Problem::too_early(early.to_string(), u16::try_from(wait).unwrap_or(u16::MAX))
        }
        NotIn::Refused => Problem::unauthorized(Refused::ANSWER),
        NotIn::Busy => Problem::busy("too many log in at the same time: try again"),
    }
}

async fn login(
    request: HttpRequest,
    api: web::Data<Api>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let log_in = log_in(&api)?;
    let wish: Wish = read(body, EXAMPLE)?;
    let wants_token = wish.token;
    let named = request.headers().get("x-request-id");
    let named = name_of(named.map(|value| value.as_bytes()))?;
    let (user, proof) = wish.shown(shown::shown(&request))?;
    let proved = log_in.prove(user.as_deref(), proof, from(&request)).await;
    let proved = proved.inspect_err(|not_in| {
        api.context.sessions.turned_away(FACE, not_in.in_short());
    });
    let proved = proved.map_err(not_in)?;
    let_in(&api, &proved.user).await?;
    // Whoever logs in anew leaves the session before.
    if let Some(before) = log_in.shown(request.headers()) {
        log_in.end(&before);
    }
    let (token, session) = log_in.open(&proved)?;
    let caller = Caller {
        request: named,
        ..Caller::new(&*session.user, &*session.name)
    };
    if let Err(error) = api.context.sessions.enter(&caller).await {
        log_in.end(&token::hash(&token));
        return Err(Problem::busy(error.to_string()));
    }
    let view = SessionView {
        token: wants_token.then_some(&**token),
        ..SessionView::new(&api, log_in, &session)
    };
    let mut response = HttpResponse::Ok();
    if !wants_token {
        response.insert_header((header::SET_COOKIE, token::keep(&token, log_in.tls)));
    }
    Ok(response.json(view))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asker {
    user: String,
}

async fn challenge(
    request: HttpRequest,
    api: web::Data<Api>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let log_in = log_in(&api)?;
    let asker: Asker = read(body, "{\"user\": \"ann\"}")?;
    let challenge = log_in.challenge(&asker.user, from(&request))?;
    Ok(HttpResponse::Ok().json(json!({
        "challenge": HEXLOWER.encode(&challenge.nonce),
        "text": challenge.text(),
        "expires": rfc3339(challenge.expires),
    })))
}

async fn logout(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let log_in = log_in(&api)?;
    let token = log_in.shown(request.headers());
    let ended = token.and_then(|token| log_in.end(&token));
    let mut response = HttpResponse::Ok();
    response.insert_header((header::SET_COOKIE, token::forget(log_in.tls)));
    Ok(response.json(json!({ "logged_out": ended.map(|session| session.user) })))
}

/// Who asks; with nobody logged in that is an answer, too.
async fn session(request: HttpRequest, api: web::Data<Api>) -> HttpResponse {
    let Some(log_in) = &api.log_in else {
        return HttpResponse::Ok().json(SessionView {
            log_in: false,
            user: Some(LOCAL),
            roles: api.context.access.gate().roles(LOCAL),
            method: None,
            since: None,
            expires: None,
            certificate: false,
            token: None,
        });
    };
    let session = log_in.shown(request.headers());
    let session = session.and_then(|token| log_in.asked(&token));
    let view = match &session {
        Some(session) => SessionView::new(&api, log_in, session),
        None => SessionView {
            log_in: true,
            user: None,
            roles: Vec::new(),
            method: None,
            since: None,
            expires: None,
            certificate: shown::shown(&request).is_some(),
            token: None,
        },
    };
    HttpResponse::Ok().json(view)
}
