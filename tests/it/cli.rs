//! The command line as a person or a script meets it.

use crate::support::{Plant, ended, failed, run, run_json, stderr};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
#[cfg(unix)]
fn an_interrupted_hub_ends_in_good_order_with_everything_it_acknowledged() {
    let plant = Plant::start();
    let mut hub = plant.run_hub();
    let mut acknowledged: Vec<_> = (0..5).map(|_| hub.next_block()).collect();
    // Somebody has the dashboard open.
    let address = hub.http_url().trim_start_matches("http://");
    let address = address.trim_end_matches('/').to_owned();
    let mut dashboard = TcpStream::connect(&address).unwrap();
    let request = format!("GET /api/v1/events HTTP/1.1\r\nHost: {address}\r\n\r\n");
    dashboard.write_all(request.as_bytes()).unwrap();
    let mut answer = [0; 12];
    dashboard.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");

    let began = Instant::now();
    let (last, output) = hub.ends("-INT");
    assert_eq!(ended(&output), 0, "{}", stderr(&output));
    assert!(began.elapsed() < Duration::from_secs(10));
    acknowledged.extend(last);

    plant.verify_is_clean();
    let ledger = plant.open_ledger();
    let tip = ledger.tip().unwrap().unwrap();
    let newest = acknowledged.last().unwrap();
    assert_eq!(
        (newest.height, &newest.hash),
        (tip.height, &tip.hash().to_string())
    );
    for pair in acknowledged.windows(2) {
        assert_eq!(pair[0].height + 1, pair[1].height, "every block is told of");
    }
    for block in acknowledged {
        let recorded = ledger.block(block.height).unwrap().unwrap();
        assert_eq!(recorded.header.hash().to_string(), block.hash);
        let batches = recorded.records.iter().filter_map(|r| r.body.batch());
        let batches = batches.map(|b| (b.device.clone(), b.epoch, b.sequence));
        assert_eq!(batches.collect::<Vec<_>>(), block.batches);
    }
}

#[test]
#[cfg(unix)]
fn a_hub_that_is_terminated_ends_in_good_order_too() {
    let plant = Plant::without_machines();
    let (_, output) = plant.run_hub().ends("-TERM");
    assert_eq!(ended(&output), 0, "{}", stderr(&output));
    plant.verify_is_clean();
}

#[test]
fn a_port_that_is_taken_is_named() {
    let plant = Plant::without_machines();
    let config = plant.path("hub.toml");
    let right = fs::read_to_string(&config).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let free = "bind = \"127.0.0.1:0\"";
    for (section, why) in [
        ("[http]", "because another program does"),
        ("[opcua_server]", "in use"),
    ] {
        let own = format!("{section}\n{free}");
        let wrong = right.replace(&own, &format!("{section}\nbind = \"{address}\""));
        assert_ne!(wrong, right);
        fs::write(&config, wrong).unwrap();
        let said = failed(&run(&["run", "--config", text(&config)]));
        assert!(said.contains(&address), "{said}");
        assert!(said.contains(why), "{said}");
    }
    fs::write(&config, right).unwrap();
    plant.run_hub().kill();
    plant.verify_is_clean();
}

#[test]
fn a_directory_in_use_is_left_alone_with_a_word_on_how() {
    let plant = Plant::without_machines();
    let hub = plant.run_hub();
    let data = plant.path("data");
    let said = failed(&run(&["verify", text(&data)]));
    assert!(said.contains("in use by another process"), "{said}");
    assert!(said.contains("stop the hub first"), "{said}");
    for listing in ["blocks", "records"] {
        let said = failed(&run(&[listing, "--dir", text(&data)]));
        assert!(said.contains("in use"), "{said}");
        assert!(said.contains("--url"), "{said}");
    }
    let again = run(&["run", "--config", text(&plant.path("hub.toml"))]);
    assert!(failed(&again).contains("in use by another process"));
    // The running hub was not disturbed, and answers.
    let status = run_json(&["status", "--json", "--url", hub.http_url()]);
    assert_eq!(status["hub"], "hub-1");
    let blocks = run_json(&["blocks", "--json", "--url", hub.http_url()]);
    let blocks = blocks["blocks"].as_array().unwrap();
    assert_eq!(blocks.last().unwrap()["height"], 1);
    let records = run_json(&["records", "--json", "--url", hub.http_url()]);
    let records = records["records"].as_array().unwrap();
    assert_eq!(records.last().unwrap()["action"], "enrol");
    hub.kill();
    plant.verify_is_clean();
}

#[test]
fn verify_trusts_the_key_it_is_told_and_no_other() {
    let plant = Plant::without_machines();
    plant.run_hub().kill();
    let data = plant.path("data");
    let public = plant.path("keys/hub.pub");
    let alone = run_json(&["verify", text(&data), "--json"]);
    assert_eq!(alone["clean"], true);
    assert_eq!(alone["trust"], "self_consistent_only");
    let trusted = run_json(&["verify", text(&data), "--json", "--trust", text(&public)]);
    assert_eq!(trusted["trust"], "key");
    let digits = fs::read_to_string(&public).unwrap();
    let trusted = run(&[
        "verify",
        text(plant.path("").as_path()),
        "--trust",
        digits.trim(),
    ]);
    assert_eq!(ended(&trusted), 0);
    let said = String::from_utf8(trusted.stdout).unwrap();
    assert!(said.ends_with("clean, under the trusted key\n"), "{said}");

    let other = Plant::without_machines();
    let foreign = text(&other.path("keys/hub.pub")).to_owned();
    let refused = run(&["verify", text(&data), "--trust", &foreign]);
    assert_eq!(ended(&refused), 1);
    let said = String::from_utf8(refused.stdout).unwrap();
    assert!(said.contains("NOT CLEAN"), "{said}");
    let refused = run(&["verify", text(&data), "--json", "--trust", &foreign]);
    assert_eq!(ended(&refused), 1);
    let report: serde_json::Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!(report["clean"], false);
    assert_ne!(report["finding_count"], 0);
    // What is no key at all is a mistake on the command line.
    assert_eq!(ended(&run(&["verify", text(&data), "--trust", "00"])), 2);
}

#[test]
#[cfg(unix)]
fn a_key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let plant = Plant::without_machines();
    let config = plant.path("hub.toml");
    for key in ["keys/hub.key", "keys/sealing.key"] {
        let key = plant.path(key);
        for mode in [0o640, 0o604, 0o644, 0o620] {
            fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
            let said = failed(&run(&["run", "--config", text(&config)]));
            assert!(said.contains(&format!("mode {mode:o}")), "{said}");
            assert!(
                said.contains(&format!("chmod 600 {}", text(&key))),
                "{said}"
            );
        }
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    }
    // Nothing was begun under a key that was refused.
    assert!(!plant.path("data").exists());
    plant.run_hub().kill();
    // A key that is none, and one that is not there.
    let key = plant.path("keys/hub.key");
    fs::write(&key, "-----BEGIN PRIVATE KEY-----\n").unwrap();
    let said = failed(&run(&["run", "--config", text(&config)]));
    assert!(said.contains("holds no P-256 or SM2 private key"), "{said}");
    fs::remove_file(&key).unwrap();
    let said = failed(&run(&["run", "--config", text(&config)]));
    assert!(said.contains("cannot be read"), "{said}");
}

#[test]
fn mistakes_in_a_configuration_are_shown_where_they_are() {
    let plant = Plant::without_machines();
    let config = plant.path("hub.toml");
    let right = fs::read_to_string(&config).unwrap();
    let wrong = right
        .replace("max_records = 8", "max_record = 8")
        .replace("max_delay_ms = 10", "max_delay_ms = \"ten\"");
    fs::write(&config, wrong).unwrap();
    let output = run(&["run", "--config", text(&config)]);
    assert_eq!(ended(&output), 78);
    let said = stderr(&output);
    for shown in ["hub.toml:5:1", "^^^^^^^^^^", "max_records", "hub.toml:6:"] {
        assert!(said.contains(shown), "{shown} is not in:\n{said}");
    }
    assert!(!plant.path("data").exists());
    let check = run(&["check", "--json", text(&config)]);
    assert_eq!(ended(&check), 78);
    let check: serde_json::Value = serde_json::from_slice(&check.stdout).unwrap();
    assert_eq!(check["ok"], false);
    let missing = run(&["run", "--config", text(&plant.path("nowhere.toml"))]);
    assert_eq!(ended(&missing), 78);
    assert!(stderr(&missing).contains("nowhere.toml"));
    fs::write(&config, right).unwrap();
    assert_eq!(run_json(&["check", "--json", text(&config)])["ok"], true);
}

#[test]
fn init_never_overwrites_anything() {
    let plant = Plant::without_machines();
    let files = [
        "hub.toml",
        "keys/hub.key",
        "keys/sealing.key",
        "keys/hub.pub",
    ];
    let contents = || files.map(|f| fs::read(plant.path(f)).unwrap());
    let before = contents();
    let dir = plant.path("");
    let said = failed(&run(&["init", text(&dir)]));
    assert!(
        said.contains("is already there, and nothing is overwritten"),
        "{said}"
    );
    assert_eq!(contents(), before);
    // One file is enough to stop it, and then nothing is made.
    for file in &files[1..] {
        fs::remove_file(plant.path(file)).unwrap();
    }
    assert!(failed(&run(&["init", text(&dir)])).contains("hub.toml"));
    assert!(!plant.path("keys/hub.key").exists());
}

#[test]
fn what_is_printed_as_json_is_json() {
    let dir = tempfile::tempdir().unwrap();
    let plant = dir.path().join("plant");
    let made = run_json(&["init", text(&plant), "--json"]);
    assert_eq!(made["hub"], "hub-1");
    let csv = dir.path().join("history.csv");
    let rows: String = (0..60).map(|i| format!("{}\n", 20 + i % 7)).collect();
    fs::write(&csv, format!("pressure\n{rows}")).unwrap();
    let labels = dir.path().join("labels.csv");
    let (csv, out) = (text(&csv), text(&labels));
    let replayed = run_json(&[
        "replay",
        "--csv",
        csv,
        "--phase1-rows",
        "20",
        "--json",
        "-o",
        out,
    ]);
    assert_eq!(replayed["rows"], 60);
    assert_eq!(fs::read_to_string(&labels).unwrap().lines().count(), 61);
    let cell = run(&["sim", "--json", "--for", "1"]);
    assert_eq!(ended(&cell), 0, "{}", stderr(&cell));
    for line in String::from_utf8(cell.stdout).unwrap().lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = run(&["completions", shell]);
        assert_eq!(ended(&output), 0);
        let script = String::from_utf8(output.stdout).unwrap();
        for command in [
            "demo", "init", "run", "check", "sim", "verify", "replay", "prove", "evidence",
        ] {
            assert!(script.contains(command), "{shell} does not know {command}");
        }
    }
    assert_eq!(ended(&run(&["completions", "tea"])), 2);
}
