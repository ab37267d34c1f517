//! What clients may do to machines, and methods.

use super::*;
use crate::access::{Caller, Gate, Right, Role};
use crate::model::{Nanos, now};
use crate::protocols::control::{MethodCall, WriteFault, Written};
use crate::protocols::ports::{ControlError, HistoryError, PastRequest, PastTag};
use async_trait::async_trait;
use opcua::types::{CallMethodRequest, DateTime, WriteValue};

/// Bits of an access level (OPC 10000-3, 8.57).
const READ: u8 = 1;
pub(super) const READ_AND_WRITE: u8 = 3;

/// Writes what it is told to, refuses whom it must, and remembers both.
pub(super) struct FakeControl {
    gate: Gate,
    written: parking_lot::Mutex<Vec<(String, String, Value)>>,
    refused: parking_lot::Mutex<Vec<String>>,
}

impl FakeControl {
    pub(super) fn new(gate: &Gate) -> Self {
        Self {
            gate: gate.clone(),
            written: Default::default(),
            refused: Default::default(),
        }
    }
}

#[async_trait]
impl ControlPort for FakeControl {
    async fn write(
        &self,
        caller: &Caller,
        device: &str,
        writes: Vec<(String, Value)>,
    ) -> Result<Written, ControlError> {
        if !self.gate.somewhere(&caller.user, Right::Write, now()) {
            self.refused.lock().push(caller.user.clone());
            return Err(ControlError::Denied("they may not write".into()));
        }
        let mut answers = Vec::new();
        for (tag, value) in writes {
            let answer = match &value {
                Value::Text(text) if text == "unknown" => {
                    Err(WriteFault::Refused("no such recipe".into()))
                }
                Value::F64(50.0) => Err(WriteFault::ReadBack(Value::F64(49.9))),
                Value::F64(60.0) => return Err(ControlError::Unreachable("unplugged".into())),
                _ => {
                    let done = (device.to_owned(), tag, value.clone());
                    self.written.lock().push(done);
                    Ok(value)
                }
            };
            answers.push(answer);
        }
        Ok(answers)
    }

    async fn call(
        &self,
        _: &Caller,
        _: &str,
        call: MethodCall,
    ) -> Result<Result<Vec<Value>, WriteFault>, ControlError> {
        Err(ControlError::Unknown(call.method))
    }
}

/// Has evidence of one sample.
pub(super) struct FakeHistory(pub(super) Gate);

#[async_trait]
impl HistoryPort for FakeHistory {
    async fn open(
        &self,
        _: &Caller,
        request: PastRequest,
    ) -> Result<Vec<Arc<dyn PastTag>>, HistoryError> {
        Err(HistoryError::Unknown(format!("{request:?}")))
    }

    async fn evidence(
        &self,
        caller: &Caller,
        device: &str,
        tag: &str,
        time: Nanos,
    ) -> Result<Vec<u8>, HistoryError> {
        let may = self.0.somewhere(&caller.user, Right::Evidence, now());
        match (may, device, tag) {
            (false, ..) => Err(HistoryError::Denied("they may not".into())),
            (true, "plc-1", "count") => Ok(format!("proof at {time}").into_bytes()),
            _ => Err(HistoryError::Unknown("no such tag".into())),
        }
    }
}

async fn hub_with_roles(roles: &[Role]) -> Hub {
    hub(|_, config| config.anonymous_roles = roles.to_vec()).await
}

pub(super) async fn user_access_level(session: &Session, node: &NodeId) -> u8 {
    let read = ReadValueId {
        attribute_id: AttributeId::UserAccessLevel as u32,
        ..ReadValueId::from(node.clone())
    };
    let neither = TimestampsToReturn::Neither;
    let level = session.read(&[read], neither, 0.0).await.unwrap().remove(0);
    match level.value {
        Some(Variant::Byte(bits)) => bits & READ_AND_WRITE,
        other => panic!("{other:?}"),
    }
}

fn write_value(node: &NodeId, value: impl Into<Variant>) -> WriteValue {
    WriteValue {
        node_id: node.clone(),
        attribute_id: AttributeId::Value as u32,
        index_range: Default::default(),
        value: value.into().into(),
    }
}

#[tokio::test]
async fn writes_reach_the_machine_and_every_refusal_has_its_own_code() {
    let hub = hub_with_roles(&[Role::Operator]).await;
    let session = anonymous(&hub).await;
    let setpoint = tag_node(&session, "setpoint").await;
    let recipe = tag_node(&session, "recipe").await;
    let count = tag_node(&session, "count").await;
    let nobody = NodeId::new(setpoint.namespace, "Weighbridge/Devices/plc-1/nothing");
    let level = user_access_level(&session, &setpoint).await;
    assert_eq!(level, READ_AND_WRITE);
    let level = user_access_level(&session, &count).await;
    assert_eq!(level, READ);

    use StatusCode as S;
    let writes = [
        (write_value(&setpoint, 41.5), S::Good),
        (write_value(&setpoint, 42i32), S::Good),
        (write_value(&recipe, "bread"), S::Good),
        (write_value(&setpoint, 100.5f32), S::BadOutOfRange),
        (write_value(&setpoint, "hot"), S::BadTypeMismatch),
        (write_value(&setpoint, 50.0), S::GoodClamped),
        (write_value(&recipe, "unknown"), S::BadDeviceFailure),
        (write_value(&count, 6u64), S::BadNotWritable),
        (write_value(&nobody, 1.0), S::BadNodeIdUnknown),
    ];
    let (requests, expected): (Vec<_>, Vec<_>) = writes.into_iter().unzip();
    assert_eq!(session.write(&requests).await.unwrap(), expected);
    let unreachable = session.write(&[write_value(&setpoint, 60.0)]).await;
    assert_eq!(unreachable.unwrap(), [S::BadCommunicationError]);
    let written = hub.control.written.lock().clone();
    let on_plc = |tag: &str, value| ("plc-1".to_owned(), tag.to_owned(), value);
    let expected = [
        on_plc("setpoint", Value::F64(41.5)),
        on_plc("setpoint", Value::F64(42.0)),
        on_plc("recipe", Value::Text("bread".into())),
    ];
    assert_eq!(written, expected);
}

#[tokio::test]
async fn who_may_not_write_is_refused_where_that_is_recorded() {
    let hub = hub_with_roles(&[Role::Observer]).await;
    let session = anonymous(&hub).await;
    let setpoint = tag_node(&session, "setpoint").await;
    let level = user_access_level(&session, &setpoint).await;
    assert_eq!(level, READ);
    let results = session.write(&[write_value(&setpoint, 1.0)]).await.unwrap();
    assert_eq!(results, [StatusCode::BadUserAccessDenied]);
    assert_eq!(*hub.control.refused.lock(), ["anonymous"]);
    assert!(hub.control.written.lock().is_empty());
}

#[tokio::test]
async fn who_may_not_look_sees_no_value() {
    let hub = hub_with_roles(&[]).await;
    hub.plc.update([(1, good(Value::U64(5)))]);
    let session = anonymous(&hub).await;
    let count = tag_node(&session, "count").await;
    let data = read(&session, &count).await;
    assert_eq!(data.status, Some(StatusCode::BadUserAccessDenied));
    assert!(data.value.is_none_or(|v| v == Variant::Empty));
}

async fn evidence(session: &Session, arguments: Vec<Variant>) -> (StatusCode, Option<Variant>) {
    let object_id = find(session, &["Weighbridge"]).await.unwrap();
    let method = find(session, &["Weighbridge", "GetEvidence"]).await;
    let call = CallMethodRequest {
        object_id,
        method_id: method.unwrap(),
        input_arguments: Some(arguments),
    };
    let result = session.call_one(call).await.unwrap();
    let output = result.output_arguments.and_then(|mut o| o.pop());
    (result.status_code, output)
}

#[tokio::test]
async fn evidence_is_handed_out_to_those_who_may_have_it() {
    let auditing = hub_with_roles(&[Role::Auditor]).await;
    let session = anonymous(&auditing).await;
    let time = DateTime::from(116_444_736_000_000_000 + THEN / 100);
    let ask = |tag: &str| {
        let device = Variant::from("plc-1");
        vec![device, Variant::from(tag), Variant::from(time)]
    };
    let (status, file) = evidence(&session, ask("count")).await;
    assert_eq!(status, StatusCode::Good);
    let expected = format!("proof at {}", THEN + 99).into_bytes();
    assert_eq!(file, Some(Variant::ByteString(expected.into())));
    let (status, _) = evidence(&session, ask("nothing")).await;
    assert_eq!(status, StatusCode::BadNotFound);
    let (status, _) = evidence(&session, ask("count")[..2].to_vec()).await;
    assert_eq!(status, StatusCode::BadArgumentsMissing);

    let observing = hub_with_roles(&[Role::Observer]).await;
    let session = anonymous(&observing).await;
    let (status, file) = evidence(&session, ask("count")).await;
    assert_eq!((status, file), (StatusCode::BadUserAccessDenied, None));
}
