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

/// Lets an edge node read the plant's machines for its hub; the edge node's file, without the hub.
fn move_machines_to_an_edge_node(plant: &Plant) -> PathBuf {
    let dir = plant.path("cell");
    output(&["edge", "init", dir.to_str().unwrap(), "--id", "edge-1"]);
    let (hub_file, edge_file) = (plant.path("hub.toml"), dir.join("edge.toml"));
    let hub = std::fs::read_to_string(&hub_file).unwrap();
    let (hub, machines) = hub.split_at(hub.find("\n[[device]]").unwrap());
    let edge = std::fs::read_to_string(&edge_file).unwrap() + machines;
    std::fs::write(&edge_file, edge).unwrap();
    let edges = "\n[edges]\nbind = \"127.0.0.1:0\"\n";
    std::fs::write(&hub_file, hub.to_owned() + edges + &card(&edge_file)).unwrap();
    edge_file
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
