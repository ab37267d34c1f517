//! Users are made, changed and withdrawn on record, and nobody but they themselves learns their secrets.

use crate::site::{self, RecordedAct, Site};
use crate::support::{ended, failed, stderr, weighbridge};
use serde_json::{Value as Json, json};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;
use weighbridge::access::{Change, Credentials, Pattern, Right, Role, Rule, user_name};
use weighbridge::actors::access::By;
use weighbridge::crypto::{Identity, PasswordHash, Signer, TotpHash, TotpSecret, possession};
use weighbridge::hub::{Faces, Hub, LogInFiles, OpenFaces};
use weighbridge::model::now;
use weighbridge::store::{CredentialFiles, CredentialStoreError};
use weighbridge_verifier::{Response, sha256};

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const PASSWORD: &str = "open sesame";
const CHOSEN: &str = "a horse and a staple";

/// A hub where users log in, over plain HTTP on loopback.
struct House {
    site: Site,
    dir: tempfile::TempDir,
    hub: Option<Hub>,
    faces: Option<OpenFaces>,
    url: String,
}

impl House {
    /// `zoe` administers, `bob` looks; both have the same password.
    fn new(seed: u64) -> Self {
        let house = Self {
            site: Site::new(seed),
            dir: tempfile::tempdir().unwrap(),
            hub: None,
            faces: None,
            url: String::new(),
        };
        for user in ["zoe", "bob"] {
            let mut credentials = Credentials::new(user_name(user).unwrap()).unwrap();
            credentials.password = Some(hash(PASSWORD));
            house.files().add(&credentials).unwrap();
        }
        house.started()
    }

    fn started(mut self) -> Self {
        let hub = self.site.hub().start().unwrap();
        let faces = Faces {
            http: Some(ANY_PORT),
            http_log_in: true,
            http_users: vec![
                ("zoe".to_owned(), vec![Role::SecurityAdmin]),
                ("bob".to_owned(), vec![Role::Observer]),
            ],
            log_in: Some(LogInFiles {
                credentials: self.files().dir().to_owned(),
                authority: None,
            }),
            ..Faces::default()
        };
        let faces = hub.open_faces(&faces).unwrap();
        self.url = faces.http_url().unwrap();
        (self.hub, self.faces) = (Some(hub), Some(faces));
        self
    }

    fn stopped(mut self) -> Self {
        let hub = self.hub.take().unwrap();
        self.faces.take().unwrap().close(&hub.runtime());
        hub.shutdown().unwrap();
        self
    }

    fn hub(&self) -> &Hub {
        self.hub.as_ref().unwrap()
    }

    fn files(&self) -> CredentialFiles {
        CredentialFiles::new(&self.dir.path().join("users"))
    }

    fn ask(&self, token: &str, method: &str, path: &str, body: &Json) -> (u16, Json) {
        let address = self.url.trim_start_matches("http://").trim_end_matches('/');
        let mut stream = TcpStream::connect(address).unwrap();
        let patience = Some(Duration::from_secs(20));
        stream.set_read_timeout(patience).unwrap();
        let body = body.to_string();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let code = head.split_whitespace().nth(1).unwrap().parse().unwrap();
        (code, serde_json::from_str(body).unwrap_or(Json::Null))
    }

    fn post(&self, token: &str, path: &str, body: &Json) -> (u16, Json) {
        self.ask(token, "POST", path, body)
    }

    /// What is answered to `body`, which is done.
    fn done(&self, token: &str, path: &str, body: &Json) -> Json {
        let (code, answer) = self.post(token, path, body);
        assert_eq!(code, 200, "{body}: {answer}");
        answer
    }

    fn status(&self, token: &str) -> u16 {
        self.ask(token, "GET", "/api/v1/users", &Json::Null).0
    }

    fn log_in(&self, user: &str, password: &str, code: Option<&str>) -> (u16, String) {
        let body = json!({"user": user, "password": password, "code": code, "token": true});
        let (status, answer) = self.post("", "/api/v1/login", &body);
        (status, text(&answer, "token"))
    }

    fn token(&self, user: &str, password: &str) -> String {
        let (status, token) = self.log_in(user, password, None);
        assert_eq!(status, 200, "{user}");
        token
    }

    /// What is on record of the credentials of a user, in order.
    fn recorded(&self, user: &str) -> Vec<RecordedAct> {
        let object = format!("access:credentials/user:{user}");
        let acts = self.site.recorded().access.into_iter();
        acts.filter(|act| act.object == object).collect()
    }
}

fn hash(password: &str) -> PasswordHash {
    PasswordHash::with_salt(password.as_bytes(), &[7; 16]).unwrap()
}

fn text(json: &Json, key: &str) -> String {
    json[key].as_str().unwrap_or_default().to_owned()
}

/// The code that an app shows so many steps from now: each counts once.
fn code(secret: &TotpSecret, steps: i64) -> String {
    secret.shown(now() + steps * 30_000_000_000).to_string()
}

#[test]
fn who_is_invited_chooses_a_password_and_shows_a_code_and_all_of_it_is_on_record() {
    let house = House::new(120);
    let zoe = house.token("zoe", PASSWORD);
    let add = json!({"do": "add", "user": "anna", "roles": ["observer"]});
    let invited = house.done(&zoe, "/api/v1/users", &add);
    let invitation = text(&invited, "invitation");
    assert!(invitation.starts_with("anna:") && invitation.len() > 45);
    let (code_, said) = house.post(&zoe, "/api/v1/users", &add);
    assert_eq!(code_, 422, "{said}");

    // Whoever has it sees what to set up, and has to show that they did.
    let shown = json!({ "invitation": invitation });
    let welcome = house.done("", "/api/v1/invitation", &shown);
    assert_eq!(welcome["user"], "anna");
    let letters = text(&welcome["codes"], "secret");
    let secret = TotpSecret::from_base32(&letters, TotpHash::Sha1).unwrap();
    assert!(text(&welcome["codes"], "qr").starts_with("<svg"));
    assert!(text(&welcome["codes"], "uri").contains(&letters));
    assert_eq!(house.done("", "/api/v1/invitation", &shown), welcome);
    let take = |password: &str, code: Option<&str>| {
        let body = json!({"invitation": invitation, "password": password, "code": code});
        house.post("", "/api/v1/invitation", &body)
    };
    let first = code(&secret, 0);
    for (password, code) in [
        (CHOSEN, None),
        (CHOSEN, Some("12345x")),
        ("anna", Some(&*first)),
    ] {
        let (status, said) = take(password, code);
        assert_eq!(status, 422, "{said}");
    }
    assert_eq!(take(CHOSEN, Some(&first)).0, 200);
    assert_eq!(take(CHOSEN, Some(&code(&secret, 1))).0, 401, "once");
    let (status, _) = house.log_in("anna", CHOSEN, Some(&first));
    assert_eq!(status, 401, "the first code was used");
    let (status, anna) = house.log_in("anna", CHOSEN, Some(&code(&secret, 1)));
    assert_eq!(status, 200);
    assert_eq!(house.status(&anna), 403, "an observer administers nobody");

    let acts = house.recorded("anna");
    let by: Vec<_> = acts.iter().map(|act| act.subject.as_str()).collect();
    assert_eq!(by, ["user:zoe", "user:anna"]);
    let session = &acts[1].details["by"]["session"];
    assert_eq!(session, "invitation");
    let all: String = acts.iter().map(|act| act.details.to_string()).collect();
    let sent = invitation.trim_start_matches("anna:");
    let file = house.files().load("anna").unwrap().unwrap();
    let phc = file.password.unwrap().to_phc();
    for hidden in [sent, &letters, CHOSEN, &first, &phc] {
        assert!(!all.contains(hidden), "{hidden} is in {all}");
    }

    // Withdrawn, she is nobody, and has nothing left to come back by.
    let revoke = json!({"do": "revoke", "user": "anna"});
    house.done(&zoe, "/api/v1/users", &revoke);
    assert_eq!(house.status(&anna), 401);
    assert!(house.files().load("anna").unwrap().is_none());
    let again = json!({"do": "reissue", "user": "anna", "codes": false});
    let invited = house.done(&zoe, "/api/v1/users", &again);
    let take = json!({"invitation": text(&invited, "invitation"), "password": CHOSEN});
    // Before a restart, and after it.
    let house = house.stopped().started();
    assert_eq!(house.done("", "/api/v1/invitation", &take)["user"], "anna");
    assert_eq!(house.post("", "/api/v1/invitation", &take).0, 401);
    house.token("anna", CHOSEN);
    house.stopped().site.verify_is_clean();
}

#[test]
fn users_change_their_own_password_and_codes_by_the_old_one_only() {
    let house = House::new(121);
    let (bob, elsewhere) = (house.token("bob", PASSWORD), house.token("bob", PASSWORD));
    let path = "/api/v1/own/password";
    let change = |old: &str, new: &str| json!({"password": old, "new": new});
    let (status, _) = house.post(&bob, path, &change("guess", CHOSEN));
    assert_eq!(status, 403, "whoever finds an open dashboard");
    let (status, _) = house.post("", path, &change(PASSWORD, CHOSEN));
    assert_eq!(status, 401, "whoever has no session");
    let (status, _) = house.post(&bob, path, &change(PASSWORD, "short"));
    assert_eq!(status, 422);
    house.done(&bob, path, &change(PASSWORD, CHOSEN));
    assert_eq!(house.status(&elsewhere), 401, "other sessions are over");
    assert_eq!(house.status(&bob), 403, "this one is not");

    let path = "/api/v1/own/codes";
    let (status, _) = house.post(&bob, path, &json!({"confirm": "123456"}));
    assert_eq!(status, 422, "nothing was begun");
    let new = house.done(&bob, path, &json!({ "password": CHOSEN }));
    let secret = TotpSecret::from_base32(&text(&new, "secret"), TotpHash::Sha1).unwrap();
    // Until a code was shown the app may be wrong, and nothing changes.
    house.token("bob", CHOSEN);
    let (status, _) = house.post(&bob, path, &json!({"confirm": "12345"}));
    assert_eq!(status, 422);
    house.done(&bob, path, &json!({"confirm": code(&secret, 0)}));
    assert_eq!(house.log_in("bob", CHOSEN, None).0, 401);
    let next = code(&secret, 1);
    assert_eq!(house.log_in("bob", CHOSEN, Some(&next)).0, 200);
    // New codes take a code of the old ones.
    let (status, _) = house.post(&bob, path, &json!({ "password": CHOSEN }));
    assert_eq!(status, 403);

    let acts = house.recorded("bob");
    let by: Vec<_> = acts.iter().map(|act| act.subject.as_str()).collect();
    assert_eq!(by, ["hub:hub-1", "user:bob", "user:bob"]);
    house.stopped().site.verify_is_clean();
}

/// Whoever can give somebody a password can be them.
#[test]
fn nobody_gives_credentials_to_who_has_roles_that_they_may_not_give() {
    let house = House::new(122);
    let rule = |right, object: &str| Rule {
        rights: [right].into(),
        objects: vec![Pattern::new(object).unwrap()],
        windows: Vec::new(),
    };
    let clerk = vec![
        rule(Right::Enrol, "identity:*"),
        rule(Right::Assign, "role:observer"),
        rule(Right::Admit, "list:*/*"),
    ];
    let changes = vec![
        Change::Define("clerk".into(), clerk),
        Change::Assign("user:bob".into(), ["clerk".to_owned()].into()),
    ];
    let desk = house.hub().access();
    let changed = desk.change(By::Hub("the test says so"), changes);
    site::wait(house.hub(), "a role", changed).unwrap();
    let bob = house.token("bob", PASSWORD);
    let key = sha256(&[b"key"]).to_string();
    for body in [
        json!({"do": "invite", "user": "zoe"}),
        json!({"do": "reissue", "user": "zoe"}),
        json!({"do": "add", "user": "eve", "roles": ["security_admin"]}),
        json!({"do": "key", "user": "zoe", "key": format!("02{key}")}),
        json!({"do": "remove_codes", "user": "zoe"}),
    ] {
        let (status, said) = house.post(&bob, "/api/v1/users", &body);
        assert!(matches!(status, 400 | 403), "{body}: {status} {said}");
    }
    let state = house.hub().gate().state();
    assert_eq!(state.known_by("user:zoe").unwrap().invitation, None);
    assert!(!state.subjects().contains_key("user:eve"));
    let refused = house.site.recorded().access.into_iter();
    let refused = refused.filter(|act| act.response == Response::Refused);
    assert!(refused.count() >= 4);
    house.token("zoe", PASSWORD);
    // What he may give, he may.
    let add = json!({"do": "add", "user": "max", "roles": ["observer"]});
    house.done(&bob, "/api/v1/users", &add);
}

#[test]
fn what_was_changed_beside_the_hub_is_on_record_before_anybody_is_let_in_by_it() {
    let house = House::new(123);
    let why = |user: &str| {
        let acts = house.recorded(user).into_iter();
        let why = acts.map(|act| text(&act.details["by"], "why"));
        why.collect::<Vec<_>>()
    };
    // Before the first of them logs in.
    let found = "credentials of user:bob found (password) in their file";
    assert_eq!(why("bob"), [found]);
    let change = |edit: fn(&mut Credentials)| {
        let changed = house.files().change("bob", |credentials| {
            edit(credentials);
            Ok::<_, CredentialStoreError>(())
        });
        changed.unwrap();
    };
    house.token("bob", PASSWORD);
    assert_eq!(why("bob").len(), 1, "nothing is new");
    change(|c| c.password = Some(hash(CHOSEN)));
    house.token("bob", CHOSEN);
    let changed = "credentials of user:bob changed (password) in their file";
    assert_eq!(why("bob"), [found, changed]);

    // No record, no way in.
    change(|c| c.password = Some(hash(PASSWORD)));
    house.site.disk.set_full(true);
    assert_eq!(house.log_in("bob", PASSWORD, None).0, 503);
    house.site.disk.set_full(false);

    // What changed while the hub was stopped is on record when it starts.
    let house = house.stopped();
    let changed = house.files().change("bob", |credentials| {
        credentials.password = None;
        credentials.add_key(sha256(&[b"key"])).unwrap();
        Ok::<_, CredentialStoreError>(())
    });
    changed.unwrap();
    house.files().remove("zoe").unwrap();
    let house = house.started();
    let last = house.recorded("bob").pop().unwrap();
    let why = text(&last.details["by"], "why");
    assert_eq!(
        why,
        "credentials of user:bob changed (password, keys) in their file"
    );
    let last = house.recorded("zoe").pop().unwrap();
    let why = text(&last.details["by"], "why");
    assert_eq!(why, "credentials of user:zoe removed in their file");
    assert_eq!(last.subject, "hub:hub-1");
    house.stopped().site.verify_is_clean();
}

/// The command line of somebody who has settings of their own.
struct Person<'a>(&'a House, &'static str);

impl Person<'_> {
    fn run(&self, args: &[&str]) -> std::process::Output {
        let mut command = weighbridge();
        command.env("XDG_CONFIG_HOME", self.0.dir.path().join(self.1));
        command.env_remove("WEIGHBRIDGE_URL");
        command.args(args).output().unwrap()
    }

    fn json(&self, args: &[&str]) -> Json {
        let output = self.run(&[args, &["--json"]].concat());
        assert_eq!(ended(&output), 0, "{args:?}: {}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn user(&self, args: &[&str]) -> Json {
        let url = self.0.url.trim_end_matches('/');
        self.json(&[&["user"], args, &["--url", url]].concat())
    }

    fn log_in(&self, user: &str, more: &[&str]) -> std::process::Output {
        let url = self.0.url.trim_end_matches('/');
        self.run(&[&["login", url, "--user", user], more].concat())
    }
}

#[test]
fn the_command_line_makes_users_at_a_running_hub() {
    let house = House::new(124);
    let file = house.dir.path().join("password");
    std::fs::write(&file, PASSWORD).unwrap();
    let password = ["--password-file", file.to_str().unwrap()];
    let (zoe, max) = (Person(&house, "zoe"), Person(&house, "max"));
    let url = house.url.trim_end_matches('/');
    let nobody = zoe.run(&["user", "list", "--url", url]);
    assert!(failed(&nobody).contains("log in by"), "{}", stderr(&nobody));
    assert_eq!(ended(&zoe.log_in("zoe", &password)), 0);
    let add = ["add", "max", "--role", "observer", "--no-codes"];
    let invitation = text(&zoe.user(&add), "invitation");
    let link = format!("{url}/#invitation={invitation}");
    let accept = [&["accept", &link][..], &password].concat();
    assert_eq!(max.user(&accept)["done"], "accepted");
    let twice = max.run(&[&["user"], &accept[..], &["--url", url]].concat());
    assert!(failed(&twice).contains("not open"), "{}", stderr(&twice));
    assert_eq!(ended(&max.log_in("max", &password)), 0);
    let refused = max.run(&["user", "invite", "zoe", "--url", url]);
    assert!(failed(&refused).contains("403"), "{}", stderr(&refused));
    let passwd = [&["user", "passwd", "zoe", "--url", url][..], &password].concat();
    let refused = max.run(&passwd);
    assert!(
        failed(&refused).contains("you are max"),
        "{}",
        stderr(&refused)
    );

    let standing = || {
        let users = zoe.user(&["list"])["users"].clone();
        let users = users.as_array().unwrap().iter();
        let max = users.clone().find(|user| user["name"] == "max").unwrap();
        (text(max, "standing"), max["password"].as_bool())
    };
    assert_eq!(standing(), ("in".to_owned(), Some(true)));
    zoe.user(&["expire", "max", "2026-01-01T00:00:00Z"]);
    assert_eq!(standing(), ("expired".to_owned(), Some(true)));
    zoe.user(&["expire", "max"]);
    zoe.user(&["remove", "max"]);
    assert_eq!(standing(), ("withdrawn".to_owned(), Some(false)));
    zoe.user(&["reissue", "max", "--no-codes"]);
    assert_eq!(standing(), ("in".to_owned(), Some(false)));
    let key = max.run(&["user", "invite", "max"]);
    assert!(failed(&key).contains("--url"), "{}", stderr(&key));
}

#[test]
fn a_program_logs_in_by_signing_a_challenge() {
    let house = House::new(125);
    let key = house.dir.path().join("mes.key");
    let mes = Identity::generate("mes");
    mes.save(&key).unwrap();
    let mut credentials = Credentials::new("bob").unwrap();
    credentials
        .add_key(possession::key_hash(&mes.public_key()).unwrap())
        .unwrap();
    house.files().remove("bob").unwrap();
    house.files().add(&credentials).unwrap();
    let key = key.to_str().unwrap();
    let person = Person(&house, "mes");
    let output = person.log_in("bob", &["--key", key, "--json"]);
    assert_eq!(ended(&output), 0, "{}", stderr(&output));
    let told: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["method"], "signature");
    let url = house.url.trim_end_matches('/');
    assert!(person.json(&["alarms", "--url", url])["alarms"].is_array());

    // Another key, another user, a key of the other suite.
    let zoe = person.log_in("zoe", &["--key", key]);
    assert!(failed(&zoe).contains("401"), "{}", stderr(&zoe));
    let other = house.dir.path().join("sm2.key");
    let sm2 = Identity::generate_of(weighbridge_verifier::Suite::Guomi, "mes");
    sm2.save(&other).unwrap();
    let other = person.log_in("bob", &["--key", other.to_str().unwrap()]);
    assert!(failed(&other).contains("P-256"), "{}", stderr(&other));

    // Who asks for something else to be signed gets nothing: a hub that is none.
    let listener = std::net::TcpListener::bind(ANY_PORT).unwrap();
    let address = listener.local_addr().unwrap();
    let trap = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut read = [0; 4096];
        let _ = stream.read(&mut read).unwrap();
        let body = json!({"challenge": "00", "text": "pay 1000 to eve\n"}).to_string();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).unwrap();
        // Nobody comes again with a signature.
        listener.set_nonblocking(true).unwrap();
        listener
    });
    let tricked = person.run(&[
        "login",
        &format!("http://{address}"),
        "--user",
        "bob",
        "--key",
        key,
    ]);
    assert!(
        failed(&tricked).contains("nothing was signed"),
        "{}",
        stderr(&tricked)
    );
    assert!(trap.join().unwrap().accept().is_err());
}

/// How often each was told, over all sums of these records.
pub fn sums(acts: &[RecordedAct]) -> std::collections::BTreeMap<String, u64> {
    let mut counted = std::collections::BTreeMap::new();
    for act in acts.iter().filter(|act| act.kind == "turned-away") {
        for sum in act.details["turned_away"].as_array().unwrap() {
            let what = format!("{}: {}", text(sum, "face"), text(sum, "why"));
            *counted.entry(what).or_default() += sum["count"].as_u64().unwrap();
        }
    }
    counted
}

#[test]
fn what_is_no_request_is_counted_by_its_kind_and_in_its_session() {
    let house = House::new(126);
    let bob = house.token("bob", PASSWORD);
    let big = json!({"password": "x".repeat(5_000), "new": "y"});
    let wrong = json!({"what": "is this"});
    for (token, method, path, body, status) in [
        (&*bob, "GET", "/api/v1/nothing", &Json::Null, 404),
        (&*bob, "DELETE", "/api/v1/devices", &Json::Null, 405),
        (&*bob, "POST", "/api/v1/devices", &wrong, 405),
        (&*bob, "POST", "/api/v1/own/password", &wrong, 400),
        (&*bob, "POST", "/api/v1/own/password", &big, 413),
        (&*bob, "GET", "/api/v1/blocks?limit=many", &Json::Null, 400),
        ("", "POST", "/api/v1/login", &wrong, 400),
        ("", "PUT", "/api/v1/login", &wrong, 405),
    ] {
        let (answered, said) = house.ask(token, method, path, body);
        assert_eq!(answered, status, "{method} {path}: {said}");
    }
    let address = house
        .url
        .trim_start_matches("http://")
        .trim_end_matches('/');
    let mut stream = TcpStream::connect(address).unwrap();
    let foreign = "GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    stream.write_all(foreign.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    house.done(&bob, "/api/v1/logout", &json!({}));
    let site = house.stopped().site;
    let acts = site.recorded().acts;
    let expected = [
        ("http: unknown address", 1),
        ("http: unknown method", 3),
        ("http: body that cannot be read", 2),
        ("http: too large", 1),
        ("http: parameter that cannot be read", 1),
        ("http: foreign host or origin", 1),
    ];
    let expected = expected.map(|(what, count)| (what.to_owned(), count));
    assert_eq!(sums(&acts), expected.into());
    // Whose they were.
    let end = acts.iter().find(|act| act.kind == "session-end").unwrap();
    assert_eq!(end.subject, "user:bob");
    let expected = json!({
        "unknown address": 1,
        "unknown method": 2,
        "body that cannot be read": 1,
        "too large": 1,
        "parameter that cannot be read": 1,
    });
    assert_eq!(end.details["malformed"], expected);
    site.verify_is_clean();
}

#[test]
fn who_may_not_see_who_may_what_learns_it_by_no_change() {
    let house = House::new(128);
    let bob = house.token("bob", PASSWORD);
    let (status, _) = house.ask(&bob, "GET", "/api/v1/access", &Json::Null);
    assert_eq!(status, 403);
    // Changes of which nothing is left to be done.
    for act in ["end_permits", "end_grant"] {
        let nothing = json!({"do": act, "id": "user:nobody"});
        let (status, said) = house.post(&bob, "/api/v1/access", &nothing);
        assert_eq!(status, 403, "{act}: {said}");
        assert!(!said.to_string().contains("user:zoe"), "{said}");
    }
    let refused = house.site.recorded().access.into_iter();
    let refused = refused.filter(|act| act.kind == "not-shown" && act.subject == "user:bob");
    assert_eq!(refused.count(), 3);
    let zoe = house.token("zoe", PASSWORD);
    let nothing = json!({"do": "end_permits", "id": "user:nobody"});
    assert!(house.done(&zoe, "/api/v1/access", &nothing)["subjects"].is_array());
}
