//! A panic stays where it is.

use crate::machines::{Counting, EPOCH, MS, Scripted, Step, tag};
use crate::site::{self, PATIENCE, Site};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use weighbridge::actors::ledger::LedgerHealth;
use weighbridge::crypto::SealingKey;
use weighbridge::hub::{DeviceSetup, HubBuilder, HubError, HubKeys};
use weighbridge::ledger::batch_format::MAX_SAMPLES;
use weighbridge::ledger::store::{Entry, Pair, Put, Space, Store, StoreError};
use weighbridge::live_view::Link;
use weighbridge::model::{BatchBuilder, TagSpec, ValueKind};
use weighbridge::protocols::{Mode, Source, SourceError};
use weighbridge::store::FaultyDisk;

#[test]
fn a_source_that_panics_is_made_anew_and_its_numbers_go_on() {
    let site = Site::new(8);
    let neighbour = Counting::new(Duration::from_millis(1));
    let press = Scripted::new("press-1", [tag("pressure", ValueKind::F64)]);
    let hub = site
        .hub()
        .device(neighbour.setup("press-2", 10))
        .device(press.setup(2))
        .start()
        .unwrap();
    let live = hub.live().device("press-1").unwrap();
    const PANICS: i64 = 3;
    for round in 0..PANICS {
        let time = EPOCH + round * 1_000 * MS;
        // Two batches, and half of one that goes down with the source.
        for scan in 0..5 {
            press.scan(time + scan * MS, [scan as f64]);
        }
        press.does(Step::Panic);
        let down = site::down(&hub, "press-1");
        assert!(down.contains("the hub failed over this device"), "{down}");
        press.scan(time + 10 * MS, [0.0]);
        site::up(&hub, "press-1");
        press.scan(time + 11 * MS, [0.0]);
        // What was gathered when the source panicked is not silently gone.
        assert_eq!(live.dropped.load(Ordering::Relaxed), round as u64 + 1);
    }
    let before = neighbour.scans();
    while neighbour.scans() < before + 20 {
        std::thread::yield_now();
    }
    hub.shutdown().unwrap();

    site.verify_is_clean();
    let recorded = site.recorded();
    recorded.is_gapless();
    assert_eq!(recorded.of("press-1").count() as i64, 3 * PANICS);
    let all: Vec<u64> = (0..neighbour.scans()).collect();
    assert_eq!(recorded.counts("press-2"), all);
}

#[test]
fn a_source_that_panics_over_and_over_does_not_keep_a_hub_from_ending() {
    let site = Site::new(9);
    let press = Scripted::new("press-1", [tag("pressure", ValueKind::F64)]);
    let neighbour = Counting::new(Duration::from_millis(1));
    let hub = site
        .hub()
        .device(press.setup(2))
        .device(neighbour.setup("press-2", 10))
        .start()
        .unwrap();
    for _ in 0..1000 {
        press.does(Step::Panic);
    }
    site::down(&hub, "press-1");
    site::batches(&hub, 20);
    let began = Instant::now();
    hub.shutdown().unwrap();
    assert!(began.elapsed() < Duration::from_secs(5));
    site.verify_is_clean();
    let recorded = site.recorded();
    assert_eq!(recorded.of("press-1").count(), 0);
    let all: Vec<u64> = (0..neighbour.scans()).collect();
    assert_eq!(recorded.counts("press-2"), all);
}

/// A machine whose reader panics once, at a scan that the test names.
struct Fragile {
    counting: Counting,
    panic_at: Arc<AtomicU64>,
}

#[async_trait::async_trait]
impl Source for Fragile {
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
        if self.counting.scans() >= self.panic_at.load(Ordering::SeqCst) {
            self.panic_at.store(u64::MAX, Ordering::SeqCst);
            panic!("the test makes the source panic");
        }
        self.counting.read(out).await
    }
}

#[test]
fn a_device_that_waits_to_be_built_anew_is_not_read_any_more_once_the_hub_ends() {
    let site = Site::new(17);
    let counting = Counting::new(Duration::from_millis(1));
    let panic_at = Arc::new(AtomicU64::new(u64::MAX));
    let plain = counting.setup("press-1", 5);
    let (of_source, of_test) = (counting.clone(), panic_at.clone());
    let mut setup = DeviceSetup::new(plain.id, plain.tags, move || {
        Box::new(Fragile {
            counting: of_source.clone(),
            panic_at: of_test.clone(),
        })
    });
    setup.batch = plain.batch;
    let hub = site.hub().device(setup).start().unwrap();
    site::batches(&hub, 3);
    // In the batch after this one: then this one is under way, and until the disk has room again
    // nothing can be built.
    site.disk.set_full(true);
    panic_at.store(counting.scans() + 5, Ordering::SeqCst);
    site::down(&hub, "press-1");
    let live = hub.live().device("press-1").unwrap();
    let dropped = live.dropped.load(Ordering::Relaxed);
    let disk = site.disk.clone();
    let room = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        disk.set_full(false);
    });
    let scans = counting.scans();
    hub.shutdown().unwrap();
    room.join().unwrap();
    assert_eq!(counting.scans(), scans, "it was read while the hub ended");
    assert_eq!(live.dropped.load(Ordering::Relaxed), dropped);
    site.verify_is_clean();
    let recorded = site.recorded();
    recorded.is_gapless();
    assert_eq!(recorded.counts("press-1").len() as u64, scans - dropped);
}

#[test]
fn a_batch_that_cannot_be_sealed_is_counted_as_dropped_and_takes_what_it_taught_with_it() {
    let site = Site::new(16);
    let press = Scripted::new("press-1", [tag("pressure", ValueKind::F64)]);
    let mut setup = press.setup(1);
    setup.validation.phase1_samples = 1000;
    let hub = site.hub().device(setup).start().unwrap();
    let live = hub.live().device("press-1").unwrap();
    press.scan(EPOCH, [1.0]);
    site::batches(&hub, 1);
    // More than a batch may hold. It would end Phase I.
    let too_many = MAX_SAMPLES + 1;
    press.does(Step::Scans(EPOCH + MS, too_many, 2.0));
    let down = site::down(&hub, "press-1");
    assert!(down.contains("the hub failed over this device"), "{down}");
    assert_eq!(live.dropped.load(Ordering::Relaxed), too_many as u64);
    // What the old reader still takes may be dropped too, until the new one is there.
    let began = Instant::now();
    for scan in 0.. {
        assert!(began.elapsed() < PATIENCE, "it is not built anew");
        press.scan(EPOCH + (10 + scan) * MS, [1.0]);
        if live.link() == Link::Up {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    site::batches(&hub, 2);
    assert_eq!(site.recorded().documents.len(), 1, "Phase I was not over");
    press.does(Step::Scans(EPOCH + 60_000 * MS, 1000, 1.0));
    site::ledger(&hub, "what Phase I taught is recorded", |_| {
        site.recorded().documents.len() == 2
    });
    hub.shutdown().unwrap();
    site.verify_is_clean();
    let recorded = site.recorded();
    recorded.is_gapless();
    let settings = recorded.documents[0].1.commitment;
    let judged_by = recorded.batches.iter().map(|b| b.content.judged_by);
    assert!({ judged_by }.all(|document| document == settings));
}

/// A disk under a store that fails in a way nobody foresaw.
struct Panicking {
    disk: FaultyDisk,
    commits_left: AtomicU64,
}

impl Store for Panicking {
    fn commit(&self, puts: &[Put]) -> Result<(), StoreError> {
        let left = self.commits_left.fetch_sub(1, Ordering::SeqCst);
        assert!(left > 0, "the test makes the store panic");
        self.disk.store().commit(puts)
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.disk.store().get(space, key)
    }

    fn last(&self, space: Space) -> Result<Option<Pair>, StoreError> {
        self.disk.store().last(space)
    }

    fn scan<'a>(&'a self, space: Space, from: &[u8]) -> Box<dyn Iterator<Item = Entry> + 'a> {
        let entries: Vec<Entry> = self.disk.store().scan(space, from).collect();
        Box::new(entries.into_iter())
    }

    fn remove(&self, space: Space, keys: &[Vec<u8>]) -> Result<(), StoreError> {
        self.disk.store().remove(space, keys)
    }

    fn reclaim(&self) -> Result<(), StoreError> {
        self.disk.store().reclaim()
    }
}

#[test]
fn a_ledger_that_fails_in_an_unknown_way_stops_the_hub_with_the_reason() {
    let disk = FaultyDisk::new(10);
    let store = Panicking {
        disk: disk.clone(),
        commits_left: AtomicU64::new(5),
    };
    let keys = HubKeys {
        signing: weighbridge::crypto::Identity::generate("hub-1"),
        sealing: SealingKey::generate(),
    };
    let machine = Counting::new(Duration::from_millis(1));
    let hub = HubBuilder::on_storage(keys, Arc::new(store), Box::new(disk.head()))
        .device(machine.setup("press-1", 5))
        .start()
        .unwrap();
    let broken = |health: &LedgerHealth| matches!(health, LedgerHealth::Broken(_));
    let status = site::ledger(&hub, "the ledger is broken", |s| broken(&s.health));
    let LedgerHealth::Broken(reason) = status.health else {
        panic!("{status:?}");
    };
    assert!(
        reason.contains("the test makes the store panic"),
        "{reason}"
    );
    // Nobody may take the batches that are under way for recorded.
    let live = hub.live().device("press-1").unwrap();
    let began = Instant::now();
    let error = hub.shutdown().unwrap_err();
    assert!(matches!(error, HubError::Broken(_)), "{error}");
    assert!(began.elapsed() < PATIENCE);
    assert!(live.dropped.load(Ordering::Relaxed) > 0);
}
