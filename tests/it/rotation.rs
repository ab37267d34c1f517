//! A hub's key is replaced while everything goes on: an edge node uploads, people read and write, and evidence
//! that was handed out before holds as before.

use crate::edge::{self, PRESS};
use crate::machines::Counting;
use crate::site::{self, PATIENCE};
use crate::support::{Plant, Random, run, run_json, stderr};
use serde_json::Value as Json;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use weighbridge::access::{Caller, Role};
use weighbridge::api::{KeyPort, OfferedKey};
use weighbridge::crypto::{Identity, Signer};
use weighbridge::edge::{EdgeNode, UplinkStatus};
use weighbridge::hub::{Change, Hub};
use weighbridge_verifier::rotation::rotation_message;
use weighbridge_verifier::{
    IdentityContent, IdentityKind, PublicKey, RotationContent, Suite, VerdictClass,
};

/// A gap between two blocks that is none of a machine that is only busy.
const LONG: i64 = 5_000_000_000;

fn caller() -> Caller {
    Caller::new("anna", "test")
}

fn rotate(hub: &Hub) -> (PublicKey, u64) {
    let caller = caller();
    let rotated = hub.keys().rotate_hub_for(&caller);
    let new = hub.runtime().block_on(rotated).unwrap();
    (new.key, new.height)
}

#[test]
fn an_edge_node_finds_the_hub_under_every_key_that_follows() {
    for suite in Suite::ALL {
        follows(suite);
    }
}

fn follows(suite: Suite) {
    let mut plant = edge::Plant::of(suite, 31);
    let machine = Counting::new(Duration::from_millis(1));
    let hub = plant.hub(&machine);
    let first = plant.site.identity().public_key();
    // What the edge node is told of the hub is told once.
    let node = plant.edge(&machine);
    let node = node.start().unwrap();
    let up = |status: &UplinkStatus| matches!(status, UplinkStatus::Up { .. });
    edge::uplink(&node, "up", up);
    site::batches(&hub, 3);
    // While it is connected it stays so.
    let (second, _) = rotate(&hub);
    let (third, _) = rotate(&hub);
    site::batches(&hub, 6);
    assert!(up(&node.uplink().borrow()));
    assert_eq!(plant.site.identity().public_key(), third);
    hub.shutdown().unwrap();
    // It meets the hub under a key that it does not know, and then without being told again.
    let hub = plant.hub(&machine);
    edge::uplink(&node, "up again", up);
    site::batches(&hub, 3);
    let stored = node.lanes().remove(0).acknowledged;
    node.shutdown().unwrap();
    let (fourth, _) = rotate(&hub);
    hub.shutdown().unwrap();
    let hub = plant.hub(&machine);
    let key = site_entry_of(&plant, first);
    let builder = weighbridge::edge::EdgeBuilder::new(plant.identity(), plant.buffer());
    let builder = builder.patience(Duration::from_millis(300)).hub(key);
    let node = builder.device(machine.setup(PRESS, 5)).start().unwrap();
    edge::uplink(&node, "up under the fourth", up);
    edge::drained(&node, stored);
    node.shutdown().unwrap();
    hub.shutdown().unwrap();
    plant.site.verify_is_clean();
    let keys: BTreeSet<_> = [first, second, third, fourth].into();
    assert_eq!(keys.len(), 4);
}

/// What the edge node was told of the hub when it still had its first key.
fn site_entry_of(plant: &edge::Plant, first: PublicKey) -> weighbridge::edge::HubEntry {
    let mut entry = edge::entry(&plant.site, plant.port);
    entry.key.own = first;
    // A P-256 key that nobody has any more is as good as the one that the hub had.
    entry.key.link = weighbridge::crypto::Identity::generate("gone").public_key();
    entry
}

/// POSTs or GETs, and returns status and body.
fn ask(address: &str, method: &str, path: &str) -> Result<(u16, String), std::io::Error> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (kind, body) = match method {
        "POST" => (
            "Content-Type: application/json\r\nContent-Length: 2\r\n",
            "{}",
        ),
        _ => ("", ""),
    };
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\n{kind}Connection: close\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status.unwrap_or(0), body.to_owned()))
}

#[cfg(unix)]
#[test]
fn keys_are_replaced_under_load_and_nobody_is_refused() {
    let mut random = Random::from_env();
    let plant = Plant::start();
    plant.http_roles(&["supervisor", "auditor", "security_admin"]);
    let hub = plant.run_hub();
    let address = hub.http_url().trim_start_matches("http://");
    let address = address.trim_end_matches('/').to_owned();
    let stop = Arc::new(AtomicBool::new(false));
    let paths = [
        "/api/v1/status",
        "/api/v1/tags?device=plc-0",
        "/api/v1/checkpoint",
        "/api/v1/keys",
    ];
    let clients = paths.map(|path| {
        let (address, stop) = (address.clone(), stop.clone());
        std::thread::spawn(move || {
            let (mut asked, mut longest, mut refused) = (0u32, Duration::ZERO, Vec::new());
            let mut before = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                match ask(&address, "GET", path) {
                    Ok((200, _)) => {}
                    other => refused.push(format!("{path}: {other:?}")),
                }
                asked += 1;
                longest = longest.max(before.elapsed());
                before = Instant::now();
            }
            (path, asked, longest, refused)
        })
    });
    let before = std::fs::read_to_string(plant.path("keys/hub.pub")).unwrap();
    let mut keys = vec![before.trim().to_owned()];
    let mut held = Vec::new();
    for round in 0..4 {
        let (status, note) = ask(&address, "GET", "/api/v1/checkpoint").unwrap();
        assert_eq!(status, 200, "{note}");
        held.push((keys[keys.len() - 1].clone(), note));
        let (status, body) = ask(&address, "POST", "/api/v1/keys/hub/rotate").unwrap();
        assert_eq!(status, 200, "round {round}: {body}");
        let said: Json = serde_json::from_str(&body).unwrap();
        assert_eq!(said["replaces"], keys[keys.len() - 1].as_str());
        keys.push(said["key"].as_str().unwrap().to_owned());
        std::thread::sleep(Duration::from_millis(50 + random.below(200)));
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        let (path, asked, longest, refused) = client.join().unwrap();
        eprintln!("{path}: {asked} answers, the longest after {longest:?}");
        assert_eq!(refused, Vec::<String>::new());
        assert!(asked > 0);
    }
    let listed = run_json(&["keys", "--url", &format!("http://{address}"), "--json"]);
    let own = listed["keys"]
        .as_array()
        .unwrap()
        .iter()
        .find(|k| k["id"] == "hub-1");
    assert_eq!(own.unwrap()["key"], keys[4].as_str());
    assert_eq!(own.unwrap()["former"].as_array().unwrap().len(), 4);
    let (_, ended) = hub.ends("-INT");
    assert_eq!(crate::support::ended(&ended), 0, "{}", stderr(&ended));

    // What was handed out before is believed as before, and the ledger by each of its keys.
    let dir = plant.path("data");
    for (at, (key, note)) in held.iter().enumerate() {
        let file = plant.path(&format!("held-{at}.note"));
        std::fs::write(&file, note).unwrap();
        let (dir, file) = (dir.to_str().unwrap(), file.to_str().unwrap());
        let verified = run(&["verify", dir, "--trust", key, "--checkpoint", file]);
        assert!(verified.status.success(), "{}", stderr(&verified));
    }
    let last = run(&["verify", dir.to_str().unwrap(), "--trust", &keys[4]]);
    assert!(last.status.success());
    let said = String::from_utf8_lossy(&last.stdout).into_owned();
    assert!(
        said.contains(&format!("signs by the key {}", keys[2])),
        "{said}"
    );
    let explorer = plant.open_ledger();
    let tip = explorer.tip().unwrap().unwrap();
    let mut times: Vec<i64> = Vec::new();
    for height in 1..=tip.height {
        times.push(explorer.block(height).unwrap().unwrap().header.time);
    }
    let gaps = times.windows(2).skip(2).map(|pair| pair[1] - pair[0]);
    let longest = gaps.max().unwrap();
    eprintln!("the longest gap between blocks: {} ms", longest / 1_000_000);
    assert!(longest < LONG, "{longest} ns between two blocks");
}

#[cfg(unix)]
#[test]
fn whoever_may_not_replace_keys_does_not_and_the_old_file_is_told_from_the_new() {
    let plant = Plant::without_machines();
    let hub = plant.run_hub();
    let url = hub.http_url().to_owned();
    let refused = run(&["keys", "rotate", "hub", "--url", &url]);
    let said = crate::support::failed(&refused);
    assert!(said.contains("may not replace the key"), "{said}");
    hub.kill();
    let old = std::fs::read(plant.path("keys/hub.key")).unwrap();
    plant.http_roles(&["observer", "security_admin"]);
    let hub = plant.run_hub();
    let new = run_json(&["keys", "rotate", "hub", "--url", hub.http_url(), "--json"]);
    hub.kill();
    let kept = std::fs::read(plant.path("keys/hub.key")).unwrap();
    assert_ne!(kept, old);
    let names: Vec<_> = std::fs::read_dir(plant.path("keys")).unwrap().collect();
    let left = names
        .into_iter()
        .map(|e| e.unwrap().file_name().into_string().unwrap());
    let left: Vec<_> = left.filter(|name| name.starts_with("hub.key")).collect();
    assert_eq!(left, ["hub.key"]);
    // A backup of the old key is no key any more.
    std::fs::write(plant.path("keys/hub.key"), old).unwrap();
    let config = plant.path("hub.toml");
    let refused = crate::support::RunningHub::try_start(&config)
        .err()
        .unwrap();
    let said = stderr(&refused);
    assert!(said.contains("another key than"), "{said}");
    assert!(said.contains(new["key"].as_str().unwrap()), "{said}");
    std::fs::write(plant.path("keys/hub.key"), kept).unwrap();
    plant.run_hub().kill();
    plant.verify_is_clean();
}

/// The record by which `new` takes the place of `old`.
fn replaced(old: &Identity, new: &Identity) -> OfferedKey {
    let identity = IdentityContent {
        id: new.id().to_owned(),
        kind: IdentityKind::Edge,
        key: Some(new.public_key()),
    };
    let message = rotation_message(old.suite(), "main", &identity, &old.public_key());
    OfferedKey::Rotation(RotationContent {
        proof: new.sign(&message),
        consent: Some(old.sign(&message)),
        replaces: old.public_key(),
        identity,
    })
}

/// Has the hub record that `new` takes the place of `old`, and let in the edge node with it.
fn enrol(hub: &Hub, (old, new): (&Identity, &Identity), lets_in: bool) {
    let anna = site::enter(hub, "anna", &[Role::SecurityAdmin]);
    let enrolled = hub.keys().enrol(&anna, replaced(old, new));
    hub.runtime().block_on(enrolled).unwrap();
    if lets_in {
        let change = Change {
            edges: Some(vec![("edge-1".to_owned(), new.peer_key())]),
            ..Change::default()
        };
        let changed = hub.runtime().block_on(hub.apply(change)).unwrap();
        assert!(changed.is_empty());
    }
}

/// Waits until the edge node signs by `key`.
fn signs_by(node: &EdgeNode, key: PublicKey) {
    let mut keys = node.key();
    node.runtime().block_on(async {
        let waited = tokio::time::timeout(PATIENCE, keys.wait_for(|k| k.public_key() == key));
        waited.await.expect("it goes over").unwrap();
    });
}

/// Waits until more of the edge node is durable than on its way now.
fn more(hub: &Hub) {
    site::batches(hub, hub.stats().batches() + 10);
}

#[test]
fn an_edge_node_goes_over_to_its_new_key_without_a_restart() {
    for suite in Suite::ALL {
        goes_over(suite);
    }
}

fn goes_over(suite: Suite) {
    let mut plant = edge::Plant::of(suite, 33);
    let machine = Counting::new(Duration::from_millis(1));
    let hub = plant.hub(&machine);
    let node = plant.edge(&machine).start().unwrap();
    let up = |status: &UplinkStatus| matches!(status, UplinkStatus::Up { .. });
    edge::uplink(&node, "up", up);
    let keys: Vec<Identity> = (0..3)
        .map(|_| Identity::generate_of(suite, "edge-1"))
        .collect();
    let first = plant.identity();
    let files = tempfile::tempdir().unwrap();
    let link = |key: &Identity| {
        let file = files.path().join(key.public_key().to_string());
        if !file.exists() {
            key.save(&file).unwrap();
        }
        Identity::load(&file, "edge-1").unwrap()
    };
    // Told before its hub knows: it goes on under the key that it has.
    node.offer_key(link(&keys[0])).unwrap();
    more(&hub);
    assert_eq!(node.key().borrow().public_key(), first.public_key());
    assert!(up(&node.uplink().borrow()));
    enrol(&hub, (&first, &keys[0]), true);
    signs_by(&node, keys[0].public_key());
    more(&hub);
    // The hub knows first: the connection stays until the edge node is told, and goes over then.
    enrol(&hub, (&keys[0], &keys[1]), true);
    more(&hub);
    assert_eq!(node.key().borrow().public_key(), keys[0].public_key());
    node.offer_key(link(&keys[1])).unwrap();
    signs_by(&node, keys[1].public_key());
    more(&hub);
    // While it was away the hub was told of the third alone.
    enrol(&hub, (&keys[1], &keys[2]), false);
    hub.shutdown().unwrap();
    plant.replace_key(&keys[2]);
    let hub = plant.hub(&machine);
    edge::uplink(&node, "it is not let in", |s| !up(s));
    node.offer_key(link(&keys[2])).unwrap();
    signs_by(&node, keys[2].public_key());
    edge::uplink(&node, "up under the third", up);
    site::batches(&hub, 10);
    edge::finish(node, || plant.edge(&machine), &machine);
    // Who has the one before is nobody any more.
    let other = tempfile::tempdir().unwrap();
    let stranger = weighbridge::edge::EdgeBuilder::new(link(&keys[1]), other.path());
    let stranger = stranger.hub(edge::entry(&plant.site, plant.port));
    let stranger = stranger.device(machine.setup(PRESS, 5)).start().unwrap();
    let down = |status: &UplinkStatus| matches!(status, UplinkStatus::Down { .. });
    edge::uplink(&stranger, "refused", down);
    assert_eq!(stranger.lanes().remove(0).acknowledged, 0);
    stranger.shutdown().unwrap();
    hub.shutdown().unwrap();

    plant.site.verify_is_clean();
    let recorded = plant.site.recorded();
    recorded.is_gapless();
    assert!(
        recorded
            .classes(PRESS)
            .iter()
            .all(|c| *c != VerdictClass::Invalid)
    );
    let attested = recorded.of(PRESS);
    let mut signers: Vec<_> = attested
        .map(|b| b.content.attester.expect("it is attested").key)
        .collect();
    signers.dedup();
    let due: Vec<_> = [&first]
        .into_iter()
        .chain(&keys)
        .map(Signer::public_key)
        .collect();
    assert_eq!(signers, due);
}
