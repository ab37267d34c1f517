//! What people and SCADA see of a running hub when something is wrong.

use crate::machines::{Counting, EPOCH, MS, Scripted, Step, tag};
use crate::site::{self, Site};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use weighbridge::access::Role;
use weighbridge::actors::ledger::LedgerHealth;
use weighbridge::hub::{DeviceSetup, Faces, Hub};
use weighbridge::model::{Quality, TagSpec, Value, ValueKind};
use weighbridge::protocols::Source;
use weighbridge::protocols::opcua::{
    NodeAddress, OpcUaConfig, OpcUaPoint, OpcUaServerConfig, OpcUaSource,
};

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Status code and body.
fn get(url: &str, path: &str) -> (u16, String) {
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let code = head.split_whitespace().nth(1).unwrap().parse().unwrap();
    (code, body.to_owned())
}

#[test]
fn a_full_disk_and_a_device_that_is_down_are_seen_over_http() {
    let site = Site::new(41);
    let press = Counting::new(Duration::from_millis(1));
    let broken = Scripted::new("press-2", [tag("pressure", ValueKind::F64)]);
    let hub = site
        .hub()
        .device(press.setup("press-1", 5))
        .device(broken.setup(1))
        .start()
        .unwrap();
    let faces = Faces {
        http: Some(ANY_PORT),
        http_roles: vec![Role::Observer],
        ..Faces::default()
    };
    let faces = hub.open_faces(&faces).unwrap();
    let url = faces.http_url().unwrap();
    site::batches(&hub, 3);
    let (code, health) = get(&url, "/healthz");
    assert_eq!(code, 200, "{health}");
    site.disk.set_full(true);
    site::waiting(&hub);
    let (code, health) = get(&url, "/healthz");
    assert_eq!(code, 503, "{health}");
    assert!(
        health.contains("the ledger waits: the disk is full"),
        "{health}"
    );
    // What is recorded can still be read.
    let (code, blocks) = get(&url, "/api/v1/blocks?limit=1");
    assert_eq!(code, 200, "{blocks}");
    assert!(blocks.contains("state_hash"), "{blocks}");
    site.disk.set_full(false);
    site::ledger(&hub, "is up again", |s| s.health == LedgerHealth::Up);
    assert_eq!(get(&url, "/healthz").0, 200);

    broken.scan(EPOCH, [1.0]);
    site::up(&hub, "press-2");
    broken.does(Step::Break);
    site::down(&hub, "press-2");
    let (code, devices) = get(&url, "/api/v1/devices");
    assert_eq!(code, 200);
    assert!(devices.contains("it was told to break"), "{devices}");
    // One device that is down does not make the hub unwell.
    assert_eq!(get(&url, "/healthz").0, 200);
    faces.close(&hub.runtime());
    hub.shutdown().unwrap();
    site.verify_is_clean();
}

/// A device of a second hub: the tags of `press-1` as the first hub shows them to SCADA.
pub fn scada(url: &str, press: &DeviceSetup) -> DeviceSetup {
    scada_with(OpcUaConfig::new(url), press)
}

/// The same, with other settings.
pub fn scada_with(mut config: OpcUaConfig, press: &DeviceSetup) -> DeviceSetup {
    let point = |tag: &TagSpec| {
        let name = format!("Weighbridge/Devices/press-1/{}", tag.name);
        let node = NodeAddress::named("urn:weighbridge:hub", &name);
        (tag.clone(), OpcUaPoint::new(node, tag.kind))
    };
    let points: Vec<_> = press.tags.iter().map(point).collect();
    config.publishing_interval_ms = 20;
    config.sampling_interval_ms = 20;
    let make = move || {
        let source = OpcUaSource::new("scada".into(), config.clone(), points.clone()).unwrap();
        Box::new(source) as Box<dyn Source>
    };
    DeviceSetup::new("scada".into(), Arc::clone(&press.tags), make)
}

/// Waits until the second hub sees `pressure` like this.
fn sees(hub: &Hub, what: &str, wanted: impl Fn(&Value, Quality) -> bool) {
    site::device(hub, "scada", what, |live| {
        let sample = live.sample(0)?;
        wanted(&sample.value, sample.quality).then_some(())
    });
}

#[test]
fn scada_sees_what_is_refused_as_bad_and_a_hub_that_ends_as_gone() {
    let (site, other) = (Site::new(42), Site::new(43));
    let press = Scripted::new("press-1", [tag("pressure", ValueKind::F64)]);
    let hub = site.hub().device(press.setup(1)).start().unwrap();
    let pki = tempfile::tempdir().unwrap();
    let faces = Faces {
        opcua: Some(OpcUaServerConfig {
            bind: ANY_PORT,
            pki_dir: pki.path().into(),
            ..OpcUaServerConfig::default()
        }),
        ..Faces::default()
    };
    let faces = hub.open_faces(&faces).unwrap();
    let url = faces.opcua_url().unwrap();
    let reader = other.hub().device(scada(&url, &press.setup(1)));
    let reader = reader.start().unwrap();
    let is = |value: f64, quality: Quality| {
        move |v: &Value, q: Quality| *v == Value::F64(value) && q == quality
    };

    press.scan(EPOCH, [1.5]);
    sees(&reader, "the first value", is(1.5, Quality::GOOD));
    press.scan(EPOCH + MS, [f64::NAN]);
    sees(&reader, "that it is refused", |_, quality| quality.is_bad());
    press.scan(EPOCH + 2 * MS, [2.5]);
    sees(&reader, "the next one", is(2.5, Quality::GOOD));
    press.does(Step::Break);
    sees(&reader, "that the machine is away", |_, quality| {
        quality == Quality::BAD_NO_COMMUNICATION
    });
    press.scan(EPOCH + 3 * MS, [3.5]);
    sees(&reader, "that it is back", is(3.5, Quality::GOOD));

    // A client that is connected does not keep a hub from ending, and learns of it.
    let began = Instant::now();
    faces.close(&hub.runtime());
    hub.shutdown().unwrap();
    assert!(began.elapsed() < Duration::from_secs(8));
    site::down(&reader, "scada");
    sees(&reader, "that the hub is away", |_, quality| {
        quality == Quality::BAD_NO_COMMUNICATION
    });
    reader.shutdown().unwrap();
    for site in [site, other] {
        site.verify_is_clean();
        site.recorded().is_gapless();
    }
}
