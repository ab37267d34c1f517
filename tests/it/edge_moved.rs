//! A device that is read by its edge node, then by somebody else, then by the same edge node again: what
//! waited in the edge node's buffer all the while is recorded once, like everything else.

use crate::edge::{PRESS, Plant, drained, entry, finish, uplink};
use crate::machines::Counting;
use crate::site::{self, PATIENCE};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use weighbridge::crypto::{Identity, Signer};
use weighbridge::edge::{EdgeBuilder, EdgeNode, UplinkStatus};
use weighbridge::hub::{Change, DeviceSetup, EdgesSetup, Hub};

const SCANS: usize = 5;

fn is_up(status: &UplinkStatus) -> bool {
    matches!(status, UplinkStatus::Up { .. })
}

fn put_at_hub(hub: &Hub, setup: DeviceSetup) {
    let change = Change {
        put: vec![setup],
        ..Change::default()
    };
    let failed = site::wait(hub, "the change", hub.apply(change)).unwrap();
    assert!(failed.is_empty(), "{failed:?}");
}

fn at_edge(machine: &Counting, edge: &str) -> DeviceSetup {
    let here = machine.setup(PRESS, SCANS);
    let mut there = DeviceSetup::at_edge(here.id, here.tags, edge);
    there.validation = here.validation;
    there
}

fn at_edge_node(edge: &EdgeNode, remove: bool, put: Vec<DeviceSetup>) {
    let remove = remove.then(|| PRESS.into()).into_iter().collect();
    let changed = edge
        .runtime()
        .block_on(async { tokio::time::timeout(PATIENCE, edge.apply(remove, put)).await });
    changed.expect("the change takes too long").unwrap();
}

/// Waits until so many batches wait in the edge node's buffer.
fn waiting(edge: &EdgeNode, batches: u64) {
    let began = Instant::now();
    while edge.lanes()[0].pending < batches {
        assert!(began.elapsed() < PATIENCE, "{:?}", edge.lanes());
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_device_that_its_hub_read_meanwhile_loses_nothing_of_what_waited() {
    let mut plant = Plant::new(81);
    let machine = Counting::new(Duration::from_millis(1));
    let hub = plant.hub(&machine);
    let edge = plant.edge(&machine).start().unwrap();
    site::batches(&hub, 5);
    // The hub is away, and the buffer fills.
    hub.shutdown().unwrap();
    uplink(&edge, "the hub is missed", |s| !is_up(s));
    waiting(&edge, 60);
    at_edge_node(&edge, true, Vec::new());

    // It is back, and reads the device itself: fewer batches than wait at the edge node.
    let before = machine.scans();
    let hub = plant.hub(&machine);
    let had = hub.stats().batches();
    put_at_hub(&hub, machine.setup(PRESS, SCANS));
    site::batches(&hub, had + 20);
    put_at_hub(&hub, at_edge(&machine, "edge-1"));
    let meanwhile = before..machine.scans();
    assert!(!meanwhile.is_empty() && meanwhile.end - before < 60 * SCANS as u64);

    // The edge node has it again.
    at_edge_node(&edge, false, vec![machine.setup(PRESS, SCANS)]);
    site::up(&hub, PRESS);
    finish(edge, || plant.edge(&machine), &machine);
    hub.shutdown().unwrap();

    plant.site.verify_is_clean();
    let recorded = plant.site.recorded();
    let mut counts = recorded.counts(PRESS);
    let key = plant.identity().public_key();
    // Who read what: the hub attests nothing but its own.
    let of_the_hub = recorded.of(PRESS).filter(|b| b.content.attester.is_none());
    let of_the_hub = of_the_hub.count() as u64 * SCANS as u64;
    assert!(of_the_hub >= meanwhile.end - before && of_the_hub < meanwhile.end - before + 5);
    let attested = recorded.of(PRESS).filter_map(|b| b.content.attester);
    assert!(attested.into_iter().all(|a| a.key == key));
    // What waited comes after what the hub read: later in the record, under a later epoch.
    assert!(!counts.is_sorted());
    counts.sort_unstable();
    let all: Vec<u64> = (0..machine.scans()).collect();
    assert_eq!(counts, all, "everything, once");
}

#[test]
fn a_device_that_two_edge_nodes_read_in_turn_is_recorded_once() {
    let mut plant = Plant::new(82);
    let machine = Counting::new(Duration::from_millis(1));
    let first = plant.identity();
    let other = tempfile::tempdir().unwrap();
    let key = other.path().join("key");
    Identity::generate("edge-2").save(&key).unwrap();
    let second = || Identity::load(&key, "edge-2").unwrap();
    let nodes = vec![
        ("edge-1".to_owned(), first.peer_key()),
        ("edge-2".to_owned(), second().peer_key()),
    ];
    let edges = EdgesSetup {
        bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        nodes,
    };
    let builder = plant.site.hub().edges(edges);
    let hub = builder.device(at_edge(&machine, "edge-1")).start().unwrap();
    plant.port = hub.edge_address().unwrap().port();
    let there = || {
        EdgeBuilder::new(second(), other.path().join("buffer"))
            .hub(entry(&plant.site, plant.port))
            .device(machine.setup(PRESS, SCANS))
    };
    // Both read it all the time; the hub takes the batches of one, and those of the other wait.
    let edges = [
        plant.edge(&machine).start().unwrap(),
        there().start().unwrap(),
    ];
    for round in 0..6 {
        let reader = round % 2;
        put_at_hub(&hub, at_edge(&machine, &format!("edge-{}", reader + 1)));
        site::up(&hub, PRESS);
        let had = hub.stats().batches();
        site::batches(&hub, had + 10);
        waiting(&edges[1 - reader], 20);
    }
    machine.stop();
    for edge in edges {
        edge.shutdown().unwrap();
    }
    let edge = there().start().unwrap();
    drained(&edge, 1);
    edge.shutdown().unwrap();
    put_at_hub(&hub, at_edge(&machine, "edge-1"));
    let edge = plant.edge(&machine).start().unwrap();
    drained(&edge, 1);
    edge.shutdown().unwrap();
    hub.shutdown().unwrap();

    plant.site.verify_is_clean();
    let recorded = plant.site.recorded();
    for identity in [first, second()] {
        let key = Some(identity.public_key());
        let own = recorded
            .of(PRESS)
            .filter(|b| b.content.attester.map(|a| a.key) == key);
        let times: Vec<_> = own.flat_map(|b| b.batch().timelines.concat()).collect();
        assert!(!times.is_empty() && times.is_sorted());
    }
    let mut counts = recorded.counts(PRESS);
    counts.sort_unstable();
    let all: Vec<u64> = (0..machine.scans()).collect();
    assert_eq!(counts, all, "everything, once");
}
