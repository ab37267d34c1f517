//! The example files load, every key is in them, and every key made wrong is answered at its place.

use super::tree::Spot;
use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

const HUB: &str = include_str!("../../config/hub.toml");
const EDGE: &str = include_str!("../../config/edge.toml");

fn fail(found: &[Diagnostic]) -> ! {
    panic!(
        "{}",
        found.iter().map(|d| format!("{d}\n")).collect::<String>()
    )
}

#[test]
fn the_example_with_every_key_loads_without_a_warning() {
    let loaded = parse(HUB, "config/hub.toml").unwrap_or_else(|found| fail(&found));
    assert_eq!(loaded.warnings, vec![]);
    assert_eq!(loaded.config.devices.len(), 10);
}

#[test]
fn an_edge_node_shows_its_status_on_loopback_only() {
    let text = "[edge]\nid = \"edge-1\"\nhttp = \"0.0.0.0:8081\"\n";
    let found = parse(text, "edge.toml").unwrap_err();
    let error = found
        .iter()
        .find(|d| d.severity == Severity::Error)
        .unwrap();
    assert_eq!(error.suggestion.as_deref(), Some("127.0.0.1:8081"));
    assert_eq!(error.position(), Some((3, 8)), "{error}");
}

#[test]
fn the_example_of_an_edge_node_loads_without_a_warning() {
    let loaded = parse(EDGE, "config/edge.toml").unwrap_or_else(|found| fail(&found));
    assert_eq!(loaded.warnings, vec![]);
    assert_eq!(loaded.config.buffer, Some(BufferConfig::default()));
    let edge = loaded.config.edge.unwrap();
    assert_eq!((edge.patience_ms, edge.hubs.len()), (3000, 2));
    assert!(edge.signing_key.ends_with("keys/edge.key"));
    let text = "[edge]\nid = \"edge-1\"\nsigning = 1\nhub = [{ adress = \"a:1\" }]\n";
    let found = parse(text, "edge.toml").unwrap_err();
    for known in [
        "`id`, `signing_key`, `patience_ms`, `http`, `hub`",
        "`address`, `key`, `link_key`, `sealing_key`",
    ] {
        let known = format!("keys known here: {known}");
        assert!(
            found.iter().flat_map(|d| &d.help).any(|h| *h == known),
            "{found:?}"
        );
    }
}

#[test]
fn what_the_example_calls_a_default_is_one() {
    let loaded = parse(HUB, "config/hub.toml").unwrap_or_else(|found| fail(&found));
    let default = HubConfig::new("hub-1");
    let mut config = loaded.config;
    // Keys whose default is none, or not written in the file.
    let shown = std::mem::take(&mut config.http.hosts);
    assert_eq!(shown, ["plant.example"]);
    assert_eq!(config.http.users.len(), 1);
    config.http.users.clear();
    (config.http.certificate, config.http.key) = (None, None);
    let retention = std::mem::take(&mut config.ledger.retention);
    assert_eq!(retention.interval, default.ledger.retention.interval);
    assert_eq!(
        config.ledger.escrow.take(),
        Some("keys/owner.pub.pem".into())
    );
    let postgres = config.ledger.postgres.take().unwrap();
    assert_eq!(
        (&*postgres.database, &*postgres.user),
        ("weighbridge", "weighbridge")
    );
    assert_eq!(config.hub, default.hub);
    assert_eq!(config.ledger, default.ledger);
    assert_eq!(config.http, default.http);
    assert_eq!(config.log, default.log);
    let device = &config.devices[0];
    assert_eq!(device.batch, BatchConfig::default());
}

/// One entry of the file.
struct Entry {
    /// Kind of its table: its path without indexes.
    table: String,
    key: String,
    spot: Spot,
    value: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Bool,
    Array,
    Table,
}

/// Every key of `text`, with what it holds; not the headers.
fn entries(root: &Spanned<DeTable<'_>>) -> Vec<Entry> {
    fn walk(table: &DeTable<'_>, path: &str, out: &mut Vec<Entry>) {
        for (key, value) in table.iter() {
            let below = format!("{path}.{}", key.get_ref());
            let kind = match value.get_ref() {
                DeValue::Table(inner) => {
                    walk(inner, &below, out);
                    Kind::Table
                }
                DeValue::Array(array) if array.iter().any(|e| e.get_ref().is_table()) => {
                    for element in array.iter().filter_map(|e| e.get_ref().as_table()) {
                        walk(element, &below, out);
                    }
                    Kind::Table
                }
                DeValue::Array(_) => Kind::Array,
                DeValue::String(_) => Kind::Text,
                DeValue::Boolean(_) => Kind::Bool,
                _ => Kind::Number,
            };
            out.push(Entry {
                table: path.to_owned(),
                key: key.get_ref().to_string(),
                spot: Spot {
                    key: key.span(),
                    value: value.span(),
                },
                value: kind,
            });
        }
    }
    let mut out = Vec::new();
    walk(root.get_ref(), "", &mut out);
    out
}

fn replaced(text: &str, span: &Range<usize>, with: &str) -> String {
    let mut text = text.to_owned();
    text.replace_range(span.clone(), with);
    text
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// The errors that `text` gives, which must have some on `line`.
fn errors_on(text: &str, line: usize, what: &str) -> Vec<Diagnostic> {
    let found = match parse(text, "hub.toml") {
        Err(found) => found,
        Ok(_) => panic!("{what} was taken"),
    };
    let on_line: Vec<_> = found
        .iter()
        .filter(|d| d.severity == Severity::Error)
        .filter(|d| d.place.as_ref().is_some_and(|p| p.line == line))
        .cloned()
        .collect();
    if on_line.is_empty() {
        eprintln!("{what}: nothing on line {line}");
        fail(&found);
    }
    on_line
}

/// The key with two letters exchanged, or one left out.
fn misspelt(key: &str) -> String {
    let mut letters: Vec<char> = key.chars().collect();
    let middle = letters.len() / 2;
    match letters.len() {
        1 => letters.push('x'),
        2 => letters.push(letters[1]),
        n if letters[middle] == letters[middle - 1] => drop(letters.remove(n - 1)),
        _ => letters.swap(middle, middle - 1),
    }
    letters.into_iter().collect()
}

#[test]
fn every_key_misspelt_is_answered_with_the_right_one() {
    let root = DeTable::parse(HUB).unwrap();
    let all = entries(&root);
    assert!(all.len() > 100, "only {} keys looked at", all.len());
    for entry in &all {
        let wrong = misspelt(&entry.key);
        let text = replaced(HUB, &entry.spot.key, &wrong);
        let what = format!("`{wrong}` for `{}`", entry.key);
        // `[device.batch]` and `[[device.tag]]` name their parents too: each header is looked at.
        let found = errors_on(&text, line_of(HUB, entry.spot.key.start), &what);
        let suggested = found
            .iter()
            .any(|d| d.suggestion.as_ref() == Some(&entry.key));
        if !suggested {
            eprintln!("{what}: not suggested");
            fail(&found);
        }
    }
}

#[test]
fn every_key_of_the_wrong_type_is_answered_with_the_right_one() {
    let root = DeTable::parse(HUB).unwrap();
    for entry in entries(&root) {
        let header =
            matches!(HUB.as_bytes()[entry.spot.value.start], b'[') && entry.value == Kind::Table;
        if header {
            continue;
        }
        for wrong in ["1", "true", "\"text\"", "[true]", "{ x = 1 }", "1979-05-27"] {
            let fits = match entry.value {
                Kind::Text => wrong == "\"text\"",
                Kind::Number => wrong == "1",
                Kind::Bool => wrong == "true",
                Kind::Array => wrong.starts_with('['),
                Kind::Table => wrong.starts_with('{'),
            };
            if fits {
                continue;
            }
            let text = replaced(HUB, &entry.spot.value, wrong);
            let what = format!("`{}.{} = {wrong}`", entry.table, entry.key);
            let found = errors_on(&text, line_of(HUB, entry.spot.value.start), &what);
            if found.iter().all(|d| d.label.is_empty()) {
                eprintln!("{what}: not said what was expected");
                fail(&found);
            }
        }
    }
}

/// A value of the right type that is wrong nevertheless; `None` where any will do.
fn out_of_range(table: &str, key: &str, kind: Kind) -> Option<&'static str> {
    Some(match (key, kind) {
        // For people, or names that only the other side knows.
        ("unit" | "description" | "host" | "user" | "database", _) => return None,
        // Paths: any text is one.
        (
            "data" | "profiles" | "credentials" | "authority" | "signing_key" | "sealing_key"
            | "escrow" | "pki_dir" | "password_file",
            _,
        ) => {
            return None;
        }
        // Any name of a unit will do, and any directory.
        ("to" | "dir" | "archive", _) => return None,
        ("factor", _) => "0.0",
        ("user_certificate" | "user_key" | "user_certificates", _) => return None,
        ("ca" | "certificate" | "key" | "serial", _) => return None,
        ("name", _) if table == ".opcua_server.users" => return None,
        // What is on a nameplate is for people too.
        (key, Kind::Text)
            if table == ".device.machinery"
                && !matches!(key, "kind" | "motion_device_category") =>
        {
            return None;
        }
        ("offset" | "center" | "lcl" | "ucl", _) => "inf",
        ("scale", _) => "0.0",
        ("range", _) => "[5.0, 5.0]",
        ("charts", _) => "[\"pie\"]",
        ("western_electric" | "nelson", _) => "[9]",
        ("lambda" | "missing_share", _) => "1.5",
        (_, Kind::Text) => "\"no such / thing \"",
        (_, Kind::Number) => "-1",
        (_, Kind::Bool | Kind::Array | Kind::Table) => return None,
    })
}

#[test]
fn every_value_out_of_range_is_answered_at_its_place() {
    let root = DeTable::parse(HUB).unwrap();
    let mut tried = 0;
    for entry in entries(&root) {
        let Some(wrong) = out_of_range(&entry.table, &entry.key, entry.value) else {
            continue;
        };
        let text = replaced(HUB, &entry.spot.value, wrong);
        let what = format!("`{}.{} = {wrong}`", entry.table, entry.key);
        errors_on(&text, line_of(HUB, entry.spot.value.start), &what);
        tried += 1;
    }
    assert!(tried > 80, "only {tried} values tried");
}

#[test]
fn the_example_has_every_key_there_is() {
    let root = DeTable::parse(HUB).unwrap();
    let mut there: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut a_key_of: BTreeMap<String, Range<usize>> = BTreeMap::new();
    for entry in entries(&root) {
        a_key_of.insert(entry.table.clone(), entry.spot.key);
        there.entry(entry.table).or_default().insert(entry.key);
    }
    for (table, span) in a_key_of {
        // Parameters are the profile's, and a row of `devices` is a device.
        if table.starts_with(".devices") || table.ends_with(".with") {
            continue;
        }
        // An unknown key is answered with all known ones.
        let text = replaced(HUB, &span, "zzzzzzzzzzzz");
        let found = errors_on(&text, line_of(HUB, span.start), &table);
        let help = found.iter().flat_map(|d| &d.help);
        let listed = help.filter_map(|h| h.strip_prefix("keys known here: "));
        let known: BTreeSet<String> = listed
            .flat_map(|l| l.split(", ").map(|k| k.trim_matches('`').to_owned()))
            .collect();
        assert!(!known.is_empty(), "{table}");
        let missing = known.difference(&there[&table]);
        // What makes it an edge node instead of a hub is in a file of its own, and what shares its chain is
        // commented out, and so are the hubs of a device: it does not go with what the file shows of retention.
        let missing = missing.filter(|key| !["edge", "cluster", "hubs"].contains(&key.as_str()));
        let missing: Vec<_> = missing.collect();
        assert!(
            missing.is_empty(),
            "config/hub.toml lacks {missing:?} of {table}"
        );
    }
}

#[test]
fn the_commented_example_of_a_cluster_has_every_key_there_is() {
    let (_, rest) = HUB.split_once("# [cluster]").unwrap();
    let (section, _) = rest.split_once("\n\n").unwrap();
    let lines = section.lines().skip(1);
    let lines = lines.map(|line| line.strip_prefix("# ").unwrap_or_default());
    let section: Vec<_> = lines.collect();
    let text = format!(
        "[hub]\nid = \"hub-1\"\n\n[cluster]\n{}\n",
        section.join("\n")
    );
    let loaded = parse(&text, "hub.toml").unwrap_or_else(|found| fail(&found));
    let cluster = loaded.config.cluster.unwrap();
    assert_eq!(cluster.network_key, PathBuf::from("keys/network.key"));
    let written = toml::Table::try_from(&cluster).unwrap();
    let shown: toml::Table = toml::from_str(&text).unwrap();
    assert_eq!(shown["cluster"].as_table(), Some(&written));
}

#[test]
fn golden_mistakes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/config");
    let cases = std::fs::read_dir(&folder).unwrap();
    let mut cases: Vec<_> = cases.map(|c| c.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 10, "golden cases are missing");
    for case in cases {
        let text = std::fs::read_to_string(case.join("hub.toml")).unwrap();
        let found = match parse(&text, "hub.toml") {
            Ok(loaded) => loaded.warnings,
            Err(found) => found,
        };
        let said: String = found.iter().map(|d| format!("{d}\n")).collect();
        let expected = case.join("expected.txt");
        if std::env::var_os("WEIGHBRIDGE_BLESS").is_some() {
            std::fs::write(&expected, &said).unwrap();
        }
        let expected = std::fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(said, expected, "{}", case.display());
    }
}

#[test]
fn relative_paths_start_at_the_file_and_the_environment_overrides_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.toml");
    std::fs::write(&path, HUB).unwrap();
    let config = load(&path).unwrap_or_else(|found| fail(&found)).config;
    assert_eq!(config.hub.data, dir.path().join("data"));
    let opcua = config.devices[1].opcua.as_ref().unwrap();
    assert_eq!(opcua.pki_dir, dir.path().join("pki/opcua-client"));
    assert_eq!(
        opcua.password_file,
        Some(dir.path().join("keys/robot-1.pw"))
    );

    let mut config = config;
    config.override_paths(|name| match name {
        SIGNING_KEY_VARIABLE => Some("/run/secrets/key".into()),
        SEALING_KEY_VARIABLE => Some("".into()),
        "WEIGHBRIDGE_PASSWORD_FILE_ROBOT_1" => Some("/run/secrets/pw".into()),
        _ => None,
    });
    assert_eq!(config.hub.signing_key, Path::new("/run/secrets/key"));
    assert_eq!(config.hub.sealing_key, dir.path().join("keys/sealing.key"));
    let opcua = config.devices[1].opcua.as_ref().unwrap();
    assert_eq!(
        opcua.password_file.as_deref(),
        Some(Path::new("/run/secrets/pw"))
    );
}

#[test]
fn golden_profiles() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/profiles");
    let cases = std::fs::read_dir(&folder).unwrap();
    let mut cases: Vec<_> = cases.map(|c| c.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 3, "golden cases are missing");
    for case in cases {
        let found = match load(&case.join("hub.toml")) {
            Ok(loaded) => loaded.warnings,
            Err(found) => found,
        };
        let said: String = found.iter().map(|d| format!("{d}\n")).collect();
        let said = said.replace(&format!("{}/", case.display()), "");
        let expected = case.join("expected.txt");
        if std::env::var_os("WEIGHBRIDGE_BLESS").is_some() {
            std::fs::write(&expected, &said).unwrap();
        }
        let expected = std::fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(said, expected, "{}", case.display());
    }
}

#[test]
fn a_file_full_of_mistakes_is_answered_with_no_more_than_anybody_reads() {
    let mut text = "[hub]\nid = \"h\"\n".to_owned();
    for device in 0..300 {
        text += &format!("[[device]]\nid = \"d{device}\"\nmodbus = {{ address = \"a:1\" }}\n");
        for tag in 0..20 {
            text += &format!("[[device.tag]]\nname = \"t{tag}\"\nmodbus = {{ coil = \"x\" }}\n");
        }
    }
    let found = parse(&text, "hub.toml").unwrap_err();
    assert_eq!(found.len(), super::reading::MAX_MISTAKES);
    // Right by themselves, and all the same.
    let text = text
        .replace("\"x\"", "1")
        .replace("name = \"t1", "name = \"t0");
    let found = parse(&text, "hub.toml").unwrap_err();
    assert!(
        found.len() <= 2 * super::reading::MAX_MISTAKES,
        "{}",
        found.len()
    );
}

#[test]
fn forty_equal_machines_are_forty_short_lines() {
    let mut text =
        "[hub]\nid = \"h\"\n\n[[devices]]\nprofile = \"universal-robots\"\neach = [\n".to_owned();
    for robot in 1..=40 {
        text += &format!("    {{ id = \"robot-{robot:02}\", address = \"192.0.2.{robot}\" }},\n");
    }
    text += "]\n";
    let loaded = parse(&text, "hub.toml").unwrap_or_else(|found| fail(&found));
    assert_eq!(loaded.warnings, vec![]);
    let devices = loaded.config.devices;
    assert_eq!(devices.len(), 40);
    assert!(
        devices
            .iter()
            .all(|d| d.tags == devices[0].tags && d.tags.len() == 40)
    );
    assert_eq!(
        devices[39].modbus.as_ref().unwrap().transport.to_string(),
        "192.0.2.40:502"
    );
}

#[test]
fn a_device_knows_the_files_that_it_was_made_from() {
    let device = |profile: &str| {
        let text = format!(
            "[hub]\nid = \"h\"\n[[device]]\nid = \"r\"\nprofile = \"{profile}\"\naddress = \"192.0.2.1\"\n"
        );
        let loaded = parse(&text, "hub.toml").unwrap_or_else(|found| fail(&found));
        loaded.config.devices[0].clone()
    };
    let cycle = device("universal-robots-cycle");
    let files = ["universal-robots", "universal-robots-cycle"];
    assert_eq!(cycle.origins.0.len(), files.len());
    for (origin, file) in cycle.origins.0.iter().zip(files) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins/profiles");
        let bytes = std::fs::read(folder.join(format!("{file}.toml"))).unwrap();
        assert_eq!((&*origin.kind, &*origin.id), ("profile", file));
        assert_eq!(origin.sha256, weighbridge_verifier::sha256(&[&bytes]));
    }
    // They are no difference between two devices that mean the same.
    let mut other = cycle.clone();
    other.origins.0.clear();
    assert_eq!(other, cycle);
}

#[test]
fn what_a_device_says_itself_counts() {
    let text = r#"
[hub]
id = "h"
[[device]]
id = "r"
profile = "universal-robots"
address = "192.0.2.1"
remove = ["tcp_*", "base_*"]
[device.modbus]
period_ms = 50
[device.validation]
phase1_samples = 7
[[device.tag]]
name = "robot_mode"
unit = "mode"
[[device.tag]]
name = "own"
modbus = { coil = 1 }
"#;
    let loaded = parse(text, "hub.toml").unwrap_or_else(|found| fail(&found));
    let device = &loaded.config.devices[0];
    let modbus = device.modbus.as_ref().unwrap();
    assert_eq!(
        (modbus.period_ms.get(), modbus.transport.to_string()),
        (50, "192.0.2.1:502".into())
    );
    assert_eq!(device.validation.phase1_samples, 7);
    let names: Vec<_> = device.tags.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names.len(), 34 - 6 - 4 + 1);
    assert_eq!((names[0], names[names.len() - 1]), ("robot_mode", "own"));
    assert_eq!(
        (
            device.tags[0].unit.as_str(),
            device.tags[0].validation.charts.as_deref()
        ),
        ("mode", Some(&[][..]))
    );
    assert_eq!(device.tags[0].modbus.as_ref().unwrap().address, 258);
}

#[test]
fn what_is_no_text_or_too_much_of_it_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub.toml");
    std::fs::write(&path, b"[hub]\nid = \"\xff\"").unwrap();
    let found = load(&path).unwrap_err();
    assert!(found[0].message.contains("not UTF-8"), "{}", found[0]);
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(MAX_FILE + 1).unwrap();
    let found = load(&path).unwrap_err();
    assert!(found[0].message.contains("at most"), "{}", found[0]);
    assert!(load(dir.path()).is_err());
}

#[test]
fn a_configuration_written_is_the_one_read() {
    let mut config = parse(HUB, "hub.toml")
        .unwrap_or_else(|found| fail(&found))
        .config;
    // What a profile said is written out.
    config.devices.iter_mut().for_each(|d| d.profile = None);
    let text = toml::to_string(&config).unwrap();
    let again = parse(&text, "written.toml").unwrap_or_else(|found| fail(&found));
    assert_eq!(again.config, config);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is done to a file, reading it ends, without a panic, in a configuration or in at
    /// least one error.
    #[test]
    fn damaged_files_are_answered(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0usize..40, ".{0,6}"), 1..6)
    ) {
        let mut text = HUB.to_owned();
        for (at, length, with) in cuts {
            let boundary = |mut i: usize| {
                while !text.is_char_boundary(i) {
                    i -= 1;
                }
                i
            };
            let start = boundary(at.index(text.len()));
            let end = boundary((start + length).min(text.len())).max(start);
            text.replace_range(start..end, &with);
        }
        if let Err(found) = parse(&text, "hub.toml") {
            prop_assert!(found.iter().any(|d| d.severity == Severity::Error));
            for d in found {
                d.render(true);
            }
        }
    }
}
