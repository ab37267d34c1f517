//! Columns: the values and qualities of one tag in a batch.

use super::{Quality, Value, ValueKind};

/// The values of one tag.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Switches.
    Bool(Vec<bool>),
    /// Signed integers.
    I64(Vec<i64>),
    /// Unsigned integers.
    U64(Vec<u64>),
    /// Numbers with a fraction.
    F64(Vec<f64>),
    /// Texts.
    Text(Vec<String>),
    /// Uninterpreted bytes.
    Bytes(Vec<Vec<u8>>),
}

impl Values {
    /// An empty column for values of `kind`.
    pub fn new(kind: ValueKind) -> Self {
        match kind {
            ValueKind::Bool => Self::Bool(Vec::new()),
            ValueKind::I64 => Self::I64(Vec::new()),
            ValueKind::U64 => Self::U64(Vec::new()),
            ValueKind::F64 => Self::F64(Vec::new()),
            ValueKind::Text => Self::Text(Vec::new()),
            ValueKind::Bytes => Self::Bytes(Vec::new()),
        }
    }

    /// An empty column with room for `rows` values of `kind`.
    pub(super) fn with_capacity(kind: ValueKind, rows: usize) -> Self {
        match kind {
            ValueKind::Bool => Self::Bool(Vec::with_capacity(rows)),
            ValueKind::I64 => Self::I64(Vec::with_capacity(rows)),
            ValueKind::U64 => Self::U64(Vec::with_capacity(rows)),
            ValueKind::F64 => Self::F64(Vec::with_capacity(rows)),
            ValueKind::Text => Self::Text(Vec::with_capacity(rows)),
            ValueKind::Bytes => Self::Bytes(Vec::with_capacity(rows)),
        }
    }

    /// Their type.
    pub fn kind(&self) -> ValueKind {
        match self {
            Self::Bool(_) => ValueKind::Bool,
            Self::I64(_) => ValueKind::I64,
            Self::U64(_) => ValueKind::U64,
            Self::F64(_) => ValueKind::F64,
            Self::Text(_) => ValueKind::Text,
            Self::Bytes(_) => ValueKind::Bytes,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Bool(v) => v.len(),
            Self::I64(v) => v.len(),
            Self::U64(v) => v.len(),
            Self::F64(v) => v.len(),
            Self::Text(v) => v.len(),
            Self::Bytes(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value at `index`.
    pub fn get(&self, index: usize) -> Option<Value> {
        match self {
            Self::Bool(v) => v.get(index).copied().map(Value::Bool),
            Self::I64(v) => v.get(index).copied().map(Value::I64),
            Self::U64(v) => v.get(index).copied().map(Value::U64),
            Self::F64(v) => v.get(index).copied().map(Value::F64),
            Self::Text(v) => v.get(index).cloned().map(Value::Text),
            Self::Bytes(v) => v.get(index).cloned().map(Value::Bytes),
        }
    }

    /// The number at `index` that a chart judges; `None` for text, bytes and past the end.
    pub fn number(&self, index: usize) -> Option<f64> {
        match self {
            Self::Bool(v) => v.get(index).map(|b| f64::from(u8::from(*b))),
            Self::I64(v) => v.get(index).map(|i| *i as f64),
            Self::U64(v) => v.get(index).map(|u| *u as f64),
            Self::F64(v) => v.get(index).copied(),
            Self::Text(_) | Self::Bytes(_) => None,
        }
    }

    /// Appends `value`; a value of another type is converted where that loses nothing, else refused.
    pub(super) fn push(&mut self, value: Value) -> Result<(), Value> {
        match (self, value) {
            (Self::Bool(v), Value::Bool(x)) => v.push(x),
            (Self::I64(v), Value::I64(x)) => v.push(x),
            (Self::U64(v), Value::U64(x)) => v.push(x),
            (Self::F64(v), Value::F64(x)) => v.push(x),
            (Self::Text(v), Value::Text(x)) => v.push(x),
            (Self::Bytes(v), Value::Bytes(x)) => v.push(x),
            (Self::I64(v), Value::U64(x)) => v.push(i64::try_from(x).map_err(|_| Value::U64(x))?),
            (Self::U64(v), Value::I64(x)) => v.push(u64::try_from(x).map_err(|_| Value::I64(x))?),
            (Self::F64(v), Value::I64(x)) if (x as f64) as i128 == i128::from(x) => {
                v.push(x as f64)
            }
            (Self::F64(v), Value::U64(x)) if (x as f64) as i128 == i128::from(x) => {
                v.push(x as f64)
            }
            (_, other) => return Err(other),
        }
        Ok(())
    }

    /// Appends the value that stands where there is none; its quality says that it means nothing.
    pub(super) fn push_blank(&mut self) {
        match self {
            Self::Bool(v) => v.push(false),
            Self::I64(v) => v.push(0),
            Self::U64(v) => v.push(0),
            Self::F64(v) => v.push(0.0),
            Self::Text(v) => v.push(String::new()),
            Self::Bytes(v) => v.push(Vec::new()),
        }
    }
}

/// Qualities of a column: Good, but for the listed exceptions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QualityColumn {
    /// Index and quality of every sample that is not plainly Good, by ascending index.
    pub exceptions: Vec<(u32, Quality)>,
}

impl QualityColumn {
    /// Quality of the sample at `index`.
    pub fn get(&self, index: usize) -> Quality {
        u32::try_from(index)
            .ok()
            .and_then(|i| self.exceptions.binary_search_by_key(&i, |e| e.0).ok())
            .and_then(|at| self.exceptions.get(at))
            .map_or(Quality::GOOD, |e| e.1)
    }
}

/// The samples of one tag in a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Which of the batch's timelines has their source times.
    pub timeline: usize,
    /// Their values; as many as the timeline has times.
    pub values: Values,
    /// Their qualities. A sample of Bad quality has a value that means nothing: skip it.
    pub quality: QualityColumn,
}

impl Column {
    pub(super) fn append(&mut self, value: Value, quality: Quality) {
        let index = self.values.len() as u32;
        if self.values.push(value).is_err() {
            // A value that does not fit the tag's type is no value.
            return self.append_blank(Quality::BAD_OUT_OF_RANGE);
        }
        if quality != Quality::GOOD {
            self.quality.exceptions.push((index, quality));
        }
    }

    pub(super) fn append_blank(&mut self, quality: Quality) {
        let quality = if quality.is_bad() {
            quality
        } else {
            Quality::BAD_NO_DATA
        };
        let index = self.values.len() as u32;
        self.quality.exceptions.push((index, quality));
        self.values.push_blank();
    }
}
