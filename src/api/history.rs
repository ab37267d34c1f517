//! `/api/v1/devices/{id}/tags/{tag}/history`: what was recorded of a tag, decrypted for who may see it.
//!
//! Nobody logs in here, so all users are one: `local`, with the roles that the configuration gives
//! them; by default those do not see history. Every answer is a record.

use super::caller::caller;
use super::problem::Problem;
use super::query::Params;
use super::server::Api;
use super::views::{GoneView, SampleView};
use crate::model::{Nanos, now, parse_time, rfc3339};
use crate::protocols::ports::{Cursor, Direction, HistoryError, PastRequest};
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

/// How far back an answer goes when nothing is said.
const DEFAULT_SPAN: Nanos = 3_600_000_000_000;

pub(super) fn routes(config: &mut web::ServiceConfig) {
    let path = "/api/v1/devices/{id}/tags/{tag}/history";
    config.route(path, web::to(history));
}

/// Samples with source times from `from` (included) to `to` (not included), oldest first; newest first
/// where `from` is after `to`. `next` is where to go on, to be given as `after`; `gone` is what was retired or
/// erased of the range, with the time from which on everything is there.
async fn history(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let known = ["from", "to", "after", "limit"];
    let params = Params::parse(request.query_string(), &known)?;
    let (device, tag) = path.into_inner();
    let live = api.context.device(&device)?;
    if !live.tags.iter().any(|t| *t.name == *tag) {
        return Err(Problem::not_found(format!(
            "device `{device}` has no such tag: /api/v1/tags?device={device} lists those it has"
        )));
    }
    let to = time(&params, "to")?.unwrap_or_else(now);
    let from = time(&params, "from")?.unwrap_or_else(|| to.saturating_sub(DEFAULT_SPAN));
    let after = params.text("after").map(cursor).transpose()?;
    let limit = params.limit()?;
    let port = api.context.history.clone();
    let port = port.ok_or_else(|| Problem::not_found("this hub keeps no history"))?;
    let caller = caller(&request)?;
    let direction = match from <= to {
        true => Direction::Forward,
        false => Direction::Backward,
    };
    // Backwards it is the earlier end that is included, as in the words above.
    let (low, high) = match direction {
        Direction::Forward => (from, to),
        Direction::Backward => (to.saturating_add(1), from.saturating_add(1)),
    };
    let request = PastRequest {
        device: device.clone(),
        tags: vec![tag.clone()],
        from: low,
        to: high,
        purpose: "http",
    };
    let opened = port.open(&caller, request).await.map_err(problem)?;
    let opened = opened.first();
    let opened = opened.ok_or_else(|| Problem::internal("the tag was not opened"))?;
    let page = opened.page(direction, after, limit).await;
    let page = page.map_err(problem)?;
    let samples: Vec<_> = page.samples.iter().map(SampleView::from).collect();
    let gone = opened.gone().iter();
    let gone: Vec<_> = gone.map(|gone| GoneView::new(&device, gone)).collect();
    let next = page.next.map(|c| format!("{}-{}", c.time, c.given));
    Ok(HttpResponse::Ok().json(json!({
        "device": device,
        "tag": tag,
        "from": rfc3339(from),
        "to": rfc3339(to),
        "samples": samples,
        "gone": gone,
        "next": next,
    })))
}

fn time(params: &Params, name: &str) -> Result<Option<Nanos>, Problem> {
    let read =
        |text| parse_time(text).map_err(|why| Problem::parameter(name, format!("`{name}`: {why}")));
    params.text(name).map(read).transpose()
}

/// Reads what `next` was written as: `TIME-GIVEN`, where the time may be before 1970.
fn cursor(text: &str) -> Result<Cursor, Problem> {
    let parts = text.rsplit_once('-');
    let cursor = parts.and_then(|(time, given)| {
        Some(Cursor {
            time: time.parse().ok()?,
            given: given.parse().ok()?,
        })
    });
    let wrong = || Problem::parameter("after", "`after` is not what an answer's `next` was");
    cursor.ok_or_else(wrong)
}

fn problem(error: HistoryError) -> Problem {
    let detail = error.to_string();
    match error {
        HistoryError::Denied(_) => {
            Problem::forbidden(format!("{detail}; set `roles` in [http] to give it"))
        }
        HistoryError::Unknown(_) => Problem::not_found(detail),
        HistoryError::Unreadable(_) | HistoryError::NotRecorded(_) => Problem::busy(detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_next_was_written_as_is_read_back() {
        for (text, time, given) in [("12-3", 12, 3), ("-12-1", -12, 1)] {
            assert_eq!(cursor(text).unwrap(), Cursor { time, given });
        }
        for wrong in ["", "12", "12-", "-", "x-1", "1-x"] {
            assert!(cursor(wrong).is_err(), "{wrong}");
        }
    }
}
