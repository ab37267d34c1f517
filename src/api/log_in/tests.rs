//! Log-ins as their clients see them.

use super::*;
use crate::access::{Caller, Change, Credentials, Pattern, Refused, Right, Role, Rule, Totp};
use crate::actors::log_in::LogInDesk;
use crate::api::fakes::{FakeHub, FakeSessions};
use crate::api::names::{Front, Names};
use crate::api::server::{Api, app};
use crate::crypto::{Identity, PasswordHash, Signer, TotpHash, TotpSecret, possession};
use crate::protocols::FixedAccess;
use crate::store::CredentialFiles;
use actix_web::http::header;
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::web;
use serde_json::{Value as Json, json};
use std::net::SocketAddr;
use std::time::Duration;
use weighbridge_verifier::sha256;

const PASSWORD: &str = "open sesame";
const PEER: &str = "192.0.2.50:1000";

struct Site {
    api: web::Data<Api>,
    secret: TotpSecret,
    dir: tempfile::TempDir,
}

struct Answer {
    status: u16,
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

    /// The cookie as it is sent back.
    fn cookie(&self) -> String {
        let set = self.header("set-cookie");
        set.split(';').next().unwrap_or_default().to_owned()
    }
}

fn secret() -> TotpSecret {
    TotpSecret::from_bytes(b"12345678901234567890", TotpHash::Sha1).unwrap()
}

/// `ann` has a password and a code, `bob` a password, `kim` a key; `zoe` is known, and may not come in.
impl Site {
    fn new(tls: bool, limits: SessionLimits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = CredentialFiles::new(&dir.path().join("users"));
        let add = |name: &str, change: &dyn Fn(&mut Credentials)| {
            let mut credentials = Credentials::new(name).unwrap();
            change(&mut credentials);
            files.add(&credentials).unwrap();
        };
        let password = || Some(PasswordHash::with_salt(PASSWORD.as_bytes(), &[7; 16]).unwrap());
        add("ann", &|c| {
            c.password = password();
            let (secret, last_step) = (secret(), None);
            c.totp = Some(Totp { secret, last_step });
        });
        for name in ["bob", "zoe"] {
            add(name, &|c| c.password = password());
        }
        let key = possession::key_hash(&Identity::from_byte("kim", 7).public_key()).unwrap();
        add("kim", &|c| c.add_key(key).unwrap());
        let mut hub = FakeHub::new();
        hub.context.access = FixedAccess::new(&[
            ("ann".to_owned(), vec![Role::Engineer]),
            ("bob".to_owned(), vec![Role::Observer]),
            ("kim".to_owned(), vec![Role::Observer]),
        ])
        .unwrap();
        let front = Front {
            hosts: vec!["plant.example".into()],
            ..Front::default()
        };
        let mut names = Names::new(&front, [192, 0, 2, 7].into());
        names.tls = tls;
        let sessions = std::sync::Arc::new(FakeSessions);
        let desk = std::sync::Arc::new(LogInDesk::new("hub-1", files, None));
        let log_in = LogIn::new(desk, tls, limits, sessions);
        let api = hub.api();
        let api = web::Data::new(Api {
            context: api.context.clone(),
            feed: api.feed.clone(),
            names,
            log_in: Some(log_in),
        });
        let secret = secret();
        Self { api, secret, dir }
    }

    async fn ask(&self, request: TestRequest) -> Answer {
        let service = init_service(app(self.api.clone())).await;
        let peer: SocketAddr = PEER.parse().unwrap();
        let response = call_service(&service, request.peer_addr(peer).to_request()).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = String::from_utf8(read_body(response).await.to_vec()).unwrap();
        Answer {
            status,
            headers,
            text,
        }
    }

    async fn post(&self, path: &str, body: Json) -> Answer {
        self.ask(post(path, body)).await
    }

    async fn get(&self, path: &str, cookie: &str) -> Answer {
        let request = at(path).insert_header((header::COOKIE, cookie.to_owned()));
        self.ask(request).await
    }

    fn code(&self) -> String {
        self.secret.shown(now()).to_string()
    }
}

fn at(path: &str) -> TestRequest {
    TestRequest::with_uri(path).insert_header((header::HOST, "plant.example:8443"))
}

fn post(path: &str, body: Json) -> TestRequest {
    at(path)
        .method(actix_web::http::Method::POST)
        .insert_header((header::ORIGIN, "https://plant.example:8443"))
        .set_json(body)
}

fn bob(password: &str) -> Json {
    json!({"user": "bob", "password": password})
}

#[actix_web::test]
async fn a_user_logs_in_is_who_they_are_and_logs_out() {
    let site = Site::new(true, SessionLimits::default());
    let code = site.code();
    let body = json!({"user": "ann", "password": PASSWORD, "code": code});
    let answer = site.post("/api/v1/login", body.clone()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let set = answer.header("set-cookie");
    assert!(set.starts_with("__Host-weighbridge="), "{set}");
    for part in ["; Path=/", "; HttpOnly", "; SameSite=Strict", "; Secure"] {
        assert!(set.contains(part), "{set}");
    }
    assert!(!set.contains("Domain"), "{set}");
    let token = set.split(['=', ';']).nth(1).unwrap();
    assert!(!answer.text.contains(token), "only on request");
    assert_eq!(answer.json()["method"], "password_and_code");
    let cookie = answer.cookie();
    let session = site.get("/api/v1/session", &cookie).await.json();
    assert_eq!(
        (&session["user"], &session["log_in"]),
        (&json!("ann"), &json!(true))
    );
    assert_eq!(session["roles"], json!(["engineer"]));
    assert_eq!(site.get("/api/v1/devices", &cookie).await.status, 200);
    let strict = answer.header("strict-transport-security");
    assert_eq!(strict, "max-age=31536000");

    let replayed = site.post("/api/v1/login", body).await;
    assert_eq!(replayed.status, 401, "a code counts once");

    let out = post("/api/v1/logout", json!({})).insert_header((header::COOKIE, cookie.clone()));
    let out = site.ask(out).await;
    assert_eq!(out.json(), json!({"logged_out": "ann"}));
    assert!(out.header("set-cookie").contains("Max-Age=0"));
    assert_eq!(site.get("/api/v1/devices", &cookie).await.status, 401);
    let session = site.get("/api/v1/session", &cookie).await.json();
    assert_eq!(session["user"], Json::Null);
}

#[actix_web::test]
async fn programs_get_a_token_when_they_ask_for_it() {
    let site = Site::new(false, SessionLimits::default());
    let body = json!({"user": "bob", "password": PASSWORD, "token": true});
    let answer = site.ask(at_home("/api/v1/login", body)).await;
    assert_eq!((answer.status, answer.header("set-cookie")), (200, ""));
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(token.len(), 43);
    let with = |value: String| at("/api/v1/devices").insert_header((header::AUTHORIZATION, value));
    let good = site.ask(with(format!("Bearer {token}"))).await;
    assert_eq!(good.status, 200);
    assert_eq!(good.header("strict-transport-security"), "");
    for wrong in [
        "Bearer x".to_owned(),
        format!("Basic {token}"),
        token.clone(),
    ] {
        assert_eq!(site.ask(with(wrong)).await.status, 401);
    }
    // The plain face's cookie is another.
    assert_eq!(
        site.get("/api/v1/devices", &format!("weighbridge={token}"))
            .await
            .status,
        200
    );
}

fn at_home(path: &str, body: Json) -> TestRequest {
    TestRequest::post()
        .uri(path)
        .insert_header((header::HOST, "localhost"))
        .set_json(body)
}

#[actix_web::test]
async fn without_a_session_there_is_nothing_to_see() {
    let site = Site::new(true, SessionLimits::default());
    for path in [
        "/api/v1/status",
        "/api/v1/devices",
        "/api/v1/devices/plc-1",
        "/api/v1/tags",
        "/api/v1/events",
        "/api/v1/alarms",
        "/api/v1/blocks",
        "/api/v1/records",
        "/api/v1/access",
        "/metrics",
        "/nothing",
        // The same addresses, written otherwise.
        "/%61pi/v1/devices",
        "/api/v1/%64evices",
        "/%6detrics",
        "//api/v1/devices",
        "/./api/v1/devices",
        "/API/v1/devices",
        "/page/../api/v1/devices",
    ] {
        let answer = site.get(path, "__Host-weighbridge=x").await;
        assert_eq!(answer.status, 401, "{path}: {}", answer.text);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(
            answer.header("www-authenticate"),
            "Bearer realm=\"weighbridge\""
        );
        assert!(!answer.text.contains("plc-1"), "{path}");
    }
    let write = site
        .post("/api/v1/devices/plc-1/write", json!({"count": 1}))
        .await;
    assert_eq!(write.status, 401);
    for path in ["/", "/page/app.js", "/healthz", "/api/v1/session"] {
        assert_eq!(site.get(path, "").await.status, 200, "{path}");
    }
}

#[actix_web::test]
async fn whoever_is_refused_learns_nothing_from_it() {
    let site = Site::new(true, SessionLimits::default());
    let mut answers = Vec::new();
    for body in [
        json!({"user": "nobody", "password": PASSWORD}),
        json!({"user": "ann", "password": "wrong"}),
        json!({"user": "ann", "password": PASSWORD}),
    ] {
        let answer = site.post("/api/v1/login", body).await;
        assert_eq!((answer.status, answer.header("set-cookie")), (401, ""));
        answers.push(answer.text);
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[1], answers[2]);
    assert!(answers[0].contains(Refused::ANSWER));
    // The free attempts of this address are over, for whoever it is and whatever they know.
    site.post("/api/v1/login", bob("wrong")).await;
    let slowed = site.post("/api/v1/login", bob(PASSWORD)).await;
    assert_eq!(slowed.status, 429, "{}", slowed.text);
    let wait: u64 = slowed.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
}

#[actix_web::test]
async fn who_proved_themselves_and_is_not_admitted_stays_outside() {
    let site = Site::new(true, SessionLimits::default());
    let body = json!({"user": "zoe", "password": PASSWORD});
    let answer = site.post("/api/v1/login", body).await;
    assert_eq!((answer.status, answer.header("set-cookie")), (403, ""));
}

#[actix_web::test]
async fn a_session_ends_with_the_standing_of_its_user_and_with_time() {
    let site = Site::new(true, SessionLimits::default());
    let cookie = site.post("/api/v1/login", bob(PASSWORD)).await.cookie();
    assert_eq!(site.get("/api/v1/devices", &cookie).await.status, 200);
    let gate = site.api.context.access.gate();
    let before = gate.state();
    gate.set(Default::default());
    assert_eq!(site.get("/api/v1/devices", &cookie).await.status, 401);
    gate.set(before);
    assert_eq!(
        site.get("/api/v1/devices", &cookie).await.status,
        401,
        "it has ended"
    );

    let limits = SessionLimits {
        idle: Duration::ZERO,
        ..SessionLimits::default()
    };
    let site = Site::new(true, limits);
    let answer = site.post("/api/v1/login", bob(PASSWORD)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        site.get("/api/v1/devices", &answer.cookie()).await.status,
        401
    );
}

#[actix_web::test]
async fn a_challenge_is_signed_and_counts_once() {
    let site = Site::new(true, SessionLimits::default());
    let asked = site
        .post("/api/v1/challenge", json!({"user": "kim"}))
        .await
        .json();
    let kim = Identity::from_byte("kim", 7);
    let text = asked["text"].as_str().unwrap();
    assert!(text.contains("subject user:kim\n"), "{text}");
    let signature = kim.sign(&sha256(&[text.as_bytes()]));
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    let body = json!({
        "user": "kim",
        "challenge": asked["challenge"],
        "key": hex(&kim.public_key().0),
        "signature": hex(&signature.0),
    });
    let mut others = body.clone();
    others["user"] = json!("bob");
    assert_eq!(site.post("/api/v1/login", others).await.status, 401);
    let used = site.post("/api/v1/login", body.clone()).await;
    assert_eq!(used.status, 401, "it was taken by the attempt before");
    let asked = site
        .post("/api/v1/challenge", json!({"user": "kim"}))
        .await
        .json();
    let signature = kim.sign(&sha256(&[asked["text"].as_str().unwrap().as_bytes()]));
    let mut body = body;
    body["challenge"] = asked["challenge"].clone();
    body["signature"] = json!(hex(&signature.0));
    let answer = site.post("/api/v1/login", body).await;
    assert_eq!(
        (answer.status, &answer.json()["method"]),
        (200, &json!("signature"))
    );
}

#[actix_web::test]
async fn pages_of_others_and_odd_bodies_are_refused_before_anything_is_looked_at() {
    let site = Site::new(true, SessionLimits::default());
    for origin in ["http://plant.example:8443", "https://evil.example", "null"] {
        let request = post("/api/v1/login", bob(PASSWORD)).insert_header((header::ORIGIN, origin));
        assert_eq!(site.ask(request).await.status, 403, "{origin}");
    }
    let foreign =
        post("/api/v1/login", bob(PASSWORD)).insert_header((header::HOST, "evil.example"));
    assert_eq!(site.ask(foreign).await.status, 421);
    let form = at("/api/v1/login")
        .method(actix_web::http::Method::POST)
        .set_form([("user", "bob"), ("password", PASSWORD)]);
    assert_eq!(site.ask(form).await.status, 415);
    for body in [
        json!({}),
        json!([]),
        json!({"user": "bob"}),
        json!({"password": PASSWORD}),
        json!({"certificate": true}),
        json!({"user": "bob", "certificate": true, "password": PASSWORD}),
        json!({"user": "bob", "password": PASSWORD, "challenge": "00"}),
        json!({"user": "bob", "challenge": "00", "key": "00", "signature": "zz"}),
        json!({"user": "bob", "password": "x".repeat(1025)}),
        json!({"user": "bob", "password": "x".repeat(10_000)}),
        json!({"user": "bob", "password": PASSWORD, "more": 1}),
    ] {
        let long = body.to_string().len() > 4 << 10;
        let answer = site.post("/api/v1/login", body).await;
        let wanted = if long { 413 } else { 400 };
        assert_eq!(answer.status, wanted, "{}", answer.text);
        assert!(!answer.text.contains(PASSWORD));
    }
    assert_eq!(
        site.post("/api/v1/login", bob(PASSWORD)).await.status,
        200,
        "none was an attempt"
    );
}

#[actix_web::test]
async fn credentials_that_others_could_read_let_nobody_in() {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::new(true, SessionLimits::default());
    let file = site.dir.path().join("users/bob.json");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(site.post("/api/v1/login", bob(PASSWORD)).await.status, 401);
}

#[actix_web::test]
async fn what_a_user_may_not_see_is_not_there() {
    let site = Site::new(true, SessionLimits::default());
    let gate = site.api.context.access.gate();
    let rule = Rule {
        rights: [Right::Live].into(),
        objects: vec![Pattern::new("device:plc-1/temperature").unwrap()],
        windows: Vec::new(),
    };
    let mut state = (*gate.state()).clone();
    state
        .apply(Change::Define("temperatures".into(), vec![rule]))
        .unwrap();
    let roles = ["temperatures".to_owned()].into();
    state
        .apply(Change::Assign("user:bob".into(), roles))
        .unwrap();
    gate.set(std::sync::Arc::new(state));
    let cookie = site.post("/api/v1/login", bob(PASSWORD)).await.cookie();
    let list = async |path: &str, name: &str| {
        let answer = site.get(path, &cookie).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.json()[name].as_array().unwrap().clone()
    };
    let tags = list("/api/v1/tags", "tags").await;
    assert_eq!(tags.len(), 1);
    assert_eq!(tags[0]["tag"], "temperature");
    for (path, name) in [
        ("/api/v1/devices", "devices"),
        ("/api/v1/records", "records"),
        ("/api/v1/batches", "batches"),
        ("/api/v1/blocks/2", "records"),
        ("/api/v1/refusals", "refusals"),
    ] {
        assert!(list(path, name).await.is_empty(), "{path}");
    }
    for (path, status) in [
        ("/api/v1/devices/plc-1/tags/temperature", 200),
        ("/api/v1/devices/plc-1/tags/temperature/chart", 200),
        ("/api/v1/devices/plc-1", 404),
        ("/api/v1/devices/plc-1/charts", 404),
        ("/api/v1/devices/plc-1/tags/running", 404),
        ("/api/v1/devices/plc-1/tags/%72unning", 404),
        ("/api/v1/tags?device=robot-1", 404),
    ] {
        let answer = site.get(path, &cookie).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
    }
    // One who is not there is answered as one who may not be seen.
    let hidden = site.get("/api/v1/devices/robot-1", &cookie).await.text;
    let missing = site.get("/api/v1/devices/robot-9", &cookie).await.text;
    assert_eq!(hidden.replace("robot-1", "robot-9"), missing);
    let viewer = crate::api::caller::Viewer::new(gate, Caller::new("bob", "http"));
    let picture = site.api.feed.picture(&site.api.context, &viewer);
    let picture = String::from_utf8(picture.to_vec()).unwrap();
    assert!(!picture.contains("\"running\"") && picture.contains("\"refusals\":[]"));
}
