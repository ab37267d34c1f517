//! Logging in by the command line, and the users that the OPC UA server had of its own.

use crate::https::{PASSWORD, code, plant_with};
use crate::support::{Plant, RunningHub, ended, failed, run, run_json, stderr, weighbridge};
use serde_json::Value as Json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

/// Somebody at a terminal of their own: their settings are theirs.
struct Person {
    settings: PathBuf,
    url: String,
}

impl Person {
    fn new(plant: &Plant, name: &str, hub: &RunningHub) -> Self {
        Self {
            settings: plant.path(name),
            url: hub.http_url().trim_end_matches('/').to_owned(),
        }
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = weighbridge();
        command.env("XDG_CONFIG_HOME", &self.settings);
        command
            .env_remove("WEIGHBRIDGE_CA")
            .env_remove("WEIGHBRIDGE_URL");
        command.args(args).output().unwrap()
    }

    fn json(&self, args: &[&str]) -> Json {
        let output = self.run(&[args, &["--json"]].concat());
        assert_eq!(ended(&output), 0, "{args:?}: {}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn log_in(&self, plant: &Plant, more: &[&str]) -> Output {
        let ca = plant.path("pki/authority.crt");
        let args = ["login", &self.url, "--ca", ca.to_str().unwrap(), "--json"];
        self.run(&[&args, more].concat())
    }

    fn file(&self) -> PathBuf {
        self.settings.join("weighbridge/sessions.json")
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_person_logs_in_asks_and_logs_out_by_the_command_line() {
    let plant = plant_with("");
    let hub = plant.run_hub();
    let person = Person::new(&plant, "settings", &hub);
    let status = ["status", "--url", &person.url];
    // Nobody is known, on either side.
    let said = failed(&person.run(&status));
    assert!(
        said.contains("--ca") && said.contains("weighbridge login"),
        "{said}"
    );
    let other = Plant::without_machines();
    let password = plant.path("password");
    let by_password = ["--user", "bob", "--password-file", text(&password)];
    let strange = person.log_in(&other, &by_password);
    let said = failed(&strange);
    assert!(said.contains("certificate"), "{said}");
    assert!(!person.file().exists());

    let output = person.log_in(&plant, &by_password);
    assert_eq!(ended(&output), 0, "{}", stderr(&output));
    let told: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&told["user"], &told["method"]),
        (&"bob".into(), &"password".into())
    );
    let mode = fs::metadata(person.file()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let kept = fs::read_to_string(person.file()).unwrap();
    assert!(!kept.contains(PASSWORD));
    let token = serde_json::from_str::<Json>(&kept).unwrap()["sessions"][&person.url]["token"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(token.len() > 40 && !String::from_utf8_lossy(&output.stdout).contains(&token));
    // Every command that asks a hub is bob now.
    assert_eq!(person.json(&status)["hub"], hub_id(&plant));
    assert!(person.json(&["alarms", "--url", &person.url])["alarms"].is_array());
    let refused = person.run(&["access", "--url", &person.url, "revoke", "user:ann"]);
    assert!(
        failed(&refused).contains("403"),
        "an observer: {}",
        stderr(&refused)
    );
    // Another person of this machine is not.
    let nobody = Person::new(&plant, "others", &hub);
    let known = plant.path("pki/authority.crt");
    let mut command = weighbridge();
    command.env("XDG_CONFIG_HOME", &nobody.settings);
    let asked = command
        .env("WEIGHBRIDGE_CA", known)
        .args(status)
        .output()
        .unwrap();
    let said = failed(&asked);
    assert!(said.contains("wants to know who you are"), "{said}");

    // By password and code, once; then by log-out.
    let code = code(&plant);
    let by_code = [
        "--user",
        "ann",
        "--password-file",
        text(&password),
        "--code",
        &code,
    ];
    assert_eq!(ended(&person.log_in(&plant, &by_code)), 0);
    let said = failed(&person.log_in(&plant, &by_code));
    assert!(said.contains("401"), "{said}");
    let out = person.json(&["logout"]);
    assert_eq!(
        (&out["user"], &out["told_the_hub"]),
        (&"ann".into(), &true.into())
    );
    assert!(failed(&person.run(&["logout"])).contains("logged in nowhere"));

    // A session that the hub has forgotten is said to be over.
    assert_eq!(ended(&person.log_in(&plant, &by_password)), 0);
    drop(hub);
    let port = person.url.rsplit(':').next().unwrap();
    let file = plant.path("hub.toml");
    let config = fs::read_to_string(&file).unwrap();
    let config = config.replace(
        "127.0.0.1:0\"\nlog_in",
        &format!("127.0.0.1:{port}\"\nlog_in"),
    );
    fs::write(&file, config).unwrap();
    let hub = plant.run_hub();
    assert_eq!(hub.http_url().trim_end_matches('/'), person.url);
    let said = failed(&person.run(&status));
    assert!(
        said.contains("is over") && said.contains("weighbridge login"),
        "{said}"
    );
}

fn hub_id(plant: &Plant) -> Json {
    let config = fs::read_to_string(plant.path("hub.toml")).unwrap();
    let line = config.lines().find_map(|line| line.strip_prefix("id = \""));
    line.unwrap().split('"').next().unwrap().into()
}

#[test]
fn a_certificate_over_tls_is_a_log_in_for_its_owner_alone() {
    let plant = plant_with("client_certificates = true\n");
    let config = plant.path("hub.toml");
    let own = |args: &[&str]| run_json(&[args, &["--json", "--config", text(&config)]].concat());
    own(&["user", "add", "kim", "--no-password"]);
    for user in ["kim", "bob"] {
        own(&["certs", "issue", "user", user]);
    }
    let hub = plant.run_hub();
    let person = Person::new(&plant, "settings", &hub);
    let with = |certificate: &str, key: &str, more: &[&str]| {
        let certificate = plant.path(&format!("pki/issued/user/{certificate}.crt"));
        let key = plant.path(&format!("keys/user-{key}.key"));
        let args = ["--certificate", text(&certificate), "--key", text(&key)];
        person.log_in(&plant, &[&args, more].concat())
    };
    let said = failed(&with("kim", "kim", &[]));
    assert!(said.contains("401"), "the key is nobody's yet: {said}");
    let certificate = plant.path("pki/issued/user/kim.crt");
    own(&["user", "key", "kim", "--add", text(&certificate)]);
    let output = with("kim", "kim", &[]);
    assert_eq!(ended(&output), 0, "{}", stderr(&output));
    let told: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&told["user"], &told["method"]),
        (&"kim".into(), &"certificate".into())
    );
    assert!(person.json(&["alarms", "--url", &person.url])["alarms"].is_array());
    assert!(failed(&with("kim", "kim", &["--user", "bob"])).contains("401"));
    let said = failed(&with("kim", "bob", &[]));
    assert!(said.contains("do not go together"), "{said}");
    // The page and everything else needs none.
    let password = plant.path("password");
    let by_password = ["--user", "bob", "--password-file", text(&password)];
    assert_eq!(ended(&person.log_in(&plant, &by_password)), 0);
}

#[test]
fn who_asks_too_often_waits_and_others_do_not() {
    let plant = plant_with("[access]\nrequests_per_second = 1\nsessions_per_user = 2\n");
    let hub = plant.run_hub();
    let password = plant.path("password");
    let by_password = ["--user", "bob", "--password-file", text(&password)];
    let people = ["one", "two", "three"].map(|name| Person::new(&plant, name, &hub));
    for person in &people {
        assert_eq!(ended(&person.log_in(&plant, &by_password)), 0);
    }
    // The third session of one user takes the place of the one that rested longest.
    let [first, second, person] = &people;
    let said = failed(&first.run(&["alarms", "--url", &first.url]));
    assert!(said.contains("is over"), "{said}");
    assert_eq!(ended(&second.run(&["alarms", "--url", &second.url])), 0);
    // Many at once: more than there may be in the time that they take.
    let asked: Vec<_> = std::thread::scope(|scope| {
        let ask = || person.run(&["alarms", "--url", &person.url]);
        let all: Vec<_> = (0..24).map(|_| scope.spawn(ask)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let slowed = asked.into_iter().find(|output| ended(output) != 0);
    let said = failed(&slowed.expect("nobody was slowed in 24 requests"));
    assert!(said.contains("429") && said.contains("too often"), "{said}");
    let code = code(&plant);
    let by_code = [
        "--user",
        "ann",
        "--password-file",
        text(&password),
        "--code",
        &code,
    ];
    let other = Person::new(&plant, "others", &hub);
    assert_eq!(ended(&other.log_in(&plant, &by_code)), 0);
    assert_eq!(ended(&other.run(&["alarms", "--url", &person.url])), 0);
}

#[test]
fn the_opc_ua_servers_own_users_become_the_hubs() {
    let plant = Plant::without_machines();
    let config = plant.path("hub.toml");
    let user = |name: &str, how: &str| {
        format!("[[opcua_server.users]]\nname = \"{name}\"\n{how}\nroles = [\"operator\"]\n")
    };
    let passwords = [("scada", PASSWORD), ("short", "1234"), ("Upper", PASSWORD)];
    let mut more = String::new();
    for (name, password) in passwords {
        let file = plant.path(&format!("keys/{name}.pw"));
        fs::write(&file, format!("{password}\n")).unwrap();
        more += &user(name, &format!("password_file = \"keys/{name}.pw\""));
    }
    let before = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{before}\n{more}")).unwrap();
    let adopted = run_json(&["user", "adopt", "--json", "--config", text(&config)]);
    assert_eq!(adopted["adopted"], serde_json::json!(["scada"]));
    assert_eq!(adopted["left"], serde_json::json!(["short", "Upper"]));
    let users = run_json(&["user", "list", "--json", "--config", text(&config)]);
    assert_eq!(users["users"][0]["name"], "scada");
    assert_eq!(users["users"][0]["password"], true);
    // A second time changes nothing.
    let again = run_json(&["user", "adopt", "--json", "--config", text(&config)]);
    assert_eq!(again["adopted"], serde_json::json!([]));

    // Both at once are refused, and what to do is said.
    let log_in = |users: &str| {
        let opcua = "[opcua_server]\n";
        assert!(before.contains(opcua), "{before}");
        let with = before.replace(opcua, &format!("{opcua}log_in = true\n"));
        fs::write(&config, format!("{with}\n{users}")).unwrap();
        run(&["check", text(&config)])
    };
    let both = log_in(&user("scada", "password_file = \"keys/scada.pw\""));
    assert_eq!(ended(&both), 78);
    let said = String::from_utf8_lossy(&both.stdout).into_owned() + &stderr(&both);
    assert!(said.contains("weighbridge user adopt"), "{said}");
    assert_eq!(ended(&log_in(&user("scada", ""))), 0);
}
