//! Retiring at a running hub: the directory stays bounded, what is archived can be read back, and what is erased
//! afterwards cannot.

use crate::machines::{EPOCH, MS, Scripted, Step, tag};
use crate::site::PATIENCE;
use crate::support::{Plant, Random, failed, run, run_json, stderr};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use weighbridge::api::RetentionStatus;
use weighbridge::crypto::Signer;
use weighbridge::hub::{Hub, HubBuilder, HubKeys, RetentionSetup};
use weighbridge::ledger::query::Explorer;
use weighbridge::model::{Value, ValueKind};
use weighbridge::store::{ArchiveDir, FjallStore};

const PRESS: &str = "press-1";
const HOUR: Duration = Duration::from_secs(3_600);

/// A directory as `init` lays it out, whose hub runs in the test's process.
struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("keys");
        std::fs::create_dir(&keys).unwrap();
        let new = HubKeys::generate("hub-1");
        new.signing.save(&keys.join(HubKeys::SIGNING)).unwrap();
        new.sealing.save(&keys.join(HubKeys::SEALING)).unwrap();
        let public = new.signing.public_key().to_string();
        std::fs::write(keys.join("hub.pub"), public).unwrap();
        Self { dir }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.at(name).display().to_string()
    }

    fn hub(&self) -> HubBuilder {
        let key = |name: &str| self.at("keys").join(name);
        let keys = HubKeys {
            signing: weighbridge::crypto::Identity::load(&key(HubKeys::SIGNING), "hub-1").unwrap(),
            sealing: weighbridge::crypto::SealingKey::load(&key(HubKeys::SEALING)).unwrap(),
        };
        HubBuilder::new(keys, self.at("data"))
    }
}

/// Waits for rounds until one left what is `wanted`.
fn after_a_round(hub: &Hub, wanted: impl Fn(&RetentionStatus) -> bool) -> RetentionStatus {
    let retainer = hub.retainer().unwrap();
    let mut rounds = retainer.rounds();
    hub.runtime().block_on(async {
        loop {
            let status = retainer.status();
            assert_eq!(status.trouble, None);
            if *rounds.borrow_and_update() > 0 && wanted(&status) {
                return status;
            }
            let next = tokio::time::timeout(PATIENCE, rounds.changed());
            next.await.expect("there was no round").unwrap();
        }
    })
}

fn wait_until(mut there: impl FnMut() -> bool) {
    let since = Instant::now();
    while !there() {
        assert!(since.elapsed() < PATIENCE, "it never came");
        std::thread::yield_now();
    }
}

/// Bytes that a directory takes: the store's journal, and the rest.
fn bytes(dir: &Path) -> (u64, u64) {
    let (mut journal, mut rest) = (0, 0);
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let (inner, other) = bytes(&path);
            (journal, rest) = (journal + inner, rest + other);
            continue;
        }
        // Compactions remove files meanwhile.
        let Ok(metadata) = std::fs::metadata(&path) else {
            continue;
        };
        #[cfg(unix)]
        let size = std::os::unix::fs::MetadataExt::blocks(&metadata) * 512;
        #[cfg(not(unix))]
        let size = metadata.len();
        match path.extension().is_some_and(|e| e == "jnl") {
            true => journal += size,
            false => rest += size,
        }
    }
    (journal, rest)
}

#[test]
fn the_directory_stays_bounded_while_far_more_is_stored() {
    const MOST: u64 = 12_000_000;
    const SCAN: usize = 128 << 10;
    const SCANS: u64 = 640;
    let home = Home::new();
    let press = Scripted::new(PRESS, [tag("frame", ValueKind::Bytes)]);
    let setup = RetentionSetup {
        max_bytes: Some(MOST),
        interval: HOUR,
        ..RetentionSetup::default()
    };
    let hub = home.hub().retention(setup.clone()).device(press.setup(4));
    let hub = hub.start().unwrap();
    let mut random = Random::seeded(7);
    let mut noise = vec![0u8; SCAN];
    let (mut largest, mut journal) = (0, 0);
    for scan in 0..SCANS {
        for eight in noise.chunks_mut(4) {
            eight.copy_from_slice(&(random.below(1 << 31) as u32).to_le_bytes());
        }
        let frame = vec![Value::Bytes(noise.clone())];
        press.does(Step::Scan(EPOCH + scan as i64 * MS, frame));
        if scan % 16 == 15 {
            // As fast as it is durable.
            let stored = (scan + 1) * SCAN as u64;
            let counted = || hub.stats().sealed_bytes.load(Ordering::Relaxed);
            wait_until(|| counted() >= stored);
            let (of_journal, rest) = bytes(&home.at("data"));
            (largest, journal) = (largest.max(rest), journal.max(of_journal));
        }
    }
    let stored = hub.stats().sealed_bytes.load(Ordering::Relaxed);
    let status = after_a_round(&hub, |status| status.used_bytes <= MOST);
    let commit = hub.stats().commit.quantile_ms(0.99);
    eprintln!("blocks were written in {commit:?} ms (p99) meanwhile");
    eprintln!(
        "{stored} bytes stored, at most {largest} kept, and {journal} of journal: {status:?}"
    );
    assert!(stored > 6 * MOST, "{stored}");
    assert!(status.retired_bytes > stored - 2 * MOST, "{status:?}");
    // What docs/retention.md states.
    assert!(largest <= 2 * MOST + (16 << 20), "{largest}");
    assert!(journal <= 3 * (64 << 20), "{journal}");
    hub.shutdown().unwrap();

    let report = run_json(&["verify", &home.text("."), "--json"]);
    assert_eq!(report["clean"], true, "{report}");
    assert!(report["retirement_count"].as_u64().unwrap() > 3, "{report}");
    // It starts from what is left, and goes on.
    let hub = home.hub().retention(setup).device(press.setup(4));
    let hub = hub.start().unwrap();
    for scan in SCANS..SCANS + 4 {
        let frame = vec![Value::Bytes(noise.clone())];
        press.does(Step::Scan(EPOCH + scan as i64 * MS, frame));
    }
    wait_until(|| hub.stats().accepted.load(Ordering::Relaxed) > 0);
    hub.shutdown().unwrap();
    let report = run_json(&["verify", &home.text("."), "--json"]);
    assert_eq!(report["clean"], true, "{report}");
}

#[test]
fn what_is_archived_is_read_back_and_proven_and_what_is_erased_then_is_closed() {
    let home = Home::new();
    let press = Scripted::new(PRESS, [tag("pressure", ValueKind::F64)]);
    let lathe = Scripted::new("lathe-1", [tag("speed", ValueKind::F64)]);
    let hub = home.hub().device(press.setup(2)).device(lathe.setup(2));
    let hub = hub.start().unwrap();
    for scan in 0..20 {
        press.scan(EPOCH + scan * MS, [scan as f64]);
        lathe.scan(EPOCH + scan * MS, [-scan as f64]);
    }
    let stored = |hub: &Hub| hub.stats().accepted.load(Ordering::Relaxed);
    wait_until(|| stored(&hub) == 20);
    hub.shutdown().unwrap();

    let plant = home.text(".");
    let (archive, trust) = (home.text("archive"), home.text("keys/hub.pub"));
    let time = |scan: i64| (EPOCH + scan * MS).to_string();
    // The newest batch of a device stays.
    let (from, newest, to) = (time(0), time(18), time(20));
    let evidence = |file: &str, more: &[&str]| {
        let wanted = [
            "evidence", PRESS, "--from", &from, "--to", &newest, "--dir", &plant,
        ];
        run(&[&wanted[..], &["-o", file], more].concat())
    };
    let before = home.text("before.evidence");
    assert!(evidence(&before, &[]).status.success());

    // Everything but the newest block is older than a nanosecond.
    let age = Some(Duration::from_nanos(1));
    let setup = RetentionSetup {
        batches: age,
        bodies: age,
        archive: Some(home.at("archive")),
        interval: HOUR,
        ..RetentionSetup::default()
    };
    let hub = home.hub().retention(setup.clone());
    let hub = hub
        .device(press.setup(2))
        .device(lathe.setup(2))
        .start()
        .unwrap();
    let status = after_a_round(&hub, |status| status.bodies_horizon > 1);
    assert_eq!(status.segments, 1, "{status:?}");
    hub.shutdown().unwrap();
    let verified = run_json(&["verify", &plant, "--json"]);
    assert_eq!(verified["clean"], true, "{verified}");
    assert_eq!(verified["retirement_count"], 1);
    assert_eq!(verified["retirements"][0]["archive"], archive);
    let text = run(&["verify", &plant]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(
        text.contains("retired on record") && text.contains(&archive),
        "{text}"
    );

    // Evidence issued before holds; of what is gone it is said where it is.
    assert!(
        run(&["verify", &before, "--trust", &trust])
            .status
            .success()
    );
    let history = |more: &[&str]| {
        let wanted = ["history", PRESS, "pressure", "--from", &from, "--to", &to];
        let output = run(&[&wanted[..], &["--dir", &plant, "--json"], more].concat());
        let said = stderr(&output);
        assert!(output.status.success(), "{said}");
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (answer["samples"].as_array().unwrap().len(), said)
    };
    let (left, said) = history(&[]);
    assert_eq!(left, 2, "the newest batch stays");
    assert!(said.contains(&format!("--archive {archive}")), "{said}");
    let after = home.text("after.evidence");
    let said = failed(&evidence(&after, &[]));
    assert!(
        said.contains("were retired") && said.contains(&archive),
        "{said}"
    );
    let prove = |more: &[&str]| {
        let at = time(5);
        let wanted = [
            "prove", "--device", PRESS, "--tag", "pressure", "--at", &at, "--late",
        ];
        run(&[&wanted[..], &["--dir", &plant, "-o", &after], more].concat())
    };
    let said = failed(&prove(&[]));
    assert!(
        said.contains("were retired") && said.contains(&archive),
        "{said}"
    );

    // From the archive everything is as it was, bit for bit.
    let archived = ["--archive", &*archive];
    assert_eq!(history(&archived).0, 20);
    let output = evidence(&after, &archived);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(
        std::fs::read(&after).unwrap(),
        std::fs::read(&before).unwrap()
    );
    let output = prove(&archived);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(run(&["verify", &after, "--trust", &trust]).status.success());
    let records = |more: &[&str]| {
        let wanted = ["records", "--device", PRESS, "--limit", "100", "--json"];
        let answer = run_json(&[&wanted[..], &["--dir", &plant], more].concat());
        answer["records"].as_array().unwrap().len()
    };
    let all = records(&archived);
    assert!(all > 10 && records(&[]) < all - 9, "{all}");
    let list = run_json(&["archive", "list", &archive, "--json"]);
    let file = list["segments"][0]["file"].as_str().unwrap().to_owned();
    let read = run_json(&[
        "archive", "read", &archive, "--device", PRESS, "--limit", "5", "--json",
    ]);
    assert_eq!(read["records"].as_array().unwrap().len(), 5);
    let checked = run_json(&["archive", "verify", &archive, "--dir", &plant, "--json"]);
    assert_eq!(
        (&checked["clean"], &checked["segments"]),
        (&true.into(), &1.into())
    );

    // A changed bit of it is found, and so is a file that is gone.
    let path = home.at("archive").join(&file);
    let whole = std::fs::read(&path).unwrap();
    for at in [0, whole.len() / 2, whole.len() - 1] {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        std::fs::write(&path, changed).unwrap();
        assert_eq!(
            run(&["archive", "verify", &archive]).status.code(),
            Some(1),
            "{at}"
        );
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(run(&["archive", "verify", &archive]).status.code(), Some(1));
    std::fs::write(&path, &whole).unwrap();

    // Erased after it was archived: nobody opens it, though every byte is there.
    let until = weighbridge::model::now().to_string();
    let erase = [
        "erase", "--device", PRESS, "--until", &until, "--dir", &plant,
    ];
    let erased = run_json(&[&erase[..], &["--yes", "--json"]].concat());
    assert_eq!(
        (&erased["batches"], &erased["keys"]),
        (&1.into(), &1.into())
    );
    let (left, said) = history(&archived);
    assert_eq!(left, 0);
    assert!(said.contains("their keys were erased"), "{said}");
    failed(&evidence(&after, &archived));
    assert_eq!(std::fs::read(&path).unwrap(), whole);
    let of_lathe = [
        "history", "lathe-1", "speed", "--from", &from, "--to", &to, "--dir", &plant,
    ];
    let of_lathe = run_json(&[&of_lathe[..], &["--json"], &archived].concat());
    assert_eq!(of_lathe["samples"].as_array().unwrap().len(), 20);
    assert_eq!(run_json(&["verify", &plant, "--json"])["clean"], true);
    assert_eq!(
        run_json(&["archive", "verify", &archive, "--dir", &plant, "--json"])["clean"],
        true
    );

    // The hub goes on, with the number after the newest, and retires again; the record of the erasure goes too.
    let hub = home.hub().retention(setup);
    let hub = hub
        .device(press.setup(2))
        .device(lathe.setup(2))
        .start()
        .unwrap();
    after_a_round(&hub, |status| status.segments == 2);
    press.scan(EPOCH + 30 * MS, [30.0]);
    press.scan(EPOCH + 31 * MS, [31.0]);
    wait_until(|| stored(&hub) == 1);
    hub.shutdown().unwrap();
    let verified = run_json(&["verify", &plant, "--json"]);
    assert_eq!(verified["clean"], true, "{verified}");
    assert_eq!(
        (&verified["retirement_count"], &verified["erasure_count"]),
        (&2.into(), &1.into())
    );
    // Another ledger's archive is not taken for this one's.
    let other = Home::new();
    other.hub().start().unwrap().shutdown().unwrap();
    let said = run(&[
        "history",
        PRESS,
        "pressure",
        "--dir",
        &other.text("."),
        "--archive",
        &archive,
    ]);
    assert!(
        failed(&said).contains("the archive of another ledger"),
        "{}",
        stderr(&said)
    );
}

/// What a hub is asked over HTTP says what is gone, and a change of its key does not end retiring.
#[test]
fn a_hub_that_changed_its_key_retires_on_and_says_what_is_gone() {
    let plant = Plant::start();
    let file = plant.path("hub.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    let config = config.replace(
        "[http]\n",
        "[http]\nroles = [\"supervisor\", \"auditor\", \"security_admin\", \"configure_admin\"]\n",
    );
    std::fs::write(&file, config).unwrap();
    let text = |name: &str| plant.path(name).to_str().unwrap().to_owned();
    let (dir, archive, trust) = (text("."), text("archive"), text("keys/hub.pub"));
    let first = weighbridge::model::now();
    let (mut hub, mut changed) = (plant.run_hub(), Vec::new());
    for _ in 0..3 {
        (0..5).for_each(|_| drop(hub.next_block()));
        let new = run_json(&["keys", "rotate", "hub", "--url", hub.http_url(), "--json"]);
        changed.push(new["height"].as_u64().unwrap());
    }
    (0..5).for_each(|_| drop(hub.next_block()));
    hub.kill();
    let retention = "batches = \"1s\"\nbodies = \"1s\"\narchive = \"archive\"\ninterval = \"1s\"\n";
    plant.configure(&format!("\n[ledger.retention]\n{retention}"));
    let mut hub = plant.run_hub();
    let url = hub.http_url().to_owned();
    let last = *changed.last().unwrap();
    loop {
        hub.next_block();
        let status = run_json(&["status", "--url", &url, "--json"]);
        assert!(status["retention"]["trouble"].is_null(), "{status}");
        if status["retention"]["bodies_horizon"].as_u64().unwrap() > last {
            break;
        }
    }
    // Of a time of which nothing is left, and of one of which something is.
    let from = first.to_string();
    let ask = |more: &[&str], to: &str| {
        let wanted = ["history", "plc-0", "r0", "--from", &from, "--to", to];
        let output = run(&[&wanted[..], more].concat());
        let said = stderr(&output);
        assert!(output.status.success(), "{said}");
        (String::from_utf8(output.stdout).unwrap(), said)
    };
    let now = weighbridge::model::now().to_string();
    for to in [(first + 1).to_string(), now.clone()] {
        let (json, said) = ask(&["--url", &url, "--json"], &to);
        let answer: serde_json::Value = serde_json::from_str(&json).unwrap();
        let gone = answer["gone"].as_array().unwrap();
        assert_eq!(gone.len(), 1, "{json}");
        assert_eq!(
            (&gone[0]["why"], gone[0]["archive"].is_string()),
            (&"retired".into(), true)
        );
        assert!(
            gone[0]["before_ns"]
                .as_str()
                .unwrap()
                .parse::<i64>()
                .unwrap()
                > first
        );
        let detail = gone[0]["detail"].as_str().unwrap();
        assert!(
            detail.contains("were retired") && said.contains(detail),
            "{said}"
        );
        let (csv, said) = ask(&["--url", &url, "--csv"], &to);
        assert!(
            csv.starts_with("time_ns,time,value,quality,status_code\n"),
            "{csv}"
        );
        assert!(said.contains("were retired"), "{said}");
    }
    let (recent, said) = {
        let later = weighbridge::model::now() + 3_600_000_000_000;
        let wanted = ["history", "plc-0", "r0", "--url", &url, "--json"];
        let range = ["--from", &now, "--to", &later.to_string()];
        let output = run(&[&wanted[..], &range].concat());
        (
            serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap(),
            stderr(&output),
        )
    };
    assert_eq!((&recent["gone"], &*said), (&serde_json::json!([]), ""));
    hub.kill();
    // What the keys lead over is there, before and after it is not, and the archive has all.
    plant.verify_is_clean();
    let verified = run_json(&["verify", &text("data"), "--trust", &trust, "--json"]);
    assert_eq!(verified["clean"], true, "{verified}");
    let ledger = plant.open_ledger();
    for height in 2..=last + 1 {
        let gone = ledger.block(height).unwrap().unwrap().records.is_empty();
        assert_eq!(gone, !changed.contains(&height), "{height}");
    }
    drop(ledger);
    let checked = run_json(&["archive", "verify", &archive, "--dir", &dir, "--json"]);
    assert_eq!(checked["clean"], true, "{checked}");
    // Proofs under the first key, and under a later one, from the archive and from the directory.
    for (at, more) in [
        (first + 2_000_000_000, &["--archive", &*archive][..]),
        (weighbridge::model::now(), &[]),
    ] {
        let proof = text("proof.json");
        let at = at.to_string();
        let wanted = [
            "prove", "--device", "plc-0", "--tag", "r0", "--at", &at, "--late",
        ];
        let output = run(&[&wanted[..], &["--dir", &dir, "-o", &proof], more].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        let now = text("now.pub");
        let key =
            weighbridge::crypto::Identity::load(&plant.path("keys/hub.key"), "hub-1").unwrap();
        std::fs::write(&now, key.public_key().to_string()).unwrap();
        let by = |trust: &str| run(&["verify", &proof, "--trust", trust]).status.success();
        assert!(by(&trust) || by(&now), "{at}");
    }
    let evidence = text("evidence.json");
    let wanted = [
        "evidence",
        "plc-0",
        "--dir",
        &dir,
        "-o",
        &evidence,
        "--archive",
        &archive,
    ];
    let to = (first + 1_500_000_000).to_string();
    let output = run(&[&wanted[..], &["--from", &from, "--to", &to]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        run(&["verify", &evidence, "--trust", &trust])
            .status
            .success()
    );
    // Erased as well: that is said, though the archive is at hand.
    let erase = ["erase", "--device", "plc-0", "--until", &now, "--dir", &dir];
    run_json(&[&erase[..], &["--yes", "--json"]].concat());
    let (json, said) = ask(&["--dir", &dir, "--archive", &archive, "--json"], &now);
    let answer: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(answer["gone"][0]["why"], "erased", "{json}");
    assert!(said.contains("were erased"), "{said}");
    plant.verify_is_clean();
}

#[test]
fn a_hub_that_is_killed_while_it_retires_loses_nothing_that_is_not_archived() {
    const KILLS: u64 = 12;
    let plant = Plant::start();
    plant.configure(
        "\n[ledger.retention]\nbatches = \"1s\"\nbodies = \"2s\"\narchive = \"archive\"\ninterval = \"1s\"\n",
    );
    let mut random = Random::from_env();
    let mut acknowledged = BTreeMap::new();
    let mut horizon = 0;
    for round in 0..=KILLS {
        let mut hub = plant.run_hub();
        // The last one lives until it has retired something itself.
        let mut left = 5 + random.below(200);
        while left > 0 || round == KILLS && horizon < 2 {
            for (device, epoch, sequence) in hub.next_block().batches {
                let before = acknowledged.insert((device.clone(), epoch, sequence), round);
                assert_eq!(before, None, "{device} {sequence} was acknowledged twice");
            }
            left = left.saturating_sub(1);
            if left == 0 {
                let status = run_json(&["status", "--url", hub.http_url(), "--json"]);
                let retention = &status["retention"];
                assert!(retention["trouble"].is_null(), "{retention}");
                horizon = retention["bodies_horizon"].as_u64().unwrap();
            }
        }
        hub.kill();
        plant.verify_is_clean();
    }
    let (dir, archive) = (plant.path("."), plant.path("archive"));
    let (dir, archive) = (dir.to_str().unwrap(), archive.to_str().unwrap());
    let checked = run_json(&["archive", "verify", archive, "--dir", dir, "--json"]);
    assert_eq!(checked["clean"], true, "{checked}");
    assert!(checked["segments"].as_u64().unwrap() > 1, "{checked}");
    // Ledger and archive together have every record and every batch that was acknowledged.
    let store = FjallStore::open(&plant.path("data")).unwrap();
    let stripped = Explorer::new(Arc::new(store));
    let tip = stripped.tip().unwrap().unwrap().height;
    let gone = |height: &u64| {
        let block = stripped.block(*height).unwrap().unwrap();
        block.records.is_empty()
    };
    let gone = (1..=tip).filter(gone).count() as u64;
    assert!(gone > 0 && gone >= horizon - 1, "{gone} {horizon}");
    drop(stripped);
    let store = Arc::new(FjallStore::open(&plant.path("data")).unwrap());
    let both = ArchiveDir::open(&plant.path("archive")).unwrap();
    let both = Explorer::new(Arc::new(both.over(store).unwrap()));
    for height in 1..=tip {
        let block = both.block(height).unwrap().unwrap();
        assert!(!block.records.is_empty(), "block {height}");
        for batch in block.records.iter().filter_map(|r| r.body.batch()) {
            acknowledged.remove(&(batch.device.clone(), batch.epoch, batch.sequence));
            if let Some(sealed) = &batch.sealed {
                let value = both.sealed(&sealed.hash).unwrap();
                assert_eq!(value.unwrap().len() as u64, sealed.length);
            }
        }
    }
    assert_eq!(acknowledged, BTreeMap::new(), "seed {}", random.seed);
}
