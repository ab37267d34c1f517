//! What is done with samples between the wire and the batch: converted, decimated, held back while
//! nothing changes, and cut into the machine's cycles.
//!
//! It is a source around a source, so that an edge node and a hub do it alike.

mod config;
mod steps;
mod units;

pub use config::{Convert, CycleConfig, Deadband, Decimate, Keep, ProcessConfig};

use super::control::Control;
use super::{Mode, Recorded, Sent, Source, SourceError};
use crate::model::{About, BatchBuilder, DeviceId, Nanos, Peer, TagSpec, Value};
use async_trait::async_trait;
use std::collections::VecDeque;
use std::sync::Arc;
use steps::{Sample, Steps};

/// Why samples cannot be processed as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tag `{tag}`: {reason}")]
pub struct PreprocessError {
    /// Which tag.
    pub tag: String,
    /// Why.
    pub reason: String,
}

/// What is done with a device's samples.
#[derive(Clone, Debug)]
pub struct Processing {
    tags: Arc<[TagSpec]>,
    steps: Vec<Steps>,
    cycle: Option<Cycle>,
}

#[derive(Clone, Debug)]
struct Cycle {
    column: usize,
    counter: bool,
    /// The value before.
    last: Option<Value>,
}

impl CycleConfig {
    /// The tag that tells cycles, and whether it counts them; `None` unless exactly one is named.
    pub fn tag(&self) -> Option<(&str, bool)> {
        match (&self.rising_edge, &self.counter) {
            (Some(tag), None) => Some((tag, false)),
            (None, Some(tag)) => Some((tag, true)),
            _ => None,
        }
    }
}

impl Cycle {
    /// Whether this value begins a cycle.
    fn begins(&mut self, value: &Value) -> bool {
        // Not even equal to itself, it would end a batch each time.
        if matches!(value, Value::F64(number) if number.is_nan()) {
            return false;
        }
        let on = |value: &Value| match value {
            Value::Text(text) => !text.is_empty(),
            Value::Bytes(bytes) => !bytes.is_empty(),
            other => other.as_f64() != Some(0.0),
        };
        match (self.last.replace(value.clone()), self.counter) {
            // What was before is not known: it may be the middle of a cycle.
            (None, _) => false,
            (Some(last), true) => last != *value,
            (Some(last), false) => !on(&last) && on(value),
        }
    }
}

impl Processing {
    /// The processing of a device with these tags; `of` has what is asked for each of them.
    pub fn new(
        tags: &[TagSpec],
        of: &[ProcessConfig],
        cycle: Option<&CycleConfig>,
    ) -> Result<Self, PreprocessError> {
        let none = ProcessConfig::default();
        let mut processed = Vec::with_capacity(tags.len());
        let mut steps = Vec::with_capacity(tags.len());
        for (at, tag) in tags.iter().enumerate() {
            let (of_tag, tag) = Steps::new(of.get(at).unwrap_or(&none), tag.clone())?;
            steps.push(of_tag);
            processed.push(tag);
        }
        let cycle = match cycle.map(CycleConfig::tag) {
            Some(Some(cycle)) => Some(cycle),
            Some(None) => {
                return Err(PreprocessError {
                    tag: String::new(),
                    reason: "`cycle` needs either `rising_edge` or `counter`".to_owned(),
                });
            }
            None => None,
        };
        let cycle = match cycle {
            Some((name, counter)) => {
                let column = tags.iter().position(|tag| *tag.name == *name);
                let column = column.ok_or_else(|| PreprocessError {
                    tag: name.to_owned(),
                    reason: "cycles are told by it, and the device has no such tag".to_owned(),
                })?;
                Some(Cycle {
                    column,
                    counter,
                    last: None,
                })
            }
            None => None,
        };
        Ok(Self {
            tags: processed.into(),
            steps,
            cycle,
        })
    }
}

/// A source whose samples are processed.
pub struct Preprocessed {
    inner: Box<dyn Source>,
    processing: Processing,
    /// What the source has written and was not yet looked at.
    raw: BatchBuilder,
    /// Samples that were not yet passed on, by time; column and sample.
    waiting: VecDeque<(usize, Sample)>,
    ended: bool,
}

impl Preprocessed {
    /// `inner`, which reads `device`, with its samples processed.
    pub fn new(device: DeviceId, inner: Box<dyn Source>, processing: Processing) -> Self {
        let raw = match inner.mode() {
            Mode::Scanning => BatchBuilder::scanning(device, inner.tags()),
            Mode::Subscribing => BatchBuilder::subscribing(device, inner.tags()),
        };
        Self {
            inner,
            processing,
            raw,
            waiting: VecDeque::new(),
            ended: false,
        }
    }

    /// Looks at what the source has written.
    fn gather(&mut self) {
        let Some(batch) = self.raw.take(0, 0) else {
            return;
        };
        let mut samples = Vec::with_capacity(batch.samples());
        for (at, column) in batch.columns.iter().enumerate() {
            for (index, time) in batch.times(column).iter().enumerate() {
                let quality = column.quality.get(index);
                let sample = Sample {
                    time: *time,
                    // Without a value where there was none: what stands there means nothing.
                    value: column.values.get(index).filter(|_| !quality.is_bad()),
                    quality,
                };
                samples.push((at, sample));
            }
        }
        // Columns after each other become moments after each other; within one the order stays.
        samples.sort_by_key(|(_, sample)| sample.time);
        self.waiting.extend(samples);
    }

    /// Passes on what waits, up to the end of a cycle.
    fn pass_on(&mut self, out: &mut BatchBuilder) {
        while let Some((_, first)) = self.waiting.front() {
            if self.begins_cycle(first.time) {
                self.ended = true;
                return;
            }
            let time = self.waiting.front().map(|(_, s)| s.time);
            while let Some((column, sample)) = self
                .waiting
                .pop_front_if(|(_, sample)| Some(sample.time) == time)
            {
                let steps = self.processing.steps.get_mut(column);
                if let Some(sample) = steps.and_then(|steps| steps.take(sample)) {
                    out.push(column, sample.time, sample.value, sample.quality);
                }
            }
        }
    }

    /// Whether a cycle begins at `time`, the moment at the front. Asked again about the same moment,
    /// it says no: the cycle has begun.
    fn begins_cycle(&mut self, time: Nanos) -> bool {
        let Some(cycle) = &mut self.processing.cycle else {
            return false;
        };
        let now = self.waiting.iter().take_while(|(_, s)| s.time == time);
        let trigger = now.filter(|(column, _)| *column == cycle.column).last();
        let value = trigger.and_then(|(_, sample)| sample.value.as_ref());
        value.is_some_and(|value| cycle.begins(value))
    }
}

#[async_trait]
impl Source for Preprocessed {
    fn tags(&self) -> Arc<[TagSpec]> {
        self.processing.tags.clone()
    }

    fn mode(&self) -> Mode {
        Mode::Subscribing
    }

    async fn connect(&mut self) -> Result<(), SourceError> {
        self.inner.connect().await?;
        self.processing.steps.iter_mut().for_each(Steps::reset);
        Ok(())
    }

    async fn read(&mut self, out: &mut BatchBuilder) -> Result<(), SourceError> {
        if self.waiting.is_empty() {
            // Cancelled, it has written whole scans or nothing; they are looked at the next time.
            let read = self.inner.read(&mut self.raw).await;
            self.gather();
            self.pass_on(out);
            return read;
        }
        self.pass_on(out);
        Ok(())
    }

    fn batch_ended(&mut self) -> bool {
        std::mem::take(&mut self.ended)
    }

    fn about(&self) -> About {
        self.inner.about()
    }

    fn peer(&self) -> Option<Peer> {
        self.inner.peer()
    }

    fn lost(&mut self) -> u64 {
        self.inner.lost()
    }

    fn sent(&mut self) -> Option<Sent> {
        self.inner.sent()
    }

    fn go_on_from(&mut self, recorded: Arc<dyn Recorded>) {
        self.inner.go_on_from(recorded);
    }

    fn control(&self) -> Option<Arc<dyn Control>> {
        self.inner.control()
    }

    async fn close(&mut self) {
        self.inner.close().await;
    }

    async fn turn_away(&mut self) {
        self.inner.turn_away().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Quality, ValueKind};

    /// Answers one scan of (running, part, force) after the other.
    struct Robot(VecDeque<(Nanos, [f64; 3])>);

    fn robot_tags() -> Arc<[TagSpec]> {
        let tag = |name: &str| TagSpec {
            name: name.into(),
            kind: ValueKind::F64,
            unit: String::new(),
            description: String::new(),
            range: None,
            writable: false,
        };
        ["running", "part", "force"].map(tag).into()
    }

    #[async_trait]
    impl Source for Robot {
        fn tags(&self) -> Arc<[TagSpec]> {
            robot_tags()
        }

        fn mode(&self) -> Mode {
            Mode::Scanning
        }

        async fn connect(&mut self) -> Result<(), SourceError> {
            Ok(())
        }

        async fn read(&mut self, out: &mut BatchBuilder) -> Result<(), SourceError> {
            // Two scans at a time, so that a cycle may end between them.
            for _ in 0..2 {
                let Some((time, values)) = self.0.pop_front() else {
                    return std::future::pending().await;
                };
                out.begin_scan(time);
                out.scan_f64s(0, values);
            }
            Ok(())
        }
    }

    fn rising_edge(tag: &str) -> CycleConfig {
        CycleConfig {
            rising_edge: Some(tag.to_owned()),
            counter: None,
        }
    }

    fn counter(tag: &str) -> CycleConfig {
        CycleConfig {
            rising_edge: None,
            counter: Some(tag.to_owned()),
        }
    }

    /// The batches that a reading task would make: the times of the force in each.
    async fn batches(cycle: CycleConfig, scans: &[[f64; 3]]) -> Vec<Vec<Nanos>> {
        let scans = scans.iter().enumerate().map(|(at, v)| (at as Nanos, *v));
        let processing = Processing::new(&robot_tags(), &[], Some(&cycle)).unwrap();
        let inner = Box::new(Robot(scans.collect()));
        let mut source = Preprocessed::new("robot-1".into(), inner, processing);
        let mut builder = BatchBuilder::subscribing("robot-1".into(), source.tags());
        let mut batches = Vec::new();
        source.connect().await.unwrap();
        loop {
            let read = source.read(&mut builder);
            let read = tokio::time::timeout(std::time::Duration::ZERO, read).await;
            if source.batch_ended() || read.is_err() {
                let batch = builder.take(1, 1).unwrap();
                batches.push(batch.times(&batch.columns[2]).to_vec());
            }
            if read.is_err() {
                return batches;
            }
        }
    }

    #[tokio::test]
    async fn a_cycle_is_a_batch_and_begins_with_its_edge() {
        let scans = [
            [1.0, 7.0, 0.0],
            [1.0, 7.0, 0.0],
            [0.0, 7.0, 0.0],
            [1.0, 8.0, 0.0],
            [1.0, 8.0, 0.0],
            [0.0, 8.0, 0.0],
            [0.0, 8.0, 0.0],
            [1.0, 9.0, 0.0],
        ];
        let cut = [vec![0, 1, 2], vec![3, 4, 5, 6], vec![7]];
        let edge = rising_edge("running");
        assert_eq!(batches(edge, &scans).await, cut);
        let parts = counter("part");
        assert_eq!(batches(parts, &scans).await, cut);
    }

    #[tokio::test]
    async fn cycles_shorter_than_a_reading_are_kept_apart() {
        let scans: Vec<_> = (0..6).map(|n| [0.0, f64::from(n), 0.0]).collect();
        let parts = counter("part");
        let batches = batches(parts, &scans).await;
        assert_eq!(batches, (0..6).map(|n| vec![n]).collect::<Vec<_>>());
    }

    #[test]
    fn texts_tell_cycles_and_nonsense_does_not() {
        let begins = |counter, values: &[Value]| {
            let mut cycle = Cycle {
                column: 0,
                counter,
                last: None,
            };
            let begins = values.iter().map(|value| cycle.begins(value));
            begins.collect::<Vec<_>>()
        };
        let text = |text: &str| Value::Text(text.into());
        let states = ["Ready", "Executing", "Executing", "Ready"].map(text);
        assert_eq!(begins(true, &states), [false, true, false, true]);
        let part = ["", "4711", "4711", "", "4712"].map(text);
        assert_eq!(begins(false, &part), [false, true, false, false, true]);
        let numbers = [1.0, f64::NAN, f64::NAN, 1.0, 2.0].map(Value::F64);
        assert_eq!(begins(true, &numbers), [false, false, false, false, true]);
    }

    #[test]
    fn a_tag_that_is_not_there_is_named() {
        let cycle = counter("parts");
        let error = Processing::new(&robot_tags(), &[], Some(&cycle)).unwrap_err();
        let said = "tag `parts`: cycles are told by it, and the device has no such tag";
        assert_eq!(error.to_string(), said);
    }

    #[tokio::test]
    async fn each_tag_takes_its_own_steps() {
        let scans = (0..8).map(|n| (n, [1.0, 7.0, n as f64])).collect();
        let deadband = ProcessConfig {
            deadband: Some(Deadband {
                absolute: Some(0.0),
                percent: None,
            }),
            ..ProcessConfig::default()
        };
        let decimate = ProcessConfig {
            decimate: Some(Decimate {
                every: 4,
                keep: Keep::Max,
            }),
            ..ProcessConfig::default()
        };
        let of = [deadband, ProcessConfig::default(), decimate];
        let processing = Processing::new(&robot_tags(), &of, None).unwrap();
        let inner = Box::new(Robot(scans));
        let mut source = Preprocessed::new("robot-1".into(), inner, processing);
        let mut builder = BatchBuilder::subscribing("robot-1".into(), source.tags());
        for _ in 0..4 {
            source.read(&mut builder).await.unwrap();
        }
        let batch = builder.take(1, 1).unwrap();
        let times: Vec<_> = batch.columns.iter().map(|c| batch.times(c).len()).collect();
        assert_eq!(times, [1, 8, 2]);
        assert_eq!(batch.columns[2].values.get(1), Some(Value::F64(7.0)));
        assert_eq!(batch.columns[2].quality.get(1), Quality::GOOD);
    }
}
