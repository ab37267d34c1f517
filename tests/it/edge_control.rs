//! A user of a hub writes to a machine that an edge node reads: recorded first, done once, and whatever
//! comes of it is known to be known or not.

use crate::edge::{entry, uplink};
use crate::machines::tag;
use crate::modbus_device::{Frames, HOLDING, Memory, Shared, listen};
use crate::recovery::proxy::{Proxy, Weather};
use crate::site::{self, RecordedAct, Site};
use crate::support::Random;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use weighbridge::access::Role;
use weighbridge::crypto::Identity;
use weighbridge::edge::{EdgeBuilder, EdgeNode, UplinkStatus};
use weighbridge::hub::{DeviceSetup, EdgesSetup, Hub};
use weighbridge::model::{BatchBuilder, Quality, TagSpec, Value, ValueKind, now};
use weighbridge::protocols::control::{Control, MethodCall, TagWrite, WriteFault, Written};
use weighbridge::protocols::modbus::{ModbusConfig, ModbusPoint, ModbusSource};
use weighbridge::protocols::ports::ControlError;
use weighbridge::protocols::{Mode, Source, SourceError};
use weighbridge_verifier::{Action, Response};

const PRESS: &str = "press-1";

/// A hub and an edge node that reads one machine for it.
struct Plant {
    site: Site,
    hub: Hub,
    proxy: Proxy,
    identity: tempfile::TempDir,
}

impl Plant {
    fn new(seed: u64, tags: Arc<[TagSpec]>) -> Self {
        let (site, dir) = (Site::new(seed), tempfile::tempdir().unwrap());
        let identity = Identity::generate("edge-1");
        identity.save(&dir.path().join("key")).unwrap();
        let edges = EdgesSetup {
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            nodes: vec![("edge-1".to_owned(), identity.peer_key())],
        };
        let device = DeviceSetup::at_edge(PRESS.into(), tags, "edge-1");
        let hub = site.hub().edges(edges).device(device).start().unwrap();
        let random = Random::seeded(seed);
        let proxy = Proxy::start(hub.edge_address().unwrap(), random);
        let proxy = hub.runtime().block_on(proxy).unwrap();
        Self {
            site,
            hub,
            proxy,
            identity: dir,
        }
    }

    fn edge(&self, device: DeviceSetup) -> EdgeNode {
        let identity = Identity::load(&self.identity.path().join("key"), "edge-1").unwrap();
        EdgeBuilder::new(identity, self.identity.path().join("buffer"))
            .hub(entry(&self.site, self.proxy.address().port()))
            .device(device)
            .start()
            .unwrap()
    }

    fn write(&self, writes: &[(&str, Value)]) -> Result<Written, ControlError> {
        let writes = writes.iter();
        let writes = writes.map(|(tag, value)| ((*tag).to_owned(), value.clone()));
        let (control, caller) = (
            self.hub.control(),
            site::enter(&self.hub, "anna", &[Role::Engineer]),
        );
        let written = control.write(&caller, PRESS, writes.collect());
        site::wait(&self.hub, "an answer", written)
    }

    /// The acts of `kind`, once there are `count`.
    fn acts(&self, kind: &str, count: usize) -> Vec<RecordedAct> {
        let found = || {
            let acts = self.site.recorded().acts.into_iter();
            acts.filter(|act| act.kind == kind).collect::<Vec<_>>()
        };
        site::ledger(&self.hub, &format!("{count} acts of kind {kind}"), |_| {
            found().len() >= count
        });
        found()
    }

    fn end(self, edge: EdgeNode) {
        edge.shutdown().unwrap();
        self.hub.shutdown().unwrap();
        self.site.verify_is_clean();
    }
}

/// A PLC with a set point and a limit that only the hub thinks may be written.
fn plc(memory: &SocketAddr, hubs_view: bool) -> DeviceSetup {
    let mut setpoint = tag("setpoint", ValueKind::F64);
    setpoint.writable = true;
    setpoint.range = Some((0.0, if hubs_view { 1000.0 } else { 500.0 }));
    let mut limit = tag("limit", ValueKind::U64);
    limit.writable = hubs_view;
    let text = format!("address = \"{memory}\"\nperiod_ms = 20\ntimeout_ms = 5000");
    let config: ModbusConfig = toml::from_str(&text).unwrap();
    let point = |text: &str| -> ModbusPoint { toml::from_str(text).unwrap() };
    let points = vec![
        (setpoint, point("holding_register = 10\ntype = \"f32\"")),
        (limit, point("holding_register = 20\ntype = \"u16\"")),
    ];
    let tags: Arc<[TagSpec]> = points.iter().map(|(tag, _)| tag.clone()).collect();
    DeviceSetup::new(PRESS.into(), tags, move || {
        let source = ModbusSource::new(PRESS.into(), config.clone(), points.clone());
        Box::new(source.unwrap()) as Box<dyn Source>
    })
}

fn setpoint_of(memory: &Shared) -> f32 {
    let memory = memory.lock();
    let word = |at| u32::from(memory.cell(HOLDING, at));
    f32::from_bits(word(10) << 16 | word(11))
}

#[test]
fn a_write_goes_over_the_link_and_comes_back_with_what_was_read_back() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let memory = Memory::shared();
    let address = runtime.block_on(listen(memory.clone(), Frames::Mbap));
    let plant = Plant::new(81, plc(&address, true).tags);
    let edge = plant.edge(plc(&address, false));
    site::up(&plant.hub, PRESS);
    let written = plant.write(&[("setpoint", Value::F64(42.5))]);
    assert_eq!(written, Ok(vec![Ok(Value::F64(42.5))]));
    assert_eq!(setpoint_of(&memory), 42.5);

    // The machine keeps what it has: that is what is read back.
    memory.lock().stubborn.extend([10, 11]);
    let written = plant.write(&[("setpoint", Value::F64(50.0))]).unwrap();
    assert_eq!(written, [Err(WriteFault::ReadBack(Value::F64(42.5)))]);
    memory.lock().stubborn.clear();

    // What the edge node's own file does not allow is not done, though the hub's would; and then nothing.
    let both = [("setpoint", Value::F64(60.0)), ("limit", Value::U64(7))];
    let written = plant.write(&both).unwrap();
    assert_eq!(written[0], Err(WriteFault::Withheld));
    let fault = written[1].clone().unwrap_err().to_string();
    assert!(fault.contains("at the edge node"), "{fault}");
    let written = plant.write(&[("setpoint", Value::F64(600.0))]).unwrap();
    assert!(
        matches!(written[0], Err(WriteFault::Value(_))),
        "{written:?}"
    );
    assert_eq!(setpoint_of(&memory), 42.5);

    let results = plant.acts("control-result", 4);
    let requests = plant.acts("control", 4);
    for (request, result) in requests.iter().zip(&results) {
        assert_eq!(request.subject, "user:anna");
        assert_eq!(request.object, "device:press-1");
        let said = (request.action, request.response);
        assert_eq!(said, (Action::Control, Response::Accepted));
        assert_eq!(result.details["request"], request.details);
        assert!(result.height > request.height);
    }
    assert_eq!(results[0].details["results"][0]["read_back"], 42.5);

    // A machine that the edge node does not reach, and an edge node that is not there.
    memory.lock().away = true;
    site::down(&plant.hub, PRESS);
    let refused = plant.write(&[("setpoint", Value::F64(1.0))]).unwrap_err();
    assert!(
        refused.to_string().contains("nothing was done"),
        "{refused}"
    );
    memory.lock().away = false;
    site::up(&plant.hub, PRESS);
    edge.shutdown().unwrap();
    site::down(&plant.hub, PRESS);
    let refused = plant.write(&[("setpoint", Value::F64(2.0))]).unwrap_err();
    let said = refused.to_string();
    assert!(
        said.contains("nothing was done: the edge node `edge-1` is not connected"),
        "{said}"
    );
    let refusals = plant.site.recorded().acts.into_iter();
    let refusals = refusals.filter(|act| act.response == Response::Refused);
    assert_eq!(refusals.count(), 2);
    assert_eq!(setpoint_of(&memory), 42.5);

    let edge = plant.edge(plc(&address, false));
    site::up(&plant.hub, PRESS);
    let written = plant.write(&[("setpoint", Value::F64(7.0))]);
    assert_eq!(written, Ok(vec![Ok(Value::F64(7.0))]));
    plant.end(edge);
}

/// A machine that takes a write when the test lets it.
struct Slow {
    /// Whether it goes on.
    open: watch::Sender<bool>,
    /// What it was asked to write, and what it took.
    asked: watch::Sender<usize>,
    took: Mutex<Vec<Value>>,
}

impl Slow {
    fn tags() -> Arc<[TagSpec]> {
        let mut setpoint = tag("setpoint", ValueKind::F64);
        setpoint.writable = true;
        [setpoint].into()
    }

    fn setup(self: &Arc<Self>) -> DeviceSetup {
        let this = self.clone();
        let make = move || Box::new(SlowSource(this.clone())) as Box<dyn Source>;
        DeviceSetup::new(PRESS.into(), Self::tags(), make)
    }
}

struct SlowSource(Arc<Slow>);

#[async_trait]
impl Source for SlowSource {
    fn tags(&self) -> Arc<[TagSpec]> {
        Slow::tags()
    }

    fn mode(&self) -> Mode {
        Mode::Scanning
    }

    async fn connect(&mut self) -> Result<(), SourceError> {
        Ok(())
    }

    async fn read(&mut self, out: &mut BatchBuilder) -> Result<(), SourceError> {
        tokio::time::sleep(Duration::from_millis(20)).await;
        out.begin_scan(now());
        out.scan(0, Value::F64(0.0), Quality::GOOD);
        Ok(())
    }

    fn control(&self) -> Option<Arc<dyn Control>> {
        Some(self.0.clone())
    }
}

#[async_trait]
impl Control for Slow {
    async fn write(&self, writes: &[TagWrite]) -> Result<Written, SourceError> {
        self.asked.send_modify(|asked| *asked += 1);
        let mut open = self.open.subscribe();
        let _ = open.wait_for(|open| *open).await;
        self.took.lock().push(writes[0].value.clone());
        Ok(vec![Ok(writes[0].value.clone())])
    }

    async fn call(&self, call: &MethodCall) -> Result<Result<Vec<Value>, WriteFault>, SourceError> {
        Ok(Ok(call.arguments.clone()))
    }
}

#[test]
fn an_edge_node_that_is_lost_in_between_leaves_a_record_that_says_so() {
    let slow = Arc::new(Slow {
        open: watch::Sender::new(false),
        asked: watch::Sender::new(0),
        took: Mutex::default(),
    });
    let plant = Plant::new(82, Slow::tags());
    let edge = plant.edge(slow.setup());
    site::up(&plant.hub, PRESS);
    let call = MethodCall {
        object: "valve".to_owned(),
        method: "home".to_owned(),
        arguments: vec![Value::U64(7), Value::F64(f64::INFINITY)],
    };
    let (control, caller) = (
        plant.hub.control(),
        site::enter(&plant.hub, "anna", &[Role::Engineer]),
    );
    let called = control.call(&caller, PRESS, call.clone());
    let called = site::wait(&plant.hub, "a call", called);
    assert_eq!(called, Ok(Ok(call.arguments)));

    let mut asked = slow.asked.subscribe();
    let under_way = plant.hub.runtime().spawn(async move {
        let writes = vec![("setpoint".to_owned(), Value::F64(5.0))];
        control.write(&caller, PRESS, writes).await
    });
    site::wait(&plant.hub, "the machine is asked", async {
        asked.wait_for(|asked| *asked == 1).await.unwrap();
    });
    plant.proxy.set(Weather::Cut);
    let answer = site::wait(&plant.hub, "an answer", under_way).unwrap();
    let said = answer.unwrap_err().to_string();
    assert!(said.contains("what it has done is not known"), "{said}");
    assert!(said.contains("edge node `edge-1`"), "{said}");
    let results = plant.acts("control-result", 2);
    let fault = results[1].details["fault"].as_str().unwrap();
    assert!(fault.contains("is not known"), "{fault}");
    assert_eq!(results[1].details["request"]["writes"][0]["value"], 5.0);

    // The link is back, the machine still at it: it is not asked twice.
    uplink(&edge, "the hub is missed", |s| {
        matches!(s, UplinkStatus::Down { .. })
    });
    plant.proxy.set(Weather::Clear);
    site::up(&plant.hub, PRESS);
    let written = plant.write(&[("setpoint", Value::F64(6.0))]).unwrap();
    let busy = written[0].clone().unwrap_err().to_string();
    assert!(busy.contains("nothing was done"), "{busy}");
    slow.open.send_replace(true);
    // The first is done when the second can be; nothing was ever sent again.
    let began = std::time::Instant::now();
    while plant.write(&[("setpoint", Value::F64(8.0))]) != Ok(vec![Ok(Value::F64(8.0))]) {
        assert!(began.elapsed() < site::PATIENCE, "it stays busy");
    }
    assert_eq!(*slow.took.lock(), [Value::F64(5.0), Value::F64(8.0)]);
    plant.end(edge);
}

#[test]
fn a_machine_that_never_answers_is_given_up_in_time() {
    let slow = Arc::new(Slow {
        open: watch::Sender::new(false),
        asked: watch::Sender::new(0),
        took: Mutex::default(),
    });
    let plant = Plant::new(83, Slow::tags());
    let edge = plant.edge(slow.setup());
    site::up(&plant.hub, PRESS);
    let answer = plant.write(&[("setpoint", Value::F64(5.0))]);
    let said = answer.unwrap_err().to_string();
    assert!(said.contains("did not answer the edge node"), "{said}");
    let results = plant.acts("control-result", 1);
    let fault = results[0].details["fault"].as_str().unwrap();
    assert!(fault.contains("is not known"), "{fault}");
    // Given up is given up: it is not done later.
    slow.open.send_replace(true);
    let written = plant.write(&[("setpoint", Value::F64(6.0))]);
    assert_eq!(written, Ok(vec![Ok(Value::F64(6.0))]));
    assert_eq!(*slow.took.lock(), [Value::F64(6.0)]);
    plant.end(edge);
}
