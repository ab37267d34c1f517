//! Acting upon a device: writing its tags and calling its methods, beside its reading.

use super::source::SourceError;
use crate::model::Value;
use async_trait::async_trait;

/// A value for one tag.
#[derive(Clone, Debug, PartialEq)]
pub struct TagWrite {
    /// The tag, by its place among the source's tags.
    pub tag: usize,
    /// The value, in the tag's engineering units and of the tag's kind.
    pub value: Value,
}

/// Why one tag was not written, or is not known to be.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WriteFault {
    /// It can only be read, at the device or by configuration.
    #[error("the tag can only be read: {0}")]
    ReadOnly(String),
    /// The value does not fit the tag: its type, its width or its range.
    #[error("the value does not fit the tag: {0}")]
    Value(String),
    /// The device said no.
    #[error("the device refused the write: {0}")]
    Refused(String),
    /// The device took it, and then showed something else.
    #[error("the device took the write, but reads back {0}")]
    ReadBack(Value),
    /// It was not tried, because another value of the request was refused before any was written.
    #[error("nothing was written, because another value of the request was refused")]
    Withheld,
    /// The device took it, and could not be read back.
    #[error("the device took the write, but could not be read back: {0}")]
    NotReadBack(String),
}

/// One call of a method of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct MethodCall {
    /// The object it belongs to, in the protocol's own notation.
    pub object: String,
    /// The method, in the protocol's own notation.
    pub method: String,
    /// Its arguments.
    pub arguments: Vec<Value>,
}

/// What came of each write: the value that was read back, in engineering units.
pub type Written = Vec<Result<Value, WriteFault>>;

/// A handle that acts upon a device while its source goes on reading. Cheap to clone behind an `Arc`.
///
/// An error is for the connection as a whole, and leaves open what the device has done; the source
/// itself notices a broken connection by its own reading.
#[async_trait]
pub trait Control: Send + Sync {
    /// Writes tags, in order, in as few requests as the device allows, and reads each one back.
    /// Answers in the order of `writes`. A fault of one tag leaves the others alone.
    async fn write(&self, writes: &[TagWrite]) -> Result<Written, SourceError>;

    /// Calls a method and returns its results.
    async fn call(&self, call: &MethodCall) -> Result<Result<Vec<Value>, WriteFault>, SourceError> {
        let method = &call.method;
        let fault = WriteFault::Refused(format!("the protocol has no methods; {method} is none"));
        Ok(Err(fault))
    }
}
