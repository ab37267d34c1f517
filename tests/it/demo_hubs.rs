//! `demo --hubs`, as somebody would try it: hubs in processes of their own share a chain, one is killed and comes back,
//! and what each has is verified from the first one's key.

#![cfg(unix)]

use crate::support::{run, signal, stderr, weighbridge};
use serde_json::Value as Json;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, ChildStdin, Stdio};

/// Longer than it takes on a busy machine; the test ends it itself.
const AT_MOST: &str = "420";

/// The running demo. It is asked to end when it is dropped, so that its hubs end too.
struct Demo {
    child: Child,
    keys: ChildStdin,
    said: BufReader<ChildStderr>,
    all: String,
}

impl Demo {
    fn start(dir: &str) -> Self {
        let mut child = weighbridge()
            .args([
                "demo",
                "--hubs",
                "4",
                "--json",
                "--seconds",
                AT_MOST,
                "--dir",
                dir,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            keys: child.stdin.take().unwrap(),
            said: BufReader::new(child.stderr.take().unwrap()),
            child,
            all: String::new(),
        }
    }

    /// Reads what it says until a line has all of this.
    fn says(&mut self, parts: &[&str]) -> String {
        loop {
            let mut line = String::new();
            let read = self.said.read_line(&mut line).unwrap();
            self.all += &line;
            assert!(read > 0, "{parts:?} was never said:\n{}", self.all);
            if parts.iter().all(|part| line.contains(part)) {
                return line;
            }
        }
    }

    fn press(&mut self, key: &str) {
        self.keys.write_all(key.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Waits until it has ended: what it printed.
    fn ends(mut self) -> Json {
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).unwrap();
        self.all += &rest;
        let mut printed = String::new();
        let mut out = self.child.stdout.take().unwrap();
        out.read_to_string(&mut printed).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}\n{}", self.all);
        serde_json::from_str(&printed).unwrap()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            signal(&self.child, "-INT");
            let _ = self.child.wait();
        }
    }
}

#[test]
fn four_hubs_share_a_chain_and_one_that_was_killed_comes_level() {
    let dir = tempfile::tempdir().unwrap();
    let site = dir.path().join("site");
    let at = site.to_str().unwrap();
    let mut demo = Demo::start(at);
    demo.says(&["hub-4 decides with the others"]);
    demo.press("k4");
    demo.says(&["hub-4 is killed"]);
    demo.press("s4");
    demo.says(&["hub-4 is level again"]);
    demo.press("f2");
    demo.says(&["hub-2 is frozen"]);
    demo.press("t2");
    demo.says(&["hub-2 goes on"]);
    demo.press("q");
    let summary = demo.ends();

    let hubs = summary["hubs"].as_array().unwrap();
    assert_eq!(hubs.len(), 4);
    let genesis = summary["genesis_key"].as_str().unwrap();
    let mut devices: Vec<&str> = Vec::new();
    let mut most = 0;
    for hub in hubs {
        let read = hub["devices"].as_array().unwrap();
        devices.extend(read.iter().map(|id| id.as_str().unwrap()));
        let dir = hub["dir"].as_str().unwrap();
        let verified = run(&["verify", dir, "--trust", genesis, "--json"]);
        let report: Json = serde_json::from_slice(&verified.stdout).unwrap_or_default();
        let said = stderr(&verified);
        assert!(verified.status.success(), "{dir}: {report} {said}");
        assert!(report["height"].as_u64() > Some(4), "{report}");
        let blocks = run(&["blocks", "--dir", dir, "--limit", "100", "--json"]);
        let blocks: Json = serde_json::from_slice(&blocks.stdout).unwrap();
        for block in blocks["blocks"].as_array().unwrap() {
            most = most.max(block["signed_by"].as_array().unwrap().len());
        }
    }
    // Of four three must have signed; the fourth's signature may have come too late.
    assert!(most >= 3, "no block has the signatures of three hubs");
    devices.sort_unstable();
    assert_eq!(
        devices,
        ["plc-1", "robot-1", "robot-2", "robot-3", "robot-4"]
    );
}
