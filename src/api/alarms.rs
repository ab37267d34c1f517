//! `/api/v1/alarms`: what is wrong, and what people here do about it.
//!
//! What keeps pages of other sites from acting is in [`super::guard`].

use super::body;
use super::caller::{Viewer, caller};
use super::problem::Problem;
use super::query::shortened;
use super::server::Api;
use crate::alarms::{Alarm, AlarmAction, AlarmError, Exceeded, Kind, Shelving};
use crate::model::rfc3339;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Longest body of a request, in bytes.
const MAX_BODY: usize = 16 << 10;

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config.service(
        web::scope("/api/v1/alarms")
            .app_data(web::PayloadConfig::new(MAX_BODY))
            .route("", web::get().to(list))
            .route("", web::head().to(list))
            .route("/{action}", web::post().to(act)),
    );
}

#[derive(Serialize)]
struct AlarmView<'a> {
    id: &'a str,
    kind: Kind,
    device: &'a str,
    tag: Option<&'a str>,
    enabled: bool,
    active: bool,
    acknowledged: bool,
    confirmed: bool,
    /// "unshelved", "timed" or "one_shot".
    shelving: &'static str,
    shelved_until: Option<String>,
    severity: u16,
    message: &'a str,
    exceeded: Option<&'a Exceeded>,
    since: String,
    time: String,
    /// To be given back with what is done, so that it is done to what was seen.
    event: u64,
    user: Option<&'a str>,
    comment: Option<&'a str>,
}

impl<'a> AlarmView<'a> {
    fn new(alarm: &'a Alarm) -> Self {
        let comment = alarm.comment.as_ref();
        Self {
            id: &alarm.id,
            kind: alarm.kind,
            device: &alarm.device,
            tag: alarm.tag.as_deref(),
            enabled: alarm.enabled,
            active: alarm.active,
            acknowledged: alarm.acknowledged,
            confirmed: alarm.confirmed,
            shelving: match alarm.shelving {
                Shelving::Unshelved => "unshelved",
                Shelving::Until(_) => "timed",
                Shelving::OneShot => "one_shot",
            },
            shelved_until: match alarm.shelving {
                Shelving::Until(end) => Some(rfc3339(end)),
                Shelving::Unshelved | Shelving::OneShot => None,
            },
            severity: alarm.severity,
            message: &alarm.message,
            exceeded: alarm.exceeded.as_ref(),
            since: rfc3339(alarm.since),
            time: rfc3339(alarm.time),
            event: alarm.event,
            user: comment.map(|(user, _)| user.as_str()),
            comment: comment.map(|(_, said)| said.as_str()),
        }
    }
}

/// The alarms that are not at rest: the most serious ones first, the newest first among equals.
async fn list(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let viewer = Viewer::of(&request, &api)?;
    let mut alarms = api.context.alarms.alarms();
    alarms.retain(|alarm| match &alarm.tag {
        Some(tag) => viewer.sees_tag(&alarm.device, tag),
        None => viewer.sees_device(&alarm.device),
    });
    alarms.sort_by_key(|alarm| {
        let open = alarm.active || !alarm.acknowledged;
        std::cmp::Reverse((open, alarm.severity, alarm.since))
    });
    #[derive(Serialize)]
    struct List<'a> {
        alarms: Vec<AlarmView<'a>>,
        /// Alarms that were raised since the start and found no room.
        beyond: u64,
    }
    let alarms = alarms.iter().map(AlarmView::new).collect();
    let beyond = api.context.alarms.beyond();
    Ok(HttpResponse::Ok().json(List { alarms, beyond }))
}

/// What somebody wants to be done.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    /// Of which alarm.
    id: String,
    /// What they saw; whatever is newest when it is missing.
    #[serde(default)]
    event: Option<u64>,
    /// What they say.
    #[serde(default)]
    comment: String,
    /// For how long it is shelved; until it is over when it is missing.
    #[serde(default)]
    minutes: Option<f64>,
}

async fn act(
    request: HttpRequest,
    path: web::Path<String>,
    body: web::Bytes,
    api: web::Data<Api>,
) -> Result<HttpResponse, Problem> {
    let example = r#"{"id": "plc-1/temperature", "comment": "seen"}"#;
    let wish: Wish = body::json(&body, example)?;
    let action = match path.as_str() {
        "acknowledge" => AlarmAction::Acknowledge,
        "confirm" => AlarmAction::Confirm,
        "shelve" => AlarmAction::Shelve(minutes(wish.minutes)?),
        "unshelve" => AlarmAction::Unshelve,
        "comment" => AlarmAction::Comment,
        "enable" => AlarmAction::Enable,
        "disable" => AlarmAction::Disable,
        other => {
            let other = shortened(other);
            return Err(Problem::not_found(format!(
                "nothing of the name `{other}` can be done to an alarm: acknowledge, confirm, \
                 shelve, unshelve, comment, enable or disable"
            )));
        }
    };
    if wish.minutes.is_some() && path.as_str() != "shelve" {
        let detail = "only shelving takes a time";
        return Err(Problem::parameter("minutes", detail));
    }
    let caller = caller(&request)?;
    let port = &api.context.alarms;
    let done = port.act(&caller, &wish.id, wish.event, action, &wish.comment);
    let alarm = done.await.map_err(problem)?;
    Ok(HttpResponse::Ok().json(AlarmView::new(&alarm)))
}

fn minutes(minutes: Option<f64>) -> Result<Option<Duration>, Problem> {
    let read = |minutes: f64| {
        Duration::try_from_secs_f64(60.0 * minutes)
            .map_err(|_| Problem::parameter("minutes", "it must be a number of minutes above 0"))
    };
    minutes.map(read).transpose()
}

fn problem(error: AlarmError) -> Problem {
    let detail = error.to_string();
    match error {
        AlarmError::Denied(_) => {
            Problem::forbidden(format!("{detail}; set `roles` in [http] to give it"))
        }
        AlarmError::Unknown(_) => Problem::not_found(detail),
        AlarmError::Outdated
        | AlarmError::Already(_)
        | AlarmError::NotYet(_)
        | AlarmError::Disabled => Problem::conflict(detail),
        AlarmError::Argument(_) => Problem::body(detail),
        AlarmError::Busy | AlarmError::NotRecorded(_) => Problem::busy(detail),
    }
}
