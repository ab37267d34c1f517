//! Recorded before released: nothing is shown, done or refused but what is durable in the record by then.

use crate::machines::{EPOCH, Scripted, tag};
use crate::site::{self, RecordedAct, Site};
use serde_json::{Value as Json, json};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;
use weighbridge::access::{Caller, Change, Pattern, Right, Role, Rule};
use weighbridge::actors::access::By;
use weighbridge::hub::{Faces, Hub, OpenFaces};
use weighbridge::model::{TagSpec, Value, ValueKind};
use weighbridge::protocols::Source;
use weighbridge::protocols::control::TagWrite;
use weighbridge::protocols::opcua::{
    NodeAddress, OpcUaConfig, OpcUaPoint, OpcUaServerConfig, OpcUaSource,
};
use weighbridge::protocols::ports::AccessError;
use weighbridge_verifier::{Action, Response};

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const PRESS: &str = "press-1";

fn press() -> Scripted {
    Scripted::new(PRESS, [tag("pressure", ValueKind::F64)])
}

fn open(hub: &Hub, roles: &[Role]) -> (OpenFaces, String) {
    let faces = Faces {
        http: Some(ANY_PORT),
        http_roles: roles.to_vec(),
        ..Faces::default()
    };
    let faces = hub.open_faces(&faces).unwrap();
    let url = faces.http_url().unwrap();
    (faces, url)
}

/// Status code and body of a request by the name `id`.
fn ask(url: &str, method: &str, path: &str, id: &str, body: Option<&Json>) -> (u16, String) {
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let body = body.map(Json::to_string).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nX-Request-Id: {id}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let code = head.split_whitespace().nth(1).unwrap().parse().unwrap();
    (code, body.to_owned())
}

/// The acts that say they are of request `id`, at any depth.
fn of_request(site: &Site, id: &str) -> Vec<RecordedAct> {
    let recorded = site.recorded();
    let all = recorded.acts.into_iter().chain(recorded.access);
    let said = format!("\"request_id\":\"{id}\"");
    all.filter(|act| act.details.to_string().contains(&said))
        .collect()
}

#[test]
fn what_a_face_refuses_by_itself_is_on_record_before_it_says_so() {
    let (site, press) = (Site::new(110), press());
    let hub = site.hub().device(press.setup(1)).start().unwrap();
    press.scan(EPOCH, [1.0]);
    site::up(&hub, PRESS);
    let (faces, url) = open(&hub, &[Role::Engineer]);
    let write = format!("/api/v1/devices/{PRESS}/write");
    let cases = [
        ("no-tag", write.as_str(), json!({"speed": 1.0}), 404),
        ("no-kind", &write, json!({"pressure": "high"}), 400),
        ("read-only", &write, json!({"pressure": 4.5}), 422),
        (
            "no-device",
            "/api/v1/devices/press-9/write",
            json!({"x": 1}),
            404,
        ),
        (
            "no-argument",
            "/api/v1/devices/press-9/call",
            json!({"object": "a", "method": "b", "arguments": [[]]}),
            404,
        ),
        (
            "no-alarm",
            "/api/v1/alarms/acknowledge",
            json!({"id": "press-1/x"}),
            404,
        ),
        (
            "no-subject",
            "/api/v1/access",
            json!({"do": "revoke", "id": "user:nobody"}),
            403,
        ),
    ];
    for (id, path, body, code) in &cases {
        let (answered, said) = ask(&url, "POST", path, id, Some(body));
        assert_eq!(answered, *code, "{id}: {said}");
        // Looked up as soon as the answer is here, while the hub runs.
        let found = of_request(&site, id);
        let [act] = found.as_slice() else {
            panic!("{id}: {found:?}");
        };
        assert_eq!(act.response, Response::Refused, "{id}");
        assert_eq!(act.subject, "user:local", "{id}");
    }
    let (code, said) = ask(&url, "GET", "/api/v1/devices", "no good\u{7f}", None);
    assert_eq!(code, 400, "{said}");
    faces.close(&hub.runtime());
    hub.shutdown().unwrap();
    site.verify_is_clean();
}

#[test]
fn who_may_not_write_learns_not_even_which_tags_there_are() {
    let (site, press) = (Site::new(111), press());
    let hub = site.hub().device(press.setup(1)).start().unwrap();
    let (faces, url) = open(&hub, &[Role::Observer]);
    for tag in ["pressure", "speed"] {
        let body = json!({ tag: "x" });
        let path = format!("/api/v1/devices/{PRESS}/write");
        let (code, said) = ask(&url, "POST", &path, tag, Some(&body));
        assert_eq!(code, 403, "{said}");
        let [act] = of_request(&site, tag).try_into().unwrap();
        assert_eq!(act.details["request"]["rule"], "role");
    }
    faces.close(&hub.runtime());
    hub.shutdown().unwrap();
}

#[test]
fn a_session_is_on_record_before_the_first_value_and_so_is_what_is_not_shown() {
    let (site, press) = (Site::new(112), press());
    let hub = site.hub().device(press.setup(1)).start().unwrap();
    press.scan(EPOCH, [1.0]);
    site::up(&hub, PRESS);
    let (faces, url) = open(&hub, &[Role::Observer]);
    let begun = || {
        let acts = site.recorded().acts.into_iter();
        acts.filter(|a| a.kind == "session-begin")
            .collect::<Vec<_>>()
    };
    let (code, _) = ask(&url, "GET", "/api/v1/tags", "one", None);
    assert_eq!((code, begun().len()), (200, 1));
    let (code, _) = ask(&url, "GET", "/api/v1/tags", "two", None);
    assert_eq!((code, begun().len()), (200, 1));
    assert_eq!(begun()[0].object, "session:http");

    // From now on `local` sees another device only.
    let rule = Rule {
        rights: [Right::Live].into(),
        objects: vec![Pattern::new("device:press-2").unwrap()],
        windows: Vec::new(),
    };
    let narrow = vec![
        Change::Define("narrow".into(), vec![rule]),
        Change::Assign("user:local".into(), ["narrow".to_owned()].into()),
    ];
    let change = hub.access().change(By::Hub("a test says so"), narrow);
    site::wait(&hub, "a change of access", change).unwrap();
    let path = format!("/api/v1/devices/{PRESS}/tags/pressure");
    let (code, said) = ask(&url, "GET", &path, "hidden", None);
    assert_eq!(code, 404, "{said}");
    let [act] = of_request(&site, "hidden").try_into().unwrap();
    assert_eq!(
        (act.action, act.kind.as_str()),
        (Action::Refuse, "not-shown")
    );
    assert_eq!(act.object, format!("device:{PRESS}"));
    faces.close(&hub.runtime());
    hub.shutdown().unwrap();
    let ends = site.recorded().acts.into_iter();
    let mut ends = ends.filter(|a| a.kind == "session-end" && a.object == "session:http");
    // When the face opened, the two that were answered, and the one that was refused.
    assert_eq!(ends.next().unwrap().details["requests"], 4);
    assert_eq!(ends.count(), 0);
}

#[test]
fn strangers_are_recorded_in_sums() {
    let site = Site::new(113);
    let users = tempfile::tempdir().unwrap();
    let hub = site.hub().start().unwrap();
    let faces = Faces {
        http: Some(ANY_PORT),
        http_log_in: Some(users.path().to_owned()),
        ..Faces::default()
    };
    let faces = hub.open_faces(&faces).unwrap();
    let url = faces.http_url().unwrap();
    for _ in 0..3 {
        assert_eq!(ask(&url, "GET", "/api/v1/devices", "x", None).0, 401);
    }
    let wrong = json!({"user": "anna", "password": "guess"});
    assert_eq!(ask(&url, "POST", "/api/v1/login", "x", Some(&wrong)).0, 401);
    faces.close(&hub.runtime());
    hub.shutdown().unwrap();
    let mut counted = std::collections::BTreeMap::new();
    for act in site.recorded().acts {
        if act.kind == "turned-away" {
            assert_eq!(
                (act.action, act.subject.as_str()),
                (Action::Summary, "hub:hub-1")
            );
            for sum in act.details["turned_away"].as_array().unwrap() {
                let why = sum["why"].as_str().unwrap().to_owned();
                *counted.entry(why).or_insert(0) += sum["count"].as_u64().unwrap();
            }
        }
    }
    let expected = [("no session".to_owned(), 3), ("wrong log-in".to_owned(), 1)];
    assert_eq!(counted, expected.into());
    site.verify_is_clean();
}

#[test]
fn what_can_be_is_not_for_those_to_know_who_may_not_change_it() {
    let site = Site::new(114);
    let hub = site.hub().start().unwrap();
    let anna = site::enter(&hub, "anna", &[Role::Engineer]);
    let zoe = site::enter(&hub, "zoe", &[Role::SecurityAdmin]);
    let revoke = |by: &Caller| {
        let nobody = vec![Change::Revoke("user:nobody".into())];
        let change = hub.access().change(By::User(by), nobody);
        let refusals = site.recorded().access.len();
        let answer = site::wait(&hub, "an answer", change).unwrap_err();
        assert_eq!(site.recorded().access.len(), refusals + 1, "{answer}");
        answer
    };
    let denied = revoke(&anna);
    assert!(matches!(denied, AccessError::Denied(_)), "{denied}");
    let impossible = revoke(&zoe);
    assert!(
        matches!(impossible, AccessError::Impossible(_)),
        "{impossible}"
    );
    hub.shutdown().unwrap();
    site.verify_is_clean();
}

#[test]
fn over_opc_ua_log_ins_and_what_is_not_shown_or_fits_no_tag_are_on_record() {
    let (site, press) = (Site::new(115), press());
    let hub = site.hub().device(press.setup(1)).start().unwrap();
    press.scan(EPOCH, [1.0]);
    site::up(&hub, PRESS);
    let pki = tempfile::tempdir().unwrap();
    let faces = Faces {
        opcua: Some(OpcUaServerConfig {
            bind: ANY_PORT,
            pki_dir: pki.path().to_owned(),
            anonymous_roles: vec![Role::Engineer],
            ..Default::default()
        }),
        ..Faces::default()
    };
    let faces = hub.open_faces(&faces).unwrap();
    let node = format!("Weighbridge/Devices/{PRESS}/pressure");
    let node = NodeAddress::named("urn:weighbridge:hub", &node);
    // The client believes that it may be written.
    let spec = TagSpec {
        writable: true,
        ..tag("pressure", ValueKind::F64)
    };
    let points = vec![(spec, OpcUaPoint::new(node, ValueKind::F64))];
    let config = OpcUaConfig::new(faces.opcua_url().unwrap());
    let mut scada = OpcUaSource::new("scada".into(), config, points).unwrap();
    site::wait(&hub, "a connection", scada.connect()).unwrap();
    let acts = |kind: &str| {
        let acts = site.recorded().acts.into_iter();
        acts.filter(|act| act.kind == kind).collect::<Vec<_>>()
    };
    let log_ins = acts("log-in");
    assert_eq!(log_ins[0].subject, "user:anonymous");
    assert_eq!(log_ins[0].object, "session:opc.tcp");

    // It cannot be written: its configuration does not say so.
    let value = Value::F64(1.0);
    let control = scada.control().unwrap();
    let written = site::wait(&hub, "a refusal", async {
        control.write(&[TagWrite { tag: 0, value }]).await
    });
    assert!(written.unwrap()[0].is_err());
    let [refused] = acts("control").try_into().unwrap();
    assert_eq!(refused.response, Response::Refused);
    assert_eq!(refused.details["request"]["tags"], json!(["pressure"]));

    // From now on they see another device only, and what they may not write is no matter of tags.
    let rule = Rule {
        rights: [Right::Live, Right::Write].into(),
        objects: vec![Pattern::new("device:press-2").unwrap()],
        windows: Vec::new(),
    };
    let narrow = vec![
        Change::Define("narrow".into(), vec![rule]),
        Change::Assign("user:anonymous".into(), ["narrow".to_owned()].into()),
    ];
    let change = hub.access().change(By::Hub("a test says so"), narrow);
    site::wait(&hub, "a change of access", change).unwrap();
    let value = Value::F64(2.0);
    let written = site::wait(&hub, "a refusal", async {
        control.write(&[TagWrite { tag: 0, value }]).await
    });
    assert!(written.unwrap()[0].is_err());
    assert_eq!(acts("control").len(), 2);
    // The client looks at the value first, to see which type it is.
    let hidden = acts("not-shown");
    assert_eq!(hidden[0].object, format!("device:{PRESS}/pressure"));
    assert_eq!(hidden[0].subject, "user:anonymous");
    faces.close(&hub.runtime());
    hub.shutdown().unwrap();
    site.verify_is_clean();
}
