//! Several chains in one process, through the program: side by side, apart, and ended together.

use crate::support::{self, Plant, failed, run, run_json, weighbridge};
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Output, Stdio};

/// A plant whose chain has this name, and its machines.
fn plant(chain: &str, machines: usize) -> Plant {
    let plant = match machines {
        0 => Plant::without_machines(),
        _ => Plant::with_machines(machines, 3),
    };
    let file = plant.path("hub.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let named = text.replace("[ledger]\n", &format!("[ledger]\nchain = \"{chain}\"\n"));
    std::fs::write(file, named).unwrap();
    plant
}

fn args(plants: &[&Plant]) -> Vec<String> {
    let each = |plant: &&Plant| {
        let file = plant.path("hub.toml");
        ["--config".to_owned(), file.to_str().unwrap().to_owned()]
    };
    plants.iter().flat_map(each).collect()
}

/// One process that runs all of them.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(plants: &[&Plant]) -> Self {
        let mut child = weighbridge()
            .args(["run", "--json"])
            .args(args(plants))
            .env("RUST_LOG", "error")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn next(&mut self) -> Option<Json> {
        let line = self.lines.next()?.unwrap();
        Some(serde_json::from_str(&line).unwrap())
    }

    /// The next line about a block.
    fn block(&mut self) -> Json {
        loop {
            let line = self.next().expect("the process goes on");
            if line["event"] == "block" {
                return line;
            }
        }
    }

    /// Asks it to end: what it printed until then, and how it ended.
    #[cfg(unix)]
    fn ends(mut self) -> (Vec<Json>, Output) {
        support::signal(&self.child, "-TERM");
        let mut lines = Vec::new();
        while let Some(line) = self.next() {
            lines.push(line);
        }
        let mut said = Vec::new();
        let mut stderr = self.child.stderr.take().unwrap();
        std::io::Read::read_to_end(&mut stderr, &mut said).unwrap();
        let output = Output {
            status: self.child.wait().unwrap(),
            stdout: Vec::new(),
            stderr: said,
        };
        (lines, output)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether any file below `dir` holds these bytes.
fn holds(dir: &Path, wanted: &[u8]) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => holds(&path, wanted),
            false => {
                let bytes = std::fs::read(&path).unwrap();
                bytes.windows(wanted.len()).any(|part| part == wanted)
            }
        }
    })
}

#[cfg(unix)]
#[test]
fn one_process_runs_several_chains_and_nothing_of_one_is_with_the_other() {
    let plants = BTreeMap::from([
        ("acme-1", plant("acme-1", 1)),
        ("bolt-1", plant("bolt-1", 1)),
    ]);
    let mut running = Running::start(&plants.values().collect::<Vec<_>>());
    let up = [running.next().unwrap(), running.next().unwrap()];
    let mut newest = BTreeMap::new();
    let mut note = |block: &Json| {
        let chain = block["chain"].as_str().unwrap().to_owned();
        let place = (block["height"].as_u64().unwrap(), block["hash"].clone());
        newest.insert(chain, place);
        newest.values().filter(|(height, _)| *height >= 5).count()
    };
    while note(&running.block()) < plants.len() {}
    let mut shown = BTreeMap::new();
    for (said, chain) in up.iter().zip(plants.keys()) {
        assert_eq!(
            (&said["event"], &said["chain"]),
            (&"up".into(), &Json::from(*chain))
        );
        // Each has faces of its own.
        let url = said["http_url"].as_str().unwrap();
        let status = run_json(&["status", "--url", url, "--json"]);
        shown.insert(*chain, status);
    }
    let doors: BTreeSet<_> = up.iter().map(|said| said["http_url"].as_str()).collect();
    assert_eq!(doors.len(), plants.len());

    let (lines, ended) = running.ends();
    assert!(ended.status.success(), "{}", support::stderr(&ended));
    for block in lines.iter().filter(|line| line["event"] == "block") {
        note(block);
    }
    for (chain, plant) in &plants {
        plant.verify_is_clean();
        let ledger = plant.open_ledger();
        let tip = ledger.tip().unwrap().expect("there are blocks");
        let status = shown.get(chain).unwrap();
        let height = status["height"].as_u64().unwrap();
        let block = ledger.block(height).unwrap().expect("it was shown");
        let hash = block.header.hash().to_string();
        assert_eq!(
            status["last_block_hash"], hash,
            "each face shows its own chain"
        );
        let said = (tip.height, Json::from(tip.hash().to_string()));
        assert_eq!(newest.get(*chain), Some(&said), "what is durable was said");
        for height in 1..=tip.height {
            let block = ledger.block(height).unwrap().expect("no height is missing");
            assert_eq!(block.header.chain, *chain);
            assert!(block.records.iter().all(|r| r.body.chain == *chain));
        }
        for any in plants.keys() {
            let there = holds(&plant.path("data"), any.as_bytes());
            assert_eq!(there, any == chain, "{any} in the store of {chain}");
        }
    }
}

#[test]
fn chains_that_share_something_do_not_start_and_check_says_what() {
    let (acme, bolt) = (plant("acme-1", 0), plant("acme-1", 0));
    let data = acme.path("data");
    let text = std::fs::read_to_string(bolt.path("hub.toml")).unwrap();
    let text = text.replace("[hub]\n", &format!("[hub]\ndata = {data:?}\n"));
    std::fs::write(bolt.path("hub.toml"), text).unwrap();
    let files = args(&[&acme, &bolt]);
    let ran = run(&[&["run"], &*files.iter().map(|f| &**f).collect::<Vec<_>>()].concat());
    let said = support::stderr(&ran);
    assert_eq!(support::ended(&ran), 78, "{said}");
    let [one, other] = [&acme, &bolt].map(|p| p.path("hub.toml").to_str().unwrap().to_owned());
    let wanted = [
        format!("the chain `acme-1` is that of {one} as well"),
        format!("`hub.data` is not apart from `hub.data` of {one}"),
    ];
    for wanted in &wanted {
        assert!(said.contains(wanted), "{said}");
    }
    assert!(!data.exists(), "nothing was begun");

    // Each of them is right by itself.
    assert!(run(&["check", &one, &other]).status.success());
    let checked = run(&["check", "--together", "--json", &one, &other]);
    assert_eq!(support::ended(&checked), 78);
    let checked: Json = serde_json::from_slice(&checked.stdout).unwrap();
    // Without machines there is a warning as well.
    let errors = |file: usize| -> Vec<_> {
        let all = checked["files"][file]["diagnostics"].as_array().unwrap();
        let errors = all.iter().filter(|d| d["severity"] == "error");
        errors.map(|d| d["message"].as_str().unwrap()).collect()
    };
    assert_eq!(errors(0), <[&str; 0]>::default(), "{checked}");
    assert_eq!(errors(1), wanted);
}

#[cfg(unix)]
#[test]
fn a_chain_that_cannot_start_ends_the_others_in_good_order() {
    let (acme, bolt) = (plant("acme-1", 1), plant("bolt-1", 0));
    std::fs::remove_file(bolt.path("keys/hub.key")).unwrap();
    let files = args(&[&acme, &bolt]);
    let ran = run(&[&["run"], &*files.iter().map(|f| &**f).collect::<Vec<_>>()].concat());
    let said = failed(&ran);
    assert!(said.contains("hub.key"), "{said}");
    acme.verify_is_clean();
    assert!(!bolt.path("data").exists());
}
