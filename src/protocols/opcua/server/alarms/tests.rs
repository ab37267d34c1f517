//! Conditions as a client meets them, over a real connection.

use super::fields::{FIELDS, Of};
use crate::access::{Right, Role};
use crate::live_view::{LiveSample, LiveView};
use crate::model::{TagSpec, ValueKind};
use crate::protocols::fake_alarms::FakeAlarms;
use crate::protocols::opcua::security::Trust;
use crate::protocols::opcua::server::{NAMESPACE, OpcUaServerConfig, ScadaPorts, ScadaServer};
use crate::protocols::ports::{LedgerPort, SessionPort};
use opcua::client::services::Publish;
use opcua::client::{ClientBuilder, EventCallback, IdentityToken, Session, UARequest};
use opcua::types::*;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use weighbridge_verifier::Hash;

const PATIENCE: Duration = Duration::from_secs(20);

struct Quiet(watch::Sender<u64>);

impl LedgerPort for Quiet {
    fn height(&self) -> u64 {
        0
    }
    fn last_block_hash(&self) -> Hash {
        Hash::ZERO
    }
    fn records(&self) -> u64 {
        0
    }
    fn changes(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

impl SessionPort for Quiet {
    fn asked(&self, _: &str, _: &str) {}
    fn ended(&self, _: &str) {}
    fn open(&self) -> usize {
        0
    }
}

struct Plant {
    live: LiveView,
    alarms: Arc<FakeAlarms>,
    server: ScadaServer,
    dir: TempDir,
}

async fn plant(roles: &[Role]) -> Plant {
    let dir = tempfile::tempdir().unwrap();
    let config = OpcUaServerConfig {
        bind: "127.0.0.1:0".parse().unwrap(),
        pki_dir: dir.path().join("pki"),
        trust: Trust::Any,
        anonymous_roles: roles.to_vec(),
        ..Default::default()
    };
    let live = LiveView::default();
    let tag = |name: &str| TagSpec {
        writable: false,
        name: name.into(),
        kind: ValueKind::F64,
        unit: "°C".into(),
        description: String::new(),
        range: None,
    };
    for device in ["plc-1", "plc-2"] {
        live.register(device.into(), [tag("temperature"), tag("pressure")].into());
    }
    let quiet = || Arc::new(Quiet(watch::Sender::new(0)));
    let alarms = FakeAlarms::new();
    let mut ports = ScadaPorts::new(live.clone(), quiet(), quiet());
    if !roles.iter().any(|role| role.carries(Right::Acknowledge)) {
        alarms.deny();
    }
    ports.alarms = Some(alarms.clone());
    let server = ScadaServer::start(config, ports).await.unwrap();
    Plant {
        live,
        alarms,
        server,
        dir,
    }
}

async fn connect(plant: &Plant) -> Arc<Session> {
    connect_by(plant, "None", MessageSecurityMode::None).await
}

async fn connect_by(plant: &Plant, policy: &str, mode: MessageSecurityMode) -> Arc<Session> {
    let url = plant.server.url();
    let endpoint = (url, policy, mode, UserTokenPolicy::anonymous());
    let mut client = ClientBuilder::new()
        .application_name("test client")
        .application_uri("urn:weighbridge:test-client")
        .product_uri("urn:weighbridge:test")
        .pki_dir(plant.dir.path().join("client"))
        .create_sample_keypair(true)
        .trust_server_certs(true)
        .session_retry_limit(0)
        .client()
        .unwrap();
    let (session, events) = client
        .connect_to_matching_endpoint(endpoint, IdentityToken::Anonymous)
        .await
        .unwrap();
    events.spawn();
    assert!(session.wait_for_connection().await);
    session
}

const SELECTED: [&str; 13] = [
    "EventType",
    "SourceName",
    "SourceNode",
    "Message",
    "Severity",
    "ActiveState/Id",
    "AckedState/Id",
    "ConfirmedState/Id",
    "ShelvingState/CurrentState",
    "Retain",
    "Comment",
    "EventId",
    "Value",
];

fn clause(of: impl Into<NodeId>, path: &str, attribute: AttributeId) -> SimpleAttributeOperand {
    let names = path.split('/').filter(|name| !name.is_empty());
    SimpleAttributeOperand {
        type_definition_id: of.into(),
        browse_path: Some(names.map(|name| QualifiedName::new(0, name)).collect()),
        attribute_id: attribute as u32,
        index_range: Default::default(),
    }
}

/// An event as its selected fields; the last is the ConditionId.
type Fields = Vec<Variant>;

struct Listening {
    subscription: u32,
    item: u32,
    events: mpsc::UnboundedReceiver<Fields>,
}

/// Listens to conditions at `node` with a queue of this size.
async fn listen(session: &Session, node: impl Into<NodeId>, queue: u32) -> Listening {
    let (send, events) = mpsc::unbounded_channel();
    let callback = EventCallback::new(move |fields, _| {
        if let Some(fields) = fields {
            let _ = send.send(fields);
        }
    });
    let subscription = session
        .create_subscription(Duration::from_millis(50), 100, 20, 0, 0, true, callback)
        .await
        .unwrap();
    // As SCADA does: inherited fields of the most special type of the standard.
    let mut select: Vec<_> = SELECTED
        .iter()
        .map(|path| match *path {
            "Value" => clause(ObjectTypeId::BaseEventType, path, AttributeId::Value),
            path => clause(ObjectTypeId::AlarmConditionType, path, AttributeId::Value),
        })
        .collect();
    select.push(clause(ObjectTypeId::ConditionType, "", AttributeId::NodeId));
    let conditions = Operand::literal(NodeId::from(ObjectTypeId::ConditionType));
    let filter = EventFilter {
        select_clauses: Some(select),
        where_clause: ContentFilter {
            elements: Some(vec![ContentFilterElement::from((
                FilterOperator::OfType,
                vec![conditions],
            ))]),
        },
    };
    let item = MonitoredItemCreateRequest {
        item_to_monitor: ReadValueId {
            node_id: node.into(),
            attribute_id: AttributeId::EventNotifier as u32,
            ..Default::default()
        },
        monitoring_mode: MonitoringMode::Reporting,
        requested_parameters: MonitoringParameters {
            queue_size: queue,
            filter: ExtensionObject::from_message(filter),
            ..Default::default()
        },
    };
    let created = session
        .create_monitored_items(subscription, TimestampsToReturn::Both, vec![item])
        .await
        .unwrap();
    let status = created[0].result.status_code;
    assert!(status.is_good(), "{status}");
    Listening {
        subscription,
        item: created[0].result.monitored_item_id,
        events,
    }
}

impl Listening {
    async fn next(&mut self) -> Fields {
        let event = tokio::time::timeout(PATIENCE, self.events.recv());
        let fields = event.await.unwrap().unwrap();
        // Every clause has its field, or all that follow have moved.
        assert_eq!(fields.len(), SELECTED.len() + 1);
        fields
    }
}

fn field<'a>(fields: &'a Fields, name: &str) -> &'a Variant {
    let at = SELECTED.iter().position(|selected| *selected == name);
    &fields[at.unwrap()]
}

fn is(fields: &Fields, name: &str) -> bool {
    matches!(field(fields, name), Variant::Boolean(true))
}

fn text(variant: &Variant) -> String {
    match variant {
        Variant::LocalizedText(text) => text.text.to_string(),
        Variant::String(text) => text.to_string(),
        Variant::NodeId(id) => id.to_string(),
        other => panic!("{other:?} is no text"),
    }
}

/// Active, acknowledged, confirmed, retained, and how it is shelved.
fn state(fields: &Fields) -> String {
    let flag = |name, c| if is(fields, name) { c } else { '.' };
    let flags = [
        flag("ActiveState/Id", 'A'),
        flag("AckedState/Id", 'K'),
        flag("ConfirmedState/Id", 'C'),
        flag("Retain", 'R'),
    ];
    let shelved = text(field(fields, "ShelvingState/CurrentState"));
    format!("{} {shelved}", String::from_iter(flags))
}

fn condition_id(fields: &Fields) -> NodeId {
    match fields.last() {
        Some(Variant::NodeId(id)) => (**id).clone(),
        other => panic!("{other:?} is no ConditionId"),
    }
}

async fn call(
    session: &Session,
    object: &NodeId,
    method: MethodId,
    arguments: Vec<Variant>,
) -> StatusCode {
    let method = NodeId::from(method);
    let call = (object.clone(), method, Some(arguments));
    session.call_one(call).await.unwrap().status_code
}

fn said(fields: &Fields, comment: &str) -> Vec<Variant> {
    let comment = LocalizedText::new("en", comment);
    vec![field(fields, "EventId").clone(), comment.into()]
}

use MethodId::{
    AcknowledgeableConditionType_Acknowledge as ACKNOWLEDGE,
    AcknowledgeableConditionType_Confirm as CONFIRM,
    AlarmConditionType_ShelvingState_OneShotShelve as ONE_SHOT,
    AlarmConditionType_ShelvingState_TimedShelve as TIMED,
    AlarmConditionType_ShelvingState_Unshelve as UNSHELVE, ConditionType_AddComment as COMMENT,
    ConditionType_ConditionRefresh as REFRESH, ConditionType_ConditionRefresh2 as REFRESH_2,
    ConditionType_Disable as DISABLE, ConditionType_Enable as ENABLE,
};

#[tokio::test]
async fn an_operator_sees_acknowledges_confirms_and_shelves() {
    let plant = plant(&[Role::Supervisor]).await;
    let session = connect(&plant).await;
    let mut events = listen(&session, ObjectId::Server, 100).await;
    plant.alarms.raise("plc-1", Some("temperature"), 600);
    let raised = events.next().await;
    assert_eq!(state(&raised), "A..R Unshelved");
    assert_eq!(text(field(&raised, "SourceName")), "plc-1/temperature");
    assert_eq!(text(field(&raised, "Message")), "severity 600");
    assert_eq!(*field(&raised, "Severity"), Variant::UInt16(600));
    assert_eq!(*field(&raised, "Value"), Variant::Double(99.5));
    let condition = condition_id(&raised);

    let acknowledged = call(
        &session,
        &condition,
        ACKNOWLEDGE,
        said(&raised, "on my way"),
    );
    assert_eq!(acknowledged.await, StatusCode::Good);
    let event = events.next().await;
    assert_eq!(state(&event), "AK.R Unshelved");
    assert_eq!(text(field(&event, "Comment")), "on my way");
    assert_ne!(field(&event, "EventId"), field(&raised, "EventId"));
    let again = call(&session, &condition, ACKNOWLEDGE, said(&raised, ""));
    assert_eq!(again.await, StatusCode::BadConditionBranchAlreadyAcked);

    let shelved = call(&session, &condition, TIMED, vec![Variant::Double(60_000.0)]);
    assert_eq!(shelved.await, StatusCode::Good);
    assert_eq!(state(&events.next().await), "AK.R Timed Shelved");
    let too_long = call(&session, &condition, TIMED, vec![Variant::Double(1e12)]);
    assert_eq!(too_long.await, StatusCode::BadConditionAlreadyShelved);
    // Also on the shelving state itself.
    let path = format!("{}#ShelvingState", condition_path(&condition));
    let shelving = NodeId::new(condition.namespace, path.as_str());
    let one_shot = call(&session, &shelving, ONE_SHOT, vec![]);
    assert_eq!(one_shot.await, StatusCode::Good);
    assert_eq!(state(&events.next().await), "AK.R One Shot Shelved");
    assert_eq!(
        call(&session, &shelving, UNSHELVE, vec![]).await,
        StatusCode::Good
    );
    assert_eq!(state(&events.next().await), "AK.R Unshelved");
    assert_eq!(
        call(&session, &shelving, UNSHELVE, vec![]).await,
        StatusCode::BadConditionNotShelved
    );
    let endless = call(&session, &condition, TIMED, vec![Variant::Double(1e12)]);
    assert_eq!(endless.await, StatusCode::BadShelvingTimeOutOfRange);

    plant.alarms.clear("plc-1", Some("temperature"));
    assert_eq!(state(&events.next().await), ".K.R Unshelved");
    let confirmed = call(&session, &condition, CONFIRM, said(&raised, "fan replaced"));
    assert_eq!(confirmed.await, StatusCode::Good);
    assert_eq!(state(&events.next().await), ".KC. Unshelved");
    let comment = call(&session, &condition, COMMENT, said(&raised, "done"));
    assert_eq!(comment.await, StatusCode::Good);
    assert_eq!(text(field(&events.next().await, "Comment")), "done");
}

fn condition_path(id: &NodeId) -> String {
    match &id.identifier {
        Identifier::String(path) => path.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_call_is_said_by_its_status() {
    let plant = plant(&[Role::Supervisor]).await;
    let session = connect(&plant).await;
    let mut events = listen(&session, ObjectId::Server, 100).await;
    plant.alarms.raise("plc-1", Some("temperature"), 300);
    let first = events.next().await;
    plant.alarms.clear("plc-1", Some("temperature"));
    plant.alarms.raise("plc-1", Some("temperature"), 300);
    let condition = condition_id(&first);
    let outdated = call(&session, &condition, ACKNOWLEDGE, said(&first, ""));
    assert_eq!(outdated.await, StatusCode::BadEventIdUnknown);
    let comment = Variant::from(LocalizedText::from(""));
    let strange = vec![ByteString::from(vec![1, 2, 3]).into(), comment.clone()];
    let strange = call(&session, &condition, ACKNOWLEDGE, strange);
    assert_eq!(strange.await, StatusCode::BadEventIdUnknown);
    let unread = call(&session, &condition, CONFIRM, said(&first, ""));
    assert_eq!(unread.await, StatusCode::BadEventIdUnknown);
    let table = [
        (vec![], StatusCode::BadArgumentsMissing),
        (
            vec![Variant::from(1), comment.clone()],
            StatusCode::BadInvalidArgument,
        ),
        (
            vec![comment.clone(), comment.clone(), comment],
            StatusCode::BadTooManyArguments,
        ),
    ];
    for (arguments, status) in table {
        let answer = call(&session, &condition, ACKNOWLEDGE, arguments).await;
        assert_eq!(answer, status);
    }
    let on_type = NodeId::from(ObjectTypeId::AcknowledgeableConditionType);
    let on_type = call(&session, &on_type, ACKNOWLEDGE, said(&first, ""));
    assert_eq!(on_type.await, StatusCode::BadNodeIdInvalid);
}

#[tokio::test]
async fn an_observer_sees_and_may_not_acknowledge() {
    let plant = plant(&[Role::Observer]).await;
    let session = connect(&plant).await;
    let mut events = listen(&session, ObjectId::Server, 100).await;
    plant.alarms.raise("plc-1", None, 750);
    let raised = events.next().await;
    let condition = condition_id(&raised);
    let denied = call(&session, &condition, ACKNOWLEDGE, said(&raised, ""));
    assert_eq!(denied.await, StatusCode::BadUserAccessDenied);
}

/// Names of the events up to the end of a refresh: severities, and marks.
async fn refreshed(events: &mut Listening) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        let event = events.next().await;
        let Variant::NodeId(kind) = field(&event, "EventType") else {
            panic!("{event:?}");
        };
        seen.push(match **kind == ObjectTypeId::RefreshStartEventType {
            true => "start".to_owned(),
            false if **kind == ObjectTypeId::RefreshEndEventType => "end".to_owned(),
            false => text(field(&event, "SourceName")),
        });
        if seen.last().is_some_and(|last| last == "end") {
            return seen;
        }
    }
}

#[tokio::test]
async fn a_refresh_goes_to_who_asked_and_to_nobody_else() {
    let plant = plant(&[Role::Observer]).await;
    for tag in ["temperature", "pressure"] {
        plant.alarms.raise("plc-1", Some(tag), 600);
    }
    plant.alarms.raise("plc-2", None, 750);
    let (session, other) = (connect(&plant).await, connect(&plant).await);
    // A queue of 0 is for the server to choose, and loses nothing.
    let mut events = listen(&session, ObjectId::Server, 0).await;
    let mut bystander = listen(&other, ObjectId::Server, 10).await;
    let all = [
        "start",
        "plc-1/pressure",
        "plc-1/temperature",
        "plc-2",
        "end",
    ];
    let subscription = Variant::from(events.subscription);
    let of_type = NodeId::from(ObjectTypeId::ConditionType);
    let refresh = call(&session, &of_type, REFRESH, vec![subscription.clone()]);
    assert_eq!(refresh.await, StatusCode::Good);
    assert_eq!(refreshed(&mut events).await, all);

    // At a device there are its own, in a second item of the subscription or alone.
    let namespace = session.get_namespace_index(NAMESPACE).await.unwrap();
    let device = NodeId::new(namespace, "Weighbridge/Devices/plc-1");
    let mut of_device = listen(&session, device, 100).await;
    let both = vec![
        Variant::from(of_device.subscription),
        Variant::from(of_device.item),
    ];
    let refresh = call(&session, &of_type, REFRESH_2, both);
    assert_eq!(refresh.await, StatusCode::Good);
    let of_plc = ["start", "plc-1/pressure", "plc-1/temperature", "end"];
    assert_eq!(refreshed(&mut of_device).await, of_plc);
    let wrong_item = vec![subscription.clone(), Variant::from(999_999u32)];
    let wrong_item = call(&session, &of_type, REFRESH_2, wrong_item);
    assert_eq!(wrong_item.await, StatusCode::BadMonitoredItemIdInvalid);
    // A subscription is its session's own.
    let stolen = call(&other, &of_type, REFRESH, vec![subscription]);
    assert_eq!(stolen.await, StatusCode::BadSubscriptionIdInvalid);

    // The bystander's first event is the first change, not the refreshes.
    plant.alarms.raise("plc-2", Some("pressure"), 300);
    let event = bystander.next().await;
    assert_eq!(text(field(&event, "SourceName")), "plc-2/pressure");
    let event = events.next().await;
    assert_eq!(text(field(&event, "SourceName")), "plc-2/pressure");
}

#[tokio::test]
async fn a_client_that_leaves_the_queue_to_the_server_gets_every_event_in_order() {
    let plant = plant(&[Role::Observer]).await;
    let session = connect(&plant).await;
    let mut events = listen(&session, ObjectId::Server, 0).await;
    // Far more than one in a publishing interval.
    for _ in 0..10 {
        plant.alarms.raise("plc-1", Some("temperature"), 600);
        plant.alarms.clear("plc-1", Some("temperature"));
    }
    for n in 0..20 {
        let event = events.next().await;
        assert_eq!(is(&event, "ActiveState/Id"), n % 2 == 0, "event {n}");
    }
}

#[tokio::test]
async fn a_disabled_condition_is_not_told_of_until_it_is_enabled() {
    let plant = plant(&[Role::Supervisor]).await;
    let session = connect(&plant).await;
    let mut events = listen(&session, ObjectId::Server, 100).await;
    plant.alarms.raise("plc-1", Some("temperature"), 600);
    let raised = events.next().await;
    let condition = condition_id(&raised);
    let enabled = call(&session, &condition, ENABLE, vec![]).await;
    assert_eq!(enabled, StatusCode::BadConditionAlreadyEnabled);
    let disabled = call(&session, &condition, DISABLE, vec![]).await;
    assert_eq!(disabled, StatusCode::Good);
    // What it is is told, its state is not.
    let event = events.next().await;
    assert_eq!(text(field(&event, "SourceName")), "plc-1/temperature");
    let hidden = Variant::from(StatusCode::BadConditionDisabled);
    assert_eq!(*field(&event, "ActiveState/Id"), hidden);
    assert_eq!(*field(&event, "Retain"), Variant::Boolean(false));
    let node = |path: &str| {
        let path = format!("{}#{path}", condition_path(&condition));
        ReadValueId::from(NodeId::new(condition.namespace, path.as_str()))
    };
    let nodes = [node("EnabledState/Id"), node("AckedState/Id")];
    let read = session.read(&nodes, TimestampsToReturn::Both, 0.0);
    let read = read.await.unwrap();
    assert_eq!(read[0].value, Some(Variant::Boolean(false)));
    assert_eq!(read[1].status, Some(StatusCode::BadConditionDisabled));
    for (method, status) in [
        (DISABLE, StatusCode::BadConditionAlreadyDisabled),
        (ONE_SHOT, StatusCode::BadConditionDisabled),
    ] {
        assert_eq!(call(&session, &condition, method, vec![]).await, status);
    }
    let refused = call(&session, &condition, ACKNOWLEDGE, said(&raised, ""));
    assert_eq!(refused.await, StatusCode::BadConditionDisabled);

    // Meanwhile it is over and raised again; the next event is that it is enabled.
    plant.alarms.clear("plc-1", Some("temperature"));
    plant.alarms.raise("plc-1", Some("temperature"), 800);
    let refresh = vec![Variant::from(events.subscription)];
    let of_type = NodeId::from(ObjectTypeId::ConditionType);
    let refresh = call(&session, &of_type, REFRESH, refresh).await;
    assert_eq!(refresh, StatusCode::Good);
    assert_eq!(refreshed(&mut events).await, ["start", "end"]);
    let enabled = call(&session, &condition, ENABLE, vec![]).await;
    assert_eq!(enabled, StatusCode::Good);
    let event = events.next().await;
    assert_eq!(state(&event), "A..R Unshelved");
    assert_eq!(*field(&event, "Severity"), Variant::UInt16(800));
}

#[tokio::test]
async fn a_queue_that_overflows_says_so_and_keeps_the_newest() {
    let plant = plant(&[Role::Observer]).await;
    let session = connect(&plant).await;
    let mut events = listen(&session, ObjectId::Server, 2).await;
    // The server gathers for it, and it fetches nothing.
    let (of, items) = (events.subscription, [events.item]);
    let mode = |mode| session.set_monitoring_mode(of, mode, &items);
    mode(MonitoringMode::Sampling).await.unwrap();
    let mut bystander = listen(&session, ObjectId::Server, 2).await;
    for n in 0..100u16 {
        plant.alarms.raise("plc-1", Some("temperature"), 1 + n);
        // In step with the server.
        bystander.next().await;
    }
    mode(MonitoringMode::Reporting).await.unwrap();
    // What was in its queue already comes first, then the word that something is lost.
    let kind = |event: &Fields| field(event, "EventType").clone();
    let is = |event: &Fields, of: ObjectTypeId| kind(event) == Variant::from(NodeId::from(of));
    let mut event = events.next().await;
    while !is(&event, ObjectTypeId::EventQueueOverflowEventType) {
        assert_eq!(text(field(&event, "SourceName")), "plc-1/temperature");
        event = events.next().await;
    }
    let event = events.next().await;
    assert!(
        is(&event, ObjectTypeId::RefreshRequiredEventType),
        "{event:?}"
    );
    let mut severity = 0;
    let mut kept = 0;
    while severity < 100 {
        let Variant::UInt16(next) = *field(&events.next().await, "Severity") else {
            panic!("no severity");
        };
        assert!(
            severity == 0 || next == severity + 1,
            "{next} after {severity}"
        );
        severity = next;
        kept += 1;
    }
    assert!((30..=40).contains(&kept), "{kept}");
}

#[tokio::test]
async fn a_subscription_that_moves_to_another_session_brings_events_and_values() {
    let plant = plant(&[Role::Observer]).await;
    // Who is anonymous must show by a signature that it is the same client (OPC 10000-4, 5.14.7).
    let secure = || {
        connect_by(
            &plant,
            "Basic256Sha256",
            MessageSecurityMode::SignAndEncrypt,
        )
    };
    let (old, new) = (secure().await, secure().await);
    let mut before = listen(&old, ObjectId::Server, 100).await;
    let namespace = old.get_namespace_index(NAMESPACE).await.unwrap();
    let tag = NodeId::new(namespace, "Weighbridge/Devices/plc-1/temperature");
    let created = old
        .create_monitored_items(
            before.subscription,
            TimestampsToReturn::Both,
            vec![MonitoredItemCreateRequest::new(
                tag.into(),
                MonitoringMode::Reporting,
                MonitoringParameters {
                    client_handle: 77,
                    queue_size: 10,
                    ..Default::default()
                },
            )],
        )
        .await
        .unwrap();
    assert!(created[0].result.status_code.is_good());
    plant.alarms.raise("plc-1", Some("temperature"), 300);
    before.next().await;

    let moves = [before.subscription];
    let moved = new.transfer_subscriptions(&moves, true).await.unwrap();
    assert!(moved[0].status_code.is_good(), "{:?}", moved[0].status_code);
    plant.alarms.raise("plc-1", Some("temperature"), 600);
    let live = plant.live.device("plc-1").unwrap();
    live.update([(
        0,
        LiveSample {
            time: crate::model::now(),
            value: crate::model::Value::F64(42.0),
            quality: crate::model::Quality::GOOD,
        },
    )]);
    // The client's stack knows nothing of it there: the messages are fetched by hand.
    let (mut severity, mut value) = (None, None);
    let fetched = async {
        while severity.is_none() || value.is_none() {
            let publish = Publish::new(&new).send(new.channel()).await.unwrap();
            assert_eq!(publish.subscription_id, before.subscription);
            let data = publish.notification_message.notification_data;
            for data in data.into_iter().flatten() {
                match_extension_object_owned!(data,
                    events: EventNotificationList => {
                        for event in events.events.into_iter().flatten() {
                            let fields = event.event_fields.unwrap_or_default();
                            if *field(&fields, "Severity") == Variant::UInt16(600) {
                                severity = Some(600);
                            }
                        }
                    },
                    changes: DataChangeNotification => {
                        for item in changes.monitored_items.into_iter().flatten() {
                            if item.value.value == Some(Variant::Double(42.0)) {
                                value = Some(42.0);
                            }
                        }
                    },
                );
            }
        }
    };
    tokio::time::timeout(PATIENCE, fetched).await.unwrap();
    // Who had it can do nothing with it any more.
    let refresh = vec![Variant::from(before.subscription)];
    let of_type = NodeId::from(ObjectTypeId::ConditionType);
    let stolen = call(&old, &of_type, REFRESH, refresh.clone()).await;
    assert_eq!(stolen, StatusCode::BadSubscriptionIdInvalid);
    assert_eq!(
        call(&new, &of_type, REFRESH, refresh).await,
        StatusCode::Good
    );
}

#[tokio::test]
async fn the_instance_can_be_browsed_and_read() {
    let plant = plant(&[Role::Observer]).await;
    let session = connect(&plant).await;
    let mut events = listen(&session, ObjectId::Server, 100).await;
    plant.alarms.raise("plc-1", Some("temperature"), 600);
    let raised = events.next().await;
    let condition = condition_id(&raised);
    let element = |name: &str| RelativePathElement {
        reference_type_id: ReferenceTypeId::HierarchicalReferences.into(),
        is_inverse: false,
        include_subtypes: true,
        target_name: QualifiedName::new(
            match name {
                "Chart" | "Rule" | "Value" | "Statistic" | "Limit" => condition.namespace,
                _ => 0,
            },
            name,
        ),
    };
    let paths: Vec<_> = FIELDS
        .iter()
        .filter(|f| Of::ControlChart.has(f.of))
        .collect();
    let wanted: Vec<_> = paths
        .iter()
        .map(|field| BrowsePath {
            starting_node: condition.clone(),
            relative_path: RelativePath {
                elements: Some(field.path.split('/').map(element).collect()),
            },
        })
        .chain(
            ["Acknowledge", "Confirm", "AddComment"].map(|method| BrowsePath {
                starting_node: condition.clone(),
                relative_path: RelativePath {
                    elements: Some(vec![element(method)]),
                },
            }),
        )
        .collect();
    let found = session
        .translate_browse_paths_to_node_ids(&wanted)
        .await
        .unwrap();
    for (path, found) in wanted.iter().zip(&found) {
        assert!(found.status_code.is_good(), "{path:?}");
    }
    let read: Vec<_> = found[..paths.len()]
        .iter()
        .map(|found| found.targets.as_ref().unwrap()[0].target_id.node_id.clone())
        .map(ReadValueId::from)
        .collect();
    let values = session
        .read(&read, TimestampsToReturn::Both, 0.0)
        .await
        .unwrap();
    let value = |path: &str| {
        let at = paths.iter().position(|field| field.path == path).unwrap();
        values[at].value.clone().unwrap()
    };
    assert_eq!(value("ActiveState/Id"), Variant::from(true));
    assert_eq!(value("AckedState/Id"), Variant::from(false));
    assert_eq!(value("Limit"), Variant::Double(90.0));
    assert_eq!(text(&value("Rule")), "beyond_limit");
    assert_eq!(value("EventId"), *field(&raised, "EventId"));

    // From the tag there is a way to its condition, and from the server to the device.
    let browse = |node: NodeId, reference: ReferenceTypeId| BrowseDescription {
        node_id: node,
        browse_direction: BrowseDirection::Forward,
        reference_type_id: reference.into(),
        include_subtypes: true,
        node_class_mask: 0,
        result_mask: BrowseResultMask::All as u32,
    };
    let node = |path: &str| NodeId::new(condition.namespace, path);
    let device = node("Weighbridge/Devices/plc-1");
    let tag = node("Weighbridge/Devices/plc-1/temperature");
    let ways = [
        (
            NodeId::from(ObjectId::Server),
            ReferenceTypeId::HasNotifier,
            device.clone(),
        ),
        (device, ReferenceTypeId::HasEventSource, tag.clone()),
        (tag, ReferenceTypeId::HasCondition, condition.clone()),
    ];
    for (from, by, to) in ways {
        let found = session
            .browse(&[browse(from, by)], 100, None)
            .await
            .unwrap();
        let targets = found[0].references.clone().unwrap_or_default();
        assert!(
            targets.iter().any(|r| r.node_id.node_id == to),
            "{by:?}: {targets:?}"
        );
    }
}
