//! `POST /api/v1/devices/{id}/erase`: destroying the keys of what was recorded of a device up to a time;
//! `GET` says how far the last one has come.
//!
//! Whether the user may is decided by the hub, which records what it refuses.

use super::body::{self, Body};
use super::caller::{Viewer, caller};
use super::ports::{EraseFault, EraseRequest, EraseStatus};
use super::problem::Problem;
use super::query::Params;
use super::server::Api;
use crate::model::{parse_time, rfc3339};
use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value as Json, json};

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config.route("/api/v1/devices/{id}/erase", web::to(erase));
}

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    until: String,
    #[serde(default)]
    dry_run: bool,
}

async fn erase(
    request: HttpRequest,
    path: web::Path<String>,
    api: web::Data<Api>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    Params::parse(request.query_string(), &[])?;
    let none = || Problem::forbidden("nothing can be erased over this address");
    let port = api.context.eraser.clone().ok_or_else(none)?;
    let device = path.into_inner();
    if request.method() != Method::POST {
        let last = port.last().filter(|last| last.plan.notice.device == device);
        let none = || Problem::not_found("nothing was erased of this device since the hub started");
        let viewer = Viewer::of(&request, &api)?;
        if !viewer.sees_device(&device) {
            let object = format!("device:{device}");
            return Err(viewer.refused(&api, &object, none()).await);
        }
        return Ok(HttpResponse::Ok().json(view(&last.ok_or_else(none)?)));
    }
    let example = r#"{"until": "2026-01-01T00:00:00Z", "dry_run": true}"#;
    let wish: Wish = body::json(&body::whole(body)?, example)?;
    let until = parse_time(&wish.until);
    let until = until.map_err(|e| Problem::body(format!("`until` is no time: {e}")))?;
    let wanted = EraseRequest {
        device,
        until,
        dry_run: wish.dry_run,
    };
    let caller = caller(&request)?;
    let begun = port.erase(&caller, wanted).await.map_err(problem)?;
    Ok(HttpResponse::Ok().json(view(&begun)))
}

/// An erasure, as it is shown over HTTP and by the command line.
pub fn view(status: &EraseStatus) -> Json {
    let (plan, notice) = (&status.plan, &status.plan.notice);
    json!({
        "device": notice.device,
        "until": rfc3339(notice.until),
        "until_ns": notice.until.to_string(),
        "reached": rfc3339(plan.reached),
        "reached_ns": plan.reached.to_string(),
        "keys": plan.keys,
        "batches": notice.batches,
        "bytes": notice.bytes,
        "without_key": plan.without_key,
        "across": plan.across,
        "height": status.height,
        "done": status.done,
        "doing": status.progress.map(|p| p.what),
        "progress": status.progress.map(|p| json!([p.done, p.total])),
        "trouble": status.trouble,
    })
}

fn problem(fault: EraseFault) -> Problem {
    let detail = fault.to_string();
    match fault {
        EraseFault::Denied(_) => Problem::forbidden(format!(
            "{detail}; what users may do over HTTP is `roles` in [http] of the hub's configuration"
        )),
        EraseFault::Unknown(_) => Problem::body(detail),
        EraseFault::Busy(_) => Problem::busy(detail),
        EraseFault::Failed(_) => {
            tracing::error!(detail, "an erasure failed");
            Problem::internal(detail)
        }
    }
}
