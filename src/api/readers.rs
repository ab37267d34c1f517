//! `/api/v1/devices/{id}/sealed` and `/release`: what readers open with keys of their own. The hub decides, and
//! records what it hands out and what it refuses, before it answers.

use super::body::{self, Body};
use super::caller::{Proven, caller};
use super::ports::{ReadersFault, ReadersPort, ReleaseRequest, SealedRequest};
use super::problem::Problem;
use super::query::Params;
use super::server::Api;
use crate::model::{Nanos, now, parse_time};
use actix_web::http::header::ContentType;
use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use serde::Deserialize;
use std::sync::Arc;

/// How far back an answer goes when nothing is said.
const DEFAULT_SPAN: Nanos = 3_600_000_000_000;
/// Tags of one request at most.
const MAX_TAGS: usize = 1_000;

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/api/v1/devices/{id}/sealed", web::get().to(sealed))
        .route("/api/v1/devices/{id}/release", web::post().to(release));
}

/// Whether something at `path` is for readers, whatever their roles.
pub(super) fn is_theirs(path: &str) -> bool {
    path.starts_with("/api/v1/devices/") && path.ends_with("/sealed")
}

fn port(api: &Api) -> Result<Arc<dyn ReadersPort>, Problem> {
    let none = || Problem::forbidden("nothing is handed out sealed at this address");
    api.context.readers.clone().ok_or_else(none)
}

async fn sealed(
    request: HttpRequest,
    path: web::Path<String>,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let params = Params::parse(request.query_string(), &["from", "to", "after"])?;
    let read = |name: &str| {
        let read = |text| {
            parse_time(text).map_err(|why| Problem::parameter(name, format!("`{name}`: {why}")))
        };
        params.text(name).map(read).transpose()
    };
    let to = read("to")?.unwrap_or_else(now);
    let from = read("from")?.unwrap_or_else(|| to.saturating_sub(DEFAULT_SPAN));
    let wanted = SealedRequest {
        device: path.into_inner(),
        range: (from, to),
        after: params.text("after").map(batch).transpose()?,
    };
    let bytes = port(&api)?.sealed(&caller(&request)?, wanted).await;
    Ok(file(bytes.map_err(problem)?))
}

/// The number of a batch, `EPOCH.SEQUENCE`.
fn batch(text: &str) -> Result<(u64, u64), Problem> {
    let parts = text
        .split_once('.')
        .and_then(|(epoch, sequence)| Some((epoch.parse().ok()?, sequence.parse().ok()?)));
    let wrong = || Problem::parameter("after", "`after` is not what an answer's `next` was");
    parts.ok_or_else(wrong)
}

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    #[serde(default)]
    tags: Vec<String>,
    from: String,
    to: String,
}

async fn release(
    request: HttpRequest,
    path: web::Path<String>,
    api: web::Data<Api>,
    body: Body,
) -> Result<HttpResponse, Problem> {
    Params::parse(request.query_string(), &[])?;
    let example =
        r#"{"tags": ["force"], "from": "2026-05-04T00:00:00Z", "to": "2026-05-05T00:00:00Z"}"#;
    let wish: Wish = body::json(&body::whole(body)?, example)?;
    if wish.tags.len() > MAX_TAGS {
        let detail = format!("more than {MAX_TAGS} tags are asked for at once");
        return Err(Problem::body(detail));
    }
    let time = |name: &str, text: &str| {
        parse_time(text).map_err(|why| Problem::body(format!("`{name}`: {why}")))
    };
    let proven = request.extensions().get::<Proven>().copied();
    let wanted = ReleaseRequest {
        device: path.into_inner(),
        tags: wish.tags,
        range: (time("from", &wish.from)?, time("to", &wish.to)?),
        proven: proven.is_some_and(|proven| proven.0),
    };
    let bytes = port(&api)?.release(&caller(&request)?, wanted).await;
    Ok(file(bytes.map_err(problem)?))
}

fn file(bytes: Vec<u8>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header(ContentType::json())
        .body(bytes)
}

fn problem(fault: ReadersFault) -> Problem {
    let detail = fault.to_string();
    match fault {
        ReadersFault::Denied(_) => Problem::forbidden(detail),
        ReadersFault::Unknown(_) => Problem::not_found(detail),
        ReadersFault::TooMuch(_) => Problem::not_done(detail),
        ReadersFault::Unreadable(_) | ReadersFault::NotRecorded(_) => Problem::busy(detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_sealed_is_for_readers_whatever_their_roles() {
        assert!(is_theirs("/api/v1/devices/press-1/sealed"));
        for other in [
            "/api/v1/devices/press-1/release",
            "/api/v1/devices/press-1",
            "/api/v1/devices",
            "/sealed",
        ] {
            assert!(!is_theirs(other), "{other}");
        }
    }

    #[test]
    fn the_number_of_a_batch_is_read_back() {
        assert_eq!(batch("1.42").unwrap(), (1, 42));
        for wrong in ["", "1", "1.", ".2", "1.2.3", "-1.2"] {
            assert!(batch(wrong).is_err(), "{wrong}");
        }
    }
}
