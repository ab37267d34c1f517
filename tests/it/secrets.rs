//! Secrets: in no log, no error, no answer and no file but their own; no core dumps, no file for others, and no
//! TLS before 1.2.

use crate::https::{Client, PASSWORD, code, plant};
use crate::support::{Plant, RunningHub, run, stderr, weighbridge};
use data_encoding::{BASE64, HEXLOWER, HEXUPPER};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use weighbridge::crypto::{Identity, Signer};
use weighbridge::sim::bench_server::BenchServers;
use weighbridge::store::CredentialFiles;

/// A wrong password is often nearly the right one, or that of another place.
const GUESS: &str = "canary-of-a-wrong-password";
/// What is recorded of a press is for who holds the key.
const SET_POINT: u64 = 0x6361_6E61_7279_2121;
const COMMENT: &str = "canary-of-a-comment";

/// Something that may be in no output, in every form that it could have there.
struct Secret {
    what: String,
    forms: Vec<String>,
    /// The only file where it may be.
    own: Option<PathBuf>,
}

impl Secret {
    fn text(what: &str, text: &str, own: Option<PathBuf>) -> Self {
        let encoded = BASE64.encode(text.as_bytes());
        let forms = [text, &HEXLOWER.encode(text.as_bytes()), &encoded];
        Self {
            what: what.to_owned(),
            forms: forms.map(str::to_owned).into(),
            own,
        }
    }

    /// Of a private key in a PEM file: lines of it, and the number itself.
    fn key(file: &Path) -> Self {
        let pem = std::fs::read_to_string(file).unwrap();
        let lines: Vec<&str> = pem.lines().filter(|line| !line.contains("-----")).collect();
        let der = BASE64.decode(lines.concat().as_bytes()).unwrap();
        // Every private key here has an octet string of 32 bytes in it, or is one of RSA, whose middle is
        // as secret as the rest of it.
        let at = der.windows(2).rposition(|pair| pair == [4, 32]);
        let number = match at {
            Some(at) if at + 34 <= der.len() => &der[at + 2..at + 34],
            _ => &der[der.len() / 2..der.len() / 2 + 32],
        };
        let mut forms = vec![
            searched(number),
            HEXLOWER.encode(number),
            HEXUPPER.encode(number),
            BASE64.encode(number).trim_end_matches('=').to_owned(),
        ];
        let long = lines.iter().filter(|line| line.len() >= 40);
        forms.extend(long.map(|line| (*line).to_owned()));
        Self {
            what: file.display().to_string(),
            forms,
            own: Some(file.to_owned()),
        }
    }

    /// Whether it is in a place that is made [`searched`].
    fn is_in(&self, place: &str) -> bool {
        self.forms.iter().any(|form| place.contains(form))
    }
}

/// Bytes as a text that is as quick to search as texts are: each byte is the character of its number.
fn searched(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// What is in a file, to be searched.
fn inside(file: &Path) -> String {
    searched(&std::fs::read(file).unwrap())
}

/// All files below `dir`.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

/// A plant as of [`plant`] with a press that takes set points, and one that is not there.
fn with_presses(press: SocketAddr) -> Plant {
    let plant = plant();
    let tag = format!(
        "[[device.tag]]\nname = \"setpoint\"\nwritable = true\n\
         modbus = {{ holding_register = 0, type = \"u64\" }}\n"
    );
    plant.configure(&format!(
        "\n[[device]]\nid = \"press-1\"\nmodbus = {{ address = \"{press}\", period_ms = 20 }}\n{tag}\
         \n[[device]]\nid = \"press-2\"\nmodbus = {{ address = \"127.0.0.1:9\", period_ms = 20 }}\n{tag}"
    ));
    plant
}

/// A hub that says everything it can, and where that goes.
fn start(plant: &Plant) -> (RunningHub, PathBuf) {
    let log = plant.path("hub.log");
    let file = std::fs::File::create(&log).unwrap();
    let config = plant.path("hub.toml");
    let hub = RunningHub::try_start_logging(&config, "trace", Stdio::from(file));
    let hub = hub.unwrap_or_else(|output| panic!("{}", stderr(&output)));
    (hub, log)
}

/// Asks until it is done: the machine has to be connected first.
fn until_done(client: &Client, path: &str, token: &str, body: &serde_json::Value) -> String {
    let mut said = String::new();
    for _ in 0..600 {
        let answer = client.post(path, token, body);
        if answer.status == 200 {
            return answer.body;
        }
        said = answer.body;
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{path}: {said}");
}

#[test]
fn no_secret_is_in_any_log_answer_or_file_but_its_own() {
    let machines = BenchServers::start(1, 8).unwrap();
    let plant = with_presses(machines.addresses().next().unwrap());
    std::fs::remove_file(plant.path("password")).unwrap();
    let (mut hub, log) = start(&plant);
    let client = Client::new(&plant.path("pki/authority.crt"), &hub);

    // Everything that was said to whoever, with where.
    let mut said: Vec<(String, Vec<u8>)> = Vec::new();
    let wrong = client.log_in(&json!({"user": "ann", "password": GUESS, "code": "000000"}));
    assert_eq!(wrong.status, 401, "{}", wrong.body);
    said.push(("a wrong log-in".into(), wrong.body.into_bytes()));
    let malformed = client.log_in(&json!({"user": "ann", "password": [PASSWORD]}));
    assert_eq!(malformed.status, 400);
    said.push(("a malformed log-in".into(), malformed.body.into_bytes()));
    let right = json!({"user": "ann", "password": PASSWORD, "code": code(&plant), "token": true});
    // After a wrong log-in there is a wait.
    let let_in = (0..100).find_map(|_| {
        let answer = client.log_in(&right);
        if answer.status == 200 {
            return Some(answer.json());
        }
        assert_eq!(answer.status, 429, "{}", answer.body);
        std::thread::sleep(Duration::from_millis(100));
        None
    });
    let let_in = let_in.expect("the wait ends");
    let token = let_in["token"].as_str().unwrap().to_owned();
    let bearer = format!("Authorization: Bearer {token}\r\n");

    let set = json!({ "setpoint": SET_POINT.to_string() });
    until_done(&client, "/api/v1/devices/press-1/write", &bearer, &set);
    let comment = json!({"id": "press-2", "comment": COMMENT});
    until_done(&client, "/api/v1/alarms/comment", &bearer, &comment);
    let failing = client.post("/api/v1/devices/press-2/write", &bearer, &set);
    assert_eq!(failing.status, 503, "{}", failing.body);
    for path in [
        "/api/v1/status",
        "/api/v1/devices",
        "/api/v1/records?limit=100",
        "/api/v1/access",
        "/api/v1/session",
        "/metrics",
        "/healthz",
        "/",
    ] {
        let answer = client.get(path, &bearer);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        said.push((path.to_owned(), answer.body.into_bytes()));
    }

    // A configuration that is wrong, and one that is right again.
    let config = plant.path("hub.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    for (text, event) in [
        (format!("{text}\nwrong = 1\n"), "refused"),
        (text, "applied"),
    ] {
        std::fs::write(&config, text).unwrap();
        let told = hub.next_config_event().to_string();
        let _ = event;
        said.push(("what is said of a configuration".into(), told.into_bytes()));
    }
    let erase = json!({"until": weighbridge::model::rfc3339(weighbridge::model::now())});
    let erased = client.post("/api/v1/devices/press-1/erase", &bearer, &erase);
    assert_eq!(
        erased.status, 403,
        "a supervisor does not erase: {}",
        erased.body
    );

    // Killed, so that files are as they are in the middle of things.
    hub.kill();
    let (config, users) = (config.to_str().unwrap(), plant.path("users"));
    for command in [
        ["check", config].as_slice(),
        &["user", "list", "--json", "--config", config],
        &["certs", "list", "--config", config],
        &["access", "list", "--config", config],
        &[
            "records",
            "--dir",
            plant.path("").to_str().unwrap(),
            "--json",
        ],
        &["verify", plant.path("data").to_str().unwrap()],
    ] {
        let output = run(command);
        said.push((command.join(" "), output.stdout));
        said.push((format!("{command:?}, errors"), output.stderr));
    }
    said.push(("the log".into(), std::fs::read(&log).unwrap()));
    assert!(
        said.last().unwrap().1.len() > 10_000,
        "a log at trace level is long"
    );

    let mut secrets = vec![
        Secret::text("the password", PASSWORD, None),
        Secret::text("a wrong password", GUESS, None),
        Secret::text("a session's token", &token, None),
    ];
    let ann = CredentialFiles::new(&users).load("ann").unwrap().unwrap();
    let seed = ann.totp.unwrap().secret.to_base32();
    secrets.push(Secret::text(
        "the seed of codes",
        &seed,
        Some(users.join("ann.json")),
    ));
    let keys = files(&plant.path("")).into_iter();
    let keys = keys.filter(|file| {
        std::fs::read_to_string(file).is_ok_and(|text| text.contains("PRIVATE KEY-----"))
    });
    let keys: Vec<_> = keys.map(|file| Secret::key(&file)).collect();
    // Signing, sealing, checkpoints, the authority, HTTP, OPC UA.
    assert!(keys.len() >= 6, "{} private keys", keys.len());
    secrets.extend(keys);
    // The search finds what is there.
    let known = Secret::text("what a certificate begins with", "BEGIN CERTIFICATE", None);
    assert!(known.is_in(&inside(&plant.path("pki/authority.crt"))));
    for secret in &secrets {
        if let Some(own) = &secret.own {
            assert!(secret.is_in(&inside(own)), "{}", secret.what);
        }
    }
    for (place, bytes) in &said {
        let bytes = searched(bytes);
        for secret in &secrets {
            assert!(!secret.is_in(&bytes), "{} is in {place}", secret.what);
        }
    }
    // What people and machines said is sealed wherever it is kept.
    secrets.push(Secret::text("a comment", COMMENT, None));
    secrets.push(Secret {
        what: "a set point".into(),
        forms: vec![
            SET_POINT.to_string(),
            searched(&SET_POINT.to_be_bytes()),
            searched(&SET_POINT.to_le_bytes()),
        ],
        own: None,
    });
    for file in files(&plant.path("")) {
        if file == log {
            continue;
        }
        let bytes = inside(&file);
        for secret in secrets.iter().filter(|s| s.own.as_ref() != Some(&file)) {
            let what = &secret.what;
            assert!(!secret.is_in(&bytes), "{what} is in {}", file.display());
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_hub_leaves_no_core_dump() {
    let plant = Plant::without_machines();
    let hub = plant.run_hub();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", hub.id())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let words: Vec<_> = core.unwrap().split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "{core:?}");
    // What is not dumpable belongs to root (proc(5)), and can be read by nobody else of its user: who is
    // root sees that in the mode of its memory alone, so it is asked what the kernel says of the rest.
    use std::os::unix::fs::MetadataExt;
    let owner = std::fs::metadata(format!("/proc/{}/environ", hub.id())).unwrap();
    assert_eq!((owner.uid(), owner.gid()), (0, 0));
}

#[cfg(unix)]
#[test]
fn every_file_is_for_its_owner_alone_whatever_the_umask() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let site = dir.path().join("plant");
    let at = |file: &str| site.join(file).to_str().unwrap().to_owned();
    let open = |args: &[&str]| {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "umask 000; exec \"$0\" \"$@\""]);
        shell.arg(weighbridge().get_program()).args(args);
        shell
    };
    let done = |args: &[&str]| {
        let output = open(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    };
    done(&["init", &at("")]);
    let config = at("hub.toml");
    let machines = BenchServers::start(1, 8).unwrap();
    let press = machines.addresses().next().unwrap();
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace("127.0.0.1:8080", "127.0.0.1:0");
    let text = text.replace("127.0.0.1:4840", "127.0.0.1:0")
        + &format!(
            "\n[[device]]\nid = \"press-1\"\nmodbus = {{ address = \"{press}\", period_ms = 20 }}\n\
             [[device.tag]]\nname = \"force\"\nmodbus = {{ holding_register = 0 }}\n"
        );
    std::fs::write(&config, text).unwrap();
    std::fs::write(at("password"), "open sesame\n").unwrap();
    done(&[
        "user",
        "add",
        "ann",
        "--password-file",
        &at("password"),
        "--config",
        &config,
    ]);
    done(&["user", "totp", "ann", "--json", "--config", &config]);
    std::fs::remove_file(at("password")).unwrap();
    let mut hub = open(&["run", "--json", "--config", &config]);
    let mut hub = hub
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(hub.stdout.take().unwrap()));
    // Up, and some blocks.
    for _ in 0..5 {
        lines.next().expect("the hub goes on").unwrap();
    }
    hub.kill().unwrap();
    hub.wait().unwrap();
    done(&["checkpoint", "--dir", &at(""), "-o", &at("note")]);
    let mut looked_at = 0;
    let mut dirs = vec![site.clone()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
            looked_at += 1;
            if path.is_dir() {
                dirs.push(path);
            }
        }
    }
    assert!(looked_at > 20, "{looked_at} files and directories");
}

/// A ClientHello of TLS 1.1 (RFC 4346, 7.4.1.2), which offers what most servers of its time took.
fn old_hello() -> Vec<u8> {
    let suites = [0xC0, 0x13, 0xC0, 0x14, 0x00, 0x2F, 0x00, 0x35];
    // supported_groups: secp256r1, secp384r1; ec_point_formats: uncompressed.
    let extensions = [0, 10, 0, 6, 0, 4, 0, 23, 0, 24, 0, 11, 0, 2, 1, 0];
    let mut body = vec![3, 2];
    body.extend([7; 32]);
    body.extend([0, 0, suites.len() as u8]);
    body.extend(suites);
    body.extend([1, 0, 0, extensions.len() as u8]);
    body.extend(extensions);
    let mut hello = vec![22, 3, 1, 0, body.len() as u8 + 4, 1, 0, 0, body.len() as u8];
    hello.extend(body);
    hello
}

#[test]
fn nobody_is_spoken_to_in_tls_1_1() {
    let plant = plant();
    let node = Identity::generate("edge-1").public_key();
    plant.configure(&format!(
        "\n[edges]\nbind = \"127.0.0.1:0\"\n[[edges.node]]\nid = \"edge-1\"\nkey = \"{node}\"\n"
    ));
    let hub = plant.run_hub();
    let http = hub.http_url().trim_start_matches("https://");
    let edges = hub.up["edge_address"].as_str().unwrap();
    for address in [http.trim_end_matches('/'), edges] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&old_hello()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let mut said = Vec::new();
        // It may be reset, with the alert or without.
        let _ = stream.read_to_end(&mut said);
        let refused = said.is_empty() || said.first() == Some(&21) && said.get(5) == Some(&2);
        assert!(refused, "{address} says {said:?}");
    }
}
