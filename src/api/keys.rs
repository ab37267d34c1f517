//! `/api/v1/keys`: the keys that the ledger knows. `POST /api/v1/keys/hub/rotate`: another one for the hub.

use super::body::{self, Body};
use super::caller::caller;
use super::ports::{KeyFault, KeyPort, KnownKey, NewKey, OfferedKey};
use super::problem::Problem;
use super::server::Api;
use crate::crypto::guomi::making::Making;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use std::sync::Arc;
use weighbridge_verifier::CentreShare;

/// Where the keys are.
pub(super) const PATH: &str = "/api/v1/keys";
/// Where the hub's own is replaced.
const ROTATE_HUB: &str = "/api/v1/keys/hub/rotate";
/// Where the hub's sealing key is replaced.
const ROTATE_SEALING: &str = "/api/v1/keys/sealing/rotate";
/// The key generation centres.
const CENTRES: &str = "/api/v1/keys/centres";
/// Where somebody's key is shown.
const ENROL: &str = "/api/v1/keys/enrol";
/// Where it is said that a key could not be made.
const COMPLAIN: &str = "/api/v1/keys/complain";
/// Longest body of a request, in bytes.
const MAX_BODY: usize = 64 << 10;

/// Whether something is changed at `path`.
pub(super) fn acts(path: &str) -> bool {
    [ROTATE_HUB, ROTATE_SEALING, CENTRES, ENROL, COMPLAIN].contains(&path)
}

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(
            web::resource(PATH)
                .route(web::get().to(list))
                .route(web::head().to(list)),
        )
        .service(web::resource(ROTATE_HUB).route(web::post().to(rotate_hub)))
        .service(web::resource(ROTATE_SEALING).route(web::post().to(rotate_sealing)))
        .service(
            web::resource(CENTRES)
                .app_data(web::PayloadConfig::new(MAX_BODY))
                .route(web::get().to(list_centres))
                .route(web::head().to(list_centres))
                .route(web::post().to(set_centres)),
        )
        .service(
            web::resource(ENROL)
                .app_data(web::PayloadConfig::new(MAX_BODY))
                .route(web::post().to(enrol)),
        )
        .service(
            web::resource(COMPLAIN)
                .app_data(web::PayloadConfig::new(MAX_BODY))
                .route(web::post().to(complain)),
        );
}

fn port(api: &Api) -> Result<Arc<dyn KeyPort>, Problem> {
    let none = || Problem::forbidden("no key is replaced over this address");
    api.context.keys.clone().ok_or_else(none)
}

async fn list(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    caller(&request)?;
    let port = port(&api)?;
    let keys = port.keys().await;
    let keys: Vec<Json> = keys.iter().map(view).collect();
    Ok(HttpResponse::Ok().json(json!({ "keys": keys, "sealing": port.sealing() })))
}

async fn rotate_hub(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let caller = caller(&request)?;
    let new = port(&api)?.rotate_hub(&caller).await;
    Ok(HttpResponse::Ok().json(view_new(&new.map_err(problem)?)))
}

async fn rotate_sealing(
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let caller = caller(&request)?;
    let new = port(&api)?.rotate_sealing(&caller).await;
    Ok(HttpResponse::Ok().json(new.map_err(problem)?))
}

async fn list_centres(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    caller(&request)?;
    let sets = port(&api)?.centres().await;
    Ok(HttpResponse::Ok().json(json!({ "sets": sets })))
}

fn read<T: serde::de::DeserializeOwned>(body: Body) -> Result<T, Problem> {
    let body = body::whole(body)?;
    let read = serde_json::from_slice(&body);
    read.map_err(|error| {
        Problem::unread(
            None,
            format!("the body is not what is expected here: {error}"),
        )
    })
}

/// Centres that are to be the next version of the set.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Members {
    members: Vec<CentreShare>,
}

async fn set_centres(
    request: HttpRequest,
    api: web::Data<Api>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let Members { members } = read(body)?;
    let caller = caller(&request)?;
    let set = port(&api)?.set_centres(&caller, members).await;
    let (version, height) = set.map_err(problem)?;
    Ok(HttpResponse::Ok().json(json!({"version": version, "height": height})))
}

async fn enrol(
    request: HttpRequest,
    api: web::Data<Api>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let offered: OfferedKey = read(body)?;
    let caller = caller(&request)?;
    let enrolled = port(&api)?.enrol(&caller, offered).await;
    Ok(HttpResponse::Ok().json(json!({"height": enrolled.map_err(problem)?})))
}

async fn complain(
    request: HttpRequest,
    api: web::Data<Api>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    let making: Making = read(body)?;
    let caller = caller(&request)?;
    let fault = port(&api)?.complain(&caller, making).await;
    Ok(HttpResponse::Ok().json(json!({"fault": fault.map_err(problem)?})))
}

fn view(known: &KnownKey) -> Json {
    json!({
        "id": known.id,
        "kind": known.kind,
        "key": known.key,
        "former": known.former,
        "revoked": known.revoked,
    })
}

fn view_new(new: &NewKey) -> Json {
    json!({"key": new.key, "replaces": new.replaces, "height": new.height})
}

pub(super) fn problem(fault: KeyFault) -> Problem {
    let detail = fault.to_string();
    match fault {
        KeyFault::Denied(_) => Problem::forbidden(format!(
            "{detail}; what users may do is said by `weighbridge access`"
        )),
        KeyFault::Busy(_) => Problem::busy(detail),
        KeyFault::Wrong(_) => Problem::body(detail),
        KeyFault::Failed(_) => {
            tracing::error!(detail, "a key was not replaced");
            Problem::internal(detail)
        }
    }
}
