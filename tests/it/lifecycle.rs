//! A hub begins and ends in good order, however many devices it has and whatever they do.

use crate::machines::{Counting, EPOCH, MS, Scripted, Step, tag};
use crate::site::{self, PATIENCE, Site};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use weighbridge::actors::ledger::BlockLimits;
use weighbridge::hub::{DeviceSetup, HubError};
use weighbridge::model::{BatchBuilder, TagSpec, ValueKind};
use weighbridge::protocols::{Mode, Source, SourceError};

#[test]
fn a_hub_without_devices_begins_and_ends() {
    let site = Site::new(31);
    let began = Instant::now();
    for _ in 0..3 {
        site.hub().start().unwrap().shutdown().unwrap();
    }
    assert!(began.elapsed() < PATIENCE);
    site.verify_is_clean();
    assert_eq!(site.recorded().batches.len(), 0);
}

#[test]
fn two_hundred_devices_lose_nothing() {
    const DEVICES: usize = 200;
    let site = Site::new(32);
    let ids: Vec<String> = (0..DEVICES).map(|i| format!("d{i}")).collect();
    // As fast as they can: the bound is the disk and the credits.
    let machines: Vec<_> = ids
        .iter()
        .map(|_| Counting::new(Duration::from_millis(5)))
        .collect();
    let mut builder = site.hub();
    for (id, machine) in ids.iter().zip(&machines) {
        builder = builder.device(machine.setup(id, 3));
    }
    let hub = builder.start().unwrap();
    site::batches(&hub, 5 * DEVICES as u64);
    let live = hub.live().clone();
    hub.shutdown().unwrap();

    site.verify_is_clean();
    let recorded = site.recorded();
    recorded.is_gapless();
    for (id, machine) in ids.iter().zip(&machines) {
        let all: Vec<u64> = (0..machine.scans()).collect();
        assert_eq!(recorded.counts(id), all, "{id}");
        assert_eq!(live.device(id).unwrap().dropped.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn what_was_read_before_a_connection_broke_is_recorded() {
    let site = Site::new(37);
    let press = Scripted::new("press-1", [tag("pressure", ValueKind::F64)]);
    let hub = site.hub().device(press.setup(100)).start().unwrap();
    for round in 0..3 {
        let time = EPOCH + round * 1_000 * MS;
        press.scan(time, [1.0]);
        press.scan(time + MS, [2.0]);
        press.does(Step::Break);
        let reason = site::down(&hub, "press-1");
        assert!(reason.contains("it was told to break"), "{reason}");
        site::batches(&hub, round as u64 + 1);
        press.scan(time + 2 * MS, [3.0]);
        site::up(&hub, "press-1");
    }
    let live = hub.live().device("press-1").unwrap();
    assert_eq!(live.reconnects.load(Ordering::Relaxed), 3);
    hub.shutdown().unwrap();
    assert_eq!(live.dropped.load(Ordering::Relaxed), 0);
    site.verify_is_clean();
    let recorded = site.recorded();
    recorded.is_gapless();
    let rows = recorded.of("press-1").map(|b| b.batch().samples());
    assert_eq!(rows.collect::<Vec<_>>(), [2, 3, 3, 1]);
}

/// What a source does that never gives a sample.
#[derive(Clone, Copy, Debug)]
enum Idle {
    /// It waits for a connection for ever.
    Connecting,
    /// Its connections are refused.
    Refused,
    /// It is connected, and nothing comes.
    Silent,
    /// It says that it read something, and did not.
    Empty,
    /// It is connected, and cannot be closed.
    Unclosable,
}

struct IdleSource {
    idle: Idle,
    connects: Arc<AtomicUsize>,
}

impl IdleSource {
    fn setup(idle: Idle, connects: &Arc<AtomicUsize>) -> DeviceSetup {
        let tags: Arc<[TagSpec]> = [tag("nothing", ValueKind::F64)].into();
        let connects = connects.clone();
        let id = format!("{idle:?}").to_lowercase();
        DeviceSetup::new(id.into(), tags, move || {
            let connects = connects.clone();
            Box::new(IdleSource { idle, connects })
        })
    }
}

#[async_trait::async_trait]
impl Source for IdleSource {
    fn tags(&self) -> Arc<[TagSpec]> {
        [tag("nothing", ValueKind::F64)].into()
    }

    fn mode(&self) -> Mode {
        Mode::Scanning
    }

    async fn connect(&mut self) -> Result<(), SourceError> {
        self.connects.fetch_add(1, Ordering::SeqCst);
        match self.idle {
            Idle::Connecting => std::future::pending().await,
            Idle::Refused => Err(SourceError::Unreachable {
                address: "nowhere".to_owned(),
                reason: "nobody is there".to_owned(),
            }),
            Idle::Silent | Idle::Empty | Idle::Unclosable => Ok(()),
        }
    }

    async fn read(&mut self, _: &mut BatchBuilder) -> Result<(), SourceError> {
        match self.idle {
            Idle::Empty => tokio::time::sleep(Duration::from_millis(1)).await,
            _ => std::future::pending().await,
        }
        Ok(())
    }

    async fn close(&mut self) {
        if matches!(self.idle, Idle::Unclosable) {
            std::future::pending().await
        }
    }
}

#[test]
fn devices_that_never_give_a_sample_keep_nobody_from_working_or_ending() {
    let site = Site::new(33);
    let connects = Arc::new(AtomicUsize::new(0));
    let press = Counting::new(Duration::from_millis(1));
    let mut builder = site.hub().device(press.setup("press-1", 5));
    let idle = [
        Idle::Connecting,
        Idle::Refused,
        Idle::Silent,
        Idle::Empty,
        Idle::Unclosable,
    ];
    for idle in idle {
        builder = builder.device(IdleSource::setup(idle, &connects));
    }
    let hub = builder.start().unwrap();
    assert!(site::down(&hub, "refused").contains("nobody is there"));
    site::batches(&hub, 10);
    assert!(connects.load(Ordering::SeqCst) >= idle.len());
    let began = Instant::now();
    hub.shutdown().unwrap();
    assert!(began.elapsed() < Duration::from_secs(5));
    let all: Vec<u64> = (0..press.scans()).collect();
    assert_eq!(site.recorded().counts("press-1"), all);
    site.verify_is_clean();
}

#[test]
fn the_last_batches_do_not_wait_for_others_to_share_a_block_with() {
    let site = Site::new(34);
    let press = Counting::new(Duration::from_millis(1));
    // Neither would close by itself within the test.
    let hub = site
        .hub()
        .blocks(BlockLimits {
            records: 1_000_000,
            age: Duration::from_secs(3600),
            ..BlockLimits::default()
        })
        .device(press.setup("press-1", 5))
        .start()
        .unwrap();
    site::up(&hub, "press-1");
    let before = press.scans();
    while press.scans() < before + 8 {
        std::thread::yield_now();
    }
    let began = Instant::now();
    hub.shutdown().unwrap();
    assert!(began.elapsed() < Duration::from_secs(5));
    site.verify_is_clean();
    let all: Vec<u64> = (0..press.scans()).collect();
    assert_eq!(site.recorded().counts("press-1"), all);
}

/// A source whose attempts to connect block a thread each, as looking up a name does while no name
/// server answers.
struct Unresolved(Arc<(Mutex<bool>, Condvar)>, Arc<AtomicUsize>);

#[async_trait::async_trait]
impl Source for Unresolved {
    fn tags(&self) -> Arc<[TagSpec]> {
        [tag("nothing", ValueKind::F64)].into()
    }

    fn mode(&self) -> Mode {
        Mode::Scanning
    }

    async fn connect(&mut self) -> Result<(), SourceError> {
        let (gate, looked_up) = (self.0.clone(), self.1.clone());
        let lookup = tokio::task::spawn_blocking(move || {
            looked_up.fetch_add(1, Ordering::SeqCst);
            let mut open = gate.0.lock();
            while !*open {
                gate.1.wait(&mut open);
            }
        });
        let _ = lookup.await;
        Err(SourceError::Unreachable {
            address: "plc.example:502".to_owned(),
            reason: "its name is not known".to_owned(),
        })
    }

    async fn read(&mut self, _: &mut BatchBuilder) -> Result<(), SourceError> {
        std::future::pending().await
    }
}

#[test]
fn names_that_nobody_resolves_do_not_keep_blocks_from_being_written() {
    const UNRESOLVED: usize = 64;
    let site = Site::new(35);
    let gate: Arc<(Mutex<bool>, Condvar)> = Arc::default();
    let looked_up = Arc::new(AtomicUsize::new(0));
    let press = Counting::new(Duration::from_millis(1));
    let mut builder = site.hub().device(press.setup("press-1", 5));
    for i in 0..UNRESOLVED {
        let (gate, looked_up) = (gate.clone(), looked_up.clone());
        let tags: Arc<[TagSpec]> = [tag("nothing", ValueKind::F64)].into();
        builder = builder.device(DeviceSetup::new(
            format!("plc-{i}").into(),
            tags,
            move || Box::new(Unresolved(gate.clone(), looked_up.clone())),
        ));
    }
    let hub = builder.start().unwrap();
    let began = Instant::now();
    while looked_up.load(Ordering::SeqCst) < UNRESOLVED {
        assert!(began.elapsed() < PATIENCE, "they are not looked up");
        std::thread::yield_now();
    }
    let before = hub.stats().batches();
    site::batches(&hub, before + 10);
    *gate.0.lock() = true;
    gate.1.notify_all();
    hub.shutdown().unwrap();
    site.verify_is_clean();
}

#[test]
fn devices_that_the_ledger_could_not_tell_apart_are_refused() {
    let site = Site::new(36);
    let press = Counting::new(Duration::from_millis(1));
    let refused = |devices: Vec<DeviceSetup>, said: &str| {
        let mut builder = site.hub();
        for device in devices {
            builder = builder.device(device);
        }
        match builder.start() {
            Err(HubError::Device { reason, .. }) => assert!(reason.contains(said), "{reason}"),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it was started: {said}"),
        }
    };
    let twice = vec![press.setup("press-1", 5), press.setup("press-1", 5)];
    refused(twice, "another device has the same id");
    refused(vec![press.setup("", 5)], "empty");
    refused(vec![press.setup(&"p".repeat(65), 5)], "longer than 64");
    let none: [TagSpec; 0] = [];
    refused(vec![Scripted::new("press-1", none).setup(1)], "no tags");
    let tags = [tag("a", ValueKind::F64), tag("a", ValueKind::F64)];
    let same = vec![Scripted::new("press-1", tags).setup(1)];
    refused(same, "two of its tags have the name `a`");
}
