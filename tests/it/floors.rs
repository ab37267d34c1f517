//! The house has floors: a file imports only from floors below its own.

use std::fs;
use std::path::{Path, PathBuf};

/// Floor of each module; same floor means: must not import each other.
const FLOORS: &[(&str, u8)] = &[
    ("model", 0),
    ("crypto", 1),
    ("live_view", 1),
    ("stats", 1),
    ("validation", 2),
    ("access", 2),
    ("ledger", 3),
    ("alarms", 3),
    ("protocols", 4),
    ("store", 4),
    ("cluster", 4),
    ("plugin_host", 4),
    ("actors", 5),
    ("config", 6),
    ("api", 7),
    ("hub", 8),
    // An edge node is set up as a hub's device is.
    ("edge", 9),
    ("cli", 10),
];

/// Crates that have one owner each.
const OWNERS: &[(&str, &[&str])] = &[
    ("actix", &["actors", "hub"]),
    ("actix_web", &["api"]),
    ("actix_tls", &["api"]),
    ("fjall", &["store"]),
    ("tokio_modbus", &["protocols/modbus", "sim"]),
    ("opcua", &["protocols/opcua", "sim"]),
    // The ledger's tests sign with fixed keys.
    ("p256", &["crypto"]),
    ("aes_gcm", &["crypto"]),
    ("hpke", &["crypto"]),
    ("pkcs8", &["crypto"]),
    ("tokio_serial", &["protocols/modbus"]),
    ("rcgen", &["crypto"]),
    ("argon2", &["crypto"]),
    ("fast_qr", &["api"]),
    ("rpassword", &["cli"]),
    ("ring", &["crypto"]),
    ("rustls", &["crypto"]),
    ("webpki", &["crypto"]),
    ("cms", &["crypto"]),
    ("notify", &["cli"]),
    ("weighbridge_consensus", &["cluster"]),
    ("tokio_postgres", &["store"]),
    ("tokio_postgres_rustls", &["store"]),
];

fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// Every source file: its path below `src`, and its text.
fn texts() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 50, "the sources were not found");
    let text = |file: PathBuf| {
        let relative = file.strip_prefix(&root).unwrap().to_str().unwrap();
        (relative.to_owned(), fs::read_to_string(&file).unwrap())
    };
    files.into_iter().map(text).collect()
}

fn floor(module: &str) -> Option<u8> {
    let found = FLOORS.iter().find(|(name, _)| *name == module);
    found.map(|(_, floor)| *floor)
}

/// Names that follow `prefix` anywhere in the code lines of `text`, tests included.
fn mentioned<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(move |line| line.split(prefix).skip(1))
        .map(|rest| {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            &rest[..end.unwrap_or(rest.len())]
        })
}

#[test]
fn no_file_imports_from_its_own_floor_or_above() {
    let mut breaches = Vec::new();
    for (relative, text) in texts() {
        let own = relative.split(['/', '.']).next().unwrap();
        let Some(own_floor) = floor(own) else {
            continue;
        };
        for other in mentioned(&text, "crate::") {
            let above = floor(other).is_some_and(|other_floor| other_floor >= own_floor);
            if above && other != own {
                breaches.push(format!("{relative} imports crate::{other}"));
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn every_big_dependency_has_one_owner() {
    let mut breaches = Vec::new();
    for (relative, text) in texts() {
        for (dependency, owners) in OWNERS {
            let used = mentioned(&text, "use ").any(|name| name == *dependency);
            if used && !owners.iter().any(|owner| relative.starts_with(owner)) {
                breaches.push(format!("{relative} uses {dependency}"));
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

/// docs/attacks.md names the tests that show each defence.
#[test]
fn every_test_that_the_table_of_attacks_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(root.join("docs/attacks.md")).unwrap();
    let mut files = Vec::new();
    for folder in ["src", "tests/it", "verifier/src", "verifier/tests"] {
        sources(&root.join(folder), &mut files);
    }
    let texts = files
        .iter()
        .map(|file| std::fs::read_to_string(file).unwrap());
    let all: String = texts.collect();
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(2);
    let mut rows_with_tests = 0;
    for row in rows {
        let shown = row.split(" | ").nth(2).unwrap_or_default();
        let names: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test shows it: {row}");
        for name in names {
            assert!(
                all.contains(&format!("fn {name}(")),
                "there is no test {name}"
            );
        }
        rows_with_tests += 1;
    }
    assert!(rows_with_tests >= 15);
}
