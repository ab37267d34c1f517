//! Acting upon machines over HTTP, as clients see it and as other sites' pages try it.

use super::fakes::FakeHub;
use super::server::{Api, app};
use actix_web::http::{StatusCode, header};
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::web;
use serde_json::{Value as Json, json};

const WRITE: &str = "/api/v1/devices/plc-1/write";

fn post(path: &str, body: &str) -> TestRequest {
    TestRequest::post()
        .uri(path)
        .insert_header((header::HOST, "localhost:8080"))
        .insert_header((header::CONTENT_TYPE, "application/json"))
        .set_payload(body.to_owned())
}

async fn ask_of(api: web::Data<Api>, request: TestRequest) -> (StatusCode, Json) {
    let service = init_service(app(api)).await;
    let response = call_service(&service, request.to_request()).await;
    let status = response.status();
    let body = read_body(response).await;
    (status, serde_json::from_slice(&body).unwrap())
}

async fn ask(request: TestRequest) -> (StatusCode, Json) {
    ask_of(FakeHub::new().api(), request).await
}

#[actix_web::test]
async fn a_write_is_answered_by_what_was_read_back() {
    let (status, answer) = ask(post(WRITE, r#"{"count": 7, "temperature": 21}"#)).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let results = json!([
        {"tag": "count", "value": 7},
        {"tag": "temperature", "value": 21.0},
    ]);
    assert_eq!(answer, json!({"device": "plc-1", "results": results}));
    let (status, answer) = ask(post(WRITE, r#"{"running": true, "temperature": 13}"#)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    let detail = answer["detail"].as_str().unwrap();
    assert_eq!(
        detail,
        "`temperature`: the value does not fit the tag: it brings bad luck"
    );
    assert_eq!(answer["results"][0]["value"], true);
    assert_eq!(answer["results"][1]["fault"], "value");
}

#[actix_web::test]
async fn a_method_is_called() {
    let call = |method: &str| {
        let body = json!({"object": "o", "method": method, "arguments": [1, 2.5, "x", true]});
        post("/api/v1/devices/plc-1/call", &body.to_string())
    };
    let (status, answer) = ask(call("echo")).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["results"], json!([1, 2.5, "x", true]));
    let (status, _) = ask(call("explode")).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[actix_web::test]
async fn mistakes_are_explained() {
    for (path, body, wanted, said) in [
        (
            "/api/v1/devices/plc-9/write",
            r#"{"count": 1}"#,
            404,
            "no device `plc-9`",
        ),
        (WRITE, r#"{"speed": 1}"#, 404, "no tag `speed`"),
        (
            WRITE,
            r#"{"count": "many"}"#,
            400,
            "`count` takes a whole number",
        ),
        (WRITE, r#"[1]"#, 400, "an object of tags and values"),
        (WRITE, "", 400, "write for example"),
        (
            WRITE,
            r#"{"count": 1, "count": 2}"#,
            400,
            "`count` is there twice",
        ),
        (
            "/api/v1/devices/plc-1/call",
            r#"{"methd": "x"}"#,
            400,
            "methd",
        ),
    ] {
        let (status, answer) = ask(post(path, body)).await;
        assert_eq!(status, wanted, "{body}: {answer}");
        let detail = answer["detail"].as_str().unwrap();
        assert!(detail.contains(said), "{body}: {detail}");
    }
    let long = format!("{{\"count\": \"{}\"}}", "1".repeat(2 << 20));
    let (status, answer) = ask(post(WRITE, &long)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{answer}");
    let get = TestRequest::with_uri(WRITE).insert_header((header::HOST, "localhost:8080"));
    let (status, _) = ask(get).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
}

#[actix_web::test]
async fn nobody_writes_unless_the_configuration_says_so() {
    let mut hub = FakeHub::new();
    hub.set_role(crate::access::Role::Observer);
    let (status, answer) = ask_of(hub.api(), post(WRITE, r#"{"count": 7}"#)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(
        answer["detail"].as_str().unwrap().contains("[http]"),
        "{answer}"
    );
    hub.context.control = None;
    let (status, _) = ask_of(hub.api(), post(WRITE, r#"{"count": 7}"#)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[actix_web::test]
async fn pages_of_other_sites_cannot_write() {
    let body = r#"{"count": 7}"#;
    let own = || post(WRITE, body);
    for (name, value, wanted) in [
        ("origin", "http://localhost:8080", 200),
        ("origin", "http://evil.example", 403),
        ("origin", "http://localhost:8081", 403),
        ("origin", "https://localhost:8080", 403),
        ("origin", "null", 403),
        ("sec-fetch-site", "same-origin", 200),
        ("sec-fetch-site", "none", 200),
        ("sec-fetch-site", "same-site", 403),
        ("sec-fetch-site", "cross-site", 403),
        ("content-type", "text/plain", 415),
        ("content-type", "application/x-www-form-urlencoded", 415),
        ("content-type", "application/json; charset=utf-8", 200),
        ("host", "evil.example", 421),
    ] {
        let (status, answer) = ask(own().insert_header((name, value))).await;
        assert_eq!(status, wanted, "{name}: {value}: {answer}");
    }
    let (status, _) = ask(own().uri("/api/v1/status")).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
}

#[actix_web::test]
async fn one_tag_is_shown_with_its_devices_connection() {
    let tag =
        |path: &str| TestRequest::with_uri(path).insert_header((header::HOST, "localhost:8080"));
    let (status, answer) = ask(tag("/api/v1/devices/plc-1/tags/running")).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(answer["sample"]["value"], true);
    assert_eq!(answer["writable"], false);
    assert_eq!(answer["link"]["state"], "up");
    let (_, answer) = ask(tag("/api/v1/devices/robot-1/tags/axis")).await;
    let link = &answer["link"];
    assert_eq!(link["reason"], "127.0.0.1:4855 cannot be reached");
    assert_eq!(link["error"], "connection refused");
    assert_eq!(link["last_success"], "2026-01-01T00:00:00.000Z");
    assert_eq!(link["retry_at"], "2026-01-01T00:00:02.000Z");
    let (status, _) = ask(tag("/api/v1/devices/plc-1/tags/speed")).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}
