//! The last judged batches of every device, so that a face can draw a control chart on request.
//!
//! Bounded: a device keeps its newest [`SAMPLES_KEPT`] samples, in whole batches, and at least its
//! newest batch.

use super::limits::{Limits, TagLimits};
use super::verdict::{Chart, Rule, Verdict};
use crate::model::{Batch, DeviceId, Nanos};
use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Samples that are kept of each device.
pub const SAMPLES_KEPT: usize = 16 * 1024;

/// Batches that are kept of each device, however small they are.
const BATCHES_KEPT: usize = 1024;

/// One point of a chart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChartPoint {
    /// Source time, ns since 1970.
    pub time: Nanos,
    /// The value.
    pub value: f64,
    /// Whether its quality is Bad: then the value means nothing.
    pub bad: bool,
    /// The rule that fired at this point, in words.
    pub signalled: Option<String>,
}

/// The individuals chart of one tag.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TagChart {
    /// The device.
    pub device: String,
    /// The tag.
    pub tag: String,
    /// Its unit.
    pub unit: String,
    /// Centre line, when there is one.
    pub center: Option<f64>,
    /// Lower control limit, when there is one.
    pub lcl: Option<f64>,
    /// Upper control limit, when there is one.
    pub ucl: Option<f64>,
    /// How limits came about, in words.
    pub basis: String,
    /// Points, oldest first.
    pub points: Vec<ChartPoint>,
}

#[derive(Default)]
struct DeviceHistory {
    batches: VecDeque<(Arc<Batch>, Arc<Verdict>)>,
    samples: usize,
    limits: Option<Arc<Limits>>,
}

/// The last judged batches of every registered device.
#[derive(Default)]
pub struct ChartHistory {
    devices: RwLock<BTreeMap<DeviceId, Arc<Mutex<DeviceHistory>>>>,
}

impl ChartHistory {
    /// Begins to keep batches of `device`. What is pushed for a device that nobody registered is
    /// dropped, so only the configuration decides how much is kept.
    pub fn register(&self, device: DeviceId) {
        self.devices.write().entry(device).or_default();
    }

    /// Forgets what was kept of `device`, and keeps no more of it.
    pub fn remove(&self, device: &str) {
        self.devices.write().remove(device);
    }

    /// Keeps a judged batch. `limits` are those now in force, when they are new.
    pub fn push(&self, batch: Arc<Batch>, verdict: Arc<Verdict>, limits: Option<Arc<Limits>>) {
        let Some(device) = self.device(&batch.device) else {
            return;
        };
        let mut history = device.lock();
        if limits.is_some() {
            history.limits = limits;
        }
        history.samples += batch.samples();
        history.batches.push_back((batch, verdict));
        while history.batches.len() > 1
            && (history.samples > SAMPLES_KEPT || history.batches.len() > BATCHES_KEPT)
        {
            if let Some((oldest, _)) = history.batches.pop_front() {
                history.samples -= oldest.samples();
            }
        }
    }

    /// The chart of the newest `points` samples of a tag; `None` when the device is not registered,
    /// or has no numeric tag of that name.
    pub fn chart(&self, device: &str, tag: &str, points: usize) -> Option<TagChart> {
        // Copies of the shared batches, so that drawing keeps nobody from judging.
        let (batches, limits) = {
            let device = self.device(device)?;
            let history = device.lock();
            (history.batches.clone(), history.limits.clone())
        };
        let (newest, _) = batches.back()?;
        let index = newest.tags.iter().position(|t| &*t.name == tag)?;
        let limits = limits.as_ref().and_then(|l| l.tag(tag));
        let mut newest_first = Vec::new();
        for (batch, verdict) in batches.iter().rev() {
            let wanted = points - newest_first.len();
            if wanted == 0 {
                break;
            }
            newest_first.extend(points_of(batch, verdict, index, limits)?.take(wanted));
        }
        newest_first.reverse();
        let lines = limits.and_then(|l| l.individuals);
        let finite = |x: f64| x.is_finite().then_some(x);
        let lcl = lines.and_then(|l| finite(l.lcl));
        let ucl = lines.and_then(|l| finite(l.ucl));
        Some(TagChart {
            device: device.to_string(),
            tag: tag.to_string(),
            unit: newest.tags.get(index)?.unit.clone(),
            // A chart with one limit has no centre.
            center: lines.and_then(|l| lcl.and(ucl).map(|_| l.center)),
            lcl,
            ucl,
            basis: basis(limits),
            points: newest_first,
        })
    }

    fn device(&self, device: &str) -> Option<Arc<Mutex<DeviceHistory>>> {
        self.devices.read().get(device).cloned()
    }
}

/// Points of one tag in one batch, newest first.
fn points_of<'a>(
    batch: &'a Batch,
    verdict: &'a Verdict,
    tag: usize,
    limits: Option<&'a TagLimits>,
) -> Option<impl Iterator<Item = ChartPoint> + 'a> {
    let column = batch.columns.get(tag)?;
    let times = batch.times(column);
    let is_text = !column.values.is_empty() && column.values.number(0).is_none();
    let lines = limits.and_then(|l| l.individuals);
    let count = column.values.len().min(times.len());
    let point = move |i: usize| {
        let value = column.values.number(i)?;
        let bad = column.quality.get(i).is_bad();
        let found = verdict.findings.iter().filter(|f| f.tag as usize == tag);
        let named = { found }
            .find(|f| f.sample as usize == i)
            .map(|f| name_of(f.chart, f.rule));
        // A finding names its first and last sample; those between are seen by their value.
        let seen = || match value.is_finite() {
            _ if bad => None,
            false => Some(name_of(Chart::Sensor, Rule::NotFinite)),
            true => lines
                .is_some_and(|l| l.exceeded(value))
                .then(|| name_of(Chart::Individuals, Rule::BeyondLimit)),
        };
        let signalled = named.or_else(seen);
        Some(ChartPoint {
            time: *times.get(i)?,
            value,
            bad,
            signalled,
        })
    };
    (!is_text).then(|| (0..count).rev().filter_map(point))
}

fn name_of(chart: Chart, rule: Rule) -> String {
    format!("{} {}", chart.name(), rule.name())
}

fn basis(limits: Option<&TagLimits>) -> String {
    match limits {
        None => "Phase I: limits are still being learned, or the tag is not charted".into(),
        Some(TagLimits { baseline: None, .. }) => "limits are set".into(),
        Some(TagLimits {
            baseline: Some(b),
            individuals: Some(_),
            ..
        }) => format!("limits are learned from {} samples", b.samples),
        Some(TagLimits {
            baseline: Some(b), ..
        }) => format!(
            "no limits: in its first {} samples the tag was {}",
            b.samples,
            match b.behaviour() {
                super::Behaviour::Steady => "steady, and its individuals chart is off",
                super::Behaviour::Drifting => "drifting",
                super::Behaviour::Monotone => "a counter",
                super::Behaviour::Constant => "constant",
                super::Behaviour::Unknown => "unusable",
            }
        ),
    }
}
