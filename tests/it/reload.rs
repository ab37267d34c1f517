//! Devices come and go while the hub runs, and the others notice nothing.

use crate::machines::{Counting, Scripted, tag};
use crate::site::{self, Site};
use crate::support::{Plant, run_json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use weighbridge::hub::{Change, DeviceSetup, Hub};
use weighbridge::model::{BatchBuilder, DeviceId, TagSpec, ValueKind};
use weighbridge::protocols::{Mode, Source, SourceError};

/// A machine that counts its scans, and how often somebody connected to it or hung up.
#[derive(Clone)]
pub struct Observed {
    pub machine: Counting,
    connects: Arc<AtomicUsize>,
    closes: Arc<AtomicUsize>,
}

impl Observed {
    pub fn new() -> Self {
        Self::every(Duration::from_millis(400))
    }

    /// It answers a scan every `pause`.
    pub fn every(pause: Duration) -> Self {
        Self {
            machine: Counting::new(pause),
            connects: Arc::default(),
            closes: Arc::default(),
        }
    }

    pub fn setup(&self, id: &str) -> DeviceSetup {
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

    /// How often somebody connected, and hung up.
    pub fn contacts(&self) -> (usize, usize) {
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
    let change = Change {
        remove,
        put,
        edges: None,
    };
    let failed = site::wait(hub, "the change", hub.apply(change)).unwrap();
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
        // New settings are recorded, also of a device that goes before it ever said anything.
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
    // A device that goes at once may not have begun.
    let documents = recorded.documents.len();
    assert!((3..=6).contains(&documents), "{documents}");
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
        let change = Change {
            remove: vec!["a".into()],
            put,
            edges: None,
        };
        let refused = site::wait(&hub, "the answer", hub.apply(change));
        assert!(refused.is_err());
    }
    site::batches(&hub, 1);
    hub.shutdown().unwrap();
    assert_eq!(machine.contacts(), (1, 1));
}

#[test]
fn a_file_that_changes_is_taken_over_and_a_bad_one_is_not() {
    let plant = Plant::start();
    let path = plant.path("hub.toml");
    let right = std::fs::read_to_string(&path).unwrap();
    let mut hub = plant.run_hub();
    let url = hub.http_url().to_owned();
    let status = || run_json(&["status", "--json", "--url", &url]);
    let device = |id: &str| run_json(&["status", "--json", "--url", &url])["devices"][id].clone();
    for _ in 0..10 {
        hub.next_block();
    }

    // A mistake changes nothing, and says where it is.
    let bad = right.replacen("period_ms = 2", "period_sm = 2", 1);
    std::fs::write(&path, &bad).unwrap();
    let event = hub.next_config_event();
    assert_eq!(event["event"], "config_refused", "{event}");
    let first = event["first"].as_str().unwrap();
    assert!(
        first.contains("hub.toml:") && first.contains("unknown key `period_sm`"),
        "{first}"
    );
    let config = status()["config"].clone();
    assert!(
        config["refused"]["text"]
            .as_str()
            .unwrap()
            .contains("did you mean `period_ms`?")
    );
    assert_eq!(config["last_change"], serde_json::Value::Null);
    assert_eq!(device("total"), 2);

    // One device differs, one is new by a profile beside the file, and a port waits for a restart.
    let profiles = plant.path("plugins/profiles");
    std::fs::create_dir_all(&profiles).unwrap();
    let profile = "[profile]\nid = \"twin\"\nname = \"n\"\nversion = \"1\"\nsource = \"s\"\n\
        [parameters]\naddress = { example = \"a:1\" }\n[modbus]\naddress = \"{address}\"\nperiod_ms = 2\n\
        [[group]]\nfor = { r = \"0..4\" }\n[[group.tag]]\nname = \"r{r}\"\nmodbus = { holding_register = \"{r}\" }\n";
    std::fs::write(profiles.join("twin.toml"), profile).unwrap();
    let address = right
        .split("address = \"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let mut changed = right.replacen("period_ms = 2", "period_ms = 3", 1);
    changed = changed.replacen("max_records = 8", "max_records = 9", 1);
    changed += &format!(
        "\n[[device]]\nid = \"twin-1\"\nprofile = \"twin\"\nwith = {{ address = \"{address}\" }}\n"
    );
    std::fs::write(&path, &changed).unwrap();
    let event = hub.next_config_event();
    let counts = ["added", "changed", "removed", "untouched"].map(|key| event[key].as_u64());
    assert_eq!(counts, [Some(1), Some(1), Some(0), Some(1)], "{event}");
    assert_eq!(event["needs_restart"][0], "ledger.max_records");
    assert_eq!(status()["config"]["refused"], serde_json::Value::Null);
    assert_eq!(device("total"), 3);
    while !hub
        .next_block()
        .batches
        .iter()
        .any(|(id, ..)| id == "twin-1")
    {}

    // A profile that changes rebuilds who uses it; asked for by SIGHUP, which needs no quiet.
    std::fs::write(profiles.join("twin.toml"), profile.replace("0..4", "0..9")).unwrap();
    #[cfg(unix)]
    hub.signal("-HUP");
    let event = hub.next_config_event();
    assert_eq!(
        (&event["changed"], &event["untouched"]),
        (&1.into(), &2.into()),
        "{event}"
    );

    // And one that is taken out is gone.
    std::fs::write(&path, &right).unwrap();
    let event = hub.next_config_event();
    assert_eq!(
        (&event["removed"], &event["changed"]),
        (&1.into(), &1.into()),
        "{event}"
    );
    assert_eq!(device("total"), 2);
    #[cfg(unix)]
    {
        let (_, ended) = hub.ends("-INT");
        assert!(ended.status.success());
        plant.verify_is_clean();
    }
}
