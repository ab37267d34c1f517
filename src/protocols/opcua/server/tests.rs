//! The server, seen by a client.

use super::*;
use crate::live_view::{DeviceLive, LiveSample, LiveView};
use crate::model::{Quality, TagSpec, Value, ValueKind};
use opcua::client::{
    Client, ClientBuilder, DataChangeCallback, IdentityToken, Session, SessionEventLoop,
};
use opcua::crypto::{CertificateStore, SecurityPolicy};
use opcua::types::{
    AttributeId, BrowsePath, DataValue, EUInformation, Error, MonitoredItemCreateRequest, NodeId,
    ObjectId, QualifiedName, Range, ReadValueId, ReferenceTypeId, RelativePath,
    RelativePathElement, StatusCode, TimestampsToReturn, UserTokenPolicy, Variant, WriteValue,
};
use std::path::Path;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
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
    server: ScadaServer,
    dir: TempDir,
}

fn tag(name: &str, kind: ValueKind, unit: &str, range: Option<(f64, f64)>) -> TagSpec {
    TagSpec {
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
    ];
    let plc = live.register("plc-1".into(), tags.into());
    let ledger = FakeLedger::new();
    let server = ScadaServer::start(config, live.clone(), ledger.clone())
        .await
        .unwrap();
    Hub {
        live,
        plc,
        ledger,
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

    hub.plc.set_link(crate::live_view::Link::Down {
        reason: "unplugged".into(),
        retry_at: 0,
    });
    let lost = StatusCode::from(Quality::BAD_NO_COMMUNICATION.0);
    news(&mut values, |data| data.status() == lost).await;

    // There and back quickly: what is shown at the end is what is true at the end.
    for value in [false, true, false, true] {
        hub.plc.update([(2, good(Value::Bool(value)))]);
    }
    news(&mut values, told(true, StatusCode::Good)).await;
    let more = tokio::time::timeout(SECOND / 2, values.recv()).await;
    assert!(more.is_err(), "{more:?}");
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
async fn nothing_can_be_written() {
    let hub = hub(|_, _| {}).await;
    hub.plc.update([(1, good(Value::U64(5)))]);
    let session = anonymous(&hub).await;
    let node = tag_node(&session, "count").await;
    let write = WriteValue {
        node_id: node.clone(),
        attribute_id: AttributeId::Value as u32,
        index_range: Default::default(),
        value: Variant::UInt64(6).into(),
    };
    let results = session.write(&[write]).await.unwrap();
    assert_eq!(results, [StatusCode::BadNotWritable]);
    assert_eq!(read(&session, &node).await.value, Some(Variant::UInt64(5)));
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

fn with_user(dir: &Path, config: &mut OpcUaServerConfig) {
    let password_file = dir.join("password");
    std::fs::write(&password_file, "open sesame\n").unwrap();
    config.users = vec![UserConfig {
        name: "scada".into(),
        password_file,
    }];
}

#[tokio::test]
async fn users_log_in_over_every_secure_policy_and_wrong_ones_do_not() {
    let hub = hub(with_user).await;
    hub.plc.update([(1, good(Value::U64(5)))]);
    let user = |password: &str| IdentityToken::new_user_name("scada", password);
    let encrypted = MessageSecurityMode::SignAndEncrypt;
    for policy in Policy::SECURE {
        for mode in Mode::ALL {
            let session = connect(&hub, policy.stack(), mode.stack(), user("open sesame"))
                .await
                .unwrap();
            let node = tag_node(&session, "count").await;
            assert_eq!(read(&session, &node).await.value, Some(Variant::UInt64(5)));
            session.disconnect().await.unwrap();
        }
    }
    let wrong = connect(
        &hub,
        SecurityPolicy::Basic256Sha256,
        encrypted,
        user("sesame"),
    );
    let status = wrong.await.err().unwrap().status();
    assert_eq!(status, StatusCode::BadIdentityTokenRejected);
}

#[tokio::test]
async fn a_user_certificate_is_let_in_and_a_strangers_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str| {
        let dir = folder.path().join(name);
        let subject = pki::Subject {
            name: name.into(),
            application_uri: format!("urn:{name}"),
            hosts: Vec::new(),
        };
        pki::ensure(&dir, &subject).unwrap();
        let (certificate, key) = (dir.join("own/cert.der"), dir.join("private/private.pem"));
        let identity = IdentityToken::new_x509_path(&certificate, key).unwrap();
        (certificate, identity)
    };
    let (certificate, operator) = make("operator");
    let (_, stranger) = make("stranger");
    let hub = hub(|dir, config| {
        let users = dir.join("users");
        std::fs::create_dir(&users).unwrap();
        std::fs::copy(certificate, users.join("operator.der")).unwrap();
        config.user_certificates = Some(users);
        config.allow_none_loopback = false;
    })
    .await;
    let policy = SecurityPolicy::Aes256Sha256RsaPss;
    let mode = MessageSecurityMode::SignAndEncrypt;
    let session = connect(&hub, policy, mode, operator).await.unwrap();
    tag_node(&session, "count").await;
    let status = connect(&hub, policy, mode, stranger).await.err().unwrap();
    assert_eq!(status.status(), StatusCode::BadIdentityTokenRejected);
}

#[tokio::test]
async fn without_security_only_discovery_is_answered_where_none_is_not_allowed() {
    let hub = hub(|dir, config| {
        with_user(dir, config);
        config.allow_none_loopback = false;
    })
    .await;
    let endpoints = client(hub.dir.path())
        .get_server_endpoints_from_url(hub.server.url())
        .await
        .unwrap();
    assert_eq!(endpoints.len(), 6);
    for endpoint in &endpoints {
        assert_ne!(endpoint.security_mode, MessageSecurityMode::None);
        let port = format!(":{}/", hub.server.port());
        assert!(endpoint.endpoint_url.as_ref().ends_with(&port));
    }
    let (_session, events) = client(hub.dir.path())
        .connect_to_endpoint_directly(hub.server.url(), IdentityToken::Anonymous)
        .unwrap();
    let ended = tokio::time::timeout(PATIENCE, events.run()).await.unwrap();
    assert!(ended.is_bad(), "{ended}");
    assert_eq!(hub.server.guard_stats().expelled.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_unknown_client_certificate_is_put_aside_until_it_is_trusted() {
    let hub = hub(|dir, config| {
        with_user(dir, config);
        config.trust = Trust::Folder;
    })
    .await;
    let user = || IdentityToken::new_user_name("scada", "open sesame");
    let policy = SecurityPolicy::Basic256Sha256;
    let mode = MessageSecurityMode::SignAndEncrypt;
    assert!(connect(&hub, policy, mode, user()).await.is_err());
    let pki = hub.dir.path().join("pki");
    let rejected: Vec<_> = std::fs::read_dir(pki.join("rejected"))
        .unwrap()
        .map(|e| e.unwrap())
        .collect();
    assert_eq!(rejected.len(), 1);
    let trusted = pki.join("trusted").join(rejected[0].file_name());
    std::fs::rename(rejected[0].path(), trusted).unwrap();
    connect(&hub, policy, mode, user()).await.unwrap();
}

#[tokio::test]
async fn beyond_loopback_it_does_not_start_open() {
    let dir = tempfile::tempdir().unwrap();
    let config = OpcUaServerConfig {
        bind: "0.0.0.0:0".parse().unwrap(),
        pki_dir: dir.path().join("pki"),
        ..Default::default()
    };
    let started = ScadaServer::start(config, LiveView::default(), FakeLedger::new()).await;
    assert!(matches!(
        started.err().unwrap(),
        ScadaError::Config(ConfigError::NoUsers(_))
    ));
}

/// Bytes as a clumsy or hostile client would send them; always the same for a seed.
fn rubbish(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let hello = b"HELF\x38\0\0\0\0\0\0\0\xff\xff\0\0\xff\xff\0\0\0\0\0\0\0\0\0\0\x18\0\0\0opc.tcp://127.0.0.1:4840/";
    let mut bytes = Vec::new();
    if seed % 3 > 0 {
        bytes.extend_from_slice(hello);
    }
    for _ in 0..next() % 4 {
        let kinds = [
            b"HELF", b"OPNF", b"MSGF", b"MSGC", b"CLOF", b"ACKF", b"ERRF",
        ];
        bytes.extend_from_slice(kinds[next() as usize % kinds.len()]);
        let sizes = [0, 7, 9, 64, 4_096, 65_535, 65_536, 0x7fff_ffff, u32::MAX];
        let size = sizes[next() as usize % sizes.len()];
        bytes.extend_from_slice(&size.to_le_bytes());
        for _ in 0..next() % 200 {
            bytes.push(next() as u8);
        }
    }
    bytes
}

#[tokio::test]
async fn rubbish_harms_nobody() {
    let hub = hub(|_, config| config.limits.connections_per_address = 100).await;
    hub.plc.update([(1, good(Value::U64(5)))]);
    let session = anonymous(&hub).await;
    let address = ("127.0.0.1", hub.server.port());
    for seed in 0..200 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The guard may hang up in the middle of it.
        let _ = stream.write_all(&rubbish(seed)).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let reading = stream.read_to_end(&mut answer);
        let _ = tokio::time::timeout(PATIENCE, reading).await.unwrap();
        assert!(answer.len() < 1_000, "seed {seed} was answered at length");
    }
    let node = tag_node(&session, "count").await;
    assert_eq!(read(&session, &node).await.value, Some(Variant::UInt64(5)));
    anonymous(&hub).await;
}

#[tokio::test]
async fn a_size_that_was_not_agreed_ends_the_connection_before_its_bytes_come() {
    let hub = hub(|_, _| {}).await;
    let address = ("127.0.0.1", hub.server.port());
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"HELF\0\0\0\x40").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"ERRF"));
    assert_eq!(answer[8..12], 0x8080_0000u32.to_le_bytes());
}

#[tokio::test]
async fn connections_are_bounded_and_a_freed_place_can_be_taken() {
    let hub = hub(|_, config| config.limits.connections_per_address = 3).await;
    let address = ("127.0.0.1", hub.server.port());
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(TcpStream::connect(address).await.unwrap());
    }
    let mut fourth = TcpStream::connect(address).await.unwrap();
    let mut answer = Vec::new();
    let reading = fourth.read_to_end(&mut answer);
    tokio::time::timeout(PATIENCE, reading)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(answer[8..12], 0x807D_0000u32.to_le_bytes());
    drop(held);
    let free = async {
        while hub.server.guard_stats().turned_away.load(Ordering::Relaxed) < 100 {
            if let Ok(session) = try_anonymous(&hub).await {
                return session;
            }
        }
        panic!("no place became free");
    };
    tokio::time::timeout(PATIENCE, free).await.unwrap();
}

async fn try_anonymous(hub: &Hub) -> Result<Arc<Session>, Error> {
    let none = MessageSecurityMode::None;
    connect(hub, SecurityPolicy::None, none, IdentityToken::Anonymous).await
}

#[tokio::test]
async fn the_certificate_can_be_read_by_the_client() {
    let hub = hub(|_, _| {}).await;
    let own = hub.dir.path().join("pki/own/cert.der");
    let certificate = CertificateStore::read_cert(&own).unwrap();
    certificate.is_hostname_valid("127.0.0.1").unwrap();
    let endpoints = client(hub.dir.path())
        .get_server_endpoints_from_url(hub.server.url())
        .await
        .unwrap();
    assert_eq!(endpoints.len(), 7);
    let offered = &endpoints[0].server_certificate;
    assert_eq!(*offered, certificate.as_byte_string());
}
