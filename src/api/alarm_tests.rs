//! Alarms over HTTP, as clients see them.

use super::fakes::FakeHub;
use super::server::{Api, app};
use crate::protocols::fake_alarms::FakeAlarms;
use actix_web::http::{StatusCode, header};
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::web;
use serde_json::{Value as Json, json};
use std::sync::Arc;

fn hub() -> (web::Data<Api>, Arc<FakeAlarms>) {
    let (mut hub, alarms) = (FakeHub::new(), FakeAlarms::new());
    hub.context.alarms = alarms.clone();
    (hub.api(), alarms)
}

async fn answer(api: &web::Data<Api>, request: TestRequest) -> (StatusCode, Json) {
    let service = init_service(app(api.clone())).await;
    let request = request.insert_header((header::HOST, "localhost:8080"));
    let response = call_service(&service, request.to_request()).await;
    let status = response.status();
    let body = read_body(response).await;
    (status, serde_json::from_slice(&body).unwrap())
}

async fn list(api: &web::Data<Api>) -> Json {
    let (status, list) = answer(api, TestRequest::with_uri("/api/v1/alarms")).await;
    assert_eq!(status, StatusCode::OK, "{list}");
    list
}

async fn act(api: &web::Data<Api>, action: &str, body: Json) -> (u16, Json) {
    let request = TestRequest::post()
        .uri(&format!("/api/v1/alarms/{action}"))
        .insert_header((header::CONTENT_TYPE, "application/json"))
        .set_payload(body.to_string());
    let (status, answer) = answer(api, request).await;
    (status.as_u16(), answer)
}

#[actix_web::test]
async fn the_most_serious_come_first() {
    let (api, alarms) = hub();
    assert_eq!(list(&api).await, json!({"alarms": [], "beyond": 0}));
    alarms.raise("plc-1", Some("temperature"), 300);
    alarms.raise("plc-2", None, 750);
    let list = list(&api).await;
    let ids: Vec<_> = list["alarms"].as_array().unwrap().iter().collect();
    assert_eq!(
        [&ids[0]["id"], &ids[1]["id"]],
        [&json!("plc-2"), &json!("plc-1/temperature")]
    );
    let alarm = ids[1];
    assert_eq!(alarm["kind"], "tag");
    assert_eq!(alarm["shelving"], "unshelved");
    assert_eq!(alarm["exceeded"]["limit"], 90.0);
    assert_eq!(alarm["acknowledged"], false);
}

#[actix_web::test]
async fn it_is_acknowledged_confirmed_and_shelved_by_who_may() {
    let (api, alarms) = hub();
    let raised = alarms.raise("plc-1", Some("temperature"), 300);
    let id = "plc-1/temperature";
    let (status, early) = act(&api, "confirm", json!({"id": id})).await;
    assert_eq!(status, 409, "{early}");
    let (status, old) = act(&api, "acknowledge", json!({"id": id, "event": 1})).await;
    assert_eq!(status, 409, "{old}");
    let seen = json!({"id": id, "event": raised.event, "comment": "seen"});
    let (status, alarm) = act(&api, "acknowledge", seen).await;
    assert_eq!(status, 200, "{alarm}");
    assert_eq!(
        (&alarm["acknowledged"], &alarm["user"], &alarm["comment"]),
        (&json!(true), &json!("local"), &json!("seen"))
    );
    let (status, alarm) = act(&api, "shelve", json!({"id": id, "minutes": 1.5})).await;
    assert_eq!((status, &alarm["shelving"]), (200, &json!("timed")));
    let (status, alarm) = act(&api, "unshelve", json!({"id": id})).await;
    assert_eq!((status, &alarm["shelving"]), (200, &json!("unshelved")));

    let mut observers = FakeHub::new();
    observers.context.alarms = alarms.clone();
    alarms.deny();
    let (status, denied) = act(&observers.api(), "confirm", json!({"id": id})).await;
    assert_eq!(status, 403);
    assert!(
        denied["detail"].as_str().unwrap().contains("[http]"),
        "{denied}"
    );
}

#[actix_web::test]
async fn what_is_no_act_on_an_alarm_is_answered_with_what_is() {
    let (api, alarms) = hub();
    alarms.raise("plc-1", None, 300);
    for (action, body, status, word) in [
        (
            "acknowledge",
            json!({"id": "plc-9"}),
            404,
            "there is no alarm plc-9",
        ),
        (
            "destroy",
            json!({"id": "plc-1"}),
            404,
            "acknowledge, confirm",
        ),
        ("acknowledge", json!({}), 400, "missing field `id`"),
        (
            "acknowledge",
            json!({"id": "plc-1", "because": 1}),
            400,
            "because",
        ),
        (
            "confirm",
            json!({"id": "plc-1", "minutes": 5}),
            400,
            "only shelving",
        ),
        (
            "shelve",
            json!({"id": "plc-1", "minutes": -5}),
            400,
            "above 0",
        ),
        (
            "shelve",
            json!({"id": "plc-1", "minutes": 1e9}),
            400,
            "at most",
        ),
        ("comment", json!({"id": "plc-1"}), 400, "an empty comment"),
    ] {
        let (got, answer) = act(&api, action, body.clone()).await;
        assert_eq!(got, status, "{action} {body}: {answer}");
        let detail = answer["detail"].as_str().unwrap();
        assert!(detail.contains(word), "{action} {body}: {detail}");
    }
    assert_eq!(list(&api).await["alarms"][0]["acknowledged"], false);
}
