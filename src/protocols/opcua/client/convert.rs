//! From what a server says to what the model knows.

use crate::model::{Nanos, Quality, Value, ValueKind};
use opcua::types::{DataValue, DateTime, Variant, VariantScalarTypeId};

/// 1970-01-01 in the ticks of OPC UA: 100 ns since 1601-01-01.
const UNIX_EPOCH_TICKS: i64 = 116_444_736_000_000_000;

/// `Bad_TypeMismatch`: the variable's type cannot become the tag's.
pub(super) const BAD_TYPE_MISMATCH: Quality = Quality(0x8074_0000);

/// Time, value and quality of a notification, for a tag of `kind`. Without a source timestamp the
/// server's counts, and without that `now`.
pub(super) fn sample(
    data: DataValue,
    kind: ValueKind,
    now: Nanos,
) -> (Nanos, Option<Value>, Quality) {
    let time = data
        .source_timestamp
        .and_then(|t| nanos(&t, data.source_picoseconds))
        .or_else(|| {
            data.server_timestamp
                .and_then(|t| nanos(&t, data.server_picoseconds))
        })
        .unwrap_or(now);
    let quality = Quality(data.status.map_or(0, |s| s.bits()));
    if quality.is_bad() {
        return (time, None, quality);
    }
    match data.value {
        None | Some(Variant::Empty) => (time, None, Quality::BAD_NO_DATA),
        Some(value) => match convert(value, kind) {
            Ok(value) => (time, Some(value), quality),
            Err(reason) => (time, None, reason),
        },
    }
}

/// Nanoseconds since 1970; `None` for the null time.
fn nanos(time: &DateTime, picoseconds: Option<u16>) -> Option<Nanos> {
    let ticks = time.ticks();
    if ticks <= 0 {
        return None;
    }
    // The field counts tens of picoseconds (OPC 10000-6 §5.2.2.17).
    let below_tick = i64::from(picoseconds.unwrap_or(0).min(9_999)) / 100;
    Some(
        (ticks - UNIX_EPOCH_TICKS)
            .saturating_mul(100)
            .saturating_add(below_tick),
    )
}

/// A time as OPC UA writes it, in steps of 100 ns.
pub(super) fn date_time(time: Nanos) -> DateTime {
    DateTime::from(UNIX_EPOCH_TICKS.saturating_add(time.div_euclid(100)))
}

/// A value as the model holds it, whatever kind it is; `None` for what it has no kind for.
pub(super) fn natural(value: Variant) -> Option<Value> {
    let kind = match &value {
        Variant::Boolean(_) => ValueKind::Bool,
        Variant::Float(_) | Variant::Double(_) => ValueKind::F64,
        Variant::SByte(_) | Variant::Int16(_) | Variant::Int32(_) | Variant::Int64(_) => {
            ValueKind::I64
        }
        Variant::Byte(_) | Variant::UInt16(_) | Variant::UInt32(_) | Variant::UInt64(_) => {
            ValueKind::U64
        }
        Variant::ByteString(_) => ValueKind::Bytes,
        Variant::Variant(inner) => return natural((**inner).clone()),
        _ => ValueKind::Text,
    };
    convert(value, kind).ok()
}

/// A value as the server's type; `Err` says why it does not fit.
pub(super) fn variant(value: &Value, to: VariantScalarTypeId) -> Result<Variant, String> {
    use VariantScalarTypeId as To;
    let unfit = || Err(format!("{value} is no {to:?}"));
    let whole = || -> Option<i128> {
        match value {
            Value::Bool(on) => Some((*on).into()),
            Value::I64(i) => Some((*i).into()),
            Value::U64(u) => Some((*u).into()),
            Value::F64(f) if f.fract() == 0.0 && f.abs() < 1e19 => Some(*f as i128),
            _ => None,
        }
    };
    macro_rules! integer {
        ($variant:ident, $of:ty) => {
            match whole().and_then(|i| <$of>::try_from(i).ok()) {
                Some(i) => Ok(Variant::$variant(i)),
                None => unfit(),
            }
        };
    }
    let number = match value {
        Value::Bool(_) | Value::Text(_) | Value::Bytes(_) => None,
        Value::I64(i) => Some(*i as f64),
        Value::U64(u) => Some(*u as f64),
        Value::F64(f) => Some(*f),
    };
    match (to, value) {
        (To::Boolean, _) => match whole() {
            Some(0) => Ok(Variant::Boolean(false)),
            Some(1) => Ok(Variant::Boolean(true)),
            _ => unfit(),
        },
        (To::SByte, _) => integer!(SByte, i8),
        (To::Byte, _) => integer!(Byte, u8),
        (To::Int16, _) => integer!(Int16, i16),
        (To::UInt16, _) => integer!(UInt16, u16),
        (To::Int32, _) => integer!(Int32, i32),
        (To::UInt32, _) => integer!(UInt32, u32),
        (To::Int64, _) => integer!(Int64, i64),
        (To::UInt64, _) => integer!(UInt64, u64),
        (To::Double, _) => number.map_or_else(unfit, |f| Ok(Variant::Double(f))),
        (To::Float, _) => match number {
            // What is too big would become infinite.
            Some(f) if !f.is_finite() || (f as f32).is_finite() => Ok(Variant::Float(f as f32)),
            _ => unfit(),
        },
        (To::String, Value::Text(text)) => Ok(Variant::String(text.as_str().into())),
        (To::LocalizedText, Value::Text(text)) => {
            Ok(opcua::types::LocalizedText::from(text.as_str()).into())
        }
        (To::ByteString, Value::Bytes(bytes)) => Ok(Variant::ByteString(
            opcua::types::ByteString::from(bytes.clone()),
        )),
        (To::DateTime, Value::I64(time)) => Ok(date_time(*time).into()),
        _ => unfit(),
    }
}

/// A value as the type that holds all values of its kind.
pub(super) fn widest(value: &Value) -> Variant {
    match value {
        Value::Bool(on) => Variant::Boolean(*on),
        Value::I64(i) => Variant::Int64(*i),
        Value::U64(u) => Variant::UInt64(*u),
        Value::F64(f) => Variant::Double(*f),
        Value::Text(text) => Variant::String(text.as_str().into()),
        Value::Bytes(bytes) => Variant::ByteString(opcua::types::ByteString::from(bytes.clone())),
    }
}

/// A server's value as a tag's kind.
pub(super) fn convert(value: Variant, kind: ValueKind) -> Result<Value, Quality> {
    match kind {
        ValueKind::Bool => match number(&value)? {
            Number::Int(i) => Ok(Value::Bool(i != 0)),
            Number::Float(_) => Err(BAD_TYPE_MISMATCH),
        },
        ValueKind::I64 => integer(&value)?
            .try_into()
            .map(Value::I64)
            .map_err(|_| Quality::BAD_OUT_OF_RANGE),
        ValueKind::U64 => integer(&value)?
            .try_into()
            .map(Value::U64)
            .map_err(|_| Quality::BAD_OUT_OF_RANGE),
        ValueKind::F64 => Ok(Value::F64(match number(&value)? {
            Number::Int(i) => i as f64,
            Number::Float(f) => f,
        })),
        ValueKind::Text => text(value).map(Value::Text),
        ValueKind::Bytes => match value {
            Variant::ByteString(bytes) => Ok(Value::Bytes(bytes.value.unwrap_or_default())),
            other => text(other).map(|text| Value::Bytes(text.into_bytes())),
        },
    }
}

enum Number {
    Int(i128),
    Float(f64),
}

fn number(value: &Variant) -> Result<Number, Quality> {
    Ok(match value {
        Variant::Boolean(v) => Number::Int((*v).into()),
        Variant::SByte(v) => Number::Int((*v).into()),
        Variant::Byte(v) => Number::Int((*v).into()),
        Variant::Int16(v) => Number::Int((*v).into()),
        Variant::UInt16(v) => Number::Int((*v).into()),
        Variant::Int32(v) => Number::Int((*v).into()),
        Variant::UInt32(v) => Number::Int((*v).into()),
        Variant::Int64(v) => Number::Int((*v).into()),
        Variant::UInt64(v) => Number::Int((*v).into()),
        Variant::Float(v) => Number::Float((*v).into()),
        Variant::Double(v) => Number::Float(*v),
        Variant::StatusCode(v) => Number::Int(v.bits().into()),
        Variant::DateTime(v) => Number::Int(nanos(v, None).ok_or(Quality::BAD_NO_DATA)?.into()),
        Variant::Variant(v) => return number(v),
        _ => return Err(BAD_TYPE_MISMATCH),
    })
}

fn integer(value: &Variant) -> Result<i128, Quality> {
    match number(value)? {
        Number::Int(i) => Ok(i),
        // A fraction would be lost, and silently wrong is worse than bad.
        Number::Float(f) if f.fract() == 0.0 && f.abs() < 1e19 => Ok(f as i128),
        Number::Float(_) => Err(Quality::BAD_OUT_OF_RANGE),
    }
}

fn text(value: Variant) -> Result<String, Quality> {
    Ok(match value {
        Variant::String(v) => v.as_ref().to_owned(),
        Variant::XmlElement(v) => v.to_string(),
        Variant::LocalizedText(v) => v.text.as_ref().to_owned(),
        Variant::QualifiedName(v) => v.name.as_ref().to_owned(),
        Variant::Guid(v) => v.to_string(),
        Variant::NodeId(v) => v.to_string(),
        Variant::ExpandedNodeId(v) => v.to_string(),
        Variant::DateTime(v) => v.to_rfc3339(),
        Variant::Boolean(v) => v.to_string(),
        Variant::Float(v) => v.to_string(),
        Variant::Double(v) => v.to_string(),
        Variant::Variant(v) => return text(*v),
        other => integer(&other)?.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use opcua::types::{ByteString, StatusCode};

    fn read(value: Variant, kind: ValueKind) -> Result<Value, Quality> {
        convert(value, kind)
    }

    #[test]
    fn numbers_become_the_tags_type_or_say_why_not() {
        use ValueKind::*;
        assert_eq!(read(Variant::Float(1.5), F64), Ok(Value::F64(1.5)));
        assert_eq!(read(Variant::Int16(-3), F64), Ok(Value::F64(-3.0)));
        assert_eq!(read(Variant::Byte(7), I64), Ok(Value::I64(7)));
        assert_eq!(read(Variant::Double(4.0), U64), Ok(Value::U64(4)));
        assert_eq!(
            read(Variant::Double(4.5), U64),
            Err(Quality::BAD_OUT_OF_RANGE)
        );
        assert_eq!(
            read(Variant::Int32(-1), U64),
            Err(Quality::BAD_OUT_OF_RANGE)
        );
        assert_eq!(
            read(Variant::UInt64(u64::MAX), I64),
            Err(Quality::BAD_OUT_OF_RANGE)
        );
        assert_eq!(read(Variant::Boolean(true), F64), Ok(Value::F64(1.0)));
        assert_eq!(read(Variant::UInt16(2), Bool), Ok(Value::Bool(true)));
        assert_eq!(read(Variant::Double(1.0), Bool), Err(BAD_TYPE_MISMATCH));
        assert_eq!(
            read(Variant::from("x".to_string()), F64),
            Err(BAD_TYPE_MISMATCH)
        );
        assert_eq!(
            read(Variant::from(vec![1.0, 2.0]), F64),
            Err(BAD_TYPE_MISMATCH)
        );
        assert_eq!(read(Variant::Int32(5), Text), Ok(Value::Text("5".into())));
        let bytes = Variant::ByteString(ByteString::from(vec![1, 2]));
        assert_eq!(read(bytes, Bytes), Ok(Value::Bytes(vec![1, 2])));
        let nan = read(Variant::Float(f32::NAN), F64);
        assert!(matches!(nan, Ok(Value::F64(x)) if x.is_nan()));
    }

    #[test]
    fn values_are_written_as_the_servers_type_or_not_at_all() {
        use VariantScalarTypeId as To;
        let fits = [
            (Value::F64(3.0), To::Int16, Variant::Int16(3)),
            (Value::U64(255), To::Byte, Variant::Byte(255)),
            (Value::I64(-1), To::Double, Variant::Double(-1.0)),
            (Value::F64(0.1), To::Float, Variant::Float(0.1)),
            (Value::Bool(true), To::Boolean, Variant::Boolean(true)),
            (Value::I64(0), To::Boolean, Variant::Boolean(false)),
            (Value::Text("a".into()), To::String, "a".to_string().into()),
        ];
        for (value, to, expected) in fits {
            assert_eq!(variant(&value, to), Ok(expected.clone()));
            assert!(natural(expected).is_some());
        }
        let unfit = [
            (Value::F64(0.5), To::Int32),
            (Value::U64(256), To::Byte),
            (Value::I64(-1), To::UInt64),
            (Value::F64(1e300), To::Float),
            (Value::Text("1".into()), To::Double),
            (Value::F64(1.0), To::String),
            (Value::F64(f64::NAN), To::Int64),
            (Value::U64(2), To::Boolean),
        ];
        for (value, to) in unfit {
            assert!(variant(&value, to).is_err(), "{value} as {to:?}");
        }
        let back = nanos(&date_time(1_700_000_000_123_456_700), None);
        assert_eq!(back, Some(1_700_000_000_123_456_700));
    }

    #[test]
    fn the_source_timestamp_wins_then_the_servers_then_now() {
        let at = |ticks: i64| DateTime::from(ticks);
        let mut data = DataValue {
            value: Some(Variant::Double(1.0)),
            status: Some(StatusCode::Good),
            source_timestamp: Some(at(UNIX_EPOCH_TICKS + 3)),
            source_picoseconds: Some(1_200),
            server_timestamp: Some(at(UNIX_EPOCH_TICKS + 50)),
            server_picoseconds: None,
        };
        let time = |data: &DataValue| sample(data.clone(), ValueKind::F64, 99).0;
        assert_eq!(time(&data), 312);
        data.source_timestamp = None;
        assert_eq!(time(&data), 5_000);
        data.server_timestamp = Some(DateTime::null());
        assert_eq!(time(&data), 99);
    }

    #[test]
    fn status_codes_become_qualities_and_bad_ones_have_no_value() {
        let with = |status, value| {
            let data = DataValue {
                value,
                status,
                ..DataValue::null()
            };
            let (_, value, quality) = sample(data, ValueKind::F64, 0);
            (value, quality)
        };
        let one = Some(Variant::Double(1.0));
        assert_eq!(
            with(None, one.clone()),
            (Some(Value::F64(1.0)), Quality::GOOD)
        );
        let uncertain = StatusCode::UncertainSensorNotAccurate;
        assert_eq!(
            with(Some(uncertain), one.clone()),
            (Some(Value::F64(1.0)), Quality(uncertain.bits()))
        );
        let bad = StatusCode::BadSensorFailure;
        assert_eq!(with(Some(bad), one), (None, Quality(bad.bits())));
        assert_eq!(with(None, None), (None, Quality::BAD_NO_DATA));
    }
}
