//! A write from above to a machine, all the way: SCADA through the hub to an OPC UA controller, and the
//! command line through the hub to a Modbus PLC. Each time the machine has it, it is read back, and the
//! record says who did it, before it was done and after.

use crate::machines::tag;
use crate::modbus_device::{Frames, HOLDING, Memory, listen};
use crate::site::{self, Site};
use crate::support::{Plant, ended, run, stderr};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use weighbridge::access::Role;
use weighbridge::crypto::SealingKey;
use weighbridge::hub::{DeviceSetup, Faces, HubKeys};
use weighbridge::ledger::opening::Opener;
use weighbridge::ledger::query::Explorer;
use weighbridge::model::{TagSpec, Value, ValueKind};
use weighbridge::protocols::Source;
use weighbridge::protocols::control::{TagWrite, WriteFault};
use weighbridge::protocols::opcua::{
    NodeAddress, OpcUaConfig, OpcUaPoint, OpcUaServerConfig, OpcUaSource,
};
use weighbridge::sim::controller::{Controller, ControllerPlan, NAMESPACE};
use weighbridge::store::FjallStore;
use weighbridge_verifier::{Action, Content, Response};

const TAGS: [&str; 3] = ["setpoint", "stubborn", "v0"];

/// The controller's tags, at nodes that `node` makes of their names.
fn points(node: impl Fn(&str) -> NodeAddress) -> Vec<(TagSpec, OpcUaPoint)> {
    let point = |name: &str| {
        let mut spec = tag(name, ValueKind::F64);
        spec.writable = name != "v0";
        (spec, OpcUaPoint::new(node(name), ValueKind::F64))
    };
    TAGS.map(point).to_vec()
}

/// A client of the server at `url` with these points.
fn client(id: &str, url: &str, points: &[(TagSpec, OpcUaPoint)]) -> OpcUaSource {
    OpcUaSource::new(id.into(), OpcUaConfig::new(url), points.to_vec()).unwrap()
}

#[test]
fn scada_writes_through_the_hub_to_a_controller_and_reads_it_back() {
    let runtime = Runtime::new().unwrap();
    let controller = runtime.block_on(async {
        let controller = Controller::new(ControllerPlan::new(1, Duration::from_millis(50)));
        controller.start(&[]).await.unwrap();
        controller
    });
    let url = format!("opc.tcp://{}/", controller.address().unwrap());
    let of_machine = points(|name| NodeAddress::named(NAMESPACE, name));
    let site = Site::new(81);
    let setup = {
        let (url, points) = (url.clone(), of_machine.clone());
        let tags = points.iter().map(|(tag, _)| tag.clone()).collect();
        let make = move || Box::new(client("robot-1", &url, &points)) as Box<dyn Source>;
        DeviceSetup::new("robot-1".into(), tags, make)
    };
    let hub = site.hub().device(setup).start().unwrap();
    site::up(&hub, "robot-1");
    let pki = tempfile::tempdir().unwrap();
    let faces = Faces {
        opcua: Some(OpcUaServerConfig {
            bind: "127.0.0.1:0".parse().unwrap(),
            pki_dir: pki.path().into(),
            anonymous_roles: vec![Role::Engineer],
            ..OpcUaServerConfig::default()
        }),
        ..Faces::default()
    };
    let faces = hub.open_faces(&faces).unwrap();
    let of_hub = points(|name| {
        let name = format!("Weighbridge/Devices/robot-1/{name}");
        NodeAddress::named("urn:weighbridge:hub", &name)
    });
    runtime.block_on(async {
        let mut scada = client("scada", &faces.opcua_url().unwrap(), &of_hub);
        scada.connect().await.unwrap();
        let control = scada.control().unwrap();
        let write = |tag| TagWrite {
            tag,
            value: Value::F64(42.5),
        };
        let written = control.write(&[write(0)]).await.unwrap();
        // It is read back from the hub, which has read it back from the machine.
        assert_eq!(written, [Ok(Value::F64(42.5))]);
        // One that takes every write and keeps its value is no success here either.
        let stubborn = control.write(&[write(1)]).await.unwrap();
        assert_eq!(stubborn, [Err(WriteFault::ReadBack(Value::F64(1.0)))]);
        scada.close().await;

        // The machine says the same to whoever asks it without the hub.
        let mut direct = client("direct", &url, &of_machine);
        direct.connect().await.unwrap();
        let mut out = weighbridge::model::BatchBuilder::subscribing("direct".into(), direct.tags());
        let has = |out: &weighbridge::model::BatchBuilder| {
            let mut newest = out.newest();
            newest.any(|(column, _, _, value)| column == 0 && value == Value::F64(42.5))
        };
        while !has(&out) {
            let read = tokio::time::timeout(site::PATIENCE, direct.read(&mut out));
            read.await.unwrap().unwrap();
        }
        direct.close().await;
    });
    site::device(&hub, "robot-1", "the value is live", |live| {
        (live.sample(0)?.value == Value::F64(42.5)).then_some(())
    });
    faces.close(&hub.runtime());
    hub.shutdown().unwrap();

    let acts = site.recorded().acts;
    let of = |kind: &str| {
        acts.iter()
            .filter(|act| act.kind == kind)
            .collect::<Vec<_>>()
    };
    let (requests, results) = (of("control"), of("control-result"));
    assert_eq!((requests.len(), results.len()), (2, 2));
    for (request, result) in requests.iter().zip(&results) {
        assert_eq!(
            (request.action, request.response),
            (Action::Control, Response::Accepted)
        );
        assert_eq!(request.object, "device:robot-1");
        assert_eq!(request.subject, "user:anonymous");
        assert_eq!(request.details["writes"][0]["value"], 42.5);
        assert_eq!(result.details["request_block"], request.height);
        assert!(
            result.height > request.height,
            "recorded before it was done"
        );
    }
    assert_eq!(results[0].details["results"][0]["read_back"], 42.5);
    assert!(results[1].details["results"][0]["fault"].is_string());
    site.verify_is_clean();
}

#[test]
#[cfg(unix)]
fn the_command_line_writes_through_the_hub_to_a_plc_and_shows_what_it_holds() {
    let runtime = Runtime::new().unwrap();
    let memory = Memory::shared();
    let address = runtime.block_on(listen(memory.clone(), Frames::Mbap));
    let plant = Plant::without_machines();
    plant.http_roles(&["engineer"]);
    let device = format!(
        "\n[[device]]\nid = \"plc-1\"\nmodbus = {{ address = \"{address}\", period_ms = 20 }}\n\
         \n[[device.tag]]\nname = \"setpoint\"\nwritable = true\nrange = [0, 100]\n\
         modbus = {{ holding_register = 4, type = \"u16\", scale = 0.1 }}\n"
    );
    plant.configure(&device);
    let mut hub = plant.run_hub();
    // The first batch is durable: the machine is there.
    hub.next_block();
    let write = |value: &str| {
        let args = ["write", "plc-1", "setpoint", value, "--url", hub.http_url()];
        run(&args)
    };
    let done = write("4.2");
    assert_eq!(ended(&done), 0, "{}", stderr(&done));
    let shown = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        shown.contains("setpoint") && shown.contains("4.2"),
        "{shown}"
    );
    assert_eq!(memory.lock().cell(HOLDING, 4), 42);
    // Beyond its range nothing reaches the machine, and that is on record as well.
    let refused = write("250");
    assert_eq!(ended(&refused), 1, "{}", stderr(&refused));
    assert_eq!(memory.lock().cell(HOLDING, 4), 42);
    let (_, output) = hub.ends("-TERM");
    assert_eq!(ended(&output), 0, "{}", stderr(&output));
    plant.verify_is_clean();

    let store = Arc::new(FjallStore::open(&plant.path("data")).unwrap());
    let sealing = SealingKey::load(&plant.path("keys").join(HubKeys::SEALING)).unwrap();
    let opener = Opener::new(store.clone(), Arc::new(sealing), "hub-1");
    let page = Explorer::new(store).records_where(None, 1_000, |record| {
        matches!(record.body.content, Content::Message(_)) && record.body.object == "device:plc-1"
    });
    let mut told: Vec<_> = page
        .unwrap()
        .items
        .into_iter()
        .map(|item| {
            let body = item.record.body;
            let Content::Message(message) = &body.content else {
                panic!("{body:?}");
            };
            let details = opener.open_act(&body.hub, message).unwrap();
            let what = (message.kind.clone(), body.action, body.response);
            (what, body.subject, details)
        })
        .collect();
    told.reverse();
    let told_of = |at: usize| (&*told[at].0.0, told[at].0.1, told[at].0.2);
    assert_eq!(told.len(), 3, "{told:#?}");
    assert_eq!(told_of(0), ("control", Action::Control, Response::Accepted));
    assert_eq!(told[0].1, "user:local");
    assert_eq!(told[0].2["writes"][0]["value"], 4.2);
    assert_eq!(told_of(1).0, "control-result");
    let read_back = told[1].2["results"][0]["read_back"].as_f64().unwrap();
    assert!((read_back - 4.2).abs() < 1e-9, "{read_back}");
    assert_eq!(
        (told_of(2).1, told_of(2).2),
        (Action::Refuse, Response::Refused)
    );
    assert_eq!(told[2].2["request"]["writes"][0]["value"], 250.0);
}
