//! The fields of a condition: one table for its events, its nodes and its types.

use super::node;
use crate::alarms::{Alarm, Kind, Shelving};
use crate::model::{Nanos, now};
use opcua::types::{
    ByteString, DataTypeId, DateTime, LocalizedText, NodeId, ObjectId, ObjectTypeId, StatusCode,
    TimeZoneDataType, VariableTypeId, Variant,
};
use std::time::Duration;

/// Folder of the condition instances.
pub(super) const FOLDER: &str = "Weighbridge/Alarms";

/// What is the same for all conditions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    /// The hub's namespace.
    pub(super) namespace: u16,
    /// For how long an alarm may be shelved.
    pub(super) max_shelved: Duration,
}

/// A field: its path below the condition, its data type, the type of its node, and the type of
/// condition that has it.
pub(super) struct Field {
    pub(super) path: &'static str,
    pub(super) data_type: DataTypeId,
    pub(super) node: VariableTypeId,
    pub(super) of: Of,
}

/// The types of condition, each a subtype of the one before it; the last two of the one before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Of {
    Event,
    Condition,
    Acknowledgeable,
    Alarm,
    Discrete,
    OffNormal,
    /// Ours: a tag that its charts or checks found out of control.
    ControlChart,
    /// The standard's: a device that cannot be reached, or says what cannot be.
    SystemOffNormal,
}

impl Of {
    pub(super) const ALL: [Self; 8] = [
        Self::Event,
        Self::Condition,
        Self::Acknowledgeable,
        Self::Alarm,
        Self::Discrete,
        Self::OffNormal,
        Self::ControlChart,
        Self::SystemOffNormal,
    ];

    /// The type of an alarm's condition.
    pub(super) fn alarm(alarm: &Alarm) -> Self {
        match alarm.kind {
            Kind::Tag => Self::ControlChart,
            Kind::Device => Self::SystemOffNormal,
        }
    }

    pub(super) fn id(self, namespace: u16) -> NodeId {
        match self {
            Self::Event => ObjectTypeId::BaseEventType.into(),
            Self::Condition => ObjectTypeId::ConditionType.into(),
            Self::Acknowledgeable => ObjectTypeId::AcknowledgeableConditionType.into(),
            Self::Alarm => ObjectTypeId::AlarmConditionType.into(),
            Self::Discrete => ObjectTypeId::DiscreteAlarmType.into(),
            Self::OffNormal => ObjectTypeId::OffNormalAlarmType.into(),
            Self::SystemOffNormal => ObjectTypeId::SystemOffNormalAlarmType.into(),
            Self::ControlChart => node(namespace, super::types::CONTROL_CHART),
        }
    }

    /// Whether it has the fields of `other`.
    pub(super) fn has(self, other: Self) -> bool {
        match (self, other) {
            (Self::SystemOffNormal, Self::ControlChart) => false,
            _ => other <= self,
        }
    }
}

const fn field(path: &'static str, data_type: DataTypeId, node: VariableTypeId, of: Of) -> Field {
    Field {
        path,
        data_type,
        node,
        of,
    }
}

const fn property(path: &'static str, data_type: DataTypeId, of: Of) -> Field {
    field(path, data_type, VariableTypeId::PropertyType, of)
}

const fn two_states(path: &'static str, of: Of) -> Field {
    let node = VariableTypeId::TwoStateVariableType;
    field(path, DataTypeId::LocalizedText, node, of)
}

const fn with_source_time(path: &'static str, data_type: DataTypeId) -> Field {
    let node = VariableTypeId::ConditionVariableType;
    field(path, data_type, node, Of::Condition)
}

/// Parents before their children.
pub(super) const FIELDS: &[Field] = &[
    property("EventId", DataTypeId::ByteString, Of::Event),
    property("EventType", DataTypeId::NodeId, Of::Event),
    property("SourceNode", DataTypeId::NodeId, Of::Event),
    property("SourceName", DataTypeId::String, Of::Event),
    property("Time", DataTypeId::UtcTime, Of::Event),
    property("ReceiveTime", DataTypeId::UtcTime, Of::Event),
    property("LocalTime", DataTypeId::TimeZoneDataType, Of::Event),
    property("Message", DataTypeId::LocalizedText, Of::Event),
    property("Severity", DataTypeId::UInt16, Of::Event),
    property("ConditionClassId", DataTypeId::NodeId, Of::Condition),
    property(
        "ConditionClassName",
        DataTypeId::LocalizedText,
        Of::Condition,
    ),
    property("ConditionName", DataTypeId::String, Of::Condition),
    property("BranchId", DataTypeId::NodeId, Of::Condition),
    property("Retain", DataTypeId::Boolean, Of::Condition),
    two_states("EnabledState", Of::Condition),
    property("EnabledState/Id", DataTypeId::Boolean, Of::Condition),
    with_source_time("Quality", DataTypeId::StatusCode),
    property(
        "Quality/SourceTimestamp",
        DataTypeId::UtcTime,
        Of::Condition,
    ),
    with_source_time("LastSeverity", DataTypeId::UInt16),
    property(
        "LastSeverity/SourceTimestamp",
        DataTypeId::UtcTime,
        Of::Condition,
    ),
    with_source_time("Comment", DataTypeId::LocalizedText),
    property(
        "Comment/SourceTimestamp",
        DataTypeId::UtcTime,
        Of::Condition,
    ),
    property("ClientUserId", DataTypeId::String, Of::Condition),
    two_states("AckedState", Of::Acknowledgeable),
    property("AckedState/Id", DataTypeId::Boolean, Of::Acknowledgeable),
    two_states("ConfirmedState", Of::Acknowledgeable),
    property(
        "ConfirmedState/Id",
        DataTypeId::Boolean,
        Of::Acknowledgeable,
    ),
    two_states("ActiveState", Of::Alarm),
    property("ActiveState/Id", DataTypeId::Boolean, Of::Alarm),
    property("InputNode", DataTypeId::NodeId, Of::Alarm),
    property("SuppressedOrShelved", DataTypeId::Boolean, Of::Alarm),
    property("MaxTimeShelved", DataTypeId::Duration, Of::Alarm),
    field(
        "ShelvingState/CurrentState",
        DataTypeId::LocalizedText,
        VariableTypeId::FiniteStateVariableType,
        Of::Alarm,
    ),
    property(
        "ShelvingState/CurrentState/Id",
        DataTypeId::NodeId,
        Of::Alarm,
    ),
    property(
        "ShelvingState/UnshelveTime",
        DataTypeId::Duration,
        Of::Alarm,
    ),
    property("NormalState", DataTypeId::NodeId, Of::OffNormal),
    property("Chart", DataTypeId::String, Of::ControlChart),
    property("Rule", DataTypeId::String, Of::ControlChart),
    property("Value", DataTypeId::Double, Of::ControlChart),
    property("Statistic", DataTypeId::Double, Of::ControlChart),
    property("Limit", DataTypeId::Double, Of::ControlChart),
];

/// What a field of the condition of `alarm` says; empty when it has no such field.
pub(super) fn value(alarm: &Alarm, names: &Names, path: &str) -> Variant {
    let namespace = names.namespace;
    let text = |text: &str| Variant::from(LocalizedText::new("en", text));
    let state = |set: bool, yes: &str, no: &str| text(if set { yes } else { no });
    let exceeded = |get: fn(&crate::alarms::Exceeded) -> Variant| match &alarm.exceeded {
        Some(exceeded) if alarm.kind == Kind::Tag => get(exceeded),
        _ => Variant::Empty,
    };
    let number = |number: Option<f64>| number.map_or(Variant::Empty, Variant::from);
    if is_hidden(alarm, path) {
        return StatusCode::BadConditionDisabled.into();
    }
    match path {
        "EventId" => event_id(alarm.event).into(),
        "EventType" => Of::alarm(alarm).id(namespace).into(),
        "SourceNode" => source(alarm, namespace).into(),
        "SourceName" => alarm.id.as_str().into(),
        "Time" | "ReceiveTime" => date_time(alarm.time).into(),
        // The hub thinks in UTC.
        "LocalTime" => local_time(),
        "Message" => text(&alarm.message),
        "Severity" => alarm.severity.into(),
        "ConditionClassId" => NodeId::from(match alarm.kind {
            Kind::Tag => ObjectTypeId::ProcessConditionClassType,
            Kind::Device => ObjectTypeId::SystemConditionClassType,
        })
        .into(),
        "ConditionClassName" => text(match alarm.kind {
            Kind::Tag => "ProcessConditionClassType",
            Kind::Device => "SystemConditionClassType",
        }),
        "ConditionName" => match alarm.kind {
            Kind::Tag => "OutOfControl",
            Kind::Device => "DeviceTrouble",
        }
        .into(),
        "BranchId" | "NormalState" => NodeId::null().into(),
        "Retain" => alarm.retain().into(),
        "EnabledState" => state(alarm.enabled, "Enabled", "Disabled"),
        "EnabledState/Id" => alarm.enabled.into(),
        "Quality" => StatusCode::Good.into(),
        "LastSeverity" => alarm.last_severity.into(),
        "Comment" => text(alarm.comment.as_ref().map_or("", |(_, said)| said)),
        "Quality/SourceTimestamp" | "LastSeverity/SourceTimestamp" | "Comment/SourceTimestamp" => {
            date_time(alarm.time).into()
        }
        "ClientUserId" => alarm.comment.as_ref().map_or("", |(user, _)| user).into(),
        "AckedState" => state(alarm.acknowledged, "Acknowledged", "Unacknowledged"),
        "AckedState/Id" => alarm.acknowledged.into(),
        "ConfirmedState" => state(alarm.confirmed, "Confirmed", "Unconfirmed"),
        "ConfirmedState/Id" => alarm.confirmed.into(),
        "ActiveState" => state(alarm.active, "Active", "Inactive"),
        "ActiveState/Id" => alarm.active.into(),
        "InputNode" => match alarm.kind {
            Kind::Tag => source(alarm, namespace).into(),
            Kind::Device => NodeId::null().into(),
        },
        "SuppressedOrShelved" => (alarm.shelving != Shelving::Unshelved).into(),
        "MaxTimeShelved" => milliseconds(names.max_shelved).into(),
        "ShelvingState/CurrentState" => text(match alarm.shelving {
            Shelving::Unshelved => "Unshelved",
            Shelving::Until(_) => "Timed Shelved",
            Shelving::OneShot => "One Shot Shelved",
        }),
        "ShelvingState/CurrentState/Id" => NodeId::from(match alarm.shelving {
            Shelving::Unshelved => ObjectId::ShelvedStateMachineType_Unshelved,
            Shelving::Until(_) => ObjectId::ShelvedStateMachineType_TimedShelved,
            Shelving::OneShot => ObjectId::ShelvedStateMachineType_OneShotShelved,
        })
        .into(),
        "ShelvingState/UnshelveTime" => unshelve_time(alarm, names).into(),
        "Chart" => exceeded(|e| e.chart.as_str().into()),
        "Rule" => exceeded(|e| e.rule.as_str().into()),
        "Value" => number(alarm.exceeded.as_ref().and_then(|e| e.value)),
        "Statistic" => number(alarm.exceeded.as_ref().and_then(|e| e.statistic)),
        "Limit" => number(alarm.exceeded.as_ref().and_then(|e| e.limit)),
        _ => Variant::Empty,
    }
}

/// Whether a field says nothing because the condition is disabled (OPC 10000-9, 5.5.2): what it is,
/// where, and that it is disabled is told, its state is not.
pub(super) fn is_hidden(alarm: &Alarm, path: &str) -> bool {
    let state = |field: &&Field| field.path == path && field.of > Of::Condition;
    !alarm.enabled && FIELDS.iter().find(state).is_some()
}

/// Milliseconds until it is unshelved; a one shot lasts as long as any may (OPC 10000-9, 5.8.17).
fn unshelve_time(alarm: &Alarm, names: &Names) -> f64 {
    match alarm.shelving {
        Shelving::Unshelved => 0.0,
        Shelving::Until(end) => (end.saturating_sub(now()).max(0) / 1_000_000) as f64,
        Shelving::OneShot => milliseconds(names.max_shelved),
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn local_time() -> Variant {
    let utc = TimeZoneDataType {
        offset: 0,
        daylight_saving_in_offset: false,
    };
    Variant::from(opcua::types::ExtensionObject::from_message(utc))
}

/// The node that an alarm is about: its tag, or its device.
pub(super) fn source(alarm: &Alarm, namespace: u16) -> NodeId {
    node(namespace, &format!("Weighbridge/Devices/{}", alarm.id))
}

/// The device's node.
pub(super) fn device(alarm: &Alarm, namespace: u16) -> NodeId {
    node(namespace, &format!("Weighbridge/Devices/{}", alarm.device))
}

/// The condition's node: its ConditionId.
pub(super) fn condition(id: &str, namespace: u16) -> NodeId {
    node(namespace, &format!("{FOLDER}/{id}"))
}

/// The alarm whose condition a node is, or whose shelving state.
pub(super) fn alarm_of(node: &NodeId, namespace: u16) -> Option<String> {
    let opcua::types::Identifier::String(path) = &node.identifier else {
        return None;
    };
    let path = path.as_ref().strip_prefix(FOLDER)?.strip_prefix('/')?;
    let path = path.strip_suffix(SHELVING).unwrap_or(path);
    (node.namespace == namespace && !path.is_empty()).then(|| path.to_owned())
}

/// What follows a condition's path in that of its shelving state.
const SHELVING: &str = "#ShelvingState";

/// The node of a field of a condition, or of its part at `path`.
pub(super) fn part(id: &str, path: &str, namespace: u16) -> NodeId {
    // Not a slash: a tag may have one in its name.
    node(namespace, &format!("{FOLDER}/{id}#{path}"))
}

/// An event number as the standard's EventId.
pub(super) fn event_id(event: u64) -> ByteString {
    ByteString::from(event.to_be_bytes().to_vec())
}

/// And back; `None` for what is none of ours.
pub(super) fn event_number(id: &ByteString) -> Option<u64> {
    let bytes = id.as_ref().try_into().ok()?;
    Some(u64::from_be_bytes(bytes))
}

/// 1970-01-01 in the ticks of OPC UA: 100 ns since 1601-01-01.
const UNIX_EPOCH_TICKS: i64 = 116_444_736_000_000_000;

pub(super) fn date_time(time: Nanos) -> DateTime {
    DateTime::from(UNIX_EPOCH_TICKS + time.div_euclid(100))
}
