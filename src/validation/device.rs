//! The validator of one device: a batch in, a verdict out.
//!
//! The charts run on from batch to batch. A refused batch does not feed them: after it they are as
//! they were before. What a signal does to its own chart: individuals and moving range remember
//! nothing; an EWMA goes on, so it signals until the process, and then the average, are back; a CUSUM
//! starts again from zero unless told to go on; run rules go on counting.

use super::ValidationError;
use super::armed::Armed;
use super::bits::{Reader, put_count};
use super::clock::{Run, TimelineClock, first_column};
use super::column::{Hit, Hits, Outcome, Samples, judge, judge_fast};
use super::config::{Consequence, TagValidation, ValidationConfig};
use super::limits::{LIMITS_VERSION, Limits};
use super::phase1::{Baseline, Phase1};
use super::settings::TagSettings;
use super::state::{self, TagState};
use super::verdict::{Chart, Finding, Findings, Rule, Verdict};
use crate::model::{Batch, Column, Nanos, TagSpec, Values, VerdictClass};
use std::sync::Arc;

/// Version of the state and settings documents.
const DOCUMENT_VERSION: u8 = 1;

/// What came of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// What is said of it.
    pub verdict: Verdict,
    /// The limits of the device, when this batch ended Phase I of some tags.
    pub learned: Option<Limits>,
}

/// Judges the batches of one device, in order.
///
/// `judge` is a pure function of (settings, limits, state, batch), with + − × ÷ √ as its only
/// arithmetic: from [`settings_document`](Self::settings_document)'s content and
/// [`state`](Self::state) as they were before a batch, any machine finds the same verdict, bit by bit.
#[derive(Clone, Debug)]
pub struct DeviceValidator {
    tags: Arc<[TagSpec]>,
    settings: Vec<TagSettings>,
    clock_recovery: u32,
    on_clock: Consequence,
    baselines: Vec<Option<Baseline>>,
    limits: Arc<Limits>,
    armed: Vec<Armed>,
    states: Vec<TagState>,
    phase1: Vec<Option<Box<Phase1>>>,
    clocks: Vec<TimelineClock>,
    before: Before,
    numbers: Vec<f64>,
}

/// The charts as they were before the batch that is being judged.
#[derive(Clone, Debug, Default)]
struct Before {
    states: Vec<TagState>,
    phase1: Vec<Option<Box<Phase1>>>,
    /// Tags whose Phase I this batch ended.
    ended: Vec<usize>,
}

impl DeviceValidator {
    /// A validator whose charts start afresh. `per_tag` has one override a tag, or is empty.
    /// Tags that `learned` knows are judged by it; the others begin Phase I.
    pub fn new(
        tags: Arc<[TagSpec]>,
        device: &ValidationConfig,
        per_tag: &[TagValidation],
        learned: Option<Limits>,
    ) -> Result<Self, ValidationError> {
        if !per_tag.is_empty() && per_tag.len() != tags.len() {
            return Err(ValidationError::OverrideCount {
                tags: tags.len(),
                overrides: per_tag.len(),
            });
        }
        let none = TagValidation::default();
        let own = |i: usize| per_tag.get(i).unwrap_or(&none);
        let settings = tags.iter().enumerate();
        let settings = settings.map(|(i, tag)| TagSettings::resolve(tag, device, own(i)));
        let settings = settings.collect::<Result<Vec<_>, _>>()?;
        let baselines = settings
            .iter()
            .map(|s| baseline_of(s, learned.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        let count = tags.len();
        let mut validator = Self {
            tags,
            clock_recovery: device.clock_recovery.get(),
            on_clock: device.on_clock,
            limits: Arc::new(Limits {
                version: LIMITS_VERSION,
                tags: Vec::new(),
            }),
            armed: Vec::new(),
            states: vec![TagState::default(); count],
            phase1: vec![None; count],
            clocks: Vec::new(),
            before: Before::default(),
            numbers: Vec::new(),
            settings,
            baselines,
        };
        validator.arm_all();
        Ok(validator)
    }

    /// The validator as it was when [`state`](Self::state) gave `bytes`, under the same settings and
    /// the limits then in force.
    pub fn restore(
        tags: Arc<[TagSpec]>,
        device: &ValidationConfig,
        per_tag: &[TagValidation],
        limits: Option<Limits>,
        bytes: &[u8],
    ) -> Result<Self, ValidationError> {
        let mut validator = Self::new(tags, device, per_tag, limits)?;
        validator.read_state(bytes)?;
        Ok(validator)
    }

    /// The device's tags, in column order.
    pub fn tags(&self) -> &Arc<[TagSpec]> {
        &self.tags
    }

    /// The limits in force.
    pub fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    /// Tags that are still in Phase I.
    pub fn learning(&self) -> usize {
        self.phase1.iter().flatten().count()
    }

    /// Ends Phase I now for every tag that is still in it, with the samples it has. `None` when
    /// there was none.
    pub fn finish_phase1(&mut self) -> Option<Limits> {
        let ended: Vec<usize> = self.tags_in_phase1().collect();
        for &tag in &ended {
            self.end_phase1(tag);
        }
        (!ended.is_empty()).then(|| self.write_limits())
    }

    /// Judges the device's next batch.
    pub fn judge(&mut self, batch: &Batch) -> Judgement {
        let mut findings = Findings::default();
        if let Some(malformed) = self.malformed(batch) {
            findings.push(malformed);
            return Judgement {
                verdict: findings.verdict(),
                learned: None,
            };
        }
        let runs = self.judge_clocks(batch, &mut findings);
        if findings.refused() {
            self.refuse_clocks(batch, &runs);
            return Judgement {
                verdict: findings.verdict(),
                learned: None,
            };
        }
        self.remember();
        for (tag, column) in batch.columns.iter().enumerate() {
            self.judge_column(batch, tag, column, &runs, &mut findings);
        }
        if findings.refused() {
            self.take_back();
            return Judgement {
                verdict: findings.verdict(),
                learned: None,
            };
        }
        self.accept_clocks(batch);
        let learned = (!self.before.ended.is_empty()).then(|| self.write_limits());
        Judgement {
            verdict: findings.verdict(),
            learned,
        }
    }

    /// Canonical bytes of everything the charts remember. Taken before a batch is judged, they go
    /// with it into the sealed batch.
    pub fn state(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + 24 * self.states.len());
        out.push(DOCUMENT_VERSION);
        put_count(&mut out, self.states.len() as u32);
        put_count(&mut out, self.clocks.len() as u32);
        for clock in &self.clocks {
            clock.write(&mut out);
        }
        let tags = self.settings.iter().zip(&self.armed).zip(&self.states);
        for (((settings, armed), state), phase1) in tags.zip(&self.phase1) {
            state::write(&mut out, settings, armed, state, phase1.as_deref());
        }
        out
    }

    /// Canonical bytes of the settings and limits in force: what judges the next batch.
    pub fn settings_document(&self) -> Vec<u8> {
        weighbridge_verifier::encode(&(
            DOCUMENT_VERSION,
            self.clock_recovery,
            self.on_clock,
            &self.settings,
            &*self.limits,
        ))
    }

    fn read_state(&mut self, bytes: &[u8]) -> Result<(), ValidationError> {
        let mut from = Reader(bytes);
        let version = from.u8()?;
        if version != DOCUMENT_VERSION {
            return Err(ValidationError::State(format!(
                "its version {version} is not known here, only {DOCUMENT_VERSION}"
            )));
        }
        let tags = from.count()? as usize;
        if tags != self.states.len() {
            return Err(ValidationError::State(format!(
                "it is of {tags} tags, and the device has {}",
                self.states.len()
            )));
        }
        let clocks = from.count()? as usize;
        if clocks > self.states.len().max(1) {
            return Err(ValidationError::State(format!(
                "it has {clocks} clocks for {tags} tags"
            )));
        }
        self.clocks = (0..clocks)
            .map(|_| TimelineClock::read(&mut from))
            .collect::<Result<_, _>>()?;
        let tags = self.settings.iter().zip(&self.armed);
        let memory = self.states.iter_mut().zip(&mut self.phase1);
        for ((settings, armed), (state, phase1)) in tags.zip(memory) {
            (*state, *phase1) = state::read(&mut from, settings, armed, phase1.is_some())?;
        }
        if self.state() != bytes {
            return Err(ValidationError::State("it is not in canonical form".into()));
        }
        Ok(())
    }

    fn tags_in_phase1(&self) -> impl Iterator<Item = usize> + '_ {
        let slots = self.phase1.iter().enumerate();
        slots.filter(|(_, p)| p.is_some()).map(|(tag, _)| tag)
    }

    /// Builds every tag's charts from settings and baselines.
    fn arm_all(&mut self) {
        let known = self.settings.iter().zip(&self.baselines);
        self.armed = known.map(|(s, b)| Armed::new(s, b.as_ref())).collect();
        for (tag, settings) in self.settings.iter().enumerate() {
            if let (Some(state), Some(armed)) = (self.states.get_mut(tag), self.armed.get(tag)) {
                state.start(armed);
            }
            let known = self.baselines.get(tag).is_some_and(Option::is_some);
            if let Some(slot) = self.phase1.get_mut(tag)
                && settings.learns()
                && !known
            {
                let (target, lambda) = (settings.phase1_samples, settings.lambda);
                *slot = Some(Box::new(Phase1::new(target, lambda, settings.subgroup)));
            }
        }
        self.write_limits();
    }

    /// Ends Phase I of a tag: its charts begin.
    fn end_phase1(&mut self, tag: usize) {
        let Some(phase1) = self.phase1.get_mut(tag).and_then(Option::take) else {
            return;
        };
        let baseline = phase1.finish();
        if let (Some(settings), Some(armed), Some(state), Some(slot)) = (
            self.settings.get(tag),
            self.armed.get_mut(tag),
            self.states.get_mut(tag),
            self.baselines.get_mut(tag),
        ) {
            *armed = Armed::new(settings, Some(&baseline));
            state.start(armed);
            *slot = Some(baseline);
        }
    }

    fn write_limits(&mut self) -> Limits {
        let tags = self.settings.iter().zip(&self.armed).zip(&self.baselines);
        let limits = Limits {
            version: LIMITS_VERSION,
            tags: tags
                .filter_map(|((settings, armed), b)| armed.document(settings, b.as_ref()))
                .collect(),
        };
        self.limits = Arc::new(limits.clone());
        limits
    }

    /// Whether a batch has the device's shape; if not, the finding that says so.
    fn malformed(&self, batch: &Batch) -> Option<Finding> {
        let timelines = batch.timelines.len() <= self.tags.len().max(1);
        let known = batch.columns.len() == self.tags.len() && timelines;
        let broken = batch.columns.iter().position(|column| {
            let times = batch.timelines.get(column.timeline);
            times.is_none_or(|t| t.len() != column.values.len())
                || u32::try_from(column.values.len()).is_err()
        });
        if known && broken.is_none() {
            return None;
        }
        let tag = broken.unwrap_or(0);
        let hit = Hit {
            chart: Chart::Sensor,
            rule: Rule::Malformed,
            first: 0,
            last: 0,
            count: 1,
            value: 0.0,
            statistic: 0.0,
            limit: 0.0,
        };
        Some(self.finding(tag, hit, batch.last_time().unwrap_or(0)))
    }

    fn judge_clocks(&self, batch: &Batch, findings: &mut Findings) -> Vec<Run> {
        let mut runs = Vec::with_capacity(batch.timelines.len());
        for (timeline, times) in batch.timelines.iter().enumerate() {
            let clock = self.clocks.get(timeline).copied().unwrap_or_default();
            let run = clock.judge(times, self.clock_recovery);
            if let Run::Back { index, before } = run {
                let tag = first_column(batch, timeline);
                let number = batch.columns.get(tag).and_then(|c| c.values.number(index));
                let time = times.get(index).copied().unwrap_or(before);
                let hit = Hit {
                    chart: Chart::Sensor,
                    rule: Rule::ClockBack,
                    first: index as u32,
                    last: index as u32,
                    count: 1,
                    value: number.unwrap_or(0.0),
                    statistic: time as f64,
                    limit: before as f64,
                };
                findings.push(self.finding(tag, hit, time));
            }
            runs.push(run);
        }
        runs
    }

    fn accept_clocks(&mut self, batch: &Batch) {
        if self.clocks.len() < batch.timelines.len() {
            self.clocks
                .resize(batch.timelines.len(), TimelineClock::default());
        }
        for (clock, times) in self.clocks.iter_mut().zip(&batch.timelines) {
            clock.accept(times);
        }
    }

    fn refuse_clocks(&mut self, batch: &Batch, runs: &[Run]) {
        let clocks = self.clocks.iter_mut().zip(&batch.timelines);
        for ((clock, times), run) in clocks.zip(runs) {
            clock.refuse(times, *run);
        }
    }

    fn remember(&mut self) {
        self.before.states.clone_from(&self.states);
        self.before.ended.clear();
        if self.phase1.iter().any(Option::is_some) {
            self.before.phase1.clone_from(&self.phase1);
        } else {
            self.before.phase1.clear();
        }
    }

    /// Puts the charts back to before the batch, which was refused.
    fn take_back(&mut self) {
        self.states.clone_from(&self.before.states);
        for tag in std::mem::take(&mut self.before.ended) {
            if let (Some(armed), Some(baseline), Some(settings)) = (
                self.armed.get_mut(tag),
                self.baselines.get_mut(tag),
                self.settings.get(tag),
            ) {
                *baseline = None;
                *armed = Armed::new(settings, None);
            }
        }
        if !self.before.phase1.is_empty() {
            self.phase1.clone_from(&self.before.phase1);
        }
    }

    fn judge_column(
        &mut self,
        batch: &Batch,
        tag: usize,
        column: &Column,
        runs: &[Run],
        findings: &mut Findings,
    ) {
        let (Some(times), Some(run)) = (
            batch.timelines.get(column.timeline),
            runs.get(column.timeline),
        ) else {
            return;
        };
        let (longest_step, runs_on) = match run {
            Run::Empty => return,
            Run::Forward { longest_step } => (*longest_step, true),
            Run::Reset { longest_step } => (*longest_step, false),
            Run::Back { .. } => (i64::MAX, false),
        };
        let clock = self.clocks.get(column.timeline);
        let mut converted = std::mem::take(&mut self.numbers);
        let samples = Samples {
            numbers: numbers(&column.values, &mut converted),
            times,
            quality: &column.quality,
            before: clock.and_then(|c| c.last).filter(|_| runs_on),
            longest_step,
        };
        self.judge_samples(tag, &samples, findings);
        self.numbers = converted;
    }

    fn judge_samples(&mut self, tag: usize, samples: &Samples<'_>, findings: &mut Findings) {
        if let (Some(armed), Some(state), Some(None)) = (
            self.armed.get(tag),
            self.states.get_mut(tag),
            self.phase1.get(tag),
        ) && let Some(limits) = &armed.fast
            && judge_fast(limits, state, samples)
        {
            return;
        }
        let mut hits = Hits::default();
        let (mut missing, mut first_missing) = (0, 0);
        let mut start = 0;
        loop {
            let (Some(settings), Some(armed), Some(state), Some(phase1)) = (
                self.settings.get(tag),
                self.armed.get(tag),
                self.states.get_mut(tag),
                self.phase1.get_mut(tag),
            ) else {
                return;
            };
            let phase1 = phase1.as_deref_mut();
            let outcome = judge(settings, armed, phase1, state, samples, start, &mut hits);
            if missing == 0 {
                first_missing = outcome.first_missing;
            }
            missing += outcome.missing;
            let Outcome {
                phase1_ended_before: Some(next),
                ..
            } = outcome
            else {
                break;
            };
            self.end_phase1(tag);
            self.before.ended.push(tag);
            start = next;
        }
        if let Some(hit) = self.missing(tag, missing, first_missing, samples) {
            hits.0.push(hit);
        }
        for hit in hits.0 {
            let time = samples.times.get(hit.first as usize).copied();
            findings.push(self.finding(tag, hit, time.unwrap_or(0)));
        }
    }

    fn missing(&self, tag: usize, missing: u32, first: u32, samples: &Samples<'_>) -> Option<Hit> {
        let allowed = self.settings.get(tag)?.missing_share;
        let share = f64::from(missing) / samples.times.len() as f64;
        (missing > 0 && share > allowed).then_some(Hit {
            chart: Chart::Sensor,
            rule: Rule::Missing,
            first,
            last: first,
            count: missing,
            value: 0.0,
            statistic: share,
            limit: allowed,
        })
    }

    fn finding(&self, tag: usize, hit: Hit, time: Nanos) -> Finding {
        let settings = self.settings.get(tag);
        Finding {
            tag: tag as u32,
            name: settings.map_or_else(String::new, |s| s.name.clone()),
            unit: settings.map_or_else(String::new, |s| s.unit.clone()),
            chart: hit.chart,
            rule: hit.rule,
            class: self.class(settings, hit.rule),
            sample: hit.first,
            last: hit.last,
            count: hit.count,
            time,
            value: hit.value,
            statistic: hit.statistic,
            limit: hit.limit,
        }
    }

    fn class(&self, settings: Option<&TagSettings>, rule: Rule) -> VerdictClass {
        let consequence = match (rule, settings.map(|s| s.on)) {
            (Rule::Malformed | Rule::NotFinite, _) | (_, None) => Consequence::Refuse,
            (Rule::ClockBack, _) => self.on_clock,
            (Rule::OutOfRange, Some(on)) => on.range,
            (Rule::RateOfChange, Some(on)) => on.rate,
            (Rule::Stuck, Some(on)) => on.stuck,
            (Rule::Missing, Some(on)) => on.missing,
            (_, Some(on)) => on.signal,
        };
        match consequence {
            Consequence::Flag => VerdictClass::OutOfControl,
            Consequence::Refuse => VerdictClass::Invalid,
        }
    }
}

fn baseline_of(
    settings: &TagSettings,
    learned: Option<&Limits>,
) -> Result<Option<Baseline>, ValidationError> {
    let known = learned.and_then(|l| l.tag(&settings.name));
    let Some(baseline) = known.and_then(|t| t.baseline.as_ref()) else {
        return Ok(None);
    };
    if !baseline.is_finite() {
        let reason = format!("what Phase I found of tag {} is not finite", settings.name);
        return Err(ValidationError::Limits(reason));
    }
    Ok(settings.learns().then(|| baseline.clone()))
}

/// The numbers of a column; of text and bytes, as many zeros, which nothing judges.
fn numbers<'a>(values: &'a Values, converted: &'a mut Vec<f64>) -> &'a [f64] {
    converted.clear();
    match values {
        Values::F64(v) => return v,
        Values::Bool(v) => converted.extend(v.iter().map(|b| f64::from(u8::from(*b)))),
        Values::I64(v) => converted.extend(v.iter().map(|i| *i as f64)),
        Values::U64(v) => converted.extend(v.iter().map(|u| *u as f64)),
        Values::Text(v) => converted.resize(v.len(), 0.0),
        Values::Bytes(v) => converted.resize(v.len(), 0.0),
    }
    converted
}
