//! The hub's sealing key is replaced while it stores, and what was recorded before opens by the new one alone.

use crate::edge::{self, PRESS};
use crate::machines::Counting;
use crate::site::{self, PATIENCE, Site};
use std::sync::Arc;
use std::time::{Duration, Instant};
use weighbridge::access::Role;
use weighbridge::api::{KeyFault, KeyPort, NewSealingKey};
use weighbridge::crypto::{SealingKey, Signer};
use weighbridge::edge::{EdgeBuilder, HubEntry, UplinkStatus};
use weighbridge::hub::{Hub, HubBuilder};
use weighbridge::ledger::key_wrap::read_wrap_key;
use weighbridge::ledger::opening::Opener;
use weighbridge::ledger::store::{Space, Store};
use weighbridge::model::VerdictClass;
use weighbridge_verifier::Suite;

const MS: Duration = Duration::from_millis(1);

fn rotate(hub: &Hub) -> Result<NewSealingKey, KeyFault> {
    let caller = site::enter(hub, "sec", &[Role::SecurityAdmin]);
    hub.runtime().block_on(hub.keys().rotate_sealing(&caller))
}

/// Waits until no key from before is kept any more.
fn converted(hub: &Hub) {
    let since = Instant::now();
    while !hub.keys().sealing().former.is_empty() {
        let keys = hub.keys().sealing();
        assert!(since.elapsed() < PATIENCE, "{keys:?}");
        std::thread::yield_now();
    }
}

/// How many wraps to the hub there are, and how many of them `key` opens.
fn opened(site: &Site, key: SealingKey) -> (usize, usize) {
    let store: Arc<dyn Store> = Arc::new(site.disk.store());
    let opener = Opener::new(store.clone(), key, "hub-1");
    let entries = store.scan(Space::Keys, &[]).map(Result::unwrap);
    let live: Vec<_> = entries
        .filter(|(_, wrap)| !wrap.is_empty())
        .map(|(at, _)| read_wrap_key(&at).unwrap())
        .collect();
    let opens =
        |(device, epoch, _): &&(String, u64, String)| opener.epoch_key(device, *epoch).is_ok();
    (live.len(), live.iter().filter(opens).count())
}

fn with<'a>(site: &'a Site, machines: &'a [(&'static str, Counting)]) -> HubBuilder {
    let devices = machines.iter().map(|(id, machine)| machine.setup(id, 5));
    devices.fold(site.hub(), HubBuilder::device)
}

fn machines() -> [(&'static str, Counting); 2] {
    ["press-1", "press-2"].map(|id| (id, Counting::new(MS)))
}

#[test]
fn what_was_recorded_opens_by_the_newest_key_alone_and_nothing_waits() {
    for suite in Suite::ALL {
        let (site, machines) = (Site::of(suite, 41), machines());
        let mut keys = vec![site.sealing()];
        let hub = with(&site, &machines).start().unwrap();
        site::batches(&hub, 6);
        for n in 2..5 {
            let new = rotate(&hub).unwrap();
            assert_eq!(new.replaces, keys[keys.len() - 1].public().compressed());
            converted(&hub);
            keys.push(site.sealing());
            assert_eq!(new.key, keys[keys.len() - 1].public().compressed());
            assert_eq!(hub.keys().sealing().key, new.key);
            site::batches(&hub, 6 * n);
        }
        // While it runs, and after it was started again with the one key that is left.
        site.recorded().is_gapless();
        hub.shutdown().unwrap();
        let hub = with(&site, &machines).start().unwrap();
        let seen = site.recorded().batches.len() as u64;
        site::batches(&hub, 3);
        hub.shutdown().unwrap();
        site.verify_is_clean();
        let recorded = site.recorded();
        recorded.is_gapless();
        assert!(recorded.batches.len() as u64 >= seen + 3);
        let newest = keys.pop().unwrap();
        let (all, by_newest) = opened(&site, newest);
        assert_eq!(all, by_newest);
        for old in keys {
            assert_eq!(opened(&site, old), (all, 0));
        }
    }
}

#[test]
fn whenever_the_power_fails_the_next_start_opens_all_and_finishes_it() {
    let mut replaced = 0;
    for seed in 0..16 {
        let (site, machines) = (Site::new(seed), machines());
        let first = site.sealing().public().compressed();
        let start = || with(&site, &machines).shutdown_wait(Duration::ZERO).start();
        let hub = start().unwrap();
        site::enter(&hub, "sec", &[Role::SecurityAdmin]);
        site::batches(&hub, 4);
        site.disk.cut_power_in(seed / 4);
        // In the middle of it, or of what is stored meanwhile.
        let _ = rotate(&hub);
        let since = Instant::now();
        while site.disk.powered() {
            assert!(since.elapsed() < PATIENCE);
            std::thread::yield_now();
        }
        drop(hub);
        site.disk.restart();
        let hub = with(&site, &machines).start().unwrap();
        converted(&hub);
        site::batches(&hub, 2);
        hub.shutdown().unwrap();
        site.verify_is_clean();
        site.recorded().is_gapless();
        let now = site.sealing();
        replaced += usize::from(now.public().compressed() != first);
        let (all, by_it) = opened(&site, now);
        assert_eq!(all, by_it, "seed {seed}");
        let names = site.key_files();
        assert_eq!(names, ["hub.key", "sealing.key"], "seed {seed}");
    }
    assert!((1..16).contains(&replaced), "{replaced} of 16");
}

#[test]
fn who_may_not_replaces_no_key_and_that_is_recorded() {
    let (site, machines) = (Site::new(43), machines());
    let hub = with(&site, &machines).start().unwrap();
    let caller = site::enter(&hub, "anna", &[Role::Auditor]);
    let refused = hub.runtime().block_on(hub.keys().rotate_sealing(&caller));
    assert!(matches!(refused, Err(KeyFault::Denied(_))), "{refused:?}");
    let key = site.sealing().public().compressed();
    assert_eq!(hub.keys().sealing().key, key);
    hub.shutdown().unwrap();
    assert_eq!(site.identity().id(), "hub-1");
    assert_eq!(site.key_files(), ["hub.key", "sealing.key"]);
    let recorded = site.recorded();
    let refusals = recorded
        .acts
        .iter()
        .filter(|act| act.subject == "user:anna");
    assert!(refusals.count() > 0);
}

/// An edge node that was told of the hub once.
fn node(plant: &edge::Plant, hub: &HubEntry, machine: &Counting) -> EdgeBuilder {
    let builder = EdgeBuilder::new(plant.identity(), plant.buffer());
    let builder = builder.patience(Duration::from_millis(300));
    builder.hub(hub.clone()).device(machine.setup(PRESS, 5))
}

#[test]
fn edge_nodes_go_over_and_the_old_key_lives_until_what_they_buffered_is_through() {
    for suite in Suite::ALL {
        goes_over(suite);
    }
}

fn goes_over(suite: Suite) {
    let mut plant = edge::Plant::of(suite, 44);
    let machine = Counting::new(MS);
    let hub = plant.hub(&machine);
    let entry = edge::entry(&plant.site, plant.port);
    let running = node(&plant, &entry, &machine).start().unwrap();
    let up = |status: &UplinkStatus| matches!(status, UplinkStatus::Up { .. });
    edge::uplink(&running, "up", up);
    site::batches(&hub, 3);
    // While it is connected it stays so, and nobody waits long.
    let since = running.uplink().borrow().clone();
    rotate(&hub).unwrap();
    converted(&hub);
    // The signing key vouches for it, also when that is another one by then.
    let caller = site::enter(&hub, "sec", &[Role::SecurityAdmin]);
    let signing = hub.keys().rotate_hub_for(&caller);
    hub.runtime().block_on(signing).unwrap();
    rotate(&hub).unwrap();
    converted(&hub);
    site::batches(&hub, 6);
    assert_eq!(*running.uplink().borrow(), since);
    // What it buffers without the hub is sealed to the key that is replaced then.
    hub.shutdown().unwrap();
    let began = Instant::now();
    while running.lanes().remove(0).pending < 10 {
        assert!(began.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    running.shutdown().unwrap();
    let hub = plant.hub(&machine);
    let before = rotate(&hub).unwrap().replaces;
    let waits = |hub: &Hub| {
        let began = Instant::now();
        loop {
            let keys = hub.keys().sealing();
            assert_eq!(keys.former, [before], "{keys:?}");
            if keys
                .waits_for
                .as_ref()
                .is_some_and(|why| why.contains("edge-1"))
            {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{keys:?}");
            std::thread::yield_now();
        }
    };
    waits(&hub);
    // Also when the hub was started anew; all but that is done.
    hub.shutdown().unwrap();
    assert_eq!(plant.site.key_files().len(), 3);
    let hub = plant.hub(&machine);
    waits(&hub);
    let (all, by_new) = opened(&plant.site, plant.site.sealing());
    assert_eq!(all, by_new);
    // It was told of the hub's first key, and finds the fourth.
    let running = node(&plant, &entry, &machine).start().unwrap();
    edge::uplink(&running, "up again", up);
    converted(&hub);
    site::batches(&hub, 10);
    let stored = running.lanes().remove(0).acknowledged;
    machine.stop();
    edge::drained(&running, stored);
    running.shutdown().unwrap();
    hub.shutdown().unwrap();
    assert_eq!(plant.site.key_files(), ["hub.key", "sealing.key"]);
    plant.site.verify_is_clean();
    let recorded = plant.site.recorded();
    recorded.is_gapless();
    assert!(
        recorded
            .classes(PRESS)
            .iter()
            .all(|class| *class == VerdictClass::Accepted)
    );
}
