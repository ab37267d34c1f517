//! What a replay tells at its end.

use crate::model::VerdictClass;
use crate::validation::{Behaviour, Limits, Verdict};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Counts of a replay, and the limits it used.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Summary {
    /// Data rows read.
    pub rows: u64,
    /// Rows that limits were learned from.
    pub phase1_rows: u64,
    /// Rows per judgement.
    pub batch: u64,
    /// Rows labelled 0, those of Phase I among them.
    pub accepted: u64,
    /// Rows out of control.
    pub out_of_control: u64,
    /// Invalid rows.
    pub invalid: u64,
    /// Cells of tags that were empty or no number: skipped, and never read as zero.
    pub cells_without_value: u64,
    /// Rows whose time could not be read.
    pub rows_without_time: u64,
    /// The time column, if there is one.
    pub time: Option<String>,
    /// Columns that are no tags.
    pub ignored: Vec<String>,
    /// The tags and their limits.
    pub tags: Vec<TagSummary>,
    /// How often each chart and rule signalled, in judgements.
    pub findings: BTreeMap<String, u64>,
}

/// One tag of a replay.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct TagSummary {
    /// Name.
    pub name: String,
    /// How it behaved in Phase I.
    pub behaviour: Option<Behaviour>,
    /// Centre line of the individuals chart.
    pub center: Option<f64>,
    /// Its lower limit.
    pub lcl: Option<f64>,
    /// Its upper limit.
    pub ucl: Option<f64>,
    /// Judgements in which something of this tag was found.
    pub signals: u64,
}

impl Summary {
    /// Counts a row under its label.
    pub fn count_row(&mut self, class: VerdictClass) {
        self.rows += 1;
        match class {
            VerdictClass::Accepted => self.accepted += 1,
            VerdictClass::OutOfControl => self.out_of_control += 1,
            VerdictClass::Invalid => self.invalid += 1,
        }
    }

    /// Counts the findings of a judgement.
    pub fn count_findings(&mut self, verdict: &Verdict) {
        let mut found_before = None;
        for finding in &verdict.findings {
            let name = format!("{} {}", finding.chart.name(), finding.rule.name());
            *self.findings.entry(name).or_default() += 1;
            if found_before != Some(finding.tag)
                && let Some(tag) = self.tags.get_mut(finding.tag as usize)
            {
                tag.signals += 1;
            }
            found_before = Some(finding.tag);
        }
    }

    /// Notes the limits in force.
    pub fn set_limits(&mut self, limits: &Limits) {
        for tag in &mut self.tags {
            let Some(limits) = limits.tag(&tag.name) else {
                continue;
            };
            tag.behaviour = limits.behaviour;
            if let Some(lines) = limits.individuals {
                let finite = |x: f64| x.is_finite().then_some(x);
                (tag.center, tag.lcl, tag.ucl) =
                    (Some(lines.center), finite(lines.lcl), finite(lines.ucl));
            }
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let judged = self.rows - self.phase1_rows.min(self.rows);
        let share = |n: u64| 100.0 * n as f64 / judged.max(1) as f64;
        writeln!(
            f,
            "{} rows: {} of Phase I, {} judged, every {} row(s)",
            self.rows, self.phase1_rows, judged, self.batch
        )?;
        let good = judged - self.out_of_control - self.invalid;
        writeln!(f, "  accepted        {good:>8}  {:6.2} %", share(good))?;
        writeln!(
            f,
            "  out of control  {:>8}  {:6.2} %",
            self.out_of_control,
            share(self.out_of_control)
        )?;
        writeln!(
            f,
            "  invalid         {:>8}  {:6.2} %",
            self.invalid,
            share(self.invalid)
        )?;
        match &self.time {
            Some(time) => writeln!(f, "time: column {time}")?,
            None => writeln!(f, "time: no column, rows count as a second each")?,
        }
        let width = self
            .tags
            .iter()
            .map(|t| t.name.chars().count())
            .max()
            .unwrap_or(0)
            .max(3);
        writeln!(
            f,
            "{:width$}  {:>8}  {:>12} {:>12} {:>12}  in Phase I",
            "tag", "signals", "lcl", "center", "ucl"
        )?;
        for tag in &self.tags {
            let number = |x: Option<f64>| x.map_or_else(|| "-".to_string(), |x| format!("{x:.5}"));
            let behaviour = match tag.behaviour {
                Some(Behaviour::Steady) => "steady",
                Some(Behaviour::Drifting) => "drifting: only its steps are charted",
                Some(Behaviour::Monotone) => "a counter: not charted",
                Some(Behaviour::Constant) => "constant: not charted",
                Some(Behaviour::Unknown) => "too little data: not charted",
                None => "limits are set, or were not learned",
            };
            writeln!(
                f,
                "{:width$}  {:>8}  {:>12} {:>12} {:>12}  {behaviour}",
                tag.name,
                tag.signals,
                number(tag.lcl),
                number(tag.center),
                number(tag.ucl)
            )?;
        }
        for (name, count) in &self.findings {
            writeln!(f, "  {count:>8} × {name}")?;
        }
        if self.cells_without_value > 0 {
            writeln!(
                f,
                "{} cells have no value; they were skipped, not read as zero",
                self.cells_without_value
            )?;
        }
        if self.rows_without_time > 0 {
            writeln!(
                f,
                "{} rows have no readable time; they count as taken with the row before",
                self.rows_without_time
            )?;
        }
        if !self.ignored.is_empty() {
            writeln!(f, "ignored columns: {}", self.ignored.join(", "))?;
        }
        Ok(())
    }
}
