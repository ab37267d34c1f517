//! Batches and random numbers for the tests.

use crate::model::{Batch, Column, Nanos, Quality, QualityColumn, TagSpec, ValueKind, Values};
use crate::validation::{DeviceValidator, TagValidation, ValidationConfig};
use std::sync::Arc;

/// SplitMix64 (Steele, Lea and Flood 2014).
pub struct Random(pub u64);

impl Random {
    #[inline]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Standard normal values, drawn from the quantiles at the middles of equal shares of probability:
/// one table look-up a value.
pub struct Normal {
    quantiles: Vec<f64>,
}

const SHARES: usize = 1 << 18;

impl Normal {
    pub fn new() -> Self {
        let half = SHARES / 2;
        let mut upper = Vec::with_capacity(half);
        let (mut x, mut phi) = (0.0f64, 0.5);
        for i in 0..half {
            let want = 0.5 + (i as f64 + 0.5) / SHARES as f64;
            // Newton steps from the quantile before, which is close.
            for _ in 0..3 {
                x += (want - phi) / density(x);
                phi = normal_cdf(x);
            }
            upper.push(x);
        }
        let lower = upper.iter().rev().map(|x| -x);
        Self {
            quantiles: lower.chain(upper.iter().copied()).collect(),
        }
    }

    #[inline]
    pub fn draw(&self, random: &mut Random) -> f64 {
        self.quantiles[(random.next() >> 46) as usize]
    }
}

fn density(x: f64) -> f64 {
    (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

/// Distribution function of the standard normal by its series (Marsaglia 2004), for |x| < 7.
fn normal_cdf(x: f64) -> f64 {
    let (mut sum, mut term, mut i) = (x, x, 1.0);
    while term.abs() > 1e-17 * sum.abs() {
        i += 2.0;
        term *= x * x / i;
        sum += term;
    }
    0.5 + sum * density(x)
}

pub fn tag(name: &str, kind: ValueKind) -> TagSpec {
    TagSpec {
        writable: false,
        name: name.into(),
        kind,
        unit: "°C".into(),
        description: String::new(),
        range: None,
    }
}

/// A batch of one scanned device: `columns` of numbers over shared `times`.
pub fn batch(tags: &Arc<[TagSpec]>, times: &[Nanos], columns: &[&[f64]]) -> Batch {
    let column = |values: &&[f64]| Column {
        timeline: 0,
        values: Values::F64(values.to_vec()),
        quality: QualityColumn::default(),
    };
    Batch {
        device: "press-1".into(),
        epoch: 1,
        sequence: 1,
        tags: tags.clone(),
        timelines: vec![times.to_vec()],
        columns: columns.iter().map(column).collect(),
    }
}

/// Marks samples of a column as Bad.
pub fn mark_bad(batch: &mut Batch, column: usize, samples: &[u32]) {
    let bad = samples.iter().map(|i| (*i, Quality::BAD_NO_DATA));
    batch.columns[column].quality.exceptions = bad.collect();
}

/// Ten samples a second from `start` on.
pub fn times(start: usize, count: usize) -> Vec<Nanos> {
    (start..start + count)
        .map(|i| i as i64 * 100_000_000)
        .collect()
}

pub fn one_tag() -> Arc<[TagSpec]> {
    [tag("temperature", ValueKind::F64)].into()
}

/// A device of one tag.
pub fn validator(device: &ValidationConfig, own: TagValidation) -> DeviceValidator {
    DeviceValidator::new(one_tag(), device, &[own], None).unwrap()
}

/// Settings as a configuration file would have them.
pub fn device(toml: &str) -> ValidationConfig {
    toml::from_str(toml).unwrap()
}

/// A tag's own settings as a configuration file would have them.
pub fn own(toml: &str) -> TagValidation {
    toml::from_str(toml).unwrap()
}
