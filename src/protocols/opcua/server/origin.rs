//! Where the values of variables come from, and what a variable says at a moment.

use super::companion::point::{Point, Shape};
use super::news::Source;
use crate::live_view::{DeviceLive, LiveSample, News};
use crate::model::{Nanos, Quality, Value};
use crate::protocols::ports::LedgerPort;
use opcua::types::{ByteString, DataValue, DateTime, StatusCode, Variant};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// `Bad_WaitingForInitialData`.
const WAITING: Quality = Quality(0x8032_0000);

/// 1970-01-01 in the ticks of OPC UA: 100 ns since 1601-01-01.
pub(super) const UNIX_EPOCH_TICKS: i64 = 116_444_736_000_000_000;

/// The variables of the ledger, in the order of their index.
pub(super) const LEDGER_FIELDS: [&str; 3] = ["Height", "LastBlockHash", "Records"];

/// Where the values of a group of variables come from.
pub(super) enum Origin {
    Device(Arc<DeviceLive>),
    /// The same samples under the companion specifications' names.
    Machine(Arc<DeviceLive>, Vec<Point>),
    Ledger {
        port: Arc<dyn LedgerPort>,
        changed: AtomicI64,
    },
}

/// What a variable says at a moment.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) value: Option<Value>,
    pub(super) time: Option<Nanos>,
    pub(super) quality: Quality,
    shape: Shape,
    /// Of the newest news that it stands for.
    pub(super) serial: u64,
}

impl Origin {
    /// Where news of them come from, from now on.
    pub(super) fn news(&self) -> Source {
        match self {
            Self::Device(live) | Self::Machine(live, _) => Source::Device(live.news()),
            Self::Ledger { port, .. } => Source::Ledger(port.changes()),
        }
    }

    /// What a variable is of, in the words of access; `None` when it is the hub's.
    pub(super) fn thing(&self, index: usize) -> Option<String> {
        let (live, tag) = match self {
            Self::Device(live) => (live, Some(index)),
            Self::Machine(live, points) => (live, points.get(index).and_then(|p| p.tag())),
            Self::Ledger { .. } => return None,
        };
        Some(match tag.and_then(|tag| live.tags.get(tag)) {
            Some(tag) => format!("device:{}/{}", live.id, tag.name),
            None => format!("device:{}", live.id),
        })
    }

    pub(super) fn read(&self, index: usize) -> Reading {
        match self {
            Self::Device(live) => match live.newest(index) {
                (serial, Some(sample)) => Reading::of(&sample, serial),
                (serial, None) => Reading {
                    serial,
                    ..Reading::waiting()
                },
            },
            Self::Machine(live, points) => {
                let point = points.get(index).copied().unwrap_or(Point::Missing);
                // Asked for first: what comes meanwhile is told twice at worst.
                let (serial, _) = live.newest(0);
                let (value, time, quality, shape) = point.read(live);
                Reading {
                    value,
                    time,
                    quality,
                    shape,
                    serial,
                }
            }
            Self::Ledger { port, changed } => Reading {
                value: Some(match index {
                    0 => Value::U64(port.height()),
                    1 => Value::Text(port.last_block_hash().to_string()),
                    _ => Value::U64(port.records()),
                }),
                time: Some(changed.load(Ordering::Relaxed)),
                quality: Quality::GOOD,
                shape: Shape::Plain,
                // There are no older news on the way.
                serial: u64::MAX,
            },
        }
    }

    /// What news say of the variables.
    pub(super) fn readings(&self, news: &News) -> Vec<(usize, Reading)> {
        let samples = news.samples.iter();
        let Self::Machine(_, points) = self else {
            let of = |(i, sample): &(usize, LiveSample)| (*i, Reading::of(sample, news.serial));
            return samples.map(of).collect();
        };
        let mut readings = Vec::new();
        for (tag, sample) in samples {
            for (index, point) in points.iter().enumerate() {
                if let Point::Tag(of, shape) = point
                    && of == tag
                {
                    let reading = Reading::of(sample, news.serial);
                    readings.push((
                        index,
                        Reading {
                            shape: *shape,
                            ..reading
                        },
                    ));
                }
            }
        }
        let states = points.iter().enumerate();
        let states = states.filter(|(_, point)| matches!(point, Point::State(..)));
        readings.extend(states.map(|(index, _)| (index, self.read(index))));
        readings
    }

    /// The device and the tag whose samples variable `index` shows as they are.
    pub(super) fn tag(&self, index: usize) -> Option<(&Arc<DeviceLive>, usize)> {
        match self {
            Self::Device(live) => Some((live, index)),
            Self::Machine(live, points) => Some((live, points.get(index)?.tag()?)),
            Self::Ledger { .. } => None,
        }
    }
}

impl Reading {
    /// Of a variable that has no sample yet.
    pub(super) fn waiting() -> Self {
        Self {
            value: None,
            time: None,
            quality: WAITING,
            shape: Shape::Plain,
            serial: 0,
        }
    }

    fn of(sample: &LiveSample, serial: u64) -> Self {
        Self {
            // A Bad sample's value means nothing, so none is given.
            value: (!sample.quality.is_bad()).then(|| sample.value.clone()),
            time: Some(sample.time),
            quality: sample.quality,
            shape: Shape::Plain,
            serial,
        }
    }

    pub(super) fn data_value(self) -> DataValue {
        self.data_value_at(DateTime::now())
    }

    /// As it is said to be at `now`.
    pub(super) fn data_value_at(self, now: DateTime) -> DataValue {
        DataValue {
            value: self.value.and_then(|value| self.shape.variant(value)),
            status: Some(StatusCode::from(self.quality.0)),
            source_timestamp: self.time.map(date_time),
            source_picoseconds: None,
            server_timestamp: Some(now),
            server_picoseconds: None,
        }
    }

    /// Whether nothing is new. The time decides too: a stuck sensor has new samples of one value.
    pub(super) fn same(&self, other: &Self) -> bool {
        self.time == other.time && self.quality == other.quality && self.same_value(other)
    }

    /// Whether the value is the same, bit for bit.
    pub(super) fn same_value(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (Some(Value::F64(a)), Some(Value::F64(b))) => a.to_bits() == b.to_bits(),
            (a, b) => a == b,
        }
    }
}

pub(super) fn variant(value: Value) -> Variant {
    match value {
        Value::Bool(v) => Variant::Boolean(v),
        Value::I64(v) => Variant::Int64(v),
        Value::U64(v) => Variant::UInt64(v),
        Value::F64(v) => Variant::Double(v),
        Value::Text(v) => Variant::String(v.into()),
        Value::Bytes(v) => Variant::ByteString(ByteString::from(v)),
    }
}

/// A time as OPC UA says it, in whole ticks of 100 ns.
pub(super) fn date_time(time: Nanos) -> DateTime {
    // The stack's own way from ticks counts from 1601, which takes ten times as long.
    DateTime::from(chrono::DateTime::from_timestamp_nanos(time))
}
