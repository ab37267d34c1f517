//! A data directory from which something is missing: every command says so in words, or what is
//! missing did not matter.

use crate::support::{Plant, RunningHub, ended, failed, run, stderr};
use serde_json::Value as Json;
use std::fs;
use std::path::{Path, PathBuf};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Something that happens to a file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Deleted,
    Emptied,
    Halved,
    LastByteLost,
}

impl Damage {
    const ALL: [Self; 4] = [
        Self::Deleted,
        Self::Emptied,
        Self::Halved,
        Self::LastByteLost,
    ];

    /// False when the file is as it was.
    fn happens_to(self, file: &Path) -> bool {
        let length = fs::metadata(file).unwrap().len();
        let left = match self {
            Self::Deleted => {
                fs::remove_file(file).unwrap();
                return true;
            }
            Self::Emptied => 0,
            Self::Halved => length / 2,
            Self::LastByteLost => length.saturating_sub(1),
        };
        let file = fs::OpenOptions::new().write(true).open(file).unwrap();
        file.set_len(left).unwrap();
        left != length
    }
}

fn report(dir: &Path) -> Result<Json, String> {
    let output = run(&["verify", "--json", dir.to_str().unwrap()]);
    match ended(&output) {
        0 => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        1 if output.stdout.is_empty() => Err(failed(&output)),
        1 => {
            let report: Json = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(report["clean"], false);
            // A store that opens has findings, one that does not has a reason.
            let finding = report.pointer("/findings/0/what");
            let what = finding.or_else(|| report.get("reason"));
            Err(what.and_then(Json::as_str).unwrap().to_owned())
        }
        code => panic!("{code}: {}", stderr(&output)),
    }
}

#[test]
fn whatever_file_is_lost_or_cut_short_is_noticed_or_did_not_matter() {
    let plant = Plant::start();
    let mut hub = plant.run_hub();
    for _ in 0..10 {
        hub.next_block();
    }
    hub.kill();
    let whole = report(&plant.path("data")).unwrap();
    let (mut noticed, mut harmless) = (0, 0);
    let spoiled = Plant::without_machines();
    for key in ["keys/hub.key", "keys/sealing.key"] {
        fs::copy(plant.path(key), spoiled.path(key)).unwrap();
    }
    let data = spoiled.path("data");
    for file in files(&plant.path("data")) {
        let name = file.strip_prefix(plant.path("data")).unwrap();
        for damage in Damage::ALL {
            let place = format!("{} {damage:?}", name.display());
            let _ = fs::remove_dir_all(&data);
            copy(&plant.path("data"), &data);
            if !damage.happens_to(&data.join(name)) {
                continue;
            }
            let listed = run(&["blocks", "--json", "--dir", data.to_str().unwrap()]);
            if ended(&listed) != 0 {
                failed(&listed);
            }
            match report(&data) {
                Ok(report) => {
                    harmless += 1;
                    for what in ["height", "block_hash", "state_hash", "totals", "sealed"] {
                        assert_eq!(report[what], whole[what], "{place}: {what}");
                    }
                }
                Err(what) => {
                    noticed += 1;
                    assert!(!what.is_empty(), "{place}");
                }
            }
            // A hub goes on from where it was, or not at all.
            match RunningHub::try_start(&spoiled.path("hub.toml")) {
                Ok(hub) => {
                    hub.kill();
                    let after = report(&data).unwrap_or_else(|what| panic!("{place}: {what}"));
                    let height = |report: &Json| report["height"].as_u64().unwrap();
                    assert!(height(&after) >= height(&whole), "{place}");
                }
                Err(output) => {
                    failed(&output);
                }
            }
        }
    }
    assert!(noticed > 10, "{noticed} noticed, {harmless} harmless");
}
