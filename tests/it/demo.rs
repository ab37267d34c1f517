//! `demo`, as the README shows it.

use crate::support::{ended, run, run_json, signal, weighbridge};
use serde_json::Value as Json;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

fn verified(dir: &Path) -> Json {
    let public = dir.join("keys/hub.pub");
    let trust = public.to_str().unwrap();
    let report = run_json(&["verify", dir.to_str().unwrap(), "--json", "--trust", trust]);
    assert_eq!(report["clean"], true);
    report
}

fn number(json: &Json, key: &str) -> u64 {
    json[key]
        .as_u64()
        .unwrap_or_else(|| panic!("{key}: {json}"))
}

/// Everything that the PLC said, as one file that its hub's key proves.
fn evidence_of_all(dir: &Path) {
    let file = dir.join("plc-1.evidence.json");
    let (at, file) = (dir.to_str().unwrap(), file.to_str().unwrap());
    let wanted = ["evidence", "plc-1", "--dir", at, "--settings", "-o", file];
    let made = run_json(&[&wanted[..], &["--json"]].concat());
    assert!(number(&made, "samples") > 100, "{made}");
    assert!(number(&made, "settings") > 0, "{made}");
    let trust = dir.join("keys/hub.pub");
    let trust = trust.to_str().unwrap();
    let said = run_json(&["verify", file, "--trust", trust, "--json"]);
    assert_eq!(
        (&said["clean"], &said["trust"]),
        (&true.into(), &"key".into())
    );
    let samples = said["samples"].as_array().unwrap();
    assert_eq!(samples.len() as u64, number(&made, "samples"));
    assert!(samples.iter().all(|s| s["device"] == "plc-1"));
    // Too much, nothing there, and a tag that is none are errors that say so.
    let refused = [
        (["--limit", "10"], "over 10 samples"),
        (["--to", "1000"], "no stored sample"),
        (["--", "nothing"], "no tag `nothing`"),
    ];
    for (more, why) in refused {
        let output = run(&[&wanted[..], &more].concat());
        assert_eq!(ended(&output), 1);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn the_demo_shows_every_verdict_and_is_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("cell");
    let at = dir.to_str().unwrap();
    let output = run(&["demo", "--headless", "--for", "20", "--json", "--dir", at]);
    assert_eq!(ended(&output), 0);
    let said = String::from_utf8(output.stderr).unwrap();
    let demo: Json = serde_json::from_slice(&output.stdout).unwrap();
    for url in ["http_url", "opcua_url"] {
        let url = demo[url].as_str().unwrap();
        assert!(said.contains(url), "{url} is not in {said}");
    }
    let verdicts = ["accepted", "out_of_control", "invalid"].map(|v| number(&demo, v));
    assert!(verdicts.iter().all(|v| *v > 0), "{demo}");
    assert_eq!(number(&demo, "batches"), verdicts.iter().sum::<u64>());
    assert!(number(&demo, "points") > 0);
    assert!(number(&demo, "blocks") >= 10, "{demo}");
    assert!(number(&demo, "first_block_ms") > 0);

    let report = verified(&dir);
    assert_eq!(report["height"], demo["height"]);
    assert_eq!(report["block_hash"], demo["last_block_hash"]);
    let totals = ["accepted", "out_of_control", "invalid"].map(|v| number(&report["totals"], v));
    assert_eq!(totals, verdicts);
    let records = run_json(&["records", "--dir", at, "--limit", "1000", "--json"]);
    let mut devices: Vec<&str> = records["records"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|r| r["content"]["batch"]["device"].as_str())
        .collect();
    devices.sort_unstable();
    devices.dedup();
    assert!(devices.len() >= 5, "{devices:?}");

    evidence_of_all(&dir);

    let again = run(&["demo", "--headless", "--for", "2", "--json", "--dir", at]);
    assert_eq!(ended(&again), 0);
    let again: Json = serde_json::from_slice(&again.stdout).unwrap();
    assert!(number(&again, "height") > number(&demo, "height"));
    assert_eq!(
        number(&again, "height"),
        number(&demo, "height") + number(&again, "blocks")
    );
    assert_eq!(verified(&dir)["height"], again["height"]);
}

#[test]
#[cfg(unix)]
fn the_demo_ends_well_when_it_is_interrupted() {
    let mut demo = weighbridge()
        .args(["demo", "--headless", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The addresses are said once it is up.
    let mut said = BufReader::new(demo.stderr.take().unwrap()).lines();
    for name in ["dashboard", "OPC UA"] {
        let line = said.next().unwrap().unwrap();
        assert!(line.starts_with(name), "{line}");
    }
    signal(&demo, "-INT");
    let output = demo.wait_with_output().unwrap();
    let rest: Vec<String> = said.map(Result::unwrap).collect();
    assert_eq!(output.status.code(), Some(0), "{rest:?}");
    let summary: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert!(number(&summary, "height") >= 1);
}
