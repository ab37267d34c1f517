//! The server, seen by a client.

mod companion;
mod conversation;
mod history;
mod hostile;
mod limits;
mod log_in;
mod notifications;
mod roles;
mod standard;
mod write;

use super::*;
use crate::live_view::{DeviceLive, LiveSample, LiveView};
use crate::model::{Quality, TagSpec, Value, ValueKind};
use crate::protocols::FixedAccess;
use crate::protocols::ports::AccessPort;
use opcua::client::{
    Client, ClientBuilder, DataChangeCallback, IdentityToken, Session, SessionEventLoop,
};
use opcua::crypto::{CertificateStore, SecurityPolicy};
use opcua::types::{
    AttributeId, BrowsePath, DataValue, EUInformation, Error, MonitoredItemCreateRequest, NodeId,
    ObjectId, QualifiedName, Range, ReadValueId, ReferenceTypeId, RelativePath,
    RelativePathElement, StatusCode, TimestampsToReturn, UserTokenPolicy, Variant,
};
use std::path::Path;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use weighbridge_verifier::{Hash, sha256};

const SECOND: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(20);
/// A moment in 2026, in ns.
const THEN: i64 = 1_780_000_000_123_456_700;

/// A ledger of so many blocks of three records each.
struct FakeLedger(watch::Sender<u64>);

impl FakeLedger {
    fn new() -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(0)))
    }
}

/// Remembers who asked: session and user.
#[derive(Default)]
pub(super) struct FakeSessions(watch::Sender<Vec<(String, String)>>);

impl FakeSessions {
    fn users(&self) -> Vec<String> {
        let open = self.0.borrow();
        open.iter().map(|(_, user)| user.clone()).collect()
    }
}

impl SessionPort for FakeSessions {
    fn asked(&self, session: &str, user: &str) {
        self.0.send_modify(|open| {
            if !open.iter().any(|(known, _)| known == session) {
                open.push((session.to_owned(), user.to_owned()));
            }
        });
    }

    fn ended(&self, session: &str) {
        self.0
            .send_modify(|open| open.retain(|(known, _)| known != session));
    }

    fn open(&self) -> usize {
        self.0.borrow().len()
    }
}

impl LedgerPort for FakeLedger {
    fn height(&self) -> u64 {
        *self.0.borrow()
    }
    fn last_block_hash(&self) -> Hash {
        sha256(&[&self.height().to_le_bytes()])
    }
    fn records(&self) -> u64 {
        3 * self.height()
    }
    fn changes(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

struct Hub {
    live: LiveView,
    plc: Arc<DeviceLive>,
    ledger: Arc<FakeLedger>,
    sessions: Arc<FakeSessions>,
    control: Arc<write::FakeControl>,
    server: ScadaServer,
    dir: TempDir,
}

fn tag(name: &str, kind: ValueKind, unit: &str, range: Option<(f64, f64)>) -> TagSpec {
    TagSpec {
        writable: false,
        name: name.into(),
        kind,
        unit: unit.into(),
        description: format!("the {name}"),
        range,
    }
}

fn good(value: Value) -> LiveSample {
    LiveSample {
        time: THEN,
        value,
        quality: Quality::GOOD,
    }
}

async fn hub(adjust: impl FnOnce(&Path, &mut OpcUaServerConfig)) -> Hub {
    hub_with(adjust, |_| {}).await
}

async fn hub_with(
    adjust: impl FnOnce(&Path, &mut OpcUaServerConfig),
    add: impl FnOnce(&mut ScadaPorts),
) -> Hub {
    let dir = tempfile::tempdir().unwrap();
    let mut config = OpcUaServerConfig {
        bind: "127.0.0.1:0".parse().unwrap(),
        pki_dir: dir.path().join("pki"),
        trust: Trust::Any,
        ..Default::default()
    };
    adjust(dir.path(), &mut config);
    let live = LiveView::default();
    let tags = [
        tag("temperature", ValueKind::F64, "°C", Some((0.0, 120.0))),
        tag("count", ValueKind::U64, "", None),
        tag("open", ValueKind::Bool, "", None),
        TagSpec {
            writable: true,
            ..tag("setpoint", ValueKind::F64, "", Some((0.0, 100.0)))
        },
        TagSpec {
            writable: true,
            ..tag("recipe", ValueKind::Text, "", None)
        },
    ];
    let plc = live.register("plc-1".into(), tags.into());
    let ledger = FakeLedger::new();
    let sessions = Arc::new(FakeSessions::default());
    let access = FixedAccess::new(&ScadaServer::users(&config).unwrap()).unwrap();
    let gate = access.gate();
    let control = Arc::new(write::FakeControl::new(gate));
    let mut ports = ScadaPorts {
        control: Some(control.clone()),
        history: Some(Arc::new(write::FakeHistory(gate.clone()))),
        access: Some(access.clone()),
        ..ScadaPorts::new(live.clone(), ledger.clone(), sessions.clone())
    };
    add(&mut ports);
    let server = ScadaServer::start(config, ports).await.unwrap();
    Hub {
        live,
        plc,
        ledger,
        sessions,
        control,
        server,
        dir,
    }
}

fn client(dir: &Path) -> Client {
    ClientBuilder::new()
        .application_name("test client")
        .application_uri("urn:weighbridge:test-client")
        .product_uri("urn:weighbridge:test")
        .pki_dir(dir.join("client"))
        .create_sample_keypair(true)
        .trust_server_certs(true)
        .session_retry_limit(0)
        .max_array_length(20_000)
        .client()
        .unwrap()
}

async fn connect(
    hub: &Hub,
    policy: SecurityPolicy,
    mode: MessageSecurityMode,
    identity: IdentityToken,
) -> Result<Arc<Session>, Error> {
    let endpoint = (
        hub.server.url(),
        policy.to_str(),
        mode,
        UserTokenPolicy::anonymous(),
    );
    let (session, events): (_, SessionEventLoop<_>) = client(hub.dir.path())
        .connect_to_matching_endpoint(endpoint, identity)
        .await?;
    let mut driver = events.spawn();
    tokio::select! {
        true = session.wait_for_connection() => {}
        status = &mut driver => return Err(Error::new(status.unwrap(), "no session")),
    }
    Ok(session)
}

async fn anonymous(hub: &Hub) -> Arc<Session> {
    let none = MessageSecurityMode::None;
    connect(hub, SecurityPolicy::None, none, IdentityToken::Anonymous)
        .await
        .unwrap()
}

/// The node at a path of browse names below Objects.
async fn find(session: &Session, path: &[&str]) -> Result<NodeId, StatusCode> {
    let namespace = session.get_namespace_index(NAMESPACE).await.unwrap();
    let element = |name: &&str| RelativePathElement {
        reference_type_id: ReferenceTypeId::HierarchicalReferences.into(),
        is_inverse: false,
        include_subtypes: true,
        target_name: match *name {
            "EURange" | "EngineeringUnits" => QualifiedName::new(0, *name),
            name => QualifiedName::new(namespace, name),
        },
    };
    let path = BrowsePath {
        starting_node: ObjectId::ObjectsFolder.into(),
        relative_path: RelativePath {
            elements: Some(path.iter().map(element).collect()),
        },
    };
    let found = session
        .translate_browse_paths_to_node_ids(&[path])
        .await
        .unwrap()
        .remove(0);
    match found.targets.unwrap_or_default().pop() {
        Some(target) => Ok(target.target_id.node_id),
        None => Err(found.status_code),
    }
}

async fn tag_node(session: &Session, tag: &str) -> NodeId {
    find(session, &["Weighbridge", "Devices", "plc-1", tag])
        .await
        .unwrap()
}

async fn read(session: &Session, node: &NodeId) -> DataValue {
    let nodes = [ReadValueId::from(node.clone())];
    let both = TimestampsToReturn::Both;
    session.read(&nodes, both, 0.0).await.unwrap().remove(0)
}

#[tokio::test]
async fn only_the_times_that_were_asked_for_are_told_also_of_a_tag_without_a_sample() {
    let hub = hub(|_, _| {}).await;
    hub.plc.update([(1, good(Value::U64(5)))]);
    let session = anonymous(&hub).await;
    let waiting = tag_node(&session, "temperature").await;
    let known = tag_node(&session, "count").await;
    use TimestampsToReturn::{Both, Neither, Server, Source};
    for (asked, source, server) in [
        (Both, true, true),
        (Source, true, false),
        (Server, false, true),
        (Neither, false, false),
    ] {
        let nodes = [&waiting, &known].map(|node| ReadValueId::from(node.clone()));
        let read = session.read(&nodes, asked, 0.0).await.unwrap();
        assert_eq!(read[0].status, Some(StatusCode::BadWaitingForInitialData));
        assert_eq!(read[1].source_timestamp.is_some(), source, "{asked:?}");
        for data in read {
            assert_eq!(data.server_timestamp.is_some(), server, "{asked:?}");
        }
    }
}

#[tokio::test]
async fn what_is_read_stands_in_the_order_in_which_it_was_asked_for() {
    let hub = hub(|_, _| {}).await;
    let samples = [Value::F64(1.5), Value::U64(2), Value::Bool(true)].map(good);
    hub.plc.update(samples.into_iter().enumerate());
    let session = anonymous(&hub).await;
    let mut tags = Vec::new();
    for tag in ["temperature", "count", "open"] {
        tags.push(ReadValueId::from(tag_node(&session, tag).await));
    }
    let unknown = NodeId::new(tags[0].node_id.namespace, "nothing");
    let name = ReadValueId {
        attribute_id: AttributeId::BrowseName as u32,
        ..tags[1].clone()
    };
    let told = [Variant::Double(1.5), Variant::UInt64(2), true.into()];
    let told = told.map(|value| (Some(value), StatusCode::Good));
    let nobody = (None, StatusCode::BadNodeIdUnknown);
    let named = QualifiedName::new(tags[1].node_id.namespace, "count");
    // In their order, twice, backwards, and with other things between them.
    let asked = [0, 1, 2, 2, 1, 0].map(|i| (tags[i].clone(), told[i].clone()));
    let mut asked = Vec::from(asked);
    asked.insert(1, (name, (Some(named.into()), StatusCode::Good)));
    asked.insert(4, (unknown.into(), nobody));
    let nodes: Vec<_> = asked.iter().map(|(node, _)| node.clone()).collect();
    let both = TimestampsToReturn::Both;
    let read = session.read(&nodes, both, 0.0).await.unwrap();
    assert_eq!(read.len(), asked.len());
    for (data, (node, (value, status))) in read.into_iter().zip(asked) {
        assert_eq!((&data.value, data.status()), (&value, status), "{node:?}");
    }
}

/// Subscribes to a node without a filter, as most clients do.
async fn subscribe(session: &Session, node: &NodeId) -> mpsc::UnboundedReceiver<DataValue> {
    let (send, receive) = mpsc::unbounded_channel();
    let news = DataChangeCallback::new(move |value, _| {
        let _ = send.send(value);
    });
    let subscription = session
        .create_subscription(Duration::from_millis(50), 100, 20, 0, 0, true, news)
        .await
        .unwrap();
    let mut item = MonitoredItemCreateRequest::from(node.clone());
    item.requested_parameters.queue_size = 10;
    item.requested_parameters.sampling_interval = 0.0;
    let created = session
        .create_monitored_items(subscription, TimestampsToReturn::Both, vec![item])
        .await
        .unwrap();
    assert!(created[0].result.status_code.is_good());
    receive
}

/// The next value that fits, however many others come before it.
async fn news(
    values: &mut mpsc::UnboundedReceiver<DataValue>,
    fits: impl Fn(&DataValue) -> bool,
) -> DataValue {
    let wait = async {
        loop {
            let value = values.recv().await.unwrap();
            if fits(&value) {
                return value;
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap()
}

#[tokio::test]
async fn values_have_status_and_times_and_say_their_unit_and_range() {
    let hub = hub(|_, _| {}).await;
    let session = anonymous(&hub).await;
    let node = tag_node(&session, "temperature").await;
    let waiting = read(&session, &node).await;
    assert_eq!(waiting.status, Some(StatusCode::BadWaitingForInitialData));

    let sample = good(Value::F64(41.5));
    hub.plc.update([(0, sample.clone())]);
    let data = read(&session, &node).await;
    assert_eq!(data.value, Some(Variant::Double(41.5)));
    assert!(data.status.is_none_or(|s| s == StatusCode::Good));
    let time = data.source_timestamp.unwrap().as_chrono();
    assert_eq!(time.timestamp_nanos_opt(), Some(THEN));
    assert!(data.server_timestamp.is_some());

    let uncertain = Quality::UNCERTAIN_ENGINEERING_UNITS_EXCEEDED;
    for (quality, value) in [
        (uncertain, Some(Variant::Double(41.5))),
        (Quality::BAD_NO_COMMUNICATION, None),
    ] {
        let sample = LiveSample {
            quality,
            ..sample.clone()
        };
        hub.plc.update([(0, sample)]);
        let data = read(&session, &node).await;
        assert_eq!(data.status, Some(StatusCode::from(quality.0)));
        assert_eq!(data.value.filter(|v| *v != Variant::Empty), value);
    }

    let property = |name| ["Weighbridge", "Devices", "plc-1", "temperature", name];
    let range = find(&session, &property("EURange")).await.unwrap();
    let range = read(&session, &range).await.value.unwrap();
    let range: Range = range.try_cast_to().unwrap();
    assert_eq!((range.low, range.high), (0.0, 120.0));
    let unit = find(&session, &property("EngineeringUnits")).await.unwrap();
    let unit = read(&session, &unit).await.value.unwrap();
    let unit: EUInformation = unit.try_cast_to().unwrap();
    assert_eq!(unit.unit_id, 4_408_652);
    hub.server.shutdown().await;
}

#[tokio::test]
async fn changes_are_pushed_also_when_only_the_status_changes() {
    let hub = hub(|_, _| {}).await;
    hub.plc.update([(2, good(Value::Bool(true)))]);
    let session = anonymous(&hub).await;
    let node = tag_node(&session, "open").await;
    let mut values = subscribe(&session, &node).await;
    let told = |value: bool, status: StatusCode| {
        move |data: &DataValue| {
            data.value == Some(Variant::Boolean(value)) && data.status() == status
        }
    };
    news(&mut values, told(true, StatusCode::Good)).await;

    let quality = Quality::UNCERTAIN_ENGINEERING_UNITS_EXCEEDED;
    let value = Value::Bool(true);
    let time = THEN + 1_000_000_000;
    hub.plc.update([(
        2,
        LiveSample {
            time,
            value,
            quality,
        },
    )]);
    let uncertain = StatusCode::from(quality.0);
    let data = news(&mut values, told(true, uncertain)).await;
    let source_time = data.source_timestamp.unwrap().as_chrono();
    assert_eq!(source_time.timestamp_nanos_opt(), Some(time));

    hub.plc.set_down("unplugged", "", 0);
    let lost = StatusCode::from(Quality::BAD_NO_COMMUNICATION.0);
    news(&mut values, |data| data.status() == lost).await;

    hub.plc.set_link(crate::live_view::Link::Up);
    news(&mut values, told(true, uncertain)).await;
    // There and back quickly, and by the device's clock before what came last.
    for value in [false, true, false] {
        hub.plc.update([(2, good(Value::Bool(value)))]);
    }
    for value in [false, true, false] {
        let next = news(&mut values, |data| data.value.is_some()).await;
        assert_eq!(next.value, Some(Variant::Boolean(value)));
    }
}

#[tokio::test]
async fn the_ledger_is_shown_and_its_growth_is_pushed() {
    let hub = hub(|_, _| {}).await;
    let session = anonymous(&hub).await;
    let path = |name| ["Weighbridge", "Ledger", name];
    let height = find(&session, &path("Height")).await.unwrap();
    let mut heights = subscribe(&session, &height).await;
    news(&mut heights, |d| d.value == Some(Variant::UInt64(0))).await;
    hub.ledger.0.send_replace(7);
    news(&mut heights, |d| d.value == Some(Variant::UInt64(7))).await;
    let hash = find(&session, &path("LastBlockHash")).await.unwrap();
    let expected = Variant::from(hub.ledger.last_block_hash().to_string());
    assert_eq!(read(&session, &hash).await.value, Some(expected));
    let records = find(&session, &path("Records")).await.unwrap();
    let records = read(&session, &records).await;
    assert_eq!(records.value, Some(Variant::UInt64(21)));
}

#[tokio::test]
async fn devices_that_come_later_are_taken_in_and_changed_ones_are_replaced() {
    let hub = hub(|_, _| {}).await;
    let session = anonymous(&hub).await;
    let path = ["Weighbridge", "Devices", "robot-9", "speed"];
    assert_eq!(find(&session, &path).await, Err(StatusCode::BadNoMatch));
    let robot = hub.live.register(
        "robot-9".into(),
        [tag("speed", ValueKind::F64, "m/s", None)].into(),
    );
    hub.server.refresh();
    let node = find(&session, &path).await.unwrap();
    robot.update([(0, good(Value::F64(1.0)))]);
    let mut speeds = subscribe(&session, &node).await;
    news(&mut speeds, |d| d.value == Some(Variant::Double(1.0))).await;

    // The same device again, with its tags in another order.
    let tags = [
        tag("load", ValueKind::F64, "kg", None),
        tag("speed", ValueKind::F64, "m/s", None),
    ];
    let robot = hub.live.register("robot-9".into(), tags.into());
    hub.server.refresh();
    robot.update([(1, good(Value::F64(2.0)))]);
    news(&mut speeds, |d| d.value == Some(Variant::Double(2.0))).await;
}
