//! The controller, read, written and looked through by the client.

mod restart;

use super::*;
use crate::model::{Batch, BatchBuilder, Side, TagSpec, Value, ValueKind};
use crate::protocols::control::{MethodCall, TagWrite, WriteFault};
use crate::protocols::opcua::{OpcUaConfig, OpcUaPoint, OpcUaSource, ScanBounds, Trust, pki, scan};
use crate::protocols::{Source, SourceError};
use opcua::crypto::CertificateStore;
use std::time::Instant;

mod limits;

const PATIENCE: Duration = Duration::from_secs(60);

async fn controller(plan: ControllerPlan) -> (Controller, String) {
    let controller = Controller::new(plan);
    let address = controller.start(&[]).await.unwrap();
    (controller, format!("opc.tcp://{address}/"))
}

fn tag(name: &str, kind: ValueKind) -> TagSpec {
    TagSpec {
        name: name.into(),
        kind,
        unit: String::new(),
        description: String::new(),
        range: None,
        writable: true,
    }
}

fn points(names: impl IntoIterator<Item = String>) -> Vec<(TagSpec, OpcUaPoint)> {
    let point = |name: String| {
        let node = format!("nsu={NAMESPACE};s={name}").parse().unwrap();
        let point = OpcUaPoint::new(node, ValueKind::F64);
        (tag(&name, ValueKind::F64), point)
    };
    names.into_iter().map(point).collect()
}

async fn read_until(source: &mut OpcUaSource, enough: impl Fn(&BatchBuilder) -> bool) -> Batch {
    let mut out = BatchBuilder::subscribing("c".into(), source.tags());
    let reading = async {
        while !enough(&out) {
            source.read(&mut out).await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap();
    out.take(1, 1).unwrap()
}

#[tokio::test]
async fn writes_are_read_back_and_faults_stay_with_their_tags() {
    let (_controller, url) = controller(ControllerPlan::new(1, Duration::from_secs(1))).await;
    let names = ["setpoint", "stubborn", "locked", "nowhere", "setpoint"];
    let mut points = points(names.map(str::to_owned));
    points[4].0.writable = false;
    points[4].0.name = "forbidden".into();
    let mut source = OpcUaSource::new("c".into(), OpcUaConfig::new(url), points).unwrap();
    let control = source.control().unwrap();
    let write = |tag, value| TagWrite { tag, value };
    let early = control.write(&[write(0, Value::F64(2.0))]).await;
    assert!(matches!(early, Err(SourceError::Unreachable { .. })));

    source.connect().await.unwrap();
    let writes = (0..5).map(|tag| write(tag, Value::F64(7.5)));
    let writes: Vec<_> = writes.chain([write(0, Value::Text("x".into()))]).collect();
    let answers = control.write(&writes).await.unwrap();
    assert_eq!(answers[0], Ok(Value::F64(7.5)));
    assert_eq!(answers[1], Err(WriteFault::ReadBack(Value::F64(1.0))));
    // This server calls what nobody may write a matter of rights.
    assert!(
        matches!(answers[2], Err(WriteFault::Refused(_))),
        "{answers:?}"
    );
    assert!(
        matches!(answers[3], Err(WriteFault::Refused(_))),
        "{answers:?}"
    );
    assert!(
        matches!(answers[4], Err(WriteFault::ReadOnly(_))),
        "{answers:?}"
    );
    assert!(
        matches!(answers[5], Err(WriteFault::Value(_))),
        "{answers:?}"
    );
    // It is a value like any other.
    read_until(&mut source, |out| {
        out.newest()
            .any(|(column, _, _, value)| column == 0 && value == Value::F64(7.5))
    })
    .await;
    source.close().await;
    let late = control.write(&[write(0, Value::F64(2.0))]).await;
    assert!(matches!(late, Err(SourceError::Unreachable { .. })));
}

#[tokio::test]
async fn methods_are_called() {
    let (_controller, url) = controller(ControllerPlan::new(1, Duration::from_secs(1))).await;
    let names = points(["v0".to_owned()]);
    let mut source = OpcUaSource::new("c".into(), OpcUaConfig::new(url), names).unwrap();
    source.connect().await.unwrap();
    let control = source.control().unwrap();
    let call = |method: &str, arguments: &[f64]| MethodCall {
        object: format!("nsu={NAMESPACE};s=Machine"),
        method: format!("nsu={NAMESPACE};s={method}"),
        arguments: arguments.iter().map(|a| Value::F64(*a)).collect(),
    };
    let sum = control.call(&call("Add", &[2.0, 0.5])).await.unwrap();
    assert_eq!(sum, Ok(vec![Value::F64(2.5)]));
    let wrong = control.call(&call("Add", &[2.0])).await.unwrap();
    assert!(matches!(wrong, Err(WriteFault::Value(_))), "{wrong:?}");
    let refused = control.call(&call("Refuse", &[])).await.unwrap();
    let said = refused.unwrap_err().to_string();
    assert!(said.contains("BadInvalidState"), "{said}");
    let absent = control.call(&call("Nothing", &[])).await.unwrap();
    assert!(matches!(absent, Err(WriteFault::Refused(_))), "{absent:?}");
}

#[tokio::test]
async fn deadbands_hold_back_small_changes() {
    let (_controller, url) = controller(ControllerPlan::new(3, Duration::from_millis(10))).await;
    let mut points = points((0..3).map(|i| format!("v{i}")));
    points[0].1.deadband = Some(5.5);
    // Of a range up to 1e9: nothing moves that far here.
    points[1].1.deadband_percent = Some(1.0);
    points[2].1.sampling_interval_ms = Some(0);
    points[2].1.queue_size = Some(200);
    let mut source = OpcUaSource::new("c".into(), OpcUaConfig::new(url), points).unwrap();
    let began = now();
    source.connect().await.unwrap();
    let batch = read_until(&mut source, |out| {
        out.newest()
            .any(|(column, time, _, _)| column == 2 && time > began + 1_000_000_000)
    })
    .await;
    let values = |column: usize| {
        let values = &batch.columns[column].values;
        (0..values.len())
            .map(|i| values.number(i).unwrap())
            .collect::<Vec<_>>()
    };
    let coarse = values(0);
    assert!(coarse.len() > 3, "{coarse:?}");
    // The first may be the value from before the machine's first step.
    assert!(
        coarse.windows(2).skip(1).all(|w| w[1] - w[0] >= 5.5),
        "{coarse:?}"
    );
    assert_eq!(values(1).len(), 1);
    let all = values(2);
    assert!(all.len() > 50, "{} steps in a second", all.len());
    assert!(
        all.windows(2).skip(1).all(|w| w[1] == w[0] + 1.0),
        "{all:?}"
    );
    assert_eq!(source.lost(), 0);
}

#[tokio::test]
async fn ten_thousand_items_come_in_requests_as_long_as_the_server_takes() {
    let (_controller, url) = controller(ControllerPlan {
        operations: 700,
        ..ControllerPlan::new(10_000, Duration::from_millis(500))
    })
    .await;
    let points = points((0..10_000).map(|i| format!("v{i}")));
    let mut source = OpcUaSource::new("c".into(), OpcUaConfig::new(url), points).unwrap();
    let began = Instant::now();
    source.connect().await.unwrap();
    let connected = began.elapsed();
    read_until(&mut source, |out| {
        out.samples() >= 10_000 && out.newest().count() == 10_000
    })
    .await;
    let all = began.elapsed();
    eprintln!("10,000 items: subscribed after {connected:?}, all have values after {all:?}");
}

#[tokio::test]
async fn every_policy_and_mode_with_every_log_in() {
    let dir = tempfile::tempdir().unwrap();
    let (server, client, user) = (
        dir.path().join("server"),
        dir.path().join("client"),
        dir.path().join("user"),
    );
    let subject = |uri: &str| pki::Subject {
        name: "test".into(),
        application_uri: uri.into(),
        hosts: vec!["127.0.0.1".into()],
    };
    let uri = "urn:weighbridge:sim:controller:server";
    pki::ensure(&server, &subject(uri)).unwrap();
    pki::ensure(&user, &subject("urn:user")).unwrap();
    let password = dir.path().join("password");
    std::fs::write(&password, "secret\n").unwrap();
    let certificate = user.join("own/cert.der");
    CertificateStore::read_cert(&certificate).unwrap();
    let (_controller, url) = controller(ControllerPlan {
        pki_dir: Some(server),
        user: Some(("operator".into(), "secret".into())),
        user_certificate: Some(certificate.clone()),
        ..ControllerPlan::new(1, Duration::from_millis(50))
    })
    .await;
    for policy in Policy::SECURE {
        for mode in Mode::ALL {
            for log_in in 0..3 {
                let mut config = OpcUaConfig {
                    security_policy: policy,
                    security_mode: mode,
                    pki_dir: client.clone(),
                    trust: Trust::Any,
                    ..OpcUaConfig::new(url.clone())
                };
                match log_in {
                    1 => {
                        config.user = Some("operator".into());
                        config.password_file = Some(password.clone());
                    }
                    2 => {
                        config.user_certificate = Some(certificate.clone());
                        config.user_key = Some(user.join("private/private.pem"));
                    }
                    _ => {}
                }
                let names = points(["v0".to_owned()]);
                let mut source = OpcUaSource::new("c".into(), config, names).unwrap();
                let what = format!("{} {mode:?} log-in {log_in}", policy.name());
                source
                    .connect()
                    .await
                    .unwrap_or_else(|e| panic!("{what}: {e}"));
                read_until(&mut source, |out| out.samples() > 2).await;
                let about = source.about();
                let plate = about.nameplate.unwrap();
                assert_eq!(plate.product, "Simulated controller");
                let sides: Vec<_> = about.certificates.iter().map(|c| c.side).collect();
                assert_eq!(sides, [Side::Ours, Side::Theirs]);
                let subject = &about.certificates[1].subject;
                assert!(subject.contains("CN=test"), "{subject}");
                source.close().await;
            }
        }
    }
}

#[tokio::test]
async fn a_scan_finds_variables_with_unit_range_and_rights() {
    let (_controller, url) = controller(ControllerPlan {
        history: 1,
        operations: 7,
        ..ControllerPlan::new(1_500, Duration::from_secs(1))
    })
    .await;
    let config = OpcUaConfig::new(url);
    let mut heard = 0;
    let found = scan(&config, ScanBounds::default(), |nodes, _| heard = nodes).await;
    let found = found.unwrap();
    assert!(found.complete && heard == found.nodes);
    assert_eq!(found.variables.len(), 1_503);
    let named = |name: &str| {
        let mut all = found.variables.iter();
        all.find(|v| v.path.last().is_some_and(|n| n == name))
            .unwrap()
    };
    let v0 = named("v0");
    assert_eq!(v0.path, ["Machine", "v0"]);
    assert_eq!(v0.node.to_string(), format!("nsu={NAMESPACE};s=v0"));
    assert_eq!((v0.unit.as_str(), v0.range), ("°C", Some((0.0, 1e9))));
    assert_eq!(v0.description, "variable 0");
    assert!(v0.history && !v0.writable && v0.kind == ValueKind::F64);
    assert!(named("setpoint").writable && !named("v1").history);
    let bounds = ScanBounds {
        variables: 10,
        ..ScanBounds::default()
    };
    let some = scan(&config, bounds, |_, _| {}).await.unwrap();
    assert!(!some.complete && some.variables.len() == 10);
}
