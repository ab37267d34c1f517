//! What a hub asks an edge node to do with a machine, and what came of it, as it goes over the wire.
//!
//! Tags go by name: the two sides may have changed since they last agreed on an order of tags.

use crate::model::Value;
use crate::protocols::control::WriteFault;
use borsh::{BorshDeserialize, BorshSerialize};

/// Do something with a device. It is done once or not at all: no side ever sends it again.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Order {
    /// Its number, unique in the connection.
    pub id: u64,
    /// The device.
    pub device: String,
    /// The newest ping that the hub had heard when it gave the order, 0 for none. An order that names an
    /// old one was long on its way, and is not followed: no clock of the two sides need agree.
    pub heard: u64,
    /// What.
    pub what: What,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum What {
    /// Write these tags and read them back.
    Write(Vec<(String, WireValue)>),
    /// Call a method.
    Call {
        /// The object it belongs to, in the protocol's own notation.
        object: String,
        /// The method, in the protocol's own notation.
        method: String,
        /// Its arguments.
        arguments: Vec<WireValue>,
    },
}

/// What came of an order.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Outcome {
    /// Of each write, in order, what was read back.
    Written(Vec<Result<WireValue, WireFault>>),
    /// The method's results.
    Called(Result<Vec<WireValue>, WireFault>),
    /// The machine was not touched, and why.
    Nothing(String),
    /// The machine was asked and did not answer as it should: what it has done is not known.
    Unknown(String),
}

/// A value. Of a number with a fraction its bits: NaN goes over the wire too.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum WireValue {
    /// A switch.
    Bool(bool),
    /// A signed integer.
    I64(i64),
    /// An unsigned integer.
    U64(u64),
    /// The bits of a number with a fraction.
    F64(u64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

impl From<Value> for WireValue {
    fn from(value: Value) -> Self {
        match value {
            Value::Bool(v) => Self::Bool(v),
            Value::I64(v) => Self::I64(v),
            Value::U64(v) => Self::U64(v),
            Value::F64(v) => Self::F64(v.to_bits()),
            Value::Text(v) => Self::Text(v),
            Value::Bytes(v) => Self::Bytes(v),
        }
    }
}

impl From<WireValue> for Value {
    fn from(value: WireValue) -> Self {
        match value {
            WireValue::Bool(v) => Self::Bool(v),
            WireValue::I64(v) => Self::I64(v),
            WireValue::U64(v) => Self::U64(v),
            WireValue::F64(v) => Self::F64(f64::from_bits(v)),
            WireValue::Text(v) => Self::Text(v),
            WireValue::Bytes(v) => Self::Bytes(v),
        }
    }
}

/// A [`WriteFault`].
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum WireFault {
    /// It can only be read.
    ReadOnly(String),
    /// The value does not fit.
    Value(String),
    /// The device said no.
    Refused(String),
    /// It shows something else.
    ReadBack(WireValue),
    /// It was not tried.
    Withheld,
    /// It could not be read back.
    NotReadBack(String),
}

impl From<WriteFault> for WireFault {
    fn from(fault: WriteFault) -> Self {
        match fault {
            WriteFault::ReadOnly(why) => Self::ReadOnly(why),
            WriteFault::Value(why) => Self::Value(why),
            WriteFault::Refused(why) => Self::Refused(why),
            WriteFault::ReadBack(value) => Self::ReadBack(value.into()),
            WriteFault::Withheld => Self::Withheld,
            WriteFault::NotReadBack(why) => Self::NotReadBack(why),
        }
    }
}

impl From<WireFault> for WriteFault {
    fn from(fault: WireFault) -> Self {
        match fault {
            WireFault::ReadOnly(why) => Self::ReadOnly(why),
            WireFault::Value(why) => Self::Value(why),
            WireFault::Refused(why) => Self::Refused(why),
            WireFault::ReadBack(value) => Self::ReadBack(value.into()),
            WireFault::Withheld => Self::Withheld,
            WireFault::NotReadBack(why) => Self::NotReadBack(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weighbridge_verifier::{decode, encode};

    #[test]
    fn values_and_faults_come_out_as_they_went_in() {
        let values = [
            Value::Bool(true),
            Value::I64(i64::MIN),
            Value::U64(u64::MAX),
            Value::F64(f64::NEG_INFINITY),
            Value::Text("°C".to_owned()),
            Value::Bytes(vec![0, 255]),
        ];
        let faults = [
            WriteFault::ReadOnly("a".to_owned()),
            WriteFault::Value("b".to_owned()),
            WriteFault::Refused("c".to_owned()),
            WriteFault::ReadBack(Value::F64(-0.5)),
            WriteFault::Withheld,
            WriteFault::NotReadBack("d".to_owned()),
        ];
        let all = values.map(Ok).into_iter().chain(faults.map(Err));
        let all: Vec<Result<Value, WriteFault>> = all.collect();
        let wire = all.iter().cloned();
        let wire = wire.map(|r| r.map(Into::into).map_err(Into::into));
        let bytes = encode(&Outcome::Written(wire.collect()));
        let Ok(Outcome::Written(read)) = decode("outcome", &bytes) else {
            panic!("it is read as it was written");
        };
        let read = read.into_iter();
        let read = read.map(|r| r.map(Into::into).map_err(Into::into));
        assert_eq!(read.collect::<Vec<Result<Value, WriteFault>>>(), all);
    }
}
