//! What users do with their own credentials: take an invitation, choose another password, set up one-time codes.
//!
//! `/api/v1/invitation` is for those who have no session yet. The others ask for the password once more, and for the
//! code of those who have one: whoever finds a dashboard that is logged in cannot lock its user out.

use super::caller::{FACE, caller};
use super::log_in;
use super::problem::Problem;
use super::qr::Qr;
use super::server::Api;
use super::users::{fault, port};
use crate::crypto::{TotpHash, TotpSecret};
use crate::model::rfc3339;
use crate::protocols::log_in::{NotIn, Proof};
use crate::protocols::users::UsersFault;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use zeroize::Zeroizing;

const INVITATION: &str = "/api/v1/invitation";
const PASSWORD: &str = "/api/v1/own/password";
const CODES: &str = "/api/v1/own/codes";
/// Longest body of a request, in bytes.
const MAX_BODY: usize = 4 << 10;
/// What an app shows beside the name.
const ISSUER: &str = "weighbridge";

pub(super) fn routes(config: &mut web::ServiceConfig) {
    let acting = |path: &str| web::resource(path).app_data(web::PayloadConfig::new(MAX_BODY));
    config
        .service(acting(INVITATION).route(web::post().to(invitation)))
        .service(acting(PASSWORD).route(web::post().to(password)))
        .service(acting(CODES).route(web::post().to(codes)));
}

/// Whether `path` is one of these.
pub(super) fn acts(path: &str) -> bool {
    path == INVITATION || is_theirs(path)
}

/// Whether `path` is for those who have no session, too.
pub(super) fn is_open(path: &str) -> bool {
    path == INVITATION
}

/// Whether `path` is for every user, whatever their roles.
pub(super) fn is_theirs(path: &str) -> bool {
    [PASSWORD, CODES].contains(&path)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Taken {
    invitation: String,
    /// Without it, it is only asked who is invited.
    password: Option<String>,
    code: Option<String>,
}

async fn invitation(
    request: HttpRequest,
    api: web::Data<Api>,
    body: log_in::Body,
) -> Result<HttpResponse, Problem> {
    let taken: Taken = log_in::read(
        body,
        "{\"invitation\": \"…\", \"password\": \"…\", \"code\": \"123456\"}",
    )?;
    let (invitation, password) = (
        Zeroizing::new(taken.invitation),
        taken.password.map(Zeroizing::new),
    );
    let users = port(&api)?;
    let counted = |error: UsersFault| {
        if error == UsersFault::NotInvited {
            let sessions = &api.context.sessions;
            sessions.turned_away(FACE, "wrong invitation");
            let from = request.peer_addr().map(|peer| peer.ip());
            tracing::warn!(?from, "an invitation that is not open was shown");
        }
        fault(error)
    };
    let Some(password) = password else {
        let welcome = users.invited(&invitation).await.map_err(counted)?;
        let mut view = json!({"user": welcome.user, "until": rfc3339(welcome.until)});
        if let Some(secret) = &welcome.codes {
            view["codes"] = shown(secret, &welcome.user);
        }
        return Ok(HttpResponse::Ok().json(view));
    };
    let accepted = users.accept(&invitation, password, taken.code.as_deref());
    let user = accepted.await.map_err(counted)?;
    // Whoever came in by the password before is not whom it was chosen by.
    if let Some(log_in) = &api.log_in {
        log_in.end_all(&user, None);
    }
    Ok(HttpResponse::Ok().json(json!({ "user": user, "done": "accepted" })))
}

/// What an app is told of new codes. It is shown once.
fn shown(secret: &TotpSecret, user: &str) -> Json {
    let uri = secret.uri(ISSUER, user);
    json!({
        "secret": *secret.to_base32(),
        "uri": *uri,
        "qr": Qr::new(&uri).map(|qr| qr.svg()),
    })
}

/// Sees to it that whoever asks is still who logged in.
async fn proven(
    request: &HttpRequest,
    api: &Api,
    user: &str,
    (password, code): (Option<Zeroizing<String>>, Option<String>),
) -> Result<(), Problem> {
    let log_in = log_in::log_in(api)?;
    let password = password.ok_or_else(|| {
        Problem::body("say `password`, the one that you have, and `code` if you have codes")
    })?;
    let proof = Proof::Password(password, code);
    let from = log_in::from(request);
    let proved = log_in.prove(Some(user), proof, from).await;
    proved.map(|_| ()).map_err(|not_in| {
        api.context.sessions.turned_away(FACE, not_in.in_short());
        match not_in {
            // Not 401: the session is open, and the page would leave it.
            NotIn::Refused => Problem::forbidden("the password or code is wrong"),
            other => log_in::not_in(other),
        }
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Passwords {
    password: String,
    code: Option<String>,
    new: String,
}

async fn password(
    request: HttpRequest,
    api: web::Data<Api>,
    body: log_in::Body,
) -> Result<HttpResponse, Problem> {
    let caller = caller(&request)?;
    let example = "{\"password\": \"…\", \"code\": \"123456\", \"new\": \"…\"}";
    let asked: Passwords = log_in::read(body, example)?;
    let new = Zeroizing::new(asked.new);
    let shown = (Some(Zeroizing::new(asked.password)), asked.code);
    let users = port(&api)?;
    proven(&request, &api, &caller.user, shown).await?;
    let changed = users.set_password(&caller, new).await;
    changed.map_err(fault)?;
    let log_in = log_in::log_in(&api)?;
    let own = log_in.shown(request.headers());
    log_in.end_all(&caller.user, own.as_ref());
    Ok(HttpResponse::Ok().json(json!({"user": caller.user, "done": "password changed"})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewCodes {
    password: Option<String>,
    code: Option<String>,
    #[serde(default)]
    hash: TotpHash,
    /// The first code of the new ones.
    confirm: Option<String>,
}

async fn codes(
    request: HttpRequest,
    api: web::Data<Api>,
    body: log_in::Body,
) -> Result<HttpResponse, Problem> {
    let caller = caller(&request)?;
    let example =
        "{\"password\": \"…\"}, and then {\"confirm\": \"123456\"} with the first of the new codes";
    let asked: NewCodes = log_in::read(body, example)?;
    let users = port(&api)?;
    if let Some(code) = asked.confirm {
        log_in::log_in(&api)?;
        users.confirm_codes(&caller, &code).await.map_err(fault)?;
        return Ok(HttpResponse::Ok().json(json!({"user": caller.user, "done": "codes"})));
    }
    let shown_now = (asked.password.map(Zeroizing::new), asked.code);
    proven(&request, &api, &caller.user, shown_now).await?;
    let secret = users
        .begin_codes(&caller, asked.hash)
        .await
        .map_err(fault)?;
    Ok(HttpResponse::Ok().json(shown(&secret, &caller.user)))
}
