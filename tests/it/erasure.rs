//! Erasing what was recorded: at a hub that runs, and in the directory of a stopped one.

use crate::machines::{Counting, EPOCH, MS, Scripted, tag};
use crate::site::{self, PATIENCE, Site};
use crate::support::{Plant, ended, run, run_json, stderr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use weighbridge::access::{Caller, Role};
use weighbridge::api::{EraseFault, ErasePort, EraseRequest, EraseStatus};
use weighbridge::hub::Hub;
use weighbridge::ledger::history::evidence::evidence;
use weighbridge::ledger::history::reader::Archive;
use weighbridge::ledger::opening::Opener;
use weighbridge::ledger::query::Explorer;
use weighbridge::ledger::store::{Space, Store};
use weighbridge::model::{Nanos, ValueKind, now};
use weighbridge::protocols::ports::{Direction, HistoryPort, PastRequest};
use weighbridge_verifier::{Action, Response};

const PRESS: &str = "press-1";

fn caller(hub: &Hub, role: Role) -> Caller {
    site::enter(hub, role.name(), &[role])
}

fn request(device: &str, until: Nanos, dry_run: bool) -> EraseRequest {
    EraseRequest {
        device: device.to_owned(),
        until,
        dry_run,
    }
}

/// Erases, and waits until all of it is done.
fn erase(hub: &Hub, device: &str, until: Nanos) -> EraseStatus {
    let caller = caller(hub, Role::ConfigureAdmin);
    let wanted = request(device, until, false);
    let begun = hub.eraser().erase(&caller, wanted);
    let begun = hub.runtime().block_on(begun).unwrap();
    if begun.done {
        return begun;
    }
    let since = Instant::now();
    loop {
        let status = hub.eraser().last().unwrap();
        assert_eq!(status.trouble, None);
        if status.done {
            return status;
        }
        assert!(since.elapsed() < PATIENCE, "{status:?}");
        std::thread::yield_now();
    }
}

/// How many samples of the press can be read.
fn readable(hub: &Hub) -> usize {
    let request = PastRequest {
        device: PRESS.to_owned(),
        tags: vec!["pressure".to_owned()],
        from: 0,
        to: Nanos::MAX,
        purpose: "raw",
    };
    let caller = caller(hub, Role::Auditor);
    hub.runtime().block_on(async {
        let tags = hub.past().open(&caller, request).await;
        let tags = tags.unwrap();
        let page = tags[0].page(Direction::Forward, None, 10_000);
        page.await.unwrap().samples.len()
    })
}

#[test]
fn a_running_hub_erases_one_device_and_goes_on_with_all() {
    let site = Site::new(31);
    let neighbour = Counting::new(Duration::from_millis(2));
    let press = Scripted::new(PRESS, [tag("pressure", ValueKind::F64)]);
    let start = || {
        let hub = site.hub().device(neighbour.setup("press-2", 10));
        hub.device(press.setup(2)).start().unwrap()
    };
    let hub = start();
    (0..20).for_each(|scan| press.scan(EPOCH + scan * MS, [scan as f64]));
    let press_batches = |wanted: u64| {
        let store = site.disk.store();
        let explorer = Explorer::new(Arc::new(store));
        let since = Instant::now();
        loop {
            let found = explorer.batches(None, 1_000, Some(PRESS)).unwrap().items;
            if found.len() as u64 >= wanted {
                return;
            }
            assert!(since.elapsed() < PATIENCE, "{} batches", found.len());
            std::thread::yield_now();
        }
    };
    press_batches(10);
    assert_eq!(readable(&hub), 20);
    let store: Arc<dyn Store> = Arc::new(site.disk.store());
    let proof = {
        let opener = Opener::new(store.clone(), Arc::new(site.sealing()), "hub-1");
        let archive = Archive::new(store.clone(), opener);
        let explorer = Explorer::new(store.clone());
        evidence(&archive, &explorer, (PRESS, "pressure"), EPOCH + 7 * MS).unwrap()
    };

    // What would go, without a record; then what goes.
    let auditor = caller(&hub, Role::Auditor);
    let dry = request(PRESS, now(), true);
    let dry = hub.eraser().erase_for(&auditor, dry);
    let dry = hub.runtime().block_on(dry).unwrap();
    assert_eq!((dry.plan.notice.batches, dry.height), (10, None));
    assert_eq!(readable(&hub), 20);
    let done = erase(&hub, PRESS, now());
    assert_eq!((done.plan.notice.batches, done.plan.keys), (10, 1));
    assert!(done.height.is_some());
    assert_eq!(readable(&hub), 0);

    // The device is read on, under another key, and so is its neighbour.
    (20..30).for_each(|scan| press.scan(EPOCH + scan * MS, [scan as f64]));
    press_batches(15);
    assert_eq!(readable(&hub), 10);
    let before = neighbour.scans();
    while neighbour.scans() < before + 20 {
        std::thread::yield_now();
    }
    hub.shutdown().unwrap();
    site.verify_is_clean();
    proof.unwrap().verify(&[]).unwrap();

    // The settings in force were recorded again: the hub starts and goes on.
    let hub = start();
    assert_eq!(readable(&hub), 10);
    (30..34).for_each(|scan| press.scan(EPOCH + scan * MS, [scan as f64]));
    press_batches(17);
    let done = erase(&hub, PRESS, EPOCH + 24 * MS);
    // Half of what is left: the key stays for the rest.
    assert_eq!(
        (
            done.plan.notice.batches,
            done.plan.keys,
            done.plan.without_key
        ),
        (2, 0, 2)
    );
    assert_eq!(readable(&hub), 10);
    assert_eq!(erase(&hub, "lathe-9", now()).height, None);
    hub.shutdown().unwrap();
    site.verify_is_clean();

    // A device that is not there any more.
    let hub = site
        .hub()
        .device(neighbour.setup("press-2", 10))
        .start()
        .unwrap();
    let done = erase(&hub, PRESS, now());
    assert_eq!(done.plan.notice.batches, 5);
    hub.shutdown().unwrap();
    site.verify_is_clean();
    let hub = start();
    assert_eq!(readable(&hub), 0);
    hub.shutdown().unwrap();
    assert_eq!(store.scan(Space::Erasures, &[]).count(), 3);
}

#[test]
fn who_may_not_erase_is_refused_on_record() {
    let site = Site::new(32);
    let hub = site.hub().start().unwrap();
    let asked = |role: Role| {
        let (caller, wanted) = (caller(&hub, role), request(PRESS, now(), false));
        let eraser = hub.eraser().clone();
        hub.runtime()
            .block_on(async move { eraser.erase(&caller, wanted).await })
    };
    let roles = Role::ALL.into_iter();
    let roles: Vec<Role> = roles
        .filter(|role| !role.carries(weighbridge::access::Right::Erase))
        .collect();
    for role in &roles {
        let refused = asked(*role);
        assert!(matches!(refused, Err(EraseFault::Denied(_))), "{refused:?}");
    }
    let auditor = caller(&hub, Role::Auditor);
    let future = request(PRESS, now() + 3_600_000 * MS, false);
    let future = hub.eraser().erase_for(&auditor, future);
    let future = hub.runtime().block_on(future);
    assert!(matches!(future, Err(EraseFault::Unknown(_))), "{future:?}");
    hub.shutdown().unwrap();
    let acts = site.recorded().acts;
    let refused = acts
        .iter()
        .filter(|act| act.kind == "erase" && act.action == Action::Refuse);
    let refused: Vec<_> = refused.collect();
    assert_eq!(refused.len(), roles.len());
    assert!(refused.iter().all(|act| act.response == Response::Refused));
    site.verify_is_clean();
}

/// Erasing was recorded, and the power failed before anything was done: the next start does it.
#[test]
fn a_hub_that_starts_finishes_what_was_interrupted() {
    let site = Site::new(33);
    let press = Scripted::new(PRESS, [tag("pressure", ValueKind::F64)]);
    let start = || site.hub().device(press.setup(2)).start().unwrap();
    let hub = start();
    (0..20).for_each(|scan| press.scan(EPOCH + scan * MS, [scan as f64]));
    site::batches(&hub, 10);
    let sealed = site.disk.contents(Space::Sealed);
    let keys = site.disk.contents(Space::Keys);
    let history = site.disk.contents(Space::History);
    erase(&hub, PRESS, now());
    hub.shutdown().unwrap();
    // As it was when only the record was durable.
    let notices = site.disk.contents(Space::Erasures);
    let mut pending = notices[0].0.clone();
    pending[0] = b'p';
    for (space, values) in [
        (Space::Sealed, sealed),
        (Space::Keys, keys),
        (Space::History, history),
        (Space::Erasures, vec![(pending, vec![])]),
    ] {
        for (key, value) in values {
            site.disk.tamper(space, &key, Some(value));
        }
    }
    let hub = start();
    assert_eq!(readable(&hub), 0);
    hub.shutdown().unwrap();
    site.verify_is_clean();
    let store = site.disk.store();
    assert_eq!(store.scan(Space::History, &[]).count(), 0);
}

#[test]
fn erase_in_the_directory_of_a_stopped_hub() {
    let plant = Plant::start();
    let mut hub = plant.run_hub();
    for _ in 0..6 {
        hub.next_block();
    }
    // While it runs nobody else opens its directory, and over HTTP nobody may by default.
    let dir = plant.path("");
    let dir = dir.to_str().unwrap();
    let until = now().to_string();
    let wanted = ["erase", "--device", "plc-0", "--until", &until];
    let of = |more: &[&str]| run(&[&wanted[..], more].concat());
    let busy = of(&["--dir", dir, "--yes"]);
    assert!(
        stderr(&busy).contains("a hub is running on it"),
        "{}",
        stderr(&busy)
    );
    let refused = of(&["--url", hub.http_url(), "--yes"]);
    assert_eq!(ended(&refused), 1);
    assert!(
        stderr(&refused).contains("may not erase"),
        "{}",
        stderr(&refused)
    );
    hub.kill();
    let until = now().to_string();
    let wanted = ["erase", "--device", "plc-0", "--until", &until];
    let of = |more: &[&str]| run(&[&wanted[..], more].concat());

    let dry = run_json(&[&wanted[..], &["--dir", dir, "--dry-run", "--json"]].concat());
    assert!(
        dry["batches"].as_u64().unwrap() > 0 && dry["keys"] == 1,
        "{dry}"
    );
    let unasked = of(&["--dir", dir]);
    assert!(stderr(&unasked).contains("--yes"), "{}", stderr(&unasked));
    let done = run_json(&[&wanted[..], &["--dir", dir, "--yes", "--json"]].concat());
    assert_eq!(
        (&done["batches"], &done["done"]),
        (&dry["batches"], &true.into())
    );
    assert_eq!(done["reached_ns"], done["until_ns"]);
    let verified = run_json(&["verify", dir, "--json"]);
    assert_eq!(
        (&verified["clean"], &verified["erased_batches"]),
        (&true.into(), &done["batches"])
    );
    assert_eq!(verified["erasures"][0]["device"], "plc-0");
    let again = of(&["--dir", dir, "--yes"]);
    let said = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(said.contains("nothing is recorded of plc-0"), "{said}");
    let said = run(&["verify", dir]);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("erased: plc-0 before"), "{said}");

    // The hub goes on with both devices.
    let mut hub = plant.run_hub();
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 2 {
        seen.extend(
            hub.next_block()
                .batches
                .into_iter()
                .map(|(device, ..)| device),
        );
    }
    hub.kill();
    plant.verify_is_clean();
}
