//! Devices and edge nodes come and go on either side while both run, and the others notice nothing.

use crate::edge::{entry, uplink};
use crate::machines::{Counting, Scripted, tag};
use crate::reload::Observed;
use crate::site::{self, PATIENCE, Site};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use weighbridge::crypto::{Identity, PeerKey, Signer};
use weighbridge::edge::{EdgeBuilder, EdgeNode, UplinkStatus, WhenFull};
use weighbridge::hub::{Change, DeviceSetup, EdgesSetup, Hub, HubError};
use weighbridge::model::{DeviceId, ValueKind};
use weighbridge::store::spool::{Spool, SpoolLimits};
use weighbridge_verifier::IdentityKind;

/// As a hub has a device that an edge node reads.
fn at_edge(setup: DeviceSetup) -> DeviceSetup {
    let mut there = DeviceSetup::at_edge(setup.id, setup.tags, "edge-1");
    there.validation = setup.validation;
    there.grade = setup.grade;
    there
}

fn edges(nodes: Vec<(String, PeerKey)>) -> EdgesSetup {
    EdgesSetup {
        bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        nodes,
    }
}

fn edge_1(identity: &Identity) -> Vec<(String, PeerKey)> {
    vec![("edge-1".to_owned(), identity.peer_key())]
}

fn change(hub: &Hub, change: Change) {
    let failed = site::wait(hub, "the change", hub.apply(change)).unwrap();
    assert!(failed.is_empty(), "{failed:?}");
}

fn change_edge(edge: &EdgeNode, remove: &[&str], put: Vec<DeviceSetup>) {
    let remove: Vec<DeviceId> = remove.iter().map(|id| (*id).into()).collect();
    let changed = edge
        .runtime()
        .block_on(async { tokio::time::timeout(PATIENCE, edge.apply(remove, put)).await });
    changed.expect("the change takes too long").unwrap();
}

/// Waits until the edge node's buffers are as `wanted`.
fn lanes(edge: &EdgeNode, what: &str, wanted: impl Fn(&[weighbridge::edge::LaneStatus]) -> bool) {
    let began = Instant::now();
    while !wanted(&edge.lanes()) {
        let (lanes, uplink) = (edge.lanes(), edge.uplink().borrow().clone());
        assert!(began.elapsed() < PATIENCE, "{what}: {lanes:?} {uplink:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Opens a buffer that nobody has. A process that another test is about to start has all files of this one until it
/// begins, and with them their locks.
fn open(buffer: &Path) -> Spool {
    let began = Instant::now();
    loop {
        match Spool::open(buffer, SpoolLimits::of(1 << 20)) {
            Ok((spool, _)) => return spool,
            Err(error) => assert!(began.elapsed() < Duration::from_secs(2), "{error}"),
        }
        std::thread::yield_now();
    }
}

fn is_up(status: &UplinkStatus) -> bool {
    matches!(status, UplinkStatus::Up { .. })
}

#[test]
fn changing_one_device_of_an_edge_node_costs_the_others_nothing() {
    const DEVICES: usize = 40;
    let site = Site::new(71);
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    let identity = Identity::generate("edge-1");
    identity.save(&key).unwrap();
    let ids: Vec<String> = (0..DEVICES).map(|i| format!("d{i}")).collect();
    let machines: Vec<_> = ids
        .iter()
        .map(|_| Observed::every(Duration::from_millis(20)))
        .collect();
    let mut builder = site.hub().edges(edges(edge_1(&identity)));
    for (id, machine) in ids.iter().zip(&machines) {
        builder = builder.device(at_edge(machine.setup(id)));
    }
    let hub = builder.start().unwrap();
    let port = hub.edge_address().unwrap().port();
    let new = Observed::every(Duration::from_millis(20));
    let make = || {
        EdgeBuilder::new(
            Identity::load(&key, "edge-1").unwrap(),
            dir.path().join("b"),
        )
        .bound(64 << 20, WhenFull::Stop)
        .hub(entry(&site, port))
    };
    let mut builder = make();
    for (id, machine) in ids.iter().zip(&machines) {
        builder = builder.device(machine.setup(id));
    }
    let edge = builder.start().unwrap();
    for id in &ids {
        site::up(&hub, id);
    }
    let since = |edge: &EdgeNode| match &*edge.uplink().borrow() {
        UplinkStatus::Up { since, .. } => *since,
        other => panic!("{other:?}"),
    };
    let connected = since(&edge);
    let reconnects = |id: &str| {
        let live = hub.live().device(id).unwrap();
        live.reconnects.load(Ordering::Relaxed)
    };
    let before: Vec<_> = ids.iter().map(|id| reconnects(id)).collect();

    // At the hub one is judged otherwise, and one is there no more; the edge node is told of neither.
    let (changed, gone) = (5, 6);
    let mut other = at_edge(machines[changed].setup(&ids[changed]));
    other.validation.sigmas = 4.0.try_into().unwrap();
    change(
        &hub,
        Change {
            remove: vec![ids[gone].as_str().into()],
            put: vec![other],
            edges: None,
        },
    );
    site::up(&hub, &ids[changed]);
    lanes(&edge, "one is refused", |lanes| {
        let lane = lanes.iter().find(|l| *l.device == *ids[gone]).unwrap();
        lane.refused.is_some()
    });
    // At the edge node one makes smaller batches, the one that the hub has no more goes, and a new one
    // comes, first at the edge node and then at the hub.
    let smaller = 7;
    let mut other = machines[smaller].setup(&ids[smaller]);
    other.batch.samples = 2;
    change_edge(&edge, &[&ids[gone]], vec![other, new.setup("new")]);
    // Nobody has the buffer of the one that went, although the connection is still the same.
    let buffer = dir.path().join("b").join(&ids[gone]);
    drop(open(&buffer));
    change(
        &hub,
        Change {
            put: vec![at_edge(new.setup("new"))],
            ..Change::default()
        },
    );
    for id in [&ids[smaller], "new"] {
        site::up(&hub, id);
    }
    let had = hub.stats().batches();
    site::batches(&hub, had + 2 * DEVICES as u64);
    assert_eq!(since(&edge), connected, "the connection stayed");
    for (i, id) in ids.iter().enumerate() {
        if [changed, gone, smaller].contains(&i) {
            continue;
        }
        assert_eq!(reconnects(id), before[i], "{id}");
    }
    for machine in machines.iter().chain([&new]) {
        machine.machine.stop();
    }
    let stays = |id: &String| *id != ids[gone];
    edge.shutdown().unwrap();
    // What was gathered goes up after the next start.
    let mut builder = make().device(new.setup("new"));
    for (id, machine) in ids.iter().zip(&machines).filter(|(id, _)| stays(id)) {
        builder = builder.device(machine.setup(id));
    }
    let edge = builder.start().unwrap();
    uplink(&edge, "the hub is there", is_up);
    lanes(&edge, "all goes up", |lanes| {
        lanes.iter().all(|lane| lane.pending == 0)
    });
    edge.shutdown().unwrap();
    hub.shutdown().unwrap();

    site.verify_is_clean();
    let recorded = site.recorded();
    recorded.is_gapless();
    for (i, (id, machine)) in ids.iter().zip(&machines).enumerate() {
        // A restart is one more.
        let contacts = match i {
            _ if i == gone => (1, 1),
            _ if i == smaller => (3, 3),
            _ => (2, 2),
        };
        assert_eq!(machine.contacts(), contacts, "{id}");
        if i != gone {
            let all: Vec<u64> = (0..machine.machine.scans()).collect();
            assert_eq!(recorded.counts(id), all, "{id}");
        }
    }
    let all: Vec<u64> = (0..new.machine.scans()).collect();
    assert!(!all.is_empty());
    assert_eq!(recorded.counts("new"), all);
}

#[test]
fn an_edge_node_is_let_in_and_sent_away_while_the_hub_runs() {
    let site = Site::new(72);
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity::generate("edge-1");
    let own = Observed::every(Duration::from_millis(20));
    let builder = site.hub().edges(edges(Vec::new()));
    let hub = builder.device(own.setup("own")).start().unwrap();
    let machine = Counting::new(Duration::from_millis(5));
    let nodes = edge_1(&identity);
    let edge = EdgeBuilder::new(identity, dir.path())
        .patience(Duration::from_millis(100))
        .hub(entry(&site, hub.edge_address().unwrap().port()))
        .device(machine.setup("press-1", 4))
        .start()
        .unwrap();
    uplink(&edge, "a stranger is refused", |s| {
        matches!(s, UplinkStatus::Down { .. })
    });
    for round in 0..3 {
        change(
            &hub,
            Change {
                put: vec![at_edge(machine.setup("press-1", 4))],
                edges: Some(nodes.clone()),
                ..Change::default()
            },
        );
        site::up(&hub, "press-1");
        let had = hub.stats().batches();
        site::batches(&hub, had + 10);
        change(
            &hub,
            Change {
                remove: vec!["press-1".into()],
                edges: Some(Vec::new()),
                ..Change::default()
            },
        );
        uplink(&edge, "it is sent away", |s| !is_up(s));
        assert!(hub.live().device("press-1").is_none(), "round {round}");
    }
    // A known id with another key changes nothing.
    let other = Identity::generate("edge-1");
    let refused = hub.apply(Change {
        put: vec![at_edge(machine.setup("press-1", 4))],
        edges: Some(edge_1(&other)),
        ..Change::default()
    });
    let refused = site::wait(&hub, "the answer", refused).unwrap_err();
    assert!(
        refused.to_string().contains("a new key needs a new id"),
        "{refused}"
    );
    assert!(hub.edge_nodes().is_empty() && hub.live().device("press-1").is_none());
    edge.shutdown().unwrap();
    hub.shutdown().unwrap();
    site.verify_is_clean();
    assert_eq!(own.contacts(), (1, 1));
    let known = site.identities();
    assert_eq!(
        known.get("edge-1"),
        Some(&(IdentityKind::Edge, Some(nodes[0].1.own)))
    );
    let counts = site.recorded().counts("press-1");
    assert!(counts.windows(2).all(|w| w[0] + 1 == w[1]), "{counts:?}");
}

#[test]
fn a_device_with_a_key_of_its_own_comes_while_the_hub_runs() {
    let site = Site::new(73);
    let press = Scripted::new("press-1", [tag("force", ValueKind::F64)]);
    let key = Arc::new(Identity::generate("press-1"));
    let hub = site.hub().start().unwrap();
    for round in 0..2 {
        let mut setup = press.setup(1);
        setup.grade = round;
        setup.attester = Some(key.clone());
        change(
            &hub,
            Change {
                put: vec![setup],
                ..Change::default()
            },
        );
        press.scan(crate::machines::EPOCH + i64::from(round), [1.0]);
        site::batches(&hub, u64::from(round) + 1);
    }
    let mut setup = press.setup(1);
    setup.attester = Some(Arc::new(Identity::generate("press-1")));
    let refused = hub.apply(Change {
        put: vec![setup],
        ..Change::default()
    });
    let refused = site::wait(&hub, "the answer", refused).unwrap_err();
    assert!(matches!(refused, HubError::Device { .. }), "{refused}");
    hub.shutdown().unwrap();
    site.verify_is_clean();
    for batch in site.recorded().of("press-1") {
        let attester = batch.content.attester.map(|a| a.key);
        assert_eq!(attester, Some(key.public_key()));
    }
}

#[test]
fn a_device_that_cannot_be_used_changes_nothing_at_an_edge_node() {
    let dir = tempfile::tempdir().unwrap();
    let machine = Observed::every(Duration::from_millis(20));
    let nowhere = entry(&Site::new(74), 1);
    let edge = EdgeBuilder::new(Identity::generate("edge-1"), dir.path())
        .hub(nowhere)
        .device(machine.setup("a"))
        .start()
        .unwrap();
    // A file stands where the buffer of `b` should.
    std::fs::write(dir.path().join("b"), "").unwrap();
    let refused = [
        vec![machine.setup("b")],
        vec![machine.setup("a"), machine.setup("a")],
        vec![at_edge(machine.setup("c"))],
    ];
    for put in refused {
        let applied = edge.apply(vec!["a".into()], put);
        assert!(edge.runtime().block_on(applied).is_err());
    }
    lanes(&edge, "it is read on", |lanes| {
        lanes.len() == 1 && lanes[0].stored > 2
    });
    // Taken out and put in again at once: the buffer is the same.
    let stored = edge.lanes()[0].pending;
    change_edge(&edge, &["a"], Vec::new());
    assert!(edge.lanes().is_empty() && edge.live().device("a").is_none());
    drop(open(&dir.path().join("a")));
    change_edge(&edge, &[], vec![machine.setup("a")]);
    assert!(edge.lanes()[0].pending >= stored);
    lanes(&edge, "it is read again", |_| machine.contacts().0 == 2);
    edge.shutdown().unwrap();
    assert_eq!(machine.contacts(), (2, 2));
}
