//! The HTTP face by TLS, as a user's program meets it.

use crate::support::{Plant, RunningHub, failed, run, run_json, stderr};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, StreamOwned};
use serde_json::{Value as Json, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use weighbridge::model::now;
use weighbridge::store::CredentialFiles;

pub const PASSWORD: &str = "open sesame";
const HTTP: &str = "[http]\nbind = \"127.0.0.1:0\"\n";

/// A plant whose HTTP face speaks TLS and asks who somebody is.
pub fn plant() -> Plant {
    plant_with("")
}

/// The same, with more in `[http]`.
pub fn plant_with(more: &str) -> Plant {
    let plant = Plant::without_machines();
    let file = plant.path("hub.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let secure = format!(
        "{HTTP}log_in = true\ntls = true\nhosts = [\"plant.example\"]\n\
         users = [{{ name = \"ann\", roles = [\"supervisor\"] }}, {{ name = \"bob\" }}, {{ name = \"kim\" }}]\n{more}"
    );
    assert!(text.contains(HTTP), "{text}");
    std::fs::write(&file, text.replace(HTTP, &secure)).unwrap();
    let password = plant.path("password");
    std::fs::write(&password, format!("{PASSWORD}\n")).unwrap();
    for user in ["ann", "bob"] {
        let (password, config) = (password.to_str().unwrap(), file.to_str().unwrap());
        run_json(&[
            "user",
            "add",
            user,
            "--password-file",
            password,
            "--json",
            "--config",
            config,
        ]);
    }
    let config = file.to_str().unwrap();
    run_json(&["user", "totp", "ann", "--json", "--config", config]);
    plant
}

pub fn code(plant: &Plant) -> String {
    let ann = CredentialFiles::new(&plant.path("users")).load("ann");
    ann.unwrap()
        .unwrap()
        .totp
        .unwrap()
        .secret
        .shown(now())
        .to_string()
}

/// Trusts the authority in `file`, and nobody else.
pub struct Client {
    config: Arc<ClientConfig>,
    port: u16,
}

pub struct Answer {
    version: ProtocolVersion,
    pub status: u16,
    head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find_map(|(found, value)| found.eq_ignore_ascii_case(name).then_some(value))
    }
}

impl Client {
    pub fn new(authority: &Path, hub: &RunningHub) -> Self {
        Self::with(authority, hub, rustls::DEFAULT_VERSIONS)
    }

    fn with(
        authority: &Path,
        hub: &RunningHub,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(authority).unwrap() {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let url = hub.http_url();
        assert!(url.starts_with("https://127.0.0.1:"), "{url}");
        let port = url.trim_end_matches('/').rsplit(':').next().unwrap();
        Self {
            config: Arc::new(config),
            port: port.parse().unwrap(),
        }
    }

    /// Sends a request whole, and reads until the hub ends the connection.
    fn send(&self, request: &str) -> std::io::Result<Answer> {
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(self.config.clone(), name).unwrap();
        let tcp = TcpStream::connect(("127.0.0.1", self.port))?;
        let mut stream = StreamOwned::new(connection, tcp);
        stream.write_all(request.as_bytes())?;
        let mut text = Vec::new();
        stream.read_to_end(&mut text)?;
        let text = String::from_utf8(text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Ok(Answer {
            version: stream.conn.protocol_version().unwrap(),
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_owned(),
            body: body.to_owned(),
        })
    }

    pub fn get(&self, path: &str, more: &str) -> Answer {
        let host = format!("Host: plant.example:{}\r\n", self.port);
        let request = format!("GET {path} HTTP/1.1\r\n{host}{more}Connection: close\r\n\r\n");
        self.send(&request).unwrap()
    }

    pub fn post(&self, path: &str, more: &str, body: &Json) -> Answer {
        let (host, body) = (format!("plant.example:{}", self.port), body.to_string());
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{more}\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        self.send(&request).unwrap()
    }

    pub fn log_in(&self, body: &Json) -> Answer {
        let own = format!("Origin: https://plant.example:{}\r\n", self.port);
        self.post("/api/v1/login", &own, body)
    }
}

#[test]
fn a_user_logs_in_over_tls_by_password_and_code_and_is_gone_after_log_out() {
    let plant = plant();
    let hub = plant.run_hub();
    let client = Client::new(&plant.path("pki/authority.crt"), &hub);
    let stranger = client.get("/api/v1/devices", "");
    assert_eq!(stranger.status, 401, "{}", stranger.body);
    assert_eq!(client.get("/healthz", "").status, 200);
    assert!(client.get("/", "").body.contains("id=\"login\""));

    let with = json!({"user": "ann", "password": PASSWORD, "code": code(&plant)});
    let answer = client.log_in(&with);
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.version, ProtocolVersion::TLSv1_3);
    let kept = answer.header("set-cookie").unwrap();
    assert!(
        kept.starts_with("__Host-") && kept.ends_with("; Secure"),
        "{kept}"
    );
    let strict = answer.header("strict-transport-security");
    assert_eq!(strict, Some("max-age=31536000"));
    let cookie = format!("Cookie: {}\r\n", kept.split(';').next().unwrap());
    let session = client.get("/api/v1/session", &cookie).json();
    assert_eq!(session["user"], "ann");
    assert_eq!(session["method"], "password_and_code");
    assert_eq!(client.get("/api/v1/status", &cookie).status, 200);
    // What is recorded names the user, who was let in by this face.
    let access = client.get("/api/v1/access", &cookie).json();
    let subjects = access["subjects"].as_array().unwrap();
    let find = |id: &str| subjects.iter().find(|s| s["id"] == id);
    assert!(find("user:ann").unwrap()["permits"]["read"].is_string());
    assert!(find("user:local").is_none(), "nobody is only local");

    assert_eq!(client.log_in(&with).status, 401, "a code counts once");
    let out = client.post("/api/v1/logout", &cookie, &json!({}));
    assert_eq!(out.json()["logged_out"], "ann");
    assert_eq!(client.get("/api/v1/status", &cookie).status, 401);

    // Older clients come by TLS 1.2.
    let old = &[&rustls::version::TLS12];
    let old = Client::with(&plant.path("pki/authority.crt"), &hub, old);
    assert_eq!(old.get("/healthz", "").version, ProtocolVersion::TLSv1_2);
    let (_, output) = hub.ends("-TERM");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!stderr(&output).contains(PASSWORD));
    plant.verify_is_clean();
}

#[test]
fn whoever_guesses_is_slowed_and_pages_of_others_do_nothing() {
    let plant = plant();
    let hub = plant.run_hub();
    let client = Client::new(&plant.path("pki/authority.crt"), &hub);
    let bob = json!({"user": "bob", "password": PASSWORD, "token": true});
    for origin in ["https://evil.example", "http://plant.example"] {
        let foreign = format!("Origin: {origin}\r\n");
        assert_eq!(client.post("/api/v1/login", &foreign, &bob).status, 403);
    }
    let request = "GET /healthz HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(client.send(request).unwrap().status, 421);
    // In plain nothing is said at all.
    let mut plain = TcpStream::connect(("127.0.0.1", client.port)).unwrap();
    plain.write_all(request.as_bytes()).unwrap();
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said);
    assert!(!String::from_utf8_lossy(&said).contains("HTTP"), "{said:?}");

    let token = client.log_in(&bob).json()["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let bearer = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(client.get("/api/v1/devices", &bearer).status, 200);
    let written = client.post(
        "/api/v1/access",
        &bearer,
        &json!({"do": "revoke", "id": "user:ann"}),
    );
    assert_eq!(written.status, 403, "an observer: {}", written.body);
    let wrong = json!({"user": "bob", "password": "something else"});
    let answers: Vec<_> = (0..6).map(|_| client.log_in(&wrong)).collect();
    let codes: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(codes[..3], [401; 3]);
    assert!(codes.contains(&429), "{codes:?}");
    let slowed = answers.iter().find(|a| a.status == 429).unwrap();
    assert!(slowed.header("retry-after").is_some());
    // Who is in is not slowed.
    assert_eq!(client.get("/api/v1/devices", &bearer).status, 200);
}

#[test]
fn the_site_s_authority_vouches_and_others_do_not() {
    let (plant, other) = (plant(), Plant::without_machines());
    let hub = plant.run_hub();
    let client = Client::new(&other.path("pki/authority.crt"), &hub);
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let error = client.send(request).err().unwrap().to_string();
    assert!(error.contains("certificate"), "{error}");
    drop(hub);

    std::fs::remove_file(plant.path("keys/https.key")).unwrap();
    let ended = RunningHub::try_start(&plant.path("hub.toml"))
        .err()
        .unwrap();
    let said = failed(&ended);
    assert!(said.contains("https.key") && said.contains("TLS"), "{said}");
}

#[test]
fn another_certificate_is_shown_to_who_connects_from_then_on() {
    let plant = plant();
    let hub = plant.run_hub();
    let client = Client::new(&plant.path("pki/authority.crt"), &hub);
    let shown = || {
        let name = ServerName::try_from("localhost").unwrap();
        // Without tickets of before: who comes back by one is shown nothing.
        let mut config = ClientConfig::clone(&client.config);
        config.resumption = rustls::client::Resumption::disabled();
        let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut tcp = TcpStream::connect(("127.0.0.1", client.port)).unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut tcp).unwrap();
        }
        connection.peer_certificates().unwrap()[0].to_vec()
    };
    let before = shown();
    let mut open = TcpStream::connect(("127.0.0.1", client.port)).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut running = ClientConnection::new(client.config.clone(), name).unwrap();
    let ask = |running: &mut ClientConnection, open: &mut TcpStream| {
        let mut stream = rustls::Stream::new(running, open);
        let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request).unwrap();
        let (mut answer, mut part) = (String::new(), [0; 512]);
        let whole = |answer: &str| {
            let (head, body) = answer.split_once("\r\n\r\n")?;
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            let length = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            Some(body.len() == length?.1.parse::<usize>().ok()?)
        };
        while whole(&answer) != Some(true) {
            let read = stream.read(&mut part).unwrap();
            assert_ne!(read, 0, "the connection is over: {answer}");
            answer += std::str::from_utf8(&part[..read]).unwrap();
        }
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    };
    ask(&mut running, &mut open);
    let config = plant.path("hub.toml");
    let config = config.to_str().unwrap();
    run_json(&[
        "certs", "issue", "hub", "hub-1", "--config", config, "--json",
    ]);
    let began = std::time::Instant::now();
    while shown() == before {
        assert!(
            began.elapsed() < crate::site::PATIENCE,
            "it shows the old one"
        );
        std::thread::sleep(std::time::Duration::from_millis(50));
        // The connection of before goes on meanwhile.
        ask(&mut running, &mut open);
    }
    ask(&mut running, &mut open);
}

#[test]
fn check_says_what_is_missing_beyond_loopback() {
    let plant = Plant::without_machines();
    let file = plant.path("hub.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let open = "[http]\nbind = \"0.0.0.0:8443\"\nlog_in = true\n";
    std::fs::write(&file, text.replace(HTTP, open)).unwrap();
    let output = run(&["check", file.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(78), "{said}");
    for part in [
        "reachable from other machines",
        "hub.toml:9:8",
        "add `tls = true`",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}
