//! What the variables of the companion specifications show: the tags' newest samples in the types that
//! the specifications ask for, and what the hub knows of a machine's state.

use super::types::Short;
use crate::live_view::{DeviceLive, Link};
use crate::model::{Nanos, Quality, Value};
use opcua::types::{LocalizedText, NodeId, Variant};

/// `Bad_WaitingForInitialData`.
const WAITING: Quality = Quality(0x8032_0000);
/// `Bad_ConfigurationError`: nobody said which tag it is.
const NOT_CONFIGURED: Quality = Quality(0x8089_0000);

/// What one variable shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocols::opcua::server) enum Point {
    /// The newest sample of a tag.
    Tag(usize, Shape),
    /// Nothing: its type asks for it, and nobody said which tag it is.
    Missing,
    /// The machine's state (OPC 40001-1, 12); the tag says whether it executes.
    State(Option<usize>, Shape),
}

/// The type in which a value is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocols::opcua::server) enum Shape {
    /// As the tag has it.
    Plain,
    Double,
    Boolean,
    UInt16,
    /// A value of an enumeration.
    Int32,
    String,
    /// Name of a state.
    StateName,
    /// Node of a state, in this namespace.
    StateId(u16),
}

/// States of MachineryItemState_StateMachineType, by the numbers of their nodes.
const STATES: [(u32, &str); 4] = [
    (5004, "OutOfService"),
    (5005, "NotAvailable"),
    (5006, "Executing"),
    (5007, "NotExecuting"),
];

impl Shape {
    /// For a data type of the table.
    pub(super) fn of(data: Short) -> Self {
        match data.0 {
            "UA:1" => Self::Boolean,
            "UA:5" => Self::UInt16,
            "UA:11" => Self::Double,
            "UA:12" | "UA:12879" => Self::String,
            other if other.starts_with("R:") => Self::Int32,
            _ => Self::Plain,
        }
    }

    /// The value in this type; `None` where it cannot be given so.
    pub(in crate::protocols::opcua::server) fn variant(self, value: Value) -> Option<Variant> {
        let number = value.as_f64();
        // Whole numbers that the type holds; a cast would make others of them.
        let whole =
            |low: f64, high: f64| number.filter(|n| n.fract() == 0.0 && (low..=high).contains(n));
        match self {
            Self::Plain => Some(super::super::origin::variant(value)),
            Self::Double => number.map(Variant::Double),
            Self::Boolean => number.map(|n| Variant::Boolean(n != 0.0)),
            Self::UInt16 => whole(0.0, 65_535.0).map(|n| Variant::UInt16(n as u16)),
            Self::Int32 => {
                whole(-2_147_483_648.0, 2_147_483_647.0).map(|n| Variant::Int32(n as i32))
            }
            Self::String => Some(match value {
                Value::Text(text) => Variant::String(text.into()),
                other => Variant::String(other.to_string().into()),
            }),
            Self::StateName => {
                let state = STATES
                    .iter()
                    .find(|(id, _)| Some(f64::from(*id)) == number)?;
                Some(Variant::from(LocalizedText::from(state.1)))
            }
            Self::StateId(namespace) => {
                let id = whole(0.0, f64::from(u32::MAX))?;
                Some(Variant::from(NodeId::new(namespace, id as u32)))
            }
        }
    }
}

impl Point {
    /// Value, source time, quality and type at this moment.
    pub(in crate::protocols::opcua::server) fn read(
        self,
        live: &DeviceLive,
    ) -> (Option<Value>, Option<Nanos>, Quality, Shape) {
        let nothing = |quality| (None, None, quality, Shape::Plain);
        match self {
            Self::Missing => nothing(NOT_CONFIGURED),
            Self::Tag(tag, shape) => match live.sample(tag) {
                Some(sample) => {
                    let value = (!sample.quality.is_bad()).then_some(sample.value);
                    (value, Some(sample.time), sample.quality, shape)
                }
                None => nothing(WAITING),
            },
            Self::State(executing, shape) => {
                let state = |id: u64, time| (Some(Value::U64(id)), time, Quality::GOOD, shape);
                if !matches!(live.link(), Link::Up) {
                    return state(5005, None);
                }
                let Some(tag) = executing else {
                    return nothing(NOT_CONFIGURED);
                };
                match live.sample(tag) {
                    Some(sample) if !sample.quality.is_bad() => {
                        let runs = sample.value.as_f64().is_some_and(|n| n != 0.0);
                        state(if runs { 5006 } else { 5007 }, Some(sample.time))
                    }
                    Some(sample) => (None, Some(sample.time), sample.quality, shape),
                    None => nothing(WAITING),
                }
            }
        }
    }

    /// The tag it shows as it is.
    pub(in crate::protocols::opcua::server) fn tag(self) -> Option<usize> {
        match self {
            Self::Tag(tag, _) => Some(tag),
            Self::Missing | Self::State(..) => None,
        }
    }
}
