//! What is sent to clients: changes of conditions, and the marks around a refresh.

use super::fields::{Names, Of, condition, date_time, device, value};
use super::filter::question;
use super::where_clause::{Subject, Where};
use crate::alarms::Alarm;
use crate::model::{Nanos, now};
use opcua::nodes::Event;
use opcua::server::EventField;
use opcua::types::{
    AttributeId, ByteString, DateTime, LocalizedText, NodeId, NumericRange, ObjectId, ObjectTypeId,
    QualifiedName, Variant,
};
use std::sync::atomic::{AtomicU64, Ordering};

/// Something to be told.
#[derive(Debug)]
pub(super) struct Happening {
    what: What,
    time: DateTime,
    event_type: NodeId,
    names: Names,
}

#[derive(Debug)]
enum What {
    Condition(Box<Alarm>),
    Mark(Mark, ByteString),
}

/// Marks of a refresh in the stream of events (OPC 10000-9, 5.11.2 to 5.11.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// What follows was asked for by a refresh.
    Start,
    /// The refresh is over.
    End,
    /// Something was not delivered: the client should refresh.
    Required,
    /// The item's queue was too short for what happened (OPC 10000-5, 6.4.34).
    Overflow,
}

impl Mark {
    fn event_type(self) -> NodeId {
        match self {
            Self::Start => ObjectTypeId::RefreshStartEventType,
            Self::End => ObjectTypeId::RefreshEndEventType,
            Self::Required => ObjectTypeId::RefreshRequiredEventType,
            Self::Overflow => ObjectTypeId::EventQueueOverflowEventType,
        }
        .into()
    }

    fn says(self) -> &'static str {
        match self {
            Self::Start => "the refresh of the conditions begins",
            Self::End => "the refresh of the conditions is over",
            Self::Required => "events were lost: refresh the conditions",
            Self::Overflow => "more happened than was fetched: the oldest events are lost",
        }
    }
}

impl Happening {
    /// The state of an alarm.
    pub(super) fn condition(alarm: Alarm, names: Names) -> Self {
        Self {
            time: date_time(alarm.time),
            event_type: Of::alarm(&alarm).id(names.namespace),
            what: What::Condition(Box::new(alarm)),
            names,
        }
    }

    /// A mark.
    pub(super) fn mark(mark: Mark, names: Names) -> Self {
        Self {
            time: date_time(now()),
            what: What::Mark(mark, mark_id(now())),
            event_type: mark.event_type(),
            names,
        }
    }

    /// Whether somebody who listens at `node` hears it.
    pub(super) fn is_heard_at(&self, node: &NodeId) -> bool {
        let server = *node == ObjectId::Server;
        match &self.what {
            What::Condition(alarm) => server || *node == device(alarm, self.names.namespace),
            What::Mark(..) => true,
        }
    }

    /// Marks go to everybody whose events they are about, whatever else is asked for.
    fn passes(&self, clause: &Where) -> bool {
        match self.what {
            What::Condition(_) => clause.passes(self),
            What::Mark(..) => true,
        }
    }

    fn field(&self, path: &[QualifiedName]) -> Variant {
        let path: Vec<&str> = path.iter().map(|name| name.name.as_ref()).collect();
        let path = path.join("/");
        match &self.what {
            What::Condition(alarm) => value(alarm, &self.names, &path),
            What::Mark(mark, id) => match path.as_str() {
                "EventId" => id.clone().into(),
                "EventType" => mark.event_type().into(),
                "SourceNode" => NodeId::from(ObjectId::Server).into(),
                "SourceName" => "Server".into(),
                "Time" | "ReceiveTime" => self.time.into(),
                "Message" => LocalizedText::new("en", mark.says()).into(),
                "Severity" => 1u16.into(),
                _ => Variant::Empty,
            },
        }
    }
}

/// An EventId that no alarm has: theirs are half as long.
fn mark_id(now: Nanos) -> ByteString {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    ByteString::from([now.to_be_bytes(), count.to_be_bytes()].concat())
}

impl Subject for Happening {
    fn field(
        &self,
        attribute: AttributeId,
        range: &NumericRange,
        path: &[QualifiedName],
    ) -> Variant {
        self.get_value(attribute, range, path)
    }

    fn is_of_type(&self, id: &NodeId) -> bool {
        let What::Condition(alarm) = &self.what else {
            return true;
        };
        let (of, namespace) = (Of::alarm(alarm), self.names.namespace);
        let types = Of::ALL.into_iter().filter(|other| of.has(*other));
        types.into_iter().any(|other| other.id(namespace) == *id)
    }
}

impl EventField for Happening {
    fn get_value(
        &self,
        attribute_id: AttributeId,
        index_range: &NumericRange,
        path: &[QualifiedName],
    ) -> Variant {
        let value = match (attribute_id, path, &self.what) {
            (AttributeId::NodeId, [], What::Condition(alarm)) => {
                condition(&alarm.id, self.names.namespace).into()
            }
            (AttributeId::Value, [_, ..], _) => match question(path) {
                Some(clause) => self.passes(&clause).into(),
                None => self.field(path),
            },
            _ => Variant::Empty,
        };
        match index_range {
            NumericRange::None => value,
            range => value.range_of(range).unwrap_or(Variant::Empty),
        }
    }
}

impl Event for Happening {
    fn get_field(
        &self,
        _: &NodeId,
        attribute_id: AttributeId,
        index_range: &NumericRange,
        browse_path: &[QualifiedName],
    ) -> Variant {
        // No two types of ours mean different things by one name.
        self.get_value(attribute_id, index_range, browse_path)
    }

    fn time(&self) -> &DateTime {
        &self.time
    }

    fn event_type_id(&self) -> &NodeId {
        &self.event_type
    }
}
