//! What stands before every answer: the host check, and the headers that keep a browser strict.
//!
//! A web page of another site can make a browser talk to a hub that it cannot reach itself, on this machine
//! or in this network: by DNS rebinding (a name of theirs that suddenly means 127.0.0.1). So a request is
//! answered only if its `Host` is a loopback name, or one that the hub is configured to have. No CORS
//! header is ever sent.
//!
//! What acts upon a machine is guarded once more, because a page of another site may send a form
//! without being able to read the answer: only JSON is taken, which a form cannot send, and only from
//! the hub's own pages or from programs that are no browser.

use super::caller::FACE;
use super::names::Names;
use super::problem::{Malformed, Problem};
use super::query::shortened;
use super::server::Api;
use super::{access, cluster, control, keys, log_in, own, patience, users};
use crate::access::Caller;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::uri::Authority;
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, HttpRequest, web};
use std::net::IpAddr;

/// Everything the page needs comes from the hub itself; nothing is inline.
pub(super) const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

const HEADERS: [(&str, &str); 6] = [
    ("content-security-policy", CSP),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("x-frame-options", "DENY"),
];

/// Below this address something can be done to alarms.
const ALARMS: &str = "/api/v1/alarms/";

/// Middleware: refuses foreign hosts, and what acts but is not asked by our own, then adds the headers.
pub(super) async fn guard(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let held = patience::bound_body(&mut request);
    let api = request.app_data::<web::Data<Api>>();
    let names = api.map_or_else(Names::default, |api| api.names.clone());
    let host = asked_for(&request).map(str::to_owned);
    let strict = host.as_deref().is_some_and(|host| names.is_strict(host));
    let refusal = check_host(host.as_deref(), &names)
        .and_then(|host| check_method(&request, &names.origin(host)))
        .err();
    let api = api.cloned();
    let foreign = refusal.is_some();
    let mut response = match refusal {
        Some(problem) => request.error_response(problem).map_into_right_body(),
        None => next.call(request).await?.map_into_left_body(),
    };
    if let Some(api) = &api {
        count(api, &response, foreign);
    }
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        let name = HeaderName::from_static(name);
        headers.insert(name, HeaderValue::from_static(value));
    }
    if strict {
        let value = HeaderValue::from_static("max-age=31536000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, value);
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        let value = HeaderValue::from_static("no-store");
        headers.insert(header::CACHE_CONTROL, value);
    }
    Ok(response.map_body(|_, body| held.until_answered(body)))
}

/// Counts what was no request, and what the guard itself refused.
fn count(api: &Api, response: &ServiceResponse<impl MessageBody>, foreign: bool) {
    let said = response.response().extensions().get::<Malformed>().copied();
    let kind = said.map(|said| said.0).or(match response.status() {
        StatusCode::METHOD_NOT_ALLOWED => Some("unknown method"),
        StatusCode::PAYLOAD_TOO_LARGE => Some("too large"),
        _ => None,
    });
    let sessions = &api.context.sessions;
    match kind {
        Some(kind) => {
            let session = session(api, response.request());
            sessions.malformed(FACE, kind, session.as_deref());
        }
        None if foreign => sessions.turned_away(FACE, "foreign host or origin"),
        None => {}
    }
}

/// What records call the session in which something was asked.
fn session(api: &Api, request: &HttpRequest) -> Option<String> {
    let known = request.extensions().get::<Caller>().cloned();
    let known = known.map(|caller| caller.session);
    known.or_else(|| match &api.log_in {
        None => Some(FACE.to_owned()),
        Some(log_in) => log_in.name(&log_in.shown(request.headers())?),
    })
}

/// Whether something can be done at `path`: everything else can only be read.
fn acts(path: &str) -> bool {
    let changes =
        [access::PATH, users::PATH].contains(&path) || keys::acts(path) || cluster::acts(path);
    control::acts(path)
        || path.starts_with(ALARMS)
        || changes
        || log_in::acts(path)
        || own::acts(path)
}

/// `own` is what a browser calls the hub's own pages.
fn check_method(request: &ServiceRequest, own: &str) -> Result<(), Problem> {
    match *request.method() {
        Method::GET | Method::HEAD => Ok(()),
        Method::POST if acts(request.path()) => check_origin(request.headers(), own),
        _ => Err(Problem::method()),
    }
}

/// Whether whoever acts is no page of another site.
fn check_origin(headers: &HeaderMap, own: &str) -> Result<(), Problem> {
    let text = |name: HeaderName| headers.get(name).map(|v| v.to_str().unwrap_or_default());
    let kind = text(header::CONTENT_TYPE).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let detail = "this address takes JSON: send it with `Content-Type: application/json`";
        return Err(Problem::unsupported(detail));
    }
    let origin = text(header::ORIGIN);
    let foreign = || {
        let page = shortened(origin.unwrap_or("another site"));
        let detail = format!("a page of `{page}` may not act here: only this hub's own pages may");
        Problem::forbidden(detail)
    };
    if let Some(site) = text(HeaderName::from_static("sec-fetch-site"))
        && !matches!(site, "same-origin" | "none")
    {
        return Err(foreign());
    }
    match origin {
        Some(origin) if origin != own => Err(foreign()),
        _ => Ok(()),
    }
}

/// Whom a request is for. An absolute target overrides the header (RFC 9112, 3.2.2), and in HTTP/2 it takes its
/// place (RFC 9113, 8.3.1).
fn asked_for(request: &ServiceRequest) -> Option<&str> {
    let target = request.uri().authority().map(|a| a.as_str());
    let header = request.headers().get(header::HOST);
    target.or_else(|| header.map(|value| value.to_str().unwrap_or_default()))
}

fn check_host<'a>(host: Option<&'a str>, names: &Names) -> Result<&'a str, Problem> {
    let host = host.ok_or_else(|| Problem::misdirected("the request names no host"))?;
    if names.answer_to(host) {
        return Ok(host);
    }
    Err(Problem::misdirected(format!(
        "this hub answers to localhost, loopback addresses, and the `hosts` of [http] only, and the \
         request is for `{}`: ask for it by one of those, or through a tunnel \
         (ssh -L 8080:127.0.0.1:8080 …)",
        shortened(host)
    )))
}

/// Whether `host` (with or without a port) can only mean this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    // `localhost@elsewhere` and the like: only a bare host with an optional port is taken.
    if authority.as_str().contains('@') {
        return false;
    }
    let name = authority.host();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || address.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_answered() {
        let fine = [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1",
            "127.0.0.1:8080",
            "127.9.9.9:1",
            "[::1]",
            "[::1]:8080",
        ];
        for host in fine {
            assert!(is_loopback(host), "{host}");
        }
        let foreign = [
            "",
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost@evil.example",
            "evil.example@localhost",
            "10.0.0.1:8080",
            "0.0.0.0:8080",
            "[::]:8080",
            "[::ffff:10.0.0.1]",
            "http://localhost/",
            "local host",
        ];
        for host in foreign {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
