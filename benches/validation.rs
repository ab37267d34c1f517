//! What judging costs: ns per sample, for a device of 1,000 tags and batches of 100 scans.
//!
//! `cargo bench --bench validation`; criterion's "elem" is a sample.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::sync::Arc;
use weighbridge::model::{Batch, Column, QualityColumn, TagSpec, ValueKind, Values};
use weighbridge::validation::{DeviceValidator, ValidationConfig};

const TAGS: usize = 1000;
const SCANS: usize = 100;
const PHASE1: usize = 1000;

/// The device's settings and the name they are reported under.
const SETTINGS: [(&str, &str); 5] = [
    ("default charts", ""),
    ("sensor checks only", "charts = []"),
    ("cusum", "charts = [\"cusum\"]\ncusum = { h = 30 }"),
    ("xbar_s", "charts = [\"xbar_s\"]"),
    ("nelson", "charts = []\nnelson = [1, 2, 3, 4, 5, 6, 7, 8]"),
];

/// Roughly normal noise: the sum of four uniform numbers.
struct Noise(u64);

impl Noise {
    fn draw(&mut self) -> f64 {
        let mut sum = 48.0;
        for _ in 0..4 {
            let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
            self.0 = next.wrapping_add(1_442_695_040_888_963_407);
            sum += (self.0 >> 40) as f64 / (1u64 << 24) as f64;
        }
        sum
    }
}

fn batch(tags: &Arc<[TagSpec]>, scans: usize, clock: &mut i64, noise: &mut Noise) -> Batch {
    let mut tick = || {
        *clock += 10_000_000;
        *clock
    };
    Batch {
        device: "bench".into(),
        epoch: 1,
        sequence: 1,
        tags: tags.clone(),
        timelines: vec![(0..scans).map(|_| tick()).collect()],
        columns: (0..TAGS)
            .map(|_| Column {
                timeline: 0,
                values: Values::F64((0..scans).map(|_| noise.draw()).collect()),
                quality: QualityColumn::default(),
            })
            .collect(),
    }
}

fn judge(criterion: &mut Criterion) {
    let tag = |i: usize| TagSpec {
        name: format!("tag-{i}").into(),
        kind: ValueKind::F64,
        unit: String::new(),
        description: String::new(),
        range: Some((0.0, 1000.0)),
        writable: false,
    };
    let tags: Arc<[TagSpec]> = (0..TAGS).map(tag).collect();
    let mut group = criterion.benchmark_group("judge");
    group.throughput(Throughput::Elements((TAGS * SCANS) as u64));
    group.sample_size(20);
    for (name, toml) in SETTINGS {
        let (mut clock, mut noise) = (0, Noise(1));
        let config: ValidationConfig = match toml::from_str(toml) {
            Ok(config) => config,
            Err(e) => panic!("{name}: {e}"),
        };
        let mut validator = match DeviceValidator::new(tags.clone(), &config, &[], None) {
            Ok(validator) => validator,
            Err(e) => panic!("{name}: {e}"),
        };
        validator.judge(&batch(&tags, PHASE1, &mut clock, &mut noise));
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || batch(&tags, SCANS, &mut clock, &mut noise),
                |batch| validator.judge(batch),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, judge);
criterion_main!(benches);
