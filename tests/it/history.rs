//! What was recorded, read again by those who may: over restarts, refusals, and a lost index.

use crate::machines::{EPOCH, MS, Scripted, tag};
use crate::site::{self, Site};
use std::time::Duration;
use weighbridge::access::{Caller, Role};
use weighbridge::hub::Hub;
use weighbridge::ledger::query::Explorer;
use weighbridge::ledger::store::Space;
use weighbridge::model::{Nanos, Value, ValueKind};
use weighbridge::protocols::ports::{
    Direction, HistoryError, HistoryPort, PastRequest, PastSample,
};
use weighbridge_verifier::evidence::{Evidence, Trust};
use weighbridge_verifier::{Action, Content, Response};

const PRESS: &str = "press-1";

fn caller(hub: &Hub, role: Role) -> Caller {
    site::enter(hub, role.name(), &[role])
}

fn request(from: Nanos, to: Nanos) -> PastRequest {
    PastRequest {
        device: PRESS.to_owned(),
        tags: vec!["pressure".to_owned()],
        from,
        to,
        purpose: "raw",
    }
}

/// All samples of the pressure in a range, read in pages of seven.
fn read(hub: &Hub, role: Role, range: (Nanos, Nanos)) -> Result<Vec<PastSample>, HistoryError> {
    let caller = caller(hub, role);
    hub.runtime().block_on(async {
        let tags = hub.past().open(&caller, request(range.0, range.1)).await?;
        let mut samples = Vec::new();
        let mut after = None;
        loop {
            let page = tags[0].page(Direction::Forward, after, 7).await?;
            samples.extend(page.samples);
            after = page.next;
            if after.is_none() {
                return Ok(samples);
            }
        }
    })
}

/// Action, response and kind of the newest record.
fn newest(site: &Site) -> (Action, Response, String, String) {
    let explorer = Explorer::new(std::sync::Arc::new(site.disk.store()));
    let page = explorer.records_where(None, 1, |_| true).unwrap();
    let body = page.items[0].record.body.clone();
    let Content::Message(message) = body.content else {
        panic!("{body:?} tells of no act");
    };
    (body.action, body.response, body.subject, message.kind)
}

/// The numbers of scans, as the pressure has them.
fn numbers(samples: &[PastSample]) -> Vec<i64> {
    let number = |s: &PastSample| {
        let Value::F64(number) = s.value else {
            panic!("{s:?}");
        };
        assert_eq!(s.time, EPOCH + number as i64 * MS);
        number as i64
    };
    samples.iter().map(number).collect()
}

/// A plant whose press made scans 0 to 9 under one hub and 10 to 19 under the next, where 13 and 14 are
/// in a refused batch.
fn plant() -> (Site, Scripted, Hub) {
    let site = Site::new(21);
    let press = Scripted::new(
        PRESS,
        [
            tag("pressure", ValueKind::F64),
            tag("speed", ValueKind::F64),
        ],
    );
    let scan = |i: i64, speed: f64| press.scan(EPOCH + i * MS, [i as f64, speed]);
    let hub = site.hub().device(press.setup(2)).start().unwrap();
    (0..10).for_each(|i| scan(i, 1.0));
    site::batches(&hub, 5);
    hub.shutdown().unwrap();
    let hub = site.hub().device(press.setup(1)).start().unwrap();
    (10..20).for_each(|i| scan(i, if i == 13 || i == 14 { f64::NAN } else { 1.0 }));
    site::batches(&hub, 10);
    (site, press, hub)
}

#[test]
fn history_is_what_was_recorded_over_every_key_and_every_read_is_a_record() {
    let (site, _press, hub) = plant();
    let all = read(&hub, Role::Auditor, (EPOCH, EPOCH + 100 * MS)).unwrap();
    let kept: Vec<i64> = (0..20).filter(|i| *i != 13 && *i != 14).collect();
    assert_eq!(numbers(&all), kept);
    assert_eq!(
        newest(&site),
        (
            Action::Read,
            Response::Accepted,
            "user:auditor".to_owned(),
            "history-read".to_owned()
        )
    );
    let some = read(&hub, Role::Operator, (EPOCH + 8 * MS, EPOCH + 12 * MS)).unwrap();
    assert_eq!(numbers(&some), [8, 9, 10, 11]);
    hub.shutdown().unwrap();
    site.verify_is_clean();
}

#[test]
fn who_may_not_is_refused_and_that_is_a_record_too() {
    let (site, _press, hub) = plant();
    let refused = read(&hub, Role::Observer, (EPOCH, EPOCH + 100 * MS)).unwrap_err();
    assert!(matches!(refused, HistoryError::Denied(_)), "{refused}");
    let expected = (
        Action::Refuse,
        Response::Refused,
        "user:observer".to_owned(),
        "history-read".to_owned(),
    );
    assert_eq!(newest(&site), expected);
    let evidence = hub.past().clone();
    let operator = caller(&hub, Role::Operator);
    let refused = evidence.evidence(&operator, PRESS, "pressure", EPOCH);
    let refused = hub.runtime().block_on(refused).unwrap_err();
    assert!(matches!(refused, HistoryError::Denied(_)), "{refused}");
    assert_eq!(newest(&site).3, "evidence");
    hub.shutdown().unwrap();
    site.verify_is_clean();
}

#[test]
fn evidence_is_of_the_sample_at_the_time_and_verifies() {
    let (_site, _press, hub) = plant();
    let genesis = hub.explorer().genesis().unwrap().unwrap();
    let validators = weighbridge::ledger::proof::genesis_validators(&genesis).unwrap();
    let key = validators.validators[0].key;
    for (at, scan) in [(EPOCH + 3 * MS, 3), (EPOCH + 14 * MS, 12), (i64::MAX, 19)] {
        let auditor = caller(&hub, Role::Auditor);
        let bytes = hub.past().evidence(&auditor, PRESS, "pressure", at);
        let bytes = hub.runtime().block_on(bytes).unwrap();
        let evidence = Evidence::from_bytes(&bytes).unwrap();
        assert_eq!(evidence.verify(&[key]).unwrap(), Trust::Key);
        let (_, _, sample) = evidence.samples().next().unwrap();
        assert_eq!(sample.value, Value::F64(f64::from(scan)));
        assert_eq!(sample.time, EPOCH + i64::from(scan) * MS);
    }
    let auditor = caller(&hub, Role::Auditor);
    let none = hub.past().evidence(&auditor, PRESS, "pressure", EPOCH - 1);
    let none = hub.runtime().block_on(none).unwrap_err();
    assert!(matches!(none, HistoryError::Unknown(_)), "{none}");
    hub.shutdown().unwrap();
}

#[test]
fn a_lost_index_is_made_up_from_the_blocks() {
    let (site, press, hub) = plant();
    let before = read(&hub, Role::Auditor, (EPOCH, i64::MAX)).unwrap();
    hub.shutdown().unwrap();
    let entries = site.disk.contents(Space::History);
    assert_eq!(entries.len(), 13);
    for (key, _) in &entries {
        site.disk.tamper(Space::History, key, None);
    }
    let hub = site.hub().device(press.setup(1)).start().unwrap();
    let deadline = std::time::Instant::now() + site::PATIENCE;
    let after = loop {
        match read(&hub, Role::Auditor, (EPOCH, i64::MAX)) {
            Ok(samples) => break samples,
            Err(HistoryError::Unreadable(why)) if why.contains("ask again") => {
                assert!(std::time::Instant::now() < deadline, "{why}");
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(after, before);
    hub.shutdown().unwrap();
    assert_eq!(site.disk.contents(Space::History).len(), 13);
    site.verify_is_clean();
}
