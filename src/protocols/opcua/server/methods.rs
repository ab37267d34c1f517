//! The methods of the hub's own objects.

use super::address::ROOT;
use super::parts::{Method, Parts};
use crate::access::Caller;
use crate::protocols::ports::{HistoryError, HistoryPort};
use async_trait::async_trait;
use opcua::nodes::MethodBuilder;
use opcua::server::address_space::AddressSpace;
use opcua::server::node_manager::RequestContext;
use opcua::types::{
    Argument, ByteString, DataTypeId, DateTime, LocalizedText, NodeId, QualifiedName, StatusCode,
    Variant,
};
use std::sync::Arc;

/// 1970-01-01 in the ticks of OPC UA: 100 ns since 1601-01-01.
const UNIX_EPOCH_TICKS: i64 = 116_444_736_000_000_000;

/// `GetEvidence(Device, Tag, Time) -> Evidence`, on the hub.
struct GetEvidence(Arc<dyn HistoryPort>);

/// Adds the method that hands out evidence.
pub(super) fn add_get_evidence(
    space: &mut AddressSpace,
    namespace: u16,
    parts: &Parts,
    history: Arc<dyn HistoryPort>,
) {
    let path = format!("{ROOT}/GetEvidence");
    let id = |path: &str| NodeId::new(namespace, path);
    let argument = |name: &str, data_type: DataTypeId, description: &str| Argument {
        name: name.into(),
        data_type: data_type.into(),
        value_rank: -1,
        array_dimensions: None,
        description: LocalizedText::from(description),
    };
    let (node, name) = (id(&path), QualifiedName::new(namespace, "GetEvidence"));
    MethodBuilder::new(&node, name, "GetEvidence")
        .description("The proof of the newest recorded sample of a tag at or before a time: a file that is checked offline with \"weighbridge verify\".")
        .component_of(id(ROOT))
        .executable(true)
        .user_executable(true)
        .input_args(
            space,
            &id(&format!("{path}#InputArguments")),
            &[
                argument("Device", DataTypeId::String, "The device's id"),
                argument("Tag", DataTypeId::String, "The tag's name"),
                argument("Time", DataTypeId::DateTime, "Source time"),
            ],
        )
        .output_args(
            space,
            &id(&format!("{path}#OutputArguments")),
            &[argument("Evidence", DataTypeId::ByteString, "The file")],
        )
        .insert(space);
    parts.add_method(node, Arc::new(GetEvidence(history)));
}

#[async_trait]
impl Method for GetEvidence {
    async fn call(
        &self,
        _: &RequestContext,
        caller: &Caller,
        _: &NodeId,
        arguments: &[Variant],
    ) -> Result<Vec<Variant>, StatusCode> {
        let (device, tag, time) = match arguments {
            [
                Variant::String(device),
                Variant::String(tag),
                Variant::DateTime(time),
            ] => (device.as_ref(), tag.as_ref(), nanos(time)),
            [_, _, _] => return Err(StatusCode::BadTypeMismatch),
            [_, _, _, ..] => return Err(StatusCode::BadTooManyArguments),
            _ => return Err(StatusCode::BadArgumentsMissing),
        };
        let evidence = self.0.evidence(caller, device, tag, time).await;
        match evidence {
            Ok(file) => Ok(vec![Variant::ByteString(ByteString::from(file))]),
            Err(error) => {
                tracing::debug!(user = caller.user, device, tag, "no evidence: {error}");
                Err(match error {
                    HistoryError::Denied(_) => StatusCode::BadUserAccessDenied,
                    HistoryError::Unknown(_) => StatusCode::BadNotFound,
                    HistoryError::Unreadable(_) | HistoryError::NotRecorded(_) => {
                        StatusCode::BadResourceUnavailable
                    }
                })
            }
        }
    }
}

/// The last nanosecond of a tick: a client that asks for a sample by the time it was given must find it.
fn nanos(time: &DateTime) -> i64 {
    let ticks = time.ticks().saturating_sub(UNIX_EPOCH_TICKS);
    ticks.saturating_mul(100).saturating_add(99)
}
