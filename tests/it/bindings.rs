//! A device is known by its address, its MAC address and its key; another one is not read in its place.

use crate::edge::Plant as EdgePlant;
use crate::faces::scada_with;
use crate::machines::{EPOCH, MS, Scripted, Step, tag};
use crate::site::{self, Site};
use crate::support::{Plant, run, run_json, stderr};
use serde_json::Value as Json;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use weighbridge::access::{Binding, Change, Mode, Role};
use weighbridge::actors::access::By;
use weighbridge::edge::{EdgeBuilder, EdgeNode};
use weighbridge::hub::{self, DeviceSetup, EdgesSetup, Faces, Hub};
use weighbridge::model::{Mac, Peer, ValueKind};
use weighbridge::protocols::opcua::{OpcUaConfig, OpcUaServerConfig, Policy, Trust};
use weighbridge::protocols::ports::AlarmPort;
use weighbridge_verifier::{Hash, Response};

const PRESS: &str = "press-1";
const ID: &str = "device:press-1";
const ENTRY: &str = "access:binding/device:press-1";

fn press() -> Scripted {
    Scripted::new(PRESS, [tag("pressure", ValueKind::F64)])
}

fn peer(dialled: &str, last: u8, mac: Option<u8>, key: Option<u8>) -> Peer {
    Peer {
        dialled: dialled.to_owned(),
        address: SocketAddr::from(([192, 0, 2, last], 502)),
        mac: mac.map(|mac| Mac([mac; 6])),
        key: key.map(|key| Hash([key; 32])),
    }
}

fn bound(hub: &Hub) -> Option<Binding> {
    hub.gate().state().bindings().get(ID).cloned()
}

/// What is recorded of the binding: kind of the record, and its details.
fn told(site: &Site) -> Vec<(String, Json)> {
    let access = site.recorded().access.into_iter();
    let told = access.filter(|act| act.object == ENTRY);
    told.map(|act| (act.kind, act.details)).collect()
}

#[test]
fn a_replaced_device_is_refused_recorded_and_alarmed_until_somebody_accepts_it() {
    let strangers = [
        ("address", peer("press:502", 8, Some(1), Some(1))),
        ("mac", peer("press:502", 7, Some(2), Some(1))),
        ("key", peer("press:502", 7, Some(1), Some(2))),
        ("key", peer("press:502", 7, Some(1), None)),
    ];
    for (seed, (rule, stranger)) in (180..).zip(strangers) {
        let (site, press) = (Site::new(seed), press());
        let start = || site.hub().device(press.setup(1)).start().unwrap();
        let own = peer("press:502", 7, Some(1), Some(1));
        press.answers_as(own.clone());
        let hub = start();
        press.scan(EPOCH, [1.0]);
        site::batches(&hub, 1);
        assert_eq!(bound(&hub), Some(own.clone().into()));

        press.answers_as(stranger.clone());
        press.does(Step::Break);
        press.scan(EPOCH + MS, [2.0]);
        let why = "another machine answers in its place: ";
        site::device(&hub, PRESS, "is refused", |live| {
            let said = format!("{:?}", live.link());
            (said.contains(why) && said.contains("`weighbridge access bind press-1`")).then_some(())
        });
        assert_eq!(hub.gate().strangers().get(ID), Some(&stranger));
        let alarms = hub.alarms().alarms();
        let alarm = alarms.iter().find(|alarm| alarm.id == PRESS).unwrap();
        assert!(alarm.active && alarm.message.starts_with(why), "{alarm:?}");
        hub.shutdown().unwrap();
        let recorded = site.recorded();
        assert_eq!(recorded.batches.len(), 1);
        let refusals = recorded.access.iter().filter(|act| act.object == ENTRY);
        let refusals: Vec<_> = refusals
            .filter(|a| a.response == Response::Refused)
            .collect();
        assert_eq!(refusals.len(), 1, "{refusals:?}");
        let refusal = refusals.first().unwrap();
        assert_eq!(
            (refusal.subject.as_str(), &refusal.details["rule"]),
            (ID, &rule.into())
        );

        // A restart lets no stranger in.
        let hub = start();
        assert!(site::down(&hub, PRESS).starts_with(why));
        let zoe = site::enter(&hub, "zoe", &[Role::SecurityAdmin]);
        let accept = Change::Bind(ID.into(), Some(stranger.clone().into()));
        let change = hub.access().change(By::User(&zoe), vec![accept]);
        site::wait(&hub, "the stranger is accepted", change).unwrap();
        site::batches(&hub, 1);
        site::up(&hub, PRESS);
        assert!(hub.gate().strangers().is_empty());
        hub.shutdown().unwrap();
        site.recorded().is_gapless();
        site.verify_is_clean();
    }
}

#[test]
fn the_first_that_answers_is_on_record_before_its_data_and_once() {
    let (site, press) = (Site::new(190), press());
    press.answers_as(peer("press:502", 7, None, None));
    let hub = site.hub().device(press.setup(1)).start().unwrap();
    press.scan(EPOCH, [1.0]);
    site::batches(&hub, 1);
    // A machine that restarts at its address is not disturbed.
    for time in 1..4 {
        press.does(Step::Break);
        press.scan(EPOCH + time * MS, [1.0]);
    }
    site::batches(&hub, 4);
    // More of it is seen.
    press.answers_as(peer("press:502", 7, Some(1), None));
    press.does(Step::Break);
    press.scan(EPOCH + 5 * MS, [1.0]);
    site::batches(&hub, 5);
    hub.shutdown().unwrap();
    let whys: Vec<_> = told(&site)
        .iter()
        .map(|t| t.1["by"]["why"].clone())
        .collect();
    assert_eq!(whys, ["the first that answered", "more is known of it"]);
    let recorded = site.recorded();
    let first = recorded
        .access
        .iter()
        .find(|act| act.object == ENTRY)
        .unwrap();
    assert!(first.height <= recorded.batches[0].height);
    site.verify_is_clean();
}

#[test]
fn another_address_in_the_configuration_is_bound_anew_and_who_leaves_is_forgotten() {
    let (site, press) = (Site::new(191), press());
    press.answers_as(peer("press:502", 7, Some(1), Some(1)));
    let hub = site.hub().device(press.setup(1)).start().unwrap();
    press.scan(EPOCH, [1.0]);
    site::batches(&hub, 1);
    let moved = peer("hall-2:502", 9, Some(3), Some(1));
    press.answers_as(moved.clone());
    let put = hub::Change {
        put: vec![press.setup(1)],
        ..hub::Change::default()
    };
    site::wait(&hub, "a change", hub.apply(put)).unwrap();
    press.scan(EPOCH + MS, [1.0]);
    site::batches(&hub, 2);
    assert_eq!(bound(&hub), Some(moved.into()));
    let remove = hub::Change {
        remove: vec![PRESS.into()],
        ..hub::Change::default()
    };
    site::wait(&hub, "a change", hub.apply(remove)).unwrap();
    assert_eq!(bound(&hub), None);
    hub.shutdown().unwrap();
    let told = told(&site);
    let whys: Vec<_> = told.iter().map(|t| t.1["by"]["why"].clone()).collect();
    let elsewhere = "the configuration says that it is elsewhere";
    assert_eq!(whys[..2], ["the first that answered", elsewhere]);
    assert!(told.last().unwrap().1["says"].is_null());
    site.verify_is_clean();
}

/// Asks the hub at `url` for a change of access, which it makes.
fn post(url: &str, body: &str) {
    let host = url.strip_prefix("http://").unwrap().trim_end_matches('/');
    let mut stream = TcpStream::connect(host).unwrap();
    let length = body.len();
    let request = format!(
        "POST /api/v1/access HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
         Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_machine_on_the_wire_is_bound_refused_and_accepted_by_command() {
    let plant = Plant::with_machines(1, 2);
    let config = std::fs::read_to_string(plant.path("hub.toml")).unwrap();
    let bind = "[http]\nbind = \"127.0.0.1:0\"\n";
    let roles = format!("{bind}roles = [\"security_admin\", \"observer\"]\n");
    std::fs::write(plant.path("hub.toml"), config.replace(bind, &roles)).unwrap();
    let mut hub = plant.run_hub();
    while hub.next_block().batches.is_empty() {}
    let url = hub.http_url().to_owned();
    let bindings = || run_json(&["access", "bindings", "--json", "--url", &url]);
    let known = bindings()["bindings"][0].clone();
    assert_eq!(known["id"], "device:plc-0");
    assert_eq!(known["address"], known["dialled"]);
    let nobody = run(&["access", "bind", "plc-0", "--url", &url]);
    assert!(
        stderr(&nobody).contains("nothing to accept"),
        "{}",
        stderr(&nobody)
    );

    // Somebody says that the device is another machine; so who answers is a stranger.
    let address: SocketAddr = known["address"].as_str().unwrap().parse().unwrap();
    let other = SocketAddr::from(([127, 0, 0, 9], address.port()));
    let body = serde_json::json!({"do": "bind", "id": "device:plc-0", "peer": {
        "dialled": known["dialled"], "address": other,
    }});
    post(&url, &body.to_string());
    let strangers = || bindings()["answered_in_place_of"].as_array().unwrap().len();
    let until = |wanted: usize| {
        let began = std::time::Instant::now();
        while strangers() != wanted {
            assert!(began.elapsed() < site::PATIENCE, "{}", bindings());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    };
    until(1);
    let accepted = run(&["access", "bind", "plc-0", "--url", &url]);
    assert!(accepted.status.success(), "{}", stderr(&accepted));
    until(0);
    while hub.next_block().batches.is_empty() {}
    assert_eq!(bindings()["bindings"][0]["address"], known["address"]);
    hub.kill();
}

/// A hub whose edge node `edge-1` reads the press.
fn with_edge(plant: &mut EdgePlant, press: &Scripted) -> Hub {
    let mut setup = press.setup(1);
    let tags = setup.tags.clone();
    setup = {
        let mut at_edge = DeviceSetup::at_edge(PRESS.into(), tags, "edge-1");
        at_edge.validation = setup.validation;
        at_edge
    };
    let edges = EdgesSetup {
        bind: SocketAddr::from(([127, 0, 0, 1], plant.port)),
        nodes: vec![("edge-1".to_owned(), plant.identity().peer_key())],
    };
    let hub = plant.site.hub().edges(edges).device(setup).start().unwrap();
    plant.port = hub.edge_address().unwrap().port();
    hub
}

fn edge_of(plant: &EdgePlant, press: &Scripted) -> EdgeNode {
    let edge = EdgeBuilder::new(plant.identity(), plant.buffer())
        .hub(crate::edge::entry(&plant.site, plant.port))
        .device(press.setup(1));
    edge.start().unwrap()
}

#[test]
fn a_stranger_behind_an_edge_node_is_dropped_there_and_told_of_at_the_hub() {
    let (mut plant, press) = (EdgePlant::new(192), press());
    press.answers_as(peer("press:502", 7, Some(1), None));
    let hub = with_edge(&mut plant, &press);
    let edge = edge_of(&plant, &press);
    press.scan(EPOCH, [1.0]);
    site::batches(&hub, 1);
    let own = peer("press:502", 7, Some(1), None);
    site::device(&hub, PRESS, "is bound", |_| {
        (bound(&hub) == Some(own.clone().into())).then_some(())
    });

    let stranger = peer("press:502", 7, Some(2), None);
    press.answers_as(stranger.clone());
    press.does(Step::Break);
    press.scan(EPOCH + MS, [2.0]);
    let why = "another machine answers in its place: ";
    site::device(&hub, PRESS, "is refused", |live| {
        format!("{:?}", live.link()).contains(why).then_some(())
    });
    edge.shutdown().unwrap();
    // Without a hub the edge node knows its device, too.
    hub.shutdown().unwrap();
    let edge = edge_of(&plant, &press);
    let mut link = edge.live().device(PRESS).unwrap().changes();
    edge.runtime().block_on(async {
        let seen = || format!("{:?}", edge.live().device(PRESS).unwrap().link());
        let waited = tokio::time::timeout(site::PATIENCE, async {
            while !seen().contains(why) {
                link.changed().await.unwrap();
            }
        });
        waited.await.expect("it is refused");
    });
    assert_eq!(edge.lanes()[0].pending, 0);

    let hub = with_edge(&mut plant, &press);
    site::device(&hub, PRESS, "is refused", |_| {
        (hub.gate().strangers().get(ID) == Some(&stranger)).then_some(())
    });
    let zoe = site::enter(&hub, "zoe", &[Role::SecurityAdmin]);
    let accept = Change::Bind(ID.into(), Some(stranger.clone().into()));
    let change = hub.access().change(By::User(&zoe), vec![accept]);
    site::wait(&hub, "the stranger is accepted", change).unwrap();
    site::batches(&hub, 1);
    edge.shutdown().unwrap();
    hub.shutdown().unwrap();
    let refusals = plant.site.recorded().access.into_iter();
    let refusals = refusals.filter(|a| a.object == ENTRY && a.response == Response::Refused);
    // Once by each of the two hubs' processes.
    assert_eq!(refusals.count(), 2);
    plant.site.recorded().is_gapless();
    plant.site.verify_is_clean();
}

#[test]
fn a_permit_behind_an_edge_node_is_renewed_by_fresh_data_and_a_fresh_signature() {
    let (mut plant, press) = (EdgePlant::new(193), press());
    let hub = with_edge(&mut plant, &press);
    let edge = edge_of(&plant, &press);
    let zoe = site::enter(&hub, "zoe", &[Role::SecurityAdmin]);
    for (time, batches) in (0..3).zip(1..) {
        press.scan(EPOCH + time * MS, [1.0]);
        site::batches(&hub, batches);
        let ended = Change::Permit(ID.into(), Mode::Store, None);
        let change = hub.access().change(By::User(&zoe), vec![ended]);
        site::wait(&hub, "the permit is ended", change).unwrap();
    }
    edge.shutdown().unwrap();
    hub.shutdown().unwrap();
    let recorded = plant.site.recorded();
    let permits = recorded
        .access
        .iter()
        .filter(|a| a.object == "access:permit/store/device:press-1");
    let given = permits.filter(|a| !a.details["says"].is_null());
    let whys: BTreeSet<_> = given.map(|a| a.details["by"]["why"].to_string()).collect();
    assert_eq!(whys.len(), 3, "each by a signature of its own: {whys:?}");
    assert!(
        whys.iter()
            .all(|why| why.contains("its data are good; edge-1 has signed "))
    );
    assert!(
        recorded
            .batches
            .iter()
            .all(|b| b.permit.is_some() && b.opened.is_some())
    );
    plant.site.verify_is_clean();
}

#[test]
fn an_opcua_server_with_another_key_is_another_one_whoever_trusts_it() {
    let (site, other, press) = (Site::new(194), Site::new(195), press());
    let hub = site.hub().device(press.setup(1)).start().unwrap();
    let open = |port: u16, pki: &tempfile::TempDir| {
        let opcua = OpcUaServerConfig {
            bind: SocketAddr::from(([127, 0, 0, 1], port)),
            pki_dir: pki.path().into(),
            trust: Trust::Any,
            ..OpcUaServerConfig::default()
        };
        let faces = Faces {
            opcua: Some(opcua),
            ..Faces::default()
        };
        // Connections that are about to end hold the port for a moment.
        let began = std::time::Instant::now();
        loop {
            match hub.open_faces(&faces) {
                Ok(faces) => return faces,
                Err(error) => assert!(began.elapsed() < site::PATIENCE, "{error}"),
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    };
    let pki = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [own, another, client] = &pki;
    let faces = open(0, own);
    let url = faces.opcua_url().unwrap();
    let mut config = OpcUaConfig::new(&url);
    config.security_policy = Policy::Basic256Sha256;
    config.trust = Trust::Any;
    config.pki_dir = client.path().into();
    // A busy machine takes its time over the handshake.
    config.connect_timeout_ms = 15_000;
    config.silence_timeout_ms = 15_000;
    let reader = scada_with(config, &press.setup(1));
    let reader = other.hub().device(reader).start().unwrap();
    press.scan(EPOCH, [1.0]);
    site::up(&reader, "scada");
    let bound = || reader.gate().state().bindings()["device:scada"].clone();
    let known = bound();
    assert!(known.key.is_some() && known.mac.is_none(), "{known:?}");
    let port = known.address.port();
    assert_eq!(known.address, SocketAddr::from(([127, 0, 0, 1], port)));
    assert!(url.contains(&format!(":{port}")), "{url}");

    faces.close(&hub.runtime());
    let faces = open(port, another);
    let short = known.key.unwrap().short();
    let why = format!("another machine answers in its place: its key is {short}, and ");
    site::device(&reader, "scada", "is refused", |live| {
        format!("{:?}", live.link()).contains(&why).then_some(())
    });
    // The old one is back, with a certificate that it had before.
    faces.close(&hub.runtime());
    let faces = open(port, own);
    site::up(&reader, "scada");
    assert_eq!(bound(), known);
    reader.shutdown().unwrap();
    faces.close(&hub.runtime());
    hub.shutdown().unwrap();
    other.verify_is_clean();
}
