//! An edge node reads a machine, and a hub records it: over TLS, whatever dies on the way.

use crate::machines::Counting;
use crate::site::{self, PATIENCE, Site};
use crate::support::Random;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use weighbridge::crypto::{Identity, Signer};
use weighbridge::edge::{EdgeBuilder, EdgeNode, HubEntry, MIN_BUFFER, UplinkStatus, WhenFull};
use weighbridge::hub::{Change, DeviceSetup, EdgesSetup, Hub};
use weighbridge::model::Values;
use weighbridge_verifier::{IdentityKind, PublicKey, Suite};

pub const PRESS: &str = "press-1";
pub const SCANS: usize = 5;

/// A hub's site, an edge node's directory and key.
pub struct Plant {
    pub site: Site,
    dir: tempfile::TempDir,
    pub port: u16,
    expected: Option<f64>,
}

impl Plant {
    pub fn new(seed: u64) -> Self {
        Self::of(Suite::Nist, seed)
    }

    /// The same with keys of this suite.
    pub fn of(suite: Suite, seed: u64) -> Self {
        let plant = Self {
            site: Site::of(suite, seed),
            dir: tempfile::tempdir().unwrap(),
            port: 0,
            expected: None,
        };
        let key = Identity::generate_of(suite, "edge-1");
        key.save(&plant.dir.path().join("edge.key")).unwrap();
        plant
    }

    pub fn identity(&self) -> Identity {
        Identity::load(&self.dir.path().join("edge.key"), "edge-1").unwrap()
    }

    /// From now on the edge node has this key.
    pub fn replace_key(&self, key: &Identity) {
        let file = self.dir.path().join("edge.key");
        std::fs::remove_file(&file).unwrap();
        key.save(&file).unwrap();
    }

    /// The press should send so many samples a second.
    pub fn expects(&mut self, samples_per_second: f64) {
        self.expected = Some(samples_per_second);
    }

    pub fn buffer(&self) -> std::path::PathBuf {
        self.dir.path().join("buffer")
    }

    /// A hub that lets the edge node in; on the port it had before, if it had one.
    pub fn hub(&mut self, machine: &Counting) -> Hub {
        let at = (&self.site, self.port);
        let hub = start_expecting(at, &self.identity(), machine, self.expected);
        self.port = hub.edge_address().unwrap().port();
        hub
    }

    pub fn edge(&self, machine: &Counting) -> EdgeBuilder {
        EdgeBuilder::new(self.identity(), self.buffer())
            .bound(64 << 20, WhenFull::Stop)
            .patience(Duration::from_millis(300))
            .hub(entry(&self.site, self.port))
            .device(machine.setup(PRESS, SCANS))
    }
}

/// A hub on `site` that listens at `port` for `edge`, which reads the machine for it.
pub fn start_hub(site: &Site, port: u16, edge: &Identity, machine: &Counting) -> Hub {
    start_expecting((site, port), edge, machine, None)
}

/// The same for a machine that should send so many samples a second.
fn start_expecting(
    (site, port): (&Site, u16),
    edge: &Identity,
    machine: &Counting,
    expected: Option<f64>,
) -> Hub {
    let mut setup = machine.setup(PRESS, SCANS);
    let validation = setup.validation.clone();
    setup = DeviceSetup::at_edge(PRESS.into(), setup.tags, "edge-1");
    setup.validation = validation;
    setup.samples_per_second = expected;
    let edges = EdgesSetup {
        bind: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        nodes: vec![("edge-1".to_owned(), edge.peer_key())],
    };
    let hub = site.hub().shutdown_wait(Duration::from_millis(500));
    hub.edges(edges).device(setup).start().unwrap()
}

/// What an edge node is told of the hub on `site`.
pub fn entry(site: &Site, port: u16) -> HubEntry {
    HubEntry {
        address: format!("127.0.0.1:{port}"),
        key: site.identity().peer_key(),
        sealing: site.sealing().public().compressed(),
    }
}

/// Waits until the edge node has nothing that is not durable at a hub.
pub fn drained(edge: &EdgeNode, stored: u64) {
    let began = Instant::now();
    loop {
        let lane = edge.lanes().remove(0);
        if lane.pending == 0 && lane.acknowledged >= stored {
            return;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "{lane:?} {:?}",
            edge.uplink().borrow()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until the connection of the edge node is as `wanted`.
pub fn uplink(edge: &EdgeNode, what: &str, wanted: impl Fn(&UplinkStatus) -> bool) {
    let mut status = edge.uplink();
    edge.runtime().block_on(async {
        let waited = tokio::time::timeout(PATIENCE, status.wait_for(|s| wanted(s)));
        waited
            .await
            .unwrap_or_else(|_| panic!("waited in vain: {what}"))
            .unwrap();
    });
}

fn is_up(status: &UplinkStatus) -> bool {
    matches!(status, UplinkStatus::Up { .. })
}

/// Everything the machine said is recorded, once and in order, attested by the edge node.
pub fn all_recorded(site: &Site, machine: &Counting, edge: &PublicKey) {
    site.verify_is_clean();
    let recorded = site.recorded();
    let all: Vec<u64> = (0..machine.scans()).collect();
    assert_eq!(recorded.counts(PRESS), all);
    for batch in recorded.of(PRESS) {
        assert_eq!(batch.content.attester.map(|a| a.key), Some(*edge));
        let batch = batch.batch();
        assert!(batch.timelines.iter().flatten().is_sorted());
    }
}

/// Lets the machine fall silent, and brings all that it said to the hub that is there.
pub fn finish(edge: EdgeNode, builder: impl Fn() -> EdgeBuilder, machine: &Counting) {
    machine.stop();
    // What was gathered is on disk now, and goes up after the next start.
    edge.shutdown().unwrap();
    let edge = builder().start().unwrap();
    drained(&edge, 1);
    edge.shutdown().unwrap();
}

#[test]
fn what_an_edge_node_reads_is_recorded_once_and_in_order() {
    for suite in Suite::ALL {
        recorded_once_and_in_order(suite);
    }
}

fn recorded_once_and_in_order(suite: Suite) {
    let mut plant = Plant::of(suite, 1);
    let machine = Counting::new(Duration::from_millis(1));
    let hub = plant.hub(&machine);
    let edge = plant.edge(&machine).start().unwrap();
    site::batches(&hub, 20);
    site::up(&hub, PRESS);
    assert!(hub.live().device(PRESS).unwrap().sample(0).is_some());
    edge.shutdown().unwrap();
    let away = site::down(&hub, PRESS);
    assert!(
        away.starts_with("the edge node `edge-1` is not connected"),
        "{away}"
    );
    let edge = plant.edge(&machine).start().unwrap();
    site::up(&hub, PRESS);
    site::batches(&hub, 40);
    finish(edge, || plant.edge(&machine), &machine);
    hub.shutdown().unwrap();
    let key = plant.identity().public_key();
    plant.site.recorded().is_gapless();
    all_recorded(&plant.site, &machine, &key);
    let known = plant.site.identities();
    assert_eq!(known.get("edge-1"), Some(&(IdentityKind::Edge, Some(key))));
}

#[test]
fn a_hub_that_dies_at_any_moment_misses_nothing_and_has_nothing_twice() {
    let mut random = Random::from_env();
    let mut plant = Plant::new(random.seed);
    let machine = Counting::new(Duration::from_millis(1));
    let mut running = None;
    for _ in 0..6 {
        let hub = plant.hub(&machine);
        let edge = running.get_or_insert_with(|| plant.edge(&machine).start().unwrap());
        uplink(edge, "the hub is there", is_up);
        site::batches(&hub, random.below(5));
        plant.site.disk.cut_power_in(random.below(6));
        site::waiting(&hub);
        drop(hub);
        uplink(edge, "the hub is missed", |s| !is_up(s));
        plant.site.disk.restart();
        let before = machine.scans();
        let began = Instant::now();
        while machine.scans() < before + 10 {
            assert!(began.elapsed() < PATIENCE, "the edge node reads on");
            std::thread::yield_now();
        }
    }
    let hub = plant.hub(&machine);
    finish(running.unwrap(), || plant.edge(&machine), &machine);
    hub.shutdown().unwrap();
    plant.site.recorded().is_gapless();
    all_recorded(&plant.site, &machine, &plant.identity().public_key());
}

#[test]
fn a_stranger_is_not_let_in_and_a_wrong_hub_gets_nothing() {
    let mut plant = Plant::new(3);
    let machine = Counting::new(Duration::from_millis(1));
    let hub = plant.hub(&machine);
    let stranger = EdgeBuilder::new(Identity::generate("edge-1"), plant.buffer())
        .hub(entry(&plant.site, plant.port))
        .device(machine.setup(PRESS, SCANS));
    let stranger = stranger.start().unwrap();
    uplink(&stranger, "the stranger is refused", |s| {
        matches!(s, UplinkStatus::Down { .. })
    });
    stranger.shutdown().unwrap();
    // What was signed with another key has no place in this node's buffer.
    std::fs::remove_dir_all(plant.buffer()).unwrap();
    let mut wrong = entry(&plant.site, plant.port);
    wrong.key = Identity::generate("hub-1").peer_key();
    let edge = EdgeBuilder::new(plant.identity(), plant.buffer())
        .hub(wrong)
        .device(machine.setup(PRESS, SCANS))
        .start()
        .unwrap();
    uplink(&edge, "the wrong hub is refused", |s| {
        matches!(s, UplinkStatus::Down { .. })
    });
    edge.shutdown().unwrap();
    assert_eq!(hub.stats().batches(), 0);
    hub.shutdown().unwrap();
}

#[test]
fn an_edge_node_of_another_suite_is_refused_at_once() {
    let mut plant = Plant::new(3);
    let machine = Counting::new(Duration::from_millis(1));
    let hub = plant.hub(&machine);
    let other = Identity::generate_of(Suite::Guomi, "edge-1");
    let nodes = vec![("edge-1".to_owned(), other.peer_key())];
    let edge = EdgeBuilder::new(other, plant.buffer())
        .hub(entry(&plant.site, plant.port))
        .device(machine.setup(PRESS, SCANS));
    let refused = edge.start().err().unwrap().to_string();
    assert!(refused.contains("suite `nist`"), "{refused}");
    let change = Change {
        edges: Some(nodes),
        ..Change::default()
    };
    let refused = site::wait(&hub, "the change", hub.apply(change))
        .err()
        .unwrap();
    assert!(refused.to_string().contains("suite `guomi`"), "{refused}");
    hub.shutdown().unwrap();
}

#[test]
fn a_device_that_the_hub_does_not_expect_is_named() {
    let mut plant = Plant::new(4);
    let machine = Counting::new(Duration::from_millis(1));
    let hub = plant.hub(&machine);
    let mut setup = machine.setup(PRESS, SCANS);
    setup.grade = 2;
    let edge = EdgeBuilder::new(plant.identity(), plant.buffer())
        .hub(entry(&plant.site, plant.port))
        .device(setup)
        .start()
        .unwrap();
    let expected = "it does not take `press-1`: its grade is 0 at the hub and 2 at the edge";
    uplink(
        &edge,
        "the hub says why",
        |s| matches!(s, UplinkStatus::Down { reason, .. } if reason.ends_with(expected)),
    );
    // The device's own actor hears of it after the edge node.
    site::down_because(&hub, PRESS, "its grade is 0 at the hub and 2 at the edge");
    edge.shutdown().unwrap();
    hub.shutdown().unwrap();
}

#[test]
fn when_a_hub_dies_the_next_of_the_list_takes_over_and_nothing_is_lost() {
    let mut plant = Plant::new(5);
    let (first, second) = (plant.site, Site::new(6));
    plant.site = Site::new(7);
    let (machine, identity) = (Counting::new(Duration::from_millis(1)), plant.identity());
    let mut a = Some(start_hub(&first, 0, &identity, &machine));
    let mut b = Some(start_hub(&second, 0, &identity, &machine));
    let port = |hub: &Option<Hub>| hub.as_ref().unwrap().edge_address().unwrap().port();
    let (port_a, port_b) = (port(&a), port(&b));
    let builder = || {
        EdgeBuilder::new(plant.identity(), plant.buffer())
            .patience(Duration::from_millis(50))
            .hub(entry(&first, port_a))
            .hub(entry(&second, port_b))
            .device(machine.setup(PRESS, SCANS))
    };
    let edge = builder().start().unwrap();
    let at = |port: u16| move |s: &UplinkStatus| matches!(s, UplinkStatus::Up { address, .. } if address.ends_with(&format!(":{port}")));
    uplink(&edge, "the first of the list", at(port_a));
    for _ in 0..2 {
        site::batches(a.as_ref().unwrap(), 5);
        a.take().unwrap().shutdown().unwrap();
        uplink(&edge, "the second takes over", at(port_b));
        let had = b.as_ref().unwrap().stats().batches();
        site::batches(b.as_ref().unwrap(), had + 5);
        // The first is back, and the edge node stays where it is until that one dies too.
        a = Some(start_hub(&first, port_a, &identity, &machine));
        let had = b.as_ref().unwrap().stats().batches();
        site::batches(b.as_ref().unwrap(), had + 5);
        b.take().unwrap().shutdown().unwrap();
        uplink(&edge, "the first takes over again", at(port_a));
        b = Some(start_hub(&second, port_b, &identity, &machine));
    }
    finish(edge, builder, &machine);
    a.unwrap().shutdown().unwrap();
    b.unwrap().shutdown().unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for site in [&first, &second] {
        site.verify_is_clean();
        let counts = site.recorded().counts(PRESS);
        assert!(
            counts.windows(2).all(|w| w[0] < w[1]),
            "in order and once: {counts:?}"
        );
        seen.extend(counts);
    }
    let all: Vec<u64> = (0..machine.scans()).collect();
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), all);
}

#[test]
fn a_full_buffer_stops_the_reading_or_drops_the_oldest_and_says_so() {
    for when_full in [WhenFull::Stop, WhenFull::DropOldest] {
        let mut plant = Plant::new(8);
        let machine = Counting::in_runs(Duration::from_millis(1), 20);
        let hub = plant.hub(&machine);
        hub.shutdown().unwrap();
        let (identity, buffer) = (plant.identity(), plant.buffer());
        identity.save(&buffer.join("key")).unwrap();
        let to = entry(&plant.site, plant.port);
        let builder = || {
            let identity = Identity::load(&buffer.join("key"), "edge-1").unwrap();
            EdgeBuilder::new(identity, &buffer)
                // It gets as much as a device gets at least.
                .bound(1, when_full)
                .hub(to.clone())
                .device(machine.setup(PRESS, 20))
        };
        let edge = builder().start().unwrap();
        let began = Instant::now();
        match when_full {
            WhenFull::Stop => {
                let mut read = (machine.scans(), Instant::now());
                while read.1.elapsed() < Duration::from_millis(500) || read.0 == 0 {
                    assert!(
                        began.elapsed() < 3 * PATIENCE,
                        "the machine is read for ever"
                    );
                    if machine.scans() != read.0 {
                        read = (machine.scans(), Instant::now());
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
                assert_eq!(edge.lanes()[0].dropped, 0);
            }
            WhenFull::DropOldest => {
                while edge.lanes()[0].dropped == 0 {
                    assert!(began.elapsed() < 3 * PATIENCE, "nothing is dropped");
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
        assert!(edge.lanes()[0].bytes <= MIN_BUFFER);
        let dropped = edge.lanes()[0].dropped;
        let hub = plant.hub(&machine);
        machine.stop();
        drained(&edge, 1);
        let dropped = edge.lanes()[0].dropped.max(dropped);
        edge.shutdown().unwrap();
        let edge = builder().start().unwrap();
        drained(&edge, 0);
        edge.shutdown().unwrap();
        hub.shutdown().unwrap();
        plant.site.verify_is_clean();
        let recorded = plant.site.recorded();
        recorded.is_gapless();
        let (mut missing, mut due) = (0, 0);
        for batch in recorded.of(PRESS) {
            if batch.opened.is_some() {
                let Values::U64(counts) = &batch.batch().columns[0].values else {
                    panic!("it counts");
                };
                assert_eq!(counts[0], due);
                due += counts.len() as u64;
                continue;
            }
            // The gap is in the record: which batch, how many samples, and that the edge node says so.
            let content = &batch.content;
            let verdict = (&*content.verdict.chart, &*content.verdict.rule);
            assert_eq!(verdict, ("transport", "dropped"));
            assert!(content.attester.is_some());
            missing += u64::from(content.samples);
            due += u64::from(content.samples);
        }
        assert_eq!(due, machine.scans());
        assert_eq!(missing, dropped);
        assert_eq!(missing > 0, when_full == WhenFull::DropOldest);
    }
}
