//! `weighbridge scan modbus` against a device that nobody has described.

use crate::modbus_device::{COILS, DISCRETE, Frames, HOLDING, INPUT, Memory, Shared, listen};
use crate::support::{run, run_json, stderr};
use serde_json::{Value as Json, json};

/// A device with these cells and no others.
fn device(has: &[(u8, std::ops::Range<u16>)]) -> Shared {
    let memory = Memory::shared();
    {
        let mut memory = memory.lock();
        for table in [COILS, DISCRETE, HOLDING, INPUT] {
            let there = |a: u16| has.iter().any(|(t, r)| *t == table && r.contains(&a));
            let missing = (0..=u16::MAX).filter(|a| !there(*a));
            memory.missing.extend(missing.map(|a| (table, a)));
        }
    }
    memory
}

fn put(memory: &Shared, first: u16, words: impl IntoIterator<Item = u16>) {
    let cells = (first..).zip(words);
    memory
        .lock()
        .cells
        .extend(cells.map(|(a, word)| ((HOLDING, a), word)));
}

fn table<'a>(unit: &'a Json, name: &str) -> &'a Json {
    let tables = unit["tables"].as_array().unwrap();
    tables.iter().find(|t| t["table"] == name).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_finds_units_ranges_and_types_and_writes_what_check_takes() {
    let memory = device(&[(HOLDING, 0..30), (HOLDING, 4096..4100), (COILS, 0..9)]);
    memory.lock().units = [1, 3].into();
    memory.lock().without = [DISCRETE].into();
    put(&memory, 0, [0; 30]);
    put(&memory, 4096, [0; 4]);
    put(&memory, 0, [0x41ac, 0x0000, 0x40c8, 0x0000]);
    put(&memory, 10, [0x5052, 0x4553, 0x5320, 0x3400]);
    put(&memory, 20, [0xffff, 0xfff6]);
    let address = listen(memory.clone(), Frames::Mbap).await.to_string();
    let dir = tempfile::tempdir().unwrap();
    let profile = dir.path().join("found.toml").to_str().unwrap().to_owned();
    let asked = {
        let profile = profile.clone();
        move || {
            run_json(&[
                "scan",
                "modbus",
                &address,
                "--units",
                "1-3",
                "--timeout-ms",
                "400",
                "--delay-ms",
                "0",
                "--json",
                "-o",
                &profile,
            ])
        }
    };
    let said = tokio::task::spawn_blocking(asked).await.unwrap();
    let units = said["units"].as_array().unwrap();
    let ids: Vec<&Json> = units.iter().map(|u| &u["unit"]).collect();
    assert_eq!(ids, [&json!(1), &json!(3)]);
    let unit = &units[0];
    assert_eq!(unit["identification"][0]["text"], "Weighs & Co");
    let holding = table(unit, "holding register");
    assert_eq!(holding["ranges"], json!([[0, 29], [4096, 4099]]));
    assert_eq!(holding["complete"], true);
    assert_eq!(table(unit, "coil")["ranges"], json!([[0, 8]]));
    assert_eq!(table(unit, "discrete input")["exists"], false);
    assert_eq!(table(unit, "input register")["ranges"], json!([]));
    let guesses: Vec<(u64, &str, &str)> = unit["guesses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|g| {
            let text = |key: &str| g[key].as_str().unwrap();
            (g["address"].as_u64().unwrap(), text("type"), text("value"))
        })
        .collect();
    let expected = [
        (0, "f32", "21.5"),
        (2, "f32", "6.25"),
        (10, "text", "PRESS 4"),
        (20, "i32", "-10"),
    ];
    assert_eq!(guesses, expected);
    // It only read, with a bounded number of requests.
    {
        let memory = memory.lock();
        let reads = |f: u8| f <= INPUT || f == 43;
        assert!(memory.asked.iter().all(|a| reads(a.function)));
        assert!(memory.asked.len() < 2 * 4 * 250, "{}", memory.asked.len());
    }
    // Two units, two profiles; each is taken by everything that takes profiles.
    for unit in [1, 3] {
        let profile = profile.replace(".toml", &format!("-unit-{unit}.toml"));
        for args in [
            ["check", &profile].as_slice(),
            &["profile", "test", &profile],
        ] {
            let asked: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
            let done = tokio::task::spawn_blocking(move || {
                run(&asked.iter().map(String::as_str).collect::<Vec<_>>())
            });
            let done = done.await.unwrap();
            assert!(done.status.success(), "{args:?} {}", stderr(&done));
        }
    }
}

#[test]
fn nobody_there_is_said_and_no_unit_is_another_matter() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let nobody = run(&["scan", "modbus", &address]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(
        stderr(&nobody).contains("nothing listens there"),
        "{}",
        stderr(&nobody)
    );
    let wrong = run(&["scan", "modbus", &address, "--units", "9-3"]);
    assert_eq!(wrong.status.code(), Some(2));
}
