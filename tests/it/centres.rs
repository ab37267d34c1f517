//! Certificateless keys in a chain: made by several centres, enrolled, used by an edge node, and none of it
//! believed without being computed again.

use crate::edge::{self, PRESS};
use crate::machines::Counting;
use crate::site;
use crate::support::{Plant, failed, run, run_json, stderr};
use std::path::Path;
use std::time::Duration;
use weighbridge::access::{Caller, Role};
use weighbridge::api::{KeyFault, KeyPort, OfferedKey};
use weighbridge::crypto::guomi::centre::{CentreKey, Centres};
use weighbridge::crypto::guomi::making::{Kept, Making};
use weighbridge::crypto::guomi::recorded;
use weighbridge::crypto::{Identity, Signer};
use weighbridge::hub::Hub;
use weighbridge_verifier::centres::{derived_message, derived_name};
use weighbridge_verifier::{
    CentreShare, DerivedContent, IdentityContent, IdentityKind, PublicKey, Signature, Suite,
};

/// Centres, and the set that they are.
struct Made {
    keys: Vec<CentreKey>,
    set: Centres,
    shares: Vec<CentreShare>,
}

fn centres(names: &[&str], version: u32) -> Made {
    let keys: Vec<_> = names.iter().map(|name| CentreKey::generate(name)).collect();
    let members = keys.iter().map(|key| key.member(u64::from(version)));
    let shares: Vec<_> = members.map(|m| recorded::share(&m).unwrap()).collect();
    Made {
        set: recorded::centres(version, &shares).unwrap(),
        keys,
        shares,
    }
}

/// The making of a key for the edge node, up to the parts.
fn making(made: &Made) -> (Making, Kept) {
    let name = derived_name("main", "edge", "edge-1");
    let (mut making, mut mine) = Making::begin(&made.set, &name, [5; 32]).unwrap();
    let mut kept: Vec<Option<Kept>> = made.keys.iter().map(|_| None).collect();
    for round in 0..3 {
        for (key, kept) in made.keys.iter().zip(&mut kept) {
            making.answer(&made.set, key, kept).unwrap();
        }
        if round == 0 {
            assert!(making.go_on(&made.set, &mut mine).unwrap().is_err());
        }
    }
    (making, mine)
}

/// The edge node's new key, and what it shows of it.
fn derived(made: &Made, version: u32, before: &Identity) -> (Identity, DerivedContent) {
    let (mut making, mut mine) = making(made);
    let key = making.go_on(&made.set, &mut mine).unwrap().ok().unwrap();
    let identity = Identity::derived("edge-1", &key);
    let mut derived = DerivedContent {
        identity: IdentityContent {
            id: "edge-1".to_owned(),
            kind: IdentityKind::Edge,
            key: Some(identity.public_key()),
        },
        version,
        declared: PublicKey::from_sec1(Suite::Guomi, &key.declared.0).unwrap(),
        replaces: Some(before.public_key()),
        proof: Signature([0; 64]),
        consent: None,
    };
    let message = derived_message(Suite::Guomi, "main", &derived);
    derived.proof = identity.sign(&message);
    derived.consent = Some(before.sign(&message));
    (identity, derived)
}

fn ask<T>(hub: &Hub, asked: impl Future<Output = Result<T, KeyFault>>) -> Result<T, KeyFault> {
    hub.runtime().block_on(asked)
}

fn administrator(hub: &Hub) -> Caller {
    let entered = hub.enter("anna", &[Role::SecurityAdmin, Role::Observer]);
    hub.runtime().block_on(entered).unwrap()
}

#[test]
fn an_edge_node_attests_by_a_key_that_anyone_computes() {
    let mut plant = edge::Plant::of(Suite::Guomi, 41);
    let machine = Counting::new(Duration::from_millis(1));
    let before = plant.identity();
    let first = centres(&["north", "south", "west"], 1);
    let hub = plant.hub(&machine);
    let (anna, keys) = (administrator(&hub), hub.keys().clone());
    let set = ask(&hub, keys.set_centres(&anna, first.shares.clone()));
    assert_eq!(set.unwrap().0, 1);
    // A share that nobody proves, or that was proved for another version, makes no set.
    let refused = ask(&hub, keys.set_centres(&anna, first.shares.clone())).unwrap_err();
    assert!(refused.to_string().contains("north"), "{refused}");

    let (identity, offered) = derived(&first, 1, &before);
    let mut other = offered.clone();
    other.declared = first.shares[0].public;
    let mut foreign = offered.clone();
    foreign.identity.key = Some(Identity::generate_of(Suite::Guomi, "edge-1").public_key());
    let mut unsigned = offered.clone();
    unsigned.proof = before.sign(&derived_message(Suite::Guomi, "main", &offered));
    for wrong in [other, foreign, unsigned] {
        let refused = ask(&hub, keys.enrol(&anna, OfferedKey::Derived(wrong))).unwrap_err();
        assert!(matches!(refused, KeyFault::Wrong(_)), "{refused}");
    }
    ask(
        &hub,
        keys.enrol(&anna, OfferedKey::Derived(offered.clone())),
    )
    .unwrap();
    let again = ask(
        &hub,
        keys.enrol(&anna, OfferedKey::Derived(offered.clone())),
    );
    assert!(matches!(again, Err(KeyFault::Wrong(_))));
    hub.shutdown().unwrap();

    // Something waits under the old key, and goes up under the new one, which other centres do not disturb.
    let node = plant.edge(&machine).start().unwrap();
    while node.lanes().remove(0).pending < 3 {
        std::thread::sleep(Duration::from_millis(5));
    }
    node.shutdown().unwrap();
    plant.replace_key(&identity);
    for lives in 0..2 {
        let hub = plant.hub(&machine);
        let node = plant.edge(&machine).start().unwrap();
        site::batches(&hub, 3);
        if lives == 0 {
            let anna = administrator(&hub);
            let second = centres(&["east", "north"], 2);
            let set = hub.keys().set_centres(&anna, second.shares);
            assert_eq!(ask(&hub, set).unwrap().0, 2);
            site::batches(&hub, 6);
        }
        match lives {
            0 => node.shutdown().unwrap(),
            _ => edge::finish(node, || plant.edge(&machine), &machine),
        }
        hub.shutdown().unwrap();
    }
    plant.site.verify_is_clean();
    let recorded = plant.site.recorded();
    let all: Vec<u64> = (0..machine.scans()).collect();
    assert_eq!(recorded.counts(PRESS), all);
    let computed = recorded::derive(("main", "edge", "edge-1"), &first.set, &offered.declared);
    let attested = recorded.of(PRESS);
    let keys: Vec<_> = attested
        .map(|b| b.content.attester.expect("it is attested").key)
        .collect();
    let later = keys
        .iter()
        .position(|key| Some(*key) == computed)
        .expect("it is used");
    assert!(later >= 3 && keys.len() > later + 3);
    assert!(keys[..later].iter().all(|key| *key == before.public_key()));
    assert!(keys[later..].iter().all(|key| Some(*key) == computed));
}

#[test]
fn a_centre_that_cheats_is_on_record() {
    let site = crate::site::Site::of(Suite::Guomi, 42);
    let hub = site.hub().start().unwrap();
    let (anna, keys) = (administrator(&hub), hub.keys().clone());
    let made = centres(&["north", "south"], 1);
    ask(&hub, keys.set_centres(&anna, made.shares.clone())).unwrap();
    let (honest, _) = making(&made);
    assert_eq!(
        ask(&hub, keys.complain(&anna, honest.clone())).unwrap(),
        None
    );
    let mut cheated = honest;
    let bent = cheated.parts["north"];
    cheated.parts.insert("south".to_owned(), bent);
    let named = ask(&hub, keys.complain(&anna, cheated)).unwrap().unwrap();
    assert!(named.contains("south"), "{named}");
    // Who may not gets nowhere.
    let bob = hub.enter("bob", &[Role::Observer]);
    let bob = hub.runtime().block_on(bob).unwrap();
    let refused = ask(&hub, keys.set_centres(&bob, made.shares)).unwrap_err();
    assert!(matches!(refused, KeyFault::Denied(_)), "{refused}");
    hub.shutdown().unwrap();
    site.verify_is_clean();
    let acts = site.recorded().acts;
    let fault = acts.iter().find(|act| act.kind == "centre-fault").unwrap();
    assert!(fault.details["fault"].as_str().unwrap().contains("south"));
    assert_eq!(fault.subject, "user:anna");
}

fn said(args: &[&str]) -> String {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_commands_make_and_enrol_a_key() {
    let plant = Plant::of_with_machines("guomi", 1, 1);
    plant.http_roles(&["observer", "security_admin"]);
    let hub = plant.run_hub();
    let url = hub.http_url().to_owned();
    let text = |name: &str| plant.path(name).to_str().unwrap().to_owned();
    let (north, south, cell) = (text("north"), text("south"), text("cell"));
    let mut cards = Vec::new();
    for (dir, name) in [(&north, "north"), (&south, "south")] {
        said(&["centre", "init", dir, "--name", name]);
        let card = said(&["centre", "card", dir, "--version", "1"]);
        let at = text(&format!("{name}.card"));
        std::fs::write(&at, card).unwrap();
        cards.push(at);
    }
    said(&["keys", "centres", &cards[1], &cards[0], "--url", &url]);
    let sets = text("sets.json");
    let listed = said(&["keys", "centres", "--url", &url, "--json"]);
    std::fs::write(&sets, listed).unwrap();

    let ask = [
        "centre", "ask", &cell, "--edge", "edge-9", "--chain", "main", "--sets", &sets,
    ];
    said(&ask);
    assert!(failed(&run(&ask)).contains("being made already"));
    let making = text("cell/making.json");
    let answer = |dir: &str| said(&["centre", "answer", dir, &making, "--sets", &sets]);
    answer(&north);
    let early = answer(&cell);
    assert!(early.contains("the centre `south` first"), "{early}");
    answer(&south);
    answer(&cell);
    for _ in 0..2 {
        answer(&north);
        answer(&south);
    }
    let done = answer(&cell);
    assert!(done.contains("edge-1.key"), "{done}");
    assert!(!Path::new(&text("cell/asked.json")).exists());
    let left = std::fs::read_dir(plant.path("north")).unwrap().count();
    assert_eq!(left, 2, "the centre keeps nothing of it");
    said(&["keys", "enrol", &text("cell/enrol.json"), "--url", &url]);
    let keys = run_json(&["keys", "--url", &url, "--json"]);
    let keys = keys["keys"].as_array().unwrap().clone();
    let edge = keys.iter().find(|known| known["id"] == "edge-9").unwrap();
    let identity = Identity::load(&plant.path("cell/edge-1.key"), "edge-9").unwrap();
    assert_eq!(edge["key"], identity.public_key().to_string());

    // An ordinary key takes its place, with its word and, when it is lost, without.
    let (second, third) = (text("second.key"), text("third.key"));
    let make = [
        "keys",
        "make",
        "edge:edge-9",
        &second,
        "--chain",
        "main",
        "--replaces",
    ];
    let first = text("cell/edge-1.key");
    said(&[&make[..], &[&*first]].concat());
    let enrol = |file: &str| {
        run(&[
            "keys",
            "enrol",
            &format!("{file}.enrol.json"),
            "--url",
            &url,
        ])
    };
    assert!(enrol(&second).status.success());
    let refused = failed(&enrol(&second));
    assert!(
        refused.contains("another key than the one that is to be replaced"),
        "{refused}"
    );
    let had = Identity::load(Path::new(&second), "edge-9").unwrap();
    let had = had.public_key().to_string();
    let make = [
        "keys",
        "make",
        "edge:edge-9",
        &third,
        "--chain",
        "main",
        "--lost",
        &had,
    ];
    said(&make);
    assert!(enrol(&third).status.success());
    hub.kill();
    plant.verify_is_clean();
}
