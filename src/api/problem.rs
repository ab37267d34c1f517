//! Errors as RFC 9457 problem details: what happened, why, and what to do.

use actix_web::error::PayloadError;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fmt;

/// What sums call a method that an address does not take.
const NO_METHOD: &str = "unknown method";
/// What sums call a body that is not JSON, or not of the form that is expected.
const NO_JSON: &str = "body that cannot be read";

/// In the extensions of an answer: why what was asked was no request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Malformed(pub(super) &'static str);

/// An answer that is not what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    parameter: Option<String>,
    /// Methods that would do, for 405.
    allow: &'static str,
    /// Seconds after which it may be tried again.
    retry_after: Option<u16>,
    /// Why it was no request at all, for the sums of those; a word of the program.
    malformed: Option<&'static str>,
    /// A further member of the body (RFC 9457, 3.2).
    more: Option<Box<(&'static str, Json)>>,
}

/// The body of the answer, `application/problem+json`.
#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<&'a str>,
    #[serde(flatten)]
    more: BTreeMap<&'static str, &'a Json>,
}

impl Problem {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self {
            status,
            detail,
            parameter: None,
            allow: "GET, HEAD",
            retry_after: None,
            malformed: None,
            more: None,
        }
    }

    /// The same, which is counted as no request, of this kind.
    pub(super) fn counted(mut self, kind: &'static str) -> Self {
        self.malformed = Some(kind);
        self
    }

    /// 400: the query or path parameter `parameter` is not one we can use.
    pub(super) fn parameter(parameter: &str, detail: impl Into<String>) -> Self {
        Self {
            parameter: Some(parameter.to_owned()),
            ..Self::new(StatusCode::BAD_REQUEST, detail).counted("parameter that cannot be read")
        }
    }

    /// 401: who asks is not known.
    pub(super) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, detail)
    }

    /// 429: again after so many seconds.
    pub(super) fn too_early(detail: impl Into<String>, seconds: u16) -> Self {
        Self {
            retry_after: Some(seconds),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, detail)
        }
    }

    /// 403: the caller may not do this.
    pub(super) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    /// 409: not in the state that things are in.
    pub(super) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }

    /// 415: the body is of another type than this address takes.
    pub(super) fn unsupported(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail).counted(NO_JSON)
    }

    /// 404: there is no such thing.
    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// 405: only reading is offered here.
    pub(super) fn method() -> Self {
        let detail = "this address can only be read: use GET or HEAD";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, detail).counted(NO_METHOD)
    }

    /// 405: this address acts, and so is only POSTed to.
    pub(super) fn post_only() -> Self {
        let detail = "this address acts upon a machine: use POST";
        Self {
            allow: "POST",
            ..Self::new(StatusCode::METHOD_NOT_ALLOWED, detail).counted(NO_METHOD)
        }
    }

    /// 400: the body is not one we can use.
    pub(super) fn body(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 400, 408 or 413: the body did not come in time, is too long, or not of the form that `detail` tells.
    pub(super) fn unread(error: Option<&actix_web::Error>, detail: impl Into<String>) -> Self {
        let long = error.is_some_and(|error| {
            error.as_response_error().status_code() == StatusCode::PAYLOAD_TOO_LARGE
        });
        let io = error.and_then(|error| match error.as_error::<PayloadError>() {
            Some(PayloadError::Io(io)) => Some(io.kind()),
            _ => None,
        });
        if io == Some(std::io::ErrorKind::TimedOut) {
            return Self::new(StatusCode::REQUEST_TIMEOUT, detail).counted("body too slow");
        }
        match long {
            true => Self::new(StatusCode::PAYLOAD_TOO_LARGE, detail).counted("too large"),
            false => Self::body(detail).counted(NO_JSON),
        }
    }

    /// 422: understood, but not or not wholly done.
    pub(super) fn not_done(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// The same problem with a further member in its body.
    pub(super) fn with(mut self, name: &'static str, member: Json) -> Self {
        self.more = Some(Box::new((name, member)));
        self
    }

    /// 421: the request was meant for another host.
    pub(super) fn misdirected(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::MISDIRECTED_REQUEST, detail)
    }

    /// 500: the hub failed, not the caller.
    pub(super) fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    }

    /// 503: not now.
    pub(super) fn busy(detail: impl Into<String>) -> Self {
        Self {
            retry_after: Some(5),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let body = Body {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            parameter: self.parameter.as_deref(),
            more: self.more.iter().map(|more| (more.0, &more.1)).collect(),
        };
        let mut response = HttpResponse::build(self.status);
        if let Some(seconds) = self.retry_after {
            response.insert_header((header::RETRY_AFTER, u64::from(seconds)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 9110, 11.6.1 wants one; browsers do not ask for a password because of this one.
            let challenge = "Bearer realm=\"weighbridge\"";
            response.insert_header((header::WWW_AUTHENTICATE, challenge));
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            response.insert_header((header::ALLOW, self.allow));
        }
        if let Some(kind) = self.malformed {
            response.extensions_mut().insert(Malformed(kind));
        }
        // A body of plain strings and numbers always serialises.
        let text = serde_json::to_string(&body).unwrap_or_default();
        response.content_type("application/problem+json").body(text)
    }
}
