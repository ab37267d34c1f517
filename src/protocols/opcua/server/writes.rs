//! Writes of clients, on their way to the machines.

use super::parts::Parts;
use crate::access::Caller;
use crate::model::{TagSpec, Value, ValueKind};
use crate::protocols::control::WriteFault;
use crate::protocols::ports::{ControlError, ControlPort};
use opcua::server::node_manager::{ParsedWriteValue, WriteNode};
use opcua::types::{AttributeId, NumericRange, StatusCode, Variant};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The largest integer below which every integer is a double.
const EXACT: i128 = 1 << 53;

/// What is written of a device: the places among the nodes that were asked for, and the writes.
type OfDevice = (Vec<usize>, Vec<(String, Value)>);

/// What cannot be written of a device: the places among the nodes, their tags, and why the last of them
/// cannot.
type Refused = (Vec<usize>, Vec<String>, String);

/// Writes what may be written, in one request a device, and sets the status of each node.
pub(super) async fn write(
    parts: &Parts,
    control: Option<&Arc<dyn ControlPort>>,
    caller: &Caller,
    nodes: &mut [&mut WriteNode],
) {
    let mut devices: BTreeMap<_, OfDevice> = BTreeMap::new();
    let mut refused: BTreeMap<_, Refused> = BTreeMap::new();
    for (place, node) in nodes.iter_mut().enumerate() {
        let asked = node.value();
        let Some((live, tag)) = parts.tags.of(&asked.node_id) else {
            node.set_status(StatusCode::BadNotWritable);
            continue;
        };
        match wanted(asked, &tag, control.is_some()) {
            Ok(value) => {
                let (places, writes) = devices.entry(live).or_default();
                places.push(place);
                writes.push((tag.name.to_string(), value));
            }
            Err(status) => {
                node.set_status(status);
                let (places, tags, why) = refused.entry(live).or_default();
                places.push(place);
                tags.push(tag.name.to_string());
                *why = format!("{status}");
            }
        }
    }
    let Some(control) = control else {
        return;
    };
    for (device, (places, tags, why)) in refused {
        // What fits no tag is not passed on, but who tried it is on record before they hear of it.
        let why = ControlError::Unknown(why);
        match control.refuse(caller, &device, &tags, why).await {
            ControlError::Unknown(_) => {}
            other => {
                for place in places {
                    if let Some(node) = nodes.get_mut(place) {
                        node.set_status(refusal(&other));
                    }
                }
            }
        }
    }
    let requests = devices
        .into_iter()
        .map(|(device, (places, writes))| async move {
            let count = writes.len();
            let statuses = match control.write(caller, &device, writes).await {
                Ok(written) => written.into_iter().map(outcome).collect(),
                Err(error) => {
                    tracing::debug!(user = caller.user, %device, "a write was not done: {error}");
                    vec![refusal(&error); count]
                }
            };
            (places, statuses)
        });
    for (places, statuses) in futures_util::future::join_all(requests).await {
        for (place, status) in places.into_iter().zip(statuses) {
            if let Some(node) = nodes.get_mut(place) {
                node.set_status(status);
            }
        }
    }
}

/// The value that is to be written, of the tag's kind. Who may write is decided, and recorded, further
/// on.
fn wanted(asked: &ParsedWriteValue, tag: &TagSpec, controlled: bool) -> Result<Value, StatusCode> {
    if asked.attribute_id != AttributeId::Value || !tag.writable || !controlled {
        return Err(StatusCode::BadNotWritable);
    }
    // Timestamps are ignored, although clients of some stacks send them: the device's own count.
    if asked.index_range != NumericRange::None || asked.value.status.is_some_and(|s| !s.is_good()) {
        return Err(StatusCode::BadWriteNotSupported);
    }
    let value = match &asked.value.value {
        Some(value) => convert(value, tag.kind)?,
        None => return Err(StatusCode::BadTypeMismatch),
    };
    match (tag.range, number(&value)) {
        (Some((low, high)), Some(number)) if !(low..=high).contains(&number) => {
            Err(StatusCode::BadOutOfRange)
        }
        _ => Ok(value),
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::F64(v) => Some(*v),
        Value::I64(v) => Some(*v as f64),
        Value::U64(v) => Some(*v as f64),
        Value::Bool(_) | Value::Text(_) | Value::Bytes(_) => None,
    }
}

/// Converts what a client sent where that loses nothing.
fn convert(value: &Variant, kind: ValueKind) -> Result<Value, StatusCode> {
    let range = |_| StatusCode::BadOutOfRange;
    match (kind, value) {
        (ValueKind::Bool, Variant::Boolean(v)) => Ok(Value::Bool(*v)),
        (ValueKind::Text, Variant::String(v)) => match v.value() {
            Some(text) => Ok(Value::Text(text.clone())),
            None => Err(StatusCode::BadTypeMismatch),
        },
        (ValueKind::Text, Variant::LocalizedText(v)) => Ok(Value::Text(v.text.to_string())),
        (ValueKind::Bytes, Variant::ByteString(v)) => {
            let bytes = v.value.clone().ok_or(StatusCode::BadTypeMismatch)?;
            Ok(Value::Bytes(bytes))
        }
        (ValueKind::F64, Variant::Double(v)) => finite(*v),
        (ValueKind::F64, Variant::Float(v)) => finite(f64::from(*v)),
        (ValueKind::F64, other) => match integer(other)? {
            v if v.abs() <= EXACT => Ok(Value::F64(v as f64)),
            _ => Err(StatusCode::BadOutOfRange),
        },
        (ValueKind::I64, other) => Ok(Value::I64(integer(other)?.try_into().map_err(range)?)),
        (ValueKind::U64, other) => Ok(Value::U64(integer(other)?.try_into().map_err(range)?)),
        _ => Err(StatusCode::BadTypeMismatch),
    }
}

fn finite(value: f64) -> Result<Value, StatusCode> {
    match value.is_finite() {
        true => Ok(Value::F64(value)),
        false => Err(StatusCode::BadOutOfRange),
    }
}

/// The integer that a number is.
fn integer(value: &Variant) -> Result<i128, StatusCode> {
    let whole = |v: f64| match v.fract() == 0.0 && v.abs() <= EXACT as f64 {
        true => Ok(v as i128),
        false => Err(StatusCode::BadTypeMismatch),
    };
    Ok(match value {
        Variant::SByte(v) => (*v).into(),
        Variant::Byte(v) => (*v).into(),
        Variant::Int16(v) => (*v).into(),
        Variant::UInt16(v) => (*v).into(),
        Variant::Int32(v) => (*v).into(),
        Variant::UInt32(v) => (*v).into(),
        Variant::Int64(v) => (*v).into(),
        Variant::UInt64(v) => (*v).into(),
        Variant::Float(v) => whole(f64::from(*v))?,
        Variant::Double(v) => whole(*v)?,
        _ => return Err(StatusCode::BadTypeMismatch),
    })
}

/// What came of one write.
fn outcome(written: Result<Value, WriteFault>) -> StatusCode {
    match written {
        Ok(_) => StatusCode::Good,
        Err(fault) => {
            let status = match fault {
                WriteFault::ReadOnly(_) => StatusCode::BadNotWritable,
                WriteFault::Value(_) => StatusCode::BadOutOfRange,
                WriteFault::Refused(_) => StatusCode::BadDeviceFailure,
                WriteFault::Withheld => StatusCode::BadOperationAbandoned,
                // The device took it, and made something else of it.
                WriteFault::ReadBack(_) => StatusCode::GoodClamped,
                WriteFault::NotReadBack(_) => StatusCode::GoodCompletesAsynchronously,
            };
            tracing::debug!("a write ended with {status}: {fault}");
            status
        }
    }
}

fn refusal(error: &ControlError) -> StatusCode {
    match error {
        ControlError::Denied(_) => StatusCode::BadUserAccessDenied,
        ControlError::Unknown(_) => StatusCode::BadNotWritable,
        ControlError::Unreachable(_) => StatusCode::BadCommunicationError,
        ControlError::NotRecorded(_) => StatusCode::BadResourceUnavailable,
        ControlError::Busy => StatusCode::BadTooManyOperations,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_loses_nothing_is_converted_and_the_rest_refused() {
        use StatusCode as S;
        let cases = [
            (ValueKind::F64, Variant::Int32(-7), Ok(Value::F64(-7.0))),
            (ValueKind::F64, Variant::Float(0.5), Ok(Value::F64(0.5))),
            (
                ValueKind::F64,
                Variant::Double(f64::NAN),
                Err(S::BadOutOfRange),
            ),
            (
                ValueKind::F64,
                Variant::UInt64(u64::MAX),
                Err(S::BadOutOfRange),
            ),
            (
                ValueKind::F64,
                Variant::Boolean(true),
                Err(S::BadTypeMismatch),
            ),
            (ValueKind::I64, Variant::Double(3.0), Ok(Value::I64(3))),
            (
                ValueKind::I64,
                Variant::Double(3.5),
                Err(S::BadTypeMismatch),
            ),
            (
                ValueKind::I64,
                Variant::UInt64(u64::MAX),
                Err(S::BadOutOfRange),
            ),
            (ValueKind::U64, Variant::Int16(-1), Err(S::BadOutOfRange)),
            (ValueKind::U64, Variant::Byte(255), Ok(Value::U64(255))),
            (
                ValueKind::Bool,
                Variant::Boolean(true),
                Ok(Value::Bool(true)),
            ),
            (ValueKind::Bool, Variant::Byte(1), Err(S::BadTypeMismatch)),
            (
                ValueKind::Text,
                Variant::from("x"),
                Ok(Value::Text("x".into())),
            ),
            (ValueKind::Text, Variant::Int32(1), Err(S::BadTypeMismatch)),
            (
                ValueKind::F64,
                Variant::from(vec![1.0f64]),
                Err(S::BadTypeMismatch),
            ),
            (ValueKind::F64, Variant::Empty, Err(S::BadTypeMismatch)),
        ];
        for (kind, sent, expected) in cases {
            assert_eq!(convert(&sent, kind), expected, "{kind:?} {sent:?}");
        }
    }

    proptest! {
        #[test]
        fn a_conversion_is_exact(sent in any::<i64>(), kind in 0usize..3) {
            let kind = [ValueKind::F64, ValueKind::I64, ValueKind::U64][kind];
            if let Ok(value) = convert(&Variant::Int64(sent), kind) {
                let back = match value {
                    Value::F64(v) => v as i128,
                    Value::I64(v) => v.into(),
                    Value::U64(v) => v.into(),
                    other => return Err(TestCaseError::fail(format!("{other:?}"))),
                };
                prop_assert_eq!(back, i128::from(sent));
            }
        }
    }
}
