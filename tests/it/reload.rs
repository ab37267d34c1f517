//! Devices come and go while the hub runs, and the others notice nothing.

use crate::machines::{Counting, Scripted, tag};
use crate::site::{self, Site};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use weighbridge::hub::{DeviceSetup, Hub};
use weighbridge::model::{BatchBuilder, DeviceId, TagSpec, ValueKind};
use weighbridge::protocols::{Mode, Source, SourceError};

/// A machine that counts its scans, and how often somebody connected to it or hung up.
#[derive(Clone)]
struct Observed {
    machine: Counting,
    connects: Arc<AtomicUsize>,
    closes: Arc<AtomicUsize>,
}

impl Observed {
    fn new() -> Self {
        Self {
            machine: Counting::new(Duration::from_millis(400)),
            connects: Arc::default(),
            closes: Arc::default(),
        }
    }

    fn setup(&self, id: &str) -> DeviceSetup {
        let plain = self.machine.setup(id, 4);
        let (this, tags) = (self.clone(), plain.tags.clone());
        let make = move || {
            Box::new(ObservedSource {
                source: Box::new(this.machine.source()),
                of: this.clone(),
            }) as Box<dyn Source>
        };
        let mut setup = DeviceSetup::new(id.into(), tags, make);
        setup.batch = plain.batch;
        setup.validation = plain.validation;
        setup
    }

    fn contacts(&self) -> (usize, usize) {
        let read = |n: &AtomicUsize| n.load(Ordering::SeqCst);
        (read(&self.connects), read(&self.closes))
    }
}

struct ObservedSource {
    source: Box<dyn Source>,
    of: Observed,
}

#[async_trait::async_trait]
impl Source for ObservedSource {
    fn tags(&self) -> Arc<[TagSpec]> {
        self.source.tags()
    }

    fn mode(&self) -> Mode {
        self.source.mode()
    }

    async fn connect(&mut self) -> Result<(), SourceError> {
        self.of.connects.fetch_add(1, Ordering::SeqCst);
        self.source.connect().await
    }

    async fn read(&mut self, out: &mut BatchBuilder) -> Result<(), SourceError> {
        self.source.read(out).await
    }

    async fn close(&mut self) {
        self.of.closes.fetch_add(1, Ordering::SeqCst);
    }
}

fn apply(hub: &Hub, remove: &[&str], put: Vec<DeviceSetup>) {
    let remove: Vec<DeviceId> = remove.iter().map(|id| (*id).into()).collect();
    let failed = site::wait(hub, "the change", hub.apply(remove, put)).unwrap();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn changing_one_device_of_a_thousand_costs_the_others_no_poll() {
    const DEVICES: usize = 1000;
    let site = Site::new(61);
    let ids: Vec<String> = (0..DEVICES).map(|i| format!("d{i}")).collect();
    let machines: Vec<_> = ids.iter().map(|_| Observed::new()).collect();
    let mut builder = site.hub();
    for (id, machine) in ids.iter().zip(&machines) {
        builder = builder.device(machine.setup(id));
    }
    let hub = builder.start().unwrap();
    site::batches(&hub, DEVICES as u64);

    let (changed, gone, new) = (500, 501, Observed::new());
    let mut other = machines[changed].setup(&ids[changed]);
    other.batch.samples = 2;
    other.grade = 3;
    apply(&hub, &[&ids[gone]], vec![other, new.setup("new")]);
    let gone_scans = machines[gone].machine.scans();
    assert!(hub.live().device(&ids[gone]).is_none());
    let before = hub.stats().batches();
    site::batches(&hub, before + 2 * DEVICES as u64);
    hub.shutdown().unwrap();

    site.verify_is_clean();
    let recorded = site.recorded();
    recorded.is_gapless();
    for (i, (id, machine)) in ids.iter().zip(&machines).enumerate() {
        let all: Vec<u64> = (0..machine.machine.scans()).collect();
        assert_eq!(recorded.counts(id), all, "{id}");
        let contacts = if i == changed { (2, 2) } else { (1, 1) };
        assert_eq!(machine.contacts(), contacts, "{id}");
    }
    assert_eq!(machines[gone].machine.scans(), gone_scans);
    assert!(new.machine.scans() > 0);
    assert_eq!(
        recorded.counts("new"),
        (0..new.machine.scans()).collect::<Vec<_>>()
    );
    let grades = recorded.of(&ids[changed]).map(|b| b.content.grade);
    let mut grades: Vec<_> = grades.collect();
    grades.dedup();
    assert_eq!(grades, [0, 3]);
}

#[test]
fn a_device_that_comes_back_goes_on_where_it_was() {
    let site = Site::new(62);
    let press = Scripted::new("press-1", [tag("pressure", ValueKind::F64)]);
    let hub = site.hub().start().unwrap();
    for round in 0..3 {
        // New settings are recorded each time, also of a device that never said anything before.
        let mut setup = press.setup(1);
        setup.validation.sigmas = (3.0 + f64::from(round)).try_into().unwrap();
        apply(&hub, &[], vec![setup]);
        apply(&hub, &["press-1"], Vec::new());
        let mut setup = press.setup(1);
        setup.validation.sigmas = (13.0 + f64::from(round)).try_into().unwrap();
        apply(&hub, &[], vec![setup]);
        press.scan(crate::machines::EPOCH + i64::from(round), [1.0]);
        site::batches(&hub, round as u64 + 1);
    }
    apply(&hub, &["press-1", "nobody"], Vec::new());
    hub.shutdown().unwrap();
    site.verify_is_clean();
    let recorded = site.recorded();
    recorded.is_gapless();
    assert_eq!(recorded.of("press-1").count(), 3);
    assert_eq!(recorded.documents.len(), 6);
}

#[test]
fn what_cannot_be_used_changes_nothing() {
    let site = Site::new(63);
    let machine = Observed::new();
    let hub = site.hub().device(machine.setup("a")).start().unwrap();
    let refused = [
        vec![machine.setup("a"), machine.setup("a")],
        vec![machine.setup("a"), machine.setup("not an id")],
    ];
    for put in refused {
        let refused = site::wait(&hub, "the answer", hub.apply(vec!["a".into()], put));
        assert!(refused.is_err());
    }
    site::batches(&hub, 1);
    hub.shutdown().unwrap();
    assert_eq!(machine.contacts(), (1, 1));
}
