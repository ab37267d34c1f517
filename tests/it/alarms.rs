//! Alarms of a whole hub: from a verdict to a record, and over a restart.

use crate::machines::{EPOCH, MS, Scripted, Step, tag};
use crate::site::{self, Site};
use std::sync::Arc;
use std::time::Duration;
use weighbridge::access::{Caller, Role};
use weighbridge::actors::ledger::LedgerHealth;
use weighbridge::alarms::{Alarm, AlarmAction, AlarmError, Shelving};
use weighbridge::crypto::SealingKey;
use weighbridge::hub::{Change, DeviceSetup, Hub};
use weighbridge::ledger::opening::Opener;
use weighbridge::ledger::query::{Explorer, RecordFilter};
use weighbridge::model::ValueKind;
use weighbridge::protocols::ports::AlarmPort;
use weighbridge_verifier::{Action, Content, Response};

const PRESS: &str = "press-1";
const ALARM: &str = "press-1/pressure";
const SCANS: usize = 10;

struct Process {
    press: Scripted,
    scans: i64,
    batches: u64,
}

impl Process {
    fn new() -> Self {
        let press = Scripted::new(PRESS, [tag("pressure", ValueKind::F64)]);
        Self {
            press,
            scans: 0,
            batches: 0,
        }
    }

    fn setup(&self) -> DeviceSetup {
        let mut setup = self.press.setup(SCANS);
        setup.validation = weighbridge::validation::ValidationConfig {
            phase1_samples: 40,
            ..Default::default()
        };
        setup
    }

    /// A batch around `level`, which is durable after it.
    fn batch(&mut self, hub: &Hub, level: f64) {
        for _ in 0..SCANS {
            let wobble = ((self.scans * 37) % 101) as f64 / 100.0;
            self.press.scan(EPOCH + self.scans * MS, [level + wobble]);
            self.scans += 1;
        }
        self.batches += 1;
        site::batches(hub, self.batches);
    }
}

fn act(hub: &Hub, who: &Caller, action: AlarmAction, said: &str) -> Result<Alarm, AlarmError> {
    let act = hub.alarms().act(who, ALARM, None, action, said);
    site::wait(hub, "an act on an alarm", act)
}

fn alarm(hub: &Hub, id: &str) -> Option<Alarm> {
    hub.alarms().alarms().into_iter().find(|a| a.id == id)
}

/// Waits until the alarm is as `wanted`.
fn until(hub: &Hub, id: &str, what: &str, wanted: impl Fn(Option<&Alarm>) -> bool) {
    let mut changes = hub.alarms().changes();
    site::wait(hub, what, async {
        while !wanted(alarm(hub, id).as_ref()) {
            let _ = tokio::time::timeout(Duration::from_millis(50), changes.recv()).await;
        }
    });
}

/// Subject, action, response and details of the newest records about alarms, oldest first.
fn told(site: &Site, key: SealingKey) -> Vec<(String, Action, Response, serde_json::Value)> {
    let store = Arc::new(site.disk.store());
    let opener = Opener::new(store.clone(), Arc::new(key), "hub-1");
    let all = Explorer::new(store);
    let page = all.records(None, 1_000, &RecordFilter::default()).unwrap();
    let mut told = Vec::new();
    for item in page.items {
        let body = item.record.body;
        if let Content::Message(message) = &body.content
            && body.object == format!("alarm:{ALARM}")
        {
            let details = opener.open_act(&body.hub, message).unwrap();
            told.push((body.subject, body.action, body.response, details));
        }
    }
    told.reverse();
    told
}

#[test]
fn an_alarm_is_recorded_acknowledged_and_goes_on_after_a_restart() {
    let site = Site::new(71);
    let mut process = Process::new();
    let hub = site.hub().device(process.setup()).start().unwrap();
    for _ in 0..6 {
        process.batch(&hub, 20.0);
    }
    assert_eq!(alarm(&hub, ALARM), None);
    process.batch(&hub, 50.0);
    let raised = alarm(&hub, ALARM).expect("it is raised before its batch is durable");
    assert!(raised.active && !raised.acknowledged, "{raised:?}");
    assert!(raised.message.contains("pressure"), "{}", raised.message);

    let (anna, bob) = (
        site::enter(&hub, "anna", &[Role::Operator]),
        site::enter(&hub, "bob", &[Role::Observer]),
    );
    let refused = act(&hub, &bob, AlarmAction::Acknowledge, "me too");
    assert!(matches!(refused, Err(AlarmError::Denied(_))), "{refused:?}");
    let shelved = act(&hub, &anna, AlarmAction::Shelve(None), "");
    assert!(matches!(shelved, Err(AlarmError::Denied(_))), "{shelved:?}");
    let done = act(&hub, &anna, AlarmAction::Acknowledge, "on my way").unwrap();
    assert!(done.acknowledged);
    // It is in the record before it is answered.
    let records = told(&site, site.sealing());
    let (subject, action, response, details) = records.last().unwrap();
    assert_eq!(
        (&**subject, *action, *response),
        ("user:anna", Action::Acknowledge, Response::Accepted)
    );
    assert_eq!(details["did"], "acknowledge");
    assert_eq!(details["comment"], "on my way");
    let refusals = records.iter().filter(|r| r.1 == Action::Refuse);
    let refused: Vec<_> = refusals.map(|r| (&*r.0, r.2)).collect();
    let wanted = [
        ("user:bob", Response::Refused),
        ("user:anna", Response::Refused),
    ];
    assert_eq!(refused, wanted);
    hub.shutdown().unwrap();
    site.verify_is_clean();

    let hub = site.hub().device(process.setup()).start().unwrap();
    process.batches = 0;
    let after = alarm(&hub, ALARM).expect("it goes on");
    assert!(after.active && after.acknowledged, "{after:?}");
    assert_eq!(after.comment, Some(("anna".into(), "on my way".into())));
    // The charts' memory began anew with the limits that were learned.
    for _ in 0..3 {
        assert!(alarm(&hub, ALARM).is_some_and(|a| a.active));
        process.batch(&hub, 20.0);
    }
    let over = alarm(&hub, ALARM).expect("it is not confirmed");
    assert!(!over.active && over.acknowledged, "{over:?}");
    let confirmed = act(&hub, &anna, AlarmAction::Confirm, "").unwrap();
    assert!(confirmed.at_rest());
    assert_eq!(alarm(&hub, ALARM), None);
    hub.shutdown().unwrap();
    site.verify_is_clean();
    let hub = site.hub().device(process.setup()).start().unwrap();
    assert_eq!(alarm(&hub, ALARM), None, "there is nothing to remember");
    hub.shutdown().unwrap();
    let told = told(&site, site.sealing());
    let last = told.last().unwrap();
    assert_eq!((&*last.0, &last.3["did"]), ("user:anna", &"confirm".into()));
}

#[test]
fn a_disabled_alarm_stays_so_over_a_restart_and_that_of_a_removed_device_is_over() {
    let site = Site::new(74);
    let mut process = Process::new();
    let hub = site.hub().device(process.setup()).start().unwrap();
    for level in [20.0, 20.0, 20.0, 20.0, 20.0, 20.0, 50.0] {
        process.batch(&hub, level);
    }
    let (anna, eve) = (
        site::enter(&hub, "anna", &[Role::Operator]),
        site::enter(&hub, "eve", &[Role::Engineer]),
    );
    let denied = act(&hub, &anna, AlarmAction::Disable, "noise");
    assert!(matches!(denied, Err(AlarmError::Denied(_))), "{denied:?}");
    let disabled = act(&hub, &eve, AlarmAction::Disable, "sensor is changed").unwrap();
    assert!(!disabled.enabled && disabled.active && !disabled.retain());
    let records = told(&site, site.sealing());
    let (subject, action, response, details) = records.last().unwrap();
    assert_eq!(
        (&**subject, *action, *response, &details["did"]),
        (
            "user:eve",
            Action::Acknowledge,
            Response::Accepted,
            &"disable".into()
        )
    );
    hub.shutdown().unwrap();

    let hub = site.hub().device(process.setup()).start().unwrap();
    assert!(!alarm(&hub, ALARM).unwrap().enabled);
    let enabled = act(&hub, &eve, AlarmAction::Enable, "").unwrap();
    assert!(enabled.active && enabled.retain());
    let removed = hub.apply(Change {
        remove: vec![PRESS.into()],
        ..Change::default()
    });
    assert!(
        site::wait(&hub, "the device is out", removed)
            .unwrap()
            .is_empty()
    );
    let over = alarm(&hub, ALARM).expect("nobody has seen it");
    assert!(!over.active && !over.acknowledged, "{over:?}");
    hub.shutdown().unwrap();
    site.verify_is_clean();
}

#[test]
fn the_alarms_of_a_device_that_is_no_more_in_the_configuration_are_over() {
    let site = Site::new(75);
    let mut process = Process::new();
    let hub = site.hub().device(process.setup()).start().unwrap();
    for level in [20.0, 20.0, 20.0, 20.0, 20.0, 20.0, 50.0] {
        process.batch(&hub, level);
    }
    let anna = site::enter(&hub, "anna", &[Role::Operator]);
    let said = act(&hub, &anna, AlarmAction::Comment, "the press is sold").unwrap();
    assert!(said.active);
    hub.shutdown().unwrap();
    let hub = site.hub().start().unwrap();
    let over = alarm(&hub, ALARM).expect("nobody has seen it");
    assert!(!over.active, "{over:?}");
    site::ledger(&hub, "its end is on record", |_| {
        let told = told(&site, site.sealing());
        told.last()
            .is_some_and(|last| last.3["alarm"]["active"] == false)
    });
    hub.shutdown().unwrap();
}

#[test]
fn what_cannot_be_recorded_is_not_done() {
    let site = Site::new(72);
    let mut process = Process::new();
    let hub = site.hub().device(process.setup()).start().unwrap();
    for level in [20.0, 20.0, 20.0, 20.0, 20.0, 20.0, 50.0] {
        process.batch(&hub, level);
    }
    let anna = site::enter(&hub, "anna", &[Role::Supervisor]);
    site.disk.set_full(true);
    let done = act(&hub, &anna, AlarmAction::Acknowledge, "");
    assert!(matches!(done, Err(AlarmError::NotRecorded(_))), "{done:?}");
    assert!(!alarm(&hub, ALARM).unwrap().acknowledged);
    site.disk.set_full(false);
    site::ledger(&hub, "is up again", |s| s.health == LedgerHealth::Up);
    let shelved = act(&hub, &anna, AlarmAction::Shelve(None), "").unwrap();
    assert_eq!(shelved.shelving, Shelving::OneShot);
    hub.shutdown().unwrap();
    site.verify_is_clean();
    let hub = site.hub().device(process.setup()).start().unwrap();
    // What was refused for want of a disk did not come back as done.
    let after = alarm(&hub, ALARM).unwrap();
    assert_eq!(
        (after.acknowledged, after.shelving),
        (false, Shelving::OneShot)
    );
    hub.shutdown().unwrap();
}

#[test]
fn a_device_that_is_lost_is_an_alarm_of_its_own() {
    let site = Site::new(73);
    let mut process = Process::new();
    let hub = site.hub().device(process.setup()).start().unwrap();
    process.batch(&hub, 20.0);
    process.press.does(Step::Break);
    until(&hub, PRESS, "the device is lost", |alarm| {
        alarm.is_some_and(|a| a.active && a.tag.is_none())
    });
    let lost = alarm(&hub, PRESS).unwrap();
    assert!(
        lost.message.contains("it was told to break"),
        "{}",
        lost.message
    );
    hub.shutdown().unwrap();
}
