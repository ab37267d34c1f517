//! What a simulated machine measures: names, units and ranges, so that every protocol server and the
//! demo's configuration speak of the same tags.

use crate::model::{TagSpec, ValueKind};

/// One variable of a simulated machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Signal {
    /// Its name, which is also the tag's.
    pub name: &'static str,
    /// Engineering unit; empty when it has none.
    pub unit: &'static str,
    /// What it is, for people.
    pub description: &'static str,
    /// Type of its values.
    pub kind: SignalKind,
}

/// Type of a signal, as narrow as a controller keeps it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SignalKind {
    /// A measurement, single precision, that physically lies within `low ..= high`.
    F32 {
        /// Lowest value possible.
        low: f64,
        /// Highest value possible.
        high: f64,
    },
    /// A counter that wraps at 2³².
    U32,
    /// A code word.
    U16,
    /// A contact or switch.
    Bool,
}

impl Signal {
    /// Physical range, for a measurement.
    pub fn range(&self) -> Option<(f64, f64)> {
        match self.kind {
            SignalKind::F32 { low, high } => Some((low, high)),
            SignalKind::U32 | SignalKind::U16 | SignalKind::Bool => None,
        }
    }

    /// Type of the tag's values in the hub.
    pub fn value_kind(&self) -> ValueKind {
        match self.kind {
            SignalKind::F32 { .. } => ValueKind::F64,
            SignalKind::U32 | SignalKind::U16 => ValueKind::U64,
            SignalKind::Bool => ValueKind::Bool,
        }
    }

    /// The tag that this signal becomes.
    pub fn tag(&self) -> TagSpec {
        TagSpec {
            writable: false,
            name: self.name.into(),
            kind: self.value_kind(),
            unit: self.unit.into(),
            description: self.description.into(),
            range: self.range(),
        }
    }
}

/// A measurement within `low ..= high`.
pub(super) const fn measurement(
    name: &'static str,
    unit: &'static str,
    description: &'static str,
    low: f64,
    high: f64,
) -> Signal {
    let kind = SignalKind::F32 { low, high };
    Signal {
        name,
        unit,
        description,
        kind,
    }
}

/// A counter, code or switch.
pub(super) const fn discrete(
    name: &'static str,
    unit: &'static str,
    description: &'static str,
    kind: SignalKind,
) -> Signal {
    Signal {
        name,
        unit,
        description,
        kind,
    }
}
