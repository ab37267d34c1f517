//! Sealed batches are in a database that goes away and comes back while machines are read.

use crate::machines::Counting;
use crate::site::{self, Site};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use weighbridge::actors::ledger::LedgerHealth;
use weighbridge::ledger::head::HeadSlot;
use weighbridge::ledger::store::{Space, Store};
use weighbridge::ledger::verify::verify_store;
use weighbridge::store::batches::{FaultyBatches, Lost, SplitStore};

const SCANS: usize = 5;

fn split(site: &Site, batches: &FaultyBatches) -> Arc<SplitStore> {
    let base = Arc::new(site.disk.store());
    let split = SplitStore::open(base, |_| Ok(Box::new(batches.clone())));
    Arc::new(split.unwrap())
}

#[test]
fn a_database_that_goes_away_stops_the_reading_and_nothing_is_lost_or_doubled() {
    let (site, batches) = (Site::new(31), FaultyBatches::default());
    let machine = Counting::new(Duration::from_millis(1));
    let start = || {
        let hub = site.hub_on(split(&site, &batches));
        hub.device(machine.setup("press-1", SCANS)).start().unwrap()
    };
    let mut hub = start();
    site::batches(&hub, 10);
    for lost in [Lost::All, Lost::Answers] {
        batches.lose(lost);
        let why = site::waiting(&hub);
        assert!(why.contains("the database does not answer"), "{why}");
        // What was not acknowledged is nowhere in the ledger.
        let durable = site.disk.contents(Space::Blocks).len();
        let began = Instant::now();
        let read = machine.scans();
        while machine.scans() == read && began.elapsed() < Duration::from_millis(200) {
            std::thread::yield_now();
        }
        assert_eq!(site.disk.contents(Space::Blocks).len(), durable);
        batches.lose(Lost::No);
        site::ledger(&hub, "the ledger is up again", |s| {
            s.health == LedgerHealth::Up
        });
        let before = hub.stats().batches();
        site::batches(&hub, before + 10);
    }
    hub.shutdown().unwrap();
    // It starts again with what is there.
    hub = start();
    site::batches(&hub, 5);
    let live = hub.live().clone();
    hub.shutdown().unwrap();
    let dropped = live
        .device("press-1")
        .unwrap()
        .dropped
        .load(Ordering::Relaxed);
    assert_eq!(dropped, 0);

    let store = split(&site, &batches);
    let head = site.disk.head().read().unwrap();
    let report = verify_store(&*store, &head, None, &mut |_| {}).unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
    let recorded = site.recorded_in(store.clone());
    recorded.is_gapless();
    let all: Vec<u64> = (0..machine.scans()).collect();
    assert_eq!(recorded.counts("press-1"), all);

    // A changed row is found by whoever verifies, and named.
    let sealed = store.scan(Space::Sealed, &[]).next().unwrap().unwrap();
    batches.change(&sealed.0);
    let report = verify_store(&*store, &head, None, &mut |_| {}).unwrap();
    let row: String = sealed.0.iter().map(|b| format!("{b:02x}")).collect();
    let named = report.findings.iter().any(|f| f.to_string().contains(&row));
    assert!(!report.is_clean() && named, "{:#?}", report.findings);
}
