//! The answers of the HTTP face as its clients see them.

use super::fakes::{FakeHub, NEW_YEAR};
use super::server::app;
use crate::model::{About, CertificateInUse, Nameplate, Quality, Side, VerdictClass, now};
use actix_web::http::{Method, StatusCode, header};
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use serde_json::{Value as Json, json};

/// An answer: status, headers, body.
struct Answer {
    status: StatusCode,
    headers: header::HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Json {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

async fn ask(hub: &FakeHub, request: TestRequest) -> Answer {
    let service = init_service(app(hub.api())).await;
    let response = call_service(&service, request.to_request()).await;
    let (status, headers) = (response.status(), response.headers().clone());
    let text = String::from_utf8(read_body(response).await.to_vec()).unwrap();
    Answer {
        status,
        headers,
        text,
    }
}

fn local(path: &str) -> TestRequest {
    TestRequest::with_uri(path).insert_header((header::HOST, "localhost:8080"))
}

async fn get(hub: &FakeHub, path: &str) -> Answer {
    ask(hub, local(path)).await
}

/// The body of a good answer.
async fn good(hub: &FakeHub, path: &str) -> Json {
    let answer = get(hub, path).await;
    assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
    assert_eq!(answer.header("content-type"), "application/json", "{path}");
    assert_eq!(answer.header("cache-control"), "no-store", "{path}");
    answer.json()
}

/// The detail of a bad answer, whose shape is checked.
async fn bad(hub: &FakeHub, path: &str, status: u16, parameter: Option<&str>) -> String {
    let answer = get(hub, path).await;
    assert_eq!(answer.status, status, "{path}: {}", answer.text);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let body = answer.json();
    assert_eq!(body["status"], status, "{path}");
    assert_eq!(body["type"], "about:blank", "{path}");
    assert!(body["title"].is_string(), "{path}");
    assert_eq!(body["parameter"].as_str(), parameter, "{path}: {body}");
    body["detail"].as_str().unwrap().to_owned()
}

#[actix_web::test]
async fn status_tells_the_hub_at_a_glance() {
    let hub = FakeHub::new();
    let status = good(&hub, "/api/v1/status").await;
    assert_eq!(status["hub"], "hub-1");
    assert_eq!(status["height"], 3);
    assert_eq!(status["records"], 5);
    assert_eq!(status["last_block_hash"].as_str().unwrap().len(), 64);
    assert_eq!(status["last_block_time"], "2026-01-01T00:00:03.000Z");
    let batches = json!({"total": 2, "accepted": 1, "out_of_control": 0, "invalid": 1});
    assert_eq!(status["batches"], batches);
    let devices = json!({"total": 2, "up": 1, "starting": 0, "down": 1});
    assert_eq!(status["devices"], devices);
    assert_eq!(status["points"], 12);
    assert_eq!(good(&hub, "/healthz").await["status"], "ok");
}

#[actix_web::test]
async fn devices_come_in_configured_order_with_link_and_verdict() {
    let hub = FakeHub::new();
    let plc = hub.context.live.device("plc-1").unwrap();
    let judged = vec![Quality::GOOD; 3];
    plc.set_verdict(VerdictClass::OutOfControl, NEW_YEAR, "drift".into(), judged);
    let answer = good(&hub, "/api/v1/devices").await;
    let (robot, plc) = (&answer["devices"][0], &answer["devices"][1]);
    assert_eq!(robot["id"], "robot-1");
    assert_eq!(robot["group"], "cell-a");
    assert_eq!(robot["protocol"], "OPC UA");
    let link = json!({"state": "down", "reason": "127.0.0.1:4855 cannot be reached",
        "error": "connection refused",
        "last_success": "2026-01-01T00:00:00.000Z",
        "retry_at": "2026-01-01T00:00:02.000Z"});
    assert_eq!(robot["link"], link);
    assert_eq!(plc["id"], "plc-1");
    assert_eq!(plc["group"], Json::Null);
    assert_eq!(plc["points"], 300);
    assert_eq!(plc["tag_count"], 3);
    assert_eq!(plc["verdict"]["class"], "out_of_control");
    assert_eq!(plc["verdict"]["reason"], "drift");
    assert_eq!(answer["next"], Json::Null);

    let first = good(&hub, "/api/v1/devices?limit=1").await;
    assert_eq!(first["next"], "robot-1");
    let rest = good(&hub, "/api/v1/devices?limit=1&after=robot-1").await;
    assert_eq!(rest["devices"][0]["id"], "plc-1");
    assert_eq!(rest["next"], Json::Null);
}

#[actix_web::test]
async fn a_device_says_what_it_is_and_a_certificate_that_ends_soon_is_warned_of() {
    let hub = FakeHub::new();
    let device = good(&hub, "/api/v1/devices/robot-1").await;
    assert_eq!(device["nameplate"], Json::Null);
    assert_eq!(device["certificates"], json!([]));
    let certificate = |days: i64, side| CertificateInUse {
        side,
        subject: "CN=robot".into(),
        thumbprint: "ab12cd34".into(),
        valid_until: now() + days * 86_400_000_000_000 + 3_600_000_000_000,
        folder: "pki".into(),
    };
    for id in ["robot-1", "plc-1"] {
        let live = hub.context.live.device(id).unwrap();
        live.set_about(About {
            nameplate: Some(Nameplate {
                manufacturer: "Weighs & Co".into(),
                ..Nameplate::default()
            }),
            certificates: vec![certificate(12, Side::Ours), certificate(90, Side::Theirs)],
        });
    }
    let device = good(&hub, "/api/v1/devices/robot-1").await;
    assert_eq!(device["nameplate"]["manufacturer"], "Weighs & Co");
    assert_eq!(device["certificates"][0]["side"], "ours");
    assert_eq!(device["certificates"][0]["days_left"], 12);
    assert_eq!(device["certificates"][1]["warning"], Json::Null);
    let status = good(&hub, "/api/v1/status").await;
    let warnings = status["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1, "said once: {warnings:?}");
    let said = warnings[0].as_str().unwrap();
    assert!(
        said.starts_with("plc-1, robot-1: our certificate"),
        "{said}"
    );
    assert!(
        said.contains("expires in 12 days: `weighbridge certs renew"),
        "{said}"
    );
}

#[actix_web::test]
async fn a_device_has_its_tags_with_values_and_quality() {
    let hub = FakeHub::new();
    let device = good(&hub, "/api/v1/devices/plc-1").await;
    assert_eq!(device["link"]["state"], "up");
    let tags = &device["tags"];
    assert_eq!(tags[0]["unit"], "°C");
    assert_eq!(tags[0]["range"], json!([0.0, 120.0]));
    let sample = json!({"value": "NaN", "time": "2026-01-01T00:00:00.000Z",
        "time_ns": NEW_YEAR.to_string(), "quality": "Bad", "status": "BadOutOfRange",
        "status_code": 0x803C_0000u32});
    assert_eq!(tags[0]["sample"], sample);
    assert_eq!(tags[1]["sample"]["value"], true);
    assert_eq!(tags[2]["sample"]["value"], "18446744073709551615");
    let robot = good(&hub, "/api/v1/devices/robot-1").await;
    assert_eq!(robot["tags"][0]["sample"], Json::Null);
    let short = good(&hub, "/api/v1/devices/plc-1?limit=2").await;
    assert_eq!(short["tags"].as_array().unwrap().len(), 2);
    assert_eq!(short["tag_count"], 3);
}

#[actix_web::test]
async fn tags_are_paged_across_devices_without_gap_or_repetition() {
    let hub = FakeHub::new();
    for limit in 1..=5 {
        let mut names = Vec::new();
        let mut path = format!("/api/v1/tags?limit={limit}");
        loop {
            let page = good(&hub, &path).await;
            let tags = page["tags"].as_array().unwrap();
            assert!(tags.len() <= limit);
            let name = |t: &Json| format!("{}/{}", t["device"], t["tag"]).replace('"', "");
            names.extend(tags.iter().map(name));
            match page["next"].as_str() {
                Some(next) => path = format!("/api/v1/tags?limit={limit}&after={next}"),
                None => break,
            }
        }
        let all = [
            "robot-1/axis",
            "plc-1/temperature",
            "plc-1/running",
            "plc-1/count",
        ];
        assert_eq!(names, all, "limit {limit}");
    }
    let of_one = good(&hub, "/api/v1/tags?device=robot-1").await;
    assert_eq!(of_one["tags"].as_array().unwrap().len(), 1);
}

#[actix_web::test]
async fn charts_have_limits_points_and_rules() {
    let hub = FakeHub::new();
    let path = "/api/v1/devices/plc-1/tags/temperature/chart?points=3";
    let chart = good(&hub, path).await;
    let expected = json!({
        "device": "plc-1", "tag": "temperature", "unit": "°C",
        "center": 4.0, "lcl": -1.0, "ucl": null, "basis": "limits are set",
        "points": [
            {"time": "2026-01-01T00:00:07.000Z", "value": 7.0},
            {"time": "2026-01-01T00:00:08.000Z", "value": 8.0, "signalled": "nelson rule_3"},
            {"time": "2026-01-01T00:00:09.000Z", "value": "NaN", "bad": true},
        ],
    });
    assert_eq!(chart, expected);
    let none = good(&hub, "/api/v1/devices/plc-1/tags/running/chart").await;
    assert_eq!(none["basis"], Json::Null);
    assert_eq!(none["points"], json!([]));
    let all = good(&hub, "/api/v1/devices/plc-1/charts?points=5&limit=2").await;
    let counts = |i: usize| all["tags"][i]["points"].as_array().map(Vec::len);
    assert_eq!((counts(0), counts(1), counts(2)), (Some(5), Some(0), None));
}

#[actix_web::test]
async fn blocks_are_listed_newest_first_and_shown_with_their_records() {
    let hub = FakeHub::new();
    let newest = good(&hub, "/api/v1/blocks?limit=2").await;
    let heights = |page: &Json| -> Vec<u64> {
        let blocks = page["blocks"].as_array().unwrap();
        blocks
            .iter()
            .map(|b| b["height"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(heights(&newest), [3, 2]);
    assert_eq!(newest["next"], 2);
    let oldest = good(&hub, "/api/v1/blocks?limit=2&before=2").await;
    assert_eq!(heights(&oldest), [1]);
    assert_eq!(oldest["next"], Json::Null);
    assert_eq!(
        newest["blocks"][1]["previous_hash"],
        oldest["blocks"][0]["hash"]
    );

    let block = good(&hub, "/api/v1/blocks/2").await;
    assert_eq!(block["record_count"], 2);
    assert_eq!(block["signed_by"], json!(["hub-1"]));
    let second = &block["records"][1];
    assert_eq!(second["position"], 1);
    assert_eq!(second["action"], "store");
    assert_eq!(
        second["content"]["batch"]["verdict"]["class"],
        "out_of_control"
    );
    let part = good(&hub, "/api/v1/blocks/2?from=1&limit=1").await;
    assert_eq!(part["records"], json!([second]));
}

#[actix_web::test]
async fn records_and_batches_are_paged_and_filtered() {
    let hub = FakeHub::new();
    let mut seen = Vec::new();
    let mut path = "/api/v1/records?limit=2".to_owned();
    loop {
        let page = good(&hub, &path).await;
        for record in page["records"].as_array().unwrap() {
            seen.push((record["height"].clone(), record["position"].clone()));
        }
        match page["next"].as_str() {
            Some(next) => path = format!("/api/v1/records?limit=2&before={next}"),
            None => break,
        }
    }
    let at = |h: u64, p: u64| (json!(h), json!(p));
    assert_eq!(seen, [at(3, 1), at(3, 0), at(2, 1), at(2, 0), at(1, 0)]);

    let refused = good(&hub, "/api/v1/records?action=refuse").await;
    assert_eq!(refused["records"].as_array().unwrap().len(), 1);
    assert_eq!(refused["records"][0]["response"], "refused");
    let invalid = good(&hub, "/api/v1/batches?verdict=invalid&device=plc-1").await;
    let batch = &invalid["batches"][0];
    assert_eq!(invalid["batches"].as_array().unwrap().len(), 1);
    assert_eq!(batch["device"], "plc-1");
    assert_eq!(batch["sealed"], Json::Null);
    assert_eq!(batch["response"], "refused");
    let stored = good(&hub, "/api/v1/batches?device=robot-1").await;
    assert_eq!(stored["batches"][0]["sealed"]["length"], 900);
    let refusals = good(&hub, "/api/v1/refusals").await;
    assert_eq!(refusals["refusals"][0]["sequence"], 3);
}

#[actix_web::test]
async fn mistakes_in_parameters_are_named() {
    let hub = FakeHub::new();
    for (path, parameter, says) in [
        ("/api/v1/status?x=1", "x", "takes none"),
        ("/api/v1/devices?limit=0", "limit", "from 1 to 1000"),
        ("/api/v1/devices?after=plc-9", "after", "names no device"),
        ("/api/v1/tags?limit=1001", "limit", "from 1 to 1000"),
        ("/api/v1/tags?after=plc-1/nope", "after", "no `device/tag`"),
        ("/api/v1/blocks?before=x", "before", "`x`"),
        ("/api/v1/blocks?limit=99999", "limit", "from 1 to 1000"),
        ("/api/v1/blocks/0", "height", "from 1 on"),
        ("/api/v1/blocks/latest", "height", "`latest`"),
        ("/api/v1/records?before=12", "before", "`12-3`"),
        ("/api/v1/records?action=eat", "action", "`store`"),
        (
            "/api/v1/batches?verdict=good",
            "verdict",
            "`out_of_control`",
        ),
        ("/api/v1/batches?limit=5&limit=6", "limit", "twice"),
        (
            "/api/v1/devices/plc-1/charts?points=1001",
            "points",
            "from 1 to 1000",
        ),
        (
            "/api/v1/devices/plc-1/charts?points=1000&limit=21",
            "points",
            "21000",
        ),
        (
            "/api/v1/devices/plc-1/tags/count/chart?points=-1",
            "points",
            "`-1`",
        ),
        ("/api/v1/events?since=1", "since", "takes none"),
    ] {
        let detail = bad(&hub, path, 400, Some(parameter)).await;
        assert!(detail.contains(says), "{path}: {detail}");
    }
}

#[actix_web::test]
async fn what_is_not_there_is_said_to_be_missing() {
    let hub = FakeHub::new();
    for (path, says) in [
        ("/api/v2/status", "/api/v1/"),
        ("/api/v1/devices/plc-9", "/api/v1/devices lists"),
        ("/api/v1/tags?device=plc-9", "no device `plc-9`"),
        ("/api/v1/devices/plc-1/tags/nope/chart", "no tag `nope`"),
        ("/api/v1/blocks/4", "the newest one is 3"),
    ] {
        let detail = bad(&hub, path, 404, None).await;
        assert!(detail.contains(says), "{path}: {detail}");
    }
}

#[actix_web::test]
async fn a_ledger_that_cannot_be_read_is_a_500_with_its_reason() {
    let hub = FakeHub::new();
    *hub.ledger.failure.lock() = Some("block 2 is damaged".into());
    for path in ["/api/v1/blocks", "/api/v1/records", "/api/v1/batches"] {
        let detail = bad(&hub, path, 500, None).await;
        assert_eq!(detail, "the ledger cannot be read: block 2 is damaged");
    }
    assert_eq!(good(&hub, "/api/v1/status").await["height"], 3);
}

#[actix_web::test]
async fn a_ledger_in_trouble_is_told_to_whoever_watches() {
    let hub = FakeHub::new();
    assert_eq!(
        good(&hub, "/api/v1/status").await["ledger_trouble"],
        Json::Null
    );
    *hub.ledger.trouble.lock() = Some("the disk is full".into());
    let detail = bad(&hub, "/healthz", 503, None).await;
    assert_eq!(detail, "the ledger takes no blocks: the disk is full");
    let status = good(&hub, "/api/v1/status").await;
    assert_eq!(status["ledger_trouble"], "the disk is full");
    let metrics = get(&hub, "/metrics").await.text;
    assert!(metrics.contains("\nweighbridge_ledger_up 0\n"), "{metrics}");
}

#[actix_web::test]
async fn metrics_are_prometheus_text() {
    let hub = FakeHub::new();
    let answer = get(&hub, "/metrics").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4");
    for line in [
        "weighbridge_points_total 12",
        "weighbridge_batches_total{verdict=\"accepted\"} 1",
        "weighbridge_batches_total{verdict=\"out_of_control\"} 0",
        "weighbridge_batches_total{verdict=\"invalid\"} 1",
        "weighbridge_blocks_total 1",
        "weighbridge_records_total 2",
        "weighbridge_sealed_bytes_total 1800",
        "weighbridge_ledger_height 3",
        "weighbridge_ledger_up 1",
        "weighbridge_device_up{device=\"plc-1\"} 1",
        "weighbridge_device_up{device=\"robot-1\"} 0",
        "weighbridge_device_points_total{device=\"plc-1\"} 300",
        "process_start_time_seconds 1767225600",
    ] {
        let found = answer.text.lines().any(|l| l == line);
        assert!(found, "{line} is missing in\n{}", answer.text);
    }
    #[cfg(target_os = "linux")]
    assert!(answer.text.contains("\nprocess_resident_memory_bytes "));
}

#[actix_web::test]
async fn every_answer_carries_the_strict_headers() {
    let hub = FakeHub::new();
    let paths = [
        "/",
        "/page/app.js",
        "/healthz",
        "/metrics",
        "/api/v1/status",
        "/nowhere",
    ];
    for path in paths {
        let answer = get(&hub, path).await;
        let csp = answer.header("content-security-policy");
        assert!(
            csp.starts_with("default-src 'none'; script-src 'self';"),
            "{path}: {csp}"
        );
        assert!(!csp.contains("unsafe"), "{path}: {csp}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("x-frame-options"), "DENY", "{path}");
        assert!(
            !answer.headers.contains_key("access-control-allow-origin"),
            "{path}"
        );
    }
}

#[actix_web::test]
async fn only_loopback_hosts_and_reading_methods_are_answered() {
    let hub = FakeHub::new();
    let foreign =
        TestRequest::with_uri("/api/v1/status").insert_header((header::HOST, "evil.example:8080"));
    let answer = ask(&hub, foreign).await;
    assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST);
    assert!(answer.text.contains("evil.example:8080"), "{}", answer.text);
    assert!(answer.headers.contains_key("content-security-policy"));
    let nameless = ask(&hub, TestRequest::with_uri("/")).await;
    assert_eq!(nameless.status, StatusCode::MISDIRECTED_REQUEST);
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let answer = ask(&hub, local("/api/v1/status").method(method)).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.header("allow"), "GET, HEAD");
    }
}

#[actix_web::test]
async fn the_page_has_nothing_inline_or_from_elsewhere() {
    let hub = FakeHub::new();
    let page = get(&hub, "/").await;
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert!(!page.text.contains("http://") && !page.text.contains("https://"));
    for inline in ["style=", "<style", "onclick=", "onload=", "javascript:"] {
        assert!(!page.text.contains(inline), "{inline}");
    }
    // Everything it refers to is there.
    let mut parts = 0;
    for piece in page
        .text
        .split(['"', '\''])
        .filter(|p| p.starts_with("/page/"))
    {
        let answer = get(&hub, piece).await;
        assert_eq!(answer.status, StatusCode::OK, "{piece}");
        parts += 1;
    }
    assert!(parts >= 2, "{parts}");
    let again = local("/").insert_header((header::IF_NONE_MATCH, page.header("etag").to_owned()));
    let again = ask(&hub, again).await;
    assert_eq!(again.status, StatusCode::NOT_MODIFIED);
    assert!(again.text.is_empty());
}
