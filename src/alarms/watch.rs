//! From the verdicts over one device's batches to the edges of its alarms.

use super::alarm::{Alarm, Exceeded, Severity};
use super::config::AlarmConfig;
use crate::model::VerdictClass;
use crate::validation::{Chart, Finding, Rule, Verdict};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How serious things are, in the bands of OPC 10000-5, 6.4.2.
pub mod severity {
    use super::Severity;

    /// A pattern that chance alone makes rarely: a runs rule.
    pub const PATTERN: Severity = 300;
    /// A sensor that says what it should not.
    pub const SENSOR: Severity = 450;
    /// A chart's statistic beyond its limit.
    pub const BEYOND_LIMIT: Severity = 600;
    /// A batch that was refused: nothing of it is in the record.
    pub const REFUSED: Severity = 750;
    /// A device that cannot be reached.
    pub const LOST: Severity = 850;
    /// Another machine answers in the place of a device.
    pub const STRANGER: Severity = 900;
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Trouble {
    /// How serious it is.
    pub severity: Severity,
    /// One sentence.
    pub message: String,
    /// The sample and the limit it broke, where there is one.
    pub exceeded: Option<Exceeded>,
}

/// A change of an alarm's cause.
#[derive(Clone, Debug, PartialEq)]
pub enum EdgeKind {
    /// It is there, or it is more serious than it was.
    Raised(Trouble),
    /// It is gone.
    Cleared,
}

/// A change of the cause of one of a device's alarms.
#[derive(Clone, Debug, PartialEq)]
pub struct Edge {
    /// The tag; `None` for the alarm of the device as a whole.
    pub tag: Option<Arc<str>>,
    /// What happened.
    pub kind: EdgeKind,
}

/// Watches one device. Silent as long as nothing changes, so that it costs the data path a look at the
/// verdict and no more.
#[derive(Debug)]
pub struct DeviceWatch {
    clear_after: u32,
    tags: Vec<Arc<str>>,
    /// The causes that are there: how serious, and for how many batches in a row nothing was found.
    active: BTreeMap<Option<usize>, (Severity, u32)>,
    link_down: bool,
}

impl DeviceWatch {
    /// A watch over a device with these tags, in the order of its verdicts; `alarms` are those that were
    /// there before, and go on until the device's batches are good.
    pub fn new(config: &AlarmConfig, tags: Vec<Arc<str>>, alarms: &[Alarm]) -> Self {
        let mut active = BTreeMap::new();
        for alarm in alarms.iter().filter(|alarm| alarm.active) {
            let place = match &alarm.tag {
                Some(name) => match tags.iter().position(|tag| tag == name) {
                    Some(place) => Some(place),
                    None => continue,
                },
                None => None,
            };
            active.insert(place, (alarm.severity, 0));
        }
        Self {
            clear_after: config.clear_after.max(1),
            tags,
            active,
            link_down: false,
        }
    }

    /// What a verdict changes.
    pub fn judged(&mut self, verdict: &Verdict) -> Vec<Edge> {
        let mut edges = Vec::new();
        if verdict.class == VerdictClass::Invalid {
            let trouble = Trouble {
                severity: severity::REFUSED,
                message: format!("a batch was refused: {}", verdict.summary()),
                exceeded: verdict.findings.first().map(exceeded),
            };
            self.raise(None, trouble, &mut edges);
            // The charts did not see the batch: it says nothing of the tags.
            return edges;
        }
        let mut worst: BTreeMap<usize, &Finding> = BTreeMap::new();
        for finding in &verdict.findings {
            let entry = worst.entry(finding.tag as usize).or_insert(finding);
            if grade(finding) > grade(entry) {
                *entry = finding;
            }
        }
        for (tag, finding) in &worst {
            let trouble = Trouble {
                severity: grade(finding),
                message: finding.to_string(),
                exceeded: Some(exceeded(finding)),
            };
            self.raise(Some(*tag), trouble, &mut edges);
        }
        // Beyond the findings that are listed nobody knows which tags were good.
        let whole = verdict.unlisted == 0;
        let link_down = self.link_down;
        let good = |place: &Option<usize>| match place {
            Some(tag) => whole && !worst.contains_key(tag),
            None => !link_down,
        };
        self.good_batch(good, &mut edges);
        edges
    }

    /// What the state of the connection changes; `down` says why it is down.
    pub fn link(&mut self, down: Option<&str>) -> Vec<Edge> {
        let mut edges = Vec::new();
        self.link_down = down.is_some();
        if let Some(reason) = down {
            let trouble = Trouble {
                severity: severity::LOST,
                message: format!("the device cannot be reached: {reason}"),
                exceeded: None,
            };
            self.raise(None, trouble, &mut edges);
        }
        edges
    }

    /// Another machine answers in the place of the device; over when its own batches are good again.
    pub fn stranger(&mut self, message: String) -> Vec<Edge> {
        let mut edges = Vec::new();
        let trouble = Trouble {
            severity: severity::STRANGER,
            message,
            exceeded: None,
        };
        self.raise(None, trouble, &mut edges);
        edges
    }

    fn raise(&mut self, place: Option<usize>, trouble: Trouble, edges: &mut Vec<Edge>) {
        let known = self.active.get(&place).map(|(severity, _)| *severity);
        let severity = trouble.severity.max(known.unwrap_or(0));
        self.active.insert(place, (severity, 0));
        if known.is_none_or(|known| trouble.severity > known) {
            edges.extend(self.edge(place, EdgeKind::Raised(trouble)));
        }
    }

    fn good_batch(&mut self, good: impl Fn(&Option<usize>) -> bool, edges: &mut Vec<Edge>) {
        let mut over = Vec::new();
        for (place, (_, batches)) in &mut self.active {
            if good(place) {
                *batches += 1;
                if *batches >= self.clear_after {
                    over.push(*place);
                }
            }
        }
        for place in over {
            self.active.remove(&place);
            edges.extend(self.edge(place, EdgeKind::Cleared));
        }
    }

    fn edge(&self, place: Option<usize>, kind: EdgeKind) -> Option<Edge> {
        let tag = match place {
            // A finding over a tag that the device does not have is of no tag.
            Some(place) => Some(self.tags.get(place)?.clone()),
            None => None,
        };
        Some(Edge { tag, kind })
    }
}

fn grade(finding: &Finding) -> Severity {
    match (finding.chart, finding.rule) {
        (Chart::Sensor, _) => severity::SENSOR,
        (_, Rule::BeyondLimit | Rule::MeanBeyondLimit | Rule::SpreadBeyondLimit) => {
            severity::BEYOND_LIMIT
        }
        (_, Rule::WesternElectric(1) | Rule::Nelson(1)) => severity::BEYOND_LIMIT,
        _ => severity::PATTERN,
    }
}

fn exceeded(finding: &Finding) -> Exceeded {
    let finite = |number: f64| number.is_finite().then_some(number);
    Exceeded {
        chart: finding.chart.name().to_owned(),
        rule: finding.rule.name().to_owned(),
        value: finite(finding.value),
        statistic: finite(finding.statistic),
        limit: finite(finding.limit),
    }
}
