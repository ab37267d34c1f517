//! One batch against the charts of its device.

use super::{DeviceValidator, Judgement};
use crate::model::{Batch, Column, Nanos, Values, VerdictClass};
use crate::validation::armed::Armed;
use crate::validation::clock::{Run, TimelineClock, first_column};
use crate::validation::column::{Hit, Hits, Outcome, Samples, judge, judge_fast};
use crate::validation::config::Consequence;
use crate::validation::settings::TagSettings;
use crate::validation::verdict::{Chart, Finding, Findings, Rule};

impl DeviceValidator {
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
