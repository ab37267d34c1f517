//! An edge node in a process of its own, set up by the command line alone, and killed at any moment.

use crate::support::{self, Plant};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

fn output(args: &[&str]) -> String {
    let output = support::run(args);
    assert!(output.status.success(), "{}", support::stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn card(config: &Path) -> String {
    output(&["edge", "card", "--config", config.to_str().unwrap()])
}

/// Lets the edge node show its status at a port that is free.
fn any_port(file: &Path) {
    let edge = std::fs::read_to_string(file).unwrap();
    std::fs::write(file, edge.replace("127.0.0.1:8081", "127.0.0.1:0")).unwrap();
}

/// Lets an edge node read the plant's machines for its hub; the edge node's file, without the hub.
fn move_machines_to_an_edge_node(plant: &Plant) -> PathBuf {
    let dir = plant.path("cell");
    output(&["edge", "init", dir.to_str().unwrap(), "--id", "edge-1"]);
    let (hub_file, edge_file) = (plant.path("hub.toml"), dir.join("edge.toml"));
    any_port(&edge_file);
    let hub = std::fs::read_to_string(&hub_file).unwrap();
    let (hub, machines) = hub.split_at(hub.find("\n[[device]]").unwrap());
    let edge = std::fs::read_to_string(&edge_file).unwrap() + machines;
    std::fs::write(&edge_file, edge).unwrap();
    let edges = "\n[edges]\nbind = \"127.0.0.1:0\"\n";
    std::fs::write(&hub_file, hub.to_owned() + edges + &card(&edge_file)).unwrap();
    edge_file
}

/// What `/proc` says of a process's memory, in bytes (proc_pid_status(5)).
#[cfg(target_os = "linux")]
fn memory(process: u32, of: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(of));
    let kilobytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kilobytes.parse::<u64>().unwrap() << 10
}

/// Starts an edge node and waits until it is up; what it says later nobody hears.
fn run_edge(file: &Path) -> Child {
    let mut edge = support::weighbridge()
        .args(["run", "--json", "--config", file.to_str().unwrap()])
        .env("RUST_LOG", "error")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(edge.stdout.take().unwrap());
    let mut up = String::new();
    said.read_line(&mut up).unwrap();
    assert!(up.contains("\"event\":\"up\""), "{up}");
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    edge
}

#[cfg(unix)]
#[test]
fn an_edge_node_that_is_killed_leaves_no_gap_and_nothing_twice() {
    let plant = Plant::start();
    let edge_file = move_machines_to_an_edge_node(&plant);
    let mut hub = plant.run_hub();
    let address = hub.up["edge_address"].as_str().unwrap().to_owned();
    let told = card(&plant.path("hub.toml")).replace("192.0.2.1:0", &address);
    let edge = std::fs::read_to_string(&edge_file).unwrap();
    std::fs::write(&edge_file, edge.replace("[buffer]", &(told + "\n[buffer]"))).unwrap();

    let mut next = BTreeMap::new();
    let mut take = |block: support::PrintedBlock| {
        for (device, epoch, sequence) in block.batches {
            let due = next.entry(device).or_insert(1);
            assert_eq!((epoch, sequence), (1, *due));
            *due += 1;
        }
        next.len() == 2 && next.values().all(|due| *due > 10)
    };
    for life in 0..5 {
        let mut edge = run_edge(&edge_file);
        for _ in 0..3 + life {
            take(hub.next_block());
        }
        edge.kill().unwrap();
        edge.wait().unwrap();
    }
    let mut edge = run_edge(&edge_file);
    while !take(hub.next_block()) {}
    support::signal(&edge, "-TERM");
    assert_eq!(edge.wait().unwrap().code(), Some(0));
    let (blocks, ended) = hub.ends("-INT");
    assert_eq!(support::ended(&ended), 0);
    for block in blocks {
        take(block);
    }
    plant.verify_is_clean();
}

/// An edge node in a process of its own, and what it says.
struct RunningEdge {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    up: serde_json::Value,
}

impl RunningEdge {
    fn start(file: &Path) -> Self {
        let mut child = support::weighbridge()
            .args(["run", "--json", "--config", file.to_str().unwrap()])
            .env("RUST_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let up = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        Self { child, lines, up }
    }

    /// The next line that is `event`.
    fn next(&mut self, event: &str) -> serde_json::Value {
        loop {
            let line = self.lines.next().expect("the edge node goes on").unwrap();
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            if line["event"] == event {
                return line;
            }
        }
    }

    fn status(&self) -> serde_json::Value {
        let url = self.up["http_url"].as_str().unwrap();
        support::run_json(&["status", "--json", "--url", url])
    }
}

impl Drop for RunningEdge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something is as it should be.
fn until(what: &str, mut wanted: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !wanted() {
        assert!(began.elapsed() < crate::site::PATIENCE, "{what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[cfg(unix)]
#[test]
fn both_files_are_watched_and_both_sides_say_how_they_are() {
    let plant = Plant::start();
    let edge_file = move_machines_to_an_edge_node(&plant);
    let hub_file = plant.path("hub.toml");
    let mut hub = plant.run_hub();
    let address = hub.up["edge_address"].as_str().unwrap().to_owned();
    let told = card(&hub_file).replace("192.0.2.1:0", &address);
    let right = std::fs::read_to_string(&edge_file).unwrap();
    let right = right.replace("[buffer]", &(told + "\n[buffer]"));
    std::fs::write(&edge_file, &right).unwrap();
    let mut edge = RunningEdge::start(&edge_file);
    hub.next_block();

    // Both sides say how it is. The block may be one of the hub's own.
    until("the edge node has sent something", || {
        edge.status()["uplink"]["last_success"].is_string()
    });
    let status = edge.status();
    assert_eq!(status["edge"], "edge-1", "{status}");
    assert_eq!(status["uplink"]["hub"], "hub-1");
    assert_eq!(status["uplink"]["address"], address);
    assert!(status["uplink"]["last_success"].is_string());
    assert_eq!(status["devices"]["total"], 2);
    assert_eq!(status["lanes"][1]["device"], "plc-1");
    assert!(status["buffer"]["limit_bytes"].as_u64().unwrap() > 1_000_000);
    let said = support::run(&["status", "--url", edge.up["http_url"].as_str().unwrap()]);
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(
        said.contains("edge-1, version") && said.contains("hub-1 at "),
        "{said}"
    );
    let hub_url = hub.http_url().to_owned();
    let hub_status = || support::run_json(&["status", "--json", "--url", &hub_url]);
    until("the hub is told what waits", || {
        hub_status()["edges"][0]["lag_seconds"].is_number()
    });
    let status = hub_status();
    assert_eq!(status["edges"][0]["id"], "edge-1", "{status}");
    assert_eq!(status["edges"][0]["connected"], true);
    assert_eq!(status["edges"][0]["devices"], 2);
    let said = support::run(&["status", "--url", &hub_url]);
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(
        said.contains("edge-1: 2 devices, connected since"),
        "{said}"
    );

    // A mistake in the edge node's file changes nothing, and says where it is.
    let bad = right.replacen("period_ms = 2", "period_sm = 2", 1);
    std::fs::write(&edge_file, bad).unwrap();
    let event = edge.next("config_refused");
    let first = event["first"].as_str().unwrap();
    assert!(first.contains("unknown key `period_sm`"), "{first}");
    assert!(edge.status()["config"]["refused"].is_object());
    // One device of two differs, the way to the hub waits for a restart.
    let changed = right.replacen("period_ms = 2", "period_ms = 3", 1);
    let changed = changed.replacen("patience_ms = 3000", "", 1);
    let changed = changed.replacen("[edge]", "[edge]\npatience_ms = 700", 1);
    std::fs::write(&edge_file, &changed).unwrap();
    let event = edge.next("config");
    let counts = ["added", "changed", "removed", "untouched"].map(|key| event[key].as_u64());
    assert_eq!(counts, [Some(0), Some(1), Some(0), Some(1)], "{event}");
    assert_eq!(event["needs_restart"][0], "edge.patience_ms");
    // The hub's file: one of its devices is judged otherwise, and a second edge node is let in.
    let hub_right = std::fs::read_to_string(&hub_file).unwrap();
    let other = "[[edges.node]]\nid = \"edge-2\"\n\
        key = \"025ecbe4d1a6330a44c8f7ef951d4bf165e6c6b721efada985fb41661bc6e7fd6c\"\n\n[[edges.node]]";
    let hub_changed = hub_right.replacen("[[edges.node]]", other, 1);
    let validated = "edge = \"edge-1\"\nvalidation = { sigmas = 5.0 }\n";
    let hub_changed = hub_changed.replacen("edge = \"edge-1\"\n", validated, 1);
    std::fs::write(&hub_file, &hub_changed).unwrap();
    let event = hub.next_config_event();
    let counts = ["added", "changed", "removed", "untouched"].map(|key| event[key].as_u64());
    assert_eq!(counts, [Some(0), Some(1), Some(0), Some(1)], "{event}");
    assert_eq!(
        event["needs_restart"].as_array().unwrap().len(),
        0,
        "{event}"
    );
    assert_eq!(hub_status()["edges"].as_array().unwrap().len(), 2);
    // Everything goes on: both devices are recorded, without gap.
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 2 {
        let batches = hub.next_block().batches.into_iter();
        seen.extend(batches.map(|(device, ..)| device));
    }
    // The hub goes: the edge node says so, when it was last there, and when it is tried again.
    let (_, ended) = hub.ends("-INT");
    assert_eq!(support::ended(&ended), 0);
    until("the edge node misses the hub", || {
        edge.status()["uplink"]["state"] == "down"
    });
    let uplink = edge.status()["uplink"].clone();
    for key in ["reason", "last_success", "retry_at"] {
        assert!(uplink[key].is_string(), "{uplink}");
    }
    until("it buffers", || {
        edge.status()["buffer"]["batches"].as_u64().unwrap() > 5
    });
    support::signal(&edge.child, "-TERM");
    assert_eq!(edge.child.wait().unwrap().code(), Some(0));
    plant.verify_is_clean();
}

#[cfg(unix)]
#[test]
fn another_key_is_taken_from_its_file_without_a_restart() {
    let plant = Plant::start();
    let edge_file = move_machines_to_an_edge_node(&plant);
    let hub_file = plant.path("hub.toml");
    let administrator = "[http]\nroles = [\"observer\", \"security_admin\"]\n";
    let text = std::fs::read_to_string(&hub_file).unwrap();
    std::fs::write(&hub_file, text.replace("[http]\n", administrator)).unwrap();
    let mut hub = plant.run_hub();
    let address = hub.up["edge_address"].as_str().unwrap().to_owned();
    let told = card(&hub_file).replace("192.0.2.1:0", &address);
    let text = std::fs::read_to_string(&edge_file).unwrap();
    let text = text.replace("[buffer]", &(told + "\n[buffer]"));
    std::fs::write(&edge_file, &text).unwrap();
    let mut edge = RunningEdge::start(&edge_file);
    hub.next_block();

    // By another file, and then by another key in the same one.
    let keys = edge_file.parent().unwrap().join("keys");
    let file = |name: &str| keys.join(name).to_str().unwrap().to_owned();
    let url = hub.http_url().to_owned();
    let (mut known, mut text) = (card(&edge_file), text);
    for (before, after) in [("edge.key", "second.key"), ("second.key", "third.key")] {
        let (before, after) = (file(before), file(after));
        let make = ["keys", "make", "edge:edge-1", &after, "--chain", "main"];
        output(&[&make[..], &["--replaces", &before]].concat());
        output(&[
            "keys",
            "enrol",
            &format!("{after}.enrol.json"),
            "--url",
            &url,
        ]);
        match after.ends_with("second.key") {
            true => {
                text = text.replace("keys/edge.key", "keys/second.key");
                std::fs::write(&edge_file, &text).unwrap();
            }
            false => std::fs::rename(&after, &before).unwrap(),
        }
        let new = card(&edge_file);
        let line = |card: &str| {
            let mut lines = card.lines();
            lines.find(|l| l.starts_with("key = ")).unwrap().to_owned()
        };
        let hubs = std::fs::read_to_string(&hub_file).unwrap();
        let hubs = hubs.replace(&line(&known), &line(&new));
        std::fs::write(&hub_file, hubs).unwrap();
        assert_eq!(hub.next_config_event()["event"], "config");
        let event = edge.next("key");
        assert!(new.contains(event["key"].as_str().unwrap()), "{event}");
        known = new;
        hub.next_block();
    }
    let (_, ended) = hub.ends("-INT");
    assert_eq!(support::ended(&ended), 0);
    support::signal(&edge.child, "-TERM");
    assert_eq!(edge.child.wait().unwrap().code(), Some(0));
    plant.verify_is_clean();
}

/// More than a release build has resident in all.
#[cfg(target_os = "linux")]
const CODE: u64 = 36 << 20;

#[cfg(target_os = "linux")]
#[test]
fn four_robots_fit_into_64_megabytes_with_a_hub_and_without() {
    let plant = Plant::with_machines(4, 30);
    let hub_file = plant.path("hub.toml");
    let slower = std::fs::read_to_string(&hub_file).unwrap();
    std::fs::write(&hub_file, slower.replace("period_ms = 2", "period_ms = 10")).unwrap();
    let edge_file = move_machines_to_an_edge_node(&plant);
    let mut hub = plant.run_hub();
    let address = hub.up["edge_address"].as_str().unwrap().to_owned();
    let told = card(&hub_file).replace("192.0.2.1:0", &address);
    let edge = std::fs::read_to_string(&edge_file).unwrap();
    std::fs::write(&edge_file, edge.replace("[buffer]", &(told + "\n[buffer]"))).unwrap();
    let edge = RunningEdge::start(&edge_file);
    for _ in 0..100 {
        hub.next_block();
    }
    hub.kill();
    let stored = |status: serde_json::Value| -> u64 {
        let lanes = status["lanes"].as_array().unwrap().iter();
        lanes.map(|l| l["stored_batches"].as_u64().unwrap()).sum()
    };
    let before = stored(edge.status());
    until("it reads on", || stored(edge.status()) >= before + 400);
    let process = edge.child.id();
    let (peak, mapped) = (memory(process, "VmHWM:"), memory(process, "RssFile:"));
    eprintln!("{peak} bytes resident at most, {mapped} of them files");
    // Without optimisation a program's own code is several times as large, and most of what is resident.
    let code = match cfg!(debug_assertions) {
        true => mapped.min(CODE),
        false => mapped,
    };
    let taken = peak - mapped + code;
    assert!(taken <= 64 << 20, "{peak} bytes, {mapped} of them files");
}

#[test]
fn an_edge_node_without_a_hub_says_so_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("cell");
    output(&["edge", "init", dir.to_str().unwrap()]);
    let file = dir.join("edge.toml");
    assert!(card(&file).contains("[[edges.node]]\nid = \"edge-1\"\nkey = \"0"));
    let said = support::failed(&support::run(&["run", "--config", file.to_str().unwrap()]));
    assert!(said.contains("there is no hub to upload to"), "{said}");
}
