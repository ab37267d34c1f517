//! A batch: the samples of one device that are validated and stored together (the paper's buffer
//! pool), kept as columns.

use super::column::{Column, QualityColumn, Values};
use super::{DeviceId, Nanos, Quality, TagSpec, Value};
use std::sync::Arc;

/// The samples of one device that are validated and stored together.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The device.
    pub device: DeviceId,
    /// Fencing epoch of the lease under which it was read.
    pub epoch: u64,
    /// Sequence number within device and epoch, from 1.
    pub sequence: u64,
    /// The device's tags, in the order of the columns.
    pub tags: Arc<[TagSpec]>,
    /// Source times. Tags that are polled together share one timeline.
    pub timelines: Vec<Vec<Nanos>>,
    /// One column a tag.
    pub columns: Vec<Column>,
}

impl Batch {
    /// Number of samples.
    pub fn samples(&self) -> usize {
        self.columns.iter().map(|c| c.values.len()).sum()
    }

    /// Source times of column `column`.
    pub fn times(&self, column: &Column) -> &[Nanos] {
        self.timelines
            .get(column.timeline)
            .map_or(&[], Vec::as_slice)
    }

    /// The newest source time in it.
    pub fn last_time(&self) -> Option<Nanos> {
        self.timelines.iter().flatten().max().copied()
    }
}

/// Gathers samples into a batch. Sources write into it.
///
/// A polling source calls [`begin_scan`](Self::begin_scan) and then gives every tag one value; a
/// subscribing source calls [`push`](Self::push) whenever a value arrives. One source does one or
/// the other.
#[derive(Debug)]
pub struct BatchBuilder {
    device: DeviceId,
    tags: Arc<[TagSpec]>,
    shared_timeline: bool,
    timelines: Vec<Vec<Nanos>>,
    columns: Vec<Column>,
    samples: usize,
    /// Longest column of the batch before: the room that the next one's columns get.
    rows: usize,
}

/// How the times of a device's tags relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timelines {
    Shared,
    Own,
}

impl BatchBuilder {
    /// For a source that polls all tags at once.
    pub fn scanning(device: DeviceId, tags: Arc<[TagSpec]>) -> Self {
        Self::new(device, tags, Timelines::Shared)
    }

    /// For a source whose tags change each in their own time.
    pub fn subscribing(device: DeviceId, tags: Arc<[TagSpec]>) -> Self {
        Self::new(device, tags, Timelines::Own)
    }

    fn new(device: DeviceId, tags: Arc<[TagSpec]>, timelines: Timelines) -> Self {
        let shared_timeline = timelines == Timelines::Shared;
        let mut builder = Self {
            device,
            tags,
            shared_timeline,
            timelines: Vec::new(),
            columns: Vec::new(),
            samples: 0,
            rows: 0,
        };
        builder.reset();
        builder
    }

    fn reset(&mut self) {
        let count = if self.shared_timeline {
            1
        } else {
            self.tags.len()
        };
        let shared = self.shared_timeline;
        // A scanning device's batches are equally long, so this saves growing every column. A
        // subscribing one's tags are not, and one busy tag must not size all the others.
        let rows = if shared { self.rows } else { 0 };
        let column = |(i, tag): (usize, &TagSpec)| Column {
            timeline: if shared { 0 } else { i },
            values: Values::with_capacity(tag.kind, rows),
            quality: QualityColumn::default(),
        };
        self.timelines = vec![Vec::new(); count];
        self.columns = self.tags.iter().enumerate().map(column).collect();
        self.samples = 0;
    }

    /// The device's tags, in column order.
    pub fn tags(&self) -> &Arc<[TagSpec]> {
        &self.tags
    }

    /// Samples gathered so far.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Begins a scan at `time`. What the previous scan left without a value becomes Bad_NoData.
    pub fn begin_scan(&mut self, time: Nanos) {
        assert!(self.shared_timeline, "scans need a scanning builder");
        self.finish_scan();
        self.timelines[0].push(time);
    }

    /// Gives column `column` its number in the running scan. Only the first value of a scan counts; a
    /// column of a type that cannot keep it gets Bad.
    pub fn scan_f64(&mut self, column: usize, value: f64) {
        self.scan_f64s(column, [value]);
    }

    /// Gives the columns from `first` on one number each in the running scan, all of quality Good: the
    /// fast path of polling sources. Only the first value of a scan counts; a column of a type that
    /// cannot keep it gets Bad, and values past the last column are dropped.
    pub fn scan_f64s(&mut self, first: usize, values: impl IntoIterator<Item = f64>) {
        self.scan_run(first, values, |column, x| match column {
            Values::F64(v) => {
                v.push(x);
                Ok(())
            }
            _ => Err(Value::F64(x)),
        });
    }

    /// As [`scan_f64s`](Self::scan_f64s), for unsigned integers.
    pub fn scan_u64s(&mut self, first: usize, values: impl IntoIterator<Item = u64>) {
        self.scan_run(first, values, |column, x| match column {
            Values::U64(v) => {
                v.push(x);
                Ok(())
            }
            _ => Err(Value::U64(x)),
        });
    }

    /// As [`scan_f64s`](Self::scan_f64s), for signed integers.
    pub fn scan_i64s(&mut self, first: usize, values: impl IntoIterator<Item = i64>) {
        self.scan_run(first, values, |column, x| match column {
            Values::I64(v) => {
                v.push(x);
                Ok(())
            }
            _ => Err(Value::I64(x)),
        });
    }

    /// As [`scan_f64s`](Self::scan_f64s), for switches.
    pub fn scan_bools(&mut self, first: usize, values: impl IntoIterator<Item = bool>) {
        self.scan_run(first, values, |column, x| match column {
            Values::Bool(v) => {
                v.push(x);
                Ok(())
            }
            _ => Err(Value::Bool(x)),
        });
    }

    fn scan_run<T>(
        &mut self,
        first: usize,
        values: impl IntoIterator<Item = T>,
        push: impl Fn(&mut Values, T) -> Result<(), Value>,
    ) {
        let scans = self.timelines.first().map_or(0, Vec::len);
        for (column, value) in self.columns.iter_mut().skip(first).zip(values) {
            if column.values.len() + 1 != scans {
                continue;
            }
            if let Err(value) = push(&mut column.values, value) {
                column.append(value, Quality::GOOD);
            }
            self.samples += 1;
        }
    }

    /// Gives column `column` its value in the running scan. Only the first value of a scan counts.
    pub fn scan(&mut self, column: usize, value: Value, quality: Quality) {
        let scans = self.timelines.first().map_or(0, Vec::len);
        let due = self
            .columns
            .get(column)
            .is_some_and(|c| c.values.len() + 1 == scans);
        if due {
            self.append(column, value, quality);
        }
    }

    /// Gives column `column` no value in the running scan, and says why by `quality`.
    pub fn scan_missing(&mut self, column: usize, quality: Quality) {
        let scans = self.timelines.first().map_or(0, Vec::len);
        let due = self
            .columns
            .get(column)
            .is_some_and(|c| c.values.len() + 1 == scans);
        if due {
            self.append_blank(column, quality);
        }
    }

    /// Appends a sample of a subscribed tag; `None` is a notification without a value.
    pub fn push(&mut self, column: usize, time: Nanos, value: Option<Value>, quality: Quality) {
        assert!(
            !self.shared_timeline,
            "single samples need a subscribing builder"
        );
        let Some(timeline) = self.timelines.get_mut(column) else {
            return;
        };
        timeline.push(time);
        match value {
            Some(value) => self.append(column, value, quality),
            None => self.append_blank(column, quality),
        }
    }

    fn append(&mut self, column: usize, value: Value, quality: Quality) {
        if let Some(column) = self.columns.get_mut(column) {
            column.append(value, quality);
            self.samples += 1;
        }
    }

    fn append_blank(&mut self, column: usize, quality: Quality) {
        if let Some(column) = self.columns.get_mut(column) {
            column.append_blank(quality);
            self.samples += 1;
        }
    }

    fn finish_scan(&mut self) {
        let scans = self.timelines.first().map_or(0, Vec::len);
        if !self.shared_timeline || self.samples == scans * self.columns.len() {
            return;
        }
        for column in 0..self.columns.len() {
            if self.columns[column].values.len() < scans {
                self.append_blank(column, Quality::BAD_NO_DATA);
            }
        }
    }

    /// The newest sample of every tag that has one since the batch began: column, time, quality, value.
    pub fn newest(&self) -> impl Iterator<Item = (usize, Nanos, Quality, Value)> + '_ {
        self.columns.iter().enumerate().filter_map(|(i, column)| {
            let last = column.values.len().checked_sub(1)?;
            let time = *self.timelines.get(column.timeline)?.get(last)?;
            Some((i, time, column.quality.get(last), column.values.get(last)?))
        })
    }

    /// How many samples each column has.
    pub fn counts(&self) -> Vec<usize> {
        self.columns.iter().map(|c| c.values.len()).collect()
    }

    /// The samples that came after each column had `seen` of them, column by column, oldest first:
    /// column, time, quality, value.
    pub fn since<'a>(
        &'a self,
        seen: &'a [usize],
    ) -> impl Iterator<Item = (usize, Nanos, Quality, Value)> + 'a {
        self.columns
            .iter()
            .enumerate()
            .flat_map(move |(i, column)| {
                let from = seen.get(i).copied().unwrap_or(0);
                (from..column.values.len()).filter_map(move |row| {
                    let time = *self.timelines.get(column.timeline)?.get(row)?;
                    Some((i, time, column.quality.get(row), column.values.get(row)?))
                })
            })
    }

    /// The batch gathered so far, leaving the builder empty; `None` when there is no sample.
    pub fn take(&mut self, epoch: u64, sequence: u64) -> Option<Batch> {
        self.finish_scan();
        if self.samples == 0 {
            return None;
        }
        self.rows = self.timelines.iter().map(Vec::len).max().unwrap_or(0);
        let timelines = std::mem::take(&mut self.timelines);
        let columns = std::mem::take(&mut self.columns);
        self.reset();
        Some(Batch {
            device: self.device.clone(),
            epoch,
            sequence,
            tags: self.tags.clone(),
            timelines,
            columns,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ValueKind;

    fn builder(kinds: &[ValueKind]) -> BatchBuilder {
        let tag = |(i, kind): (usize, &ValueKind)| TagSpec {
            name: format!("t{i}").into(),
            kind: *kind,
            unit: String::new(),
            description: String::new(),
            range: None,
            writable: false,
        };
        BatchBuilder::scanning("d".into(), kinds.iter().enumerate().map(tag).collect())
    }

    #[test]
    fn a_run_is_the_same_as_its_values_one_by_one() {
        let kinds = [
            ValueKind::U64,
            ValueKind::F64,
            ValueKind::Bool,
            ValueKind::U64,
        ];
        let (mut run, mut single) = (builder(&kinds), builder(&kinds));
        for time in 1..4 {
            run.begin_scan(time);
            single.begin_scan(time);
            run.scan_u64s(0, [7, 8, 9, 10, 11]);
            run.scan_u64s(3, [12]);
            for (column, value) in [7, 8, 9, 10].into_iter().enumerate() {
                single.scan(column, Value::U64(value), Quality::GOOD);
            }
        }
        let batch = run.take(1, 1).unwrap();
        assert_eq!(batch, single.take(1, 1).unwrap());
        assert_eq!(batch.columns[1].values, Values::F64(vec![8.0; 3]));
        assert_eq!(batch.columns[2].quality.get(2), Quality::BAD_OUT_OF_RANGE);
        assert_eq!(batch.columns[3].values, Values::U64(vec![10; 3]));
    }

    #[test]
    fn what_a_scan_leaves_out_becomes_bad_no_data() {
        let mut builder = builder(&[ValueKind::F64, ValueKind::F64]);
        builder.begin_scan(1);
        builder.scan_f64(1, 0.5);
        builder.begin_scan(2);
        builder.scan_f64s(0, [1.0, 2.0]);
        let batch = builder.take(1, 1).unwrap();
        assert_eq!(batch.samples(), 4);
        assert_eq!(batch.columns[0].quality.get(0), Quality::BAD_NO_DATA);
        assert_eq!(batch.columns[0].quality.get(1), Quality::GOOD);
        assert_eq!(builder.samples(), 0);
        assert!(builder.take(1, 2).is_none());
    }
}
