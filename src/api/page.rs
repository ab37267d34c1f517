//! The dashboard: one page and its parts, carried in the binary, because factories have no internet.

use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use weighbridge_verifier::sha256;

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Path, media type, content.
const ASSETS: [(&str, &str, &str); 13] = [
    (
        "/",
        "text/html; charset=utf-8",
        include_str!("page/index.html"),
    ),
    (
        "/page/style.css",
        "text/css; charset=utf-8",
        include_str!("page/style.css"),
    ),
    (
        "/favicon.svg",
        "image/svg+xml",
        include_str!("page/favicon.svg"),
    ),
    ("/page/account.js", SCRIPT, include_str!("page/account.js")),
    ("/page/alarms.js", SCRIPT, include_str!("page/alarms.js")),
    ("/page/app.js", SCRIPT, include_str!("page/app.js")),
    ("/page/chart.js", SCRIPT, include_str!("page/chart.js")),
    ("/page/detail.js", SCRIPT, include_str!("page/detail.js")),
    ("/page/devices.js", SCRIPT, include_str!("page/devices.js")),
    ("/page/ledger.js", SCRIPT, include_str!("page/ledger.js")),
    ("/page/login.js", SCRIPT, include_str!("page/login.js")),
    ("/page/stream.js", SCRIPT, include_str!("page/stream.js")),
    ("/page/text.js", SCRIPT, include_str!("page/text.js")),
];

pub(super) fn routes(config: &mut web::ServiceConfig) {
    for (path, media_type, content) in ASSETS {
        let tag = format!("\"{}\"", sha256(&[content.as_bytes()]).short());
        config.route(
            path,
            web::to(move |request: HttpRequest| {
                let answer = asset(&request, media_type, content, &tag);
                async move { answer }
            }),
        );
    }
}

/// Whether `path` is a part of the page, which says nothing of the hub.
pub(super) fn is_part(path: &str) -> bool {
    ASSETS.iter().any(|(own, ..)| *own == path)
}

/// The page's parts may be kept, but must be asked about: a newer hub shows its own page at once.
fn asset(
    request: &HttpRequest,
    media_type: &'static str,
    content: &'static str,
    tag: &str,
) -> HttpResponse {
    let known = request.headers().get(header::IF_NONE_MATCH);
    let mut response = if known.map(HeaderValue::as_bytes) == Some(tag.as_bytes()) {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    response
        .insert_header((header::ETAG, tag))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .content_type(media_type);
    match response.finish() {
        empty if empty.status().is_redirection() => empty,
        full => full.set_body(content).map_into_boxed_body(),
    }
}
