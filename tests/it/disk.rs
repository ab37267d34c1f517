//! The disk runs full, or the power fails, while machines are read.

use crate::machines::Counting;
use crate::site::{self, PATIENCE, Site};
use crate::support::Random;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::broadcast::error::TryRecvError;
use weighbridge::actors::credit::BATCHES_UNDER_WAY;
use weighbridge::actors::ledger::LedgerHealth;
use weighbridge::hub::{DeviceSetup, HubError};
use weighbridge::model::{BatchBuilder, TagSpec};
use weighbridge::protocols::{Mode, Source, SourceError};
use weighbridge::store::spool::SpoolLimits;

const SCANS: usize = 5;

#[test]
fn a_full_disk_stops_the_reading_and_nothing_is_lost_or_doubled() {
    let site = Site::new(1);
    let machines = [
        Counting::new(Duration::from_millis(1)),
        Counting::new(Duration::from_millis(2)),
    ];
    let hub = site
        .hub()
        .device(machines[0].setup("press-1", SCANS))
        .device(machines[1].setup("press-2", SCANS))
        .start()
        .unwrap();
    site::batches(&hub, 10);

    site.disk.set_full(true);
    assert_eq!(site::waiting(&hub), "the disk is full");
    // Every device fills its credits and then reads no more.
    let durable = hub.stats().points.load(Ordering::Relaxed);
    let most = (machines.len() * BATCHES_UNDER_WAY * SCANS) as u64;
    let read = || machines.iter().map(Counting::scans).sum::<u64>();
    let began = Instant::now();
    while read() < durable + most {
        assert!(began.elapsed() < PATIENCE, "the credits are not used");
        std::thread::yield_now();
    }
    // Nothing more can be awaited than that nothing happens.
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(read(), durable + most);
    assert_eq!(hub.stats().points.load(Ordering::Relaxed), durable);

    site.disk.set_full(false);
    site::ledger(&hub, "the ledger is up again", |s| {
        s.health == LedgerHealth::Up
    });
    let before = hub.stats().batches();
    site::batches(&hub, before + 10);
    let live = hub.live().clone();
    hub.shutdown().unwrap();

    site.verify_is_clean();
    let recorded = site.recorded();
    recorded.is_gapless();
    for (machine, id) in machines.iter().zip(["press-1", "press-2"]) {
        let all: Vec<u64> = (0..machine.scans()).collect();
        assert_eq!(recorded.counts(id), all, "{id}");
        assert_eq!(live.device(id).unwrap().dropped.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn with_a_buffer_a_full_disk_stops_nothing_and_all_of_it_gets_there_once() {
    let site = Site::new(21);
    let buffer = tempfile::tempdir().unwrap();
    let machine = Counting::new(Duration::from_millis(1));
    let start = || {
        let hub = site.hub().buffer(buffer.path(), SpoolLimits::of(16 << 20));
        hub.device(machine.setup("press-1", SCANS)).start().unwrap()
    };
    let hub = start();
    site::batches(&hub, 10);
    site.disk.set_full(true);
    let before = hub.stats().batches();
    site::batches(&hub, before + 30);
    let waiting = hub.buffer().unwrap();
    assert!(waiting.waiting > 0, "{waiting:?}");
    assert_eq!(waiting.reason, "the disk is full");
    assert_eq!(hub.ledger_status().borrow().health, LedgerHealth::Up);
    // Blocks in the buffer are read as any others.
    let tip = hub.ledger_status().borrow().tip;
    assert!(hub.explorer().block(tip.height).unwrap().is_some());
    hub.shutdown().unwrap();

    // It ends and starts again while the disk is still full.
    let hub = start();
    site::batches(&hub, 10);
    site.disk.set_full(false);
    let began = Instant::now();
    while hub.buffer().unwrap().waiting > 0 {
        assert!(began.elapsed() < PATIENCE, "{:?}", hub.buffer());
        std::thread::yield_now();
    }
    site::batches(&hub, 20);
    hub.shutdown().unwrap();

    site.verify_is_clean();
    let recorded = site.recorded();
    recorded.is_gapless();
    let all: Vec<u64> = (0..machine.scans()).collect();
    assert_eq!(recorded.counts("press-1"), all);
}

/// A machine whose values come whether they are taken or not: some were lost.
struct Impatient {
    counting: Counting,
    lost: Arc<AtomicU64>,
}

#[async_trait::async_trait]
impl Source for Impatient {
    fn tags(&self) -> Arc<[TagSpec]> {
        self.counting.tags()
    }

    fn mode(&self) -> Mode {
        self.counting.mode()
    }

    async fn connect(&mut self) -> Result<(), SourceError> {
        self.counting.connect().await
    }

    async fn read(&mut self, out: &mut BatchBuilder) -> Result<(), SourceError> {
        self.counting.read(out).await
    }

    fn lost(&mut self) -> u64 {
        self.lost.swap(0, Ordering::SeqCst)
    }
}

#[test]
fn what_a_source_loses_while_the_disk_is_full_shows_at_once() {
    let site = Site::new(14);
    let counting = Counting::new(Duration::from_millis(1));
    let lost = Arc::new(AtomicU64::new(0));
    let plain = counting.setup("press-1", SCANS);
    let (of_source, count) = (counting.clone(), lost.clone());
    let mut setup = DeviceSetup::new(plain.id, plain.tags, move || {
        Box::new(Impatient {
            counting: of_source.clone(),
            lost: count.clone(),
        })
    });
    setup.batch = plain.batch;
    let hub = site.hub().device(setup).start().unwrap();
    site::batches(&hub, 3);
    site.disk.set_full(true);
    site::waiting(&hub);
    let durable = hub.stats().points.load(Ordering::Relaxed);
    let began = Instant::now();
    while counting.scans() < durable + (BATCHES_UNDER_WAY * SCANS) as u64 {
        assert!(began.elapsed() < PATIENCE, "the credits are not used");
        std::thread::yield_now();
    }
    // From here on nobody reads.
    lost.store(7, Ordering::SeqCst);
    let live = hub.live().device("press-1").unwrap();
    while live.dropped.load(Ordering::Relaxed) < 7 {
        assert!(began.elapsed() < PATIENCE, "nobody asks what is lost");
        std::thread::yield_now();
    }
    site.disk.set_full(false);
    lost.store(5, Ordering::SeqCst);
    // What the machine lost is not what the hub lost.
    hub.shutdown().unwrap();
    assert_eq!(
        site.recorded().counts("press-1").len() as u64,
        counting.scans()
    );
}

#[test]
fn a_hub_that_must_end_while_the_disk_is_full_ends_and_says_what_is_lost() {
    let site = Site::new(2);
    let machine = Counting::new(Duration::from_millis(1));
    let hub = site
        .hub()
        .shutdown_wait(Duration::from_millis(200))
        .device(machine.setup("press-1", SCANS))
        .start()
        .unwrap();
    site::batches(&hub, 3);
    site.disk.set_full(true);
    site::waiting(&hub);
    let began = Instant::now();
    let live = hub.live().clone();
    let error = hub.shutdown().unwrap_err();
    assert!(began.elapsed() < PATIENCE, "it took {:?}", began.elapsed());
    let HubError::Lost { samples, reason } = error else {
        panic!("{error}");
    };
    assert_eq!(reason, "the disk is full");
    let dropped = live.device("press-1").unwrap();
    assert_eq!(dropped.dropped.load(Ordering::Relaxed), samples);

    site.disk.set_full(false);
    let hub = site.hub().start().unwrap();
    hub.shutdown().unwrap();
    site.verify_is_clean();
    let recorded = site.recorded();
    recorded.is_gapless();
    // A write that the disk called refused may be there all the same: then less is lost than was said.
    let counts = recorded.counts("press-1");
    let missing = machine.scans() - counts.len() as u64;
    assert!(missing <= samples, "{missing} are missing, {samples} said");
    let all: Vec<u64> = (0..counts.len() as u64).collect();
    assert_eq!(counts, all);
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_when_the_power_fails() {
    const RUNS: u64 = 150;
    let mut random = Random::from_env();
    let seed = random.seed;
    let mut acknowledged_in_all = 0;
    for run in 0..RUNS {
        let site = Site::new(seed.wrapping_add(run));
        let machines = [
            Counting::new(Duration::from_micros(100)),
            Counting::new(Duration::from_micros(300)),
        ];
        let ids = ["press-1", "press-2"];
        let mut acknowledged = BTreeMap::new();
        for life in 0..2 {
            let place = format!("run {run}, life {life}, seed {seed}");
            site.disk.cut_power_in(2 + random.below(12));
            let mut builder = site.hub().shutdown_wait(Duration::ZERO);
            for (machine, id) in machines.iter().zip(ids) {
                builder = builder.device(machine.setup(id, SCANS));
            }
            // The power may fail before it is up.
            if let Ok(hub) = builder.start() {
                let mut committed = hub.committed();
                site::waiting(&hub);
                // Whoever heard of a block relies on it.
                drop(hub);
                loop {
                    match committed.try_recv() {
                        Ok(block) => {
                            for (device, epoch, sequence, _) in &block.batches {
                                let key = (device.to_string(), *epoch, *sequence);
                                let twice = acknowledged.insert(key, block.tip.height);
                                assert_eq!(twice, None, "{place}");
                            }
                        }
                        Err(TryRecvError::Lagged(_)) => {
                            panic!("{place}: more blocks than expected")
                        }
                        Err(_) => break,
                    }
                }
            }
            site.disk.restart();
        }
        site.hub().start().unwrap().shutdown().unwrap();
        site.verify_is_clean();
        let recorded = site.recorded();
        recorded.is_gapless();
        let place = format!("run {run}, seed {seed}");
        for id in ids {
            let counts = recorded.counts(id);
            let rising = counts.windows(2).all(|w| w[0] < w[1]);
            assert!(rising, "{place}: {id} recorded {counts:?}");
        }
        for batch in &recorded.batches {
            let content = &batch.content;
            let key = (content.device.clone(), content.epoch, content.sequence);
            if let Some(height) = acknowledged.remove(&key) {
                assert_eq!(height, batch.height, "{place}: {key:?}");
                acknowledged_in_all += 1;
            }
        }
        assert!(acknowledged.is_empty(), "{place}: lost {acknowledged:?}");
    }
    assert!(acknowledged_in_all > RUNS, "too few to mean anything");
}
