//! `weighbridge verify` looks into buffers: those of edge nodes, and a hub's beside its ledger.

use crate::machines::Counting;
use crate::site::PATIENCE;
use crate::support::{self, Plant};
use serde_json::Value as Json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use weighbridge::crypto::{Identity, SealingKey, Signer};
use weighbridge::edge::{EdgeBuilder, HubEntry, WhenFull};
use weighbridge::ledger::store::{Put, Space, Store};
use weighbridge::store::spool::SpoolLimits;
use weighbridge::store::{BufferedStore, FaultyDisk, FjallStore};

const PRESS: &str = "press-1";

/// Lets an edge node that has no hub read so many batches into its buffer in `cell`.
fn buffered(cell: &Path, identity: Identity, batches: u64) {
    let machine = Counting::new(Duration::from_millis(1));
    let nowhere = HubEntry {
        address: "127.0.0.1:1".to_owned(),
        key: Identity::generate("hub-1").peer_key(),
        sealing: SealingKey::generate().public().compressed(),
    };
    let edge = EdgeBuilder::new(identity, cell.join("buffer"))
        .bound(1 << 20, WhenFull::Stop)
        .hub(nowhere)
        .device(machine.setup(PRESS, 4))
        .start()
        .unwrap();
    let began = Instant::now();
    while edge.lanes()[0].stored < batches {
        assert!(began.elapsed() < PATIENCE, "{:?}", edge.lanes());
        std::thread::sleep(Duration::from_millis(2));
    }
    edge.shutdown().unwrap();
}

fn verify(args: &[&str]) -> (bool, Json) {
    let output = support::run(&[&["verify", "--json"], args].concat());
    let said = serde_json::from_slice(&output.stdout);
    let said = said.unwrap_or_else(|_| panic!("{}", support::stderr(&output)));
    (output.status.success(), said)
}

fn segments(lane: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(lane).unwrap();
    let mut found: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|e| e == "seg"));
    found.sort();
    found
}

#[test]
fn what_waits_at_an_edge_node_is_checked_and_damage_has_a_file_and_an_offset() {
    let dir = tempfile::tempdir().unwrap();
    let cell = dir.path();
    let identity = Identity::generate("edge-1");
    let key = identity.public_key().to_string();
    buffered(cell, identity, 300);
    let at = cell.to_str().unwrap();
    let (clean, said) = verify(&[at, "--trust", &key]);
    assert!(clean && said["clean"] == true, "{said}");
    let buffer = &said["buffers"][0];
    let waiting = buffer["audit"]["waiting"].as_u64().unwrap();
    assert!(waiting >= 300, "{said}");
    assert_eq!(buffer["signed_by"], key);
    assert!(buffer["samples"].as_u64().unwrap() >= 4 * 299, "{said}");
    let text = support::run(&["verify", at]);
    let text = String::from_utf8(text.stdout).unwrap();
    let expected = format!("{waiting} batches wait");
    assert!(
        text.contains(&expected) && text.contains("self-consistent only"),
        "{text}"
    );
    let other = Identity::generate("edge-1").public_key().to_string();
    let (clean, said) = verify(&[at, "--trust", &other]);
    assert!(!clean, "{said}");
    assert_eq!(said["buffers"][0]["audit"]["damage_count"], waiting);

    let lane = cell.join("buffer").join(PRESS);
    let files = segments(&lane);
    assert!(files.len() > 2, "{files:?}");
    // Every bit counts: in a head, in a payload, at the end.
    let whole = std::fs::read(&files[1]).unwrap();
    for offset in [0, 5, 20, 31, 40, whole.len() / 2, whole.len() - 1] {
        let mut changed = whole.clone();
        changed[offset] ^= 1;
        std::fs::write(&files[1], &changed).unwrap();
        let (clean, said) = verify(&[at]);
        assert!(!clean, "byte {offset}");
        let damage = &said["buffers"][0]["audit"]["damage"][0];
        let file = Path::new(damage["file"].as_str().unwrap());
        assert_eq!(
            file.file_name(),
            files[1].file_name(),
            "byte {offset}: {said}"
        );
        let named = damage["offset"].as_u64().unwrap() as usize;
        assert!(named <= offset, "byte {offset}: {said}");
    }
    std::fs::write(&files[1], &whole).unwrap();
    // A file that is gone, and an end that is gone.
    let aside = dir.path().join("aside");
    std::fs::rename(&files[1], &aside).unwrap();
    let (clean, said) = verify(&[at]);
    assert!(
        !clean && said.to_string().contains("are missing before this"),
        "{said}"
    );
    std::fs::rename(&aside, &files[1]).unwrap();
    let last = files.last().unwrap();
    let end = std::fs::read(last).unwrap();
    std::fs::write(last, &end[..end.len() - 3]).unwrap();
    let (clean, said) = verify(&[at]);
    assert!(
        !clean
            && said
                .to_string()
                .contains("had been durable and are missing"),
        "{said}"
    );
    // Half a batch behind the end is what a process leaves that is killed.
    let torn = [&end[..], &end[..50]].concat();
    std::fs::write(last, torn).unwrap();
    let (clean, said) = verify(&[at]);
    assert!(clean, "{said}");
    assert_eq!(said["buffers"][0]["audit"]["torn"], 50, "{said}");
    assert_eq!(
        std::fs::metadata(last).unwrap().len() as usize,
        end.len() + 50
    );
    // Another device's batches in its place.
    let elsewhere = cell.join("buffer").join("press-2");
    std::fs::rename(&lane, &elsewhere).unwrap();
    let (clean, said) = verify(&[elsewhere.to_str().unwrap()]);
    assert!(
        !clean && said.to_string().contains("a batch of `press-1`"),
        "{said}"
    );
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Everything in a store.
fn all(store: &dyn Store) -> Vec<Put> {
    let spaces = Space::ALL.into_iter();
    let entries = spaces.flat_map(|space| {
        let scan = store.scan(space, &[]).collect::<Vec<_>>();
        scan.into_iter().map(move |entry| {
            let (key, value) = entry.unwrap();
            Put { space, key, value }
        })
    });
    entries.collect()
}

#[cfg(unix)]
#[test]
fn blocks_that_wait_in_a_hubs_buffer_are_part_of_what_is_verified() {
    let plant = Plant::start();
    let run = || {
        let mut hub = plant.run_hub();
        for _ in 0..5 {
            hub.next_block();
        }
        let (_, ended) = hub.ends("-INT");
        assert_eq!(support::ended(&ended), 0);
    };
    run();
    let old = plant.path("old");
    copy(&plant.path("data"), &old.join("data"));
    run();
    // The newer blocks reached the buffer only, and the head names them.
    let data = plant.path("data");
    let (before, after) = (
        FjallStore::open(&old.join("data")).unwrap(),
        FjallStore::open(&data).unwrap(),
    );
    let had: std::collections::BTreeSet<_> = all(&before)
        .into_iter()
        .map(|put| (put.space, put.key))
        .collect();
    let news: Vec<_> = all(&after)
        .into_iter()
        .filter(|put| !had.contains(&(put.space, put.key.clone())))
        .collect();
    assert!(news.len() > 5);
    drop((before, after));
    let head = std::fs::read_dir(&data).unwrap().map(|e| e.unwrap().path());
    for file in head.filter(|path| path.is_file()) {
        std::fs::copy(&file, old.join("data").join(file.file_name().unwrap())).unwrap();
    }
    let (clean, said) = verify(&[old.to_str().unwrap()]);
    assert!(!clean, "{said}");
    let buffer = old.join("buffer");
    let full = FaultyDisk::new(1);
    full.set_full(true);
    let store = BufferedStore::open(Arc::new(full.store()), &buffer, SpoolLimits::of(64 << 20));
    let store = store.unwrap();
    for put in news {
        store.commit(&[put]).unwrap();
    }
    drop(store);
    let (clean, said) = verify(&[old.to_str().unwrap()]);
    assert!(clean, "{said}");
    assert!(
        said["buffer"]["audit"]["waiting"].as_u64().unwrap() > 5,
        "{said}"
    );
    let (clean, new) = verify(&[plant.path("data").to_str().unwrap()]);
    assert!(clean && new["height"] == said["height"], "{said} {new}");
    // The same by name, and damaged.
    let aside = plant.path("elsewhere");
    std::fs::rename(&buffer, &aside).unwrap();
    let file = segments(&aside).remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let args = [old.to_str().unwrap(), "--buffer", aside.to_str().unwrap()];
    let (clean, said) = verify(&args);
    assert!(!clean, "{said}");
    let damage = &said["buffer"]["audit"]["damage"][0];
    assert_eq!(damage["file"], file.to_str().unwrap(), "{said}");
}
