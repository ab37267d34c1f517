//! `/api/v1/keys`: the keys that the ledger knows. `POST /api/v1/keys/hub/rotate`: another one for the hub.

use super::caller::caller;
use super::ports::{KeyFault, KeyPort, KnownKey, NewKey};
use super::problem::Problem;
use super::server::Api;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value as Json, json};
use std::sync::Arc;

/// Where the keys are.
pub(super) const PATH: &str = "/api/v1/keys";
/// Where the hub's own is replaced.
pub(super) const ROTATE_HUB: &str = "/api/v1/keys/hub/rotate";

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(
            web::resource(PATH)
                .route(web::get().to(list))
                .route(web::head().to(list)),
        )
        .service(web::resource(ROTATE_HUB).route(web::post().to(rotate_hub)));
}

fn port(api: &Api) -> Result<Arc<dyn KeyPort>, Problem> {
    let none = || Problem::forbidden("no key is replaced over this address");
    api.context.keys.clone().ok_or_else(none)
}

async fn list(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    caller(&request)?;
    let keys = port(&api)?.keys().await;
    let keys: Vec<Json> = keys.iter().map(view).collect();
    Ok(HttpResponse::Ok().json(json!({ "keys": keys })))
}

async fn rotate_hub(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let caller = caller(&request)?;
    let new = port(&api)?.rotate_hub(&caller).await;
    Ok(HttpResponse::Ok().json(view_new(&new.map_err(problem)?)))
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

fn problem(fault: KeyFault) -> Problem {
    let detail = fault.to_string();
    match fault {
        KeyFault::Denied(_) => Problem::forbidden(format!(
            "{detail}; what users may do is said by `weighbridge access`"
        )),
        KeyFault::Busy(_) => Problem::busy(detail),
        KeyFault::Failed(_) => {
            tracing::error!(detail, "a key was not replaced");
            Problem::internal(detail)
        }
    }
}
