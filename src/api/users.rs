//! `/api/v1/users`: who the users are and by what they log in, and the changes of it that administrators make. None of
//! them ever knows another's password: who is new, or has lost theirs, is invited to choose one (`own.rs`).

use super::access::{knows, standing};
use super::body::{self, Body};
use super::caller::{caller, problem, refused};
use super::problem::Problem;
use super::server::Api;
use crate::access::{Caller, Change, Right};
use crate::crypto::{Certificate, TotpHash, possession};
use crate::model::{now, parse_time, rfc3339};
use crate::protocols::users::{Amendment, Invited, KnownUser, NewUser, UsersFault, UsersPort};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use weighbridge_verifier::{Hash, IdentityKind, PublicKey};

/// Where it is.
pub(super) const PATH: &str = "/api/v1/users";
/// Longest body of a request, in bytes: a certificate fits.
const MAX_BODY: usize = 64 << 10;
/// Fewest digits by which a key is named.
const MIN_DIGITS: usize = 4;

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config.service(
        web::resource(PATH)
            .app_data(web::PayloadConfig::new(MAX_BODY))
            .route(web::get().to(list))
            .route(web::head().to(list))
            .route(web::post().to(change)),
    );
}

/// What shall be done.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
enum Wish {
    Add {
        user: String,
        #[serde(default)]
        roles: BTreeSet<String>,
        expires: Option<String>,
        /// Whether they are to set up one-time codes.
        #[serde(default = "yes")]
        codes: bool,
    },
    Invite {
        user: String,
        #[serde(default)]
        codes: bool,
    },
    Reissue {
        user: String,
        /// Those that they have, or had, when not said.
        roles: Option<BTreeSet<String>>,
        expires: Option<String>,
        #[serde(default = "yes")]
        codes: bool,
    },
    Key {
        user: String,
        /// A certificate (PEM), or a public key of 66 hexadecimal digits.
        key: String,
    },
    Pin {
        user: String,
        /// PEM.
        certificate: String,
    },
    Forget {
        user: String,
        /// The first digits.
        hash: String,
    },
    RemovePassword {
        user: String,
    },
    RemoveCodes {
        user: String,
    },
    Expire {
        user: String,
        /// Never when not said.
        expires: Option<String>,
    },
    Revoke {
        user: String,
    },
}

fn yes() -> bool {
    true
}

pub(super) fn port(api: &Api) -> Result<Arc<dyn UsersPort>, Problem> {
    let none = || Problem::not_found("this hub has no users of its own");
    api.context.users.clone().ok_or_else(none)
}

async fn change(
    request: HttpRequest,
    api: web::Data<Api>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let caller = caller(&request)?;
    let example = r#"{"do": "add", "user": "anna", "roles": ["operator"]}"#;
    let wish: Wish = body::json(&body::whole(body)?, example)?;
    let users = port(&api)?;
    let done = done(&api, &*users, &caller, wish).await?;
    Ok(HttpResponse::Ok().json(done))
}

async fn done(
    api: &Api,
    users: &dyn UsersPort,
    caller: &Caller,
    wish: Wish,
) -> Result<Json, Problem> {
    let expires = |text: Option<String>| {
        let time = text.as_deref().map(parse_time).transpose();
        time.map_err(|why| Problem::body(format!("`expires`: {why}")))
    };
    let (user, what) = match wish {
        Wish::Add {
            user,
            roles,
            expires: end,
            codes,
        } => {
            let new = NewUser {
                roles: Some(roles),
                expires: expires(end)?,
            };
            let invited = users.add(caller, &user, new, codes).await;
            return Ok(told(&user, "added", &invited.map_err(fault)?));
        }
        Wish::Invite { user, codes } => {
            let invited = users.invite(caller, &user, codes).await;
            return Ok(told(&user, "invited", &invited.map_err(fault)?));
        }
        Wish::Reissue {
            user,
            roles,
            expires: end,
            codes,
        } => {
            let new = NewUser {
                roles,
                expires: expires(end)?,
            };
            let invited = users.reissue(caller, &user, new, codes).await;
            let told = told(&user, "reissued", &invited.map_err(fault)?);
            end_sessions(api, &user);
            return Ok(told);
        }
        Wish::Key { user, key } => {
            let amendment = shown_key(&key)?;
            users.amend(caller, &user, amendment).await.map_err(fault)?;
            (user, "key added")
        }
        Wish::Pin { user, certificate } => {
            let pin = Amendment::Pin(certificate_of(&certificate)?);
            users.amend(caller, &user, pin).await.map_err(fault)?;
            (user, "certificate pinned")
        }
        Wish::Forget { user, hash } => {
            let hash = fitting(users, api, caller, (&user, &hash)).await?;
            let forget = Amendment::Forget(hash);
            users.amend(caller, &user, forget).await.map_err(fault)?;
            end_sessions(api, &user);
            (user, "key forgotten")
        }
        Wish::RemovePassword { user } => {
            let amended = users.amend(caller, &user, Amendment::RemovePassword).await;
            amended.map_err(fault)?;
            end_sessions(api, &user);
            (user, "password removed")
        }
        Wish::RemoveCodes { user } => {
            let amended = users.amend(caller, &user, Amendment::RemoveCodes).await;
            amended.map_err(fault)?;
            (user, "codes removed")
        }
        Wish::Expire { user, expires: end } => {
            let change = Change::Renew(format!("user:{user}"), expires(end)?);
            let changed = api.context.access.change(caller, vec![change]).await;
            changed.map_err(problem)?;
            (user, "expires")
        }
        Wish::Revoke { user } => {
            users.revoke(caller, &user).await.map_err(fault)?;
            end_sessions(api, &user);
            (user, "revoked")
        }
    };
    Ok(json!({"user": user, "done": what}))
}

/// Whoever was let in by what they have no more leaves.
fn end_sessions(api: &Api, user: &str) {
    if let Some(log_in) = &api.log_in {
        log_in.end_all(user, None);
    }
}

fn told(user: &str, what: &str, invited: &Invited) -> Json {
    json!({
        "user": user,
        "done": what,
        "invitation": *invited.invitation,
        "until": rfc3339(invited.until),
    })
}

pub(super) fn fault(fault: UsersFault) -> Problem {
    let detail = fault.to_string();
    match fault {
        UsersFault::Access(error) => problem(error),
        UsersFault::NotInvited => Problem::unauthorized(detail),
        UsersFault::Code | UsersFault::NotBegun | UsersFault::Impossible(_) => {
            Problem::not_done(detail)
        }
        UsersFault::Files(_) => {
            tracing::error!(detail, "users' credentials cannot be used");
            Problem::internal("the credentials cannot be read or written; the hub's log says why")
        }
    }
}

fn certificate_of(text: &str) -> Result<Certificate, Problem> {
    let read = Certificate::from_pem(text).ok();
    let first = read.and_then(|all| all.into_iter().next());
    first.ok_or_else(|| Problem::body("the certificate is not one in PEM form"))
}

fn shown_key(text: &str) -> Result<Amendment, Problem> {
    if let Ok(key) = text.trim().parse::<PublicKey>() {
        let hash = possession::key_hash(&key);
        let hash = hash.ok_or_else(|| Problem::body("`key` is not a P-256 public key"))?;
        return Ok(Amendment::AddKey(hash, None));
    }
    let certificate = certificate_of(text).map_err(|_| {
        Problem::body("`key` is a certificate in PEM form, or 66 hexadecimal digits")
    })?;
    Ok(Amendment::AddKey(certificate.key_hash(), Some(certificate)))
}

/// The one key or certificate of a user whose hash begins so.
async fn fitting(
    users: &dyn UsersPort,
    api: &Api,
    caller: &Caller,
    (user, digits): (&str, &str),
) -> Result<Hash, Problem> {
    may_see(api, caller).await?;
    let all = users.users().await.map_err(fault)?;
    let wanted = digits.to_ascii_lowercase();
    let known = all.into_iter().find(|known| known.name == user);
    let hashes = known.map(|known| &known.keys | &known.certificates);
    let fits = |hash: &Hash| wanted.len() >= MIN_DIGITS && hash.to_string().starts_with(&wanted);
    let mut fitting = hashes.into_iter().flatten().filter(fits);
    match (fitting.next(), fitting.next()) {
        (Some(hash), None) => Ok(hash),
        _ => Err(Problem::not_done(format!(
            "not exactly one key or certificate of {user} has a hash that begins so (at least {MIN_DIGITS} digits)"
        ))),
    }
}

/// For those who administer users, and those who check what was recorded.
async fn may_see(api: &Api, caller: &Caller) -> Result<(), Problem> {
    let gate = api.context.access.gate();
    let rights = [Right::Enrol, Right::Assign, Right::Admit, Right::Evidence];
    let mut rights = rights.into_iter();
    if rights.any(|right| gate.somewhere(&caller.user, right, now())) {
        return Ok(());
    }
    let why = Problem::forbidden(format!(
        "`{}` may not see who the users are: that is for security_admin, supervisor and auditor",
        caller.user
    ));
    Err(refused(api, caller, "access:", why).await)
}

async fn list(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let caller = caller(&request)?;
    may_see(&api, &caller).await?;
    let known = port(&api)?.users().await.map_err(fault)?;
    let users = view(&api, &caller.user, known);
    Ok(HttpResponse::Ok().json(json!({ "users": users })))
}

fn view(api: &Api, user: &str, known: Vec<KnownUser>) -> Vec<Json> {
    let (state, time) = (api.context.access.gate().state(), now());
    let mut known: BTreeMap<_, _> = known.into_iter().map(|k| (k.name.clone(), k)).collect();
    let subjects = state.subjects().iter();
    let users = subjects.filter(|(_, subject)| subject.kind == IdentityKind::User);
    let gate = api.context.access.gate();
    let shown = |name: &str| knows(gate, user, &format!("user:{name}"), time);
    let mut views: Vec<Json> = users
        .filter_map(|(id, subject)| {
            let name = id.strip_prefix("user:")?;
            let invitation = state
                .known_by(id)
                .and_then(|known| known.invitation.as_ref());
            let invitation = invitation.filter(|invitation| time < invitation.until);
            let known = known.remove(name);
            if !shown(name) {
                return None;
            }
            let mut view = by(known);
            view["name"] = name.into();
            view["standing"] = standing(state.admits(id, time).err()).into();
            view["roles"] = json!(subject.roles);
            view["expires"] = subject.expires.map(rfc3339).into();
            view["invited_until"] = invitation.map(|i| rfc3339(i.until)).into();
            Some(view)
        })
        .collect();
    // Who has credentials and was never enrolled.
    for (name, known) in known.into_iter().filter(|(name, _)| shown(name)) {
        let mut view = by(Some(known));
        view["name"] = name.into();
        view["standing"] = "not enrolled".into();
        views.push(view);
    }
    views
}

/// By what somebody logs in.
fn by(known: Option<KnownUser>) -> Json {
    let Some(known) = known else {
        return json!({"password": false, "codes": null, "keys": [], "certificates": []});
    };
    let codes = known.codes.map(|hash| match hash {
        TotpHash::Sha1 => "sha1",
        TotpHash::Sha256 => "sha256",
    });
    json!({
        "password": known.password,
        "codes": codes,
        "keys": known.keys,
        "certificates": known.certificates,
    })
}
