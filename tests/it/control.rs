//! Writing to machines and calling their methods: checked, recorded, then done, whatever happens.

use crate::machines::tag;
use crate::site::{self, RecordedAct, Site};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Semaphore, watch};
use weighbridge::access::{Caller, Role};
use weighbridge::hub::{DeviceSetup, Hub};
use weighbridge::model::{BatchBuilder, Quality, TagSpec, Value, ValueKind, now};
use weighbridge::protocols::control::{Control, MethodCall, TagWrite, WriteFault, Written};
use weighbridge::protocols::ports::{ControlError, ControlPort};
use weighbridge::protocols::{Mode, Source, SourceError};
use weighbridge_verifier::{Action, Response};

/// How a valve takes a write.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Good,
    /// It waits until the test lets it go on.
    Slow,
    Panics,
    /// It takes the value and shows another.
    Misreads,
    /// It ends the connection.
    HangsUp,
}

/// A machine with a set point.
struct Valve {
    id: &'static str,
    manner: Mutex<Manner>,
    /// What it was told, in order.
    told: Mutex<Vec<f64>>,
    /// Lets slow writes go on.
    gate: Semaphore,
    under_way: AtomicUsize,
    there: watch::Sender<bool>,
    /// Looks at the record while the machine is touched.
    site: Arc<Site>,
}

impl Valve {
    fn new(id: &'static str, site: &Arc<Site>) -> Arc<Self> {
        Arc::new(Self {
            id,
            manner: Mutex::new(Manner::Good),
            told: Mutex::default(),
            gate: Semaphore::new(0),
            under_way: AtomicUsize::new(0),
            there: watch::Sender::new(true),
            site: site.clone(),
        })
    }

    fn tags() -> Arc<[TagSpec]> {
        let mut setpoint = tag("setpoint", ValueKind::F64);
        setpoint.writable = true;
        setpoint.range = Some((0.0, 1e6));
        [setpoint, tag("pressure", ValueKind::F64)].into()
    }

    fn setup(self: &Arc<Self>) -> DeviceSetup {
        let valve = self.clone();
        let make = move || Box::new(ValveSource(valve.clone(), false)) as Box<dyn Source>;
        DeviceSetup::new(self.id.into(), Self::tags(), make)
    }

    fn told(&self) -> Vec<f64> {
        self.told.lock().clone()
    }
}

struct ValveSource(Arc<Valve>, bool);

#[async_trait]
impl Source for ValveSource {
    fn tags(&self) -> Arc<[TagSpec]> {
        Valve::tags()
    }

    fn mode(&self) -> Mode {
        Mode::Scanning
    }

    async fn connect(&mut self) -> Result<(), SourceError> {
        self.1 = false;
        if *self.0.there.borrow() {
            return Ok(());
        }
        Err(SourceError::Unreachable {
            address: "10.0.0.7:502".to_owned(),
            reason: "Connection refused (os error 111)".to_owned(),
        })
    }

    async fn read(&mut self, out: &mut BatchBuilder) -> Result<(), SourceError> {
        if self.1 {
            let mut there = self.0.there.subscribe();
            let _ = there.wait_for(|there| !there).await;
            return Err(SourceError::Timeout {
                address: "10.0.0.7:502".to_owned(),
                milliseconds: 100,
            });
        }
        self.1 = true;
        out.begin_scan(now());
        out.scan(0, Value::F64(0.0), Quality::GOOD);
        out.scan(1, Value::F64(1.0), Quality::GOOD);
        Ok(())
    }

    fn control(&self) -> Option<Arc<dyn Control>> {
        Some(self.0.clone())
    }
}

#[async_trait]
impl Control for Valve {
    async fn write(&self, writes: &[TagWrite]) -> Result<Written, SourceError> {
        let Value::F64(value) = writes[0].value else {
            panic!("a set point is a number");
        };
        let recorded = self.site.recorded().acts;
        let asked = recorded.iter().any(|act| {
            act.kind == "control" && act.details["writes"][0]["value"].as_f64() == Some(value)
        });
        assert!(
            asked,
            "{value} is not in the record, and the machine is touched"
        );
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let manner = *self.manner.lock();
        if manner == Manner::Slow {
            self.gate.acquire().await.unwrap().forget();
        }
        self.told.lock().push(value);
        match manner {
            Manner::Good | Manner::Slow => {
                Ok(writes.iter().map(|write| Ok(write.value.clone())).collect())
            }
            Manner::Panics => panic!("the test makes the control panic"),
            Manner::Misreads => Ok(vec![Err(WriteFault::ReadBack(Value::F64(-1.0)))]),
            Manner::HangsUp => Err(SourceError::Unreachable {
                address: "10.0.0.7:502".to_owned(),
                reason: "connection reset by peer".to_owned(),
            }),
        }
    }

    async fn call(&self, call: &MethodCall) -> Result<Result<Vec<Value>, WriteFault>, SourceError> {
        Ok(Ok(call.arguments.clone()))
    }
}

/// An engineer, who is let in by [`start`].
fn anna() -> Caller {
    Caller::new("anna", "test 1")
}

fn setpoint(value: f64) -> Vec<(String, Value)> {
    vec![("setpoint".to_owned(), Value::F64(value))]
}

/// Writes a set point as an engineer does.
async fn write(
    control: &Arc<dyn ControlPort>,
    device: &str,
    value: f64,
) -> Result<Written, ControlError> {
    let engineer = anna();
    control.write(&engineer, device, setpoint(value)).await
}

/// Starts a hub with valves, and waits until they are up.
fn start(site: &Site, valves: &[&Arc<Valve>]) -> Hub {
    let mut builder = site.hub();
    for valve in valves {
        builder = builder.device(valve.setup());
    }
    let hub = builder.start().unwrap();
    site::enter(&hub, "anna", &[Role::Engineer]);
    for valve in valves {
        site::up(&hub, valve.id);
    }
    hub
}

/// The acts of `kind`, once there are `count`.
fn acts(hub: &Hub, site: &Site, kind: &str, count: usize) -> Vec<RecordedAct> {
    let found = || {
        let acts = site.recorded().acts.into_iter();
        acts.filter(|act| act.kind == kind).collect::<Vec<_>>()
    };
    site::ledger(hub, &format!("{count} acts of kind {kind}"), |_| {
        found().len() >= count
    });
    found()
}

#[test]
fn a_write_is_in_the_record_before_the_machine_is_touched_and_what_came_of_it_after() {
    let site = Arc::new(Site::new(1));
    let valve = Valve::new("valve-1", &site);
    let hub = start(&site, &[&valve]);
    let control = hub.control();
    // The valve itself looks whether it is in the record.
    let written = site::wait(&hub, "a write", write(&control, "valve-1", 42.5));
    assert_eq!(written, Ok(vec![Ok(Value::F64(42.5))]));
    // Nobody hears what came of it before that is in the record, too.
    let kinds = site.recorded().acts.into_iter().map(|act| act.kind);
    assert_eq!(kinds.collect::<Vec<_>>(), ["control", "control-result"]);
    *valve.manner.lock() = Manner::Misreads;
    let written = site::wait(&hub, "a write", write(&control, "valve-1", 43.0));
    assert_eq!(
        written,
        Ok(vec![Err(WriteFault::ReadBack(Value::F64(-1.0)))])
    );
    assert_eq!(valve.told(), [42.5, 43.0]);

    let call = MethodCall {
        object: "ns=2;s=Valve".to_owned(),
        method: "ns=2;s=Home".to_owned(),
        arguments: vec![Value::U64(7)],
    };
    let engineer = anna();
    let called = control.call(&engineer, "valve-1", call);
    let called = site::wait(&hub, "a call", called);
    assert_eq!(called, Ok(Ok(vec![Value::U64(7)])));

    let results = acts(&hub, &site, "control-result", 3);
    let requests = acts(&hub, &site, "control", 3);
    for (request, result) in requests.iter().zip(&results) {
        assert_eq!(request.subject, "user:anna");
        assert_eq!(request.object, "device:valve-1");
        assert_eq!(
            (request.action, request.response),
            (Action::Control, Response::Accepted)
        );
        assert_eq!(result.details["request"], request.details);
        assert_eq!(result.details["request_block"], request.height);
        assert!(result.height > request.height);
    }
    assert_eq!(results[0].details["results"][0]["read_back"], 42.5);
    let fault = results[1].details["results"][0]["fault"].as_str().unwrap();
    assert!(fault.contains("reads back -1"), "{fault}");
    assert_eq!(requests[2].details["call"]["method"], "ns=2;s=Home");
    hub.shutdown().unwrap();
    site.verify_is_clean();
}

#[test]
fn every_refusal_is_in_the_record_before_it_is_answered_and_touches_nothing() {
    let site = Arc::new(Site::new(2));
    let valve = Valve::new("valve-1", &site);
    let hub = start(&site, &[&valve]);
    let control = hub.control();
    let refusals = || site.recorded().acts;
    let observer = site::enter(&hub, "olga", &[Role::Observer]);
    let denied = control.write(&observer, "valve-1", setpoint(1.0));
    let denied = site::wait(&hub, "a refusal", denied).unwrap_err();
    assert!(matches!(denied, ControlError::Denied(_)), "{denied}");
    assert_eq!(refusals().len(), 1);
    let engineer = anna();
    let both = vec![
        ("setpoint".to_owned(), Value::F64(2.0)),
        ("pressure".to_owned(), Value::F64(2.0)),
    ];
    let written = site::wait(&hub, "a refusal", control.write(&engineer, "valve-1", both));
    let written = written.unwrap();
    assert_eq!(written[0], Err(WriteFault::Withheld));
    assert!(matches!(written[1], Err(WriteFault::ReadOnly(_))));
    assert_eq!(refusals().len(), 2);
    let high = site::wait(&hub, "a refusal", write(&control, "valve-1", 2e6)).unwrap();
    assert!(matches!(high[0], Err(WriteFault::Value(_))), "{high:?}");
    assert_eq!(refusals().len(), 3);
    let nobody = site::wait(&hub, "a refusal", write(&control, "valve-9", 1.0)).unwrap_err();
    assert!(matches!(nobody, ControlError::Unknown(_)), "{nobody}");
    let refusals = refusals();
    assert_eq!(refusals.len(), 4);
    for refusal in &refusals {
        assert_eq!(
            (refusal.action, refusal.response),
            (Action::Refuse, Response::Refused)
        );
        assert!(refusal.details["why"].is_string(), "{refusal:?}");
    }
    let subjects = refusals.iter().map(|refusal| refusal.subject.as_str());
    let anna = "user:anna";
    assert_eq!(
        subjects.collect::<Vec<_>>(),
        ["user:olga", anna, anna, anna]
    );
    assert_eq!(refusals[0].details["request"]["writes"][0]["value"], 1.0);
    assert_eq!(refusals[0].details["request"]["rule"], "role");
    assert!(valve.told().is_empty());
    hub.shutdown().unwrap();
    site.verify_is_clean();
}

#[test]
fn a_machine_is_not_touched_while_nothing_can_be_recorded() {
    let site = Arc::new(Site::new(3));
    let valve = Valve::new("valve-1", &site);
    let hub = start(&site, &[&valve]);
    let control = hub.control();
    site.disk.set_full(true);
    for value in [1.0, 2.0] {
        let error = site::wait(&hub, "an answer", write(&control, "valve-1", value)).unwrap_err();
        assert!(matches!(error, ControlError::NotRecorded(_)), "{error}");
        assert!(error.to_string().contains("the disk is full"), "{error}");
    }
    site.disk.set_full(false);
    // The first request was under way when the disk ran full: it becomes durable, and so does the word
    // that nothing was done.
    let results = acts(&hub, &site, "control-result", 1);
    assert_eq!(results[0].details["done"], false);
    assert_eq!(results[0].details["request"]["writes"][0]["value"], 1.0);
    assert!(valve.told().is_empty());
    let written = site::wait(&hub, "a write", write(&control, "valve-1", 3.0));
    assert_eq!(written, Ok(vec![Ok(Value::F64(3.0))]));
    assert_eq!(valve.told(), [3.0]);
    hub.shutdown().unwrap();
    site.verify_is_clean();
}

#[test]
fn a_slow_machine_keeps_its_order_and_its_bound_and_delays_no_other() {
    let site = Arc::new(Site::new(4));
    let (slow, quick) = (Valve::new("slow", &site), Valve::new("quick", &site));
    let hub = start(&site, &[&slow, &quick]);
    *slow.manner.lock() = Manner::Slow;
    let control = hub.control();
    let first = hub.runtime().spawn({
        let control = control.clone();
        async move { write(&control, "slow", 0.0).await }
    });
    site::wait(&hub, "the first is under way", async {
        while slow.under_way.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    });
    // One after the other, so that their order is known; more than the queue holds.
    let mut busy = 0;
    let mut waiting = Vec::new();
    for value in 1..60 {
        let engineer = anna();
        let mut writing = Box::pin({
            let control = control.clone();
            async move {
                control
                    .write(&engineer, "slow", setpoint(value as f64))
                    .await
            }
        });
        let now = hub
            .runtime()
            .block_on(async { futures_util::future::poll_immediate(&mut writing).await });
        match now {
            Some(Err(ControlError::Busy)) => busy += 1,
            Some(other) => panic!("{other:?}"),
            None => waiting.push((value, writing)),
        }
    }
    assert!(busy >= 20, "{busy} of 59 were told that the queue is full");
    assert!(waiting.len() >= 30, "{} wait", waiting.len());
    let written = site::wait(&hub, "another machine", write(&control, "quick", 5.0));
    assert!(written.is_ok());
    slow.gate.add_permits(100);
    for (value, writing) in waiting {
        let written = site::wait(&hub, "a queued write", writing);
        assert_eq!(written, Ok(vec![Ok(Value::F64(value as f64))]));
    }
    assert!(site::wait(&hub, "the first", first).unwrap().is_ok());
    let told = slow.told();
    assert!(told.is_sorted(), "{told:?}");
    hub.shutdown().unwrap();
    site.verify_is_clean();
}

#[test]
fn a_control_that_panics_hurts_nobody() {
    let site = Arc::new(Site::new(5));
    let (bad, good) = (Valve::new("bad", &site), Valve::new("good", &site));
    let hub = start(&site, &[&bad, &good]);
    let control = hub.control();
    *bad.manner.lock() = Manner::Panics;
    let error = site::wait(&hub, "an answer", write(&control, "bad", 1.0)).unwrap_err();
    assert!(
        error.to_string().contains("what it has done is not known"),
        "{error}"
    );
    *bad.manner.lock() = Manner::HangsUp;
    let error = site::wait(&hub, "an answer", write(&control, "bad", 2.0)).unwrap_err();
    assert!(
        error.to_string().contains("connection reset by peer"),
        "{error}"
    );
    *bad.manner.lock() = Manner::Good;
    for device in ["bad", "good"] {
        let written = site::wait(&hub, "a write", write(&control, device, 3.0));
        assert_eq!(written, Ok(vec![Ok(Value::F64(3.0))]));
    }
    assert_eq!(bad.told(), [1.0, 2.0, 3.0]);
    hub.shutdown().unwrap();
    site.verify_is_clean();
}

#[test]
fn a_device_that_is_down_answers_at_once_why_since_when_and_until_when() {
    let site = Arc::new(Site::new(6));
    let valve = Valve::new("valve-1", &site);
    let hub = start(&site, &[&valve]);
    valve.there.send_replace(false);
    let why = site::device(&hub, "valve-1", "is down", |live| match live.link() {
        weighbridge::live_view::Link::Down(trouble) if trouble.exact.contains("refused") => {
            Some(trouble)
        }
        _ => None,
    });
    assert!(why.last_success.is_some());
    let control = hub.control();
    let error = site::wait(&hub, "an answer", write(&control, "valve-1", 1.0)).unwrap_err();
    let ControlError::Unreachable(said) = &error else {
        panic!("{error}");
    };
    for part in [
        "nothing was done",
        "10.0.0.7:502 cannot be reached: the machine is there, but nothing listens",
        "(Connection refused (os error 111))",
        "; last read 20",
        "; next attempt 20",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(valve.told().is_empty());
    assert_eq!(acts(&hub, &site, "control", 1)[0].action, Action::Refuse);
    hub.shutdown().unwrap();
    site.verify_is_clean();
}

/// The whole way as a user goes it: a hub in a process of its own, written to by the command line.
#[test]
fn the_command_line_reads_and_says_why_it_may_not_write() {
    use crate::support::{Plant, run, run_json, stderr};
    let plant = Plant::start();
    let mut hub = plant.run_hub();
    hub.next_block();
    let url = hub.http_url().trim_end_matches('/').to_owned();
    let read = run_json(&["read", "plc-0", "r3", "r4", "--url", &url, "--json"]);
    assert_eq!(read["tags"][1]["tag"], "r4");
    assert_eq!(read["tags"][1]["sample"]["quality"], "Good");
    let all = run_json(&["read", "plc-0", "--url", &url, "--json"]);
    assert_eq!(all["tags"].as_array().unwrap().len(), 20);
    let config = plant.path("hub.toml");
    let config = config.to_str().unwrap();
    let direct = [
        "read", "plc-1", "r7", "--direct", "--config", config, "--json",
    ];
    let direct = run_json(&direct);
    assert_eq!(direct["tags"][0]["tag"], "r7");
    assert!(direct["tags"][0]["sample"]["value"].is_u64());
    let missing = run(&["read", "plc-0", "speed", "--url", &url]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(
        stderr(&missing).contains("no tag `speed`"),
        "{}",
        stderr(&missing)
    );
    let watched = run(&["watch", "plc-0/r3", "--url", &url, "--for", "1", "--json"]);
    let watched = String::from_utf8(watched.stdout).unwrap();
    let mut lines = watched.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line
    });
    assert_eq!(lines.next().unwrap()["link"]["state"], "up");
    assert_eq!(lines.next().unwrap()["tag"], "r3");
    // Nobody may write over HTTP unless the configuration says so, and the refusal is a record.
    let refused = run(&["write", "plc-0", "r3=7", "--url", &url]);
    assert_eq!(refused.status.code(), Some(1));
    let said = stderr(&refused);
    assert!(
        said.contains("may not write") && said.contains("[http]"),
        "{said}"
    );
    let unreachable = run(&["read", "plc-0", "--url", "http://127.0.0.1:1"]);
    assert_eq!(unreachable.status.code(), Some(69));
    hub.ends("-INT");
    let (dir, key) = (plant.path(""), plant.path("keys/sealing.key"));
    let (dir, key) = (dir.to_str().unwrap(), key.to_str().unwrap());
    let records = [
        "records", "--dir", dir, "--key", key, "--limit", "1000", "--json",
    ];
    let records = run_json(&records);
    let mut records = records["records"].as_array().unwrap().iter();
    let refusal = records.find(|record| record["action"] == "refuse").unwrap();
    assert_eq!(refusal["subject"], "user:local");
    assert_eq!(refusal["content"]["message"]["kind"], "control");
    assert_eq!(refusal["details"]["request"]["writes"][0]["value"], 7);
    plant.verify_is_clean();
}
